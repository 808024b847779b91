"""What all proximal operators share: checks, batches, arrays of any library, backends."""

from __future__ import annotations

import importlib
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from hotloops._runtime import arrays, dispatch, threads, validate
from hotloops._runtime.errors import BackendUnavailable
from hotloops._runtime.validate import fail

__all__ = ["Call", "ElementProx", "Prox", "RowProx", "strength"]

_PRECISION = {np.dtype(np.float32): 0, np.dtype(np.float64): 1}
# An array satisfies a constraint when it does so up to this, relative to the constraint's size.
_FEASIBLE = {"float32": 1e-4, "float64": 1e-9}


@dataclass(frozen=True)
class Call:
    """One checked call: arrays (rows, columns) or stacks of matrices, steps, and where it runs.

    Attributes
    ----------
    v, out : array
        Of the same shape; they may be the same array.
    steps : ndarray of float64, shape (1,) or (rows,)
    backend : str
    num_threads : int
    checks : bool
        Whether nobody has looked for NaN and infinities in `v`, and the kernel must.
    """

    v: Any
    out: Any
    steps: npt.NDArray[np.float64]
    backend: str
    num_threads: int
    checks: bool = False

    @property
    def kernels(self) -> Any:
        """The module of this backend's kernels."""
        return importlib.import_module(f"hotloops.prox._{self.backend}")

    @property
    def xp(self) -> Any:
        """NumPy or CuPy."""
        return arrays.library_of(self.v).xp  # type: ignore[union-attr]

    def run(self, kernel: str, *arguments: Any) -> None:
        """Run a kernel that can look for NaN and infinities by itself."""
        function = getattr(self.kernels, kernel)
        if not self.checks:
            function(*arguments, self.num_threads)
        elif not function(*arguments, self.num_threads, checks=True):
            raise _NotFiniteError


class _NotFiniteError(Exception):
    """A kernel met a NaN or an infinity."""


