"""Streaming regression: kernels against NumPy, expectations, correlated rows, arguments."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import special

from hotloops import random, sgd
from tests.sgd import reference

Float64 = npt.NDArray[np.float64]

FACTOR = np.array([[1.0, 0.0, 0.0], [0.5, 0.8, 0.0], [-0.3, 0.2, 1.2]])
TRUTH = np.array([1.0, -0.7, 0.4])
KINDS = {"linear": sgd.StreamingLeastSquares, "logistic": sgd.StreamingLogistic}


def build(kind: str, **options: Any) -> sgd.Problem:
    if kind == "linear":
        options.setdefault("noise_scale", 0.5)
    return KINDS[kind](TRUTH, **options)


class Stream:
    """The rows that the kernel makes, from the definitions and the bulk random numbers."""

    def __init__(self, kind: str, factor: Float64, rho: float, seed: int, chains: Any, step: int):
        self.kind, self.factor, self.rho, self.seed, self.chains = kind, factor, rho, seed, chains
        self.at, self.first = -1, step
        self.z = random.normals(seed, [step], chains, len(factor), 4)[0]

    def row(self, step: int) -> tuple[Float64, Float64]:
        if step != self.at:  # all step sizes share it
            d = len(self.factor)
            drawn = random.normals(self.seed, [step], self.chains, d + 1, 1)[0]
            noise = drawn[:, :d]
            if self.rho:
                noise = self.rho * self.z + np.sqrt(1 - self.rho**2) * noise
            self.z, self.at = noise, step
            self.x = noise @ self.factor.T
            margin = self.x @ TRUTH
            if self.kind == "linear":
                self.y = margin + 0.5 * drawn[:, d]
            else:
                u = random.uniforms(self.seed, [step], self.chains, 1, 2)[0, :, 0]
                self.y = (u < special.expit(margin)).astype(float)
        return self.x, self.y


@pytest.mark.filterwarnings("ignore:run:RuntimeWarning")
@pytest.mark.parametrize("backend", ["cpp", "numba"])
@pytest.mark.parametrize("rho", [0.0, 0.75])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("kind", list(KINDS))
def test_kernel_against_the_loop(kind: str, full: bool, rho: float, backend: str) -> None:
    num_chains, seed, chain_offset, step_offset = 19, 2**40 + 9, 2**31 + 5, 2**32 - 3
    chains = np.arange(num_chains) + chain_offset
    scale = np.array([1.0, 0.5, 2.0])
    l2 = 0.125
    shape = {"cholesky": FACTOR} if full else {"scale": scale}
    problem = build(kind, l2=l2, rho=rho, **shape)
    stream = Stream(kind, FACTOR if full else np.diag(scale), rho, seed, chains, step_offset)

    def gradient(theta: Float64, step: int, noise: Float64) -> Float64:
        x, y = stream.row(step)
        margin = (x * theta).sum(axis=1)
        mean = margin if kind == "linear" else special.expit(margin)
        return (mean - y)[:, None] * x + l2 * theta

    theta0 = np.random.default_rng(3).normal(size=(num_chains, 3, 3))
    common: dict[str, Any] = {
        "num_steps": 20,
        "burn_in": 4,
        "seed": seed,
        "chain_offset": chain_offset,
        "step_offset": step_offset,
    }
    steps = [0.05, 0.02, 0.11]
    mean, last = reference.simulate(gradient, steps, theta0, **common)
    common |= {"num_chains": num_chains, "backend": backend, "statistics": ["mean"]}
    run = sgd.run(problem, steps, theta0=theta0, **common)
    np.testing.assert_allclose(run.last, last, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(run.mean, mean, rtol=1e-12, atol=1e-12)
    single = sgd.run(problem, steps, theta0=theta0.astype(np.float32), **common)
    np.testing.assert_allclose(single.last, last, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore:run:RuntimeWarning")
@pytest.mark.parametrize("kind", list(KINDS))
def test_going_on_keeps_the_features(kind: str) -> None:
    """What an autoregression carries is part of the state."""
    problem = build(kind, rho=0.9)
    whole = sgd.run(problem, [0.05, 0.1], 30, burn_in=10, num_chains=5, seed=8)
    part = sgd.run(problem, [0.05, 0.1], 13, burn_in=10, num_chains=5, seed=8)
    rest = sgd.run(problem, [0.05, 0.1], 17, state=part.state)
    np.testing.assert_array_equal(rest.last, whole.last)
    np.testing.assert_array_equal(rest.mean, whole.mean)
    alone = sgd.run(problem, [0.05, 0.1], 30, burn_in=10, chain_offset=3, seed=8)
    np.testing.assert_array_equal(alone.last[0], whole.last[3])


def test_starts_are_of_the_invariant_law() -> None:
    problem = build("linear", rho=0.9)
    assert problem.num_auxiliary == 3
    assert build("linear").num_auxiliary == 0
    start = problem.initial_auxiliary(5, 7, 4, 2**33 + 1, np.dtype("float32"), np)
    np.testing.assert_array_equal(
        start, random.normals(5, [2**33 + 1], range(7, 11), 3, 4, dtype="float32")[0]
    )
    assert start.dtype == np.float32


# Expectations over Gaussian rows, by Gauss-Hermite quadrature in the test.


def grid(count: int = 60) -> tuple[Float64, Float64]:
    """Points x = L z (n, 2) and weights for two features."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(count)
    weights = weights / weights.sum()
    z = np.stack(np.meshgrid(nodes, nodes, indexing="ij"), -1).reshape(-1, 2)
    return z @ FACTOR[:2, :2].T, np.outer(weights, weights).ravel()


