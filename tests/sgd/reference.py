"""The SGD loop in plain NumPy, float64, one step at a time, written from the definitions.

Normals come from `hotloops.random` (tested on its own), words from the NumPy Philox of the tests.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops import random
from tests.random.reference import words

Float64 = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

# gradient(theta (C, d), step, chains) -> (C, d)
Gradient = Callable[[Float64, int, Float64], Float64]

ROW_SAMPLING = 5  # the stream of the rows


def simulate(
    gradient: Gradient,
    step_sizes: Sequence[float],
    theta0: Float64,
    *,
    num_steps: int,
    burn_in: int,
    seed: int,
    dtype: Any = np.float64,
    chain_offset: int = 0,
    step_offset: int = 0,
) -> tuple[Float64, Float64]:
    """Return averages and last iterates, shape (C, J, d); theta0 has that shape."""
    theta = np.array(theta0, np.float64)
    num_chains, _, dim = theta.shape
    chains = range(chain_offset, chain_offset + num_chains)
    total = np.zeros_like(theta)
    for k in range(burn_in + num_steps):
        step = step_offset + k
        noise = random.normals(seed, [step], chains, dim, dtype=dtype)[0].astype(np.float64)
        for j, step_size in enumerate(step_sizes):
            theta[:, j] -= step_size * gradient(theta[:, j], step, noise)
        if k >= burn_in:
            total += theta
    return total / num_steps, theta


def quadratic(curvature: Float64, minimizer: Float64, scale: Float64) -> Gradient:
    return lambda theta, step, noise: curvature * (theta - minimizer) + scale * noise


def quadratic_full(matrix: Float64, minimizer: Float64, factor: Float64) -> Gradient:
    return lambda theta, step, noise: (theta - minimizer) @ matrix.T + noise @ factor.T


def cosine(phi: float, sigma: float) -> Gradient:
    return lambda theta, step, noise: 2 * theta - np.sin(theta + phi) + sigma * noise


def rows_gradient(
    residual: Callable[[Float64, Float64], Float64],
    features: Float64,
    targets: Float64,
    l2: float,
    rows: Callable[[int], Rows],
) -> Gradient:
    """Mean of residual(x^T t, y) x over the minibatch rows(step), shape (C, batch), plus l2 t."""

    def gradient(theta: Float64, step: int, noise: Float64) -> Float64:
        chosen = rows(step)
        x, y = features[chosen], targets[chosen]
        weights = residual(np.einsum("cbd,cd->cb", x, theta), y)
        return np.einsum("cb,cbd->cd", weights, x) / chosen.shape[1] + l2 * theta

    return gradient


def least_squares_residual(margin: Float64, target: Float64) -> Float64:
    return margin - target


def logistic_residual(margin: Float64, target: Float64) -> Float64:
    return 1 / (1 + np.exp(-margin)) - target


def iid_rows(seed: int, step: int, chains: Any, num_rows: int, batch_size: int) -> Rows:
    """Rows drawn with replacement, (C, batch): (word n) >> 32, above 2**20 without its bias."""
    samples = np.arange(batch_size)
    chain = np.asarray(chains)[:, None]
    attempt = np.zeros((chain.size, batch_size), np.int64)
    rejecting = num_rows > 2**20
    threshold = 2**32 % num_rows if rejecting else 0
    while True:
        block = words(seed, step, chain, samples // 4 + (attempt << 24), ROW_SAMPLING)
        word = np.take_along_axis(
            block, np.broadcast_to(samples % 4, attempt.shape)[..., None], axis=2
        )[..., 0]
        product = word * np.uint64(num_rows)
        rejected = (product & np.uint64(2**32 - 1)) < threshold
        if not rejected.any():
            return (product >> np.uint64(32)).astype(np.int64)
        attempt += rejected


def sequential_rows(step: int, num_chains: int, num_rows: int, batch_size: int) -> Rows:
    row = (step * batch_size + np.arange(batch_size)) % num_rows
    return np.broadcast_to(row, (num_chains, batch_size))
