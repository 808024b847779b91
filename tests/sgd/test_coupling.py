"""Coupled chains: exact contraction on quadratics, the fitted rate, the cost, arguments."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import hotloops
from hotloops import sgd

MATRIX = np.array([[2.0, 0.5], [0.5, 1.0]])


@pytest.mark.parametrize("backend", ["cpp", "numba"])
@pytest.mark.parametrize("full", [False, True])
def test_quadratics_contract_exactly(full: bool, backend: str) -> None:
    """|t_k - t'_k| = |(I - gamma A)^k (t_0 - t'_0)|, to 1e-12, whatever the noise."""
    problem = sgd.Quadratic(MATRIX if full else [2.0, 0.7], 0.5)
    starts = np.random.default_rng(4).normal(size=(2, 7, 2))
    found = sgd.coupling_diagnostic(
        problem, 0.1, 60, theta0=starts[0], theta1=starts[1], num_pairs=7, seed=8, backend=backend
    )
    np.testing.assert_array_equal(found.steps, np.arange(61))
    contraction = np.eye(2) - 0.1 * problem.hessian()
    for k, distance, square in zip(
        found.steps, found.distance, found.squared_distance, strict=True
    ):
        apart = (starts[0] - starts[1]) @ np.linalg.matrix_power(contraction, k).T
        lengths = np.linalg.norm(apart, axis=1)
        assert distance == pytest.approx(lengths.mean(), abs=1e-12)
        assert square == pytest.approx((lengths**2).mean(), abs=1e-12)
    mu = float(np.linalg.eigvalsh(problem.hessian())[0])
    assert found.expected_rate == pytest.approx(1 - 0.1 * mu)
    assert found.contraction_steps == np.ceil(2 * np.log(4) / (0.1 * mu))
    assert found.num_pairs == 7
    assert found.num_diverged == 0


def test_rate_and_half_life_of_one_dimension() -> None:
    found = sgd.coupling_diagnostic(
        sgd.Quadratic([1.0], 0.0), 0.1, 400, theta0=[3.0], theta1=[-1.0], num_pairs=5
    )
    assert found.rate == pytest.approx(0.9, abs=1e-9)
    assert found.half_life == pytest.approx(np.log(0.5) / np.log(0.9), rel=1e-8)
    assert found.expected_rate == pytest.approx(0.9)
    assert len(found.steps) == 101
    assert found.steps[0] == 0
    assert found.steps[-1] == 400


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_fit_stops_above_rounding(dtype: str) -> None:
    """After 2000 steps only rounding is left; it does not enter the rate."""
    problem = sgd.Quadratic([1.0, 1.0], 100.0)
    found = sgd.coupling_diagnostic(
        problem,
        0.05,
        2000,
        theta0=[101.0, 99.0],
        theta1=[99.0, 100.0],
        num_pairs=16,
        record=range(1, 2001),
        dtype=dtype,
    )
    assert found.distance[-1] < 1e-4
    assert found.rate == pytest.approx(0.95, abs=1e-3)


def test_cost_is_what_it_says() -> None:
    """Against two runs of one's own; the default offset is zero, that of tau and mu as stated."""
    problem = sgd.Cosine(1.0, 1.0, 2)
    options: dict[str, Any] = {"num_chains": 6, "burn_in": 0, "checkpoints": [5, 9], "seed": 2}
    starts = [np.array([2.0, -1.0]), np.array([-1.0, 0.5])]
    with pytest.warns(RuntimeWarning, match="burn_in"):
        first, second = (sgd.run(problem, 0.1, 20, theta0=t, **options) for t in starts)
    at = problem.minimizer()
    for tau, offset in ((None, 0.0), (1.5, 2 * np.sqrt(2) * 1.5 * np.sqrt(0.1 / 1.0))):
        found = sgd.coupling_diagnostic(
            problem,
            0.1,
            20,
            theta0=starts[0],
            theta1=starts[1],
            num_pairs=6,
            seed=2,
            record=[5, 9],
            reference=at,
            tau=tau,
        )
        assert found.offset == pytest.approx(offset)
        np.testing.assert_array_equal(found.steps, [0, 5, 9])
        for k in range(2):
            one, other = first.checkpoint_last[k, :, 0], second.checkpoint_last[k, :, 0]
            apart = np.linalg.norm(one - other, axis=1)
            around = np.linalg.norm(one - at, axis=1) + np.linalg.norm(other - at, axis=1)
            expected = (apart * (around + offset)).mean()
            assert found.cost[k + 1] == pytest.approx(expected, rel=1e-13)
    given = sgd.coupling_diagnostic(
        problem, 0.1, 20, theta0=starts[0], theta1=starts[1], num_pairs=6, offset=0.25, mu=0.5
    )
    assert given.offset == 0.25
    assert given.expected_rate == pytest.approx(1 - 0.1 * 0.5)