@pytest.mark.parametrize("l2", [0.0, 1e-3, 0.2, 5.0])
def test_logistic_expectations(l2: float) -> None:
    truth = TRUTH[:2]
    problem = sgd.StreamingLogistic(truth, cholesky=FACTOR[:2, :2], l2=l2)
    x, w = grid()
    at = problem.minimizer()
    p, q = special.expit(x @ at), special.expit(x @ truth)
    gradient = (w * (p - q)) @ x + l2 * at
    np.testing.assert_allclose(gradient, 0, atol=1e-13)
    hessian = (x * (w * p * (1 - p))[:, None]).T @ x + l2 * np.eye(2)
    np.testing.assert_allclose(problem.hessian(), hessian, atol=1e-12)
    square = (p - q) ** 2 + q * (1 - q)
    noise = (x * (w * square)[:, None]).T @ x - l2**2 * np.outer(at, at)
    np.testing.assert_allclose(problem.noise_covariance(), noise, atol=1e-12)
    if l2 == 0:
        np.testing.assert_array_equal(at, truth)
        np.testing.assert_allclose(noise, hessian, atol=1e-13)


@pytest.mark.parametrize("l2", [0.0, 0.3])
def test_linear_expectations(l2: float) -> None:
    truth = TRUTH[:2]
    problem = sgd.StreamingLeastSquares(truth, cholesky=FACTOR[:2, :2], noise_scale=0.5, l2=l2)
    x, w = grid(20)
    at = problem.minimizer()
    residual = x @ (at - truth)
    np.testing.assert_allclose((w * residual) @ x + l2 * at, 0, atol=1e-13)
    hessian = (x * w[:, None]).T @ x + l2 * np.eye(2)
    np.testing.assert_allclose(problem.hessian(), hessian, atol=1e-13)
    square = residual**2 + 0.25
    noise = (x * (w * square)[:, None]).T @ x - l2**2 * np.outer(at, at)
    np.testing.assert_allclose(problem.noise_covariance(), noise, atol=1e-13)


@pytest.mark.parametrize("size", [1e-3, 1.0, 10.0, 40.0])
def test_logistic_with_large_coefficients(size: float) -> None:
    """One feature, against adaptive quadrature: flat and steep sigmoids."""
    from scipy import integrate

    problem = sgd.StreamingLogistic([size], l2=0.01)
    (at,) = problem.minimizer()

    def expectation(function: Any) -> float:
        def integrand(z: float) -> float:
            return float(function(z) * np.exp(-z * z / 2) / np.sqrt(2 * np.pi))

        options: dict[str, Any] = {"epsabs": 1e-14, "epsrel": 1e-12, "limit": 400}
        return 2 * float(integrate.quad(integrand, 0, 12, points=[0.01, 0.1, 1], **options)[0])

    pull = expectation(lambda z: z * (special.expit(at * z) - special.expit(size * z)))
    assert abs(pull + 0.01 * at) < 1e-12
    slope = expectation(lambda z: z * z * special.expit(at * z) * special.expit(-at * z))
    np.testing.assert_allclose(problem.hessian(), [[slope + 0.01]], rtol=1e-11)
    square = expectation(
        lambda z: z * z
        * (
            (special.expit(at * z) - special.expit(size * z)) ** 2
            + special.expit(size * z) * special.expit(-size * z)
        )
    )  # fmt: skip
    expected = square - (0.01 * at) ** 2
    np.testing.assert_allclose(problem.noise_covariance(), [[expected]], rtol=1e-10)


