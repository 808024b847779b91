"""When an integration evaluates: method, times and tolerances, checked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops._runtime import arrays, validate
from hotloops.flow._tableaus import METHODS

__all__ = ["Counts", "Plan", "make_plan"]

_TOLERANCE = 1e-5
_SAME_TIME = 1e-13  # of the whole length: times as close as this are one


@dataclass(frozen=True)
class Plan:
    """How to integrate.

    Attributes
    ----------
    method : str
    grid : ndarray of float64
        Fixed steps: their times; adaptive ones: start and end.
    kept_times : ndarray of float64
        At which states are kept; fixed steps have them on the grid.
    adaptive, shared : bool
        Whether steps adapt, and whether all rows share them.
    rtol, atol : float
    max_steps : int
    """

    method: str
    grid: npt.NDArray[np.float64]
    kept_times: npt.NDArray[np.float64]
    adaptive: bool = False
    shared: bool = False
    rtol: float = _TOLERANCE
    atol: float = _TOLERANCE
    max_steps: int = 10000

    @property
    def num_steps(self) -> int:
        """Number of fixed steps."""
        return int(self.grid.size) - 1

    def segment(self, first: int, last: int) -> tuple[Plan, slice]:
        """Return the plan of some fixed steps, and which of the kept times are theirs.

        A time at the start belongs to the segment before, except to the first one.
        """
        grid = self.grid[first : last + 1]
        sign = 1.0 if self.grid[-1] > self.grid[0] else -1.0
        ordered = sign * self.kept_times
        begin = int((ordered <= sign * grid[0]).sum()) if first else 0
        end = int((ordered <= sign * grid[-1]).sum())
        return replace(self, grid=grid, kept_times=self.kept_times[begin:end]), slice(begin, end)


@dataclass(frozen=True)
class Counts:
    """What each row took."""

    evaluations: npt.NDArray[np.int64]
    accepted: npt.NDArray[np.int64]
    rejected: npt.NDArray[np.int64]

    @classmethod
    def zeros(cls, n: int) -> Counts:
        """Return counts of n rows."""
        return cls(*(np.zeros(n, np.int64) for _ in range(3)))

    def rows(self, begin: int, end: int) -> Counts:
        """Return views of the counts of some rows."""
        values = (self.evaluations, self.accepted, self.rejected)
        return Counts(*(value[begin:end] for value in values))

    def add(self, other: Counts) -> None:
        """Add other counts of the same rows."""
        self.evaluations[...] += other.evaluations
        self.accepted[...] += other.accepted
        self.rejected[...] += other.rejected


def make_plan(
    function: str,
    *,
    method: Any,
    steps: Any,
    rtol: Any,
    atol: Any,
    t0: Any,
    t1: Any,
    t_eval: Any,
    step_control: Any,
    max_steps: Any,
) -> Plan:
    """Check the settings of a solver and make its plan."""
    validate.choice(function, "method", method, METHODS)
    begin = validate.real(function, "t0", t0)
    end = validate.real(function, "t1", t1)
    if begin == end:
        validate.fail(ValueError, function, "t1", "differ from `t0`", repr(end))
    limit = validate.integer(function, "max_steps", max_steps, low=1)
    kept = _check_times(function, t_eval, begin, end)
    if steps is not None:
        count = validate.integer(function, "steps", steps, low=1, high=2**31)
        for name, value in (("rtol", rtol), ("atol", atol), ("step_control", step_control)):
            if value is not None:
                expectation = "be None with `steps`, which are of fixed size"
                validate.fail(ValueError, function, name, expectation, validate.describe(value))
        grid, kept = _merge(begin + (end - begin) * (np.arange(count + 1) / count), kept)
        return Plan(method, grid, kept)
    if method != "dopri5":
        expectation = f"be given, as the steps of {method!r} don't adapt"
        validate.fail(ValueError, function, "steps", expectation, "None")
    relative = _TOLERANCE if rtol is None else validate.real(function, "rtol", rtol, low=0.0)
    absolute = _TOLERANCE if atol is None else validate.real(function, "atol", atol, low=0.0)
    if absolute == 0.0:
        expectation = "be above zero, or coordinates near zero would stop the integration"
        validate.fail(ValueError, function, "atol", expectation, "0.0")
    control = "row" if step_control is None else step_control
    validate.choice(function, "step_control", control, ("row", "batch"))
    return Plan(
        method,
        np.array([begin, end]),
        kept,
        adaptive=True,
        shared=control == "batch",
        rtol=relative,
        atol=absolute,
        max_steps=limit,
    )


def _check_times(function: str, t_eval: Any, begin: float, end: float) -> npt.NDArray[np.float64]:
    if t_eval is None:
        return np.zeros(0)
    native, library = arrays.import_array(function, "t_eval", t_eval)
    host = native if library.device == "cpu" else native.get()
    times: npt.NDArray[np.float64] = validate.array(
        function, "t_eval", host, ndim=1, dtype=np.float64, copy=True
    )
    sign = 1.0 if end > begin else -1.0
    if np.any(sign * np.diff(times) <= 0.0):
        expectation = "be in the order of the integration, without repetitions"
        validate.fail(ValueError, function, "t_eval", expectation, validate.describe(times))
    if sign * (times[0] - begin) < 0.0 or sign * (end - times[-1]) < 0.0:
        got = f"{times[0]} to {times[-1]}"
        validate.fail(ValueError, function, "t_eval", f"lie between {begin} and {end}", got)
    return times


def _merge(
    grid: npt.NDArray[np.float64], times: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the grid with the times that aren't on it, and the times as points of it."""
    if times.size == 0:
        return grid, times
    sign = 1.0 if grid[-1] > grid[0] else -1.0
    right = np.minimum(np.searchsorted(sign * grid, sign * times), grid.size - 1)
    left = np.maximum(right - 1, 0)
    nearest = np.where(
        np.abs(grid[right] - times) <= np.abs(grid[left] - times), grid[right], grid[left]
    )
    close = np.abs(nearest - times) <= _SAME_TIME * abs(grid[-1] - grid[0])
    kept = np.where(close, nearest, times)
    return sign * np.unique(sign * np.concatenate([grid, kept])), kept
