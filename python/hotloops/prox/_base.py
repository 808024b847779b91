"""What all proximal operators share: checks, batches, arrays of any library, backends."""

from __future__ import annotations

import importlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from functools import cache
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from hotloops._runtime import arrays, dispatch, threads, validate
from hotloops._runtime.errors import BackendUnavailable
from hotloops._runtime.validate import fail
from hotloops.prox import _operations as op

__all__ = ["Call", "ElementProx", "Prox", "RowProx", "copy", "feasible", "strength"]

_PRECISION = {np.dtype(np.float32): 0, np.dtype(np.float64): 1}
# An array satisfies a constraint when it does so up to this, relative to the constraint's size.
_FEASIBLE = {"float32": 1e-4, "float64": 1e-9}
_MOST_KEPT = 8
_NO_LOOK, _WITHIN, _BEFORE = range(3)

Made = TypeVar("Made")


class Call(NamedTuple):
    """One checked call: arrays (rows, columns) or stacks of matrices, steps, and where it runs.

    Attributes
    ----------
    v, out : array
        Of the same shape; they may be the same array.
    step : float or ndarray of float64, shape (rows,)
    backend : str
    num_threads : int
    look : int
        When the first kernel is to look for NaN and infinities in `v`: not at all, since somebody
        has; while it works; before.
    """

    v: Any
    out: Any
    step: Any
    backend: str
    num_threads: int
    look: int = _NO_LOOK

    @property
    def steps(self) -> npt.NDArray[np.float64]:
        """The steps, (1,) or (rows,)."""
        return np.atleast_1d(np.asarray(self.step, np.float64))

    @property
    def xp(self) -> Any:
        """NumPy or CuPy."""
        return arrays.library_of(self.v).xp  # type: ignore[union-attr]

    def upload(self, numbers: Any) -> Any:
        """Return an array of NumPy where the kernels can read it."""
        return self.xp.asarray(numbers) if self.backend == "cuda" else numbers

    def run(self, kernel: str, *arguments: Any) -> None:
        """Run a kernel, the first one with the look for NaN and infinities."""
        function = getattr(_kernels(self.backend), kernel)
        if not self.look:
            function(*arguments, self.num_threads)
        elif not function(*arguments, self.num_threads, self.look):
            raise _NotFiniteError

    def then(self, v: Any) -> Call:
        """Return the call that goes on with `v`, in place."""
        return Call(v, v, self.step, self.backend, self.num_threads)


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
    _kernel_looks: ClassVar[bool] = False  # whether all that `_apply` does is `Call.run`

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
        native = v
        if not validate.is_plain(v) or v.ndim < self._core_axes:
            native = self._import(name, v)
        resolved = dispatch.resolve_backend(name, backend, library.device)
        threads_ = threads.num_threads_for(resolved, name, num_threads)
        wanted = validate.boolean(name, "check_finite", check_finite) and library.device == "cpu"
        look = _NO_LOOK
        if wanted and resolved == "cpp" and self._kernel_looks:
            # Memory of ours may be spoilt before the kernel meets a NaN, the caller's may not.
            look = _WITHIN if out is None else _BEFORE
        elif wanted:
            _check_finite(name, native, threads_)
        axes = native.ndim - self._core_axes
        checked_step = _check_step(name, step, native.shape[:axes])
        self._check(name, native)
        with arrays.stream_context(library):
            target = _target(name, native, out, library)
            if native.size:
                v_, out_ = _with_one_batch_axis(native, axes), _with_one_batch_axis(target, axes)
                try:
                    self._apply(Call(v_, out_, checked_step, resolved, threads_, look))
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

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        self.__dict__["_made"] = {}  # a new one: calls of other threads may still fill the old

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_made"}

    def _keep(self, call: Call, key: Hashable, make: Callable[[Call], Made]) -> Made:
        """Return what `make` makes of the parameters and the step, from calls before if known."""
        if type(call.step) is not float:
            return make(call)
        made: dict[Any, Made] = self.__dict__.setdefault("_made", {})
        found = made.get((call.step, key))
        if found is None:
            found = make(call)
            if len(made) >= _MOST_KEPT:
                made.clear()
            made[call.step, key] = found
        return found

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
    _columns: ClassVar[tuple[str, ...]] = ()  # parameters that may have a number for each element
    _kernel_looks = True

    @abstractmethod
    def _constants(self, t: Any) -> list[Any]:
        """Return the kernel's numbers from t, (1, 1) or (rows, 1); each broadcasts against it."""

    def _apply(self, call: Call) -> None:
        constants = call.upload(self._keep(call, call.v.dtype, self._table))
        call.run("elements", self._operation, call.v, call.out, constants)

    def _table(self, call: Call) -> Any:
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            numbers = self._constants(call.steps[:, None])
            shape = np.broadcast(*numbers).shape
            constants = np.empty((len(numbers), *shape), call.v.dtype)
            for target, number in zip(constants, numbers, strict=True):
                target[...] = number
        return constants

    def _check(self, name: str, v: Any) -> None:
        for parameter in self._columns:
            value = getattr(self, parameter)
            if type(value) is float:
                continue
            size = np.size(value)
            if np.ndim(value) == 1 and v.shape[-1] != size:
                expectation = f"have {size} elements in a row as `{parameter}`"
                fail(ValueError, name, "v", expectation, str(tuple(v.shape)))


