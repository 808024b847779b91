"""Step sizes and temperatures that change from step to step."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops._runtime import validate
from hotloops.simplex._objective import Float64, host_array

__all__ = [
    "GeometricCooling",
    "LinearCooling",
    "LogarithmicCooling",
    "PolynomialDecay",
    "Schedule",
    "as_schedule",
]


class Schedule(ABC):
    """A factor for each step, counted from 0 at the start of the chains."""

    @abstractmethod
    def factor(self, k: int) -> float:
        """Return the factor of step `k`."""

    def factors(self, first: int, count: int) -> Float64:
        """Return the factors of `count` steps, computed one by one in float64."""
        return np.array([self.factor(k) for k in range(first, first + count)], np.float64)


@dataclass(frozen=True)
class PolynomialDecay(Schedule):
    """Step sizes ``step_size (k + 1) ** -exponent``, for ``schedule=``.

    Parameters
    ----------
    exponent : float
        From 0 to 1.

    Raises
    ------
    TypeError, ValueError
        An exponent out of range.

    Examples
    --------
    >>> from hotloops import simplex
    >>> simplex.PolynomialDecay(0.5).factor(3)
    0.5
    """

    exponent: float

    def __post_init__(self) -> None:
        validate.real("PolynomialDecay", "exponent", self.exponent, low=0.0, high=1.0)

    def factor(self, k: int) -> float:
        """Return the factor of step `k`."""
        return math.pow(k + 1.0, -self.exponent)


@dataclass(frozen=True)
class LogarithmicCooling(Schedule):
    """Inverse temperatures ``inverse_temperature log(k + e)``, for ``temperature_schedule=``."""

    def factor(self, k: int) -> float:
        """Return the factor of step `k`."""
        return math.log(k + math.e)


@dataclass(frozen=True)
class LinearCooling(Schedule):
    """Inverse temperatures ``inverse_temperature (1 + rate k)``, for ``temperature_schedule=``.

    Parameters
    ----------
    rate : float
        Growth in each step, not negative.

    Raises
    ------
    TypeError, ValueError
        A rate out of range.

    Examples
    --------
    >>> from hotloops import simplex
    >>> simplex.LinearCooling(0.5).factor(4)
    3.0
    """

    rate: float

    def __post_init__(self) -> None:
        validate.real("LinearCooling", "rate", self.rate, low=0.0)

    def factor(self, k: int) -> float:
        """Return the factor of step `k`."""
        return 1.0 + self.rate * k


@dataclass(frozen=True)
class GeometricCooling(Schedule):
    """Inverse temperatures ``inverse_temperature min(ratio ** k, cap)``.

    For ``temperature_schedule=``.

    Parameters
    ----------
    ratio : float
        Growth in each step, at least 1.
    cap : float
        Where the growth ends, at least 1. Default 1e6.

    Raises
    ------
    TypeError, ValueError
        A ratio or a cap out of range.

    Examples
    --------
    >>> from hotloops import simplex
    >>> cooling = simplex.GeometricCooling(2.0, cap=100.0)
    >>> cooling.factor(3), cooling.factor(50)
    (8.0, 100.0)
    """

    ratio: float
    cap: float = 1e6

    def __post_init__(self) -> None:
        validate.real("GeometricCooling", "ratio", self.ratio, low=1.0)
        validate.real("GeometricCooling", "cap", self.cap, low=1.0)

    def factor(self, k: int) -> float:
        """Return the factor of step `k`."""
        if self.ratio == 1.0:
            return 1.0
        longest = math.log(self.cap) / math.log(self.ratio)
        return math.pow(self.ratio, k) if k < longest else self.cap


@dataclass(frozen=True)
class _Listed(Schedule):
    """Factors that the user listed; the last one holds from then on."""

    values: npt.NDArray[np.float64]

    def factor(self, k: int) -> float:
        return float(self.values[min(k, self.values.size - 1)])

    def factors(self, first: int, count: int) -> Float64:
        places = np.minimum(np.arange(first, first + count), self.values.size - 1)
        return np.asarray(self.values[places])


def as_schedule(function: str, argument: str, value: Any) -> Schedule | None:
    """Return a schedule from what the user gave: None, a schedule, or factors."""
    if value is None or isinstance(value, Schedule):
        return value
    listed, _ = host_array(
        function, argument, value, shape=("k",), dtype=np.float64, positive=True, copy=True
    )
    return _Listed(listed)
