"""Log-likelihood of negative binomial counts: known answers, extended precision, errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from hotloops import flow

mpmath = pytest.importorskip("mpmath")

KNOWN = {
    (0, 0.05, 2): (-0.0493852251807429, -0.04878048780487806, -0.0006047373758649534),
    (3, 4, 2): (-2.0273255405408213, -1 / 3, 0.3027754226637802),
    (7, 1.5, 0.5): (-4.270083754953793, 1.375, -0.1130134254261903),
    (150, 90, 10): (-6.2421787124644, 6.0, -0.8229212202255798),
}
BACKENDS = ("cpp", "numba")


def exact(x: float, mu: float, theta: float) -> tuple[float, float, float]:
    with mpmath.workdps(80):
        x, mu, theta = (mpmath.mpf(float(value)) for value in (x, mu, theta))
        value = theta * mpmath.log(theta / (theta + mu)) + x * mpmath.log(mu / (theta + mu))
        value += mpmath.loggamma(x + theta) - mpmath.loggamma(theta) - mpmath.loggamma(x + 1)
        slope = mpmath.digamma(x + theta) - mpmath.digamma(theta) - mpmath.log1p(mu / theta)
        slope += (mu - x) / (theta + mu)
        return float(value), float(theta * (x - mu) / (theta + mu)), float(theta * slope)


@pytest.mark.parametrize("backend", BACKENDS)
def test_known_answers(backend: str) -> None:
    for arguments, expected in KNOWN.items():
        found = flow.negative_binomial_log_prob(*arguments, gradient=True, backend=backend)
        np.testing.assert_allclose(found, expected, rtol=2e-12)
    tiny = flow.negative_binomial_log_prob(1, 1e-6, 1e6, backend=backend)
    assert abs(tiny - -13.815511557965273) <= np.spacing(13.8)


@pytest.mark.parametrize("backend", BACKENDS)
def test_extended_precision(backend: str) -> None:
    generator = np.random.default_rng(1)
    count = 400
    x = np.where(
        np.arange(count) % 2, generator.integers(0, 30, count), generator.integers(0, 9999, count)
    )
    mu, theta = np.exp(generator.uniform((-12, -14), (10, 16), (count, 2))).T
    found = flow.negative_binomial_log_prob(x, mu, theta, gradient=True, backend=backend)
    expected = np.array([exact(*row) for row in zip(x, mu, theta, strict=True)]).T
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-14)
    np.testing.assert_allclose(found[2], expected[2], rtol=1e-10, atol=1e-11)
    small = x <= 16
    np.testing.assert_allclose(found[2][small], expected[2][small], rtol=1e-9, atol=0)


def test_gradients_are_those_of_the_value() -> None:
    x = np.array([0, 1, 3, 16, 17, 60])
    mu, theta, h = np.full(6, 2.3), np.full(6, 1.7), 1e-5
    _, by_mu, by_theta = flow.negative_binomial_log_prob(x, mu, theta, gradient=True)
    ahead, behind = np.exp(h), np.exp(-h)
    for slope, moved in (
        (by_mu, lambda f: flow.negative_binomial_log_prob(x, mu * f, theta)),
        (by_theta, lambda f: flow.negative_binomial_log_prob(x, mu, theta * f)),
    ):
        np.testing.assert_allclose(
            slope, (moved(ahead) - moved(behind)) / (2 * h), rtol=1e-7, atol=1e-9
        )


def test_probabilities_sum_to_one() -> None:
    x = np.arange(4000)
    for mu, theta in ((0.3, 5.0), (20.0, 0.4), (90.0, 1e5)):
        log_prob = flow.negative_binomial_log_prob(x, mu, theta)
        assert np.exp(log_prob).sum() == pytest.approx(1.0, abs=1e-11)


def test_both_backends_and_all_threads(threads: int) -> None:
    generator = np.random.default_rng(2)
    x = generator.integers(0, 40, (37, 1001)) * (generator.random((37, 1001)) < 0.2)
    mu, theta = np.exp(generator.normal(size=x.shape)), np.exp(generator.normal(size=1001))
    expected = flow.negative_binomial_log_prob(x, mu, theta, gradient=True, num_threads=1)
    for backend in BACKENDS:
        found = flow.negative_binomial_log_prob(
            x, mu, theta, gradient=True, backend=backend, num_threads=threads
        )
        for left, right in zip(found, expected, strict=True):
            np.testing.assert_array_equal(left, right)
        value = flow.negative_binomial_log_prob(x, mu, theta, backend=backend)
        np.testing.assert_array_equal(value, expected[0])


@pytest.mark.parametrize("backend", BACKENDS)
def test_limits(backend: str) -> None:
    """A mean of 0, a huge theta (Poisson) and a tiny one, float32."""
    found = flow.negative_binomial_log_prob([0, 2], 0.0, 3.0, gradient=True, backend=backend)
    np.testing.assert_array_equal(found[0], [0.0, -np.inf])
    np.testing.assert_array_equal(found[1], [0.0, 2.0])
    poisson = flow.negative_binomial_log_prob([0, 2, 40], 30.0, 1e60, backend=backend)
    np.testing.assert_allclose(poisson, stats.poisson.logpmf([0, 2, 40], 30.0), rtol=1e-12)
    assert np.isfinite(
        flow.negative_binomial_log_prob([0, 5, 50], 1.0, 1e-300, backend=backend)
    ).all()
    x = np.array([0, 4])
    single = np.ones(2, np.float32)
    found = flow.negative_binomial_log_prob(x, single, single, backend=backend)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, flow.negative_binomial_log_prob(x, 1.0, 1.0).astype("f4"))


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        (
            {"counts": [0.5, 1]},
            ValueError,
            r"`counts` must hold whole numbers .*got 0.5 at index \(0,\)",
        ),
        (
            {"counts": [-1, 1]},
            ValueError,
            r"`counts` must hold whole numbers .*got -1 at index \(0,\)",
        ),
        ({"counts": [np.inf, 1]}, ValueError, "`counts` must hold whole numbers"),
        ({"counts": [np.nan, 1]}, ValueError, "`counts` must hold whole numbers"),
        ({"counts": None}, TypeError, "`counts` must be an array of real numbers"),
        ({"mu": -1.0}, ValueError, "`mu` must be finite and not negative, got -1.0"),
        ({"mu": np.nan}, ValueError, "`mu` must be finite and not negative, got nan"),
        ({"theta": 0.0}, ValueError, "`theta` must be finite and positive, got 0.0"),
        ({"theta": np.ones(3)}, ValueError, r"`theta` must have a shape that fits .*got \(3,\)"),
        ({"gradient": 1}, TypeError, "`gradient` must be True or False"),
        ({"backend": "cuda"}, TypeError, "`backend` must be 'cpp' or 'numba'"),
        ({"num_threads": 0}, ValueError, "`num_threads` must be"),
    ],
)
def test_bad_arguments(changed: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments = {"counts": [0, 1], "mu": np.ones(2), "theta": 1.0, **changed}
    with pytest.raises(error, match="negative_binomial_log_prob: " + message):
        flow.negative_binomial_log_prob(**arguments)
