"""Checks of arguments before any work is done.

Every message has the form ``function: `argument` must <expectation>, got <what came>``.
"""

from __future__ import annotations

import contextlib
import math
import numbers
import operator
import sys
from collections.abc import Mapping
from typing import Any, NoReturn, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = [
    "Shape",
    "array",
    "as_array",
    "boolean",
    "choice",
    "describe",
    "fail",
    "float_dtype",
    "integer",
    "is_plain",
    "no_overlap",
    "output",
    "real",
    "share_memory",
    "sizes",
    "writable",
]

Shape: TypeAlias = tuple[int | str | None, ...]

INT64_MAX = 2**63 - 1
_INT64_MIN = -(2**63)
_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
_FLOAT32, _FLOAT64 = _FLOATS
_MAX_TEXT = 60


class _Size(int):
    """A length that remembers which argument fixed it."""

    origin: str | None = None


def fail(
    kind: type[Exception], function: str, argument: str, expectation: str, got: str
) -> NoReturn:
    """Raise ``kind`` with the house's message."""
    raise kind(f"{function}: `{argument}` must {expectation}, got {got}")


def describe(value: object) -> str:
    """Say in a few words what a value is."""
    if value is None or isinstance(value, bool | int | float | complex | str | bytes | np.generic):
        if isinstance(value, int) and value.bit_length() > 256:
            return f"an integer of {value.bit_length()} bits"
        text = repr(value.item() if isinstance(value, np.generic) else value)
        return text if len(text) <= _MAX_TEXT else f"{text[: _MAX_TEXT - 3]}..."
    name = type(value).__qualname__
    module = type(value).__module__.partition(".")[0]
    if module not in ("builtins", "__main__"):
        name = f"{module}.{name}"
    name = f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if shape is not None and dtype is not None:
        return f"{name} of shape {_shape_text(shape)} and dtype {dtype}"
    if isinstance(value, list | tuple | dict | set):
        return f"{name} of length {len(value)}"
    return name


def integer(
    function: str, argument: str, value: object, *, low: int | None = None, high: int | None = None
) -> int:
    """Check an integer; bool and float are refused, NumPy's integers are fine."""
    expectation = "be an integer" + _range_text(low, high)
    if isinstance(value, bool | np.bool_):
        fail(TypeError, function, argument, expectation, describe(value))
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        fail(TypeError, function, argument, expectation, describe(value))
    inside = (low is None or number >= low) and (high is None or number <= high)
    fits_int64 = _INT64_MIN <= number <= INT64_MAX
    if inside and (fits_int64 or (number > 0 and high is not None)):
        return number
    if number > INT64_MAX or (number < _INT64_MIN and low is None):
        if high is None:
            expectation += " of at most 64 bits"
        fail(OverflowError, function, argument, expectation, describe(number))
    fail(ValueError, function, argument, expectation, describe(number))


def real(
    function: str,
    argument: str,
    value: object,
    *,
    low: float | None = None,
    high: float | None = None,
    open_low: bool = False,
) -> float:
    """Check a finite real number."""
    if isinstance(value, float) and _inside(value, low, high, open_low):
        return float(value)
    expectation = "be a finite number" + _range_text(low, high, open_low)
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Real):
        fail(TypeError, function, argument, expectation, describe(value))
    try:
        number = float(value)
    except OverflowError:
        fail(OverflowError, function, argument, expectation, describe(value))
    if not _inside(number, low, high, open_low):
        fail(ValueError, function, argument, expectation, describe(value))
    return number


def choice(function: str, argument: str, value: object, options: tuple[str, ...]) -> str:
    """Check a word against the words that are allowed."""
    if type(value) is str and value in options:
        return value
    expectation = "be one of " + ", ".join(repr(option) for option in options)
    if not isinstance(value, str):
        fail(TypeError, function, argument, expectation, describe(value))
    if value not in options:
        fail(ValueError, function, argument, expectation, describe(value))
    return value


def boolean(function: str, argument: str, value: object) -> bool:
    """Check a truth value; 0 and 1 are refused."""
    if value is True or value is False:
        return value
    if not isinstance(value, bool | np.bool_):
        fail(TypeError, function, argument, "be True or False", describe(value))
    return bool(value)


