"""The twin of ``csrc/simplex/step.hpp``: one step of the chains of a pack.

The same operations in the same order. What a step reports goes through a tuple of packs
(floored, smallest, exceeded, finite), which the forms take and return.
"""

from __future__ import annotations

from typing import Any

from hotloops._runtime._numba_buffers import load, store, zeros
from hotloops._runtime._numba_jit import inline
from hotloops._runtime._numba_math import exp_bounded, magnitude, sine
from hotloops._runtime._numba_packs import any_lane, is_single, square_root, traced, where

Report = tuple[Any, Any, Any, Any]


@traced
def any_of(mask: Any) -> Any:
    """Return whether the mask names a lane."""
    return any_lane(mask)


@traced
def same_in_all(number: Any, zero: Any) -> Any:
    """Return a pack with the same number in all lanes."""
    return number - zero


@traced
def plus(a: Any, b: Any) -> Any:
    """Return a + b."""
    return a + b


@traced
def times(a: Any, b: Any) -> Any:
    """Return a b."""
    return a * b


@traced
def add_product(total: Any, a: Any, b: Any) -> Any:
    """Return total + a b."""
    return total + a * b


@traced
def add_strands(s0: Any, s1: Any, s2: Any, s3: Any) -> Any:
    """Add four strands in pairs."""
    return (s0 + s1) + (s2 + s3)


@inline
def inner_product(n: int, a: Any, first_a: int, b: Any, first_b: int) -> Any:
    """Return the sum of products of packs, in four strands."""
    zero = zeros(b)
    s0, s1, s2, s3 = zero, zero, zero, zero
    whole = n - n % 4
    for k in range(0, whole, 4):
        s0 = add_product(s0, load(a, first_a + k), load(b, first_b + k))
        s1 = add_product(s1, load(a, first_a + k + 1), load(b, first_b + k + 1))
        s2 = add_product(s2, load(a, first_a + k + 2), load(b, first_b + k + 2))
        s3 = add_product(s3, load(a, first_a + k + 3), load(b, first_b + k + 3))
    if whole < n:
        s0 = add_product(s0, load(a, first_a + whole), load(b, first_b + whole))
    if whole + 1 < n:
        s1 = add_product(s1, load(a, first_a + whole + 1), load(b, first_b + whole + 1))
    if whole + 2 < n:
        s2 = add_product(s2, load(a, first_a + whole + 2), load(b, first_b + whole + 2))
    return add_strands(s0, s1, s2, s3)


@inline
def scalar_product(n: int, a: Any, first_a: int, b: Any, first_b: int) -> Any:
    """Return the sum of numbers times packs, in four strands."""
    zero = zeros(b)
    s0, s1, s2, s3 = zero, zero, zero, zero
    whole = n - n % 4
    for k in range(0, whole, 4):
        s0 = add_product(s0, a[first_a + k], load(b, first_b + k))
        s1 = add_product(s1, a[first_a + k + 1], load(b, first_b + k + 1))
        s2 = add_product(s2, a[first_a + k + 2], load(b, first_b + k + 2))
        s3 = add_product(s3, a[first_a + k + 3], load(b, first_b + k + 3))
    if whole < n:
        s0 = add_product(s0, a[first_a + whole], load(b, first_b + whole))
    if whole + 1 < n:
        s1 = add_product(s1, a[first_a + whole + 1], load(b, first_b + whole + 1))
    if whole + 2 < n:
        s2 = add_product(s2, a[first_a + whole + 2], load(b, first_b + whole + 2))
    return add_strands(s0, s1, s2, s3)


@traced
def step_rates(step: Any, temperature: Any, floor_scale: Any, floor_least: Any) -> Any:
    """Return eps, 1 / beta, sqrt(2 eps / beta) and the floor."""
    variance = (step + step) * temperature
    floor = floor_scale * variance
    floor = where(floor < floor_least, floor_least - (floor - floor), floor)
    return step, temperature, square_root(variance), floor


@traced
def floor_of(floor: Any, cap: Any, zero: Any) -> Any:
    """Return the floor of a simplex, at most `cap` = 1 / (4 n)."""
    return where(floor > cap, cap - zero, floor)


