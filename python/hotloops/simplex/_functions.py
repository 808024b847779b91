"""Functions of weights and gradients that stand on their own."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from hotloops._runtime import arrays as array_layer
from hotloops._runtime import threads, validate
from hotloops._runtime.arrays import Library
from hotloops.simplex._objective import backend_for, handed_back, host_array, placed_array
from hotloops.simplex._options import make_options
from hotloops.simplex._state import ChainArrays, Steps

__all__ = ["check_sizes", "kkt_residual", "lmwu_step", "project"]


def check_sizes(function: str, sizes: Any, dim: int) -> tuple[int, ...]:
    """Return the numbers of entries of the simplices; None is one simplex."""
    if sizes is None:
        return (dim,)
    if isinstance(sizes, str) or not isinstance(sizes, Sequence | np.ndarray):
        expectation = "be a sequence of integers"
        validate.fail(TypeError, function, "sizes", expectation, validate.describe(sizes))
    checked = tuple(
        validate.integer(function, f"sizes[{i}]", size, low=1) for i, size in enumerate(sizes)
    )
    if sum(checked) != dim:
        expectation = f"add up to the number of weights, {dim}"
        validate.fail(ValueError, function, "sizes", expectation, str(list(checked)))
    return checked


def project(
    v: Any, *, backend: str | None = None, num_threads: int | None = None, out: Any = None
) -> Any:
    """Return the points of the simplex that are nearest to the rows of an array.

    Parameters
    ----------
    v : array_like, shape (n,) or (rows, n)
        Any finite numbers.
    backend : {"cpp", "cuda", "numba"}, optional
        Default "cpp", or "cuda" for arrays that live there.
    num_threads : int, optional
        Default: `hotloops.get_num_threads`.
    out : ndarray, of the shape and dtype of `v`, optional
        Memory for the answer; it may be `v` itself.

    Returns
    -------
    array, of the shape and dtype of `v`
        Not negative, each row with sum 1 up to rounding.

    Raises
    ------
    TypeError, ValueError
        Arguments of the wrong type or shape, or numbers that are not finite.

    Notes
    -----
    The exact algorithm of Michelot (1986), many rows at a time in vector registers, no sorting:
    n operations for each of the few rounds in which coordinates leave the active set. Class A.

    Examples
    --------
    >>> from hotloops import simplex
    >>> simplex.project([0.5, 1.0, -2.0]).tolist()
    [0.25, 0.75, 0.0]
    """
    given, library = placed_array("project", "v", v, ndim=(1, 2))
    target = given.copy() if out is None else _target(given, library, out)
    resolved = backend_for("project", backend, library)
    driver = importlib.import_module(f"hotloops.simplex._{resolved}")
    rows = target.reshape(-1, target.shape[-1])
    with array_layer.stream_context(library):
        driver.project(rows, threads.resolve_num_threads("project", num_threads))
    return handed_back(target, library) if out is None else out


def _target(given: Any, library: Library, out: Any) -> Any:
    """Return the memory of `out`, with the numbers given."""
    native, place = array_layer.import_array("project", "out", out)
    if place.place != library.place:
        expectation = f"live on {library.place} as `v`"
        validate.fail(TypeError, "project", "out", expectation, place.place)
    target = validate.output("project", "out", native, shape=given.shape, dtype=given.dtype)
    starts = [_address(array) for array in (target, given)]
    if starts[0] == starts[1]:
        return target
    if abs(starts[0] - starts[1]) < given.nbytes:  # both are contiguous
        expectation = "be `v` itself or not overlap it"
        validate.fail(ValueError, "project", "out", expectation, "arrays that share memory")
    target[...] = given
    return target


def _address(array: Any) -> int:
    return int(array.data.ptr) if hasattr(array.data, "ptr") else int(array.ctypes.data)


def kkt_residual(x: Any, gradient: Any, *, sizes: Any = None) -> Any:
    """Return how far weights are from meeting the conditions of a minimum of first order.

    It is ``max_i (x_i . g_i - min_s g_is)`` over the simplices i: what the best single entry would
    gain, to first order. In a game it is the largest gain of one player from another strategy.

    Parameters
    ----------
    x : array_like, shape (d,) or (C, d)
        Weights.
    gradient : array_like, of the shape of `x`
        The gradient there.
    sizes : sequence of int, optional
        Entries of each simplex. Default: one simplex.

    Returns
    -------
    float or ndarray, shape (C,), float64
        Not negative; zero at a point that meets the conditions.

    Raises
    ------
    TypeError, ValueError
        Arrays of different shapes, numbers that are not finite, sizes that do not add up to d.

    Examples
    --------
    >>> from hotloops import simplex
    >>> simplex.kkt_residual([0.5, 0.5, 0.0], [1.0, 1.0, 3.0])
    0.0
    """
    weights, _ = host_array("kkt_residual", "x", x, ndim=(1, 2), dtype=np.float64)
    slope, _ = host_array(
        "kkt_residual", "gradient", gradient, shape=weights.shape, dtype=np.float64
    )
    parts = check_sizes("kkt_residual", sizes, weights.shape[-1])
    gaps = []
    begin = 0
    for size in parts:
        cut = np.s_[..., begin : begin + size]
        lowest = slope[cut].min(axis=-1, keepdims=True)
        gaps.append((weights[cut] * (slope[cut] - lowest)).sum(axis=-1))
        begin += size
    worst = np.max(gaps, axis=0)
    return float(worst) if weights.ndim == 1 else worst


def lmwu_step(
    x: Any,
    gradient: Any,
    *,
    step_size: Any,
    inverse_temperature: Any = np.inf,
    base_measure: Any = 1.0,
    retraction: str = "entropic",
    sizes: Any = None,
    floor: Any = "auto",
    clip: float = 30.0,
    noise: Any = None,
    seed: int = 0,
    step: int = 0,
    chain_offset: int = 0,
    backend: str | None = None,
    num_threads: int | None = None,
) -> Any:
    """Make one step of Langevin multiplicative weights for anybody's gradient.

    Parameters
    ----------
    x : array, shape (d,) or (C, d)
        Weights: positive, each simplex with sum 1. Arrays of torch and JAX are welcome.
    gradient : array, of the shape and dtype of `x`
        The gradient of the objective at `x`.
    step_size, inverse_temperature, base_measure, retraction : as in `lmwu`
        The step; "metropolis" is not possible, which needs two gradients.
    sizes, floor, clip : as in `lmwu`
        The simplices, and bounds of weights and exponents.
    noise : array, of the shape and dtype of `x`, optional
        Standard normals. Default: those that `lmwu` would draw at `step`.
    seed, step, chain_offset : int
        Where in the stream of random numbers that is. Defaults 0.
    backend : {"cpp", "cuda", "numba"}, optional
        Default "cpp", or "cuda" for arrays that live there.
    num_threads : int, optional
        Default: `hotloops.get_num_threads`.

    Returns
    -------
    array, of the shape and dtype of `x`
        The next weights, in the library that `x` came from. A row whose step is not finite keeps
        its weights.

    Raises
    ------
    TypeError, ValueError
        As `lmwu`.

    Notes
    -----
    Class A: the bits are those of `lmwu`.

    Examples
    --------
    >>> import numpy as np
    >>> from hotloops import simplex
    >>> x = np.array([0.2, 0.3, 0.5])
    >>> simplex.lmwu_step(x, np.array([1.0, -1.0, 0.5]), step_size=0.1).round(6).tolist()
    [0.183141, 0.335533, 0.481326]
    """
    name = "lmwu_step"
    given, library = placed_array(name, "x", x, ndim=(1, 2))
    rows = given.reshape(-1, given.shape[-1]).copy()
    slope = _beside(name, "gradient", gradient, given, library)
    parts = check_sizes(name, sizes, rows.shape[1])
    check_weights(name, "x", rows, parts)
    options = make_options(
        name,
        rows.shape[0],
        parts,
        rows.dtype,
        step_size=step_size,
        inverse_temperature=inverse_temperature,
        base_measure=base_measure,
        retraction=retraction,
        floor=floor,
        clip=clip,
    )
    drawn = None
    if noise is not None:
        drawn = _beside(name, "noise", noise, given, library).reshape(rows.shape)
    resolved = backend_for(name, backend, library)
    with array_layer.stream_context(library):
        state = ChainArrays.start(rows)
    importlib.import_module(f"hotloops.simplex._{resolved}").advance(
        state,
        "given",
        (slope.reshape(rows.shape),),
        options,
        Steps(
            seed=validate.integer(name, "seed", seed, low=0, high=2**64 - 1),
            chain_offset=validate.integer(name, "chain_offset", chain_offset, low=0),
            first_step=validate.integer(name, "step", step, low=0, high=2**48 - 1),
            num_steps=1,
            accumulate=False,
            num_threads=threads.resolve_num_threads(name, num_threads),
            noise=drawn,
        ),
    )
    return handed_back(state.x.reshape(given.shape), library)


def _beside(function: str, argument: str, value: Any, given: Any, library: Library) -> Any:
    """Check an array that has the shape, the precision and the device of another one."""
    checked, place = placed_array(function, argument, value, shape=given.shape, dtype=given.dtype)
    if place.place != library.place:
        expectation = f"live on {library.place} as `x`"
        validate.fail(TypeError, function, argument, expectation, place.place)
    return checked


def check_weights(function: str, argument: str, rows: Any, sizes: tuple[int, ...]) -> None:
    """Check that each row lies on its product of simplices."""
    if float(rows.min()) < 0.0:
        validate.fail(ValueError, function, argument, "not be negative", f"{rows.min():g}")
    tolerance = 1e-4 if rows.dtype.itemsize == 4 else 1e-6
    begin = 0
    for i, size in enumerate(sizes):
        sums = rows[:, begin : begin + size].sum(axis=1, dtype=np.float64)
        worst = int(np.abs(sums - 1.0).argmax())
        if abs(sums[worst] - 1.0) > tolerance:
            expectation = f"have weights with sum 1 in simplex {i}"
            got = f"the sum {sums[worst]:g} in row {worst}"
            validate.fail(ValueError, function, argument, expectation, got)
        begin += size
