"""What the drivers sum beside the iterates; the estimates made of it are in `_intervals`."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops._runtime import validate

__all__ = [
    "CHAIN_ARRAYS",
    "MAX_BATCHES",
    "StatisticsArrays",
    "check_statistics",
    "pack_statistics",
    "stride_of",
    "unpack_statistics",
]

MAX_BATCHES = 128  # of a path whose stride was not chosen by the user


def stride_of(num_averaged: int) -> int:
    """Return the smallest power of two that makes at most `MAX_BATCHES` batches."""
    return 1 << max(0, (num_averaged - 1) // MAX_BATCHES).bit_length()


@dataclass
class StatisticsArrays:
    """C-contiguous float64 arrays of NumPy or CuPy that a driver advances in place.

    P = J + 1 paths when J > 1 (the J copies, then the extrapolated one), else 1. Arrays that are
    None were not asked for. With S the sum of the averaged iterates minus s times `shift` after s
    averaged steps, y the iterate minus `shift`, and the extrapolated path the combination of the
    others by `weights`:

    Attributes
    ----------
    count : int
        Averaged steps that are in. Drivers read it; the engine counts.
    weights : array, shape (J,) or (C, J)
        Richardson-Romberg weights.
    shift : array, shape (C, J, d)
        The iterates before the first averaged step.
    stride : int
        Averaged steps between two entries of `path`.
    path : array, shape (C, slots, J, d)
        ``path[:, b]`` holds the sums of the iterates after ``(b + 1) stride`` averaged steps.
    squares : array, shape (C, P, d)
        Sum of ``S_p^2`` over the averaged steps.
    products : array, shape (C, J, d)
        Sum of ``s S_j``.
    second : array, shape (C, P, d) or (C, P, d (d + 1) / 2)
        Sum of ``y_p^2``, or of ``y_p y_p^T`` as the rows of its lower triangle.
    plug_hessian, plug_outer : array, shape (C, d (d + 1) / 2)
        Sums of the Hessians of the rows and of the outer products of the gradients, at the running
        extrapolated mean.
    doubling : bool
        Whether the stride follows the number of averaged steps, as `stride_of` says. A path that is
        full before the end is known is thinned to every second entry.
    """

    count: int
    weights: Any
    shift: Any
    stride: int = 0
    path: Any = None
    squares: Any = None
    products: Any = None
    second: Any = None
    plug_hessian: Any = None
    plug_outer: Any = None
    doubling: bool = False

    def copy(self) -> StatisticsArrays:
        """Return arrays of the same values in memory of their own."""
        return self._map(lambda array: array.copy())

    def rows(self, begin: int, end: int) -> StatisticsArrays:
        """Return views of the chains from `begin` to `end`."""
        return self._map(lambda array: array[begin:end])

    def replace(self, parts: list[StatisticsArrays]) -> None:
        """Take over the values of consecutive parts."""
        begin = 0
        for part in parts:
            end = begin + part.shift.shape[0]
            for name in CHAIN_ARRAYS:
                if getattr(self, name) is not None:
                    getattr(self, name)[begin:end] = getattr(part, name)
            begin = end
        self.count, self.stride = parts[0].count, parts[0].stride

    def begin(self, theta: Any) -> None:
        """Take the iterates before the first averaged step as the origin of all sums."""
        if self.count == 0:
            self.shift[...] = theta

    def room(self) -> int | None:
        """Return how many steps may be averaged before the path is full, None for any number."""
        slots = 0 if self.path is None else int(self.path.shape[1])
        if not self.doubling or slots < MAX_BATCHES:
            return None
        if self.count == slots * self.stride:
            self.thin(2 * self.stride)
        return slots * self.stride - self.count

    def thin(self, stride: int) -> None:
        """Keep the entries of the path that a larger stride, a multiple of this one, would have."""
        times = stride // self.stride
        kept = self.path[:, times - 1 : self.num_batches : times].copy()
        self.path[:, : kept.shape[1]] = kept
        self.stride = stride

    def resize_path(self, slots: int, xp: Any) -> None:
        """Give the path as many slots; what is beyond the averaged steps is zero."""
        if self.path is None or self.path.shape[1] == slots:
            return
        num_chains, _, copies, dim = self.path.shape
        filled = min(slots, self.num_batches)
        path = xp.zeros((num_chains, slots, copies, dim), self.path.dtype)
        path[:, :filled] = self.path[:, :filled]
        self.path = path

    @property
    def num_batches(self) -> int:
        """Batches that are complete."""
        return 0 if self.path is None else self.count // self.stride

    def _map(self, change: Any) -> StatisticsArrays:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        for name in CHAIN_ARRAYS:
            if values[name] is not None:
                values[name] = change(values[name])
        if values["weights"].ndim == 2:
            values["weights"] = change(values["weights"])
        return StatisticsArrays(**values)


CHAIN_ARRAYS = (
    "shift",
    "path",
    "squares",
    "products",
    "second",
    "plug_hessian",
    "plug_outer",
)


def check_statistics(
    function: str, statistics: StatisticsArrays | None, shape: tuple[int, ...], num_averaged: int
) -> None:
    """Check what may have come from a file: lengths, types and the count."""
    if statistics is None:
        return
    num_chains, copies, dim = shape
    paths = copies + 1 if copies > 1 else 1
    triangle = dim * (dim + 1) // 2
    path = tuple(getattr(statistics.path, "shape", ()))
    second = tuple(getattr(statistics.second, "shape", ()))
    lengths: dict[str, tuple[int, ...]] = {
        "weights": shape[:2] if getattr(statistics.weights, "ndim", 1) == 2 else shape[1:2],
        "shift": shape,
        "path": (num_chains, *path[1:2], copies, dim),
        "squares": (num_chains, paths, dim),
        "products": shape,
        "second": (num_chains, paths, triangle if second[2:] == (triangle,) else dim),
        "plug_hessian": (num_chains, triangle),
        "plug_outer": (num_chains, triangle),
    }
    for name, expected in lengths.items():
        value = getattr(statistics, name)
        if value is None and name not in ("weights", "shift"):
            continue
        argument = f"state.statistics.{name}"
        if not hasattr(value, "dtype"):
            got = validate.describe(value)
            validate.fail(TypeError, function, argument, "be an array", got)
        validate.array(
            function,
            argument,
            value,
            shape=expected,
            dtype=np.float64,
            exact_dtype=True,
            empty=True,
        )
    validate.integer(function, "state.statistics.stride", statistics.stride, low=0)
    if statistics.path is not None:
        validate.integer(function, "state.statistics.stride", statistics.stride, low=1)
        least = num_averaged // statistics.stride
        if path[1] < least:
            expectation = f"have room for {least} batches"
            validate.fail(ValueError, function, "state.statistics.path", expectation, str(path))
    if statistics.count != num_averaged:
        expectation = f"be {num_averaged} as `state.num_averaged`"
        got = str(statistics.count)
        validate.fail(ValueError, function, "state.statistics.count", expectation, got)


def pack_statistics(
    statistics: StatisticsArrays | None,
) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """Return what a file keeps of the statistics: a part of its header, and arrays."""
    if statistics is None:
        return {}, {}
    kept = {name: getattr(statistics, name) for name in ("count", "stride", "doubling")}
    values = {name: getattr(statistics, name) for name in ("weights", *CHAIN_ARRAYS)}
    stored = {
        f"statistics_{name}": value.get() if hasattr(value, "get") else value
        for name, value in values.items()
        if value is not None
    }
    return {"running": kept}, stored


def unpack_statistics(
    header: dict[str, Any], stored: dict[str, npt.NDArray[Any]]
) -> StatisticsArrays | None:
    """Return the statistics of a file; files of version 1 have none."""
    kept = header.get("running")
    if kept is None:
        return None
    return StatisticsArrays(
        count=int(kept["count"]),
        stride=int(kept["stride"]),
        doubling=bool(kept["doubling"]),
        **{name: stored.get(f"statistics_{name}") for name in ("weights", *CHAIN_ARRAYS)},
    )
