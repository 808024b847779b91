"""The twin of ``csrc/simplex/cpu_ridge_sum.cpp``: sums of functions of ``y_t = (r_t - m) . x``."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from hotloops._runtime._numba_buffers import (
    accumulate,
    lanes_of,
    load,
    load_wide,
    store,
    zeros,
)
from hotloops._runtime._numba_jit import inline, outline, variants
from hotloops._runtime._numba_math import (
    STREAM_ROW_SAMPLING,
    counter_word_1,
    exp_bounded,
    log_positive,
    philox4x32,
)
from hotloops._runtime._numba_packs import (
    constant,
    is_single,
    multiply_add,
    narrow,
    square_root,
    traced,
    where,
    word,
)
from hotloops.simplex._numba_step import plus, same_in_all
from hotloops.simplex._numba_types import ALL_ROWS

PANEL_ROWS = 128
_BLOCK_NUMBERS = 4096
_ROWS_AT_ONCE = 8
_POWER, _LOG, _EXPONENTIAL, _STANDARDISED = 2, 3, 4, 5  # by number, as in kernels.hpp
_LOW, _HALF = word(0xFFFFFFFF), word(32)


class Powers(NamedTuple):
    """``q(y) = sum_k a_k y^k``, of each row its own when `stride` is the number of them."""

    coefficients: Any
    num_coefficients: int
    stride: int


class Utility(NamedTuple):
    """``q(y) = -U(1 + y)``."""

    coefficients: Any
    profile: int


class RidgeSum(NamedTuple):
    """``c . x + sum_t w_t q(y_t)``; the rows are flat."""

    rows: Any
    weights: Any
    center: Any
    linear: Any
    q: Any
    num_rows: int
    block_rows: int
    batch_size: int
    scale: Any  # T / b of a minibatch


# The same, but steps see minibatches; and functions of the moments of y.
_FIELDS = [(name, Any) for name in RidgeSum._fields]
SampledSum: Any = NamedTuple("SampledSum", _FIELDS)  # type: ignore[misc]
StandardisedSum: Any = NamedTuple("StandardisedSum", _FIELDS)  # type: ignore[misc]


def make_ridge_sum(
    rows: Any,
    weights: Any,
    center: Any,
    linear: Any,
    profile: int,
    coefficients: Any,
    batch_size: int,
) -> Any:
    """Return the problem, of the class that the loop is compiled for."""
    count = coefficients.shape[-1]
    q: Any = Powers(coefficients.reshape(-1), count, count if coefficients.ndim == 2 else 0)
    kind: Any = SampledSum if batch_size else RidgeSum
    if profile in (_POWER, _LOG, _EXPONENTIAL):
        q = Utility(coefficients, int(profile))
    elif profile == _STANDARDISED:
        kind = StandardisedSum
    real = rows.dtype.type
    return kind(
        rows=rows.reshape(-1),
        weights=weights,
        center=center,
        linear=linear,
        q=q,
        num_rows=rows.shape[0],
        block_rows=block_rows_of(rows.shape[1]),
        batch_size=int(batch_size),
        scale=real(rows.shape[0]) / real(max(batch_size, 1)),
    )


def block_rows_of(dim: int) -> int:
    """Return how many rows of R the second product finds in the first cache."""
    rows = _BLOCK_NUMBERS // dim // _ROWS_AT_ONCE * _ROWS_AT_ONCE
    return min(max(rows, _ROWS_AT_ONCE), PANEL_ROWS)


# Scratch: y of a panel, sums of a panel, the columns of a batch's row. Totals: gradient, value,
# slope; or three moments after room for a gradient.


@traced
def _fused(a: Any, b: Any, c: Any) -> Any:
    return multiply_add(a, b, c)


@traced
def _fused_each(numbers: Any, pack: Any, sums: Any) -> Any:
    return tuple(multiply_add(a, pack, c) for a, c in zip(numbers, sums, strict=True))


@traced
def _negative(x: Any) -> Any:
    return -x


@traced
def _narrowed(total: Any, like: Any) -> Any:
    return narrow(total, like)


@inline
def _shift(problem: Any, chains: Any, tile: Any, current: int) -> Any:
    center = zeros(tile.x)
    for s in range(chains.dim):
        center = _fused(problem.center[s], load(tile.x, current + s), center)
    return _negative(center)


@inline
def _clear(chains: Any, tile: Any) -> None:
    for k in range((chains.dim + 3) * lanes_of(tile.x)):
        tile.totals[k] = 0.0


@inline
def _total(tile: Any, k: int) -> Any:
    return _narrowed(load_wide(tile.totals, k, tile.x), zeros(tile.x))


@inline
def _begin_panel(chains: Any, tile: Any) -> None:
    zero = zeros(tile.x)
    for s in range(chains.dim):
        store(tile.scratch, PANEL_ROWS + s, zero)


@inline
def _flush(chains: Any, tile: Any, values: Any) -> None:
    """Add the sums of a panel to those of all rows."""
    for s in range(chains.dim):
        accumulate(tile.totals, s, load(tile.scratch, PANEL_ROWS + s))
    accumulate(tile.totals, chains.dim, values[0])
    accumulate(tile.totals, chains.dim + 1, values[1])


@inline
def _finish(
    problem: Any, chains: Any, tile: Any, current: int, slope: int, extra: Any, scale: Any
) -> Any:
    zero = zeros(tile.x)
    slopes = _total(tile, chains.dim + 1)
    linear = extra
    for s in range(chains.dim):
        own = _minus_product(_total(tile, s), problem.center[s], slopes)
        changed = _fused(scale, own, same_in_all(problem.linear[s], zero))
        store(tile.gradient, slope + s, changed)
        linear = _fused(problem.linear[s], load(tile.x, current + s), linear)
    return _fused(scale, _total(tile, chains.dim), linear)


@traced
def _minus_product(total: Any, a: Any, b: Any) -> Any:
    return total - a * b


# --- the two products ----------------------------------------------------------------------------


@inline
def _multiply_rows(
    problem: Any, chains: Any, tile: Any, current: int, shift: Any, first: int, last: int
) -> None:
    """Write y of some rows."""
    d, rows = chains.dim, problem.rows
    whole = first + (last - first) // 8 * 8
    for row in range(first, whole, 8):
        sums = (shift, shift, shift, shift, shift, shift, shift, shift)
        for s in range(d):
            k = row * d + s
            numbers = (
                rows[k],
                rows[k + d],
                rows[k + 2 * d],
                rows[k + 3 * d],
                rows[k + 4 * d],
                rows[k + 5 * d],
                rows[k + 6 * d],
                rows[k + 7 * d],
            )
            sums = _fused_each(numbers, load(tile.x, current + s), sums)
        for k in range(8):
            store(tile.scratch, row - first + k, sums[k])
    for row in range(whole, last):
        y = shift
        for s in range(d):
            y = _fused(rows[row * d + s], load(tile.x, current + s), y)
        store(tile.scratch, row - first, y)


@inline
def _add_columns(problem: Any, chains: Any, tile: Any, first: int, last: int) -> None:
    """Add R^T y of some rows to the sums of the panel."""
    d, rows = chains.dim, problem.rows
    whole = d - d % 4
    for s in range(0, whole, 4):
        at = PANEL_ROWS + s
        sums = (
            load(tile.scratch, at),
            load(tile.scratch, at + 1),
            load(tile.scratch, at + 2),
            load(tile.scratch, at + 3),
        )
        for row in range(first, last):
            k = row * d + s
            numbers = (rows[k], rows[k + 1], rows[k + 2], rows[k + 3])
            sums = _fused_each(numbers, load(tile.scratch, row - first), sums)
        for k in range(4):
            store(tile.scratch, at + k, sums[k])
    for s in range(whole, d):
        total = load(tile.scratch, PANEL_ROWS + s)
        for row in range(first, last):
            total = _fused(rows[row * d + s], load(tile.scratch, row - first), total)
        store(tile.scratch, PANEL_ROWS + s, total)


# --- q and its derivative ------------------------------------------------------------------------


@inline
def _polynomial(y: Any, a: Any, first: int, count: int, zero: Any) -> Any:
    value, slope = same_in_all(a[first + count - 1], zero), zero
    for k in range(count - 1):
        following = same_in_all(a[first + count - 2 - k], zero)
        value, slope = _fused(value, y, following), _fused(slope, y, value)
    return value, slope


@traced
def _log_wealth(wealth: Any) -> Any:
    least = constant(1.2e-38 if is_single(wealth) else 2.3e-308, wealth)
    return log_positive(where(wealth > least, wealth, least))


@traced
def _if_solvent(wealth: Any, cost: Any) -> Any:
    return where(wealth > 0.0, cost, constant(math.inf, cost))


@traced
def _log_profile(y: Any) -> Any:
    wealth = 1.0 + y
    return _if_solvent(wealth, -_log_wealth(wealth)), -1.0 / wealth


@traced
def _exp_cut(x: Any) -> Any:
    bound = constant(80.0 if is_single(x) else 700.0, x)
    x = where(x > bound, bound, x)
    return exp_bounded(where(x < -bound, -bound, x))


@traced
def _power_profile(y: Any, aversion: Any) -> Any:
    wealth = 1.0 + y
    exponent = 1.0 - aversion
    power = _exp_cut(exponent * _log_wealth(wealth))
    return _if_solvent(wealth, (1.0 - power) / exponent), -(power / wealth)


@traced
def _exponential_profile(y: Any, aversion: Any) -> Any:
    utility = _exp_cut(-(aversion * (1.0 + y)))
    return utility / aversion, -utility


@inline
def _powers(q: Any, y: Any, row: int, zero: Any) -> Any:
    return _polynomial(y, q.coefficients, row * q.stride, q.num_coefficients, zero)


@inline
def _utility(q: Any, y: Any, row: int, zero: Any) -> Any:
    if q.profile == _LOG:
        return _log_profile(y)
    if q.profile == _POWER:
        return _power_profile(y, q.coefficients[0])
    return _exponential_profile(y, q.coefficients[0])


@variants({Powers: _powers, Utility: _utility})
def profile_of(q: Any, y: Any, row: int, zero: Any) -> Any:
    """Return q(y) and q'(y)."""


