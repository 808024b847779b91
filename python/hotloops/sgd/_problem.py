"""What every problem of the SGD loop offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops._runtime import arrays, validate
from hotloops._runtime.arrays import Library

__all__ = ["DIVERGENCE_LIMIT", "Float64", "Problem", "in_precision", "to_host"]

Float64 = npt.NDArray[np.float64]

# A coordinate beyond it counts as diverged: far outside of what scaled data lead to, and far below
# where float32 overflows.
DIVERGENCE_LIMIT = 1e6

_MAX_COORDINATES = 2**34  # what the counter map of the random numbers can tell apart


def to_host(array: Any) -> npt.NDArray[Any]:
    """Return a NumPy copy of a CuPy array; NumPy arrays come back as they are."""
    return array.get() if hasattr(array, "get") else np.asarray(array)


def in_precision(function: str, argument: str, value: Any, dtype: np.dtype[Any], xp: Any) -> Any:
    """Return an array of `xp` in the precision of a run; values that overflow it are refused."""
    given = xp.asarray(value)
    return validate.array(
        function, argument, given, dtype=dtype, finite=given.dtype != dtype, empty=True
    )


class Problem(ABC):
    """A function to minimise and its stochastic gradient.

    Attributes
    ----------
    dim : int
        Number of coordinates.
    dtype : dtype or None
        Precision of the arrays it was made from; None when they have none of their own.
    library : Library or None
        Where those arrays live; None when they live nowhere in particular.
    divergence_limit : float
        A chain with a coordinate beyond it is flagged and frozen.
    """

    kernel: str
    dim: int
    dtype: np.dtype[Any] | None
    library: Library | None
    divergence_limit: float

    def _set_size(self, function: str, dim: int, divergence_limit: object) -> None:
        if dim > _MAX_COORDINATES:
            raise OverflowError(f"{function}: `dim` must be at most 2**34, got {dim}")
        self.dim = dim
        self.divergence_limit = validate.real(
            function, "divergence_limit", divergence_limit, low=0.0, high=1e30, open_low=True
        )

    @abstractmethod
    def parameters(self, dtype: np.dtype[Any], xp: Any) -> tuple[Any, ...]:
        """Return what the kernel takes, in precision `dtype` and as arrays of `xp`."""

    def inputs(self) -> dict[str, Any]:
        """Return the user's arrays that are read in place, by the names of the arguments."""
        return {}

    @abstractmethod
    def _minimizer(self) -> Float64: ...

    @abstractmethod
    def _hessian(self) -> Float64: ...

    @abstractmethod
    def _noise_covariance(self) -> Float64: ...

    def curvature_bounds(self) -> tuple[float | None, float | None]:
        """Return (mu, L) for the checks of `run`, None where they are not known cheaply."""
        return None, None

    @cached_property
    def _host_minimizer(self) -> Float64:
        return self._minimizer()

    @cached_property
    def _host_hessian(self) -> Float64:
        return self._hessian()

    def minimizer(self) -> Any:
        """Return the minimiser ``t*``, shape (dim,), float64, to about 1e-14.

        Raises
        ------
        ValueError
            There is no unique minimiser, or it is not known.
        """
        return self._answer(self._host_minimizer)

    def hessian(self) -> Any:
        """Return the Hessian ``H`` of the objective at ``t*``, shape (dim, dim), float64."""
        return self._answer(self._host_hessian)

    def noise_covariance(self) -> Any:
        """Return ``S = E[eps eps^T]`` of the noise at ``t*``, shape (dim, dim), float64."""
        return self._answer(self._noise_covariance())

    def optimal_covariance(self) -> Any:
        """Return ``H^{-1} S H^{-1}``, shape (dim, dim), float64.

        No estimator has a smaller asymptotic covariance; that of the extrapolated averages reaches
        it, divided by the number of averaged steps.
        """
        inverse = np.linalg.inv(self._host_hessian)
        covariance = inverse @ self._noise_covariance() @ inverse
        return self._answer((covariance + covariance.T) / 2)

    def _answer(self, host: Float64) -> Any:
        """Copy a host array into the library that the problem's arrays came from."""
        if self.library is None or self.library.name == "numpy":
            return host.copy()
        with arrays.stream_context(self.library):
            return arrays.export_array(self.library.xp.array(host), self.library)
