"""The C++ backend of the counts."""

from __future__ import annotations

from typing import Any

from hotloops._runtime import dispatch

__all__ = ["draw", "likelihood"]


def draw(
    law: str,
    out: Any,
    first: Any,
    second: Any,
    seed: int,
    step: int,
    numbers: Any,
    first_row: int,
    num_threads: int,
) -> None:
    """Fill `out` (rows, columns); the parameters are (1 or rows, 1 or columns)."""
    function = getattr(dispatch.core(), f"flow_{law}_{first.dtype}")
    function(out, first, second, seed, step, numbers, first_row, num_threads)


def likelihood(
    value: Any,
    mu_slope: Any,
    theta_slope: Any,
    counts: Any,
    mu: Any,
    theta: Any,
    num_threads: int,
) -> None:
    """Fill `value` (rows, columns) and the slopes that are not None."""
    function = getattr(dispatch.core(), f"flow_likelihood_{value.dtype}")
    function(value, mu_slope, theta_slope, counts, mu, theta, num_threads)
