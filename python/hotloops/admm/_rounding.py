"""Duals and second moments in bfloat16: which random bits they are rounded with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hotloops._runtime import validate

__all__ = ["Rounding", "make_rounding"]


@dataclass(frozen=True)
class Rounding:
    """What the kernels take: see ``RoundedState`` in ``csrc/admm/step_rounding.hpp``.

    Attributes
    ----------
    rows : ndarray of uint64, shape (tensors * clients of the call,)
        Rows of random words.
    seed, step : int
    """

    rows: npt.NDArray[np.uint64]
    seed: int
    step: int


def make_rounding(
    function: str, seed: int, step: int, tensors: int, clients: range, num_clients: int
) -> Rounding:
    """Return the rounding of some of all clients, whose row is tensor * num_clients + client."""
    key = validate.integer(function, "seed", seed, low=0, high=2**64 - 1)
    first = np.arange(tensors, dtype=np.uint64)[:, None] * np.uint64(num_clients)
    rows = first + np.arange(clients.start, clients.stop, dtype=np.uint64)
    return Rounding(rows.ravel(), key, step)
