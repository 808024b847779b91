"""Rounds that move only what mini-batches of sparse rows reach.

Without preconditioner (``rho = 0``) and penalties the dual of a client is minus its last gradient,
so that lists of entries can take the place of arrays over all parameters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hotloops.admm._data import ClientData
from hotloops.admm._state import AdmmState
from hotloops.admm._work import Batch, ListEngine, RoundState, Work, in_order

if TYPE_CHECKING:
    from hotloops.admm._engine import Job

__all__ = ["DualList", "Optimistic", "is_optimistic"]

# Sorting an entry takes as long as passing over so many parameters of a client: 28 to 60 with 128
# rows of 50 entries and 10^6 columns.
_ENTRY = 32


def is_optimistic(job: Job, start: AdmmState) -> bool:
    """Whether rounds are those of `optimistic_step` in csrc/admm/step_local.hpp."""
    data = job.data
    return (
        job.batch.sampling != 0
        and job.scheme == 0
        and job.hessians is None
        and not start.rho.any()
        and start.local is None  # what earlier rounds remember has to be kept up
        and job.penalty.l2 == 0.0
        and job.penalty.regularizer is None
        and job.participants >= data.num_clients
        and job.relaxation == 1.0
        and data.layers.size == 2
        and int(data.layers[1]) == 1
        and all(one.dense is None for one in data.matrices)
        and _ENTRY * job.batch.size * _mean_row(data) <= data.dim
    )


def _mean_row(data: ClientData) -> float:
    """Entries of a row on average."""
    entries = sum(one.entries(None) for one in data.matrices)
    return entries / sum(one.num_rows for one in data.matrices)


@dataclass
class DualList:
    """Duals that are not zero, in order of parameters and, for each, of clients."""

    parameters: npt.NDArray[np.int64]
    clients: npt.NDArray[np.int32]
    values: npt.NDArray[Any]
    count: int = 0

    @classmethod
    def with_room(cls, size: int, dtype: Any) -> DualList:
        return cls(np.empty(size, np.int64), np.empty(size, np.int32), np.empty(size, dtype))

    @classmethod
    def of(cls, dual: npt.NDArray[Any], size: int) -> DualList:
        """List the entries of duals, shape (clients, d), with room for at least `size`."""
        none = np.empty(0, np.int64)
        parameters, clients = np.nonzero(dual.T) if dual.any() else (none, none)
        found = cls.with_room(max(size, parameters.size), dual.dtype)
        found.count = parameters.size
        found.parameters[: found.count], found.clients[: found.count] = parameters, clients
        found.values[: found.count] = dual[clients, parameters]
        return found

    def write(self, dual: npt.NDArray[Any]) -> None:
        """Write the duals, zeros elsewhere."""
        dual[...] = 0
        n = self.count
        dual[self.clients[:n], self.parameters[:n]] = self.values[:n]


class Optimistic:
    """The slopes and the duals of the rounds of one call."""

    def __init__(self, driver: ListEngine, data: ClientData, work: Work, start: AdmmState) -> None:
        counts = work.tasks[:, 2] - work.tasks[:, 1]
        offsets = [one.indptr for one in data.matrices if one.indptr is not None]
        longest = max(int(np.diff(indptr).max(initial=0)) for indptr in offsets)
        room = min(int(counts.sum()) * (longest + data.intercept), start.dual.size)
        self.driver = driver
        self.slopes = np.zeros((counts.size, int(counts.max())), data.dtype)
        self.before = DualList.of(start.dual, room)
        self.now = DualList.with_room(self.before.values.size, data.dtype)
        self.norm = _squares(start.w)

    def advance(
        self, work: Work, batch: Batch, state: RoundState, *, whole: bool
    ) -> npt.NDArray[np.float64]:
        """Make one round and return its sums; with `whole`, those of points over all parameters."""
        self.driver.gradient(work, batch, state.w, partials=self.slopes, slopes=True)
        self.driver.optimistic_round(work, batch, state, self)
        self.before, self.now = self.now, self.before
        sums: npt.NDArray[np.float64] = state.sums.sum(axis=0)
        if whole:
            sums[5] += in_order(state.alpha) * self.norm
            sums[2] = self.norm = _squares(state.w)
        return sums


def _squares(w: npt.NDArray[Any]) -> float:
    wide = w.astype(np.float64)
    return float((wide * wide).sum())
