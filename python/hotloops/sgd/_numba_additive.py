"""The twin of ``csrc/sgd/cpu_additive.cpp``: problems whose noise is added to the gradient."""

from __future__ import annotations

from typing import Any, NamedTuple

from hotloops._runtime._numba_buffers import load, store, zeros
from hotloops._runtime._numba_jit import inline, variants
from hotloops._runtime._numba_math import STREAM_NOISE, draw_normals, prepare_rows, sine
from hotloops._runtime._numba_packs import traced
from hotloops.sgd._numba_tiles import Chains, Packs, Scalars, Tile, commit, dot, running, within


class Quadratic(NamedTuple):
    """``a (t - t*) + s xi``."""

    curvature: Any
    minimizer: Any
    noise_scale: Any


class QuadraticFull(NamedTuple):
    """``A (t - t*) + B xi``; the matrices are flat."""

    matrix: Any
    minimizer: Any
    noise_factor: Any


class Cosine(NamedTuple):
    """``2 t - sin(t + phase) + s xi``."""

    phase: Any
    noise_scale: Any


@inline
def begin_noise(problem: Any, chains: Chains, tile: Tile, first_chain: int, step: int) -> Any:
    """Prepare the rows of the noise."""
    row = chains.offset + first_chain
    like = zeros(tile.theta)
    return prepare_rows(like, row, step, STREAM_NOISE, chains.key_low, chains.key_high)


@inline
def _draw_noise(chains: Chains, tile: Tile, rows: Any, step: int) -> None:
    """Put the normals of one step into the first packs of the scratch memory."""
    for block in range((chains.dim + 3) // 4):
        z0, z1, z2, z3 = draw_normals(rows, step, block, chains.key_low, chains.key_high)
        store(tile.scratch, 4 * block, z0)
        store(tile.scratch, 4 * block + 1, z1)
        store(tile.scratch, 4 * block + 2, z2)
        store(tile.scratch, 4 * block + 3, z3)


# --- gradients that act on each coordinate alone -------------------------------------------------


@traced
def _step_quadratic(
    theta: Any, step_size: Any, curvature: Any, minimizer: Any, scale: Any, noise: Any
) -> Any:
    return theta - step_size * (curvature * (theta - minimizer) + scale * noise)


@traced
def _step_cosine(theta: Any, step_size: Any, phase: Any, scale: Any, noise: Any) -> Any:
    return theta - step_size * ((2.0 * theta - sine(theta + phase)) + scale * noise)


def _quadratic_coordinate(problem: Any, i: int, theta: Any, step_size: Any, noise: Any) -> Any:
    curvature, minimizer = problem.curvature[i], problem.minimizer[i]
    return _step_quadratic(theta, step_size, curvature, minimizer, problem.noise_scale[i], noise)


def _cosine_coordinate(problem: Any, i: int, theta: Any, step_size: Any, noise: Any) -> Any:
    return _step_cosine(theta, step_size, problem.phase, problem.noise_scale, noise)


@variants({Quadratic: _quadratic_coordinate, Cosine: _cosine_coordinate})
def _step_coordinate(problem: Any, i: int, theta: Any, step_size: Any, noise: Any) -> Any:
    """Return coordinate `i` of the next iterate."""


@inline
def advance_separable(
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
    """Make one step of all copies."""
    _draw_noise(chains, tile, rows, step)
    for j in range(chains.num_copies):
        step_size = chains.step_sizes[j]
        limit = load(tile.limits, j)
        good = running(limit)
        for i in range(chains.dim):
            k = j * chains.dim + i
            noise = load(tile.scratch, i)
            theta = _step_coordinate(problem, i, load(tile.theta, current + k), step_size, noise)
            store(tile.theta, target + k, theta)
            good = within(good, theta, limit)
        commit(chains, tile, first_chain, step, j, good, current, target)


# --- A (t - t*) + B xi ---------------------------------------------------------------------------


@traced
def _difference(theta: Any, minimizer: Any) -> Any:
    return theta - minimizer


@traced
def _step_full(theta: Any, step_size: Any, pull: Any, noise: Any) -> Any:
    return theta - step_size * (pull + noise)


@inline
def advance_full(
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
    """Make one step of all copies; the correlated noise is made once."""
    d = chains.dim
    normals = Packs(tile.scratch, 0)
    noise = Packs(tile.scratch, (d + 3) // 4 * 4)
    difference = Packs(tile.scratch, noise.first + d)
    _draw_noise(chains, tile, rows, step)
    for i in range(d):
        correlated = dot(i + 1, Scalars(problem.noise_factor, i * d), normals)
        store(tile.scratch, noise.first + i, correlated)
    for j in range(chains.num_copies):
        step_size = chains.step_sizes[j]
        limit = load(tile.limits, j)
        good = running(limit)
        for i in range(d):
            theta = load(tile.theta, current + j * d + i)
            store(tile.scratch, difference.first + i, _difference(theta, problem.minimizer[i]))
        for i in range(d):
            theta = load(tile.theta, current + j * d + i)
            pull = dot(d, Scalars(problem.matrix, i * d), difference)
            theta = _step_full(theta, step_size, pull, load(tile.scratch, noise.first + i))
            store(tile.theta, target + j * d + i, theta)
            good = within(good, theta, limit)
        commit(chains, tile, first_chain, step, j, good, current, target)
