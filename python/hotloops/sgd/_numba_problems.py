"""What the twins of the problems have in common, and how one of them is made."""

from __future__ import annotations

from typing import Any

import numpy as np

from hotloops._runtime._numba_buffers import load, store
from hotloops._runtime._numba_jit import inline, variants
from hotloops.sgd import _numba_additive as additive
from hotloops.sgd import _numba_markov as markov
from hotloops.sgd import _numba_rows as rows
from hotloops.sgd import _numba_streaming as streaming
from hotloops.sgd._numba_additive import Cosine, Quadratic, QuadraticFull
from hotloops.sgd._numba_losses import make_loss
from hotloops.sgd._numba_markov import Markov
from hotloops.sgd._numba_noise import make_noise
from hotloops.sgd._numba_rows import Rows
from hotloops.sgd._numba_rules import NoRules, Rules, take_step
from hotloops.sgd._numba_streaming import Streaming
from hotloops.sgd._numba_tiles import Chains, Tile, commit, running, updated, within

__all__ = ["begin_block", "make_problem", "num_parts", "prepare_step", "scratch_packs", "step_copy"]


@variants(
    {
        Quadratic: additive.begin_additive,
        QuadraticFull: additive.begin_additive,
        Cosine: additive.begin_additive,
        Rows: rows.begin_rows,
        Streaming: streaming.begin_streaming,
        Markov: markov.begin_markov,
    }
)
def begin_block(problem: Any, chains: Chains, tile: Tile, first_chain: int, step: int) -> Any:
    """Return what stays the same in the steps that follow."""


@variants(
    {
        Quadratic: additive.draw_separable,
        QuadraticFull: additive.draw_correlated,
        Cosine: additive.draw_separable,
        Rows: rows.add_rows,
        Streaming: streaming.draw_row,
        Markov: markov.pull_all,
    }
)
def prepare_step(
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
) -> Any:
    """Do what all copies share; return whether the step can be made now."""


@inline
def _begin_nothing(problem: Any, chains: Chains, tile: Tile, j: int, current: int) -> None:
    pass


@variants(
    {
        Quadratic: _begin_nothing,
        QuadraticFull: additive.begin_full_copy,
        Cosine: _begin_nothing,
        Rows: _begin_nothing,
        Streaming: streaming.begin_streaming_copy,
        Markov: _begin_nothing,
    }
)
def _begin_copy(problem: Any, chains: Chains, tile: Tile, j: int, current: int) -> None:
    """Do what all coordinates of the gradient of copy `j` share."""


@variants(
    {
        Quadratic: additive.quadratic_gradient,
        QuadraticFull: additive.full_gradient,
        Cosine: additive.cosine_gradient,
        Rows: rows.rows_gradient,
        Streaming: streaming.streaming_gradient,
        Markov: markov.markov_gradient,
    }
)
def _gradient(
    problem: Any, chains: Chains, tile: Tile, j: int, i: int, theta: Any, target: int
) -> Any:
    """Return coordinate `i` of the gradient of copy `j`, whose iterate there is `theta`."""


@inline
def _step_at_once(
    rules: Any,
    problem: Any,
    chains: Chains,
    tile: Tile,
    first_chain: int,
    step: int,
    j: int,
    current: int,
    target: int,
) -> None:
    _begin_copy(problem, chains, tile, j, current)
    step_size = load(tile.step_sizes, j)
    limit = load(tile.limits, j)
    good = running(limit)
    for i in range(chains.dim):
        k = j * chains.dim + i
        theta = load(tile.theta, current + k)
        gradient = _gradient(problem, chains, tile, j, i, theta, target)
        theta = updated(theta, step_size, gradient)
        store(tile.theta, target + k, theta)
        good = within(good, theta, limit)
    commit(chains, tile, first_chain, step, j, good, current, target)


@inline
def _step_by_rules(
    rules: Any,
    problem: Any,
    chains: Chains,
    tile: Tile,
    first_chain: int,
    step: int,
    j: int,
    current: int,
    target: int,
) -> None:
    _begin_copy(problem, chains, tile, j, current)
    for i in range(chains.dim):
        k = j * chains.dim + i
        theta = load(tile.theta, current + k)
        store(tile.theta, target + k, _gradient(problem, chains, tile, j, i, theta, target))
    take_step(rules, chains, tile, first_chain, step, j, current, target)


