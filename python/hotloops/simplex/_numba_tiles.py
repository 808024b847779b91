"""The twin of ``csrc/simplex/tile.hpp``: arrays into a tile and back, and moments."""

from __future__ import annotations

from typing import Any

from hotloops._runtime._numba_buffers import accumulate, lanes_of, load, small_code
from hotloops._runtime._numba_jit import outline
from hotloops._runtime._numba_packs import traced, widen
from hotloops.simplex._numba_types import ACCELERATED


@outline
def load_state(chains: Any, tile: Any, first_chain: int, live: int) -> None:
    """Copy the chains of a tile to its packs; lanes without a chain repeat the first."""
    small_code()
    lanes, d = lanes_of(tile.x), chains.dim
    for lane in range(lanes):
        chain = first_chain + (lane if lane < live else 0)
        for s in range(d):
            source, target = chain * d + s, s * lanes + lane
            tile.x[target] = chains.x[source]
            tile.best_x[target] = chains.best_x[source]
            tile.sums[target] = chains.sums[source]
            tile.squares[target] = chains.squares[source]
        if chains.with_products:
            for k in range(d * d):
                tile.products[k * lanes + lane] = chains.products[chain * d * d + k]
        if chains.way.form == ACCELERATED:
            for s in range(d):
                tile.slow[s * lanes + lane] = chains.auxiliary[chain * (d + 1) + s]
            tile.gamma[lane] = chains.auxiliary[chain * (d + 1) + d]
            tile.acceleration[lane] = chains.accelerations[chain]
        tile.step_size[lane] = chains.step_sizes[chain]
        tile.temperature[lane] = chains.temperatures[chain]
        tile.best_value[lane] = chains.best_value[chain]
        tile.smallest[lane] = chains.smallest[chain]
        tile.frozen[lane] = 1.0 if chains.flags[chain] != 0 else 0.0
        for k in range(3):
            tile.counts[k * lanes + lane] = 0


@outline
def store_state(chains: Any, tile: Any, first_chain: int, live: int, current: int) -> None:
    """Copy the packs of a tile back."""
    small_code()
    lanes, d = lanes_of(tile.x), chains.dim
    for lane in range(live):
        chain = first_chain + lane
        for s in range(d):
            target, source = chain * d + s, s * lanes + lane
            chains.x[target] = tile.x[current * lanes + source]
            chains.best_x[target] = tile.best_x[source]
            chains.sums[target] = tile.sums[source]
            chains.squares[target] = tile.squares[source]
            if chains.with_gradient:
                chains.gradient[target] = tile.gradient[source]
        if chains.with_products:
            for k in range(d * d):
                chains.products[chain * d * d + k] = tile.products[k * lanes + lane]
        if chains.way.form == ACCELERATED:
            for s in range(d):
                chains.auxiliary[chain * (d + 1) + s] = tile.slow[s * lanes + lane]
            chains.auxiliary[chain * (d + 1) + d] = tile.gamma[lane]
        chains.value[chain] = tile.values[lane]
        chains.best_value[chain] = tile.best_value[lane]
        chains.smallest[chain] = tile.smallest[lane]
        chains.floored[chain] += tile.counts[lane]
        chains.clipped[chain] += tile.counts[lanes + lane]
        chains.accepted[chain] += tile.counts[2 * lanes + lane]


@traced
def _wide_product(a: Any, b: Any) -> Any:
    return widen(a) * widen(b)


@outline
def add_moments(chains: Any, tile: Any, first_chain: int, live: int, current: int) -> None:
    """Add the weights to their sums, and what else is asked for."""
    small_code()
    d = chains.dim
    for s in range(d):
        x = load(tile.x, current + s)
        accumulate(tile.sums, s, x)
        accumulate(tile.squares, s, _wide_product(x, x))
    if chains.with_products:
        for i in range(d):
            for j in range(d):
                first, second = load(tile.x, current + i), load(tile.x, current + j)
                accumulate(tile.products, i * d + j, _wide_product(first, second))
    if chains.num_bins > 0:
        _add_to_histogram(chains, tile, first_chain, live, current)


@outline
def _add_to_histogram(chains: Any, tile: Any, first_chain: int, live: int, current: int) -> None:
    small_code()
    lanes, d = lanes_of(tile.x), chains.dim
    for lane in range(live):
        for s in range(d):
            place = int(tile.x[(current + s) * lanes + lane] * chains.bins)
            place = min(place, chains.num_bins - 1)
            row = (first_chain + lane) * d + s
            chains.histogram[row * chains.num_bins + place] += 1
