"""The twin of ``csrc/flow/step_likelihood.hpp`` and of its driver."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from hotloops._runtime._numba_jit import inline, kernel, map_slices
from hotloops._runtime._numba_log_gamma import (
    STIRLING_LEAST,
    digamma_series,
    stirling_series,
)
from hotloops._runtime._numba_math import log_positive
from hotloops._runtime._numba_special import log1p, log1p_excess

__all__ = ["likelihood"]

_CHUNK = 1 << 14
_HALF_LOG_TURN = float.fromhex("0x1.d67f1c864beb5p-1")
_LOW, _HIGH = 2.0**-400, 2.0**400


@inline
def _zero_count(mu: float, theta: float) -> tuple[float, float, float]:
    odds = mu / theta
    return (
        -(theta * log1p(odds)),
        -(theta * (mu / (theta + mu))),
        -(theta * log1p_excess(odds)),
    )


@inline
def _by_products(x: float, mu: float, theta: float) -> tuple[float, float]:
    odds = mu / (theta + mu)
    logarithm, product, slope, k = 0.0, 1.0, 0.0, 0.0
    while k < x:
        factor = theta + k
        product *= odds * factor / (k + 1.0)
        slope += (mu - k) / (factor * (theta + mu))
        if product < _LOW or product > _HIGH:
            logarithm += log_positive(product)
            product = 1.0
        k += 1.0
    return logarithm + log_positive(product), slope


@inline
def _by_series(x: float, mu: float, theta: float) -> tuple[float, float]:
    product, reciprocals, shift, a = 1.0, 0.0, 0.0, theta
    while a < STIRLING_LEAST:
        product *= a
        reciprocals += 1.0 / a
        shift += 1.0
        a += 1.0
    end = theta + x
    span = log1p((x - shift) / a)
    ratio = end / (theta + mu) * (mu / x)
    series = stirling_series(end) - stirling_series(a) - stirling_series(x)
    logarithm = (
        (a - 0.5) * span
        + x * log_positive(ratio)
        - shift * (log_positive(end) - 1.0)
        + log_positive(product)
    )
    return (
        logarithm + (series - 0.5 * log_positive(x) - _HALF_LOG_TURN),
        (reciprocals + (span + (digamma_series(a) - digamma_series(end)))) - x / (theta + mu),
    )


@inline
def _likelihood(x: float, mu: float, theta: float) -> tuple[float, float, float]:
    value, mu_slope, theta_slope = _zero_count(mu, theta)
    if x > 0.0:
        if x <= 16.0:
            logarithm, slope = _by_products(x, mu, theta)
        else:
            logarithm, slope = _by_series(x, mu, theta)
        value = value + logarithm if mu > 0.0 else -math.inf
        mu_slope = theta * ((x - mu) / (theta + mu))
        theta_slope = theta_slope + theta * slope
    return value, mu_slope, theta_slope


@kernel
def _fill(
    begin: int, end: int, value: Any, mu_slope: Any, theta_slope: Any, x: Any, mu: Any, theta: Any
) -> None:
    for i in range(begin, end):
        clamped_mu = min(mu[i], 2.0**300)
        clamped_theta = max(min(theta[i], 2.0**200), 2.0**-100)
        found = _likelihood(x[i], clamped_mu, clamped_theta)
        value[i] = found[0]
        if mu_slope.size:
            mu_slope[i] = found[1]
            theta_slope[i] = found[2]


def likelihood(
    value: Any,
    mu_slope: Any,
    theta_slope: Any,
    counts: Any,
    mu: Any,
    theta: Any,
    num_threads: int,
) -> None:
    """Fill `value` (rows, columns) and the slopes that are not None."""
    shape, total = value.shape, value.size
    flat = [
        np.ascontiguousarray(np.broadcast_to(x, shape), np.float64).reshape(-1)
        for x in (counts, mu, theta)
    ]
    outputs = [np.empty(total), *(np.empty(0 if mu_slope is None else total) for _ in range(2))]

    def call(nothing: None, begin: int, end: int, *steps: int) -> None:
        _fill(begin * _CHUNK, min(end * _CHUNK, total), *outputs, *flat)

    map_slices(lambda: None, call, -(-total // _CHUNK), 1, num_threads)
    for target, found in zip((value, mu_slope, theta_slope), outputs, strict=True):
        if target is not None:
            target[...] = found.reshape(shape)
