"""Coverage of 95 % intervals of an AR(1): the measured table of the literature of this method.

Unit curvature, unit noise, 4000 chains, burn-in 400: batch means with divisor K - 1 and Student's
t, random scaling, and the mean of Sigma-hat, whose truth is 1. Short batches cover less than they
say, since Sigma-hat is low by about 1 / (gamma mu m): a property of the estimator.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from hotloops import sgd

TABLE = [
    # gamma, n, K, batch means, random scaling, mean Sigma-hat
    (0.05, 4000, 50, 0.920, 0.948, 0.753),
    (0.05, 4000, 20, 0.939, 0.942, 0.892),
    (0.05, 20_000, 50, 0.947, 0.952, 0.954),
    (0.1, 20_000, 50, 0.949, 0.954, 0.982),
]


def covered(interval: tuple[Any, Any], to_host: Callable[[Any], Any]) -> float:
    low, high = (to_host(end) for end in interval)
    return float(((low <= 0) & (high >= 0)).mean())


@pytest.mark.filterwarnings("ignore:.* batches of .* steps are short:RuntimeWarning")
@pytest.mark.parametrize(("gamma", "n", "K", "by_batches", "by_scaling", "sigma"), TABLE)
def test_coverage(
    backend: str,
    gamma: float,
    n: int,
    K: int,
    by_batches: float,
    by_scaling: float,
    sigma: float,
    to_host: Callable[[Any], Any],
) -> None:
    run = sgd.run(
        sgd.Quadratic([1.0], 0.0),
        gamma,
        n,
        burn_in=400,
        num_chains=4000,
        seed=2024,
        batch_length=n // K,
        backend=backend,
    )
    batches = run.confidence_interval(0.95, "batch_means", num_batches=K)
    assert abs(covered(batches, to_host) - by_batches) < 0.015
    scaling = run.confidence_interval(0.95, "random_scaling")
    assert abs(covered(scaling, to_host) - by_scaling) < 0.015
    found = to_host(run.long_run_covariance("batch_means", K))
    assert found.shape == (4000, 1, 1)
    assert abs(found.mean() - sigma) < 0.015


def test_coverage_of_the_defaults() -> None:
    """What a user gets who asks for nothing, of extrapolated averages."""
    problem = sgd.Cosine(phi=1.0)
    run = sgd.run(problem, [0.05, 0.1], 20_000, burn_in=400, num_chains=2000, seed=5)
    low, high = run.confidence_interval()
    inside = (low <= problem.minimizer()) & (problem.minimizer() <= high)
    assert abs(inside.mean() - 0.95) < 0.02
    low, high = run.confidence_interval(method="obm", window=1000)
    inside = (low <= problem.minimizer()) & (problem.minimizer() <= high)
    assert abs(inside.mean() - 0.95) < 0.02
    # Plain averages of phase 1 are biased by half a standard error, and cover less.
    low, high = run.confidence_interval(of="mean")
    inside = (low <= problem.minimizer()) & (problem.minimizer() <= high)
    assert inside[:, 1].mean() < 0.93
    assert np.isfinite(high - low).all()
