"""Objectives: values and gradients against differences, and second derivatives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hotloops import simplex
from tests.simplex import reference


def cubic() -> simplex.Polynomial:
    rng = np.random.default_rng(4)
    tensors = [rng.normal(size=(4,) * order) for order in (1, 2, 3, 4)]
    return simplex.Polynomial(tensors=tensors)


def quadratic() -> simplex.QuadraticProgram:
    rng = np.random.default_rng(5)
    return simplex.QuadraticProgram(rng.normal(size=(6, 6)), rng.normal(size=6))


def powers() -> simplex.Polynomial:
    return simplex.Polynomial(
        [(1.5, [(0, 8)]), (-2.0, {1: 3, 2: 4}), (0.5, [(3, 1)]), (7.0, [])], dim=5
    )


OBJECTIVES = {
    "double_well": reference.double_well,
    "tensors": cubic,
    "powers": powers,
    "quadratic": quadratic,
}
every_objective = pytest.mark.parametrize("name", list(OBJECTIVES))


@every_objective
def test_gradient_is_that_of_the_value(name: str, engine: str) -> None:
    objective = OBJECTIVES[name]()
    for x in reference.uniform_points(5, objective.dim):
        gradient = objective.value_and_grad(x, backend=engine)[1]
        expected = reference.differences(objective, x)
        np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-8)


@every_objective
def test_compiled_and_plain_evaluations_agree(name: str, engine: str, precision: str) -> None:
    objective = OBJECTIVES[name]()
    points = reference.uniform_points(37, objective.dim, 1).astype(precision)
    values, gradients = objective.value_and_grad(points, backend=engine)
    assert values.dtype == gradients.dtype == np.dtype(precision)
    tolerance = 1e-12 if precision == "float64" else 2e-5
    for x, value, gradient in zip(points, values, gradients, strict=True):
        expected, slope = objective.precise_value_and_grad(x.astype(np.float64))
        np.testing.assert_allclose(value, expected, rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(gradient, slope, rtol=tolerance, atol=tolerance)


@every_objective
def test_second_derivatives(name: str) -> None:
    objective = OBJECTIVES[name]()
    x = reference.uniform_points(1, objective.dim, 2)[0]
    shifts = 1e-6 * np.eye(objective.dim)
    slopes = objective.value_and_grad(x + shifts)[1] - objective.value_and_grad(x - shifts)[1]
    matrix = objective.hessian(x)
    assert matrix is not None
    np.testing.assert_allclose(matrix, slopes / 2e-6, rtol=1e-6, atol=1e-8)


def test_tensors_are_their_contractions() -> None:
    rng = np.random.default_rng(6)
    linear, square, cube = (rng.normal(size=(3,) * order) for order in (1, 2, 3))
    objective = simplex.Polynomial(tensors=[linear, square, cube])
    x = np.array([0.2, 0.3, 0.5])
    expected = linear @ x + x @ square @ x + np.einsum("ijk,i,j,k", cube, x, x, x)
    assert float(objective.value_and_grad(x)[0]) == pytest.approx(expected, rel=1e-14)


def contractions(tensor: Any, x: Any) -> tuple[Any, Any]:
    """Values and gradients of ``<T, x^k>`` at rows of x, one axis of T after the other."""
    order = tensor.ndim
    gradient = np.zeros_like(x)
    for axis in range(order):
        rest = np.broadcast_to(np.moveaxis(tensor, axis, 0), (len(x), *tensor.shape))
        for _ in range(order - 1):
            rest = np.einsum("c...i,ci->c...", rest, x)
        gradient += rest
    return (gradient * x).sum(axis=1) / order, gradient


@pytest.mark.parametrize(
    ("dim", "highest"), [(1, 4), (2, 8), (3, 6), (5, 4), (7, 5), (9, 3), (16, 4), (23, 2)]
)
def test_dense_tensors_of_all_orders(dim: int, highest: int, engine: str) -> None:
    rng = np.random.default_rng(dim)
    tensors = [rng.normal(size=(dim,) * order) for order in range(1, highest + 1)]
    x = reference.uniform_points(21, dim, 3)
    parts = [contractions(tensor, x) for tensor in tensors]
    value, gradient = simplex.Polynomial(tensors=tensors).value_and_grad(x, backend=engine)
    np.testing.assert_allclose(value, sum(part[0] for part in parts), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(gradient, sum(part[1] for part in parts), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("degree", [0, 1, 2, 5, 11, 16])
def test_monomials_without_structure(degree: int, engine: str) -> None:
    rng = np.random.default_rng(degree)
    keys = rng.integers(0, 12, (60, degree))
    coefficients = rng.normal(size=60)
    terms = [(c, [(s, 1) for s in key]) for c, key in zip(coefficients, keys.tolist(), strict=True)]
    x = 0.2 + rng.random((5, 12))
    x /= x.sum(axis=1, keepdims=True)
    expected = np.prod(x[:, keys], axis=2) @ coefficients
    slopes = np.zeros_like(x)
    for k in range(degree):
        others = np.prod(x[:, np.delete(keys, k, axis=1)], axis=2) * coefficients
        np.add.at(slopes.T, keys[:, k], others.T)
    objective = simplex.Polynomial(terms, dim=12)
    value, gradient = objective.value_and_grad(x, backend=engine)
    scale = np.abs(slopes).max() + np.abs(expected).max()
    np.testing.assert_allclose(value, expected, rtol=0, atol=1e-13 * scale)
    np.testing.assert_allclose(gradient, slopes, rtol=0, atol=1e-13 * scale)


def test_blocks_hold_every_monomial_once() -> None:
    """And the squares of a sum of squares are cut so that few products are needed."""
    dense = simplex.Polynomial(
        tensors=[np.zeros((6,) * k) for k in (1, 2, 3)] + [np.ones((6,) * 4)]
    )
    sparse = reference.wells(6)
    for objective, products in ((dense, 21), (sparse, 6)):
        parents, _, heights, widths, rows, columns, coefficients = objective.parameters(
            np.dtype("float64")
        )
        assert len(parents) == products
        assert set(heights.tolist()) == {1, 2, 4}
        assert (heights.sum(), widths.sum()) == (len(rows), len(columns))
        assert coefficients.size == len(objective._table)
        assert np.sort(coefficients).tolist() == sorted(objective._table.values())


def test_zeros_are_no_case_of_their_own(engine: str) -> None:
    objective = simplex.Polynomial([(2.0, {0: 1, 1: 1, 2: 1}), (1.0, [(0, 2)])], dim=3)
    value, gradient = objective.value_and_grad([0.0, 0.5, 0.5], backend=engine)
    assert (float(value), gradient.tolist()) == (0.0, [0.5, 0.0, 0.0])


def test_polynomials_add_and_multiply() -> None:
    x = simplex.Polynomial([(1.0, [(0, 1)])], dim=2)
    y = simplex.Polynomial([(1.0, [(1, 1)])], dim=2)
    product = (x + 2.0) * (3.0 * y + x) + 1
    for a, b in ((0.3, 0.7), (0.9, 0.1)):
        value = float(product.value_and_grad([a, b])[0])
        assert value == pytest.approx((a + 2) * (3 * b + a) + 1, rel=1e-14)
    assert product.degree == 2
    assert "degree=2" in repr(product)
    with pytest.raises(ValueError, match="Polynomial: `dim` must be 2, got 3"):
        x + simplex.Polynomial([], dim=3)
    with pytest.raises(TypeError):
        x * "y"  # type: ignore[operator]


def test_polynomials_subtract_and_take_powers() -> None:
    x = simplex.Polynomial([(1.0, {0: 1})], dim=2)
    y = simplex.Polynomial([(1.0, {1: 1})], dim=2)
    found = 2 - (x - y) ** 3 - 0.5 + -y + x**0
    for a, b in ((0.3, 0.7), (0.9, 0.1)):
        value = float(found.value_and_grad([a, b])[0])
        assert value == pytest.approx(2.5 - (a - b) ** 3 - b, rel=1e-14)
    assert (found.degree, (x**5).degree, (x**0).degree) == (3, 5, 0)
    with pytest.raises(ValueError, match=r"Polynomial: `exponent` must be an integer in \[0, 16\]"):
        x ** (-1)
    with pytest.raises(TypeError):
        x - "y"  # type: ignore[operator]


def test_arithmetic_keeps_simplices_and_refuses_terms() -> None:
    game = simplex.PotentialGame([[2.0, 0.0, 0.5], [0.0, 1.0, 0.2]])
    flat = simplex.Polynomial([(1.0, {2: 2})], dim=5)
    for made in (game + 1.0, flat + game, game * flat, -game):
        assert (type(made), made.sizes) == (simplex.Polynomial, (2, 3))
    other = simplex.PotentialGame(np.ones((3, 2)))
    with pytest.raises(ValueError, match=r"`sizes` must be \(2, 3\) .*, got \(3, 2\)"):
        game + other
    with pytest.raises(ValueError, match="`terms` must be added after the arithmetic"):
        flat.with_terms(ridge=1.0) + 1.0


def test_tensors_by_their_order() -> None:
    tensor = np.random.default_rng(1).normal(size=(3, 3, 3))
    named = simplex.Polynomial(tensors={3: tensor})
    plain = simplex.Polynomial(tensors=[np.zeros(3), np.zeros((3, 3)), tensor])
    assert named._table == plain._table


def test_only_the_symmetric_part_of_a_matrix_counts() -> None:
    matrix = np.array([[1.0, 5.0], [-3.0, 2.0]])
    plain = simplex.QuadraticProgram(matrix).value_and_grad([0.25, 0.75])
    turned = simplex.QuadraticProgram(matrix.T).value_and_grad([0.25, 0.75])
    np.testing.assert_array_equal(plain[0], turned[0])
    np.testing.assert_array_equal(plain[1], turned[1])
    assert "dim=2" in repr(simplex.QuadraticProgram(matrix))