@pytest.mark.parametrize(("l2", "rho"), [(0.5, 0.6), (0.1, -0.7), (1.0, 0.95), (0.0, 0.9)])
@pytest.mark.parametrize("kind", list(KINDS))
def test_long_run_covariance_sums_over_lags(kind: str, l2: float, rho: float) -> None:
    """One feature: the covariances of the noise lag by lag, each by Gauss-Hermite quadrature."""
    truth = 1.3
    problem = KINDS[kind]([truth], l2=l2, rho=rho)
    (at,) = problem.minimizer()
    nodes, weights = np.polynomial.hermite_e.hermegauss(100)
    weights = weights / weights.sum()

    def pull(z: Float64) -> Float64:
        if kind == "linear":
            return z * z * (at - truth)
        return z * (special.expit(at * z) - special.expit(truth * z))

    labels = 1.0
    if kind == "logistic":
        labels = weights @ (nodes**2 * special.expit(truth * nodes) * special.expit(-truth * nodes))
    mean = weights @ pull(nodes)
    total = labels + weights @ pull(nodes) ** 2 - mean**2
    for lag in range(1, 1000):
        r = rho**lag
        later = pull(r * nodes[:, None] + np.sqrt(1 - r * r) * nodes)
        total += 2 * ((weights * pull(nodes)) @ later @ weights - mean**2)
    np.testing.assert_allclose(problem.noise_covariance(), [[total]], rtol=1e-10)


@pytest.mark.parametrize("kind", list(KINDS))
def test_long_run_covariance_by_simulation(kind: str) -> None:
    """Three features: sums of the noise at t* over long stretches, within 4.5 standard errors.

    Stretches of T steps leave out a share of about 1 / ((1 - rho^2) T) of the sum over lags: a
    hundredth of the differences that correlation makes.
    """
    rho, l2 = 0.9, 0.3
    problem = build(kind, cholesky=FACTOR, l2=l2, rho=rho)
    at = problem.minimizer()
    rng = np.random.default_rng(12)
    count, length = 8000, 1000
    z, total = rng.normal(size=(count, 3)), np.zeros((count, 3))
    for _ in range(length):
        z = rho * z + np.sqrt(1 - rho**2) * rng.normal(size=z.shape)
        x = z @ FACTOR.T
        if kind == "linear":
            residual = x @ (at - TRUTH) - 0.5 * rng.normal(size=count)
        else:
            label = rng.uniform(size=count) < special.expit(x @ TRUTH)
            residual = special.expit(x @ at) - label
        total += residual[:, None] * x + l2 * at
    products = total[:, :, None] * total[:, None, :] / length
    error = products.std(axis=0) / np.sqrt(count)
    expected = problem.noise_covariance()
    assert (np.abs(products.mean(axis=0) - expected) < 4.5 * error).all()
    independent = build(kind, cholesky=FACTOR, l2=l2).noise_covariance()
    assert (np.diag(expected) > 1.2 * np.diag(independent)).all()


def test_covariance_in_four_ways() -> None:
    covariance = FACTOR @ FACTOR.T
    for kind in KINDS:
        one = build(kind, covariance=covariance, l2=0.1)
        other = build(kind, cholesky=FACTOR, l2=0.1)
        np.testing.assert_allclose(one.hessian(), other.hessian(), rtol=1e-13, atol=1e-15)
        variances = np.array([1.0, 4.0, 9.0])
        one = build(kind, covariance=variances, l2=0.1)
        other = build(kind, scale=np.sqrt(variances), l2=0.1)
        np.testing.assert_array_equal(one.hessian(), other.hessian())
        np.testing.assert_array_equal(build(kind, scale=1.0).hessian(), build(kind).hessian())


def test_bounds_of_curvature() -> None:
    values = np.linalg.eigvalsh(FACTOR @ FACTOR.T)
    low, high = build("linear", cholesky=FACTOR, l2=0.25).curvature_bounds()
    np.testing.assert_allclose([low, high], [values[0] + 0.25, values[-1] + 0.25], rtol=1e-13)
    low, high = build("logistic", cholesky=FACTOR, l2=0.25).curvature_bounds()
    np.testing.assert_allclose([low, high], [0.25, values[-1] / 4 + 0.25], rtol=1e-13)
    assert build("logistic").curvature_bounds()[0] is None


def test_a_row_of_zero_truth() -> None:
    problem = sgd.StreamingLogistic([0.0, 0.0], l2=0.1, rho=0.5)
    np.testing.assert_array_equal(problem.minimizer(), [0.0, 0.0])
    np.testing.assert_allclose(problem.hessian(), np.eye(2) * 0.35, rtol=1e-13)
    np.testing.assert_allclose(problem.noise_covariance(), np.eye(2) / 4, rtol=1e-13)


def test_limits_of_the_expectations() -> None:
    text = "noise_covariance with l2 > 0 is computed for standard deviations of x^T theta up to 50"
    with pytest.raises(ValueError, match=f"^StreamingLogistic: {re.escape(text)}, got 60"):
        sgd.StreamingLogistic([60.0], l2=0.1).noise_covariance()
    assert sgd.StreamingLogistic([60.0]).noise_covariance()[0, 0] > 0
    with pytest.raises(ValueError, match=r"does not converge for rho = 0\.9999"):
        sgd.StreamingLogistic([30.0], l2=1e-4, rho=0.9999).noise_covariance()


