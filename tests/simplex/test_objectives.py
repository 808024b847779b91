"""Objectives: values and gradients against differences, and second derivatives."""

from __future__ import annotations

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


def test_only_the_symmetric_part_of_a_matrix_counts() -> None:
    matrix = np.array([[1.0, 5.0], [-3.0, 2.0]])
    plain = simplex.QuadraticProgram(matrix).value_and_grad([0.25, 0.75])
    turned = simplex.QuadraticProgram(matrix.T).value_and_grad([0.25, 0.75])
    np.testing.assert_array_equal(plain[0], turned[0])
    np.testing.assert_array_equal(plain[1], turned[1])
    assert "dim=2" in repr(simplex.QuadraticProgram(matrix))
