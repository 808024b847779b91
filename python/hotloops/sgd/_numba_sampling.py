"""The twin of the row sampling in ``csrc/sgd/{step,cpu_rows}.hpp``: which row each chain reads.

Words, indices and positions fill 64-bit lanes whatever the precision of the iterates.
"""

from __future__ import annotations

from typing import Any

from hotloops._runtime._numba_buffers import lanes_of, small_code, store, zeros
from hotloops._runtime._numba_jit import inline, outline
from hotloops._runtime._numba_math import (
    STREAM_ROW_SAMPLING,
    counter_word_1,
    draw_words,
    philox4x32,
    prepare_rows,
)
from hotloops._runtime._numba_packs import traced, word
from hotloops.sgd._numba_tiles import PERMUTATION_WORDS, Chains, Tile

IID, RESHUFFLE = 0, 1

_LOW = word(0xFFFFFFFF)
_HALF = word(32)
_ONE = word(1)
_UNBIASED_ABOVE = 1 << 20
_ROUND_KEYS = 8
_GOLDEN = 0x9E3779B9
# Halves of few bits mix slowly: up to this many rows go through the rounds four times.
_REPEAT_ROUNDS_UP_TO = 64
_PASS_SHIFT = word(0x9E3779B9)


@inline
def draw_rows(
    problem: Any, chains: Chains, tile: Tile, first_chain: int, step: int, first: int, last: int
) -> None:
    """Write the rows of every chain for samples first..last-1 of a step to ``tile.sampled``."""
    if problem.sampling == IID:
        _draw_iid(problem, chains, tile, first_chain, step, first, last)
    else:
        _draw_from_epoch(problem, chains, tile, first_chain, step, first, last)


# --- with replacement ----------------------------------------------------------------------------


@traced
def _low_half(x: Any) -> Any:
    return x & 0xFFFFFFFF


@traced
def _index_below(x: Any, n: Any) -> Any:
    return ((x & 0xFFFFFFFF) * n) >> 32


@outline
def _draw_iid(
    problem: Any, chains: Chains, tile: Tile, first_chain: int, step: int, first: int, last: int
) -> None:
    low, high = chains.key_low, chains.key_high
    width = lanes_of(tile.sampled)
    parts = lanes_of(tile.theta) // width
    n = word(problem.num_rows)
    biased = problem.num_rows > _UNBIASED_ABOVE
    for part in range(parts):
        row = chains.offset + first_chain + part * width
        rows = prepare_rows(zeros(tile.sampled), row, step, STREAM_ROW_SAMPLING, low, high)
        for r in range(first, last, 4):
            words = draw_words(rows, step, r // 4, low, high)
            for c in range(min(4, last - r)):
                place = (r - first + c) * parts + part
                if biased:
                    store(tile.sampled, place, _low_half(words[c]))
                else:
                    store(tile.sampled, place, _index_below(words[c], n))
    if biased:
        _reject(problem, chains, tile, first_chain, step, first, last)


@outline
def _reject(
    problem: Any, chains: Chains, tile: Tile, first_chain: int, step: int, first: int, last: int
) -> None:
    """Turn words into indices; draw words again that make low rows more likely (Lemire 2019)."""
    small_code()
    lanes = lanes_of(tile.theta)
    n = word(problem.num_rows)
    threshold = ((_LOW - n) + _ONE) % n
    for k in range((last - first) * lanes):
        x = word(tile.sampled[k])
        attempt = 1
        while ((x * n) & _LOW) < threshold and attempt < 256:
            chain = chains.offset + first_chain + k % lanes
            x = _sampling_word(chains, chain, step, first + k // lanes, attempt)
            attempt += 1
        tile.sampled[k] = (x * n) >> _HALF


@inline
def _sampling_word(chains: Chains, chain: int, step: int, coordinate: int, attempt: int) -> Any:
    """Return one word at (chain, step, coordinate) of the row-sampling stream."""
    words = philox4x32(
        word(step) & _LOW,
        counter_word_1(step, STREAM_ROW_SAMPLING),
        word(chain),
        word((coordinate >> 2) + (attempt << 24)),
        chains.key_low,
        chains.key_high,
    )
    return word(words[coordinate & 3]) & _LOW


# --- epochs --------------------------------------------------------------------------------------


@outline
def _draw_from_epoch(
    problem: Any, chains: Chains, tile: Tile, first_chain: int, step: int, first: int, last: int
) -> None:
    lanes = lanes_of(tile.theta)
    for r in range(first, last):
        sample = step * problem.batch_size + r
        position = sample % problem.num_rows
        epoch = sample // problem.num_rows
        if problem.sampling == RESHUFFLE and epoch != tile.epoch[0]:
            _begin_epoch(problem, chains, tile, first_chain, epoch)
        for lane in range(lanes):
            tile.sampled[(r - first) * lanes + lane] = position
            if problem.sampling == RESHUFFLE:
                tile.sampled[(r - first) * lanes + lane] = _permute(problem, tile, lane, position)


@outline
def _begin_epoch(problem: Any, chains: Chains, tile: Tile, first_chain: int, epoch: int) -> None:
    """Draw the keys of each chain's permutation of the rows."""
    small_code()
    tile.epoch[0] = epoch
    n = word(problem.num_rows)
    for lane in range(lanes_of(tile.theta)):
        first = lane * PERMUTATION_WORDS
        chain = chains.offset + first_chain + lane
        for i in range(PERMUTATION_WORDS):
            tile.permutation[first + i] = _sampling_word(chains, chain, epoch, i, 0)
        rotation = word(tile.permutation[first + _ROUND_KEYS])
        tile.permutation[first + _ROUND_KEYS] = (rotation * n) >> _HALF


@inline
def _mix(x: Any) -> Any:
    """Return 32 well-mixed bits of 32 bits."""
    x = ((x ^ (x >> word(16))) * word(0x7FEB352D)) & _LOW
    x = ((x ^ (x >> word(15))) * word(0x846CA68B)) & _LOW
    return x ^ (x >> word(16))


@inline
def _permute(problem: Any, tile: Tile, lane: int, position: int) -> Any:
    """Return where the permutation of a lane takes a position."""
    passes = 4 if problem.num_rows <= _REPEAT_ROUNDS_UP_TO else 1
    num_low = word((problem.index_bits + 1) // 2)
    low_mask = (_ONE << num_low) - _ONE
    high_mask = (_ONE << (word(problem.index_bits) - num_low)) - _ONE
    n = word(problem.num_rows)
    first = lane * PERMUTATION_WORDS
    x = word(position) + word(tile.permutation[first + _ROUND_KEYS])
    if x >= n:
        x -= n
    while True:
        low = x & low_mask
        high = x >> num_low
        shift = word(0)
        for _ in range(passes):
            for r in range(first, first + _ROUND_KEYS, 2):
                high ^= _mix(low ^ ((word(tile.permutation[r]) + shift) & _LOW)) & high_mask
                low ^= _mix(high ^ ((word(tile.permutation[r + 1]) + shift) & _LOW)) & low_mask
            shift = (shift + _PASS_SHIFT) & _LOW
        x = (high << num_low) | low
        if x < n:
            return x
