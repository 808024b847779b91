"""Counts follow their laws: moments, goodness of fit, and what the parameters' limits give.

Seeds are fixed; each bound has a false-alarm rate below 1e-4 for a seed that was not chosen.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from hotloops import flow

COUNT = 2**20
SHAPE = (2**10, 2**10)

# mu, theta: variance, P(0), skewness, excess kurtosis.
MOMENTS = {
    (0.05, 2.0): (0.05125, 0.951814396192743, 4.63812409514356, 22.5121951219512),
    (4.0, 2.0): (12.0, 1 / 9, 1.44337567297406, 3.08333333333333),
    (1.5, 0.5): (6.0, 0.5, 2.85773803324704, 12.1666666666667),
    (90.0, 10.0): (900.0, 1e-10, 0.633333333333, 0.601111111111),
}
# Inverted, mixed, and both sides of every switch: of the mean, of the tail, of the Poisson rate.
NEGATIVE_BINOMIALS = [
    (4.0, 2.0),
    (1.5, 0.5),
    (0.05, 2.0),
    (16.0, 3.0),
    (np.nextafter(16.0, 17.0), 3.0),
    (16.0, 0.4),
    (np.nextafter(16.0, 17.0), 0.4),
    (90.0, 10.0),
    (0.9, 0.9 / 2**14),
    (0.9, 0.89 / 2**14),
    (3.0, 1e7),
    (40.0, 1e12),
]
POISSONS = [1e-3, 0.7, 4.0, np.nextafter(10.0, 9.0), 10.0, 14.5, 100.0, 12_345.0]


def fits(x: np.ndarray[Any, Any], law: Any) -> float:
    """Return the p-value of a chi-square test, over bins that expect at least ten."""
    edges = np.unique(law.ppf(np.linspace(0, 1, 65)[1:-1]))
    probabilities = np.diff(np.concatenate([[0.0], law.cdf(edges), [1.0]]))
    observed = np.bincount(np.searchsorted(edges, x.ravel()), minlength=edges.size + 1)
    expected = probabilities * x.size
    keep = expected >= 10
    parts = [np.append(part[keep], part[~keep].sum()) for part in (observed, expected)]
    if parts[1][-1] < 10:
        parts = [part[:-1] for part in parts]
    statistic = ((parts[0] - parts[1]) ** 2 / parts[1]).sum()
    return float(stats.chi2.sf(statistic, parts[0].size - 1))


def negative_binomial_law(mu: float, theta: float) -> Any:
    return stats.nbinom(theta, theta / (theta + mu))


@pytest.mark.parametrize(("mu", "theta"), MOMENTS)
def test_moments(mu: float, theta: float) -> None:
    variance, zero, skewness, kurtosis = MOMENTS[mu, theta]
    x = flow.negative_binomial(mu, theta, SHAPE, seed=11).astype(float)
    centred = x - mu
    assert abs(centred.mean()) < 4.5 * (variance / COUNT) ** 0.5
    spread = 4.5 * ((kurtosis + 2) / COUNT) ** 0.5 * variance
    assert abs((centred**2).mean() - variance) < spread
    assert abs((x == 0).mean() - zero) < 4.5 * (zero * (1 - zero) / COUNT) ** 0.5 + 1e-9
    assert (centred**3).mean() / variance**1.5 == pytest.approx(skewness, rel=0.1)


@pytest.mark.parametrize(("mu", "theta"), NEGATIVE_BINOMIALS)
def test_negative_binomial_fits(mu: float, theta: float) -> None:
    x = flow.negative_binomial(mu, theta, SHAPE, seed=12)
    assert fits(x, negative_binomial_law(mu, theta)) > 1e-4


@pytest.mark.parametrize("rate", POISSONS)
def test_poisson_fits(rate: float) -> None:
    assert fits(flow.poisson(rate, SHAPE, seed=13), stats.poisson(rate)) > 1e-4


@pytest.mark.parametrize("alpha", [0.02, 0.3, 0.999, 1.0, 1.7, 40.0, 1e6])
def test_gamma_fits(alpha: float) -> None:
    x = flow.gamma(alpha, 2.5, SHAPE, seed=14)
    law = stats.gamma(alpha, scale=2.5)
    assert stats.kstest(x.ravel()[::7], law.cdf).pvalue > 1e-4
    assert abs(x.mean() - law.mean()) < 4.5 * law.std() / COUNT**0.5


@pytest.mark.parametrize("probability", [0.0, 1e-5, 0.25, 1.0])
def test_bernoulli(probability: float) -> None:
    x = flow.bernoulli(probability, SHAPE, seed=15)
    spread = (probability * (1 - probability) / COUNT) ** 0.5
    assert abs(x.mean() - probability) <= 4.5 * spread
    assert set(np.unique(x)) <= {0, 1}


def test_rare_counts() -> None:
    """P(0) of a mean far below one ulp of 1 times the number of draws, and of one near it."""
    x = flow.negative_binomial(1e-4, 0.3, SHAPE, seed=16)
    zero = (1 + 1e-4 / 0.3) ** -0.3
    assert abs((x == 0).mean() - zero) < 4.5 * (zero * (1 - zero) / COUNT) ** 0.5
    assert not flow.negative_binomial(1e-30, 5.0, SHAPE, seed=16).any()
    assert not flow.negative_binomial(0.0, 5.0, SHAPE, seed=16).any()


def test_neighbours_are_independent() -> None:
    """Columns that share a block, rows, steps and seeds: no correlation, not even of ranks."""
    base = flow.negative_binomial(3.0, 2.0, SHAPE, seed=17)
    mixed = flow.negative_binomial(30.0, 2.0, SHAPE, seed=17)
    others = [
        base[:, 1:],
        base[1:],
        flow.negative_binomial(3.0, 2.0, SHAPE, seed=18),
        flow.negative_binomial(3.0, 2.0, SHAPE, seed=17, step=1),
        # The words of an inverted column are in no other column's gamma or Poisson attempts.
        mixed[:, : SHAPE[1] // 2].repeat(2, axis=1),
    ]
    for other in others:
        a, b = base[: other.shape[0], : other.shape[1]].ravel(), other.ravel()
        assert abs(np.corrcoef(a, b)[0, 1]) < 4.5 / a.size**0.5 * 1.5


def test_parameters_meet_their_columns() -> None:
    """Means of columns and rows in a broadcast call, small and large side by side."""
    mu = np.exp(np.linspace(-6, 6, 37))
    theta = np.exp(np.linspace(3, -3, 37))
    x = flow.negative_binomial(mu, theta, (40_000, 37), seed=19).astype(float)
    error = np.abs(x.mean(0) - mu) / np.sqrt((mu + mu**2 / theta) / 40_000)
    assert error.max() < 4.5
    rates = np.exp(np.linspace(-4, 5, 29))[:, None]
    y = flow.poisson(rates, (29, 40_000), seed=20).astype(float)
    assert (np.abs(y.mean(1) - rates[:, 0]) / np.sqrt(rates[:, 0] / 40_000)).max() < 4.5


def test_largest_means() -> None:
    x = flow.poisson(np.full(4096, 1e8), seed=21).astype(float)
    assert abs(x.mean() - 1e8) < 4.5 * (1e8 / 4096) ** 0.5
    y = flow.negative_binomial(np.full(4096, 9e7), 1e9, seed=21).astype(float)
    assert abs(y.mean() - 9e7) < 4.5 * (9.81e7 / 4096) ** 0.5


def test_heavy_tail_is_clamped() -> None:
    """Rates are clamped, so that no count leaves int32."""
    x = flow.negative_binomial(1e8, 1e-3, SHAPE, seed=22)
    assert 9.9e7 < x.max() < 1.01e8
    assert x.min() == 0
