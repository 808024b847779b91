"""Covariances and intervals of the estimators."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import optimize, special

pytest.importorskip("sklearn", reason="the estimators need scikit-learn")
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Ridge

from hotloops import sgd

Float64 = npt.NDArray[np.float64]

TRUTH = np.array([1.0, -0.5, 0.8])

# Runs of some hundred steps end a standard error off, and say so.
SHORT = "ignore::sklearn.exceptions.ConvergenceWarning"


def linear_sample(source: np.random.Generator, size: int) -> tuple[Float64, Float64]:
    """Rows of which the errors grow with the first feature: classical intervals would fail."""
    X = source.normal(size=(size, 2))
    errors = source.normal(size=size) * (0.4 + np.abs(X[:, 0]))
    return X, X @ TRUTH[:2] + TRUTH[2] + errors


def logistic_sample(source: np.random.Generator, size: int) -> tuple[Float64, Any]:
    X = source.normal(size=(size, 2))
    return X, (source.uniform(size=size) < special.expit(X @ TRUTH[:2] + TRUTH[2])).astype(int)


def theta_of(model: Any) -> Float64:
    return np.append(np.ravel(model.coef_), model.intercept_)


def assert_covered(inside: Float64, repetitions: int) -> None:
    """The share of intervals that cover is within four standard errors of 95 %, and 1 % for HC1."""
    allowed = 4 * np.sqrt(0.95 * 0.05 / repetitions) + 0.01
    np.testing.assert_allclose(inside / repetitions, 0.95, atol=allowed)


@pytest.mark.filterwarnings(SHORT)
@pytest.mark.parametrize("loss", ["squared_error", "huber", "log_loss"])
@pytest.mark.parametrize("covariance", ["sandwich", "batch_means"])
def test_intervals_cover_the_population(loss: str, covariance: str) -> None:
    """Few passes: half of the variance is that of the draws, and the intervals know it."""
    repetitions = 300
    source = np.random.default_rng(11)
    inside = np.zeros(3)
    for repetition in range(repetitions):
        if loss == "log_loss":
            X, y = logistic_sample(source, 400)
            cls = sgd.RRSGDClassifier
        else:
            X, y = linear_sample(source, 400)
            cls = sgd.RRSGDRegressor
        model = cls(
            loss,
            alpha=0.0,
            n_passes=100 if covariance == "batch_means" else 2,
            burn_in=1000,
            covariance=covariance,
            random_state=repetition,
        )
        low, high = model.fit(X, y).conf_int().T
        inside += (low < TRUTH) & (high > TRUTH)
    assert_covered(inside, repetitions)


@pytest.mark.parametrize("num_chains", [1, 3])
def test_intervals_cover_the_minimiser(num_chains: int) -> None:
    """On one data set, over seeds: the noise of the steps alone."""
    X, y = linear_sample(np.random.default_rng(3), 300)
    ridge = Ridge(alpha=0.1 * 300).fit(X, y)
    truth = np.append(ridge.coef_, ridge.intercept_)
    repetitions = 300
    inside = np.zeros(3)
    for repetition in range(repetitions):
        model = sgd.RRSGDRegressor(
            alpha=0.1, n_passes=10, burn_in=500, num_chains=num_chains, random_state=repetition
        ).fit(X, y)
        low, high = model.conf_int(about="minimizer").T
        inside += (low < truth) & (high > truth)
    assert_covered(inside, repetitions)


def hc1(X: Float64, y: Float64, theta: Float64, alpha: float, shares: Float64) -> Float64:
    """The sandwich of ridge regression with a free intercept, in plain NumPy."""
    rows = np.column_stack([X, np.ones(len(X))])
    penalty = alpha * np.diag([1.0, 1.0, 0.0])
    hessian = rows.T @ (rows * shares[:, None]) + penalty
    scores = rows * (rows @ theta - y)[:, None] + penalty @ theta
    inverse = np.linalg.inv(hessian)
    meat = scores.T @ (scores * shares[:, None] ** 2)
    return inverse @ meat @ inverse * len(X) / (len(X) - 3)


@pytest.mark.parametrize("alpha", [0.0, 0.2])
def test_whole_passes_give_the_sandwich_of_the_textbook(alpha: float) -> None:
    X, y = linear_sample(np.random.default_rng(5), 200)
    model = sgd.RRSGDRegressor(alpha=alpha, sampling="reshuffle", random_state=0).fit(X, y)
    expected = hc1(X, y, theta_of(model), alpha, np.full(200, 1 / 200))
    np.testing.assert_allclose(model.coef_cov_, expected, rtol=1e-9)
    np.testing.assert_allclose(model.optimization_cov_, 0, atol=1e-20)


def test_weights_enter_the_sandwich_as_shares() -> None:
    X, y = linear_sample(np.random.default_rng(5), 200)
    weights = np.random.default_rng(6).gamma(1.0, size=200)
    model = sgd.RRSGDRegressor(alpha=0.0, n_passes=3000, burn_in=2000, random_state=0)
    model.fit(X, y, sample_weight=weights)
    expected = hc1(X, y, theta_of(model), 0.0, weights / weights.sum())
    # A row drawn 3000 times has a share known to 2 %, and the square of it to 4 %.
    np.testing.assert_allclose(np.diag(model.coef_cov_), np.diag(expected), rtol=0.06)


@pytest.mark.filterwarnings(SHORT)
def test_draws_with_replacement_add_their_own_noise() -> None:
    """cov = Sigma (1/N + 1/T), and the part 1/T is that of the steps."""
    X, y = linear_sample(np.random.default_rng(5), 500)
    ratios = []
    for seed in range(40):
        model = sgd.RRSGDRegressor(alpha=0.0, n_passes=4, random_state=seed).fit(X, y)
        sampling = np.diag(hc1(X, y, theta_of(model), 0.0, np.full(500, 1 / 500)))
        noise = np.diag(model.optimization_cov_) * 500 / 497
        ratios.append([np.diag(model.coef_cov_) / sampling, noise / sampling])
    # The ratios of one fit scatter by a tenth, by which rows were drawn twice.
    mean, error = np.mean(ratios, axis=0), np.std(ratios, axis=0) / np.sqrt(40)
    assert (np.abs(mean - [[1.25], [0.25]]) < 4 * error).all()
    assert (error < 0.03).all()


def test_batch_means_agree_with_the_sandwich() -> None:
    X, y = logistic_sample(np.random.default_rng(5), 300)
    options = {"alpha": 0.05, "n_passes": 1500, "random_state": 0, "batch_size": 2}
    sandwich = sgd.RRSGDClassifier(**options).fit(X, y)
    batches = sgd.RRSGDClassifier(**options, covariance="batch_means").fit(X, y)
    np.testing.assert_array_equal(batches.coef_, sandwich.coef_)
    # 109 batches or more: standard error of a variance below 14 %.
    for name in ("coef_cov_", "optimization_cov_"):
        ratio = np.diag(getattr(batches, name)) / np.diag(getattr(sandwich, name))
        np.testing.assert_allclose(ratio, 1, atol=0.45)


def test_the_sandwich_of_a_fit_is_that_of_the_minimiser() -> None:
    """Huber's loss at the exact minimiser, by plain NumPy."""
    X, y = linear_sample(np.random.default_rng(9), 250)
    rows = np.column_stack([X, np.ones(250)])

    def loss(theta: Float64) -> float:
        return float(special.huber(0.5, rows @ theta - y).mean())

    truth = optimize.minimize(loss, np.zeros(3), method="BFGS").x
    r = rows @ truth - y
    hessian = rows[np.abs(r) < 0.5].T @ rows[np.abs(r) < 0.5] / 250
    scores = rows * np.clip(r, -0.5, 0.5)[:, None]
    inverse = np.linalg.inv(hessian)
    expected = inverse @ (scores.T @ scores) @ inverse / 250**2 * 250 / 247
    model = sgd.RRSGDRegressor("huber", epsilon=0.5, alpha=0.0, sampling="reshuffle", n_passes=1000)
    model.set_params(random_state=0).fit(X, y)
    np.testing.assert_allclose(theta_of(model), truth, atol=0.02)
    np.testing.assert_allclose(model.coef_cov_, expected, rtol=0.1, atol=1e-4)


