"""The twin of ``csrc/sgd/cpu_custom.cpp``: a gradient of the user's that Numba compiles.

One call for each chain, copy and step; all else is still done for a pack of chains at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba.core import errors, types
from numba.extending import overload

from hotloops._runtime._numba_buffers import (
    buffers,
    lanes_of,
    load,
    load_column,
    load_columns,
    store,
    store_rows,
    view,
    zeros,
)
from hotloops._runtime._numba_jit import aligned, inline, kernel, map_slices, plain
from hotloops._runtime._numba_math import (
    STREAM_LABELS,
    STREAM_NOISE,
    draw_normals,
    draw_uniforms,
    prepare_rows,
)
from hotloops._runtime._numba_packs import PACK_BYTES
from hotloops.sgd._numba_rules import take_step
from hotloops.sgd._numba_statistics import (
    Totals,
    collect,
    load_totals,
    make_totals,
    store_totals,
)
from hotloops.sgd._numba_tiles import Chains, Tile, load_state, make_tile, store_state

__all__ = ["advance"]

_STATUS_USER_FUNCTION = 4


class Problem(NamedTuple):
    """A gradient and what it is handed."""

    gradient: Callable[..., Any]
    data: Any
    num_normals: int
    num_uniforms: int


class Memory(NamedTuple):
    """Memory of one thread; rows are one a lane, `stride` or `width` numbers apart."""

    noise: Any  # (lanes * stride,)
    theta: Any  # (lanes * width,) iterates of one copy
    gradient: Any  # (lanes * width,)
    lanes: Any  # (lanes,) int64: 0, 1, ...
    stride: int
    width: int  # a multiple of 4


# --- what does not depend on the gradient, compiled once for all of them --------------------------


@kernel
def draw_noise(
    memory_arrays: Memory,
    row: int,
    step: int,
    low: Any,
    high: Any,
    num_normals: int,
    num_uniforms: int,
) -> None:
    """Write the noise of one step of the chains from `row` on."""
    memory = buffers(memory_arrays)
    noise, stride = memory.noise, memory.stride
    if num_normals > 0:
        rows = prepare_rows(zeros(noise), row, step, STREAM_NOISE, low, high)
        for block in range((num_normals + 3) // 4):
            store_rows(noise, 4 * block, stride, draw_normals(rows, step, block, low, high))
    if num_uniforms > 0:
        rows = prepare_rows(zeros(noise), row, step, STREAM_LABELS, low, high)
        for block in range((num_uniforms + 3) // 4):
            values = draw_uniforms(rows, step, block, low, high)
            store_rows(noise, num_normals + 4 * block, stride, values)


@inline
def _show_copy(chains: Chains, tile: Tile, memory: Memory, j: int, current: int) -> None:
    """Write the iterates of copy `j` to rows."""
    first = current + j * chains.dim
    for i in range(0, chains.dim, 4):
        packs = (
            load(tile.theta, first + i),
            load(tile.theta, first + i + 1),
            load(tile.theta, first + i + 2),
            load(tile.theta, first + i + 3),
        )
        store_rows(memory.theta, i, memory.width, packs)


@kernel
def begin_tile(
    statistics_arrays: Any,
    chains_arrays: Chains,
    tile_arrays: Tile,
    totals_arrays: Totals,
    memory_arrays: Memory,
    first_chain: int,
) -> None:
    """Read the chains of a tile and show the iterates of its first copy."""
    chains, tile, memory = buffers(chains_arrays), buffers(tile_arrays), buffers(memory_arrays)
    lanes = lanes_of(tile.theta)
    live = min(lanes, chains.num_chains - first_chain)
    load_state(chains, tile, first_chain, live)
    statistics, totals = buffers(statistics_arrays), buffers(totals_arrays)
    load_totals(statistics, totals, chains, tile, first_chain, live)
    for k in range(lanes * memory.width):
        memory.gradient[k] = 0.0  # of lanes without a chain
    _show_copy(chains, tile, memory, 0, 0)


@kernel
def finish_copy(
    rules_arrays: Any,
    statistics_arrays: Any,
    chains_arrays: Chains,
    tile_arrays: Tile,
    totals_arrays: Totals,
    memory_arrays: Memory,
    first_chain: int,
    step: int,
    j: int,
    current: int,
    target: int,
) -> None:
    """Make the step of copy `j` with the gradients in the rows; show the copy that comes next."""
    chains, tile, memory = buffers(chains_arrays), buffers(tile_arrays), buffers(memory_arrays)
    first = target + j * chains.dim
    whole = chains.dim - chains.dim % 4
    for i in range(0, whole, 4):
        g0, g1, g2, g3 = load_columns(memory.gradient, memory.lanes, 0, i, memory.width)
        store(tile.theta, first + i, g0)
        store(tile.theta, first + i + 1, g1)
        store(tile.theta, first + i + 2, g2)
        store(tile.theta, first + i + 3, g3)
    for i in range(whole, chains.dim):
        gradient = load_column(memory.gradient, memory.lanes, 0, i, memory.width)
        store(tile.theta, first + i, gradient)
    take_step(buffers(rules_arrays), chains, tile, first_chain, step, j, current, target)
    if j + 1 < chains.num_copies:
        _show_copy(chains, tile, memory, j + 1, current)
        return
    statistics, totals = buffers(statistics_arrays), buffers(totals_arrays)
    collect(statistics, totals, chains, tile, first_chain, step, target)
    _show_copy(chains, tile, memory, 0, target)


@kernel
def end_tile(
    statistics_arrays: Any,
    chains_arrays: Chains,
    tile_arrays: Tile,
    totals_arrays: Totals,
    first_chain: int,
    current: int,
) -> None:
    """Write the chains of a tile back."""
    chains, tile = buffers(chains_arrays), buffers(tile_arrays)
    live = min(lanes_of(tile.theta), chains.num_chains - first_chain)
    store_state(chains, tile, first_chain, live, current)
    statistics, totals = buffers(statistics_arrays), buffers(totals_arrays)
    store_totals(statistics, totals, chains, tile, first_chain, live)


# --- what calls the gradient ---------------------------------------------------------------------


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
    rules: Any,
    statistics: Any,
    chains_arrays: Chains,
    tile: Tile,
    totals: Totals,
    memory_arrays: Memory,
    first_tile: int,
    last_tile: int,
    first_step: int,
    last_step: int,
) -> tuple[int, int]:
    """Advance some tiles by some steps; return the status and the chain of a failure."""
    chains, memory = buffers(chains_arrays), buffers(memory_arrays)
    low, high = chains.key_low, chains.key_high
    counts = problem.num_normals, problem.num_uniforms
    d, copies = chains.dim, chains.num_copies
    lanes = lanes_of(memory.noise)
    for first_chain in range(first_tile * lanes, last_tile * lanes, lanes):
        row = chains.offset + first_chain
        begin_tile(statistics, chains_arrays, tile, totals, memory_arrays, first_chain)
        current, target = np.int64(0), copies * d  # a literal would compile the helpers twice
        for step in range(first_step, last_step):
            draw_noise(memory_arrays, row, step, low, high, *counts)
            for j in range(copies):
                for lane in range(min(lanes, chains.num_chains - first_chain)):
                    chain = first_chain + lane
                    if chains.flags[chain * copies + j] != 0:
                        continue
                    theta = view(memory.theta, lane * memory.width, d)
                    noise = view(memory.noise, lane * memory.stride, counts[0] + counts[1])
                    gradient = view(memory.gradient, lane * memory.width, d)
                    returned = problem.gradient(theta, noise, step, problem.data, gradient)
                    status = _status(returned)
                    if status != 0:
                        return status, chain
                finish_copy(
                    rules,
                    statistics,
                    chains_arrays,
                    tile,
                    totals,
                    memory_arrays,
                    first_chain,
                    step,
                    j,
                    current,
                    target,
                )
            current, target = target, current
        end_tile(statistics, chains_arrays, tile, totals, first_chain, current)
    return 0, -1


def advance(
    problem: Problem,
    rules: Any,
    statistics: Any,
    chains: Chains,
    first_step: int,
    num_steps: int,
    num_threads: int,
) -> None:
    """Advance all chains by `num_steps` steps, in place."""
    dtype = chains.theta.dtype
    lanes = PACK_BYTES // dtype.itemsize
    # A block may write three numbers too many.
    stride = problem.num_normals + problem.num_uniforms + 3
    width = -(-chains.dim // 4) * 4

    def allocate() -> tuple[Tile, Totals, Memory]:
        memory = Memory(
            aligned(lanes * stride, dtype),
            aligned(lanes * width, dtype),
            aligned(lanes * width, dtype),
            np.arange(lanes),
            stride,
            width,
        )
        # Three packs more than the iterates need, for blocks of four.
        tile = make_tile(chains, 0, 0, spare_theta=3)
        return tile, make_totals(statistics, chains.num_copies, chains.dim, dtype), memory

    def call(memory: tuple[Tile, Totals, Memory], *part: int) -> None:
        first_tile, last_tile, first, last = part
        steps = (first_step + first, first_step + last)
        status, chain = _run(
            problem, rules, statistics, chains, *memory, first_tile, last_tile, *steps
        )
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
