"""The rows that the estimators read: in which order, how often, and as dense blocks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from hotloops import random

__all__ = ["Float64", "Indices", "RowSource", "Table", "canonical_order", "norm_ratio", "repeats"]

Float64 = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]

# Numbers in one dense block: 8 MB, whatever the size of X.
_BLOCK_NUMBERS = 2**20
_MAX_BLOCK_ROWS = 2**16
_STREAM = 5  # of the sampling of rows, as in the kernels


@dataclass(frozen=True)
class Table:
    """Features, dense or CSR, with one row of targets for each output.

    Attributes
    ----------
    X : ndarray or CSR matrix, shape (N, n_features)
    targets : ndarray, shape (K, N), float64
    intercept : bool
        Append a column of ones to what is read.
    """

    X: Any
    targets: Float64
    intercept: bool

    @property
    def num_rows(self) -> int:
        return int(self.X.shape[0])

    @property
    def dim(self) -> int:
        """Coordinates of the iterate: the features, then the intercept."""
        return int(self.X.shape[1]) + int(self.intercept)

    def read(self, rows: Any) -> Float64:
        """Return the rows of an index array or slice as a dense block, shape (n, dim)."""
        part = self.X[rows]
        num_features = self.X.shape[1]
        block = np.ones((part.shape[0], self.dim))
        block[:, :num_features] = part.toarray() if sparse.issparse(part) else part
        return block

    def block_rows(self, multiple: int = 1) -> int:
        """Rows of one block, a multiple of the minibatch."""
        fitting = min(max(_BLOCK_NUMBERS // self.dim, 256), _MAX_BLOCK_ROWS)
        return max(fitting // multiple, 1) * multiple

    def blocks(self) -> Iterator[slice]:
        """Cut the table into blocks in the order of its rows."""
        size = self.block_rows()
        for first in range(0, self.num_rows, size):
            yield slice(first, min(first + size, self.num_rows))


def norm_ratio(table: Table, weights: Float64) -> float:
    """Return ``R^2 = E|x|^4 / E|x|^2`` over the rows; 1 when all rows are zero."""
    second = fourth = 0.0
    for cut in table.blocks():
        squares = np.einsum("ij,ij->i", block := table.read(cut), block)
        second += float(weights[cut] @ squares)
        fourth += float(weights[cut] @ squares**2)
    return fourth / second if second > 0 and np.isfinite(fourth) else 1.0


def _mixed(words: Words) -> Words:
    words = words ^ (words >> np.uint64(32))
    words *= np.uint64(0xD6E8FEB86659FD93)
    mixed: Words = words ^ (words >> np.uint64(29))
    return mixed


def _bits(values: Any) -> Words:
    """Return mixed bits of float64 numbers; both zeros give 0."""
    words: Words = (np.ascontiguousarray(values, np.float64) + 0.0).view(np.uint64)
    return _mixed(words)


def canonical_order(table: Table, rows: Indices) -> Indices:
    """Return `rows` in an order that depends on what the rows hold, not on where they stand.

    Equal rows become neighbours. A row drawn by inverting the cumulated weights along this order is
    then the same one when the rows are permuted, or when a weight of 3 becomes three equal rows.
    """
    num_features = int(table.X.shape[1])
    factors = _mixed(np.arange(1, num_features + 2, dtype=np.uint64) << np.uint64(20)) | np.uint64(
        1
    )
    keys = np.empty(table.num_rows, np.uint64)
    for cut in table.blocks():
        part = table.X[cut]
        if sparse.issparse(part):
            terms = _bits(part.data) * factors[part.indices]
            totals = np.concatenate([np.zeros(1, np.uint64), np.cumsum(terms, dtype=np.uint64)])
            keys[cut] = totals[part.indptr[1:]] - totals[part.indptr[:-1]]
        else:
            keys[cut] = (_bits(part) * factors[:num_features]).sum(axis=1, dtype=np.uint64)
        for target in table.targets:  # each output has a factor of its own
            factors[-1] += np.uint64(2)
            keys[cut] += _bits(target[cut]) * factors[-1]
        factors[-1] -= np.uint64(2 * table.targets.shape[0])
    return rows[np.argsort(_mixed(keys[rows]), kind="stable")]


def repeats(cumulated: Float64, offset: Any) -> Indices:
    """Return how often each row is used: systematic rounding of its expected number of uses.

    `cumulated` are the sums of these numbers. A whole number is met exactly, any other one on
    average over `offset`, which is uniform on [0, 1); of shape (E, 1) it gives E roundings.
    """
    marks = np.floor(cumulated + offset)
    uses: Indices = np.diff(marks, prepend=np.floor(offset)).astype(np.int64)
    return uses


class RowSource:
    """The endless sequence of rows of one chain.

    Parameters
    ----------
    table : Table
    weights : ndarray, shape (N,), float64
        Not negative; what counts is their ratio.
    sampling : {"iid", "reshuffle", "sequential"}
    seed, chain : int
        Where the random numbers come from.
    """

    def __init__(
        self, table: Table, weights: Float64, sampling: str, seed: int, order: Indices
    ) -> None:
        self.num_rows = order.size
        self._order = order
        self._weights = weights[order]
        self._cumulated = np.cumsum(self._weights)
        self._even = bool((self._weights == self._weights[0]).all())
        self._sampling = sampling
        self._seed = seed
        self._chain = 0
        self._position = 0  # draws made, or epochs begun
        self._left: Indices = np.empty(0, np.int64)

    def of_chain(self, chain: int) -> RowSource:
        """Return the same source at its start, for another chain."""
        other = object.__new__(RowSource)
        other.__dict__.update(self.__dict__)
        other._chain, other._position, other._left = chain, 0, np.empty(0, np.int64)
        return other

    def take(self, count: int) -> Indices:
        """Return the next `count` rows."""
        if self._sampling == "iid":
            return self._draw(count)
        taken: Indices
        missing = count - self._left.size
        if missing > 0:
            begun = self._epochs(-(-missing // self.num_rows))
            self._left = np.concatenate([self._left, begun])
        taken, self._left = self._left[:count], self._left[count:]
        return taken

    def _uniforms(self, first: int, count: int, lane: int) -> Float64:
        """Return uniforms of 64 bits, made of two words."""
        steps = range(first, first + count)
        words = random.uniforms(
            self._seed, steps, [self._chain], range(lane, lane + 2), _STREAM, num_threads=1
        )[:, 0]
        values: Float64 = words[:, 0] + (words[:, 1] - 0.5) * 2.0**-32
        return values

    def _draw(self, count: int) -> Indices:
        uniforms = self._uniforms(self._position, count, 0)
        self._position += count
        if self._even:  # the same as below, without the search
            places = (uniforms * self.num_rows).astype(np.int64)
        else:
            levels = uniforms * self._cumulated[-1]
            places = np.searchsorted(self._cumulated, levels, side="right")
        return self._order[np.minimum(places, self.num_rows - 1)]

    def _epochs(self, count: int) -> Indices:
        """Return the next `count` epochs: as many rows as there are, as often as weights say."""
        # Lanes 2 and 4 keep offsets and keys apart from each other.
        first, self._position = self._position, self._position + count
        size = self.num_rows
        if self._even:
            rows = np.tile(self._order, count)
        else:
            scaled = self._cumulated * (size / self._cumulated[-1])
            scaled[-1] = size  # and no offset so near to 1 that rounding begins another use
            offsets = np.minimum(self._uniforms(first, count, 2), 1 - size * 2.0**-50)
            uses = repeats(scaled, offsets[:, None])
            rows = np.repeat(np.tile(self._order, count), uses.ravel())
        if self._sampling == "sequential":
            return rows
        keys = self._uniforms(first * size, count * size, 4).reshape(count, size)
        places = np.argsort(keys, axis=1, kind="stable")
        shuffled: Indices = np.take_along_axis(rows.reshape(count, size), places, axis=1).ravel()
        return shuffled
