"""The solver of ``csrc/flow/step_solver.hpp`` in Numba: the same operations in the same order.

The velocity is not called from here. `next_evaluation` takes in the slopes that were computed
last, and says where the next ones are wanted, so that one solver serves functions that Numba
compiles, networks, and callables of Python alike:

    slot = next_evaluation(solver)
    while slot >= 0:
        solver.slopes[slot] = v(solver.argument, solver.times)
        slot = next_evaluation(solver)
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hotloops._runtime._numba_jit import inline, kernel, outline
from hotloops._runtime._numba_math import exp_bounded, log_positive
from hotloops.flow._plan import Plan
from hotloops.flow._tableaus import DENSE, ERROR, TABLEAUS

__all__ = ["FINISHED", "MAX_STEPS", "NON_FINITE", "Solver", "make_solver", "next_evaluation"]

FINISHED = -1
FAILED = -2

NON_FINITE, MAX_STEPS = 1, 2  # why it failed

# Places in `control`.
ROWS, PHASE, STAGE, STEP, STATUS, FAILED_ROW = 0, 1, 2, 3, 4, 5
NUM_CONTROL = 6

# Phases: what the slopes that have just been computed are.
_NOTHING, _START, _TRIAL, _STAGES = 0, 1, 2, 3

_LAST_STAGE = 6  # of the adaptive pair
_SAFETY, _SMALLEST, _LARGEST = 0.9, 0.2, 10.0
_MINUS_FIFTH = -0.2


class Solver(NamedTuple):
    """The state of n rows of width d; one row of an array after the other."""

    z: Any  # (n, d)
    argument: Any  # (n, d) where the velocity is wanted
    times: Any  # (n,) when, in the precision of z
    slopes: Any  # (stages, n, d)
    step: Any  # (n,) signed step in the precision of z
    t: Any  # (n,) float64
    h: Any  # (n,) float64, without sign
    norms: Any  # (n, 2) float64: sums of squares that are being compared
    done: Any  # (n,) bool
    evaluations: Any  # (n,) int64
    accepted: Any  # (n,) int64
    rejected: Any  # (n,) int64
    control: Any  # (6,) int64
    grid: Any  # (steps + 1,) float64: times of fixed steps; adaptive: start and end
    keep: Any  # fixed: (steps + 1,) place in `kept` of each time, or -1; adaptive: (n,) next place
    kept_times: Any  # (m,) float64
    kept: Any  # (m, n, d)
    nodes: Any  # (stages,) float64
    matrix: Any  # (stages, stages) in the precision of z
    weights: Any  # (stages,) the same: b of fixed steps, else error weights
    dense: Any  # (stages,) the same
    adaptive: bool
    shared: bool  # one step size for the whole batch
    rtol: Any  # of the precision of z
    atol: Any
    max_steps: int


def make_solver(plan: Plan, z: npt.NDArray[Any], kept: npt.NDArray[Any]) -> Solver:
    """Allocate a solver that advances `z` (n, d) in place.

    `kept` (m, n, d) receives the states at the plan's ``kept_times``.
    """
    n, d = z.shape
    dtype = z.dtype
    adaptive, grid, kept_times = plan.adaptive, plan.grid, plan.kept_times
    tableau = TABLEAUS[plan.method]
    stages = _LAST_STAGE + 1 if adaptive else len(tableau.nodes)
    matrix = np.zeros((stages, stages), dtype)
    for i, row in enumerate((*tableau.matrix, tableau.weights)[:stages]):
        matrix[i, : len(row)] = row
    keep = np.full(n, 0, np.int64)
    if not adaptive:
        keep = np.full(grid.size, -1, np.int64)
        sign = 1.0 if grid[-1] > grid[0] else -1.0
        places = np.searchsorted(sign * grid, sign * kept_times)
        keep[places] = np.arange(kept_times.size)
    return Solver(
        z,
        np.zeros_like(z),
        np.zeros(n, dtype),
        np.zeros((stages, n, d), dtype),
        np.zeros(n, dtype),
        np.zeros(n),
        np.zeros(n),
        np.zeros((n, 2)),
        np.zeros(n, np.bool_),
        np.zeros(n, np.int64),
        np.zeros(n, np.int64),
        np.zeros(n, np.int64),
        np.array([n, _NOTHING, 0, 0, 0, -1], np.int64),
        grid,
        keep,
        kept_times,
        kept,
        np.array((*tableau.nodes, 1.0)[:stages]),
        matrix,
        np.array(ERROR if adaptive else tableau.weights, dtype),
        np.array(DENSE if adaptive else (), dtype),
        adaptive,
        plan.shared,
        dtype.type(plan.rtol),
        dtype.type(plan.atol),
        plan.max_steps,
    )


# --- what both kinds of steps need ---------------------------------------------------------------


@inline
def _combine(s: Solver, row: int, coefficients: Any, count: int, total: Any) -> None:
    """total = sum of coefficients[j] slopes[j], from the first that isn't zero on."""
    d = total.shape[0]
    first = True
    for j in range(count):
        factor = coefficients[j]
        if factor == 0:
            continue
        slope = s.slopes[j, row]
        if first:
            for i in range(d):
                total[i] = factor * slope[i]
        else:
            for i in range(d):
                total[i] = total[i] + factor * slope[i]
        first = False


