"""The slow path: a gradient that only Python can call."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops import random
from hotloops._runtime import validate
from hotloops.sgd._callable_rules import Bends, record
from hotloops.sgd._rules import NO_RULES, Rules
from hotloops.sgd._state import ChainArrays
from hotloops.sgd._statistics import StatisticsArrays

__all__ = ["advance"]

_STREAM_NORMALS = 0
_STREAM_UNIFORMS = 2
_NOISE_BYTES = 1 << 23  # of the random numbers that are made at once


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
    """Advance all chains by `num_steps` steps, in place; the order of operations of `step.hpp`."""
    grad, data, num_normals, num_uniforms = parameters
    theta = arrays.theta
    chains = range(chain_offset, chain_offset + theta.shape[0])
    width = max(1, num_normals + num_uniforms)
    block = max(1, _NOISE_BYTES // (theta.itemsize * width * theta.shape[0]))
    limit = theta.dtype.type(divergence_limit)
    averaged = 0 if statistics is None else statistics.count
    bends = Bends(rules, theta.shape[2], theta.dtype)
    gradient = np.empty((theta.shape[0], theta.shape[2]), theta.dtype)
    for begin in range(first_step, first_step + num_steps, block):
        steps = range(begin, min(begin + block, first_step + num_steps))
        noise = _draw(seed, steps, chains, num_normals, num_uniforms, theta.dtype, num_threads)
        for step, drawn in zip(steps, noise, strict=True):
            sizes = bends.step_sizes(arrays.step_sizes, step)
            for j in range(theta.shape[1]):
                _evaluate(grad, theta[:, j], drawn, step, data, gradient)
                with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
                    bent = bends.gradient(gradient, theta[:, j])
                    moved = theta[:, j] - sizes[..., j, None] * bent
                    proposed = bends.project(moved)
                _update(arrays, j, proposed, limit, step)
            if accumulate:
                arrays.sums += theta
                if statistics is not None:
                    averaged += 1
                    record(statistics, arrays, averaged)


def _draw(
    seed: int,
    steps: range,
    chains: range,
    num_normals: int,
    num_uniforms: int,
    dtype: np.dtype[Any],
    num_threads: int,
) -> npt.NDArray[Any]:
    """Return the noise of some steps, shape (steps, chains, normals + uniforms)."""
    parts = []
    for draw, count, stream in (
        (random.normals, num_normals, _STREAM_NORMALS),
        (random.uniforms, num_uniforms, _STREAM_UNIFORMS),
    ):
        if count:
            parts.append(
                draw(seed, steps, chains, count, stream, dtype=dtype, num_threads=num_threads)
            )
    if not parts:
        return np.empty((len(steps), len(chains), 0), dtype)
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)


def _evaluate(
    grad: Any,
    theta: npt.NDArray[Any],
    noise: npt.NDArray[Any],
    step: int,
    data: Any,
    out: npt.NDArray[Any],
) -> None:
    """Call the gradient on copies, so that it cannot change the state."""
    out.fill(np.nan)
    returned = grad(theta.copy(), noise, step, data, out)
    if returned is None:
        return
    returned = np.asarray(returned)
    if returned.shape != out.shape:
        expectation = f"return None or gradients of shape (chains, dim) = {out.shape}"
        validate.fail(ValueError, "Custom", "grad", expectation, str(returned.shape))
    out[...] = returned


def _update(arrays: ChainArrays, j: int, proposed: npt.NDArray[Any], limit: Any, step: int) -> None:
    good = (np.abs(proposed) <= limit).all(axis=1)
    running = arrays.flags[:, j] == 0
    stopped = running & ~good
    arrays.flags[stopped, j] = 1
    arrays.diverged_at[stopped, j] = step
    moves = running & good
    arrays.theta[moves, j] = proposed[moves]
