"""The twin of the projection and of form (P) in ``csrc/simplex/step.hpp``."""

from __future__ import annotations

from typing import Any

from hotloops._runtime._numba_buffers import load, store, zeros
from hotloops._runtime._numba_jit import inline
from hotloops._runtime._numba_packs import any_lane, traced, where
from hotloops.simplex._numba_step import Report, add_product, normalise, plus, same_in_all


@traced
def _higher(a: Any, b: Any) -> Any:
    return where(a > b, a, b)


@traced
def _minus(a: Any, b: Any) -> Any:
    return a - b


@traced
def _threshold(total: Any, count: Any) -> Any:
    return (total - 1.0) / count


@traced
def _add_active(v: Any, tau: Any, active: Any, total: Any, zero: Any) -> Any:
    above = v > tau
    return active + where(above, 1.0, zero), total + where(above, v, zero)


@traced
def _shrinks(active: Any, count: Any) -> Any:
    return any_lane(active < count)


@traced
def _excess(v: Any, tau: Any, total: Any, zero: Any) -> Any:
    excess = v - tau
    weight = where(excess > 0.0, excess, zero)
    return weight, total + weight


@inline
def project_onto_simplex(n: int, size: Any, v: Any, at: int) -> Any:
    """Project packs onto the simplex in place; `size` is n in the precision of v."""
    zero = zeros(v)
    top = load(v, at)
    for s in range(at + 1, at + n):
        top = _higher(load(v, s), top)
    total = zero
    for s in range(at, at + n):
        shifted = _minus(load(v, s), top)
        store(v, s, shifted)
        total = plus(total, shifted)
    count = same_in_all(size, zero)
    tau = _threshold(total, count)
    for _ in range(n):
        active, total = zero, zero
        for s in range(at, at + n):
            active, total = _add_active(load(v, s), tau, active, total, zero)
        shrinks = _shrinks(active, count)
        count = active
        tau = _threshold(total, count)
        if not shrinks:
            break
    left = zero
    for s in range(at, at + n):
        weight, left = _excess(load(v, s), tau, left, zero)
        store(v, s, weight)
    return left


@traced
def _descend(x: Any, step: Any, g: Any) -> Any:
    return x - step * g


@inline
def projected_step(
    n: int,
    size: Any,
    rates: Any,
    x: Any,
    from_: int,
    to: int,
    gradient: Any,
    noise: Any,
    at: int,
    noisy: bool,
    report: Report,
) -> Report:
    """Make the projected step of one simplex."""
    step, _, scale, _ = rates
    for s in range(n):
        moved = _descend(load(x, from_ + s), step, load(gradient, at + s))
        if noisy:
            moved = add_product(moved, scale, load(noise, at + s))
        store(x, to + s, moved)
    total = project_onto_simplex(n, size, x, to)
    return normalise(n, total, zeros(x), x, to, report)
