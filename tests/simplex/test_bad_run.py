"""Every argument of the loops wrong in every way, before any work is done."""

from __future__ import annotations

import concurrent.futures
from typing import Any

import numpy as np
import pytest

from hotloops import simplex
from tests.simplex import reference

GOOD: dict[str, Any] = {"step_size": 0.1, "inverse_temperature": 10.0, "num_steps": 5}
BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"step_size": 0.0}, ValueError, "`step_size` must be a finite number > 0"),
    ({"step_size": -1.0}, ValueError, "`step_size` must be a finite number > 0"),
    ({"step_size": np.nan}, ValueError, "`step_size` must be a finite number > 0"),
    ({"step_size": "x"}, TypeError, "`step_size` must be a finite number > 0"),
    ({"step_size": [0.1, -0.1], "num_chains": 2}, ValueError, "`step_size` must be positive"),
    ({"step_size": [0.1, 0.2], "num_chains": 3}, ValueError, "must have a length that divides"),
    ({"step_size": 1e-60, "dtype": "float32"}, ValueError, "must stay finite and positive in"),
    ({"inverse_temperature": -3.0}, ValueError, "`inverse_temperature` must be a finite number"),
    ({"inverse_temperature": 0.0}, ValueError, "`inverse_temperature` must be a finite number"),
    ({"inverse_temperature": -np.inf}, ValueError, "`inverse_temperature` must be a finite"),
    ({"inverse_temperature": [10.0, -1.0], "num_chains": 2}, ValueError, "must be positive"),
    ({"base_measure": 0.0}, ValueError, "`base_measure` must be a finite number > 0"),
    ({"base_measure": [1.0, 1.0]}, ValueError, "`base_measure` must have shape \\(3,\\)"),
    ({"base_measure": [1.0, -1.0, 1.0]}, ValueError, "`base_measure` must be positive"),
    ({"retraction": "euclidean"}, ValueError, "`retraction` must be one of 'entropic'"),
    ({"retraction": "accelerated"}, ValueError, "`retraction` must be one of 'entropic'"),
    ({"retraction": "linear"}, ValueError, "must be infinite with retraction='linear'"),
    (
        {"retraction": "metropolis", "inverse_temperature": np.inf},
        ValueError,
        "must be finite with retraction='metropolis'",
    ),
    (
        {"retraction": "projected", "base_measure": 0.5},
        ValueError,
        "must be 1 with retraction='projected'",
    ),
    ({"num_steps": 0}, ValueError, "`num_steps` must be an integer >= 1, got 0"),
    ({"num_steps": 1.5}, TypeError, "`num_steps` must be an integer"),
    ({"num_chains": 0}, ValueError, "`num_chains` must be an integer >= 1"),
    ({"sizes": (2, 2)}, ValueError, "`sizes` must add up to the number of weights, 3"),
    ({"sizes": 3}, TypeError, "`sizes` must be a sequence of integers"),
    ({"sizes": (3, 0)}, ValueError, "sizes\\[1\\]` must be an integer >= 1"),
    ({"x0": [0.5, 0.4, 0.2]}, ValueError, "`x0` must have weights with sum 1 in simplex 0, got"),
    ({"x0": [1.5, -0.5, 0.0]}, ValueError, "`x0` must not be negative, got -0.5"),
    ({"x0": [0.5, np.nan, 0.5]}, ValueError, "`x0` must be finite"),
    ({"x0": [0.5, 0.5]}, ValueError, "`x0` must have shape \\(d,\\) or \\(C, d\\)"),
    ({"x0": np.full((2, 3), 1 / 3)}, ValueError, "with C = 1, d = 3"),
    ({"x0": "uniform"}, ValueError, "`x0` must be one of 'dirichlet'"),
    ({"schedule": [1.0, 0.0]}, ValueError, "`schedule` must be positive"),
    ({"temperature_schedule": "log"}, TypeError, "`temperature_schedule` must be an array"),
    ({"swap_every": 5}, ValueError, "must be a ladder of at least two when `swap_every`"),
    ({"swap_every": 0}, ValueError, "`swap_every` must be an integer >= 1"),
    ({"floor": "low"}, ValueError, "`floor` must be one of 'auto'"),
    ({"floor": -1.0}, ValueError, "`floor` must be a finite number >= 0"),
    ({"clip": 0.0}, ValueError, "`clip` must be a finite number"),
    ({"clip": 1000.0}, ValueError, "`clip` must be a finite number in"),
    ({"polish_steps": -1}, ValueError, "`polish_steps` must be an integer >= 0"),
    ({"trace_every": -1}, ValueError, "`trace_every` must be an integer >= 0"),
    ({"burn_in": -1}, ValueError, "`burn_in` must be an integer >= 0"),
    ({"covariance": 1}, TypeError, "`covariance` must be True or False"),
    ({"num_bins": -1}, ValueError, "`num_bins` must be an integer in"),
    ({"seed": -1}, ValueError, "`seed` must be an integer"),
    (
        {"chain_offset": 2**32},
        OverflowError,
        "chain_offset \\+ num_chains must be at most 2\\*\\*32",
    ),
    ({"step_offset": 2**48}, OverflowError, "step_offset \\+ num_steps must be at most 2\\*\\*48"),
    ({"dtype": "float16"}, TypeError, "`dtype` must be float32 or float64"),
    ({"state": 3}, TypeError, "`state` must be the `state` of a result of lmwu"),
    ({"out": [0.0] * 3}, TypeError, "`out` must be an array"),
    ({"out": np.empty((2, 3))}, ValueError, "`out` must have shape \\(1, 3\\)"),
    ({"out": np.empty((1, 3), np.float32)}, TypeError, "`out` must have dtype float64"),
    ({"backend": "fortran"}, ValueError, "`backend` must be one of"),
    ({"num_threads": 0}, ValueError, "`num_threads` must be an integer in"),
    ({"progress": 1}, TypeError, "`progress` must be True or False"),
    ({"max_seconds": -1.0}, ValueError, "`max_seconds` must be a finite number >= 0"),
    ({"executor": "pool"}, TypeError, "`executor` must be a concurrent.futures.Executor"),
]