class RowProx(Prox):
    """An operator of whole rows that takes one number each."""

    _operation: ClassVar[int]
    _kernel_looks = True

    @abstractmethod
    def _number(self, steps: npt.NDArray[np.float64]) -> Any:
        """Return the kernel's number from the steps, (1,) or (rows,): one, or one for each."""

    def _apply(self, call: Call) -> None:
        numbers = call.upload(self._keep(call, None, self._numbers))
        call.run("rows", self._operation, call.v, call.out, numbers)

    def _numbers(self, call: Call) -> npt.NDArray[np.float64]:
        return np.atleast_1d(np.asarray(self._number(call.steps), np.float64))

    def _check(self, name: str, v: Any) -> None:
        if v.shape[-1] == 0:
            fail(ValueError, name, "v", "have elements in its rows", str(tuple(v.shape)))


def copy(call: Call) -> None:
    """Let `v` be, as the box without bounds does."""
    call.run("elements", op.CLIP, call.v, call.out, call.upload(_no_bounds(call.v.dtype)))


@cache
def _no_bounds(dtype: Any) -> Any:
    return np.array([[[-np.inf]], [[np.inf]]], dtype)


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


@cache
def _kernels(backend: str) -> Any:
    return importlib.import_module(f"hotloops.prox._{backend}")


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


def _check_step(name: str, step: Any, batch: tuple[int, ...]) -> Any:
    if isinstance(step, float | int):
        return validate.real(name, "step", step, low=0.0, open_low=True)
    given, library = arrays.import_array(name, "step", step)
    host = given.get() if library.device == "cuda" else given
    if host.ndim == 0:
        return validate.real(name, "step", host[()], low=0.0, open_low=True)
    checked = validate.array(
        name, "step", host, shape=batch, dtype=np.float64, positive=True, empty=True
    )
    return checked.reshape(-1)


def _with_one_batch_axis(array: Any, axes: int) -> Any:
    if axes == 1:
        return array
    return (
        array.reshape((math.prod(array.shape[:axes]), *array.shape[axes:])) if axes else array[None]
    )


def _target(name: str, v: Any, out: Any, library: arrays.Library) -> Any:
    if out is None:
        return arrays.empty(v.shape, v.dtype, library)
    if not hasattr(out, "dtype"):
        fail(TypeError, name, "out", "be an array", validate.describe(out))
    native, _ = arrays.import_array(name, "out", out)
    target = validate.output(name, "out", native, shape=v.shape, dtype=v.dtype)
    if target is not v and validate.share_memory(target, v) and not _same_memory(target, v):
        validate.no_overlap(name, {"out": target}, {"v": v})
    return target


def _same_memory(first: Any, second: Any) -> bool:
    """Whether two C-contiguous arrays of one shape and type are the same elements."""
    if isinstance(first, np.ndarray):
        pair = (first.__array_interface__["data"][0], second.__array_interface__["data"][0])
    else:
        pair = (first.data.ptr, second.data.ptr)
    return bool(pair[0] == pair[1])
