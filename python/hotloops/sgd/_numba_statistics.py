"""The twin of ``csrc/sgd/step_statistics.hpp``: what the averaged steps add to, all in float64.

A tile keeps its part in packs of as many lanes as its iterates have.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from hotloops._runtime._numba_buffers import lanes_of, load, load_wide, small_code, store
from hotloops._runtime._numba_jit import aligned, inline, outline, variants
from hotloops._runtime._numba_packs import PACK_BYTES, traced, widen
from hotloops.sgd._numba_tiles import Chains, Tile
from hotloops.sgd._statistics import StatisticsArrays

__all__ = [
    "NoPlugIn",
    "NoStatistics",
    "PlugIn",
    "Statistics",
    "Totals",
    "collect",
    "load_totals",
    "make_statistics",
    "make_totals",
    "store_totals",
]


class NoPlugIn(NamedTuple):
    """No plug-in estimate."""

    length: int


class PlugIn(NamedTuple):
    """What adds up for the plug-in estimate."""

    length: int  # d (d + 1) / 2
    hessian: Any  # (C * d (d + 1) / 2,)
    outer: Any


class NoStatistics(NamedTuple):
    """Nothing but the sums of the iterates."""

    plug_in: Any


class Statistics(NamedTuple):
    """What all tiles share. The arrays are flat; those not asked for are empty."""

    before: int  # averaged steps that are in at `first_step`
    first_step: int
    num_paths: int  # P
    weights: Any  # (J,) or (C * J,)
    weight_stride: int  # 0 or J
    shift: Any  # (C * J * d,)
    stride: int
    slots: int
    path: Any  # (C * slots * J * d,)
    num_squares: int  # P d or 0
    squares: Any  # (C * P * d,)
    num_products: int  # J d or 0
    products: Any  # (C * J * d,)
    num_second: int  # P d, P d (d + 1) / 2 or 0
    full: bool
    second: Any
    plug_in: Any


class Totals(NamedTuple):
    """Memory of one thread: packs, and which of them is the first of what."""

    memory: Any  # float64
    point: Any  # (2 d,) packs in the precision of the iterates
    shift: int  # (J, d)
    weights: int  # (J,)
    squares: int  # (P, d)
    products: int  # (J, d)
    second: int  # (P, d) or (P, d (d + 1) / 2)
    deviations: int  # (P, d)
    hessian: int  # (d (d + 1) / 2,)
    outer: int


_NOTHING = np.empty(0)


def make_statistics(
    asked: StatisticsArrays | None, shape: tuple[int, int, int], first_step: int
) -> NoStatistics | Statistics:
    """Return what tiles share of the statistics of the averaged steps from `first_step` on."""
    if asked is None:
        return NoStatistics(NoPlugIn(0))
    _, num_copies, dim = shape
    num_paths = num_copies + (num_copies > 1)
    triangle = dim * (dim + 1) // 2
    path, second = asked.path, asked.second
    full = second is not None and dim > 1 and second.shape[2] != dim
    plug_in: Any = NoPlugIn(0)
    if asked.plug_hessian is not None:
        plug_in = PlugIn(triangle, _flat(asked.plug_hessian), _flat(asked.plug_outer))
    return Statistics(
        asked.count,
        first_step,
        num_paths,
        _flat(asked.weights),
        num_copies if asked.weights.ndim == 2 else 0,
        _flat(asked.shift),
        asked.stride,
        0 if path is None else path.shape[1],
        _flat(path),
        0 if asked.squares is None else num_paths * dim,
        _flat(asked.squares),
        0 if asked.products is None else num_copies * dim,
        _flat(asked.products),
        0 if second is None else num_paths * (triangle if full else dim),
        full,
        _flat(second),
        plug_in,
    )


def _flat(array: Any) -> Any:
    return _NOTHING if array is None else array.reshape(-1)


def make_totals(statistics: Any, num_copies: int, dim: int, dtype: np.dtype[Any]) -> Totals:
    """Return the memory of one thread."""
    if isinstance(statistics, NoStatistics):
        return Totals(_NOTHING, np.empty(0, dtype), *[0] * 8)
    lengths = (
        num_copies * dim,
        num_copies,
        statistics.num_squares,
        statistics.num_products,
        statistics.num_second,
        statistics.num_paths * dim if statistics.full else 0,
        statistics.plug_in.length,
        statistics.plug_in.length,
    )
    starts = [sum(lengths[:k]) for k in range(len(lengths))]
    lanes = PACK_BYTES // dtype.itemsize
    point = 2 * dim if statistics.plug_in.length else 0
    memory = aligned(sum(lengths) * lanes, np.float64)
    return Totals(memory, aligned(point * lanes, dtype), *starts)


# --- between the arrays and the packs ------------------------------------------------------------


@outline
def _load_part(
    memory: Any,
    first: int,
    array: Any,
    count: int,
    stride: int,
    first_chain: int,
    live: int,
    lanes: int,
) -> None:
    """Read `count` numbers of each chain; lanes without a chain repeat the first."""
    small_code()
    for lane in range(lanes):
        source = (first_chain + (lane if lane < live else 0)) * stride
        for i in range(count):
            memory[(first + i) * lanes + lane] = array[source + i]


@outline
def _store_part(
    memory: Any, first: int, array: Any, count: int, first_chain: int, live: int, lanes: int
) -> None:
    small_code()
    for lane in range(live):
        target = (first_chain + lane) * count
        for i in range(count):
            array[target + i] = memory[(first + i) * lanes + lane]


@inline
def _load_all(
    statistics: Any, totals: Totals, chains: Chains, tile: Tile, first_chain: int, live: int
) -> None:
    memory, lanes = totals.memory, lanes_of(tile.theta)
    copies, size = chains.num_copies, chains.num_copies * chains.dim
    s = statistics
    _load_part(memory, totals.weights, s.weights, copies, s.weight_stride, first_chain, live, lanes)
    for first, array, count in (
        (totals.shift, s.shift, size),
        (totals.squares, s.squares, s.num_squares),
        (totals.products, s.products, s.num_products),
        (totals.second, s.second, s.num_second),
    ):
        _load_part(memory, first, array, count, count, first_chain, live, lanes)
    _load_plug_in(s.plug_in, totals, first_chain, live, lanes)


@inline
def _store_all(
    statistics: Any, totals: Totals, chains: Chains, tile: Tile, first_chain: int, live: int
) -> None:
    memory, lanes = totals.memory, lanes_of(tile.theta)
    s = statistics
    for first, array, count in (
        (totals.squares, s.squares, s.num_squares),
        (totals.products, s.products, s.num_products),
        (totals.second, s.second, s.num_second),
    ):
        _store_part(memory, first, array, count, first_chain, live, lanes)
    _store_plug_in(s.plug_in, totals, first_chain, live, lanes)


@inline
def _load_nothing(plug_in: Any, totals: Totals, first_chain: int, live: int, lanes: int) -> None:
    pass


@inline
def _load_sums(plug_in: Any, totals: Totals, first_chain: int, live: int, lanes: int) -> None:
    count = plug_in.length
    for first, array in ((totals.hessian, plug_in.hessian), (totals.outer, plug_in.outer)):
        _load_part(totals.memory, first, array, count, count, first_chain, live, lanes)


@variants({NoPlugIn: _load_nothing, PlugIn: _load_sums})
def _load_plug_in(plug_in: Any, totals: Totals, first_chain: int, live: int, lanes: int) -> None:
    """Read the sums of the plug-in estimate."""


@inline
def _store_sums(plug_in: Any, totals: Totals, first_chain: int, live: int, lanes: int) -> None:
    count = plug_in.length
    for first, array in ((totals.hessian, plug_in.hessian), (totals.outer, plug_in.outer)):
        _store_part(totals.memory, first, array, count, first_chain, live, lanes)


@variants({NoPlugIn: _load_nothing, PlugIn: _store_sums})
def _store_plug_in(plug_in: Any, totals: Totals, first_chain: int, live: int, lanes: int) -> None:
    """Write the sums of the plug-in estimate back."""


@inline
def _no_totals(
    statistics: Any,
    totals: Totals,
    chains: Chains,
    tile: Tile,
    first_chain: int,
    live: int,
) -> None:
    pass


@variants({NoStatistics: _no_totals, Statistics: _load_all})
def load_totals(
    statistics: Any, totals: Totals, chains: Chains, tile: Tile, first_chain: int, live: int
) -> None:
    """Read the statistics of the chains of a tile."""


@variants({NoStatistics: _no_totals, Statistics: _store_all})
def store_totals(
    statistics: Any, totals: Totals, chains: Chains, tile: Tile, first_chain: int, live: int
) -> None:
    """Write them back."""


# --- one averaged step ---------------------------------------------------------------------------


@traced
def _centred(total: Any, count: Any, shift: Any) -> Any:
    return total - count * shift


@traced
def _add_product(total: Any, a: Any, b: Any) -> Any:
    return total + a * b


@traced
def _product(a: Any, b: Any) -> Any:
    return a * b


@traced
def _deviation(theta: Any, shift: Any) -> Any:
    return widen(theta) - shift


@inline
def _add(totals: Totals, tile: Tile, at: int, a: Any, b: Any) -> None:
    """Add a product to one of the totals."""
    store(totals.memory, at, _add_product(load_wide(totals.memory, at, tile.theta), a, b))


@inline
def _scale_copy(
    statistics: Any, totals: Totals, chains: Chains, tile: Tile, s: float, j: int, i: int
) -> Any:
    """Add up what random scaling needs of a coordinate; return its centred sum."""
    k = j * chains.dim + i
    shift = load_wide(totals.memory, totals.shift + k, tile.theta)
    centred = _centred(load_wide(tile.sums, k, tile.theta), s, shift)
    if statistics.num_products > 0:
        _add(totals, tile, totals.products + k, s, centred)
    if statistics.num_squares > 0:
        _add(totals, tile, totals.squares + k, centred, centred)
    return centred


@inline
def _scale(statistics: Any, totals: Totals, chains: Chains, tile: Tile, s: float) -> None:
    """Sums of S_s^2 and s S_s of the centred sums (Lee et al., AAAI 2022)."""
    last = totals.squares + chains.num_copies * chains.dim
    for i in range(chains.dim):
        centred = _scale_copy(statistics, totals, chains, tile, s, 0, i)
        if chains.num_copies > 1:
            path = _product(load_wide(totals.memory, totals.weights, tile.theta), centred)
            for j in range(1, chains.num_copies):
                weight = load_wide(totals.memory, totals.weights + j, tile.theta)
                centred = _scale_copy(statistics, totals, chains, tile, s, j, i)
                path = _add_product(path, weight, centred)
            if statistics.num_squares > 0:
                _add(totals, tile, last + i, path, path)


@inline
def _deviate(
    statistics: Any, totals: Totals, chains: Chains, tile: Tile, target: int, j: int, i: int
) -> Any:
    k = j * chains.dim + i
    shift = load_wide(totals.memory, totals.shift + k, tile.theta)
    y = _deviation(load(tile.theta, target + k), shift)
    _take_deviation(statistics, totals, tile, k, y)
    return y


@inline
def _take_deviation(statistics: Any, totals: Totals, tile: Tile, k: int, y: Any) -> None:
    """Add the square of a deviation, or keep it for the products with the others."""
    if statistics.full:
        store(totals.memory, totals.deviations + k, y)
    else:
        _add(totals, tile, totals.second + k, y, y)


@outline
def _add_second(statistics: Any, totals: Totals, chains: Chains, tile: Tile, target: int) -> None:
    """Add y y^T or its diagonal for each path, y the iterate minus the shift."""
    d = chains.dim
    for i in range(d):
        y = _deviate(statistics, totals, chains, tile, target, 0, i)
        if chains.num_copies > 1:
            path = _product(load_wide(totals.memory, totals.weights, tile.theta), y)
            for j in range(1, chains.num_copies):
                weight = load_wide(totals.memory, totals.weights + j, tile.theta)
                y = _deviate(statistics, totals, chains, tile, target, j, i)
                path = _add_product(path, weight, y)
            _take_deviation(statistics, totals, tile, chains.num_copies * d + i, path)
    if statistics.full:
        at = totals.second
        for p in range(statistics.num_paths):
            first = totals.deviations + p * d
            for i in range(d):
                y = load_wide(totals.memory, first + i, tile.theta)
                for k in range(i + 1):
                    _add(totals, tile, at, y, load_wide(totals.memory, first + k, tile.theta))
                    at += 1


@outline
def _keep_path(statistics: Any, chains: Chains, tile: Tile, first_chain: int, slot: int) -> None:
    """Write the sums as they are now to a slot of the path."""
    small_code()
    lanes = lanes_of(tile.theta)
    size = chains.num_copies * chains.dim
    for lane in range(min(lanes, chains.num_chains - first_chain)):
        first = ((first_chain + lane) * statistics.slots + slot) * size
        for i in range(size):
            statistics.path[first + i] = tile.sums[i * lanes + lane]


@inline
def _collect_all(
    statistics: Any,
    totals: Totals,
    chains: Chains,
    tile: Tile,
    first_chain: int,
    step: int,
    target: int,
) -> None:
    if not chains.accumulate:
        return
    count = statistics.before + (step - statistics.first_step) + 1
    if statistics.num_squares + statistics.num_products > 0:
        _scale(statistics, totals, chains, tile, float(count))
    if statistics.num_second > 0:
        _add_second(statistics, totals, chains, tile, target)
    if statistics.slots > 0 and count % statistics.stride == 0:
        slot = count // statistics.stride - 1
        if slot < statistics.slots:
            _keep_path(statistics, chains, tile, first_chain, slot)


@inline
def _collect_nothing(
    statistics: Any,
    totals: Totals,
    chains: Chains,
    tile: Tile,
    first_chain: int,
    step: int,
    target: int,
) -> None:
    pass


@variants({NoStatistics: _collect_nothing, Statistics: _collect_all})
def collect(
    statistics: Any,
    totals: Totals,
    chains: Chains,
    tile: Tile,
    first_chain: int,
    step: int,
    target: int,
) -> None:
    """Add the iterates at pack `target`, which are in the sums already."""
