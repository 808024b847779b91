"""An objective of the user's."""

from __future__ import annotations

from typing import Any

import numpy as np

from hotloops._runtime import arrays, dispatch, user_functions, validate
from hotloops._runtime.arrays import NUMPY, Library
from hotloops.simplex._objective import Float64, Objective

__all__ = ["Custom"]

_SIGNATURE = user_functions.Signature(
    "T", ("T*", "void*", "T*"), "T(T* x, void* data, T* gradient) with T float or double"
)
_EXPECTATION = "be an address, a compiled function or a callable"


class Custom(Objective):
    """Any differentiable objective, as compiled code or as a Python callable.

    Parameters
    ----------
    value_and_grad : Numba ``@cfunc``, `scipy.LowLevelCallable`, int, ``@njit`` or callable
        Addresses and compiled functions run in the C++ driver and have the signature
        ``T f(const T* x, const void* data, T* gradient)``: they write the gradient at the d weights
        and return the value. They must not need the GIL.

        An ``@njit`` function runs in the Numba driver: ``f(x, data, gradient)`` returns the value.

        A Python callable gets all chains at once, ``f(X)`` with X (C, d), and returns the pair
        (values (C,), gradients (C, d)). This is the slow path; only the step itself is compiled.
    dim : int
        Number of weights.
    data : ndarray, optional
        Handed to compiled functions: its address, or the array for ``@njit``. C-contiguous.
    dtype : {"float32", "float64"}, optional
        Precision ``T``. Default: that of the signature where there is one, else float64.

    Raises
    ------
    TypeError, ValueError
        Arguments of the wrong kind or of another precision than the signature. During a run also
        what a callable returns, where it is no such pair; its own exceptions pass through.

    Notes
    -----
    Class A over threads and splits of the work; between backends as far as your function is. A
    compiled function is called once for each chain and step, a callable once for each step. A chain
    whose gradient is not finite is frozen, which ``result.flags`` and ``result.check()`` tell; a
    value that is not finite is never the best.

    Examples
    --------
    >>> import numpy as np
    >>> from hotloops import simplex
    >>> def distance(X):
    ...     away = X - np.array([0.2, 0.3, 0.5])
    ...     return (away**2).sum(axis=1), 2 * away
    >>> result = simplex.mwu(simplex.Custom(distance, 3), step_size=0.5, num_steps=200)
    >>> result.x.round(6).tolist()
    [0.2, 0.3, 0.5]
    """

    kernel = "custom"

    def __init__(
        self, value_and_grad: Any, dim: int, data: Any = None, *, dtype: Any = None
    ) -> None:
        self._set_size("Custom", (validate.integer("Custom", "dim", dim, low=1),))
        self.kind, self._address, signed = user_functions.classify(
            "Custom", "value_and_grad", value_and_grad, _SIGNATURE, _EXPECTATION
        )
        wanted = None if dtype is None else validate.float_dtype("Custom", "dtype", dtype)
        if wanted is not None and signed is not None and wanted != signed:
            expectation = f"be {signed} as in the signature of `value_and_grad`"
            validate.fail(TypeError, "Custom", "dtype", expectation, str(wanted))
        self.dtype = wanted or signed or np.dtype(np.float64)
        self._function = value_and_grad
        self.data = _check_data(data)

    def __repr__(self) -> str:
        return f"Custom({self._function!r}, dim={self.dim})"

    def parameters(self, dtype: np.dtype[Any]) -> tuple[Any, ...]:
        """Return what the kernel takes."""
        if self.kind != "address":
            return self._function, self.data
        if dtype != self.dtype:
            expectation = f"be {self.dtype} as in the signature of the compiled function"
            validate.fail(TypeError, "Custom", "dtype", expectation, str(dtype))
        return self._address, 0 if self.data is None else self.data.ctypes.data

    def __getstate__(self) -> dict[str, Any]:
        if self.kind == "address":
            user_functions.refuse_pickling("Custom", "value_and_grad")
        return self.__dict__

    def resolve_backend(self, function: str, backend: str | None, library: Library = NUMPY) -> str:
        """Return the backend that can call this function."""
        if library.device != "cpu":
            expectation = "live in host memory, where a function of your own runs"
            validate.fail(TypeError, function, "x0", expectation, f"an array on {library.place}")
        wanted = {"address": "cpp", "njit": "numba", "callable": "callable"}[self.kind]
        if backend is not None:
            validate.choice(function, "backend", backend, dispatch.BACKENDS)
            if backend != wanted:
                expectation = {
                    "address": "be 'cpp' or None for a compiled function",
                    "njit": "be 'numba' or None for an @njit function",
                    "callable": "be None for a Python callable",
                }[self.kind]
                validate.fail(TypeError, function, "backend", expectation, repr(backend))
        return wanted

    def _own_value_and_grad(self, x: Float64) -> tuple[float, Float64]:
        backend = self.resolve_backend("value_and_grad", None)
        value, gradient = self._evaluate(x.astype(self.dtype).reshape(1, -1), backend, 1)
        return float(value[0]), gradient[0].astype(np.float64)


def _check_data(data: Any) -> Any:
    if data is None:
        return None
    imported, library = arrays.import_array("Custom", "data", data)
    if library.device != "cpu":
        validate.fail(TypeError, "Custom", "data", "live in host memory", library.place)
    return user_functions.check_data("Custom", imported)
