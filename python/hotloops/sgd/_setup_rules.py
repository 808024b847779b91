"""What the keywords of `run` that bend steps stand for."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from hotloops._runtime import validate
from hotloops.sgd._problem import Problem
from hotloops.sgd._rules import Ball, Box, PiecewiseConstant, PolynomialDecay, Rules
from hotloops.sgd._state import SGDState

__all__ = ["prepare_rules"]


def prepare_rules(
    problem: Problem,
    *,
    clip_norm: Any,
    weight_decay: Any,
    projection: Any,
    schedule: Any,
    first_step: int,
    state: SGDState | None,
) -> Rules:
    """Return the rules of a run; what a state brings along may be repeated but not changed."""
    clip = math.inf
    if clip_norm is not None:
        clip = validate.real("run", "clip_norm", clip_norm, low=0.0, open_low=True)
    given = Rules(
        clip_norm=clip,
        weight_decay=validate.real("run", "weight_decay", weight_decay, low=0.0),
        projection=_check_projection(projection, problem.dim),
        schedule=_check_schedule(schedule),
        origin=first_step,
    )
    if state is None:
        return given
    default, known = Rules(), state.rules
    for name in ("clip_norm", "weight_decay", "projection", "schedule"):
        value = getattr(given, name)
        if value not in (getattr(default, name), getattr(known, name)):
            expectation = f"be {getattr(known, name)!r} as in `state`"
            validate.fail(ValueError, "run", name, expectation, repr(value))
    _check_projection(known.projection, problem.dim)
    return replace(known)


def _check_projection(projection: object, dim: int) -> Box | Ball | None:
    if projection is None:
        return None
    parts: dict[str, Any] = {}
    if isinstance(projection, Box):
        parts = {"low": projection.low, "high": projection.high}
    elif isinstance(projection, Ball):
        parts = {"center": projection.center}
    else:
        expectation = "be sgd.Box(low, high), sgd.Ball(radius) or None"
        validate.fail(TypeError, "run", "projection", expectation, validate.describe(projection))
    for name, part in parts.items():
        if part.ndim and part.shape != (dim,):
            expectation = f"have a `{name}` of shape (d,) with d = {dim} as in `problem`"
            validate.fail(ValueError, "run", "projection", expectation, str(part.shape))
    return projection


def _check_schedule(schedule: object) -> PolynomialDecay | PiecewiseConstant | None:
    if schedule is not None and not isinstance(schedule, PolynomialDecay | PiecewiseConstant):
        expectation = "be sgd.PolynomialDecay(exponent), sgd.PiecewiseConstant(...) or None"
        validate.fail(TypeError, "run", "schedule", expectation, validate.describe(schedule))
    return schedule
