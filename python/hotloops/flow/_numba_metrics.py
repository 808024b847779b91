"""The Numba backend of distances and kernel sums; the twin of ``csrc/flow/cpu_metrics.cpp``."""

from __future__ import annotations

from typing import Any, NamedTuple

from hotloops._runtime._numba_buffers import buffers, load, store, zeros
from hotloops._runtime._numba_jit import aligned, inline, kernel, map_slices
from hotloops._runtime._numba_math import exp_bounded, magnitude
from hotloops._runtime._numba_packs import any_lane, constant, traced, where

__all__ = ["distances", "kernel_sum"]

_ROWS = 64
_GROUP = 16
_AT_ONCE = 4


class Pairs(NamedTuple):
    """Points of x (count, dim), and of y as the columns of (dim, stride)."""

    x: Any
    y: Any
    x_count: int
    y_count: int
    dim: int
    stride: int


class Strands(NamedTuple):
    """Sums over the points of y that have the same place in their groups."""

    sums: Any


@traced
def _squared(sums: Any, x: Any, y: Any) -> Any:
    difference = x - y
    return sums + difference * difference


@traced
def _absolute(sums: Any, x: Any, y: Any) -> Any:
    return sums + magnitude(x - y)


@traced
def _some_term(scale: Any, squared: Any) -> Any:
    return any_lane(scale * squared >= -700.0)


@traced
def _add_term(total: Any, scale: Any, squared: Any) -> Any:
    exponent = scale * squared
    inside = exponent >= -700.0
    nothing = constant(0.0, exponent)
    return total + where(inside, exp_bounded(where(inside, exponent, nothing)), nothing)


@traced
def _add_weighted(total: Any, weight: Any, value: Any) -> Any:
    return total + weight * value


@inline
def _squared_distances(pairs: Pairs, row: int, pack: int) -> Any:
    sums = zeros(pairs.y)
    for k in range(pairs.dim):
        sums = _squared(
            sums, pairs.x[row * pairs.dim + k], load(pairs.y, k * pairs.stride // 8 + pack)
        )
    return sums


@inline
def _absolute_distances(pairs: Pairs, row: int, pack: int) -> Any:
    sums = zeros(pairs.y)
    for k in range(pairs.dim):
        sums = _absolute(
            sums, pairs.x[row * pairs.dim + k], load(pairs.y, k * pairs.stride // 8 + pack)
        )
    return sums


@kernel
def _kernel_task(
    pairs_arrays: Pairs, strands_arrays: Strands, scales: Any, symmetric: bool, task: int
) -> float:
    pairs, strands = buffers(pairs_arrays), buffers(strands_arrays).sums
    for q in range(2):
        store(strands, q, zeros(strands))
    end = min((task + 1) * _ROWS, pairs.x_count)
    groups = (pairs.y_count + _GROUP - 1) // _GROUP
    for row in range(task * _ROWS, end, _AT_ONCE):
        own = row // _GROUP if symmetric else 0
        for group in range(own, groups):
            weight = 2.0 if symmetric and group > own else 1.0
            for r in range(row, min(row + _AT_ONCE, end)):
                for q in range(2):
                    squared = _squared_distances(pairs, r, 2 * group + q)
                    value = zeros(strands)
                    for s in range(scales.size):
                        if _some_term(scales[s], squared):
                            value = _add_term(value, scales[s], squared)
                    store(strands, q, _add_weighted(load(strands, q), weight, value))
    total = 0.0
    for i in range(_GROUP):
        total += strands[i]
    return total


@kernel
def _distance_rows(
    pairs_arrays: Pairs, strands_arrays: Strands, out: Any, absolute: bool, begin: int, end: int
) -> None:
    pairs, strands = buffers(pairs_arrays), buffers(strands_arrays).sums
    for row in range(begin, end):
        for pack in range((pairs.y_count + 7) // 8):
            if absolute:
                store(strands, 0, _absolute_distances(pairs, row, pack))
            else:
                store(strands, 0, _squared_distances(pairs, row, pack))
            for lane in range(min(8, pairs.y_count - 8 * pack)):
                out[row, 8 * pack + lane] = strands[lane]


def _pairs(x: Any, y: Any, y_count: int) -> Pairs:
    return Pairs(x.reshape(-1), y.reshape(-1), len(x), y_count, x.shape[1], y.shape[1])


def _strands() -> Strands:
    return Strands(aligned(_GROUP, "float64"))


def kernel_sum(
    partial: Any, x: Any, y: Any, y_count: int, scales: Any, symmetric: bool, num_threads: int
) -> None:
    """Fill `partial` with the sums of the kernel over 64 rows of `x` and all points of `y`."""
    pairs = _pairs(x, y, y_count)

    def call(strands: Strands, begin: int, end: int, *steps: int) -> None:
        for task in range(begin, end):
            partial[task] = _kernel_task(pairs, strands, scales, symmetric, task)

    map_slices(_strands, call, partial.size, 1, num_threads)


def distances(out: Any, x: Any, y: Any, distance: int, num_threads: int) -> None:
    """Fill `out` (rows of x, points of y) with squared (0) or absolute (1) distances."""
    pairs = _pairs(x, y, out.shape[1])

    def call(strands: Strands, begin: int, end: int, *steps: int) -> None:
        _distance_rows(pairs, strands, out, distance == 1, begin, end)

    map_slices(_strands, call, len(x), 1, num_threads)