@traced
def _add_term(weight: Any, q: Any, values: Any) -> Any:
    """Return w q'(y) and the sums with one more term."""
    slope = weight * q[1]
    return slope, (multiply_add(weight, q[0], values[0]), values[1] + slope)


# --- all rows ------------------------------------------------------------------------------------


@outline
def _evaluate_all(problem: Any, chains: Any, tile: Any, current: int, slope: int) -> Any:
    zero = zeros(tile.x)
    shift = _shift(problem, chains, tile, current)
    for begin in range(0, problem.num_rows, PANEL_ROWS):
        end = min(begin + PANEL_ROWS, problem.num_rows)
        _begin_panel(chains, tile)
        values = (zero, zero)
        for first in range(begin, end, problem.block_rows):
            last = min(first + problem.block_rows, end)
            _multiply_rows(problem, chains, tile, current, shift, first, last)
            for row in range(first, last):
                q = profile_of(problem.q, load(tile.scratch, row - first), row, zero)
                y, values = _add_term(problem.weights[row], q, values)
                store(tile.scratch, row - first, y)
            _add_columns(problem, chains, tile, first, last)
        _flush(chains, tile, values)
    return _finish(problem, chains, tile, current, slope, zero, chains.one)


@traced
def _add_moments(weight: Any, y: Any, moments: Any) -> Any:
    square = y * y
    weighted = weight * square
    m2, m3, m4 = moments
    return m2 + weighted, multiply_add(weighted, y, m3), multiply_add(weighted, square, m4)


