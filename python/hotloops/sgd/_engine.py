"""Drives one backend through the segments of a run, in chunks of steps."""

from __future__ import annotations

import importlib
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hotloops._runtime.progress import Progress
from hotloops.sgd._problem import Problem
from hotloops.sgd._rules import NO_RULES, Rules
from hotloops.sgd._state import Advance, ChainArrays
from hotloops.sgd._statistics import StatisticsArrays

__all__ = ["Job", "Segment", "integrate"]

# Between chunks the progress bar moves, the time is looked at and Python handles signals.
_CHUNK_SECONDS = 0.1
_FIRST_CHUNK_UPDATES = 1_000_000


@dataclass(frozen=True)
class Segment:
    """Steps that are made alike, and whether to keep a copy at their end."""

    num_steps: int
    accumulate: bool
    snapshot: bool


@dataclass(frozen=True)
class Job:
    """All that the chains share; it can be sent to another process."""

    problem: Problem
    backend: str
    dtype: np.dtype[Any]
    seed: int
    chain_offset: int
    first_step: int
    num_threads: int
    rules: Rules = NO_RULES

    @property
    def kernel(self) -> str:
        return self.problem.kernel

    def at(self, chain: int) -> Job:
        """Return the job of the chains that begin at `chain`."""
        return replace(self, chain_offset=self.chain_offset + chain)


def integrate(
    job: Job,
    arrays: ChainArrays,
    segments: list[Segment],
    bar: Progress,
    statistics: StatisticsArrays | None = None,
) -> tuple[int, list[tuple[Any, Any]]]:
    """Advance the chains in place; return the steps made and (sums, theta) at each snapshot."""
    advance = _driver(job.backend)
    xp = importlib.import_module("cupy") if job.backend == "cuda" else np
    parameters = job.problem.parameters(job.dtype, xp)
    # The C++ driver sees signals itself: with nobody watching, one call does it all.
    whole = job.backend == "cpp" and not bar.watched
    chunk = _first_chunk(job, arrays)
    done = 0
    snapshots: list[tuple[Any, Any]] = []
    for segment in segments:
        left = segment.num_steps
        while left > 0:
            if bar.out_of_time():
                return done, snapshots
            count = left if whole else min(left, chunk)
            if statistics is not None and segment.accumulate:
                statistics.begin(arrays.theta)
                count = min(count, statistics.room() or count)
            began = time.monotonic()
            advance(
                arrays,
                job.kernel,
                parameters,
                seed=job.seed,
                chain_offset=job.chain_offset,
                first_step=job.first_step + done,
                num_steps=count,
                accumulate=segment.accumulate,
                divergence_limit=job.problem.divergence_limit,
                num_threads=job.num_threads,
                rules=job.rules,
                statistics=statistics,
            )
            if statistics is not None and segment.accumulate:
                statistics.count += count
            chunk = _next_chunk(chunk, count, time.monotonic() - began)
            done += count
            left -= count
            bar.update(count)
        if segment.snapshot:
            snapshots.append((arrays.sums.copy(), arrays.theta.copy()))
    return done, snapshots


def _driver(backend: str) -> Advance:
    module = importlib.import_module(f"hotloops.sgd._{backend}")
    advance: Advance = module.advance
    return advance


def _first_chunk(job: Job, arrays: ChainArrays) -> int:
    updates = int(arrays.theta.size)
    if job.backend == "callable":
        return 1
    return max(1, _FIRST_CHUNK_UPDATES // max(1, updates))


def _next_chunk(chunk: int, count: int, seconds: float) -> int:
    """Steps that should take a tenth of a second, growing at most eightfold."""
    wanted = int(count * _CHUNK_SECONDS / max(seconds, 1e-9))
    return max(1, min(wanted, 8 * chunk))