@pytest.mark.parametrize(("changes", "error", "words"), BAD)
def test_bad_arguments(changes: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        simplex.lmwu(reference.double_well(), **(GOOD | changes))
    assert str(caught.value).startswith("lmwu: ")


def test_no_objective() -> None:
    for run in (simplex.lmwu, simplex.mwu, simplex.accelerated_mwu, simplex.projected_langevin):
        with pytest.raises(TypeError, match=f"{run.__name__}: `objective` must be an objective"):
            run(lambda x: x, step_size=0.1, num_steps=1)  # type: ignore[arg-type]


def test_noise_has_no_place_in_the_forms_without_it() -> None:
    for run in (simplex.mwu, simplex.accelerated_mwu):
        words = f"{run.__name__}: `inverse_temperature` must be infinite"
        with pytest.raises(ValueError, match=words):
            run(reference.double_well(), **GOOD)
    plain = {"step_size": 0.1, "num_steps": 5}
    with pytest.raises(ValueError, match="mwu: `retraction` must be one of 'entropic', 'linear'"):
        simplex.mwu(reference.double_well(), retraction="sphere", **plain)
    with pytest.raises(ValueError, match="projected_langevin: `retraction` must be one of"):
        simplex.projected_langevin(reference.double_well(), retraction="sphere", **GOOD)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"acceleration": 1.0}, "`acceleration` must lie below 1"),
        ({"acceleration": 0.0}, "`acceleration` must be a finite number > 0"),
        ({"convexity": -1.0}, "`convexity` must be a finite number >= 0"),
        ({"gamma": 0.0}, "`gamma` must be a finite number > 0"),
    ],
)
def test_bad_acceleration(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        simplex.accelerated_mwu(reference.double_well(), step_size=0.1, num_steps=5, **changes)


def test_an_executor_cannot_stop_in_time() -> None:
    with (
        concurrent.futures.ThreadPoolExecutor(2) as executor,
        pytest.raises(ValueError, match="`max_seconds` must be None when `executor` is given"),
    ):
        simplex.lmwu(reference.double_well(), executor=executor, max_seconds=1.0, **GOOD)


def test_a_state_must_fit() -> None:
    first = simplex.lmwu(reference.double_well(), num_chains=2, seed=3, **GOOD)
    for changes, error, words in (
        ({"num_chains": 3}, ValueError, "`num_chains` must be 2 as in `state`"),
        ({"seed": 4}, ValueError, "`seed` must be 3 as in `state`"),
        ({"burn_in": 4}, ValueError, "`burn_in` must be 0 as in `state`"),
        ({"retraction": "sphere"}, ValueError, "`retraction` must be 'entropic' as in `state`"),
        ({"covariance": True}, ValueError, "`covariance` must be False as in `state`"),
        ({"num_bins": 4}, ValueError, "`num_bins` must be 0 as in `state`"),
        ({"dtype": "float32"}, TypeError, "`dtype` must be float64 as in `state`"),
        ({"x0": [0.2, 0.3, 0.5]}, ValueError, "`x0` must be None when `state` is given"),
    ):
        with pytest.raises(error, match=words):
            simplex.lmwu(reference.double_well(), state=first.state, **(GOOD | changes))
    with pytest.raises(ValueError, match="`state` must belong to a quadratic objective"):
        simplex.lmwu(simplex.QuadraticProgram(np.eye(3)), state=first.state, **GOOD)


def test_zeros_at_the_start_are_lifted_with_a_warning() -> None:
    with pytest.warns(RuntimeWarning, match="`x0` has zeros, which multiplicative steps cannot"):
        result = simplex.mwu(
            reference.double_well(), x0=[1.0, 0.0, 0.0], step_size=0.5, num_steps=3000
        )
    assert result.value < 0.008


def test_a_low_base_measure_is_warned_of() -> None:
    with pytest.warns(RuntimeWarning, match="retraction='sphere' is recommended"):
        simplex.lmwu(reference.double_well(), base_measure=0.5, **GOOD)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"x": [0.5, 0.6, 0.1]}, ValueError, "`x` must have weights with sum 1"),
        ({"gradient": [1.0, 2.0]}, ValueError, "`gradient` must have shape"),
        ({"gradient": [np.inf, 0.0, 0.0]}, ValueError, "`gradient` must be finite"),
        ({"noise": [1.0]}, ValueError, "`noise` must have shape"),
        ({"retraction": "metropolis"}, ValueError, "`retraction` must be one of"),
        ({"inverse_temperature": -1.0}, ValueError, "`inverse_temperature` must be a finite"),
        ({"step": -1}, ValueError, "`step` must be an integer"),
        ({"seed": 2**64}, OverflowError, "`seed` must be an integer"),
    ],
)
def test_bad_steps(changes: dict[str, Any], error: type[Exception], words: str) -> None:
    given: dict[str, Any] = {
        "x": [0.2, 0.3, 0.5],
        "gradient": [1.0, 0.0, 0.0],
        "step_size": 0.1,
    } | changes
    with pytest.raises(error, match=f"lmwu_step: {words}"):
        simplex.lmwu_step(given.pop("x"), given.pop("gradient"), **given)


