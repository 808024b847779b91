"""Penalties that are sums over elements and not convex."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from hotloops._runtime import validate
from hotloops.prox import _operations as op
from hotloops.prox._base import ElementProx

__all__ = ["L0", "MCP", "SCAD", "CappedL1", "LogSum"]


class _Firm(ElementProx):
    """Thresholding in up to three pieces: soft, a line, nothing."""

    convex: ClassVar[bool] = False
    _operation = op.FIRM

    @staticmethod
    def _pieces(soft: Any, end: Any) -> list[Any]:
        """Soft thresholding up to `end`, nothing beyond."""
        return [soft, end, end, 1.0 + 0.0 * end, 0.0 * end, 1.0 + 0.0 * end]


class L0(_Firm):
    """The number of nonzeros, ``strength * #{x != 0}``: hard thresholding.

    Parameters
    ----------
    strength : float
        Default 1.

    Notes
    -----
    Not convex. Keeps ``|v| > sqrt(2 t strength)``. Class A; one pass over memory.

    Examples
    --------
    >>> from hotloops import prox
    >>> prox.L0()([3.0, -1.0, 0.5, -0.2, 2.0], 0.6)
    array([3., 0., 0., 0., 2.])
    """

    _names = ("strength",)

    def __init__(self, strength: float = 1.0) -> None:
        self.strength = validate.real("L0", "strength", strength, low=0.0)

    def _constants(self, t: Any) -> list[Any]:
        end = np.sqrt(2.0 * t * self.strength)
        return self._pieces(np.inf + 0.0 * end, end)

    def _value(self, v: Any, xp: Any) -> Any:
        return self.strength * (v != 0).sum(axis=-1).astype(np.float64)


class MCP(_Firm):
    """The minimax concave penalty (Zhang, Ann. Statist. 38, 2010).

    ``strength |x| - x^2 / (2 gamma)`` up to ``gamma strength``, constant beyond, summed.

    Parameters
    ----------
    strength : float
        Default 1.
    gamma : float
        Above zero; default 3. Small values are close to `L0`, large ones to `L1`.

    Notes
    -----
    Not convex. Exact for every `step`; from ``step >= gamma`` on the answer is zero or `v`. Class
    A; one pass over memory.

    Examples
    --------
    >>> from hotloops import prox
    >>> prox.MCP(1.0, 2.0)([3.0, -1.5, 0.5])
    array([ 3., -1.,  0.])
    """

    _names = ("strength", "gamma")

    def __init__(self, strength: float = 1.0, gamma: float = 3.0) -> None:
        self.strength = validate.real("MCP", "strength", strength, low=0.0)
        self.gamma = validate.real("MCP", "gamma", gamma, low=0.0, open_low=True)

    def _constants(self, t: Any) -> list[Any]:
        weight, gamma = self.strength, self.gamma
        curved = t < gamma
        end = np.where(curved, gamma, np.sqrt(t * gamma)) * weight
        first = np.where(curved, t * weight, end)
        slope = np.where(curved, 1.0 - t / gamma, 1.0)
        return [np.where(curved, first, np.inf), first, end, 1.0 + 0.0 * t, t * weight, slope]

    def _value(self, v: Any, xp: Any) -> Any:
        a = xp.minimum(xp.abs(v), self.gamma * self.strength)
        return (self.strength * a - a * a / (2.0 * self.gamma)).sum(axis=-1)


class SCAD(_Firm):
    """The smoothly clipped absolute deviation (Fan and Li, JASA 96, 2001).

    Parameters
    ----------
    strength : float
        Default 1.
    a : float
        Above 2; where the penalty becomes constant, in units of `strength`. Default 3.7, as in the
        paper.

    Notes
    -----
    Not convex. Exact for every `step`. Class A; one pass over memory.

    Examples
    --------
    >>> from hotloops import prox
    >>> prox.SCAD(1.0, 3.0)([4.0, -2.5, 1.5])
    array([ 4. , -2. ,  0.5])
    """

    _names = ("strength", "a")

    def __init__(self, strength: float = 1.0, a: float = 3.7) -> None:
        self.strength = validate.real("SCAD", "strength", strength, low=0.0)
        self.a = validate.real("SCAD", "a", a, low=2.0, open_low=True)

    def _constants(self, t: Any) -> list[Any]:
        weight, a = self.strength, self.a
        curved = t < a - 1.0
        # Without the middle piece the objective jumps from the soft-thresholded point to v.
        jump = np.where(t <= a + 1.0, 0.5 * (a + 1.0 + t), np.sqrt(t * (a + 1.0)))
        first = np.where(curved, 1.0 + t, jump) * weight
        end = np.where(curved, a, jump) * weight
        p = np.where(curved, a - 1.0, 1.0)
        slope = np.where(curved, a - 1.0 - t, 1.0)
        return [t * weight, first, end, p, a * t * weight, slope]

    def _value(self, v: Any, xp: Any) -> Any:
        weight, a, size = self.strength, self.a, xp.abs(v)
        middle = (2.0 * a * weight * size - size * size - weight * weight) / (2.0 * (a - 1.0))
        beyond = 0.5 * weight * weight * (a + 1.0)
        inner = xp.where(size <= a * weight, middle, beyond)
        return xp.where(size <= weight, weight * size, inner).sum(axis=-1)


class CappedL1(_Firm):
    """The capped l1 norm, ``strength sum min(|x|, theta)``.

    Parameters
    ----------
    strength : float
        Default 1.
    theta : float
        Above zero: beyond it, coefficients are not shrunk. Default 1.

    Notes
    -----
    Not convex. Exact for every `step`. Class A; one pass over memory.

    Examples
    --------
    >>> from hotloops import prox
    >>> prox.CappedL1(1.0, 1.0)([2.0, -1.0, 0.3], 0.5)
    array([ 2. , -0.5,  0. ])
    """

    _names = ("strength", "theta")

    def __init__(self, strength: float = 1.0, theta: float = 1.0) -> None:
        self.strength = validate.real("CappedL1", "strength", strength, low=0.0)
        self.theta = validate.real("CappedL1", "theta", theta, low=0.0, open_low=True)

    def _constants(self, t: Any) -> list[Any]:
        k = t * self.strength
        theta = self.theta
        end = np.where(k <= 2.0 * theta, theta + 0.5 * k, np.sqrt(2.0 * k * theta))
        return self._pieces(k, end)

    def _value(self, v: Any, xp: Any) -> Any:
        return self.strength * xp.minimum(xp.abs(v), self.theta).sum(axis=-1)


class LogSum(ElementProx):
    """The log-sum penalty, ``strength sum log(1 + |x| / epsilon)`` (Candes, Wakin, Boyd, 2008).

    Parameters
    ----------
    strength : float
        Default 1.
    epsilon : float
        Above zero; default 1.

    Notes
    -----
    Not convex: of the two stationary points the one with the lower objective. Class A.

    Examples
    --------
    >>> from hotloops import prox
    >>> prox.LogSum(1.0, 0.1)([3.0, -1.0], 0.6).round(6)
    array([2.792572, 0.      ])
    """

    convex: ClassVar[bool] = False
    _names = ("strength", "epsilon")
    _operation = op.LOG_SUM

    def __init__(self, strength: float = 1.0, epsilon: float = 1.0) -> None:
        self.strength = validate.real("LogSum", "strength", strength, low=0.0)
        self.epsilon = validate.real("LogSum", "epsilon", epsilon, low=0.0, open_low=True)

    def _constants(self, t: Any) -> list[Any]:
        k = t * self.strength
        return [k, self.epsilon + 0.0 * t, 2.0 * np.sqrt(k)]

    def _value(self, v: Any, xp: Any) -> Any:
        return self.strength * xp.log1p(xp.abs(v) / self.epsilon).sum(axis=-1)
