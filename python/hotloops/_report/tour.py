"""The tour: regularised logistic regression by SGD ensembles on the packaged data."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops import datasets
from hotloops._report.estimates import Uncertain, norm_of_mean
from hotloops._report.tour_intervals import IntervalPlan, Intervals, run_intervals

Array = npt.NDArray[np.float64]
Table = tuple[npt.NDArray[Any], npt.NDArray[np.int64], tuple[str, ...]]


@dataclass(frozen=True)
class Experiment:
    """One ensemble to run.

    Attributes
    ----------
    title : str
        Name of the data for people.
    load : callable
        Returns features with an intercept column, labels, and the names of the columns.
    l2 : float
        Weight of the ridge penalty.
    step_sizes : tuple of float
        The pair for the table: a step size and its double.
    num_steps : int
        Averaged steps; as many are burnt before.
    num_chains : int
        Rows of the ensemble.
    ladder : tuple of float
        Larger step sizes, for the picture of bias against step size. They mix faster, so they need
        fewer steps.
    ladder_steps : int
        Averaged steps on the ladder.
    intervals : IntervalPlan
        The run whose confidence intervals are compared with the exact minimiser.
    """

    title: str
    load: Callable[[], Table]
    l2: float
    step_sizes: tuple[float, float]
    num_steps: int
    num_chains: int
    ladder: tuple[float, ...]
    ladder_steps: int
    intervals: IntervalPlan


@dataclass(frozen=True)
class Rung:
    """The bias at one step size, and that of the pair of it with its double."""

    step_size: float
    averaging: Uncertain
    extrapolation: Uncertain | None


@dataclass(frozen=True)
class Outcome:
    """What one experiment gave.

    Attributes
    ----------
    experiment : Experiment
        What was run.
    shape : tuple of int
        Rows and columns of the table of features.
    names : tuple of str
        Names of the coefficients.
    exact : numpy.ndarray, shape (d,)
        The minimiser.
    averages : numpy.ndarray, shape (C, J, d)
        Of the chains that did not diverge.
    extrapolated : numpy.ndarray, shape (C, d)
        Of the same chains.
    num_diverged : int
        Chains left out.
    seconds : float
        Time of the run.
    best_error : float
        Root-mean-square error of the best method in long runs.
    rungs : tuple of Rung
        Bias at every step size that was run.
    intervals : Intervals
        Of the extrapolated estimate, chain by chain.
    """

    experiment: Experiment
    shape: tuple[int, int]
    names: tuple[str, ...]
    exact: Array
    averages: Array
    extrapolated: Array
    num_diverged: int
    seconds: float
    best_error: float
    rungs: tuple[Rung, ...]
    intervals: Intervals

    @property
    def updates_per_second(self) -> float:
        """Chains times steps times step sizes times coefficients, by the time."""
        plan = self.experiment
        steps = 2 * plan.num_steps * len(plan.step_sizes)
        return plan.num_chains * steps * self.shape[1] / self.seconds

    @property
    def estimate(self) -> Uncertain:
        """Norm of the extrapolated estimate."""
        return norm_of_mean(self.extrapolated)

    @property
    def chain_error(self) -> float:
        """Root-mean-square error of the extrapolated estimate of one chain."""
        return float(np.sqrt(np.mean(np.sum((self.extrapolated - self.exact) ** 2, axis=1))))


def experiments(quick: bool) -> tuple[Experiment, ...]:
    """Return what the tour runs.

    The slowest direction forgets its start at the rate step size times `l2`, so the burn-in is at
    least 5 / (step size * l2); for the intervals, batches are at least 20 / (step size * l2).
    """
    cancer = Experiment(
        title="breast cancer",
        load=_breast_cancer,
        l2=1e-2,
        step_sizes=(0.02, 0.04),
        num_steps=30_000,
        num_chains=1024,
        ladder=(0.04, 0.08, 0.16),
        ladder_steps=15_000,
        intervals=IntervalPlan(0.1, (0.02, 0.04), 100_000, burn_in=5_000, num_chains=64),
    )
    census = Experiment(
        title="a9a",
        load=_a9a,
        l2=1e-2,
        step_sizes=(0.1, 0.2),
        num_steps=12_000,
        num_chains=512,
        ladder=(0.2, 0.4),
        ladder_steps=6_000,
        intervals=IntervalPlan(0.1, (0.05, 0.1), 40_000, burn_in=2_000, num_chains=32),
    )
    if quick:
        cancer = replace(cancer, step_sizes=(0.03, 0.06), num_steps=17_000, num_chains=256)
        cancer = replace(cancer, ladder=(0.06, 0.12), ladder_steps=9_000)
        census = replace(census, step_sizes=(0.1, 0.2), num_steps=6_000, num_chains=256)
        census = replace(census, ladder=(0.2, 0.4), ladder_steps=3_000)
        cancer, census = (
            replace(plan, intervals=replace(plan.intervals, num_chains=16))
            for plan in (cancer, census)
        )
    return cancer, census


def run_experiment(
    plan: Experiment, *, num_threads: int | None, backend: str | None, seed: int = 2025
) -> Outcome:
    """Run one experiment, with a progress bar on standard error."""
    from hotloops import sgd

    X, y, names = plan.load()
    data = _on_device(X, backend), _on_device(y, backend)
    problem = sgd.Logistic(*data, l2=plan.l2)
    common: dict[str, Any] = {"num_threads": num_threads, "backend": backend, "seed": seed}
    averages_alone: dict[str, Any] = {**common, "statistics": ("mean",)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # two steps are too few, which is not the point here
        sgd.run(
            problem, plan.step_sizes, num_steps=2, **averages_alone
        )  # compiles what must be compiled
    exact = _to_host(problem.minimizer())

    started = time.perf_counter()
    run = sgd.run(
        problem,
        plan.step_sizes,
        num_steps=plan.num_steps,
        num_chains=plan.num_chains,
        progress=True,
        **averages_alone,
    )
    averages = _to_host(run.mean)[run.valid]  # waits for a GPU
    seconds = time.perf_counter() - started

    ladder = sgd.run(
        problem,
        plan.ladder,
        num_steps=plan.ladder_steps,
        num_chains=plan.num_chains,
        progress=True,
        **averages_alone,
    )
    sigma = _to_host(problem.optimal_covariance())
    return Outcome(
        experiment=plan,
        shape=(X.shape[0], X.shape[1]),
        names=names,
        exact=exact,
        averages=averages,
        extrapolated=_to_host(run.extrapolated)[run.valid],
        num_diverged=int(np.count_nonzero(~run.valid)),
        seconds=seconds,
        best_error=float(np.sqrt(np.trace(sigma) / plan.num_steps)),
        rungs=(
            *rungs(averages, plan.step_sizes, exact)[:1],
            *rungs(_to_host(ladder.mean)[ladder.valid], plan.ladder, exact),
        ),
        intervals=run_intervals(plan.intervals, *data, common),
    )


def rungs(averages: Array, step_sizes: Sequence[float], exact: Array) -> tuple[Rung, ...]:
    """Return the bias at each step size of one ensemble, alone and paired with the next."""
    from hotloops import sgd

    steps = []
    for j, step_size in enumerate(step_sizes):
        pair = None
        if j + 1 < len(step_sizes):
            combined = sgd.extrapolate(averages[:, j : j + 2], step_sizes[j : j + 2])
            pair = norm_of_mean(combined - exact)
        steps.append(Rung(step_size, norm_of_mean(averages[:, j] - exact), pair))
    return tuple(steps)


def table(outcomes: Sequence[Outcome]) -> list[list[str]]:
    """Return the cells of the table: quantities down, data sets across."""
    rows: list[tuple[str, Callable[[Outcome], str]]] = [
        ("", lambda o: o.experiment.title),
        ("rows × coefficients", lambda o: f"{o.shape[0]:,} × {o.shape[1]}"),
        ("ridge penalty", lambda o: f"{o.experiment.l2:g}"),
        ("step sizes", lambda o: ", ".join(f"{step:g}" for step in o.experiment.step_sizes)),
        ("chains", lambda o: f"{o.experiment.num_chains:,}"),
        ("steps burnt + averaged", lambda o: " + ".join([f"{o.experiment.num_steps:,}"] * 2)),
        ("norm of the exact minimiser", lambda o: f"{np.linalg.norm(o.exact):.4f}"),
        ("norm of the estimate", lambda o: str(o.estimate)),
        ("bias of averaging", lambda o: str(o.rungs[0].averaging)),
        ("bias after extrapolation", lambda o: str(o.rungs[0].extrapolation)),
        ("error of one chain", lambda o: f"{o.chain_error:.4f}"),
        ("optimum of long runs", lambda o: f"{o.best_error:.4f}"),
        ("95 % intervals that cover", lambda o: str(o.intervals)),
        ("time", lambda o: f"{o.seconds:.2f} s"),
        ("updates per second", lambda o: f"{o.updates_per_second / 1e6:,.0f} million"),
    ]
    cells = [[name, *(write(outcome) for outcome in outcomes)] for name, write in rows]
    if any(outcome.num_diverged for outcome in outcomes):
        cells.append(["chains diverged", *(str(outcome.num_diverged) for outcome in outcomes)])
    return cells


def _breast_cancer() -> Table:
    data = datasets.load_breast_cancer()
    X = datasets.standardize(data.X, intercept=True)
    return X, data.y, (*data.feature_names, "intercept")


def _a9a() -> Table:
    data = datasets.load_a9a("train")
    X = np.column_stack([data.X, np.ones(len(data.X))])
    return X, data.y, (*data.feature_names, "intercept")


def _on_device(array: Any, backend: str | None) -> Any:
    if backend != "cuda":
        return array
    import cupy

    return cupy.asarray(array)


def _to_host(array: Any) -> npt.NDArray[Any]:
    return np.asarray(array.get() if hasattr(array, "get") else array)
