"""The Numba backend of the random numbers; the twin of ``csrc/random/cpu.cpp``.

Lanes hold consecutive blocks of the grid in (step, chain, block) order, so that one chain with many
coordinates and many chains with few fill a pack alike.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from hotloops._runtime._numba_buffers import buffers, lanes_of, load, store_rows, zeros
from hotloops._runtime._numba_jit import aligned, inline, kernel, map_slices
from hotloops._runtime._numba_math import box_muller, counter_word_1, philox4x32, uniform
from hotloops._runtime._numba_packs import (
    PACK_BYTES,
    count_from,
    interleave_words,
    is_single,
    traced,
    uint64,
    word,
)

__all__ = ["fill", "philox"]


class Grid(NamedTuple):
    """Coordinates [first, first + num_coordinates) at every (step, chain)."""

    out: Any  # (steps * chains * coordinates,)
    steps: Any  # (steps,)
    chains: Any  # (chains,)
    num_steps: int
    num_chains: int
    first: int
    num_coordinates: int
    first_block: int
    blocks: int  # of each (step, chain)
    key_low: Any
    key_high: Any
    stream: int
    normal: bool


class Memory(NamedTuple):
    """Memory of one thread."""

    counters: Any  # 8 packs of uint64: four words of the even lanes, then of the odd ones
    values: Any  # 4 packs of results


@traced
def _row_words(
    like: Any, step: Any, stream: Any, chain: Any, block: Any, low: Any, high: Any
) -> tuple[Any, ...]:
    """Return the words of a pack whose lanes are blocks of one (step, chain)."""
    c0, c1, c2, first = uint64(step), counter_word_1(step, stream), uint64(chain), uint64(block)
    if not is_single(like):
        return philox4x32(c0, c1, c2, count_from(first, 1), low, high)
    even = philox4x32(c0, c1, c2, count_from(first, 2), low, high)
    odd = philox4x32(c0, c1, c2, count_from(first + 1, 2), low, high)
    return tuple(interleave_words(a, b) for a, b in zip(even, odd, strict=True))


@traced
def _lane_words(like: Any, even: Any, odd: Any, low: Any, high: Any) -> tuple[Any, ...]:
    """Return the words of a pack whose lanes have counters of their own."""
    words = philox4x32(even[0], even[1], even[2], even[3], low, high)
    if not is_single(like):
        return words
    others = philox4x32(odd[0], odd[1], odd[2], odd[3], low, high)
    return tuple(interleave_words(a, b) for a, b in zip(words, others, strict=True))


@traced
def _normals(words: Any) -> tuple[Any, ...]:
    x0, x1, x2, x3 = words
    return box_muller(x0, x1) + box_muller(x2, x3)


@traced
def _uniforms(words: Any) -> tuple[Any, ...]:
    return tuple(uniform(x) for x in words)


@inline
def _load_counter(memory: Memory, first: int) -> tuple[Any, ...]:
    counters = memory.counters
    return (
        load(counters, first),
        load(counters, first + 1),
        load(counters, first + 2),
        load(counters, first + 3),
    )


@inline
def _set_counters(grid: Grid, memory: Memory, step: int, chain: int, block: int) -> None:
    """Write the counters of a pack of blocks that lie anywhere in the grid."""
    width = lanes_of(memory.counters)
    parts = lanes_of(memory.values) // width
    for lane in range(lanes_of(memory.values)):
        place = (lane % parts) * 4 * width + lane // parts
        at_step = grid.steps[step] if step < grid.num_steps else 0
        memory.counters[place] = at_step
        memory.counters[place + width] = counter_word_1(at_step, grid.stream)
        memory.counters[place + 2 * width] = grid.chains[chain]
        memory.counters[place + 3 * width] = grid.first_block + block
        block += 1
        if block == grid.blocks:
            block = 0
            chain += 1
            if chain == grid.num_chains:
                chain = 0
                step += 1


@inline
def _scatter(grid: Grid, memory: Memory, number: int, last: int) -> None:
    """Write those results of a pack that belong to coordinates of the grid."""
    lanes = lanes_of(memory.values)
    for lane in range(min(lanes, last - number)):
        row = (number + lane) // grid.blocks
        block = (number + lane) % grid.blocks
        first = 4 * (grid.first_block + block) - grid.first
        for c in range(4):
            if 0 <= first + c < grid.num_coordinates:
                grid.out[row * grid.num_coordinates + first + c] = memory.values[4 * lane + c]


@kernel
def _fill(grid_arrays: Grid, memory_arrays: Memory, first_pack: int, last_pack: int) -> None:
    grid, memory = buffers(grid_arrays), buffers(memory_arrays)
    like = zeros(memory.values)
    low, high = grid.key_low, grid.key_high
    lanes = lanes_of(memory.values)
    num_blocks = grid.num_steps * grid.num_chains * grid.blocks
    for pack in range(first_pack, last_pack):
        number = pack * lanes
        row, block = number // grid.blocks, number % grid.blocks
        step, chain = row // grid.num_chains, row % grid.num_chains
        if block + lanes <= grid.blocks:
            first = grid.first_block + block
            words = _row_words(
                like, grid.steps[step], grid.stream, grid.chains[chain], first, low, high
            )
        else:
            _set_counters(grid, memory, step, chain, block)
            even, odd = _load_counter(memory, 0), _load_counter(memory, 4)
            words = _lane_words(like, even, odd, low, high)
        values = _normals(words) if grid.normal else _uniforms(words)
        first = 4 * (grid.first_block + block) - grid.first
        inside = first >= 0 and first + 4 * lanes <= grid.num_coordinates
        if inside and number + lanes <= num_blocks:
            store_rows(grid.out, row * grid.num_coordinates + first, 4, values)
        else:
            store_rows(memory.values, 0, 4, values)
            _scatter(grid, memory, number, num_blocks)


def fill(
    out: Any,
    law: str,
    seed: int,
    stream: int,
    steps: Any,
    chains: Any,
    first_coordinate: int,
    num_threads: int,
) -> None:
    """Fill `out` (steps, chains, coordinates) with normals or uniforms."""
    if out.size == 0:
        return
    count = out.shape[2]
    first_block = first_coordinate >> 2
    grid = Grid(
        out.reshape(-1),
        steps,
        chains,
        steps.size,
        chains.size,
        first_coordinate,
        count,
        first_block,
        ((first_coordinate + count + 3) >> 2) - first_block,
        word(seed & 0xFFFFFFFF),
        word(seed >> 32),
        stream,
        law == "normals",
    )
    lanes = PACK_BYTES // out.itemsize
    num_packs = -(-steps.size * chains.size * grid.blocks // lanes)

    def allocate() -> Memory:
        return Memory(aligned(PACK_BYTES, np.uint64), aligned(4 * lanes, out.dtype))

    def call(memory: Memory, first_pack: int, last_pack: int, *steps: int) -> None:
        _fill(grid, memory, first_pack, last_pack)

    map_slices(allocate, call, num_packs, 1, num_threads)


@kernel
def _philox(out: Any, counters: Any, keys: Any, begin: int, end: int) -> None:
    for i in range(begin, end):
        words = philox4x32(
            word(counters[i, 0]),
            word(counters[i, 1]),
            word(counters[i, 2]),
            word(counters[i, 3]),
            word(keys[i, 0]),
            word(keys[i, 1]),
        )
        for k in range(4):
            out[i, k] = words[k] & word(0xFFFFFFFF)


def philox(out: Any, counters: Any, keys: Any, num_threads: int) -> None:
    """Fill `out` (n, 4) with the words of the counters (n, 4) under the keys (n, 2)."""

    def call(nothing: None, begin: int, end: int, *steps: int) -> None:
        _philox(out, counters, keys, begin, end)

    map_slices(lambda: None, call, out.shape[0], 1, num_threads)
