"""A gradient of the user's."""

from __future__ import annotations

import ctypes
import re
from typing import Any, Literal, NoReturn

import numpy as np

from hotloops._runtime import arrays, validate
from hotloops.sgd._problem import DIVERGENCE_LIMIT, Float64, Problem

__all__ = ["Custom"]

Kind = Literal["address", "njit", "callable"]

_CTYPES_FUNCTION: Any = ctypes.CFUNCTYPE(None).__mro__[1]  # the common base of all C functions
_POINTER: Any = ctypes.POINTER(ctypes.c_char).__mro__[1]  # and of all typed pointers


class Custom(Problem):
    """Any stochastic gradient, as compiled code or as a Python callable.

    Parameters
    ----------
    grad : int, Numba ``@cfunc``, `scipy.LowLevelCallable`, ctypes function, ``@njit`` or callable
        Addresses and compiled functions run in the C++ driver at native speed and have the
        signature ``int32 grad(const T* theta, const T* noise, int64 step, const void* data,
        T* out)``: they write the gradient to ``out`` and return 0; anything else stops the run.
        Compiled functions must not need the GIL.

        An ``@njit`` function runs in the Numba driver: ``grad(theta, noise, step, data, out)`` with
        arrays ``theta`` (dim,), ``noise`` (num_normals + num_uniforms,) and ``out`` (dim,).

        A Python callable has the same arguments for all chains at once: ``theta`` (chains, dim),
        ``noise`` (chains, num_normals + num_uniforms), ``out`` (chains, dim). It writes to ``out``
        or returns the gradients. This is the slow path: one call for each step and step size.
    dim : int
        Number of coordinates.
    data : ndarray, optional
        Handed to `grad`: compiled functions get its address, the others the array. It must be
        C-contiguous and must not change during a run.
    num_normals, num_uniforms : int, optional
        What ``noise`` holds for each step: standard normals (default `dim`), then uniforms on
        (0, 1) (default 0). All step sizes of a chain see the same.
    dtype : {"float32", "float64"}, optional
        Precision ``T``. Default: that of the signature where `grad` has one, else float64.
    minimizer, hessian, noise_covariance : array_like, optional
        ``t*`` (dim,), and ``H`` and ``S`` (dim, dim) at ``t*``, for the methods of these names.
    divergence_limit : float
        A chain with a coordinate beyond it is flagged and frozen. Default 1e6.

    Raises
    ------
    TypeError, ValueError
        Something that cannot be called, or a signature of another kind.

    Notes
    -----
    Class A as far as `grad` is. An ``@njit`` function is compiled on first use.

    Examples
    --------
    >>> from hotloops import sgd
    >>> def grad(theta, noise, step, data, out):
    ...     out[...] = theta - 1.0 + noise
    >>> problem = sgd.Custom(grad, dim=2, minimizer=[1.0, 1.0])
    >>> run = sgd.run(problem, 0.1, num_steps=100, num_chains=4, seed=1)
    >>> run.mean.shape
    (4, 1, 2)
    """

    kernel = "custom"

    def __init__(
        self,
        grad: Any,
        dim: int,
        data: Any = None,
        *,
        num_normals: int | None = None,
        num_uniforms: int = 0,
        dtype: Any = None,
        minimizer: Any = None,
        hessian: Any = None,
        noise_covariance: Any = None,
        divergence_limit: float = DIVERGENCE_LIMIT,
    ) -> None:
        size = validate.integer("Custom", "dim", dim, low=1)
        self._set_size("Custom", size, divergence_limit)
        normals = size if num_normals is None else num_normals
        limit = 2**31
        self.num_normals = validate.integer("Custom", "num_normals", normals, low=0, high=limit)
        self.num_uniforms = validate.integer(
            "Custom", "num_uniforms", num_uniforms, low=0, high=limit
        )
        self.kind, self._address, signature_dtype = _classify(grad)
        self._grad = grad
        wanted = None if dtype is None else validate.float_dtype("Custom", "dtype", dtype)
        if wanted is not None and signature_dtype is not None and wanted != signature_dtype:
            expectation = f"be {signature_dtype} as in the signature of `grad`"
            validate.fail(TypeError, "Custom", "dtype", expectation, str(wanted))
        self.dtype = wanted or signature_dtype or np.dtype(np.float64)
        self.library = None
        self.data = _check_data(data)
        self._known = {
            "minimizer": _known("minimizer", minimizer, (size,)),
            "hessian": _known("hessian", hessian, (size, size)),
            "noise_covariance": _known("noise_covariance", noise_covariance, (size, size)),
        }

    def __repr__(self) -> str:
        return f"Custom({self._grad!r}, dim={self.dim})"

    def parameters(self, dtype: np.dtype[Any], xp: Any) -> tuple[Any, ...]:
        if self.kind == "address":
            data = 0 if self.data is None else self.data.ctypes.data
            return self._address, data, self.num_normals, self.num_uniforms
        return self._grad, self.data, self.num_normals, self.num_uniforms

    def inputs(self) -> dict[str, Any]:
        return {} if self.data is None else {"data": self.data}

    def __getstate__(self) -> dict[str, Any]:
        if self.kind == "address":
            raise TypeError(
                "Custom: a compiled `grad` cannot be sent to another process, where its address "
                "means something else; use an @njit function or a module-level callable"
            )
        return self.__dict__

    def _minimizer(self) -> Float64:
        return self._look_up("minimizer")

    def _hessian(self) -> Float64:
        return self._look_up("hessian")

    def _noise_covariance(self) -> Float64:
        return self._look_up("noise_covariance")

    def _look_up(self, name: str) -> Float64:
        value = self._known[name]
        if value is None:
            raise ValueError(f"Custom: `{name}` is not known; pass {name}= to Custom")
        return value


