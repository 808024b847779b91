"""Metrics of generated cells: known answers, plain formulas, both backends, errors."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from scipy.spatial.distance import cdist

from hotloops.flow import _metrics_neighbours, metrics

BACKENDS = ("cpp", "numba")
every_backend = pytest.mark.parametrize("backend", BACKENDS)
X = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
Y = np.array([[0.5, 0.5], [2.0, 1.0], [-1.0, 0.0]])


def clouds(n: int, m: int, d: int, seed: int = 0) -> tuple[Any, Any]:
    generator = np.random.default_rng(seed)
    return generator.normal(size=(n, d)), generator.normal(size=(m, d)) * 1.3 + 0.2


@every_backend
def test_known_answers(backend: str) -> None:
    assert metrics.mmd(X, Y, backend=backend) == pytest.approx(1.5849771010393034, rel=1e-14)
    assert metrics.mmd(X, Y, kernel="linear", backend=backend) == -0.5
    assert metrics.wasserstein(X, Y, backend=backend) == pytest.approx(
        1.0801234497346435, rel=1e-14
    )
    assert metrics.wasserstein(X, Y, p=1, backend=backend) == pytest.approx(
        1.0404401145198807, rel=1e-14
    )


@every_backend
@pytest.mark.parametrize(("n", "m", "d"), [(1, 1, 1), (70, 33, 5), (200, 130, 30), (64, 64, 2)])
def test_mmd_is_its_formula(backend: str, n: int, m: int, d: int) -> None:
    x, y = clouds(n, m, d)
    sigmas = (0.05, 0.7, 3.0)

    def mean(a: Any, b: Any) -> float:
        squared = cdist(a, b, "sqeuclidean")
        return float(sum(np.exp(-squared / (2 * s**2)) for s in sigmas).mean())

    expected = mean(x, x) + mean(y, y) - 2 * mean(x, y)
    found = metrics.mmd(x, y, sigmas=sigmas, backend=backend)
    assert found == pytest.approx(expected, rel=1e-10, abs=1e-13)
    assert metrics.mmd(x, x.copy(), backend=backend) == pytest.approx(0.0, abs=1e-13)
    assert metrics.mmd(y, x, sigmas=sigmas, backend=backend) == pytest.approx(found, rel=1e-10)


@pytest.mark.parametrize(("n", "m", "d"), [(70, 33, 5), (131, 200, 17)])
def test_same_bits(n: int, m: int, d: int, threads: int) -> None:
    x, y = clouds(n, m, d)
    expected = metrics.mmd(x, y, num_threads=1)
    for backend in BACKENDS:
        assert metrics.mmd(x, y, backend=backend, num_threads=threads) == expected
    for metric in ("sqeuclidean", "l1"):
        one = metrics.pairwise_distances(x, y, metric=metric, num_threads=1)
        for backend in BACKENDS:
            found = metrics.pairwise_distances(
                x, y, metric=metric, backend=backend, num_threads=threads
            )
            np.testing.assert_array_equal(found, one)


def test_instruction_sets(isa: Any) -> None:
    code = """
