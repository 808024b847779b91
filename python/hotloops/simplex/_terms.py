"""Terms that every objective can carry: costs, regularisers and penalties of the weights alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops._runtime import validate
from hotloops.simplex._polytope import Infeasible, Polytope, cuts_of

__all__ = ["Terms", "check_terms"]

Float64 = npt.NDArray[np.float64]
_TINY = 1e-290
_EXAMPLE = "hold groups such as ([0, 3, 4], 0.3)"


@dataclass(frozen=True)
class Terms:
    """``rho |x|^2 + tau sum x log x + kappa sum sqrt((x - x0)^2 + h^2)``, and penalties.

    Attributes
    ----------
    ridge, entropy, turnover, smoothing : float
        rho, tau, kappa, h.
    penalty : float
        Of squared violations of `upper` and of the caps of `groups`.
    anchor, lower, upper : ndarray, shape (d,), optional
        x0 and bounds.
    groups : tuple of (indices, cap)
        Sums of weights that must stay below a cap.
    sizes : tuple of int
        Entries of each simplex.
    """

    ridge: float
    entropy: float
    turnover: float
    smoothing: float
    penalty: float
    anchor: Float64 | None
    lower: Float64 | None
    upper: Float64 | None
    groups: tuple[tuple[npt.NDArray[np.int32], float], ...]
    sizes: tuple[int, ...]

    @property
    def constrained(self) -> bool:
        """Whether there are bounds or caps."""
        return self.lower is not None or self.upper is not None or bool(self.groups)

    def without_penalties(self) -> Terms:
        """Return the terms for points that meet the bounds and caps."""
        return replace(self, lower=None, upper=None, groups=())

    def polytope(self) -> Polytope:
        """Return the set of weights that meet the bounds and caps."""
        plain = Polytope.simplices(self.sizes)
        rows = np.zeros((len(self.groups), plain.lower.size))
        for row, (members, _) in zip(rows, self.groups, strict=True):
            row[members] = 1.0
        return replace(
            plain,
            lower=plain.lower if self.lower is None else self.lower,
            upper=plain.upper if self.upper is None else self.upper,
            rows=rows,
            caps=np.array([cap for _, cap in self.groups]),
        )

    def _penalised(self) -> list[tuple[npt.NDArray[np.int32], float]]:
        """Return the groups of the kernels: a lower bound of a weight is a cap of all the others of
        its simplex."""
        groups = list(self.groups)
        if self.lower is None:
            return groups
        for cut in cuts_of(self.sizes):
            inside = np.arange(cut.start, cut.stop, dtype=np.int32)
            groups += [
                (inside[inside != s], 1.0 - float(self.lower[s]))
                for s in inside
                if self.lower[s] > 0.0
            ]
        return groups

    def packed(self, dtype: np.dtype[Any]) -> tuple[Any, ...]:
        """Return what the kernels take, in precision `dtype`."""
        scalars = (self.ridge, self.entropy, self.turnover, self.smoothing, self.penalty)
        groups = self._penalised()
        members = [indices for indices, _ in groups]
        return (
            *(dtype.type(value) for value in scalars),
            None if self.anchor is None else self.anchor.astype(dtype),
            None if self.upper is None else self.upper.astype(dtype),
            np.array([cap for _, cap in groups], dtype),
            np.cumsum([0, *(indices.size for indices in members)]).astype(np.int32),
            np.concatenate([np.zeros(0, np.int32), *members]),
        )

    def value_and_grad(self, x: Float64) -> tuple[float, Float64]:
        """Return value and gradient at one point."""
        value = self.ridge * float(x @ x)
        gradient = 2.0 * self.ridge * x
        if self.entropy:
            logarithm = np.log(np.maximum(x, _TINY))
            value += self.entropy * float(x @ logarithm)
            gradient = gradient + self.entropy * (logarithm + 1.0)
        if self.turnover and self.anchor is not None:
            change = x - self.anchor
            cost = np.sqrt(change**2 + self.smoothing**2)
            value += self.turnover * float(cost.sum())
            gradient = gradient + self.turnover * change / cost
        if self.upper is not None:
            excess = np.maximum(x - self.upper, 0.0)
            value += self.penalty * float(excess @ excess)
            gradient = gradient + 2.0 * self.penalty * excess
        for members, cap in self._penalised():
            over = max(float(x[members].sum()) - cap, 0.0)
            value += self.penalty * over**2
            gradient[members] += 2.0 * self.penalty * over
        return value, gradient

    def hessian(self, x: Float64) -> Float64:
        """Return the matrix of second derivatives at one point."""
        diagonal = np.full(x.size, 2.0 * self.ridge)
        if self.entropy:
            diagonal += self.entropy / np.maximum(x, _TINY)
        if self.turnover and self.anchor is not None:
            cost = np.sqrt((x - self.anchor) ** 2 + self.smoothing**2)
            diagonal += self.turnover * self.smoothing**2 / cost**3
        if self.upper is not None:
            diagonal += 2.0 * self.penalty * (x > self.upper)
        matrix = np.diag(diagonal)
        for members, cap in self._penalised():
            if x[members].sum() > cap:
                matrix[np.ix_(members, members)] += 2.0 * self.penalty
        return matrix


def check_terms(
    function: str,
    sizes: tuple[int, ...],
    names: Sequence[str] | None,
    *,
    ridge: float,
    entropy: float,
    turnover: float,
    anchor: Any,
    smoothing: float,
    lower: Any,
    upper: Any,
    groups: Any,
    penalty: float,
) -> Terms | None:
    """Check the arguments that describe terms; None when there are none."""
    dim = sum(sizes)
    terms = Terms(
        ridge=validate.real(function, "ridge", ridge),
        entropy=validate.real(function, "entropy", entropy),
        turnover=validate.real(function, "turnover", turnover, low=0.0),
        smoothing=validate.real(function, "smoothing", smoothing, low=0.0, open_low=True),
        penalty=validate.real(function, "penalty", penalty, low=0.0, open_low=True),
        anchor=_vector(function, "anchor", anchor, dim),
        lower=_vector(function, "lower", lower, dim),
        upper=_vector(function, "upper", upper, dim),
        groups=_groups(function, groups, dim, names),
        sizes=sizes,
    )
    if terms.turnover and terms.anchor is None:
        expectation = "be given when `turnover` is above zero"
        validate.fail(ValueError, function, "anchor", expectation, "None")
    if terms.lower is not None and float(terms.lower.min()) < 0.0:
        validate.fail(ValueError, function, "lower", "not be negative", f"{terms.lower.min():g}")
    if terms.upper is not None and float(terms.upper.min()) <= 0.0:
        validate.fail(ValueError, function, "upper", "be positive", f"{terms.upper.min():g}")
    _check_room(function, terms)
    if not (terms.ridge or terms.entropy or terms.turnover or terms.constrained):
        return None
    return terms


def _check_room(function: str, terms: Terms) -> None:
    """Check that some weights meet all bounds and caps."""
    for cut in cuts_of(terms.sizes):
        for name, bound, sign in (("lower", terms.lower, 1.0), ("upper", terms.upper, -1.0)):
            total = 1.0 if bound is None else float(bound[cut].sum())
            if sign * total > sign * 1.0 + 1e-12:
                expectation = "leave room for weights that sum to 1"
                validate.fail(ValueError, function, name, expectation, f"the sum {total:g}")
    if terms.lower is not None and terms.upper is not None and (terms.lower > terms.upper).any():
        worst = int((terms.lower - terms.upper).argmax())
        got = f"{terms.lower[worst]:g} and {terms.upper[worst]:g} at index {worst}"
        validate.fail(ValueError, function, "lower", "not be above `upper`", got)
    if not terms.constrained:
        return
    try:
        terms.polytope().nearest(
            np.concatenate([np.full(size, 1.0 / size) for size in terms.sizes])
        )
    except Infeasible:
        expectation = "leave room for weights that sum to 1 within their bounds"
        validate.fail(ValueError, function, "groups", expectation, "caps that no weights meet")


def _vector(function: str, name: str, value: Any, dim: int) -> Float64 | None:
    if value is None:
        return None
    if np.ndim(value) == 0:
        number = validate.real(function, name, value)
        return np.full(dim, number)
    checked: Float64 = validate.array(
        function, name, value, shape=(dim,), dtype=np.float64, copy=True
    )
    return checked


def _groups(
    function: str, groups: Any, dim: int, names: Sequence[str] | None
) -> tuple[tuple[npt.NDArray[np.int32], float], ...]:
    """Return the members and the cap of each group of ``[(indices or names, cap), ...]``."""
    if groups is None:
        return ()
    items = groups.items() if isinstance(groups, Mapping) else enumerate(groups)
    found = []
    for label, item in items:
        name = f"groups[{label!r}]"
        if not isinstance(item, tuple | list) or len(item) != 2:
            validate.fail(TypeError, function, name, _EXAMPLE, validate.describe(item))
        members = item[0]
        if isinstance(members, str) or not isinstance(members, Sequence | np.ndarray):
            validate.fail(TypeError, function, name, _EXAMPLE, validate.describe(members))
        indices = validate.array(
            function,
            name,
            [_index(function, name, member, names) for member in members],
            shape=("k",),
            dtype=np.int64,
        )
        if indices.min() < 0 or indices.max() >= dim or np.unique(indices).size < indices.size:
            expectation = f"hold different indices in [0, {dim - 1}]"
            validate.fail(ValueError, function, name, expectation, str(indices.tolist()))
        cap = validate.real(function, f"{name} cap", item[1], low=0.0)
        found.append((indices.astype(np.int32), cap))
    return tuple(found)


def _index(function: str, group: str, member: Any, names: Sequence[str] | None) -> Any:
    if not isinstance(member, str):
        return member
    if names is None:
        expectation = "hold indices, since the assets have no names"
        validate.fail(ValueError, function, group, expectation, repr(member))
    if member not in names:
        validate.fail(ValueError, function, group, "hold names of assets", repr(member))
    return list(names).index(member)
