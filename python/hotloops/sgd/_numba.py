"""The Numba backend of the SGD loop: the C++ driver's arithmetic, compiled on first use."""

from __future__ import annotations

from typing import Any

from hotloops._runtime import _numba_jit
from hotloops._runtime._numba_buffers import buffers, lanes_of
from hotloops._runtime._numba_jit import map_slices
from hotloops._runtime._numba_packs import PACK_BYTES, word
from hotloops.sgd import _numba_custom
from hotloops.sgd._numba_problems import (
    begin_block,
    make_problem,
    num_parts,
    prepare_step,
    scratch_packs,
    step_copy,
)
from hotloops.sgd._numba_rules import make_rules
from hotloops.sgd._numba_statistics import (
    Totals,
    collect,
    load_totals,
    make_statistics,
    make_totals,
    store_totals,
)
from hotloops.sgd._numba_tiles import Chains, Tile, load_state, make_tile, store_state
from hotloops.sgd._rules import NO_RULES, Rules
from hotloops.sgd._state import ChainArrays
from hotloops.sgd._statistics import StatisticsArrays

__all__ = ["advance"]


@_numba_jit.kernel
def _run(
    problem_arrays: Any,
    rules_arrays: Any,
    statistics_arrays: Any,
    chains_arrays: Chains,
    tile_arrays: Tile,
    totals_arrays: Totals,
    first_tile: int,
    last_tile: int,
    first_step: int,
    begin: int,
    end: int,
) -> None:
    """Advance some tiles by the parts begin..end-1 of the steps from `first_step` on."""
    problem, chains, tile = buffers(problem_arrays), buffers(chains_arrays), buffers(tile_arrays)
    rules, statistics = buffers(rules_arrays), buffers(statistics_arrays)
    totals = buffers(totals_arrays)
    lanes = lanes_of(tile.theta)
    for index in range(first_tile, last_tile):
        first_chain = index * lanes
        live = min(lanes, chains.num_chains - first_chain)
        load_state(chains, tile, first_chain, live)
        load_totals(statistics, totals, chains, tile, first_chain, live)
        current, target = 0, chains.num_copies * chains.dim
        step, part = first_step + begin // chains.parts, begin % chains.parts
        left = end - begin
        while left > 0:
            rows = begin_block(problem, chains, tile, first_chain, step)
            wraps = False  # the low half of the step, which ends what the rows are prepared for
            while left > 0 and not wraps:
                left -= 1
                part += 1
                if not prepare_step(
                    problem,
                    statistics,
                    totals,
                    chains,
                    tile,
                    rows,
                    first_chain,
                    step,
                    part - 1,
                    current,
                    target,
                ):
                    continue
                for j in range(chains.num_copies):
                    step_copy(rules, problem, chains, tile, first_chain, step, j, current, target)
                collect(statistics, totals, chains, tile, first_chain, step, target)
                part = 0
                step += 1
                wraps = step & 0xFFFFFFFF == 0
                current, target = target, current
        store_state(chains, tile, first_chain, live, current)
        store_totals(statistics, totals, chains, tile, first_chain, live)


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
    rules: Rules = NO_RULES,
    statistics: StatisticsArrays | None = None,
) -> None:
    """Advance all chains by `num_steps` steps, in place."""
    dtype = arrays.theta.dtype
    shape = num_chains, num_copies, dim = arrays.theta.shape
    custom = kernel == "custom"
    problem: Any = (
        _numba_custom.Problem(*parameters) if custom else make_problem(dtype, kernel, parameters)
    )
    chains = Chains(
        arrays.theta.reshape(-1),
        arrays.sums.reshape(-1),
        arrays.flags.reshape(-1),
        arrays.diverged_at.reshape(-1),
        arrays.step_sizes.reshape(-1),
        num_copies if arrays.step_sizes.ndim == 2 else 0,
        arrays.auxiliary.reshape(-1),
        arrays.auxiliary.shape[1],
        num_chains,
        num_copies,
        dim,
        chain_offset,
        word(seed & 0xFFFFFFFF),
        word(seed >> 32),
        accumulate,
        dtype.type(divergence_limit),
        num_parts(problem),
    )
    bent = make_rules(rules, dtype, dim, first_step, num_steps)
    kept = make_statistics(statistics, shape, first_step)
    if custom:
        _numba_custom.advance(problem, bent, kept, chains, first_step, num_steps, num_threads)
        return
    num_tiles = -(-num_chains // (PACK_BYTES // dtype.itemsize))

    def allocate() -> tuple[Tile, Totals]:
        packs, sampled = scratch_packs(problem, num_copies, dim)
        return make_tile(chains, packs, sampled), make_totals(kept, num_copies, dim, dtype)

    def call(
        memory: tuple[Tile, Totals], first_tile: int, last_tile: int, begin: int, end: int
    ) -> None:
        tile, totals = memory
        part = (first_tile, last_tile, first_step, begin, end)
        _run(problem, bent, kept, chains, tile, totals, *part)

    map_slices(allocate, call, num_tiles, num_steps * chains.parts, num_threads)
