"""The native backend of integrations."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from hotloops._runtime import dispatch
from hotloops.flow._branches import Branches
from hotloops.flow._plan import Counts, Plan
from hotloops.flow._tableaus import METHODS
from hotloops.flow._velocities import Velocity
from hotloops.nn._cpp import native_program

__all__ = ["integrate"]

_FIXED, _ROW, _BATCH = 0, 1, 2


def integrate(
    plan: Plan,
    velocity: Velocity,
    branches: Branches,
    inputs: list[npt.NDArray[Any]],
    data: Any,
    z: npt.NDArray[Any],
    kept: npt.NDArray[Any],
    counts: Counts,
    num_threads: int,
) -> tuple[int, int]:
    """Integrate `z` (n, d) in place; return why and in which row it failed, or 0."""
    call = getattr(dispatch.core(), f"flow_integrate_{z.dtype}")
    control = (_BATCH if plan.shared else _ROW) if plan.adaptive else _FIXED
    reason, row = call(
        _handle(velocity, data),
        z,
        plan.grid,
        plan.kept_times,
        kept,
        METHODS.index(plan.method),
        control,
        plan.rtol,
        plan.atol,
        plan.max_steps,
        branches.labels,
        branches.weights.astype(z.dtype),
        inputs,
        counts.evaluations,
        counts.accepted,
        counts.rejected,
        num_threads,
    )
    return int(reason), int(row)


def _handle(velocity: Velocity, data: Any) -> tuple[Any, ...]:
    if velocity.kind == "address":
        return velocity.address, 0 if data is None else data.ctypes.data
    network = velocity.function
    output = network.program.outputs[0]
    return (
        native_program(network.program),
        network.flat_parameters,
        network.flat_buffers,
        output.slot,
        output.begin,
    )
