"""Every wrong argument of integrate and guided_velocity, and its message."""

from __future__ import annotations

import ctypes
from typing import Any

import numba
import numpy as np
import pytest
from scipy import LowLevelCallable

import hotloops
from hotloops import flow, nn

X = np.zeros((4, 2))


def still(z: Any, t: Any) -> Any:
    return np.zeros_like(z)


@numba.njit  # type: ignore[untyped-decorator]
def still_fast(z: Any, t: Any) -> Any:
    return 0.0 * z


@numba.njit  # type: ignore[untyped-decorator]
def wide(z: Any, t: Any) -> Any:
    return np.zeros((z.shape[0], 3))


@numba.njit  # type: ignore[untyped-decorator]
def three(z: Any, t: Any, labels: Any) -> Any:
    return z


@numba.njit  # type: ignore[untyped-decorator]
def untypable(z: Any, t: Any, labels: Any, data: Any, out: Any) -> None:
    out[:] = z.no_such_thing


@numba.cfunc("float64(float64)")  # type: ignore[untyped-decorator]
def square(x: float) -> float:
    return x * x


@numba.cfunc(  # type: ignore[untyped-decorator]
    "void(int64, int64, CPointer(float32), CPointer(float32), CPointer(int64), CPointer(float32), "
    "voidptr)"
)
def single(n: int, d: int, z: Any, t: Any, labels: Any, out: Any, data: Any) -> None:
    pass


def two_inputs(width: int, out: int, t_width: int = 1) -> nn.Network:
    b = nn.ProgramBuilder()
    x, t = b.input(width), b.input(t_width)
    return nn.Network(b.finish([b.dense(x, out, addend=b.dense(t, out))]), dtype="float64")


def one_input() -> nn.Network:
    b = nn.ProgramBuilder()
    return nn.Network(b.finish([b.dense(b.input(2), 2)]), dtype="float64")


NETWORK = flow.VelocityNetwork(2, attributes={"a": 3}, dtype="float64")
GUIDED = flow.guided_velocity(NETWORK, {"a": 1})
PLAIN = "void (int64_t, double *)"

