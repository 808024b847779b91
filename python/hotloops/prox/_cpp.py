"""The C++ backend of the proximal operators: arrays (rows, columns) in, `out` filled.

The kernels take what their twins in `_numba` take, and at the end when to look for NaN and
infinities in `v`: 0 not at all; 1 in the pass that does the work, which spoils `out` if there are
any; 2 before. They return whether there were none, as far as they looked.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from hotloops._runtime import dispatch

__all__ = ["kernel"]


@cache
def kernel(name: str, itemsize: int) -> Any:
    """Return a kernel for elements of this many bytes."""
    return getattr(dispatch.core(), f"prox_{name}_float{8 * itemsize}")
