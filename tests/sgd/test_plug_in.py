"""The plug-in covariance H^-1 S H^-1 against a plain loop over the rows, and what it covers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats
from scipy.special import expit

from hotloops import sgd

Array = npt.NDArray[Any]
ToHost = Callable[[Any], Array]

ROWS, DIM, L2, BATCH = 30, 3, 0.2, 4
BURN_IN, NUM_STEPS, CHAINS = 25, 200, 5
STEPS = {1: [0.05], 2: [0.02, 0.05]}

pytestmark = [
    pytest.mark.filterwarnings("ignore:run. burn_in:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:run. the step size:RuntimeWarning"),
]


def data(name: str) -> tuple[Array, Array]:
    generator = np.random.default_rng(7)
    features = generator.normal(size=(ROWS, DIM)) / 2
    margin = features @ np.array([1.0, -0.5, 0.3])
    if name == "logistic":
        return features, (generator.random(ROWS) < expit(margin)).astype(float)
    if name == "poisson":
        return features, generator.poisson(np.exp(margin)).astype(float)
    return features, margin + generator.standard_t(3, size=ROWS)


def derivatives(name: str, margin: float, target: float) -> tuple[float, float]:
    """Return the first two derivatives of the loss of one row by its margin."""
    if name == "logistic":
        p = float(expit(margin))
        return p - target, p * (1 - p)
    if name == "poisson":
        return float(np.exp(margin)) - target, float(np.exp(margin))
    if name == "huber":
        return float(np.clip(margin - target, -1.0, 1.0)), float(abs(margin - target) <= 1.0)
    return margin - target, 1.0


def problem_of(name: str, **options: Any) -> Any:
    features, targets = data(name)
    kinds: dict[str, Any] = {
        "least_squares": sgd.LeastSquares,
        "logistic": sgd.Logistic,
        "huber": sgd.Huber,
        "poisson": sgd.Poisson,
    }
    if name == "huber":
        options["delta"] = 1.0
    return kinds[name](features, targets, l2=L2, batch_size=BATCH, **options)


def plain_sums(name: str, trace: Array, weights: Array) -> tuple[Array, Array]:
    """Return the means of Hessians and outer products, for rows that come in their order."""
    features, targets = data(name)
    hessian = np.zeros((CHAINS, DIM, DIM))
    outer = np.zeros((CHAINS, DIM, DIM))
    means = np.cumsum(np.einsum("kcjd,j->kcd", trace, weights), axis=0)
    for s in range(2, NUM_STEPS + 1):
        first = (BURN_IN + s - 1) * BATCH
        for chain in range(CHAINS):
            point = means[s - 2, chain] / (s - 1)
            gradient = L2 * point
            for row in range(first, first + BATCH):
                x = features[row % ROWS]
                slope, curvature = derivatives(name, float(x @ point), targets[row % ROWS])
                gradient = gradient + slope * x / BATCH
                hessian[chain] += curvature * np.outer(x, x) / BATCH
            outer[chain] += np.outer(gradient, gradient)
    return hessian / (NUM_STEPS - 1) + L2 * np.eye(DIM), outer / (NUM_STEPS - 1)


@pytest.mark.parametrize("name", ["least_squares", "logistic", "huber", "poisson"])
@pytest.mark.parametrize("copies", [1, 2])
def test_plug_in(backend: str, name: str, copies: int, to_host: ToHost) -> None:
    of = problem_of(name, sampling="sequential")
    options: dict[str, Any] = {
        "burn_in": BURN_IN,
        "num_chains": CHAINS,
        "theta0": np.linspace(-0.5, 0.5, CHAINS * DIM).reshape(CHAINS, DIM),
        "backend": backend,
    }
    run = sgd.run(of, STEPS[copies], NUM_STEPS, statistics=["plug_in"], **options)
    options |= {"checkpoints": range(1, NUM_STEPS + 1), "statistics": ["mean"]}
    every = sgd.run(of, STEPS[copies], NUM_STEPS, **options)
    hessian, outer = plain_sums(name, to_host(every.checkpoint_last), run.weights)
    inverse = np.linalg.inv(hessian)
    expected = inverse @ outer @ inverse
    found = to_host(run.long_run_covariance("plug_in"))
    np.testing.assert_allclose(found, expected, rtol=1e-8)
    low, high = (to_host(end) for end in run.confidence_interval(0.9, "plug_in"))
    width = stats.norm.ppf(0.95) * np.sqrt(np.einsum("cii->ci", expected) / NUM_STEPS)
    np.testing.assert_allclose((high - low) / 2, width, rtol=1e-8)
    np.testing.assert_allclose((high + low) / 2, to_host(run.extrapolated), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("sampling", ["iid", "reshuffle", "sequential"])
def test_pieces_equal_one_run(backend: str, sampling: str, to_host: ToHost) -> None:
    of = problem_of("logistic", sampling=sampling)
    options: dict[str, Any] = {
        "burn_in": BURN_IN,
        "num_chains": CHAINS,
        "seed": 4,
        "statistics": ["plug_in", "batch_means"],
        "backend": backend,
    }
    whole = sgd.run(of, STEPS[2], NUM_STEPS, **options).long_run_covariance("plug_in")
    for cut in (1, 2, 77):
        part = sgd.run(of, STEPS[2], cut, **options)
        part = sgd.run(of, STEPS[2], NUM_STEPS - cut, state=part.state, backend=backend)
        found = part.long_run_covariance("plug_in")
        np.testing.assert_array_equal(to_host(found), to_host(whole))


def test_plug_in_approaches_the_optimal_covariance() -> None:
    """On the data of a regression: within 2 % of H^-1 S H^-1 by enumeration of the rows."""
    of = problem_of("least_squares")
    run = sgd.run(
        of, [0.02, 0.04], 50_000, burn_in=2000, num_chains=32, seed=1, statistics=["plug_in"]
    )
    found = run.long_run_covariance("plug_in").mean(axis=0)
    np.testing.assert_allclose(found, of.optimal_covariance(), rtol=0.02, atol=0.02)


def test_coverage_of_a_stream() -> None:
    """Logistic regression on a stream of features: 95 % of 500 chains, up to 4 standard errors."""
    theta = np.array([0.5, -0.5, 0.25])
    of = sgd.StreamingLogistic(theta)
    run = sgd.run(
        of, [0.05, 0.1], 20_000, burn_in=2000, num_chains=500, seed=3, statistics=["plug_in"]
    )
    low, high = run.confidence_interval(method="plug_in")
    inside = ((low <= theta) & (theta <= high)).mean()
    assert abs(inside - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 1500)


def test_streams_with_a_ridge_count_it(to_host: ToHost) -> None:
    """The ridge is in H and in the gradients of S."""
    theta = np.array([0.5, -0.5])
    options: dict[str, Any] = {"burn_in": 1000, "num_chains": 64, "seed": 3}
    of = sgd.StreamingLeastSquares(theta, noise_scale=0.5, l2=0.3)
    run = sgd.run(of, [0.02, 0.04], 30_000, statistics=["plug_in"], **options)
    found = to_host(run.long_run_covariance("plug_in")).mean(axis=0)
    np.testing.assert_allclose(found, of.optimal_covariance(), rtol=0.03, atol=0.005)


def test_singular_hessians_have_no_interval() -> None:
    """One feature is always zero, and there is no ridge."""
    features = np.array([[1.0, 0.0], [2.0, 0.0], [-1.0, 0.0]])
    of = sgd.LeastSquares(features, [1.0, 2.0, 0.0])
    run = sgd.run(of, 0.05, 100, num_chains=3, statistics=["plug_in"])
    assert np.isnan(run.long_run_covariance("plug_in")).all()
    assert np.isnan(np.stack(run.confidence_interval(method="plug_in"))).all()


def test_one_averaged_step_is_not_enough() -> None:
    run = sgd.run(problem_of("logistic"), 0.05, 1, burn_in=10, statistics=["plug_in"])
    text = "confidence_interval: `num_steps` must have at least 2 averaged steps, got 1"
    with pytest.raises(ValueError, match=text):
        run.confidence_interval(method="plug_in")