CASES: list[tuple[Any, Any, dict[str, Any], type[Exception], str]] = [
    # velocities
    (3.5, X, {}, TypeError, "`velocity` must be a network, an address, a compiled function or a"),
    (True, X, {}, TypeError, "`velocity` must be a network, an address"),
    (0, X, {}, ValueError, "`velocity` must be an integer in"),
    (square, X, {}, TypeError, r"`velocity` must have the signature void\(int64 n"),
    (ctypes.CFUNCTYPE(None, ctypes.c_int)(print), X, {}, TypeError, "must have the signature"),
    (
        LowLevelCallable(square.ctypes, signature=PLAIN),
        X,
        {},
        TypeError,
        r"must have the signature.*got 'void \(int64_t, double",
    ),
    (
        LowLevelCallable(square.ctypes, ctypes.c_void_p(1), PLAIN),
        X,
        {},
        ValueError,
        r"`velocity` must have no user_data \(use `data`\)",
    ),
    (three, X, {}, TypeError, r"must take \(z, t\) or \(z, t, labels, data, out\).*3 arguments"),
    (wide, X, {}, ValueError, r"`velocity` must return an array of shape \(1, 2\), got \(1, 3\)"),
    (untypable, X, {}, TypeError, "`velocity` cannot be compiled"),
    (single, X, {}, TypeError, "`x0` must have dtype float32 like `velocity`, got float64"),
    (
        lambda z, t: z[:, 0],
        X,
        {},
        ValueError,
        r"must return an array of shape \(4, 2\), got \(4,\)",
    ),
    (lambda z, t: z + 1j, X, {}, TypeError, "must return an array of real numbers"),
    (one_input(), X, {}, ValueError, "`velocity` must have inputs z and t"),
    (two_inputs(2, 3), X, {}, ValueError, "`velocity` must have an output of the width of z"),
    (two_inputs(2, 2, 2), X, {}, ValueError, "`velocity` must have inputs z and t"),
    (two_inputs(3, 3), X, {}, ValueError, "`velocity` must take states of 2 columns"),
    # states
    (still, np.zeros(3), {}, ValueError, "`x0` must have 2 dimensions"),
    (still, np.zeros((3, 0)), {}, ValueError, "`x0` must have at least one column"),
    (still, [["a"]], {}, TypeError, "`x0` must be an array of real numbers"),
    (still, X.astype(np.float16), {}, TypeError, "`x0` must have dtype float32 or float64"),
    (NETWORK, X.astype(np.float32), {}, TypeError, "`x0` must have dtype float64 like `velocity`"),
    # settings of the solver
    (still, X, {"method": "rk5"}, ValueError, "`method` must be one of 'euler'"),
    (still, X, {"method": "rk4"}, ValueError, "`steps` must be given, as the steps of 'rk4' don't"),
    (still, X, {"steps": 0}, ValueError, "`steps` must be an integer in"),
    (still, X, {"steps": 1.5}, TypeError, "`steps` must be an integer"),
    (still, X, {"steps": 3, "rtol": 1e-3}, ValueError, "`rtol` must be None with `steps`"),
    (still, X, {"steps": 3, "atol": 1e-3}, ValueError, "`atol` must be None with `steps`"),
    (
        still,
        X,
        {"steps": 3, "step_control": "row"},
        ValueError,
        "`step_control` must be None with `steps`",
    ),
    (still, X, {"rtol": -1.0}, ValueError, "`rtol` must be a finite number >= 0"),
    (still, X, {"atol": 0.0}, ValueError, "`atol` must be above zero"),
    (still, X, {"step_control": "tile"}, ValueError, "`step_control` must be one of 'row'"),
    (still, X, {"max_steps": 0}, ValueError, "`max_steps` must be an integer >= 1"),
    (still, X, {"t0": 1.0}, ValueError, "`t1` must differ from `t0`, got 1.0"),
    (still, X, {"t1": np.inf}, ValueError, "`t1` must be a finite number"),
    (still, X, {"t_eval": [0.5, 0.2]}, ValueError, "`t_eval` must be in the order"),
    (still, X, {"t_eval": [0.5, 0.5]}, ValueError, "`t_eval` must be in the order"),
    (still, X, {"t_eval": [0.5, 1.2]}, ValueError, "`t_eval` must lie between 0.0 and 1.0"),
    (still, X, {"t_eval": []}, ValueError, "`t_eval` must not be empty"),
    (still, X, {"t_eval": [np.nan]}, ValueError, "`t_eval` must be finite"),
    # conditions
    (NETWORK, X, {"labels": {"b": 1}}, ValueError, "`labels` must name attributes of the velocity"),
    (NETWORK, X, {"labels": {"a": 3}}, ValueError, "must be codes from 0 to 2, or -1 for none"),
    (NETWORK, X, {"labels": {"a": [0, 1]}}, ValueError, r"one code or have shape \(4,\)"),
    (NETWORK, X, {"labels": {0: 1}}, TypeError, "`labels` must be named by strings"),
    (NETWORK, X, {"weights": 1.0}, ValueError, "`weights` must be None where nothing is"),
    (
        NETWORK,
        X,
        {"labels": {"a": 1}, "weights": {"b": 1.0}},
        ValueError,
        r"`weights` must name only attributes that are conditioned on \('a'\), got 'b'",
    ),
    (
        NETWORK,
        X,
        {"labels": {"a": 1}, "weights": [1.0, 2.0]},
        ValueError,
        r"`weights` must be one number or have shape \(4,\)",
    ),
    (NETWORK, X, {"labels": {"a": 1}, "weights": np.nan}, ValueError, "`weights` must be finite"),
    (GUIDED, X, {"labels": {"a": 1}}, ValueError, "`labels` must be None with a guided velocity"),
    (GUIDED, X, {"weights": 1.0}, ValueError, "`weights` must be None with a guided velocity"),
    (
        still_fast,
        X,
        {"labels": {"a": 1}},
        TypeError,
        r"must take \(z, t, labels, data, out\) where",
    ),
    (still, X, {"log_size": X[:, 0]}, ValueError, "`log_size` must be None unless"),
    (still, X, {"inputs": [X]}, ValueError, "`inputs` must be None unless `velocity` is a network"),
    (NETWORK, X, {"inputs": [X]}, ValueError, r"`inputs` must be None with a VelocityNetwork"),
    (NETWORK, X, {"log_size": X[:, 0]}, ValueError, "`log_size` must be None, as the network"),
    (two_inputs(2, 2), X, {"inputs": [X]}, ValueError, "`inputs` must hold the 0 dense inputs"),
    (two_inputs(2, 2), X, {"inputs": X}, TypeError, "`inputs` must be a list"),
    (two_inputs(2, 2), X, {"log_size": X}, ValueError, "`log_size` must be None unless `velocity`"),
    (still, X, {"data": X}, ValueError, "`data` must be None unless `velocity` is a compiled"),
    (still_fast, X, {"data": X.T}, ValueError, "`data` must be C-contiguous"),
    (still_fast, X, {"data": np.array([None])}, TypeError, "`data` must hold numbers"),
    # common keywords
    (still, X, {"full_output": 1}, TypeError, "`full_output` must be True or False"),
    (still, X, {"progress": 1}, TypeError, "`progress` must be True or False"),
    (still, X, {"max_seconds": 1.0}, ValueError, "`max_seconds` must be None unless `full_output`"),
    (still, X, {"max_seconds": -1.0, "full_output": True}, ValueError, "`max_seconds` must be a"),
    (still, X, {"num_threads": 0}, ValueError, "`num_threads` must be an integer"),
    (still, X, {"backend": "fortran"}, ValueError, "`backend` must be one of"),
    (still, X, {"backend": "cpp"}, TypeError, "`backend` must be 'numba' or None for a velocity"),
    (NETWORK, X, {"backend": "cuda"}, TypeError, "`backend` must be 'cpp' or 'numba' for arrays"),
    (still, X, {"out": [[0.0]]}, TypeError, "`out` must be an array"),
    (still, X, {"out": np.zeros((4, 3))}, ValueError, r"`out` must have shape \(4, 2\)"),
    (still, X, {"out": np.zeros((4, 2), "f")}, TypeError, "`out` must have dtype float64"),
    (still, X, {"out": X, "t_eval": [1.0]}, ValueError, r"`out` must have shape \(1, 4, 2\)"),
]


