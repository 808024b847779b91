"""E3: linear stochastic approximation driven by a Markov chain, and its intervals.

D. Huo, Y. Chen, Q. Xie, "Effectiveness of constant stepsize in Markovian LSA and statistical
inference", AAAI 2024: random problems with 10 states and 5 coordinates, 50 batches of which the
first is dropped, intervals of 95 % for the first coordinate.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from _paper_report import COLOURS, Comparison, Float64, Report
from scipy.special import ndtr, ndtri

from hotloops import sgd

_STATES, _DIM = 10, 5
_STEP_SIZES = (0.2, 0.02)
_BATCHES = 50
_METHODS = ("0.2", "0.02", "RR(0.2, 0.02)", "0.2 / √k", "0.02 / √k")
_CONSTANT = 3  # the first three


@dataclass(frozen=True)
class Outcome:
    """One problem.

    Attributes
    ----------
    error, width, coverage : ndarray, shape (5,)
        Means over the trajectories, for each method: Euclidean error of the estimate, width and
        coverage of the interval of the first coordinate.
    score : ndarray, shape (3,)
        Distance of the mean over the trajectories from the exact mean of the invariant law, first
        coordinate, in standard errors; for the constant steps.
    predicted : ndarray, shape (3,)
        Coverage of a normal estimate with the exact bias and the exact long-run variance, inside
        an interval of the right width.
    diverged : int
        Trajectories left out.
    """

    error: Float64
    width: Float64
    coverage: Float64
    score: Float64
    predicted: Float64
    diverged: int


def random_problem(rng: np.random.Generator) -> sgd.MarkovLSA:
    """Draw a problem as the paper does: the mean matrix has no eigenvalue right of zero."""
    transitions = rng.random((_STATES, _STATES))
    transitions /= transitions.sum(axis=1, keepdims=True)
    stationary = np.linalg.matrix_power(transitions, 500)[0]
    mean = rng.standard_normal((_DIM, _DIM))
    largest = float(np.linalg.eigvals(mean).real.max())
    if largest >= 0.0:
        mean -= 2.0 * largest * np.eye(_DIM)
    matrices = mean + rng.uniform(-1.0, 1.0, (_STATES, _DIM, _DIM))
    others = np.einsum("s,sij->ij", stationary[:-1], matrices[:-1])
    matrices[-1] = (mean - others) / stationary[-1]
    vectors = rng.uniform(-1.0, 1.0, (_STATES, _DIM))
    return sgd.MarkovLSA(matrices, vectors, transitions)


def settled_problems(count: int, rng: np.random.Generator) -> tuple[list[sgd.MarkovLSA], int]:
    """Draw so many problems whose invariant law has second moments, and count the others.

    One in eleven has none at the largest step size: trajectories leave for infinity, or rare
    excursions rule the errors.
    """
    problems: list[sgd.MarkovLSA] = []
    unsettled = 0
    while len(problems) < count:
        problem = random_problem(rng)
        try:
            sgd.lsa_exact_second_moment(problem, max(_STEP_SIZES))
        except ValueError:
            unsettled += 1
        else:
            problems.append(problem)
    return problems, unsettled


def solve(problem: sgd.MarkovLSA, num_chains: int, num_steps: int, seed: int) -> Outcome:
    """Run the five methods on one problem."""
    at, sigma = problem.minimizer(), problem.optimal_covariance()
    length = num_steps // _BATCHES
    averaged = length * (_BATCHES - 1)
    results = [
        sgd.run(
            problem,
            _STEP_SIZES,
            averaged,
            burn_in=length,
            num_chains=num_chains,
            seed=seed,
            schedule=schedule,
            statistics=("mean", "batch_means"),
            batch_length=length,
        )
        for schedule in (None, sgd.PolynomialDecay(0.5))
    ]
    valid = results[0].valid & results[1].valid
    estimates = _paths([run.mean for run in results], results[0].extrapolated)
    low, high = (ends[valid, :, 0] for ends in _intervals(results))
    off = estimates[valid] - at
    exact = np.array([sgd.lsa_exact_mean(problem, step)[0] for step in _STEP_SIZES]) - at[0]
    bias = np.append(exact, sgd.richardson_romberg_weights(_STEP_SIZES) @ exact)
    first = off[:, :_CONSTANT, 0]
    spread = first.std(axis=0, ddof=1) / math.sqrt(len(first))
    deviation = math.sqrt(float(sigma[0, 0]) / averaged)
    quantile = float(ndtri(0.975))
    return Outcome(
        error=np.linalg.norm(off, axis=2).mean(axis=0),
        width=(high - low).mean(axis=0),
        coverage=((low <= at[0]) & (at[0] <= high)).mean(axis=0),
        score=(first.mean(axis=0) - bias) / spread,
        predicted=ndtr(quantile - bias / deviation) - ndtr(-quantile - bias / deviation),
        diverged=int(np.count_nonzero(~valid)),
    )


def _intervals(results: list[sgd.SGDResult]) -> tuple[Float64, Float64]:
    """Return the ends of the intervals, (trajectories, methods, dim)."""
    options: dict[str, Any] = {"method": "batch_means", "num_batches": _BATCHES - 1, "normal": True}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # batches are as short as the paper's
        single = [run.confidence_interval(of="mean", **options) for run in results]
        pair = results[0].confidence_interval(**options)
    low, high = (_paths([ends[side] for ends in single], pair[side]) for side in (0, 1))
    return low, high


def _paths(means: list[Any], pair: Any) -> Float64:
    """Return (trajectories, methods, dim) in the order of the methods."""
    paths: Float64 = np.concatenate([means[0], np.asarray(pair)[:, None], means[1]], axis=1)
    return paths


def run_e3(quick: bool) -> Report:
    """Error, width and coverage over random problems."""
    problems, chains, steps = (12, 64, 20_000) if quick else (100, 100, 100_000)
    drawn, unsettled = settled_problems(problems, np.random.default_rng(3))
    outcomes = [solve(problem, chains, steps, seed) for seed, problem in enumerate(drawn)]
    report = Report(
        "E3",
        "Markovian LSA: 10 states, 5 coordinates, intervals from 50 batches, first dropped",
        [
            f"{problems} random problems × {chains} trajectories × {steps:,} steps; "
            f"{sum(outcome.diverged for outcome in outcomes)} trajectories diverged.",
            f"Problems drawn and left out, without second moments at step 0.2: {unsettled}.",
            "The invariant mean is exact (a linear system); expected coverages follow from it and",
            "from the exact long-run covariance. Squared scores compare our means with the exact",
            "ones: 1 if they agree.",
        ],
    )
    for name, attribute in (
        ("Euclidean error", "error"),
        ("Width of the interval of the first coordinate", "width"),
        ("Coverage of the first coordinate", "coverage"),
    ):
        values = np.array([getattr(outcome, attribute) for outcome in outcomes])
        report.tables.append((f"{name}: percentiles over the problems", _percentiles(values)))
    for column in range(_CONSTANT):
        squares = np.array([outcome.score[column] ** 2 for outcome in outcomes])
        report.comparisons.append(
            Comparison(
                f"mean squared score of the bias, {_METHODS[column]}",
                1.0,
                float(squares.mean()),
                math.sqrt(2.0 / problems),
            )
        )
    for column in range(_CONSTANT):
        found = np.array([outcome.coverage[column] for outcome in outcomes])
        expected = np.array([outcome.predicted[column] for outcome in outcomes])
        error = float((found - expected).std(ddof=1) / math.sqrt(problems))
        report.comparisons.append(
            Comparison(
                f"mean coverage, {_METHODS[column]}",
                float(expected.mean()),
                float(found.mean()),
                error,
                slack=0.015,
            )
        )
    report.draw = lambda figure: _draw(figure, outcomes)
    return report


def _percentiles(values: Float64) -> list[list[str]]:
    levels = (10, 25, 50, 75, 90)
    rows = [["step size", *(f"{level} %" for level in levels)]]
    for column, name in enumerate(_METHODS):
        found = np.percentile(values[:, column], levels)
        rows.append([name, *(f"{value:.4g}" for value in found)])
    return rows


def _draw(figure: Any, outcomes: list[Outcome]) -> None:
    panels = figure.subplots(1, 3)
    for axes, attribute, label in zip(
        panels, ("error", "width", "coverage"),
        ("Euclidean error", "width, first coordinate", "coverage, first coordinate"),
        strict=True,
    ):  # fmt: skip
        values = np.array([getattr(outcome, attribute) for outcome in outcomes])
        low, middle, high = np.percentile(values, [10, 50, 90], axis=0)
        for place, name in enumerate(_METHODS):
            axes.plot([place, place], [low[place], high[place]], color=COLOURS[place], linewidth=3)
            axes.plot(place, middle[place], "o", color=COLOURS[place], label=name)
        axes.set_xticks(range(len(_METHODS)), _METHODS, rotation=35, ha="right")
        axes.set_title(label)
        if attribute == "coverage":
            axes.axhline(0.95, color=COLOURS[4], linestyle=":")
            axes.set_ylim(0.0, 1.02)
        else:
            axes.set_yscale("log")
    panels[0].set_ylabel("percentiles 10, 50, 90 over problems")
