"""The C++ backend of the proximal operators: arrays (rows, columns) in, `out` filled.

Each returns whether all of `v` is finite, as far as `look` asks: 0 not at all; 1 in the pass that
does the work, which spoils `out` if it is not; 2 before.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from hotloops._runtime import dispatch

__all__ = ["elements", "groups", "rows", "top", "variation"]


def elements(
    operation: int, v: Any, out: Any, constants: Any, num_threads: int, look: int = 0
) -> Any:
    """Apply an operator of single elements; `constants` is (constants, 1 or rows, 1 or columns)."""
    return _kernel("elements", v.itemsize)(operation, v, out, constants, num_threads, look)


def rows(operation: int, v: Any, out: Any, numbers: Any, num_threads: int, look: int = 0) -> Any:
    """Apply an operator of rows; `numbers` is (1,) or (rows,)."""
    return _kernel("rows", v.itemsize)(operation, v, out, numbers, num_threads, look)


def groups(
    v: Any,
    out: Any,
    offsets: Any,
    indices: Any,
    weights: Any,
    soft: Any,
    shrink: Any,
    num_threads: int,
    look: int = 0,
) -> Any:
    """Threshold elements by `soft`, then shrink the norms of groups by ``shrink * weights``."""
    kernel = _kernel("groups", v.itemsize)
    return kernel(v, out, offsets, indices, weights, soft, shrink, num_threads, look)


def top(v: Any, out: Any, keep: int, num_threads: int, look: int = 0) -> Any:
    """Keep the largest magnitudes of each row."""
    return _kernel("top", v.itemsize)(v, out, keep, num_threads, look)


def variation(v: Any, out: Any, numbers: Any, num_threads: int, look: int = 0) -> Any:
    """Apply the total variation with t lambda = `numbers`, (1,) or (rows,)."""
    return _kernel("variation", v.itemsize)(v, out, numbers, num_threads, look)


@cache
def _kernel(name: str, itemsize: int) -> Any:
    return getattr(dispatch.core(), f"prox_{name}_float{8 * itemsize}")
