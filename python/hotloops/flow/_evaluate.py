"""Velocities as one Python function on whole batches: all branches in one call."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hotloops._runtime import validate
from hotloops.flow._branches import Branches
from hotloops.flow._velocities import Velocity
from hotloops.nn._network import kernels_of
from hotloops.nn._tables import Batch

__all__ = ["Evaluator", "combine", "make_evaluator"]

Evaluator: TypeAlias = Callable[[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]], None]

_BLOCK_ROWS = 1024  # of a network at a time

_SIGNATURE = ctypes.CFUNCTYPE(
    None,
    ctypes.c_int64,
    ctypes.c_int64,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_void_p,
)


def make_evaluator(
    function: str,
    velocity: Velocity,
    branches: Branches,
    inputs: list[npt.NDArray[Any]],
    data: Any,
    shape: tuple[int, int],
    dtype: npt.DTypeLike,
    backend: str = "numba",
    num_threads: int = 1,
) -> Evaluator:
    """Return ``evaluate(z, t, out)`` for arrays z, out (n, d) and t (n,).

    `backend` and `num_threads` are those of networks.
    """
    n, d = shape
    count = branches.count
    stacked = np.empty((count * n, d), dtype)
    labels = np.ascontiguousarray(branches.labels.transpose(0, 2, 1), dtype=np.int64)
    labels = labels.reshape(count * n, labels.shape[2])
    if velocity.kind == "network":
        tiled = [np.tile(x, (count, 1)) for x in inputs]
        call = _network(velocity.function, labels, tiled, backend, num_threads)
    else:
        call = _function(function, velocity, labels, data)

    def evaluate(z: npt.NDArray[Any], t: npt.NDArray[Any], out: npt.NDArray[Any]) -> None:
        if count == 1:
            call(z, t, out)
            return
        call(np.tile(z, (count, 1)), np.tile(t, count), stacked)
        combine(stacked.reshape(count, n, d), branches.weights, out)

    return evaluate


def combine(
    parts: npt.NDArray[Any], weights: npt.NDArray[np.float64], out: npt.NDArray[Any]
) -> None:
    """Write ``v_0 + sum_b w_b (v_b - v_0)`` to `out`."""
    out[...] = parts[0]
    for part, weight in zip(parts[1:], weights.astype(out.dtype), strict=True):
        out += weight.reshape(-1, 1) * (part - parts[0])


def _network(
    network: Any,
    labels: npt.NDArray[np.int64],
    inputs: list[npt.NDArray[Any]],
    backend: str,
    num_threads: int,
) -> Evaluator:
    program = network.program
    memory = network.flat_parameters, network.flat_buffers
    tables = [np.ascontiguousarray(column, dtype=np.int32) for column in labels.T]
    kernels = kernels_of(backend)

    def call_network(z: Any, t: Any, out: Any) -> None:
        batch = Batch([z, t.reshape(-1, 1), *inputs], [], tables, z.shape[0])
        kernels.predict(program, *memory, batch, [out], _BLOCK_ROWS, num_threads)

    return call_network


def _function(
    function: str, velocity: Velocity, labels: npt.NDArray[np.int64], data: Any
) -> Evaluator:
    if velocity.kind == "address":
        pointer = _SIGNATURE(velocity.address)
        user = None if data is None else data.ctypes.data

        def call_address(z: Any, t: Any, out: Any) -> None:
            n, d = z.shape
            addresses = (array.ctypes.data for array in (z, t, labels, out))
            pointer(n, d, *addresses, user)

        return call_address
    if velocity.kind == "njit" and velocity.writes:

        def call_njit(z: Any, t: Any, out: Any) -> None:
            velocity.function(z, t, labels, data, out)

        return call_njit

    def call(z: Any, t: Any, out: Any) -> None:
        given = (z, t, labels) if labels.shape[1] and velocity.kind == "callable" else (z, t)
        value = np.asarray(velocity.function(*given))
        if value.shape != z.shape:
            expectation = f"return an array of shape {z.shape}"
            validate.fail(ValueError, function, "velocity", expectation, str(value.shape))
        if value.dtype.kind not in "fiu":
            expectation = "return an array of real numbers"
            validate.fail(TypeError, function, "velocity", expectation, f"dtype {value.dtype}")
        out[...] = value

    return call
