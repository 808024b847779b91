"""Expectations of logistic functions of Gaussian vectors, ``z ~ N(0, I)``.

All are integrals of functions that are analytic near the real line times a normal density, for
which the trapezoidal rule converges geometrically (L. N. Trefethen, J. A. C. Weideman, "The
exponentially convergent trapezoidal rule", SIAM Review 56, 2014): the sigmoid of ``v a`` has its
first pole at a distance of ``pi / |v|``, so that a spacing h costs an error of order
``exp(-2 pi^2 / (h |v|))``.
"""

from __future__ import annotations

import math

import numpy as np

from hotloops.sgd._problem import Float64, sigmoid

__all__ = ["long_run", "mean_slope", "weighted"]

_REACH = 12.0  # of the grid: the density is 1e-32 there
_MAX_LENGTH = 50.0  # of the vectors in two dimensions: some ten million points
_MAX_DEGREE = 400
_TAIL = 1e-10


def mean_slope(length: float) -> float:
    """Return ``E sigmoid'(length z)`` for one standard normal z."""
    return _slope_moments(length)[0]


def weighted(vector: Float64) -> Float64:
    """Return ``E[z z^T sigmoid'(v^T z)]``: along v the second moment, across it the mean."""
    length = float(np.linalg.norm(vector))
    mean, second = _slope_moments(length)
    unit = vector / length if length > 0 else vector
    matrix: Float64 = mean * np.eye(vector.size) + (second - mean) * np.outer(unit, unit)
    return matrix


def _slope_moments(length: float) -> tuple[float, float]:
    """Return ``E sigmoid'(length z)`` and ``E z^2 sigmoid'(length z)``."""
    spacing = 0.25 / max(1.0, length)
    reach = min(_REACH, 45.0 / max(length, 1e-300))  # where either factor has vanished
    places = _grid(spacing, reach)
    decay = np.exp(-np.abs(length * places))
    values = _density(places) * spacing * decay / (1.0 + decay) ** 2
    return float(values.sum()), float((places**2 * values).sum())


def long_run(truth: Float64, at: Float64, rho: float, name: str) -> Float64:
    """Return the long-run covariance of ``z (sigmoid(at^T z) - sigmoid(truth^T z))``.

    z is an autoregression of order one with coefficient `rho` and the invariant law N(0, I). In the
    plane of the two vectors the function is expanded in Hermite polynomials, on which the step of
    the chain acts as multiplication by ``rho^degree`` (Mehler); across it z is independent of the
    factor.
    """
    longest = max(float(np.linalg.norm(truth)), float(np.linalg.norm(at)))
    if longest > _MAX_LENGTH:
        raise ValueError(
            f"{name}: noise_covariance with l2 > 0 is computed for standard deviations of "
            f"x^T theta up to {_MAX_LENGTH:g}, got {longest:g}"
        )
    basis = _plane(truth, at)
    spacing = min(0.12, 0.6 / max(longest, 1.0))
    places = _grid(spacing, _REACH)
    weights = spacing * _density(places)
    (x1, y1), (x2, y2) = basis.T @ at, basis.T @ truth
    factor = sigmoid(x1 * places[:, None] + y1 * places) - sigmoid(
        x2 * places[:, None] + y2 * places
    )
    of_plane, across = _covariance_at_one_step(factor, places, weights)
    if rho:
        more, more_across = _covariance_at_lags(factor, places, spacing, rho, name)
        of_plane, across = of_plane + more, across + more_across
    projector = np.eye(truth.size) - basis @ basis.T
    covariance: Float64 = basis @ of_plane @ basis.T + across * projector
    return covariance


def _plane(truth: Float64, at: Float64) -> Float64:
    """Return orthonormal columns that span both vectors; a column of zeros where one is enough."""
    basis = np.zeros((truth.size, 2))
    for column, vector in enumerate((truth, at)):
        length = float(np.linalg.norm(vector))
        for _ in range(2):  # twice is enough (Kahan)
            vector = vector - basis @ (basis.T @ vector)
        rest = float(np.linalg.norm(vector))
        if rest > 1e-14 * length:
            basis[:, column] = vector / rest
    return basis


def _grid(spacing: float, reach: float) -> Float64:
    count = math.ceil(reach / spacing)
    return np.arange(-count, count + 1, dtype=np.float64) * spacing


def _density(places: Float64) -> Float64:
    density: Float64 = np.exp(-0.5 * places**2) / math.sqrt(2 * math.pi)
    return density


def _covariance_at_one_step(
    factor: Float64, places: Float64, weights: Float64
) -> tuple[Float64, float]:
    """Return the covariance of a f(a) in the plane, and E f(a)^2, which is that across it."""
    first = places * weights
    mean = np.array([first @ factor @ weights, weights @ factor @ first])
    squares = factor**2
    second = places * first
    mixed = first @ squares @ first
    moments = np.array([[second @ squares @ weights, mixed], [mixed, weights @ squares @ second]])
    return moments - np.outer(mean, mean), float(weights @ squares @ weights)


def _covariance_at_lags(
    factor: Float64, places: Float64, spacing: float, rho: float, name: str
) -> tuple[Float64, float]:
    """Return the sums over all lags but 0, of both signs."""
    count = min(_MAX_DEGREE, math.ceil(math.log(1e-18) / math.log(abs(rho))) + 2)
    columns = _hermite(places, count) * (spacing / math.sqrt(2 * math.pi))
    degree = np.add.outer(np.arange(count), np.arange(count))
    by_lag = _geometric(rho, degree)
    plain = columns @ factor @ columns.T
    along = (columns * places) @ factor @ columns.T, columns @ factor @ (columns * places).T
    terms = [[by_lag * one * other for other in along] for one in along]
    across = _geometric(rho, degree + 1) * plain**2
    size = sum(float(terms[i][i].sum()) for i in range(2)) + float(across.sum())
    ends = degree >= count - max(1, count // 20)
    left = sum(float(np.abs(terms[i][i][ends]).sum()) for i in range(2))
    if count == _MAX_DEGREE and left + float(np.abs(across[ends]).sum()) > _TAIL * abs(size):
        raise ValueError(
            f"{name}: noise_covariance with l2 > 0 does not converge for rho = {rho:g}"
        )
    return np.array([[float(term.sum()) for term in row] for row in terms]), float(across.sum())


def _geometric(rho: float, degree: Float64) -> Float64:
    """Return ``2 sum_{l >= 1} rho^(l degree)``, 0 for degree 0: constants are no noise."""
    power = np.power(rho, np.maximum(degree, 1))
    return np.where(degree > 0, 2 * power / (1 - power), 0.0)


def _hermite(places: Float64, count: int) -> Float64:
    """Return normalised Hermite polynomials times ``exp(-a^2 / 2)``, shape (count, places).

    Half of the exponential goes through the recurrence, so that nothing overflows.
    """
    half = np.exp(-0.25 * places**2)
    values = np.empty((count, places.size))
    values[0] = half
    values[1] = places * half
    for n in range(1, count - 1):
        values[n + 1] = (places * values[n] - math.sqrt(n) * values[n - 1]) / math.sqrt(n + 1)
    return values * half
