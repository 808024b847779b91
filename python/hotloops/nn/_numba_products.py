"""The products of dense layers: those of the BLAS that SciPy carries, through Numba.

They are cut into tiles of fixed size, one product of BLAS each, so that the bits don't depend on
the number of threads that share them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from hotloops._runtime import threads
from hotloops._runtime._numba_jit import kernel

__all__ = ["by_input", "by_weight", "forward"]

_TILE = 256
# Multiplications that take about as long as to start a thread of Python, some 0.2 ms.
_WORTH_SHARING = 1 << 24


def forward(x: Any, weight: Any, y: Any, begin: int, num_threads: int) -> None:
    """Write x W^T to columns of y."""
    _share(lambda i, j: _forward(x, weight, y, begin, i, j), len(x), x, weight, num_threads)


def by_input(g: Any, weight: Any, gradient: Any, begin: int, num_threads: int) -> None:
    """Add g W to columns of the gradient of x."""
    _share(lambda i, j: _by_input(g, weight, gradient, begin, i, j), len(g), g, weight, num_threads)


def by_weight(g: Any, x: Any, gradient: Any, num_threads: int) -> None:
    """Add g^T x to the gradient of W."""
    _share(lambda i, j: _by_weight(g, x, gradient, i, j), len(gradient), x, gradient, num_threads)


def _share(
    task: Callable[[int, int], object], size: int, rows: Any, weight: Any, num_threads: int
) -> None:
    worth = len(rows) * weight.size > _WORTH_SHARING
    threads.map_tiles(task, -(-size // _TILE), num_threads if worth else 1)


@kernel
def _forward(x: Any, weight: Any, y: Any, begin: int, first: int, last: int) -> None:
    for i in range(first * _TILE, min(last * _TILE, x.shape[0]), _TILE):
        j = min(i + _TILE, x.shape[0])
        y[i:j, begin : begin + weight.shape[0]] = np.dot(x[i:j], weight.T)


@kernel
def _by_input(g: Any, weight: Any, gradient: Any, begin: int, first: int, last: int) -> None:
    for i in range(first * _TILE, min(last * _TILE, g.shape[0]), _TILE):
        j = min(i + _TILE, g.shape[0])
        gradient[i:j, begin : begin + weight.shape[1]] += np.dot(g[i:j], weight)


@kernel
def _by_weight(g: Any, x: Any, gradient: Any, first: int, last: int) -> None:
    for i in range(first * _TILE, min(last * _TILE, g.shape[1]), _TILE):
        j = min(i + _TILE, g.shape[1])
        part = np.ascontiguousarray(g[:, i:j])
        gradient[i:j] += np.dot(part.T, x)
