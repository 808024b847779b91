"""The Numba backend of the proximal operators; the twin of ``csrc/prox``."""

from __future__ import annotations

from typing import Any

import numpy as np

from hotloops._runtime._numba_jit import inline, kernel, map_slices
from hotloops._runtime._numba_math import log_positive, sigmoid
from hotloops._runtime._numba_packs import is_single, traced, where
from hotloops.prox import _numba_variation
from hotloops.prox import _operations as op

__all__ = ["elements", "groups", "rows", "top", "variation"]

_STRANDS = 32
_CHUNK = 1 << 15

_SOFT, _ELASTIC, _SCALE, _CLIP, _FIRM = op.SOFT, op.ELASTIC, op.SCALE, op.CLIP, op.FIRM
_HUBER, _HINGE, _LOGISTIC = op.HUBER, op.HINGE, op.LOGISTIC
_SIMPLEX, _L1_BALL, _L_INF, _L2_BALL = op.SIMPLEX, op.L1_BALL, op.L_INF, op.L2_BALL


# --- single elements -----------------------------------------------------------------------------


@traced
def _absolute(v: Any) -> Any:
    return where(v < 0.0, -v, v)


@traced
def _clip(v: Any, low: Any, high: Any) -> Any:
    below = where(v > high, high, v)
    return where(below < low, low, below)


@traced
def _soft(v: Any, k: Any) -> Any:
    return v - _clip(v, -k, k)


@traced
def _firm(v: Any, k: Any, first: Any, second: Any, p: Any, q: Any, r: Any) -> Any:
    a = _absolute(v)
    middle = (a * p - q) / r
    outer = where(a > second, v, where(v < 0.0, -middle, middle))
    return where(a <= first, _soft(v, k), outer)


@traced
def _huber(v: Any, k: Any, scale: Any, end: Any) -> Any:
    return where(_absolute(v) > end, _soft(v, k), v / scale)


@traced
def _hinge(v: Any, k: Any) -> Any:
    moved = v + k
    kink = where(moved > 1.0, 1.0, moved)
    return where(v >= 1.0, v, kink)


@traced
def _logistic_start(v: Any, t: Any) -> Any:
    return v + t * sigmoid(-v) / (1.0 + 0.25 * t)


@traced
def _logistic_step(x: Any, v: Any, t: Any, low: Any, high: Any, last: Any) -> tuple[Any, ...]:
    """Return the next x, how far it moves, whether that counts, and the new bracket."""
    tolerance = 4.8e-7 if is_single(x) else 9e-16
    p = sigmoid(-x)
    residual = (x - v) - t * p
    low = where(residual < 0.0, x, low)
    high = where(residual > 0.0, x, high)
    slope = 1.0 + t * (p * (1.0 - p))
    newton = x - residual / slope
    middle = low + 0.5 * (high - low)
    quick = where(_absolute(newton - x) > 0.5 * last, middle, newton)
    inside = where(quick > high, middle, quick)
    following = where(inside < low, middle, inside)
    move = _absolute(following - x)
    bound = tolerance * (_absolute(x) + _absolute(v) / slope)
    return following, move, move > bound, low, high


@inline
def _logistic(v: Any, t: Any) -> Any:
    low, high, last = v, v + t, t
    x = _logistic_start(v, t)
    for _ in range(100):
        following, move, moves, low, high = _logistic_step(x, v, t, low, high, last)
        if not moves:
            break
        x, last = following, move
    return x


@traced
def _log_sum_from(v: Any, root: Any, k: Any, epsilon: Any, inside: Any) -> Any:
    a = _absolute(v)
    larger = 0.5 * (a - epsilon) + 0.5 * root
    stationary = where(inside < 0.0, 0.0, larger)
    candidate = where(stationary > 0.0, stationary, stationary * 0.0)
    gain = candidate * (a - 0.5 * candidate)
    cost = k * log_positive(1.0 + candidate / epsilon)
    kept = where(gain > cost, candidate, candidate * 0.0)
    return where(v < 0.0, -kept, kept) + 0.0


@inline
def _log_sum(v: Any, k: Any, epsilon: Any, twice: Any) -> Any:
    total = _absolute(v) + epsilon
    inside = total - twice
    root = np.sqrt(max(inside, twice - twice)) * np.sqrt(total + twice)
    return _log_sum_from(v, root, k, epsilon, inside) if v == v else v


