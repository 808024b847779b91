"""The slow path: an objective that only Python can call, around the compiled step."""

from __future__ import annotations

import ctypes
import importlib
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops._runtime import dispatch, validate
from hotloops.simplex._state import FORMS, ChainArrays, StepOptions, Steps

__all__ = ["advance"]

# They evaluate the objective where no driver that is given gradients can know it.
_WITHIN_A_STEP = (FORMS.index("metropolis"), FORMS.index("accelerated"))


def advance(
    arrays: ChainArrays,
    kernel: str,
    parameters: tuple[Any, ...],
    options: StepOptions,
    steps: Steps,
) -> None:
    """Advance all chains, in place, and evaluate the objective there."""
    function = parameters[0]
    if options.form in _WITHIN_A_STEP:
        # All calls wait for the same lock.
        _advance_by_pointer(function, arrays, options, replace(steps, num_threads=1))
        return
    driver = importlib.import_module(
        f"hotloops.simplex._{dispatch.resolve_backend('lmwu', None, 'cpu')}"
    )
    # The step does not know the objective: what it keeps of the best point is thrown away.
    moved = replace(
        arrays,
        value=np.empty_like(arrays.value),
        best_x=arrays.best_x.copy(),
        best_value=np.full_like(arrays.best_value, -np.inf),
    )
    for k in range(steps.num_steps):
        slope = _evaluate(function, arrays)
        driver.advance(moved, "given", (slope,), options, _one_of(steps, k))
    slope = _evaluate(function, arrays)
    if steps.gradient is not None:
        steps.gradient[...] = slope


def _one_of(steps: Steps, k: int) -> Steps:
    """Return the k-th step alone."""

    def part(factors: Any) -> Any:
        return None if factors is None else factors[k : k + 1]

    return replace(
        steps,
        first_step=steps.first_step + k,
        num_steps=1,
        step_factors=part(steps.step_factors),
        temperature_factors=part(steps.temperature_factors),
        gradient=None,
        noise=None,
    )


def _advance_by_pointer(
    function: Any, arrays: ChainArrays, options: StepOptions, steps: Steps
) -> None:
    """Let the C++ driver call the function through a pointer, chain by chain."""
    dim = arrays.x.shape[1]
    real: Any = ctypes.c_float if arrays.x.dtype.itemsize == 4 else ctypes.c_double
    failures: list[BaseException] = []

    def call(x: Any, _data: Any, gradient: Any) -> float:
        slope = np.ctypeslib.as_array(gradient, (dim,))
        try:
            point = np.ctypeslib.as_array(x, (dim,)).reshape(1, dim).copy()
            values, slopes = _call(function, point)
        except BaseException as failure:
            failures.append(failure)
            slope[:] = 0.0
            return float("nan")
        slope[:] = slopes[0]
        return float(values[0])

    pointer = ctypes.POINTER(real)
    bridge = ctypes.CFUNCTYPE(real, pointer, ctypes.c_void_p, pointer)(call)
    address = ctypes.cast(bridge, ctypes.c_void_p).value
    importlib.import_module("hotloops.simplex._cpp").advance(
        arrays, "custom", (address, 0), options, steps
    )
    if failures:
        raise failures[0]


def _evaluate(function: Any, arrays: ChainArrays) -> npt.NDArray[Any]:
    """Call the function, note values and best points, and return the gradients."""
    values, slopes = _call(function, arrays.x.copy())
    arrays.value[...] = values
    better = values < arrays.best_value
    arrays.best_value[better] = values[better]
    arrays.best_x[better] = arrays.x[better]
    return slopes


def _call(function: Any, x: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return values and gradients at points, checked."""
    returned = function(x)
    if not isinstance(returned, tuple) or len(returned) != 2:
        expectation = "return a pair (values, gradients)"
        got = validate.describe(returned)
        validate.fail(TypeError, "Custom", "value_and_grad", expectation, got)
    parts = []
    for name, part, shape in zip(
        ("values", "gradients"), returned, (x.shape[:1], x.shape), strict=True
    ):
        array = np.asarray(part)
        if array.shape != shape:
            expectation = f"return {name} of shape {shape}"
            validate.fail(ValueError, "Custom", "value_and_grad", expectation, str(array.shape))
        parts.append(np.ascontiguousarray(array, x.dtype))
    return parts[0], parts[1]
