"""The C++ backend of the SGD loop."""

from __future__ import annotations

from typing import Any

from hotloops._runtime import dispatch
from hotloops.sgd._state import ChainArrays

__all__ = ["advance"]


def advance(
    arrays: ChainArrays,
    kernel: str,
    parameters: tuple[Any, ...],
    *,
    seed: int,
    chain_offset: int,
    first_step: int,
    num_steps: int,
    accumulate: bool,
    divergence_limit: float,
    num_threads: int,
) -> None:
    """Advance all chains by `num_steps` steps, in place."""
    core = dispatch.core()
    single = arrays.theta.dtype.itemsize == 4
    bound = (core.SgdChainsFloat32 if single else core.SgdChainsFloat64)(
        arrays.theta, arrays.sums, arrays.flags, arrays.diverged_at, arrays.step_sizes
    )
    getattr(core, f"sgd_{kernel}")(
        bound,
        seed,
        chain_offset,
        first_step,
        num_steps,
        accumulate,
        divergence_limit,
        num_threads,
        *parameters,
    )
