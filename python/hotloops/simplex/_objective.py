"""What every objective on a product of simplices offers."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hotloops._runtime import arrays as array_layer
from hotloops._runtime import dispatch, threads, validate
from hotloops._runtime.arrays import NUMPY, Library
from hotloops.simplex._polytope import Polytope
from hotloops.simplex._state import ChainArrays, StepOptions, Steps
from hotloops.simplex._terms import Terms, check_terms

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = [
    "Float64",
    "Objective",
    "backend_for",
    "handed_back",
    "host_array",
    "placed_array",
]

Float64 = npt.NDArray[np.float64]

_MAX_DIM = 2**31 - 1  # indices have 32 bits
_PENALTY = 10.0  # slopes of the middle: a weight then exceeds its bound by a twentieth, at most


def placed_array(function: str, argument: str, value: Any, **checks: Any) -> tuple[Any, Library]:
    """Check an array of any library, and return it where it lives, with that library."""
    imported, library = array_layer.import_array(function, argument, value)
    return validate.array(function, argument, imported, **checks), library


def host_array(function: str, argument: str, value: Any, **checks: Any) -> tuple[Any, Library]:
    """Check an array of any library, and return it in host memory, with that library."""
    checked, library = placed_array(function, argument, value, **checks)
    return (checked.get() if library.device == "cuda" else checked), library


def handed_back(array: Any, library: Library) -> Any:
    """Return an answer in the caller's library, on its device."""
    with array_layer.stream_context(library):
        if library.device == "cuda" and isinstance(array, np.ndarray):
            array = library.xp.asarray(array)
        return array_layer.export_array(array, library)


def backend_for(function: str, backend: str | None, library: Library) -> str:
    """Return the backend: "cuda" for CUDA arrays, or where it is asked for."""
    asked = dispatch.asked_backend(function, backend)
    device = "cuda" if asked == "cuda" else library.device
    return dispatch.resolve_backend(function, backend, device)


