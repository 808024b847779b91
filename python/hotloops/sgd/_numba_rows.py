"""The twin of ``csrc/sgd/cpu_rows.cpp``: losses over the rows of a data matrix."""

from __future__ import annotations

from typing import Any, NamedTuple

from hotloops._runtime._numba_buffers import lanes_of, load, load_column, load_columns, store
from hotloops._runtime._numba_jit import inline, outline
from hotloops._runtime._numba_math import sigmoid
from hotloops._runtime._numba_packs import traced
from hotloops.sgd._numba_sampling import draw_rows
from hotloops.sgd._numba_tiles import Chains, Packs, Tile, commit, dot, running, within

# Samples of a minibatch that one call adds up: what is kept of a batch has a bound, and a large one
# can be interrupted. A multiple of 4.
SAMPLES_AT_ONCE = 64


class Rows(NamedTuple):
    """Mean loss over the rows plus ``l2 |t|^2 / 2``.

    Both losses share one compiled function: compilation takes longer than a branch ever will.
    """

    features: Any  # (N * d,)
    targets: Any  # (N,)
    num_rows: int
    index_bits: int  # of num_rows - 1
    batch_size: int
    inverse_batch: Any
    sampling: int
    l2: Any
    logistic: bool  # log(1 + exp(x^T t)) - y x^T t, else (x^T t - y)^2 / 2


@traced
def _linear_residual(margin: Any, target: Any) -> Any:
    return margin - target


@traced
def _logistic_residual(margin: Any, target: Any) -> Any:
    return sigmoid(margin) - target


@traced
def _product(residual: Any, column: Any) -> Any:
    return residual * column


@traced
def _add_product(total: Any, residual: Any, column: Any) -> Any:
    return total + residual * column


@traced
def _step_rows(theta: Any, step_size: Any, total: Any, inverse_batch: Any, l2: Any) -> Any:
    return theta - step_size * (total * inverse_batch + l2 * theta)


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
        if problem.logistic:
            residual = _logistic_residual(margin, target)
        else:
            residual = _linear_residual(margin, target)
        first_sum = (j + 1) * d + 1
        for i in range(d):
            column = load(tile.scratch, i)
            if r == 0:
                total = _product(residual, column)
            else:
                total = _add_product(load(tile.scratch, first_sum + i), residual, column)
            store(tile.scratch, first_sum + i, total)


@inline
def advance_rows(
    problem: Any,
    chains: Chains,
    tile: Tile,
    rows: Any,
    first_chain: int,
    step: int,
    part: int,
    current: int,
    target: int,
) -> None:
    """Add a part of a step's minibatch; after the last part make the step."""
    d = chains.dim
    first = part * SAMPLES_AT_ONCE
    last = min(first + SAMPLES_AT_ONCE, problem.batch_size)
    draw_rows(problem, chains, tile, first_chain, step, first, last)
    for r in range(first, last):
        _add_sample(problem, chains, tile, r, r - first, current)
    if last < problem.batch_size:
        return
    for j in range(chains.num_copies):
        step_size = chains.step_sizes[j]
        limit = load(tile.limits, j)
        good = running(limit)
        for i in range(d):
            k = j * d + i
            theta = load(tile.theta, current + k)
            total = load(tile.scratch, d + 1 + k)
            theta = _step_rows(theta, step_size, total, problem.inverse_batch, problem.l2)
            store(tile.theta, target + k, theta)
            good = within(good, theta, limit)
        commit(chains, tile, first_chain, step, j, good, current, target)
