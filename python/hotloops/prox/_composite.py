"""Sums of functions of different elements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hotloops._runtime import validate
from hotloops._runtime.validate import fail
from hotloops.prox._base import Call, Prox

__all__ = ["Blocks", "Masked"]


class Blocks(Prox):
    """A sum of functions, each of some elements of a row.

    Parameters
    ----------
    parts : sequence of (index, Prox)
        An index is a slice, an array of booleans of shape (n,), or an array of distinct positions.
        No element may appear twice; those in no part, such as an intercept, are left as they are.

    Notes
    -----
    The operator of each part acts on its own elements. Convex when all parts are.

    Examples
    --------
    >>> from hotloops import prox
    >>> r = prox.Blocks([(slice(0, 2), prox.L1()), ([2], prox.NonNegative())])
    >>> r([3.0, -0.5, -1.0, -7.0], 1.0)
    array([ 2.,  0.,  0., -7.])
    """

    def __init__(self, parts: Sequence[tuple[Any, Prox]]) -> None:
        name = type(self).__name__
        checked = []
        for i, part in enumerate(parts):
            _check_pair(name, f"parts[{i}]", part)
            if part[1]._core_axes != 1:
                got = repr(part[1])
                fail(TypeError, name, f"parts[{i}]", "hold a function of rows", got)
            checked.append((_index(name, f"parts[{i}]", part[0]), part[1]))
        if not checked:
            fail(ValueError, name, "parts", "not be empty", "no parts")
        self.parts = tuple(checked)
        self._checked_sizes: set[int] = set()

    @property
    def convex(self) -> bool:  # type: ignore[override]
        """Whether all parts are convex."""
        return all(part.convex for _, part in self.parts)

    def __repr__(self) -> str:
        inside = ", ".join(repr(part) for _, part in self.parts)
        return f"{type(self).__name__}({inside})"

    def _check(self, name: str, v: Any) -> None:
        size = int(v.shape[-1])
        if size in self._checked_sizes:
            return
        used = np.zeros(size, np.int64)
        for i, (index, part) in enumerate(self.parts):
            try:
                positions = np.arange(size)[index]
            except IndexError:
                expectation = f"have a row that `parts[{i}]` fits"
                fail(ValueError, name, "v", expectation, str(tuple(v.shape)))
            np.add.at(used, positions, 1)
            part._check(name, np.empty((0, positions.size)))
        if (used > 1).any():
            got = f"element {int(used.argmax())} in {int(used.max())} places"
            fail(ValueError, name, "parts", "name each element at most once", got)
        self._checked_sizes.add(size)

    def _apply(self, call: Call) -> None:
        if call.out is not call.v:
            call.out[...] = call.v
        for index, part in self.parts:
            v = call.xp.ascontiguousarray(call.out[:, index])
            part._apply(call.then(v))
            call.out[:, index] = v

    def _value(self, v: Any, xp: Any) -> Any:
        return sum(part._value(v[..., index], xp) for index, part in self.parts)


class Masked(Blocks):
    """A function of some elements of a row; the others, such as an intercept, are left alone.

    Parameters
    ----------
    function : Prox
    mask : array_like of bool, shape (n,), array of positions, or slice
        The elements that `function` sees.

    Examples
    --------
    >>> from hotloops import prox
    >>> prox.Masked(prox.L1(), [True, True, False])([3.0, 0.5, 0.5])
    array([2. , 0. , 0.5])
    """

    def __init__(self, function: Prox, mask: Any) -> None:
        if not isinstance(function, Prox):
            fail(TypeError, "Masked", "function", "be a Prox", validate.describe(function))
        super().__init__([(mask, function)])


def _check_pair(name: str, argument: str, part: Any) -> None:
    if not isinstance(part, tuple) or len(part) != 2 or not isinstance(part[1], Prox):
        fail(TypeError, name, argument, "be a pair (index, Prox)", validate.describe(part))


def _index(name: str, argument: str, index: Any) -> Any:
    if isinstance(index, slice):
        return index
    array = np.asarray(index)
    if array.ndim != 1 or array.dtype.kind not in "biu" or array.size == 0:
        expectation = "have a slice, an array of booleans or an array of positions"
        fail(TypeError, name, argument, expectation, validate.describe(index))
    return array.copy()
