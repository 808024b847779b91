"""X1: polynomial portfolios on real returns, by five methods."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from _paper_lmwu_wells import contours, corners, triangle
from _paper_report import COLOURS, Comparison, Float64, Report

from hotloops import datasets, simplex

_TRIO = ("AMD", "PG", "WMT")
_DOUBLE_WELL = (0.0, 2.0, 1.0, 0.01)
_EVERY = 20
_CONVEX_MINIMUM = -0.033379924961  # by three solvers of convex programs, to 1e-12


def trio() -> simplex.PortfolioMoments:
    """Return the portfolio of three assets that has two wells."""
    table = datasets.load_sp500()
    columns = [table.assets.index(name) for name in _TRIO]
    returns = np.ascontiguousarray(table.returns(2520, percent=True)[:, columns])
    return simplex.PortfolioMoments(returns, _DOUBLE_WELL, names=_TRIO)


def twenty(order: int) -> simplex.PortfolioMoments:
    """Return all assets under CRRA preferences up to an order, in percent."""
    table = datasets.load_sp500()
    preferences = simplex.crra_preferences(10.0, order=order, percent=True)
    return simplex.PortfolioMoments(
        table.returns(2520, percent=True), preferences, names=table.assets
    )


def exhaustive(objective: simplex.Objective, cells: int = 200) -> float:
    """Return the least value near any point of a grid on the triangle, polished."""
    first, second = np.meshgrid(np.arange(cells + 1), np.arange(cells + 1))
    inside = first + second <= cells
    points = np.stack([first, second, cells - first - second], axis=-1)[inside] / cells
    values = objective.value_and_grad(points)[0]
    best = points[np.argsort(values)[:5]]
    return min(simplex.polish(objective, x).value for x in best)


def methods(step_size: float, beta: float) -> dict[str, Any]:
    """Return what is compared: name to (function, settings)."""
    noise = {"inverse_temperature": beta}
    return {
        "MWU": (simplex.mwu, {"step_size": step_size}),
        "accelerated MWU": (simplex.accelerated_mwu, {"step_size": step_size}),
        "projected Langevin": (simplex.projected_langevin, noise | {"step_size": step_size / 5}),
        "LMWU": (simplex.lmwu, noise | {"step_size": step_size}),
        "LMWU, sphere": (
            simplex.lmwu,
            noise | {"step_size": step_size, "retraction": "sphere", "base_measure": 0.5},
        ),
    }


def run_x1(quick: bool) -> Report:
    """Objective against step, shares at the global value, times."""
    chains, steps = (64, 2_000) if quick else (256, 6_000)
    report = Report(
        "X1",
        "Polynomial portfolios on twenty stocks",
        [
            "Daily returns of 2,520 days in percent. Three assets with preferences (0, 2, 1, .01):",
            "two wells; chains start in the wrong one. All twenty assets with CRRA preferences",
            "(aversion 10) to orders 3, 4 and 6: convex for even orders, where the polish alone",
            f"finds the minimum. {chains} chains of {steps:,} steps.",
        ],
        size=(10.0, 7.6),
        family="lmwu",
    )
    objective = trio()
    start = simplex.polish(objective, [0.75, 0.2, 0.05]).x
    local, best = float(objective.value_and_grad(start)[0]), exhaustive(objective)
    rows = [["method", "best chain", "chains that met the global well", "after the polish", "time"]]
    traces: dict[str, Float64] = {}
    runs: dict[str, Any] = {}
    for name, (function, settings) in methods(0.02, 3.0).items():
        began = time.perf_counter()
        run = function(
            objective,
            x0=start if name != "projected Langevin" else np.maximum(start, 0.0),
            num_steps=steps,
            num_chains=chains,
            trace_every=_EVERY,
            seed=5,
            **settings,
        )
        seconds = time.perf_counter() - began
        values = objective.value_and_grad(run.trace.reshape(-1, 3))[0]
        traces[name] = np.asarray(values).reshape(len(run.trace), -1).mean(axis=1)
        runs[name] = run
        share = float((run.best_x[:, 0] < 0.2).mean())
        rows.append(
            [
                name,
                f"{run.best_value.min():.5f}",
                f"{share:.3f}",
                f"{run.value:.6f}",
                f"{seconds:.2f} s",
            ]
        )
        stays = name.endswith("MWU") and name != "LMWU"
        report.comparisons.append(
            Comparison(f"{name}, after the polish", local if stays else best, run.value, 0.0, 1e-9)
        )
    report.tables.append((f"AMD, PG, WMT: local minimum {local:.5f}, global {best:.5f}", rows))
    report.tables.append(("All twenty assets, CRRA 10", _orders(report, quick)))
    report.draw = lambda figure: _draw(figure, objective, start, traces, runs)
    return report


def _orders(report: Report, quick: bool) -> list[list[str]]:
    """Compare chains, multiplicative weights and the polish on twenty assets."""
    rows = [["order", "polish", "its time", "residual", "MWU", "LMWU, best chain", "convex"]]
    steps = 1_000 if quick else 3_000
    for order in (3, 4, 6):
        objective = twenty(order)
        simplex.polish(objective)  # once before the clock starts
        began = time.perf_counter()
        point = simplex.polish(objective)
        seconds = time.perf_counter() - began
        plain = simplex.mwu(objective, step_size=10.0, num_steps=steps, polish_steps=0)
        noisy = simplex.lmwu(
            objective,
            step_size=2.0,
            inverse_temperature=1e5,
            num_steps=steps,
            num_chains=16,
            polish_steps=0,
            seed=6,
        )
        rows.append(
            [
                str(order),
                f"{point.value:.12f}",
                f"{1e3 * seconds:.1f} ms",
                f"{point.kkt_residual:.0e}",
                f"{plain.value:.9f}",
                f"{noisy.value:.9f}",
                "yes" if objective.is_convex else "no",
            ]
        )
        if order == 4:
            report.comparisons.append(
                Comparison(
                    "twenty assets, order 4, polish", _CONVEX_MINIMUM, point.value, 0.0, 2e-12
                )
            )
    return rows


def _draw(
    figure: Any,
    objective: simplex.PortfolioMoments,
    start: Float64,
    traces: dict[str, Float64],
    runs: dict[str, Any],
) -> None:
    grid = figure.subplots(2, 2, height_ratios=(1.0, 1.25))
    top = grid[0, 0].get_gridspec()
    for axes in grid[0]:
        axes.remove()
    upper = figure.add_subplot(top[0, :])
    for m, (name, values) in enumerate(traces.items()):
        style = "--" if name == "accelerated MWU" else "-"
        steps = _EVERY * np.arange(1, len(values) + 1)
        upper.plot(steps, values, style, color=COLOURS[m], label=name)
    least = runs["LMWU"].value
    upper.axhline(least, color=COLOURS[4], linewidth=0.8, linestyle=":", label="global minimum")
    upper.set(xscale="log", xlabel="step", ylabel="objective, mean over chains")
    upper.set_title("AMD, PG, WMT with preferences (0, 2, 1, .01)")
    upper.legend(fontsize=8)
    values = objective.value_and_grad(np.eye(3))[0]
    levels = np.geomspace(1.3, float(np.max(values)), 24)
    for axes, name in zip(grid[1], ("MWU", "LMWU"), strict=True):
        triangle(axes, _TRIO)
        contours(axes, objective, levels)
        cloud = np.asarray(runs[name].trace)[-1]
        axes.plot(*corners(cloud), ".", color=COLOURS[0], markersize=4, alpha=0.6)
        axes.plot(*corners(start), "X", color=COLOURS[3], markersize=8, label="start")
        axes.plot(*corners(runs[name].x), "*", color=COLOURS[2], markersize=12, label="best point")
        axes.set_title(f"{name}: all chains at the end", pad=14)
        axes.legend(fontsize=8, loc="upper right")