def float_dtype(function: str, argument: str, value: object) -> np.dtype[Any]:
    """Check a dtype that names float32 or float64."""
    dtype: np.dtype[Any] | None = None
    if value is not None:
        with contextlib.suppress(TypeError):
            dtype = np.dtype(value)  # type: ignore[call-overload]
    if dtype is None or dtype not in _FLOATS:
        got = describe(value) if dtype is None else str(dtype)
        fail(TypeError, function, argument, "be float32 or float64", got)
    return dtype


def array(
    function: str,
    argument: str,
    value: Any,
    *,
    ndim: int | tuple[int, ...] | None = None,
    shape: Shape | None = None,
    symbols: dict[str, int] | None = None,
    dtype: npt.DTypeLike | None = None,
    exact_dtype: bool = False,
    finite: bool = True,
    positive: bool = False,
    empty: bool = False,
    copy: bool = False,
) -> Any:
    """Check an array and return it C-contiguous and aligned.

    Parameters
    ----------
    function, argument : str
        For the message.
    value : array_like or cupy.ndarray
        What came. Host values give NumPy arrays, CuPy arrays stay on their device.
    ndim : int or tuple of int, optional
        Allowed numbers of dimensions.
    shape : tuple of int, str and None, optional
        Expected lengths: a number, a symbol shared with other arguments, or anything (None).
    symbols : dict, optional
        Lengths of the symbols met so far; filled here, and checked where already known.
    dtype : dtype, optional
        Wanted type. Integers are converted to it exactly or refused; None keeps float32 and
        float64 and turns integers into float64.
    exact_dtype : bool
        Refuse arrays of any other type than `dtype` (state). Lists and scalars have no type of
        their own and are converted.
    finite, positive : bool
        Refuse NaN and infinities; refuse values that are not above zero.
    empty : bool
        Allow arrays without elements.
    copy : bool
        Return memory of its own in any case.
    """
    if is_plain(value) and dtype is None:
        given = value
    else:
        given = as_array(function, argument, value)
        _check_kind(function, argument, value, given, None if dtype is None else np.dtype(dtype))
    typed = hasattr(value, "dtype")
    if exact_dtype and typed and dtype is not None and given.dtype != np.dtype(dtype):
        fail(TypeError, function, argument, f"have dtype {np.dtype(dtype)}", str(given.dtype))
    if ndim is not None or shape is not None:
        _check_shape(function, argument, given, ndim, shape, {} if symbols is None else symbols)
    if given.size == 0 and not empty:
        fail(ValueError, function, argument, "not be empty", f"shape {_shape_text(given.shape)}")
    result = given
    if dtype is not None or not is_plain(given):
        result = _convert(function, argument, given, dtype)
    if finite and given.dtype.kind == "f":
        expectation = "be finite" if result.dtype == given.dtype else f"be finite in {result.dtype}"
        _check_all(function, argument, given, _namespace(result).isfinite(result), expectation)
    if positive:
        _check_all(function, argument, given, result > 0, "be positive")
    if copy and (result is given or _namespace(given).may_share_memory(result, given)):
        result = result.copy(order="C")
    return result


def is_plain(value: object) -> bool:
    """Whether a value is an array of NumPy in a kernel's own form: native, in order, writable.

    That is nearly every array that comes, and cheaper to find out than what is wrong with one.
    """
    return (
        type(value) is np.ndarray
        and (value.dtype is _FLOAT64 or value.dtype is _FLOAT32)
        and value.flags.carray
    )


def output(
    function: str, argument: str, value: Any, *, shape: tuple[int, ...], dtype: npt.DTypeLike
) -> Any:
    """Check an array that will be written in place, and return that same array."""
    if is_plain(value) and value.dtype is dtype and value.shape == shape:
        return value
    if not isinstance(value, np.ndarray) and _namespace(value) is np:
        fail(TypeError, function, argument, "be an array", describe(value))
    wanted = np.dtype(dtype)
    if value.dtype != wanted:
        fail(TypeError, function, argument, f"have dtype {wanted}", str(value.dtype))
    if tuple(value.shape) != shape:
        expectation = f"have shape {_shape_text(shape)}"
        fail(ValueError, function, argument, expectation, _shape_text(value.shape))
    if not value.flags.c_contiguous or not getattr(value.flags, "aligned", True):
        fail(ValueError, function, argument, "be C-contiguous and aligned", _layout_text(value))
    writable(function, argument, value)
    return value


