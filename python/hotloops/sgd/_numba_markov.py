"""The twin of ``csrc/sgd/step_markov.hpp``: linear steps driven by a finite Markov chain."""

from __future__ import annotations

from typing import Any, NamedTuple

from hotloops._runtime._numba_buffers import (
    lanes_of,
    load,
    load_column,
    load_columns,
    store,
    zeros,
)
from hotloops._runtime._numba_jit import inline, outline
from hotloops._runtime._numba_math import STREAM_TRANSITIONS, draw_words, prepare_rows
from hotloops._runtime._numba_packs import traced, word
from hotloops.sgd._numba_tiles import Chains, Packs, Tile, dot

_LOW = word(0xFFFFFFFF)
_HALF = word(32)


class Markov(NamedTuple):
    """``-(A[s] t + b[s])``; the arrays are flat. The states are the auxiliary numbers, and while a
    tile advances also in ``tile.sampled``, which holds the words in between."""

    matrices: Any  # (S * d * d,)
    offsets: Any  # (S * d,)
    threshold: Any  # (S * S,)
    alias: Any  # (S * S,)
    num_states: int


@inline
def begin_markov(problem: Any, chains: Chains, tile: Tile, first_chain: int, step: int) -> int:
    """Read the states."""
    for lane in range(lanes_of(tile.theta)):
        tile.sampled[lane] = int(tile.auxiliary[lane])
    return 0


@traced
def _negative_sum(a: Any, b: Any) -> Any:
    return -(a + b)


@inline
def _gather_row(problem: Any, chains: Chains, tile: Tile, i: int) -> None:
    """Put row `i` of each lane's matrix into the first packs of the scratch memory."""
    d = chains.dim
    whole = d - d % 4
    for k in range(0, whole, 4):
        column = i * d + k
        c0, c1, c2, c3 = load_columns(problem.matrices, tile.sampled, 0, column, d * d)
        store(tile.scratch, k, c0)
        store(tile.scratch, k + 1, c1)
        store(tile.scratch, k + 2, c2)
        store(tile.scratch, k + 3, c3)
    for k in range(whole, d):
        store(tile.scratch, k, load_column(problem.matrices, tile.sampled, 0, i * d + k, d * d))


@inline
def pull_all(
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
    """Compute the gradients of all copies; then let the chains move on."""
    d = chains.dim
    for i in range(d):
        _gather_row(problem, chains, tile, i)
        offset = load_column(problem.offsets, tile.sampled, 0, i, d)
        for j in range(chains.num_copies):
            pull = dot(d, Packs(tile.scratch, 0), Packs(tile.theta, current + j * d))
            store(tile.theta, target + j * d + i, _negative_sum(pull, offset))
    _move(problem, chains, tile, first_chain, step)
    return True


@outline
def _move(problem: Any, chains: Chains, tile: Tile, first_chain: int, step: int) -> None:
    """Draw the next states (Walker's alias method)."""
    low, high = chains.key_low, chains.key_high
    width = lanes_of(tile.sampled)
    num_states = word(problem.num_states)
    for lane in range(0, lanes_of(tile.theta), width):
        row = chains.offset + first_chain + lane
        rows = prepare_rows(zeros(tile.sampled), row, step, STREAM_TRANSITIONS, low, high)
        store(tile.sampled, lane // width, draw_words(rows, step, 0, low, high)[0])
    for lane in range(lanes_of(tile.theta)):
        product = (word(tile.sampled[lane]) & _LOW) * num_states
        slot = int(product >> _HALF)
        at = int(tile.auxiliary[lane]) * problem.num_states + slot
        state = slot if (product & _LOW) < problem.threshold[at] else int(problem.alias[at])
        tile.sampled[lane] = state
        tile.auxiliary[lane] = state


@inline
def markov_gradient(
    problem: Any, chains: Chains, tile: Tile, j: int, i: int, theta: Any, target: int
) -> Any:
    """Return coordinate `i` of the gradient of copy `j`."""
    return load(tile.theta, target + j * chains.dim + i)
