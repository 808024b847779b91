"""The numbers of an optimizer, and what an update changes, as the kernels take them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from hotloops._runtime import validate
from hotloops._runtime.validate import describe, fail

__all__ = ["Rule", "State", "ema_decay", "power"]


@dataclass(frozen=True)
class Rule:
    """The numbers of an optimizer, as the kernels take them.

    Attributes
    ----------
    decoupled : bool
        Whether the decay shrinks the parameters (AdamW) or is added to the gradient (Adam).
    beta1, beta2, eps, weight_decay : float
    clip_norm, ema_decay : float
        0 for none.
    no_decay : tuple of (int, int)
        Ascending and disjoint ranges of parameters that don't decay.
    """

    decoupled: bool
    beta1: float
    beta2: float
    eps: float
    weight_decay: float
    clip_norm: float = 0.0
    ema_decay: float = 0.0
    no_decay: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, eq=False)
class State:
    """What an update changes in place.

    Attributes
    ----------
    parameters, first_moment, second_moment : ndarray, shape (n,)
    average : ndarray, shape (n,), or (0,) where none is kept
    """

    parameters: npt.NDArray[Any]
    first_moment: npt.NDArray[Any]
    second_moment: npt.NDArray[Any]
    average: npt.NDArray[Any]


def power(base: float, exponent: int) -> float:
    """Return base^exponent by repeated squaring, the same bits on each platform."""
    result = 1.0
    while exponent > 0:
        if exponent & 1:
            result *= base
        base *= base
        exponent >>= 1
    return result


def ema_decay(function: str, argument: str, value: Any) -> float:
    """Check the decay of a moving average."""
    decay = validate.real(function, argument, value, low=0.0, open_low=True)
    if decay >= 1.0:
        fail(ValueError, function, argument, "be a number in (0, 1)", describe(value))
    return decay
