"""Velocity fields whose flows are known, the marginal fields of Gaussian paths, and data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

SIGMA = 1e-4


def gaussian(mean: float, sd: float) -> Callable[..., Any]:
    """The field of the path from N(0, 1) to N(mean, sd^2)."""

    def velocity(x: Any, t: Any) -> Any:
        t = np.asarray(t).reshape(-1, 1)
        left = 1.0 - (1.0 - SIGMA) * t
        variance = t * t * sd * sd + left * left
        slope = (t * sd * sd - (1.0 - SIGMA) * left) / variance
        return mean + slope * (x - t * mean)

    return velocity


def gaussian_end(z: Any, mean: float, sd: float) -> Any:
    """Where the flow from z at time 0 is at time 1."""
    return mean + np.sqrt(sd * sd + SIGMA * SIGMA) * z


def mixture_parts(x: Any, t: Any, means: Any, weights: Any, sd: float) -> tuple[Any, Any]:
    """Responsibilities and fields of the components, each (n, K), of a scalar x (n,)."""
    x, t = np.asarray(x).reshape(-1, 1), np.asarray(t).reshape(-1, 1)
    means, weights = np.asarray(means), np.asarray(weights)
    left = 1.0 - (1.0 - SIGMA) * t
    variance = t * t * sd * sd + left * left
    log_density = np.log(weights) - (x - t * means) ** 2 / (2.0 * variance)
    share = np.exp(log_density - log_density.max(axis=1, keepdims=True))
    share /= share.sum(axis=1, keepdims=True)
    fields = means + (t * sd * sd - (1.0 - SIGMA) * left) / variance * (x - t * means)
    return share, fields


def mixture(means: Any, weights: Any, sd: float) -> Callable[..., Any]:
    """The field towards a mixture; with labels (n, 1), that of one component where it isn't -1."""

    def velocity(x: Any, t: Any, labels: Any = None) -> Any:
        share, fields = mixture_parts(x[:, 0], t, means, weights, sd)
        value = (share * fields).sum(axis=1)
        if labels is not None:
            rows = np.arange(len(value))
            value = np.where(labels[:, 0] >= 0, fields[rows, labels[:, 0]], value)
        return value[:, None]

    return velocity


def product(x: Any, t: Any, labels: Any) -> Any:
    """Two independent coordinates, each a mixture with a label of its own."""
    first = mixture((-2.0, 1.0), (0.4, 0.6), 0.5)
    second = mixture((0.0, 3.0), (0.25, 0.75), 0.5)
    return np.concatenate(
        [first(x[:, :1], t, labels[:, :1]), second(x[:, 1:], t, labels[:, 1:])], axis=1
    )


def sides(n: int, seed: int = 0) -> tuple[Any, Any]:
    """Two Gaussians at -2 and 2 on the first axis, of deviation 0.5, and which of them."""
    rng = np.random.default_rng(seed)
    side = rng.integers(0, 2, n)
    z = 0.5 * rng.normal(size=(n, 2))
    z[:, 0] += np.where(side, 2.0, -2.0)
    return z, side
