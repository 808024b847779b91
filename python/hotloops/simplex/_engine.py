"""Drives one backend through a run: chunks, averages, traces and exchanges."""

from __future__ import annotations

import importlib
import math
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops import random
from hotloops._runtime.progress import Progress
from hotloops.simplex._objective import Objective
from hotloops.simplex._schedules import Schedule
from hotloops.simplex._state import ChainArrays, StepOptions, Steps

__all__ = ["Job", "integrate"]

_CHUNK_SECONDS = 0.1  # between chunks the bar moves and the time is looked at
_FIRST_CHUNK_UPDATES = 100_000
_SCHEDULED_STEPS = 1 << 14  # factors that are computed at once
_STREAM_EXCHANGE = 6


@dataclass(frozen=True)
class Job:
    """All that a run is made of, besides its state."""

    objective: Objective
    backend: str
    options: StepOptions
    seed: int
    chain_offset: int
    origin: int  # the stream's index of step 0 of the chains
    burn_in: int
    trace_every: int
    swap_every: int  # 0: no exchanges
    ladder: int  # chains of one ladder of temperatures
    schedule: Schedule | None
    cooling: Schedule | None
    num_threads: int
    function: str = "lmwu"  # for messages

    def rows(self, begin: int, end: int) -> Job:
        """Return the job of some of the chains."""
        accelerations = self.options.accelerations
        options = replace(
            self.options,
            step_sizes=self.options.step_sizes[begin:end],
            temperatures=self.options.temperatures[begin:end],
            accelerations=None if accelerations is None else accelerations[begin:end],
        )
        return replace(self, options=options, chain_offset=self.chain_offset + begin)


def integrate(
    job: Job, arrays: ChainArrays, first: int, num_steps: int, bar: Progress
) -> tuple[int, list[npt.NDArray[Any]]]:
    """Advance the chains in place from step `first`; return the steps made and the records."""
    driver = importlib.import_module(f"hotloops.simplex._{job.backend}")
    parameters = job.objective.parameters(arrays.x.dtype)
    whole = job.backend == "cpp" and not bar.watched
    chunk = max(1, _FIRST_CHUNK_UPDATES // max(1, int(arrays.x.size)))
    records: list[npt.NDArray[Any]] = []
    step, end = first, first + num_steps
    while step < end and not bar.out_of_time():
        count = min(_stop(job, step, end) - step, end - step if whole else chunk)
        began = time.monotonic()
        driver.advance(
            arrays,
            job.objective.kernel,
            parameters,
            job.options,
            Steps(
                seed=job.seed,
                chain_offset=job.chain_offset,
                first_step=job.origin + step,
                num_steps=count,
                accumulate=step >= job.burn_in,
                num_threads=job.num_threads,
                **_factors(job, step, count, arrays.x.dtype),
            ),
        )
        seconds = max(time.monotonic() - began, 1e-9)
        chunk = max(1, min(int(count * _CHUNK_SECONDS / seconds), 8 * chunk))
        step += count
        if job.swap_every and step % job.swap_every == 0:
            _exchange(job, arrays, step)
        if job.trace_every and step % job.trace_every == 0:
            records.append(arrays.x.copy())
        bar.update(count)
    return step - first, records


def _stop(job: Job, step: int, end: int) -> int:
    """Return the next step at which something else has to be done."""
    stop = end
    for period in (job.trace_every, job.swap_every):
        if period:
            stop = min(stop, (step // period + 1) * period)
    if step < job.burn_in:
        stop = min(stop, job.burn_in)
    if job.schedule is not None or job.cooling is not None:
        stop = min(stop, step + _SCHEDULED_STEPS)
    return stop


def _factors(job: Job, step: int, count: int, dtype: np.dtype[Any]) -> dict[str, Any]:
    steps = None if job.schedule is None else job.schedule.factors(step, count).astype(dtype)
    cooling = None
    if job.cooling is not None:
        cooling = (1.0 / job.cooling.factors(step, count)).astype(dtype)
    return {"step_factors": steps, "temperature_factors": cooling}


def _exchange(job: Job, arrays: ChainArrays, step: int) -> None:
    """Let neighbours on the ladder swap their points, even and odd pairs in turn.

    With probability min(1, exp((beta_i - beta_j) (f_i - f_j))), which keeps the product of their
    laws.
    """
    lower = np.arange(arrays.x.shape[0] - 1)
    parity = (step // job.swap_every) % 2
    lower = lower[(lower % job.ladder % 2 == parity) & (lower % job.ladder != job.ladder - 1)]
    lower = lower[(arrays.flags[lower] == 0) & (arrays.flags[lower + 1] == 0)]
    if lower.size == 0:
        return
    uniforms = random.uniforms(
        job.seed, [job.origin + step], (lower + job.chain_offset).tolist(), 1, _STREAM_EXCHANGE
    ).reshape(-1)
    factor = 1.0 if job.cooling is None else job.cooling.factor(step)
    with np.errstate(divide="ignore", invalid="ignore"):
        beta = factor / job.options.temperatures.astype(np.float64)
        value = arrays.value.astype(np.float64)
        gain = (beta[lower] - beta[lower + 1]) * (value[lower] - value[lower + 1])
    accepted = np.array(
        [g >= 0.0 or u < math.exp(g) for g, u in zip(gain.tolist(), uniforms.tolist(), strict=True)]
    )
    arrays.tried[lower] += 1
    arrays.swapped[lower] += accepted
    left = lower[accepted]
    for array in (arrays.x, arrays.value):
        array[left], array[left + 1] = array[left + 1].copy(), array[left].copy()