def test_a_start_that_is_not_forgotten_gives_a_warning() -> None:
    X, y = linear_sample(np.random.default_rng(5), 200)
    model = sgd.RRSGDRegressor(random_state=0)
    with pytest.warns(ConvergenceWarning, match=r"standard errors off .*; standardise") as told:
        model.fit(X * [1.0, 1e-3], y)
    assert told[0].filename == __file__
    truth = Ridge(alpha=1e-4 * 200).fit(X, y)
    model.fit(X, y)  # and none with features of one scale
    errors = np.sqrt(np.diag(model.coef_cov_))[:2]
    assert (np.abs(model.coef_ - truth.coef_) < errors).all()


def test_levels_are_normal_quantiles() -> None:
    X, y = linear_sample(np.random.default_rng(5), 100)
    model = sgd.RRSGDRegressor(random_state=0).fit(X, y)
    theta = theta_of(model)
    errors = np.sqrt(np.diag(model.coef_cov_))
    for level, quantile in ((0.95, 1.959963984540054), (0.5, 0.6744897501960817)):
        low, high = model.conf_int(level).T
        np.testing.assert_allclose((high - theta) / errors, quantile, rtol=1e-12)
        np.testing.assert_allclose((theta - low) / errors, quantile, rtol=1e-12)


def test_extrapolation_removes_the_bias_of_the_step() -> None:
    """A skewed logistic problem at a long step: the pair is nearer to the minimiser."""
    X, y = logistic_sample(np.random.default_rng(2), 60)
    rows = np.column_stack([X, np.ones(60)])
    truth = sgd.Logistic(rows, y).minimizer()
    options = {"alpha": 0.0, "step_size": 0.4, "n_passes": 20_000, "burn_in": 5_000}
    pair = sgd.RRSGDClassifier(**options, random_state=0).fit(X, y)
    single = sgd.RRSGDClassifier(**options, extrapolate=False, random_state=0).fit(X, y)
    noise = np.sqrt(np.diag(pair.optimization_cov_)).max()
    assert np.abs(theta_of(single) - truth).max() > 20 * noise
    assert np.abs(theta_of(pair) - truth).max() < np.abs(theta_of(single) - truth).max() / 3
