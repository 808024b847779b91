"""Functions of the user's: of which kind one is, and whether a kernel can call it."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from hotloops._runtime import validate
from hotloops._runtime.validate import fail

__all__ = ["Kind", "Signature", "check_data", "classify", "refuse_pickling"]

Kind = Literal["address", "njit", "callable"]

_CTYPES_FUNCTION: Any = ctypes.CFUNCTYPE(None).__mro__[1]  # the common base of all C functions
_POINTER: Any = ctypes.POINTER(ctypes.c_char).__mro__[1]  # and of all typed pointers
_PRECISIONS = ("float32", "float64")
_C_NAMES = {
    "float": "float32",
    "double": "float64",
    "float*": "float32*",
    "double*": "float64*",
    "int": "int32",
    "int32_t": "int32",
    "long": "int64",
    "longlong": "int64",
    "int64_t": "int64",
}
_CTYPES_NAMES: dict[Any, str] = {
    ctypes.c_float: "float32",
    ctypes.c_double: "float64",
    ctypes.c_int32: "int32",
    ctypes.c_int64: "int64",
    ctypes.POINTER(ctypes.c_float): "float32*",
    ctypes.POINTER(ctypes.c_double): "float64*",
}


@dataclass(frozen=True)
class Signature:
    """What compiled functions must look like.

    Attributes
    ----------
    returned : str
    arguments : tuple of str
        "T" for the precision, "T*" for a pointer to it, "void*" for any pointer, "int32", "int64".
    text : str
        The same in words, for the message.
    """

    returned: str
    arguments: tuple[str, ...]
    text: str

    def precision(self, returned: str, arguments: Sequence[str]) -> np.dtype[Any] | None:
        """Return what T is if these types fit, else None."""
        wanted = (self.returned, *self.arguments)
        given = (returned, *arguments)
        for name in _PRECISIONS:
            if len(given) == len(wanted) and all(map(_fits, given, wanted, [name] * len(given))):
                return np.dtype(name)
        return None


def classify(
    function: str, argument: str, value: Any, signature: Signature, expectation: str
) -> tuple[Kind, int, np.dtype[Any] | None]:
    """Return the kind of a function, its address, and the precision that its signature tells.

    Parameters
    ----------
    function, argument : str
        For the messages.
    value : object
        An address, a Numba ``@cfunc``, a `scipy.LowLevelCallable`, a ctypes function, an ``@njit``
        function or any callable.
    signature : Signature
        Of compiled functions; an address has none that could be checked.
    expectation : str
        What anything else is told to be.
    """
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        number = validate.integer(function, argument, value, low=1, high=2**64 - 1)
        return "address", number, None
    if type(value).__name__ == "CFunc" and hasattr(value, "address"):
        address, types = int(value.address), _numba_types(value)
    elif type(value).__name__ == "LowLevelCallable":
        address, types = _low_level(function, argument, value)
    elif isinstance(value, _CTYPES_FUNCTION):
        address = ctypes.cast(value, ctypes.c_void_p).value or 0
        if value.argtypes is None:
            return "address", address, None
        types = _ctypes_types(value)
    elif hasattr(value, "py_func") and hasattr(value, "compile"):
        return "njit", 0, None
    elif not callable(value):
        fail(TypeError, function, argument, expectation, validate.describe(value))
    else:
        return "callable", 0, None
    returned, arguments, text = types
    precision = signature.precision(returned, arguments)
    if precision is None:
        fail(TypeError, function, argument, f"have the signature {signature.text}", text)
    return "address", address, precision


def check_data(function: str, imported: Any) -> Any:
    """Check an array that a function gets the address of."""
    if imported.dtype.hasobject:
        fail(TypeError, function, "data", "hold numbers", f"dtype {imported.dtype}")
    if not imported.flags.c_contiguous:
        fail(ValueError, function, "data", "be C-contiguous", f"{imported.strides=}")
    return imported


def refuse_pickling(function: str, argument: str) -> None:
    """Say why a compiled function stays in its process."""
    raise TypeError(
        f"{function}: a compiled `{argument}` cannot be sent to another process, where its address "
        "means something else; use an @njit function or a module-level callable"
    )


def _fits(given: str, wanted: str, precision: str) -> bool:
    if wanted == "void*":
        return given.endswith("*")
    return given == wanted.replace("T", precision)


def _numba_types(value: Any) -> tuple[str, list[str], str]:
    signature = value._sig
    return str(signature.return_type), [str(kind) for kind in signature.args], str(signature)


def _low_level(function: str, argument: str, value: Any) -> tuple[int, tuple[str, list[str], str]]:
    name = ctypes.pythonapi.PyCapsule_GetName
    name.restype, name.argtypes = ctypes.c_char_p, [ctypes.py_object]
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    if value.user_data is not None:
        expectation = f"have no user_data (pass `data` to {function})"
        fail(ValueError, function, argument, expectation, repr(value.user_data))
    capsule = tuple.__getitem__(value, 0)
    signature = name(capsule)
    text = (signature or b"").decode()
    returned, _, arguments = re.sub(r"\bconst\b|\s", "", text).partition("(")
    kinds = arguments.removesuffix(")").split(",")
    types = _C_NAMES.get(returned, returned), [_C_NAMES.get(kind, kind) for kind in kinds]
    return int(pointer(capsule, signature) or 0), (*types, repr(text))


def _ctypes_types(value: Any) -> tuple[str, list[str], str]:
    names = ", ".join(kind.__name__ for kind in value.argtypes)
    text = f"{getattr(value.restype, '__name__', None)}({names})"
    arguments = [_ctypes_name(kind) for kind in value.argtypes]
    return _CTYPES_NAMES.get(value.restype, ""), arguments, text


def _ctypes_name(kind: Any) -> str:
    if kind not in _CTYPES_NAMES and issubclass(kind, ctypes.c_void_p | _POINTER):
        return "void*"
    return _CTYPES_NAMES.get(kind, str(kind.__name__))
