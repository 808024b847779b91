"""Bounds, caps and costs: exact in the polish, penalties for the chains."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hotloops import simplex
from hotloops.simplex._polytope import Infeasible, Polytope
from tests.simplex import portfolios

TICKERS = portfolios.table().assets
HEALTH = ("JNJ", "LLY", "MRK", "PFE", "UNH")


def peer(objective: simplex.Objective, x: Any) -> float:
    """Solve with SciPy, starting at the answer, over bounds and caps."""
    optimize = pytest.importorskip("scipy.optimize")
    inside, p = objective.without_penalties(), objective.polytope(objective.sizes)
    upper = [None if np.isinf(u) else u for u in p.upper]
    answer = optimize.minimize(
        lambda x: inside.precise_value_and_grad(x)[0],
        x,
        jac=lambda x: inside.precise_value_and_grad(x)[1],
        bounds=list(zip(p.lower, upper, strict=True)),
        constraints=[
            {"type": "eq", "fun": lambda x: p.sums() @ x - 1},
            {"type": "ineq", "fun": lambda x: p.caps - p.rows @ x},
        ],
        method="SLSQP",
        options={"ftol": 1e-15, "maxiter": 300},
    )
    return float(answer.fun)


def meets(objective: simplex.Objective, x: Any) -> bool:
    p = objective.polytope(objective.sizes)
    return bool(
        (x >= p.lower).all()
        and (x <= p.upper).all()
        and (p.rows @ x <= p.caps + 1e-12).all()
        and abs(p.sums() @ x - 1).max() < 1e-12
    )


def test_portfolio_within_bounds_and_caps() -> None:
    objective = portfolios.crra(
        lower=0.01, upper=0.15, groups={"health": (HEALTH, 0.3), "few": ([0, 1], 0.05)}
    )
    point = simplex.polish(objective)
    assert meets(objective, point.x)
    assert point.kkt_residual < 1e-10
    assert point.value <= peer(objective, point.x) + 1e-11
    assert point.value > simplex.polish(portfolios.crra()).value


@pytest.mark.parametrize("seed", range(40))
def test_programs_within_polytopes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    d = int(rng.integers(3, 14))
    square = rng.normal(size=(d, d))
    convex = seed % 2 == 0
    program = simplex.QuadraticProgram(
        square @ square.T / d if convex else square, rng.normal(size=d)
    )
    groups = [
        (np.flatnonzero(rng.random(d) < 0.5).tolist() or [0], float(rng.uniform(0.5, 1)))
        for _ in range(int(rng.integers(0, 3)))
    ]
    try:
        objective = program.with_terms(
            lower=rng.uniform(0, 0.5 / d, d) if seed % 3 else None,
            upper=rng.uniform(2 / d, 1, d) if seed % 5 else None,
            groups=groups,
        )
    except ValueError as error:
        assert "leave room" in str(error)  # noqa: PT017
        return
    point = simplex.polish(objective)
    assert meets(objective, point.x)
    assert point.kkt_residual < 1e-10
    if convex:
        assert point.value <= peer(objective, point.x) + 1e-9


def test_nearest_points_are_those_of_a_solver() -> None:
    """The bounds alone by bisection, caps by the dual method; both against stationarity."""
    rng = np.random.default_rng(1)
    for _ in range(60):
        d = 7
        lower = rng.uniform(0, 0.1, d) * (rng.random(d) < 0.5)
        upper = np.where(rng.random(d) < 0.5, rng.uniform(0.3, 0.8, d), np.inf)
        rows = (rng.random((2, d)) < 0.5).astype(float)
        polytope = Polytope((4, 3), lower, upper, rows, rng.uniform(0.5, 1.2, 2))
        v = rng.normal(size=d)
        try:
            x = polytope.nearest(v)
        except Infeasible:
            continue
        assert (x >= lower).all()
        assert (x <= upper).all()
        assert (rows @ x <= polytope.caps + 1e-12).all()
        np.testing.assert_allclose(polytope.sums() @ x, 1.0, rtol=1e-13)
        slope = x - v
        assert polytope.gap(x, slope, polytope.prices(x, slope)) < 1e-10


def test_chains_see_penalties() -> None:
    """What chains pay beyond a bound, and that more penalty keeps them closer to it."""
    program = simplex.QuadraticProgram(np.diag([0.1, 2.0, 2.0]))
    excess = {}
    for penalty in (10.0, 100.0):
        bounded = program.with_terms(upper=[0.4, 1.0, 1.0], penalty=penalty)
        result = simplex.mwu(bounded, step_size=0.02, num_steps=5000, polish_steps=0)
        excess[penalty] = float(result.x[0]) - 0.4
        polished = simplex.polish(bounded)
        np.testing.assert_allclose(polished.x, [0.4, 0.3, 0.3], atol=1e-12)
    assert 0.0 < excess[100.0] < excess[10.0] < 0.1


@pytest.mark.parametrize("bound", [{"lower": [0.3, 0.0, 0.2]}, {"groups": [([1], 0.25)]}])
def test_penalties_of_lower_bounds_and_caps_are_squares(bound: dict[str, Any]) -> None:
    """On the simplex a weight below its bound pays what it lacks, squared."""
    plain = simplex.Polynomial([], dim=3)
    objective = plain.with_terms(penalty=7.0, **bound)
    x = np.array([0.1, 0.8, 0.1])
    lack = np.maximum(np.array(bound.get("lower", np.zeros(3))) - x, 0.0)
    over = 0.8 - 0.25 if "groups" in bound else 0.0
    value, gradient = objective.value_and_grad(x)
    assert float(value) == pytest.approx(7.0 * ((lack**2).sum() + over**2), rel=1e-12)
    along = np.array([[1.0, -1.0, 0.0], [0.0, -1.0, 1.0]])
    slope = -14.0 * lack + 14.0 * over * np.array([0.0, 1.0, 0.0])
    np.testing.assert_allclose(along @ gradient, along @ slope, rtol=1e-12)


def test_turnover_keeps_the_weights_held() -> None:
    held = np.full(20, 0.05)
    free = simplex.polish(portfolios.crra())
    moved = [
        float(np.abs(simplex.polish(portfolios.crra(turnover=cost, anchor=held)).x - held).sum())
        for cost in (0.001, 0.01, 0.1)
    ]
    assert np.abs(free.x - held).sum() > moved[0] > moved[1] > moved[2]
    assert moved[2] < 0.01


def test_ridge_and_entropy_spread_the_weights() -> None:
    def largest(**terms: float) -> float:
        return float(simplex.polish(portfolios.crra(**terms)).x.max())

    assert largest() > largest(ridge=0.02) > largest(ridge=2.0) > 0.05
    assert largest() > largest(entropy=0.01) > largest(entropy=1.0) > 0.05
    assert simplex.polish(portfolios.crra(entropy=0.01)).kkt_residual < 1e-10


def test_terms_replace_each_other_and_leave_the_original() -> None:
    plain = simplex.QuadraticProgram(np.eye(3))
    ridged = plain.with_terms(ridge=1.0)
    x = np.array([0.5, 0.25, 0.25])
    values = [o.precise_value_and_grad(x)[0] for o in (plain, ridged, ridged.with_terms())]
    assert values == pytest.approx([0.375, 0.75, 0.375])


def test_projected_gradients_where_second_derivatives_are_not_known() -> None:
    target = np.array([0.6, 0.3, 0.1])

    def distance(x: Any) -> Any:
        return ((x - target) ** 2).sum(axis=1), 2 * (x - target)

    objective = simplex.Custom(distance, 3).with_terms(upper=0.5, groups=[([0, 1], 0.8)])
    point = simplex.polish(objective, num_steps=500)
    np.testing.assert_allclose(point.x, [0.5, 0.3, 0.2], atol=1e-7)
    assert point.kkt_residual < 1e-6
