"""Every iterate of one chain of an ensemble."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

from hotloops._runtime import arrays, validate
from hotloops.sgd._problem import Problem
from hotloops.sgd._rules import Ball, Box, PiecewiseConstant, PolynomialDecay
from hotloops.sgd._run import run

__all__ = ["replay", "without_burn_in_warning"]


def replay(
    problem: Problem,
    step_sizes: Any,
    num_steps: int,
    chain: int,
    *,
    burn_in: int | None = None,
    theta0: Any = None,
    seed: int = 0,
    chain_offset: int = 0,
    step_offset: int = 0,
    dtype: Any = None,
    backend: str | None = None,
    schedule: PolynomialDecay | PiecewiseConstant | None = None,
    clip_norm: float | None = None,
    weight_decay: float = 0.0,
    projection: Ball | Box | None = None,
) -> Any:
    """Make one chain of an ensemble again and return every iterate.

    Random numbers are functions of seed, chain and step, so a chain that diverged, or an average
    that looks odd, can be looked at step by step without having stored anything.

    Parameters
    ----------
    problem : Problem
        As in the `run` of the ensemble; so are the arguments that follow, whole, not those of the
        one chain.
    step_sizes : float or array_like, shape (J,) or (C, J)
        All step sizes of the ensemble.
    num_steps : int
        Steps after the burn-in.
    chain : int
        Which chain, counted from 0 in the ensemble.
    burn_in : int, optional
        Steps before them; part of the answer. Default `num_steps`, as in `run`.
    theta0 : array_like, shape (d,), (C, d) or (C, J, d), optional
        Starts of the ensemble. Default: zero.
    seed, chain_offset, step_offset : int
        As in `run`. Default 0.
    dtype : {"float32", "float64"}, optional
        As in `run`.
    backend : {"cpp", "cuda", "numba"}, optional
        As in `run`; the iterates have the same bits on each.
    schedule : PolynomialDecay or PiecewiseConstant, optional
        As in `run`.
    clip_norm : float, optional
        As in `run`.
    weight_decay : float
        As in `run`. Default 0.
    projection : Ball or Box, optional
        As in `run`.

    Returns
    -------
    array, shape (burn_in + num_steps, J, d)
        Row k is the iterate after k + 1 steps, in the precision of the run. The start is not part
        of it; after a divergence the last iterate in range is repeated.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As in `run`; a chain that the ensemble does not have.

    Notes
    -----
    Class A. The steps go one by one through the driver: some ten microseconds each, and 16 J d
    bytes each.

    Examples
    --------
    >>> from hotloops import sgd
    >>> problem = sgd.Quadratic([1.0, 2.0], 0.0)
    >>> ensemble = sgd.run(problem, [0.1, 0.2], 60, num_chains=16, seed=3)
    >>> trace = sgd.replay(problem, [0.1, 0.2], 60, 11, seed=3)
    >>> trace.shape
    (120, 2, 2)
    >>> bool((trace[-1] == ensemble.last[11]).all())
    True
    """
    index = validate.integer("replay", "chain", chain, low=0)
    count = validate.integer("replay", "num_steps", num_steps, low=1)
    offset = validate.integer("replay", "chain_offset", chain_offset, low=0)
    burnt = count if burn_in is None else burn_in
    total = count + validate.integer("replay", "burn_in", burnt, low=0)
    with without_burn_in_warning():
        result = run(
            problem,
            _row("step_sizes", step_sizes, index, 2),
            total,
            burn_in=0,
            theta0=_row("theta0", theta0, index, 2),
            seed=seed,
            chain_offset=offset + index,
            step_offset=step_offset,
            dtype=dtype,
            checkpoints=range(1, total + 1),
            backend=backend,
            num_threads=1,
            statistics=("mean",),
            schedule=schedule,
            clip_norm=clip_norm,
            weight_decay=weight_decay,
            projection=projection,
        )
    return result.checkpoint_last[:, 0]


@contextlib.contextmanager
def without_burn_in_warning() -> Iterator[None]:
    """Let runs without a burn-in pass where nothing is averaged."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="run: burn_in", category=RuntimeWarning)
        yield


def _row(argument: str, value: Any, index: int, ndim: int) -> Any:
    """Return the chain's own part of an argument that may have an axis of chains."""
    if value is None:
        return None
    native, _ = arrays.import_array("replay", argument, value)
    if native.ndim < ndim:
        return value
    if index >= native.shape[0]:
        expectation = f"be below {native.shape[0]}, the number of chains in `{argument}`"
        validate.fail(ValueError, "replay", "chain", expectation, str(index))
    return value[index : index + 1]
