"""Functions of the singular values or eigenvalues of matrices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hotloops._runtime import validate
from hotloops._runtime.validate import fail
from hotloops.prox._base import Call, Prox, feasible

__all__ = ["Nuclear", "PSDCone", "SpectralBall"]

Decomposition = Callable[[Any], tuple[Any, Any, Any]]


class _Spectral(Prox):
    """A function of the singular values."""

    _core_axes = 2

    def __init__(self, svd: Decomposition | None) -> None:
        if svd is not None and not callable(svd):
            got = validate.describe(svd)
            fail(TypeError, type(self).__name__, "svd", "be a function or None", got)
        self.svd = svd

    def _decompose(self, v: Any, xp: Any) -> tuple[Any, Any, Any]:
        if self.svd is not None:
            return self.svd(v)
        return xp.linalg.svd(v, full_matrices=False)  # type: ignore[no-any-return]

    def _rebuild(self, call: Call, left: Any, values: Any, right: Any) -> None:
        kept = int((values > 0).sum(axis=-1).max(initial=0))  # what is zero adds nothing
        call.xp.matmul(
            left[..., :kept] * values[..., None, :kept], right[..., :kept, :], out=call.out
        )


class Nuclear(_Spectral):
    """The nuclear norm, ``strength * (sum of the singular values)``.

    Parameters
    ----------
    strength : float
        Default 1.
    svd : callable, optional
        ``svd(v) -> (left, values, right)`` like ``numpy.linalg.svd(v, full_matrices=False)``, for
        stacks of matrices; for instance a randomised one. Default: LAPACK's divide and conquer.

    Notes
    -----
    ``U max(S - t strength, 0) V'``. Class B.

    Examples
    --------
    >>> from hotloops import prox
    >>> prox.Nuclear()([[2.0, 1.0, 0.0], [0.0, 1.0, 3.0]], 0.6).round(6)
    array([[1.458831, 0.745332, 0.04775 ],
           [0.031833, 0.824916, 2.426997]])
    """

    _names = ("strength",)

    def __init__(self, strength: float = 1.0, *, svd: Decomposition | None = None) -> None:
        super().__init__(svd)
        self.strength = validate.real("Nuclear", "strength", strength, low=0.0)

    def _apply(self, call: Call) -> None:
        left, values, right = self._decompose(call.v, call.xp)
        k = call.xp.asarray((call.steps * self.strength).astype(call.v.dtype))
        self._rebuild(call, left, call.xp.maximum(values - k[:, None], 0), right)

    def _value(self, v: Any, xp: Any) -> Any:
        return self.strength * xp.linalg.svd(v, compute_uv=False).sum(axis=-1)


class SpectralBall(_Spectral):
    """The constraint that no singular value exceeds `radius`.

    Parameters
    ----------
    radius : float
        Default 1.
    svd : callable, optional
        As in `Nuclear`, but all singular values are needed.

    Notes
    -----
    Class B.

    Examples
    --------
    >>> from hotloops import prox
    >>> prox.SpectralBall()([[2.0, 0.0], [0.0, 0.5]])
    array([[1. , 0. ],
           [0. , 0.5]])
    """

    _names = ("radius",)

    def __init__(self, radius: float = 1.0, *, svd: Decomposition | None = None) -> None:
        super().__init__(svd)
        self.radius = validate.real("SpectralBall", "radius", radius, low=0.0)

    def _apply(self, call: Call) -> None:
        left, values, right = self._decompose(call.v, call.xp)
        self._rebuild(call, left, call.xp.minimum(values, self.radius), right)

    def _value(self, v: Any, xp: Any) -> Any:
        largest = xp.linalg.svd(v, compute_uv=False).max(axis=-1, initial=0.0)
        return feasible(largest - self.radius, self.radius, "float64", xp)


class PSDCone(Prox):
    """The cone of symmetric positive semidefinite matrices.

    Notes
    -----
    The symmetric part of `v` with its negative eigenvalues set to zero. Class B.

    Examples
    --------
    >>> from hotloops import prox
    >>> prox.PSDCone()([[2.0, 0.0], [0.0, -0.5]])
    array([[2., 0.],
           [0., 0.]])
    """

    _core_axes = 2

    def _check(self, name: str, v: Any) -> None:
        if v.shape[-1] != v.shape[-2]:
            fail(ValueError, name, "v", "have shape (..., n, n)", str(tuple(v.shape)))

    def _apply(self, call: Call) -> None:
        half = call.v.dtype.type(0.5)
        values, vectors = call.xp.linalg.eigh(half * (call.v + call.v.swapaxes(-1, -2)))
        clipped = call.xp.maximum(values, 0)
        call.xp.matmul(vectors * clipped[..., None, :], vectors.swapaxes(-1, -2), out=call.out)

    def _value(self, v: Any, xp: Any) -> Any:
        skew = xp.abs(v - v.swapaxes(-1, -2)).max(axis=(-1, -2), initial=0.0)
        values = xp.linalg.eigvalsh(0.5 * (v + v.swapaxes(-1, -2)))
        violation = xp.maximum(skew, -values.min(axis=-1, initial=0.0))
        return feasible(violation, xp.abs(values).max(axis=-1, initial=0.0), "float64", xp)
