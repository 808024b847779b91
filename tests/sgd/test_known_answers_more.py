"""Numbers that are known exactly, continued: Markovian noise and streams of rows.

Seeds are fixed; every comparison is within four standard errors of the sample, or within the
relative tolerance that is stated. Other backends have the same bits, which other tests say.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from hotloops import sgd

Float64 = npt.NDArray[np.float64]

NUM_CHAINS = 20_000


def assert_mean(samples: Float64, expected: Any) -> None:
    error = samples.std(axis=0, ddof=1) / np.sqrt(len(samples))
    distance = np.abs(samples.mean(axis=0) - expected) / error
    assert (distance < 4).all(), f"{samples.mean(axis=0)}, {distance} errors away"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_markovian_noise(dtype: str) -> None:
    """A linear problem whose averages are biased, and what extrapolation leaves."""
    problem = sgd.MarkovLSA([[[-1.5]], [[-0.25]]], [[1.0], [2.0]], [[0.9, 0.1], [0.2, 0.8]])
    at = 1.230769230769
    run = sgd.run(
        problem,
        [0.0125, 0.025, 0.05],
        2000,
        burn_in=1000,
        num_chains=NUM_CHAINS,
        theta0=[at],
        seed=71,
        dtype=dtype,
    )
    mean = run.mean[:, :, 0]
    assert_mean(mean[:, 1], 1.267986176563)
    assert_mean(mean[:, 2], 1.303758471965)
    assert_mean(2 * mean[:, 0] - mean[:, 1] - at, 3.7199231873e-4)
    assert_mean(run.extrapolated[:, 0] - at, 1.4439627883e-5)
    # The bias of 0.037 is seen: a hundred standard errors.
    assert (mean[:, 1] - at).mean() > 50 * mean[:, 1].std() / np.sqrt(NUM_CHAINS)
    # n Var of the average tends to Sigma*, slowly: the noise remembers for ten steps.
    np.testing.assert_allclose(2000 * mean[:, 0].var(), 6.914043625923, rtol=0.06)


def test_independent_states() -> None:
    """With rows of P equal to pi the bias vanishes."""
    law = [2 / 3, 1 / 3]
    problem = sgd.MarkovLSA([[[-1.5]], [[-0.25]]], [[1.0], [2.0]], [law, law])
    np.testing.assert_allclose(problem.minimizer(), [1.230769230769], rtol=1e-12)
    run = sgd.run(problem, 0.05, 1000, burn_in=400, num_chains=NUM_CHAINS, seed=72)
    assert_mean(run.mean[:, 0, 0], 1.230769230769)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_streaming_least_squares(dtype: str) -> None:
    """Invariant mean t*, invariant covariance c I with c = g s / (2 - g (d + 2))."""
    d, gamma = 10, 0.05
    truth = np.linspace(-1, 1, d)
    problem = sgd.StreamingLeastSquares(truth)
    c = gamma / (2 - gamma * (d + 2))
    assert c == pytest.approx(0.0357142857)
    run = sgd.run(
        problem,
        gamma,
        200,
        burn_in=200,
        num_chains=NUM_CHAINS,
        theta0=truth.tolist(),
        seed=73,
        dtype=dtype,
    )
    error = run.last[:, 0].astype(np.float64) - truth
    assert_mean(error, 0.0)
    assert_mean(run.mean[:, 0] - truth, 0.0)
    covariance = error.T @ error / NUM_CHAINS
    np.testing.assert_allclose(np.diag(covariance), c, rtol=0.05)  # 4 errors of 1 %
    np.testing.assert_allclose(np.diag(covariance).mean(), c, rtol=0.03)
    assert_mean(error[:, :, None] * error[:, None, :], c * np.eye(d))


def test_second_moments_explode() -> None:
    """At g >= 2 / (d + 2), far below 2 / L, some chains run away."""
    problem = sgd.StreamingLeastSquares(np.zeros(10), divergence_limit=1e3)
    with pytest.warns(RuntimeWarning, match="diverged"):
        run = sgd.run(problem, 0.35, 2000, num_chains=64, seed=74)
    assert run.flags.any()


def test_correlated_rows_are_biased_and_extrapolation_helps() -> None:
    """AR(1) features bias a linear recursion as a Markov chain does; independent ones do not."""
    truth = np.array([1.0, -1.0])
    errors = {}
    for rho in (0.0, 0.8):
        problem = sgd.StreamingLeastSquares(truth, l2=0.5, rho=rho)
        at = problem.minimizer()
        run = sgd.run(
            problem, [0.02, 0.04], 1000, burn_in=600, num_chains=NUM_CHAINS, theta0=at, seed=75
        )
        errors[rho] = run.mean[:, 0] - at, run.extrapolated - at
    assert_mean(errors[0.0][0], 0.0)
    assert_mean(errors[0.0][1], 0.0)
    plain, combined = (error.mean(axis=0) for error in errors[0.8])
    resolution = errors[0.8][0].std(axis=0) / np.sqrt(NUM_CHAINS)
    assert (np.abs(plain) > 20 * resolution).all()
    assert (np.abs(combined) < np.abs(plain) / 2).all()


def test_optimal_covariance_is_reached_with_correlated_rows() -> None:
    """n Cov of the averages tends to H^{-1} S H^{-1} with the long-run S, not the one-step S."""
    truth = np.array([1.0, -1.0])
    for make in (sgd.StreamingLeastSquares, sgd.StreamingLogistic):
        problem = make(truth, l2=0.5, rho=0.9)
        n = 4000
        run = sgd.run(
            problem,
            [0.01, 0.02],
            n,
            burn_in=1500,
            num_chains=4000,
            theta0=problem.minimizer(),
            seed=76,
        )
        found = n * np.cov(run.extrapolated.T)
        expected = problem.optimal_covariance()
        np.testing.assert_allclose(np.diag(found), np.diag(expected), rtol=0.12)
        one_step = make(truth, l2=0.5).optimal_covariance()
        assert (np.diag(expected) > 1.2 * np.diag(one_step)).all()


@pytest.mark.parametrize("noise", ["uniform", "rademacher", "laplace", sgd.StudentT(5)], ids=str)
def test_laws_of_noise_share_the_second_moments(noise: Any) -> None:
    """The error at n = 100 depends on the law through its variance alone."""
    n = 100
    problem = sgd.Quadratic([1.0], 0.0, noise=noise)
    run = sgd.run(problem, [0.1, 0.2], n, num_chains=NUM_CHAINS, theta0=[1.0], seed=77)
    assert_mean(n * run.mean[:, 0] ** 2, 0.9052656748)
    assert_mean(n * run.extrapolated**2, 0.8908971389)
