"""What every problem of the SGD loop offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops._runtime import arrays, validate
from hotloops._runtime.arrays import Library

__all__ = [
    "DIVERGENCE_LIMIT",
    "Float64",
    "Problem",
    "check_lower_triangular",
    "check_positive_definite",
    "float64_of",
    "in_precision",
    "origin_of",
    "sigmoid",
    "solve",
    "to_host",
    "vector_of",
]

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


def sigmoid(x: Float64) -> Float64:
    """Return ``1 / (1 + exp(-x))`` to its last digits in both tails."""
    return np.exp(-np.logaddexp(0.0, -x))


def solve(matrix: Any, right: Any) -> Float64:
    """Solve a linear system in float64."""
    return np.asarray(np.linalg.solve(matrix, right), np.float64)


def origin_of(function: str, given: dict[str, Any]) -> tuple[Any, np.dtype[Any] | None]:
    """Return the library and the precision of the arguments that are arrays."""
    typed = {name: value for name, value in given.items() if hasattr(value, "dtype")}
    if not typed:
        return None, None
    library = arrays.common_library(function, typed)
    imported = [arrays.import_array(function, name, value)[0] for name, value in typed.items()]
    singles = all(value.dtype == np.float32 for value in imported)
    return library, np.dtype(np.float32 if singles else np.float64)


def float64_of(function: str, argument: str, value: Any) -> Float64:
    """Return a float64 host array of one or more dimensions, a copy of the user's."""
    imported, _ = arrays.import_array(function, argument, value)
    host = np.atleast_1d(to_host(validate.as_array(function, argument, imported)))
    checked: Float64 = validate.array(function, argument, host, dtype=np.float64, copy=True)
    return checked


def vector_of(function: str, argument: str, value: Any, symbols: dict[str, int]) -> Float64:
    """Return a float64 vector of length d; one number stands for all coordinates."""
    host = float64_of(function, argument, value)
    if np.ndim(value) == 0:
        host = np.repeat(host, symbols["d"])
    checked: Float64 = validate.array(function, argument, host, shape=("d",), symbols=symbols)
    return checked


def check_positive_definite(function: str, argument: str, matrix: Float64) -> None:
    """Check a square matrix for symmetry and the sign of its eigenvalues."""
    scale = float(np.abs(matrix).max())
    if float(np.abs(matrix - matrix.T).max()) > 1e-6 * scale:
        i, j = np.unravel_index(int(np.abs(matrix - matrix.T).argmax()), matrix.shape)
        got = f"{matrix[i, j]} at ({i}, {j}) and {matrix[j, i]} at ({j}, {i})"
        validate.fail(ValueError, function, argument, "be symmetric", got)
    smallest = float(np.linalg.eigvalsh(matrix)[0])
    if smallest <= 0:
        got = f"a smallest eigenvalue of {smallest:g}"
        validate.fail(ValueError, function, argument, "be positive definite", got)


def check_lower_triangular(function: str, argument: str, factor: Float64) -> None:
    """Check that nothing stands above the diagonal."""
    above = np.argwhere(np.triu(factor, 1))
    if above.size:
        i, j = (int(index) for index in above[0])
        got = f"{factor[i, j]} at ({i}, {j})"
        validate.fail(ValueError, function, argument, "be lower triangular", got)


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

    @property
    def num_auxiliary(self) -> int:
        """How many numbers each chain carries from step to step beside the iterates."""
        return 0

    def initial_auxiliary(
        self, seed: int, first_chain: int, num_chains: int, step: int, dtype: np.dtype[Any], xp: Any
    ) -> Any:
        """Return them before the step `step`, shape (num_chains, num_auxiliary), arrays of `xp`."""
        return xp.zeros((num_chains, self.num_auxiliary), dtype)

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
        """Return the Hessian ``H`` of the objective at ``t*``, shape (dim, dim), float64.

        Linear stochastic approximation has no objective; there ``H`` is minus its mean matrix and
        not symmetric.
        """
        return self._answer(self._host_hessian)

    def noise_covariance(self) -> Any:
        """Return ``S = E[eps eps^T]`` of the noise at ``t*``, shape (dim, dim), float64.

        Where the noise of a step depends on the steps before, it is the long-run covariance: the
        sum over all lags, which is what the variance of averages follows.
        """
        return self._answer(self._noise_covariance())

    def optimal_covariance(self) -> Any:
        """Return ``H^{-1} S H^{-T}``, shape (dim, dim), float64.

        No estimator has a smaller asymptotic covariance; that of the extrapolated averages reaches
        it, divided by the number of averaged steps.
        """
        inverse = np.linalg.inv(self._host_hessian)
        covariance = inverse @ self._noise_covariance() @ inverse.T
        return self._answer((covariance + covariance.T) / 2)

    def _answer(self, host: Float64) -> Any:
        """Copy a host array into the library that the problem's arrays came from."""
        if self.library is None or self.library.name == "numpy":
            return host.copy()
        with arrays.stream_context(self.library):
            return arrays.export_array(self.library.xp.array(host), self.library)
