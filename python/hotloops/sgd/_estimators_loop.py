"""Runs of the estimators: blocks of rows, one after the other, through `run`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops._runtime.errors import DivergenceWarning
from hotloops.sgd._estimators_rows import Float64, Indices, RowSource, Table
from hotloops.sgd._extrapolation import combine
from hotloops.sgd._losses import Huber, SoftplusHinge, SquaredHinge
from hotloops.sgd._result import SGDResult
from hotloops.sgd._rows import LeastSquares, Logistic, Rows
from hotloops.sgd._run import run

__all__ = ["LOSSES", "Plan", "Walk", "mean_estimates", "quiet_divergence", "walk_chains"]

# Far beyond any sensible iterate and far from where sums of float64 overflow.
_DIVERGENCE_LIMIT = 1e30

LOSSES: dict[str, Callable[..., Rows]] = {
    "squared_error": LeastSquares,
    "huber": Huber,
    "log_loss": Logistic,
    "squared_hinge": SquaredHinge,
    "softplus_hinge": SoftplusHinge,
}


@dataclass(frozen=True)
class Plan:
    """How rows become steps.

    Attributes
    ----------
    loss : str
        A key of `LOSSES`.
    shape : dict
        The loss's own keyword, if it has one.
    alpha : float
        The kernels' ridge, on every coordinate.
    step_sizes : ndarray, shape (J,), float64
    batch_size : int
    statistics : tuple of str
        Kept by the runs beside the averages.
    backend : str or None
    """

    loss: str
    shape: dict[str, float]
    alpha: float
    step_sizes: Float64
    batch_size: int
    statistics: tuple[str, ...]
    backend: str | None

    def problem(self, features: Float64, targets: Float64, batch_size: int | None = None) -> Rows:
        """Return the losses of a block as a problem, read in order."""
        problem = LOSSES[self.loss](
            features,
            targets,
            l2=self.alpha,
            batch_size=batch_size or self.batch_size,
            sampling="sequential",
            divergence_limit=_DIVERGENCE_LIMIT,
            **self.shape,
        )
        # The curvature of a block says nothing about that of the data, and takes as long as a run.
        problem._bounds = (None, None)
        return problem


@dataclass
class Walk:
    """One sequence of rows and the runs that follow it, one for each output.

    Attributes
    ----------
    results : list of SGDResult or None
        Where each output stands.
    num_steps : int
        Steps made.
    averaged : bool
        Whether the results belong to the averaging.
    """

    results: list[SGDResult | None]
    num_steps: int = 0
    averaged: bool = False

    @property
    def num_averaged(self) -> int:
        first = self.results[0]
        return first.num_steps if self.averaged and first is not None else 0

    @property
    def diverged(self) -> bool:
        return any(result is not None and not result.valid.all() for result in self.results)

    def estimates(self) -> Float64:
        """Return the extrapolated averages, or without averages the iterates, shape (K, dim)."""
        found = []
        for result in self.results:
            if result is None:
                raise AssertionError("a walk is asked after its first step")
            if self.averaged:
                found.append(result.extrapolated[0])
            else:
                found.append(combine(result.last[0].astype(np.float64), result.weights))
        return np.stack(found)

    def long_run_covariance(self, k: int, num_batches: int) -> Float64:
        """Return the batch-means covariance of output k times its steps, shape (dim, dim)."""
        result = self.results[k]
        if result is None:
            raise AssertionError("a walk is asked after its first step")
        long_run: Float64 = result.long_run_covariance("batch_means", num_batches)[0]
        return long_run

    def copy(self) -> Walk:
        """Return a walk that may go on by itself; results never change."""
        return replace(self, results=list(self.results))

    def advance(self, plan: Plan, features: Float64, targets: Float64, *, average: bool) -> None:
        """Make the steps of a block of rows; a last minibatch may be smaller than the others."""
        rows = features.shape[0]
        whole = rows - rows % plan.batch_size
        if whole:
            self._steps(plan, features[:whole], targets[:, :whole], plan.batch_size, average)
        if rows > whole:
            self._steps(plan, features[whole:], targets[:, whole:], rows - whole, average)

    def _steps(
        self, plan: Plan, features: Float64, targets: Float64, batch_size: int, average: bool
    ) -> None:
        # The kernel begins a sequential pass at row (step * batch size) mod rows of the block.
        continued = average and self.averaged
        shift = self.num_steps * batch_size % features.shape[0]
        if shift:
            features = np.roll(features, shift, axis=0)
            targets = np.roll(targets, shift, axis=1)
        steps = features.shape[0] // batch_size
        for k, previous in enumerate(self.results):
            problem = plan.problem(features, targets[k], batch_size)
            going_on: dict[str, Any] = {"step_offset": self.num_steps, "burn_in": 0}
            if continued and previous is not None:
                going_on = {"state": previous.state}
            elif previous is not None:
                going_on["theta0"] = previous.last
            if not continued:
                going_on["statistics"] = plan.statistics if average else ("mean",)
            self.results[k] = run(
                problem,
                plan.step_sizes,
                steps,
                backend=plan.backend,
                num_threads=1,
                **going_on,
            )
        self.num_steps += steps
        self.averaged = average


def _walk(
    plan: Plan, table: Table, source: RowSource, burn_in: int, num_steps: int
) -> tuple[Walk, Indices]:
    walk = Walk([None] * table.targets.shape[0])
    uses = np.zeros(table.num_rows, np.int64)
    size = table.block_rows(plan.batch_size)
    for average, steps in ((False, burn_in), (True, num_steps)):
        left = steps * plan.batch_size
        while left > 0 and not walk.diverged:
            rows = source.take(min(left, size))
            walk.advance(plan, table.read(rows), table.targets[:, rows], average=average)
            left -= rows.size
            if average:
                uses += np.bincount(rows, minlength=uses.size)
    return walk, uses


def walk_chains(
    plan: Plan,
    table: Table,
    source: RowSource,
    *,
    num_chains: int,
    burn_in: int,
    num_steps: int,
    num_threads: int,
) -> tuple[list[Walk], npt.NDArray[np.int64]]:
    """Run independent chains; return them and how often they averaged over each row.

    The rows of a chain depend on its index alone, so the number of threads changes no bit.
    """

    def one(chain: int) -> tuple[Walk, Indices]:
        return _walk(plan, table, source.of_chain(chain), burn_in, num_steps)

    with quiet_divergence():
        if min(num_chains, num_threads) == 1:
            done = [one(chain) for chain in range(num_chains)]
        else:
            with ThreadPoolExecutor(min(num_chains, num_threads)) as pool:
                done = list(pool.map(one, range(num_chains)))
    uses: Indices = np.sum([own for _, own in done], axis=0)
    return [walk for walk, _ in done], uses


class quiet_divergence(warnings.catch_warnings):
    """Leave it to the estimator to speak of divergence."""

    def __enter__(self) -> Any:
        entered = super().__enter__()
        warnings.simplefilter("ignore", DivergenceWarning)
        return entered


def mean_estimates(walks: Sequence[Walk]) -> Float64:
    """Return the mean of the chains' estimates, shape (K, dim)."""
    mean: Float64 = np.mean([walk.estimates() for walk in walks], axis=0)
    return mean
