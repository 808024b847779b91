"""Regression on rows that are made as they are needed, independent or autoregressive in time."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np

from hotloops import random
from hotloops._runtime import validate
from hotloops.sgd import _gaussian_logistic as gaussian
from hotloops.sgd._problem import (
    DIVERGENCE_LIMIT,
    Float64,
    Problem,
    check_lower_triangular,
    check_positive_definite,
    float64_of,
    in_precision,
    origin_of,
    solve,
    vector_of,
)

__all__ = ["StreamingLeastSquares", "StreamingLogistic"]

_STREAM_STARTS = 4

_FEATURES = """theta : array_like, shape (d,)
        The true coefficients.
    covariance : array_like, shape (d,) or (d, d), optional
        Of the features: variances, or a symmetric positive definite matrix. Default: the identity.
    scale : float or array_like, shape (d,), optional
        Instead of `covariance`: standard deviations of independent features, all positive.
    cholesky : array_like, shape (d, d), optional
        Instead of `covariance`: its lower triangular factor, with a diagonal without zeros."""
_OPTIONS = """l2 : float
        Weight of the ridge ``l2 |t|^2 / 2``. Default 0, with which ``t* = theta``.
    rho : float
        Correlation of the features from step to step, in (-1, 1): ``x = L z`` with
        ``z <- rho z + sqrt(1 - rho^2) N(0, I)``, started in its invariant law. Default 0:
        independent rows, the setting of the theory.
    divergence_limit : float
        A chain with a coordinate beyond it is flagged and frozen. Default 1e6."""


class _Streaming(Problem):
    """Gaussian features ``x = L z`` made in the kernel, one row a step."""

    _name: ClassVar[str]
    noise_scale: float

    def __init__(
        self,
        theta: Any,
        covariance: Any,
        scale: Any,
        cholesky: Any,
        l2: float,
        rho: float,
        divergence_limit: float,
    ) -> None:
        name = self._name
        given = {"theta": theta, "covariance": covariance, "scale": scale, "cholesky": cholesky}
        self.library, self.dtype = origin_of(name, given)
        symbols: dict[str, int] = {}
        self._theta: Float64 = validate.array(
            name, "theta", float64_of(name, "theta", theta), shape=("d",), symbols=symbols
        )
        forms = {key: given[key] for key in ("covariance", "scale", "cholesky")}
        forms = {key: value for key, value in forms.items() if value is not None}
        if len(forms) > 1:
            first, second = list(forms)[:2]
            got = validate.describe(forms[second])
            validate.fail(ValueError, name, second, f"be None when `{first}` is given", got)
        argument, value = next(iter(forms.items()), ("scale", 1.0))
        self._factor = _factor_of(name, argument, value, symbols)
        self._factor_name = argument
        self.l2 = validate.real(name, "l2", l2, low=0.0)
        self.rho = validate.real(name, "rho", rho)
        if abs(self.rho) >= 1:
            validate.fail(ValueError, name, "rho", "lie in (-1, 1)", f"{self.rho:g}")
        self._set_size(name, symbols["d"], divergence_limit)

    def __repr__(self) -> str:
        return f"{self._name}(dim={self.dim}, l2={self.l2}, rho={self.rho})"

    @property
    def num_auxiliary(self) -> int:
        return self.dim if self.rho else 0

    def initial_auxiliary(
        self, seed: int, first_chain: int, num_chains: int, step: int, dtype: np.dtype[Any], xp: Any
    ) -> Any:
        if not self.rho:
            return super().initial_auxiliary(seed, first_chain, num_chains, step, dtype, xp)
        chains = range(first_chain, first_chain + num_chains)
        drawn = random.normals(seed, [step], chains, self.dim, _STREAM_STARTS, dtype=dtype)
        return xp.asarray(drawn[0])

    def parameters(self, dtype: np.dtype[Any], xp: Any) -> tuple[Any, ...]:
        name = self._name
        theta = in_precision(name, "theta", self._theta, dtype, xp)
        factor = in_precision(name, self._factor_name, self._factor, dtype, xp)
        in_precision(name, "noise_scale", self.noise_scale, dtype, np)
        in_precision(name, "l2", self.l2, dtype, np)
        return theta, factor, self.noise_scale, self.l2, self.rho

    def _root(self) -> Float64:
        """``L`` as a matrix."""
        return np.diag(self._factor) if self._factor.ndim == 1 else self._factor

    def _features_covariance(self) -> Float64:
        root = self._root()
        covariance: Float64 = root @ root.T
        return covariance

    def curvature_bounds(self) -> tuple[float | None, float | None]:
        values = np.linalg.eigvalsh(self._features_covariance())
        low, high = self._curvature_range()
        mu = low * float(values[0]) + self.l2
        return (mu or None), high * float(values[-1]) + self.l2

    @abstractmethod
    def _curvature_range(self) -> tuple[float, float]:
        """Bounds of the second derivative of the loss of one row."""


class StreamingLeastSquares(_Streaming):
    __doc__ = f"""Least squares on a stream of rows that the kernel makes.

    ``x = L z`` is Gaussian with covariance ``L L^T`` and ``y = x^T theta + noise_scale N(0, 1)``; a
    step has the gradient ``x (x^T t - y) + l2 t`` of a row of its own.

    Parameters
    ----------
    {_FEATURES}
    noise_scale : float
        Standard deviation of the errors of ``y``. Default 1.
    {_OPTIONS}

    Raises
    ------
    TypeError, ValueError
        Wrong types, shapes, signs or ranges, a matrix that is not symmetric positive definite, a
        factor that is not lower triangular, more than one of `covariance`, `scale`, `cholesky`.

    Notes
    -----
    A step costs O(d) for independent features, else O(d^2), plus O(d) for each step size. A chain
    keeps d more numbers when `rho` is not 0. Class A.

    With independent rows the invariant mean is ``t*`` for every step size, since the gradient is
    linear in ``t``; with `rho` it is not. With unit covariance and ``l2 = 0`` the invariant
    covariance is ``gamma s^2 / (2 - gamma (d + 2)) I``: second moments explode at
    ``gamma = 2 / (d + 2)``, far below 2 / L.

    `noise_covariance` with `rho` is the sum over all lags: ``s^2 Sx`` plus ``(1 + rho^2) /
    (1 - rho^2)`` times ``Sx (v^T Sx v) + Sx v v^T Sx`` with ``v = t* - theta``.

    Examples
    --------
    >>> from hotloops import sgd
    >>> problem = sgd.StreamingLeastSquares([1.0, -1.0], scale=[1.0, 2.0], noise_scale=0.5)
    >>> problem.noise_covariance()
    array([[0.25, 0.  ],
           [0.  , 1.  ]])
    """
    _name = "StreamingLeastSquares"
    kernel = "streaming_least_squares"

    def __init__(
        self,
        theta: Any,
        covariance: Any = None,
        *,
        scale: Any = None,
        cholesky: Any = None,
        noise_scale: float = 1.0,
        l2: float = 0.0,
        rho: float = 0.0,
        divergence_limit: float = DIVERGENCE_LIMIT,
    ) -> None:
        self.noise_scale = validate.real(self._name, "noise_scale", noise_scale, low=0.0)
        super().__init__(theta, covariance, scale, cholesky, l2, rho, divergence_limit)

    def _curvature_range(self) -> tuple[float, float]:
        return 1.0, 1.0

    def _minimizer(self) -> Float64:
        if self.l2 == 0:
            return self._theta
        covariance = self._features_covariance()
        return solve(self._hessian(), covariance @ self._theta)

    def _hessian(self) -> Float64:
        return self._features_covariance() + self.l2 * np.eye(self.dim)

    def _noise_covariance(self) -> Float64:
        covariance = self._features_covariance()
        offset = self._host_minimizer - self._theta
        pushed = covariance @ offset
        # Isserlis; at lag l the fourth moments carry rho^(2 l).
        of_offset = covariance * (offset @ pushed) + np.outer(pushed, pushed)
        lags = (1 + self.rho**2) / (1 - self.rho**2)
        total: Float64 = self.noise_scale**2 * covariance + lags * of_offset
        return total


class StreamingLogistic(_Streaming):
    __doc__ = f"""Logistic regression on a stream of rows that the kernel makes.

    ``x = L z`` is Gaussian with covariance ``L L^T`` and ``y`` is 1 with probability
    ``sigmoid(x^T theta)``, else 0; a step has the gradient ``x (sigmoid(x^T t) - y) + l2 t`` of a
    row of its own.

    Parameters
    ----------
    {_FEATURES}
    {_OPTIONS}

    Raises
    ------
    TypeError, ValueError
        Wrong types, shapes, signs or ranges, a matrix that is not symmetric positive definite, a
        factor that is not lower triangular, more than one of `covariance`, `scale`, `cholesky`.

    Notes
    -----
    A step costs O(d) for independent features, else O(d^2), plus O(d) for each step size. A chain
    keeps d more numbers when `rho` is not 0. Class A.

    Minimiser, Hessian and noise covariance are expectations over one or two Gaussian numbers, taken
    by the trapezoidal rule to about 1e-14. With `rho`, the noise covariance is the sum over all
    lags; it differs from that of independent rows only when ``l2 > 0``, for else the residual at
    ``t*`` has mean zero whatever the row.

    Examples
    --------
    >>> from hotloops import sgd
    >>> problem = sgd.StreamingLogistic([1.0, -1.0], rho=0.5)
    >>> run = sgd.run(problem, [0.1, 0.2], num_steps=2_000, num_chains=8, seed=1)
    >>> run.extrapolated.shape
    (8, 2)
    """
    _name = "StreamingLogistic"
    kernel = "streaming_logistic"
    noise_scale = 0.0

    def __init__(
        self,
        theta: Any,
        covariance: Any = None,
        *,
        scale: Any = None,
        cholesky: Any = None,
        l2: float = 0.0,
        rho: float = 0.0,
        divergence_limit: float = DIVERGENCE_LIMIT,
    ) -> None:
        super().__init__(theta, covariance, scale, cholesky, l2, rho, divergence_limit)

    def _curvature_range(self) -> tuple[float, float]:
        return 0.0, 0.25

    def _length(self, theta: Float64) -> float:
        """Return the standard deviation of ``x^T theta``."""
        return float(np.linalg.norm(self._root().T @ theta))

    def _minimizer(self) -> Float64:
        """Solve ``(k Sx + l2 I) t = k_0 Sx theta`` with ``k = E sigmoid'(x^T t)`` (Stein)."""
        from scipy import optimize

        if self.l2 == 0:
            return self._theta
        covariance = self._features_covariance()
        right = gaussian.mean_slope(self._length(self._theta)) * (covariance @ self._theta)

        def at(slope: float) -> Float64:
            return solve(slope * covariance + self.l2 * np.eye(self.dim), right)

        def excess(slope: float) -> float:
            return gaussian.mean_slope(self._length(at(slope))) - slope

        slope = optimize.brentq(excess, 0.0, 0.25 + 1e-9, xtol=1e-16, rtol=1e-14)
        return at(slope)

    def _hessian(self) -> Float64:
        direction = self._root().T @ self._host_minimizer
        return self._lifted(gaussian.weighted(direction)) + self.l2 * np.eye(self.dim)

    def _noise_covariance(self) -> Float64:
        root = self._root()
        labels = self._lifted(gaussian.weighted(root.T @ self._theta))
        if self.l2 == 0:
            return labels
        at = self._host_minimizer
        offset = gaussian.long_run(root.T @ self._theta, root.T @ at, self.rho, self._name)
        return labels + self._lifted(offset)

    def _lifted(self, of_z: Float64) -> Float64:
        """Return ``L M L^T``."""
        root = self._root()
        lifted = root @ of_z @ root.T
        symmetric: Float64 = (lifted + lifted.T) / 2
        return symmetric


def _factor_of(name: str, argument: str, value: Any, symbols: dict[str, int]) -> Float64:
    """Return ``L``, a diagonal (d,) or lower triangular (d, d)."""
    if argument == "scale":
        scale = vector_of(name, "scale", value, symbols)
        _check_positive(name, "scale", scale)
        return scale
    host = float64_of(name, argument, value)
    if argument == "covariance" and host.ndim == 1:
        variances: Float64 = validate.array(name, argument, host, shape=("d",), symbols=symbols)
        _check_positive(name, argument, variances)
        return np.sqrt(variances)
    square: Float64 = validate.array(name, argument, host, shape=("d", "d"), symbols=symbols)
    if argument == "covariance":
        check_positive_definite(name, argument, square)
        return np.asarray(np.linalg.cholesky(square), np.float64)
    check_lower_triangular(name, argument, square)
    if not np.diag(square).all():
        i = int(np.argmin(np.abs(np.diag(square))))
        validate.fail(ValueError, name, argument, "have no zero on its diagonal", f"0 at {(i, i)}")
    return square


def _check_positive(name: str, argument: str, values: Float64) -> None:
    validate.array(name, argument, values, positive=True)
