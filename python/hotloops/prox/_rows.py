"""Functions of whole rows: norms, balls, simplices, groups, total variation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from hotloops._runtime import validate
from hotloops._runtime.validate import fail
from hotloops.prox import _operations as op
from hotloops.prox._base import Call, Prox, RowProx, copy, feasible

__all__ = [
    "L2",
    "FusedLasso",
    "GroupLasso",
    "L1Ball",
    "L2Ball",
    "LInf",
    "SecondOrderCone",
    "Simplex",
    "SparseGroupLasso",
    "TopK",
    "TotalVariation",
]


class LInf(RowProx):
    """The maximum norm of each row, ``strength max |x|``.

    A batch of rows makes it the l1,inf norm of a matrix.

    Parameters
    ----------
    strength : float
        Default 1.

    Notes
    -----
    By Moreau's identity with the projection onto the l1 ball, which is found exactly in a few
    passes over the row. Class A.

    Examples
    --------
    >>> from hotloops import prox
    >>> prox.LInf()([3.0, -1.0, 0.5, -0.2, 2.0], 0.6)
    array([ 2.4, -1. ,  0.5, -0.2,  2. ])
    """

    _names = ("strength",)
    _operation = op.L_INF

    def __init__(self, strength: float = 1.0) -> None:
        self.strength = validate.real("LInf", "strength", strength, low=0.0)

    def _number(self, steps: npt.NDArray[np.float64]) -> Any:
        return steps * self.strength

    def _value(self, v: Any, xp: Any) -> Any:
        return self.strength * xp.abs(v).max(axis=-1)


class Simplex(RowProx):
    """The constraint ``x >= 0, sum x = total``.

    Parameters
    ----------
    total : float
        Above zero; default 1.

    Notes
    -----
    ``max(v - theta, 0)`` with the exact theta, by Newton's iteration on its equation (Michelot, J.
    Optim. Theory Appl. 50, 1986): 3 to 8 passes over the row and no sorting. Class A.

    Examples
    --------
    >>> from hotloops import prox
    >>> prox.Simplex()([[3.0, -1.0, 0.5], [0.2, 0.4, 0.1]])
    array([[1. , 0. , 0. ],
           [0.3, 0.5, 0.2]])
    """

    _names = ("total",)
    _operation = op.SIMPLEX

    def __init__(self, total: float = 1.0) -> None:
        self.total = validate.real("Simplex", "total", total, low=0.0, open_low=True)

    def _number(self, steps: npt.NDArray[np.float64]) -> Any:
        return self.total

    def _value(self, v: Any, xp: Any) -> Any:
        violation = xp.maximum(-v.min(axis=-1), xp.abs(v.sum(axis=-1) - self.total))
        return feasible(violation, self.total, "float64", xp)


class L1Ball(RowProx):
    """The constraint ``sum |x| <= radius``.

    Parameters
    ----------
    radius : float
        Default 1.

    Notes
    -----
    Exact, without sorting, as `Simplex`. Class A.

    Examples
    --------
    >>> from hotloops import prox
    >>> prox.L1Ball(2.0)([3.0, -1.0, 0.5, -0.2, 2.0])
    array([1.5, 0. , 0. , 0. , 0.5])
    """

    _names = ("radius",)
    _operation = op.L1_BALL

    def __init__(self, radius: float = 1.0) -> None:
        self.radius = validate.real("L1Ball", "radius", radius, low=0.0)

    def _number(self, steps: npt.NDArray[np.float64]) -> Any:
        return self.radius

    def _value(self, v: Any, xp: Any) -> Any:
        return feasible(xp.abs(v).sum(axis=-1) - self.radius, self.radius, "float64", xp)


class L2Ball(RowProx):
    """The constraint ``||x|| <= radius``.

    Parameters
    ----------
    radius : float
        Default 1.

    Notes
    -----
    ``v min(1, radius / ||v||)``; norms neither overflow nor underflow. Class A.

    Examples
    --------
    >>> from hotloops import prox
    >>> prox.L2Ball(2.0)([3.0, -1.0, 0.5, -0.2, 2.0]).round(7)
    array([ 1.5872127, -0.5290709,  0.2645355, -0.1058142,  1.0581418])
    """

    _names = ("radius",)
    _operation = op.L2_BALL

    def __init__(self, radius: float = 1.0) -> None:
        self.radius = validate.real("L2Ball", "radius", radius, low=0.0)

    def _number(self, steps: npt.NDArray[np.float64]) -> Any:
        return self.radius

    def _value(self, v: Any, xp: Any) -> Any:
        return feasible(_norm(v, xp) - self.radius, self.radius, "float64", xp)


class SecondOrderCone(RowProx):
    """The constraint ``||x[1:]|| <= x[0]``.

    Notes
    -----
    Class A.

    Examples
    --------
    >>> from hotloops import prox
    >>> prox.SecondOrderCone()([1.0, 3.0, 4.0])
    array([3. , 1.8, 2.4])
    """

    _operation = op.CONE

    def _number(self, steps: npt.NDArray[np.float64]) -> Any:
        return 0.0

    def _value(self, v: Any, xp: Any) -> Any:
        return feasible(_norm(v[..., 1:], xp) - v[..., 0], v[..., 0], "float64", xp)


class _Groups(Prox):
    """Shrinking of the norms of groups of elements, after soft thresholding of each element."""

    _kernel_looks = True

    def __init__(self, groups: Any, weights: Any) -> None:
        name = type(self).__name__
        if groups is None:
            self._offsets, self._indices, self._size = None, None, 0
            count = 1
        else:
            members = _members(name, groups)
            self._indices = np.concatenate(members)
            self._size = self._indices.size
            self._offsets = np.cumsum([0, *(len(group) for group in members)])
            count = len(members)
            if np.array_equal(self._indices, np.arange(self._size)):
                self._indices = None
        self._weights = self._checked_weights(name, weights, count)

    def _checked_weights(self, name: str, weights: Any, count: int) -> Any:
        if isinstance(weights, str):
            validate.choice(name, "weights", weights, ("sqrt_size",))
            sizes = np.ones(1) if self._offsets is None else np.diff(self._offsets)
            return np.sqrt(sizes.astype(np.float64))
        array = validate.array(
            name, "weights", weights, shape=(count,), dtype=np.float64, copy=True
        )
        if (array < 0).any():
            index = int((array < 0).argmax())
            got = f"{array[index]} at index {index}"
            fail(ValueError, name, "weights", "hold no negative numbers", got)
        return array

    def _check(self, name: str, v: Any) -> None:
        if self._offsets is not None and v.shape[-1] != self._size:
            expectation = f"have {self._size} elements in a row as `groups`"
            fail(ValueError, name, "v", expectation, str(tuple(v.shape)))

    def _run(self, call: Call, soft: float, shrink: float) -> None:
        columns = call.v.shape[-1]

        def make(call: Call) -> Any:
            offsets = np.array([0, columns]) if self._offsets is None else self._offsets
            return offsets, call.steps * soft, call.steps * shrink

        offsets, soft_, shrink_ = self._keep(call, columns, make)
        call.run(
            "groups",
            call.v,
            call.out,
            call.upload(offsets),
            None if self._indices is None else call.upload(self._indices),
            call.upload(self._weights),
            call.upload(soft_),
            call.upload(shrink_),
        )

    def _norms(self, v: Any, xp: Any) -> Any:
        """Return the sum over groups of the weighted norms."""
        if self._offsets is None:
            return self._weights[0] * _norm(v, xp)
        ordered = v if self._indices is None else v[..., xp.asarray(self._indices)]
        total = xp.zeros(v.shape[:-1])
        for weight, begin, end in zip(
            self._weights, self._offsets[:-1], self._offsets[1:], strict=True
        ):
            total = total + weight * _norm(ordered[..., begin:end], xp)
        return total


class GroupLasso(_Groups):
    """The group lasso, ``strength sum_g weights[g] ||x_g||`` (Yuan and Lin, JRSS B 68, 2006).

    Parameters
    ----------
    groups : array_like of int, shape (n,), or sequence of index arrays
        The label of each element's group, or the elements of each group; every element belongs to
        exactly one. Labels may be any integers; the groups are in order of their labels.
    strength : float
        Default 1.
    weights : "sqrt_size" or array_like of shape (groups,)
        Default: the root of each group's size.

    Notes
    -----
    ``v_g max(0, 1 - t strength weights[g] / ||v_g||)``; norms neither overflow nor underflow.
    Groups that lie side by side are worked on in place, others are gathered. Class A.

    Examples
    --------
    >>> from hotloops import prox
    >>> r = prox.GroupLasso([0, 0, 1, 1, 1], weights=[1.0, 1.0])
    >>> r([3.0, -1.0, 0.5, -0.2, 2.0], 0.6).round(5)
    array([ 2.43079, -0.81026,  0.35516, -0.14206,  1.42063])
    """

    _names = ("strength",)

    def __init__(self, groups: Any, strength: float = 1.0, *, weights: Any = "sqrt_size") -> None:
        super().__init__(groups, weights)
        self.strength = validate.real("GroupLasso", "strength", strength, low=0.0)

    def _apply(self, call: Call) -> None:
        self._run(call, 0.0, self.strength)

    def _value(self, v: Any, xp: Any) -> Any:
        return self.strength * self._norms(v, xp)


class SparseGroupLasso(_Groups):
    """The sparse group lasso, ``l1 sum |x| + group sum_g weights[g] ||x_g||``.

    Parameters
    ----------
    groups : array_like of int, shape (n,), or sequence of index arrays
        As in `GroupLasso`.
    l1, group : float
        Weights of the two parts.
    weights : "sqrt_size" or array_like of shape (groups,)
        As in `GroupLasso`.

    Notes
    -----
    Soft thresholding, then shrinking of the groups (Simon et al., J. Comput. Graph. Stat. 22,
    2013). Class A.

    Examples
    --------
    >>> from hotloops import prox
    >>> r = prox.SparseGroupLasso([0, 0, 1], 0.5, 0.5, weights=[1.0, 1.0])
    >>> r([3.5, -4.5, 0.2]).round(6)
    array([ 2.7, -3.6,  0. ])
    """

    _names = ("l1", "group")

    def __init__(self, groups: Any, l1: float, group: float, *, weights: Any = "sqrt_size") -> None:
        super().__init__(groups, weights)
        self.l1 = validate.real("SparseGroupLasso", "l1", l1, low=0.0)
        self.group = validate.real("SparseGroupLasso", "group", group, low=0.0)

    def _apply(self, call: Call) -> None:
        self._run(call, self.l1, self.group)

    def _value(self, v: Any, xp: Any) -> Any:
        return self.l1 * xp.abs(v).sum(axis=-1) + self.group * self._norms(v, xp)


class L2(_Groups):
    """The Euclidean norm of each row, ``strength ||x||``.

    Parameters
    ----------
    strength : float
        Default 1.

    Notes
    -----
    ``v max(0, 1 - t strength / ||v||)``. A batch of rows makes it the l1,2 norm of a matrix. Class
    A.

    Examples
    --------
    >>> from hotloops import prox
    >>> prox.L2()([3.0, 4.0], 2.5)
    array([1.5, 2. ])
    """

    _names = ("strength",)

    def __init__(self, strength: float = 1.0) -> None:
        super().__init__(None, [1.0])
        self.strength = validate.real("L2", "strength", strength, low=0.0)

    def _apply(self, call: Call) -> None:
        self._run(call, 0.0, self.strength)

    def _value(self, v: Any, xp: Any) -> Any:
        return self.strength * self._norms(v, xp)


class TopK(Prox):
    """The constraint that at most `k` elements of a row are nonzero.

    Parameters
    ----------
    k : int
        At least 1; rows of up to k elements are returned as they are.

    Notes
    -----
    Not convex. Keeps the k largest magnitudes, of equal ones those with the lower index; found by
    a radix search, without sorting. Class A. CUDA arrays are worked on in host memory.

    Examples
    --------
    >>> from hotloops import prox
    >>> prox.TopK(2)([3.0, -1.0, 0.5, -3.0, 3.0])
    array([ 3.,  0.,  0., -3.,  0.])
    """

    convex: ClassVar[bool] = False
    _names = ("k",)
    _kernel_looks = True

    def __init__(self, k: int) -> None:
        self.k = validate.integer("TopK", "k", k, low=1)

    def _apply(self, call: Call) -> None:
        if self.k >= call.v.shape[-1]:
            copy(call)
        else:
            call.run("top", call.v, call.out, self.k)

    def _value(self, v: Any, xp: Any) -> Any:
        return xp.where((v != 0).sum(axis=-1) <= self.k, 0.0, np.inf)


class TotalVariation(Prox):
    """The total variation of each row, ``strength sum |x[j + 1] - x[j]|``.

    Parameters
    ----------
    strength : float
        Default 1.

    Notes
    -----
    The taut string (Davies and Kovac, Ann. Statist. 29, 2001): O(n) operations whatever the data,
    in double; 24 bytes of memory for each element of a row and thread. Class A. CUDA arrays are
    worked on in host memory: the path is found from left to right.

    Examples
    --------
    >>> from hotloops import prox
    >>> prox.TotalVariation()([1.0, 2.0, 8.0, 7.0, 0.0])
    array([2. , 2. , 6.5, 6.5, 1. ])
    """

    _names: ClassVar[tuple[str, ...]] = ("strength",)
    _kernel_looks = True

    def __init__(self, strength: float = 1.0) -> None:
        self.strength = validate.real(type(self).__name__, "strength", strength, low=0.0)

    def _apply(self, call: Call) -> None:
        call.run("variation", call.v, call.out, call.steps * self.strength)

    def _value(self, v: Any, xp: Any) -> Any:
        return self.strength * xp.abs(v[..., 1:] - v[..., :-1]).sum(axis=-1)


class FusedLasso(TotalVariation):
    """The fused lasso, ``strength sum |x[j + 1] - x[j]| + l1 sum |x|``.

    Parameters
    ----------
    strength : float
        Weight of the total variation.
    l1 : float
        Weight of the l1 norm.

    Notes
    -----
    The total variation, then soft thresholding, which is exact (Friedman et al., Ann. Appl. Stat.
    1, 2007). Class A.

    Examples
    --------
    >>> from hotloops import prox
    >>> prox.FusedLasso(1.0, 1.5)([1.0, 2.0, 8.0, 7.0, 0.0])
    array([0.5, 0.5, 5. , 5. , 0. ])
    """

    _names = ("strength", "l1")

    def __init__(self, strength: float, l1: float) -> None:
        super().__init__(strength)
        self.l1 = validate.real("FusedLasso", "l1", l1, low=0.0)

    def _apply(self, call: Call) -> None:
        super()._apply(call)
        constants = (call.steps * self.l1).astype(call.v.dtype).reshape(1, -1, 1)
        call.then(call.out).run("elements", op.SOFT, call.out, call.out, call.upload(constants))

    def _value(self, v: Any, xp: Any) -> Any:
        return super()._value(v, xp) + self.l1 * xp.abs(v).sum(axis=-1)


def _norm(v: Any, xp: Any) -> Any:
    return xp.sqrt((v * v).sum(axis=-1))


def _members(name: str, groups: Any) -> list[npt.NDArray[np.int64]]:
    """Return the elements of each group, checked to be a partition."""
    lists = isinstance(groups, Sequence) and any(np.ndim(group) == 1 for group in groups)
    if not lists:
        labels = validate.array(name, "groups", groups, ndim=1, dtype=np.int64)
        order = np.argsort(labels, kind="stable")
        cuts = np.flatnonzero(np.diff(labels[order])) + 1
        return list(np.split(order, cuts))
    members = [
        validate.array(name, f"groups[{i}]", group, ndim=1, dtype=np.int64)
        for i, group in enumerate(groups)
    ]
    size = sum(group.size for group in members)
    every = np.sort(np.concatenate(members))
    if not np.array_equal(every, np.arange(size)):
        expectation = f"name each of the elements 0 to {size - 1} exactly once"
        wrong = int(np.flatnonzero(every != np.arange(size))[0])
        fail(ValueError, name, "groups", expectation, f"{every[wrong]} in place {wrong}")
    return members