@variants({NoRules: _step_at_once, Rules: _step_by_rules})
def step_copy(
    rules: Any,
    problem: Any,
    chains: Chains,
    tile: Tile,
    first_chain: int,
    step: int,
    j: int,
    current: int,
    target: int,
) -> None:
    """Make the step of copy `j`, from the iterates at pack `current` to those at pack `target`."""


# --- from the parameters of a kernel -------------------------------------------------------------


def make_problem(dtype: np.dtype[Any], kernel: str, parameters: tuple[Any, ...]) -> Any:
    """Return the problem in the form that is compiled for."""
    return _MAKERS[kernel](dtype.type, kernel, *parameters)


def num_parts(problem: Any) -> int:
    """Return in how many parts a step is made."""
    if not isinstance(problem, Rows):
        return 1
    return -(-problem.batch_size // rows.SAMPLES_AT_ONCE)


def scratch_packs(problem: Any, num_copies: int, dim: int) -> tuple[int, int]:
    """Return how many packs a problem needs, and how many of sampled rows or states."""
    if isinstance(problem, Rows):
        return (num_copies + 1) * dim + 1, min(problem.batch_size, rows.SAMPLES_AT_ONCE)
    if isinstance(problem, Streaming):
        return 2 * dim + 5, 0
    if isinstance(problem, Markov):
        return dim, 1
    return 3 * dim + 3, 1


def _make_quadratic(
    real: Any,
    kernel: str,
    curvature: Any,
    minimizer: Any,
    scale: Any,
    noise: tuple[Any, ...],
) -> Quadratic:
    return Quadratic(curvature, minimizer, scale, make_noise(real, *noise))


def _make_full(
    real: Any,
    kernel: str,
    matrix: Any,
    minimizer: Any,
    factor: Any,
    noise: tuple[Any, ...],
) -> QuadraticFull:
    law = make_noise(real, *noise)
    return QuadraticFull(matrix.reshape(-1), minimizer, factor.reshape(-1), law)


def _make_cosine(
    real: Any, kernel: str, phase: float, scale: float, noise: tuple[Any, ...]
) -> Cosine:
    return Cosine(real(phase), real(scale), make_noise(real, *noise))


def _make_rows(
    real: Any,
    kernel: str,
    features: Any,
    targets: Any,
    batch_size: int,
    sampling: int,
    l2: float,
    shape: float,
) -> Rows:
    return Rows(
        features.reshape(-1),
        targets,
        features.shape[0],
        (features.shape[0] - 1).bit_length(),
        batch_size,
        real(1) / real(batch_size),
        sampling,
        real(l2),
        make_loss(real, kernel, shape),
    )


def _make_streaming(
    real: Any,
    kernel: str,
    theta_true: Any,
    factor: Any,
    noise_scale: float,
    l2: float,
    rho: float,
) -> Streaming:
    return Streaming(
        theta_true,
        factor.reshape(-1),
        factor.ndim == 2,
        real(noise_scale),
        real(l2),
        real(1),
        rho != 0,
        real(rho),
        real(np.sqrt(1.0 - rho * rho)),
        kernel == "streaming_logistic",
        make_loss(real, kernel, 0.0),
    )


def _make_markov(
    real: Any, kernel: str, matrices: Any, offsets: Any, threshold: Any, alias: Any
) -> Markov:
    return Markov(
        matrices.reshape(-1),
        offsets.reshape(-1),
        threshold.reshape(-1),
        alias.reshape(-1),
        matrices.shape[0],
    )


_MAKERS: dict[str, Any] = {
    "quadratic": _make_quadratic,
    "quadratic_full": _make_full,
    "cosine": _make_cosine,
    "least_squares": _make_rows,
    "logistic": _make_rows,
    "huber": _make_rows,
    "squared_hinge": _make_rows,
    "softplus_hinge": _make_rows,
    "poisson": _make_rows,
    "streaming_least_squares": _make_streaming,
    "streaming_logistic": _make_streaming,
    "markov_lsa": _make_markov,
}
