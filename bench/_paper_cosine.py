"""E1, E1b, E2: the function of the paper, ``f(t) = t^2 + cos(t + phi)``, noise N(0, 1).

The leading term ``L_n``, the mean of the noise at indices n0 + 2 to n0 + n + 1, costs a run of its
own: on ``f(t) = t^2 / 2`` with step size 1 every iterate is minus the noise of its step, so the
average of n steps from step n0 + 1 on is ``-L_n``, of the very noise that the chains saw.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from _paper_report import COLOURS, Comparison, Float64, Report, mean_and_error, order

from hotloops import sgd

_LANES = 4  # coordinates that share a block of random words: 80 chains of 4 are 320 runs
_RUNS = 320
_SIZES = (100, 400, 1600, 6400, 25_600, 102_400, 409_600, 1_000_000)
_QUICK_SIZES = _SIZES[:5]

# Section 6 of the paper and, for phase 1, a reference run: n^{3/2} times the squared remainder.
_MSE = {100: 0.886, 1600: 0.964}
_REMAINDER = {100: 1.851, 400: 1.833, 1600: 1.763, 6400: 1.831, 25_600: 1.849}
_SHIFTED_AVERAGE = {100: 0.80, 400: 0.93, 1600: 1.24, 6400: 1.89, 25_600: 3.28}
_SHIFTED_REMAINDER = {100: 1.06, 400: 1.02, 1600: 0.96, 6400: 0.97, 25_600: 1.01}


@dataclass(frozen=True)
class Errors:
    """Squared errors of single runs for one n; the last three times H^2.

    Attributes
    ----------
    n : int
    average, extrapolated : ndarray, shape (runs,)
        ``(A - t*)^2`` and ``(RR - t*)^2``.
    average_remainder, remainder : ndarray, shape (runs,)
        ``(H (A - t*) + L_n)^2`` and the same for RR.
    """

    n: int
    average: Float64
    extrapolated: Float64
    average_remainder: Float64
    remainder: Float64


def leading_term(seed: int, first: int, n: int, num_chains: int, dim: int) -> Float64:
    """Return the mean of the noise of steps `first` to ``first + n - 1``, (num_chains, dim)."""
    echo = sgd.Quadratic(np.ones(dim), 0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # step size 1 is the point here
        run = sgd.run(
            echo,
            1.0,
            n,
            burn_in=0,
            num_chains=num_chains,
            seed=seed,
            step_offset=first,
            statistics=("mean",),
        )
    means: Float64 = -run.mean[:, 0]
    return means


def errors(phi: float, n: int, seed: int = 1, runs: int = _RUNS) -> Errors:
    """Run the experiment of the paper for one n: gamma = n^{-1/2}, start offset 1, 2n steps."""
    problem = sgd.Cosine(phi, 1.0, dim=_LANES)
    at, curvature = problem.minimizer(), float(problem.hessian()[0, 0])
    gamma = n**-0.5
    run = sgd.run(
        problem,
        [gamma, 2 * gamma],
        n,
        num_chains=runs // _LANES,
        theta0=at + 1.0,
        seed=seed,
        statistics=("mean",),
    )
    noise = leading_term(seed, n + 1, n, runs // _LANES, _LANES)
    average, extrapolated = run.mean[:, 0] - at, run.extrapolated - at
    squares = (
        part.ravel() ** 2
        for part in (
            average,
            extrapolated,
            curvature * average + noise,
            curvature * extrapolated + noise,
        )
    )
    return Errors(n, *squares)


def run_e1(quick: bool) -> Report:
    """Figure 1 of the paper: its own function, phase 0."""
    found = [errors(0.0, n) for n in (_QUICK_SIZES if quick else _SIZES)]
    report = Report(
        "E1",
        "Figure 1 of the paper: f = t² + cos t, γ = n^(-1/2), pair (γ, 2γ), 320 runs",
        [
            "n MSE tends to 1 (the optimal variance), n^{3/2} times the squared remainder to 11/6.",
            "This function is symmetric: the average has no bias at any step size, so E1 cannot",
            "show that extrapolation removes one. E1b does, with phase 1.",
        ],
    )
    for entry in found:
        n = entry.n
        value, error = mean_and_error(n * entry.extrapolated)
        linear = 1.0 - (7.0 / 6.0) * n**-0.5
        report.comparisons.append(
            Comparison(f"n MSE of RR, n = {n:,}", _MSE.get(n, linear), value, error)
        )
    for entry in found:
        n = entry.n
        value, error = mean_and_error(n**1.5 * entry.remainder)
        expected = _REMAINDER.get(n, 11.0 / 6.0)
        report.comparisons.append(
            Comparison(f"n^1.5 |RR + L/H|², n = {n:,}", expected, value, error)
        )
    report.draw = lambda figure: _draw_figure_1(figure, found)
    return report


def run_e1b(quick: bool) -> Report:
    """The same with phase 1, where averaging is biased."""
    found = [errors(1.0, n) for n in (_QUICK_SIZES if quick else _SIZES)]
    problem = sgd.Cosine(1.0, 1.0)
    at, curvature = float(problem.minimizer()[0]), float(problem.hessian()[0, 0])
    third = math.sin(at + 1.0)
    slope = -third / (4.0 * curvature**2)  # of the bias of A, by step size
    report = Report(
        "E1b",
        "The same with f = t² + cos(t + 1), where averaging is biased",
        [
            "n^{3/2} times the squared remainder, times H²: that of the average grows like",
            "n^{1/2}, for its bias is of order γ = n^{-1/2}; that of RR tends to 11/(6 H) = "
            f"{11 / 6 / curvature:.3f}.",
        ],
    )
    for entry in found:
        n = entry.n
        value, error = mean_and_error(n**1.5 * entry.average_remainder)
        growing = 1.0 / curvature + (curvature * slope) ** 2 * math.sqrt(n)
        report.comparisons.append(
            Comparison(
                f"average: n^1.5 |H (A - t*) + L|², n = {n:,}",
                _SHIFTED_AVERAGE.get(n, growing),
                value,
                error,
                slack=0.005 if n in _SHIFTED_AVERAGE else 0.02 * growing,
            )
        )
    for entry in found:
        n = entry.n
        value, error = mean_and_error(n**1.5 * entry.remainder)
        expected = _SHIFTED_REMAINDER.get(n, 11.0 / 6.0 / curvature)
        report.comparisons.append(
            Comparison(f"RR: n^1.5 |H (RR - t*) + L|², n = {n:,}", expected, value, error, 0.005)
        )
    report.draw = lambda figure: _draw_figure_1(figure, found, averages=True)
    return report


def _draw_figure_1(figure: Any, found: list[Errors], averages: bool = False) -> None:
    """Draw the two panels of the paper; `averages` adds the plain average to both."""
    left, right = figure.subplots(1, 2)
    sizes = np.array([entry.n for entry in found], dtype=np.float64)
    added = "H {} + L" if averages else "{} + L/H"  # the paper's function has H = 1
    series = [
        ("RR", "extrapolated", 1.0, COLOURS[1], "s-"),
        (added.format("RR"), "remainder", 1.5, COLOURS[0], "o-"),
    ]
    if averages:
        series += [
            ("A", "average", 1.0, COLOURS[2], "^--"),
            (added.format("A"), "average_remainder", 1.5, COLOURS[3], "d--"),
        ]
    for name, attribute, power, colour, style in series:
        values = [mean_and_error(getattr(entry, attribute)) for entry in found]
        means, deviations = (np.array(part) for part in zip(*values, strict=True))
        for axes, scale, label in (
            (left, np.ones_like(sizes), name),
            (right, sizes**power, f"{name}, times n" + ("$^{3/2}$" if power > 1 else "")),
        ):
            axes.errorbar(
                sizes, scale * means, 2 * scale * deviations, fmt=style, color=colour, label=label,
                capsize=2,
            )  # fmt: skip
    phase = "(t + 1)" if averages else " t"
    left.set(yscale="log", ylabel="mean squared error", title=f"f = t² + cos{phase}")
    right.set(ylabel="scaled mean squared error", title="scaled by n and n$^{3/2}$")
    if averages:
        right.set_yscale("log")
    else:
        for level, label in ((1.0, "1"), (11 / 6, "11/6")):
            right.axhline(level, color=COLOURS[4], linestyle=":")
            right.annotate(
                label, (1.0, level), xycoords=("axes fraction", "data"), xytext=(3, -3),
                textcoords="offset points", color=COLOURS[4],
            )  # fmt: skip
        right.set_ylim(0.0, 2.6)
    for axes in (left, right):
        axes.set(xscale="log", xlabel="averaged steps n")
        axes.legend(loc="upper right" if axes is left else "best")


# Biases at gamma with phase 1, by two independent numerical methods.
_BIAS = {
    0.025: (-1.718759232e-3, 8.71229e-5, -8.2073e-6),
    0.05: (-3.524641314e-3, 3.731133e-4, -7.8411e-5),
    0.1: (-7.422395917e-3, 1.7276862e-3, -9.7134e-4),
}
_ORDERS = ("A(γ)", "RR(γ, 2γ)", "RR(γ, 2γ, 4γ)")


def invariant_bias(gamma: float, phi: float = 1.0) -> float:
    """Return E t - t* under the invariant law, from the transition density on a grid.

    The trapezoidal rule converges faster than any power of the grid width for such densities;
    two thirds of the standard deviation of a step leave an error of about 1e-13.
    """
    at = float(sgd.Cosine(phi, 1.0).minimizer()[0])
    spread = math.sqrt(gamma)  # more than the deviation of the law
    width = gamma / 1.5
    half = math.ceil(9.0 * spread / width)
    grid = at + width * np.arange(-half, half + 1)
    centre = grid - gamma * (2.0 * grid - np.sin(grid + phi))
    kernel = np.exp(-0.5 * ((grid[None, :] - centre[:, None]) / gamma) ** 2)
    kernel /= kernel.sum(axis=1, keepdims=True)
    # The invariant law is the left eigenvector of eigenvalue 1.
    system = np.vstack([kernel.T - np.eye(grid.size), np.ones(grid.size)])
    right = np.zeros(grid.size + 1)
    right[-1] = 1.0
    law = np.linalg.lstsq(system, right, rcond=None)[0]
    return float(law @ (grid - at))


def run_e2(quick: bool) -> Report:
    """Bias against step size for one, two and three step sizes."""
    chains, n, burn_in = (256 if quick else 4096), (8_000 if quick else 40_000), 1_000
    gammas = tuple(_BIAS)
    problem = sgd.Cosine(1.0, 1.0, dim=_LANES)
    at, curvature = problem.minimizer(), float(problem.hessian()[0, 0])
    measured = np.empty((3, len(gammas), 2))
    for column, gamma in enumerate(gammas):
        steps = [gamma, 2 * gamma, 4 * gamma]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # 4 gamma L may exceed 1 here
            run = sgd.run(
                problem,
                steps,
                n,
                burn_in=burn_in,
                num_chains=chains,
                theta0=at,
                seed=2,
                statistics=("mean",),
            )
        # The leading term has mean zero: adding it back leaves the bias and little noise.
        noise = leading_term(2, burn_in + 1, n, chains, _LANES) / curvature - at
        pair = sgd.extrapolate(run.mean[:, :2], steps[:2])
        for row, estimate in enumerate((run.mean[:, 0], pair, run.extrapolated)):
            measured[row, column] = mean_and_error(estimate + noise)
    report = Report(
        "E2",
        "Bias against step size: f = t² + cos(t + 1), J = 1, 2, 3 step sizes",
        [
            f"{chains * _LANES:,} runs of {n:,} averaged steps; the leading term, whose mean is "
            "zero, is added back.",
            "Slopes of log |bias| tend to 1, 2, 3 as γ tends to 0; those expected here are of the",
            "exact biases at the same step sizes.",
        ],
        size=(6.4, 4.6),
    )
    for row, name in enumerate(_ORDERS):
        for column, gamma in enumerate(gammas):
            value, error = measured[row, column]
            report.comparisons.append(
                Comparison(f"bias of {name}, γ = {gamma:g}", _BIAS[gamma][row], value, error)
            )
    for row, name in enumerate(_ORDERS):
        values, deviations = measured[row, :, 0], measured[row, :, 1]
        # Error of the slope from those of the logarithms, by the weights of the regression.
        x = np.log(gammas) - np.mean(np.log(gammas))
        error = math.sqrt(float(np.sum((x * deviations / values) ** 2))) / float(x @ x)
        exact = order(gammas, [_BIAS[gamma][row] for gamma in gammas])
        report.comparisons.append(
            Comparison(f"slope of {name}", exact, order(gammas, values.tolist()), error)
        )
    report.draw = lambda figure: _draw_bias(figure, gammas, measured)
    return report


def _draw_bias(figure: Any, gammas: tuple[float, ...], measured: Float64) -> None:
    axes = figure.subplots()
    fine = np.geomspace(0.0125, 0.1, 13)
    exact = {gamma: invariant_bias(gamma) for gamma in (*fine, *(2 * fine), *(4 * fine))}
    for row, (name, colour, marker) in enumerate(
        zip(_ORDERS, COLOURS, ("o", "s", "d"), strict=False)
    ):
        weights = sgd.richardson_romberg_weights([1.0, 2.0, 4.0][: row + 1])
        curve = [abs(sum(w * exact[2**j * gamma] for j, w in enumerate(weights))) for gamma in fine]
        axes.plot(fine, curve, color=colour, alpha=0.6)
        axes.errorbar(
            gammas, np.abs(measured[row, :, 0]), 2 * measured[row, :, 1], fmt=marker, color=colour,
            label=f"{name}, order {row + 1}", capsize=2,
        )  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel="step size γ", ylabel="|bias|")
    axes.set_title("f = t² + cos(t + 1): points ours, lines from the invariant law")
    axes.set_xticks([0.0125, 0.025, 0.05, 0.1], ["0.0125", "0.025", "0.05", "0.1"])
    axes.minorticks_off()
    axes.legend()