@traced
def start_report(smallest: Any, zero: Any) -> Any:
    """Return the report of a step that has done nothing yet."""
    return zero, smallest, zero > zero, zero <= zero


# --- the sum of the weights is 1 -----------------------------------------------------------------


@traced
def _usable(finite: Any, total: Any) -> Any:
    largest = 3e38 if is_single(total) else 1e308
    return finite & (total > 0.0) & (total <= largest)


@traced
def _inverse(total: Any) -> Any:
    return 1.0 / total


@traced
def _lift(weight: Any, scale: Any, floor: Any, lifted: Any, total: Any, zero: Any) -> Any:
    weight = weight * scale
    low = weight < floor
    weight = where(low, floor, weight)
    return weight, lifted + where(low, 1.0, zero), total + weight


@traced
def _again(changed: Any, total: Any, zero: Any) -> Any:
    return where(changed, 1.0 / total, zero + 1.0)


@traced
def _positive(x: Any) -> Any:
    return x > 0.0


@traced
def _lower(a: Any, b: Any) -> Any:
    return where(a < b, a, b)


@inline
def normalise(n: int, total: Any, floor: Any, x: Any, at: int, report: Report) -> Report:
    """Divide by the sum, lift small weights, and divide again where that changed it."""
    floored, smallest, exceeded, finite = report
    zero = zeros(x)
    finite = _usable(finite, total)
    scale = _inverse(total)
    lifted, again = zero, zero
    for s in range(at, at + n):
        weight, lifted, again = _lift(load(x, s), scale, floor, lifted, again, zero)
        store(x, s, weight)
    changed = _positive(lifted)
    if any_of(changed):
        scale = _again(changed, again, zero)
        for s in range(at, at + n):
            store(x, s, times(load(x, s), scale))
        floored = plus(floored, lifted)
    for s in range(at, at + n):
        smallest = _lower(load(x, s), smallest)
    return floored, smallest, exceeded, finite


# --- form (E) ------------------------------------------------------------------------------------


@traced
def _slope(step: Any, pull: Any, g: Any) -> Any:
    return step * (pull - g)


@traced
def _add_noise(exponent: Any, noise: Any, z: Any, x: Any) -> Any:
    inverse_root = 1.0 / square_root(x)
    return exponent + noise * (z * inverse_root), inverse_root


@traced
def _add_drift(exponent: Any, step: Any, temperature: Any, alpha: Any, inverse_root: Any) -> Any:
    drift = (step * temperature) * (1.0 - alpha)
    return exponent - drift * (inverse_root * inverse_root)


@traced
def _multiply(x: Any, exponent: Any, top: Any, exceeded: Any, total: Any) -> Any:
    exceeded = exceeded | (magnitude(exponent) > top)
    exponent = where(exponent > top, top, exponent)
    exponent = where(exponent < -top, -top, exponent)
    weight = x * exp_bounded(exponent)
    return weight, exceeded, total + weight


@inline
def entropic_step(
    n: int,
    rates: Any,
    floor: Any,
    x: Any,
    from_: int,
    to: int,
    gradient: Any,
    noise: Any,
    alpha: Any,
    at: int,
    noisy: bool,
    corrected: bool,
    clip: Any,
    report: Report,
) -> Report:
    """Make the multiplicative step of one simplex; packs of x are at `from_` and go to `to`."""
    floored, smallest, exceeded, finite = report
    step, temperature, scale, _ = rates
    zero = zeros(x)
    top = same_in_all(clip, zero)
    pull = inner_product(n, gradient, at, x, from_)
    total = zero
    for s in range(n):
        weight = load(x, from_ + s)
        exponent = _slope(step, pull, load(gradient, at + s))
        if noisy:
            exponent, root = _add_noise(exponent, scale, load(noise, at + s), weight)
            if corrected:
                exponent = _add_drift(exponent, step, temperature, alpha[at + s], root)
        weight, exceeded, total = _multiply(weight, exponent, top, exceeded, total)
        store(x, to + s, weight)
    return normalise(n, total, floor, x, to, (floored, smallest, exceeded, finite))


