"""Losses against formulas, differences, SciPy's distributions; what they refuse."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import scipy.special
import scipy.stats

from hotloops import nn
from tests.nn.networks import Array, both, both_types, numeric_gradient, sparse_counts

SHAPES = [(1, 1), (2, 1), (3, 7), (9, 33)]
shapes = pytest.mark.parametrize(("rows", "columns"), SHAPES)


def logits_of(rows: int, columns: int, dtype: str = "float64") -> Array:
    return np.random.default_rng(1).normal(0.0, 1.5, (rows, columns)).astype(dtype)


def check(call: Callable[[Array], Any], h: Array, expected: float) -> None:
    value, gradient = call(h)[:2]
    assert value == pytest.approx(expected, rel=1e-12)
    numeric = numeric_gradient(lambda: call(h)[0], h)
    np.testing.assert_allclose(gradient, numeric, rtol=1e-6, atol=1e-8)


@both
@shapes
def test_mean_squared_error(backend: str, rows: int, columns: int) -> None:
    h = logits_of(rows, columns)
    y = np.random.default_rng(2).normal(size=h.shape)
    expected = float(np.mean((h - y) ** 2))
    check(lambda h: nn.mean_squared_error(h, y, backend=backend), h, expected)


@both
@shapes
def test_huber(backend: str, rows: int, columns: int) -> None:
    h = logits_of(rows, columns)
    y = np.random.default_rng(2).normal(size=h.shape)
    expected = float(np.mean(scipy.special.huber(0.7, h - y)))
    check(lambda h: nn.huber(h, y, 0.7, backend=backend), h, expected)


@both
@shapes
def test_cross_entropy(backend: str, rows: int, columns: int) -> None:
    h = logits_of(rows, columns)
    labels = np.arange(rows) % columns
    logs = scipy.special.log_softmax(h, axis=1)
    expected = -float(np.mean(logs[np.arange(rows), labels]))
    check(lambda h: nn.cross_entropy(h, labels, backend=backend), h, expected)


@both
@shapes
@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
def test_binary_cross_entropy(backend: str, rows: int, columns: int, sparse: bool) -> None:
    h = logits_of(rows, columns)
    y = np.random.default_rng(2).integers(0, 2, h.shape).astype(float)
    expected = float(np.mean(np.sum(np.logaddexp(0.0, h) - y * h, axis=1)))
    target = scipy.sparse.csr_array(y) if sparse else y
    check(lambda h: nn.binary_cross_entropy(h, target, backend=backend), h, expected)


@both
@shapes
@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
def test_poisson(backend: str, rows: int, columns: int, sparse: bool) -> None:
    h = logits_of(rows, columns)
    table = sparse_counts(rows, columns)
    x = table.toarray()
    rate = x.sum(axis=1, keepdims=True) * scipy.special.softmax(h, axis=1)
    expected = -float(np.mean(scipy.stats.poisson.logpmf(x, rate).sum(axis=1)))
    target = table if sparse else x
    check(lambda h: nn.poisson_nll(h, target, backend=backend), h, expected)


@both
@shapes
@pytest.mark.parametrize("groups", [0, 1, 3])
def test_negative_binomial(backend: str, rows: int, columns: int, groups: int) -> None:
    h = logits_of(rows, columns)
    table = sparse_counts(rows, columns)
    x = table.toarray()
    shape = (groups, columns) if groups else (columns,)
    log_theta = np.random.default_rng(4).normal(size=shape)
    labels = np.arange(rows) % groups if groups else None
    chosen = log_theta[labels] if groups else np.tile(log_theta, (rows, 1))
    mean = x.sum(axis=1, keepdims=True) * scipy.special.softmax(h, axis=1)
    theta = np.exp(chosen)
    log_p = scipy.stats.nbinom.logpmf(x, theta, theta / (theta + mean))
    expected = -float(np.mean(log_p.sum(axis=1)))

    def call(h: Array) -> Any:
        return nn.negative_binomial_nll(h, table, log_theta, labels, backend=backend)

    check(call, h, expected)
    slope = call(h)[2]
    assert slope.shape == shape
    numeric = numeric_gradient(lambda: call(h)[0], log_theta)
    np.testing.assert_allclose(slope, numeric, rtol=1e-6, atol=1e-8)


@both
def test_log_theta_is_kept_within_bounds(backend: str) -> None:
    table = sparse_counts(3, 4)
    h = logits_of(3, 4)
    for inside, outside in ((-10.0, -25.0), (15.0, 80.0)):
        values = [
            nn.negative_binomial_nll(h, table, np.full(4, t), backend=backend)
            for t in (inside, outside)
        ]
        assert values[0][0] == values[1][0]
        np.testing.assert_array_equal(values[0][2], values[1][2])


@both
@both_types
def test_softmax_that_underflows_has_finite_gradients(backend: str, dtype: str) -> None:
    h = np.array([[0.0, -3000.0, 2000.0], [1e30, -1e30, 0.0]], dtype)
    x = np.array([[3.0, 2.0, 0.0], [1.0, 0.0, 5.0]], dtype)
    log_theta = np.zeros(3, dtype)
    results = [
        nn.negative_binomial_nll(h, x, log_theta, backend=backend),
        nn.poisson_nll(h, x, backend=backend),
        nn.cross_entropy(h, [0, 2], backend=backend),
        nn.binary_cross_entropy(h, np.zeros_like(x), backend=backend),
    ]
    for value, *gradients in results:
        assert np.isfinite(value)
        for gradient in gradients:
            assert gradient.dtype == np.dtype(dtype)
            assert np.isfinite(gradient).all()


@both
def test_counts_need_not_be_whole(backend: str) -> None:
    h, theta = logits_of(2, 3), np.array([0.5, 2.0, 9.0])
    x = np.array([[0.5, 0.0, 3.25], [16.5, 15.5, 100.75]])
    mean = x.sum(axis=1, keepdims=True) * scipy.special.softmax(h, axis=1)
    g = scipy.special.gammaln
    log_p = theta * np.log(theta / (theta + mean)) + x * np.log(mean / (theta + mean))
    log_p += g(x + theta) - g(theta) - g(x + 1)
    value, _, _ = nn.negative_binomial_nll(h, x, np.log(theta), backend=backend)
    assert value == pytest.approx(-float(log_p.sum(axis=1).mean()), rel=1e-12)


@both
def test_float32_is_close_to_float64(backend: str) -> None:
    table = sparse_counts(9, 33)
    h, log_theta = logits_of(9, 33), np.random.default_rng(4).normal(size=33)
    wide = nn.negative_binomial_nll(h, table, log_theta, backend=backend)
    h32, theta32 = h.astype("f"), log_theta.astype("f")
    single = nn.negative_binomial_nll(h32, table.astype("f"), theta32, backend=backend)
    assert single[0] == pytest.approx(wide[0], rel=1e-6)
    for a, b in zip(single[1:], wide[1:], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


X = np.zeros((2, 3))
ERRORS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (
        lambda: nn.mean_squared_error(X[0], X),
        ValueError,
        "mean_squared_error: `prediction` must have shape (rows, columns), got (3,)",
    ),
    (
        lambda: nn.mean_squared_error(X, X[:1]),
        ValueError,
        "mean_squared_error: `target` must have shape (2, 3), got (1, 3)",
    ),
    (
        lambda: nn.mean_squared_error(X + np.nan, X),
        ValueError,
        "mean_squared_error: `prediction` must be finite, got nan at index (0, 0)",
    ),
    (
        lambda: nn.mean_squared_error(X, X, backend="torch"),
        ValueError,
        "mean_squared_error: `backend` must be one of 'cpp', 'cuda', 'numba', got 'torch'",
    ),
    (
        lambda: nn.mean_squared_error(X, X, num_threads=0),
        ValueError,
        "mean_squared_error: `num_threads` must be an integer in [1, 1024], got 0",
    ),
    (
        lambda: nn.huber(X, X, 0.0),
        ValueError,
        "huber: `delta` must be a finite number > 0.0, got 0.0",
    ),
    (
        lambda: nn.cross_entropy(X, [0, 3]),
        ValueError,
        "cross_entropy: `labels` must hold integers in [0, 2], got 3 at index (1,)",
    ),
    (
        lambda: nn.cross_entropy(X, [-1, 0]),
        ValueError,
        "cross_entropy: `labels` must hold integers in [0, 2], got -1 at index (0,)",
    ),
    (
        lambda: nn.cross_entropy(X, [0.5, 1.0]),
        TypeError,
        "cross_entropy: `labels` must be an array of integers, got dtype float64",
    ),
    (
        lambda: nn.cross_entropy(X, [0]),
        ValueError,
        "cross_entropy: `labels` must have shape (rows,) with rows = 2 as in `logits`, got (1,)",
    ),
    (
        lambda: nn.binary_cross_entropy(X, X + 1.5),
        ValueError,
        "binary_cross_entropy: `target` must hold numbers in [0, 1], got 1.5 at index (0, 0)",
    ),
    (
        lambda: nn.binary_cross_entropy(X, scipy.sparse.csr_array(X + 2)),
        ValueError,
        "binary_cross_entropy: `target.data` must hold numbers in [0, 1], got 2.0 at index (0,)",
    ),
    (
        lambda: nn.poisson_nll(X, X),
        ValueError,
        "poisson_nll: `counts` must have rows with a sum above zero, got row 0",
    ),
    (
        lambda: nn.poisson_nll(X, X - 1),
        ValueError,
        "poisson_nll: `counts.data` must not be negative, got -1.0 at index (0,)",
    ),
    (
        lambda: nn.poisson_nll(X, scipy.sparse.csr_array(np.ones((2, 4)))),
        ValueError,
        "poisson_nll: `counts` must have shape (2, 3), got (2, 4)",
    ),
    (
        lambda: nn.negative_binomial_nll(X, X + 1, np.zeros(4)),
        ValueError,
        "negative_binomial_nll: `log_theta` must have shape (columns,) with columns = 3, got (4,)",
    ),
    (
        lambda: nn.negative_binomial_nll(X, X + 1, np.zeros(3), [0, 0]),
        ValueError,
        "negative_binomial_nll: `log_theta` must have shape (groups, columns)",
    ),
    (
        lambda: nn.negative_binomial_nll(X, X + 1, np.zeros((2, 3)), [0, 2]),
        ValueError,
        "negative_binomial_nll: `groups` must hold integers in [0, 1], got 2 at index (1,)",
    ),
]


@pytest.mark.parametrize(
    ("call", "kind", "message"), ERRORS, ids=[f"{i:02d}" for i in range(len(ERRORS))]
)
def test_errors(call: Callable[[], Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=re.escape(message)):
        call()