@kernel
def _elements(operation: int, v: Any, out: Any, c: Any, row: int, begin: int, end: int) -> None:
    r = row if c.shape[1] > 1 else 0
    s = 1 if c.shape[2] > 1 else 0
    x, o = v[row], out[row]
    if operation == _SOFT:
        for j in range(begin, end):
            o[j] = _soft(x[j], c[0, r, s * j])
    elif operation == _ELASTIC:
        for j in range(begin, end):
            o[j] = _soft(x[j], c[0, r, s * j]) / c[1, r, s * j]
    elif operation == _SCALE:
        for j in range(begin, end):
            o[j] = x[j] / c[0, r, s * j]
    elif operation == _CLIP:
        for j in range(begin, end):
            o[j] = _clip(x[j], c[0, r, s * j], c[1, r, s * j])
    elif operation == _FIRM:
        k, first, second = c[0, r, 0], c[1, r, 0], c[2, r, 0]
        p, q, d = c[3, r, 0], c[4, r, 0], c[5, r, 0]
        for j in range(begin, end):
            o[j] = _firm(x[j], k, first, second, p, q, d)
    elif operation == _HUBER:
        for j in range(begin, end):
            o[j] = _huber(x[j], c[0, r, 0], c[1, r, 0], c[2, r, 0])
    elif operation == _HINGE:
        for j in range(begin, end):
            o[j] = _hinge(x[j], c[0, r, 0])
    elif operation == _LOGISTIC:
        for j in range(begin, end):
            o[j] = _logistic(x[j], c[0, r, 0])
    else:
        for j in range(begin, end):
            o[j] = _log_sum(x[j], c[0, r, 0], c[1, r, 0], c[2, r, 0])


