"""The twin of ``csrc/simplex/step_metropolis.hpp``: proposals on the sphere and the way back."""

from __future__ import annotations

from typing import Any

from hotloops._runtime._numba_buffers import lanes_of, load, store, zeros
from hotloops._runtime._numba_jit import inline, outline
from hotloops._runtime._numba_math import draw_uniforms, log_positive, sine
from hotloops._runtime._numba_packs import square_root, traced, where
from hotloops.simplex._numba_chain import (
    as_number,
    choose,
    count,
    evaluate,
    freeze,
    make_noise,
    note,
    rates_of,
    with_value,
)
from hotloops.simplex._numba_step import (
    Report,
    floor_of,
    inner_product,
    least_weight,
    normalise,
    plus,
    same_in_all,
    start_report,
    times,
)
from hotloops.simplex._numba_types import ALL_ROWS


@traced
def _root(x: Any) -> Any:
    return square_root(x)


@traced
def _correct(slope: Any, alpha: Any, temperature: Any, u: Any, lowest: Any) -> Any:
    above = where(u < lowest, lowest, u)
    return slope + ((0.5 - alpha) * temperature) / above


@inline
def _slope_at(u: Any, g: Any, lowest: Any, temperature: Any, alpha: Any, corrected: bool) -> Any:
    slope = times(u, g)
    if corrected:
        slope = _correct(slope, alpha, temperature, u, lowest)
    return slope


@traced
def _add_log(total: Any, alpha: Any, x: Any) -> Any:
    return total + (alpha - 0.5) * log_positive(x)


@inline
def log_base(n: int, x: Any, at: int, alpha: Any) -> Any:
    """Return the part of log pi that the base measure adds."""
    total = zeros(x)
    for s in range(n):
        total = _add_log(total, alpha[s], load(x, at + s))
    return total


@traced
def _draw(step: Any, noise: Any, u: Any, pull: Any, slope: Any, z: Any, along: Any, e: Any) -> Any:
    tangent = z - u * along
    return 0.5 * (step * (u * pull - slope) + noise * tangent), e + tangent * tangent


@traced
def _turn(square: Any, top: Any, exceeded: Any, zero: Any) -> Any:
    length = square_root(square)
    exceeded = exceeded | (length > top)
    angle = where(length > top, top, length)
    forward = sine(angle + 1.5707963267948966)
    inverse = 1.0 / where(length > 0.0, length, zero + 1.0)
    return length, forward, sine(angle), inverse, exceeded


@traced
def _arrive(turn: Any, u: Any, v: Any, total: Any) -> Any:
    length, forward, sideways, inverse = turn
    moved = forward * u + (sideways * inverse) * v
    back = (length * sideways) * u - forward * v
    weight = moved * moved
    return where(moved < 0.0, -back, back), weight, total + weight


@traced
def _half(x: Any) -> Any:
    return 0.5 * x


@inline
def propose_on_sphere(
    n: int,
    rates: Any,
    floor: Any,
    x: Any,
    from_: int,
    to: int,
    gradient: Any,
    noise: Any,
    root: Any,
    returning: Any,
    alpha: Any,
    at: int,
    corrected: bool,
    clip: Any,
    report: Report,
) -> Any:
    """Propose a point of one simplex; return -log N of the way there, and the report."""
    floored, smallest, exceeded, finite = report
    step, temperature, scale, _ = rates
    zero = zeros(x)
    lowest = _root(floor)
    for s in range(n):
        u = _root(load(x, from_ + s))
        store(root, at + s, u)
        g = load(gradient, at + s)
        store(x, to + s, _slope_at(u, g, lowest, temperature, alpha[at + s], corrected))
    pull = inner_product(n, root, at, x, to)
    along = inner_product(n, root, at, noise, at)
    energy = zero
    for s in range(n):
        u, z = load(root, at + s), load(noise, at + s)
        v, energy = _draw(step, scale, u, pull, load(x, to + s), z, along, energy)
        store(returning, at + s, v)
    square = inner_product(n, returning, at, returning, at)
    length, forward, sideways, inverse, exceeded = _turn(
        square, same_in_all(clip, zero), exceeded, zero
    )
    total = zero
    for s in range(n):
        back, weight, total = _arrive(
            (length, forward, sideways, inverse),
            load(root, at + s),
            load(returning, at + s),
            total,
        )
        store(returning, at + s, back)
        store(x, to + s, weight)
    report = normalise(n, total, least_weight(zero), x, to, (floored, smallest, exceeded, finite))
    return _half(energy), report


@traced
def _return(step: Any, noise: Any, u: Any, pull: Any, slope: Any, back: Any, energy: Any) -> Any:
    tangent = (2.0 * back - step * (u * pull - slope)) / noise
    return energy + tangent * tangent


