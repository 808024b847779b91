"""A deterministic descent to a nearby minimum: multiplicative steps, then Newton's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hotloops._runtime import validate
from hotloops.simplex._functions import check_sizes, check_weights
from hotloops.simplex._newton import TOLERANCE, Evaluate, Iterate, centred, newton
from hotloops.simplex._objective import Float64, Objective, host_array
from hotloops.simplex._polytope import Polytope, cuts_of

__all__ = ["Point", "descend", "polish"]

_NEWTON_DIM = 600  # above it the d^3 of a factorisation is no longer a polish
_ARMIJO = 1e-4
_TINY_WEIGHT = 1e-9


@dataclass(frozen=True, eq=False)
class Point:
    """A point that `polish` found.

    Attributes
    ----------
    x : ndarray, shape (d,), float64
        Weights; those on a face are exactly zero.
    value : float
        The objective.
    kkt_residual : float
        See `hotloops.simplex.kkt_residual`. With bounds or caps it is measured against the points
        that meet them.
    num_steps : int
        Steps of both kinds that were made.
    """

    x: Float64
    value: float
    kkt_residual: float
    num_steps: int


def polish(
    objective: Objective, x0: Any = None, *, sizes: Any = None, num_steps: int = 200
) -> Point:
    """Descend from a point to a minimum nearby, to the precision of float64.

    Multiplicative weights with backtracking come first, then Newton steps over the polytope of the
    weights, where the objective knows its second derivatives; if it is convex, Newton steps alone.
    Bounds and caps of the objective (`Objective.with_terms`), which the chains see as penalties,
    hold exactly here.

    For a convex objective, such as a portfolio with CRRA preferences, this alone is the right tool:
    there is one minimum, and no noise is needed to find it.

    Parameters
    ----------
    objective : Objective
        What to minimise.
    x0 : array_like, shape (d,), optional
        Where to start; with bounds or caps, the nearest point that meets them is taken. Default:
        the middle.
    sizes : sequence of int, optional
        Entries of each simplex. Default: those of the objective.
    num_steps : int
        Multiplicative steps at most, before Newton's. Default 200.

    Returns
    -------
    Point
        With `x`, `value`, `kkt_residual`, `num_steps`.

    Raises
    ------
    TypeError, ValueError
        Arguments of the wrong type or shape; weights off the simplex.

    Notes
    -----
    Class B: NumPy and LAPACK in float64. Every Newton step minimises a quadratic model over the
    polytope by an active set; it takes a few times d^3 operations, and is left out above 600
    weights. Without bounds and caps the objective never rises.

    Examples
    --------
    >>> from hotloops import simplex
    >>> program = simplex.QuadraticProgram([[2.0, 0.5], [0.5, 1.0]])
    >>> simplex.polish(program).x.round(6).tolist()
    [0.25, 0.75]
    >>> simplex.polish(program.with_terms(upper=0.6)).x.round(6).tolist()
    [0.4, 0.6]
    """
    if not isinstance(objective, Objective):
        expectation = "be an objective such as simplex.QuadraticProgram(Q)"
        validate.fail(TypeError, "polish", "objective", expectation, validate.describe(objective))
    parts = objective.sizes if sizes is None else check_sizes("polish", sizes, objective.dim)
    count = validate.integer("polish", "num_steps", num_steps, low=0)
    if x0 is None:
        start = np.concatenate([np.full(size, 1.0 / size) for size in parts])
    else:
        start, _ = host_array("polish", "x0", x0, shape=(objective.dim,), dtype=np.float64)
        check_weights("polish", "x0", start.reshape(1, -1), parts)
    return descend(objective, start, parts, count)


def descend(objective: Objective, x0: Float64, sizes: tuple[int, ...], num_steps: int) -> Point:
    """Polish a checked point."""
    polytope = objective.polytope(sizes)
    second_order = objective.dim <= _NEWTON_DIM
    if polytope.plain:
        evaluate, hessian = objective.precise_value_and_grad, objective.precise_hessian
        direct = second_order and objective.is_convex and hessian(x0) is not None
        here, made = _multiplicative(evaluate, x0, sizes, 0 if direct else num_steps)
        if second_order and not direct:
            here = _onto_face(evaluate, here, sizes)
    else:
        inside = objective.without_penalties()
        evaluate, hessian = inside.precise_value_and_grad, inside.precise_hessian
        x = polytope.nearest(x0)
        here, made = Iterate(x, *evaluate(x)), 0
        if not second_order or hessian(x) is None:
            here, made = _projected(evaluate, here, polytope, num_steps)
    prices = polytope.prices(here.x, here.gradient)
    if second_order:
        here, prices, more = newton(
            evaluate, hessian, here, polytope, interior=objective.has_entropy
        )
        made += more
    residual = polytope.gap(here.x, here.gradient, prices)
    return Point(here.x, here.value, residual, made)


def _multiplicative(
    evaluate: Evaluate, x0: Float64, sizes: tuple[int, ...], num_steps: int
) -> tuple[Iterate, int]:
    """Make multiplicative steps, each as long as the last one allows."""
    cuts = cuts_of(sizes)
    x = x0.astype(np.float64)
    for cut in cuts:
        x[cut] /= x[cut].sum()
    here = Iterate(x, *evaluate(x))
    slope = centred(here, cuts)
    step = 1.0 / (1e-12 + float(np.abs(slope).max()))
    for made in range(num_steps):
        if all(-float(slope[cut].min()) <= TOLERANCE * here.scale for cut in cuts):
            return here, made
        decrease = float(here.x @ slope**2)
        moved = None
        for _ in range(60):
            trial = here.x * np.exp(np.clip(-step * slope, -30.0, 30.0))
            for cut in cuts:
                trial[cut] /= trial[cut].sum()
            value, gradient = evaluate(trial)
            if value <= here.value - _ARMIJO * step * decrease:
                moved = Iterate(trial, value, gradient)
                break
            step *= 0.5
        if moved is None:  # nothing is left to gain in float64
            return here, made + 1
        stalled = here.value - moved.value <= 1e-16 * abs(here.value)
        here = moved
        if stalled:
            return here, made + 1
        slope = centred(here, cuts)
        step *= 2.0
    return here, num_steps


def _onto_face(evaluate: Evaluate, here: Iterate, sizes: tuple[int, ...]) -> Iterate:
    """Set tiny weights to zero where that does not raise the objective."""
    trial = np.where(here.x > _TINY_WEIGHT, here.x, 0.0)
    for cut in cuts_of(sizes):
        trial[cut] /= trial[cut].sum()
    value, gradient = evaluate(trial)
    return Iterate(trial, value, gradient) if value <= here.value else here


def _projected(
    evaluate: Evaluate, here: Iterate, polytope: Polytope, num_steps: int
) -> tuple[Iterate, int]:
    """Make projected gradient steps, for bounds and caps without second derivatives."""
    step = 1.0 / (1e-12 + float(np.ptp(here.gradient)))
    for made in range(num_steps):
        moved = None
        for _ in range(60):
            trial = polytope.nearest(here.x - step * here.gradient)
            value, gradient = evaluate(trial)
            change = trial - here.x
            if value <= here.value - _ARMIJO * float(change @ change) / step:
                moved = Iterate(trial, value, gradient)
                break
            step *= 0.5
        if moved is None or not change.any():
            return here, made
        here, step = moved, 2.0 * step
    return here, num_steps
