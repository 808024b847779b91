"""Words, uniforms and normals in bulk."""

from __future__ import annotations

import importlib
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hotloops._runtime import arrays, dispatch, threads, validate
from hotloops._runtime.arrays import Library

__all__ = ["normals", "philox", "uniforms"]

Indices: TypeAlias = "range | npt.NDArray[np.int64]"

_MAX_STEP = 2**48 - 1
_MAX_CHAIN = 2**32 - 1
_MAX_COORDINATE = 2**34 - 1

_COMMON = """seed : int
        Key, 0 to 2**64 - 1.
    steps, chains, coordinates : int, range or array_like of int
        Which numbers: n stands for ``range(n)``; a range or a one-dimensional array of indices
        selects any others. Limits: 2**48 steps, 2**32 chains, 2**34 coordinates.
    stream : int
        Purpose, 0 to 65535; it keeps draws of different kinds apart. 0 (the default) is the noise
        of `hotloops.sgd`; 16 to 65534 are free for users.
    dtype : {{"float64", "float32"}}
        Default float64.
    out : array, optional
        Memory of the right shape and type for the answer.
    backend : {{"cpp", "cuda", "numba"}}, optional
        Default: "cuda" when `out` lives on a GPU, else "cpp".
    num_threads : int, optional
        Default `hotloops.get_num_threads`.

    Returns
    -------
    array, shape (steps, chains, coordinates)

    Raises
    ------
    TypeError, ValueError, OverflowError
        Arguments of the wrong type, shape or range.
    hotloops.BackendUnavailable
        The backend cannot run here."""


def normals(
    seed: int,
    steps: Any,
    chains: Any,
    coordinates: Any,
    stream: int = 0,
    *,
    dtype: npt.DTypeLike = np.float64,
    out: Any = None,
    backend: str | None = None,
    num_threads: int | None = None,
) -> Any:
    return _fill(
        "normals", seed, steps, chains, coordinates, stream, dtype, out, backend, num_threads
    )


def uniforms(
    seed: int,
    steps: Any,
    chains: Any,
    coordinates: Any,
    stream: int = 0,
    *,
    dtype: npt.DTypeLike = np.float64,
    out: Any = None,
    backend: str | None = None,
    num_threads: int | None = None,
) -> Any:
    return _fill(
        "uniforms", seed, steps, chains, coordinates, stream, dtype, out, backend, num_threads
    )


normals.__doc__ = f"""Draw standard normals, by Box-Muller from two words each pair.

    Parameters
    ----------
    {_COMMON.format()}

    Notes
    -----
    Class A. The largest absolute value is 6.76 in float64 and 5.77 in float32. About four
    nanoseconds of one core for eight numbers in float32; memory is that of the answer.

    Examples
    --------
    >>> from hotloops import random
    >>> random.normals(0x0123456789ABCDEF, 1, 1, 2).round(6)
    array([[[ 0.110069, -0.803099]]])
    """

uniforms.__doc__ = f"""Draw uniforms on the open interval (0, 1), one word each.

    Parameters
    ----------
    {_COMMON.format()}

    Notes
    -----
    Class A. ``(x + 1/2) 2^-32`` in float64 and ``((x >> 9) + 1/2) 2^-23`` in float32, both exact;
    0 and 1 never occur.

    Examples
    --------
    >>> from hotloops import random
    >>> random.uniforms(7, range(5, 7), 3, 4).shape
    (2, 3, 4)
    """


def philox(
    counter: Any,
    key: Any,
    *,
    out: Any = None,
    backend: str | None = None,
    num_threads: int | None = None,
) -> Any:
    """Philox4x32-10 itself.

    Parameters
    ----------
    counter : array_like of uint32, shape (..., 4)
    key : array_like of uint32, shape (..., 2)
        Leading axes are broadcast against those of `counter`.
    out : array of uint32, optional
        Memory for the answer.
    backend : {"cpp", "cuda", "numba"}, optional
    num_threads : int, optional

    Returns
    -------
    array of uint32, shape (..., 4)

    Raises
    ------
    TypeError, ValueError
        Arguments that are not integers of 32 bits, or of the wrong shape.

    Notes
    -----
    Class A. ``numpy.random.Philox`` is the 4x64 variant: another stream.

    Examples
    --------
    >>> from hotloops import random
    >>> [hex(word) for word in random.philox([0, 0, 0, 0], [0, 0])]
    ['0x6627e8d5', '0xe169c58d', '0xbc57ac4c', '0x9b00dbd8']
    """
    library = arrays.common_library("philox", {"counter": counter, "key": key, "out": out})
    counters = _words("counter", counter, 4)
    keys = _words("key", key, 2)
    shape = _broadcast_shape(counters.shape[:-1], keys.shape[:-1])
    threads_ = threads.resolve_num_threads("philox", num_threads)
    resolved = dispatch.resolve_backend("philox", backend, library.device)
    with arrays.stream_context(library):
        target, given = _target("philox", out, (*shape, 4), np.dtype(np.uint32), library)
        xp = library.xp
        if out is not None:
            validate.no_overlap("philox", {"out": target}, {"counter": counters, "key": keys})
        _module(resolved).philox(
            target.reshape(-1, 4),
            xp.ascontiguousarray(xp.broadcast_to(counters, (*shape, 4))).reshape(-1, 4),
            xp.ascontiguousarray(xp.broadcast_to(keys, (*shape, 2))).reshape(-1, 2),
            threads_,
        )
        return given if out is not None else arrays.export_array(target, library)


