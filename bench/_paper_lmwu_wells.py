"""X2 and X3: a quartic with two wells on the triangle: escapes, and Gibbs laws by quadrature."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from _paper_report import COLOURS, Comparison, Float64, Report, mean_and_error

from hotloops import simplex

FAR, NEAR = np.array([0.2, 0.2, 0.6]), np.array([0.6, 0.3, 0.1])
_SHIFT = 0.02
_SADDLE = (3.0 - math.sqrt(1.0 - 8.0 * _SHIFT / 0.42)) / 4.0  # 2 s^2 - 3 s + 1 + c / D = 0
_START = [0.7, 0.2, 0.1]
# Measured with an independent program: 256 chains of 20,000 steps of 0.2, floor as here.
_ESCAPES = {300.0: 1.0, 1000.0: 0.43}


def double_well() -> simplex.Polynomial:
    """Return ``|x - p|^2 (|x - q|^2 + c)``: minimum 0 at p, a local one of 0.00798 near q."""
    distance = simplex.Polynomial.squared_distance
    return distance(FAR) * (distance(NEAR) + _SHIFT)


def place(x: Float64) -> Float64:
    """Return where points lie between the wells, 0 at the global one."""
    gap = NEAR - FAR
    return np.asarray((x - FAR) @ gap / (gap @ gap))


def corners(x: Float64) -> tuple[Float64, Float64]:
    """Return places in a triangle whose corners are the three weights."""
    return x[..., 1] + 0.5 * x[..., 2], math.sqrt(0.75) * x[..., 2]


def triangle(axes: Any, names: tuple[str, str, str]) -> None:
    """Draw the triangle and name its corners."""
    edge = np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]])
    axes.plot(*corners(edge), color=COLOURS[4], linewidth=0.8)
    axes.set_axis_off()
    axes.set_aspect("equal")
    for name, corner, side in zip(names, np.eye(3), ("right", "left", "center"), strict=True):
        x, y = corners(corner)
        axes.annotate(name, (x, y), ha=side, va="bottom" if side == "center" else "top")


def contours(axes: Any, objective: simplex.Objective, levels: Any) -> None:
    """Draw level lines of an objective on the triangle."""
    grid = np.linspace(1e-4, 1.0 - 1e-4, 181)
    second, third = np.meshgrid(grid, grid)
    inside = second + third < 1.0
    points = np.stack([1.0 - second - third, second, third], axis=-1)
    values = np.full(inside.shape, np.nan)
    values[inside] = objective.value_and_grad(np.ascontiguousarray(points[inside]))[0]
    axes.contour(*corners(points), values, levels=levels, colors="#9aa5b4", linewidths=0.6)


def run_x2(quick: bool) -> Report:
    """Share of chains that have left the local minimum, by inverse temperature, and annealed."""
    betas = (100.0, 200.0, 300.0, 500.0, 1000.0, 2000.0, 3000.0)
    chains, steps = (256, 20_000)
    if quick:
        betas = (100.0, 300.0, 1000.0)
    settings: dict[str, Any] = {
        "x0": _START,
        "step_size": 0.2,
        "num_steps": steps,
        "num_chains": chains,
        "trace_every": 50,
        "seed": 2,
    }
    report = Report(
        "X2",
        "Escape from the local minimum of a quartic on the triangle",
        [
            f"{chains} chains of {steps:,} steps of 0.2 from (.7, .2, .1), where plain ones stop",
            "at the local minimum 0.00798. A chain has escaped once it was within three tenths of",
            "the way to the global minimum; the barrier is 0.00537.",
        ],
        family="lmwu",
    )
    curves: dict[str, Float64] = {}
    ends = {}
    rows = [["inverse temperature", "escaped", "in the global well at the end", "best"]]
    cooling = {"annealed": simplex.GeometricCooling(30.0 ** (1.0 / steps), cap=30.0)}
    plans: list[tuple[str, float, Any]] = [(f"{beta:g}", beta, None) for beta in betas]
    for name, beta, schedule in [*plans, ("annealed 100 to 3000", 100.0, cooling["annealed"])]:
        run = simplex.lmwu(
            double_well(), inverse_temperature=beta, temperature_schedule=schedule, **settings
        )
        places = place(run.trace)
        escaped = np.minimum.accumulate(places, axis=0) < 0.3
        curves[name] = escaped.mean(axis=1)
        crossed = float((places[-1] < _SADDLE).mean())
        ends[name] = run.chains_x
        rows.append([name, f"{curves[name][-1]:.3f}", f"{crossed:.3f}", f"{run.value:.1e}"])
        if beta in _ESCAPES and schedule is None:
            share = _ESCAPES[beta]
            error = math.sqrt(max(share * (1.0 - share), 1.0 / chains) * 2.0 / chains)
            report.comparisons.append(
                Comparison(f"escaped at beta = {beta:g}", share, float(curves[name][-1]), error)
            )
    report.comparisons.append(Comparison("objective after the polish", 0.0, run.value, 0.0, 1e-12))
    report.tables.append(("Of the chains", rows))
    report.draw = lambda figure: _draw_escapes(figure, curves, ends, 50)
    return report


def _draw_escapes(
    figure: Any, curves: dict[str, Float64], ends: dict[str, Float64], every: int
) -> None:
    left, right = figure.subplots(1, 2, width_ratios=(1.2, 1.0))
    shades = np.linspace(0.25, 1.0, len(curves))
    for (name, curve), shade in zip(curves.items(), shades, strict=True):
        annealed = name.startswith("annealed")
        left.plot(
            every * np.arange(1, len(curve) + 1),
            curve,
            color=COLOURS[1] if annealed else COLOURS[0],
            alpha=1.0 if annealed else shade,
            linestyle="--" if annealed else "-",
            label=name,
        )
    left.set(xscale="log", xlabel="step", ylabel="share of chains that have escaped")
    left.set_title("Escape by inverse temperature")
    left.legend(fontsize=8, title="inverse temperature")
    name = list(ends)[-1]
    triangle(right, ("x₁", "x₂", "x₃"))
    contours(right, double_well(), np.array([0.5, 2, 6, 8, 13.3, 20, 40, 80, 160]) * 1e-3)
    right.plot(*corners(ends[name]), ".", color=COLOURS[1], markersize=3, alpha=0.6)
    right.plot(*corners(FAR), "*", color=COLOURS[2], markersize=11, label="global minimum")
    right.plot(*corners(NEAR), "X", color=COLOURS[3], markersize=8, label="near the local one")
    right.set_title(f"Ends of the chains, {name}", pad=14)
    right.legend(fontsize=8, loc="upper right")


def segment() -> simplex.Polynomial:
    """Return ``20 (t - 1/4)^2 (t - 7/10)^2 + 0.3 t`` with t the first of two weights."""
    first = simplex.Polynomial([(1.0, {0: 1}), (-0.25, {})], dim=2)
    second = simplex.Polynomial([(1.0, {0: 1}), (-0.7, {})], dim=2)
    return 20.0 * (first * first * second * second) + simplex.Polynomial([(0.3, {0: 1})], dim=2)


_FORMS = (("entropic", 1.0), ("sphere", 0.5), ("metropolis", 1.0), ("metropolis", 0.5))
_BINS = 40


def run_x3(quick: bool) -> Report:
    """Gibbs histograms on the segment and on the triangle, for both measures."""
    eps, chains = 0.005, 256
    steps = round((300 if quick else 1200) / eps)
    report = Report(
        "X3",
        "Gibbs laws against quadrature, with Lebesgue measure and with the volume of the metric",
        [
            f"{chains} chains of {steps:,} steps of {eps:g}. The entropic form samples the density",
            "exp(-beta f) with respect to Lebesgue measure (alpha = 1), the sphere form with",
            "respect to the volume of the metric (alpha = 1/2); the adjusted form is exact.",
            "The slack is the first order of the bias of a step, 0.3 eps.",
        ],
        size=(10.0, 7.2),
        family="lmwu",
    )
    cases = (("segment", segment(), 12.0), ("triangle", double_well(), 100.0))
    drawn: list[tuple[str, float, str, Float64, Float64]] = []
    for where, objective, beta in cases:
        for form, alpha in _FORMS:
            run = simplex.lmwu(
                objective,
                x0="dirichlet",
                step_size=eps,
                inverse_temperature=beta,
                base_measure=alpha,
                retraction=form,
                num_steps=steps,
                num_chains=chains,
                burn_in=steps // 10,
                num_bins=_BINS,
                polish_steps=0,
                seed=3,
            )
            points, weights = simplex.gibbs_quadrature(
                objective, beta, base_measure=alpha, num_nodes=1000
            )
            first = points[:, 0]
            found, error = mean_and_error(run.mean[:, 0])
            second, spread = mean_and_error(run.variance[:, 0] + run.mean[:, 0] ** 2)
            slack = 0.0 if form == "metropolis" else 0.3 * eps
            label = f"{where}, {form}, alpha = {alpha:g}"
            report.comparisons += [
                Comparison(f"E x1, {label}", float(weights @ first), found, error, slack),
                Comparison(f"E x1², {label}", float(weights @ first**2), second, spread, slack),
            ]
            assert run.histogram is not None
            counts = run.histogram[:, 0].sum(axis=0)
            exact = bin_shares(first, weights)
            drawn.append((where, alpha, form, counts / counts.sum() * _BINS, exact * _BINS))
    report.draw = lambda figure: _draw_laws(figure, drawn)
    return report


def bin_shares(nodes: Float64, weights: Float64) -> Float64:
    """Return what a quadrature gives to each bin, by its distribution function between nodes."""
    places, which = np.unique(nodes.round(12), return_inverse=True)
    shares = np.bincount(which.ravel(), weights)
    below = np.concatenate([[0.0], np.cumsum(shares) - shares / 2.0, [1.0]])
    edges = np.linspace(0.0, 1.0, _BINS + 1)
    return np.diff(np.interp(edges, np.concatenate([[0.0], places, [1.0]]), below))


def _draw_laws(figure: Any, drawn: list[tuple[str, float, str, Float64, Float64]]) -> None:
    grid = figure.subplots(2, 2)
    middles = (np.arange(_BINS) + 0.5) / _BINS
    styles = {  # the adjusted form lies inside the mark of the plain one
        "entropic": ("o", 0, 8, "none"),
        "sphere": ("s", 1, 8, "none"),
        "metropolis": (".", 2, 5, COLOURS[2]),
    }
    for row, where in enumerate(("segment", "triangle")):
        for column, alpha in enumerate((1.0, 0.5)):
            axes = grid[row, column]
            own = [item for item in drawn if item[0] == where and item[1] == alpha]
            axes.plot(middles, own[0][4], color=COLOURS[4], label="quadrature")
            for _, _, form, density, _ in own:
                marker, colour, size, face = styles[form]
                look = {"color": COLOURS[colour], "markersize": size, "markerfacecolor": face}
                axes.plot(middles, density, marker, **look, label=form)
            measure = "Lebesgue" if alpha == 1.0 else "volume of the metric"
            axes.set_title(f"{where}, {measure} (alpha = {alpha:g})")
            axes.set(xlabel="first weight", ylabel="density")
            axes.legend(fontsize=8)