def elements(operation: int, v: Any, out: Any, constants: Any, num_threads: int) -> None:
    """Apply an operator of single elements; `constants` is (constants, 1 or rows, 1 or columns)."""
    if constants.shape[1:] == (1, 1):
        v, out = v.reshape(1, -1), out.reshape(1, -1)
    num_rows, columns = v.shape
    chunks = -(-columns // _CHUNK)

    def call(nothing: None, begin: int, end: int, *steps: int) -> None:
        for tile in range(begin, end):
            row, first = tile // chunks, tile % chunks * _CHUNK
            last = min(first + _CHUNK, columns)
            _elements(operation, v, out, constants, row, first, last)

    map_slices(lambda: None, call, num_rows * chunks, 1, num_threads)


# --- rows ----------------------------------------------------------------------------------------


@inline
def _fold(strands: Any) -> float:
    half = _STRANDS // 2
    while half > 0:
        for k in range(half):
            strands[k] += strands[k + half]
        half //= 2
    return float(strands[0])


@inline
def _seen(x: Any, magnitude: bool) -> float:
    y: float = np.float64(x)
    return -y if magnitude and y < 0.0 else y


@inline
def _active(x: Any, magnitude: bool, theta: float, sums: Any) -> tuple[float, float]:
    """Return the sum and the number of the elements that are at least theta."""
    sums[:] = 0.0
    count = 0.0
    for j in range(x.size):
        y = _seen(x[j], magnitude)
        if y >= theta:
            sums[j % _STRANDS] += y
            count += 1.0
    return _fold(sums), count


@inline
def _threshold(x: Any, magnitude: bool, total: float, largest: float, z: float, sums: Any) -> float:
    size = float(x.size)
    theta = max((total - z) / size, largest - z)
    count = size + 1.0
    while True:
        active, found = _active(x, magnitude, theta, sums)
        if not found < count or found < 1.0:
            return theta
        count = found
        theta = (active - z) / found


@inline
def _summary(x: Any, magnitude: bool, sums: Any) -> tuple[float, float]:
    sums[:] = 0.0
    largest = -np.inf
    for j in range(x.size):
        y = _seen(x[j], magnitude)
        sums[j % _STRANDS] += y
        largest = max(largest, y)
    return _fold(sums), largest


@inline
def _shrunk(y: float, soft: float) -> float:
    return y - max(min(y, soft), -soft)


@inline
def _norm(x: Any, soft: float, sums: Any) -> float:
    """Return the norm of the soft-thresholded row, safe against overflow and underflow."""
    sums[:] = 0.0
    for j in range(x.size):
        y = _shrunk(np.float64(x[j]), soft)
        sums[j % _STRANDS] += y * y
    total = _fold(sums)
    if 1e-280 < total < 1e300:
        return float(np.sqrt(total))
    scale = 0.0
    for j in range(x.size):
        scale = max(scale, abs(np.float64(x[j])))
    if scale == 0.0:
        return 0.0
    sums[:] = 0.0
    for j in range(x.size):
        y = _shrunk(np.float64(x[j]), soft) / scale
        sums[j % _STRANDS] += y * y
    return float(scale * np.sqrt(_fold(sums)))


@inline
def _project(x: Any, operation: int, number: float, sums: Any, out: Any) -> None:
    magnitude = operation != _SIMPLEX
    total, largest = _summary(x, magnitude, sums)
    if magnitude and total <= number:
        for j in range(x.size):
            out[j] = x[j] if operation == _L1_BALL else 0.0
        return
    theta = _threshold(x, magnitude, total, largest, number, sums)
    for j in range(x.size):
        y = np.float64(x[j])
        if operation == _SIMPLEX:
            out[j] = max(y - theta, 0.0)
        elif operation == _L1_BALL:
            out[j] = _shrunk(y, theta)
        else:
            out[j] = max(min(y, theta), -theta)


@inline
def _cone(x: Any, sums: Any, out: Any) -> None:
    height = np.float64(x[0])
    norm = _norm(x[1:], 0.0, sums)
    factor, top = 1.0, height
    if norm <= -height:
        factor = top = 0.0
    elif norm > height:
        top = 0.5 * (height + norm)
        factor = top / norm
    out[0] = top
    for j in range(1, x.size):
        out[j] = np.float64(x[j]) * factor


@kernel
def _rows(operation: int, v: Any, out: Any, numbers: Any, sums: Any, begin: int, end: int) -> None:
    for row in range(begin, end):
        number = numbers[row if numbers.size > 1 else 0]
        x, o = v[row], out[row]
        if operation == _L2_BALL:
            norm = _norm(x, 0.0, sums)
            factor = number / norm if norm > number else 1.0
            for j in range(x.size):
                o[j] = np.float64(x[j]) * factor
        elif operation <= _L_INF:
            _project(x, operation, number, sums, o)
        else:
            _cone(x, sums, o)


@kernel
def _groups(
    v: Any, out: Any, offsets: Any, indices: Any, weights: Any, soft: Any, shrink: Any,
    sums: Any, scratch: Any, begin: int, end: int,
) -> None:  # fmt: skip
    for row in range(begin, end):
        r = row if shrink.size > 1 else 0
        for g in range(weights.size):
            first, last = offsets[g], offsets[g + 1]
            for k in range(first, last):
                scratch[k] = v[row, indices[k]]
            norm = _norm(scratch[first:last], soft[r], sums)
            k_group = shrink[r] * weights[g]
            factor = 1.0 - k_group / norm if norm > k_group else 0.0
            for k in range(first, last):
                out[row, indices[k]] = _shrunk(np.float64(scratch[k]), soft[r]) * factor


def rows(operation: int, v: Any, out: Any, numbers: Any, num_threads: int) -> None:
    """Apply an operator of rows; `numbers` is (1,) or (rows,)."""

    def call(sums: Any, begin: int, end: int, *steps: int) -> None:
        _rows(operation, v, out, numbers, sums, begin, end)

    map_slices(lambda: np.empty(_STRANDS), call, v.shape[0], 1, num_threads)


def groups(
    v: Any,
    out: Any,
    offsets: Any,
    indices: Any,
    weights: Any,
    soft: Any,
    shrink: Any,
    num_threads: int,
) -> None:
    """Threshold elements by `soft`, then shrink the norms of groups by ``shrink * weights``."""
    order = np.arange(v.shape[1]) if indices is None else indices

    def call(memory: tuple[Any, Any], begin: int, end: int, *steps: int) -> None:
        _groups(v, out, offsets, order, weights, soft, shrink, *memory, begin, end)

    def allocate() -> tuple[Any, Any]:
        return np.empty(_STRANDS), np.empty(v.shape[1], v.dtype)

    map_slices(allocate, call, v.shape[0], 1, num_threads)


# --- the largest magnitudes ----------------------------------------------------------------------


@kernel
def _keep(v: Any, out: Any, cuts: Any, keep: int, begin: int, end: int) -> None:
    """Keep what is above each row's cut, and of what equals it as many as are missing."""
    for row in range(begin, end):
        cut = cuts[row]
        ties = keep
        for j in range(v.shape[1]):
            if abs(v[row, j]) > cut:
                ties -= 1
        for j in range(v.shape[1]):
            a = abs(v[row, j])
            kept = a > cut
            if a == cut and ties > 0:
                ties -= 1
                kept = True
            out[row, j] = v[row, j] if kept else 0.0


def top(v: Any, out: Any, keep: int, num_threads: int) -> None:
    """Keep the largest magnitudes of each row."""
    place = v.shape[1] - keep

    def call(nothing: None, begin: int, end: int, *steps: int) -> None:
        cuts = np.partition(np.abs(v[begin:end]), place, axis=1)[:, place].copy()
        _keep(v[begin:end], out[begin:end], cuts, keep, 0, end - begin)

    map_slices(lambda: None, call, v.shape[0], 1, num_threads)


def variation(v: Any, out: Any, numbers: Any, num_threads: int) -> None:
    """Apply the total variation with t lambda = `numbers`, (1,) or (rows,)."""

    def call(memory: tuple[Any, Any, Any], begin: int, end: int, *steps: int) -> None:
        _numba_variation.variation(v, out, numbers, *memory, begin, end)

    def allocate() -> tuple[Any, Any, Any]:
        points = v.shape[1] + 1
        return np.empty(points), np.empty(points, np.int64), np.empty(points, np.int64)

    map_slices(allocate, call, v.shape[0], 1, num_threads)
