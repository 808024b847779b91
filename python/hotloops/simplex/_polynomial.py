"""Polynomials, and quadratic programs as a case of their own."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops._runtime import validate
from hotloops.simplex._monomials import Key, MonomialBlocks, blocks_of
from hotloops.simplex._objective import Float64, Objective, host_array
from hotloops.simplex._polytope import cuts_of

__all__ = ["Polynomial", "QuadraticProgram"]

_MAX_DEGREE = 16


class Polynomial(Objective):
    """A polynomial, from its monomials or from tensors.

    Parameters
    ----------
    monomials : iterable of (coefficient, factors), optional
        ``factors`` is a sequence of pairs (index, power), or a mapping from index to power; an
        empty one makes a constant. The degree is at most 16.
    dim : int, optional
        Number of weights; needed with `monomials`.
    tensors : sequence or mapping of array_like, optional
        ``f = sum_k <T_k, x^k>`` with T_k of order k, each of shape (d, ..., d), not necessarily
        symmetric: a sequence from order 1 on, or a mapping from order to tensor such as
        ``{4: T}``. Give either this or `monomials`.

    Raises
    ------
    TypeError, ValueError
        Arguments of the wrong kind, indices beyond `dim`, a degree beyond 16.

    Notes
    -----
    Class A. Value and gradient take two products and two sums for each monomial, at a good part of
    the rate of the processor: each monomial is cut into two products of about half its degree,
    those that several monomials share are multiplied out once, and between them the coefficients
    make small dense blocks. A symmetric tensor of order k counts ``C(d + k - 1, k)`` monomials, not
    ``d^k``.

    Polynomials of the same `dim` can be added, subtracted, multiplied and raised to powers, also
    with numbers; ``with_terms`` comes after that.

    Examples
    --------
    >>> from hotloops import simplex
    >>> p = simplex.Polynomial([(2.0, [(0, 2)]), (-1.0, {0: 1, 1: 1})], dim=3)  # 2 a^2 - a b
    >>> value, gradient = p.value_and_grad([0.5, 0.25, 0.25])
    >>> float(value), gradient.tolist()
    (0.375, [1.75, -0.5, 0.0])
    """

    kernel = "polynomial"

    def __init__(
        self,
        monomials: Iterable[tuple[float, Any]] | None = None,
        dim: int | None = None,
        *,
        tensors: Sequence[Any] | Mapping[int, Any] | None = None,
    ) -> None:
        if (monomials is None) == (tensors is None):
            expectation = "be given, or else `tensors`"
            got = "neither" if monomials is None else "both"
            validate.fail(ValueError, "Polynomial", "monomials", expectation, got)
        if tensors is not None:
            table, size = _from_tensors(tensors, dim)
        else:
            size = validate.integer("Polynomial", "dim", dim, low=1)
            table = _from_monomials(() if monomials is None else monomials, size)
        self._set_table(table, size)

    def _set_table(self, table: Mapping[Key, float], dim: int) -> None:
        """Keep the monomials that are not zero, as sorted indices with repetition."""
        self._set_size("Polynomial", (dim,))
        self._table = {key: value for key, value in sorted(table.items()) if value != 0.0}
        self.degree = max((len(key) for key in self._table), default=0)
        if self.degree > _MAX_DEGREE:
            expectation = f"have a degree of at most {_MAX_DEGREE}"
            validate.fail(ValueError, "Polynomial", "monomials", expectation, str(self.degree))

    @functools.cached_property
    def _blocks(self) -> MonomialBlocks:
        return blocks_of(self._table, self.dim)

    def __repr__(self) -> str:
        return f"Polynomial(dim={self.dim}, degree={self.degree}, monomials={len(self._table)})"

    @staticmethod
    def squared_distance(point: Any) -> Polynomial:
        """Return ``|x - point|^2``.

        Parameters
        ----------
        point : array_like, shape (d,)
            Where it is zero.
        """
        checked, _ = host_array("squared_distance", "point", point, ndim=1, dtype=np.float64)
        table: dict[Key, float] = {(): float(checked @ checked)}
        for index, value in enumerate(checked.tolist()):
            table[index, index] = 1.0
            table[(index,)] = -2.0 * value
        made = Polynomial((), checked.size)
        made._set_table(table, checked.size)
        return made

    def _like(self, table: Mapping[Key, float], sizes: tuple[int, ...]) -> Polynomial:
        made = Polynomial((), self.dim)
        made._set_table(table, self.dim)
        made._set_size("Polynomial", sizes)
        return made

    def _operand(self, other: object) -> Polynomial | None:
        """Return what is added or multiplied as a polynomial that fits to this one."""
        theirs = other
        if isinstance(other, int | float | np.integer | np.floating):
            theirs = self._like({(): validate.real("Polynomial", "a term", other)}, self.sizes)
        if not isinstance(theirs, Polynomial):
            return None
        if theirs.dim != self.dim:
            raise ValueError(f"Polynomial: `dim` must be {self.dim}, got {theirs.dim}")
        if self.terms is not None or theirs.terms is not None:
            expectation = "be added after the arithmetic"
            validate.fail(ValueError, "Polynomial", "terms", expectation, "operands that have some")
        return theirs

    def _common_sizes(self, other: Polynomial) -> tuple[int, ...]:
        """Return the sizes of the operand that has several simplices."""
        several = [own for own in (self.sizes, other.sizes) if len(own) > 1]
        if len(set(several)) > 1:
            expectation = f"be {self.sizes} as in the other operand"
            validate.fail(ValueError, "Polynomial", "sizes", expectation, str(other.sizes))
        return several[0] if several else self.sizes

    def __add__(self, other: object) -> Polynomial:
        """Add a polynomial or a number."""
        theirs = self._operand(other)
        if theirs is None:
            return NotImplemented
        table = dict(self._table)
        for key, value in theirs._table.items():
            table[key] = table.get(key, 0.0) + value
        return self._like(table, self._common_sizes(theirs))

    __radd__ = __add__

    def __neg__(self) -> Polynomial:
        """Return minus the polynomial."""
        return self * -1.0

    def __sub__(self, other: object) -> Polynomial:
        """Subtract a polynomial or a number."""
        theirs = self._operand(other)
        return NotImplemented if theirs is None else self + -theirs

    def __rsub__(self, other: object) -> Polynomial:
        """Subtract from a number."""
        return -self + other

    def __mul__(self, other: object) -> Polynomial:
        """Multiply by a polynomial or a number."""
        theirs = self._operand(other)
        if theirs is None:
            return NotImplemented
        table: dict[Key, float] = {}
        for left, a in self._table.items():
            for right, b in theirs._table.items():
                key = tuple(sorted(left + right))
                table[key] = table.get(key, 0.0) + a * b
        return self._like(table, self._common_sizes(theirs))

    __rmul__ = __mul__

    def __pow__(self, exponent: int) -> Polynomial:
        """Raise to a power of at least 0."""
        power = validate.integer("Polynomial", "exponent", exponent, low=0, high=_MAX_DEGREE)
        product = self * 0.0 + 1.0
        for _ in range(power):
            product = product * self
        return product

    def parameters(self, dtype: np.dtype[Any]) -> tuple[Any, ...]:
        """Return the monomials as the kernel takes them."""
        return self._blocks.packed(dtype)

    def _own_value_and_grad(self, x: Float64) -> tuple[float, Float64]:
        gradient = np.zeros(self.dim)
        value = 0.0
        for keys, coefficients in self._by_degree:
            factors = x[keys]
            value += float(coefficients @ factors.prod(axis=1))
            for k in range(keys.shape[1]):
                others = np.delete(factors, k, axis=1).prod(axis=1)
                np.add.at(gradient, keys[:, k], coefficients * others)
        return value, gradient

    def _own_hessian(self, x: Float64) -> Float64:
        matrix = np.zeros((self.dim, self.dim))
        for keys, coefficients in self._by_degree:
            for k in range(keys.shape[1]):
                for j in range(keys.shape[1]):
                    if j != k:
                        others = np.delete(x[keys], [j, k], axis=1).prod(axis=1)
                        np.add.at(matrix, (keys[:, k], keys[:, j]), coefficients * others)
        return matrix

    @functools.cached_property
    def _by_degree(self) -> list[tuple[npt.NDArray[np.int64], Float64]]:
        """Return the monomials grouped by degree: indices (M, degree) and coefficients (M,)."""
        groups: dict[int, list[tuple[tuple[int, ...], float]]] = {}
        for key, value in self._table.items():
            groups.setdefault(len(key), []).append((key, value))
        return [
            (
                np.array([key for key, _ in group], np.int64).reshape(len(group), degree),
                np.array([value for _, value in group]),
            )
            for degree, group in groups.items()
        ]


def _is_pair(item: Any) -> bool:
    return isinstance(item, tuple | list) and len(item) == 2


def _from_monomials(monomials: Any, dim: int) -> dict[Key, float]:
    if not isinstance(monomials, Iterable):
        expectation = "hold pairs (coefficient, factors)"
        validate.fail(
            TypeError, "Polynomial", "monomials", expectation, validate.describe(monomials)
        )
    table: dict[Key, float] = {}
    for position, item in enumerate(monomials):
        name = f"monomials[{position}]"
        if not _is_pair(item):
            expectation = "be a pair (coefficient, factors)"
            validate.fail(TypeError, "Polynomial", name, expectation, validate.describe(item))
        coefficient = validate.real("Polynomial", name, item[0])
        pairs = item[1].items() if isinstance(item[1], Mapping) else item[1]
        if not isinstance(pairs, Iterable):
            expectation = "have factors such as {index: power}"
            validate.fail(TypeError, "Polynomial", name, expectation, validate.describe(pairs))
        key: list[int] = []
        for pair in pairs:
            if not _is_pair(pair):
                expectation = "have factors (index, power)"
                validate.fail(TypeError, "Polynomial", name, expectation, validate.describe(pair))
            index = validate.integer("Polynomial", f"{name} index", pair[0], low=0, high=dim - 1)
            power = validate.integer(
                "Polynomial", f"{name} power", pair[1], low=0, high=_MAX_DEGREE
            )
            key += [index] * power
        ordered = tuple(sorted(key))
        table[ordered] = table.get(ordered, 0.0) + coefficient
    return table


def _from_tensors(tensors: Any, dim: int | None) -> tuple[dict[Key, float], int]:
    table: dict[Key, float] = {}
    size = None if dim is None else validate.integer("Polynomial", "dim", dim, low=1)
    for order, name, item in _orders(tensors):
        tensor, _ = host_array("Polynomial", name, item, ndim=order, dtype=np.float64)
        size = tensor.shape[0] if size is None else size
        if tensor.shape != (size,) * order:
            expectation = f"have shape {(size,) * order}"
            validate.fail(ValueError, "Polynomial", name, expectation, str(tensor.shape))
        keys = np.sort(np.argwhere(tensor), axis=1)
        values = tensor[tensor != 0.0]
        unique, inverse = np.unique(keys, axis=0, return_inverse=True)
        sums = np.zeros(len(unique))
        np.add.at(sums, inverse.ravel(), values)
        table.update(zip(map(tuple, unique.tolist()), sums.tolist(), strict=True))
    return table, int(size or 0)


def _orders(tensors: Any) -> list[tuple[int, str, Any]]:
    """Return the order, the name and the value of each tensor."""
    if not isinstance(tensors, Mapping | list | tuple):
        expectation = "be a sequence, or a mapping such as {4: T}"
        validate.fail(TypeError, "Polynomial", "tensors", expectation, validate.describe(tensors))
    if len(tensors) == 0:
        validate.fail(ValueError, "Polynomial", "tensors", "hold at least one tensor", "none")
    if not isinstance(tensors, Mapping):
        return [(k + 1, f"tensors[{k}]", tensor) for k, tensor in enumerate(tensors)]
    return [
        (
            validate.integer("Polynomial", "tensors key", order, low=1, high=_MAX_DEGREE),
            f"tensors[{order}]",
            tensor,
        )
        for order, tensor in tensors.items()
    ]


class QuadraticProgram(Objective):
    """The standard quadratic program ``x^T Q x + c . x``.

    Parameters
    ----------
    Q : array_like, shape (d, d)
        Any square matrix; only its symmetric part counts. It need not be positive.
    c : array_like, shape (d,), optional
        Default: zero.

    Raises
    ------
    TypeError, ValueError
        A matrix that is not square, a vector of another length, numbers that are not finite.

    Notes
    -----
    Class A; 2 d^2 operations for each evaluation. With minus the adjacency matrix of a graph the
    minimum is ``1 / omega - 1``, omega being the size of its largest clique (Motzkin and Straus,
    1965).

    Examples
    --------
    >>> from hotloops import simplex
    >>> program = simplex.QuadraticProgram([[0, -1, -1], [-1, 0, -1], [-1, -1, 0]])
    >>> result = simplex.mwu(program, x0=[0.5, 0.3, 0.2], step_size=0.5, num_steps=300)
    >>> round(1 / (1 + result.value))  # a triangle
    3
    """

    kernel = "quadratic"

    def __init__(self, Q: Any, c: Any = None) -> None:
        name = "QuadraticProgram"
        matrix, self.library = host_array(name, "Q", Q, ndim=2, dtype=None)
        if matrix.shape[0] != matrix.shape[1]:
            validate.fail(ValueError, name, "Q", "be square", str(matrix.shape))
        self._set_size(name, (matrix.shape[0],))
        self.dtype = matrix.dtype if hasattr(Q, "dtype") else None
        wide = matrix.astype(np.float64)
        self._matrix = np.ascontiguousarray((wide + wide.T) / 2.0)
        self._linear = np.zeros(self.dim)
        if c is not None:
            given, _ = host_array(name, "c", c, shape=(self.dim,), dtype=np.float64)
            self._linear = np.array(given)

    def __repr__(self) -> str:
        return f"QuadraticProgram(dim={self.dim})"

    def parameters(self, dtype: np.dtype[Any]) -> tuple[Any, ...]:
        """Return matrix and vector as the kernel takes them."""
        return self._matrix.astype(dtype), self._linear.astype(dtype)

    def _own_value_and_grad(self, x: Float64) -> tuple[float, Float64]:
        half = self._matrix @ x
        return float(x @ (half + self._linear)), 2.0 * half + self._linear

    def _own_hessian(self, x: Float64) -> Float64:
        return 2.0 * self._matrix

    def _own_convexity(self) -> bool:
        """Along the simplices, on which sums do not change."""
        tangent = self._matrix.copy()
        for axis in (0, 1):
            view = np.moveaxis(tangent, axis, 0)
            for cut in cuts_of(self.sizes):
                view[cut] -= view[cut].mean(axis=0)
        values = np.linalg.eigvalsh(tangent)
        return bool(values[0] >= -1e-12 * max(1.0, float(values[-1])))
