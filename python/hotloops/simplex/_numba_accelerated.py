"""The twin of ``csrc/simplex/step_accelerated.hpp``: three sequences of weights."""

from __future__ import annotations

from typing import Any

from hotloops._runtime._numba_buffers import load, store, zeros
from hotloops._runtime._numba_jit import inline, outline
from hotloops._runtime._numba_math import exp_bounded, log_positive
from hotloops._runtime._numba_packs import constant, is_single, traced, where
from hotloops.simplex._numba_chain import choose, commit, evaluate, note, rates_of, with_value
from hotloops.simplex._numba_step import (
    Report,
    entropic_step,
    floor_of,
    inner_product,
    least_weight,
    normalise,
    start_report,
)
from hotloops.simplex._numba_types import ALL_ROWS


@traced
def acceleration_rates(a: Any, gamma: Any, mu: Any) -> Any:
    """Return theta, (1 - a) gamma / gbar, a / gbar and gbar."""
    kept = (1.0 - a) * gamma
    following = kept + a * mu
    return (a * gamma) / (gamma + a * mu), kept / following, a / following, following


@traced
def _higher(a: Any, b: Any) -> Any:
    return where(a > b, a, b)


@traced
def _exponential(logarithm: Any, top: Any, total: Any) -> Any:
    lowest = -80.0 if is_single(logarithm) else -700.0
    below = logarithm - top
    weight = exp_bounded(where(below < lowest, constant(lowest, below), below))
    return weight, total + weight


@inline
def _normalise_logarithms(n: int, memory: Any, at: int, report: Report) -> Report:
    zero = zeros(memory)
    top = load(memory, at)
    for s in range(at + 1, at + n):
        top = _higher(load(memory, s), top)
    total = zero
    for s in range(at, at + n):
        weight, total = _exponential(load(memory, s), top, total)
        store(memory, s, weight)
    return normalise(n, total, least_weight(zero), memory, at, report)


@traced
def _mix(theta: Any, x: Any, v: Any) -> Any:
    return (1.0 - theta) * log_positive(x) + theta * log_positive(v)


@inline
def accelerated_middle(
    n: int, rates: Any, x: Any, from_: int, slow: Any, at: int, to: int, report: Report
) -> Report:
    """Write y of one simplex at pack `to` of x."""
    for s in range(n):
        store(x, to + s, _mix(rates[0], load(x, from_ + s), load(slow, at + s)))
    return _normalise_logarithms(n, x, to, report)


@traced
def _descend(keep: Any, scale: Any, y: Any, v: Any, pull: Any, g: Any) -> Any:
    here = log_positive(y)
    return (here + keep * (log_positive(v) - here)) + scale * (pull - g)


@inline
def accelerated_slow(
    n: int,
    rates: Any,
    x: Any,
    middle: int,
    gradient: Any,
    slow: Any,
    at: int,
    to: int,
    report: Report,
) -> Report:
    """Write the next v of one simplex at pack `to` of `slow`."""
    pull = inner_product(n, gradient, at, x, middle)
    for s in range(n):
        y, v, g = load(x, middle + s), load(slow, at + s), load(gradient, at + s)
        store(slow, to + s, _descend(rates[1], rates[2], y, v, pull, g))
    return _normalise_logarithms(n, slow, to, report)


@inline
def _own_rates(chains: Any, tile: Any) -> Any:
    return acceleration_rates(load(tile.acceleration, 0), load(tile.gamma, 0), chains.convexity)


@outline
def _middle(chains: Any, tile: Any, current: int) -> Any:
    """Write y; return the report."""
    zero = zeros(tile.x)
    own = _own_rates(chains, tile)
    report = start_report(load(tile.smallest, 0), zero)
    for i in range(chains.num_simplices):
        at = chains.offsets[i]
        n = chains.offsets[i + 1] - at
        to = 2 * chains.dim + at
        report = accelerated_middle(n, own, tile.x, current + at, tile.slow, at, to, report)
    return report


@outline
def _accelerate(
    chains: Any,
    tile: Any,
    first_chain: int,
    live: int,
    step: int,
    k: int,
    current: int,
    target: int,
    report: Any,
) -> None:
    """Move x and v, the gradient at y being known."""
    zero = zeros(tile.x)
    d = chains.dim
    own, rates = _own_rates(chains, tile), rates_of(chains, tile, k)
    report = with_value(report, load(tile.values, 0))
    for i in range(chains.num_simplices):
        at = chains.offsets[i]
        n = chains.offsets[i + 1] - at
        middle = 2 * d + at
        report = entropic_step(
            n,
            rates,
            floor_of(rates[3], chains.caps[i], zero),
            tile.x,
            middle,
            target + at,
            tile.gradient,
            tile.noise,
            chains.alpha,
            at,
            False,
            False,
            chains.clip,
            report,
        )
        report = accelerated_slow(
            n, own, tile.x, middle, tile.gradient, tile.slow, at, d + at, report
        )
    stopped = commit(chains, tile, first_chain, live, step, current, target, report)
    for s in range(d):
        store(tile.slow, s, choose(stopped, load(tile.slow, s), load(tile.slow, d + s)))
    store(tile.gamma, 0, choose(stopped, load(tile.gamma, 0), own[3]))


@inline
def advance_accelerated(
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
    at = current
    report = start_report(load(tile.smallest, 0), zeros(tile.x))
    if not last:
        report = _middle(chains, tile, current)
        at = 2 * chains.dim
    value = evaluate(problem, terms, chains, tile, first_chain, at, 0, ALL_ROWS)
    store(tile.values, 0, value)
    if not last:
        note(chains, tile, at)
        _accelerate(chains, tile, first_chain, live, step, k, current, target, report)
