"""What the parts of the Numba backend hand to each other."""

from __future__ import annotations

from typing import Any, NamedTuple

ENTROPIC, SPHERE, PROJECTED, LINEAR, METROPOLIS, ACCELERATED = range(6)
ALL_ROWS = -1  # the step that stands for all rows of the data


class Plain(NamedTuple):
    """Forms that need no more than the gradient at x."""

    form: int
    alternates: bool = True  # x changes between two places


class Metropolis(NamedTuple):
    """The adjusted sphere form."""

    form: int
    alternates: bool = False


class Accelerated(NamedTuple):
    """Three sequences."""

    form: int
    alternates: bool = True


def way_of(form: int) -> Plain | Metropolis | Accelerated:
    """Return what the loop is compiled for."""
    if form == METROPOLIS:
        return Metropolis(form)
    return Accelerated(form) if form == ACCELERATED else Plain(form)


class Chains(NamedTuple):
    """What all tiles share; the arrays are flat."""

    x: Any
    value: Any
    gradient: Any  # empty: not asked for
    best_x: Any
    best_value: Any
    smallest: Any
    sums: Any
    squares: Any
    products: Any  # empty: not asked for
    histogram: Any  # likewise
    auxiliary: Any  # of the accelerated form, else empty
    floored: Any
    clipped: Any
    accepted: Any
    flags: Any
    failed_at: Any
    step_sizes: Any
    temperatures: Any
    accelerations: Any  # of the accelerated form, else empty
    step_factors: Any  # one number each without a schedule
    temperature_factors: Any
    noise: Any  # empty: drawn
    alpha: Any
    offsets: Any
    caps: Any  # (N,) 1 / (4 n)
    entries: Any  # (N,) n
    way: Any
    num_chains: int
    dim: int
    num_simplices: int
    num_steps: int
    num_bins: int
    epoch: int  # steps between looks at the objective when steps see minibatches, else 0
    offset: int
    key_low: Any
    key_high: Any
    noisy: bool
    drawn: bool
    corrected: bool
    scheduled: bool
    cooled: bool
    accumulate: bool
    with_products: bool
    with_gradient: bool
    with_terms: bool
    floor_scale: Any
    floor_least: Any
    clip: Any
    convexity: Any
    bins: Any  # num_bins in the precision of x
    one: Any


class Terms(NamedTuple):
    """What is added to every objective."""

    ridge: Any
    entropy: Any
    turnover: Any
    smoothing: Any
    penalty: Any
    anchor: Any
    upper: Any
    caps: Any
    group_offsets: Any
    group_members: Any
    num_groups: int
    bounded: bool


class Tile(NamedTuple):
    """Memory of one thread."""

    x: Any  # three copies of (d,) packs: here, there, and y of the accelerated form
    gradient: Any  # two copies: here and at a proposal
    root: Any
    best_x: Any
    noise: Any
    slow: Any  # two copies: v of the accelerated form, and the next one
    returning: Any  # the way back, of the Metropolis form
    sums: Any  # (d,) packs, float64
    squares: Any
    products: Any  # (d, d) packs, float64
    totals: Any  # packs, float64: sums over rows
    scratch: Any
    step_size: Any  # packs from here on
    temperature: Any
    values: Any  # three: here, at a proposal, and room for functions of the user's
    best_value: Any
    smallest: Any
    frozen: Any
    base: Any
    acceleration: Any
    gamma: Any
    lifted: Any
    cut: Any
    counts: Any  # (3, lanes) int64: floored, clipped, accepted