import numpy as np
from hotloops.flow import metrics
x = np.sin(np.arange(77 * 5.0)).reshape(77, 5)
y = np.cos(np.arange(35 * 5.0)).reshape(35, 5)
print(metrics.mmd(x, y).hex(), metrics.pairwise_distances(x, y).sum().hex())
"""
    assert len(set(isa.run_all(code).values())) == 1


@every_backend
def test_distances(backend: str) -> None:
    x, y = clouds(37, 50, 11)
    for metric, name in (
        ("sqeuclidean", "sqeuclidean"),
        ("euclidean", "euclidean"),
        ("l1", "cityblock"),
    ):
        found = metrics.pairwise_distances(x, y, metric=metric, backend=backend)
        np.testing.assert_allclose(found, cdist(x, y, name), rtol=1e-13)
    own = metrics.pairwise_distances(x, backend=backend)
    np.testing.assert_array_equal(own, own.T)
    assert not own.diagonal().any()
    near = x + 1e-9
    found = metrics.pairwise_distances(x, near, backend=backend).diagonal()
    np.testing.assert_allclose(found, 11e-18, rtol=1e-5)


def test_wasserstein_between_sets_of_different_sizes() -> None:
    pytest.importorskip("ot")
    x, y = clouds(6, 4, 3)
    for p in (1, 2):
        repeated = metrics.wasserstein(x.repeat(2, axis=0), y.repeat(3, axis=0), p=p)
        assert metrics.wasserstein(x, y, p=p) == pytest.approx(repeated, rel=1e-10)


def test_wasserstein_without_pot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ot", None)
    x, y = clouds(6, 4, 3)
    with pytest.raises(ImportError, match=r"wasserstein: sets of different sizes need POT"):
        metrics.wasserstein(x, y)
    metrics.wasserstein(x[:4], y)


def test_wasserstein_of_a_shift() -> None:
    x, _ = clouds(50, 1, 3)
    for p in (1, 2):
        assert metrics.wasserstein(x, x + np.array([3.0, 4.0, 0.0]), p=p) == pytest.approx(
            5.0, rel=1e-12
        )


@every_backend
@pytest.mark.parametrize("metric", ["l1", "sqeuclidean"])
@pytest.mark.parametrize("k", [1, 5])
def test_precision_and_recall_are_their_formulas(
    backend: str, metric: str, k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_metrics_neighbours, "_BLOCK_ELEMENTS", 700)  # several blocks
    x, y = clouds(90, 75, 4)
    name = "cityblock" if metric == "l1" else metric
    real = np.sort(cdist(x, x, name), axis=1)[:, k]
    own = np.sort(cdist(y, y, name), axis=1)[:, k]
    between = cdist(x, y, name)
    inside = between < real[:, None]
    found = metrics.knn_precision_recall(x, y, k=k, metric=metric, backend=backend)
    assert found.to_dict() == pytest.approx(
        {
            "precision": inside.any(axis=0).mean(),
            "recall": (between < own[None]).any(axis=1).mean(),
            "density": inside.sum(axis=0).mean() / k,
            "coverage": inside.any(axis=1).mean(),
        }
    )
    assert found.k == k


def test_precision_and_recall_of_extremes() -> None:
    x, y = clouds(60, 60, 3)
    far = metrics.knn_precision_recall(x, y + 100)
    assert (far.precision, far.recall, far.density, far.coverage) == (0.0, 0.0, 0.0, 0.0)
    inner = metrics.knn_precision_recall(x, x[:1] + 1e-6 * y)  # all modes but one are dropped
    assert inner.precision == 1.0
    assert inner.recall < 0.1
    assert inner.density > 1.0


def test_classifier() -> None:
    pytest.importorskip("sklearn")
    x, _ = clouds(400, 1, 2)
    y, _ = clouds(400, 1, 2, seed=1)
    assert abs(metrics.classifier_f1(x, y) - 0.5) < 0.08  # four standard errors
    assert metrics.classifier_f1(x, y + 20.0) == 1.0
    assert metrics.classifier_f1(x, y, seed=3) == metrics.classifier_f1(x, y, seed=3)


def test_counts_gene_by_gene() -> None:
    generator = np.random.default_rng(2)
    x = generator.poisson(generator.gamma(0.5, size=9), (40, 9))
    for given in (
        x,
        x.astype(float),
        sparse.csr_array(x),
        sparse.csc_matrix(x),
        sparse.coo_array(x),
    ):
        np.testing.assert_allclose(metrics.zero_fraction(given), (x == 0).mean(0))
        mean, variance = metrics.mean_variance(given)
        np.testing.assert_allclose(mean, x.mean(0))
        np.testing.assert_allclose(variance, x.var(0, ddof=1))
    stored_zero = sparse.csr_array(([0, 1], ([0, 1], [0, 0])), shape=(2, 1))
    assert metrics.zero_fraction(stored_zero).tolist() == [0.5]
    large = 1e8 + np.array([[0.0], [1.0]])  # no difference of large squares
    assert metrics.mean_variance(large)[1].tolist() == [0.5]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: metrics.mmd(X[0], Y), ValueError, "mmd: `x` must have 2 dimensions"),
        (
            lambda: metrics.mmd(X, Y[:, :1]),
            ValueError,
            r"mmd: `y` must have shape \(\?, d\) with d = 2",
        ),
        (lambda: metrics.mmd(X * np.nan, Y), ValueError, "mmd: `x` must be finite"),
        (lambda: metrics.mmd(X, Y, sigmas=[0.0]), ValueError, "mmd: `sigmas` must be positive"),
        (lambda: metrics.mmd(X, Y, sigmas=[]), ValueError, "mmd: `sigmas` must not be empty"),
        (lambda: metrics.mmd(X, Y, kernel="laplace"), ValueError, "mmd: `kernel` must be one of"),
        (lambda: metrics.mmd(X[:1], Y, kernel="linear"), ValueError, "share at least two rows"),
        (lambda: metrics.mmd(X, Y, backend="cuda"), TypeError, "mmd: `backend` must be 'cpp'"),
        (lambda: metrics.mmd(X, Y, num_threads=0), ValueError, "mmd: `num_threads` must"),
        (
            lambda: metrics.wasserstein(X, Y, p=3),
            ValueError,
            "wasserstein: `p` must be an integer in",
        ),
        (lambda: metrics.wasserstein(None, Y), TypeError, "wasserstein: `x` must be an array"),
        (
            lambda: metrics.pairwise_distances(X, metric="cosine"),
            ValueError,
            "pairwise_distances: `metric` must be one of",
        ),
        (
            lambda: metrics.knn_precision_recall(X, Y, k=3),
            ValueError,
            "knn_precision_recall: `real` must hold at least 4 points, got 3",
        ),
        (
            lambda: metrics.knn_precision_recall(X, Y, k=0),
            ValueError,
            "`k` must be an integer >= 1",
        ),
        (
            lambda: metrics.knn_precision_recall(X, Y, k=1, metric="l2"),
            ValueError,
            "`metric` must be one of",
        ),
        (
            lambda: metrics.classifier_f1(X, Y),
            ValueError,
            "`real` must hold at least 5 points, got 3",
        ),
        (
            lambda: metrics.classifier_f1(X, Y, folds=1),
            ValueError,
            "`folds` must be an integer >= 2",
        ),
        (
            lambda: metrics.zero_fraction([1, 2]),
            ValueError,
            "zero_fraction: `counts` must have 2 dim",
        ),
        (
            lambda: metrics.zero_fraction([[np.nan]]),
            ValueError,
            "zero_fraction: `counts` must be finite",
        ),
        (
            lambda: metrics.mean_variance([[1, 2]]),
            ValueError,
            "mean_variance: `counts` must hold at",
        ),
        (
            lambda: metrics.mean_variance(sparse.csr_array((1, 4))),
            ValueError,
            "mean_variance: `counts` must hold at least 2 rows, got 1",
        ),
    ],
)
def test_bad_arguments(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
