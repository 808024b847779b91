"""What a network is given as a velocity."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops._runtime import arrays, validate
from hotloops.flow._velocities import Velocity

__all__ = ["dense_inputs"]


def dense_inputs(
    where: str, velocity: Velocity, log_size: Any, inputs: Any, start: npt.NDArray[Any]
) -> list[npt.NDArray[Any]]:
    """Return the dense inputs that a network has besides z (n, d) and t, checked."""
    if velocity.kind != "network":
        for name, value in (("log_size", log_size), ("inputs", inputs)):
            if value is not None:
                expectation = "be None unless `velocity` is a network"
                validate.fail(ValueError, where, name, expectation, validate.describe(value))
        return []
    network = velocity.function
    _check_network(where, network, start)
    if hasattr(network, "size_inputs"):
        if inputs is not None:
            expectation = "be None with a VelocityNetwork (use `log_size`)"
            validate.fail(ValueError, where, "inputs", expectation, validate.describe(inputs))
        return network.size_inputs(where, log_size, start.shape[0])  # type: ignore[no-any-return]
    if log_size is not None:
        expectation = "be None unless `velocity` is a VelocityNetwork"
        validate.fail(ValueError, where, "log_size", expectation, validate.describe(log_size))
    place = arrays.common_library(where, {"states": start}).place
    return _check_inputs(where, network, inputs, start.shape[0], place)


def _check_network(where: str, network: Any, start: npt.NDArray[Any]) -> None:
    """Check that a network maps (n, d) states and (n, 1) times to (n, d) slopes."""
    program = network.program
    d = start.shape[1]
    widths = program.input_widths
    got = f"inputs {widths}, outputs {tuple(operand.width for operand in program.outputs)}"
    if len(widths) < 2 or widths[1] != 1 or len(program.outputs) != 1:
        expectation = "have inputs z and t (of one column), and one output"
        validate.fail(ValueError, where, "velocity", expectation, got)
    if program.sparse_tables:
        validate.fail(ValueError, where, "velocity", "have no CSR inputs", got)
    if widths[0] != program.outputs[0].width:
        validate.fail(ValueError, where, "velocity", "have an output of the width of z", got)
    if widths[0] != d:
        expectation = f"take states of {d} columns like those given"
        validate.fail(ValueError, where, "velocity", expectation, got)


def _check_inputs(
    where: str, network: Any, inputs: Any, n: int, place: str
) -> list[npt.NDArray[Any]]:
    """Return the dense inputs of a network after z and t."""
    widths = network.program.input_widths[2:]
    given = [] if inputs is None else inputs
    if not isinstance(given, list | tuple):
        validate.fail(TypeError, where, "inputs", "be a list", validate.describe(inputs))
    if len(given) != len(widths):
        expectation = f"hold the {len(widths)} dense inputs of `velocity` after z and t"
        validate.fail(ValueError, where, "inputs", expectation, str(len(given)))
    dtype = np.dtype(network.dtype)
    checked = []
    for number, (value, width) in enumerate(zip(given, widths, strict=True)):
        name = f"inputs[{number}]"
        native, library = arrays.import_array(where, name, value, dtype=dtype)
        if library.device != "cpu" and library.place != place:
            got = f"an array on {library.place}"
            validate.fail(TypeError, where, name, f"live on {place} like the states", got)
        array = validate.array(where, name, native, shape=(n, width), dtype=dtype, empty=True)
        checked.append(array)
    return checked