def test_default_reference_is_the_late_mean_of_all_chains() -> None:
    problem = sgd.Quadratic([1.0, 2.0], [3.0, -4.0])
    found = sgd.coupling_diagnostic(
        problem, 0.1, 2001, theta0=[30.0, 0.0], theta1=[-30.0, 0.0], num_pairs=200, seed=4
    )
    np.testing.assert_allclose(found.reference, [3.0, -4.0], atol=0.01)


def test_other_problems_forget_their_start() -> None:
    """Rows, streams and Markov chains; with the same matrix in all states the rate is exact."""
    rng = np.random.default_rng(3)
    rows = sgd.Logistic(rng.normal(size=(40, 2)), rng.integers(0, 2, 40), 0.1)
    stream = sgd.StreamingLeastSquares([1.0, 2.0], rho=0.5)
    markov = sgd.MarkovLSA(-np.ones((3, 1, 1)), [[1.0], [2.0], [3.0]], np.full((3, 3), 1 / 3))
    for problem in (rows, stream, markov):
        found = sgd.coupling_diagnostic(
            problem,
            0.05,
            300,
            theta0=np.full(problem.dim, 2.0),
            theta1=np.zeros(problem.dim),
            num_pairs=50,
            seed=1,
        )
        assert 0 < found.rate < 1
        assert found.rate < found.expected_rate + 0.01
        assert found.distance[-1] < found.distance[0] / 2
    assert found.rate == pytest.approx(0.95, abs=1e-9)


def test_chains_that_meet_at_once_have_no_rate() -> None:
    problem = sgd.Quadratic([1.0], 0.0, noise="none")
    with pytest.warns(RuntimeWarning, match="is not below 1 / L"):
        found = sgd.coupling_diagnostic(problem, 1.0, 5, theta0=[1.0], theta1=[2.0], num_pairs=1)
    assert found.distance[1] == 0.0
    assert np.isnan(found.rate)
    assert np.isnan(found.half_life)


def test_chains_that_part_have_no_half_life() -> None:
    def grad(theta: Any, noise: Any, step: int, data: Any, out: Any) -> None:
        out[...] = -theta

    problem = sgd.Custom(grad, 1)
    found = sgd.coupling_diagnostic(problem, 0.1, 20, theta0=[1.0], theta1=[2.0], num_pairs=2)
    assert found.rate == pytest.approx(1.1)
    assert found.half_life == np.inf
    assert np.isnan(found.expected_rate)
    assert np.isnan(found.contraction_steps)


def test_diverged_pairs_are_left_out() -> None:
    problem = sgd.Quadratic([1.0], 0.0, 4.0, divergence_limit=6.0)
    with pytest.warns(RuntimeWarning, match="diverged"):
        found = sgd.coupling_diagnostic(
            problem, 0.5, 20, theta0=[2.0], theta1=[-2.0], num_pairs=40, seed=6
        )
    assert 1 <= found.num_diverged < 40
    np.testing.assert_allclose(found.distance, 4 * 0.5**found.steps, atol=1e-12)
    text = "^coupling_diagnostic: a chain diverged in each of the 3 pairs$"
    wild = sgd.Quadratic([1.0], 0.0, 1e3, divergence_limit=1.5)
    with (
        pytest.warns(RuntimeWarning, match="diverged"),
        pytest.raises(hotloops.NumericalError, match=text),
    ):
        sgd.coupling_diagnostic(wild, 0.5, 50, theta0=[1.0], theta1=[0.0], num_pairs=3)


def test_result() -> None:
    found = sgd.coupling_diagnostic(
        sgd.Quadratic([1.0], 0.0), 0.1, 40, theta0=[3.0], theta1=[-1.0], num_pairs=5
    )
    assert repr(found).startswith("CouplingResult(pairs=5, step_size=0.1, rate=0.9, half_life=6.5")
    assert set(found.axes) <= set(found.to_dict())
    with pytest.raises(AttributeError):
        found.rate = 0.5  # type: ignore[misc]
    figure = pytest.importorskip("matplotlib.figure")
    drawn = found.plot()
    assert isinstance(drawn, figure.Figure)
    labels = [text.get_text() for text in drawn.axes[0].get_legend().get_texts()]
    assert labels == ["mean |t - t'|", "mean cost", "fitted rate: 0.9", "1 - gamma mu: 0.9"]


