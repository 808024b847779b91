"""Known values of every operator, and of every function."""

from __future__ import annotations

import numpy as np
import pytest

from hotloops import prox

V = np.array([3.0, -1.0, 0.5, -0.2, 2.0])
T = 0.6

PROX_VALUES = {
    "l1": (prox.L1(), T, [2.4, -0.4, 0, 0, 1.4]),
    "elastic": (prox.ElasticNet(1.0, 0.5 / T), T, [1.6, -0.2666667, 0, 0, 0.9333333]),
    "squared l2": (prox.SquaredL2(2.0), 0.5, V / 2),
    "groups": (
        prox.GroupLasso([[0, 1], [2, 3, 4]], weights=[1, 1]),
        T,
        [2.4307900, -0.8102634, 0.3551586, -0.1420635, 1.4206345],
    ),
    "simplex": (prox.Simplex(), T, [1, 0, 0, 0, 0]),
    "l1 ball": (prox.L1Ball(2), T, [1.5, 0, 0, 0, 0.5]),
    "l2 ball": (prox.L2Ball(2), T, [1.5872127, -0.5290709, 0.2645355, -0.1058142, 1.0581418]),
    "l inf": (prox.LInf(), T, [2.4, -1, 0.5, -0.2, 2]),
    "huber": (prox.Huber(), T, [2.4, -0.625, 0.3125, -0.125, 1.4]),
    "l0": (prox.L0(), T, [3, 0, 0, 0, 2]),
    "hinge": (prox.Hinge(), T, [3, -0.4, 1, 0.4, 2]),
    "box": (prox.Box(-0.5, 1), T, [1, -0.5, 0.5, -0.2, 1]),
    "top 2": (prox.TopK(2), T, [3, 0, 0, 0, 2]),
    "half-space": (prox.HalfSpace([1, 0, 0, 0, 1], 3.0), T, [2, -1, 0.5, -0.2, 1]),
    "affine": (prox.Affine([[1, 0, 0, 0, 1]], [3.0]), T, [2, -1, 0.5, -0.2, 1]),
    "zero": (prox.Zero(), T, V),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", PROX_VALUES)
def test_prox(name: str, dtype: str) -> None:
    function, step, expected = PROX_VALUES[name]
    result = function(V.astype(dtype), step)
    assert result.dtype == dtype
    np.testing.assert_allclose(result, expected, atol=1e-6 if dtype == "float32" else 6e-8)


def test_nuclear() -> None:
    expected = [[1.45883073, 0.74533211, 0.04775023], [0.03183348, 0.82491582, 2.42699724]]
    matrix = np.array([[2.0, 1, 0], [0, 1, 3]])
    np.testing.assert_allclose(prox.Nuclear()(matrix, T), expected, atol=1e-8)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_total_variation(dtype: str) -> None:
    y = np.array([1, 2, 8, 7, 0], dtype)
    np.testing.assert_allclose(prox.TotalVariation()(y), [2, 2, 6.5, 6.5, 1], rtol=1e-6)


@pytest.mark.parametrize("case", [(-3.0, 0.0), (-1.0, 0.0), (0.0, 1.5), (2.0, 2.0), (1.0, 1.5)])
def test_second_order_cone(case: tuple[float, float]) -> None:
    """Heights above, inside and below the cone of a vector of norm 1, 1, 3, 1, 2."""
    height, expected = case
    norm = {0.0: 3.0, 1.0: 2.0}.get(height, 1.0)
    result = prox.SecondOrderCone()(np.array([height, 0.6 * norm, 0.8 * norm]))
    np.testing.assert_allclose(result[0], expected)
    factor = expected / norm if expected != height else 1.0
    np.testing.assert_allclose(result[1:], [0.6 * norm * factor, 0.8 * norm * factor])


def test_sparse_groups_are_soft_then_group() -> None:
    groups = [0, 0, 1, 1, 1]
    both = prox.SparseGroupLasso(groups, 0.5, 0.7)(V, T)
    np.testing.assert_array_equal(both, prox.GroupLasso(groups, 0.7)(prox.L1(0.5)(V, T), T))


def test_fused_lasso_is_variation_then_soft() -> None:
    both = prox.FusedLasso(0.5, 0.3)(V, T)
    np.testing.assert_array_equal(both, prox.L1(0.3)(prox.TotalVariation(0.5)(V, T), T))


FUNCTION_VALUES = {
    "l1": (prox.L1(2.0), 13.4),
    "elastic": (prox.ElasticNet(1.0, 2.0), 6.7 + 14.29),
    "squared l2": (prox.SquaredL2(), 14.29 / 2),
    "l2": (prox.L2(), 14.29**0.5),
    "l inf": (prox.LInf(2.0), 6.0),
    "l0": (prox.L0(2.0), 10.0),
    "groups": (prox.GroupLasso([0, 0, 1, 1, 1]), 20**0.5 + 3**0.5 * 4.29**0.5),
    "variation": (prox.TotalVariation(), 4 + 1.5 + 0.7 + 2.2),
    "fused": (prox.FusedLasso(1.0, 2.0), 8.4 + 13.4),
    "huber": (prox.Huber(), 2.5 + 0.5 + 0.125 + 0.02 + 1.5),
    "hinge": (prox.Hinge(), 2 + 0.5 + 1.2),
    "logistic": (prox.Logistic(), float(np.log1p(np.exp(-V)).sum())),
    "mcp": (prox.MCP(1.0, 2.0), 1.0 + 0.75 + 0.4375 + 0.19 + 1.0),
    "scad": (prox.SCAD(1.0, 3.0), 2.0 + 1.0 + 0.5 + 0.2 + 1.75),
    "capped": (prox.CappedL1(1.0, 1.0), 1 + 1 + 0.5 + 0.2 + 1),
    "log sum": (prox.LogSum(1.0, 0.5), float(np.log1p(np.abs(V) / 0.5).sum())),
    "zero": (prox.Zero(), 0.0),
    "inside": (prox.Box(-1, 3), 0.0),
    "outside": (prox.Box(-1, 2.9), np.inf),
    "not a simplex": (prox.Simplex(), np.inf),
    "top": (prox.TopK(4), np.inf),
}


@pytest.mark.parametrize("name", FUNCTION_VALUES)
def test_value(name: str) -> None:
    function, expected = FUNCTION_VALUES[name]
    value = function.value(V)
    assert isinstance(value, float)
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    np.testing.assert_allclose(function.value(np.stack([V, V])), [expected, expected], rtol=1e-12)


def test_masked_leaves_the_intercept_alone() -> None:
    masked = prox.Masked(prox.L1(), [True, True, False, True, True])
    np.testing.assert_allclose(masked(V, T), [2.4, -0.4, 0.5, 0, 1.4])
    assert masked.convex
    np.testing.assert_allclose(masked.value(V), 6.2)


def test_blocks_act_on_their_own_elements() -> None:
    blocks = prox.Blocks([(slice(1, 3), prox.L0()), ([4, 0], prox.Simplex())])
    assert not blocks.convex
    steps = np.array([0.1, 0.6])
    result = blocks(np.stack([V, V]), steps)
    np.testing.assert_allclose(result, [[1, -1, 0.5, -0.2, 0], [1, 0, 0, -0.2, 0]])


def test_weights_by_element_and_steps_by_row() -> None:
    weights = np.arange(5.0)
    steps = np.array([0.1, 0.5, 2.0])
    v = np.stack([V, -V, 2 * V])
    result = prox.L1(weights)(v, steps)
    expected = np.sign(v) * np.maximum(np.abs(v) - steps[:, None] * weights, 0)
    np.testing.assert_allclose(result, expected, rtol=1e-15)
