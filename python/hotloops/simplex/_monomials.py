"""Monomials as the blocks of coefficients between products that the kernel adds up."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["MonomialBlocks", "blocks_of"]

Key: TypeAlias = tuple[int, ...]  # the indices of a monomial, sorted, as often as the power is
Matrix: TypeAlias = dict[Key, dict[Key, float]]  # coefficients by row and column
Block: TypeAlias = tuple[list[Key], list[Key]]  # its rows and its columns

_HEIGHTS = (4, 2, 1)


@dataclass(frozen=True)
class MonomialBlocks:
    """P products, and B blocks of M coefficients; see ``SimplexPolynomial`` in C++."""

    parents: npt.NDArray[np.int32]  # (P,)
    factors: npt.NDArray[np.int32]  # (P,)
    heights: npt.NDArray[np.int32]  # (B,)
    widths: npt.NDArray[np.int32]  # (B,)
    rows: npt.NDArray[np.int32]
    columns: npt.NDArray[np.int32]
    coefficients: npt.NDArray[np.float64]  # (M,)

    def packed(self, dtype: np.dtype[Any]) -> tuple[Any, ...]:
        """Return the arrays with coefficients in precision `dtype`."""
        places = (self.parents, self.factors, self.heights, self.widths, self.rows, self.columns)
        return (*places, self.coefficients.astype(dtype))

    @property
    def cost(self) -> int:
        """Operations of one evaluation, roughly, with what a block and a column cost besides."""
        ends = 3 * (self.rows.size + self.columns.size)
        return 4 * self.coefficients.size + 5 * self.parents.size + ends + 20 * self.heights.size


def blocks_of(table: Mapping[Key, float], dim: int) -> MonomialBlocks:
    """Arrange monomials in blocks.

    Each monomial is cut into two products, a row and a column of a matrix, which is covered by
    dense blocks. Cut in the middle, the monomials of a dense tensor make few products and large
    blocks; cut with repeated factors first, so do those of sums and products of squares. What costs
    less is taken.
    """
    ways = (_arrange(table, dim, order) for order in (_as_sorted, _repeated_first))
    return min(ways, key=lambda blocks: blocks.cost)


def _as_sorted(key: Key) -> Key:
    return key


def _repeated_first(key: Key) -> Key:
    powers = Counter(key)
    return tuple(sorted(key, key=lambda index: (-powers[index], index)))


def _arrange(table: Mapping[Key, float], dim: int, order: Callable[[Key], Key]) -> MonomialBlocks:
    matrix: Matrix = {}
    for key, coefficient in table.items():
        ordered = order(key)
        middle = (len(key) + 1) // 2
        row, column = (tuple(sorted(half)) for half in (ordered[:middle], ordered[middle:]))
        matrix.setdefault(row, {})[column] = coefficient
    products = _products_of(matrix)
    places: dict[Key, int] = {(): 0, **{(s,): 1 + s for s in range(dim)}}
    places |= {key: 1 + dim + k for k, key in enumerate(products)}
    blocks = list(_cover(matrix))

    def numbers(keys: list[Key]) -> npt.NDArray[np.int32]:
        return np.array([places[key] for key in keys], np.int32)

    return MonomialBlocks(
        parents=numbers([key[:-1] for key in products]),
        factors=numbers([key[-1:] for key in products]),
        heights=np.array([len(rows) for rows, _ in blocks], np.int32),
        widths=np.array([len(columns) for _, columns in blocks], np.int32),
        rows=numbers([row for rows, _ in blocks for row in rows]),
        columns=numbers([column for _, columns in blocks for column in columns]),
        coefficients=np.array(
            [matrix[row][column] for rows, columns in blocks for column in columns for row in rows],
            np.float64,
        ),
    )


def _products_of(matrix: Matrix) -> list[Key]:
    """Return rows, columns and their beginnings of two factors or more, parents first."""
    products: set[Key] = set()
    for key in itertools.chain(matrix, *matrix.values()):
        products.update(key[:length] for length in range(2, len(key) + 1))
    return sorted(products, key=lambda key: (len(key), key))


def _cover(matrix: Matrix) -> Iterator[Block]:
    """Yield dense blocks: rows with similar columns next to each other, a few at a time."""
    rows = sorted(matrix, key=lambda row: (sorted(matrix[row]), row))
    begin = 0
    while begin < len(rows):
        height = next(h for h in _HEIGHTS if begin + h <= len(rows))
        yield from _split(matrix, rows[begin : begin + height], set())
        begin += height


def _split(matrix: Matrix, rows: list[Key], taken: set[Key]) -> Iterator[Block]:
    """Yield the columns that all rows have, and those that only a half of the rows has."""
    shared = set.intersection(*(set(matrix[row]) for row in rows)) - taken
    if shared:
        yield rows, sorted(shared)
    if len(rows) > 1:
        middle = len(rows) // 2
        yield from _split(matrix, rows[:middle], taken | shared)
        yield from _split(matrix, rows[middle:], taken | shared)
