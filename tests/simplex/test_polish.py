"""The deterministic descent at the end."""

from __future__ import annotations

import time

import numpy as np
import pytest

from hotloops import simplex
from tests.simplex import portfolios, reference


def test_it_ends_at_the_minimum_nearby() -> None:
    near = simplex.polish(reference.double_well(), [0.7, 0.2, 0.1])
    assert near.value == pytest.approx(0.007977559358, abs=1e-12)
    assert near.kkt_residual < 1e-12
    far = simplex.polish(reference.double_well(), [0.1, 0.3, 0.6])
    assert far.value < 1e-12
    np.testing.assert_allclose(far.x, reference.FAR, atol=1e-7)


@pytest.mark.parametrize("seed", range(12))
def test_convex_programs_are_solved_on_their_faces(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 5 + 5 * (seed % 4)
    factor = rng.normal(size=(n, n))
    program = simplex.QuadraticProgram(factor @ factor.T / n, rng.normal(size=n))
    point = simplex.polish(program)
    assert point.kkt_residual < 1e-11
    assert point.x.min() >= 0.0
    assert abs(point.x.sum() - 1.0) < 1e-14
    optimize = pytest.importorskip("scipy.optimize")
    peer = optimize.minimize(
        lambda x: program.precise_value_and_grad(x)[0],
        np.full(n, 1 / n),
        jac=lambda x: program.precise_value_and_grad(x)[1],
        bounds=[(0, 1)] * n,
        constraints=[{"type": "eq", "fun": lambda x: x.sum() - 1}],
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    assert point.value <= peer.fun + 1e-9


@pytest.mark.parametrize("seed", range(8))
def test_indefinite_programs_go_down_to_a_point_of_first_order(seed: int) -> None:
    rng = np.random.default_rng(100 + seed)
    program = simplex.QuadraticProgram(rng.normal(size=(8, 8)), rng.normal(size=8))
    start = rng.dirichlet(np.ones(8))
    point = simplex.polish(program, start)
    assert point.kkt_residual < 1e-10
    assert point.value <= program.precise_value_and_grad(start)[0]


def test_products_of_simplices() -> None:
    rng = np.random.default_rng(9)
    factor = rng.normal(size=(9, 9))
    program = simplex.QuadraticProgram(factor @ factor.T, rng.normal(size=9))
    point = simplex.polish(program, sizes=(4, 1, 4))
    assert point.kkt_residual < 1e-11
    np.testing.assert_allclose([point.x[:4].sum(), point.x[4], point.x[5:].sum()], 1.0, rtol=1e-14)


def test_without_second_derivatives() -> None:
    target = np.array([0.2, 0.3, 0.5])

    def distance(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return ((x - target) ** 2).sum(axis=1), 2 * (x - target)

    point = simplex.polish(simplex.Custom(distance, 3), num_steps=500)
    np.testing.assert_allclose(point.x, target, atol=1e-7)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((None,), TypeError, "polish: `objective` must be an objective"),
        ((reference.double_well(), [0.5, 0.5]), ValueError, "polish: `x0` must have shape"),
        ((reference.double_well(), [0.5, 0.9, 0.1]), ValueError, "polish: `x0` must have weights"),
    ],
)
def test_bad_arguments(arguments: tuple, error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        simplex.polish(*arguments)


def test_bad_counts() -> None:
    with pytest.raises(ValueError, match="polish: `num_steps` must be an integer >= 0"):
        simplex.polish(reference.double_well(), num_steps=-1)
    with pytest.raises(ValueError, match="polish: `sizes` must add up to the number of weights, 3"):
        simplex.polish(reference.double_well(), sizes=(2, 2))


def test_convex_portfolios_take_milliseconds() -> None:
    """Twenty assets, 2520 days, to a residual of 1e-10, in less than 50 ms."""
    objective = portfolios.crra()
    seconds = []
    for _ in range(8):
        began = time.perf_counter()
        point = simplex.polish(objective)
        seconds.append(time.perf_counter() - began)
        assert point.kkt_residual < 1e-10
    assert min(seconds) < 0.05
