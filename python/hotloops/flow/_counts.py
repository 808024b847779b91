"""Counts and gamma variates in bulk, addressed by (seed, step, row, column)."""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops._runtime import arrays, dispatch, threads, validate
from hotloops._runtime.arrays import Library
from hotloops._runtime.validate import fail

__all__ = [
    "POSITIVE",
    "Range",
    "bernoulli",
    "broadcast",
    "common_shape",
    "flatten",
    "gamma",
    "negative_binomial",
    "parameter",
    "poisson",
    "precision_of",
]

_MAX_STEP = 2**26 - 1
_MAX_INDEX = 2**32 - 1
_MAX_MEAN = 1e8


@dataclass(frozen=True)
class Range:
    """Where the values of a parameter may lie."""

    low: float
    open_low: bool
    high: float
    text: str
    too_large: str | None = None  # said with an OverflowError


_MEAN = Range(0.0, False, _MAX_MEAN, "be finite and not negative", f"be at most {_MAX_MEAN:g}")
POSITIVE = Range(0.0, True, math.inf, "be finite and positive")
_PROBABILITY = Range(0.0, False, 1.0, "lie in [0, 1]")


def negative_binomial(
    mu: Any,
    theta: Any,
    size: Any = None,
    *,
    seed: int = 0,
    step: int = 0,
    rows: Any = 0,
    out: Any = None,
    backend: str | None = None,
    num_threads: int | None = None,
) -> Any:
    """Draw negative binomial counts of given mean and inverse dispersion.

    The count x has mean `mu` and variance ``mu + mu^2 / theta``. NumPy's
    ``Generator.negative_binomial(n, p)`` is the same law with ``n = theta``,
    ``p = theta / (theta + mu)``.

    Parameters
    ----------
    mu : float or array of float32 or float64, shape (..., n)
        Means, 0 to 1e8.
    theta : float or array, shape (..., n)
        Inverse dispersions, above 0; clamped to [2^-100, 2^60], beyond which nothing changes.
        Broadcast against `mu`.
    size : int or tuple of int, optional
        Shape of the answer, which the parameters must broadcast to. Default: what they broadcast
        to. The last axis holds the columns (genes), all others the rows (cells).
    seed : int
        Key of the random numbers, 0 to 2**64 - 1. Default 0: runs repeat unless told otherwise.
    step : int
        0 to 2**26 - 1. Other steps give other, independent counts, as other seeds do.
    rows : int or array of int, shape (...)
        Global numbers of the rows, 0 to 2**32 - 1: the first of them, or each one. What a row holds
        depends on its number alone, so that any part of a large array can be drawn by itself.
    out : array of int32, optional
        Memory of the right shape for the answer.
    backend : {"cpp", "cuda", "numba"}, optional
        Default: "cuda" for arrays on a GPU, else "cpp".
    num_threads : int, optional
        Default `hotloops.get_num_threads`; never changes the result.

    Returns
    -------
    array of int32, shape (..., n)
        Of the library of the parameters; an int where all of them are numbers and `size` is None.

    Raises
    ------
    TypeError, ValueError
        Arguments of the wrong type, shape or range, NaN, a negative mean, `theta` not above 0.
        Arrays on a GPU are not looked at, since that would wait for it: there, NaN and negative
        means give 0.
    OverflowError
        A mean above 1e8, or indices beyond the counter.

    Notes
    -----
    Class A: the same bits over threads, instruction sets and backends; float32 parameters are
    widened and all arithmetic is float64.

    Small means (up to 16, with ``mu / theta`` up to 2^14) are inverted on P(X > k), which keeps the
    digits of P(X > 0) however small `mu` is; one uniform of 53 bits a count. The others are
    Poisson with a rate ``(mu / theta) Gamma(theta, 1)``, clamped to 1e8, so that counts fit int32.

    P(X > 0) is at most `mu`, so the uniform alone tells most zeros of a sparse array: about 5 ns a
    count on one core where a tenth of them is not zero, 15 ns at a mean of 1, 50 ns above 16.

    References
    ----------
    G. Marsaglia, W. W. Tsang, "A simple method for generating gamma variables", ACM TOMS 26(3),
    2000. W. Hoermann, "The transformed rejection method for generating Poisson random variables",
    Insurance: Mathematics and Economics 12, 1993.

    Examples
    --------
    >>> import numpy as np
    >>> from hotloops import flow
    >>> mu = np.array([0.05, 1.0, 8.0, 300.0])
    >>> flow.negative_binomial(mu, 2.0, (3, 4), seed=1).shape
    (3, 4)
    >>> whole = flow.negative_binomial(mu, 2.0, (10, 4), seed=1)
    >>> part = flow.negative_binomial(mu, 2.0, (2, 4), seed=1, rows=7)
    >>> bool((part == whole[7:9]).all())
    True
    """
    parameters = {"mu": (mu, _MEAN), "theta": (theta, POSITIVE)}
    return _draw(
        "negative_binomial", parameters, size, seed, step, rows, None, out, backend, num_threads
    )


