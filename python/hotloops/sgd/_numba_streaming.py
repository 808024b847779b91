"""The twin of ``csrc/sgd/step_streaming.hpp``: one new row each step, made here.

Features of a normal law, independent or autoregressive in time; targets of a linear or a logistic
model.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from hotloops._runtime._numba_buffers import load, store, zeros
from hotloops._runtime._numba_jit import inline
from hotloops._runtime._numba_math import (
    STREAM_FEATURES,
    STREAM_LABELS,
    draw_normals,
    draw_uniforms,
    prepare_rows,
    sigmoid,
)
from hotloops._runtime._numba_packs import constant, traced, where
from hotloops.sgd._numba_losses import residual
from hotloops.sgd._numba_plug_in import add_row, begin_batch, end_batch
from hotloops.sgd._numba_tiles import Chains, Packs, Scalars, Tile, dot


class Streaming(NamedTuple):
    """Loss of the new row plus ``l2 |t|^2 / 2``."""

    theta_true: Any  # (d,)
    factor: Any  # (d,), or (d * d,) lower triangular when `full`
    full: bool
    noise_scale: Any
    l2: Any
    inverse_batch: Any  # 1
    autoregressive: bool
    rho: Any
    root: Any  # sqrt(1 - rho^2)
    logistic: bool
    loss: Any


@inline
def begin_streaming(problem: Any, chains: Chains, tile: Tile, first_chain: int, step: int) -> Any:
    """Prepare the rows of the features and of the labels."""
    like, row = zeros(tile.theta), chains.offset + first_chain
    low, high = chains.key_low, chains.key_high
    features = prepare_rows(like, row, step, STREAM_FEATURES, low, high)
    return features, prepare_rows(like, row, step, STREAM_LABELS, low, high)


@traced
def _autoregression(rho: Any, root: Any, previous: Any, normal: Any) -> Any:
    return rho * previous + root * normal


@traced
def _linear_target(margin: Any, noise_scale: Any, normal: Any) -> Any:
    return margin + noise_scale * normal


@traced
def _bernoulli_target(margin: Any, u: Any) -> Any:
    return where(u < sigmoid(margin), 1.0, constant(0.0, u))


@traced
def _product(a: Any, b: Any) -> Any:
    return a * b


@traced
def _gradient(slope: Any, x: Any, l2: Any, theta: Any) -> Any:
    return slope * x + l2 * theta


@inline
def _draw_features(problem: Any, chains: Chains, tile: Tile, rows: Any, step: int) -> int:
    """Put the features into the first packs of the scratch memory; return the pack of the normal
    behind those of the features."""
    d = chains.dim
    normals = d + 1
    count = d if problem.logistic else d + 1
    for block in range((count + 3) // 4):
        z0, z1, z2, z3 = draw_normals(rows, step, block, chains.key_low, chains.key_high)
        store(tile.scratch, normals + 4 * block, z0)
        store(tile.scratch, normals + 4 * block + 1, z1)
        store(tile.scratch, normals + 4 * block + 2, z2)
        store(tile.scratch, normals + 4 * block + 3, z3)
    if problem.autoregressive:
        for i in range(d):
            normal = load(tile.scratch, normals + i)
            z = _autoregression(problem.rho, problem.root, load(tile.auxiliary, i), normal)
            store(tile.auxiliary, i, z)
            store(tile.scratch, normals + i, z)
    for i in range(d):
        if problem.full:
            x = dot(i + 1, Scalars(problem.factor, i * d), Packs(tile.scratch, normals))
        else:
            x = _product(problem.factor[i], load(tile.scratch, normals + i))
        store(tile.scratch, i, x)
    return normals + d


@inline
def draw_row(
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
    """Make the row of a step and the residual of each copy."""
    d = chains.dim
    normal = _draw_features(problem, chains, tile, rows[0], step)
    features = Packs(tile.scratch, 0)
    margin = dot(d, Scalars(problem.theta_true, 0), features)
    if problem.logistic:
        uniforms = draw_uniforms(rows[1], step, 0, chains.key_low, chains.key_high)
        store(tile.scratch, d, _bernoulli_target(margin, uniforms[0]))
    else:
        noise = load(tile.scratch, normal)
        store(tile.scratch, d, _linear_target(margin, problem.noise_scale, noise))
    begin_batch(statistics.plug_in, statistics, totals, chains, tile, step)
    add_row(statistics.plug_in, statistics, totals, problem, chains, tile, step, 0)
    end_batch(statistics.plug_in, statistics, totals, problem, chains, tile, step)
    return True


@inline
def begin_streaming_copy(problem: Any, chains: Chains, tile: Tile, j: int, current: int) -> None:
    """Put the residual of copy `j` behind the features and the target."""
    d = chains.dim
    margin = dot(d, Packs(tile.scratch, 0), Packs(tile.theta, current + j * d))
    store(tile.scratch, d + 1, residual(problem.loss, margin, load(tile.scratch, d)))


@inline
def streaming_gradient(
    problem: Any, chains: Chains, tile: Tile, j: int, i: int, theta: Any, target: int
) -> Any:
    """Return coordinate `i` of the gradient of copy `j`."""
    slope = load(tile.scratch, chains.dim + 1)
    return _gradient(slope, load(tile.scratch, i), problem.l2, theta)
