"""The C++ backend of the proximal operators: arrays (rows, columns) in, `out` filled."""

from __future__ import annotations

from typing import Any

from hotloops._runtime import dispatch

__all__ = ["elements", "groups", "rows", "top", "variation"]


def elements(
    operation: int, v: Any, out: Any, constants: Any, num_threads: int, checks: bool = False
) -> bool:
    """Apply an operator of single elements; `constants` is (constants, 1 or rows, 1 or columns).

    Returns whether all of `v` is finite, if that is to be looked for; if not, `out` is spoilt.
    """
    return bool(_kernel("elements", v)(operation, v, out, constants, num_threads, checks))


def rows(operation: int, v: Any, out: Any, numbers: Any, num_threads: int) -> None:
    """Apply an operator of rows; `numbers` is (1,) or (rows,)."""
    _kernel("rows", v)(operation, v, out, numbers, num_threads)


def groups(
    v: Any,
    out: Any,
    offsets: Any,
    indices: Any,
    weights: Any,
    soft: Any,
    shrink: Any,
    num_threads: int,
    checks: bool = False,
) -> bool:
    """Threshold elements by `soft`, then shrink the norms of groups by ``shrink * weights``.

    Returns what `elements` does.
    """
    kernel = _kernel("groups", v)
    return bool(kernel(v, out, offsets, indices, weights, soft, shrink, num_threads, checks))


def top(v: Any, out: Any, keep: int, num_threads: int) -> None:
    """Keep the largest magnitudes of each row."""
    _kernel("top", v)(v, out, keep, num_threads)


def variation(v: Any, out: Any, numbers: Any, num_threads: int) -> None:
    """Apply the total variation with t lambda = `numbers`, (1,) or (rows,)."""
    _kernel("variation", v)(v, out, numbers, num_threads)


def _kernel(name: str, v: Any) -> Any:
    return getattr(dispatch.core(), f"prox_{name}_float{8 * v.itemsize}")
