"""Newton steps within simplices, bounds and caps: a sequence of convex quadratic programs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from hotloops.simplex._polytope import Polytope, cuts_of

__all__ = ["TOLERANCE", "Evaluate", "Iterate", "centred", "newton"]

Float64 = npt.NDArray[np.float64]
Evaluate = Callable[[Float64], tuple[float, Float64]]

TOLERANCE = 1e-13  # of the residual, relative to the gradient: what float64 can tell
_MAX_STEPS = 60
_ARMIJO = 1e-4
_FLAT = 1e-14  # relative change of a value that is rounding
_SLACKER = 0.9
_LEAST_SHARE = 0.01
_SINGULAR = 1e-10  # of the largest curvature: what counts as none


@dataclass(frozen=True)
class Iterate:
    """A point with what is known there."""

    x: Float64
    value: float
    gradient: Float64

    @property
    def scale(self) -> float:
        """What residuals are compared with."""
        return 1.0 + float(np.abs(self.gradient).max())


def newton(
    evaluate: Evaluate,
    hessian: Callable[[Float64], Float64 | None],
    start: Iterate,
    polytope: Polytope,
    *,
    interior: bool = False,
) -> tuple[Iterate, Float64, int]:
    """Go down from a feasible point; return the last one, the prices of the caps, and the steps.

    Each step minimises a convex quadratic model over the polytope, so that it may change the face
    as often as it has to, and goes towards that minimum as far as the objective falls. With
    `interior` no weight shrinks to less than a hundredth at once: entropy has no slope at zero.
    """
    here = start
    prices = polytope.prices(here.x, here.gradient)
    for made in range(_MAX_STEPS):
        matrix = hessian(here.x)
        if matrix is None:
            return here, prices, made
        allowed = polytope
        if interior:
            allowed = replace(polytope, lower=np.maximum(polytope.lower, _LEAST_SHARE * here.x))
        model = _Model(_convexified(matrix, polytope), here, allowed)
        target = model.minimise()
        prices = model.prices
        if polytope.gap(here.x, here.gradient, prices) <= TOLERANCE * here.scale:
            return here, prices, made
        sharper = model.sharpened(matrix, here)
        moved = None if sharper is None else _search(evaluate, here, sharper, allowed)
        moved = moved or _search(evaluate, here, target, allowed, far=True)
        if moved is None:
            return here, prices, made
        here = moved
    return here, prices, _MAX_STEPS


def _convexified(matrix: Float64, polytope: Polytope) -> Float64:
    """Replace curvatures along the simplices that are not positive by their magnitudes."""
    tangent = (matrix + matrix.T) / 2.0
    for cut in cuts_of(polytope.sizes):
        tangent[cut] -= tangent[cut].mean(axis=0)
    for cut in cuts_of(polytope.sizes):
        tangent[:, cut] -= tangent[:, cut].mean(axis=1, keepdims=True)
    values, vectors = np.linalg.eigh((tangent + tangent.T) / 2.0)
    size = np.abs(values)
    size = np.maximum(size, _SINGULAR * max(float(size.max()), 1e-300))
    return np.asarray((vectors * size) @ vectors.T)


class _Model:
    """A strictly convex quadratic program, by a primal active set that begins where the point is.

    It can stop at any time: each point on its way is feasible and no worse than the one before.
    """

    def __init__(self, matrix: Float64, here: Iterate, polytope: Polytope) -> None:
        self.matrix = matrix
        self.polytope = polytope
        self.x = here.x.copy()
        self.gradient = centred(here, cuts_of(polytope.sizes))
        self.tolerance = TOLERANCE * here.scale
        self.low = self.x <= polytope.lower
        self.high = ~self.low & (self.x >= polytope.upper)
        self.tight = polytope.rows @ self.x >= polytope.caps - 1e-14
        self.sums = polytope.sums()
        self.prices = np.zeros(polytope.caps.size)

    def minimise(self) -> Float64:
        for _ in range(50 + 5 * self.x.size):
            direction, prices = self._on_the_face()
            if self._advance(direction):
                continue
            self.prices = np.zeros(self.tight.size)
            self.prices[self.tight] = np.maximum(prices[len(self.sums) :], 0.0)
            if not self._release(prices):
                break
        return np.asarray(self.x)

    def sharpened(self, matrix: Float64, here: Iterate) -> Float64 | None:
        """Return the minimum on the same face by the matrix as it was, if that goes down.

        Curvatures that `_convexified` turned may have been those of a saddle that the face does not
        see; with them Newton's method would not be quadratic.
        """
        p = self.polytope
        fixed = self.low | self.high
        free = ~fixed
        rows = np.concatenate([self.sums, p.rows[self.tight]])
        bounds = np.concatenate([np.ones(len(self.sums)), p.caps[self.tight]])
        direction = np.where(fixed, self.x - here.x, 0.0)
        width = int(free.sum())
        system = np.zeros((width + len(rows),) * 2)
        system[:width, :width] = matrix[np.ix_(free, free)]
        system[:width, width:] = rows[:, free].T
        system[width:, :width] = rows[:, free]
        slope = here.gradient + matrix @ direction
        right = np.concatenate([-slope[free], bounds - rows @ (here.x + direction)])
        direction[free] = _solve(system, right)[:width]
        target = here.x + direction
        target[fixed] = self.x[fixed]
        inside = ((target >= p.lower) & (target <= p.upper)).all()
        inside = inside and (p.rows @ target <= p.caps + 1e-14).all()
        curved = width < 2 or float(direction @ matrix @ direction) > 0.0
        return target if inside and curved else None

    def _on_the_face(self) -> tuple[Float64, Float64]:
        """Return the way to the minimum among the free weights, and the multipliers there."""
        free = np.flatnonzero(~(self.low | self.high))
        rows = np.concatenate([self.sums, self.polytope.rows[self.tight]])
        width = free.size
        system = np.zeros((width + len(rows),) * 2)
        system[:width, :width] = self.matrix[np.ix_(free, free)]
        system[:width, width:] = rows[:, free].T
        system[width:, :width] = rows[:, free]
        right = np.concatenate([-self.gradient[free], np.zeros(len(rows))])
        solution = _solve(system, right)
        direction = np.zeros_like(self.x)
        direction[free] = solution[:width]
        return direction, solution[width:]

    def _advance(self, direction: Float64) -> bool:
        """Go to the minimum on the face; True if a constraint stopped it on the way."""
        p = self.polytope
        down, up = direction < 0.0, direction > 0.0
        reach = np.full(self.x.size, np.inf)
        reach[down] = (p.lower - self.x)[down] / direction[down]
        reach[up] = (p.upper - self.x)[up] / direction[up]
        pull = p.rows @ direction
        room = np.where(pull > 1e-15, p.caps - p.rows @ self.x, np.inf)
        room = np.where(self.tight, np.inf, np.maximum(room, 0.0) / np.maximum(pull, 1e-300))
        nearest = float(min(reach.min(), room.min(initial=np.inf)))
        length = min(1.0, max(nearest, 0.0))
        self.gradient += length * (self.matrix @ direction)
        self.x = np.clip(self.x + length * direction, p.lower, p.upper)
        if nearest >= 1.0:
            return False
        if room.min(initial=np.inf) <= nearest:
            self.tight[int(room.argmin())] = True
            return True
        s = int(reach.argmin())
        self.x[s] = p.lower[s] if down[s] else p.upper[s]
        (self.low if down[s] else self.high)[s] = True
        return True

    def _release(self, multipliers: Float64) -> bool:
        """Let go of the constraint that holds back most; False if none does."""
        count = len(self.sums)
        rows = np.concatenate([self.sums, self.polytope.rows[self.tight]])
        slope = self.gradient + multipliers @ rows
        gain = np.where(self.low, -slope, 0.0) + np.where(self.high, slope, 0.0)
        best = int(gain.argmax())
        caps = -multipliers[count:]
        if caps.size and caps.max() > max(float(gain[best]), self.tolerance):
            self.tight[np.flatnonzero(self.tight)[int(caps.argmax())]] = False
            return True
        if gain[best] <= self.tolerance:
            return False
        self.low[best] = self.high[best] = False
        return True


def _solve(system: Float64, right: Float64) -> Float64:
    """Solve a system that is singular where active constraints depend on one another."""
    try:
        solution = np.linalg.solve(system, right)
    except np.linalg.LinAlgError:
        solution = np.full(right.size, np.nan)
    size = 1.0 + float(np.abs(right).max())
    if np.isfinite(solution).all() and np.abs(system @ solution - right).max() <= 1e-9 * size:
        return np.asarray(solution)
    return np.asarray(np.linalg.lstsq(system, right, rcond=None)[0])


def _search(
    evaluate: Evaluate, here: Iterate, target: Float64, polytope: Polytope, *, far: bool = False
) -> Iterate | None:
    """Go all the way, or back until the objective falls enough; or with `far` further, as long as
    it falls as steeply as at first, which is how to leave a saddle."""
    cuts = cuts_of(polytope.sizes)
    direction = target - here.x
    descent = float(centred(here, cuts) @ direction)
    if not descent < 0.0:
        return None
    step = 1.0
    for _ in range(40):
        trial = target if step == 1.0 else here.x + step * direction
        there = Iterate(trial, *evaluate(trial))
        slope = float(centred(there, cuts) @ direction)
        if abs(there.value - here.value) <= _FLAT * (1.0 + abs(here.value)):
            # In the last digits the objective is noise, but its slope still falls.
            if abs(slope) < _SLACKER * abs(descent):
                return there
        elif there.value <= here.value + _ARMIJO * step * descent:
            if not far or step < 1.0 or slope > 0.5 * descent:
                return there
            return _further(evaluate, here, there, direction, polytope)
        step *= 0.5
    return None


def centred(there: Iterate, cuts: list[slice]) -> Float64:
    """Return the gradient without what all entries of a simplex share: along it nothing moves, but
    sums that are 1 up to rounding would count."""
    slope: Float64 = there.gradient.copy()
    for cut in cuts:
        slope[cut] -= there.x[cut] @ there.gradient[cut]
    return slope


def _further(
    evaluate: Evaluate, here: Iterate, there: Iterate, direction: Float64, polytope: Polytope
) -> Iterate:
    """Double the step while that goes on to pay."""
    room = _reach(here.x, direction, polytope)
    step = 1.0
    while step < room:
        step = min(2.0 * step, room)
        x = np.clip(here.x + step * direction, polytope.lower, polytope.upper)
        trial = Iterate(x, *evaluate(x))
        if not trial.value < there.value:
            break
        there = trial
    return there


def _reach(x: Float64, direction: Float64, polytope: Polytope) -> float:
    """Return how many times a direction can be gone before the polytope ends."""
    speeds = np.concatenate([direction, -direction, polytope.rows @ direction])
    rooms = np.concatenate(
        [polytope.upper - x, x - polytope.lower, polytope.caps - polytope.rows @ x]
    )
    moving = speeds > 1e-15
    return float((np.maximum(rooms[moving], 0.0) / speeds[moving]).min(initial=np.inf))
