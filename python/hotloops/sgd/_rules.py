"""What may bend a step: clipping, weight decay, projections and step-size schedules."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hotloops._runtime import arrays, validate

__all__ = [
    "NO_RULES",
    "Ball",
    "Box",
    "PiecewiseConstant",
    "PolynomialDecay",
    "Projection",
    "Rules",
    "Schedule",
    "pack_rules",
    "unpack_rules",
]

Float64 = npt.NDArray[np.float64]

# exp_bounded holds for |x| <= 700, and log(2^49) < 34.
_MAX_EXPONENT = 10.0
_MAX_OFFSET = 2.0**48


@dataclass(frozen=True)
class PolynomialDecay:
    """Step sizes ``gamma (k + offset)^(-exponent)`` for k = 1, 2, ...

    Parameters
    ----------
    exponent : float
        In (0, 10]. 1/2 < exponent < 1 is the range of the classical theory of averaging.
    offset : float
        At least 0, the default. ``k`` counts from the first step of the burn-in, over all runs
        that go on from one another.

    Raises
    ------
    TypeError, ValueError
        Numbers out of range.

    Notes
    -----
    The factor is computed in float64 by the library's own functions (class A) and then rounded to
    the precision of the run. It is the same for all step sizes of a run, so that the weights of
    the extrapolation stay what they are.

    Examples
    --------
    >>> from hotloops import sgd
    >>> sgd.PolynomialDecay(0.5, offset=3.0).evaluate(1, 3).round(6)
    array([0.5     , 0.447214, 0.408248])
    """

    exponent: float
    offset: float = 0.0

    def __post_init__(self) -> None:
        exponent = validate.real(
            "PolynomialDecay", "exponent", self.exponent, low=0.0, high=_MAX_EXPONENT, open_low=True
        )
        offset = validate.real("PolynomialDecay", "offset", self.offset, low=0.0, high=_MAX_OFFSET)
        object.__setattr__(self, "exponent", exponent)
        object.__setattr__(self, "offset", offset)

    def evaluate(self, first: int, count: int) -> Float64:
        """Return what steps `first`, `first` + 1, ... are multiplied by, shape (count,)."""
        from hotloops._runtime._numba_math import exp_bounded, log_positive

        places = (first + np.arange(count, dtype=np.int64)).astype(np.float64) + self.offset
        values: Float64 = exp_bounded(-self.exponent * log_positive(places))
        return values

    @property
    def largest(self) -> float:
        """The largest factor."""
        return float(self.evaluate(1, 1)[0])


@dataclass(frozen=True)
class PiecewiseConstant:
    """Step sizes ``gamma factors[i]``, where i is the number of boundaries below k = 1, 2, ...

    Parameters
    ----------
    boundaries : array_like of int, shape (n,)
        Positive and increasing: the last step of every piece but the last.
    factors : array_like, shape (n + 1,)
        Positive.

    Raises
    ------
    TypeError, ValueError
        Wrong types, lengths, signs or order.

    Notes
    -----
    ``k`` counts from the first step of the burn-in, over all runs that go on from one another.

    Examples
    --------
    >>> from hotloops import sgd
    >>> sgd.PiecewiseConstant([2], [1.0, 0.5]).evaluate(1, 4)
    array([1. , 1. , 0.5, 0.5])
    """

    boundaries: tuple[int, ...]
    factors: tuple[float, ...]

    def __init__(self, boundaries: Any, factors: Any) -> None:
        name = "PiecewiseConstant"
        stops = validate.array(
            name,
            "boundaries",
            _on_host(name, "boundaries", boundaries),
            shape=("n",),
            dtype=np.int64,
            positive=True,
        )
        if np.any(np.diff(stops) <= 0):
            validate.fail(ValueError, name, "boundaries", "increase strictly", str(stops.tolist()))
        values = validate.array(
            name,
            "factors",
            _on_host(name, "factors", factors),
            ndim=1,
            dtype=np.float64,
            positive=True,
        )
        if values.size != stops.size + 1:
            expectation = f"have shape (n + 1,) with n = {stops.size} as in `boundaries`"
            validate.fail(ValueError, name, "factors", expectation, str(values.shape))
        object.__setattr__(self, "boundaries", tuple(stops.tolist()))
        object.__setattr__(self, "factors", tuple(values.tolist()))

    def __repr__(self) -> str:
        return f"PiecewiseConstant({list(self.boundaries)}, {list(self.factors)})"

    def evaluate(self, first: int, count: int) -> Float64:
        """Return what steps `first`, `first` + 1, ... are multiplied by, shape (count,)."""
        places = first + np.arange(count, dtype=np.int64)
        return np.array(self.factors)[np.searchsorted(np.array(self.boundaries), places)]

    @property
    def largest(self) -> float:
        """The largest factor."""
        return max(self.factors)


@dataclass(frozen=True, eq=False)
class Box:
    """Coordinates are kept within bounds after every step.

    Parameters
    ----------
    low, high : float or array_like, shape (d,)
        Numbers stand for all coordinates; infinities leave a side open.

    Raises
    ------
    TypeError, ValueError
        Bounds of the wrong type or shape, NaN, or `low` above `high`.

    Examples
    --------
    >>> from hotloops import sgd
    >>> sgd.Box(0.0, float("inf"))
    Box(low=0.0, high=inf)
    """

    low: Any
    high: Any

    def __post_init__(self) -> None:
        for name in ("low", "high"):
            bound = _numbers("Box", name, getattr(self, name), finite=False)
            if np.isnan(bound).any():
                validate.fail(ValueError, "Box", name, "not hold NaN", "NaN")
            object.__setattr__(self, name, bound)
        if self.low.ndim and self.high.ndim and self.low.shape != self.high.shape:
            expectation = f"have shape {self.low.shape} as `low`"
            validate.fail(ValueError, "Box", "high", expectation, str(self.high.shape))
        if (
            (self.low > self.high).any()
            or (self.low == np.inf).any()
            or (self.high == -np.inf).any()
        ):
            got = f"low = {self.low.tolist()}, high = {self.high.tolist()}"
            validate.fail(ValueError, "Box", "low", "stay below `high`", got)

    def __repr__(self) -> str:
        return f"Box(low={self.low.tolist()}, high={self.high.tolist()})"

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Box) and _same(self.low, other.low) and _same(self.high, other.high)
        )

    def __hash__(self) -> int:
        return hash((self.low.tobytes(), self.high.tobytes()))

    def place(self, dim: int, dtype: np.dtype[Any], xp: Any) -> tuple[Any, Any]:
        """Return low and high, each (dim,) in the precision of a run and as arrays of `xp`."""
        with np.errstate(over="ignore"):
            return _spread(self.low, dim, dtype, xp), _spread(self.high, dim, dtype, xp)


@dataclass(frozen=True, eq=False)
class Ball:
    """Iterates are pulled back onto a Euclidean ball after every step that leaves it.

    Parameters
    ----------
    radius : float
        Positive.
    center : float or array_like, shape (d,), optional
        Default: zero.

    Raises
    ------
    TypeError, ValueError
        A radius that is not positive, a centre of the wrong type or shape or with NaN.

    Examples
    --------
    >>> from hotloops import sgd
    >>> sgd.Ball(2.0)
    Ball(radius=2.0, center=0.0)
    """

    radius: float
    center: Any = None

    def __post_init__(self) -> None:
        radius = validate.real("Ball", "radius", self.radius, low=0.0, open_low=True)
        center = 0.0 if self.center is None else self.center
        object.__setattr__(self, "radius", radius)
        object.__setattr__(self, "center", _numbers("Ball", "center", center, finite=True))

    def __repr__(self) -> str:
        return f"Ball(radius={self.radius}, center={self.center.tolist()})"

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Ball)
            and self.radius == other.radius
            and _same(self.center, other.center)
        )

    def __hash__(self) -> int:
        return hash((self.radius, self.center.tobytes()))

    def place(self, dim: int, dtype: np.dtype[Any], xp: Any) -> tuple[Any, Any]:
        """Return the radius and the centre (dim,), in the precision of a run."""
        return dtype.type(self.radius), _spread(self.center, dim, dtype, xp)


Projection: TypeAlias = "Box | Ball"
Schedule: TypeAlias = "PolynomialDecay | PiecewiseConstant"


@dataclass(frozen=True)
class Rules:
    """What a driver does to every step besides the gradient.

    Attributes
    ----------
    clip_norm : float
        Longest gradient; infinity for any.
    weight_decay : float
        Added to the gradient, times the iterate; 0 for none.
    projection : Box, Ball or None
    schedule : PolynomialDecay, PiecewiseConstant or None
    origin : int
        Index of the first step that these chains ever made; a schedule counts from there.
    """

    clip_norm: float = math.inf
    weight_decay: float = 0.0
    projection: Projection | None = None
    schedule: Schedule | None = None
    origin: int = 0

    @property
    def trivial(self) -> bool:
        """Whether steps are as the gradient says."""
        return (
            self.clip_norm == math.inf
            and self.weight_decay == 0
            and self.projection is None
            and self.schedule is None
        )


NO_RULES = Rules()


def _on_host(function: str, argument: str, value: Any) -> Any:
    native, _ = arrays.import_array(function, argument, value)
    return native.get() if hasattr(native, "get") else native


def _numbers(function: str, argument: str, value: Any, *, finite: bool) -> Float64:
    """Return a float64 scalar or vector."""
    host = _on_host(function, argument, value)
    checked: Float64 = validate.array(
        function, argument, host, ndim=(0, 1), dtype=np.float64, finite=finite, copy=True
    )
    checked.flags.writeable = False
    return checked


def _spread(values: Float64, dim: int, dtype: np.dtype[Any], xp: Any) -> Any:
    # A copy, since what users gave is kept read-only, for which Numba would compile once more.
    return xp.asarray(np.array(np.broadcast_to(values, (dim,)), dtype=dtype, order="C"))


def _same(one: Float64, other: Float64) -> bool:
    return one.shape == other.shape and bool((one == other).all())


def pack_rules(rules: Rules) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """Return what a file keeps of the rules: a part of its header, and arrays."""
    kept: dict[str, Any] = {
        "clip_norm": None if rules.clip_norm == math.inf else rules.clip_norm,
        "weight_decay": rules.weight_decay,
        "origin": rules.origin,
    }
    stored: dict[str, npt.NDArray[Any]] = {}
    if isinstance(rules.schedule, PolynomialDecay):
        kept["polynomial_decay"] = [rules.schedule.exponent, rules.schedule.offset]
    elif isinstance(rules.schedule, PiecewiseConstant):
        kept["piecewise_constant"] = [list(rules.schedule.boundaries), list(rules.schedule.factors)]
    if isinstance(rules.projection, Box):
        stored = {"box_low": rules.projection.low, "box_high": rules.projection.high}
    elif isinstance(rules.projection, Ball):
        kept["ball_radius"] = rules.projection.radius
        stored = {"ball_center": rules.projection.center}
    return {"rules": kept}, stored


def unpack_rules(header: dict[str, Any], stored: dict[str, npt.NDArray[Any]]) -> Rules:
    """Return the rules of a file; files of version 1 have none."""
    kept = header.get("rules")
    if kept is None:
        return NO_RULES
    schedule: Schedule | None = None
    projection: Projection | None = None
    if "polynomial_decay" in kept:
        schedule = PolynomialDecay(*kept["polynomial_decay"])
    elif "piecewise_constant" in kept:
        schedule = PiecewiseConstant(*kept["piecewise_constant"])
    if "box_low" in stored:
        projection = Box(stored["box_low"], stored["box_high"])
    elif "ball_radius" in kept:
        projection = Ball(kept["ball_radius"], stored["ball_center"])
    return Rules(
        clip_norm=math.inf if kept["clip_norm"] is None else float(kept["clip_norm"]),
        weight_decay=float(kept["weight_decay"]),
        projection=projection,
        schedule=schedule,
        origin=int(kept["origin"]),
    )
