"""Initial parameters: stream 14 of the counter map, so that a seed gives the same network anywhere.

The step is the parameter's number in the program's table, the row the attempt (0 but where a
truncated normal was drawn again), the coordinate the element's place as stored. Draws are made in
float64 and then rounded, so float32 and float64 networks of one seed begin alike.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops import random
from hotloops.nn._layout import ParameterEntry, Program

__all__ = ["initial_buffers", "initial_parameters"]

_STREAM = 14
_CUT = 2.0
_DEVIATION_OF_CUT = 0.87962566103423978  # of a standard normal between -2 and 2


def initial_parameters(program: Program, seed: int, dtype: Any) -> npt.NDArray[Any]:
    """Return all parameters, in one flat array."""
    values = np.empty(program.num_parameters, dtype)
    for number, entry in enumerate(program.parameters.values()):
        values[entry.offset : entry.offset + entry.size] = _draw(entry, number, seed)
    return values


def initial_buffers(program: Program, dtype: Any) -> npt.NDArray[Any]:
    """Return the running statistics before training, in one flat array."""
    values = np.empty(program.num_buffers, dtype)
    for entry in program.buffers.values():
        values[entry.offset : entry.offset + entry.size] = entry.start
    return values


def _draw(entry: ParameterEntry, number: int, seed: int) -> Any:
    if entry.init == "zeros":
        return 0.0
    if entry.init == "ones":
        return 1.0
    if entry.init == "uniform":
        u = random.uniforms(seed, [number], 1, entry.size, _STREAM)[0, 0]
        return (2.0 * u - 1.0) / math.sqrt(entry.fan_in)
    z = random.normals(seed, [number], 1, entry.size, _STREAM)[0, 0]
    if entry.init == "normal":
        return z
    return _truncate(z, number, seed) / (_DEVIATION_OF_CUT * math.sqrt(entry.fan_in))


def _truncate(z: npt.NDArray[np.float64], number: int, seed: int) -> npt.NDArray[np.float64]:
    """Draw elements beyond the cut again until none is left."""
    attempt = 0
    left = np.flatnonzero(np.abs(z) > _CUT)
    while left.size:
        attempt += 1
        z[left] = random.normals(seed, [number], [attempt], left, _STREAM)[0, 0]
        left = left[np.abs(z[left]) > _CUT]
    return z