def _classify(grad: Any) -> tuple[Kind, int, np.dtype[Any] | None]:
    """Return the kind of a gradient, its address, and the precision that its signature tells."""
    if isinstance(grad, bool):
        _wrong_gradient(grad)
    if isinstance(grad, int | np.integer):
        return "address", validate.integer("Custom", "grad", grad, low=1, high=2**64 - 1), None
    if type(grad).__name__ == "CFunc" and hasattr(grad, "address"):
        return "address", int(grad.address), _numba_precision(grad)
    if type(grad).__name__ == "LowLevelCallable":
        return _low_level(grad)
    if isinstance(grad, _CTYPES_FUNCTION):
        address = ctypes.cast(grad, ctypes.c_void_p).value or 0
        return "address", address, _ctypes_precision(grad)
    if hasattr(grad, "py_func") and hasattr(grad, "compile"):
        return "njit", 0, None
    if not callable(grad):
        _wrong_gradient(grad)
    return "callable", 0, None


def _wrong_gradient(grad: object) -> NoReturn:
    expectation = "be an address, a compiled function or a callable"
    validate.fail(TypeError, "Custom", "grad", expectation, validate.describe(grad))


def _wrong_signature(got: str) -> NoReturn:
    expectation = (
        "have the signature int32(T* theta, T* noise, int64 step, void* data, T* out) "
        "with T float or double"
    )
    validate.fail(TypeError, "Custom", "grad", expectation, got)


def _numba_precision(grad: Any) -> np.dtype[Any]:
    signature = grad._sig
    arguments = [str(argument) for argument in signature.args]
    for name in ("float32", "float64"):
        pointer = f"{name}*"
        expected = [pointer, pointer, "int64", None, pointer]
        matches = len(arguments) == 5 and all(
            want is None or want == got for want, got in zip(expected, arguments, strict=True)
        )
        if matches and arguments[3].endswith("*") and str(signature.return_type) == "int32":
            return np.dtype(name)
    _wrong_signature(str(signature))


def _low_level(grad: Any) -> tuple[Kind, int, np.dtype[Any]]:
    name = ctypes.pythonapi.PyCapsule_GetName
    name.restype, name.argtypes = ctypes.c_char_p, [ctypes.py_object]
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    if grad.user_data is not None:
        expectation = "have no user_data (pass `data` to Custom)"
        validate.fail(ValueError, "Custom", "grad", expectation, repr(grad.user_data))
    capsule = tuple.__getitem__(grad, 0)
    signature = name(capsule)
    text = (signature or b"").decode()
    returned, _, arguments = re.sub(r"\bconst\b|\s", "", text).partition("(")
    kinds = arguments.removesuffix(")").split(",")
    precision = {"float*": "float32", "double*": "float64"}.get(kinds[0])
    fits = (
        len(kinds) == 5
        and kinds[0] == kinds[1] == kinds[4]
        and kinds[2] in ("long", "longlong", "int64_t")
        and kinds[3].endswith("*")
        and returned in ("int", "int32_t")
    )
    if precision is None or not fits:
        _wrong_signature(repr(text))
    return "address", int(pointer(capsule, signature) or 0), np.dtype(precision)


def _ctypes_precision(grad: Any) -> np.dtype[Any] | None:
    arguments = grad.argtypes
    if arguments is None:
        return None
    for kind, name in ((ctypes.c_float, "float32"), (ctypes.c_double, "float64")):
        pointer = ctypes.POINTER(kind)
        fits = (
            len(arguments) == 5
            and all(arguments[i] is pointer for i in (0, 1, 4))
            and arguments[2] is ctypes.c_int64
            and issubclass(arguments[3], ctypes.c_void_p | _POINTER)
            and grad.restype is ctypes.c_int32
        )
        if fits:
            return np.dtype(name)
    names = ", ".join(kind.__name__ for kind in arguments)
    _wrong_signature(f"{getattr(grad.restype, '__name__', None)}({names})")


def _check_data(data: Any) -> Any:
    if data is None:
        return None
    imported, library = arrays.import_array("Custom", "data", data)
    if library.device != "cpu":
        validate.fail(TypeError, "Custom", "data", "live in host memory", library.place)
    if imported.dtype.hasobject:
        validate.fail(TypeError, "Custom", "data", "hold numbers", f"dtype {imported.dtype}")
    if not imported.flags.c_contiguous:
        validate.fail(ValueError, "Custom", "data", "be C-contiguous", f"{imported.strides=}")
    return imported


def _known(name: str, value: Any, shape: tuple[int, ...]) -> Float64 | None:
    if value is None:
        return None
    host, _ = arrays.import_array("Custom", name, value)
    checked: Float64 = validate.array(
        "Custom", name, host, shape=shape, dtype=np.float64, copy=True
    )
    return checked
