"""E4: coverage of every kind of interval on a logistic model whose data stream by."""

from __future__ import annotations

from typing import Any

import numpy as np
from _paper_report import COLOURS, Comparison, Float64, Report, fraction_and_error

from hotloops import sgd

_DIM = 10
_STEP_SIZES = (0.02, 0.04)
_LEVEL = 0.95
_RELAXATIONS = 20.0  # gamma mu m of a batch: shorter ones see too little of the correlation


def run_e4(quick: bool) -> Report:
    """Coverage and width of four methods, of the extrapolated estimate and of the average."""
    chains, n, burn_in = (200, 60_000, 3_000) if quick else (1000, 100_000, 3_000)
    problem = sgd.StreamingLogistic(np.linspace(-0.5, 0.5, _DIM))
    at, sigma = problem.minimizer(), problem.optimal_covariance()
    slowest = float(np.linalg.eigvalsh(problem.hessian())[0])
    batches = int(n * _STEP_SIZES[0] * slowest / _RELAXATIONS)
    methods: dict[str, dict[str, int]] = {
        "batch_means": {"num_batches": batches},
        "obm": {"window": n // batches},
        "random_scaling": {},
        "plug_in": {},
    }
    run = sgd.run(
        problem,
        _STEP_SIZES,
        n,
        burn_in=burn_in,
        num_chains=chains,
        seed=4,
        statistics=("mean", "batch_means", "random_scaling", "plug_in"),
    )
    ideal = float(np.mean(2 * 1.959964 * np.sqrt(np.diag(sigma) / n)))
    report = Report(
        "E4",
        "Streaming logistic regression, d = 10: coverage of 95 % intervals",
        [
            f"{chains:,} chains, {burn_in:,} + {n:,} steps, γ = {_STEP_SIZES[0]:g} and its double. "
            "The model is right, so the",
            "minimiser is the parameter that made the labels. Coverage is over all coordinates;",
            "its error is from the spread between chains. Nominal coverage is 0.95, which the",
            f"intervals reach as n grows: hence the slack. {batches} batches keep γ μ m at 20.",
        ],
        size=(7.2, 4.2),
    )
    rows = [["of the extrapolated estimate, unless said", "coverage", "mean width / optimal"]]
    drawn = {}
    for method, options in methods.items():
        low, high = run.confidence_interval(_LEVEL, method, **options)
        covered, width = (low <= at) & (at <= high), float(np.mean(high - low)) / ideal
        share, error = fraction_and_error(covered)
        rows.append([method, f"{share:.4f} ± {error:.4f}", f"{width:.2f}"])
        report.comparisons.append(
            Comparison(f"coverage, {method}", _LEVEL, share, error, slack=0.015)
        )
        drawn[method] = covered.mean(axis=0)
    low, high = run.confidence_interval(_LEVEL, "batch_means", num_batches=batches, of="mean")
    for j, step in enumerate(_STEP_SIZES):
        covered = (low[:, j] <= at) & (at <= high[:, j])
        share, error = fraction_and_error(covered)
        width = float(np.mean(high[:, j] - low[:, j])) / ideal
        rows.append([f"batch_means of A({step:g})", f"{share:.4f} ± {error:.4f}", f"{width:.2f}"])
        drawn[f"batch_means of A({step:g})"] = covered.mean(axis=0)
    report.tables.append(("95 % intervals; without extrapolation the bias shows", rows))
    report.draw = lambda figure: _draw(figure, at, drawn)
    return report


def _draw(figure: Any, at: Float64, drawn: dict[str, Float64]) -> None:
    axes = figure.subplots()
    markers = ("o", "s", "d", "^", "v", "P")
    colours = (*COLOURS[:4], COLOURS[4], "#1f2733")
    for (name, shares), colour, marker in zip(drawn.items(), colours, markers, strict=True):
        axes.plot(at, shares, marker + "-", color=colour, label=name, linewidth=0.8)
    axes.axhline(_LEVEL, color=COLOURS[4], linestyle=":")
    axes.set(xlabel="coordinate of the minimiser", ylabel="coverage of 95 % intervals")
    axes.set_title("Streaming logistic regression, d = 10")
    axes.legend(fontsize=8, loc="lower center", ncols=2)