def poisson(
    rate: Any,
    size: Any = None,
    *,
    seed: int = 0,
    step: int = 0,
    rows: Any = 0,
    out: Any = None,
    backend: str | None = None,
    num_threads: int | None = None,
) -> Any:
    """Draw Poisson counts.

    Parameters
    ----------
    rate : float or array of float32 or float64, shape (..., n)
        Means, 0 to 1e8.
    size, seed, step, rows, out, backend, num_threads : optional
        As in `negative_binomial`.

    Returns
    -------
    array of int32, shape (..., n)

    Raises
    ------
    TypeError, ValueError, OverflowError
        As in `negative_binomial`.

    Notes
    -----
    Class A. Below a rate of 10 by inversion on P(X > k), else by Hoermann's PTRS, both in float64.

    Examples
    --------
    >>> from hotloops import flow
    >>> x = flow.poisson(3.5, (1000, 100), seed=2)
    >>> bool(abs(x.mean() - 3.5) < 0.03)
    True
    """
    return _draw(
        "poisson", {"rate": (rate, _MEAN)}, size, seed, step, rows, None, out, backend, num_threads
    )


def bernoulli(
    probability: Any,
    size: Any = None,
    *,
    seed: int = 0,
    step: int = 0,
    rows: Any = 0,
    out: Any = None,
    backend: str | None = None,
    num_threads: int | None = None,
) -> Any:
    """Draw zeros and ones.

    Parameters
    ----------
    probability : float or array of float32 or float64, shape (..., n)
        P(X = 1), 0 to 1.
    size, seed, step, rows, out, backend, num_threads : optional
        As in `negative_binomial`.

    Returns
    -------
    array of int32, shape (..., n)

    Raises
    ------
    TypeError, ValueError, OverflowError
        As in `negative_binomial`.

    Notes
    -----
    Class A. One 32-bit uniform each: probabilities are met within 2^-33.

    Examples
    --------
    >>> from hotloops import flow
    >>> flow.bernoulli([0.0, 1.0], (2, 2), seed=3)
    array([[0, 1],
           [0, 1]], dtype=int32)
    """
    parameters = {"probability": (probability, _PROBABILITY)}
    return _draw("bernoulli", parameters, size, seed, step, rows, None, out, backend, num_threads)


def gamma(
    alpha: Any,
    scale: Any = 1.0,
    size: Any = None,
    *,
    seed: int = 0,
    step: int = 0,
    rows: Any = 0,
    dtype: npt.DTypeLike | None = None,
    out: Any = None,
    backend: str | None = None,
    num_threads: int | None = None,
) -> Any:
    """Draw gamma variates of mean ``alpha scale`` and variance ``alpha scale^2``.

    Parameters
    ----------
    alpha : float or array of float32 or float64, shape (..., n)
        Shapes, above 0.
    scale : float or array, shape (..., n)
        Above 0. Default 1.
    size, seed, step, rows : optional
        As in `negative_binomial`.
    dtype : {"float64", "float32"}, optional
        Of the answer. Default: that of the parameters, float64 for numbers.
    out, backend, num_threads : optional
        As in `negative_binomial`.

    Returns
    -------
    array of float32 or float64, shape (..., n)

    Raises
    ------
    TypeError, ValueError, OverflowError
        As in `negative_binomial`.

    Notes
    -----
    Class A. Marsaglia and Tsang's method in float64, one attempt a Philox block; float32 answers
    are those values rounded. Shapes below 1 are drawn at ``alpha + 1`` and multiplied by
    ``U^(1/alpha)`` in logarithms; variates below 1e-304 come out as 0.

    Examples
    --------
    >>> from hotloops import flow
    >>> x = flow.gamma(0.5, 2.0, (1000, 100), seed=4)
    >>> bool(abs(x.mean() - 1.0) < 0.03)
    True
    """
    parameters = {"alpha": (alpha, POSITIVE), "scale": (scale, POSITIVE)}
    precision = None if dtype is None else validate.float_dtype("gamma", "dtype", dtype)
    return _draw("gamma", parameters, size, seed, step, rows, precision, out, backend, num_threads)


