"""Rules and statistics of the slow path in NumPy, in the order of operations of the drivers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops.sgd._rules import Ball, Box, Rules
from hotloops.sgd._state import ChainArrays
from hotloops.sgd._statistics import StatisticsArrays

__all__ = ["Bends", "record"]

Real = npt.NDArray[Any]


class Bends:
    """The rules of a run in its precision."""

    def __init__(self, rules: Rules, dim: int, dtype: np.dtype[Any]) -> None:
        self._rules = rules
        self._clip = dtype.type(rules.clip_norm)
        self._decay = dtype.type(rules.weight_decay)
        self._dtype = dtype
        projection = rules.projection
        self._bounds = None if projection is None else projection.place(dim, dtype, np)

    def step_sizes(self, step_sizes: Real, step: int) -> Real:
        """Return the step sizes of one step."""
        schedule = self._rules.schedule
        if schedule is None:
            return step_sizes
        factor = schedule.evaluate(step - self._rules.origin + 1, 1)[0]
        scaled: Real = step_sizes * self._dtype.type(factor)
        return scaled

    def gradient(self, gradient: Real, theta: Real) -> Real:
        """Return the gradients (C, d), clipped and with the pull of the weight decay."""
        if self._rules.clip_norm != math.inf:
            norm = np.sqrt(_dot(gradient, gradient))
            long = norm > self._clip
            scale = self._clip / np.where(long, norm, self._dtype.type(1))
            gradient = np.where(long[:, None], gradient * scale[:, None], gradient)
        if self._rules.weight_decay != 0:
            gradient = gradient + self._decay * theta
        return gradient

    def project(self, proposed: Real) -> Real:
        """Return the iterates (C, d), pulled back; NaN passes through."""
        projection = self._rules.projection
        if isinstance(projection, Box) and self._bounds is not None:
            low, high = self._bounds
            proposed = np.where(proposed < low, low, proposed)
            return np.where(proposed > high, high, proposed)
        if isinstance(projection, Ball) and self._bounds is not None:
            radius, center = self._bounds
            difference = proposed - center
            distance = np.sqrt(_dot(difference, difference))
            outside = distance > radius
            scale = radius / np.where(outside, distance, self._dtype.type(1))
            pulled = center + difference * scale[:, None]
            return np.where(outside[:, None], pulled, proposed)
        return proposed


def record(statistics: StatisticsArrays, arrays: ChainArrays, step: int) -> None:
    """Take the statistics of averaged step `step` = 1, 2, ..., which is in the sums already."""
    count = float(step)
    if statistics.squares is not None:
        sums = arrays.sums - count * statistics.shift
        squared = _with_combined(sums, statistics.weights) ** 2
        statistics.squares += squared
        statistics.products += count * sums
    if statistics.second is not None:
        paths = _with_combined(
            arrays.theta.astype(np.float64) - statistics.shift, statistics.weights
        )
        if statistics.second.shape == paths.shape:
            statistics.second += paths * paths
        else:
            rows, columns = np.tril_indices(paths.shape[2])
            statistics.second += paths[:, :, rows] * paths[:, :, columns]
    if statistics.path is not None and step % statistics.stride == 0:
        statistics.path[:, step // statistics.stride - 1] = arrays.sums


def _with_combined(values: Real, weights: Real) -> Real:
    """Return (C, P, d): the copies (C, J, d) and, for J > 1, their combination."""
    copies = values.shape[1]
    if copies == 1:
        return values
    total = weights[..., 0, None] * values[:, 0]
    for j in range(1, copies):
        total = total + weights[..., j, None] * values[:, j]
    return np.concatenate([values, total[:, None]], axis=1)


def _dot(a: Real, b: Real) -> Real:
    """Return the sums of products over the last axis, in the four strands of ``dot``."""
    products = a * b
    count, dim = products.shape
    strands = np.zeros(
        (count, -(-dim // 4) + 1, 4), products.dtype
    )  # the first row: zeros to add to
    strands.reshape(count, -1)[:, 4 : 4 + dim] = products
    sums = np.add.accumulate(strands, axis=1)[:, -1]
    total: Real = (sums[:, 0] + sums[:, 1]) + (sums[:, 2] + sums[:, 3])
    return total
