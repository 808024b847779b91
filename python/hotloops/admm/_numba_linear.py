"""The twin of ``csrc/admm/cpu_solve_linear.cpp``."""

from __future__ import annotations

from typing import Any

from hotloops._runtime._numba_buffers import buffers, lanes_of, load, store, zeros
from hotloops._runtime._numba_jit import inline, kernel
from hotloops._runtime._numba_packs import (
    constant,
    count_from,
    interleave_words,
    is_single,
    traced,
    where,
    word,
)
from hotloops.admm._numba_losses import evaluate
from hotloops.admm._numba_rows import (
    CHUNK_ROWS,
    NUM_STRANDS,
    SLOPES,
    TILE_ROWS,
    Chunk,
    Model,
    Place,
    Rows,
    find_rows,
)


@inline
def _dense_product(rows: Rows, at: int, w: Any, strands: Any, zero: Any) -> Any:
    columns = rows.columns
    for s in range(NUM_STRANDS):
        strands[s] = zero
    whole = columns // NUM_STRANDS * NUM_STRANDS
    for k in range(0, whole, NUM_STRANDS):
        for s in range(NUM_STRANDS):
            strands[s] = strands[s] + rows.dense[at + k + s] * w[k + s]
    for k in range(whole, columns):
        strands[k - whole] = strands[k - whole] + rows.dense[at + k] * w[k]
    width = NUM_STRANDS // 2
    while width > 0:
        for k in range(width):
            strands[k] = strands[k] + strands[k + width]
        width //= 2
    return strands[0]


@inline
def _sparse_product(rows: Rows, begin: int, end: int, w: Any, zero: Any) -> Any:
    a = b = c = d = zero
    k = begin
    if rows.has_values:
        while k + 4 <= end:
            a += rows.values[k] * w[rows.indices[k]]
            b += rows.values[k + 1] * w[rows.indices[k + 1]]
            c += rows.values[k + 2] * w[rows.indices[k + 2]]
            d += rows.values[k + 3] * w[rows.indices[k + 3]]
            k += 4
        while k < end:
            a += rows.values[k] * w[rows.indices[k]]
            k += 1
    else:
        while k + 4 <= end:
            a += w[rows.indices[k]]
            b += w[rows.indices[k + 1]]
            c += w[rows.indices[k + 2]]
            d += w[rows.indices[k + 3]]
            k += 4
        while k < end:
            a += w[rows.indices[k]]
            k += 1
    return (a + b) + (c + d)


@traced
def _add_in_rows(sums: Any, x: Any, mask: Any, first: Any) -> Any:
    """Add x in the lanes that the bits `first` and on of a mask name."""
    if is_single(sums):
        even = (mask >> count_from(first, 2)) & 1
        chosen = interleave_words(even, (mask >> count_from(first + 1, 2)) & 1)
    else:
        chosen = (mask >> count_from(first, 1)) & 1
    return sums + where(chosen != 0, x, constant(0.0, sums))