@traced
def _standardised(m2: Any, m3: Any, m4: Any, a: Any) -> Any:
    """Return the value, and the coefficients of the slope."""
    inverse = 1.0 / m2
    skew_scale = inverse * square_root(inverse)
    tail_scale = inverse * inverse
    skew, tail = m3 * skew_scale, m4 * tail_scale
    value = (a[0] * m2 + a[1] * skew) + a[2] * tail
    first = ((2.0 * a[0] - (m2 - m2)) - (3.0 * a[1]) * (skew * inverse)) - (4.0 * a[2]) * (
        tail * inverse
    )
    return value, first, (3.0 * a[1]) * skew_scale, (4.0 * a[2]) * tail_scale


@traced
def _standardised_slope(weight: Any, y: Any, b1: Any, b2: Any, b3: Any) -> Any:
    slope = multiply_add(multiply_add(b3, y, b2), y, b1)
    return weight * (slope * y)


@outline
def _evaluate_standardised(problem: Any, chains: Any, tile: Any, current: int, slope: int) -> Any:
    zero = zeros(tile.x)
    shift = _shift(problem, chains, tile, current)
    at = chains.dim
    for begin in range(0, problem.num_rows, PANEL_ROWS):
        end = min(begin + PANEL_ROWS, problem.num_rows)
        moments = (zero, zero, zero)
        for first in range(begin, end, problem.block_rows):
            last = min(first + problem.block_rows, end)
            _multiply_rows(problem, chains, tile, current, shift, first, last)
            for row in range(first, last):
                y = load(tile.scratch, row - first)
                moments = _add_moments(problem.weights[row], y, moments)
        for k in range(3):
            accumulate(tile.totals, at + k, moments[k])
    a = (problem.q.coefficients[0], problem.q.coefficients[1], problem.q.coefficients[2])
    value, b1, b2, b3 = _standardised(
        _total(tile, at), _total(tile, at + 1), _total(tile, at + 2), a
    )
    _clear(chains, tile)
    for begin in range(0, problem.num_rows, PANEL_ROWS):
        end = min(begin + PANEL_ROWS, problem.num_rows)
        _begin_panel(chains, tile)
        slopes = zero
        for first in range(begin, end, problem.block_rows):
            last = min(first + problem.block_rows, end)
            _multiply_rows(problem, chains, tile, current, shift, first, last)
            for row in range(first, last):
                y = load(tile.scratch, row - first)
                own = _standardised_slope(problem.weights[row], y, b1, b2, b3)
                store(tile.scratch, row - first, own)
                slopes = plus(slopes, own)
            _add_columns(problem, chains, tile, first, last)
        _flush(chains, tile, (zero, slopes))
    return _finish(problem, chains, tile, current, slope, value, chains.one)


