"""Where a run stands: what the drivers advance and what a later run goes on from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops._runtime import validate

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
    step_sizes : array, shape (J,)
        In the precision of `theta`.
    """

    theta: Any
    sums: Any
    flags: Any
    diverged_at: Any
    step_sizes: Any

    def copy(self) -> ChainArrays:
        """Return arrays of the same values in memory of their own."""
        return ChainArrays(
            self.theta.copy(),
            self.sums.copy(),
            self.flags.copy(),
            self.diverged_at.copy(),
            self.step_sizes,
        )

    def replace(self, parts: list[ChainArrays]) -> None:
        """Take over the values of consecutive parts."""
        begin = 0
        for part in parts:
            end = begin + part.theta.shape[0]
            for name in ("theta", "sums", "flags", "diverged_at"):
                getattr(self, name)[begin:end] = getattr(part, name)
            begin = end

    def rows(self, begin: int, end: int) -> ChainArrays:
        """Return views of the chains from `begin` to `end`."""
        cut = slice(begin, end)
        return ChainArrays(
            self.theta[cut], self.sums[cut], self.flags[cut], self.diverged_at[cut], self.step_sizes
        )


@dataclass(frozen=True)
class SGDState:
    """What ``sgd.run(..., state=...)`` goes on from; bit for bit, as if it had never stopped.

    Attributes
    ----------
    arrays : ChainArrays
        Iterates, sums and flags; a run copies them and leaves these alone.
    step_sizes : ndarray, shape (J,), float64
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
    """

    arrays: ChainArrays
    step_sizes: npt.NDArray[np.float64]
    kernel: str
    seed: int
    chain_offset: int
    next_step: int
    burn_in_left: int
    num_averaged: int


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
    expected: dict[str, tuple[tuple[int, ...], npt.DTypeLike]] = {
        "theta": (shape, precision),
        "sums": (shape, np.float64),
        "flags": (shape[:2], np.uint8),
        "diverged_at": (shape[:2], np.int64),
        "step_sizes": (shape[1:2], precision),
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
        )
