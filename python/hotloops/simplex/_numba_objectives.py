"""The twins of the objectives: value and gradient of the chains of a pack.

`current` is the pack of ``tile.x`` where the weights begin, `slope` that of ``tile.gradient`` where
the gradient goes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from hotloops._runtime._numba_buffers import lanes_of, load, store, view, zeros
from hotloops._runtime._numba_jit import inline, variants
from hotloops._runtime._numba_packs import traced
from hotloops.simplex._numba_polynomial import Polynomial, evaluate_polynomial
from hotloops.simplex._numba_ridge_sum import (
    RidgeSum,
    SampledSum,
    StandardisedSum,
    evaluate_ridge_sum,
    evaluate_sampled,
    evaluate_standardised,
)
from hotloops.simplex._numba_step import scalar_product

_USER_VALUES = 2  # the pack of tile.values that functions of the user's fill


class Quadratic(NamedTuple):
    """``x^T Q x + c . x``; the matrix is flat."""

    matrix: Any
    linear: Any


class Given(NamedTuple):
    """A gradient that the caller has computed, flat."""

    gradient: Any


class Custom(NamedTuple):
    """A compiled function of the user's."""

    function: Any
    data: Any


@traced
def _quadratic_term(total: Any, x: Any, half: Any, linear: Any) -> Any:
    return total + x * (half + linear), (half + half) + linear


@inline
def evaluate_quadratic(
    problem: Any, chains: Any, tile: Any, first_chain: int, current: int, slope: int, step: int
) -> Any:
    """Write the gradient and return the value."""
    d = chains.dim
    total = zeros(tile.x)
    for s in range(d):
        half = scalar_product(d, problem.matrix, s * d, tile.x, current)
        x = load(tile.x, current + s)
        total, changed = _quadratic_term(total, x, half, problem.linear[s])
        store(tile.gradient, slope + s, changed)
    return total


@inline
def evaluate_given(
    problem: Any, chains: Any, tile: Any, first_chain: int, current: int, slope: int, step: int
) -> Any:
    """Copy the gradient; the value is not known."""
    lanes = lanes_of(tile.x)
    for lane in range(lanes):
        chain = first_chain + lane
        if chain >= chains.num_chains:
            chain = first_chain
        for s in range(chains.dim):
            source = chain * chains.dim + s
            tile.gradient[(slope + s) * lanes + lane] = problem.gradient[source]
    return zeros(tile.x)


@inline
def evaluate_custom(
    problem: Any, chains: Any, tile: Any, first_chain: int, current: int, slope: int, step: int
) -> Any:
    """Call the function for each chain, on a copy of its weights."""
    lanes = lanes_of(tile.x)
    d = chains.dim
    live = min(lanes, chains.num_chains - first_chain)
    point = view(tile.scratch, 0, d)
    slopes = view(tile.scratch, d, d)
    values = _USER_VALUES * lanes
    for lane in range(lanes):
        if lane < live:
            for s in range(d):
                point[s] = tile.x[(current + s) * lanes + lane]
            tile.values[values + lane] = problem.function(point, problem.data, slopes)
        else:
            tile.values[values + lane] = tile.values[values]
        for s in range(d):
            source = (slope + s) * lanes
            tile.gradient[source + lane] = slopes[s] if lane < live else tile.gradient[source]
    return load(tile.values, _USER_VALUES)


@variants(
    {
        Polynomial: evaluate_polynomial,
        Quadratic: evaluate_quadratic,
        RidgeSum: evaluate_ridge_sum,
        SampledSum: evaluate_sampled,
        StandardisedSum: evaluate_standardised,
        Given: evaluate_given,
        Custom: evaluate_custom,
    }
)
def evaluate(
    problem: Any, chains: Any, tile: Any, first_chain: int, current: int, slope: int, step: int
) -> Any:
    """Write the gradient at some weights, and return the value."""
