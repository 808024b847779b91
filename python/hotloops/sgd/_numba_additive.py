"""The twin of ``csrc/sgd/cpu_additive.cpp``: problems whose noise is added to the gradient."""

from __future__ import annotations

from typing import Any, NamedTuple

from hotloops._runtime._numba_buffers import load, store
from hotloops._runtime._numba_jit import inline
from hotloops._runtime._numba_math import sine
from hotloops._runtime._numba_packs import traced
from hotloops.sgd._numba_noise import begin_noise, draw_noise
from hotloops.sgd._numba_tiles import Chains, Packs, Scalars, Tile, dot


class Quadratic(NamedTuple):
    """``a (t - t*) + s xi``."""

    curvature: Any
    minimizer: Any
    noise_scale: Any
    noise: Any


class QuadraticFull(NamedTuple):
    """``A (t - t*) + B xi``; the matrices are flat."""

    matrix: Any
    minimizer: Any
    noise_factor: Any
    noise: Any


class Cosine(NamedTuple):
    """``2 t - sin(t + phase) + s xi``."""

    phase: Any
    noise_scale: Any
    noise: Any


@inline
def begin_additive(problem: Any, chains: Chains, tile: Tile, first_chain: int, step: int) -> Any:
    """Prepare the rows of the noise."""
    return begin_noise(problem.noise, chains, tile, first_chain, step)


# --- gradients that act on each coordinate alone -------------------------------------------------


@inline
def draw_separable(
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
    """Draw the noise of a step."""
    draw_noise(problem.noise, chains, tile, rows, step)
    return True


@traced
def _quadratic(theta: Any, curvature: Any, minimizer: Any, scale: Any, noise: Any) -> Any:
    return curvature * (theta - minimizer) + scale * noise


@traced
def _cosine(theta: Any, phase: Any, scale: Any, noise: Any) -> Any:
    return (2.0 * theta - sine(theta + phase)) + scale * noise


@inline
def quadratic_gradient(
    problem: Any, chains: Chains, tile: Tile, j: int, i: int, theta: Any, target: int
) -> Any:
    """Return coordinate `i` of the gradient of copy `j`."""
    scale, noise = problem.noise_scale[i], load(tile.scratch, i)
    return _quadratic(theta, problem.curvature[i], problem.minimizer[i], scale, noise)


@inline
def cosine_gradient(
    problem: Any, chains: Chains, tile: Tile, j: int, i: int, theta: Any, target: int
) -> Any:
    """Return coordinate `i` of the gradient of copy `j`."""
    return _cosine(theta, problem.phase, problem.noise_scale, load(tile.scratch, i))


# --- A (t - t*) + B xi ---------------------------------------------------------------------------


@inline
def _correlated(chains: Chains) -> int:
    """Return the pack of the correlated noise, behind the normals."""
    return (chains.dim + 3) // 4 * 4


@inline
def draw_correlated(
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
    """Draw the noise of a step, which all copies share."""
    draw_noise(problem.noise, chains, tile, rows, step)
    for i in range(chains.dim):
        factor = Scalars(problem.noise_factor, i * chains.dim)
        noise = dot(i + 1, factor, Packs(tile.scratch, 0))
        store(tile.scratch, _correlated(chains) + i, noise)
    return True


@traced
def _difference(theta: Any, minimizer: Any) -> Any:
    return theta - minimizer


@traced
def _sum(a: Any, b: Any) -> Any:
    return a + b


@inline
def begin_full_copy(problem: Any, chains: Chains, tile: Tile, j: int, current: int) -> None:
    """Compute what all coordinates of the gradient need."""
    first = _correlated(chains) + chains.dim
    for i in range(chains.dim):
        theta = load(tile.theta, current + j * chains.dim + i)
        store(tile.scratch, first + i, _difference(theta, problem.minimizer[i]))


@inline
def full_gradient(
    problem: Any, chains: Chains, tile: Tile, j: int, i: int, theta: Any, target: int
) -> Any:
    """Return coordinate `i` of the gradient of copy `j`."""
    d = chains.dim
    noise = _correlated(chains)
    pull = dot(d, Scalars(problem.matrix, i * d), Packs(tile.scratch, noise + d))
    return _sum(pull, load(tile.scratch, noise + i))
