"""The CUDA backend of the bulk random numbers: CuPy arrays, on CuPy's current stream."""

from __future__ import annotations

from typing import Any

from hotloops._runtime import dispatch
from hotloops._runtime.device import place_of

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
    """Queue the filling of `out` (S, C, K) with "normals" or "uniforms"."""
    module = dispatch.cuda()
    with place_of(out) as place:
        shape = tuple(int(length) for length in out.shape)
        num_steps, num_chains, num_coordinates = shape
        getattr(module, f"random_{law}_{out.dtype}")(
            place.address(law, "out", out, shape, out.dtype),
            seed,
            stream,
            place.address(law, "steps", steps, (num_steps,), "int64"),
            num_steps,
            place.address(law, "chains", chains, (num_chains,), "int64"),
            num_chains,
            first_coordinate,
            num_coordinates,
            place.device,
            place.stream,
        )


def philox(out: Any, counters: Any, keys: Any, num_threads: int) -> None:
    """Queue Philox4x32-10 of `counters` (n, 4) under `keys` (n, 2) into `out` (n, 4)."""
    module = dispatch.cuda()
    count = int(out.shape[0])
    with place_of(out) as place:
        module.random_philox(
            place.address("philox", "counters", counters, (count, 4), "uint32"),
            place.address("philox", "keys", keys, (count, 2), "uint32"),
            count,
            place.address("philox", "out", out, (count, 4), "uint32"),
            place.device,
            place.stream,
        )
