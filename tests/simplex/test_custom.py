"""Objectives of the user's: compiled, jitted and plain ones give what the built-in one gives."""

from __future__ import annotations

import ctypes
from typing import Any

import numba
import numpy as np
import pytest
from numba import types
from scipy import LowLevelCallable

from hotloops import simplex
from tests.simplex import reference

TARGET = np.array([0.2, 0.3, 0.5])
SETTINGS: dict[str, Any] = {
    "x0": [0.6, 0.3, 0.1],
    "step_size": 0.1,
    "inverse_temperature": 100.0,
    "num_steps": 40,
    "num_chains": 11,
    "seed": 5,
}


def built_in() -> simplex.Polynomial:
    return simplex.Polynomial.squared_distance(TARGET)


def compiled(real: Any = types.float64) -> Any:
    pointer = types.CPointer(real)

    @numba.cfunc(real(pointer, types.voidptr, pointer))
    def squared_distance(x: Any, data: Any, gradient: Any) -> Any:
        target = (0.2, 0.3, 0.5)
        value = x[0] - x[0]
        for s in range(3):
            gap = x[s] - target[s]
            gradient[s] = 2 * gap
            value += gap * gap
        return value

    return squared_distance


def on_arrays(x: Any) -> tuple[Any, Any]:
    gap = x - TARGET.astype(x.dtype)
    return (gap * gap).sum(axis=1), 2 * gap


SIGNATURE = "double (double const *, void *, double *)"


def low_level() -> LowLevelCallable:
    address = compiled().address
    new = ctypes.pythonapi.PyCapsule_New
    new.restype = ctypes.py_object
    new.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    low_level.name = SIGNATURE.encode()  # type: ignore[attr-defined]
    capsule = new(address, low_level.name, None)  # type: ignore[attr-defined]
    return LowLevelCallable(capsule, signature=SIGNATURE)


KINDS = {
    "cfunc": compiled,
    "address": lambda: compiled().address,
    "ctypes": lambda: ctypes.CFUNCTYPE(
        ctypes.c_double,
        ctypes.POINTER(ctypes.c_double),
        ctypes.c_void_p,
        ctypes.POINTER(ctypes.c_double),
    )(compiled().address),
    "low level": low_level,
    "callable": lambda: on_arrays,
}


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("form", ["entropic", "sphere"])
def test_every_kind_gives_the_same_chains(kind: str, form: str) -> None:
    function = KINDS[kind]()
    alpha = 0.5 if form == "sphere" else 1.0
    given = SETTINGS | {"retraction": form, "base_measure": alpha, "trace_every": 10}
    expected = simplex.lmwu(built_in(), **given)
    found = simplex.lmwu(simplex.Custom(function, 3), **given)
    np.testing.assert_allclose(found.trace, expected.trace, rtol=1e-9)
    np.testing.assert_allclose(found.best_value, expected.best_value, rtol=1e-9, atol=1e-16)
    np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-9)
    np.testing.assert_allclose(found.x, TARGET, atol=1e-6)


def test_jitted_functions_run_in_the_numba_driver() -> None:
    @numba.njit
    def squared_distance(x: Any, data: Any, gradient: Any) -> Any:
        value = 0.0
        for s in range(x.size):
            gap = x[s] - data[s]
            gradient[s] = 2.0 * gap
            value += gap * gap
        return value

    objective = simplex.Custom(squared_distance, 3, TARGET)
    found = simplex.lmwu(objective, **SETTINGS)
    expected = simplex.lmwu(built_in(), **SETTINGS)
    np.testing.assert_allclose(found.chains_x, expected.chains_x, rtol=1e-9)
    with pytest.raises(TypeError, match="must be 'numba' or None for an @njit function"):
        simplex.lmwu(objective, backend="cpp", **SETTINGS)


def test_precision_is_that_of_the_signature() -> None:
    single = simplex.Custom(compiled(types.float32), 3)
    result = simplex.mwu(single, step_size=0.5, num_steps=100)
    assert result.chains_x.dtype == np.float32
    with pytest.raises(TypeError, match="must be float32 as in the signature of the compiled"):
        simplex.mwu(single, step_size=0.5, num_steps=1, dtype="float64")
    with pytest.raises(TypeError, match="`dtype` must be float64 as in the signature"):
        simplex.Custom(compiled(), 3, dtype="float32")


def test_data_is_handed_over() -> None:
    pointer = types.CPointer(types.float64)

    @numba.cfunc(types.float64(pointer, pointer, pointer))
    def squared_distance(x: Any, data: Any, gradient: Any) -> Any:
        value = 0.0
        for s in range(2):
            gradient[s] = 2 * (x[s] - data[s])
            value += (x[s] - data[s]) ** 2
        return value

    data = np.array([0.25, 0.75])
    result = simplex.mwu(simplex.Custom(squared_distance, 2, data), step_size=0.5, num_steps=100)
    np.testing.assert_allclose(result.x, data, atol=1e-9)
    for bad, error, words in (
        (np.ones((2, 4))[:, ::2], ValueError, "`data` must be C-contiguous"),
        (np.array([None, 1]), TypeError, "`data` must hold numbers"),
    ):
        with pytest.raises(error, match=words):
            simplex.Custom(squared_distance, 2, bad)