@inline
def returning_energy(
    n: int,
    rates: Any,
    floor: Any,
    x: Any,
    from_: int,
    gradient: Any,
    slope_at: int,
    root: Any,
    slopes: Any,
    returning: Any,
    alpha: Any,
    at: int,
    corrected: bool,
) -> Any:
    """Return -log N of the way back from the proposal of one simplex."""
    step, temperature, scale, _ = rates
    lowest = _root(floor)
    for s in range(n):
        u = _root(load(x, from_ + s))
        store(root, at + s, u)
        g = load(gradient, slope_at + s)
        store(slopes, at + s, _slope_at(u, g, lowest, temperature, alpha[at + s], corrected))
    pull = inner_product(n, root, at, slopes, at)
    energy = zeros(x)
    for s in range(n):
        u, slope = load(root, at + s), load(slopes, at + s)
        energy = _return(step, scale, u, pull, slope, load(returning, at + s), energy)
    return _half(energy)


@outline
def _propose(chains: Any, tile: Any, rates: Any, current: int, target: int) -> Any:
    """Write a proposal; return -log N of the way there, and the report."""
    zero = zeros(tile.x)
    report = start_report(load(tile.smallest, 0), zero)
    there = zero
    for i in range(chains.num_simplices):
        at = chains.offsets[i]
        n = chains.offsets[i + 1] - at
        energy, report = propose_on_sphere(
            n,
            rates,
            floor_of(rates[3], chains.caps[i], zero),
            tile.x,
            current + at,
            target + at,
            tile.gradient,
            tile.noise,
            tile.root,
            tile.returning,
            chains.alpha,
            at,
            chains.corrected,
            chains.clip,
            report,
        )
        there = plus(there, energy)
    return there, report


@inline
def _base_at(chains: Any, tile: Any, current: int) -> Any:
    if chains.corrected:
        return log_base(chains.dim, tile.x, current, chains.alpha)
    return zeros(tile.x)


@traced
def _gain(value: Any, proposed: Any, temperature: Any, bases: Any, energies: Any) -> Any:
    return ((value - proposed) / temperature + (bases[1] - bases[0])) + (energies[0] - energies[1])


@traced
def _taken(report: Any, uniform: Any, gain: Any, frozen: Any) -> Any:
    _, _, exceeded, finite = report
    return finite & (log_positive(uniform) < gain) & (frozen <= 0.0) & ~exceeded


@outline
def _decide(
    chains: Any,
    tile: Any,
    rates: Any,
    exchange_rows: Any,
    step: int,
    current: int,
    target: int,
    there: Any,
    report: Any,
) -> None:
    """Move to the proposal where it is accepted."""
    zero = zeros(tile.x)
    d, lanes = chains.dim, lanes_of(tile.x)
    back = zero
    for i in range(chains.num_simplices):
        at = chains.offsets[i]
        n = chains.offsets[i + 1] - at
        energy = returning_energy(
            n,
            rates,
            floor_of(rates[3], chains.caps[i], zero),
            tile.x,
            target + at,
            tile.gradient,
            d + at,
            tile.root,
            tile.noise,
            tile.returning,
            chains.alpha,
            at,
            chains.corrected,
        )
        back = plus(back, energy)
    base, proposed_base = load(tile.base, 0), _base_at(chains, tile, target)
    value, proposed = load(tile.values, 0), load(tile.values, 1)
    gain = _gain(value, proposed, rates[1], (base, proposed_base), (there, back))
    _, uniform, _, _ = draw_uniforms(exchange_rows, step, 0, chains.key_low, chains.key_high)
    taken = _taken(report, uniform, gain, load(tile.frozen, 0))
    for s in range(d):
        x = choose(taken, load(tile.x, target + s), load(tile.x, current + s))
        store(tile.x, current + s, x)
        g = choose(taken, load(tile.gradient, d + s), load(tile.gradient, s))
        store(tile.gradient, s, g)
    store(tile.values, 0, choose(taken, proposed, value))
    store(tile.base, 0, choose(taken, proposed_base, base))
    store(tile.smallest, 0, choose(taken, report[1], load(tile.smallest, 0)))
    count(tile, report)
    store(tile.lifted, 0, as_number(taken, zero))
    for lane in range(lanes):
        tile.counts[2 * lanes + lane] += int(tile.lifted[lane])


@inline
def begin_metropolis(
    way: Any,
    problem: Any,
    terms: Any,
    chains: Any,
    tile: Any,
    first_chain: int,
    live: int,
    step: int,
) -> None:
    """Find out what the form keeps of x."""
    value = evaluate(problem, terms, chains, tile, first_chain, 0, 0, ALL_ROWS)
    store(tile.values, 0, value)
    note(chains, tile, 0)
    store(tile.base, 0, _base_at(chains, tile, 0))
    report = with_value(start_report(load(tile.smallest, 0), zeros(tile.x)), value)
    freeze(chains, tile, first_chain, live, step, report[3])


@inline
def advance_metropolis(
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
    """Make step k of the call; where the weights are stays the same."""
    if k == chains.num_steps:
        return
    make_noise(chains, tile, rows, first_chain, step)
    rates = rates_of(chains, tile, k)
    there, report = _propose(chains, tile, rates, current, target)
    proposed = evaluate(problem, terms, chains, tile, first_chain, target, chains.dim, ALL_ROWS)
    store(tile.values, 1, proposed)
    _decide(chains, tile, rates, exchange_rows, step, current, target, there, report)
    note(chains, tile, current)