def _fill(
    law: str,
    seed: int,
    steps: Any,
    chains: Any,
    coordinates: Any,
    stream: int,
    dtype: npt.DTypeLike,
    out: Any,
    backend: str | None,
    num_threads: int | None,
) -> Any:
    key = validate.integer(law, "seed", seed, low=0, high=2**64 - 1)
    purpose = validate.integer(law, "stream", stream, low=0, high=2**16 - 1)
    at_steps = _indices(law, "steps", steps, _MAX_STEP)
    at_chains = _indices(law, "chains", chains, _MAX_CHAIN)
    runs, count = _runs(law, coordinates)
    precision = validate.float_dtype(law, "dtype", dtype)
    shape = (len(at_steps), len(at_chains), count)
    validate.sizes(law, *shape, 8)
    threads_ = threads.resolve_num_threads(law, num_threads)
    library = arrays.common_library(law, {"out": out})
    if out is None and dispatch.asked_backend(law, backend) == "cuda":
        library = Library("cupy", "cuda")
    resolved = dispatch.resolve_backend(law, backend, library.device)
    with arrays.stream_context(library):
        target, given = _target(law, out, shape, precision, library)
        xp = library.xp
        rows = [xp.asarray(_expand(chosen)) for chosen in (at_steps, at_chains)]
        begin = 0
        for first, length in runs:
            whole = length == count
            part = target if whole else xp.empty((*shape[:2], length), precision)
            _module(resolved).fill(part, law, key, purpose, *rows, first, threads_)
            if not whole:
                target[:, :, begin : begin + length] = part
            begin += length
        return given if out is not None else arrays.export_array(target, library)


def _module(backend: str) -> Any:
    return importlib.import_module(f"hotloops.random._{backend}")


def _target(
    function: str, out: Any, shape: tuple[int, ...], dtype: np.dtype[Any], library: Library
) -> tuple[Any, Any]:
    """Return the array to fill, and what to hand back."""
    if out is None:
        return arrays.empty(shape, dtype, library), None
    if not hasattr(out, "dtype"):  # a list would be copied and never filled
        validate.fail(TypeError, function, "out", "be an array", validate.describe(out))
    native, _ = arrays.import_array(function, "out", out)
    return validate.output(function, "out", native, shape=shape, dtype=dtype), out


def _indices(function: str, argument: str, value: Any, last: int) -> Indices:
    """Return the selected indices, checked; ranges stay ranges, since they may be too long."""
    if isinstance(value, range):
        if not value:
            validate.fail(ValueError, function, argument, "not be empty", repr(value))
        lowest, highest = min(value[0], value[-1]), max(value[0], value[-1])
        _check_bounds(function, argument, lowest, highest, last)
        return value
    if _is_count(value):
        count = validate.integer(function, argument, value, low=1)
        _check_bounds(function, argument, 0, count - 1, last)
        return range(count)
    host, _ = arrays.import_array(function, argument, value)
    indices: npt.NDArray[np.int64] = validate.array(
        function, argument, host, shape=("n",), dtype=np.int64
    )
    _check_bounds(function, argument, int(indices.min()), int(indices.max()), last)
    return indices


def _expand(indices: Indices) -> npt.NDArray[np.int64]:
    if not isinstance(indices, range):
        return indices
    stride = indices.step if len(indices) > 1 else 0  # a single one may have any step
    return indices[0] + stride * np.arange(len(indices), dtype=np.int64)


def _is_count(value: Any) -> bool:
    """Tell one number from a list or an array of them."""
    return not isinstance(value, list | tuple) and np.ndim(value) == 0


def _check_bounds(function: str, argument: str, lowest: int, highest: int, last: int) -> None:
    if lowest < 0:
        validate.fail(ValueError, function, argument, "not be negative", str(lowest))
    if highest > last:
        expectation = f"stay within the counter's range, at most {last}"
        validate.fail(OverflowError, function, argument, expectation, str(highest))


def _runs(function: str, coordinates: Any) -> tuple[list[tuple[int, int]], int]:
    """Return the coordinates as runs (first, length) of neighbours, and their number."""
    if isinstance(coordinates, range) and coordinates.step == 1 and coordinates:
        first, last = coordinates[0], coordinates[-1]
        _check_bounds(function, "coordinates", first, last, _MAX_COORDINATE)
        return [(first, len(coordinates))], len(coordinates)
    if not isinstance(coordinates, range) and _is_count(coordinates):
        count = validate.integer(function, "coordinates", coordinates, low=1)
        _check_bounds(function, "coordinates", 0, count - 1, _MAX_COORDINATE)
        return [(0, count)], count
    indices = _expand(_indices(function, "coordinates", coordinates, _MAX_COORDINATE))
    cuts = np.flatnonzero(np.diff(indices) != 1) + 1
    starts = np.concatenate([[0], cuts])
    lengths = np.diff(np.concatenate([starts, [indices.size]]))
    runs = [(int(indices[s]), int(n)) for s, n in zip(starts, lengths, strict=True)]
    return runs, int(indices.size)


def _words(argument: str, value: Any, width: int) -> Any:
    host, _ = arrays.import_array("philox", argument, value)
    words = validate.array("philox", argument, host, dtype=np.uint32)
    if words.ndim == 0 or words.shape[-1] != width:
        expectation = f"have shape (..., {width})"
        validate.fail(ValueError, "philox", argument, expectation, str(tuple(words.shape)))
    return words


def _broadcast_shape(first: tuple[int, ...], second: tuple[int, ...]) -> tuple[int, ...]:
    try:
        return np.broadcast_shapes(first, second)
    except ValueError:
        expectation = f"have leading axes that fit those of `counter`, {tuple(first)}"
        validate.fail(ValueError, "philox", "key", expectation, str(tuple(second)))
