"""Numbers that are known in advance: single steps, minima, games, quadratic programs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hotloops import simplex
from tests.simplex import reference

X = np.array([0.2, 0.3, 0.5])
GRADIENT = np.array([1.0, -1.0, 0.5])
NOISE = np.array([0.5, -1.0, 2.0])

# eps = 0.1, beta = 10; computed directly from the formulas of the forms.
ONE_STEP = {
    ("entropic", 1.0): [0.17999851766699773, 0.21747870790031415, 0.6025227744326881],
    ("entropic", 0.5): [0.17805313395455794, 0.2169284725886341, 0.6050183934568079],
    ("sphere", 0.5): [0.1817592308926036, 0.21439873586833597, 0.6038420332390604],
    ("sphere", 1.0): [0.1837444630801858, 0.2149196541823485, 0.6013358827374656],
    ("projected", 1.0): [0.11666666666666667, 0.20453463231070243, 0.678798701022631],
}
LOCAL_MINIMUM = [0.5786795792469, 0.2946698948117, 0.1266505259413]


@pytest.mark.parametrize(("form", "alpha"), list(ONE_STEP))
@pytest.mark.filterwarnings("ignore:lmwu_step. with base_measure:RuntimeWarning")
def test_one_step(form: str, alpha: float, engine: str, precision: str) -> None:
    x, gradient, noise = (array.astype(precision) for array in (X, GRADIENT, NOISE))
    found = simplex.lmwu_step(
        x,
        gradient,
        noise=noise,
        step_size=0.1,
        inverse_temperature=10.0,
        retraction=form,
        base_measure=alpha,
        backend=engine,
    )
    assert found.dtype == np.dtype(precision)
    tolerance = 1e-10 if precision == "float64" else 2e-5
    np.testing.assert_allclose(found, ONE_STEP[form, alpha], rtol=tolerance)


def test_one_step_without_noise(engine: str) -> None:
    found = simplex.lmwu_step(X, GRADIENT, step_size=0.1, backend=engine)
    expected = [0.18314072831955305, 0.33553288605144665, 0.48132638562900026]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    linear = simplex.lmwu_step(X, GRADIENT, step_size=0.1, retraction="linear", backend=engine)
    weights = X * (1 - 0.1 * GRADIENT)
    np.testing.assert_allclose(linear, weights / weights.sum(), rtol=1e-14)


@pytest.mark.parametrize("form", list(reference.STEPS))
def test_steps_are_those_of_the_formulas(form: str, engine: str) -> None:
    """Many points of a product of unequal simplices, against NumPy."""
    rng = np.random.default_rng(5)
    sizes = (4, 1, 7)
    alpha = np.where(form == "projected", 1.0, rng.uniform(1.0, 2.0, 12))
    x = np.concatenate([rng.dirichlet(np.full(n, 2.0), 33) for n in sizes], axis=1)
    g, z = rng.normal(size=(2, 33, 12))
    found = simplex.lmwu_step(
        x,
        g,
        noise=z,
        step_size=0.01,
        inverse_temperature=50.0,
        base_measure=alpha,
        retraction=form,
        sizes=sizes,
        floor=None,
        backend=engine,
    )
    begin = 0
    for n in sizes:
        cut = np.s_[begin : begin + n]
        expected = np.ones((33, 1))
        if n > 1:
            expected = reference.STEPS[form](
                x[:, cut], g[:, cut], z[:, cut], 0.01, 50.0, alpha[cut]
            )
        np.testing.assert_allclose(found[:, cut], expected, rtol=1e-9, atol=1e-15)
        begin += n


def test_multiplicative_weights_end_at_the_local_minimum(engine: str) -> None:
    result = simplex.mwu(
        reference.double_well(),
        x0=[0.7, 0.2, 0.1],
        step_size=0.5,
        num_steps=20_000,
        polish_steps=0,
        backend=engine,
    )
    # Where the chain stands: its best point is the one whose value was rounded down the furthest.
    end = result.chains_x[0]
    np.testing.assert_allclose(end, LOCAL_MINIMUM, rtol=0, atol=1e-12)
    assert result.value == pytest.approx(0.007977559358, abs=1e-12)
    # Critical points on the line through both wells: 2 s^2 - 3 s + 1 + c / D = 0.
    gap = reference.NEAR - reference.FAR
    place = float((end - reference.FAR) @ gap / (gap @ gap))
    assert place == pytest.approx((3 + np.sqrt(1 - 8 * 0.02 / 0.42)) / 4, abs=1e-12)


def test_share_of_starts_that_reach_the_global_minimum() -> None:
    result = simplex.mwu(
        reference.double_well(),
        x0="dirichlet",
        num_chains=4000,
        step_size=0.5,
        num_steps=5000,
        seed=3,
    )
    share = float((result.best_value < 1e-6).mean())
    assert abs(share - 0.579) < 4 * np.sqrt(0.579 * 0.421 * (1 / 4000 + 1 / 4000))
    assert result.value < 1e-12


PAYOFF = np.array([[2.0, 0.0, 0.5], [0.0, 1.0, 0.2]])


def common_payoff() -> simplex.Polynomial:
    """f = -x^T A y for two players with 2 and 3 actions."""
    return simplex.Polynomial(
        [(-PAYOFF[i, j], {i: 1, 2 + j: 1}) for i in range(2) for j in range(3)], dim=5
    )


def test_a_game_of_two_players(engine: str) -> None:
    settings: dict[str, Any] = {"sizes": (2, 3), "step_size": 0.1, "backend": engine}
    start = [0.3, 0.7, 0.2, 0.6, 0.2]
    one = simplex.mwu(common_payoff(), x0=start, num_steps=1, polish_steps=0, **settings)
    expected = [
        0.29706825676603815,
        0.7029317432339618,
        0.2000149581455057,
        0.6060754256826026,
        0.19390961617189148,
    ]
    np.testing.assert_allclose(one.chains_x[0], expected, rtol=1e-12)
    worse = simplex.mwu(common_payoff(), x0=start, num_steps=2000, **settings)
    better = simplex.mwu(common_payoff(), x0=[0.5, 0.5, 0.4, 0.4, 0.2], num_steps=2000, **settings)
    assert (worse.value, better.value) == (pytest.approx(-1), pytest.approx(-2))
    np.testing.assert_allclose(better.x, [1, 0, 1, 0, 0], atol=1e-12)


@pytest.mark.parametrize("clique", [2, 3, 5])
def test_largest_clique_of_a_graph(clique: int) -> None:
    """Motzkin and Straus: the maximum of x^T A x over the simplex is 1 - 1 / omega."""
    n = 9
    adjacency = np.zeros((n, n))
    adjacency[:clique, :clique] = 1.0
    for i in range(clique - 1, n - 1):
        adjacency[i, i + 1] = adjacency[i + 1, i] = 1.0
    np.fill_diagonal(adjacency, 0.0)
    result = simplex.lmwu(
        simplex.QuadraticProgram(-adjacency),
        x0="dirichlet",
        step_size=0.1,
        inverse_temperature=200.0,
        num_steps=2000,
        num_chains=32,
        seed=1,
    )
    assert 1 / (1 + result.value) == pytest.approx(clique, abs=1e-9)


@pytest.mark.parametrize("rows", [1, 7, 1000])
@pytest.mark.parametrize("n", [1, 2, 3, 64, 300])
def test_projection_is_that_by_sorting(rows: int, n: int, engine: str, precision: str) -> None:
    v = np.random.default_rng(n).normal(scale=2.0, size=(rows, n)).astype(precision)
    found = simplex.project(v, backend=engine)
    tolerance = 1e-12 if precision == "float64" else 2e-5
    expected = reference.project(v.astype(np.float64))
    np.testing.assert_allclose(found, expected, atol=tolerance)
    np.testing.assert_allclose(found.sum(axis=1), 1.0, rtol=2 * n * np.finfo(precision).eps)
    np.testing.assert_allclose(simplex.project(found, backend=engine), found, atol=tolerance)


def test_projection_in_place() -> None:
    v = np.random.default_rng(0).normal(size=(5, 4))
    expected = simplex.project(v)
    out = np.empty_like(v)
    assert simplex.project(v, out=out) is out
    np.testing.assert_array_equal(out, expected)
    assert simplex.project(v, out=v) is v
    np.testing.assert_array_equal(v, expected)


def test_residual_of_first_order() -> None:
    x = np.array([0.5, 0.5, 0.0])
    assert simplex.kkt_residual(x, [1.0, 3.0, 2.0]) == 1.0
    rows = simplex.kkt_residual(np.stack([x, x]), [[1.0, 3.0, 2.0], [5.0, 5.0, 9.0]])
    np.testing.assert_array_equal(rows, [1.0, 0.0])
    games = simplex.kkt_residual([0.5, 0.5, 0.25, 0.75], [0.0, 2.0, 1.0, 5.0], sizes=(2, 2))
    assert games == 3.0
