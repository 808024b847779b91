"""The twin of ``csrc/nn/cpu_optimizer.cpp``: clip, decay, Adam and the moving average."""

from __future__ import annotations

from typing import Any

import numpy as np

from hotloops._runtime._numba_jit import inline, kernel
from hotloops.nn._rule import Rule, State, power

__all__ = ["update"]

_ELEMENTS_OF_TASK = 1 << 14
_STRANDS = 8


def update(rule: Rule, state: State, gradient: Any, learning_rate: float, step: int) -> float:
    """Make one step in place, counted from 1, and return the norm of the gradient."""
    norm = float(_norm(gradient))
    decayed, plain = (_numbers(rule, norm, learning_rate, step, decays) for decays in (True, False))
    parts = []
    begin = 0
    for first, last in (*rule.no_decay, (gradient.size, gradient.size)):
        parts += [(begin, first, decayed), (first, last, plain)]
        begin = last
    memory = state.parameters, state.first_moment, state.second_moment, state.average
    for first, last, numbers in parts:
        if first < last:
            _update(*memory, gradient, first, last, numbers.astype(gradient.dtype))
    return norm


def _numbers(rule: Rule, norm: float, learning_rate: float, step: int, decays: bool) -> Any:
    clips = rule.clip_norm > 0.0 and norm + 1e-6 > rule.clip_norm
    decay = rule.weight_decay if decays else 0.0
    take = 0.0
    if rule.ema_decay > 0.0:
        take = (1.0 - rule.ema_decay) / (1.0 - power(rule.ema_decay, step))
    return np.array(
        [
            rule.clip_norm / (norm + 1e-6) if clips else 1.0,
            rule.beta1,
            1.0 - rule.beta1,
            rule.beta2,
            1.0 - rule.beta2,
            1.0 / (1.0 - power(rule.beta1, step)),
            1.0 / (1.0 - power(rule.beta2, step)),
            rule.eps,
            learning_rate,
            1.0 - learning_rate * decay if rule.decoupled else 1.0,
            0.0 if rule.decoupled else decay,
            1.0 - take,
            take,
        ]
    )


@inline
def _tree_sum(x: Any, count: int) -> float:
    while count > 1:
        for i in range(count // 2):
            x[i] = x[2 * i] + x[2 * i + 1]
        if count % 2 != 0:
            x[count // 2] = x[count - 1]
        count = (count + 1) // 2
    return float(x[0]) if count == 1 else 0.0


@kernel
def _norm(gradient: Any) -> float:
    """Return the Euclidean norm: strands of parts, added in a tree."""
    tasks = -(-gradient.size // _ELEMENTS_OF_TASK)
    partial, strands = np.zeros(tasks), np.zeros(_STRANDS)
    for task in range(tasks):
        begin = task * _ELEMENTS_OF_TASK
        strands[:] = 0.0
        for i in range(begin, min(begin + _ELEMENTS_OF_TASK, gradient.size)):
            g = np.float64(gradient[i])
            strands[(i - begin) % _STRANDS] += g * g
        partial[task] = _tree_sum(strands, _STRANDS)
    return float(np.sqrt(_tree_sum(partial, tasks)))


@kernel
def _update(
    parameters: Any,
    first: Any,
    second: Any,
    average: Any,
    gradient: Any,
    begin: int,
    end: int,
    numbers: Any,
) -> None:
    clip, beta1, rest1, beta2, rest2 = numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]
    correction1, correction2, eps, learning_rate = numbers[5], numbers[6], numbers[7], numbers[8]
    shrink, decay, keep, take = numbers[9], numbers[10], numbers[11], numbers[12]
    for i in range(begin, end):
        p = parameters[i]
        g = gradient[i] * clip + decay * p
        m = beta1 * first[i] + rest1 * g
        v = beta2 * second[i] + rest2 * (g * g)
        root = np.sqrt(v * correction2)
        p = p * shrink - learning_rate * (m * correction1) / (root + eps)
        first[i], second[i], parameters[i] = m, v, p
        if average.size:
            average[i] = keep * average[i] + take * p
