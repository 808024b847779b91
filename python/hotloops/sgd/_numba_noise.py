"""The twin of ``csrc/sgd/step_noise.hpp``: the laws of additive noise, of mean 0 and variance 1."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from hotloops._runtime._numba_buffers import load_column, store, zeros
from hotloops._runtime._numba_jit import inline, variants
from hotloops._runtime._numba_math import (
    STREAM_LABELS,
    STREAM_NOISE,
    draw_normals,
    draw_words,
    exp_bounded,
    flip_sign,
    log_positive,
    polar_turns,
    prepare_rows,
    uniform,
)
from hotloops._runtime._numba_packs import constant, square_root, traced, widen, word
from hotloops.sgd._numba_tiles import Chains, Tile

__all__ = ["Gaussian", "Law", "begin_noise", "draw_noise", "make_noise"]

GAUSSIAN, UNIFORM, RADEMACHER, LAPLACE, STUDENT_T, NONE, TABLE = range(7)


class Gaussian(NamedTuple):
    """Standard normals: apart, so that they do not wait for the others to be compiled."""

    law: int


class Law(NamedTuple):
    """Any other law."""

    law: int
    df: Any  # of Student's t: nu, -2 / nu, sqrt((nu - 2) / nu)
    exponent: Any
    scale: Any
    table: Any  # (size,)
    size: Any


def make_noise(real: Any, law: int, df: float, table: Any) -> Gaussian | Law:
    """Return what draws a law in the precision `real`."""
    if law == GAUSSIAN:
        return Gaussian(law)
    student = law == STUDENT_T
    exponent = -2.0 / df if student else 0.0
    scale = np.sqrt((df - 2.0) / df) if student else 0.0
    return Law(law, real(df), real(exponent), real(scale), table, word(table.size))


# --- one value from one word ---------------------------------------------------------------------


@traced
def _uniform_noise(x: Any, like: Any) -> Any:
    u = uniform(x)
    return (u + u - 1.0) * 1.7320508075688772


@traced
def _rademacher_noise(x: Any, like: Any) -> Any:
    return flip_sign(constant(1.0, like), x)


@traced
def _laplace_noise(x: Any, like: Any) -> Any:
    exponential = -log_positive(uniform(x << 1))
    return flip_sign(exponential * 0.70710678118654752, x)


@traced
def _student_noise(df: Any, exponent: Any, scale: Any, radius: Any, turn: Any) -> Any:
    """Bailey, "Polar generation of random variates with the t-distribution", 1994."""
    power = exp_bounded(exponent * log_positive(uniform(radius)))
    along, _ = polar_turns(square_root(df * (power - 1.0)), turn)
    return scale * along


@traced
def _place_in_table(x: Any, size: Any) -> Any:
    return ((widen(x) & 0xFFFFFFFF) * size) >> 32


# --- the noise of one step -----------------------------------------------------------------------


@inline
def _prepare(chains: Chains, tile: Tile, first_chain: int, step: int, stream: int) -> Any:
    row = chains.offset + first_chain
    return prepare_rows(zeros(tile.theta), row, step, stream, chains.key_low, chains.key_high)


@inline
def _begin_gaussian(noise: Any, chains: Chains, tile: Tile, first_chain: int, step: int) -> Any:
    return _prepare(chains, tile, first_chain, step, STREAM_NOISE)


@inline
def _begin_law(noise: Any, chains: Chains, tile: Tile, first_chain: int, step: int) -> Any:
    first = _prepare(chains, tile, first_chain, step, STREAM_NOISE)
    return first, _prepare(chains, tile, first_chain, step, STREAM_LABELS)


@variants({Gaussian: _begin_gaussian, Law: _begin_law})
def begin_noise(noise: Any, chains: Chains, tile: Tile, first_chain: int, step: int) -> Any:
    """Prepare the rows of the noise."""


@inline
def _draw_gaussian(noise: Any, chains: Chains, tile: Tile, rows: Any, step: int) -> None:
    for block in range((chains.dim + 3) // 4):
        z0, z1, z2, z3 = draw_normals(rows, step, block, chains.key_low, chains.key_high)
        store(tile.scratch, 4 * block, z0)
        store(tile.scratch, 4 * block + 1, z1)
        store(tile.scratch, 4 * block + 2, z2)
        store(tile.scratch, 4 * block + 3, z3)


@inline
def _draw_law(noise: Any, chains: Chains, tile: Tile, rows: Any, step: int) -> None:
    nothing = zeros(tile.theta)
    low, high = chains.key_low, chains.key_high
    for block in range((chains.dim + 3) // 4):
        if noise.law == NONE:
            for c in range(4):
                store(tile.scratch, 4 * block + c, nothing)
            continue
        words = draw_words(rows[0], step, block, low, high)
        if noise.law == UNIFORM:
            for c in range(4):
                store(tile.scratch, 4 * block + c, _uniform_noise(words[c], nothing))
        elif noise.law == RADEMACHER:
            for c in range(4):
                store(tile.scratch, 4 * block + c, _rademacher_noise(words[c], nothing))
        elif noise.law == LAPLACE:
            for c in range(4):
                store(tile.scratch, 4 * block + c, _laplace_noise(words[c], nothing))
        elif noise.law == STUDENT_T:
            turns = draw_words(rows[1], step, block, low, high)
            for c in range(4):
                value = _student_noise(noise.df, noise.exponent, noise.scale, words[c], turns[c])
                store(tile.scratch, 4 * block + c, value)
        else:
            for c in range(4):
                store(tile.sampled, 0, _place_in_table(words[c], noise.size))
                value = load_column(noise.table, tile.sampled, 0, 0, 1)
                store(tile.scratch, 4 * block + c, value)


@variants({Gaussian: _draw_gaussian, Law: _draw_law})
def draw_noise(noise: Any, chains: Chains, tile: Tile, rows: Any, step: int) -> None:
    """Put the noise of one step into the first packs of the scratch memory."""