def _draw(
    law: str,
    parameters: dict[str, tuple[Any, Range]],
    size: Any,
    seed: int,
    step: int,
    rows: Any,
    dtype: np.dtype[Any] | None,
    out: Any,
    backend: str | None,
    num_threads: int | None,
) -> Any:
    key = validate.integer(law, "seed", seed, low=0, high=2**64 - 1)
    at_step = validate.integer(law, "step", step, low=0, high=_MAX_STEP)
    threads_ = threads.resolve_num_threads(law, num_threads)
    given = {name: value for name, (value, _) in parameters.items()}
    library = _library(law, given, out, backend)
    resolved = dispatch.resolve_backend(law, backend, library.device)
    precision = dtype if dtype is not None else precision_of(given)
    with arrays.stream_context(library):
        native = {
            name: parameter(law, name, value, allowed, precision, library)
            for name, (value, allowed) in parameters.items()
        }
        shape = _shape(law, size, native)
        numbers, first_row = _row_numbers(law, rows, shape, library)
        kind = precision if law == "gamma" else np.dtype(np.int32)
        target = _target(law, out, shape, kind, library, native)
        num_rows, columns = flatten(shape)
        flat = [broadcast(value, shape, library.xp) for value in native.values()]
        if len(flat) == 1:
            flat.append(library.xp.ones((1, 1), precision))
        if math.prod(shape):
            importlib.import_module(f"hotloops.flow._{resolved}_counts").draw(
                *(law, target.reshape(num_rows, columns), *flat, key, at_step),
                *(numbers, first_row, threads_),
            )
        if out is not None:
            return out
        if shape == () and library.name == "numpy":
            return target[()].item()
        return arrays.export_array(target, library)


def _library(law: str, given: dict[str, Any], out: Any, backend: str | None) -> Library:
    library = arrays.common_library(law, {**given, "out": out})
    numbers = out is None and not any(hasattr(value, "dtype") for value in given.values())
    if numbers and dispatch.asked_backend(law, backend) == "cuda":
        return Library("cupy", "cuda")
    return library


def precision_of(given: dict[str, Any]) -> np.dtype[Any]:
    """Return float32 where every array is of float32, else float64: widening loses nothing."""
    kinds = [str(value.dtype) for value in given.values() if hasattr(value, "dtype")]
    single = bool(kinds) and all(kind.rpartition(".")[2] == "float32" for kind in kinds)
    return np.dtype(np.float32 if single else np.float64)


def parameter(
    law: str, name: str, value: Any, allowed: Range, precision: np.dtype[Any], library: Library
) -> Any:
    """Return a checked parameter in the library's own kind of array."""
    host, own = arrays.import_array(law, name, value, dtype=np.float64)
    native = validate.array(law, name, host, finite=False, empty=True)
    if own.device == "cpu":
        _check_range(law, name, native, allowed)
    return library.xp.asarray(native, dtype=precision)


def _check_range(law: str, name: str, values: npt.NDArray[Any], allowed: Range) -> None:
    """Two quick passes when all is well: NaN shows in both extremes."""
    if values.size == 0:
        return
    low, high = float(values.min()), float(values.max())
    above = low > allowed.low if allowed.open_low else low >= allowed.low
    if above and high <= allowed.high and high < math.inf:
        return
    inside = (values > allowed.low) if allowed.open_low else (values >= allowed.low)
    wrong = ~(inside & np.isfinite(values))
    if allowed.too_large is None:
        wrong |= values > allowed.high
    if wrong.any():
        fail(ValueError, law, name, allowed.text, _first(wrong, values))
    fail(OverflowError, law, name, allowed.too_large or "", _first(values > allowed.high, values))


