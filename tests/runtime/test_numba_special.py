"""The twin's more elementary functions: accuracy, ends of their ranges."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.special

from hotloops._runtime import _numba_special as special
from hotloops._runtime._numba_jit import plain


@plain
def _evaluate(x: Any, out: Any) -> None:
    for i in range(x.size):
        out[0, i] = special.hyperbolic_tangent(x[i])
        out[1, i] = special.softplus(x[i])
        out[2, i], out[3, i] = special.normal_law(x[i])
        out[4, i], out[5, i] = special.sine_cosine(x[i])
        out[6, i] = special.expm1_bounded(x[i])


@plain
def _evaluate_positive(x: Any, out: Any) -> None:
    for i in range(x.size):
        out[0, i] = special.log1p(x[i])
        out[1, i] = special.log1p_excess(x[i])


@plain
def _rise(theta: Any, x: Any, out: Any) -> None:
    for i in range(x.size):
        out[0, i], out[1, i] = special.rising(theta[i], x[i])
        out[2, i] = special.log_factorial(x[i])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_accuracy(dtype: Any) -> None:
    x = np.concatenate([np.linspace(-30, 30, 20_001), np.geomspace(1e-30, 1, 500)]).astype(dtype)
    wide = x.astype(np.longdouble)
    found = np.empty((7, x.size), dtype)
    _evaluate(x, found)
    density = np.exp(-wide * wide / 2) / np.sqrt(2 * np.longdouble(np.pi))
    half = scipy.special.ndtr(x.astype(float))
    expected = [
        (np.tanh(wide), 3.0),
        (np.maximum(wide, 0) + np.log1p(np.exp(-abs(wide))), 3.0),
        (density, None),
        (half, None),
        (np.sin(wide), 3.0),
        (np.cos(wide), 3.0),
        (np.expm1(wide), 3.0),
    ]
    eps = np.finfo(dtype).eps
    for values, (exact, ulps) in zip(found, expected, strict=True):
        difference = np.abs(values - exact)
        if ulps is None:  # exp(-x^2 / 2): the rounding of x^2 grows with it
            assert (difference <= 4 * eps * (1 + wide * wide) * exact + 1e-30).all()
        else:
            assert (difference <= ulps * eps * np.abs(exact) + 1e-38).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_logarithms_near_zero(dtype: Any) -> None:
    u = np.geomspace(1e-12, 1e12, 3001).astype(dtype)
    found = np.empty((2, u.size), dtype)
    _evaluate_positive(u, found)
    wide = u.astype(np.longdouble)
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(found[0], np.log1p(wide).astype(float), rtol=4 * eps)
    # For small u: u^2/2 - 2 u^3/3 + 3 u^4/4 - ...
    series = sum((-1) ** k * (k - 1) / np.longdouble(k) * wide**k for k in range(2, 12))
    exact = np.where(wide < 1e-2, series, np.log1p(wide) - wide / (1 + wide))
    np.testing.assert_allclose(found[1], exact.astype(float), rtol=16 * eps)


def test_ends_of_the_ranges() -> None:
    x = np.array([0.0, -0.0, 1e30, -1e30, np.nan])
    found = np.empty((7, 5))
    _evaluate(x, found)
    np.testing.assert_array_equal(found[0], [0, 0, 1, -1, np.nan])
    assert np.signbit(found[0, 1])
    np.testing.assert_allclose(found[1], [np.log(2), np.log(2), 1e30, 0, np.nan], atol=1e-300)
    np.testing.assert_allclose(found[3], [0.5, 0.5, 1, 0, np.nan], rtol=1e-15, atol=1e-290)


def test_differences_of_log_gamma() -> None:
    mpmath = pytest.importorskip("mpmath")
    pairs = [(t, x) for t in (1e-3, 0.5, 7.25, 1e3, 1e6) for x in (0, 1, 2.5, 16, 17, 300, 1e5)]
    theta, x = np.array(pairs).T.copy()
    found = np.empty((3, x.size))
    _rise(theta, x, found)
    with mpmath.workdps(40):
        for i, (t, n) in enumerate(pairs):
            a, b = mpmath.mpf(t), mpmath.mpf(n)
            exact = [
                mpmath.loggamma(a + b) - mpmath.loggamma(a),
                mpmath.digamma(a + b) - mpmath.digamma(a),
                mpmath.loggamma(b + 1),
            ]
            for k, value in enumerate(exact):
                assert found[k, i] == pytest.approx(float(value), rel=1e-13, abs=1e-15), (t, n, k)
