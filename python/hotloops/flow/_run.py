"""Runs an integration on one backend, in parts where somebody watches."""

from __future__ import annotations

import importlib
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops._runtime.errors import NumericalError
from hotloops._runtime.progress import Progress
from hotloops.flow import _cpp_integrate
from hotloops.flow._branches import Branches
from hotloops.flow._evaluate import make_evaluator
from hotloops.flow._plan import Counts, Plan
from hotloops.flow._velocities import Velocity

__all__ = ["Job", "run", "units"]

_PART_SECONDS = 0.1
_TILE = 64  # rows


@dataclass(frozen=True)
class Job:
    """All that an integration is made of, besides its rows."""

    function: str
    velocity: Velocity
    plan: Plan
    branches: Branches
    inputs: list[npt.NDArray[Any]]
    data: Any
    backend: str  # "cpp", "cuda", "numba", or "python" for calls of whole batches
    num_threads: int

    def rows(self, begin: int, end: int) -> Job:
        """Return the job of some of the rows."""
        return replace(
            self,
            branches=self.branches.rows(begin, end),
            inputs=[np.ascontiguousarray(value[begin:end]) for value in self.inputs],
        )


def run(job: Job, z: npt.NDArray[Any], kept: npt.NDArray[Any], bar: Progress) -> tuple[Counts, Any]:
    """Integrate `z` (n, d) in place; return the counts and the times (n,) that were reached."""
    n = z.shape[0]
    counts = Counts.zeros(n)
    end = np.full(n, job.plan.grid[-1])
    if not bar.watched or n == 0:
        _integrate(job, z, kept, counts)
        bar.update(bar.total)
        return counts, end
    if not job.plan.adaptive:
        end[...] = job.plan.grid[_by_steps(job, z, kept, counts, bar)]
    elif job.plan.shared or job.backend in ("cuda", "python"):
        _integrate(job, z, kept, counts)
        bar.update(n)
    else:
        end[_by_rows(job, z, kept, counts, bar) :] = job.plan.grid[0]
    return counts, end


def units(job: Job, n: int) -> tuple[int, str]:
    """Return how many units of progress there are, and their name."""
    return (n, "row") if job.plan.adaptive else (job.plan.num_steps, "step")


def _parts(total: int, first: int, multiple: int, bar: Progress) -> Any:
    """Yield (begin, end) of parts that take about 0.1 s each, until the time is over."""
    begin, size = 0, first
    while begin < total and not bar.out_of_time():
        end = min(total, begin + size)
        started = time.monotonic()
        yield begin, end
        seconds = max(time.monotonic() - started, 1e-9)
        wanted = int((end - begin) * _PART_SECONDS / seconds) // multiple * multiple
        size = max(multiple, min(wanted, 8 * size))
        bar.update(end - begin)
        begin = end


def _by_steps(job: Job, z: Any, kept: Any, counts: Counts, bar: Progress) -> int:
    """Make fixed steps, some at a time; return how many were made."""
    done = 0
    for begin, end in _parts(job.plan.num_steps, 1, 1, bar):
        plan, places = job.plan.segment(begin, end)
        part = Counts.zeros(z.shape[0])
        _integrate(replace(job, plan=plan), z, kept[places], part)
        counts.add(part)
        done = end
    return done


def _by_rows(job: Job, z: Any, kept: Any, counts: Counts, bar: Progress) -> int:
    """Integrate some rows at a time; return how many were integrated."""
    done = 0
    for begin, end in _parts(z.shape[0], _TILE * job.num_threads, _TILE, bar):
        target = np.ascontiguousarray(kept[:, begin:end])
        _integrate(job.rows(begin, end), z[begin:end], target, counts.rows(begin, end), begin)
        kept[:, begin:end] = target
        done = end
    return done


def _integrate(job: Job, z: Any, kept: Any, counts: Counts, first_row: int = 0) -> None:
    reason, row = _DRIVERS[job.backend](job, z, kept, counts)
    if reason:
        _raise(job, reason, first_row + row)


def _raise(job: Job, reason: int, row: int) -> None:
    if reason == 2:
        raise NumericalError(
            f"{job.function}: row {row} needs more than {job.plan.max_steps} steps; the velocity "
            "is stiff or not smooth there, or the tolerances are too small for its precision",
            row=row,
        )
    raise NumericalError(f"{job.function}: row {row} left the finite numbers", row=row)


def _python(job: Job, z: Any, kept: Any, counts: Counts) -> tuple[int, int]:
    twin = importlib.import_module("hotloops.flow._numba_integrate")
    evaluate = make_evaluator(
        job.function,
        job.velocity,
        job.branches,
        job.inputs,
        job.data,
        z.shape,
        z.dtype,
        "numba",
        job.num_threads,
    )
    return twin.integrate_batch(job.plan, evaluate, z, kept, counts)  # type: ignore[no-any-return]


def _numba(job: Job, z: Any, kept: Any, counts: Counts) -> tuple[int, int]:
    twin = importlib.import_module("hotloops.flow._numba_integrate")
    return twin.integrate_compiled(  # type: ignore[no-any-return]
        job.function,
        job.plan,
        job.velocity.function,
        job.velocity.writes,
        job.data,
        z,
        kept,
        job.branches.labels,
        job.branches.weights,
        counts,
        job.num_threads,
    )


def _cpp(job: Job, z: Any, kept: Any, counts: Counts) -> tuple[int, int]:
    return _cpp_integrate.integrate(
        job.plan,
        job.velocity,
        job.branches,
        job.inputs,
        job.data,
        z,
        kept,
        counts,
        job.num_threads,
    )


def _cuda(job: Job, z: Any, kept: Any, counts: Counts) -> tuple[int, int]:
    driver = importlib.import_module("hotloops.flow._cuda_integrate")
    return driver.integrate(  # type: ignore[no-any-return]
        job.plan, job.velocity, job.branches, job.inputs, z, kept, counts
    )


_DRIVERS = {"cpp": _cpp, "cuda": _cuda, "numba": _numba, "python": _python}