REAL = "be an array of real numbers, got"
SHAPE = "have shape (d,) with d = 2 as in `theta`, got"
SQUARE = "have shape (d, d) with d = 2 as in `theta`, got"
BAD: list[tuple[str, Any, type[Exception], str]] = [
    ("theta", None, TypeError, f"{REAL} None"),
    ("theta", "1", TypeError, f"{REAL} '1'"),
    ("theta", [], ValueError, "not be empty, got shape (0,)"),
    ("theta", [[1.0, 2.0]], ValueError, "have shape (d,), got (1, 2)"),
    ("theta", [1.0, np.nan], ValueError, "be finite, got nan at index (1,)"),
    ("scale", [1.0], ValueError, f"{SHAPE} (1,)"),
    ("scale", [1.0, 0.0], ValueError, "be positive, got 0.0 at index (1,)"),
    ("scale", -1.0, ValueError, "be positive, got -1.0 at index (0,)"),
    ("scale", "1", TypeError, f"{REAL} '1'"),
    ("covariance", [1.0, -1.0], ValueError, "be positive, got -1.0 at index (1,)"),
    ("covariance", [1.0, 1.0, 1.0], ValueError, f"{SHAPE} (3,)"),
    ("covariance", np.eye(3), ValueError, f"{SQUARE} (3, 3)"),
    (
        "covariance",
        [[1.0, 0.5], [0.0, 1.0]],
        ValueError,
        "be symmetric, got 0.5 at (0, 1) and 0.0 at (1, 0)",
    ),
    (
        "covariance",
        [[1.0, 2.0], [2.0, 1.0]],
        ValueError,
        "be positive definite, got a smallest eigenvalue of -1",
    ),
    ("cholesky", np.eye(3), ValueError, f"{SQUARE} (3, 3)"),
    ("cholesky", [[1.0, 1.0], [0.0, 1.0]], ValueError, "be lower triangular, got 1.0 at (0, 1)"),
    (
        "cholesky",
        [[1.0, 0.0], [1.0, 0.0]],
        ValueError,
        "have no zero on its diagonal, got 0 at (1, 1)",
    ),
    ("l2", -1.0, ValueError, "be a finite number >= 0.0, got -1.0"),
    ("l2", "0", TypeError, "be a finite number >= 0.0, got '0'"),
    ("rho", 1.0, ValueError, "lie in (-1, 1), got 1"),
    ("rho", -1.5, ValueError, "lie in (-1, 1), got -1.5"),
    ("rho", np.nan, ValueError, "be a finite number, got nan"),
    ("rho", None, TypeError, "be a finite number, got None"),
    ("divergence_limit", 0, ValueError, "be a finite number in (0.0, 1e+30], got 0"),
]


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad[0])
def test_bad_arguments(bad: tuple[str, Any, type[Exception], str], kind: str) -> None:
    argument, value, error, text = bad
    message = f"{KINDS[kind].__name__}: `{argument}` must {text}"
    with pytest.raises(error, match="^" + re.escape(message) + "$"):
        KINDS[kind](**{"theta": [1.0, 2.0], argument: value})


@pytest.mark.parametrize("kind", list(KINDS))
def test_two_covariances(kind: str) -> None:
    message = f"{KINDS[kind].__name__}: `cholesky` must be None when `scale` is given, got a list"
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        KINDS[kind]([1.0], scale=1.0, cholesky=[[1.0]])


def test_bad_noise_scale() -> None:
    for value, kind in ((-1.0, ValueError), (np.inf, ValueError), ("1", TypeError)):
        message = "StreamingLeastSquares: `noise_scale` must be a finite number >= 0.0, got"
        with pytest.raises(kind, match="^" + re.escape(message)):
            sgd.StreamingLeastSquares([1.0], noise_scale=value)


@pytest.mark.filterwarnings("ignore:run:RuntimeWarning")
def test_values_beyond_the_precision_of_the_run() -> None:
    for options, name in (
        ({"theta": [1e300]}, "theta"),
        ({"theta": [1.0], "scale": 1e100}, "scale"),
        ({"theta": [1.0], "noise_scale": 1e300}, "noise_scale"),
        ({"theta": [1.0], "l2": 1e300}, "l2"),
    ):
        problem = sgd.StreamingLeastSquares(**options)
        text = f"^StreamingLeastSquares: `{name}` must be finite in float32, got 1e"
        with pytest.raises(ValueError, match=text):
            sgd.run(problem, 0.1, 10, dtype="float32")
