"""The training loop of flow matching: stretches of steps, each one call of a backend."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops._runtime import dispatch
from hotloops._runtime.progress import Progress
from hotloops.flow._matching_batch import (
    MatchingData,
    MatchingRule,
    draw_batch,
    epoch_order,
    pair_rows,
)
from hotloops.flow._network import VelocityNetwork
from hotloops.nn import AdamW
from hotloops.nn._jobs import Loss
from hotloops.nn._tables import Batch
from hotloops.nn._train import TrainState, train

__all__ = ["MatchingJob", "Trained", "run_steps"]

_LARGEST_STRETCH = 512  # steps
_FIRST_STRETCH = 8  # when somebody watches
_STRETCH_SECONDS = 0.2


@dataclass(frozen=True, eq=False)
class MatchingJob:
    """What a run is made of."""

    where: str
    network: VelocityNetwork
    rule: MatchingRule
    data: MatchingData
    batch_size: int
    optimizer: AdamW
    ema: float | None
    backend: str
    num_threads: int

    @property
    def steps_per_epoch(self) -> int:
        """Number of whole batches."""
        return int(self.data.z.shape[0]) // self.batch_size


@dataclass(frozen=True, eq=False)
class Trained:
    """What a run leaves beside the network."""

    state: TrainState
    losses: npt.NDArray[np.float64]
    complete: bool


def run_steps(job: MatchingJob, num_steps: int, state: TrainState | None, bar: Progress) -> Trained:
    """Make steps, going on from `state`; the network is as before after a failure."""
    network = job.network
    before = network.flat_parameters.copy(), network.flat_buffers.copy()
    losses: list[npt.NDArray[np.float64]] = []
    stretch = _FIRST_STRETCH if bar.watched else _LARGEST_STRETCH
    orders = _Orders(job)
    done = 0
    try:
        while done < num_steps and not bar.out_of_time():
            count = min(stretch, num_steps - done)
            began = time.monotonic()
            result = _make_steps(job, orders, count, state)
            seconds = max(time.monotonic() - began, 1e-9)
            if bar.watched:
                wanted = int(count * _STRETCH_SECONDS / seconds)
                stretch = max(1, min(wanted, 8 * stretch, _LARGEST_STRETCH))
            state = result.state
            losses.append(result.losses[:, 0])
            done += count
            bar.update(count)
    except BaseException:
        network.flat_parameters[:], network.flat_buffers[:] = before
        raise
    if state is None:  # no time for a single step
        state = _make_steps(job, orders, 0, None).state
    if state.average.size and state.num_steps:
        network.flat_parameters[:] = state.average
    return Trained(state, np.concatenate(losses or [np.zeros(0)]), done == num_steps)


def _make_steps(job: MatchingJob, orders: _Orders, count: int, state: TrainState | None) -> Any:
    first = 0 if state is None else state.num_steps
    program, size = job.network.program, job.batch_size
    rows = orders.rows(first, count)
    xp = job.data.xp
    labels = [xp.full(size, -1, np.int32) for _ in program.index_tables]
    place = [] if xp is np else [xp.empty((size, 1), job.network.dtype)]  # says where to train
    loss = Loss("mean_squared_error", program.outputs[0], program.num_inputs)

    prepare: Any = _native(job, rows, first) if job.backend == "cpp" else _twin(job, rows, first)
    return train(
        job.network,
        [loss],
        Batch(place, [], labels, size),
        batch_size=size,
        num_steps=count,
        optimizer=job.optimizer,
        ema=job.ema,
        seed=job.rule.seed,
        state=state,
        prepare=prepare,
        backend=job.backend,
        num_threads=job.num_threads,
        where=job.where,
    )


def _twin(job: MatchingJob, rows: npt.NDArray[np.int64], first: int) -> Callable[..., None]:
    def prepare(step: int, dense: list[Any], indices: list[Any]) -> None:
        draw_batch(job.rule, job.data, rows[step - first], step, dense, indices, job.backend)

    return prepare


def _native(job: MatchingJob, rows: npt.NDArray[np.int64], first: int) -> Any:
    rule, data = job.rule, job.data
    make = getattr(dispatch.core(), f"FlowMatching{job.network.dtype.name.capitalize()}")
    return make(
        data.z,
        data.sizes,
        data.labels,
        rows,
        first,
        rule.sigma,
        rule.p_cond,
        rule.optimal,
        rule.per_batch,
        rule.together,
        rule.antithetic,
        rule.seed,
    )


class _Orders:
    """Which rows make the batch of each step."""

    def __init__(self, job: MatchingJob) -> None:
        self._job = job
        self._data = job.data.on_host() if job.rule.optimal else job.data
        self._backend = "cpp" if job.backend == "cuda" else job.backend  # the same bits
        self._epoch = -1
        self._order = np.zeros(0, np.int64)

    def rows(self, first: int, count: int) -> npt.NDArray[np.int64]:
        """Return the rows (count, batch) of steps from `first` on."""
        job, size = self._job, self._job.batch_size
        rows = np.empty((count, size), np.int64)
        for k in range(count):
            epoch, place = divmod(first + k, job.steps_per_epoch)
            if epoch != self._epoch:
                n = job.data.z.shape[0]
                self._order = epoch_order(job.rule.seed, epoch, n, self._backend)
                self._epoch = epoch
            rows[k] = self._order[place * size : (place + 1) * size]
            if job.rule.optimal:
                rows[k] = pair_rows(job.rule, self._data, rows[k], first + k, self._backend)
        return rows
