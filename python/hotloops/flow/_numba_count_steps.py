"""The twin of ``csrc/flow/step_counts.hpp``: the same operations in the same order.

Traced functions take one column, or a pack of them where they are called with packs.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from hotloops._runtime._numba_jit import inline, outline
from hotloops._runtime._numba_log_gamma import exp_and_minus_one, log_gamma
from hotloops._runtime._numba_math import (
    STREAM_COUNTS,
    box_muller,
    exp_bounded,
    log_positive,
    philox4x32,
)
from hotloops._runtime._numba_packs import (
    Value,
    as_real,
    constant,
    count_from,
    square_root,
    traced,
    uint64,
    where,
)
from hotloops._runtime._numba_special import log1p

__all__ = [
    "BERNOULLI_ATTEMPT",
    "Address",
    "block_words",
    "gamma_variate",
    "negative_binomial_count",
    "pack_words",
    "poisson_count",
    "uniform_53",
]

ATTEMPT_BITS = 22
GAMMA_FIRST, GAMMA_END = 1, 2**20
BOOST_ATTEMPT = GAMMA_END
BERNOULLI_ATTEMPT = BOOST_ATTEMPT + 1
POISSON_FIRST, POISSON_END = 2**21, 2**22

MOST_INVERTED_MEAN = 16.0
LONGEST_INVERTED_TAIL = 2.0**14
MOST_INVERTED_RATE = 10.0
MOST_RATE = 1e8
TINY = 2.0**-60


class Address(NamedTuple):
    """Key, row and step of a row's words."""

    low: Any
    high: Any
    row: Any
    step: Any


def _word(x: Any) -> Any:
    """Return an integer as uint64, in the reference too."""
    return uint64(x) if isinstance(x, Value) else np.uint64(x)


def _words(at: Any, attempt: Any, block: Any) -> Any:
    low, high, row, step = at
    counter = (_word(step) << ATTEMPT_BITS) | (
        attempt if isinstance(attempt, int) else _word(attempt)
    )
    word_1 = (counter >> 32) | (STREAM_COUNTS << 16)
    return philox4x32(counter, word_1, _word(row), block, low, high)


@traced
def block_words(at: Any, attempt: Any, block: Any) -> Any:
    """Return the words of one block."""
    return _words(at, attempt, _word(block))


@traced
def pack_words(at: Any, attempt: Any, first: Any) -> Any:
    """Return the words of a pack of blocks, `first` and on."""
    return _words(at, attempt, count_from(_word(first), 1))


@traced
def uniform_53(high: Any, low: Any) -> Any:
    """Return uniforms on (0, 1] from 53 bits."""
    top = as_real((high & 0xFFFFFFFF) | 0x4330000000000000) - 2.0**52
    rest = as_real(((low & 0xFFFFFFFF) >> 11) | 0x4330000000000000) - (2.0**52 - 0.5)
    return top * 2.0**-32 + rest * 2.0**-53


# --- inversion -----------------------------------------------------------------------------------


@traced
def _negative_binomial_above_zero(mu: Any, theta: Any) -> tuple[Any, Any]:
    """Return P(X > 0) and P(X = 0)."""
    zero, minus_above = exp_and_minus_one(-(theta * log1p(mu / theta)))
    return -minus_above, zero


@traced
def _poisson_above_zero(rate: Any) -> tuple[Any, Any]:
    zero, minus_above = exp_and_minus_one(-rate)
    return -minus_above, zero


@inline
def _invert_negative_binomial(v: float, mu: float, theta: float) -> int:
    above, p = _negative_binomial_above_zero(mu, theta)
    q = mu / (mu + theta)
    k = 0.0
    while v < above:
        p *= (q * (k + theta)) * (1.0 / (k + 1.0))
        above -= p
        k += 1.0
        if p < TINY and k > mu:
            break
    return int(k)


@inline
def _invert_poisson(v: float, rate: float) -> int:
    above, p = _poisson_above_zero(rate)
    k = 0.0
    while v < above:
        p *= rate * (1.0 / (k + 1.0))
        above -= p
        k += 1.0
        if p < TINY and k > rate:
            break
    return int(k)


# --- gamma ---------------------------------------------------------------------------------------


@traced
def _gamma_shape(alpha: Any) -> tuple[Any, Any]:
    d = alpha - 1.0 / 3.0
    return d, 1.0 / square_root(9.0 * d)


@traced
def _gamma_attempt(d: Any, c: Any, words: Any) -> Any:
    """Return the variate, what decides on it, and whether it is possible and surely accepted."""
    normal, _ = box_muller(words[0], words[1])
    uniform = uniform_53(words[2], words[3])
    root = 1.0 + c * normal
    cube = root * root * root
    squared = normal * normal
    possible = root > 0.0
    bound = 1.0 - 0.0331 * (squared * squared)
    return d * cube, squared, cube, uniform, possible, (uniform < bound) & possible


@traced
def _accepts_gamma(d: Any, squared: Any, cube: Any, uniform: Any) -> Any:
    bound = 0.5 * squared + d * ((1.0 - cube) + log_positive(cube))
    return log_positive(uniform) < bound


