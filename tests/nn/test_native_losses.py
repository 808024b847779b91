"""Losses: published numbers, formulas in extended precision, gradients by differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.special

from hotloops._runtime.blas import core_with_blas
from tests.nn.native import (
    BINARY_CROSS_ENTROPY,
    CROSS_ENTROPY,
    HUBER,
    MEAN_SQUARED,
    NEGATIVE_BINOMIAL,
    POISSON,
    Tables,
    csr,
)

Array = npt.NDArray[Any]


def evaluate(
    kind: int,
    h: Array,
    tables: Tables,
    log_theta: Array | None = None,
    constant: float = 0.0,
    weight: float = 1.0,
    threads: int = 2,
) -> tuple[Array, Array, Array | None]:
    """Row losses, and the gradients of weight times their mean."""
    dtype = str(h.dtype)
    gradient, rows = np.full_like(h, np.nan), np.full(len(h), np.nan)
    gradient[:] = 0
    theta_gradient = None if log_theta is None else np.zeros_like(log_theta)
    getattr(core_with_blas(), f"nn_loss_{dtype}")(
        kind,
        h,
        *tables.lists(),
        log_theta,
        constant,
        weight,
        gradient,
        theta_gradient,
        rows,
        threads,
    )
    return rows, gradient, theta_gradient


def check_gradients(kind: int, h: Array, tables: Tables, **more: Any) -> None:
    """Differences of the weighted mean against the gradients."""
    _, gradient, theta_gradient = evaluate(kind, h, tables, weight=0.7, **more)
    pairs = [(h, gradient)]
    if theta_gradient is not None:
        pairs.append((more["log_theta"], theta_gradient))
    for array, found in pairs:
        flat = array.reshape(-1)
        for i in range(flat.size):
            kept = flat[i]
            values = []
            for sign in (1, -1):
                flat[i] = kept + sign * 1e-5
                values.append(0.7 * evaluate(kind, h, tables, weight=0.7, **more)[0].mean())
            flat[i] = kept
            difference = (values[0] - values[1]) / 2e-5
            scale = max(1.0, np.abs(found).max())
            assert abs(difference - found.reshape(-1)[i]) < 1e-6 * scale, i


def log_p(x: float, mu: float, theta: float) -> tuple[float, float, float]:
    """The log density and its slopes, from a row of one column, where softmax is 1."""
    table = csr(np.array([[x]]), "float64")
    table = (*table[:5], np.array([float(mu)]))
    rows, _, theta_slope = evaluate(
        NEGATIVE_BINOMIAL, np.zeros((1, 1)), Tables(sparse=[table]), np.log([[float(theta)]])
    )
    assert theta_slope is not None
    return -rows[0], theta * (x - mu) / (theta + mu), -theta_slope[0, 0]


# Section 9.4 of the specification: x, mu, theta; log p, d by log mu, d by log theta.
DENSITIES = [
    (0, 0.05, 2, -0.0493852251807429, -0.04878048780487806, -0.000604737375864954),
    (3, 4, 2, -2.0273255405408213, -1 / 3, 0.3027754226637802),
    (7, 1.5, 0.5, -4.270083754953793, 1.375, -0.1130134254261903),
    (150, 90, 10, -6.2421787124644, 6, -0.8229212202255853),
]


@pytest.mark.parametrize(("x", "mu", "theta", "value", "by_mu", "by_theta"), DENSITIES)
def test_known_densities(
    x: float, mu: float, theta: float, value: float, by_mu: float, by_theta: float
) -> None:
    found = log_p(x, mu, theta)
    np.testing.assert_allclose(found, (value, by_mu, by_theta), rtol=3e-13, atol=3e-15)


def test_density_at_large_theta_keeps_its_digits() -> None:
    assert abs(log_p(1, 1e-6, 1e6)[0] + 13.815511557965273) < 2e-14


def test_known_softmax_gradient() -> None:
    h = np.array([[0.5, -1, 2, 0]])
    x = np.array([[3.0, 0, 8, 1]])
    rows, gradient, _ = evaluate(
        NEGATIVE_BINOMIAL,
        h,
        Tables(sparse=[csr(x, "float64")]),
        np.array([[0.1, -0.3, 0.7, 0]]),
    )
    assert abs(rows[0] - 6.828745073125973) < 1e-13
    expected = [0.409673521548246, -0.268464083480819, -0.07357687860204, -0.067632559465387]
    np.testing.assert_allclose(-gradient[0], expected, atol=1e-14)
    assert abs(gradient.sum()) < 1e-15


@pytest.mark.parametrize("theta", [5e-5, 0.02, 0.5, 3.0, 40.0, 1e3, 3e6])
@pytest.mark.parametrize("x", [0.0, 1.0, 2.0, 15.0, 16.0, 17.0, 100.0, 4000.0, 0.5, 2.25, 15.75])
def test_density_against_many_digits(x: float, theta: float) -> None:
    mpmath = pytest.importorskip("mpmath")
    with mpmath.workdps(40):
        mu, t = mpmath.mpf(2.5), mpmath.e ** mpmath.mpf(np.log(theta))
        value = t * (mpmath.log(t) - mpmath.log(t + mu)) + x * mpmath.log(mu / (t + mu))
        value += mpmath.loggamma(x + t) - mpmath.loggamma(t) - mpmath.loggamma(x + 1)
        slope = mpmath.digamma(x + t) - mpmath.digamma(t) - mpmath.log1p(mu / t)
        slope = t * (slope + (mu - x) / (t + mu))
        terms = [x * mpmath.log(mu / (t + mu)), mpmath.loggamma(x + t) - mpmath.loggamma(t)]
        size = max(float(max(abs(term) for term in terms)), abs(float(value)), 1e-300)
    found = log_p(x, 2.5, theta)
    assert abs(found[0] - float(value)) < 1e-14 * size + 1e-15
    assert abs(found[2] - float(slope)) < 2e-13 * abs(float(slope)) + 4e-15 * (x + 1)


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize(("rows", "width"), [(1, 1), (2, 3), (9, 20)])
def test_negative_binomial_gradients(rows: int, width: int, groups: int) -> None:
    generator = np.random.default_rng(rows)
    x = generator.poisson(2.0, (rows, width)).astype(float) * generator.choice([1, 1, 9])
    x[:, 0] += 1
    indices = [generator.integers(0, groups, rows).astype(np.int32)] if groups > 1 else []
    log_theta = generator.standard_normal((groups, width))
    tables = Tables(sparse=[csr(x, "float64")], indices=indices)
    h = generator.standard_normal((rows, width))
    check_gradients(NEGATIVE_BINOMIAL, h, tables, log_theta=log_theta)


def test_negative_binomial_clamps_theta_and_lets_the_gradient_through() -> None:
    x = csr(np.array([[2.0, 0.0]]), "float64")
    far = evaluate(NEGATIVE_BINOMIAL, np.zeros((1, 2)), Tables(sparse=[x]), np.array([[40.0, -90]]))
    edge = evaluate(
        NEGATIVE_BINOMIAL, np.zeros((1, 2)), Tables(sparse=[x]), np.array([[15.0, -10]])
    )
    for one, other in zip(far, edge, strict=True):
        np.testing.assert_array_equal(one, other)
    assert edge[2] is not None
    assert edge[2].all()


@pytest.mark.parametrize("total_matches", [True, False])
def test_poisson(total_matches: bool) -> None:
    generator = np.random.default_rng(8)
    x = generator.poisson(3.0, (5, 9)).astype(float)
    x[0] = 0
    x[1, 2] = 60
    table = csr(x, "float64")
    if not total_matches:
        table = (*table[:5], table[5] + 2.5)
    h = generator.standard_normal((5, 9))
    rows, _, _ = evaluate(POISSON, h, Tables(sparse=[table]))
    rate = table[5][:, None] * scipy.special.softmax(h, axis=1)
    expected = rate - scipy.special.xlogy(x, rate) + scipy.special.gammaln(x + 1)
    np.testing.assert_allclose(rows, expected.sum(1), rtol=1e-13)
    check_gradients(POISSON, h, Tables(sparse=[table]))


def test_extreme_logits_stay_finite() -> None:
    h = np.array([[800.0, -800, 0], [-2000, 300, 299]])
    x = csr(np.array([[0.0, 5, 1], [3, 0, 0]]), "float64")
    for kind, log_theta in ((NEGATIVE_BINOMIAL, np.zeros((1, 3))), (POISSON, None)):
        for dtype in ("float64", "float32"):
            table = csr(np.array([[0.0, 5, 1], [3, 0, 0]]), dtype)
            theta = None if log_theta is None else log_theta.astype(dtype)
            rows, gradient, slope = evaluate(kind, h.astype(dtype), Tables(sparse=[table]), theta)
            assert np.isfinite(rows).all()
            assert np.isfinite(gradient).all()
            assert slope is None or np.isfinite(slope).all()
    assert x is not None


@pytest.mark.parametrize(("rows", "width"), [(1, 1), (2, 3), (9, 20)])
def test_regressions(rows: int, width: int) -> None:
    generator = np.random.default_rng(rows)
    h, y = 2 * generator.standard_normal((2, rows, width))
    found, _, _ = evaluate(MEAN_SQUARED, h, Tables([y]))
    np.testing.assert_allclose(found, ((h - y) ** 2).mean(1), rtol=1e-13)
    check_gradients(MEAN_SQUARED, h, Tables([y]))
    found, _, _ = evaluate(HUBER, h, Tables([y]), constant=1.5)
    np.testing.assert_allclose(found, scipy.special.huber(1.5, h - y).mean(1), rtol=1e-13)
    check_gradients(HUBER, h, Tables([y]), constant=1.5)


@pytest.mark.parametrize(("rows", "width"), [(1, 1), (2, 3), (9, 20)])
def test_classifications(rows: int, width: int) -> None:
    generator = np.random.default_rng(rows)
    h = 3 * generator.standard_normal((rows, width))
    labels = generator.integers(0, width, rows).astype(np.int32)
    found, _, _ = evaluate(CROSS_ENTROPY, h, Tables(indices=[labels]))
    expected = -scipy.special.log_softmax(h, axis=1)[np.arange(rows), labels]
    np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-14)
    check_gradients(CROSS_ENTROPY, h, Tables(indices=[labels]))
    y = generator.integers(0, 2, (rows, width)).astype(float)
    expected = (np.logaddexp(0, h) - y * h).sum(1)
    for tables in (
        Tables([y]),
        Tables(sparse=[csr(y, "float64")]),
        Tables(sparse=[csr(7 * y, "float64", 4)]),
    ):
        found, _, _ = evaluate(BINARY_CROSS_ENTROPY, h, tables)
        np.testing.assert_allclose(found, expected, rtol=1e-13)
        check_gradients(BINARY_CROSS_ENTROPY, h, tables)


def test_losses_have_the_same_bits_for_any_number_of_threads() -> None:
    generator = np.random.default_rng(0)
    h = generator.standard_normal((300, 257)).astype(np.float32)
    table = csr(generator.poisson(0.4, (300, 257)) + np.eye(300, 257), "float32", 1)
    log_theta = generator.standard_normal((1, 257)).astype(np.float32)
    one, two, five = (
        evaluate(NEGATIVE_BINOMIAL, h, Tables(sparse=[table]), log_theta, threads=threads)
        for threads in (1, 2, 5)
    )
    for other in (two, five):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_float32_is_close_to_float64() -> None:
    generator = np.random.default_rng(0)
    h = generator.standard_normal((20, 500))
    counts = generator.poisson(0.2, (20, 500)) + np.eye(20, 500)
    log_theta = generator.standard_normal((1, 500))
    wide = evaluate(NEGATIVE_BINOMIAL, h, Tables(sparse=[csr(counts, "float64")]), log_theta)
    narrow = evaluate(
        NEGATIVE_BINOMIAL,
        h.astype(np.float32),
        Tables(sparse=[csr(counts, "float32")]),
        log_theta.astype(np.float32),
    )
    np.testing.assert_allclose(narrow[0], wide[0], rtol=1e-6)
    assert np.abs(narrow[1] - wide[1]).max() < 1e-6 * np.abs(wide[1]).max()
    assert wide[2] is not None
    assert narrow[2] is not None
    assert np.abs(narrow[2] - wide[2]).max() < 1e-6 * np.abs(wide[2]).max()


NAN = float("nan")
BAD = [
    (MEAN_SQUARED, Tables(), None, "one target"),
    (MEAN_SQUARED, Tables([np.zeros((2, 4))]), None, "another width"),
    (MEAN_SQUARED, Tables([np.zeros((3, 3))]), None, "another number of rows"),
    (MEAN_SQUARED, Tables(sparse=[csr(np.eye(2, 3), "float64")]), None, "no CSR target"),
    (CROSS_ENTROPY, Tables(), None, "needs labels"),
    (CROSS_ENTROPY, Tables(indices=[np.array([0, 3], np.int32)]), None, "out of range"),
    (CROSS_ENTROPY, Tables(indices=[np.array([0, -1], np.int32)]), None, "out of range"),
    (POISSON, Tables([np.zeros((2, 3))]), None, "needs a CSR target"),
    (POISSON, Tables(sparse=[csr(np.eye(2, 4), "float64")]), None, "another width"),
    (NEGATIVE_BINOMIAL, Tables(sparse=[csr(np.eye(2, 3), "float64")]), None, "log theta"),
    (NEGATIVE_BINOMIAL, Tables(sparse=[csr(np.eye(2, 3), "float64")]), (1, 4), "log theta"),
    (9, Tables([np.zeros((2, 3))]), None, "unknown loss"),
]


@pytest.mark.parametrize(("kind", "tables", "shape", "message"), BAD)
def test_bad_arguments(
    kind: int, tables: Tables, shape: tuple[int, int] | None, message: str
) -> None:
    log_theta = None if shape is None else np.zeros(shape)
    with pytest.raises(ValueError, match=message):
        evaluate(kind, np.zeros((2, 3)), tables, log_theta)
