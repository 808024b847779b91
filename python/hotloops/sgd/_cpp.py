"""The C++ backend of the SGD loop."""

from __future__ import annotations

from typing import Any

import numpy as np

from hotloops._runtime import dispatch
from hotloops.sgd._rules import NO_RULES, Ball, Box, PiecewiseConstant, PolynomialDecay, Rules
from hotloops.sgd._state import ChainArrays
from hotloops.sgd._statistics import StatisticsArrays

__all__ = ["advance"]


def advance(
    arrays: ChainArrays,
    kernel: str,
    parameters: tuple[Any, ...],
    *,
    seed: int,
    chain_offset: int,
    first_step: int,
    num_steps: int,
    accumulate: bool,
    divergence_limit: float,
    num_threads: int,
    rules: Rules = NO_RULES,
    statistics: StatisticsArrays | None = None,
) -> None:
    """Advance all chains by `num_steps` steps, in place."""
    core = dispatch.core()
    dtype = arrays.theta.dtype
    bound = (core.SgdChainsFloat32 if dtype.itemsize == 4 else core.SgdChainsFloat64)(
        arrays.theta,
        arrays.sums,
        arrays.flags,
        arrays.diverged_at,
        arrays.step_sizes,
        arrays.auxiliary,
    )
    getattr(core, f"sgd_{kernel}")(
        bound,
        seed,
        chain_offset,
        first_step,
        num_steps,
        accumulate,
        divergence_limit,
        num_threads,
        None if rules.trivial else _bind_rules(core, rules, arrays.theta.shape[2], dtype),
        None if statistics is None else _bind_statistics(core, statistics),
        *parameters,
    )


def _bind_rules(core: Any, rules: Rules, dim: int, dtype: np.dtype[Any]) -> Any:
    low, high, radius, center = None, None, 0.0, None
    if isinstance(rules.projection, Box):
        low, high = rules.projection.place(dim, dtype, np)
    elif isinstance(rules.projection, Ball):
        radius, center = rules.projection.place(dim, dtype, np)
    exponent, offset = 0.0, 0.0
    boundaries, factors = np.empty(0, np.int64), np.ones(1)
    if isinstance(rules.schedule, PolynomialDecay):
        exponent, offset = rules.schedule.exponent, rules.schedule.offset
    elif isinstance(rules.schedule, PiecewiseConstant):
        boundaries = np.array(rules.schedule.boundaries, np.int64)
        factors = np.array(rules.schedule.factors)
    return (core.SgdRulesFloat32 if dtype.itemsize == 4 else core.SgdRulesFloat64)(
        clip_norm=rules.clip_norm,
        weight_decay=rules.weight_decay,
        projection=(type(None), Box, Ball).index(type(rules.projection)),
        low=low,
        high=high,
        center=center,
        radius=radius,
        schedule=(type(None), PolynomialDecay, PiecewiseConstant).index(type(rules.schedule)),
        exponent=exponent,
        offset=offset,
        boundaries=boundaries,
        factors=factors,
        origin=rules.origin,
    )


def _bind_statistics(core: Any, statistics: StatisticsArrays) -> Any:
    return core.SgdStatistics(
        count=statistics.count,
        weights=statistics.weights,
        shift=statistics.shift,
        stride=statistics.stride,
        path=statistics.path,
        squares=statistics.squares,
        products=statistics.products,
        second=statistics.second,
        plug_hessian=statistics.plug_hessian,
        plug_outer=statistics.plug_outer,
    )
