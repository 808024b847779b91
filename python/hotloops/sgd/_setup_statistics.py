"""What the keywords `statistics` and `batch_length` of `run` stand for."""

from __future__ import annotations

from typing import Any

import numpy as np

from hotloops._runtime import validate
from hotloops.sgd._problem import Problem
from hotloops.sgd._rules import Rules
from hotloops.sgd._state import ChainArrays, SGDState
from hotloops.sgd._statistics import MAX_BATCHES, StatisticsArrays, stride_of

__all__ = ["STATISTICS", "prepare_statistics"]

STATISTICS = ("mean", "batch_means", "random_scaling", "variance", "covariance", "plug_in")

# The losses whose curvature a row tells.
_PLUG_IN_KERNELS = (
    "least_squares",
    "logistic",
    "huber",
    "squared_hinge",
    "softplus_hinge",
    "poisson",
    "streaming_least_squares",
    "streaming_logistic",
)

# Beyond this the path of the batch means has to be asked for.
_DEFAULT_PATH_BYTES = 256_000_000


def prepare_statistics(
    problem: Problem,
    asked: Any,
    batch_length: Any,
    *,
    chains: ChainArrays,
    weights: Any,
    rules: Rules,
    num_steps: int,
    limited: bool,
    state: SGDState | None,
    xp: Any,
) -> tuple[tuple[str, ...], int | None, StatisticsArrays | None]:
    """Return the names of the statistics, the batch length that was asked for, and the arrays.

    A run that is `limited` in time may make fewer steps than `num_steps`.
    """
    names = None if asked is None else _check_names(asked)
    length = None
    if batch_length is not None:
        length = validate.integer("run", "batch_length", batch_length, low=1)
    if state is not None:
        _check_known(state, names, length)
        return state.statistics_names, state.batch_length, _resume(state, num_steps, limited, xp)
    if names is None:
        names = _default_names(chains, num_steps, length)
    if length is not None and "batch_means" not in names:
        expectation = "be None without 'batch_means' in `statistics`"
        validate.fail(ValueError, "run", "batch_length", expectation, str(length))
    if "plug_in" in names:
        _check_plug_in(problem, rules)
    if names == ("mean",):
        return names, length, None
    return names, length, _allocate(names, length, chains, weights, num_steps, limited, xp)


def _check_names(asked: Any) -> tuple[str, ...]:
    expectation = "be None or a sequence of " + ", ".join(repr(name) for name in STATISTICS)
    if isinstance(asked, str) or not hasattr(asked, "__iter__"):
        validate.fail(TypeError, "run", "statistics", expectation, validate.describe(asked))
    wanted = list(asked)
    for name in wanted:
        if not isinstance(name, str):
            validate.fail(TypeError, "run", "statistics", expectation, validate.describe(name))
        if name not in STATISTICS:
            validate.fail(ValueError, "run", "statistics", expectation, repr(name))
    return tuple(name for name in STATISTICS if name == "mean" or name in wanted)


def _check_known(state: SGDState, names: tuple[str, ...] | None, length: int | None) -> None:
    if names not in (None, state.statistics_names):
        expectation = f"be {state.statistics_names} as in `state`"
        validate.fail(ValueError, "run", "statistics", expectation, str(names))
    if length not in (None, state.batch_length):
        expectation = f"be {state.batch_length} as in `state`"
        validate.fail(ValueError, "run", "batch_length", expectation, str(length))


def _check_plug_in(problem: Problem, rules: Rules) -> None:
    if problem.kernel not in _PLUG_IN_KERNELS:
        expectation = "hold 'plug_in' only for losses over rows or streams of features"
        validate.fail(ValueError, "run", "statistics", expectation, f"it for {problem!r}")
    if rules.weight_decay != 0 or rules.clip_norm != float("inf"):
        expectation = "hold 'plug_in' only without `clip_norm` and `weight_decay` (use `l2`)"
        validate.fail(ValueError, "run", "statistics", expectation, "it with one of them")


def _slots(num_averaged: int, length: int | None) -> int:
    """Return the entries that the path has at the end."""
    return max(1, num_averaged // (length or stride_of(num_averaged)))


def _default_names(chains: ChainArrays, num_steps: int, length: int | None) -> tuple[str, ...]:
    size = 8 * int(np.prod(chains.theta.shape)) * _slots(num_steps, length)
    if length is None and size > _DEFAULT_PATH_BYTES:
        return ("mean", "random_scaling")
    return ("mean", "batch_means", "random_scaling")


def _allocate(
    names: tuple[str, ...],
    length: int | None,
    chains: ChainArrays,
    weights: Any,
    num_steps: int,
    limited: bool,
    xp: Any,
) -> StatisticsArrays:
    num_chains, copies, dim = (int(n) for n in chains.theta.shape)
    paths = copies + 1 if copies > 1 else 1
    triangle = dim * (dim + 1) // 2

    def zeros(*shape: int) -> Any:
        validate.sizes("run", *shape, 8)
        return xp.zeros(shape, np.float64)

    made = StatisticsArrays(
        count=0, weights=xp.asarray(weights), shift=zeros(num_chains, copies, dim)
    )
    if "batch_means" in names:
        made.doubling = length is None
        if made.doubling and limited:  # thinned whenever it is full
            made.stride, slots = 1, min(num_steps, MAX_BATCHES)
        else:
            made.stride, slots = length or stride_of(num_steps), _slots(num_steps, length)
        made.path = zeros(num_chains, slots, copies, dim)
    if "random_scaling" in names:
        made.squares = zeros(num_chains, paths, dim)
        made.products = zeros(num_chains, copies, dim)
    if "covariance" in names:
        made.second = zeros(num_chains, paths, triangle)
    elif "variance" in names:
        made.second = zeros(num_chains, paths, dim)
    if "plug_in" in names:
        made.plug_hessian = zeros(num_chains, triangle)
        made.plug_outer = zeros(num_chains, triangle)
    return made


def _resume(state: SGDState, num_steps: int, limited: bool, xp: Any) -> StatisticsArrays | None:
    if state.statistics is None:
        return None
    made = state.statistics.copy()
    total = state.num_averaged + num_steps
    if made.doubling and limited:
        made.resize_path(min(MAX_BATCHES, total // made.stride), xp)
    elif made.doubling:
        made.thin(max(made.stride, stride_of(total)))
        made.resize_path(_slots(total, None), xp)
    elif made.path is not None:
        made.resize_path(_slots(total, made.stride), xp)
    return made
