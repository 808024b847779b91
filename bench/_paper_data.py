"""E5: ridge logistic regression on the breast cancer table, rows drawn with replacement."""

from __future__ import annotations

from typing import Any

import numpy as np
from _paper_report import COLOURS, Comparison, Float64, Report, mean_and_error

from hotloops import datasets, sgd
from hotloops._report.estimates import norm_of_mean
from hotloops._report.text import significant

_L2 = 1e-2
_STEP_SIZES = (0.01, 0.02, 0.04, 0.08, 0.16)


def first_order_bias(problem: sgd.Logistic, features: Float64) -> Float64:
    """Return b with ``E t - t* = gamma b + O(gamma^2)``, by enumeration of the rows.

    The covariance of the invariant law is ``gamma C`` to first order, with ``H C + C H = S``, and
    ``b = -H^{-1} f'''(t*)[C] / 2`` (Dieuleveut, Durmus, Bach 2020, theorem 4).
    """
    at, hessian, noise = problem.minimizer(), problem.hessian(), problem.noise_covariance()
    values, vectors = np.linalg.eigh(hessian)
    rotated = vectors.T @ noise @ vectors / (values[:, None] + values[None, :])
    covariance = vectors @ rotated @ vectors.T
    share = 1.0 / (1.0 + np.exp(-features @ at))
    third = share * (1.0 - share) * (1.0 - 2.0 * share)
    curved = np.einsum("ni,ij,nj->n", features, covariance, features)
    pull = features.T @ (third * curved) / len(features)
    bias: Float64 = -0.5 * np.linalg.solve(hessian, pull)
    return bias


def run_e5(quick: bool) -> Report:
    """Bias of averaging and of extrapolation, and the error of long runs."""
    table = datasets.load_breast_cancer()
    features = datasets.standardize(table.X)
    problem = sgd.Logistic(features, table.y, l2=_L2)
    at, sigma = problem.minimizer(), problem.optimal_covariance()
    slope = first_order_bias(problem, features)
    steps = _STEP_SIZES[1:] if quick else _STEP_SIZES
    chains, n, burn_in = (512, 20_000, 25_000) if quick else (4096, 40_000, 60_000)
    run = sgd.run(
        problem,
        steps,
        n,
        burn_in=burn_in,
        num_chains=chains,
        theta0=at,
        seed=5,
        statistics=("mean",),
    )
    off = run.mean - at
    pairs = [
        sgd.extrapolate(run.mean[:, j : j + 2], steps[j : j + 2]) - at
        for j in range(len(steps) - 1)
    ]
    report = Report(
        "E5",
        "Breast cancer (569 × 30, standardised), logistic loss, l2 = 0.01, minibatch 1",
        [
            f"{chains:,} chains from the minimiser, {burn_in:,} + {n:,} steps.",
            "The minimiser, Σ* and the first-order bias γ b are exact, by enumeration of the rows.",
            "The bias of A along b, over γ |b|, is extrapolated to γ = 0 from three step sizes.",
            "The expected squared error is that of the linearised chain: n is not long for the",
            "slow directions.",
        ],
        size=(6.4, 4.6),
    )
    report.tables.append(
        ("Norm of the bias (± one Monte-Carlo error)", _bias_table(steps, off, pairs))
    )
    length = float(np.linalg.norm(slope))
    along = off @ slope / length**2 / np.asarray(steps)  # (C, J), tends to 1
    to_zero = along[:, :3] @ sgd.richardson_romberg_weights(steps[:3])
    trace = float(np.trace(sigma))
    value, error = mean_and_error(n * np.sum(pairs[0] ** 2, axis=1) / trace)
    linear = linear_error(problem, steps[0], burn_in, n) / trace
    report.comparisons = [
        Comparison(
            "bias of A along b, over γ |b|, at γ → 0",
            1.0,
            *mean_and_error(to_zero),
            slack=_cut(along, steps),
        ),
        Comparison("n MSE of RR over Tr Σ*, smallest γ", linear, value, error, slack=steps[0]),
    ]
    report.draw = lambda figure: _draw(figure, steps, off, pairs, length)
    return report


def _cut(along: Float64, steps: tuple[float, ...]) -> float:
    """Return how far three step sizes may be off: the change from what two of them give."""
    weights = [sgd.richardson_romberg_weights(steps[:count]) for count in (2, 3)]
    means = along.mean(axis=0)
    return abs(float(means[:2] @ weights[0] - means[:3] @ weights[1]))


def linear_error(problem: sgd.Logistic, gamma: float, burn_in: int, n: int) -> float:
    """Return n times the mean squared error of RR(gamma, 2 gamma) for the linearised chain.

    With ``rho = 1 - gamma h`` along an eigenvector of the Hessian, noise m enters the average by
    ``(1 - rho^(n0 + n - m + 1)) / (h n)`` if m > n0, else by ``rho^(n0 - m) (rho - rho^(n + 1)) /
    (h n)``, m = 1, 2, ...; the first noise of all copies is the same.
    """
    values, vectors = np.linalg.eigh(problem.hessian())
    variances = np.diag(vectors.T @ problem.noise_covariance() @ vectors)
    total = 0.0
    early, late = np.arange(burn_in), np.arange(1, n + 1)
    for h, variance in zip(values, variances, strict=True):
        for ages in (early, late):
            weights = np.zeros(ages.size)
            for weight, step in ((2.0, gamma), (-1.0, 2 * gamma)):
                rho = 1.0 - step * h
                kept = 1.0 - rho**ages if ages is late else rho**ages * (rho - rho ** (n + 1))
                weights += weight * kept
            total += variance * float(weights @ weights) / (h * n) ** 2
    return n * total


def _bias_table(steps: tuple[float, ...], off: Float64, pairs: list[Float64]) -> list[list[str]]:
    rows = [["γ", "A(γ)", "RR(γ, 2γ)", "A over RR"]]
    for j, gamma in enumerate(steps[:-1]):
        average, pair = norm_of_mean(off[:, j]), norm_of_mean(pairs[j])
        more = ">" if pair.bound else ""
        ratio = f"{more}{significant(average.value / pair.value, 2)}"
        rows.append([f"{gamma:g}", str(average), str(pair), ratio])
    return rows


def _draw(
    figure: Any, steps: tuple[float, ...], off: Float64, pairs: list[Float64], length: float
) -> None:
    axes = figure.subplots()
    gammas = np.asarray(steps)
    axes.plot(gammas, gammas * length, ":", color=COLOURS[4], label="γ |b|, exact")
    title = "Breast cancer, ridge logistic regression"
    for values, name, colour, marker in (
        ([norm_of_mean(off[:, j]) for j in range(off.shape[1])], "A(γ)", COLOURS[0], "o"),
        ([norm_of_mean(pair) for pair in pairs], "RR(γ, 2γ)", COLOURS[1], "s"),
    ):
        at = gammas[: len(values)]
        heights = np.array([value.value for value in values])
        bars = np.array([2.0 * value.error for value in values])
        bound = np.array([value.bound for value in values])
        axes.errorbar(
            at[~bound], heights[~bound], bars[~bound], fmt=marker + "-", color=colour, label=name,
            capsize=2,
        )  # fmt: skip
        if bound.any():
            axes.plot(at[bound], heights[bound], "v", color=colour, markerfacecolor="none")
            title = "Breast cancer, ridge logistic regression (open: upper bound)"
    axes.set(xscale="log", yscale="log", xlabel="step size γ", ylabel="norm of the bias")
    axes.set_xticks(gammas, [f"{gamma:g}" for gamma in gammas])
    axes.minorticks_off()
    axes.set_title(title)
    axes.legend()
