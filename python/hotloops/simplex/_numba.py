"""The Numba backend of the loop: the C++ driver's arithmetic, compiled on first use."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba.core import errors

from hotloops._runtime import _numba_jit
from hotloops._runtime._numba_buffers import buffers, lanes_of
from hotloops._runtime._numba_jit import aligned, map_slices, plain
from hotloops._runtime._numba_packs import PACK_BYTES, word
from hotloops.simplex import _numba_objectives as objectives
from hotloops.simplex import _numba_polynomial as polynomials
from hotloops.simplex import _numba_ridge_sum as ridge_sum
from hotloops.simplex._numba_loop import loop
from hotloops.simplex._numba_project import project_onto_simplex
from hotloops.simplex._numba_types import Chains, Terms, Tile, way_of
from hotloops.simplex._state import ChainArrays, StepOptions, Steps

__all__ = ["advance", "project"]


@_numba_jit.kernel
def _run(
    problem_arrays: Any,
    terms_arrays: Terms,
    chains_arrays: Chains,
    tile_arrays: Tile,
    first_tile: int,
    last_tile: int,
    first_step: int,
    begin: int,
    end: int,
) -> None:
    """Advance some tiles for an objective of ours."""
    problem, terms = buffers(problem_arrays), buffers(terms_arrays)
    chains, tile = buffers(chains_arrays), buffers(tile_arrays)
    loop(problem, terms, chains, tile, first_tile, last_tile, first_step, begin, end)


@plain
def _run_custom(
    problem: Any,
    terms_arrays: Terms,
    chains_arrays: Chains,
    tile_arrays: Tile,
    first_tile: int,
    last_tile: int,
    first_step: int,
    begin: int,
    end: int,
) -> None:
    """Advance some tiles for a function of the user's."""
    terms, chains, tile = buffers(terms_arrays), buffers(chains_arrays), buffers(tile_arrays)
    loop(problem, terms, chains, tile, first_tile, last_tile, first_step, begin, end)


