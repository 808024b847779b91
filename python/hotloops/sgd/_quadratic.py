"""Problems whose noise is added to the gradient."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from hotloops._runtime import validate
from hotloops.sgd._noise import noise_of
from hotloops.sgd._problem import (
    DIVERGENCE_LIMIT,
    Float64,
    Problem,
    check_lower_triangular,
    check_positive_definite,
    float64_of,
    in_precision,
    origin_of,
    vector_of,
)

__all__ = ["Cosine", "Quadratic"]


class Quadratic(Problem):
    """Quadratic objective with additive noise.

    ``f(t) = (t - t*)^T A (t - t*) / 2`` with the stochastic gradient ``A (t - t*) + B xi``,
    ``xi ~ N(0, I)`` or of another law.

    Parameters
    ----------
    a_or_A : array_like, shape (d,) or (d, d)
        Curvatures, all positive, or a symmetric positive definite matrix. Diagonal problems run
        fastest: the noise then never leaves the registers.
    minimizer : array_like, shape (d,), or float
        ``t*``; a number stands for all coordinates.
    noise_scale : float or array_like, shape (d,)
        ``B = diag(noise_scale)``: standard deviations where the law has variance 1. Default 1.
    cholesky : array_like, shape (d, d), optional
        Lower triangular ``B``, instead of `noise_scale`.
    noise : {"gaussian", "uniform", "rademacher", "laplace", "none"}, StudentT or array, optional
        Law of the coordinates of ``xi``, which are independent. All words mean variance 1, but
        "none": uniform on (-sqrt 3, sqrt 3), signs -1 and 1, Laplace; `StudentT` is scaled to
        variance 1. An array of shape (m,), 2 to 2**20 values with mean zero, is a table from which
        each coordinate is drawn anew; it is not rescaled. Default "gaussian".
    divergence_limit : float
        A chain with a coordinate beyond it is flagged and frozen. Default 1e6.

    Raises
    ------
    TypeError, ValueError
        Wrong types, shapes, signs, a matrix that is not symmetric positive definite, a factor that
        is not lower triangular, both `noise_scale` and `cholesky`, an unknown law of noise.

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
        noise: Any = "gaussian",
        divergence_limit: float = DIVERGENCE_LIMIT,
    ) -> None:
        given = {
            "a_or_A": a_or_A,
            "minimizer": minimizer,
            "noise_scale": noise_scale,
            "cholesky": cholesky,
            "noise": noise,
        }
        self.library, self.dtype = origin_of("Quadratic", given)
        curvature = float64_of("Quadratic", "a_or_A", a_or_A)
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
            check_positive_definite("Quadratic", "a_or_A", curvature)
        self._set_size("Quadratic", curvature.shape[0], divergence_limit)
        self._curvature = curvature
        self._center = vector_of("Quadratic", "minimizer", minimizer, symbols)
        if noise_scale is not None and cholesky is not None:
            expectation = "be None when `cholesky` is given"
            got = validate.describe(noise_scale)
            validate.fail(ValueError, "Quadratic", "noise_scale", expectation, got)
        if cholesky is None:
            scale = 1.0 if noise_scale is None else noise_scale
            self._scale = vector_of("Quadratic", "noise_scale", scale, symbols)
            if self._scale.min() < 0:
                got = str(self._scale.min())
                validate.fail(ValueError, "Quadratic", "noise_scale", "not be negative", got)
        else:
            factor = float64_of("Quadratic", "cholesky", cholesky)
            self._scale = validate.array(
                "Quadratic", "cholesky", factor, shape=("d", "d"), symbols=symbols
            )
            check_lower_triangular("Quadratic", "cholesky", self._scale)
        self._noise = noise_of("Quadratic", noise)
        full = self._curvature.ndim == 2 or self._scale.ndim == 2
        self.kernel = "quadratic_full" if full else "quadratic"

    def __repr__(self) -> str:
        return f"Quadratic(dim={self.dim}, kernel={self.kernel!r}, noise={self._noise})"

    def parameters(self, dtype: np.dtype[Any], xp: Any) -> tuple[Any, ...]:
        curvature, factor = self._curvature, self._scale
        if self.kernel == "quadratic_full":
            curvature, factor = (
                part if part.ndim == 2 else np.diag(part) for part in (curvature, factor)
            )
        scale = "noise_scale" if self._scale.ndim == 1 else "cholesky"
        parts = {"a_or_A": curvature, "minimizer": self._center, scale: factor}
        return (
            *(in_precision("Quadratic", name, part, dtype, xp) for name, part in parts.items()),
            self._noise.parameters("Quadratic", dtype, xp),
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
        if self._scale.ndim == 1:
            return np.diag(self._noise.variance * self._scale**2)
        covariance: Float64 = self._noise.variance * (self._scale @ self._scale.T)
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
        Scale of the noise: its standard deviation where the law has variance 1.
    dim : int
        Number of independent coordinates. Default 1.
    noise : {"gaussian", "uniform", "rademacher", "laplace", "none"}, StudentT or array, optional
        Law of ``xi``, as in `Quadratic`. Default "gaussian".
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
        noise: Any = "gaussian",
        divergence_limit: float = DIVERGENCE_LIMIT,
    ) -> None:
        self.phi = validate.real("Cosine", "phi", phi, low=-1e3, high=1e3)
        self.sigma = validate.real("Cosine", "sigma", sigma, low=0.0)
        self.library, self.dtype = origin_of("Cosine", {"noise": noise})
        self._noise = noise_of("Cosine", noise)
        size = validate.integer("Cosine", "dim", dim, low=1)
        self._set_size("Cosine", size, divergence_limit)

    def __repr__(self) -> str:
        return f"Cosine(phi={self.phi}, sigma={self.sigma}, dim={self.dim}, noise={self._noise})"

    def parameters(self, dtype: np.dtype[Any], xp: Any) -> tuple[Any, ...]:
        in_precision("Cosine", "sigma", self.sigma, dtype, np)
        return self.phi, self.sigma, self._noise.parameters("Cosine", dtype, xp)

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
        return np.eye(self.dim) * (self._noise.variance * self.sigma**2)