def test_terms_are_added_to_functions_of_all_kinds() -> None:
    terms: dict[str, Any] = {"ridge": 0.5, "entropy": 0.01, "upper": 0.45}
    expected = simplex.lmwu(built_in().with_terms(**terms), **SETTINGS)
    for kind in ("cfunc", "callable"):
        objective = simplex.Custom(KINDS[kind](), 3).with_terms(**terms)
        penalty = built_in().with_terms(**terms).terms
        assert penalty is not None
        assert objective.terms is not None
        assert objective.terms.penalty == pytest.approx(penalty.penalty)
        found = simplex.lmwu(objective, **SETTINGS)
        np.testing.assert_allclose(found.chains_x, expected.chains_x, rtol=1e-8)


@pytest.mark.parametrize("form", ["metropolis", "accelerated"])
def test_forms_with_two_evaluations(form: str) -> None:
    objectives = (built_in(), simplex.Custom(compiled(), 3), simplex.Custom(on_arrays, 3))
    if form == "metropolis":
        runs = [simplex.lmwu(o, retraction=form, **SETTINGS) for o in objectives]
    else:
        runs = [simplex.accelerated_mwu(o, step_size=0.3, num_steps=50) for o in objectives]
    for run in runs[1:]:
        np.testing.assert_array_equal(runs[0].acceptance, run.acceptance)
        np.testing.assert_allclose(run.chains_x, runs[0].chains_x, rtol=1e-9)
        np.testing.assert_allclose(run.best_value, runs[0].best_value, rtol=1e-9, atol=1e-16)


def test_what_a_callable_raises_within_a_step_reaches_the_caller() -> None:
    calls = []

    def tired(x: Any) -> Any:
        calls.append(len(x))
        if len(calls) > 5:
            raise ZeroDivisionError("no more")
        return on_arrays(x)

    with pytest.raises(ZeroDivisionError, match="no more"):
        simplex.accelerated_mwu(simplex.Custom(tired, 3), step_size=0.1, num_steps=20)


def test_gradients_of_torch_and_jax_make_the_steps_of_the_loop() -> None:
    objective = reference.double_well()
    given: dict[str, Any] = {"step_size": 0.2, "inverse_temperature": 40.0, "seed": 5}
    expected = simplex.lmwu(objective, num_steps=3, num_chains=4, **given).chains_x
    torch = pytest.importorskip("torch")
    x = torch.full((4, 3), 1 / 3, dtype=torch.float64)
    for step in range(3):
        leaf = x.clone().requires_grad_()
        far, near = (torch.tensor(p) for p in (reference.FAR, reference.NEAR))
        value = ((leaf - far) ** 2).sum(1) * (((leaf - near) ** 2).sum(1) + reference.SHIFT)
        (gradient,) = torch.autograd.grad(value.sum(), leaf)
        x = simplex.lmwu_step(x, gradient, step=step, **given)
    assert isinstance(x, torch.Tensor)
    np.testing.assert_allclose(x.numpy(), expected, rtol=1e-11)


def test_data_of_torch_decide_precision_and_library() -> None:
    torch = pytest.importorskip("torch")
    matrix = torch.eye(3, dtype=torch.float32)
    returns = torch.randn(30, 3, generator=torch.Generator().manual_seed(1))
    for objective in (
        simplex.QuadraticProgram(matrix),
        simplex.PortfolioMoments(returns, [0.0, 1.0]),
        simplex.ExpectedUtility(returns, percent=True),
    ):
        result = simplex.mwu(objective, step_size=0.1, num_steps=3)
        assert isinstance(result.chains_x, torch.Tensor)
        assert result.chains_x.dtype == torch.float32
        assert result.x.dtype == np.float64


def test_arrays_of_jax() -> None:
    jax = pytest.importorskip("jax")
    x = jax.numpy.array([[0.2, 0.3, 0.5]], dtype="float32")
    g = jax.grad(lambda v: (v**2).sum())(x)
    moved = simplex.lmwu_step(x, g, step_size=0.1)
    assert isinstance(moved, jax.Array)
    expected = simplex.lmwu_step(np.asarray(x), np.asarray(g), step_size=0.1)
    np.testing.assert_array_equal(np.asarray(moved), expected)


WRONG = [
    (lambda: compiled_with(types.float64(types.int64)), "must have the signature"),
    (lambda: ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)(float), "must have the signature"),
]


def compiled_with(signature: Any) -> Any:
    return numba.cfunc(signature)(lambda x: 1.0)


@pytest.mark.parametrize(("make", "words"), WRONG)
def test_wrong_signatures(make: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        simplex.Custom(make(), 3)