@inline
def _advance(s: Solver, row: int, coefficients: Any, count: int, out: Any) -> None:
    """out = z + h sum of coefficients[j] slopes[j]."""
    z, step = s.z[row], s.step[row]
    _combine(s, row, coefficients, count, out)
    for i in range(z.shape[0]):
        out[i] = z[i] + step * out[i]


@inline
def _is_finite(values: Any) -> bool:
    finite = True
    for i in range(values.shape[0]):
        finite &= np.isfinite(values[i])
    return finite


@inline
def _copy(source: Any, target: Any) -> None:
    for i in range(source.shape[0]):
        target[i] = source[i]


@inline
def _fail(s: Solver, status: int, row: int) -> int:
    s.control[STATUS] = status
    s.control[FAILED_ROW] = row
    return FAILED


# --- fixed steps ---------------------------------------------------------------------------------


@inline
def _keep_fixed(s: Solver, step: int) -> None:
    place = s.keep[step]
    if place >= 0:
        for row in range(s.control[ROWS]):
            _copy(s.z[row], s.kept[place, row])


@outline
def _ask_fixed(s: Solver, step: int, stage: int) -> int:
    """Prepare the evaluation of a stage; return it."""
    begin = s.grid[step]
    length = s.grid[step + 1] - begin
    time = begin + s.nodes[stage] * length
    for row in range(s.control[ROWS]):
        s.step[row] = length
        s.times[row] = time
        if stage == 0:
            _copy(s.z[row], s.argument[row])
        else:
            _advance(s, row, s.matrix[stage], stage, s.argument[row])
        s.evaluations[row] += 1
    s.control[STAGE] = stage
    return stage


@inline
def _next_fixed(s: Solver) -> int:
    control = s.control
    step, stage = control[STEP], control[STAGE]
    if control[PHASE] == _NOTHING:
        control[PHASE] = _STAGES
        _keep_fixed(s, 0)
        if s.grid.shape[0] == 1:
            return FINISHED
        return _ask_fixed(s, 0, 0)
    if stage + 1 < s.nodes.shape[0]:
        return _ask_fixed(s, step, stage + 1)
    for row in range(control[ROWS]):
        _advance(s, row, s.weights, s.nodes.shape[0], s.argument[row])
        if not _is_finite(s.argument[row]):
            return _fail(s, NON_FINITE, row)
        _copy(s.argument[row], s.z[row])
        s.accepted[row] += 1
    step += 1
    control[STEP] = step
    _keep_fixed(s, step)
    if step + 1 == s.grid.shape[0]:
        return FINISHED
    return _ask_fixed(s, step, 0)


# --- adaptive steps of Dormand and Prince --------------------------------------------------------


@inline
def _scaled_square(s: Solver, row: int, values: Any, other: Any) -> Any:
    """Return the sum of (values / (atol + rtol max(|z|, |other|)))^2."""
    z = s.z[row]
    total = 0.0
    for i in range(z.shape[0]):
        size = max(abs(z[i]), abs(other[i]))
        ratio = values[i] / (s.atol + s.rtol * size)
        total += np.float64(ratio) * np.float64(ratio)
    return total


