"""Where a run stands: what the drivers advance and what a later run goes on from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Advance", "ChainArrays", "SGDState"]

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
