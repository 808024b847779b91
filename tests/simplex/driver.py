"""Runs of one backend without the face: forms and reports by their numbers."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from hotloops import simplex
from hotloops.simplex._options import make_options
from hotloops.simplex._state import ChainArrays, Steps

SEED = 0x0123456789ABCDEF


def advance(
    objective: simplex.Objective,
    x: Any,
    form: str = "entropic",
    *,
    step_size: Any = 0.1,
    inverse_temperature: Any = np.inf,
    base_measure: Any = 1.0,
    acceleration: float | None = None,
    convexity: float = 1.0,
    sizes: Any = None,
    steps: tuple[int, ...] = (50,),
    backend: str = "cpp",
    num_threads: int = 2,
    chain_offset: int = 2**31 - 7,
    first_step: int = 2**32 - 20,
    **start: Any,
) -> ChainArrays:
    """Return the chains after several calls of the driver, of so many steps each."""
    x = np.array(x)
    accelerated = form == "accelerated"
    parts = objective.sizes if sizes is None else sizes
    options = make_options(
        "run",
        len(x),
        parts,
        x.dtype,
        step_size=step_size,
        inverse_temperature=inverse_temperature,
        base_measure=base_measure,
        retraction=form,
        floor="auto",
        clip=30.0,
        terms=objective.terms,
    )
    if accelerated:
        rates = np.full(len(x), acceleration, x.dtype)
        object.__setattr__(options, "accelerations", rates)
        object.__setattr__(options, "convexity", convexity)
    arrays = ChainArrays.start(x, accelerated=accelerated, **start)
    driver = importlib.import_module(f"hotloops.simplex._{backend}")
    for count in steps:
        driver.advance(
            arrays,
            objective.kernel,
            objective.parameters(x.dtype),
            options,
            Steps(
                seed=SEED,
                chain_offset=chain_offset,
                first_step=first_step,
                num_steps=count,
                accumulate=True,
                num_threads=num_threads,
            ),
        )
        first_step += count
    return arrays
