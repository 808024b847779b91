"""The C++ backend of the loop."""

from __future__ import annotations

from typing import Any

from hotloops._runtime import dispatch
from hotloops.simplex._state import ChainArrays, StepOptions, Steps

__all__ = ["advance", "project"]


def advance(
    arrays: ChainArrays,
    kernel: str,
    parameters: tuple[Any, ...],
    options: StepOptions,
    steps: Steps,
) -> None:
    """Advance all chains, in place, and evaluate the objective there."""
    core = dispatch.core()
    single = arrays.x.dtype.itemsize == 4
    chains = (core.SimplexChainsFloat32 if single else core.SimplexChainsFloat64)(
        arrays.x,
        arrays.value,
        arrays.best_x,
        arrays.best_value,
        arrays.smallest,
        arrays.sums,
        arrays.squares,
        arrays.floored,
        arrays.clipped,
        arrays.accepted,
        arrays.flags,
        arrays.failed_at,
        options.step_sizes,
        options.temperatures,
        options.alpha,
        options.offsets,
    )
    if options.terms is not None:
        chains.set_terms(*options.terms)
    chains.set_schedule(steps.step_factors, steps.temperature_factors)
    if options.accelerations is not None:
        chains.set_acceleration(arrays.auxiliary, options.accelerations, options.convexity)
    if steps.accumulate and arrays.products.size:
        chains.set_products(arrays.products)
    if steps.accumulate and arrays.histogram.size:
        chains.set_histogram(arrays.histogram)
    if steps.gradient is not None:
        chains.set_gradient(steps.gradient)
    if steps.noise is not None:
        chains.set_noise(steps.noise)
    getattr(core, f"simplex_{kernel}")(
        chains,
        steps.seed,
        steps.chain_offset,
        steps.first_step,
        steps.num_steps,
        options.form,
        options.noisy,
        options.corrected,
        steps.accumulate,
        options.floor_scale,
        options.floor_least,
        options.clip,
        steps.num_threads,
        *parameters,
    )


def project(x: Any, num_threads: int) -> None:
    """Project rows onto the simplex, in place."""
    dispatch.core().simplex_project(x, num_threads)
