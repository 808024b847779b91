"""Distances between two sets of points, and sums of kernels over them, tile by tile."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops._runtime import dispatch, threads, validate
from hotloops.flow._branches import need_host

__all__ = ["Points", "block_distances", "kernel_sum", "points"]

_GROUP = 16
_ROWS = 64
DISTANCES = {"sqeuclidean": 0, "l1": 1}

Points = npt.NDArray[np.float64]


def points(
    function: str, name: str, value: Any, sizes: dict[str, int], *, least: int = 1
) -> Points:
    """Check a set of points (n, d) and return it in float64."""
    need_host(function, name, value, ", as metrics have no CUDA backend")
    given = validate.array(function, name, value, ndim=2)
    found: Points = validate.array(
        function, name, np.asarray(given, np.float64), shape=(None, "d"), symbols=sizes
    )
    if len(found) < least:
        expectation = f"hold at least {least} points"
        validate.fail(ValueError, function, name, expectation, str(len(found)))
    return found


def columns(y: Points) -> Points:
    """Return the points as columns, filled up to whole groups with points at infinity."""
    stride = -(-len(y) // _GROUP) * _GROUP
    found = np.full((y.shape[1], stride), np.inf)
    found[:, : len(y)] = y.T
    return found


def module(function: str, backend: str | None) -> Any:
    """Return the kernels of a backend."""
    resolved = dispatch.resolve_backend(function, backend, "cpu")
    return importlib.import_module(f"hotloops.flow._{resolved}_metrics")


def kernel_sum(
    kernels: Any, x: Points, y: Points, scales: npt.NDArray[np.float64], num_threads: int
) -> float:
    """Return the sum over pairs of ``sum_s exp(scales[s] |x - y|^2)``; `y` may be `x` itself."""
    partial = np.zeros(-(-len(x) // _ROWS))
    kernels.kernel_sum(partial, x, columns(y), len(y), scales, y is x, num_threads)
    return float(np.add.accumulate(partial)[-1])


def block_distances(
    kernels: Any, x: Points, y_columns: Points, y_count: int, distance: str, num_threads: int
) -> Points:
    """Return the distances of some rows to all points, shape (rows, points)."""
    out = np.empty((len(x), y_count))
    kernels.distances(out, x, y_columns, DISTANCES[distance], num_threads)
    return out


def resolve_threads(function: str, num_threads: int | None) -> int:
    """Return the number of threads of a call."""
    return threads.resolve_num_threads(function, num_threads)
