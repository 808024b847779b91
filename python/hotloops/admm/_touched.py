"""Rounds that move only what mini-batches of sparse rows reach.

Without preconditioner (``rho = 0``) and penalties the dual of a client is minus its last gradient,
so that a parameter which neither this round's batches nor the last ones reach stays as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hotloops.admm._state import AdmmState
from hotloops.admm._work import Batch, Engine, RoundState, Work, in_order

if TYPE_CHECKING:
    from hotloops.admm._engine import Job

__all__ = ["Touched", "is_optimistic"]


def is_optimistic(job: Job, start: AdmmState) -> bool:
    """Whether rounds are those of `optimistic_dual` in csrc/admm/step_local.hpp."""
    data = job.data
    return (
        job.batch.sampling != 0
        and job.scheme == 0
        and job.hessians is None
        and not start.rho.any()
        and job.penalty.l2 == 0.0
        and job.penalty.regularizer is None
        and job.participants >= data.num_clients
        and job.relaxation == 1.0
        and data.layers.size == 2
        and int(data.layers[1]) == 1
        and all(one.dense is None for one in data.matrices)
    )


class Touched:
    """Which parameters the rounds of one call reach.

    Attributes
    ----------
    seen : ndarray of int64, shape (d,)
        The last round that reached a parameter, by its stamp.
    stamp : int
        That of this round; the one before has ``stamp - 1``.
    before : ndarray of int64, shape (d,)
        What the last round's batches reached: its first `num_before` entries.
    now : ndarray of int64, shape (d,)
        What this round's batches reach.
    all : ndarray of int64, shape (2 d,)
        Both.
    """

    def __init__(self, dual: npt.NDArray[Any]) -> None:
        dim = dual.shape[1]
        reached = np.flatnonzero(dual.any(axis=0))
        self.seen = np.full(dim, -1, np.int64)
        self.seen[reached] = 0
        self.stamp = 0
        self.before, self.now = np.empty(dim, np.int64), np.empty(dim, np.int64)
        self.before[: reached.size] = reached
        self.num_before = reached.size
        self.all = np.empty(2 * dim, np.int64)

    def advance(
        self, driver: Engine, work: Work, batch: Batch, state: RoundState, *, whole: bool
    ) -> npt.NDArray[np.float64]:
        """Make one round and return its sums; with `whole`, those of |w|^2 over all parameters."""
        self.stamp += 1
        num_now, num_all = driver.touched(work, batch, self)
        parameters = self.all[:num_all]
        parameters.sort()
        driver.gradient(work, batch, state.w, partials=work.partials, cleared=True)
        driver.round_touched(work, state, parameters)
        self.before, self.now, self.num_before = self.now, self.before, num_now
        sums: npt.NDArray[np.float64] = state.sums.sum(axis=0)
        if whole:
            w = state.w.astype(np.float64)
            rest = float((w * w).sum()) - sums[2]
            sums[2] += rest
            sums[5] += in_order(state.alpha) * rest
        return sums
