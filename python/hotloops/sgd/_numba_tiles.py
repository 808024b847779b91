"""The twin of ``csrc/sgd/tile.hpp``: the chains of one pack, many steps at a time.

A tile keeps the state of its chains in structure-of-arrays order, in memory that stays in the
first-level cache. Two copies of the iterates take turns: a step reads one and writes the other, so
that a lane which leaves the range can keep what it had.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from hotloops._runtime._numba_buffers import accumulate, lanes_of, load, small_code, store, zeros
from hotloops._runtime._numba_jit import aligned, inline, outline, variants
from hotloops._runtime._numba_math import magnitude
from hotloops._runtime._numba_packs import PACK_BYTES, any_lane, traced, where

PERMUTATION_WORDS = 9  # of each lane: keys of eight rounds and a rotation


class Chains(NamedTuple):
    """What all tiles share; the arrays are flat."""

    theta: Any  # (C * J * d,)
    sums: Any  # (C * J * d,) float64
    flags: Any  # (C * J,) uint8
    diverged_at: Any  # (C * J,) int64
    step_sizes: Any  # (J,) or (C * J,)
    step_size_stride: int  # 0 or J
    auxiliary: Any  # (C * A,)
    num_auxiliary: int
    num_chains: int
    num_copies: int
    dim: int
    offset: int
    key_low: Any
    key_high: Any
    accumulate: bool
    divergence_limit: Any
    parts: int  # that a step is made in


class Tile(NamedTuple):
    """Memory of one thread."""

    theta: Any  # two copies of (J, d) packs
    sums: Any  # (J, d) packs, float64
    limits: Any  # (J + 1,) packs: the divergence limit, -1 in frozen lanes
    step_sizes: Any  # (J,) packs
    auxiliary: Any  # (A,) packs
    scratch: Any  # packs that the problem needs
    spare: Any  # (d,) packs
    sampled: Any  # (samples, lanes) int64: rows that are read now
    permutation: Any  # (lanes, words) uint64
    epoch: Any  # (1,) int64: whose permutation it is


def make_tile(chains: Chains, scratch_packs: int, sampled_packs: int, spare_theta: int = 0) -> Tile:
    """Return the memory of one thread, with as many packs for the problem and sampled rows, and
    some behind the iterates."""
    dtype = chains.theta.dtype
    lanes = PACK_BYTES // dtype.itemsize
    size = chains.num_copies * chains.dim
    return Tile(
        theta=aligned((2 * size + spare_theta) * lanes, dtype),
        sums=aligned(size * lanes, np.float64),
        limits=aligned((chains.num_copies + 1) * lanes, dtype),
        step_sizes=aligned(chains.num_copies * lanes, dtype),
        auxiliary=aligned(chains.num_auxiliary * lanes, dtype),
        scratch=aligned(scratch_packs * lanes, dtype),
        spare=aligned(chains.dim * lanes, dtype),
        sampled=aligned(sampled_packs * lanes, np.int64),
        permutation=aligned(PERMUTATION_WORDS * lanes, np.uint64),
        epoch=np.empty(1, np.int64),
    )


@outline
def load_state(chains: Chains, tile: Tile, first_chain: int, live: int) -> None:
    """Read the chains of a tile; lanes without a chain repeat the first."""
    small_code()
    lanes = lanes_of(tile.theta)
    size = chains.num_copies * chains.dim
    for lane in range(lanes):
        chain = first_chain + (lane if lane < live else 0)
        for i in range(size):
            tile.theta[i * lanes + lane] = chains.theta[chain * size + i]
            tile.sums[i * lanes + lane] = chains.sums[chain * size + i]
        for j in range(chains.num_copies):
            stopped = chains.flags[chain * chains.num_copies + j] != 0
            tile.limits[j * lanes + lane] = -1.0 if stopped else chains.divergence_limit
            step_size = chains.step_sizes[chain * chains.step_size_stride + j]
            tile.step_sizes[j * lanes + lane] = step_size
        for i in range(chains.num_auxiliary):
            first = chain * chains.num_auxiliary
            tile.auxiliary[i * lanes + lane] = chains.auxiliary[first + i]
    tile.epoch[0] = -1


@outline
def store_state(chains: Chains, tile: Tile, first_chain: int, live: int, current: int) -> None:
    """Write the chains of a tile back; the iterates begin at pack `current`."""
    small_code()
    lanes = lanes_of(tile.theta)
    size = chains.num_copies * chains.dim
    for lane in range(live):
        first = (first_chain + lane) * size
        for i in range(size):
            chains.theta[first + i] = tile.theta[(current + i) * lanes + lane]
            chains.sums[first + i] = tile.sums[i * lanes + lane]
        first = (first_chain + lane) * chains.num_auxiliary
        for i in range(chains.num_auxiliary):
            chains.auxiliary[first + i] = tile.auxiliary[i * lanes + lane]


@traced
def running(limit: Any) -> Any:
    """Return the lanes that are not frozen."""
    return limit >= 0.0


@traced
def within(good: Any, theta: Any, limit: Any) -> Any:
    """Return the lanes of `good` where `theta` stays in the range; not those where it is NaN."""
    return good & (magnitude(theta) <= limit)


@traced
def updated(theta: Any, step_size: Any, gradient: Any) -> Any:
    """Return the next iterate."""
    return theta - step_size * gradient


@traced
def all_but(good: Any) -> Any:
    """Return whether a lane is missing in `good`."""
    return any_lane(~good)


@traced
def choose(good: Any, a: Any, b: Any) -> Any:
    """Return `a` in the lanes of `good`, else `b`."""
    return where(good, a, b)


@traced
def freeze_limit(good: Any, limit: Any) -> Any:
    """Return the limit, -1 in the lanes that stop."""
    return where(~good, -1.0, limit)


@inline
def commit(
    chains: Chains,
    tile: Tile,
    first_chain: int,
    step: int,
    j: int,
    good: Any,
    current: int,
    target: int,
) -> None:
    """Take over the step of copy `j`, written at pack `target`, in the lanes that `good` names."""
    if all_but(good):
        _freeze(chains, tile, first_chain, step, j, good, current, target)
    if chains.accumulate:
        for i in range(j * chains.dim, (j + 1) * chains.dim):
            accumulate(tile.sums, i, load(tile.theta, target + i))


@outline
def _freeze(
    chains: Chains,
    tile: Tile,
    first_chain: int,
    step: int,
    j: int,
    good: Any,
    current: int,
    target: int,
) -> None:
    """Keep the iterates of lanes that left the range, now or earlier."""
    small_code()
    for i in range(j * chains.dim, (j + 1) * chains.dim):
        kept = choose(good, load(tile.theta, target + i), load(tile.theta, current + i))
        store(tile.theta, target + i, kept)
    lanes = lanes_of(tile.theta)
    store(tile.limits, chains.num_copies, freeze_limit(good, load(tile.limits, j)))
    for lane in range(lanes):
        stops = tile.limits[chains.num_copies * lanes + lane] < 0 <= tile.limits[j * lanes + lane]
        chain = first_chain + lane
        if stops and chain < chains.num_chains:
            cell = chain * chains.num_copies + j
            chains.flags[cell] = 1
            chains.diverged_at[cell] = step
    store(tile.limits, j, load(tile.limits, chains.num_copies))


# --- sums of products ----------------------------------------------------------------------------


class Scalars(NamedTuple):
    """Elements of an array, each the same in all lanes."""

    array: Any
    first: int


class Packs(NamedTuple):
    """Packs of an array."""

    array: Any
    first: int


def _scalar_at(source: Any, k: int) -> Any:
    return source.array[source.first + k]


def _pack_at(source: Any, k: int) -> Any:
    return load(source.array, source.first + k)


@variants({Scalars: _scalar_at, Packs: _pack_at})
def _at(source: Any, k: int) -> Any:
    """Return element or pack number `k`."""


@traced
def _add_product(total: Any, a: Any, b: Any) -> Any:
    return total + a * b


@traced
def _total(s0: Any, s1: Any, s2: Any, s3: Any) -> Any:
    return (s0 + s1) + (s2 + s3)


@inline
def dot(count: int, a: Any, b: Packs) -> Any:
    """Return the sum of a[k] b[k] in four strands, k mod 4."""
    zero = zeros(b.array)
    s0, s1, s2, s3 = zero, zero, zero, zero
    whole = count - count % 4
    for k in range(0, whole, 4):
        s0 = _add_product(s0, _at(a, k), _at(b, k))
        s1 = _add_product(s1, _at(a, k + 1), _at(b, k + 1))
        s2 = _add_product(s2, _at(a, k + 2), _at(b, k + 2))
        s3 = _add_product(s3, _at(a, k + 3), _at(b, k + 3))
    if whole < count:
        s0 = _add_product(s0, _at(a, whole), _at(b, whole))
    if whole + 1 < count:
        s1 = _add_product(s1, _at(a, whole + 1), _at(b, whole + 1))
    if whole + 2 < count:
        s2 = _add_product(s2, _at(a, whole + 2), _at(b, whole + 2))
    return _total(s0, s1, s2, s3)