@pytest.mark.parametrize("case", range(len(CASES)))
def test_messages(case: int) -> None:
    velocity, x0, options, error, message = CASES[case]
    with pytest.raises(error, match=f"^integrate: .*{message}"):
        flow.integrate(velocity, x0, **options)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_states_that_are_not_finite(bad: float) -> None:
    x0 = np.zeros((5, 2))
    x0[3, 1] = bad
    with pytest.raises(hotloops.NumericalError, match=r"`x0` must be finite.*in row 3") as caught:
        flow.integrate(still, x0)
    assert caught.value.row == 3


@numba.njit  # type: ignore[untyped-decorator]
def explode_fast(z: Any, t: Any) -> Any:
    return z**4 * 1e200


def explode(z: Any, t: Any) -> Any:
    with np.errstate(over="ignore", invalid="ignore"):
        return z**4 * 1e200


@pytest.mark.parametrize("velocity", [explode, explode_fast], ids=["python", "njit"])
@pytest.mark.parametrize(
    "settings", [{"method": "euler", "steps": 9}, {}, {"step_control": "batch"}]
)
def test_states_that_leave_the_finite_numbers(velocity: Any, settings: dict[str, Any]) -> None:
    x0, out = np.zeros((70, 2)), np.full((70, 2), 7.0)
    x0[66] = 1e60
    with pytest.raises(hotloops.NumericalError, match="row 66 left the finite numbers") as caught:
        flow.integrate(velocity, x0, out=out, **settings)
    assert caught.value.row == 66
    assert np.all(out == 7.0)


@pytest.mark.parametrize("velocity", [explode, explode_fast], ids=["python", "njit"])
def test_the_row_is_that_of_the_whole_batch_when_watched(velocity: Any) -> None:
    x0 = np.zeros((400, 1))
    x0[333] = 1e60
    with pytest.raises(hotloops.NumericalError) as caught:
        flow.integrate(velocity, x0, full_output=True, max_seconds=1e6)
    assert caught.value.row == 333


def test_too_many_steps() -> None:
    x0 = np.zeros((3, 1))
    x0[1] = 1.0

    def stiff(z: Any, t: Any) -> Any:
        return -1e5 * z

    with pytest.raises(hotloops.NumericalError, match="row 1 needs more than 50 steps") as caught:
        flow.integrate(stiff, x0, max_steps=50)
    assert caught.value.row == 1


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((GUIDED, {"a": 1}), TypeError, "`velocity` must be a plain velocity"),
        ((3.5, {"a": 1}), TypeError, "`velocity` must be a network"),
        ((NETWORK, None), TypeError, "`labels` must say what to condition on"),
        ((NETWORK, {"b": 1}), ValueError, "`labels` must name attributes"),
        ((NETWORK, {"a": 7}), ValueError, "must be codes from 0 to 2"),
        ((NETWORK, {"a": 1}, {"b": 2.0}), ValueError, "`weights` must name only attributes"),
        ((NETWORK, {"a": [0, 1]}, [1.0, 2.0, 3.0]), ValueError, r"or have shape \(2,\)"),
        ((NETWORK, {"a": 1}, "much"), TypeError, "`weights` must be an array of real numbers"),
    ],
)
def test_guided_velocity(arguments: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^guided_velocity: .*{message}"):
        flow.guided_velocity(*arguments)
