"""The twin of the forms without a memory of their own: entropic, sphere, projected, linear."""

from __future__ import annotations

from typing import Any

from hotloops._runtime._numba_buffers import load, store, zeros
from hotloops._runtime._numba_jit import inline, outline
from hotloops.simplex._numba_chain import commit, evaluate, make_noise, note, rates_of, with_value
from hotloops.simplex._numba_project import projected_step
from hotloops.simplex._numba_step import (
    entropic_step,
    floor_of,
    linear_step,
    sphere_step,
    start_report,
)
from hotloops.simplex._numba_types import ALL_ROWS, ENTROPIC, PROJECTED, SPHERE


@outline
def _move(
    chains: Any,
    tile: Any,
    first_chain: int,
    live: int,
    step: int,
    k: int,
    current: int,
    target: int,
) -> None:
    """Make one step of all simplices; k counts from the first step of the call."""
    zero = zeros(tile.x)
    rates = rates_of(chains, tile, k)
    report = with_value(start_report(load(tile.smallest, 0), zero), load(tile.values, 0))
    for i in range(chains.num_simplices):
        at = chains.offsets[i]
        n = chains.offsets[i + 1] - at
        floor = floor_of(rates[3], chains.caps[i], zero)
        if chains.way.form == ENTROPIC:
            report = entropic_step(
                n,
                rates,
                floor,
                tile.x,
                current + at,
                target + at,
                tile.gradient,
                tile.noise,
                chains.alpha,
                at,
                chains.noisy,
                chains.corrected,
                chains.clip,
                report,
            )
        elif chains.way.form == SPHERE:
            report = sphere_step(
                n,
                rates,
                floor,
                tile.x,
                current + at,
                target + at,
                tile.gradient,
                tile.noise,
                tile.root,
                chains.alpha,
                at,
                chains.noisy,
                chains.corrected,
                chains.clip,
                report,
            )
        elif chains.way.form == PROJECTED:
            report = projected_step(
                n,
                chains.entries[i],
                rates,
                tile.x,
                current + at,
                target + at,
                tile.gradient,
                tile.noise,
                at,
                chains.noisy,
                report,
            )
        else:
            report = linear_step(
                n, rates, floor, tile.x, current + at, target + at, tile.gradient, at, report
            )
    commit(chains, tile, first_chain, live, step, current, target, report)


@inline
def advance_plainly(
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
    last = k == chains.num_steps
    if chains.epoch == 0 or last or step % chains.epoch == 0:
        value = evaluate(problem, terms, chains, tile, first_chain, current, 0, ALL_ROWS)
        store(tile.values, 0, value)
        if chains.epoch == 0 or not last:
            note(chains, tile, current)
    if last:
        return
    if chains.epoch != 0:
        value = evaluate(problem, terms, chains, tile, first_chain, current, 0, step)
        store(tile.values, 0, value)
    if chains.noisy:
        make_noise(chains, tile, rows, first_chain, step)
    _move(chains, tile, first_chain, live, step, k, current, target)