# --- form (S) ------------------------------------------------------------------------------------


@traced
def _root(x: Any) -> Any:
    return square_root(x)


@traced
def _correct(p: Any, alpha: Any, temperature: Any, u: Any, lowest: Any) -> Any:
    above = where(u < lowest, lowest, u)
    return p + ((0.5 - alpha) * temperature) / above


@traced
def _move(step: Any, u: Any, pull: Any, p: Any) -> Any:
    return step * (u * pull - p)


@traced
def _move_noise(move: Any, noise: Any, z: Any, u: Any, along: Any) -> Any:
    return move + noise * (z - u * along)


@traced
def _half(x: Any) -> Any:
    return 0.5 * x


@traced
def _turn(square: Any, top: Any, exceeded: Any, zero: Any) -> Any:
    length = square_root(square)
    exceeded = exceeded | (length > top)
    angle = where(length > top, top, length)
    forward = sine(angle + 1.5707963267948966)
    sideways = sine(angle) / where(length > 0.0, length, zero + 1.0)
    return forward, sideways, exceeded


@traced
def _arrive(forward: Any, u: Any, sideways: Any, v: Any, total: Any) -> Any:
    moved = forward * u + sideways * v
    weight = moved * moved
    return weight, total + weight


@traced
def least_weight(zero: Any) -> Any:
    """Return what no weight of the multiplicative forms falls below."""
    return (zero + 1e-30) if is_single(zero) else (zero + 1e-290)


@inline
def sphere_step(
    n: int,
    rates: Any,
    floor: Any,
    x: Any,
    from_: int,
    to: int,
    gradient: Any,
    noise: Any,
    root: Any,
    alpha: Any,
    at: int,
    noisy: bool,
    corrected: bool,
    clip: Any,
    report: Report,
) -> Report:
    """Make the geodesic step of one simplex."""
    floored, smallest, exceeded, finite = report
    step, temperature, scale, _ = rates
    zero = zeros(x)
    lowest = _root(floor)
    for s in range(n):
        u = _root(load(x, from_ + s))
        store(root, at + s, u)
        p = times(u, load(gradient, at + s))
        if corrected:
            p = _correct(p, alpha[at + s], temperature, u, lowest)
        store(x, to + s, p)
    pull = inner_product(n, root, at, x, to)
    along = zero
    if noisy:
        along = inner_product(n, root, at, noise, at)
    for s in range(n):
        u = load(root, at + s)
        move = _move(step, u, pull, load(x, to + s))
        if noisy:
            move = _move_noise(move, scale, load(noise, at + s), u, along)
        store(x, to + s, _half(move))
    square = inner_product(n, x, to, x, to)
    forward, sideways, exceeded = _turn(square, same_in_all(clip, zero), exceeded, zero)
    total = zero
    for s in range(n):
        weight, total = _arrive(forward, load(root, at + s), sideways, load(x, to + s), total)
        store(x, to + s, weight)
    least = least_weight(zero)
    return normalise(n, total, least, x, to, (floored, smallest, exceeded, finite))


# --- the linear variant --------------------------------------------------------------------------


@traced
def _scale_linearly(x: Any, step: Any, g: Any, exceeded: Any, total: Any, zero: Any) -> Any:
    factor = 1.0 - step * g
    exceeded = exceeded | (factor <= 0.0)
    weight = x * where(factor > 0.0, factor, zero)
    return weight, exceeded, total + weight


@inline
def linear_step(
    n: int,
    rates: Any,
    floor: Any,
    x: Any,
    from_: int,
    to: int,
    gradient: Any,
    at: int,
    report: Report,
) -> Report:
    """Make the linear multiplicative step of one simplex."""
    floored, smallest, exceeded, finite = report
    zero = zeros(x)
    total = zero
    for s in range(n):
        weight, exceeded, total = _scale_linearly(
            load(x, from_ + s), rates[0], load(gradient, at + s), exceeded, total, zero
        )
        store(x, to + s, weight)
    return normalise(n, total, floor, x, to, (floored, smallest, exceeded, finite))