class Objective(ABC):
    """A smooth function of weights to minimise.

    Attributes
    ----------
    dim : int
        Number of weights d, over all simplices.
    sizes : tuple of int
        Entries of each simplex that the weights belong to, unless ``sizes=`` says otherwise.
    names : tuple of str or None
        Names of the weights, where they have some.
    is_convex : bool
        Whether the objective is known to be convex; False where it is not, or not known.
    """

    kernel: str
    dim: int
    sizes: tuple[int, ...]
    dtype: np.dtype[Any] | None = None
    library: Library | None = None
    terms: Terms | None = None
    names: tuple[str, ...] | None = None

    @property
    def is_convex(self) -> bool:
        """Whether the objective is known to be convex."""
        bent = self.terms is not None and min(self.terms.ridge, self.terms.entropy) < 0.0
        return self._own_convexity() and not bent

    @property
    def has_entropy(self) -> bool:
        """Whether an entropy keeps the minima away from the faces."""
        return self.terms is not None and self.terms.entropy > 0.0

    def _own_convexity(self) -> bool:
        return False

    def _set_size(self, function: str, sizes: tuple[int, ...]) -> None:
        total = sum(sizes)
        if total > _MAX_DIM:
            raise OverflowError(f"{function}: the number of weights must stay below 2**31")
        self.sizes = sizes
        self.dim = total

    @abstractmethod
    def parameters(self, dtype: np.dtype[Any]) -> tuple[Any, ...]:
        """Return what the kernel takes, in precision `dtype`."""

    @abstractmethod
    def _own_value_and_grad(self, x: Float64) -> tuple[float, Float64]: ...

    def _own_hessian(self, x: Float64) -> Float64 | None:
        return None

    def precise_value_and_grad(self, x: Float64) -> tuple[float, Float64]:
        """Return value and gradient at one point, computed with NumPy in float64."""
        value, gradient = self._own_value_and_grad(x)
        if self.terms is not None:
            more, slope = self.terms.value_and_grad(x)
            return value + more, gradient + slope
        return value, gradient

    def precise_hessian(self, x: Float64) -> Float64 | None:
        """Return the second derivatives at one point, in float64, or None."""
        matrix = self._own_hessian(x)
        if matrix is None or self.terms is None:
            return matrix
        return matrix + self.terms.hessian(x)

    def hessian(self, x: Any) -> Float64 | None:
        """Return the second derivatives at one point, or None where they are not known.

        Parameters
        ----------
        x : array_like, shape (d,)
            The weights.

        Returns
        -------
        ndarray, shape (d, d), float64, or None
        """
        point, _ = host_array("hessian", "x", x, shape=(self.dim,), dtype=np.float64)
        return self.precise_hessian(point)

    def with_terms(
        self,
        *,
        ridge: float = 0.0,
        entropy: float = 0.0,
        turnover: float = 0.0,
        anchor: Any = None,
        smoothing: float = 1e-4,
        lower: Any = None,
        upper: Any = None,
        groups: Mapping[Any, tuple[Sequence[Any], float]]
        | Sequence[tuple[Sequence[Any], float]]
        | None = None,
        penalty: float | None = None,
    ) -> Self:
        """Return the same objective with costs, regularisers, bounds and caps.

        Parameters
        ----------
        ridge : float
            Adds ``ridge |x|^2``. Default 0.
        entropy : float
            Adds ``entropy sum x log x``; above zero it spreads the weights. Default 0.
        turnover : float
            Adds the cost of trading ``turnover sum sqrt((x - anchor)^2 + smoothing^2)``. Default 0.
        anchor : float or array_like, shape (d,), optional
            The weights held before.
        smoothing : float
            Rounds the kink of the cost. Default 1e-4.
        lower, upper : float or array_like, shape (d,), optional
            Bounds of each weight.
        groups : mapping or sequence of (members, cap), optional
            Sums of weights that must not exceed a cap, such as ``[([0, 3], 0.4)]`` or ``{"tech":
            (["AAPL", "MSFT"], 0.3)}``. A least sum is a cap of all the others.
        penalty : float, optional
            The chains see bounds and caps as ``penalty`` times squared violations; the polish
            meets them exactly. Default: 10 times the spread of the gradient in the middle.

        Returns
        -------
        Objective
            A copy; terms that it had are replaced.

        Raises
        ------
        TypeError, ValueError
            Arguments out of range, or bounds and caps that no weights meet.
        """
        function = type(self).__name__
        changed = self._with(None)
        constrained = not (lower is None and upper is None and groups is None)
        if penalty is None:
            penalty = changed._default_penalty() if constrained else 1.0
        changed.terms = check_terms(
            function,
            self.sizes,
            self.names,
            ridge=ridge,
            entropy=entropy,
            turnover=turnover,
            anchor=anchor,
            smoothing=smoothing,
            lower=lower,
            upper=upper,
            groups=groups,
            penalty=penalty,
        )
        return changed

    def _default_penalty(self) -> float:
        middle = np.concatenate([np.full(size, 1.0 / size) for size in self.sizes])
        return _PENALTY * float(np.ptp(self.precise_value_and_grad(middle)[1])) or 1.0

    def without_penalties(self) -> Self:
        """Return the objective for points that meet the bounds and caps."""
        return self._with(None if self.terms is None else self.terms.without_penalties())

    def _with(self, terms: Terms | None) -> Self:
        """Return a copy with other terms; it shares the data."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other.terms = terms
        return other

    def polytope(self, sizes: tuple[int, ...]) -> Polytope:
        """Return the set of weights that meet bounds and caps."""
        if self.terms is None:
            return Polytope.simplices(sizes)
        return replace(self.terms, sizes=sizes).polytope()

    def value_and_grad(
        self, x: Any, *, backend: str | None = None, num_threads: int | None = None
    ) -> tuple[Any, Any]:
        """Evaluate the objective and its gradient at many points.

        Parameters
        ----------
        x : array_like, shape (C, d) or (d,)
            Points; they need not lie on the simplex. float32 stays float32.
        backend : {"cpp", "cuda", "numba"}, optional
            Default "cpp", or "cuda" for arrays that live there.
        num_threads : int, optional
            Default: `hotloops.get_num_threads`.

        Returns
        -------
        value : array, shape (C,) or ()
        gradient : array, of the shape of `x`

        Raises
        ------
        TypeError, ValueError
            Points of another length, or not finite.
        hotloops.BackendUnavailable
            The backend that was asked for is not there.
        """
        points, library = host_array("value_and_grad", "x", x, ndim=(1, 2))
        if points.shape[-1] != self.dim:
            expectation = f"have {self.dim} weights in each row"
            validate.fail(ValueError, "value_and_grad", "x", expectation, str(points.shape))
        rows = np.array(points.reshape(-1, self.dim))
        resolved = self.resolve_backend("value_and_grad", backend, library)
        value, gradient = self._evaluate(rows, resolved, num_threads)
        if points.ndim == 1:
            return value[0], handed_back(gradient[0], library)
        return handed_back(value, library), handed_back(gradient, library)

    def _evaluate(
        self, rows: npt.NDArray[Any], backend: str, num_threads: int | None
    ) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        function = "value_and_grad"
        driver = importlib.import_module(f"hotloops.simplex._{backend}")
        state = ChainArrays.start(rows)
        gradient = np.empty_like(rows)
        driver.advance(
            state,
            self.kernel,
            self.parameters(rows.dtype),
            self._evaluation_options(rows),
            Steps(
                seed=0,
                chain_offset=0,
                first_step=0,
                num_steps=0,
                accumulate=False,
                num_threads=threads.resolve_num_threads(function, num_threads),
                gradient=gradient,
            ),
        )
        return state.value, gradient

    def _evaluation_options(self, rows: npt.NDArray[Any]) -> StepOptions:
        zeros = np.zeros(rows.shape[0], rows.dtype)
        return StepOptions(
            form=0,
            step_sizes=zeros,
            temperatures=zeros,
            alpha=np.ones(self.dim, rows.dtype),
            offsets=np.cumsum([0, *self.sizes]).astype(np.int32),
            terms=None if self.terms is None else self.terms.packed(rows.dtype),
            noisy=False,
            corrected=False,
            floor_scale=0.0,
            floor_least=0.0,
            clip=30.0,
        )

    def resolve_backend(self, function: str, backend: str | None, library: Library = NUMPY) -> str:
        """Return the backend that runs this objective on arrays of a library."""
        return backend_for(function, backend, library)