def writable(function: str, argument: str, value: Any) -> None:
    """Check that an array may be written to."""
    if not getattr(value.flags, "writeable", True):
        fail(ValueError, function, argument, "be writable", "a read-only array")


def no_overlap(
    function: str, outputs: Mapping[str, Any], inputs: Mapping[str, Any] | None = None
) -> None:
    """Check that no output shares memory with another output or with an input."""
    names = list(outputs)
    for position, name in enumerate(names):
        others = [(other, outputs[other]) for other in names[position + 1 :]]
        others += list((inputs or {}).items())
        for other, array_ in others:
            if share_memory(outputs[name], array_):
                expectation = f"not overlap `{other}` in memory"
                fail(ValueError, function, name, expectation, "arrays that share memory")


def share_memory(first: Any, second: Any) -> bool:
    """Whether two arrays may have an element in common; if in doubt, they have."""
    if is_plain(first) and is_plain(second):  # without gaps, so that their bounds say all
        return np.may_share_memory(first, second)
    if _namespace(first) is not _namespace(second):
        return False
    if _namespace(first) is not np:
        return bool(_namespace(first).may_share_memory(first, second))
    try:
        return np.shares_memory(first, second, max_work=100_000)  # type: ignore[arg-type]
    except RuntimeError:  # NumPy's TooHardError: nothing was decided, so take no risk
        return True


def sizes(function: str, *factors: int) -> int:
    """Return the product of some lengths, which must fit a signed 64-bit integer."""
    product = math.prod(int(factor) for factor in factors)
    if product > INT64_MAX:
        text = " x ".join(str(int(factor)) for factor in factors)
        raise OverflowError(f"{function}: the size {text} must stay below 2**63, got {product}")
    return product


def _inside(number: float, low: float | None, high: float | None, open_low: bool) -> bool:
    if not math.isfinite(number) or (high is not None and number > high):
        return False
    return low is None or number > low or (number == low and not open_low)


def _range_text(low: float | None, high: float | None, open_low: bool = False) -> str:
    if low is not None and high is not None:
        return f" in {'(' if open_low else '['}{low}, {high}]"
    if low is not None:
        return f" {'>' if open_low else '>='} {low}"
    return "" if high is None else f" <= {high}"


def _shape_text(shape: Shape | tuple[int, ...]) -> str:
    items = ["?" if item is None else str(item) for item in shape]
    return f"({items[0]},)" if len(items) == 1 else f"({', '.join(items)})"


def _layout_text(value: Any) -> str:
    if not value.flags.c_contiguous:
        return f"an array with strides {_shape_text(value.strides)}"
    return "an array that is not aligned"


def _namespace(value: object) -> Any:
    """NumPy, or CuPy for CuPy's arrays; CuPy is never imported here."""
    if type(value) is np.ndarray:
        return np
    if any(base.__module__.partition(".")[0] == "cupy" for base in type(value).__mro__):
        return sys.modules.get("cupy", np)
    return np


def as_array(function: str, argument: str, value: Any) -> Any:
    """Return anything that is an array, or can become one, as a NumPy (or CuPy) array."""
    if type(value) is np.ndarray or _namespace(value) is not np:
        return value
    masked = getattr(sys.modules.get("numpy.ma"), "MaskedArray", ())
    if value is None or isinstance(value, masked):
        fail(TypeError, function, argument, "be an array of real numbers", describe(value))
    try:
        return np.asarray(value)
    except ValueError:
        expectation = "be a rectangular array of real numbers"
        fail(ValueError, function, argument, expectation, f"{describe(value)} with ragged rows")
    except MemoryError:
        raise
    except Exception as error:
        got = f"{describe(value)} ({error})"
        raise TypeError(
            f"{function}: `{argument}` must be an array of real numbers, got {got}"
        ) from error


