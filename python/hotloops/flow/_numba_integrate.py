"""The twin of ``csrc/flow/cpu_integrate.cpp``: whole integrations, by Numba or by calls of Python.

An ``@njit`` velocity is compiled into the loop over tiles of rows. Anything else is called from
Python, once for each evaluation of all rows and branches.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba.core import errors

from hotloops._runtime._numba_jit import kernel, map_slices, plain
from hotloops.flow._evaluate import Evaluator
from hotloops.flow._numba_solver import (
    FAILED_ROW,
    PHASE,
    ROWS,
    STAGE,
    STATUS,
    STEP,
    Solver,
    make_solver,
    next_evaluation,
)
from hotloops.flow._plan import Counts, Plan

__all__ = ["integrate_batch", "integrate_compiled"]

_TILE = 64  # rows


def integrate_batch(
    plan: Plan,
    evaluate: Evaluator,
    z: npt.NDArray[Any],
    kept: npt.NDArray[Any],
    counts: Counts,
) -> tuple[int, int]:
    """Integrate all rows in lockstep, in place; return why and in which row it failed, or 0."""
    if z.shape[0] == 0:
        return 0, -1
    solver = make_solver(plan, z, kept)
    slot = next_evaluation(solver)
    while slot >= 0:
        evaluate(solver.argument, solver.times, solver.slopes[slot])
        slot = next_evaluation(solver)
    for name in ("evaluations", "accepted", "rejected"):
        getattr(counts, name)[...] = getattr(solver, name)
    return int(solver.control[STATUS]), int(solver.control[FAILED_ROW])


# --- velocities that Numba compiles --------------------------------------------------------------


class Rows(NamedTuple):
    """All rows of a call."""

    z: Any  # (n, d)
    kept: Any  # (m, n, d)
    labels: Any  # (branches, n, attributes) int64
    weights: Any  # (branches - 1, n) in the precision of z
    evaluations: Any  # (n,)
    accepted: Any  # (n,)
    rejected: Any  # (n,)


@kernel
def _begin_rows(rows: Rows, solver: Solver, first: int, live: int) -> None:
    control = solver.control
    control[ROWS], control[PHASE], control[STAGE], control[STEP] = live, 0, 0, 0
    for row in range(live):
        for i in range(solver.z.shape[1]):
            solver.z[row, i] = rows.z[first + row, i]
        solver.done[row] = False
        if solver.adaptive:
            solver.keep[row] = 0
        solver.evaluations[row] = 0
        solver.accepted[row] = 0
        solver.rejected[row] = 0


@kernel
def _end_rows(rows: Rows, solver: Solver, first: int, live: int) -> None:
    for row in range(live):
        for i in range(solver.z.shape[1]):
            rows.z[first + row, i] = solver.z[row, i]
        for k in range(solver.kept.shape[0]):
            for i in range(solver.z.shape[1]):
                rows.kept[k, first + row, i] = solver.kept[k, row, i]
        rows.evaluations[first + row] = solver.evaluations[row]
        rows.accepted[first + row] = solver.accepted[row]
        rows.rejected[first + row] = solver.rejected[row]


@kernel
def _add_branch(
    rows: Rows, solver: Solver, part: Any, branch: int, slot: int, first: int, live: int
) -> None:
    """slope += weight (part - v_0); v_0 lies in part[0], the branch in part[1]."""
    for row in range(live):
        weight = rows.weights[branch - 1, first + row]
        for i in range(solver.z.shape[1]):
            start = part[0, row, i]
            if branch == 1:
                solver.slopes[slot, row, i] = start
            solver.slopes[slot, row, i] += weight * (part[1, row, i] - start)


@plain
def _run(
    call: Callable[..., Any],
    data: Any,
    rows: Rows,
    solver: Solver,
    part: Any,
    first_tile: int,
    last_tile: int,
) -> tuple[int, int]:
    """Integrate some tiles; return why and in which row it failed."""
    size = solver.z.shape[0]
    branches = rows.labels.shape[0]
    for tile in range(first_tile, last_tile):
        first = tile * size
        live = min(size, rows.z.shape[0] - first)
        last = first + live
        _begin_rows(rows, solver, first, live)
        slot = next_evaluation(solver)
        while slot >= 0:
            z, t = solver.argument[:live], solver.times[:live]
            if branches == 1:
                call(z, t, rows.labels[0, first:last], data, solver.slopes[slot, :live])
            else:
                call(z, t, rows.labels[0, first:last], data, part[0, :live])
                for branch in range(1, branches):
                    call(z, t, rows.labels[branch, first:last], data, part[1, :live])
                    _add_branch(rows, solver, part, branch, slot, first, live)
            slot = next_evaluation(solver)
        if solver.control[STATUS] != 0:
            return solver.control[STATUS], first + solver.control[FAILED_ROW]
        _end_rows(rows, solver, first, live)
    return 0, -1


class _FailedError(Exception):
    """Carries (why, row) out of the threads."""


def integrate_compiled(
    function: str,
    plan: Plan,
    velocity: Any,
    writes: bool,
    data: Any,
    z: npt.NDArray[Any],
    kept: npt.NDArray[Any],
    labels: npt.NDArray[np.int32],
    weights: npt.NDArray[np.float64],
    counts: Counts,
    num_threads: int,
) -> tuple[int, int]:
    """Integrate with an ``@njit`` velocity, in place; the return value is as above."""
    n, d = z.shape
    if n == 0:
        return 0, -1
    rows = Rows(
        z,
        kept,
        np.ascontiguousarray(labels.transpose(0, 2, 1), dtype=np.int64),
        _row_weights(weights, n, z.dtype),
        counts.evaluations,
        counts.accepted,
        counts.rejected,
    )
    size = n if plan.shared else min(n, _TILE)
    call = _call_of(velocity, writes)

    def allocate() -> tuple[Solver, npt.NDArray[Any]]:
        tile, tile_kept = np.zeros((size, d), z.dtype), np.zeros((len(kept), size, d), z.dtype)
        return make_solver(plan, tile, tile_kept), np.zeros((2, size, d), z.dtype)

    def work(memory: tuple[Solver, npt.NDArray[Any]], first: int, last: int, *_: int) -> None:
        status, row = _run(call, data, rows, *memory, first, last)
        if status != 0:
            raise _FailedError(status, row)

    try:
        map_slices(allocate, work, -(-n // size), 1, num_threads)
    except _FailedError as failure:
        status, row = failure.args
        return status, row
    except errors.TypingError as error:
        raise TypeError(f"{function}: `velocity` cannot be compiled: {error}") from error
    return 0, -1


def _row_weights(weights: npt.NDArray[np.float64], n: int, dtype: Any) -> npt.NDArray[Any]:
    columns = weights.reshape(weights.shape[0], -1 if weights.size else 1)
    return np.array(np.broadcast_to(columns, (weights.shape[0], n)), dtype)


# What makes a function that returns into one that writes; a new one each time would compile anew.
_writers: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()


def _call_of(velocity: Any, writes: bool) -> Any:
    """Return a compiled function that writes the velocity to its last argument."""
    if writes:
        return velocity
    known = _writers.get(velocity)
    if known is not None:
        return known

    @plain
    def call(z: Any, t: Any, labels: Any, data: Any, out: Any) -> None:
        out[:, :] = velocity(z, t)

    _writers[velocity] = call
    return call