def _first(wrong: npt.NDArray[np.bool_], values: npt.NDArray[Any]) -> str:
    """Say what the first wrong value is, and where."""
    index = tuple(int(i) for i in np.unravel_index(int(wrong.argmax()), values.shape))
    return f"{values[index].item()}{f' at index {index}' if index else ''}"


def common_shape(law: str, native: dict[str, Any]) -> tuple[int, ...]:
    """Return what the shapes of the parameters broadcast to."""
    (first, value), *others = native.items()
    shape = tuple(value.shape)
    for name, other in others:
        together = _together(shape, tuple(other.shape))
        if together is None:
            expectation = f"have a shape that fits that of `{first}`, {shape}"
            fail(ValueError, law, name, expectation, str(tuple(other.shape)))
        shape = together
    return shape


def _together(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...] | None:
    try:
        return np.broadcast_shapes(a, b)
    except ValueError:
        return None


def _shape(law: str, size: Any, native: dict[str, Any]) -> tuple[int, ...]:
    shape = common_shape(law, native)
    if size is None:
        return shape
    lengths = size if isinstance(size, tuple | list) else (size,)
    wanted = tuple(validate.integer(law, "size", length, low=0) for length in lengths)
    validate.sizes(law, *wanted, 8)
    if _together(shape, wanted) != wanted:
        expectation = f"be a shape that parameters of shape {shape} broadcast to"
        fail(ValueError, law, "size", expectation, str(wanted))
    return wanted


def flatten(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return the number of rows and of columns."""
    return math.prod(shape[:-1]), shape[-1] if shape else 1


def _row_numbers(law: str, rows: Any, shape: tuple[int, ...], library: Library) -> tuple[Any, int]:
    """Return the numbers of the rows, or None and the first of them."""
    num_rows, columns = flatten(shape)
    if columns > _MAX_INDEX + 1:
        expectation = f"have at most {_MAX_INDEX + 1} columns"
        fail(OverflowError, law, "size", expectation, str(columns))
    if np.ndim(rows) == 0 and not isinstance(rows, list | tuple):
        first = validate.integer(law, "rows", rows, low=0, high=_MAX_INDEX)
        if first + num_rows > _MAX_INDEX + 1:
            expectation = f"leave {num_rows} numbers below {_MAX_INDEX + 1}"
            fail(OverflowError, law, "rows", expectation, str(first))
        return None, first
    host, own = arrays.import_array(law, "rows", rows)
    wanted = shape[:-1]
    numbers = validate.array(law, "rows", host, dtype=np.int64, empty=True)
    if tuple(numbers.shape) != wanted:
        expectation = f"be an integer or have shape {wanted}, one for each row"
        fail(ValueError, law, "rows", expectation, str(tuple(numbers.shape)))
    if own.device == "cpu" and numbers.size:
        if int(numbers.min()) < 0:
            fail(ValueError, law, "rows", "not be negative", str(int(numbers.min())))
        if int(numbers.max()) > _MAX_INDEX:
            expectation = f"be at most {_MAX_INDEX}"
            fail(OverflowError, law, "rows", expectation, str(int(numbers.max())))
    return library.xp.asarray(numbers).reshape(-1), 0


def _target(
    law: str,
    out: Any,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    library: Library,
    inputs: dict[str, Any],
) -> Any:
    if out is None:
        return arrays.empty(shape, dtype, library)
    if not hasattr(out, "dtype"):  # a list would be copied and never filled
        fail(TypeError, law, "out", "be an array", validate.describe(out))
    native, _ = arrays.import_array(law, "out", out)
    target = validate.output(law, "out", native, shape=shape, dtype=dtype)
    validate.no_overlap(law, {"out": target}, inputs)
    return target


def broadcast(value: Any, shape: tuple[int, ...], xp: Any) -> Any:
    """Return a parameter as (1 or rows, 1 or columns), copied only where it must be."""
    padded = value.reshape((1,) * (len(shape) - value.ndim) + tuple(value.shape))
    columns = padded.shape[-1] if padded.ndim else 1
    leading = padded.shape[:-1]
    if math.prod(leading) == 1:
        return xp.ascontiguousarray(padded.reshape(1, columns))
    if leading != shape[:-1]:
        padded = xp.broadcast_to(padded, (*shape[:-1], columns))
    return xp.ascontiguousarray(padded.reshape(math.prod(shape[:-1]), columns))
