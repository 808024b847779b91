"""The twin of the plug-in estimate in ``csrc/sgd/step_statistics.hpp``.

Hessians and outer products of the gradients of the rows that a step has read, at the mean of the
iterates before it.
"""

from __future__ import annotations

from typing import Any

from hotloops._runtime._numba_buffers import load, load_wide, store
from hotloops._runtime._numba_jit import inline, variants
from hotloops._runtime._numba_packs import narrow, traced, widen
from hotloops.sgd._numba_losses import curvature, residual
from hotloops.sgd._numba_statistics import NoPlugIn, PlugIn, Totals
from hotloops.sgd._numba_tiles import Chains, Packs, Tile, dot

__all__ = ["add_row", "begin_batch", "end_batch"]


@traced
def _first_product(a: Any, b: Any) -> Any:
    return a * b


@traced
def _add_product(total: Any, a: Any, b: Any) -> Any:
    return total + a * b


@traced
def _mean(total: Any, inverse_count: Any, like: Any) -> Any:
    return narrow(total * inverse_count, like)


@traced
def _times(h: Any, x: Any) -> Any:
    return widen(h) * widen(x)


@traced
def _add_wide(total: Any, a: Any, x: Any) -> Any:
    return total + a * widen(x)


@traced
def _add_both(total: Any, a: Any, b: Any) -> Any:
    return total + widen(a) * widen(b)


@traced
def _gradient(total: Any, inverse_batch: Any, l2: Any, mean: Any) -> Any:
    return total * inverse_batch + l2 * mean


@inline
def _skips(statistics: Any, chains: Chains, step: int) -> bool:
    """Return whether there is no mean yet, or nothing is averaged."""
    before = statistics.before + (step - statistics.first_step)
    return not chains.accumulate or before < 1


@inline
def _take_mean(
    plug_in: Any, statistics: Any, totals: Totals, chains: Chains, tile: Tile, step: int
) -> None:
    if _skips(statistics, chains, step):
        return
    inverse_count = 1.0 / float(statistics.before + (step - statistics.first_step))
    for i in range(chains.dim):
        weight = load_wide(totals.memory, totals.weights, tile.theta)
        total = _first_product(weight, load_wide(tile.sums, i, tile.theta))
        for j in range(1, chains.num_copies):
            weight = load_wide(totals.memory, totals.weights + j, tile.theta)
            k = j * chains.dim + i
            total = _add_product(total, weight, load_wide(tile.sums, k, tile.theta))
        store(totals.point, i, _mean(total, inverse_count, load(tile.theta, i)))


@inline
def _no_mean(
    plug_in: Any, statistics: Any, totals: Totals, chains: Chains, tile: Tile, step: int
) -> None:
    pass


@variants({NoPlugIn: _no_mean, PlugIn: _take_mean})
def begin_batch(
    plug_in: Any, statistics: Any, totals: Totals, chains: Chains, tile: Tile, step: int
) -> None:
    """Take the mean of the iterates so far, extrapolated, as the point of the rows to come."""


@inline
def _add_gradient(
    plug_in: Any,
    statistics: Any,
    totals: Totals,
    problem: Any,
    chains: Chains,
    tile: Tile,
    step: int,
    r: int,
) -> None:
    if _skips(statistics, chains, step):
        return
    d = chains.dim
    margin = dot(d, Packs(tile.scratch, 0), Packs(totals.point, 0))
    target = load(tile.scratch, d)
    slope = residual(problem.loss, margin, target)
    bend = curvature(problem.loss, margin, target)
    at = totals.hessian
    for i in range(d):
        x = load(tile.scratch, i)
        if r == 0:
            store(totals.point, d + i, _first_product(slope, x))
        else:
            store(totals.point, d + i, _add_product(load(totals.point, d + i), slope, x))
        bent = _times(bend, x)
        for k in range(i + 1):
            total = load_wide(totals.memory, at, tile.theta)
            store(totals.memory, at, _add_wide(total, bent, load(tile.scratch, k)))
            at += 1


@inline
def _no_gradient(
    plug_in: Any,
    statistics: Any,
    totals: Totals,
    problem: Any,
    chains: Chains,
    tile: Tile,
    step: int,
    r: int,
) -> None:
    pass


@variants({NoPlugIn: _no_gradient, PlugIn: _add_gradient})
def add_row(
    plug_in: Any,
    statistics: Any,
    totals: Totals,
    problem: Any,
    chains: Chains,
    tile: Tile,
    step: int,
    r: int,
) -> None:
    """Add sample `r` of a step: a row in the first packs of the scratch memory, then its target."""


@inline
def _add_outer(
    plug_in: Any,
    statistics: Any,
    totals: Totals,
    problem: Any,
    chains: Chains,
    tile: Tile,
    step: int,
) -> None:
    if _skips(statistics, chains, step):
        return
    d = chains.dim
    for i in range(d):
        mean, total = load(totals.point, i), load(totals.point, d + i)
        store(totals.point, d + i, _gradient(total, problem.inverse_batch, problem.l2, mean))
    at = totals.outer
    for i in range(d):
        g = load(totals.point, d + i)
        for k in range(i + 1):
            total = load_wide(totals.memory, at, tile.theta)
            store(totals.memory, at, _add_both(total, g, load(totals.point, d + k)))
            at += 1


@inline
def _no_outer(
    plug_in: Any,
    statistics: Any,
    totals: Totals,
    problem: Any,
    chains: Chains,
    tile: Tile,
    step: int,
) -> None:
    pass


@variants({NoPlugIn: _no_outer, PlugIn: _add_outer})
def end_batch(
    plug_in: Any,
    statistics: Any,
    totals: Totals,
    problem: Any,
    chains: Chains,
    tile: Tile,
    step: int,
) -> None:
    """Add the outer product of the gradient of the whole batch."""
