"""The Numba backend of the SGD loop: the C++ driver's arithmetic, compiled on first use."""

from __future__ import annotations

from typing import Any

import numpy as np

from hotloops._runtime import _numba_jit
from hotloops._runtime._numba_buffers import buffers, lanes_of
from hotloops._runtime._numba_jit import aligned, map_slices, variants
from hotloops._runtime._numba_packs import PACK_BYTES, word
from hotloops.sgd import _numba_additive, _numba_custom, _numba_rows, _numba_sampling
from hotloops.sgd._numba_additive import Cosine, Quadratic, QuadraticFull
from hotloops.sgd._numba_rows import Rows
from hotloops.sgd._numba_tiles import Chains, Tile, load_state, store_state
from hotloops.sgd._state import ChainArrays

__all__ = ["advance"]


@variants(
    {
        Quadratic: _numba_additive.begin_noise,
        QuadraticFull: _numba_additive.begin_noise,
        Cosine: _numba_additive.begin_noise,
        Rows: _numba_rows.begin_rows,
    }
)
def _begin_block(problem: Any, chains: Chains, tile: Tile, first_chain: int, step: int) -> Any:
    """Return what stays the same in the steps that follow."""


@variants(
    {
        Quadratic: _numba_additive.advance_separable,
        QuadraticFull: _numba_additive.advance_full,
        Cosine: _numba_additive.advance_separable,
        Rows: _numba_rows.advance_rows,
    }
)
def _advance_step(
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
    """Make a part of a step, from the iterates at pack `current` to those at pack `target`."""


@_numba_jit.kernel
def _run(
    problem_arrays: Any,
    chains_arrays: Chains,
    tile_arrays: Tile,
    first_tile: int,
    last_tile: int,
    first_step: int,
    begin: int,
    end: int,
) -> None:
    """Advance some tiles by the parts begin..end-1 of the steps from `first_step` on."""
    problem, chains, tile = buffers(problem_arrays), buffers(chains_arrays), buffers(tile_arrays)
    lanes = lanes_of(tile.theta)
    for index in range(first_tile, last_tile):
        first_chain = index * lanes
        live = min(lanes, chains.num_chains - first_chain)
        load_state(chains, tile, first_chain, live)
        current, target = 0, chains.num_copies * chains.dim
        step, part = first_step + begin // chains.parts, begin % chains.parts
        left = end - begin
        while left > 0:
            rows = _begin_block(problem, chains, tile, first_chain, step)
            wraps = False  # the low half of the step, which ends what the rows are prepared for
            while left > 0 and not wraps:
                _advance_step(problem, chains, tile, rows, first_chain, step, part, current, target)
                left -= 1
                part += 1
                if part == chains.parts:
                    part = 0
                    step += 1
                    wraps = step & 0xFFFFFFFF == 0
                    current, target = target, current
        store_state(chains, tile, first_chain, live, current)


def advance(
    arrays: ChainArrays,
    kernel: str,
    parameters: tuple[Any, ...],
    *,
    seed: int,
    chain_offset: int,
    first_step: int,
    num_steps: int,
    accumulate: bool,
    divergence_limit: float,
    num_threads: int,
) -> None:
    """Advance all chains by `num_steps` steps, in place."""
    num_chains, num_copies, dim = arrays.theta.shape
    chains = Chains(
        arrays.theta.reshape(-1),
        arrays.sums.reshape(-1),
        arrays.flags.reshape(-1),
        arrays.diverged_at.reshape(-1),
        arrays.step_sizes,
        num_chains,
        num_copies,
        dim,
        chain_offset,
        word(seed & 0xFFFFFFFF),
        word(seed >> 32),
        accumulate,
        arrays.theta.dtype.type(divergence_limit),
        _num_parts(kernel, parameters),
    )
    if kernel == "custom":
        problem = _numba_custom.Problem(*parameters)
        _numba_custom.advance(problem, chains, first_step, num_steps, num_threads)
        return
    problem = _MAKERS[kernel](arrays.theta.dtype.type, *parameters)
    num_tiles = -(-num_chains // (PACK_BYTES // arrays.theta.itemsize))

    def call(tile: Tile, first_tile: int, last_tile: int, begin: int, end: int) -> None:
        _run(problem, chains, tile, first_tile, last_tile, first_step, begin, end)

    num_parts = num_steps * chains.parts
    map_slices(lambda: _memory(problem, chains), call, num_tiles, num_parts, num_threads)


def _num_parts(kernel: str, parameters: tuple[Any, ...]) -> int:
    """Return in how many parts a step is made."""
    if kernel not in ("least_squares", "logistic"):
        return 1
    batch_size: int = parameters[2]
    return -(-batch_size // _numba_rows.SAMPLES_AT_ONCE)


def _memory(problem: Any, chains: Chains) -> Tile:
    """Return the memory of one thread."""
    dtype = chains.theta.dtype
    lanes = PACK_BYTES // dtype.itemsize
    size = chains.num_copies * chains.dim
    samples = min(getattr(problem, "batch_size", 0), _numba_rows.SAMPLES_AT_ONCE)
    return Tile(
        theta=aligned(2 * size * lanes, dtype),
        sums=aligned(size * lanes, np.float64),
        limits=aligned((chains.num_copies + 1) * lanes, dtype),
        scratch=aligned((3 * chains.dim + 3 + (size if samples else 0)) * lanes, dtype),
        sampled=aligned(samples * lanes, np.int64),
        permutation=aligned(_numba_sampling.PERMUTATION_WORDS * lanes, np.uint64),
        epoch=np.empty(1, np.int64),
    )


def _make_quadratic(real: Any, curvature: Any, minimizer: Any, noise_scale: Any) -> Quadratic:
    return Quadratic(curvature, minimizer, noise_scale)


def _make_full(real: Any, matrix: Any, minimizer: Any, noise_factor: Any) -> QuadraticFull:
    return QuadraticFull(matrix.reshape(-1), minimizer, noise_factor.reshape(-1))


def _make_cosine(real: Any, phase: float, noise_scale: float) -> Cosine:
    return Cosine(real(phase), real(noise_scale))


def _make_rows(logistic: bool) -> Any:
    def make(
        real: Any, features: Any, targets: Any, batch_size: int, sampling: int, l2: float
    ) -> Any:
        return Rows(
            features.reshape(-1),
            targets,
            features.shape[0],
            (features.shape[0] - 1).bit_length(),
            batch_size,
            real(1) / real(batch_size),
            sampling,
            real(l2),
            logistic,
        )

    return make


_MAKERS = {
    "quadratic": _make_quadratic,
    "quadratic_full": _make_full,
    "cosine": _make_cosine,
    "least_squares": _make_rows(logistic=False),
    "logistic": _make_rows(logistic=True),
}
