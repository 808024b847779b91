"""The C++ backend of the random numbers."""

from __future__ import annotations

from typing import Any

from hotloops._runtime import dispatch

__all__ = ["fill", "philox"]


def fill(
    out: Any,
    law: str,
    seed: int,
    stream: int,
    steps: Any,
    chains: Any,
    first_coordinate: int,
    num_threads: int,
) -> None:
    """Fill `out` (steps, chains, coordinates) with normals or uniforms."""
    draw = getattr(dispatch.core(), f"random_{law}")
    draw(out, seed, stream, steps, chains, first_coordinate, num_threads)


def philox(out: Any, counters: Any, keys: Any, num_threads: int) -> None:
    """Fill `out` (n, 4) with the words of the counters (n, 4) under the keys (n, 2)."""
    dispatch.core().random_philox(out, counters, keys, num_threads)