@outline
def _gamma_above_one(at: Address, column: int, alpha: float) -> Any:
    if not alpha >= 1.0:
        return alpha
    d, c = _gamma_shape(alpha)
    for k in range(GAMMA_FIRST, GAMMA_END):
        words = block_words(at, k, column)
        value, squared, cube, uniform, possible, accepted = _gamma_attempt(d, c, words)
        if accepted or (possible and _accepts_gamma(d, squared, cube, uniform)):
            return value
    return d


@traced
def _log_boost(at: Any, column: Any, alpha: Any) -> Any:
    words = _words(at, BOOST_ATTEMPT, _word(column))
    return log_positive(uniform_53(words[0], words[1])) / alpha


@traced
def _exp_or_zero(x: Any) -> Any:
    inside = x >= -700.0
    zero = constant(0.0, x)
    return where(inside, exp_bounded(where(inside, x, zero)), zero)


@traced
def _product_of_logs(gamma: Any, boost: Any) -> Any:
    return _exp_or_zero(log_positive(gamma) + boost)


@inline
def gamma_variate(at: Address, column: int, alpha: float) -> Any:
    """Return Gamma(alpha, 1)."""
    if alpha >= 1.0:
        return _gamma_above_one(at, column, alpha)
    gamma = _gamma_above_one(at, column, alpha + 1.0)
    return _product_of_logs(gamma, _log_boost(at, column, alpha))


# --- Poisson -------------------------------------------------------------------------------------


@traced
def _poisson_hat(rate: Any) -> tuple[Any, ...]:
    b = 0.931 + 2.53 * square_root(rate)
    a = -0.059 + 0.02483 * b
    squeeze = 0.9277 - 3.6224 / (b - 2.0)
    return a, b, squeeze, log_positive(rate)


@traced
def _poisson_attempt(a: Any, b: Any, squeeze: Any, rate: Any, words: Any) -> Any:
    """Return the count, what decides on it, and whether it is possible and surely accepted."""
    u = uniform_53(words[0], words[1]) - 0.5
    uniform = uniform_53(words[2], words[3])
    distance = 0.5 - where(u < 0.0, -u, u)
    value = (2.0 * a / distance + b) * u + rate + 0.43
    possible = (distance >= 0.013) | (uniform <= distance)
    possible = possible & (value >= 0.0) & (value < 2.0**50)
    accepted = (distance >= 0.07) & (uniform <= squeeze)
    nearest = (value + 2.0**52) - 2.0**52
    count = where(nearest > value, nearest - 1.0, nearest)
    return count, distance, uniform, possible, accepted


@traced
def _accepts_poisson(
    a: Any, b: Any, rate: Any, log_rate: Any, distance: Any, uniform: Any, k: Any
) -> Any:
    inverse_alpha = 1.1239 + 1.1328 / (b - 3.4)
    area = a / (distance * distance) + b
    left = log_positive(uniform * inverse_alpha / area)
    return left <= (k * log_rate - rate) - log_gamma(k + 1.0)


@outline
def _poisson_by_rejection(at: Address, column: int, rate: float) -> int:
    a, b, squeeze, log_rate = _poisson_hat(rate)
    for i in range(POISSON_FIRST, POISSON_END):
        words = block_words(at, i, column)
        k, distance, uniform, possible, accepted = _poisson_attempt(a, b, squeeze, rate, words)
        if possible and (accepted or _accepts_poisson(a, b, rate, log_rate, distance, uniform, k)):
            return int(k)
    return int(rate)


# --- counts, from v, the uniform of the column at attempt 0 --------------------------------------


@inline
def poisson_count(at: Address, column: int, v: float, rate: float) -> int:
    """Return a Poisson count."""
    if rate >= MOST_INVERTED_RATE:
        return _poisson_by_rejection(at, column, min(rate, MOST_RATE))
    if not v < rate:
        return 0
    return _invert_poisson(v, rate)


@traced
def _mixed_log(mu: Any, theta: Any, gamma: Any, boost: Any) -> Any:
    log_rate = (log_positive(mu) - log_positive(theta)) + (log_positive(gamma) + boost)
    return _exp_or_zero(where(log_rate > 20.0, 20.0, log_rate))


@inline
def _mixed_rate(at: Address, column: int, mu: float, theta: float) -> Any:
    if theta >= 1.0:
        return min(mu / theta * _gamma_above_one(at, column, theta), MOST_RATE)
    gamma = _gamma_above_one(at, column, theta + 1.0)
    return min(_mixed_log(mu, theta, gamma, _log_boost(at, column, theta)), MOST_RATE)


@inline
def negative_binomial_count(at: Address, column: int, v: float, mu: float, theta: float) -> int:
    """Return a negative binomial count."""
    theta = max(min(theta, 2.0**60), 2.0**-100)
    if not (mu <= MOST_INVERTED_MEAN and mu <= LONGEST_INVERTED_TAIL * theta):
        return poisson_count(at, column, v, _mixed_rate(at, column, mu, theta))
    if not v < mu:
        return 0
    return _invert_negative_binomial(v, mu, theta)
