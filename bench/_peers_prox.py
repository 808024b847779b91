"""Proximal operators as a good user of NumPy writes them, and those of pyproximal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Call = Callable[[], Any]


def numpy_l1(v: Any, k: float) -> Call:
    """Return soft thresholding as everybody writes it."""
    return lambda: np.sign(v) * np.maximum(np.abs(v) - k, 0)


def numpy_l1_in_place(v: Any, k: float) -> Call:
    """Return soft thresholding in two passes, without temporaries."""
    out = np.empty_like(v)

    def call() -> Any:
        np.clip(v, -k, k, out=out)
        return np.subtract(v, out, out=out)

    return call


def numpy_l1_checked(v: Any, k: float) -> Call:
    """Return the same after a look for NaN and infinities, as hotloops does by default."""
    call, finite = numpy_l1_in_place(v, k), np.empty(v.shape, bool)

    def checked() -> Any:
        if not np.isfinite(v, out=finite).all():
            raise ValueError("not finite")
        return call()

    return checked


def numpy_simplex(v: Any, total: float) -> Call:
    """Return the projection of every row by sorting."""
    count = np.arange(1, v.shape[1] + 1, dtype=v.dtype)

    def call() -> Any:
        ordered = -np.sort(-v, axis=1)
        sums = np.cumsum(ordered, axis=1) - total
        last = (ordered * count > sums).sum(axis=1)
        theta = sums[np.arange(len(v)), last - 1] / last
        return np.maximum(v - theta[:, None], 0)

    return call


def numpy_l1_ball(v: Any, radius: float) -> Call:
    """Return the projection of every row by sorting; all rows are outside of the ball."""
    magnitude = np.empty_like(v)

    def call() -> Any:
        np.abs(v, out=magnitude)
        return np.copysign(numpy_simplex(magnitude, radius)(), v)

    return call


def numpy_groups(v: Any, size: int, k: float) -> Call:
    """Return the shrinking of groups of one size that lie side by side."""

    def call() -> Any:
        groups = v.reshape(len(v), -1, size)
        norms = np.sqrt(np.einsum("...i,...i->...", groups, groups))
        factor = np.maximum(1 - k / np.maximum(norms, 1e-30), 0)
        return (groups * factor[..., None]).reshape(v.shape)

    return call


def numpy_top(v: Any, keep: int) -> Call:
    """Return the largest magnitudes of every row, by partition."""

    def call() -> Any:
        chosen = np.argpartition(np.abs(v), v.shape[1] - keep, axis=1)[:, v.shape[1] - keep :]
        out = np.zeros_like(v)
        np.put_along_axis(out, chosen, np.take_along_axis(v, chosen, axis=1), axis=1)
        return out

    return call


def pyproximal_rows(operator: Any, v: Any, step: float) -> Call:
    """Return an operator of pyproximal on every row; it has no batches."""
    out = np.empty_like(v)

    def call() -> Any:
        for row, target in zip(v, out, strict=True):
            target[:] = operator.prox(row, step)
        return out

    return call


def pyproximal_groups(v: Any, size: int, step: float) -> Call:
    """Return its group lasso on all rows at once; v is laid out beforehand as it wants it."""
    import pyproximal

    operator = pyproximal.L21(size, sigma=size**0.5)
    across = np.ascontiguousarray(v.reshape(-1, size).T).ravel()
    return lambda: operator.prox(across, step).reshape(size, -1).T.reshape(v.shape)
