"""Problems whose noise is added to the gradient."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from hotloops._runtime import arrays, validate
from hotloops.sgd._problem import DIVERGENCE_LIMIT, Float64, Problem, in_precision, to_host

__all__ = ["Cosine", "Quadratic"]


class Quadratic(Problem):
    """Quadratic objective with additive Gaussian noise.

    ``f(t) = (t - t*)^T A (t - t*) / 2`` with the stochastic gradient ``A (t - t*) + B xi``,
    ``xi ~ N(0, I)``.

    Parameters
    ----------
    a_or_A : array_like, shape (d,) or (d, d)
        Curvatures, all positive, or a symmetric positive definite matrix. Diagonal problems run
        fastest: the noise then never leaves the registers.
    minimizer : array_like, shape (d,), or float
        ``t*``; a number stands for all coordinates.
    noise_scale : float or array_like, shape (d,)
        Standard deviations: ``B = diag(noise_scale)``. Default 1.
    cholesky : array_like, shape (d, d), optional
        Lower triangular ``B``, instead of `noise_scale`.
    divergence_limit : float
        A chain with a coordinate beyond it is flagged and frozen. Default 1e6.

    Raises
    ------
    TypeError, ValueError
        Wrong types, shapes, signs, a matrix that is not symmetric positive definite, a factor that
        is not lower triangular, both `noise_scale` and `cholesky`.

    Notes
    -----
    A step costs O(d) for diagonal problems, else O(d^2), times the number of step sizes.
    Class A. Averages of a quadratic have no bias beyond what is left of the start.

    Examples
    --------
    >>> from hotloops import sgd
    >>> problem = sgd.Quadratic([1.0, 2.0], minimizer=0.5)
    >>> run = sgd.run(problem, step_sizes=[0.05, 0.1], num_steps=1000, num_chains=8, seed=1)
    >>> run.extrapolated.shape
    (8, 2)
    """

    def __init__(
        self,
        a_or_A: Any,
        minimizer: Any,
        noise_scale: Any = None,
        *,
        cholesky: Any = None,
        divergence_limit: float = DIVERGENCE_LIMIT,
    ) -> None:
        given = {
            "a_or_A": a_or_A,
            "minimizer": minimizer,
            "noise_scale": noise_scale,
            "cholesky": cholesky,
        }
        self.library, self.dtype = _origin("Quadratic", given)
        curvature = _float64("Quadratic", "a_or_A", a_or_A)
        if curvature.ndim not in (1, 2):
            expectation = "have shape (d,) or (d, d)"
            validate.fail(ValueError, "Quadratic", "a_or_A", expectation, str(curvature.shape))
        symbols: dict[str, int] = {}
        if curvature.ndim == 1:
            validate.array(
                "Quadratic", "a_or_A", curvature, shape=("d",), symbols=symbols, positive=True
            )
        else:
            validate.array("Quadratic", "a_or_A", curvature, shape=("d", "d"), symbols=symbols)
            _check_positive_definite(curvature)
        self._set_size("Quadratic", curvature.shape[0], divergence_limit)
        self._curvature = curvature
        self._center = _vector("Quadratic", "minimizer", minimizer, symbols)
        if noise_scale is not None and cholesky is not None:
            expectation = "be None when `cholesky` is given"
            got = validate.describe(noise_scale)
            validate.fail(ValueError, "Quadratic", "noise_scale", expectation, got)
        if cholesky is None:
            scale = 1.0 if noise_scale is None else noise_scale
            self._noise = _vector("Quadratic", "noise_scale", scale, symbols)
            if self._noise.min() < 0:
                got = str(self._noise.min())
                validate.fail(ValueError, "Quadratic", "noise_scale", "not be negative", got)
        else:
            factor = _float64("Quadratic", "cholesky", cholesky)
            self._noise = validate.array(
                "Quadratic", "cholesky", factor, shape=("d", "d"), symbols=symbols
            )
            _check_lower_triangular(self._noise)
        full = self._curvature.ndim == 2 or self._noise.ndim == 2
        self.kernel = "quadratic_full" if full else "quadratic"

    def __repr__(self) -> str:
        return f"Quadratic(dim={self.dim}, kernel={self.kernel!r})"

    def parameters(self, dtype: np.dtype[Any], xp: Any) -> tuple[Any, ...]:
        curvature, noise = self._curvature, self._noise
        if self.kernel == "quadratic_full":
            curvature, noise = (
                part if part.ndim == 2 else np.diag(part) for part in (curvature, noise)
            )
        scale = "noise_scale" if self._noise.ndim == 1 else "cholesky"
        parts = {"a_or_A": curvature, "minimizer": self._center, scale: noise}
        return tuple(
            in_precision("Quadratic", name, part, dtype, xp) for name, part in parts.items()
        )

    def curvature_bounds(self) -> tuple[float | None, float | None]:
        values: Any = self._curvature
        if values.ndim == 2:
            values = np.linalg.eigvalsh(values)
        return float(values.min()), float(values.max())

    def _minimizer(self) -> Float64:
        return self._center

    def _hessian(self) -> Float64:
        return np.diag(self._curvature) if self._curvature.ndim == 1 else self._curvature

    def _noise_covariance(self) -> Float64:
        if self._noise.ndim == 1:
            return np.diag(self._noise**2)
        covariance: Float64 = self._noise @ self._noise.T
        return covariance


class Cosine(Problem):
    """The experiment of the paper: ``f(t) = sum_i t_i^2 + cos(t_i + phi)``.

    The stochastic gradient is ``2 t - sin(t + phi) + sigma xi``, coordinate by coordinate.

    Parameters
    ----------
    phi : float
        Phase. With the paper's ``phi = 0`` the invariant law is symmetric and the average has no
        bias at any step size; ``phi = 1`` shows what extrapolation removes.
    sigma : float
        Standard deviation of the noise.
    dim : int
        Number of independent coordinates. Default 1.
    divergence_limit : float
        A chain with a coordinate beyond it is flagged and frozen. Default 1e6.

    Notes
    -----
    ``1 <= f'' <= 3`` everywhere. A step costs O(dim). Class A.

    Examples
    --------
    >>> from hotloops import sgd
    >>> problem = sgd.Cosine(phi=1.0, sigma=1.0)
    >>> float(problem.minimizer()[0].round(9))
    0.498701134
    """

    kernel = "cosine"

    def __init__(
        self,
        phi: float = 0.0,
        sigma: float = 1.0,
        dim: int = 1,
        *,
        divergence_limit: float = DIVERGENCE_LIMIT,
    ) -> None:
        self.phi = validate.real("Cosine", "phi", phi, low=-1e3, high=1e3)
        self.sigma = validate.real("Cosine", "sigma", sigma, low=0.0)
        self.library, self.dtype = None, None
        size = validate.integer("Cosine", "dim", dim, low=1)
        self._set_size("Cosine", size, divergence_limit)

    def __repr__(self) -> str:
        return f"Cosine(phi={self.phi}, sigma={self.sigma}, dim={self.dim})"

    def parameters(self, dtype: np.dtype[Any], xp: Any) -> tuple[Any, ...]:
        in_precision("Cosine", "sigma", self.sigma, dtype, np)
        return self.phi, self.sigma

    def curvature_bounds(self) -> tuple[float | None, float | None]:
        return 1.0, 3.0

    def _minimizer(self) -> Float64:
        t = 0.0
        for _ in range(100):  # Newton: f' is increasing with slope at least 1
            step = (2 * t - math.sin(t + self.phi)) / (2 - math.cos(t + self.phi))
            t -= step
            if abs(step) <= 1e-16 * max(1.0, abs(t)):
                break
        return np.full(self.dim, t)

    def _hessian(self) -> Float64:
        return np.diag(2 - np.cos(self._host_minimizer + self.phi))

    def _noise_covariance(self) -> Float64:
        return np.eye(self.dim) * self.sigma**2


def _origin(function: str, given: dict[str, Any]) -> tuple[Any, np.dtype[Any] | None]:
    """Return the library and the precision of the arguments that are arrays."""
    typed = {name: value for name, value in given.items() if hasattr(value, "dtype")}
    if not typed:
        return None, None
    library = arrays.common_library(function, typed)
    imported = [arrays.import_array(function, name, value)[0] for name, value in typed.items()]
    singles = all(value.dtype == np.float32 for value in imported)
    return library, np.dtype(np.float32 if singles else np.float64)


def _float64(function: str, argument: str, value: Any) -> Float64:
    """Return a float64 host array of one or more dimensions, a copy of the user's."""
    imported, _ = arrays.import_array(function, argument, value)
    host = np.atleast_1d(to_host(validate.as_array(function, argument, imported)))
    checked: Float64 = validate.array(function, argument, host, dtype=np.float64, copy=True)
    return checked


