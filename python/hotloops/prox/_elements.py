"""Functions that are sums over elements."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from hotloops._runtime import validate
from hotloops._runtime.validate import fail
from hotloops.prox import _operations as op
from hotloops.prox._base import Call, ElementProx, Prox, copy, feasible, strength

__all__ = [
    "L1",
    "Box",
    "ElasticNet",
    "Hinge",
    "Huber",
    "Logistic",
    "NonNegative",
    "SquaredL2",
    "Zero",
]


class Zero(Prox):
    """The function zero, whose operator returns its argument.

    Examples
    --------
    >>> from hotloops import prox
    >>> prox.Zero()([1.0, -2.0])
    array([ 1., -2.])
    """

    _kernel_looks = True

    def _apply(self, call: Call) -> None:
        copy(call)

    def _value(self, v: Any, xp: Any) -> Any:
        return xp.zeros(v.shape[:-1])


class L1(ElementProx):
    """The l1 norm, ``strength * sum |x|``: soft thresholding.

    Parameters
    ----------
    strength : float or array_like of shape (n,)
        One weight, or one for each element of a row (the adaptive lasso); default 1.

    Notes
    -----
    ``sign(v) max(|v| - t strength, 0)``. Class A; one pass over memory.

    Examples
    --------
    >>> from hotloops import prox
    >>> prox.L1()([3.0, -1.0, 0.5, -0.2, 2.0], 0.6).round(6)
    array([ 2.4, -0.4,  0. ,  0. ,  1.4])
    """

    _names = _columns = ("strength",)
    _operation = op.SOFT

    def __init__(self, strength: Any = 1.0) -> None:
        self.strength = _strength("L1", "strength", strength)

    def _constants(self, t: Any) -> list[Any]:
        return [t * self.strength]

    def _value(self, v: Any, xp: Any) -> Any:
        return (xp.asarray(self.strength) * xp.abs(v)).sum(axis=-1)


class ElasticNet(ElementProx):
    """The elastic net, ``l1 sum |x| + l2 / 2 sum x^2``.

    Parameters
    ----------
    l1, l2 : float or array_like of shape (n,)
        Weights of the two parts.

    Notes
    -----
    ``soft(v, t l1) / (1 + t l2)``. Class A; one pass over memory.

    Examples
    --------
    >>> from hotloops import prox
    >>> prox.ElasticNet(1.0, 1.0)([3.0, -1.0, 0.5], 0.5).round(6)
    array([ 1.666667, -0.333333,  0.      ])
    """

    _names = _columns = ("l1", "l2")
    _operation = op.ELASTIC

    def __init__(self, l1: Any, l2: Any) -> None:
        self.l1 = _strength("ElasticNet", "l1", l1)
        self.l2 = _strength("ElasticNet", "l2", l2)
        if np.ndim(self.l1) == np.ndim(self.l2) == 1 and np.size(self.l1) != np.size(self.l2):
            got = str(np.shape(self.l2))
            fail(ValueError, "ElasticNet", "l2", f"have shape {np.shape(self.l1)} as `l1`", got)

    def _constants(self, t: Any) -> list[Any]:
        return [t * self.l1, 1.0 + t * self.l2]

    def _value(self, v: Any, xp: Any) -> Any:
        terms = xp.asarray(self.l1) * xp.abs(v) + 0.5 * xp.asarray(self.l2) * v * v
        return terms.sum(axis=-1)


class SquaredL2(ElementProx):
    """The squared Euclidean norm, ``strength / 2 sum x^2``.

    Parameters
    ----------
    strength : float or array_like of shape (n,)
        Default 1.

    Notes
    -----
    ``v / (1 + t strength)``. Class A; one pass over memory.

    Examples
    --------
    >>> from hotloops import prox
    >>> prox.SquaredL2(2.0)([3.0, -1.0], 0.5)
    array([ 1.5, -0.5])
    """

    _names = _columns = ("strength",)
    _operation = op.SCALE

    def __init__(self, strength: Any = 1.0) -> None:
        self.strength = _strength("SquaredL2", "strength", strength)

    def _constants(self, t: Any) -> list[Any]:
        return [1.0 + t * self.strength]

    def _value(self, v: Any, xp: Any) -> Any:
        return 0.5 * (xp.asarray(self.strength) * v * v).sum(axis=-1)


class Box(ElementProx):
    """The constraint ``low <= x <= high``.

    Parameters
    ----------
    low, high : float or array_like of shape (n,)
        Bounds; infinities leave a side open. ``Box(-r, r)`` is the ball of the maximum norm.

    Notes
    -----
    Class A; one pass over memory. `step` has no influence.

    Examples
    --------
    >>> from hotloops import prox
    >>> prox.Box(0.0, 1.0)([3.0, -1.0, 0.5])
    array([1. , 0. , 0.5])
    """

    _names: ClassVar[tuple[str, ...]] = ("low", "high")
    _columns = ("low", "high")
    _operation = op.CLIP

    def __init__(self, low: Any, high: Any) -> None:
        name = type(self).__name__
        self.low = _bound(name, "low", low)
        self.high = _bound(name, "high", high)
        if np.ndim(self.low) == np.ndim(self.high) == 1 and np.size(self.low) != np.size(self.high):
            got = str(np.shape(self.high))
            fail(ValueError, name, "high", f"have shape {np.shape(self.low)} as `low`", got)
        if not (np.asarray(self.low) <= self.high).all():
            fail(ValueError, name, "high", "not be below `low`", f"{self.high} and {self.low}")

    def _constants(self, t: Any) -> list[Any]:
        return [self.low + 0.0 * t, self.high + 0.0 * t]

    def _value(self, v: Any, xp: Any) -> Any:
        low, high = xp.asarray(self.low), xp.asarray(self.high)
        violation = xp.maximum(xp.maximum(low - v, v - high).max(axis=-1, initial=0.0), 0.0)
        return feasible(violation, xp.abs(v).max(axis=-1, initial=0.0), "float64", xp)


class NonNegative(Box):
    """The constraint ``x >= 0``.

    Notes
    -----
    ``max(v, 0)``. Class A; one pass over memory.

    Examples
    --------
    >>> from hotloops import prox
    >>> prox.NonNegative()([3.0, -1.0])
    array([3., 0.])
    """

    _names = ()

    def __init__(self) -> None:
        super().__init__(0.0, np.inf)


class Huber(ElementProx):
    """Huber's function, ``strength sum h(x)`` with ``h = x^2 / 2`` up to `delta`, linear beyond.

    Parameters
    ----------
    delta : float
        Where the parabola ends; default 1.
    strength : float
        Default 1.

    Notes
    -----
    Class A; one pass over memory.

    Examples
    --------
    >>> from hotloops import prox
    >>> prox.Huber()([3.0, -1.0, 0.5, -0.2, 2.0], 0.6)
    array([ 2.4   , -0.625 ,  0.3125, -0.125 ,  1.4   ])
    """

    _names = ("delta", "strength")
    _operation = op.HUBER

    def __init__(self, delta: float = 1.0, strength: float = 1.0) -> None:
        self.delta = validate.real("Huber", "delta", delta, low=0.0, open_low=True)
        self.strength = validate.real("Huber", "strength", strength, low=0.0)

    def _constants(self, t: Any) -> list[Any]:
        k = t * self.strength
        return [k * self.delta, 1.0 + k, self.delta * (1.0 + k)]

    def _value(self, v: Any, xp: Any) -> Any:
        a = xp.abs(v)
        linear = self.delta * (a - 0.5 * self.delta)
        return self.strength * xp.where(a <= self.delta, 0.5 * v * v, linear).sum(axis=-1)


class Hinge(ElementProx):
    """The hinge loss, ``strength sum max(0, 1 - x)``.

    Parameters
    ----------
    strength : float
        Default 1.

    Notes
    -----
    Class A; one pass over memory.

    Examples
    --------
    >>> from hotloops import prox
    >>> prox.Hinge()([3.0, -1.0, 0.5], 0.6)
    array([ 3. , -0.4,  1. ])
    """

    _names = ("strength",)
    _operation = op.HINGE

    def __init__(self, strength: float = 1.0) -> None:
        self.strength = validate.real("Hinge", "strength", strength, low=0.0)

    def _constants(self, t: Any) -> list[Any]:
        return [t * self.strength]

    def _value(self, v: Any, xp: Any) -> Any:
        return self.strength * xp.maximum(0.0, 1.0 - v).sum(axis=-1)


class Logistic(ElementProx):
    """The logistic loss, ``strength sum log(1 + exp(-x))``.

    Parameters
    ----------
    strength : float
        Default 1.

    Notes
    -----
    Newton's method, kept inside a bracket by bisection, to the last bits: 3 to 8 steps for moderate
    `step`. Class A.

    Examples
    --------
    >>> from hotloops import prox
    >>> prox.Logistic()([0.0, -3.0], 1.0).round(6)
    array([ 0.401058, -2.108293])
    """

    _names = ("strength",)
    _operation = op.LOGISTIC

    def __init__(self, strength: float = 1.0) -> None:
        self.strength = validate.real("Logistic", "strength", strength, low=0.0)

    def _constants(self, t: Any) -> list[Any]:
        return [t * self.strength]

    def _value(self, v: Any, xp: Any) -> Any:
        softplus = xp.maximum(-v, 0.0) + xp.log1p(xp.exp(-xp.abs(v)))
        return self.strength * softplus.sum(axis=-1)


_strength = strength  # the parameters of that name would hide it


def _bound(function: str, argument: str, value: Any) -> Any:
    """Check a bound, which may be infinite."""
    if np.ndim(value) == 0 and isinstance(value, int | float) and np.isinf(value):
        return float(value)
    if np.ndim(value) == 0:
        return validate.real(function, argument, value)
    array = validate.array(
        function, argument, value, ndim=1, dtype=np.float64, finite=False, copy=True
    )
    if np.isnan(array).any():
        index = int(np.isnan(array).argmax())
        fail(ValueError, function, argument, "hold no NaN", f"nan at index {index}")
    array.setflags(write=False)
    return array
