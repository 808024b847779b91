"""What makes an operator proximal: it minimises, it contracts, its conjugate completes it."""

from __future__ import annotations

import numpy as np
import pytest

from hotloops import prox
from tests.prox.cases import CONVEX, OPERATORS, PROJECTIONS

N = 12
SEPARABLE = ("l0", "mcp", "scad", "capped l1", "log sum", "huber", "hinge", "logistic", "l1")


def rows(seed: int, count: int = 40, n: int = N) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.normal(size=(count, n)) * generator.choice([0.3, 1.0, 4.0], (count, 1))


def objective(function: prox.Prox, x: np.ndarray, v: np.ndarray, step: float) -> np.ndarray:
    return np.asarray(function.value(x)) + ((x - v) ** 2).sum(axis=-1) / (2 * step)


@pytest.mark.parametrize("step", [0.2, 1.0, 6.0])
@pytest.mark.parametrize("name", CONVEX)
def test_no_neighbour_is_better(name: str, step: float) -> None:
    """For a convex function a point that no small move improves is the minimiser."""
    function, v = OPERATORS[name](N), rows(1)
    x = function(v, step)
    best = objective(function, x, v, step)
    assert np.isfinite(best).all()
    generator = np.random.default_rng(2)
    for size in (1e-3, 1e-1):
        for _ in range(25):
            other = x + size * generator.normal(size=x.shape)
            if name in PROJECTIONS:
                other = function(other)  # back to a feasible point
            assert (objective(function, other, v, step) >= best - 1e-9 * (1 + np.abs(best))).all()


@pytest.mark.parametrize("step", [0.1, 0.7, 1.6, 3.0, 9.0])
@pytest.mark.parametrize("name", SEPARABLE)
def test_global_minimum_on_a_grid(name: str, step: float) -> None:
    """One element at a time: no point of a fine grid is better, for steps on either side of where
    the pieces of the nonconvex penalties vanish."""
    function = OPERATORS[name](1)
    v = np.linspace(-5, 5, 301)[:, None]
    x = function(v, step)
    best = objective(function, x, v, step)
    grid = np.linspace(-16, 16, 6401)
    values = np.asarray(function.value(grid[:, None]))
    all_values = values + (grid - v) ** 2 / (2 * step)
    assert (all_values.min(axis=1) >= best - 1e-12 * (1 + best)).all()


@pytest.mark.parametrize("name", CONVEX)
def test_firmly_nonexpansive(name: str) -> None:
    function, a, b = OPERATORS[name](N), rows(3), rows(4)
    pa, pb = function(a, 0.8), function(b, 0.8)
    change = ((pa - pb) ** 2).sum(axis=1)
    assert (change <= ((pa - pb) * (a - b)).sum(axis=1) + 1e-12 * (1 + change)).all()


@pytest.mark.parametrize("name", PROJECTIONS)
def test_projections_are_idempotent_and_feasible(name: str) -> None:
    function, v = OPERATORS[name](N), rows(5)
    x = function(v)
    assert (np.asarray(function.value(x)) == 0).all()
    np.testing.assert_allclose(function(x), x, atol=1e-14)
    np.testing.assert_array_equal(function(v, 77.0), x)  # the step has no influence


NORMS_AND_BALLS = [
    (prox.L1(0.7), prox.Box(-0.7, 0.7)),
    (prox.L2(0.7), prox.L2Ball(0.7)),
    (prox.LInf(0.7), prox.L1Ball(0.7)),
]


@pytest.mark.parametrize(("norm", "ball"), NORMS_AND_BALLS, ids=["l1", "l2", "l inf"])
def test_moreau(norm: prox.Prox, ball: prox.Prox) -> None:
    """v = prox_{t r}(v) + t prox_{r* / t}(v / t); the conjugate of a norm is the dual ball."""
    v, t = rows(6), 0.9
    np.testing.assert_allclose(norm(v, t) + t * ball(v / t), v, atol=1e-14)
    np.testing.assert_allclose(norm.conjugate(v, t), ball(v), atol=1e-14)
    np.testing.assert_allclose(ball.conjugate(v, t), norm(v, t), atol=1e-14)


def test_cone_and_its_polar() -> None:
    """Moreau's decomposition: v is the sum of orthogonal projections onto a cone and its polar."""
    cone, v = prox.SecondOrderCone(), rows(7)
    inside, polar = cone(v), -cone(-v)
    np.testing.assert_allclose(inside + polar, v, atol=1e-14)
    np.testing.assert_allclose((inside * polar).sum(axis=1), 0, atol=1e-13)


def test_conjugate_of_a_nonconvex_function_is_refused() -> None:
    with pytest.raises(ValueError, match="L0: `conjugate` must be of a convex function"):
        prox.L0().conjugate(np.ones(3))


def test_logistic_solves_its_equation_to_the_last_bits() -> None:
    v = np.concatenate([np.linspace(-60, 60, 2001), [-1e6, 1e6, 0.0]])
    for t in (1e-6, 0.3, 1.0, 40.0, 1e8):
        x = prox.Logistic()(v, t)
        slope = 1 + t * np.exp(-np.abs(x)) / (1 + np.exp(-np.abs(x))) ** 2
        gap = (x - v) - t / (1 + np.exp(np.minimum(x, 700)))
        scale = 1 + np.abs(x) + np.abs(v) + t / (1 + np.exp(np.minimum(x, 700)))
        assert (np.abs(gap) <= 4e-15 * (scale + slope * np.abs(x))).all()


def test_flags() -> None:
    assert {name for name in OPERATORS if not OPERATORS[name](9).convex} == {
        *("l0", "mcp", "scad", "capped l1", "log sum", "top k")
    }
