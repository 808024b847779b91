"""The twin of ``csrc/core/log_gamma.hpp``: the same operations in the same order, in float64."""

from __future__ import annotations

from typing import Any

from hotloops._runtime._numba_math import exp_reduced, log_positive
from hotloops._runtime._numba_packs import constant, traced, where

_hex = float.fromhex

STIRLING_LEAST = 10.0


@traced
def exp_and_minus_one(x: Any) -> tuple[Any, Any]:
    """Return exp(x) and exp(x) - 1 for abs(x) <= 700."""
    reduced, scale = exp_reduced(x)
    return scale * (1.0 + reduced), scale * reduced + (scale - 1.0)


@traced
def stirling_series(x: Any) -> Any:
    """Return what Stirling's series adds to (x - 1/2) log x - x + log(2 pi)/2, for x >= 10."""
    y = 1.0 / x
    w = y * y
    c = _hex("0x1.a41a41a41a41ap-8") - w * _hex("0x1.e4286cb0f5398p-6")
    c = _hex("-0x1.f6ab0d9993c7dp-10") + w * c
    b = _hex("-0x1.3813813813814p-11") + w * (_hex("0x1.b951e2b18ff23p-11") + w * c)
    a = _hex("-0x1.6c16c16c16c17p-9") + w * (_hex("0x1.a01a01a01a01ap-11") + w * b)
    return y * (_hex("0x1.5555555555555p-4") + w * a)


@traced
def shift_to_stirling(x: Any) -> tuple[Any, Any]:
    """Return the smallest x + n >= 10 with a whole n >= 0, and x (x + 1) ... (x + n - 1)."""
    product = constant(1.0, x)
    for _ in range(10):
        below = x < STIRLING_LEAST
        product = where(below, product * x, product)
        x = where(below, x + 1.0, x)
    return x, product


@traced
def log_gamma(x: Any) -> Any:
    """Return log gamma(x) for x > 0."""
    x, product = shift_to_stirling(x)
    main = (x - 0.5) * log_positive(x) - x
    tail = _hex("0x1.d67f1c864beb5p-1") + stirling_series(x)
    return (main + tail) - log_positive(product)


@traced
def digamma_series(x: Any) -> Any:
    """Return log x minus the derivative of log gamma(x), for x >= 10."""
    y = 1.0 / x
    w = y * y
    b = _hex("0x1.5995995995996p-6") - w * _hex("0x1.5555555555555p-4")
    b = _hex("-0x1.f07c1f07c1f08p-8") + w * b
    a = _hex("-0x1.0410410410410p-8") + w * (_hex("0x1.1111111111111p-8") + w * b)
    a = _hex("0x1.1111111111111p-7") + w * a
    return 0.5 * y + w * (_hex("0x1.5555555555555p-4") - w * a)