def advance(
    arrays: ChainArrays,
    kernel: str,
    parameters: tuple[Any, ...],
    options: StepOptions,
    steps: Steps,
) -> None:
    """Advance all chains, in place, and evaluate the objective there."""
    dtype = arrays.x.dtype
    real = dtype.type
    empty = np.empty(0, dtype)
    sizes = np.diff(options.offsets)
    chains = Chains(
        x=arrays.x.reshape(-1),
        value=arrays.value,
        gradient=empty if steps.gradient is None else steps.gradient.reshape(-1),
        best_x=arrays.best_x.reshape(-1),
        best_value=arrays.best_value,
        smallest=arrays.smallest,
        sums=arrays.sums.reshape(-1),
        squares=arrays.squares.reshape(-1),
        products=arrays.products.reshape(-1),
        histogram=arrays.histogram.reshape(-1),
        auxiliary=arrays.auxiliary.reshape(-1),
        floored=arrays.floored,
        clipped=arrays.clipped,
        accepted=arrays.accepted,
        flags=arrays.flags,
        failed_at=arrays.failed_at,
        step_sizes=options.step_sizes,
        temperatures=options.temperatures,
        accelerations=empty if options.accelerations is None else options.accelerations,
        step_factors=empty if steps.step_factors is None else steps.step_factors,
        temperature_factors=(
            empty if steps.temperature_factors is None else steps.temperature_factors
        ),
        noise=empty if steps.noise is None else steps.noise.reshape(-1),
        alpha=options.alpha,
        offsets=options.offsets.astype(np.int64),
        caps=real(0.25) / sizes.astype(dtype),
        entries=sizes.astype(dtype),
        way=way_of(options.form),
        num_chains=arrays.x.shape[0],
        dim=arrays.x.shape[1],
        num_simplices=sizes.size,
        num_steps=steps.num_steps,
        num_bins=arrays.histogram.shape[2],
        epoch=_epoch(kernel, parameters),
        offset=steps.chain_offset,
        key_low=word(steps.seed & 0xFFFFFFFF),
        key_high=word(steps.seed >> 32),
        noisy=options.noisy,
        drawn=steps.noise is None,
        corrected=options.corrected,
        scheduled=steps.step_factors is not None,
        cooled=steps.temperature_factors is not None,
        accumulate=steps.accumulate,
        with_products=arrays.products.size > 0,
        with_gradient=steps.gradient is not None,
        with_terms=options.terms is not None,
        floor_scale=real(options.floor_scale),
        floor_least=real(options.floor_least),
        clip=real(options.clip),
        convexity=real(options.convexity),
        bins=real(arrays.histogram.shape[2]),
        one=real(1),
    )
    terms = _terms(options, dtype)
    problem = _MAKERS[kernel](*parameters)
    run = _run_custom if kernel == "custom" else _run
    num_tiles = -(-chains.num_chains // (PACK_BYTES // dtype.itemsize))
    scratch = _scratch(chains.dim, problem)

    def call(tile: Tile, first_tile: int, last_tile: int, begin: int, end: int) -> None:
        run(problem, terms, chains, tile, first_tile, last_tile, steps.first_step, begin, end)

    try:
        map_slices(
            lambda: _memory(chains, dtype, scratch),
            call,
            num_tiles,
            steps.num_steps + 1,
            steps.num_threads,
        )
    except errors.TypingError as error:
        if kernel != "custom":
            raise
        raise TypeError(f"Custom: `value_and_grad` cannot be compiled: {error}") from error


def _terms(options: StepOptions, dtype: np.dtype[Any]) -> Terms:
    if options.terms is None:
        zero = dtype.type(0)
        nothing = np.empty(0, dtype)
        offsets = np.zeros(1, np.int64)
        return Terms(
            zero, zero, zero, zero, zero, nothing, nothing, nothing, offsets, offsets[:0], 0, False
        )
    ridge, entropy, turnover, smoothing, penalty = options.terms[:5]
    anchor, upper, caps, group_offsets, group_members = options.terms[5:]
    nothing = np.empty(0, dtype)
    return Terms(
        ridge=ridge,
        entropy=entropy,
        turnover=turnover,
        smoothing=smoothing,
        penalty=penalty,
        anchor=nothing if anchor is None else anchor,
        upper=nothing if upper is None else upper,
        caps=caps,
        group_offsets=group_offsets.astype(np.int64),
        group_members=group_members.astype(np.int64),
        num_groups=caps.size,
        bounded=upper is not None,
    )


def _epoch(kernel: str, parameters: tuple[Any, ...]) -> int:
    """Return the number of steps that see as many rows as there are, 0 without minibatches."""
    if kernel != "ridge_sum" or parameters[-1] == 0:
        return 0
    return -(-len(parameters[0]) // int(parameters[-1]))


def _scratch(dim: int, problem: Any) -> int:
    """Return how many packs the objective takes."""
    if isinstance(problem, polynomials.Polynomial):
        return polynomials.memory_of(problem, dim)
    return ridge_sum.PANEL_ROWS + 2 * dim


def _memory(chains: Chains, dtype: np.dtype[Any], scratch: int) -> Tile:
    """Return the memory of one thread."""
    lanes = PACK_BYTES // dtype.itemsize
    dim = chains.dim

    def packs(count: int, kind: Any = dtype) -> Any:
        return aligned(count * lanes, kind)

    return Tile(
        x=packs(3 * dim),
        gradient=packs(2 * dim),
        root=packs(dim),
        best_x=packs(dim),
        noise=packs((dim + 3) // 4 * 4),
        slow=packs(2 * dim),
        returning=packs(dim),
        sums=packs(dim, np.float64),
        squares=packs(dim, np.float64),
        products=packs(dim * dim if chains.with_products else 1, np.float64),
        totals=packs(dim + 3, np.float64),
        scratch=packs(scratch),
        step_size=packs(1),
        temperature=packs(1),
        values=packs(3),
        best_value=packs(1),
        smallest=packs(1),
        frozen=packs(1),
        base=packs(1),
        acceleration=packs(1),
        gamma=packs(1),
        lifted=packs(1),
        cut=packs(1),
        counts=packs(3, np.int64),
    )


def _make_polynomial(
    parents: Any,
    factors: Any,
    heights: Any,
    widths: Any,
    rows: Any,
    columns: Any,
    coefficients: Any,
) -> polynomials.Polynomial:
    return polynomials.Polynomial(
        parents.astype(np.int64),
        factors.astype(np.int64),
        heights.astype(np.int64),
        widths.astype(np.int64),
        rows.astype(np.int64),
        columns.astype(np.int64),
        coefficients,
        parents.size,
        heights.size,
    )


def _make_quadratic(matrix: Any, linear: Any) -> objectives.Quadratic:
    return objectives.Quadratic(matrix.reshape(-1), linear)


def _make_given(gradient: Any) -> objectives.Given:
    return objectives.Given(gradient.reshape(-1))


def _make_custom(function: Any, data: Any) -> objectives.Custom:
    return objectives.Custom(function, data)


_MAKERS: dict[str, Any] = {
    "polynomial": _make_polynomial,
    "quadratic": _make_quadratic,
    "ridge_sum": ridge_sum.make_ridge_sum,
    "given": _make_given,
    "custom": _make_custom,
}


@_numba_jit.kernel
def _project(
    x_arrays: Any, memory_arrays: Any, dim: int, rows: int, size: Any, first: int, last: int
) -> None:
    """Project the rows of some tiles; `x_arrays` and `memory_arrays` hold one flat array each."""
    x, memory = buffers(x_arrays).array, buffers(memory_arrays).array
    lanes = lanes_of(x)
    for index in range(first, last):
        row = index * lanes
        live = min(lanes, rows - row)
        for lane in range(lanes):
            source = (row + (lane if lane < live else 0)) * dim
            for s in range(dim):
                memory[s * lanes + lane] = x[source + s]
        project_onto_simplex(dim, size, memory, 0)
        for lane in range(live):
            for s in range(dim):
                x[(row + lane) * dim + s] = memory[s * lanes + lane]


class _Flat(NamedTuple):
    array: Any


def project(x: Any, num_threads: int) -> None:
    """Project rows onto the simplex, in place."""
    rows, dim = x.shape
    lanes = PACK_BYTES // x.dtype.itemsize
    flat, size = _Flat(x.reshape(-1)), x.dtype.type(dim)

    def call(memory: _Flat, first: int, last: int, begin: int, end: int) -> None:
        _project(flat, memory, dim, rows, size, first, last)

    map_slices(
        lambda: _Flat(aligned(dim * lanes, x.dtype)), call, -(-rows // lanes), 1, num_threads
    )
