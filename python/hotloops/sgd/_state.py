"""Where a run stands: what the drivers advance and what a later run goes on from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops._runtime import validate
from hotloops.sgd._rules import NO_RULES, Rules
from hotloops.sgd._statistics import StatisticsArrays, check_statistics

__all__ = ["Advance", "ChainArrays", "SGDState", "check_state"]

Advance = Callable[..., None]


@dataclass
class ChainArrays:
    """C-contiguous NumPy or CuPy arrays that a driver advances in place.

    Attributes
    ----------
    theta : array, shape (C, J, d)
    sums : array, shape (C, J, d), float64
        Sums of the iterates since the burn-in.
    flags : array, shape (C, J), uint8
        1 where a copy of the chain diverged and is frozen.
    diverged_at : array, shape (C, J), int64
        The step that left the range, else -1.
    step_sizes : array, shape (J,) or (C, J)
        In the precision of `theta`; of two dimensions when every chain has its own.
    auxiliary : array, shape (C, A)
        What a problem carries from step to step, in the precision of `theta`. Default: nothing,
        A = 0.
    """

    theta: Any
    sums: Any
    flags: Any
    diverged_at: Any
    step_sizes: Any
    auxiliary: Any = None

    def __post_init__(self) -> None:
        if self.auxiliary is None:
            self.auxiliary = self.theta[:, 0, :0].copy()

    def copy(self) -> ChainArrays:
        """Return arrays of the same values in memory of their own."""
        return ChainArrays(
            self.theta.copy(),
            self.sums.copy(),
            self.flags.copy(),
            self.diverged_at.copy(),
            self.step_sizes,
            self.auxiliary.copy(),
        )

    def replace(self, parts: list[ChainArrays]) -> None:
        """Take over the values of consecutive parts."""
        begin = 0
        for part in parts:
            end = begin + part.theta.shape[0]
            for name in _CHAIN_ARRAYS:
                getattr(self, name)[begin:end] = getattr(part, name)
            begin = end

    def rows(self, begin: int, end: int) -> ChainArrays:
        """Return views of the chains from `begin` to `end`."""
        cut = slice(begin, end)
        steps = self.step_sizes
        return ChainArrays(
            self.theta[cut],
            self.sums[cut],
            self.flags[cut],
            self.diverged_at[cut],
            steps if steps.ndim == 1 else steps[cut],
            self.auxiliary[cut],
        )


_CHAIN_ARRAYS = ("theta", "sums", "flags", "diverged_at", "auxiliary")


@dataclass(frozen=True)
class SGDState:
    """What ``sgd.run(..., state=...)`` goes on from; bit for bit, as if it had never stopped.

    Attributes
    ----------
    arrays : ChainArrays
        Iterates, sums and flags; a run copies them and leaves these alone.
    step_sizes : ndarray, shape (J,) or (C, J), float64
        As given.
    kernel : str
        Which problem it belongs to.
    seed, chain_offset : int
        Key of the random numbers and index of the first chain.
    next_step : int
        Index of the next step in the stream of random numbers.
    burn_in_left : int
        Steps that are still to be made before averaging.
    num_averaged : int
        Iterates in the sums.
    rules : Rules
        Clipping, weight decay, projection and schedule.
    statistics_names : tuple of str
        What was asked for.
    batch_length : int or None
        Steps of one stored batch, where the user chose it.
    statistics : StatisticsArrays or None
        What the intervals are made of; None for the means only.
    curvature : float or None
        Strong convexity ``mu`` of the objective, where it was known.
    plug_in : tuple of (int, float) or None
        Rows in a minibatch and weight of the ridge, for the plug-in estimate.
    """

    arrays: ChainArrays
    step_sizes: npt.NDArray[np.float64]
    kernel: str
    seed: int
    chain_offset: int
    next_step: int
    burn_in_left: int
    num_averaged: int
    rules: Rules = NO_RULES
    statistics_names: tuple[str, ...] = ("mean",)
    batch_length: int | None = None
    statistics: StatisticsArrays | None = None
    curvature: float | None = None
    plug_in: tuple[int, float] | None = None


def check_state(function: str, state: SGDState) -> None:
    """Check what may have come from a file or gone through the user's hands."""
    for name in ("chain_offset", "next_step", "burn_in_left", "num_averaged"):
        validate.integer(function, f"state.{name}", getattr(state, name), low=0)
    validate.integer(function, "state.seed", state.seed, low=0, high=2**64 - 1)
    theta = state.arrays.theta
    shape = tuple(getattr(theta, "shape", ()))
    if len(shape) != 3:
        got = validate.describe(theta)
        validate.fail(ValueError, function, "state.arrays.theta", "have shape (C, J, d)", got)
    precision = validate.float_dtype(function, "state.arrays.theta.dtype", theta.dtype)
    steps = state.arrays.step_sizes
    per_chain = getattr(steps, "ndim", 1) == 2
    auxiliary = tuple(getattr(state.arrays.auxiliary, "shape", ()))
    expected: dict[str, tuple[tuple[int, ...], npt.DTypeLike]] = {
        "theta": (shape, precision),
        "sums": (shape, np.float64),
        "flags": (shape[:2], np.uint8),
        "diverged_at": (shape[:2], np.int64),
        "step_sizes": (shape[:2] if per_chain else shape[1:2], precision),
        "auxiliary": ((shape[0], *auxiliary[1:2]), precision),
    }
    for name, (lengths, dtype) in expected.items():
        value = getattr(state.arrays, name)
        if not hasattr(value, "dtype"):
            got = validate.describe(value)
            validate.fail(TypeError, function, f"state.arrays.{name}", "be an array", got)
        validate.array(
            function,
            f"state.arrays.{name}",
            value,
            shape=lengths,
            dtype=dtype,
            exact_dtype=True,
            positive=name == "step_sizes",
            empty=name == "auxiliary",
        )
    if state.batch_length is not None:
        validate.integer(function, "state.batch_length", state.batch_length, low=1)
    if state.curvature is not None:
        validate.real(function, "state.curvature", state.curvature, low=0.0)
    check_statistics(function, state.statistics, shape, state.num_averaged)