# --- minibatches ---------------------------------------------------------------------------------


@inline
def _sampled_row(problem: Any, chains: Any, chain: int, step: int, sample: int) -> int:
    words = philox4x32(
        word(step) & _LOW,
        counter_word_1(step, STREAM_ROW_SAMPLING),
        word(chain),
        word(sample >> 2),
        chains.key_low,
        chains.key_high,
    )
    return int(((word(words[sample & 3]) & _LOW) * word(problem.num_rows)) >> _HALF)


@outline
def _evaluate_batch(
    problem: Any, chains: Any, tile: Any, first_chain: int, current: int, slope: int, step: int
) -> Any:
    """Rows with replacement, other ones in each lane."""
    zero = zeros(tile.x)
    lanes, d = lanes_of(tile.x), chains.dim
    shift = _shift(problem, chains, tile, current)
    columns = PANEL_ROWS + d
    for begin in range(0, problem.batch_size, PANEL_ROWS):
        _begin_panel(chains, tile)
        values = (zero, zero)
        for sample in range(begin, min(begin + PANEL_ROWS, problem.batch_size)):
            for lane in range(lanes):
                chain = chains.offset + first_chain + lane
                row = _sampled_row(problem, chains, chain, step, sample)
                tile.scratch[lane] = problem.weights[row]
                for s in range(d):
                    tile.scratch[(columns + s) * lanes + lane] = problem.rows[row * d + s]
            y = shift
            for s in range(d):
                y = _fused(load(tile.scratch, columns + s), load(tile.x, current + s), y)
            q = profile_of(problem.q, y, 0, zero)
            own, values = _add_term(load(tile.scratch, 0), q, values)
            for s in range(d):
                at = PANEL_ROWS + s
                total = load(tile.scratch, at)
                store(tile.scratch, at, _fused(load(tile.scratch, columns + s), own, total))
        _flush(chains, tile, values)
    return _finish(problem, chains, tile, current, slope, zero, problem.scale)


@inline
def evaluate_ridge_sum(
    problem: Any, chains: Any, tile: Any, first_chain: int, current: int, slope: int, step: int
) -> Any:
    """Write the gradient and return the value."""
    _clear(chains, tile)
    return _evaluate_all(problem, chains, tile, current, slope)


@inline
def evaluate_sampled(
    problem: Any, chains: Any, tile: Any, first_chain: int, current: int, slope: int, step: int
) -> Any:
    """Write the gradient and return the value, of a minibatch or of all rows."""
    _clear(chains, tile)
    if step == ALL_ROWS:
        return _evaluate_all(problem, chains, tile, current, slope)
    return _evaluate_batch(problem, chains, tile, first_chain, current, slope, step)


@inline
def evaluate_standardised(
    problem: Any, chains: Any, tile: Any, first_chain: int, current: int, slope: int, step: int
) -> Any:
    """Write the gradient and return the value."""
    _clear(chains, tile)
    return _evaluate_standardised(problem, chains, tile, current, slope)
