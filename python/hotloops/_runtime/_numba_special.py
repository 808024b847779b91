"""The twin of ``csrc/core/special.hpp``: the same operations in the same order."""

from __future__ import annotations

from typing import Any

from hotloops._runtime._numba_jit import inline
from hotloops._runtime._numba_math import (
    exp_bounded,
    exp_reduced,
    flip_sign,
    log_positive,
    magnitude,
    quarter_turns,
    sincos_quarter,
)
from hotloops._runtime._numba_packs import as_real, as_words, constant, is_single, traced, where

__all__ = [
    "clamp",
    "expm1_bounded",
    "hyperbolic_tangent",
    "log1p",
    "log1p_excess",
    "log_factorial",
    "normal_law",
    "rising",
    "sine_cosine",
    "softplus",
]

_hex = float.fromhex

LARGEST_PRODUCT = 16


def exp_bound(x: Any) -> float:
    """Return up to which magnitude `exp_bounded` may be called."""
    return 80.0 if is_single(x) else 700.0


def clamp(x: Any, bound: float) -> Any:
    """Return x, but not outside [-bound, bound]; NaN stays."""
    x = where(x > bound, bound, x)
    return where(x < -bound, -bound, x)


def _with_sign_of(sign: Any, value: Any) -> Any:
    bit = 0x80000000 if is_single(value) else 0x8000000000000000
    return as_real(as_words(value) | (as_words(sign) & bit))


@traced
def expm1_bounded(x: Any) -> Any:
    """Return exp(x) - 1 within the bound of `exp_bounded`."""
    reduced, scale = exp_reduced(x)
    return scale * reduced + (scale - 1.0)


@traced
def log1p(x: Any) -> Any:
    """Return log(1 + x) for x > -1, 1 + x normal and finite."""
    w = 1.0 + x
    return log_positive(w) + (x - (w - 1.0)) / w


@traced
def log1p_excess(u: Any) -> Any:
    """Return log(1 + u) - u / (1 + u) for u >= 0."""
    s = u / (2.0 + u)
    z = s * s
    if is_single(u):
        q = _hex("0x1.24924ap-2") + z * _hex("0x1.c71c72p-3")
        q = _hex("0x1.555556p-1") + z * (_hex("0x1.99999ap-2") + z * q)
    else:
        z2 = z * z
        q01 = _hex("0x1.5555555555592p-1") + z * _hex("0x1.999999997fdb6p-2")
        q23 = _hex("0x1.24924941f135ap-2") + z * _hex("0x1.c71c520951686p-3")
        q45 = _hex("0x1.74663eea8f93fp-3") + z * _hex("0x1.39a1ba85757a4p-3")
        q = (q01 + z2 * q23) + (z2 * z2) * (q45 + z2 * _hex("0x1.2f0565538e258p-3"))
    near = 2.0 * z / (1.0 + s) + s * z * q
    far = log1p(u) - u / (1.0 + u)
    return where(u < 0.41421356, near, far)


@traced
def sine_cosine(x: Any) -> tuple[Any, Any]:
    """Return sin(x) and cos(x), like `sine`."""
    t, quadrant = quarter_turns(x)
    sine_part, cosine_part = sincos_quarter(t)
    odd_quadrant = (quadrant & 1) != 0
    sine_value = flip_sign(where(odd_quadrant, cosine_part, sine_part), quadrant << 30)
    cosine = flip_sign(where(odd_quadrant, sine_part, cosine_part), (quadrant + 1) << 30)
    return sine_value, cosine


@traced
def hyperbolic_tangent(x: Any) -> Any:
    """Return tanh(x)."""
    e = expm1_bounded(-2.0 * clamp(magnitude(x), exp_bound(x) / 2.0))
    return _with_sign_of(x, -e / (2.0 + e))


@traced
def softplus(x: Any) -> Any:
    """Return log(1 + exp(x))."""
    positive = where(x > 0.0, x, constant(0.0, x))
    return positive + log1p(exp_bounded(-clamp(magnitude(x), exp_bound(x))))


