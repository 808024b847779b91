"""How the penalties sigma and rho change from round to round."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hotloops._runtime import validate

__all__ = ["Balancing", "Geometric", "LearningRate", "Power", "Schedule", "as_schedule"]

_FEWEST_STEPS = 30.0
_LARGEST_GROWTH = 2.0**60  # steps that much shorter move nothing any more


@dataclass(frozen=True)
class Schedule:
    """Factors of sigma and rho; this one changes nothing."""

    def factors(self, round_: int) -> tuple[float, float]:
        """Return what sigma and rho are multiplied by in a round, 0, 1, ..."""
        return 1.0, 1.0

    def full_steps(self) -> float:
        """Return how many steps of the first length all steps together are worth."""
        return float("inf")


@dataclass(frozen=True)
class Geometric(Schedule):
    """Let sigma grow by ``1 / gamma`` each so many rounds.

    The sum of all step lengths is then finite, so that the iterates come to rest whether they have
    reached a minimiser or not: with ``gamma = 0.75`` after a path of four first steps. `solve`
    warns when it is shorter than thirty.

    Parameters
    ----------
    gamma : float
        In (0, 1]. The paper recommends [3/4, 1).
    every : int
        Rounds between two changes; the first is made before the local steps of round 0, as in the
        paper. Default 1.

    Examples
    --------
    >>> from hotloops import admm
    >>> admm.Geometric(0.5).factors(2)
    (8.0, 1.0)
    """

    gamma: float = 0.997
    every: int = 1

    def __post_init__(self) -> None:
        validate.real("Geometric", "gamma", self.gamma, low=0.0, high=1.0, open_low=True)
        validate.integer("Geometric", "every", self.every, low=1)

    def factors(self, round_: int) -> tuple[float, float]:
        changes = round_ // self.every + 1
        if -changes * math.log(self.gamma) > math.log(_LARGEST_GROWTH):
            return _LARGEST_GROWTH, 1.0
        return float(self.gamma) ** -changes, 1.0

    def full_steps(self) -> float:
        return float("inf") if self.gamma == 1.0 else self.every / (1.0 - self.gamma)


@dataclass(frozen=True)
class Power(Schedule):
    """Let sigma grow like ``(1 + l)^exponent``.

    Parameters
    ----------
    exponent : float
        In [0, 1]: up to there the sum of all step lengths diverges. Default 0.5.

    Examples
    --------
    >>> from hotloops import admm
    >>> admm.Power(0.5).factors(3)
    (2.0, 1.0)
    """

    exponent: float = 0.5

    def __post_init__(self) -> None:
        validate.real("Power", "exponent", self.exponent, low=0.0, high=1.0)

    def factors(self, round_: int) -> tuple[float, float]:
        return (1.0 + round_) ** float(self.exponent), 1.0


@dataclass(frozen=True)
class LearningRate(Schedule):
    """The view of deep learning: ``1 / (sigma + rho)`` follows a learning rate.

    With ``lr_0 = 1 / (sigma + rho)``, sigma becomes ``(lr_0 / lr_l) sigma`` and rho
    ``1 / lr_l - sigma_l``: both are divided by ``lr_l / lr_0``.

    Parameters
    ----------
    rate : callable or array_like
        ``rate(l)`` for round l, positive, or an array of them whose last holds from then on. Only
        the ratio to ``rate(0)`` counts.

    Examples
    --------
    >>> from hotloops import admm
    >>> admm.LearningRate([1.0, 0.5]).factors(7)
    (2.0, 2.0)
    """

    rate: Callable[[int], float] | Any

    def __post_init__(self) -> None:
        if not callable(self.rate):
            rates = validate.array("LearningRate", "rate", self.rate, ndim=1, positive=True)
            object.__setattr__(self, "rate", rates)

    def _rate(self, round_: int) -> float:
        if not callable(self.rate):
            return float(self.rate[min(round_, self.rate.size - 1)])
        return validate.real("LearningRate", "rate", self.rate(round_), low=0.0, open_low=True)

    def factors(self, round_: int) -> tuple[float, float]:
        factor = self._rate(0) / self._rate(round_)
        return factor, factor


@dataclass(frozen=True)
class Balancing(Schedule):
    """Residual balancing: sigma follows the two residuals.

    It is multiplied by `factor` when the primal residual is more than `ratio` times the dual one,
    and divided by it in the opposite case (S. Boyd et al., "Distributed Optimization and
    Statistical Learning via ADMM", 2011, section 3.4.1). The duals are unscaled and stay.

    Parameters
    ----------
    ratio, factor : float
        Above 1. Defaults 10 and 2.
    every : int
        Rounds between two looks. Default 10.
    lowest : float
        Sigma never falls below this multiple of its start, since for gradient steps ``1 / sigma``
        is also the step length. Default 1; with ``local="exact"`` any small number will do.

    Examples
    --------
    >>> from hotloops import admm
    >>> admm.Balancing().change(primal=20.0, dual=1.0)
    2.0
    """

    ratio: float = 10.0
    factor: float = 2.0
    every: int = 10
    lowest: float = 1.0

    def __post_init__(self) -> None:
        validate.real("Balancing", "ratio", self.ratio, low=1.0, open_low=True)
        validate.real("Balancing", "factor", self.factor, low=1.0, open_low=True)
        validate.integer("Balancing", "every", self.every, low=1)
        validate.real("Balancing", "lowest", self.lowest, low=0.0, open_low=True)

    def change(self, primal: float, dual: float) -> float:
        """Return the factor of sigma that two residuals ask for."""
        if primal > self.ratio * dual:
            return float(self.factor)
        return 1.0 / self.factor if dual > self.ratio * primal else 1.0


def as_schedule(function: str, schedule: Any) -> tuple[Schedule, str | None]:
    """Return the schedule, and a warning when its path is short."""
    if schedule is None or (isinstance(schedule, str) and schedule == "constant"):
        return Schedule(), None
    if not isinstance(schedule, Schedule):
        expectation = "be None or a schedule such as admm.Power(0.5)"
        validate.fail(TypeError, function, "schedule", expectation, validate.describe(schedule))
    steps = schedule.full_steps()
    if steps >= _FEWEST_STEPS or not np.isfinite(steps):
        return schedule, None
    return schedule, (
        f"{function}: with this geometric schedule all steps together are worth only {steps:.3g} "
        "steps of the first length, so that the iterates freeze short of the minimiser; take gamma "
        "closer to 1, or a constant sigma"
    )
