"""The taut string in Numba; the twin of ``csrc/prox/step_variation.hpp``, which explains it."""

from __future__ import annotations

from typing import Any

import numpy as np

from hotloops._runtime._numba_jit import inline, kernel

__all__ = ["variation"]


@inline
def _height(sums: Any, k: float, point: int, side: float) -> float:
    return sums[point] + side * k if point < sums.size - 1 else sums[point]  # type: ignore[no-any-return]


@inline
def _steeper(
    sums: Any, k: float, a: int, a_side: float, b: int, b_side: float, c: int, c_side: float,
    d: int, d_side: float,
) -> bool:  # fmt: skip
    """Whether the slope from a to b exceeds that from c to d."""
    rise_1 = _height(sums, k, b, b_side) - _height(sums, k, a, a_side)
    rise_2 = _height(sums, k, d, d_side) - _height(sums, k, c, c_side)
    return rise_1 * float(d - c) > rise_2 * float(b - a)


@inline
def _settle(
    y: Any, x: Any, k: float, centre: float, apex: int, apex_side: float, point: int, side: float
) -> float:
    """Write the certain part of the path; return the side of the new apex."""
    end_side = side if point < y.size else 0.0
    total = 0.0
    for j in range(apex, point):
        total += np.float64(y[j]) - centre
    slope = centre + (total + k * (end_side - apex_side)) / float(point - apex)
    for j in range(apex, point):
        x[j] = slope
    return end_side


@inline
def _bends(
    sums: Any, k: float, points: Any, first: int, last: int, side: float, apex: int,
    apex_side: float, point: int,
) -> bool:  # fmt: skip
    end = points[last - 1]
    alone = last - first == 1
    before = apex if alone else points[last - 2]
    before_side = apex_side if alone else side
    if side > 0.0:
        return not _steeper(sums, k, end, side, point, side, before, before_side, end, side)
    return not _steeper(sums, k, before, before_side, end, side, end, side, point, side)


@inline
def _crosses(
    sums: Any, k: float, side: float, front: int, apex: int, apex_side: float, point: int
) -> bool:
    if side > 0.0:
        return _steeper(sums, k, apex, apex_side, front, -side, apex, apex_side, point, side)
    return _steeper(sums, k, apex, apex_side, point, side, apex, apex_side, front, -side)


@inline
def _string(y: Any, x: Any, k: float, centre: float, sums: Any, upper: Any, lower: Any) -> None:
    apex, apex_side = 0, 0.0
    upper_first = upper_last = lower_first = lower_last = 0
    for point in range(1, y.size + 1):
        while upper_first < upper_last and _bends(
            sums, k, upper, upper_first, upper_last, 1.0, apex, apex_side, point
        ):
            upper_last -= 1
        if upper_first == upper_last:
            while lower_first < lower_last and _crosses(
                sums, k, 1.0, lower[lower_first], apex, apex_side, point
            ):
                apex_side = _settle(y, x, k, centre, apex, apex_side, lower[lower_first], -1.0)
                apex = lower[lower_first]
                lower_first += 1
        upper[upper_last] = point
        upper_last += 1
        while lower_first < lower_last and _bends(
            sums, k, lower, lower_first, lower_last, -1.0, apex, apex_side, point
        ):
            lower_last -= 1
        if lower_first == lower_last:
            while upper_first < upper_last and _crosses(
                sums, k, -1.0, upper[upper_first], apex, apex_side, point
            ):
                apex_side = _settle(y, x, k, centre, apex, apex_side, upper[upper_first], 1.0)
                apex = upper[upper_first]
                upper_first += 1
        lower[lower_last] = point
        lower_last += 1
    if apex < y.size:
        _settle(y, x, k, centre, apex, apex_side, y.size, 0.0)


@kernel
def variation(
    v: Any, out: Any, numbers: Any, sums: Any, upper: Any, lower: Any, begin: int, end: int
) -> None:
    """Rows [begin, end); `sums`, `upper` and `lower` are memory for one row, (n + 1,) each."""
    count = v.shape[1]
    for row in range(begin, end):
        y = v[row]
        total = 0.0
        for j in range(count):
            total += np.float64(y[j])
        mean = total / count
        sums[0] = 0.0
        for j in range(count):
            sums[j + 1] = sums[j] + (np.float64(y[j]) - mean)
        k = numbers[row if numbers.size > 1 else 0]
        _string(y, out[row], k, mean, sums, upper, lower)