_TAIL = """
    0x1.e4aa012912ddep-2 -0x1.8615d9b49165cp-2 0x1.f0d9856bc3b09p-3 -0x1.dec30ee679455p-4
    0x1.360ce26020917p-5 -0x1.35aa3c94aa5bep-8 -0x1.1dcfea79d0351p-9 0x1.0be6d6586eee9p-10
    0x1.5e7b1b7339891p-14 -0x1.2fb42e0050283p-13 -0x1.4100088da46edp-20 0x1.717ed22db4920p-16
    0x1.e2328cb860a35p-22 -0x1.f1ed3156dd40dp-19 -0x1.a7a1169092435p-22 0x1.5799aed19d4e5p-21
    0x1.6d7b0c0561056p-23 -0x1.a02bc724e9155p-24 -0x1.ca2b97a041281p-25 0x1.17de2b85e5755p-27
    0x1.a1289e7fba3aep-27 0x1.6155fe457e046p-30 -0x1.9e5f4bb077cb7p-30 -0x1.0368c003dd05dp-31
    -0x1.059e6ccc6f0ffp-36
"""
_TAIL_SINGLE = """
    0x1.e4aa02p-2 -0x1.8615dap-2 0x1.f0d94cp-3 -0x1.dec326p-4 0x1.361a66p-5 -0x1.356a06p-8
    -0x1.220b86p-9 0x1.03a3f2p-10 0x1.1c8c98p-13 -0x1.2b26fp-14
"""
_DOUBLES = [_hex(text) for text in _TAIL.split()]
_SINGLES = [_hex(text) for text in _TAIL_SINGLE.split()]


@traced
def normal_law(x: Any) -> tuple[Any, Any]:
    """Return the standard normal density and distribution function."""
    single = is_single(x)
    t = clamp(magnitude(x), 12.5 if single else 37.0)
    density = 0.39894228040143267794 * exp_bounded(-0.5 * t * t)
    y = (t - 4.0) / (t + 4.0)
    coefficients = _SINGLES if single else _DOUBLES
    p = coefficients[-2] + y * coefficients[-1]
    for c in coefficients[-3::-1]:
        p = c + y * p
    tail = density * (p * (4.0 / (t + 4.0)))
    return density, where(x < 0.0, tail, 1.0 - tail)


# --- differences of log gamma and digamma, of scalars in float64 ---------------------------------


@traced
def _stirling_tail(z: Any) -> Any:
    w = 1.0 / z
    w2 = w * w
    p = _hex("0x1.3813813813814p-11") - w2 * _hex("0x1.b951e2b18ff23p-11")
    p = _hex("0x1.6c16c16c16c17p-9") - w2 * (_hex("0x1.a01a01a01a01ap-11") - w2 * p)
    return w * (_hex("0x1.5555555555555p-4") - w2 * p)


@traced
def _digamma_tail(z: Any) -> Any:
    w = 1.0 / z
    w2 = w * w
    p = _hex("0x1.1111111111111p-8") - w2 * _hex("0x1.f07c1f07c1f08p-8")
    p = _hex("0x1.1111111111111p-7") - w2 * (_hex("0x1.0410410410410p-8") - w2 * p)
    return w2 * (_hex("0x1.5555555555555p-4") - w2 * p)


@inline
def _rising_any(theta: float, x: float) -> tuple[float, float]:
    """Return the differences for any x >= 0 and theta > 0."""
    product, total = 1.0, 0.0
    for i in range(LARGEST_PRODUCT):
        below = theta + float(i)
        ratio = x / below
        product = product * (1.0 + ratio)
        total = total + ratio / (below + x)
    a = theta + float(LARGEST_PRODUCT)
    b = a + x
    ratio = log1p(x / a)
    log_gamma = (
        (a - 0.5) * ratio
        + x * (log_positive(b) - 1.0)
        + (_stirling_tail(b) - _stirling_tail(a))
        - log_positive(product)
    )
    digamma = (ratio + 0.5 * (x / (a * b))) - (_digamma_tail(b) - _digamma_tail(a)) + total
    return log_gamma, digamma


@inline
def rising(theta: float, x: float) -> tuple[float, float]:
    """Return log gamma(theta + x) - log gamma(theta), and psi(theta + x) - psi(theta)."""
    product, total = 1.0, 0.0
    general = x > float(LARGEST_PRODUCT)
    for i in range(LARGEST_PRODUCT):
        count = float(i)
        if not x > count:
            break
        factor = theta + count
        product = product * factor
        total = total + 1.0 / factor
        general = general or x < count + 1.0
    if general:
        return _rising_any(theta, x)
    return log_positive(product), total


@inline
def log_factorial(x: float) -> float:
    """Return log x!."""
    value, _ = rising(1.0, x)
    return value
