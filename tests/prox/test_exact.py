"""Against slow references: sorting, dense linear algebra, a dual solver of the total variation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import lsq_linear

from hotloops import prox


def simplex_by_sorting(v: np.ndarray, total: float) -> np.ndarray:
    ordered = np.sort(v)[::-1]
    sums = np.cumsum(ordered) - total
    count = np.arange(1, v.size + 1)
    last = np.flatnonzero(ordered - sums / count > 0)[-1]
    return np.maximum(v - sums[last] / (last + 1), 0)


@pytest.mark.parametrize("n", [1, 2, 5, 31, 32, 33, 64, 1000])
@pytest.mark.parametrize("total", [1e-3, 1.0, 50.0])
def test_simplex(n: int, total: float) -> None:
    rng = np.random.default_rng(n)
    for v in (
        rng.normal(size=n),
        rng.integers(0, 3, n) * 1.0,
        np.full(n, 7.0),
        1e8 + rng.random(n),
    ):
        x = prox.Simplex(total)(v)
        np.testing.assert_allclose(x, simplex_by_sorting(v, total), atol=1e-13 * np.abs(v).max())
        np.testing.assert_allclose(x.sum(), total, rtol=1e-13, atol=2e-16 * n * np.abs(v).max())


def test_simplex_in_single_precision_sums_to_its_total() -> None:
    """Many small elements: theta is kept in double."""
    v = (0.5 + 1e-3 * np.random.default_rng(0).random((2, 100_000))).astype(np.float32)
    np.testing.assert_allclose(prox.Simplex()(v).sum(axis=1, dtype=float), 1, rtol=1e-6)


def test_a_step_far_below_the_rounding_of_v() -> None:
    v = np.array([1e18, 1e18, -1e18])
    np.testing.assert_array_equal(prox.Simplex(1.0)(v), [0, 0, 0])
    np.testing.assert_array_equal(prox.L1Ball(0.0)(np.array([1.0, -2.0])), [0, 0])


def reference_variation(y: np.ndarray, k: float) -> np.ndarray:
    """Solve the dual, a box-constrained least-squares problem."""
    difference = np.diff(np.eye(y.size), axis=0)
    solved = lsq_linear(difference.T, y, bounds=(-k, k), tol=1e-14, method="bvls")
    return y - difference.T @ solved.x


@pytest.mark.parametrize("n", [2, 3, 7, 40])
@pytest.mark.parametrize("k", [1e-3, 0.3, 2.0, 50.0])
def test_total_variation(n: int, k: float) -> None:
    rng = np.random.default_rng(n)
    for y in (rng.normal(size=n), np.cumsum(rng.normal(size=n)), rng.integers(0, 3, n) * 1.0):
        np.testing.assert_allclose(
            prox.TotalVariation(k)(y), reference_variation(y, k), atol=1e-9 * max(1, k)
        )


def test_total_variation_of_long_and_extreme_rows() -> None:
    rng = np.random.default_rng(0)
    y = 1e6 + np.repeat([0.0, 5.0, -3.0], 40_000) + 0.1 * rng.normal(size=120_000)
    x = prox.TotalVariation(20.0)(y)
    # Optimality: cumulative sums of y - x stay within k and touch it where x jumps.
    dual = np.cumsum(y - x)[:-1]
    jumps = np.diff(x)
    assert np.abs(dual).max() <= 20 + 1e-5
    np.testing.assert_allclose(dual[jumps != 0], -20 * np.sign(jumps[jumps != 0]), atol=1e-5)
    assert (jumps != 0).sum() < 100
    np.testing.assert_allclose(prox.TotalVariation(1e12)(y), y.mean(), rtol=1e-12)
    np.testing.assert_array_equal(prox.TotalVariation(0.0)(y), y)
    one = np.array([3.0])
    np.testing.assert_array_equal(prox.TotalVariation()(one), one)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_top_k_with_ties(dtype: str) -> None:
    rng = np.random.default_rng(1)
    for n, k in ((5, 1), (40, 7), (300, 299), (5000, 900)):
        for v in (rng.normal(size=n), rng.integers(-3, 4, n), np.full(n, -2.0)):
            v = v.astype(dtype)
            order = np.argsort(-np.abs(v), kind="stable")
            expected = np.zeros_like(v)
            expected[order[:k]] = v[order[:k]]
            np.testing.assert_array_equal(prox.TopK(k)(v), expected)
    zeros = np.full(40, -0.0, dtype)
    zeros[17] = -1.0
    np.testing.assert_array_equal(prox.TopK(1)(zeros), zeros)
    np.testing.assert_array_equal(prox.TopK(9)(np.arange(4, dtype=dtype)), np.arange(4))


@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1.0, 1e160, 1e300])
def test_norms_neither_overflow_nor_underflow(scale: float) -> None:
    v = np.array([3.0, 4.0]) * scale
    np.testing.assert_allclose(prox.L2Ball(scale)(v), [0.6 * scale, 0.8 * scale], rtol=1e-15)
    np.testing.assert_allclose(prox.L2(2.5 * scale)(v), v / 2, rtol=1e-15)
    cone = prox.SecondOrderCone()(np.array([0.0, *v]))
    np.testing.assert_allclose(cone, [2.5 * scale, *(v / 2)], rtol=1e-15)


def test_log_sum_of_huge_arguments() -> None:
    v = np.array([1e30, -3e38], np.float32)
    np.testing.assert_array_equal(prox.LogSum()(v, 0.5), v)


@pytest.mark.parametrize("shape", [(1, 1), (4, 7), (7, 4), (2, 3, 5, 6)])
def test_singular_values(shape: tuple[int, ...]) -> None:
    v = np.random.default_rng(2).normal(size=shape)
    left, values, right = np.linalg.svd(v, full_matrices=False)
    soft = left * np.maximum(values - 0.6, 0)[..., None, :] @ right
    np.testing.assert_allclose(prox.Nuclear(1.2)(v, 0.5), soft, atol=1e-13)
    clipped = left * np.minimum(values, 0.9)[..., None, :] @ right
    result = prox.SpectralBall(0.9)(v)
    np.testing.assert_allclose(result, clipped, atol=1e-13)
    assert (np.asarray(prox.SpectralBall(0.9).value(result)) == 0).all()
    np.testing.assert_allclose(prox.Nuclear(1.2).value(v), 1.2 * values.sum(axis=-1))


def test_caller_s_decomposition() -> None:
    calls = []

    def svd(v: np.ndarray) -> tuple[np.ndarray, ...]:
        calls.append(v.shape)
        left, values, right = np.linalg.svd(v, full_matrices=False)
        return left[..., :2], values[..., :2], right[..., :2, :]

    v = np.random.default_rng(3).normal(size=(5, 6, 4))
    values = np.linalg.svd(prox.Nuclear(0.1, svd=svd)(v), compute_uv=False)
    assert calls == [(5, 6, 4)]
    assert (values[:, 2:] < 1e-12).all()


def test_semidefinite_cone() -> None:
    v = np.random.default_rng(4).normal(size=(3, 5, 5))
    x = prox.PSDCone()(v)
    symmetric = (v + v.swapaxes(1, 2)) / 2
    assert (np.linalg.eigvalsh(x) > -1e-12).all()
    # The rest is negative semidefinite and orthogonal: that is the projection.
    assert (np.linalg.eigvalsh(symmetric - x) < 1e-12).all()
    np.testing.assert_allclose(((symmetric - x) * x).sum(axis=(1, 2)), 0, atol=1e-12)
    assert (np.asarray(prox.PSDCone().value(x)) == 0).all()
    assert (np.asarray(prox.PSDCone().value(-x - np.eye(5))) == np.inf).all()


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_affine_of_any_rank(rank: int) -> None:
    rng = np.random.default_rng(rank)
    A = rng.normal(size=(3, rank)) @ rng.normal(size=(rank, 6))
    b = A @ rng.normal(size=6)
    v = rng.normal(size=(4, 6))
    x = prox.Affine(A, b)(v)
    np.testing.assert_allclose(x @ A.T, np.broadcast_to(b, (4, 3)), atol=1e-12)
    np.testing.assert_allclose(x, v - (np.linalg.pinv(A) @ (A @ v.T - b[:, None])).T, atol=1e-12)
    assert (np.asarray(prox.Affine(A, b).value(x)) == 0).all()


def test_half_space() -> None:
    a, v = np.array([1.0, -2.0, 0.5]), np.random.default_rng(5).normal(size=(50, 3)) * 3
    x = prox.HalfSpace(a, 0.7)(v)
    excess = np.maximum(v @ a - 0.7, 0)
    np.testing.assert_allclose(x, v - excess[:, None] * a / (a @ a), atol=1e-14)
    assert (np.asarray(prox.HalfSpace(a, 0.7).value(x)) == 0).all()
