"""Checks of a run that go beyond its numbers: states to go on from, zeros at the start."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops import random
from hotloops._runtime import validate
from hotloops._runtime.arrays import NUMPY, Library
from hotloops.simplex._functions import check_weights
from hotloops.simplex._objective import Objective, host_array
from hotloops.simplex._options import SMALLEST
from hotloops.simplex._state import ChainArrays, SimplexState, check_state

__all__ = ["normalised", "resume", "start_points", "warn_of"]

_STREAM_START = 4


def resume(
    function: str,
    state: Any,
    objective: Objective,
    sizes: tuple[int, ...],
    given: dict[str, Any],
    wanted: np.dtype[Any] | None,
) -> ChainArrays:
    """Check that a state fits the call, and return a copy of its arrays."""
    if not isinstance(state, SimplexState):
        expectation = "be the `state` of a result of lmwu"
        validate.fail(TypeError, function, "state", expectation, validate.describe(state))
    check_state(function, state)
    if given["x0"] is not None:
        expectation = "be None when `state` is given"
        validate.fail(ValueError, function, "x0", expectation, validate.describe(given["x0"]))
    if state.kernel != objective.kernel or state.sizes != sizes:
        expectation = f"belong to a {objective.kernel} objective with sizes {list(sizes)}"
        got = f"one of a {state.kernel} objective with sizes {list(state.sizes)}"
        validate.fail(ValueError, function, "state", expectation, got)
    own = state.arrays.x.dtype
    if wanted not in (None, own):
        validate.fail(TypeError, function, "dtype", f"be {own} as in `state`", str(wanted))
    for name, default, known in (
        ("num_chains", 1, state.arrays.x.shape[0]),
        ("seed", 0, state.seed),
        ("chain_offset", 0, state.chain_offset),
        ("step_offset", 0, state.next_step - state.num_steps),
        ("burn_in", 0, state.burn_in),
        ("covariance", False, bool(state.arrays.products.size)),
        ("num_bins", 0, state.arrays.histogram.shape[-1]),
        ("retraction", None, state.retraction),
    ):
        if given[name] not in (default, known):
            validate.fail(
                ValueError, function, name, f"be {known!r} as in `state`", repr(given[name])
            )
    return state.arrays.copy()


def start_points(
    function: str,
    objective: Objective,
    sizes: tuple[int, ...],
    num_chains: int,
    given: dict[str, Any],
    wanted: np.dtype[Any] | None,
    seed: int,
    first_chain: int,
    first_step: int,
) -> tuple[npt.NDArray[Any], Library]:
    """Return x (C, d) and the library of the answers."""
    x0 = given["x0"]
    default = wanted or objective.dtype or np.dtype(np.float64)
    library = objective.library or NUMPY
    if x0 is None:
        middle = np.concatenate([np.full(size, 1.0 / size) for size in sizes])
        return np.tile(middle.astype(default), (num_chains, 1)), library
    if isinstance(x0, str):
        validate.choice(function, "x0", x0, ("dirichlet",))
        rows = range(first_chain, first_chain + num_chains)
        u = random.uniforms(seed, [first_step], rows, sum(sizes), _STREAM_START)
        x = -np.log(u.reshape(num_chains, -1))
        return normalised(x, sizes).astype(default), library
    checked, own = host_array(function, "x0", x0, ndim=(1, 2))
    if own.name != "numpy":
        library = own
    typed = hasattr(x0, "dtype") and checked.dtype.kind == "f"
    dtype = wanted or (checked.dtype if typed else default)
    dim = sum(sizes)
    if checked.shape not in ((dim,), (num_chains, dim)):
        expectation = f"have shape (d,) or (C, d) with C = {num_chains}, d = {dim}"
        validate.fail(ValueError, function, "x0", expectation, str(checked.shape))
    rows_given = np.array(np.broadcast_to(checked, (num_chains, dim)), order="C")
    check_weights(function, "x0", rows_given, sizes)
    if given["retraction"] != "projected":
        rows_given = _lift_zeros(function, rows_given, sizes, given, SMALLEST[dtype.itemsize])
    return normalised(rows_given.astype(np.float64), sizes).astype(dtype), library


def normalised(x: npt.NDArray[Any], sizes: tuple[int, ...]) -> npt.NDArray[Any]:
    """Divide each simplex of each row by its sum, in place."""
    begin = 0
    for size in sizes:
        x[:, begin : begin + size] /= x[:, begin : begin + size].sum(axis=1, keepdims=True)
        begin += size
    return x


def _lift_zeros(
    function: str,
    rows: npt.NDArray[Any],
    sizes: tuple[int, ...],
    given: dict[str, Any],
    smallest: float,
) -> npt.NDArray[Any]:
    """Lift zeros, from which multiplicative steps never come back, to the floor of the chain."""
    if (rows > 0.0).all():
        return rows
    with np.errstate(divide="ignore"):
        temperature = 1.0 / np.asarray(given["inverse_temperature"], np.float64).max()
    floor = float(np.max(given["step_size"])) * temperature if given["floor"] == "auto" else 0.0
    if isinstance(given["floor"], int | float):
        floor = float(given["floor"])
    lowest = np.concatenate([np.full(n, np.clip(floor, smallest, 0.25 / n)) for n in sizes])
    warnings.warn(
        f"{function}: `x0` has zeros, which multiplicative steps cannot leave; they are lifted to "
        f"{lowest.min():g}",
        RuntimeWarning,
        stacklevel=6,
    )
    return np.asarray(np.maximum(rows, lowest))


def warn_of(function: str, chains: ChainArrays) -> None:
    """Tell the caller what makes numbers meaningless."""
    failed = int((chains.flags != 0).sum())
    if failed:
        warnings.warn(
            f"{function}: the steps of {failed} of {chains.flags.size} chains were not finite; "
            "they are flagged in `flags` and frozen at their last point",
            RuntimeWarning,
            stacklevel=4,
        )
