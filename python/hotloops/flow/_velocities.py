"""Velocities that users bring: compiled functions, functions for Numba, callables, networks."""

from __future__ import annotations

import ctypes
import inspect
import re
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

import numpy as np
import numpy.typing as npt

from hotloops._runtime import validate

__all__ = ["Velocity", "classify"]

Kind = Literal["network", "address", "njit", "callable"]

_CTYPES_FUNCTION: Any = ctypes.CFUNCTYPE(None).__mro__[1]  # the common base of all C functions
_POINTER: Any = ctypes.POINTER(ctypes.c_char).__mro__[1]  # and of all typed pointers

_NUM_ARGUMENTS = 7
_ARRAYS = (2, 3, 5)  # arguments that point to floating-point numbers


@dataclass(frozen=True)
class Velocity:
    """A velocity of one kind.

    Attributes
    ----------
    kind : {"network", "address", "njit", "callable"}
    function : object
        The network or the function itself; of an address, what keeps it alive.
    address : int
    dtype : dtype or None
        The precision that it insists on.
    writes : bool
        njit: whether it writes to ``out``, or returns.
    """

    kind: Kind
    function: Any
    address: int = 0
    dtype: npt.DTypeLike | None = None
    writes: bool = False


def classify(function: str, velocity: Any) -> Velocity:
    """Return what kind of velocity came, with its address and precision."""
    if hasattr(velocity, "program") and hasattr(velocity, "parameters"):
        return Velocity("network", velocity, dtype=np.dtype(velocity.dtype))
    if isinstance(velocity, bool):
        _wrong_velocity(function, velocity)
    if isinstance(velocity, int | np.integer):
        address = validate.integer(function, "velocity", velocity, low=1, high=2**64 - 1)
        return Velocity("address", velocity, address)
    if type(velocity).__name__ == "CFunc" and hasattr(velocity, "address"):
        dtype = _numba_precision(function, velocity)
        return Velocity("address", velocity, int(velocity.address), dtype)
    if type(velocity).__name__ == "LowLevelCallable":
        return _low_level(function, velocity)
    if isinstance(velocity, _CTYPES_FUNCTION):
        address = ctypes.cast(velocity, ctypes.c_void_p).value or 0
        return Velocity("address", velocity, address, _ctypes_precision(function, velocity))
    if hasattr(velocity, "py_func") and hasattr(velocity, "compile"):
        return Velocity("njit", velocity, writes=_writes(function, velocity))
    if not callable(velocity):
        _wrong_velocity(function, velocity)
    return Velocity("callable", velocity)


def _wrong_velocity(function: str, velocity: object) -> NoReturn:
    expectation = "be a network, an address, a compiled function or a callable"
    validate.fail(TypeError, function, "velocity", expectation, validate.describe(velocity))


def _wrong_signature(function: str, got: str) -> NoReturn:
    expectation = (
        "have the signature void(int64 n, int64 d, T* z, T* t, int64* labels, T* out, void* data) "
        "with T float or double"
    )
    validate.fail(TypeError, function, "velocity", expectation, got)


def _writes(function: str, velocity: Any) -> bool:
    count = len(inspect.signature(velocity.py_func).parameters)
    if count not in (2, 5):
        expectation = "take (z, t) or (z, t, labels, data, out) where it is an @njit function"
        validate.fail(TypeError, function, "velocity", expectation, f"{count} arguments")
    return count == 5


def _numba_precision(function: str, velocity: Any) -> npt.DTypeLike:
    signature = velocity._sig
    arguments = [str(argument) for argument in signature.args]
    for name in ("float32", "float64"):
        expected = ["int64", "int64", *[f"{name}*"] * 2, "int64*", f"{name}*", "*"]
        matches = len(arguments) == _NUM_ARGUMENTS and all(
            got.endswith("*") if want == "*" else want == got
            for want, got in zip(expected, arguments, strict=True)
        )
        if matches and str(signature.return_type) in ("none", "void"):
            return np.dtype(name)
    _wrong_signature(function, str(signature))


def _low_level(function: str, velocity: Any) -> Velocity:
    name = ctypes.pythonapi.PyCapsule_GetName
    name.restype, name.argtypes = ctypes.c_char_p, [ctypes.py_object]
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    if velocity.user_data is not None:
        expectation = "have no user_data (use `data`)"
        validate.fail(ValueError, function, "velocity", expectation, repr(velocity.user_data))
    capsule = tuple.__getitem__(velocity, 0)
    signature = name(capsule)
    text = (signature or b"").decode()
    returned, _, arguments = re.sub(r"\bconst\b|\s", "", text).partition("(")
    kinds = arguments.removesuffix(")").split(",")
    integers = ("long", "longlong", "int64_t")
    fits = (
        len(kinds) == _NUM_ARGUMENTS
        and returned == "void"
        and kinds[0] in integers
        and kinds[1] in integers
        and kinds[2] in ("float*", "double*")
        and all(kinds[i] == kinds[2] for i in _ARRAYS)
        and kinds[4].removesuffix("*") in integers
        and kinds[6].endswith("*")
    )
    if not fits:
        _wrong_signature(function, repr(text))
    dtype = np.dtype("float32" if kinds[2] == "float*" else "float64")
    return Velocity("address", velocity, int(pointer(capsule, signature) or 0), dtype)


def _ctypes_precision(function: str, velocity: Any) -> npt.DTypeLike | None:
    kinds = velocity.argtypes
    if kinds is None:
        return None
    for real, name in ((ctypes.c_float, "float32"), (ctypes.c_double, "float64")):
        fits = (
            len(kinds) == _NUM_ARGUMENTS
            and all(kinds[i] is ctypes.POINTER(real) for i in _ARRAYS)
            and kinds[0] is kinds[1] is ctypes.c_int64
            and kinds[4] is ctypes.POINTER(ctypes.c_int64)
            and issubclass(kinds[6], ctypes.c_void_p | _POINTER)
            and velocity.restype is None
        )
        if fits:
            return np.dtype(name)
    names = ", ".join(kind.__name__ for kind in kinds)
    _wrong_signature(function, f"{getattr(velocity.restype, '__name__', 'void')}({names})")