START = "have shape (d,) or (num_pairs, d) with d = 2, num_pairs = 3, got"
REAL = "be an array of real numbers, got"
WITHIN = "increase strictly within [1, 10], got"
BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"problem": None}, TypeError, "`problem` must be a problem such as sgd.Logistic(X, y), got"),
    ({"step_size": 0.0}, ValueError, "`step_size` must be a finite number > 0.0, got 0.0"),
    ({"step_size": [0.1]}, TypeError, "`step_size` must be a finite number > 0.0, got a list"),
    ({"num_steps": 0}, ValueError, "`num_steps` must be an integer >= 1, got 0"),
    ({"num_pairs": 0}, ValueError, "`num_pairs` must be an integer >= 1, got 0"),
    ({"num_pairs": 1.0}, TypeError, "`num_pairs` must be an integer >= 1, got 1.0"),
    ({"theta0": [1.0]}, ValueError, f"`theta0` must {START} (1,)"),
    ({"theta1": np.ones((2, 2))}, ValueError, f"`theta1` must {START} (2, 2)"),
    ({"theta0": None}, TypeError, f"`theta0` must {REAL} None"),
    ({"theta0": [1.0, np.nan]}, ValueError, "`theta0` must be finite, got nan at index (1,)"),
    ({"theta1": [1.0, 1.0]}, ValueError, "`theta1` must differ from `theta0`, got the same"),
    ({"offset": -1.0}, ValueError, "`offset` must be a finite number >= 0.0, got -1.0"),
    ({"offset": 1.0, "tau": 1.0}, ValueError, "`tau` must be None when `offset` is given, got 1"),
    ({"tau": -1.0}, ValueError, "`tau` must be a finite number >= 0.0, got -1.0"),
    ({"mu": 0.0}, ValueError, "`mu` must be a finite number > 0.0, got 0.0"),
    ({"reference": [1.0]}, ValueError, "`reference` must have shape (2,), got (1,)"),
    ({"reference": "0"}, TypeError, f"`reference` must {REAL} '0'"),
    ({"record": [0, 1]}, ValueError, f"`record` must {WITHIN} [0, 1]"),
    ({"record": [2, 2]}, ValueError, f"`record` must {WITHIN} [2, 2]"),
    ({"record": [5, 11]}, ValueError, f"`record` must {WITHIN} [5, 11]"),
    ({"record": np.zeros(0, int)}, ValueError, "`record` must not be empty, got shape (0,)"),
    ({"record": 5}, ValueError, "`record` must have shape (k,), got ()"),
    ({"record": [0.5]}, TypeError, "`record` must be an array of integers, got dtype float64"),
]


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: next(iter(bad[0])))
def test_bad_arguments(bad: tuple[dict[str, Any], type[Exception], str]) -> None:
    changed, error, text = bad
    good: dict[str, Any] = {
        "problem": sgd.Quadratic([1.0, 2.0], 0.0),
        "step_size": 0.1,
        "num_steps": 10,
        "theta0": [1.0, 1.0],
        "theta1": [0.0, 0.0],
        "num_pairs": 3,
    }
    with pytest.raises(error, match="^" + re.escape(f"coupling_diagnostic: {text}")):
        sgd.coupling_diagnostic(**{**good, **changed})


def test_tau_without_mu() -> None:
    text = "`mu` must be given with `tau`, since the problem does not know it, got None"
    with pytest.raises(ValueError, match="^" + re.escape(f"coupling_diagnostic: {text}")):
        sgd.coupling_diagnostic(
            sgd.Custom(print, 1), 0.1, 10, theta0=[1.0], theta1=[0.0], num_pairs=1, tau=1.0
        )


def test_two_chains_see_the_same_stream() -> None:
    """The seed and the offset of the chains are those of `run`."""
    problem = sgd.Cosine(1.0, 1.0)
    starts: dict[str, Any] = {"theta0": [2.0], "theta1": [-2.0]}
    whole = sgd.coupling_diagnostic(problem, 0.1, 20, num_pairs=8, seed=5, **starts)
    parts = [
        sgd.coupling_diagnostic(
            problem, 0.1, 20, num_pairs=4, seed=5, chain_offset=offset, **starts
        ).distance
        for offset in (0, 4)
    ]
    np.testing.assert_allclose(whole.distance, np.mean(parts, axis=0), rtol=1e-14)
    other = sgd.coupling_diagnostic(problem, 0.1, 20, num_pairs=8, seed=6, **starts)
    assert not np.array_equal(whole.distance, other.distance)
