"""The mathematics of the steps in plain NumPy, and Gibbs laws by quadrature."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops import simplex

Array = npt.NDArray[np.float64]

NEAR, FAR, SHIFT = np.array([0.6, 0.3, 0.1]), np.array([0.2, 0.2, 0.6]), 0.02


def double_well() -> simplex.Polynomial:
    """The quartic with minima at FAR (global, 0) and near NEAR."""
    distance = simplex.Polynomial.squared_distance
    return distance(FAR) * (distance(NEAR) + SHIFT)


def double_well_value(x: Array) -> Array:
    first = ((x - FAR) ** 2).sum(axis=-1)
    second = ((x - NEAR) ** 2).sum(axis=-1)
    return first * (second + SHIFT)


def wells(dim: int) -> simplex.Polynomial:
    """A quartic of `dim` weights that is nowhere flat."""
    rng = np.random.default_rng(dim)
    distance = simplex.Polynomial.squared_distance
    first, second = rng.dirichlet(np.ones(dim), 2)
    return distance(first) * (distance(second) + SHIFT)


def entropic(x: Array, g: Array, z: Array, eps: float, beta: float, alpha: Any = 1.0) -> Array:
    log = np.log(x) - eps * g + np.sqrt(2 * eps / beta) * z / np.sqrt(x)
    log -= eps * (1 - alpha) / (beta * x)
    weights = np.exp(log - log.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def sphere(x: Array, g: Array, z: Array, eps: float, beta: float, alpha: Any = 0.5) -> Array:
    u = np.sqrt(x)
    p = u * g + (0.5 - alpha) / (beta * u)
    drift = p - u * (u * p).sum(axis=-1, keepdims=True)
    noise = z - u * (u * z).sum(axis=-1, keepdims=True)
    v = (-eps * drift + np.sqrt(2 * eps / beta) * noise) / 2
    length = np.linalg.norm(v, axis=-1, keepdims=True)
    moved = np.abs(np.cos(length) * u + np.sin(length) * v / length) ** 2
    return moved / moved.sum(axis=-1, keepdims=True)


def project(v: Array) -> Array:
    """Projection onto the simplex by sorting (Held, Wolfe, Crowder 1974)."""
    descending = -np.sort(-v, axis=-1)
    sums = (np.cumsum(descending, axis=-1) - 1) / np.arange(1, v.shape[-1] + 1)
    support = (descending > sums).sum(axis=-1, keepdims=True)
    tau = np.take_along_axis(sums, support - 1, axis=-1)
    return np.maximum(v - tau, 0.0)


def projected(x: Array, g: Array, z: Array, eps: float, beta: float, alpha: Any = 1.0) -> Array:
    return project(x - eps * g + np.sqrt(2 * eps / beta) * z)


STEPS: dict[str, Callable[..., Array]] = {
    "entropic": entropic,
    "sphere": sphere,
    "projected": projected,
}


def differences(objective: simplex.Objective, x: Array, width: float = 1e-6) -> Array:
    """Gradient by central differences of the compiled value."""
    shifts = width * np.eye(x.size)
    above, _ = objective.value_and_grad(x + shifts)
    below, _ = objective.value_and_grad(x - shifts)
    return (above - below) / (2 * width)


def uniform_points(count: int, dim: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).dirichlet(np.ones(dim), count)
