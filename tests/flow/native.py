"""The native integration called directly, with compiled fields."""

from __future__ import annotations

from typing import Any, NamedTuple

import numba as nb
import numpy as np

from hotloops._runtime import dispatch

EULER, MIDPOINT, HEUN, RK4, DOPRI5 = range(5)
FIXED, ROW, BATCH = range(3)
SIGMA = 1e-4

_SIGNATURE = nb.void(
    nb.int64,
    nb.int64,
    nb.types.CPointer(nb.float64),
    nb.types.CPointer(nb.float64),
    nb.types.CPointer(nb.int64),
    nb.types.CPointer(nb.float64),
    nb.types.CPointer(nb.float64),
)


@nb.cfunc(_SIGNATURE)
def gaussian_field(n, d, z, t, labels, out, user):  # type: ignore[no-untyped-def]
    """The field of the path to N(user[0], user[1]^2)."""
    mean, sd = user[0], user[1]
    for r in range(n):
        left = 1.0 - (1.0 - 1e-4) * t[r]
        variance = t[r] * t[r] * sd * sd + left * left
        slope = (t[r] * sd * sd - (1.0 - 1e-4) * left) / variance
        for i in range(d):
            out[r * d + i] = mean + slope * (z[r * d + i] - t[r] * mean)


@nb.cfunc(_SIGNATURE)
def mixture_field(n, d, z, t, labels, out, user):  # type: ignore[no-untyped-def]
    """The field towards .3 N(-2, .5^2) + .7 N(2, .5^2), or to the component of the label."""
    for r in range(n):
        left = 1.0 - (1.0 - 1e-4) * t[r]
        variance = t[r] * t[r] * 0.25 + left * left
        slope = (t[r] * 0.25 - (1.0 - 1e-4) * left) / variance
        for i in range(d):
            x = z[r * d + i]
            low = np.log(0.3) - (x + 2.0 * t[r]) ** 2 / (2.0 * variance)
            high = np.log(0.7) - (x - 2.0 * t[r]) ** 2 / (2.0 * variance)
            share = 1.0 / (1.0 + np.exp(low - high))
            if labels[r] >= 0:
                share = float(labels[r])
            to_low = -2.0 + slope * (x + 2.0 * t[r])
            to_high = 2.0 + slope * (x - 2.0 * t[r])
            out[r * d + i] = (1.0 - share) * to_low + share * to_high


class Answer(NamedTuple):
    """What an integration left behind."""

    failed: tuple[int, int]
    z: Any
    kept: Any
    evaluations: Any
    accepted: Any
    rejected: Any


def integrate(
    velocity: Any,
    z: Any,
    method: int = DOPRI5,
    *,
    steps: int | None = None,
    times: tuple[float, float] = (0.0, 1.0),
    grid: Any = None,
    kept_times: Any = (),
    control: int | None = None,
    tolerance: float = 1e-5,
    max_steps: int = 10000,
    labels: Any = None,
    weights: Any = None,
    inputs: Any = (),
    num_threads: int = 1,
    user: Any = None,
) -> Answer:
    """Integrate a copy of `z`; `velocity` is a cfunc, or the members of a network."""
    z = np.array(z)
    n, d = z.shape
    if control is None:
        control = ROW if steps is None and grid is None else FIXED
    if grid is None:
        grid = np.linspace(*times, steps + 1) if control == FIXED else np.array(times)
    if labels is None:
        labels = np.zeros((1, 0, n), np.int32)
    if weights is None:
        weights = np.ones(labels.shape[0] - 1, z.dtype)
    if not isinstance(velocity, tuple):
        velocity = velocity.address, 0 if user is None else user.ctypes.data
    kept_times = np.asarray(kept_times, np.float64)
    kept = np.full((kept_times.size, n, d), np.nan, z.dtype)
    counts = np.zeros((3, n), np.int64)
    call = getattr(dispatch.core(), f"flow_integrate_{z.dtype}")
    failed = call(
        velocity,
        z,
        np.asarray(grid, np.float64),
        kept_times,
        kept,
        method,
        control,
        tolerance,
        tolerance,
        max_steps,
        np.ascontiguousarray(labels, np.int32),
        np.ascontiguousarray(weights, z.dtype),
        list(inputs),
        *counts,
        num_threads,
    )
    return Answer(failed, z, kept, *counts)
