"""Portfolio objectives: published numbers, tensors, derivatives, utilities, invariances."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hotloops import simplex
from tests.simplex import portfolios, reference

# Twenty stocks, last 2520 daily returns in percent; the minimum agrees between exponentiated
# gradient, sequential quadratic programming and a Newton-type method to 1e-12.
EQUAL_MOMENTS = [0.072232076161, 1.207552529889, -0.045400243157, 28.907466104478]
EQUAL_MOMENTS_WHOLE = [0.073484882031, 1.422539706801, 0.065718873993, 25.419278613936]
MINIMUM = -0.033379924961
HOLDINGS = {
    "LLY": 0.235854,
    "UNH": 0.199858,
    "MSFT": 0.092058,
    "MRK": 0.078618,
    "PG": 0.078117,
    "BBY": 0.076517,
    "WMT": 0.073054,
    "AMD": 0.065974,
    "JNJ": 0.057198,
    "AAPL": 0.028289,
    "PEP": 0.008522,
    "HD": 0.005942,
}


def test_moments_of_equal_weights() -> None:
    equal = np.full(20, 0.05)
    np.testing.assert_allclose(portfolios.crra().moments(equal), EQUAL_MOMENTS, rtol=1e-10)
    whole = simplex.PortfolioMoments(portfolios.percent_returns(None))
    np.testing.assert_allclose(whole.moments(equal), EQUAL_MOMENTS_WHOLE, rtol=1e-10)


def test_no_tensor_is_needed() -> None:
    returns = portfolios.percent_returns()[:, :6]
    objective = simplex.PortfolioMoments(returns, [0.0, 0.0, 0.0, 1.0])
    x = np.full(6, 1 / 6)
    centred = returns - returns.mean(axis=0)
    tensor = np.einsum("ti,tj,tk,tl->ijkl", *[centred] * 4, optimize=True) / len(returns)
    by_tensor = np.einsum("ijkl,i,j,k,l", tensor, x, x, x, x)
    assert by_tensor == pytest.approx(85.475289408614, rel=1e-10)
    assert float(objective.value_and_grad(x)[0]) == pytest.approx(by_tensor, rel=1e-10)


def test_known_value_and_gradient(precision: str) -> None:
    tolerance = 1e-10 if precision == "float64" else 2e-5
    x = np.full(20, 0.05, precision)
    value, gradient = portfolios.crra().value_and_grad(x)
    assert gradient.dtype == np.dtype(precision)
    assert float(value) == pytest.approx(-0.010181305251974, rel=tolerance)
    expected = [0.03781615481137, 0.02804430521656, 0.10017453020731]
    np.testing.assert_allclose(gradient[:3], expected, rtol=10 * tolerance)


def test_minimum_of_constant_relative_risk_aversion() -> None:
    objective = portfolios.crra()
    assert objective.is_convex
    point = simplex.polish(objective)
    assert point.value == pytest.approx(MINIMUM, abs=2e-12)
    assert point.kkt_residual < 1e-10
    found = dict(zip(portfolios.table().assets, point.x, strict=True))
    for name, weight in found.items():
        assert weight == pytest.approx(HOLDINGS.get(name, 0.0), abs=6e-7)
    whole = simplex.PortfolioMoments(
        portfolios.percent_returns(None), simplex.crra_preferences(10.0, percent=True)
    )
    assert simplex.polish(whole).value == pytest.approx(-0.016571324609, abs=2e-12)


def test_multiplicative_weights_end_at_the_same_minimum() -> None:
    result = simplex.mwu(portfolios.crra(), step_size=20.0, num_steps=3000, polish_steps=0)
    assert result.value == pytest.approx(MINIMUM, abs=1e-7)


def test_skewness_alone_has_its_minima_at_vertices() -> None:
    objective = simplex.PortfolioMoments(portfolios.percent_returns(), [0.0, 0.0, 1.0, 0.0])
    stuck = simplex.mwu(objective, step_size=0.3, num_steps=500)
    assert stuck.value == pytest.approx(-37.2070415807, abs=1e-9)
    starts = simplex.mwu(
        objective, x0="dirichlet", step_size=0.3, num_steps=500, num_chains=64, seed=1
    )
    assert starts.value == pytest.approx(-61.7643181727, abs=1e-9)
    assert starts.x[portfolios.table().assets.index("AMD")] == 1.0
    worse = float((starts.best_value > -40.0).mean())
    assert abs(worse - 0.93) < 4 * np.sqrt(0.93 * 0.07 * (1 / 64 + 1 / 200))


def test_three_assets_with_a_local_and_a_global_minimum() -> None:
    objective = simplex.PortfolioMoments(
        portfolios.assets("AMD", "JNJ", "RRC"), [0.0, 2.0, 1.0, 0.01]
    )
    stuck = simplex.mwu(objective, x0=[0.1, 0.7, 0.2], step_size=0.02, num_steps=3000)
    assert stuck.value == pytest.approx(2.52038, abs=5e-4)
    np.testing.assert_allclose(stuck.x, [0.08, 0.75, 0.17], atol=0.01)
    free = simplex.lmwu(
        objective,
        x0=[0.1, 0.7, 0.2],
        step_size=0.02,
        inverse_temperature=3.0,
        num_steps=2000,
        num_chains=32,
        seed=2,
    )
    assert free.value == pytest.approx(1.60146, abs=5e-4)
    np.testing.assert_allclose(free.x, [0.735, 0.0, 0.265], atol=0.005)
    assert free.kkt_residual < 1e-10


def test_a_vertex_far_from_the_start_needs_starts_of_its_own() -> None:
    """A stress case: the polish of the middle ends at 2.046, the vertex of AMD is at -13.06."""
    objective = simplex.PortfolioMoments(portfolios.percent_returns(), [0.0, 3.0, 1.0, 0.002])
    assert simplex.polish(objective).value == pytest.approx(2.0460914845, abs=1e-9)
    vertex = np.zeros(20)
    vertex[portfolios.table().assets.index("AMD")] = 1.0
    point = simplex.polish(objective, vertex)
    assert point.value == pytest.approx(-13.0643943788, abs=1e-9)
    np.testing.assert_array_equal(point.x, vertex)


RNG = np.random.default_rng(8)
RETURNS = RNG.standard_t(5, size=(160, 7)) * RNG.uniform(0.5, 2.0, 7) + 0.1
TIME_WEIGHTS = RNG.uniform(0.0, 1.0, 160)


def make(name: str, **terms: Any) -> Any:
    moments, utility = simplex.PortfolioMoments, simplex.ExpectedUtility
    preferences = [1.0, 0.5, 0.1, 0.02]
    return {
        "moments": lambda: moments(RETURNS, preferences, **terms),
        "raw": lambda: moments(RETURNS, preferences, raw=True, **terms),
        "order 8": lambda: moments(RETURNS, [1, 2, 1, 1, 0.1, 0.1, 0.01, 0.01], **terms),
        "standardised": lambda: moments(RETURNS, preferences, standardised=True, **terms),
        "weighted": lambda: moments(RETURNS, preferences, time_weights=TIME_WEIGHTS, **terms),
        "crra": lambda: utility(RETURNS, risk_aversion=4.0, percent=True, **terms),
        "cara": lambda: utility(RETURNS, "cara", risk_aversion=2.0, percent=True, **terms),
        "log": lambda: utility(RETURNS, "log", percent=True, **terms),
    }[name]()


NAMES = ["moments", "raw", "order 8", "standardised", "weighted", "crra", "cara", "log"]
TERMS = {
    "ridge": 0.3,
    "entropy": 0.05,
    "turnover": 0.2,
    "anchor": 1 / 7,
    "smoothing": 0.01,
    "lower": 0.05,
    "upper": 0.3,
    "groups": [([0, 2, 5], 0.4)],
    "penalty": 3.0,
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("terms", [{}, TERMS], ids=["plain", "terms"])
def test_compiled_gradients_are_those_of_numpy(
    name: str, terms: dict[str, Any], precision: str
) -> None:
    objective = make(name, **terms)
    points = reference.uniform_points(21, 7, 3).astype(precision)
    values, gradients = objective.value_and_grad(points)
    tolerance = 1e-12 if precision == "float64" else 2e-5
    for x, value, gradient in zip(points, values, gradients, strict=True):
        expected, slope = objective.precise_value_and_grad(x.astype(np.float64))
        np.testing.assert_allclose(value, expected, rtol=tolerance, atol=tolerance)
        size = np.abs(slope).max()
        np.testing.assert_allclose(gradient, slope, rtol=0, atol=10 * tolerance * size)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("terms", [{}, TERMS], ids=["plain", "terms"])
def test_derivatives_are_those_of_differences(name: str, terms: dict[str, Any]) -> None:
    objective = make(name, **terms)
    for x in reference.uniform_points(3, 7, 4):
        width = 1e-6
        found = [objective.precise_value_and_grad(x + h) for h in width * np.eye(7)]
        below = [objective.precise_value_and_grad(x - h) for h in width * np.eye(7)]
        _, gradient = objective.precise_value_and_grad(x)
        slope = np.array([a[0] - b[0] for a, b in zip(found, below, strict=True)]) / (2 * width)
        np.testing.assert_allclose(gradient, slope, rtol=1e-6, atol=1e-7 * abs(slope).max())
        bend = np.array([a[1] - b[1] for a, b in zip(found, below, strict=True)]) / (2 * width)
        expected = objective.hessian(x)
        np.testing.assert_allclose(bend, expected, rtol=1e-5, atol=1e-5 * abs(bend).max())


def test_moments_are_those_of_the_returns_of_the_portfolio() -> None:
    x = reference.uniform_points(1, 7, 5)[0]
    y = RETURNS @ x
    central = [y.mean(), *(np.mean((y - y.mean()) ** k) for k in (2, 3, 4))]
    np.testing.assert_allclose(make("moments").moments(x), central, rtol=1e-12)
    raw = [np.mean(y**k) for k in (1, 2, 3, 4)]
    np.testing.assert_allclose(make("raw").moments(x), raw, rtol=1e-12)
    shape = [central[2] / central[1] ** 1.5, central[3] / central[1] ** 2]
    np.testing.assert_allclose(make("standardised").moments(x), central[:2] + shape, rtol=1e-12)
    signs = np.array([-1, 1, -1, 1])
    for name, moments in (
        ("moments", central),
        ("raw", raw),
        ("standardised", central[:2] + shape),
    ):
        value = make(name).precise_value_and_grad(x)[0]
        assert value == pytest.approx(signs * [1.0, 0.5, 0.1, 0.02] @ np.array(moments), rel=1e-12)


def test_utilities_are_their_formulas() -> None:
    x = reference.uniform_points(1, 7, 6)[0]
    wealth = 1 + RETURNS @ x / 100
    for name, expected in (
        ("crra", -np.mean((wealth**-3.0 - 1) / -3.0)),
        ("cara", np.mean(np.exp(-2 * wealth) / 2)),
        ("log", -np.mean(np.log(wealth))),
    ):
        assert make(name).precise_value_and_grad(x)[0] == pytest.approx(expected, rel=1e-12)
        assert make(name).is_convex


def test_utility_without_aversion_limits() -> None:
    log = simplex.ExpectedUtility(RETURNS, "crra", risk_aversion=1.0, percent=True)
    assert log.utility == "log"
    near = simplex.ExpectedUtility(RETURNS, "crra", risk_aversion=1 + 1e-6, percent=True)
    x = np.full(7, 1 / 7)
    difference = near.precise_value_and_grad(x)[0] - log.precise_value_and_grad(x)[0]
    assert abs(difference) < 1e-7


def test_series_of_the_utility_gives_the_preferences() -> None:
    """For small returns exact CRRA utility and its four moments have the same minimum."""
    small = RETURNS / 50
    exact = simplex.polish(simplex.ExpectedUtility(small, percent=True, risk_aversion=10.0))
    preferences = simplex.crra_preferences(10.0, percent=True)
    raw = simplex.polish(simplex.PortfolioMoments(small, preferences, raw=True))
    np.testing.assert_allclose(exact.x, raw.x, atol=2e-4)
    np.testing.assert_allclose(
        simplex.crra_preferences(3.0, order=6),
        [1, 3 / 2, 12 / 6, 60 / 24, 360 / 120, 2520 / 720],
    )


def test_percent_is_a_change_of_units() -> None:
    fractions = simplex.PortfolioMoments(RETURNS / 100, simplex.crra_preferences(5.0))
    percents = simplex.PortfolioMoments(RETURNS, simplex.crra_preferences(5.0, percent=True))
    x = np.full(7, 1 / 7)
    a, b = (o.precise_value_and_grad(x)[0] for o in (fractions, percents))
    assert 100 * a == pytest.approx(b, rel=1e-12)


def test_time_weights_are_repetitions() -> None:
    counts = RNG.integers(0, 4, 160)
    weighted = simplex.PortfolioMoments(RETURNS, time_weights=counts)
    repeated = simplex.PortfolioMoments(np.repeat(RETURNS, counts, axis=0))
    x = np.full(7, 1 / 7)
    for a, b in zip(
        weighted.precise_value_and_grad(x), repeated.precise_value_and_grad(x), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-11)


def test_order_of_the_assets_does_not_matter() -> None:
    order = RNG.permutation(7)
    plain, mixed = (
        simplex.polish(simplex.PortfolioMoments(rows, [1, 2, 0.5, 0.4]))
        for rows in (RETURNS, RETURNS[:, order])
    )
    np.testing.assert_allclose(mixed.x, plain.x[order], atol=1e-10)


@pytest.mark.parametrize("preferences", [[1, 1, 1, 1], [1, 1, 2, 1], [0, 2, 1, 0.01], [1, 1, 0.5]])
def test_convexity_is_that_of_the_returns_at_hand(preferences: list[float]) -> None:
    objective = simplex.PortfolioMoments(RETURNS, preferences)
    lowest = min(
        np.linalg.eigvalsh(_tangent(objective.hessian(x)))[0]
        for x in [*np.eye(7), *reference.uniform_points(300, 7)]
    )
    if objective.is_convex:
        assert lowest > -1e-10
    by_rule = len(preferences) == 4 and 8 * preferences[1] * preferences[3] >= (
        3 * preferences[2] ** 2
    )
    assert objective.is_convex or not by_rule


def _tangent(matrix: Any) -> Any:
    centre = np.eye(7) - 1 / 7
    return centre @ matrix @ centre + np.full((7, 7), 1.0)


def test_minibatches_are_fair_and_the_polish_uses_all_rows() -> None:
    objective = simplex.PortfolioMoments(RETURNS, [1.0, 0.5, 0.1, 0.02], batch_size=8)
    whole = make("moments")
    settings: dict[str, Any] = {"step_size": 0.005, "num_steps": 400, "num_chains": 64, "seed": 4}
    noisy = simplex.lmwu(objective, polish_steps=0, **settings)
    still = simplex.lmwu(whole, polish_steps=0, **settings)
    # One step from the middle, averaged over many chains, is the step with all rows.
    one = {**settings, "num_steps": 1, "num_chains": 4096, "polish_steps": 0, "step_size": 1e-3}
    step = simplex.lmwu(objective, **one).chains_x
    exact = simplex.lmwu(whole, **one).chains_x[0]
    error = step.std(axis=0, ddof=1) / 64
    assert (abs(step.mean(axis=0) - exact) < 5 * error).all()
    assert step.std() > 1e-5
    assert np.unique(noisy.chains_x, axis=0).shape[0] == 64
    assert np.unique(still.chains_x, axis=0).shape[0] == 1
    polished = simplex.lmwu(objective, **settings)
    assert polished.value == pytest.approx(simplex.polish(whole).value, abs=1e-10)


def test_data_frames_give_names() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(RETURNS, columns=list("ABCDEFG"))
    objective = simplex.PortfolioMoments(frame, groups={"few": (["A", "C"], 0.2)}, upper=0.5)
    assert objective.names == tuple("ABCDEFG")
    assert objective.terms is not None
    assert objective.terms.groups[0][0].tolist() == [0, 2]
    point = simplex.polish(objective)
    assert point.x[[0, 2]].sum() <= 0.2 + 1e-12
    renamed = simplex.PortfolioMoments(frame, names=list("abcdefg"))
    assert renamed.names == tuple("abcdefg")
    assert "assets=7" in repr(objective)
    assert "ExpectedUtility('crra'" in repr(simplex.ExpectedUtility(frame / 100))


def test_float32_returns_make_float32_chains() -> None:
    objective = simplex.PortfolioMoments(RETURNS.astype(np.float32), [1, 2, 0.5, 0.4])
    result = simplex.mwu(objective, step_size=0.1, num_steps=50)
    assert result.chains_x.dtype == np.float32
    assert result.x.dtype == np.float64
    exact = simplex.polish(simplex.PortfolioMoments(RETURNS, [1, 2, 0.5, 0.4]))
    np.testing.assert_allclose(result.x, exact.x, atol=1e-5)