def _vector(function: str, argument: str, value: Any, symbols: dict[str, int]) -> Float64:
    """Return a float64 vector of length d; one number stands for all coordinates."""
    host = _float64(function, argument, value)
    if np.ndim(value) == 0:
        host = np.repeat(host, symbols["d"])
    checked: Float64 = validate.array(function, argument, host, shape=("d",), symbols=symbols)
    return checked


def _check_positive_definite(matrix: Float64) -> None:
    scale = float(np.abs(matrix).max())
    if float(np.abs(matrix - matrix.T).max()) > 1e-6 * scale:
        i, j = np.unravel_index(int(np.abs(matrix - matrix.T).argmax()), matrix.shape)
        got = f"{matrix[i, j]} at ({i}, {j}) and {matrix[j, i]} at ({j}, {i})"
        validate.fail(ValueError, "Quadratic", "a_or_A", "be symmetric", got)
    smallest = float(np.linalg.eigvalsh(matrix)[0])
    if smallest <= 0:
        got = f"a smallest eigenvalue of {smallest:g}"
        validate.fail(ValueError, "Quadratic", "a_or_A", "be positive definite", got)


def _check_lower_triangular(factor: Float64) -> None:
    above = np.argwhere(np.triu(factor, 1))
    if above.size:
        i, j = (int(index) for index in above[0])
        got = f"{factor[i, j]} at ({i}, {j})"
        validate.fail(ValueError, "Quadratic", "cholesky", "be lower triangular", got)
