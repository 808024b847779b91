"""The twin of ``csrc/sgd/cpu_custom.cpp``: a gradient of the user's that Numba compiles.

One call for each chain, copy and step; the noise is still made for a pack of chains at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba.core import errors, types
from numba.extending import overload

from hotloops._runtime._numba_buffers import buffers, lanes_of, store_rows, view, zeros
from hotloops._runtime._numba_jit import aligned, inline, kernel, map_slices, plain
from hotloops._runtime._numba_math import (
    STREAM_LABELS,
    STREAM_NOISE,
    draw_normals,
    draw_uniforms,
    prepare_rows,
)
from hotloops._runtime._numba_packs import PACK_BYTES
from hotloops.sgd._numba_tiles import Chains

__all__ = ["advance"]

_STATUS_USER_FUNCTION = 4


class Problem(NamedTuple):
    """A gradient and what it is handed."""

    gradient: Callable[..., Any]
    data: Any
    num_normals: int
    num_uniforms: int


class Memory(NamedTuple):
    """Memory of one thread."""

    noise: Any  # (lanes * stride,)
    gradient: Any  # (d,)
    proposed: Any  # (d,)


@kernel
def draw_noise(
    memory_arrays: Memory,
    row: int,
    step: int,
    low: Any,
    high: Any,
    num_normals: int,
    num_uniforms: int,
    stride: int,
) -> None:
    """Write the noise of one step of the chains from `row` on, `stride` numbers apart."""
    noise = buffers(memory_arrays).noise
    if num_normals > 0:
        rows = prepare_rows(zeros(noise), row, step, STREAM_NOISE, low, high)
        for block in range((num_normals + 3) // 4):
            store_rows(noise, 4 * block, stride, draw_normals(rows, step, block, low, high))
    if num_uniforms > 0:
        rows = prepare_rows(zeros(noise), row, step, STREAM_LABELS, low, high)
        for block in range((num_uniforms + 3) // 4):
            values = draw_uniforms(rows, step, block, low, high)
            store_rows(noise, num_normals + 4 * block, stride, values)


def _status(returned: Any) -> int:
    """Return the status that a gradient tells: nothing or an integer."""
    return 0 if returned is None else int(returned)


def _no_status(returned: Any) -> int:
    return 0


def _given_status(returned: Any) -> int:
    return int(returned)


@overload(_status)
def _compile_status(returned: Any) -> Any:
    if isinstance(returned, types.NoneType):
        return _no_status
    if isinstance(returned, types.Integer | types.Boolean):
        return _given_status
    raise errors.TypingError(f"it must write to `out` and return None or a status, not {returned}")


@plain
def _run(
    problem: Problem,
    chains_arrays: Chains,
    memory_arrays: Memory,
    first_tile: int,
    last_tile: int,
    first_step: int,
    last_step: int,
) -> tuple[int, int]:
    """Advance some tiles by some steps; return the status and the chain of a failure."""
    chains, memory = buffers(chains_arrays), buffers(memory_arrays)
    low, high = chains.key_low, chains.key_high
    num_normals, num_uniforms = problem.num_normals, problem.num_uniforms
    lanes = lanes_of(memory.noise)
    stride = memory_arrays.noise.size // lanes
    gradient = view(memory.gradient, 0, chains.dim)
    for index in range(first_tile, last_tile):
        row = chains.offset + index * lanes
        live = min(lanes, chains.num_chains - index * lanes)
        for step in range(first_step, last_step):
            draw_noise(memory_arrays, row, step, low, high, num_normals, num_uniforms, stride)
            for lane in range(live):
                chain = index * lanes + lane
                noise = view(memory.noise, lane * stride, num_normals + num_uniforms)
                for cell in range(chain * chains.num_copies, (chain + 1) * chains.num_copies):
                    if chains.flags[cell] == 0:
                        theta = view(chains.theta, cell * chains.dim, chains.dim)
                        returned = problem.gradient(theta, noise, step, problem.data, gradient)
                        status = _status(returned)
                        if status != 0:
                            return status, chain
                        _update(chains, memory, cell, step)
                    if chains.accumulate:
                        for i in range(cell * chains.dim, (cell + 1) * chains.dim):
                            chains.sums[i] += chains.theta[i]
    return 0, -1


@inline
def _update(chains: Chains, memory: Memory, cell: int, step: int) -> None:
    step_size = chains.step_sizes[cell % chains.num_copies]
    first = cell * chains.dim
    good = True
    for i in range(chains.dim):
        proposed = chains.theta[first + i] - step_size * memory.gradient[i]
        memory.proposed[i] = proposed
        good = good and abs(proposed) <= chains.divergence_limit
    if good:
        for i in range(chains.dim):
            chains.theta[first + i] = memory.proposed[i]
    else:
        chains.flags[cell] = 1
        chains.diverged_at[cell] = step


def advance(
    problem: Problem,
    chains: Chains,
    first_step: int,
    num_steps: int,
    num_threads: int,
) -> None:
    """Advance all chains by `num_steps` steps, in place."""
    dtype = chains.theta.dtype
    lanes = PACK_BYTES // dtype.itemsize
    stride = (
        problem.num_normals + problem.num_uniforms + 3
    )  # a block may write three numbers too many

    def allocate() -> Memory:
        return Memory(
            aligned(lanes * stride, dtype),
            np.empty(chains.dim, dtype),
            np.empty(chains.dim, dtype),
        )

    def call(memory: Memory, *part: int) -> None:
        first_tile, last_tile, first, last = part
        steps = (first_step + first, first_step + last)
        status, chain = _run(problem, chains, memory, first_tile, last_tile, *steps)
        if status != 0:
            raise RuntimeError(
                f"sgd_custom: the user's function returned {status} at index {chain} "
                f"(status {_STATUS_USER_FUNCTION})"
            )

    num_tiles = -(-chains.num_chains // lanes)
    try:
        map_slices(allocate, call, num_tiles, num_steps, num_threads)
    except errors.TypingError as error:
        raise TypeError(f"Custom: `grad` cannot be compiled: {error}") from error
