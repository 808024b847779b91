"""Laws that the chains sample, against quadrature and algebra; how they leave local minima."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hotloops import simplex
from tests.simplex import reference

# f(t) = 20 (t - 1/4)^2 (t - 7/10)^2 + 0.3 t on the 1-simplex, t = x_1, at beta = 12.
SEGMENT_MEANS = {1.0: (0.33370060, 0.14276869), 0.5: (0.31708874, 0.13274877)}


def segment() -> simplex.Polynomial:
    first = simplex.Polynomial([(1.0, {0: 1}), (-0.25, {})], dim=2)
    second = simplex.Polynomial([(1.0, {0: 1}), (-0.7, {})], dim=2)
    return 20.0 * (first * first * second * second) + simplex.Polynomial([(0.3, {0: 1})], dim=2)


def flat(dim: int) -> simplex.Polynomial:
    return simplex.Polynomial([], dim=dim)


@pytest.mark.parametrize("eps", [0.02, 0.005])
@pytest.mark.parametrize(("form", "alpha"), [("entropic", 1.0), ("sphere", 0.5)])
def test_means_on_the_segment(form: str, alpha: float, eps: float) -> None:
    """The bias falls with the step size: |E t - quadrature| < 4 standard errors + 0.3 eps."""
    steps = round(600 / eps)
    result = simplex.lmwu(
        segment(),
        step_size=eps,
        inverse_temperature=12.0,
        base_measure=alpha,
        retraction=form,
        num_steps=steps,
        num_chains=256,
        burn_in=steps // 20,
        polish_steps=0,
        seed=11,
    )
    means = result.mean[:, 0]
    error = means.std(ddof=1) / np.sqrt(means.size)
    assert error < 2e-3
    expected, square = SEGMENT_MEANS[alpha]
    slack = 0.3 * eps if form == "entropic" else 0.5 * eps
    assert abs(means.mean() - expected) < 4 * error + slack
    squares = result.variance[:, 0] + means**2
    error = squares.std(ddof=1) / np.sqrt(means.size)
    assert abs(squares.mean() - square) < 4 * error + slack


@pytest.mark.parametrize("eps", [1e-2, 2.5e-3])
@pytest.mark.parametrize(
    ("form", "alpha", "slack"),
    [("entropic", 1.0, 0.25), ("sphere", 0.5, 0.0), ("sphere", 1.0, 0.25), ("entropic", 2.0, 0.25)],
)
def test_second_moment_of_the_base_measure(
    form: str, alpha: float, slack: float, eps: float
) -> None:
    """For f = 0 on three weights E x_s^2 = (alpha + 1) / (3 (3 alpha + 1))."""
    result = simplex.lmwu(
        flat(3),
        x0="dirichlet",
        step_size=eps,
        inverse_temperature=1.0,
        base_measure=alpha,
        retraction=form,
        num_steps=round(150 / eps),
        num_chains=256,
        burn_in=round(5 / eps),
        polish_steps=0,
        seed=2,
    )
    squares = (result.variance + result.mean**2).mean(axis=1)
    expected = (alpha + 1) / (3 * (3 * alpha + 1))
    error = squares.std(ddof=1) / np.sqrt(squares.size)
    assert error < 1e-3
    assert abs(squares.mean() - expected) < max(4 * error + slack * eps, 0.003)
    np.testing.assert_allclose(result.mean.mean(axis=0), 1 / 3, atol=0.01)


def test_without_a_floor_chains_stick_to_the_faces() -> None:
    """Why the floor is the default: E x_s^2 is far from 1/6 without it."""
    found = {}
    for floor in ("auto", None):
        result = simplex.lmwu(
            flat(3),
            step_size=1e-2,
            inverse_temperature=1.0,
            num_steps=20_000,
            num_chains=128,
            burn_in=500,
            polish_steps=0,
            floor=floor,
            seed=4,
        )
        found[floor] = float((result.variance + result.mean**2).mean())
        assert (result.smallest.min() > 1e-3) == (floor == "auto")
        assert result.floored.sum() > 0  # without a floor weights end at the least number
        assert (result.clipped.sum() > 0) == (floor is None)
    assert abs(found["auto"] - 1 / 6) < 0.004
    assert found[None] > 0.2


def chains_of_the_double_well(**settings: Any) -> simplex.SimplexResult:
    return simplex.lmwu(
        reference.double_well(),
        x0=[0.7, 0.2, 0.1],
        step_size=0.2,
        num_steps=20_000,
        num_chains=256,
        seed=1,
        trace_every=20,
        **settings,
    )


def place_between_the_wells(trace: Any) -> Any:
    gap = reference.NEAR - reference.FAR
    return (trace - reference.FAR) @ gap / (gap @ gap)


def test_chains_leave_the_local_minimum() -> None:
    result = chains_of_the_double_well(inverse_temperature=300.0)
    place = place_between_the_wells(result.trace)
    assert (place.min(axis=0) < 0.3).all()
    crossed = (place[500:] < 0.5533).mean(axis=0)
    error = crossed.std(ddof=1) / 16
    assert abs(crossed.mean() - 0.90) < 4 * error + 0.01
    assert result.value < 1e-12
    np.testing.assert_allclose(result.x, reference.FAR, atol=1e-6)
    values = reference.double_well_value(result.trace[500:].astype(np.float64)).mean(axis=0)
    assert abs(values.mean() - 0.00457) < 4 * values.std(ddof=1) / 16 + 2e-4


def test_colder_chains_leave_it_later() -> None:
    result = chains_of_the_double_well(inverse_temperature=1000.0)
    place = place_between_the_wells(result.trace)
    share = float((place.min(axis=0) < 0.3).mean())
    assert abs(share - 0.43) < 4 * np.sqrt(0.43 * 0.57 * 2 / 256)


def test_in_the_end_most_cold_chains_leave_it() -> None:
    result = simplex.lmwu(
        reference.double_well(),
        x0=[0.7, 0.2, 0.1],
        step_size=0.2,
        inverse_temperature=1000.0,
        num_steps=100_000,
        num_chains=256,
        trace_every=250,
        seed=21,
    )
    share = float((place_between_the_wells(result.trace).min(axis=0) < 0.3).mean())
    assert abs(share - 0.94) < 4 * np.sqrt(0.94 * 0.06 * 2 / 256)


def test_tempering_samples_the_coldest_law_sooner() -> None:
    """Exchanges carry points to the cold end of the ladder, where chains alone stay."""
    settings: dict[str, Any] = {
        "x0": [0.7, 0.2, 0.1],
        "step_size": 0.2,
        "num_steps": 4000,
        "num_chains": 128,
        "seed": 6,
        "inverse_temperature": [100.0, 300.0, 1000.0, 3000.0],
        "polish_steps": 0,
    }
    alone = simplex.lmwu(reference.double_well(), **settings)
    swapping = simplex.lmwu(reference.double_well(), swap_every=20, **settings)
    crossed = [
        float((place_between_the_wells(result.chains_x[3::4]) < 0.5533).mean())
        for result in (alone, swapping)
    ]
    assert crossed[0] < 0.3
    assert crossed[1] > 0.7
    assert np.isnan(alone.swaps).all()
    ladders = swapping.swaps.reshape(-1, 4)
    assert np.isnan(ladders[:, 3]).all()
    assert ((ladders[:, :3] > 0.05) & (ladders[:, :3] < 0.999)).all()


def test_exchanges_keep_each_law() -> None:
    """On the segment the means of both temperatures stay those of chains alone."""
    settings: dict[str, Any] = {
        "step_size": 0.005,
        "num_steps": 30_000,
        "burn_in": 2000,
        "num_chains": 256,
        "polish_steps": 0,
        "inverse_temperature": [12.0, 40.0],
    }
    alone = simplex.lmwu(segment(), seed=1, **settings).mean[:, 0]
    swapping = simplex.lmwu(segment(), seed=2, swap_every=10, **settings).mean[:, 0]
    for k in range(2):
        left, right = alone[k::2], swapping[k::2]
        error = np.sqrt(left.var(ddof=1) / left.size + right.var(ddof=1) / right.size)
        assert abs(left.mean() - right.mean()) < 4 * error


@pytest.mark.parametrize(
    "cooling",
    [
        simplex.LogarithmicCooling(),
        simplex.LinearCooling(0.01),
        simplex.GeometricCooling(1.001, cap=100.0),
        np.linspace(1.0, 30.0, 3000),
    ],
    ids=["log", "linear", "geometric", "array"],
)
def test_cooling_ends_at_the_minimum(cooling: Any) -> None:
    result = simplex.lmwu(
        reference.double_well(),
        x0=[0.7, 0.2, 0.1],
        step_size=0.2,
        inverse_temperature=100.0,
        temperature_schedule=cooling,
        num_steps=6000,
        num_chains=64,
        seed=3,
    )
    hot = simplex.lmwu(
        reference.double_well(),
        x0=[0.7, 0.2, 0.1],
        step_size=0.2,
        inverse_temperature=100.0,
        num_steps=6000,
        num_chains=64,
        seed=3,
    )
    assert result.value < 1e-12
    assert result.chains_value.mean() < 0.75 * hot.chains_value.mean()


@pytest.mark.parametrize(("alpha", "below"), [(1.0, 0.81111256), (0.5, 0.82835092)])
def test_quadrature_on_the_segment(alpha: float, below: float) -> None:
    points, weights = simplex.gibbs_quadrature(segment(), 12.0, base_measure=alpha)
    t = points[:, 0]
    assert weights @ t == pytest.approx(SEGMENT_MEANS[alpha][0], abs=1e-8)
    assert weights @ t**2 == pytest.approx(SEGMENT_MEANS[alpha][1], abs=1e-8)
    assert weights[t < 0.5].sum() == pytest.approx(below, abs=2e-5)  # a jump between two nodes


DOUBLE_WELL = {1.0: (0.01119637, 0.679483), 0.5: (0.01236862, 0.660823)}


@pytest.mark.parametrize("alpha", [1.0, 0.5])
def test_quadrature_on_the_triangle(alpha: float) -> None:
    points, weights = simplex.gibbs_quadrature(reference.double_well(), 100.0, base_measure=alpha)
    np.testing.assert_allclose(points.sum(axis=1), 1.0, rtol=1e-13)
    value = weights @ reference.double_well_value(points)
    assert value == pytest.approx(DOUBLE_WELL[alpha][0], abs=5e-9)
    share = weights[place_between_the_wells(points) < 0.553301].sum()
    assert share == pytest.approx(DOUBLE_WELL[alpha][1], abs=4e-4)


def test_quadrature_of_the_base_measure_alone() -> None:
    """Dirichlet moments, on one simplex with four weights and on a product of two."""
    alpha = np.array([0.5, 1.0, 2.0, 3.0])
    points, weights = simplex.gibbs_quadrature(flat(4), 1.0, base_measure=alpha, num_nodes=20)
    total = alpha.sum()
    np.testing.assert_allclose(weights @ points, alpha / total, rtol=1e-12)
    np.testing.assert_allclose(
        weights @ points**2, alpha * (alpha + 1) / (total * (total + 1)), rtol=1e-12
    )
    points, weights = simplex.gibbs_quadrature(
        flat(4), 1.0, base_measure=alpha, sizes=(2, 2), num_nodes=20
    )
    np.testing.assert_allclose(weights @ points, [1 / 3, 2 / 3, 2 / 5, 3 / 5], rtol=1e-12)


HISTOGRAMS = [("entropic", 1.0), ("sphere", 0.5), ("metropolis", 1.0), ("metropolis", 0.5)]


@pytest.mark.parametrize(("form", "alpha"), HISTOGRAMS)
def test_histograms_are_those_of_the_quadrature(form: str, alpha: float) -> None:
    """Eight bins of every weight of the double well, both measures, within the bias of the step."""
    eps = 0.1 if form == "metropolis" else 0.02
    result = simplex.lmwu(
        reference.double_well(),
        x0="dirichlet",
        step_size=eps,
        inverse_temperature=100.0,
        base_measure=alpha,
        retraction=form,
        num_steps=round(600 / eps),
        num_chains=128,
        burn_in=round(60 / eps),
        num_bins=8,
        polish_steps=0,
        seed=12,
    )
    points, weights = simplex.gibbs_quadrature(
        reference.double_well(), 100.0, base_measure=alpha, num_nodes=800
    )
    assert result.histogram is not None
    found = result.histogram / result.histogram.sum(axis=2, keepdims=True)
    error = found.std(axis=0, ddof=1) / np.sqrt(128)
    expected = np.stack(
        [np.histogram(points[:, s], 8, (0, 1), weights=weights)[0] for s in range(3)]
    )
    slack = 2e-3 if form == "metropolis" else 8e-3
    assert (abs(found.mean(axis=0) - expected) < 4 * error + slack).all()
    if form == "metropolis":
        assert 0.6 < result.acceptance.mean() < 0.999


@pytest.mark.parametrize("eps", [0.3, 0.05])
def test_adjusted_chains_have_no_bias(eps: float) -> None:
    """On the segment, at steps that are far too long for the other forms."""
    result = simplex.lmwu(
        segment(),
        step_size=eps,
        inverse_temperature=12.0,
        base_measure=1.0,
        retraction="metropolis",
        num_steps=round(1500 / eps),
        num_chains=256,
        burn_in=round(60 / eps),
        polish_steps=0,
        seed=13,
    )
    means = result.mean[:, 0]
    error = means.std(ddof=1) / np.sqrt(means.size)
    assert error < 2e-3
    assert abs(means.mean() - SEGMENT_MEANS[1.0][0]) < 4 * error
