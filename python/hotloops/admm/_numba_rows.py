"""The twin of ``csrc/admm/{step_sampling,cpu_solve_rows}.hpp``: which rows a task reads."""

from __future__ import annotations

from typing import Any, NamedTuple

from hotloops._runtime._numba_jit import inline, outline
from hotloops._runtime._numba_math import STREAM_ROW_SAMPLING, counter_word_1, philox4x32
from hotloops._runtime._numba_packs import word

CHUNK_ROWS = 64
NETWORK_ROWS = 32
NUM_STRANDS = 16
TILE_ROWS = 16

FULL, REPLACEMENT, EPOCH = 0, 1, 2
GRADIENT, SLOPES = 1, 2  # what a place may want

_STREAM_PERMUTATION = 7
_LOW = word(0xFFFFFFFF)
_ALL = word(0xFFFFFFFFFFFFFFFF)
_HALF = word(32)
_ONE = word(1)
_MIX_1 = word(0x9E3779B97F4A7C15)
_MIX_2 = word(0xD6E8FEB86659FD93)


class Rows(NamedTuple):
    """The rows of a client in flat arrays; see AdmmRows in solve_kernels.hpp."""

    dense: Any
    indptr: Any
    indices: Any
    values: Any
    targets: Any
    labels: Any
    weights: Any
    rows: Any
    tile_offsets: Any
    tile_columns: Any
    tile_masks: Any
    is_dense: int
    has_values: int
    has_weights: int
    has_rows: int
    is_tiled: int
    size: int
    columns: int


class Model(NamedTuple):
    """See AdmmModel in solve_kernels.hpp."""

    layers: Any
    num_layers: int
    loss: int
    activation: int
    intercept: int
    shape: Any


class Place(NamedTuple):
    """One task, and the batch it belongs to."""

    sampling: int
    size: int
    round: int
    client: int
    first: int
    last: int
    key_low: Any
    key_high: Any
    wants_gradient: int  # 0, GRADIENT or SLOPES


class Chunk(NamedTuple):
    """Memory for a chunk of rows of a linear model."""

    ids: Any
    z: Any
    y: Any
    weight: Any
    slope: Any
    value: Any
    strands: Any


class Layers(NamedTuple):
    """Memory for a chunk of rows on their way through a network."""

    ids: Any
    active: Any
    slope: Any
    delta: Any
    below: Any


@inline
def _words(place: Place, step: int, block: int, stream: int) -> Any:
    return philox4x32(
        word(step) & _LOW,
        counter_word_1(step, stream),
        word(place.client),
        word(block),
        place.key_low,
        place.key_high,
    )


@inline
def _shuffle(x: Any, keys: Any, bits: int) -> Any:
    low = (bits + 1) // 2
    high = bits - low
    left, right = x >> word(low), x & ((_ONE << word(low)) - _ONE)
    for r in range(4):
        f = (((right ^ keys[r]) & _ALL) * _MIX_1) & _ALL
        f = ((f ^ (f >> _HALF)) * _MIX_2) & _ALL
        f = (f ^ (f >> _HALF)) & ((_ONE << word(high)) - _ONE)
        left, right = right, left ^ f
        low, high = high, low
    return (left << word(low)) | right


@outline
def draw_rows(place: Place, count: int, first: int, number: int, ids: Any) -> None:
    """Write which rows of the client the positions of a mini-batch are."""
    if place.sampling == REPLACEMENT:
        for j in range(number):
            position = first + j
            words = _words(place, place.round, position >> 2, STREAM_ROW_SAMPLING)
            which = position & 3
            x = words[0]
            if which == 1:
                x = words[1]
            elif which == 2:
                x = words[2]
            elif which == 3:
                x = words[3]
            ids[j] = ((x & _LOW) * word(count)) >> _HALF
        return
    bits = 0
    while (1 << bits) < count:
        bits += 1
    for j in range(number):
        drawn = place.round * place.size + first + j
        epoch = drawn // count
        words = _words(place, epoch, 0, _STREAM_PERMUTATION)
        keys = (words[0] & _LOW, words[1] & _LOW, words[2] & _LOW, words[3] & _LOW)
        x = _shuffle(word(drawn - epoch * count), keys, bits)
        while x >= word(count):
            x = _shuffle(x, keys, bits)
        ids[j] = x


@inline
def find_rows(rows: Rows, place: Place, first: int, number: int, ids: Any) -> None:
    """Write the matrix rows of some positions of a task."""
    if place.sampling == FULL:
        for j in range(number):
            ids[j] = first + j
    else:
        draw_rows(place, rows.size, first, number, ids)
    if rows.has_rows:
        for j in range(number):
            ids[j] = rows.rows[ids[j]]