def _check_kind(
    function: str, argument: str, value: object, given: Any, wanted: np.dtype[Any] | None
) -> None:
    integers = wanted is not None and wanted.kind in "iu"
    if given.dtype in _FLOATS and not integers:
        return
    came = describe(value) if given.dtype.kind == "O" else f"dtype {given.dtype}"
    if integers:
        if given.dtype.kind not in "iu":
            fail(TypeError, function, argument, "be an array of integers", came)
        return
    if given.dtype.kind not in "fiu":
        fail(TypeError, function, argument, "be an array of real numbers", came)
    if given.dtype.kind == "f" and given.dtype.newbyteorder("=") not in _FLOATS:
        fail(TypeError, function, argument, "have dtype float32 or float64", came)


def _check_shape(
    function: str,
    argument: str,
    given: Any,
    ndim: int | tuple[int, ...] | None,
    shape: Shape | None,
    symbols: dict[str, int],
) -> None:
    if ndim is not None:
        allowed = (ndim,) if isinstance(ndim, int) else ndim
        if given.ndim not in allowed:
            counts = " or ".join(str(count) for count in allowed)
            plural = "" if allowed == (1,) else "s"
            came = _shape_text(given.shape)
            fail(ValueError, function, argument, f"have {counts} dimension{plural}", came)
    if shape is None:
        return
    if given.ndim != len(shape):
        expectation = f"have shape {_shape_text(shape)}"
        fail(ValueError, function, argument, expectation, _shape_text(given.shape))
    found = dict(symbols)
    for wanted, length in zip(shape, given.shape, strict=True):
        if isinstance(wanted, str):
            if wanted not in found:
                found[wanted] = size = _Size(length)
                size.origin = argument
            wanted = found[wanted]
        if wanted is not None and wanted != length:
            expectation = f"have shape {_shape_text(shape)}{_known_text(shape, symbols)}"
            fail(ValueError, function, argument, expectation, _shape_text(given.shape))
    symbols.update(found)


def _known_text(shape: Shape, symbols: Mapping[str, int]) -> str:
    parts = []
    for item in dict.fromkeys(shape):
        if isinstance(item, str) and item in symbols:
            origin = getattr(symbols[item], "origin", None)
            parts.append(f"{item} = {symbols[item]}" + (f" as in `{origin}`" if origin else ""))
    return f" with {', '.join(parts)}" if parts else ""


def _convert(function: str, argument: str, given: Any, dtype: npt.DTypeLike | None) -> Any:
    # A dtype equals None where it is float64.
    as_it_is = dtype is None or given.dtype == np.dtype(dtype)
    if as_it_is and given.flags.carray and given.dtype in _FLOATS:
        return given
    target = np.dtype(dtype)  # float64 for None
    if dtype is None and given.dtype.kind == "f":
        target = given.dtype if given.dtype.isnative else given.dtype.newbyteorder("=")
    with np.errstate(all="ignore"):
        result = _namespace(given).asarray(given, dtype=target, order="C")
    if not getattr(result.flags, "aligned", True):
        result = result.copy(order="C")
    if given.dtype.kind in "iu" and given.dtype != target:
        _check_exact(function, argument, given, result)
    return result


def _check_exact(function: str, argument: str, given: Any, result: Any) -> None:
    """Integers must survive their conversion; floats at the rim of the type would wrap back."""
    if result.dtype.kind == "f":
        limits = np.iinfo(given.dtype)
        inside = (result >= float(limits.min)) & (result < float(limits.max) + 1.0)
        safe = _namespace(given).where(inside, result, 0)
        same = inside & (safe.astype(given.dtype) == given)
    else:
        same = (result == given) & ((result < 0) == (given < 0))
    _check_all(function, argument, given, same, f"hold integers that {result.dtype} can hold")


def _check_all(function: str, argument: str, given: Any, passed: Any, expectation: str) -> None:
    if bool(passed.all()):
        return
    flat = int((~passed).ravel().argmax())
    index = tuple(int(i) for i in np.unravel_index(flat, given.shape))
    place = f" at index {_shape_text(index)}" if index else ""
    fail(ValueError, function, argument, expectation, f"{given[index].item()}{place}")
