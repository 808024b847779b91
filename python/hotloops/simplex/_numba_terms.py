"""The twin of the terms of every objective in ``csrc/simplex/step.hpp``."""

from __future__ import annotations

from typing import Any

from hotloops._runtime._numba_buffers import load, store, zeros
from hotloops._runtime._numba_jit import outline
from hotloops._runtime._numba_math import log_positive
from hotloops._runtime._numba_packs import square_root, traced, where
from hotloops.simplex._numba_step import least_weight, plus


@traced
def _ridge(total: Any, ridge: Any, x: Any) -> Any:
    return total + (ridge * x) * x, (ridge + ridge) * x


@traced
def _entropy(total: Any, slope: Any, entropy: Any, x: Any, zero: Any) -> Any:
    lowest = least_weight(zero)
    logarithm = log_positive(where(x < lowest, lowest, x))
    return total + entropy * (x * logarithm), slope + entropy * (logarithm + 1.0)


@traced
def _turnover(total: Any, slope: Any, turnover: Any, smoothing: Any, x: Any, anchor: Any) -> Any:
    change = x - anchor
    cost = square_root(change * change + smoothing * smoothing)
    return total + turnover * cost, slope + turnover * (change / cost)


@traced
def _penalise(total: Any, slope: Any, penalty: Any, held: Any, cap: Any, zero: Any) -> Any:
    above = held - cap
    excess = where(above > 0.0, above, zero)
    return total + (penalty * excess) * excess, slope + (penalty + penalty) * excess


@outline
def add_terms(d: int, terms: Any, x: Any, at: int, gradient: Any, slope_at: int, value: Any) -> Any:
    """Add the terms of the weights at pack `at` to the gradient; return the new value."""
    zero = zeros(x)
    total = zero
    for s in range(d):
        weight = load(x, at + s)
        total, slope = _ridge(total, terms.ridge, weight)
        if terms.entropy != 0.0:
            total, slope = _entropy(total, slope, terms.entropy, weight, zero)
        if terms.turnover != 0.0:
            total, slope = _turnover(
                total, slope, terms.turnover, terms.smoothing, weight, terms.anchor[s]
            )
        if terms.bounded:
            total, slope = _penalise(total, slope, terms.penalty, weight, terms.upper[s], zero)
        store(gradient, slope_at + s, plus(load(gradient, slope_at + s), slope))
    for group in range(terms.num_groups):
        begin, end = terms.group_offsets[group], terms.group_offsets[group + 1]
        held = zero
        for k in range(begin, end):
            held = plus(held, load(x, at + terms.group_members[k]))
        total, slope = _penalise(total, zero, terms.penalty, held, terms.caps[group], zero)
        for k in range(begin, end):
            member = slope_at + terms.group_members[k]
            store(gradient, member, plus(load(gradient, member), slope))
    return plus(value, total)