@inline
def _power(base: float, exponent: float) -> Any:
    return exp_bounded(exponent * log_positive(base))


@inline
def _sum(s: Solver, column: int) -> Any:
    """Return the sum over the batch, where it is controlled as one."""
    total = 0.0
    if s.shared:
        for row in range(s.control[ROWS]):
            total += s.norms[row, column]
    return total


@inline
def _norm(s: Solver, row: int, column: int, total: float, count: int) -> Any:
    """Return the root mean square of a row, or of the batch."""
    return np.sqrt((total if s.shared else s.norms[row, column]) / count)


@inline
def _fail_norm(s: Solver, row: int, column: int) -> int:
    """Fail with the row whose norm isn't finite; of a batch, it is the first of those."""
    if s.shared:
        for other in range(s.control[ROWS]):
            if not np.isfinite(s.norms[other, column]):
                return _fail(s, NON_FINITE, other)
    return _fail(s, NON_FINITE, row)


@outline
def _first_guess(s: Solver, count: int) -> int:
    """Prepare the trial Euler step of the start; `h` holds its length."""
    rows = s.control[ROWS]
    for row in range(rows):
        s.norms[row, 0] = _scaled_square(s, row, s.z[row], s.z[row])
        s.norms[row, 1] = _scaled_square(s, row, s.slopes[0, row], s.z[row])
    total0, total1 = _sum(s, 0), _sum(s, 1)
    sign = 1.0 if s.grid[1] > s.grid[0] else -1.0
    for row in range(rows):
        d0, d1 = _norm(s, row, 0, total0, count), _norm(s, row, 1, total1, count)
        if not np.isfinite(d1):
            return _fail_norm(s, row, 1)
        s.h[row] = 1e-6 if d0 < 1e-5 or d1 < 1e-5 else 0.01 * d0 / d1
        s.step[row] = sign * s.h[row]
        s.times[row] = s.t[row] + sign * s.h[row]
        z, slope, argument, step = s.z[row], s.slopes[0, row], s.argument[row], s.step[row]
        for i in range(z.shape[0]):
            argument[i] = z[i] + step * slope[i]
        s.evaluations[row] += 1
    s.control[PHASE] = _TRIAL
    return 1


@outline
def _first_step(s: Solver, count: int) -> int:
    """Set the first step sizes from the slopes before and after the trial step."""
    rows = s.control[ROWS]
    for row in range(rows):
        first, second, change = s.slopes[0, row], s.slopes[1, row], s.argument[row]
        for i in range(first.shape[0]):
            change[i] = second[i] - first[i]
        s.norms[row, 0] = _scaled_square(s, row, change, s.z[row])
    total0, total1 = _sum(s, 0), _sum(s, 1)
    for row in range(rows):
        h0, d1 = s.h[row], _norm(s, row, 1, total1, count)
        d2 = _norm(s, row, 0, total0, count) / h0
        if not np.isfinite(d2):
            return _fail_norm(s, row, 0)
        largest = max(d1, d2)
        h1 = max(1e-6, h0 * 1e-3)
        if largest > 1e-15:
            h1 = _power(0.01 / largest, 1.0 / 6.0)
        s.h[row] = min(100.0 * h0, h1)
    return 0


@outline
def _ask_adaptive(s: Solver, stage: int) -> int:
    end = s.grid[1]
    sign = 1.0 if end > s.grid[0] else -1.0
    for row in range(s.control[ROWS]):
        if s.done[row]:
            continue
        if stage == 1:
            s.h[row] = min(s.h[row], abs(end - s.t[row]))
            s.step[row] = sign * s.h[row]
        s.times[row] = s.t[row] + s.nodes[stage] * (sign * s.h[row])
        _advance(s, row, s.matrix[stage], stage, s.argument[row])
        s.evaluations[row] += 1
    s.control[PHASE] = _STAGES
    s.control[STAGE] = stage
    return stage


@inline
def _factor(error: float) -> Any:
    """Return by what the step size changes after a step with this error."""
    if error == 0.0:
        return _LARGEST
    wanted = _SAFETY * _power(error, _MINUS_FIFTH)
    return min(_LARGEST, max(wanted, 1.0 if error < 1.0 else _SMALLEST))


