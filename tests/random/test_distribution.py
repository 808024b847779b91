"""Laws of the random numbers: moments, Kolmogorov-Smirnov, correlations along every index.

Seeds are fixed, so these tests either always pass or never. The bounds on moments and correlations
are four standard errors of 10^7 draws: a right generator would miss one of them for one seed in
15000. The Kolmogorov-Smirnov bounds would be missed for one seed in 10^4.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import special

from hotloops import random

SHAPE = (100, 1000, 100)  # steps, chains, coordinates
BOUND = 1.3e-3  # of means and correlations


@pytest.fixture(scope="module", params=["float32", "float64"])
def drawn(request: pytest.FixtureRequest) -> npt.NDArray[Any]:
    return random.normals(2024, *SHAPE, dtype=request.param)  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def normals(drawn: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    return drawn.astype(np.float64)


def kolmogorov_p(cdf: npt.NDArray[np.float64]) -> float:
    """The p value for values that should be uniform on (0, 1)."""
    ordered = np.sort(cdf, axis=None)
    n = ordered.size
    above = (np.arange(1, n + 1) / n - ordered).max()
    below = (ordered - np.arange(n) / n).max()
    return float(special.kolmogorov(np.sqrt(n) * max(above, below)))


def test_moments(normals: npt.NDArray[np.float64]) -> None:
    square = normals * normals
    assert abs(normals.mean()) < BOUND
    assert abs(square.mean() - 1) < 1.8e-3
    assert abs((square * normals).mean()) < 4 * np.sqrt(15 / normals.size)
    fourth = (square * square).mean()
    assert abs(fourth / square.mean() ** 2 - 3) < 6.2e-3


def test_law(normals: npt.NDArray[np.float64]) -> None:
    assert kolmogorov_p(special.ndtr(normals)) > 1e-4


def test_law_of_pairs(normals: npt.NDArray[np.float64]) -> None:
    """The two normals of one pair: their squared radius is exponential, their angle uniform."""
    along, across = normals[..., 0::2], normals[..., 1::2]
    assert kolmogorov_p(-np.expm1(-(along**2 + across**2) / 2)) > 1e-4
    assert kolmogorov_p(np.arctan2(across, along) / (2 * np.pi) + 0.5) > 1e-4


def test_tails(drawn: npt.NDArray[Any]) -> None:
    """As many beyond 3, 4 and 4.75 as the law has, within four standard errors."""
    for limit in (3.0, 4.0, 4.75):
        expected = drawn.size * 2 * special.ndtr(-limit)
        count = int((np.abs(drawn) > limit).sum())
        assert abs(count - expected) < 4 * np.sqrt(expected), limit
    assert np.abs(drawn).max() < (5.7683 if drawn.dtype == np.float32 else 6.7638)


@pytest.mark.parametrize("axis", [0, 1, 2], ids=["steps", "chains", "coordinates"])
def test_correlations_along(normals: npt.NDArray[np.float64], axis: int) -> None:
    """Lags 1 to 5 and 8, of the numbers and of their squares (a block has four coordinates)."""
    moved = np.moveaxis(normals, axis, 0)
    for lag in (1, 2, 3, 4, 5, 8):
        first, second = moved[:-lag], moved[lag:]
        bound = BOUND * np.sqrt(normals.size / first.size)
        assert abs((first * second).mean()) < bound, lag
        assert abs(((first**2 - 1) * (second**2 - 1)).mean()) < 2 * bound, lag


def test_correlations_between_streams_and_seeds() -> None:
    keys = [(7, 0), (7, 1), (7, 2), (7, 5), (7, 16), (8, 0), (7 + 2**32, 0), (7 << 32, 0)]
    count = 10**6
    draws = [random.normals(seed, 100, 100, 100, stream).ravel() for seed, stream in keys]
    for (one, first), (other, second) in itertools.combinations(zip(keys, draws, strict=True), 2):
        correlation = (first * second).mean()
        # 28 pairs: one seed in 560 would miss four standard errors somewhere.
        assert abs(correlation) < 4 / np.sqrt(count), (one, other)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_uniforms(dtype: str) -> None:
    drawn = random.uniforms(99, *SHAPE, dtype=dtype)
    assert drawn.min() > 0
    assert drawn.max() < 1
    uniforms = drawn.astype(np.float64)
    n = uniforms.size
    assert abs(uniforms.mean() - 0.5) < 4 * np.sqrt(1 / 12 / n)
    assert abs(uniforms.var() - 1 / 12) < 4 * np.sqrt(1 / 180 / n)
    assert kolmogorov_p(uniforms) > 1e-4
    for axis in range(3):
        moved = np.moveaxis(uniforms - 0.5, axis, 0)
        assert abs((moved[1:] * moved[:-1]).mean() * 12) < BOUND * np.sqrt(n / moved[1:].size)


def test_bits_of_words() -> None:
    """Every bit of Philox is one half of the time one, for counters that differ in one bit only."""
    counters = np.zeros((4 * 2**16, 4), np.uint32)
    for word in range(4):
        counters[word * 2**16 : (word + 1) * 2**16, word] = np.arange(2**16)
    words = random.philox(counters, [1, 2])
    bits = np.unpackbits(words.view(np.uint8)).reshape(-1, 128)
    deviation = bits.mean(axis=0) - 0.5
    # 128 bits: one key in 125 would miss four standard errors somewhere.
    assert np.abs(deviation).max() < 4 * 0.5 / np.sqrt(bits.shape[0])