class Prox(ABC):
    """A function r with a proximal operator that is known in closed form or found exactly.

    Calling it returns ``argmin_x r(x) + ||x - v||^2 / (2 step)`` for every row (or matrix) of `v`.
    The class is abstract; where solvers take a regularizer, an operator of one's own needs no base
    class, only ``r(v, step, out=None)`` and ``r.value(v)``.

    Attributes
    ----------
    convex : bool
        Whether r is convex. Operators of functions that are not convex return a global minimiser,
        of two equally good ones that with the smaller magnitude; they are not nonexpansive.
    """

    convex: ClassVar[bool] = True
    _names: ClassVar[tuple[str, ...]] = ()
    _core_axes: ClassVar[int] = 1  # 2 for functions of matrices
    _kernel_checks: ClassVar[bool] = False  # whether `_apply` ends in `Call.run`

    def __call__(
        self,
        v: Any,
        step: Any = 1.0,
        out: Any = None,
        *,
        check_finite: bool = True,
        backend: str | None = None,
        num_threads: int | None = None,
    ) -> Any:
        """Apply the operator to every row of `v`.

        Parameters
        ----------
        v : array of float32 or float64, shape (..., n), or (..., rows, columns) for matrices
            Of NumPy, CuPy, PyTorch or JAX; leading axes are a batch.
        step : float or array of shape (...)
            Above zero; one for all rows, or one each.
        out : array, optional
            Memory for the answer, of the shape and type of `v`; it may be `v` itself.
        check_finite : bool
            Refuse NaN and infinities in host arrays; default True. Where `out` is given, `v` is
            read once more for it, before anything is written: worth turning off for large arrays
            that are known to be finite. Without it NaN spoils no more than its own row, and an
            infinity goes where arithmetic leads. On a GPU nobody looks: it would have to be waited
            for.
        backend : {"cpp", "cuda", "numba"}, optional
            Default: "cuda" for arrays on a GPU, else "cpp".
        num_threads : int, optional
            Default `hotloops.get_num_threads`; never changes the result.

        Returns
        -------
        array
            Of the library of `v`; `out` itself where it was given.

        Raises
        ------
        TypeError, ValueError
            Arguments of the wrong type, shape or range; NaN or infinities in `v`, see
            `check_finite`.
        """
        name = type(self).__name__
        library = arrays.common_library(name, {"v": v, "out": out})
        native = self._import(name, v)
        threads_ = threads.resolve_num_threads(name, num_threads)
        resolved = dispatch.resolve_backend(name, backend, library.device)
        wanted = validate.boolean(name, "check_finite", check_finite) and library.device == "cpu"
        # Memory of ours may be spoilt before the kernel meets a NaN, memory of the caller's not.
        within = wanted and out is None and resolved == "cpp" and self._kernel_checks
        if wanted and not within:
            _check_finite(name, native, threads_)
        batch = tuple(native.shape[: native.ndim - self._core_axes])
        steps = _check_step(name, step, batch)
        self._check(name, native)
        with arrays.stream_context(library):
            target = _target(name, native, out, library)
            core = native.shape[native.ndim - self._core_axes :]
            shape = (math.prod(batch), *core)
            call = Call(
                native.reshape(shape), target.reshape(shape), steps, resolved, threads_, within
            )
            if native.size:
                try:
                    self._apply(call)
                except _NotFiniteError:
                    validate.array(name, "v", native)  # says where
            return out if out is not None else arrays.export_array(target, library)

    def value(self, v: Any) -> Any:
        """Return r of every row of `v`.

        Parameters
        ----------
        v : array, shape (..., n), or (..., rows, columns) for matrices

        Returns
        -------
        float or array of shape (...)
            A number for a single row. Constraints have the value 0 where they hold up to rounding,
            else infinity.
        """
        name = type(self).__name__
        library = arrays.common_library(name, {"v": v})
        native = self._import(name, v)
        self._check(name, native)
        with arrays.stream_context(library):
            result = self._value(native.astype(np.float64, copy=False), library.xp)
            if result.ndim == 0:
                return float(result)
            return arrays.export_array(library.xp.ascontiguousarray(result), library)

    def conjugate(self, v: Any, step: float = 1.0, **keywords: Any) -> Any:
        """Apply the operator of the convex conjugate, by Moreau's identity.

        Parameters
        ----------
        v : array, shape (..., n)
            As in a call.
        step : float
            As in a call; a number only.
        **keywords
            ``backend`` and ``num_threads`` of a call.

        Returns
        -------
        array
            ``v - step prox_{r / step}(v / step)``.

        Raises
        ------
        ValueError
            This function is not convex.
        """
        name = type(self).__name__
        if not self.convex:
            raise ValueError(f"{name}: `conjugate` must be of a convex function, got {self!r}")
        size = validate.real(name, "step", step, low=0.0, open_low=True)
        return v - size * self(v / size, 1.0 / size, **keywords)

    def __repr__(self) -> str:
        parameters = ", ".join(f"{name}={getattr(self, name)!r}" for name in self._names)
        return f"{type(self).__name__}({parameters})"

    def _import(self, name: str, v: Any) -> Any:
        given, _ = arrays.import_array(name, "v", v)
        checked = validate.array(name, "v", given, finite=False, empty=True)
        if checked.ndim < self._core_axes:
            least = f"have at least {self._core_axes} dimension{'s'[: self._core_axes - 1]}"
            fail(ValueError, name, "v", least, str(tuple(checked.shape)))
        return checked

    def _check(self, name: str, v: Any) -> None:  # noqa: B027 - many take rows of any length
        """Check the last axes of `v` against the parameters."""

    @abstractmethod
    def _apply(self, call: Call) -> None:
        """Write the operator of every row of ``call.v`` to ``call.out``."""

    @abstractmethod
    def _value(self, v: Any, xp: Any) -> Any:
        """Return r of every row of `v`, an array of float64 of the library `xp`."""


class ElementProx(Prox):
    """An operator that acts on every element alone."""

    _operation: ClassVar[int]
    _kernel_checks = True

    @abstractmethod
    def _constants(self, t: Any) -> list[Any]:
        """Return the kernel's numbers from t, (1, 1) or (rows, 1); each broadcasts against it."""

    def _apply(self, call: Call) -> None:
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            numbers = self._constants(call.steps[:, None])
            shape = np.broadcast(*numbers).shape
            constants = np.empty((len(numbers), *shape), call.v.dtype)
            for target, number in zip(constants, numbers, strict=True):
                target[...] = number
        device = call.xp.asarray(constants)
        call.run("elements", self._operation, call.v, call.out, device)

    def _check_columns(self, name: str, v: Any, **parameters: Any) -> None:
        """Check that array parameters have the length of a row."""
        for parameter, value in parameters.items():
            size = np.size(value)
            if np.ndim(value) == 1 and v.shape[-1] != size:
                expectation = f"have {size} elements in a row as `{parameter}`"
                fail(ValueError, name, "v", expectation, str(tuple(v.shape)))


