"""The twin of ``csrc/simplex/step_polynomial.hpp``: a polynomial in blocks of coefficients.

Scratch: the list of products, then what the value changes by with each of them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from hotloops._runtime._numba_buffers import load, store, zeros
from hotloops._runtime._numba_jit import inline, outline
from hotloops._runtime._numba_packs import traced
from hotloops.simplex._numba_step import add_product, plus, same_in_all, times


class Polynomial(NamedTuple):
    """Products and blocks; see ``SimplexPolynomial`` in C++."""

    parents: Any
    factors: Any
    heights: Any
    widths: Any
    rows: Any
    columns: Any
    coefficients: Any
    num_products: int
    num_blocks: int


def memory_of(problem: Polynomial, dim: int) -> int:
    """Return how many packs an evaluation takes."""
    return 2 * (1 + dim + problem.num_products)


@traced
def _add_column(numbers: Any, column: Any, slope: Any, rows: Any, sums: Any) -> Any:
    """Add a column of a block: to the sums of the rows, and from the rows to its own slope."""
    for number, row in zip(numbers, rows, strict=True):
        slope = slope + number * row
    return slope, tuple(y + a * column for a, y in zip(numbers, sums, strict=True))


@inline
def _end_row(scratch: Any, row: int, product: Any, y: Any, slopes: int, value: Any) -> Any:
    store(scratch, slopes + row, plus(load(scratch, slopes + row), y))
    return add_product(value, product, y)


@outline
def _add_four_rows(
    problem: Any, scratch: Any, slopes: int, row: int, column: int, width: int, at: int, value: Any
) -> Any:
    """Add a block of four rows, which begins at these places of the lists."""
    rows, columns, a = problem.rows, problem.columns, problem.coefficients
    zero = zeros(scratch)
    products = (
        load(scratch, rows[row]),
        load(scratch, rows[row + 1]),
        load(scratch, rows[row + 2]),
        load(scratch, rows[row + 3]),
    )
    sums = (zero, zero, zero, zero)
    for q in range(column, column + width):
        place = columns[q]
        slope, sums = _add_column(
            (a[at], a[at + 1], a[at + 2], a[at + 3]),
            load(scratch, place),
            load(scratch, slopes + place),
            products,
            sums,
        )
        store(scratch, slopes + place, slope)
        at += 4
    for r in range(4):
        value = _end_row(scratch, rows[row + r], products[r], sums[r], slopes, value)
    return value


@outline
def _add_row(
    problem: Any,
    scratch: Any,
    slopes: int,
    row: int,
    column: int,
    width: int,
    at: int,
    stride: int,
    value: Any,
) -> Any:
    """Add one row of a block whose rows are `stride`."""
    place = problem.rows[row]
    product, y = load(scratch, place), zeros(scratch)
    for q in range(column, column + width):
        other = problem.columns[q]
        number = problem.coefficients[at]
        y = add_product(y, number, load(scratch, other))
        slope = add_product(load(scratch, slopes + other), number, product)
        store(scratch, slopes + other, slope)
        at += stride
    return _end_row(scratch, place, product, y, slopes, value)


@inline
def _add_blocks(problem: Any, scratch: Any, slopes: int) -> Any:
    value = zeros(scratch)
    row, column, at = 0, 0, 0
    for block in range(problem.num_blocks):
        height, width = problem.heights[block], problem.widths[block]
        if height == 4:
            value = _add_four_rows(problem, scratch, slopes, row, column, width, at, value)
        else:
            for r in range(height):
                value = _add_row(
                    problem, scratch, slopes, row + r, column, width, at + r, height, value
                )
        row += height
        column += width
        at += height * width
    return value


@outline
def _unfold_products(problem: Any, scratch: Any, first: int, slopes: int) -> None:
    """Go back from products to their two factors, one parent after the other."""
    parents, factors = problem.parents, problem.factors
    k = problem.num_products - 1
    while k >= 0:
        parent = parents[k]
        own, total = load(scratch, parent), zeros(scratch)
        while k >= 0 and parents[k] == parent:
            factor = factors[k]
            slope = load(scratch, slopes + first + k)
            total = add_product(total, slope, load(scratch, factor))
            changed = add_product(load(scratch, slopes + factor), slope, own)
            store(scratch, slopes + factor, changed)
            k -= 1
        store(scratch, slopes + parent, plus(load(scratch, slopes + parent), total))


@inline
def evaluate_polynomial(
    problem: Any, chains: Any, tile: Any, first_chain: int, current: int, slope: int, step: int
) -> Any:
    """Write the gradient and return the value."""
    d, scratch = chains.dim, tile.scratch
    first = 1 + d
    slopes = first + problem.num_products
    zero = zeros(scratch)
    store(scratch, 0, same_in_all(chains.one, zero))
    for s in range(d):
        store(scratch, 1 + s, load(tile.x, current + s))
    for k in range(problem.num_products):
        parent, factor = problem.parents[k], problem.factors[k]
        store(scratch, first + k, times(load(scratch, parent), load(scratch, factor)))
    for k in range(slopes):
        store(scratch, slopes + k, zero)
    value = _add_blocks(problem, scratch, slopes)
    _unfold_products(problem, scratch, first, slopes)
    for s in range(d):
        store(tile.gradient, slope + s, load(scratch, slopes + 1 + s))
    return value