def test_bad_points_of_other_functions() -> None:
    for v, words in (([np.nan, 1.0], "finite"), ([], "empty"), (3.0, "dimensions")):
        with pytest.raises(ValueError, match=f"project: `v` must .*{words}"):
            simplex.project(v)
    with pytest.raises(ValueError, match="kkt_residual: `gradient` must have shape"):
        simplex.kkt_residual([0.5, 0.5], [1.0])
    x = np.zeros(6)
    with pytest.raises(ValueError, match="project: `out` must be `v` itself or not overlap it"):
        simplex.project(x[:4], out=x[1:5])
    flat = simplex.Polynomial([], dim=3)
    for arguments, words in (
        ({"inverse_temperature": 0.0}, "`inverse_temperature` must be a finite number > 0"),
        ({"inverse_temperature": 1.0, "num_nodes": 1}, "`num_nodes` must be an integer in"),
        ({"inverse_temperature": 1.0, "num_nodes": 5000}, "`num_nodes` must make at most"),
        ({"inverse_temperature": 1.0, "base_measure": 0.0}, "`base_measure` must be a finite"),
    ):
        with pytest.raises(ValueError, match=f"gibbs_quadrature: {words}"):
            simplex.gibbs_quadrature(flat, **arguments)
    with pytest.raises(ValueError, match="`sizes` must have one to three dimensions in all"):
        simplex.gibbs_quadrature(simplex.Polynomial([], dim=6), 1.0)
    with pytest.raises(TypeError, match="`objective` must be an objective"):
        simplex.gibbs_quadrature(None, 1.0)  # type: ignore[arg-type]
