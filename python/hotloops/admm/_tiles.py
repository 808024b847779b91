"""Sparse matrices of ones by tiles of 16 rows: a column that several rows of a tile have costs one
vector operation instead of a gather and a scatter for each.

Where tiles are used the sums have an order of their own, so that whether they are is a matter of
the data alone: ones, at most 4096 columns, one output, and at least two rows to an entry.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hotloops._runtime import dispatch
from hotloops._runtime.errors import BackendUnavailable
from hotloops.admm._data import ClientData, to_host

__all__ = ["TILE_ROWS", "build_tiles", "tiles_of_clients"]

TILE_ROWS = 16
_MOST_COLUMNS = 4096


def tiles_of_clients(data: ClientData) -> list[Any]:
    """Return (offsets, columns, masks) for each client, or None where it has no tiles."""
    found: list[Any] = []
    for matrix, rows in data.members:
        one = data.matrices[matrix]
        fits = one.indptr is not None and one.values is None and one.columns <= _MOST_COLUMNS
        if not fits or data.layers.size != 2 or int(data.layers[1]) != 1:
            found.append(None)
            continue
        own = np.arange(one.num_rows) if rows is None else rows
        found.append(_build(to_host(one.indptr), to_host(one.indices), own, one.columns))
    return found


def _build(indptr: Any, indices: Any, rows: Any, columns: int) -> Any:
    try:
        return dispatch.core().admm_tiles(indptr, indices, rows, columns)
    except BackendUnavailable:
        return build_tiles(indptr, indices, rows, columns)


def build_tiles(indptr: Any, indices: Any, rows: Any, columns: int) -> Any:
    """Return what the native function does, by sorting."""
    sizes = indptr[rows + 1] - indptr[rows]
    ends = np.cumsum(sizes)
    places = np.repeat(indptr[rows] - (ends - sizes), sizes) + np.arange(int(sizes.sum()))
    position = np.repeat(np.arange(rows.size), sizes)
    key = position // TILE_ROWS * columns + indices[places]
    bit = np.left_shift(1, position % TILE_ROWS)
    unique, inverse = np.unique(key, return_inverse=True)
    masks = np.zeros(unique.size, np.int64)
    np.bitwise_or.at(masks, inverse, bit)
    twice = np.bincount(inverse, bit, minlength=unique.size) != masks
    if twice.any() or key.size < 2 * unique.size:
        return None
    tiles = -(-rows.size // TILE_ROWS)
    offsets = np.searchsorted(unique, np.arange(tiles + 1) * columns).astype(np.int64)
    return offsets, (unique % columns).astype(np.int32), masks.astype(np.uint16)
