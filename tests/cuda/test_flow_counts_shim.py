"""The CUDA kernels of the counts, run on a CPU, return the bits of the C++ drivers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hotloops import flow

ROWS, COLUMNS = 7, 83
GENERATOR = np.random.default_rng(6)
MU = np.exp(GENERATOR.uniform(-9, 8, (ROWS, COLUMNS)))
THETA = np.exp(GENERATOR.uniform(-10, 9, (1, COLUMNS)))
LAWS = {
    "negative_binomial": lambda mu, theta, **k: flow.negative_binomial(mu, theta, seed=5, **k),
    "poisson": lambda mu, theta, **k: flow.poisson(mu, seed=5, **k),
    "bernoulli": lambda mu, theta, **k: flow.bernoulli(mu / (1 + mu), seed=5, **k),
    "gamma": lambda mu, theta, **k: flow.gamma(mu, theta, seed=5, **k),
}
every_law = pytest.mark.parametrize("law", LAWS)


@every_law
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_same_bits(cuda: Any, law: str, dtype: str) -> None:
    mu, theta = MU.astype(dtype), THETA.astype(dtype)
    for options in ({}, {"step": 3, "rows": 2**32 - ROWS}):
        expected = LAWS[law](mu, theta, **options)
        got = LAWS[law](cuda.asarray(mu), cuda.asarray(theta), **options)
        assert type(got).__module__ == "cupy"
        assert got.get().tobytes() == expected.tobytes()


@every_law
def test_numbered_rows_and_shared_parameters(cuda: Any, law: str) -> None:
    numbers = np.array([9, 2**32 - 1, 0, 77, 5, 1, 2])
    mu, theta = np.ascontiguousarray(MU[:, :1]), THETA[:, :1].copy()
    shape = (ROWS, COLUMNS)
    expected = LAWS[law](mu, theta, size=shape, rows=numbers)
    got = LAWS[law](cuda.asarray(mu), cuda.asarray(theta), size=shape, rows=cuda.asarray(numbers))
    np.testing.assert_array_equal(got.get(), expected)


@pytest.mark.parametrize("backwards", [False, True])
def test_grid_that_is_cut_does_the_same(cuda: Any, backwards: bool) -> None:
    cuda.shim.set_max_blocks(1)
    cuda.shim.set_backwards(backwards)
    for law in LAWS.values():
        got = law(cuda.asarray(MU), cuda.asarray(THETA))
        assert got.get().tobytes() == law(MU, THETA).tobytes()


def test_likelihood(cuda: Any) -> None:
    x = GENERATOR.integers(0, 40, MU.shape) * (GENERATOR.random(MU.shape) < 0.5)
    expected = flow.negative_binomial_log_prob(x, MU, THETA, gradient=True)
    there = [cuda.asarray(value) for value in (x, MU, THETA)]
    got = flow.negative_binomial_log_prob(*there, gradient=True)
    for left, right in zip(got, expected, strict=True):
        assert left.get().tobytes() == right.tobytes()
    value = flow.negative_binomial_log_prob(*there)
    assert value.get().tobytes() == expected[0].tobytes()


@every_law
def test_bad_values_end(cuda: Any, law: str) -> None:
    """Arrays on a GPU are not looked at: whatever they hold, a kernel comes to its end."""
    bad = np.array([np.nan, -1.0, np.inf, 0.0, 1e300, 5e-324])
    for mu, theta in ((bad, np.ones(6)), (np.full(6, 3.0), bad)):
        there = cuda.asarray(mu), cuda.asarray(theta)
        if law == "bernoulli":
            flow.bernoulli(there[0])
        else:
            LAWS[law](*there)


def test_failed_launch_is_an_error(cuda: Any) -> None:
    cuda.shim.fail_next_launch(9)
    with pytest.raises(RuntimeError, match="flow counts: CUDA error 9"):
        flow.poisson(cuda.asarray([1.0, 2.0]))