class RowProx(Prox):
    """An operator of whole rows that takes one number each."""

    _operation: ClassVar[int]

    @abstractmethod
    def _number(self, steps: npt.NDArray[np.float64]) -> Any:
        """Return the kernel's number from the steps, (1,) or (rows,): one, or one for each."""

    def _apply(self, call: Call) -> None:
        numbers = call.xp.asarray(np.atleast_1d(np.asarray(self._number(call.steps), np.float64)))
        call.kernels.rows(self._operation, call.v, call.out, numbers, call.num_threads)

    def _check(self, name: str, v: Any) -> None:
        if v.shape[-1] == 0:
            fail(ValueError, name, "v", "have elements in its rows", str(tuple(v.shape)))


def strength(function: str, argument: str, value: Any, *, positive: bool = False) -> Any:
    """Check a weight: a number or one for each element of a row, none negative."""
    if np.ndim(value) == 0:
        return validate.real(function, argument, value, low=0.0, open_low=positive)
    array = validate.array(function, argument, value, ndim=1, dtype=np.float64, copy=True)
    low = array <= 0 if positive else array < 0
    if low.any():
        index = int(low.argmax())
        expectation = "hold positive numbers" if positive else "hold no negative numbers"
        fail(ValueError, function, argument, expectation, f"{array[index]} at index {index}")
    array.setflags(write=False)
    return array


def feasible(violation: Any, size: Any, dtype: Any, xp: Any) -> Any:
    """Return 0 where a violation is rounding, compared with `size`, else infinity."""
    allowed = _FEASIBLE[str(dtype)] * xp.maximum(1.0, xp.abs(size))
    return xp.where(violation <= allowed, 0.0, np.inf)


def _check_finite(name: str, v: Any, num_threads: int) -> None:
    try:
        core = dispatch.core()
    except BackendUnavailable:
        finite = bool(np.isfinite(v).all())
    else:
        address = np.array([v.ctypes.data], np.uint64)
        size = np.array([v.size], np.int64)
        finite = core.all_finite(address, size, _PRECISION[v.dtype], num_threads)
    if not finite:
        validate.array(name, "v", v)  # says where


def _check_step(name: str, step: Any, batch: tuple[int, ...]) -> npt.NDArray[np.float64]:
    if isinstance(step, int | float):
        return np.array([validate.real(name, "step", step, low=0.0, open_low=True)])
    given, library = arrays.import_array(name, "step", step)
    host = given.get() if library.device == "cuda" else given
    if host.ndim == 0:
        return np.array([validate.real(name, "step", host[()], low=0.0, open_low=True)])
    checked: npt.NDArray[np.float64] = validate.array(
        name, "step", host, shape=batch, dtype=np.float64, positive=True, empty=True
    )
    return checked.reshape(-1)


def _target(name: str, v: Any, out: Any, library: arrays.Library) -> Any:
    if out is None:
        return arrays.empty(tuple(v.shape), v.dtype, library)
    if not hasattr(out, "dtype"):
        fail(TypeError, name, "out", "be an array", validate.describe(out))
    native, _ = arrays.import_array(name, "out", out)
    target = validate.output(name, "out", native, shape=tuple(v.shape), dtype=v.dtype)
    if not _same_memory(target, v):
        validate.no_overlap(name, {"out": target}, {"v": v})
    return target


def _same_memory(first: Any, second: Any) -> bool:
    """Whether two C-contiguous arrays of one shape and type are the same elements."""
    if isinstance(first, np.ndarray):
        pair = (first.__array_interface__["data"][0], second.__array_interface__["data"][0])
    else:
        pair = (first.data.ptr, second.data.ptr)
    return bool(pair[0] == pair[1])