@inline
def _tile_products(rows: Rows, memory: Chunk, first: int, number: int, w: Any) -> None:
    lanes = lanes_of(memory.z)
    for j in range(0, number, TILE_ROWS):
        tile = (first + j) // TILE_ROWS
        for p in range(0, TILE_ROWS, lanes):
            sums = zeros(memory.z)
            for e in range(rows.tile_offsets[tile], rows.tile_offsets[tile + 1]):
                x = w[rows.tile_columns[e]]
                sums = _add_in_rows(sums, x, word(rows.tile_masks[e]), word(p))
            store(memory.z, (j + p) // lanes, sums)


@inline
def _add_tiles(rows: Rows, memory: Chunk, first: int, number: int) -> None:
    lanes = lanes_of(memory.z)
    for j in range(0, number, TILE_ROWS):
        tile = (first + j) // TILE_ROWS
        for p in range(0, TILE_ROWS, lanes):
            own = load(memory.slope, (j + p) // lanes)
            for e in range(rows.tile_offsets[tile], rows.tile_offsets[tile + 1]):
                to = (rows.tile_columns[e] * TILE_ROWS + p) // lanes
                sums = load(memory.strands, to)
                store(
                    memory.strands, to, _add_in_rows(sums, own, word(rows.tile_masks[e]), word(p))
                )


@inline
def _fold_tiles(rows: Rows, memory: Chunk, g: Any) -> None:
    for k in range(rows.columns):
        at, width = k * TILE_ROWS, TILE_ROWS // 2
        while width > 0:
            for s in range(width):
                memory.strands[at + s] = memory.strands[at + s] + memory.strands[at + s + width]
            width //= 2
        g[k] = memory.strands[at]


@inline
def _predict(rows: Rows, model: Model, memory: Chunk, first: int, number: int, w: Any) -> None:
    zero = memory.value[0] - memory.value[0]
    if rows.is_tiled:
        _tile_products(rows, memory, first, number, w)
        for j in range(number):
            memory.z[j] = memory.z[j] + w[rows.columns] if model.intercept else memory.z[j]
        return
    for j in range(number):
        row = memory.ids[j]
        if rows.is_dense:
            z = _dense_product(rows, row * rows.columns, w, memory.slope, zero)
        else:
            z = _sparse_product(rows, rows.indptr[row], rows.indptr[row + 1], w, zero)
        memory.z[j] = z + w[rows.columns] if model.intercept else z


@inline
def _load_targets(rows: Rows, memory: Chunk, number: int) -> None:
    for j in range(number):
        memory.y[j] = rows.targets[memory.ids[j]]
        memory.weight[j] = rows.weights[memory.ids[j]] if rows.has_weights else 1.0
    for j in range(number, CHUNK_ROWS):
        memory.z[j] = 0.0
        memory.y[j] = 0.0
        memory.weight[j] = 1.0


@inline
def _scatter(rows: Rows, model: Model, memory: Chunk, number: int, g: Any) -> None:
    for j in range(number):
        row, slope = memory.ids[j], memory.slope[j]
        if rows.is_dense:
            at = row * rows.columns
            for k in range(rows.columns):
                g[k] = g[k] + slope * rows.dense[at + k]
        elif rows.is_tiled:
            pass  # `_add_tiles` has all rows at once
        elif rows.has_values:
            for k in range(rows.indptr[row], rows.indptr[row + 1]):
                g[rows.indices[k]] = g[rows.indices[k]] + rows.values[k] * slope
        else:
            for k in range(rows.indptr[row], rows.indptr[row + 1]):
                g[rows.indices[k]] = g[rows.indices[k]] + slope
        if model.intercept:
            g[rows.columns] = g[rows.columns] + slope


@kernel
def linear_task(
    row_arrays: Rows,
    model_arrays: Model,
    memory_arrays: Chunk,
    place: Place,
    w: Any,
    gradient: Any,
    total: Any,
) -> None:
    """Add up the gradient of some rows of a client, and their losses."""
    rows, model, memory = buffers(row_arrays), buffers(model_arrays), buffers(memory_arrays)
    for j in range(CHUNK_ROWS):
        memory.value[j] = 0.0
    if rows.is_tiled and place.wants_gradient:
        for k in range(rows.columns * TILE_ROWS):
            memory.strands[k] = 0.0
    losses = 0.0
    first = place.first
    while first < place.last:
        number = min(place.last - first, CHUNK_ROWS)
        find_rows(rows, place, first, number, memory.ids)
        _predict(rows, model, memory, first, number, w)
        _load_targets(rows, memory, number)
        evaluate(model.loss, model.shape, memory, CHUNK_ROWS)
        if place.wants_gradient == SLOPES:
            for j in range(number):
                gradient[first - place.first + j] = memory.slope[j]
        elif place.wants_gradient:
            if rows.is_tiled:
                _add_tiles(rows, memory, first, number)
            _scatter(rows, model, memory, number, gradient)
        for j in range(number):
            losses += memory.value[j]
        first += CHUNK_ROWS
    if rows.is_tiled and place.wants_gradient:
        _fold_tiles(rows, memory, gradient)
    total[0] = losses
