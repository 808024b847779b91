"""The twin of ``csrc/simplex/cpu_run.cpp``: the loop over steps of a pack of chains."""

from __future__ import annotations

from typing import Any

from hotloops._runtime._numba_buffers import lanes_of, zeros
from hotloops._runtime._numba_jit import inline, variants
from hotloops._runtime._numba_math import STREAM_EXCHANGE, STREAM_NOISE, prepare_rows
from hotloops.simplex._numba_accelerated import advance_accelerated
from hotloops.simplex._numba_metropolis import advance_metropolis, begin_metropolis
from hotloops.simplex._numba_plain import advance_plainly
from hotloops.simplex._numba_tiles import add_moments, load_state, store_state
from hotloops.simplex._numba_types import Accelerated, Metropolis, Plain


@inline
def _begin_nothing(
    way: Any,
    problem: Any,
    terms: Any,
    chains: Any,
    tile: Any,
    first_chain: int,
    live: int,
    step: int,
) -> None:
    """Keep nothing."""


@variants({Plain: _begin_nothing, Accelerated: _begin_nothing, Metropolis: begin_metropolis})
def begin_way(
    way: Any,
    problem: Any,
    terms: Any,
    chains: Any,
    tile: Any,
    first_chain: int,
    live: int,
    step: int,
) -> None:
    """Find out what a form keeps of x."""


@variants(
    {Plain: advance_plainly, Accelerated: advance_accelerated, Metropolis: advance_metropolis}
)
def advance_way(
    way: Any,
    problem: Any,
    terms: Any,
    chains: Any,
    tile: Any,
    rows: Any,
    exchange_rows: Any,
    first_chain: int,
    live: int,
    step: int,
    k: int,
    current: int,
    target: int,
) -> None:
    """Make step k of the call, or after the last one evaluate."""


@inline
def _prepare(chains: Any, tile: Any, first_chain: int, step: int, stream: Any) -> Any:
    first = chains.offset + first_chain
    return prepare_rows(zeros(tile.x), first, step, stream, chains.key_low, chains.key_high)


@inline
def loop(
    problem: Any,
    terms: Any,
    chains: Any,
    tile: Any,
    first_tile: int,
    last_tile: int,
    first_step: int,
    begin: int,
    end: int,
) -> None:
    """Make the steps begin..end-1 of some tiles; the one after the last only evaluates."""
    lanes = lanes_of(tile.x)
    for index in range(first_tile, last_tile):
        first_chain = index * lanes
        live = min(lanes, chains.num_chains - first_chain)
        load_state(chains, tile, first_chain, live)
        begin_way(chains.way, problem, terms, chains, tile, first_chain, live, first_step + begin)
        current, target = 0, chains.dim
        k = begin
        while k < end:
            step = first_step + k
            rows = _prepare(chains, tile, first_chain, step, STREAM_NOISE)
            exchange_rows = _prepare(chains, tile, first_chain, step, STREAM_EXCHANGE)
            wraps = False  # the low half of the step, which ends what the rows are prepared for
            while k < end and not wraps:
                advance_way(
                    chains.way,
                    problem,
                    terms,
                    chains,
                    tile,
                    rows,
                    exchange_rows,
                    first_chain,
                    live,
                    step,
                    k,
                    current,
                    target,
                )
                if k < chains.num_steps and chains.way.alternates:
                    current, target = target, current
                if k < chains.num_steps and chains.accumulate:
                    add_moments(chains, tile, first_chain, live, current)
                k += 1
                step += 1
                wraps = step & 0xFFFFFFFF == 0
        store_state(chains, tile, first_chain, live, current)
