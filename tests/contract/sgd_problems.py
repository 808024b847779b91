"""The problems of the contract cases and the arrays that their kernels take.

Inputs are fractions of small integers, exact in float32 and the same on every platform.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops import random, sgd

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Argument:
    """An array that a kernel takes.

    The role is "state" (advanced in place), "data" (never written) or "out" (written whole). The
    shape is made of numbers and symbols; the dtype is a name, or "T" for that of the case.
    """

    name: str
    role: str
    shape: tuple[int | str, ...]
    dtype: str = "T"


def fractions(shape: tuple[int, ...], seed: int, dtype: Any = np.float64) -> Array:
    """Multiples of 1/32 between -2 and 2, from Philox."""
    words = random.philox(
        np.stack([np.arange(int(np.prod(shape)))] + [np.full(int(np.prod(shape)), seed)] * 3, -1),
        [1, 2],
    )[:, 0]
    return ((words % 129).astype(np.int64) - 64).reshape(shape).astype(dtype) / dtype(32)


CHAINS = (
    Argument("theta", "state", ("C", "J", "d")),
    Argument("sums", "state", ("C", "J", "d"), "float64"),
    Argument("flags", "state", ("C", "J"), "uint8"),
    Argument("diverged_at", "state", ("C", "J"), "int64"),
    Argument("step_sizes", "data", ("J",)),
)
QUADRATIC = (
    *CHAINS,
    Argument("curvature", "data", ("d",)),
    Argument("minimizer", "data", ("d",)),
    Argument("noise_scale", "data", ("d",)),
)
QUADRATIC_FULL = (
    *CHAINS,
    Argument("matrix", "data", ("d", "d")),
    Argument("minimizer", "data", ("d",)),
    Argument("noise_factor", "data", ("d", "d")),
)
ROWS = (*CHAINS, Argument("features", "data", ("n", "d")), Argument("targets", "data", ("n",)))
STREAM = (*CHAINS, Argument("theta_true", "data", ("d",)), Argument("factor", "data", ("d",)))
STREAM_AR1 = (
    *CHAINS,
    Argument("auxiliary", "state", ("C", "d")),
    Argument("theta_true", "data", ("d",)),
    Argument("factor", "data", ("d", "d")),
)
MARKOV = (
    *CHAINS,
    Argument("auxiliary", "state", ("C", 1)),
    Argument("matrices", "data", ("S", "d", "d")),
    Argument("offsets", "data", ("S", "d")),
    Argument("threshold", "data", ("S", "S"), "uint32"),
    Argument("alias", "data", ("S", "S"), "int32"),
)


def quadratic(
    dim: int, noise: float = 1.0, noise_law: Any = "gaussian", **options: Any
) -> Callable[[str], Any]:
    def make(dtype: str) -> Any:
        curvature = 1 + np.abs(fractions((dim,), 1))
        scale = noise * np.abs(fractions((dim,), 3))
        center = fractions((dim,), 2)
        return sgd.Quadratic(curvature, center, scale, noise=noise_law, **options), dtype

    return make


def quadratic_full(dim: int, **options: Any) -> Callable[[str], Any]:
    def make(dtype: str) -> Any:
        factor = np.tril(fractions((dim, dim), 3))
        matrix = np.eye(dim) * 4 + (fractions((dim, dim), 1) + fractions((dim, dim), 1).T) / (
            8 * dim
        )
        return sgd.Quadratic(matrix, fractions((dim,), 2), cholesky=factor, **options), dtype

    return make


def rows(loss: Any, count: int, dim: int, **options: Any) -> Callable[[str], Any]:
    def make(dtype: str) -> Any:
        kind = np.dtype(dtype).type
        targets = fractions((count,), 7, kind)
        if loss is sgd.Logistic:
            targets = (targets > 0).astype(dtype)
        elif loss in (sgd.SquaredHinge, sgd.SoftplusHinge):
            targets = np.where(targets > 0, 1, -1).astype(dtype)
        elif loss is sgd.Poisson:
            targets = np.floor(np.abs(targets) * 2)
        features = fractions((count, dim), 6, kind)
        return loss(features, targets, l2=1 / 16, **options), dtype

    return make


def streaming(problem: Any, dim: int, **options: Any) -> Callable[[str], Any]:
    def make(dtype: str) -> Any:
        given = dict(options)
        if given.pop("full", False):
            given["cholesky"] = np.eye(dim) + np.tril(fractions((dim, dim), 3)) / 4
        else:
            given["scale"] = 1 / 2 + np.abs(fractions((dim,), 3))
        return problem(fractions((dim,), 2), **given), dtype

    return make


def markov(states: int, dim: int) -> Callable[[str], Any]:
    def make(dtype: str) -> Any:
        matrices = fractions((states, dim, dim), 1) / 4 - 2 * np.eye(dim)
        weights = np.abs(fractions((states, states), 4)) + 1 / 32
        transitions = weights / weights.sum(axis=1, keepdims=True)
        return sgd.MarkovLSA(matrices, fractions((states, dim), 2), transitions), dtype

    return make
