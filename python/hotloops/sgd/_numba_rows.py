"""The twin of ``csrc/sgd/cpu_rows.cpp``: losses over the rows of a data matrix."""

from __future__ import annotations

from typing import Any, NamedTuple

from hotloops._runtime._numba_buffers import lanes_of, load, load_column, load_columns, store
from hotloops._runtime._numba_jit import inline, outline
from hotloops._runtime._numba_packs import traced
from hotloops.sgd._numba_losses import residual
from hotloops.sgd._numba_plug_in import add_row, begin_batch, end_batch
from hotloops.sgd._numba_sampling import draw_rows
from hotloops.sgd._numba_tiles import Chains, Packs, Tile, dot

# Samples of a minibatch that one call adds up: what is kept of a batch has a bound, and a large one
# can be interrupted. A multiple of 4.
SAMPLES_AT_ONCE = 64


class Rows(NamedTuple):
    """Mean loss over the rows plus ``l2 |t|^2 / 2``."""

    features: Any  # (N * d,)
    targets: Any  # (N,)
    num_rows: int
    index_bits: int  # of num_rows - 1
    batch_size: int
    inverse_batch: Any
    sampling: int
    l2: Any
    loss: Any


@traced
def _product(slope: Any, column: Any) -> Any:
    return slope * column


@traced
def _add_product(total: Any, slope: Any, column: Any) -> Any:
    return total + slope * column


@traced
def _gradient(total: Any, inverse_batch: Any, l2: Any, theta: Any) -> Any:
    return total * inverse_batch + l2 * theta


@inline
def begin_rows(problem: Any, chains: Chains, tile: Tile, first_chain: int, step: int) -> Any:
    """Prepare nothing: the sampler's rows are of another width."""
    return step


@inline
def _gather(problem: Any, chains: Chains, tile: Tile, place: int) -> None:
    """Turn the rows that the lanes drew into columns of packs, followed by the targets."""
    d = chains.dim
    first = place * lanes_of(tile.theta)
    whole = d - d % 4
    for i in range(0, whole, 4):
        c0, c1, c2, c3 = load_columns(problem.features, tile.sampled, first, i, d)
        store(tile.scratch, i, c0)
        store(tile.scratch, i + 1, c1)
        store(tile.scratch, i + 2, c2)
        store(tile.scratch, i + 3, c3)
    for i in range(whole, d):
        store(tile.scratch, i, load_column(problem.features, tile.sampled, first, i, d))
    store(tile.scratch, d, load_column(problem.targets, tile.sampled, first, 0, 1))


@outline
def _add_sample(problem: Any, chains: Chains, tile: Tile, r: int, place: int, current: int) -> None:
    """Add the gradient of sample `r`, drawn at `place`, to the sums behind the columns."""
    d = chains.dim
    _gather(problem, chains, tile, place)
    columns = Packs(tile.scratch, 0)
    target = load(tile.scratch, d)
    for j in range(chains.num_copies):
        margin = dot(d, columns, Packs(tile.theta, current + j * d))
        slope = residual(problem.loss, margin, target)
        first_sum = (j + 1) * d + 1
        for i in range(d):
            column = load(tile.scratch, i)
            if r == 0:
                total = _product(slope, column)
            else:
                total = _add_product(load(tile.scratch, first_sum + i), slope, column)
            store(tile.scratch, first_sum + i, total)


@inline
def add_rows(
    problem: Any,
    statistics: Any,
    totals: Any,
    chains: Chains,
    tile: Tile,
    rows: Any,
    first_chain: int,
    step: int,
    part: int,
    current: int,
    target: int,
) -> bool:
    """Add a part of a step's minibatch; return whether it was the last."""
    first = part * SAMPLES_AT_ONCE
    last = min(first + SAMPLES_AT_ONCE, problem.batch_size)
    draw_rows(problem, chains, tile, first_chain, step, first, last)
    if part == 0:
        begin_batch(statistics.plug_in, statistics, totals, chains, tile, step)
    for r in range(first, last):
        _add_sample(problem, chains, tile, r, r - first, current)
        add_row(statistics.plug_in, statistics, totals, problem, chains, tile, step, r)
    if last < problem.batch_size:
        return False
    end_batch(statistics.plug_in, statistics, totals, problem, chains, tile, step)
    return True


@inline
def rows_gradient(
    problem: Any, chains: Chains, tile: Tile, j: int, i: int, theta: Any, target: int
) -> Any:
    """Return coordinate `i` of the gradient of copy `j`."""
    total = load(tile.scratch, chains.dim + 1 + j * chains.dim + i)
    return _gradient(total, problem.inverse_batch, problem.l2, theta)
