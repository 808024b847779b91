"""The C++ backend of distances and kernel sums."""

from __future__ import annotations

from typing import Any

from hotloops._runtime import dispatch

__all__ = ["distances", "kernel_sum"]


def kernel_sum(
    partial: Any, x: Any, y: Any, y_count: int, scales: Any, symmetric: bool, num_threads: int
) -> None:
    """Fill `partial` with the sums of the kernel over 64 rows of `x` and all points of `y`."""
    dispatch.core().flow_kernel_sum(partial, x, y, y_count, scales, symmetric, num_threads)


def distances(out: Any, x: Any, y: Any, distance: int, num_threads: int) -> None:
    """Fill `out` (rows of x, points of y) with squared (0) or absolute (1) distances."""
    dispatch.core().flow_distances(out, x, y, distance, num_threads)
