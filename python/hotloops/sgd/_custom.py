"""A gradient of the user's."""

from __future__ import annotations

import re
from typing import Any, Literal

import numpy as np

from hotloops._runtime import arrays, user_functions, validate
from hotloops._runtime.arrays import Library
from hotloops.sgd._problem import DIVERGENCE_LIMIT, Float64, Problem

__all__ = ["Custom"]

Kind = user_functions.Kind | Literal["cuda"]

_SIGNATURE = user_functions.Signature(
    "int32",
    ("T*", "T*", "int64", "void*", "T*"),
    "int32(T* theta, T* noise, int64 step, void* data, T* out) with T float or double",
)


class Custom(Problem):
    """Any stochastic gradient, as compiled code, CUDA source or a Python callable.

    Parameters
    ----------
    grad : int, ``@cfunc``, `scipy.LowLevelCallable`, ctypes function, ``@njit``, str or callable
        Addresses and compiled functions run in the C++ driver at native speed and have the
        signature ``int32 grad(const T* theta, const T* noise, int64 step, const void* data,
        T* out)``: they write the gradient to ``out`` and return 0; anything else stops the run.
        Compiled functions must not need the GIL.

        An ``@njit`` function runs in the Numba driver: ``grad(theta, noise, step, data, out)`` with
        arrays ``theta`` (dim,), ``noise`` (num_normals + num_uniforms,) and ``out`` (dim,).

        A string is CUDA C++ and runs in the CUDA backend. It defines ``__device__ int
        gradient(const T* theta, const T* noise, long long step, const void* data, T* out)``, or a
        function of another name that `entry` tells, with the same meaning as compiled code; ``T``
        may be a template parameter. CuPy compiles it when it is first run, for each number of
        step sizes.

        A Python callable has the same arguments for all chains at once: ``theta`` (chains, dim),
        ``noise`` (chains, num_normals + num_uniforms), ``out`` (chains, dim). It writes to ``out``
        or returns the gradients. This is the slow path: one call for each step and step size.
    dim : int
        Number of coordinates.
    data : ndarray, optional
        Handed to `grad`: compiled functions and CUDA get its address, the others the array. It must
        be C-contiguous and must not change during a run. For CUDA it lives on the device.
    num_normals, num_uniforms : int, optional
        What ``noise`` holds for each step: standard normals (default `dim`), then uniforms on
        (0, 1) (default 0). All step sizes of a chain see the same.
    dtype : {"float32", "float64"}, optional
        Precision ``T``. Default: that of the signature where `grad` has one, else float64.
    minimizer, hessian, noise_covariance : array_like, optional
        ``t*`` (dim,), and ``H`` and ``S`` (dim, dim) at ``t*``, for the methods of these names.
    divergence_limit : float
        A chain with a coordinate beyond it is flagged and frozen. Default 1e6.
    entry : str, optional
        Name of the gradient in CUDA source. Default ``"gradient"``.

    Raises
    ------
    TypeError, ValueError
        Something that cannot be called, a signature of another kind, `data` on another device than
        `grad` runs on, an `entry` that is no name. CUDA source that does not compile is a
        ValueError of `run`, with the compiler's messages.

    Notes
    -----
    Class A as far as `grad` is. An ``@njit`` function is compiled on first use.

    In CUDA one thread works on one chain, and ``theta`` and ``out`` are memory of that thread:
    meant for up to some hundreds of coordinates. The source is compiled with products and sums
    rounded apart, and it may call the functions of ``hotloops/core/math.hpp``, so that its bits can
    be those of the same code on the CPU.

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
        entry: str | None = None,
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
        self._entry = _check_entry(entry, grad)
        wanted = None if dtype is None else validate.float_dtype("Custom", "dtype", dtype)
        if wanted is not None and signature_dtype is not None and wanted != signature_dtype:
            expectation = f"be {signature_dtype} as in the signature of `grad`"
            validate.fail(TypeError, "Custom", "dtype", expectation, str(wanted))
        self.dtype = wanted or signature_dtype or np.dtype(np.float64)
        self.library = Library("cupy", "cuda") if self.kind == "cuda" else None
        self.data, library = _check_data(data, self.kind)
        self.library = library or self.library
        self._known = {
            "minimizer": _known("minimizer", minimizer, (size,)),
            "hessian": _known("hessian", hessian, (size, size)),
            "noise_covariance": _known("noise_covariance", noise_covariance, (size, size)),
        }

    def __repr__(self) -> str:
        name = f"CUDA source of {self._entry}" if self.kind == "cuda" else repr(self._grad)
        return f"Custom({name}, dim={self.dim})"

    def parameters(self, dtype: np.dtype[Any], xp: Any) -> tuple[Any, ...]:
        if self.kind == "address":
            data = 0 if self.data is None else self.data.ctypes.data
            return self._address, data, self.num_normals, self.num_uniforms
        if self.kind == "cuda":
            return self._grad, self._entry, self.data, self.num_normals, self.num_uniforms
        return self._grad, self.data, self.num_normals, self.num_uniforms

    def inputs(self) -> dict[str, Any]:
        return {} if self.data is None else {"data": self.data}

    def __getstate__(self) -> dict[str, Any]:
        if self.kind == "address":
            user_functions.refuse_pickling("Custom", "grad")
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
    if isinstance(grad, str):
        return "cuda", 0, None
    expectation = "be an address, a compiled function, CUDA source or a callable"
    return user_functions.classify("Custom", "grad", grad, _SIGNATURE, expectation)


def _check_entry(entry: object, grad: object) -> str:
    """Return the name of the gradient in CUDA source, "" for any other kind of gradient."""
    if not isinstance(grad, str):
        if entry is not None:
            expectation = "be None unless `grad` is CUDA source"
            validate.fail(ValueError, "Custom", "entry", expectation, repr(entry))
        return ""
    name = "gradient" if entry is None else entry
    if not isinstance(name, str):
        validate.fail(TypeError, "Custom", "entry", "be a name", validate.describe(entry))
    if not (name.isascii() and name.isidentifier()):
        validate.fail(ValueError, "Custom", "entry", "be a name", repr(entry))
    if re.search(rf"\b{name}\b", grad) is None:
        expectation = f"define a function `{name}` where it is CUDA source"
        validate.fail(ValueError, "Custom", "grad", expectation, validate.describe(grad))
    return name


def _check_data(data: Any, kind: Kind) -> tuple[Any, Library | None]:
    """Return the array for the kernel and, on a GPU, the library that it came from."""
    if data is None:
        return None, None
    imported, library = arrays.import_array("Custom", "data", data)
    device, place = ("cuda", "on a CUDA device") if kind == "cuda" else ("cpu", "in host memory")
    if library.device != device:
        validate.fail(TypeError, "Custom", "data", f"live {place}", library.place)
    user_functions.check_data("Custom", imported)
    return imported, library if device == "cuda" else None


def _known(name: str, value: Any, shape: tuple[int, ...]) -> Float64 | None:
    if value is None:
        return None
    host, _ = arrays.import_array("Custom", name, value)
    checked: Float64 = validate.array(
        "Custom", name, host, shape=shape, dtype=np.float64, copy=True
    )
    return checked
