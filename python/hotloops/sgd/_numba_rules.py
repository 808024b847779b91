"""The twin of ``csrc/sgd/step_rules.hpp``: what is done to gradients, step sizes and iterates.

In this order: clip, decay, update, project.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from hotloops._runtime._numba_buffers import load, store
from hotloops._runtime._numba_jit import inline, variants
from hotloops._runtime._numba_packs import constant, square_root, traced, where
from hotloops.sgd._numba_tiles import (
    Chains,
    Packs,
    Tile,
    commit,
    dot,
    running,
    updated,
    within,
)
from hotloops.sgd._rules import Ball, Box
from hotloops.sgd._rules import Rules as Asked

__all__ = ["NoRules", "Rules", "make_rules", "take_step"]

NO_PROJECTION, BOX, BALL = range(3)


class NoRules(NamedTuple):
    """Steps are as the gradient says."""

    projection: int


class Rules(NamedTuple):
    """At least one of them is on; arrays of those that are off are empty."""

    clips: bool
    clip_norm: Any
    decays: bool
    weight_decay: Any
    projection: int
    low: Any  # (d,)
    high: Any  # (d,)
    center: Any  # (d,)
    radius: Any
    scheduled: bool
    factors: Any  # (steps,) of the schedule
    first_step: int  # that they begin with


def make_rules(
    asked: Asked, dtype: np.dtype[Any], dim: int, first_step: int, num_steps: int
) -> NoRules | Rules:
    """Return the rules of the steps from `first_step` on."""
    if asked.trivial:
        return NoRules(NO_PROJECTION)
    real = dtype.type
    low = high = center = factors = np.empty(0, dtype)
    radius = real(0)
    projection = NO_PROJECTION
    if isinstance(asked.projection, Box):
        projection = BOX
        low, high = asked.projection.place(dim, dtype, np)
    elif isinstance(asked.projection, Ball):
        projection = BALL
        radius, center = asked.projection.place(dim, dtype, np)
    if asked.schedule is not None:
        first = first_step - asked.origin + 1
        factors = asked.schedule.evaluate(first, num_steps).astype(dtype)
    return Rules(
        asked.clip_norm != np.inf,
        real(asked.clip_norm),
        asked.weight_decay != 0,
        real(asked.weight_decay),
        projection,
        low,
        high,
        center,
        radius,
        asked.schedule is not None,
        factors,
        first_step,
    )


@traced
def _scaled(x: Any, factor: Any) -> Any:
    return x * factor


@traced
def _clip_factor(squared_norm: Any, clip_norm: Any) -> Any:
    """Return what shortens a gradient to the norm `clip_norm`; 1 changes no bit."""
    norm = square_root(squared_norm)
    return where(norm > clip_norm, clip_norm / norm, constant(1.0, norm))


@traced
def _decayed(gradient: Any, weight_decay: Any, theta: Any) -> Any:
    return gradient + weight_decay * theta


@traced
def _on_interval(x: Any, low: Any, high: Any) -> Any:
    x = where(x < low, low, x)
    return where(x > high, high, x)


@traced
def _from_center(x: Any, center: Any) -> Any:
    return x - center


@traced
def _on_ball(x: Any, difference: Any, squared: Any, radius: Any, center: Any) -> Any:
    distance = square_root(squared)
    return where(distance > radius, center + difference * (radius / distance), x)


@inline
def _step_freely(
    rules: Any,
    chains: Chains,
    tile: Tile,
    first_chain: int,
    step: int,
    j: int,
    current: int,
    target: int,
) -> None:
    step_size = load(tile.step_sizes, j)
    limit = load(tile.limits, j)
    good = running(limit)
    for k in range(j * chains.dim, (j + 1) * chains.dim):
        theta = updated(load(tile.theta, current + k), step_size, load(tile.theta, target + k))
        store(tile.theta, target + k, theta)
        good = within(good, theta, limit)
    commit(chains, tile, first_chain, step, j, good, current, target)


@inline
def _bend_gradient(
    rules: Any, chains: Chains, tile: Tile, j: int, current: int, target: int
) -> None:
    """Clip and decay the gradient of a copy."""
    first = target + j * chains.dim
    last = first + chains.dim
    if rules.clips:
        gradient = Packs(tile.theta, first)
        factor = _clip_factor(dot(chains.dim, gradient, gradient), rules.clip_norm)
        for k in range(first, last):
            store(tile.theta, k, _scaled(load(tile.theta, k), factor))
    if rules.decays:
        for k in range(first, last):
            theta = load(tile.theta, k - target + current)
            store(tile.theta, k, _decayed(load(tile.theta, k), rules.weight_decay, theta))


@inline
def _project(rules: Any, chains: Chains, tile: Tile, first: int) -> None:
    """Project the iterate that begins at pack `first`."""
    if rules.projection == BOX:
        for i in range(chains.dim):
            theta = _on_interval(load(tile.theta, first + i), rules.low[i], rules.high[i])
            store(tile.theta, first + i, theta)
    elif rules.projection == BALL:
        for i in range(chains.dim):
            store(tile.spare, i, _from_center(load(tile.theta, first + i), rules.center[i]))
        difference = Packs(tile.spare, 0)
        squared = dot(chains.dim, difference, difference)
        for i in range(chains.dim):
            theta = load(tile.theta, first + i)
            theta = _on_ball(theta, load(tile.spare, i), squared, rules.radius, rules.center[i])
            store(tile.theta, first + i, theta)


@inline
def _step_by_rules(
    rules: Any,
    chains: Chains,
    tile: Tile,
    first_chain: int,
    step: int,
    j: int,
    current: int,
    target: int,
) -> None:
    _bend_gradient(rules, chains, tile, j, current, target)
    step_size = load(tile.step_sizes, j)
    if rules.scheduled:
        step_size = _scaled(step_size, rules.factors[step - rules.first_step])
    for k in range(j * chains.dim, (j + 1) * chains.dim):
        theta = updated(load(tile.theta, current + k), step_size, load(tile.theta, target + k))
        store(tile.theta, target + k, theta)
    _project(rules, chains, tile, target + j * chains.dim)
    limit = load(tile.limits, j)
    good = running(limit)
    for k in range(j * chains.dim, (j + 1) * chains.dim):
        good = within(good, load(tile.theta, target + k), limit)
    commit(chains, tile, first_chain, step, j, good, current, target)


@variants({NoRules: _step_freely, Rules: _step_by_rules})
def take_step(
    rules: Any,
    chains: Chains,
    tile: Tile,
    first_chain: int,
    step: int,
    j: int,
    current: int,
    target: int,
) -> None:
    """Make the step of copy `j`, whose gradient is where its next iterate goes."""