@inline
def _interpolate(s: Solver, row: int, theta: Any, out: Any) -> None:
    """Evaluate the continuous extension of the step at the part `theta` of it."""
    z, new, step = s.z[row], s.argument[row], s.step[row]
    first, last = s.slopes[0, row], s.slopes[_LAST_STAGE, row]
    _combine(s, row, s.dense, _LAST_STAGE + 1, out)
    rest = s.z.dtype.type(1) - theta
    for i in range(z.shape[0]):
        change = new[i] - z[i]
        bend = step * first[i] - change
        turn = (change - step * last[i]) - bend
        out[i] = z[i] + theta * (change + rest * (bend + theta * (turn + rest * (step * out[i]))))


@inline
def _keep_adaptive(s: Solver, row: int, until: float) -> None:
    """Write the states at the times that the step from t to `until` passes."""
    sign = 1.0 if s.grid[1] > s.grid[0] else -1.0
    while s.keep[row] < s.kept_times.shape[0]:
        time = s.kept_times[s.keep[row]]
        if sign * (time - until) > 0.0:
            break
        out = s.kept[s.keep[row], row]
        if time == until:
            _copy(s.argument[row], out)
        else:
            s.times[row] = (time - s.t[row]) / (until - s.t[row])
            _interpolate(s, row, s.times[row], out)
        s.keep[row] += 1


@outline
def _judge(s: Solver, count: int) -> int:
    """Accept or reject the step of every row; return how many rows go on, or a failure."""
    rows, end = s.control[ROWS], s.grid[1]
    sign = 1.0 if end > s.grid[0] else -1.0
    for row in range(rows):
        if s.done[row]:
            continue
        error, step = s.slopes[1, row], s.step[row]  # the second slope has no weight
        _combine(s, row, s.weights, _LAST_STAGE + 1, error)
        for i in range(error.shape[0]):
            error[i] = step * error[i]
        s.norms[row, 0] = _scaled_square(s, row, error, s.argument[row])
    total = _sum(s, 0)
    going_on = 0
    for row in range(rows):
        if s.done[row]:
            continue
        error = _norm(s, row, 0, total, count)
        if not np.isfinite(error):
            return _fail_norm(s, row, 0)
        if error <= 1.0:
            until = s.t[row] + sign * s.h[row]
            if s.h[row] >= abs(end - s.t[row]):
                until = end
                s.done[row] = True
            _keep_adaptive(s, row, until)
            s.t[row] = until
            s.times[row] = until
            _copy(s.argument[row], s.z[row])
            _copy(s.slopes[_LAST_STAGE, row], s.slopes[0, row])
            s.accepted[row] += 1
        else:
            s.rejected[row] += 1
        s.h[row] *= _factor(error)
        if not s.done[row]:
            going_on += 1
            if s.accepted[row] + s.rejected[row] >= s.max_steps:
                return _fail(s, MAX_STEPS, row)
    return going_on


@inline
def _next_adaptive(s: Solver) -> int:
    control = s.control
    phase = control[PHASE]
    count = s.z.shape[1] * (control[ROWS] if s.shared else 1)
    if phase == _NOTHING:
        for row in range(control[ROWS]):
            s.t[row] = s.grid[0]
            s.times[row] = s.grid[0]
            _copy(s.z[row], s.argument[row])
            _keep_adaptive(s, row, s.grid[0])
            s.evaluations[row] += 1
        control[PHASE] = _START
        return 0
    if phase == _START:
        return _first_guess(s, count)
    if phase == _TRIAL:
        if _first_step(s, count) < 0:
            return FAILED
        return _ask_adaptive(s, 1)
    if control[STAGE] < _LAST_STAGE:
        return _ask_adaptive(s, control[STAGE] + 1)
    going_on = _judge(s, count)
    if going_on < 0:
        return FAILED
    if going_on == 0:
        return FINISHED
    return _ask_adaptive(s, 1)


@kernel
def next_evaluation(solver: Solver) -> int:
    """Use the slopes computed last; return the slot of the next ones, wanted at `argument` and
    `times`, or a negative number: it is finished, or has failed."""
    if solver.adaptive:
        return _next_adaptive(solver)
    return _next_fixed(solver)
