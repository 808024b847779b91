"""What all steps of a run share, from the user's words to the kernel's numbers."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops._runtime import validate
from hotloops.simplex._objective import host_array
from hotloops.simplex._state import FORMS, StepOptions
from hotloops.simplex._terms import Terms

__all__ = ["SMALLEST", "floor_values", "make_options"]

# No weight of a multiplicative form falls below it.
SMALLEST = {4: 1e-30, 8: 1e-290}
_LARGEST_CLIP = {4: 80.0, 8: 700.0}
_AUTO_SCALE = 0.5
_USUAL_ACCELERATION = 0.1
RETRACTIONS = {
    "lmwu": ("entropic", "sphere", "metropolis", "projected", "linear"),
    "lmwu_step": ("entropic", "sphere", "projected", "linear"),
    "mwu": ("entropic", "linear"),
    "accelerated_mwu": ("accelerated",),
    "projected_langevin": ("projected",),
}


def make_options(
    function: str,
    num_chains: int,
    sizes: tuple[int, ...],
    dtype: np.dtype[Any],
    *,
    step_size: Any,
    inverse_temperature: Any,
    base_measure: Any,
    retraction: str,
    floor: Any,
    clip: float,
    terms: Terms | None = None,
    acceleration: Any = None,
    convexity: float = 0.0,
) -> StepOptions:
    """Check and convert what a step depends on."""
    form = validate.choice(function, "retraction", retraction, RETRACTIONS.get(function, FORMS))
    steps = _per_chain(function, "step_size", step_size, num_chains)
    betas = _per_chain(function, "inverse_temperature", inverse_temperature, num_chains, True)
    alpha = _base_measure(function, base_measure, sum(sizes), form)
    noisy = bool(np.isfinite(betas).any())
    if noisy and function in ("mwu", "accelerated_mwu"):
        expectation = "be infinite (use lmwu for a finite one)"
        validate.fail(ValueError, function, "inverse_temperature", expectation, f"{betas.min():g}")
    if noisy and form == "linear":
        expectation = "be infinite with retraction='linear'"
        validate.fail(ValueError, function, "inverse_temperature", expectation, f"{betas.min():g}")
    if form == "metropolis" and not np.isfinite(betas).all():
        expectation = "be finite with retraction='metropolis'"
        validate.fail(ValueError, function, "inverse_temperature", expectation, f"{betas.max():g}")
    if noisy and form == "entropic" and float(alpha.min()) < 1.0:
        warnings.warn(
            f"{function}: with base_measure below 1 the entropic form is inaccurate near the "
            "faces; retraction='sphere' is recommended",
            RuntimeWarning,
            stacklevel=4,
        )
    scale, least = floor_values(function, floor, dtype)
    return StepOptions(
        form=FORMS.index(form),
        step_sizes=_in_precision(function, "step_size", steps, dtype),
        temperatures=(1.0 / betas).astype(dtype),
        alpha=alpha.astype(dtype),
        offsets=np.cumsum([0, *sizes]).astype(np.int32),
        terms=None if terms is None else terms.packed(dtype),
        noisy=noisy,
        corrected=bool((alpha != (0.5 if form in ("sphere", "metropolis") else 1.0)).any()),
        floor_scale=scale,
        floor_least=least,
        clip=validate.real(
            function, "clip", clip, low=0.0, high=_LARGEST_CLIP[dtype.itemsize], open_low=True
        ),
        accelerations=(
            _accelerations(function, acceleration, convexity, steps).astype(dtype)
            if form == "accelerated"
            else None
        ),
        convexity=float(convexity),
    )


def _accelerations(
    function: str, value: Any, convexity: Any, steps: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return a of each chain."""
    mu = validate.real(function, "convexity", convexity, low=0.0)
    if value is None:
        usual = np.sqrt(mu * steps)
        return np.where((usual > 0.0) & (usual < 1.0), usual, _USUAL_ACCELERATION)
    found = _per_chain(function, "acceleration", value, steps.size)
    if float(found.max()) >= 1.0:
        validate.fail(ValueError, function, "acceleration", "lie below 1", f"{found.max():g}")
    return found


def _per_chain(
    function: str, argument: str, value: Any, num_chains: int, infinite: bool = False
) -> npt.NDArray[np.float64]:
    """Return one positive number for each chain; a shorter ladder repeats."""
    if np.ndim(value) == 0:
        if infinite and isinstance(value, float | np.floating) and math.isinf(value) and value > 0:
            return np.full(num_chains, np.inf)
        number = validate.real(function, argument, value, low=0.0, open_low=True)
        return np.full(num_chains, number)
    listed, _ = host_array(
        function,
        argument,
        value,
        shape=("k",),
        dtype=np.float64,
        positive=True,
        finite=not infinite,
    )
    if num_chains % listed.size:
        expectation = f"have a length that divides the number of chains, {num_chains}"
        validate.fail(ValueError, function, argument, expectation, str(listed.size))
    return np.tile(listed, num_chains // listed.size)


def _base_measure(function: str, value: Any, dim: int, form: str) -> npt.NDArray[np.float64]:
    if np.ndim(value) == 0:
        number = validate.real(function, "base_measure", value, low=0.0, open_low=True)
        alpha = np.full(dim, number)
    else:
        alpha, _ = host_array(
            function, "base_measure", value, shape=(dim,), dtype=np.float64, positive=True
        )
    if form in ("projected", "linear", "accelerated") and (alpha != 1.0).any():
        expectation = f"be 1 with retraction={form!r}, which has no other law"
        got = f"{alpha[alpha != 1.0][0]:g}"
        validate.fail(ValueError, function, "base_measure", expectation, got)
    return alpha


def _in_precision(
    function: str, argument: str, values: npt.NDArray[np.float64], dtype: np.dtype[Any]
) -> npt.NDArray[Any]:
    with np.errstate(over="ignore"):
        converted = values.astype(dtype)
    if not (np.isfinite(converted).all() and (converted > 0).all()):
        expectation = f"stay finite and positive in {dtype}"
        validate.fail(ValueError, function, argument, expectation, f"{values.tolist()}")
    return converted


def floor_values(function: str, floor: Any, dtype: np.dtype[Any]) -> tuple[float, float]:
    """Return the multiple of 2 eps / beta and the least value of the floor."""
    smallest = SMALLEST[dtype.itemsize]
    if floor is None:
        return 0.0, smallest
    if isinstance(floor, str):
        validate.choice(function, "floor", floor, ("auto",))
        return _AUTO_SCALE, smallest
    number = validate.real(function, "floor", floor, low=0.0)
    return 0.0, max(number, smallest)
