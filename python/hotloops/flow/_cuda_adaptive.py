"""Adaptive steps on a device: all rows in lockstep, as arrays; rows that are done stand still.

The same rules as in ``csrc/flow/step_solver.hpp``. Which rows go on is known on the device alone;
the host reads every few steps whether any does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hotloops._runtime.device import LaunchQueue, Place
from hotloops.flow._plan import Counts, Plan
from hotloops.flow._tableaus import DENSE, ERROR, TABLEAUS

if TYPE_CHECKING:
    from hotloops.flow._cuda_integrate import Field

__all__ = ["advance_adaptively"]

_STEPS_BETWEEN_LOOKS = 4
_NON_FINITE, _MAX_STEPS = 1, 2
_SAFETY, _SMALLEST, _LARGEST = 0.9, 0.2, 10.0
_TABLEAU = TABLEAUS["dopri5"]
_NODES = (*_TABLEAU.nodes, 1.0)
_MATRIX = (*_TABLEAU.matrix, _TABLEAU.weights)
_LAST = 6  # stage


def advance_adaptively(
    plan: Plan, field: Field, place: Place, z: Any, kept: Any, counts: Counts
) -> tuple[int, int]:
    """Integrate `z` (n, d) in place; return why and in which row it failed, or 0."""
    solver = _Solver(plan, field, place, z, kept)
    solver.begin()
    queue = LaunchQueue()
    while solver.goes_on():
        for _ in range(_STEPS_BETWEEN_LOOKS):
            solver.step()
            queue.launched()
    for name in ("evaluations", "accepted", "rejected"):
        getattr(counts, name)[...] += getattr(solver, name).get()
    status = solver.status.get()
    if not status.any():
        return 0, -1
    row = int((status != 0).argmax())
    return int(status[row]), row


class _Solver:
    """The state of n rows."""

    def __init__(self, plan: Plan, field: Field, place: Place, z: Any, kept: Any) -> None:
        self._plan, self._field, self._place = plan, field, place
        self._z, self._kept = z, kept
        xp = self._xp = field.xp
        n = z.shape[0]
        self._begin, self._end = float(plan.grid[0]), float(plan.grid[-1])
        self._sign = 1.0 if self._end > self._begin else -1.0
        self._slopes = xp.zeros((_LAST + 1, *z.shape), z.dtype)
        self._scratch, self._total = xp.empty(z.shape, z.dtype), xp.empty(z.shape, z.dtype)
        self._t = xp.full(n, self._begin, "float64")
        self._h = xp.zeros(n, "float64")
        self._done = xp.zeros(n, "bool")
        self.status = xp.zeros(n, "int64")
        self.evaluations, self.accepted, self.rejected = (xp.zeros(n, "int64") for _ in range(3))

    def goes_on(self) -> bool:
        """Whether some row goes on and none has failed; waits for the device."""
        failed = (self.status != 0).any()
        return bool((~self._done).any() & ~failed)

    def begin(self) -> None:
        """Set the first step sizes from a trial step of Euler's method."""
        xp, z = self._xp, self._z
        for number, time in enumerate(self._plan.kept_times.tolist()):
            if time == self._begin:
                self._kept[number] = z
        first, second = self._slopes[0], self._slopes[1]
        self._evaluate(z, self._t, first)
        squares = self._squares(first, z)
        d0, d1 = self._norm(self._squares(z, z)), self._norm(squares)
        self._check(squares, d1, ~self._done)
        small = (d0 < 1e-5) | (d1 < 1e-5)
        h0 = xp.where(small, 1e-6, 0.01 * d0 / xp.maximum(d1, 1e-5))
        argument = z + self._column(self._sign * h0) * first
        self._evaluate(argument, self._t + self._sign * h0, second)
        squares = self._squares(second - first, z)
        d2 = self._norm(squares) / h0
        self._check(squares, d2, ~self._done)
        largest = xp.maximum(d1, d2)
        guess = (0.01 / xp.maximum(largest, 1e-15)) ** (1.0 / 6.0)
        h1 = xp.where(largest > 1e-15, guess, xp.maximum(1e-6, h0 * 1e-3))
        self._h[...] = xp.minimum(100.0 * h0, h1)
        self.evaluations += 2

    def step(self) -> None:
        """Try a step of each row that goes on."""
        xp, z, slopes = self._xp, self._z, self._slopes
        active = ~self._done & (self.status == 0)
        if self._plan.shared:
            active = active & ~(self.status != 0).any()
        rest = abs(self._end - self._t)
        h = xp.where(active, xp.minimum(self._h, rest), 0.0)
        step = self._column(self._sign * h)
        new = z
        for stage in range(1, _LAST + 1):
            new = z + step * self._combine(_MATRIX[stage])
            self._evaluate(new, self._t + _NODES[stage] * (self._sign * h), slopes[stage])
        squares = self._squares(step * self._combine(ERROR), new)
        error = self._norm(squares)
        finite = self._check(squares, error, active)
        accept = active & finite & (error <= 1.0)
        reached = h >= rest
        until = xp.where(reached, self._end, self._t + self._sign * h)
        self._keep(accept, step, new, until)
        z[...] = xp.where(accept[:, None], new, z)
        slopes[0] = xp.where(accept[:, None], slopes[_LAST], slopes[0])
        self._t = xp.where(accept, until, self._t)
        self._done = self._done | (accept & reached)
        self.evaluations += _LAST * active
        self.accepted += accept
        self.rejected += active & ~accept
        self._h = xp.where(active & finite, h * self._factor(error, active & finite), self._h)
        spent = self.accepted + self.rejected >= self._plan.max_steps
        late = active & finite & ~self._done & spent
        self.status = xp.where(late, _MAX_STEPS, self.status)

    def _evaluate(self, points: Any, times: Any, out: Any) -> None:
        self._field.evaluate(self._place, points, self._column(times), out)

    def _column(self, values: Any) -> Any:
        return values.astype(self._z.dtype)[:, None]

    def _combine(self, coefficients: Sequence[float]) -> Any:
        from hotloops.flow._cuda_integrate import combine

        combine(self._xp, coefficients, self._slopes, self._total, self._scratch)
        return self._total

    def _squares(self, values: Any, other: Any) -> Any:
        """Return the sums of (values / (atol + rtol max(|z|, |other|)))^2, shape (n,)."""
        size = self._xp.maximum(abs(self._z), abs(other))
        ratio = (values / (self._plan.atol + self._plan.rtol * size)).astype("float64")
        return (ratio * ratio).sum(axis=1)

    def _norm(self, squares: Any) -> Any:
        """Return the root mean square of each row, or of the batch for each."""
        if self._plan.shared:
            mean = squares.sum() / self._z.size
            return self._xp.sqrt(mean) + self._xp.zeros_like(squares)
        return self._xp.sqrt(squares / self._z.shape[1])

    def _check(self, squares: Any, norm: Any, active: Any) -> Any:
        """Mark the active rows whose norm isn't finite; return which norms are finite."""
        xp = self._xp
        finite = xp.isfinite(norm)
        wrong = ~finite
        if self._plan.shared:  # those to blame, all where only their sum is too large
            own = ~xp.isfinite(squares)
            wrong = wrong & (own | ~own.any())
        self.status = xp.where(active & wrong & (self.status == 0), _NON_FINITE, self.status)
        return finite

    def _factor(self, error: Any, valid: Any) -> Any:
        """Return by what the step sizes change after steps with these errors."""
        xp = self._xp
        positive = valid & (error > 0.0)
        wanted = _SAFETY * xp.where(positive, error, 1.0) ** -0.2
        bounded = xp.maximum(wanted, xp.where(error < 1.0, 1.0, _SMALLEST))
        return xp.where(positive, xp.minimum(_LARGEST, bounded), _LARGEST)

    def _keep(self, accept: Any, step: Any, new: Any, until: Any) -> None:
        """Write the states at the times that accepted steps pass, by the continuous extension."""
        times = self._plan.kept_times.tolist()
        if not times:
            return
        xp, z, sign = self._xp, self._z, self._sign
        change = new - z
        bend = step * self._slopes[0] - change
        turn = (change - step * self._slopes[_LAST]) - bend
        last = step * self._combine(DENSE)
        length = xp.where(accept, until - self._t, 1.0)
        for number, time in enumerate(times):
            passed = accept & (sign * (time - self._t) > 0.0) & (sign * (time - until) <= 0.0)
            theta = self._column(xp.where(passed, (time - self._t) / length, 0.0))
            rest = 1 - theta
            inside = z + theta * (change + rest * (bend + theta * (turn + rest * last)))
            value = xp.where((until == time)[:, None], new, inside)
            self._kept[number] = xp.where(passed[:, None], value, self._kept[number])
