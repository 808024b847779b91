"""What the tests of the solver share: data, and the iteration written down naively."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops import datasets

Float64 = npt.NDArray[np.float64]


@functools.lru_cache(None)
def adult() -> tuple[Any, Float64, list[npt.NDArray[np.int64]]]:
    """The training table of a9a, split by label over four clients."""
    table = datasets.load_a9a(sparse=True)
    negative, positive = np.flatnonzero(table.y < 0), np.flatnonzero(table.y > 0)
    parts = [negative[:12360], positive[:3921], negative[12360:], positive[3921:]]
    return table.X, table.y, parts


def small_problem(seed: int = 0, rows: int = 90, columns: int = 5) -> tuple[Any, Any, Any]:
    """Features, signs and clients of unequal sizes whose labels differ."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((rows, columns))
    y = np.where(X @ rng.standard_normal(columns) + rng.standard_normal(rows) > 0, 1.0, -1.0)
    ids = np.where(rng.random(rows) < 0.2, 2, (y > 0).astype(int))
    return X, y, ids


def logistic_gradient(X: Float64, y: Float64, w: Float64) -> Float64:
    """The mean gradient of the logistic loss."""
    return X.T @ (-y / (1.0 + np.exp(y * (X @ w)))) / y.size


def naive_rounds(
    gradients: Any,
    alpha: Float64,
    w: Float64,
    *,
    sigma: float,
    rho: float,
    l2: float,
    scheme: str,
    beta: float,
    num_rounds: int,
    eps: float = 1e-8,
    relaxation: float = 1.0,
) -> list[Float64]:
    """PISA as the paper states it, with every client's point stored; returns the global points."""
    m = alpha.size
    local, dual, second = np.tile(w, (m, 1)), np.zeros((m, w.size)), np.zeros((m, w.size))
    points = []
    for t in range(1, num_rounds + 2):
        w = (alpha @ (sigma * local + dual)) / (sigma * alpha.sum() + l2)
        points.append(w)
        for i in range(m):
            u = gradients(i, w) + dual[i]
            if scheme == "adagrad":
                second[i] += u**2
            else:
                second[i] = beta * second[i] + (1 - beta) * u**2
            q = second[i] / (1 - beta**t) if scheme == "adam" else second[i]
            q = np.ones_like(u) if scheme == "identity" else np.sqrt(q)
            centre = relaxation * w + (1 - relaxation) * local[i]
            step = u / (sigma + rho * (q + eps))
            local[i] = centre - step
            dual[i] += sigma * (local[i] - centre)
    return points
