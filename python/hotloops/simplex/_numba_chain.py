"""What the forms share in the twin of ``csrc/simplex/cpu_run.cpp``."""

from __future__ import annotations

from typing import Any

from hotloops._runtime._numba_buffers import lanes_of, load, small_code, store, zeros
from hotloops._runtime._numba_jit import inline, outline
from hotloops._runtime._numba_math import draw_normals
from hotloops._runtime._numba_packs import traced, where
from hotloops.simplex._numba_objectives import evaluate as evaluate_objective
from hotloops.simplex._numba_step import any_of, step_rates, times
from hotloops.simplex._numba_terms import add_terms


@traced
def _better(value: Any, best: Any) -> Any:
    return value < best


@traced
def choose(mask: Any, a: Any, b: Any) -> Any:
    """Return `a` in the lanes of the mask, else `b`."""
    return where(mask, a, b)


@traced
def with_value(report: Any, value: Any) -> Any:
    """Return a report that also says whether the value is finite."""
    floored, smallest, exceeded, finite = report
    return floored, smallest, exceeded, finite & ((value - value) <= 0.0)


@outline
def evaluate(
    problem: Any,
    terms: Any,
    chains: Any,
    tile: Any,
    first_chain: int,
    current: int,
    slope: int,
    step: int,
) -> Any:
    """Write the gradient, return the value."""
    value = evaluate_objective(problem, chains, tile, first_chain, current, slope, step)
    if chains.with_terms:
        value = add_terms(chains.dim, terms, tile.x, current, tile.gradient, slope, value)
    return value


@inline
def note(chains: Any, tile: Any, current: int) -> None:
    """Keep the point whose value is known if it is the best so far."""
    value, best = load(tile.values, 0), load(tile.best_value, 0)
    better = _better(value, best)
    if any_of(better):
        store(tile.best_value, 0, choose(better, value, best))
        for s in range(chains.dim):
            kept = choose(better, load(tile.x, current + s), load(tile.best_x, s))
            store(tile.best_x, s, kept)


@outline
def make_noise(chains: Any, tile: Any, rows: Any, first_chain: int, step: int) -> None:
    """Draw the normals of a step, or take those that were given."""
    if chains.drawn:
        for block in range((chains.dim + 3) // 4):
            z0, z1, z2, z3 = draw_normals(rows, step, block, chains.key_low, chains.key_high)
            store(tile.noise, 4 * block, z0)
            store(tile.noise, 4 * block + 1, z1)
            store(tile.noise, 4 * block + 2, z2)
            store(tile.noise, 4 * block + 3, z3)
        return
    lanes = lanes_of(tile.x)
    for lane in range(lanes):
        chain = first_chain + lane
        if chain >= chains.num_chains:
            chain = first_chain
        for s in range(chains.dim):
            tile.noise[s * lanes + lane] = chains.noise[chain * chains.dim + s]


@traced
def _stays(finite: Any, frozen: Any, zero: Any) -> Any:
    return where(finite, frozen, zero + 1.0)


@traced
def _above_zero(x: Any) -> Any:
    return x > 0.0


@traced
def as_number(mask: Any, zero: Any) -> Any:
    """Return 1 in the lanes of the mask, else 0."""
    return where(mask, zero + 1.0, zero)


@outline
def freeze(chains: Any, tile: Any, first_chain: int, live: int, step: int, finite: Any) -> Any:
    """Return the lanes that stand still, now and from now on, as numbers."""
    small_code()
    stays = _stays(finite, load(tile.frozen, 0), zeros(tile.x))
    if any_of(_above_zero(stays)):
        store(tile.cut, 0, stays)
        for lane in range(live):
            if tile.cut[lane] != 0.0 and tile.frozen[lane] == 0.0:
                chains.flags[first_chain + lane] = 1
                chains.failed_at[first_chain + lane] = step
        store(tile.frozen, 0, stays)
    return stays


@outline
def count(tile: Any, report: Any) -> None:
    """Count what the step of a chain that is not frozen did."""
    small_code()
    floored, _, exceeded, _ = report
    lanes = lanes_of(tile.x)
    cut = as_number(exceeded, zeros(tile.x))
    if any_of(_above_zero(floored)) or any_of(_above_zero(cut)):
        store(tile.lifted, 0, floored)
        store(tile.cut, 0, cut)
        for lane in range(lanes):
            if tile.frozen[lane] == 0.0:
                tile.counts[lane] += int(tile.lifted[lane])
                tile.counts[lanes + lane] += int(tile.cut[lane])


@outline
def commit(
    chains: Any,
    tile: Any,
    first_chain: int,
    live: int,
    step: int,
    current: int,
    target: int,
    report: Any,
) -> Any:
    """Take over the step in the lanes where it is finite."""
    _, smallest, _, finite = report
    stopped = _above_zero(freeze(chains, tile, first_chain, live, step, finite))
    if any_of(stopped):
        for s in range(chains.dim):
            kept = choose(stopped, load(tile.x, current + s), load(tile.x, target + s))
            store(tile.x, target + s, kept)
    store(tile.smallest, 0, choose(stopped, load(tile.smallest, 0), smallest))
    count(tile, report)
    return stopped


@inline
def rates_of(chains: Any, tile: Any, k: int) -> Any:
    """Return the rates of step k of the call."""
    step_factor, temperature_factor = chains.one, chains.one
    if chains.scheduled:
        step_factor = chains.step_factors[k]
    if chains.cooled:
        temperature_factor = chains.temperature_factors[k]
    return step_rates(
        times(load(tile.step_size, 0), step_factor),
        times(load(tile.temperature, 0), temperature_factor),
        chains.floor_scale,
        chains.floor_least,
    )
