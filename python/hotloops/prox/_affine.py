"""Affine sets and half-spaces."""

from __future__ import annotations

from typing import Any

import numpy as np

from hotloops._runtime import validate
from hotloops._runtime.validate import fail
from hotloops.prox._base import Call, Prox, feasible

__all__ = ["Affine", "HalfSpace"]


class Affine(Prox):
    """The constraint ``A x = b``.

    Parameters
    ----------
    A : array_like of shape (m, n)
        Any rank; factored once by a singular value decomposition.
    b : array_like of shape (m,)

    Raises
    ------
    ValueError
        No x satisfies the equations.

    Notes
    -----
    ``v - A^+ (A v - b)``, as two matrix products for each batch. Class B.

    Examples
    --------
    >>> from hotloops import prox
    >>> prox.Affine([[3.0, 4.0]], [5.0])([3.0, 4.0]).round(6)
    array([0.6, 0.8])
    """

    def __init__(self, A: Any, b: Any) -> None:
        symbols: dict[str, int] = {}
        matrix = validate.array("Affine", "A", A, shape=("m", "n"), symbols=symbols, dtype=float)
        right = validate.array("Affine", "b", b, shape=("m",), symbols=symbols, dtype=float)
        left, values, rows = np.linalg.svd(matrix, full_matrices=False)
        rank = int((values > values[0] * max(matrix.shape) * np.finfo(float).eps).sum())
        self.A, self.b = matrix.copy(), right.copy()
        self._basis = np.ascontiguousarray(rows[:rank].T)
        self._offset = (right @ left[:, :rank]) / values[:rank]
        solution = self._basis @ self._offset
        residual = np.abs(matrix @ solution - right).max()
        if residual > 1e-8 * max(1.0, np.abs(right).max()):
            got = f"a residual of at least {residual:.3g}"
            fail(ValueError, "Affine", "b", "be in the range of `A`", got)

    def __repr__(self) -> str:
        return f"Affine({self.A.shape[0]} equations, {self.A.shape[1]} unknowns)"

    def _check(self, name: str, v: Any) -> None:
        if v.shape[-1] != self._basis.shape[0]:
            expectation = f"have {self._basis.shape[0]} elements in a row as `A`"
            fail(ValueError, name, "v", expectation, str(tuple(v.shape)))

    def _apply(self, call: Call) -> None:
        basis = call.xp.asarray(self._basis.astype(call.v.dtype))
        offset = call.xp.asarray(self._offset.astype(call.v.dtype))
        call.xp.subtract(call.v, (call.v @ basis - offset) @ basis.T, out=call.out)

    def _value(self, v: Any, xp: Any) -> Any:
        residual = xp.abs(v @ xp.asarray(self.A.T) - xp.asarray(self.b)).max(axis=-1)
        return feasible(residual, xp.abs(v).max(axis=-1), "float64", xp)


class HalfSpace(Prox):
    """The constraint ``a . x <= b``.

    Parameters
    ----------
    a : array_like of shape (n,)
        Not all zero.
    b : float

    Notes
    -----
    ``v - max(0, a . v - b) a / ||a||^2``. Class B.

    Examples
    --------
    >>> from hotloops import prox
    >>> prox.HalfSpace([3.0, 4.0], 5.0)([3.0, 4.0]).round(6)
    array([0.6, 0.8])
    """

    def __init__(self, a: Any, b: float) -> None:
        self.a = validate.array("HalfSpace", "a", a, ndim=1, dtype=float, copy=True)
        self.b = validate.real("HalfSpace", "b", b)
        largest = float(np.abs(self.a).max())
        if largest == 0.0:
            fail(ValueError, "HalfSpace", "a", "have an element that is not zero", "zeros")
        unit = self.a / largest
        norm = float(np.sqrt(unit @ unit))
        self._normal = unit / norm
        self._distance = self.b / largest / norm

    def __repr__(self) -> str:
        return f"HalfSpace({self.a.size} elements, b={self.b!r})"

    def _check(self, name: str, v: Any) -> None:
        if v.shape[-1] != self.a.size:
            expectation = f"have {self.a.size} elements in a row as `a`"
            fail(ValueError, name, "v", expectation, str(tuple(v.shape)))

    def _apply(self, call: Call) -> None:
        normal = call.xp.asarray(self._normal.astype(call.v.dtype))
        excess = call.xp.maximum(call.v @ normal - call.v.dtype.type(self._distance), 0)
        call.xp.subtract(call.v, excess[:, None] * normal, out=call.out)

    def _value(self, v: Any, xp: Any) -> Any:
        violation = v @ xp.asarray(self._normal) - self._distance
        return feasible(violation, xp.abs(v).max(axis=-1), "float64", xp)
