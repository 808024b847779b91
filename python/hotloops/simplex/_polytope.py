"""Products of simplices with bounds and caps: nearest points, and the gap of a linear function."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Infeasible", "Polytope", "cuts_of"]

Float64 = npt.NDArray[np.float64]

_FEASIBLE = 1e-13  # rounding of a sum of weights
_NEAR = 1e-9  # a weight or a sum as close to its bound rests on it


class Infeasible(ValueError):
    """No weights meet the bounds and the caps."""


def cuts_of(sizes: tuple[int, ...]) -> list[slice]:
    """Return where each simplex lies in the concatenated weights."""
    ends = np.cumsum(sizes)
    return [slice(int(end - size), int(end)) for end, size in zip(ends, sizes, strict=True)]


@dataclass(frozen=True)
class Polytope:
    """``lower <= x <= upper``, each simplex with sum 1, ``rows @ x <= caps``."""

    sizes: tuple[int, ...]
    lower: Float64
    upper: Float64
    rows: Float64
    caps: Float64

    @classmethod
    def simplices(cls, sizes: tuple[int, ...]) -> Polytope:
        """Return the product of simplices alone."""
        dim = sum(sizes)
        return cls(sizes, np.zeros(dim), np.full(dim, np.inf), np.zeros((0, dim)), np.zeros(0))

    @property
    def plain(self) -> bool:
        """Whether there is nothing but the simplices."""
        return not (self.lower.any() or np.isfinite(self.upper).any() or self.caps.size)

    def sums(self) -> Float64:
        """Return the matrix of the sums, (simplices, d)."""
        matrix = np.zeros((len(self.sizes), sum(self.sizes)))
        for row, cut in zip(matrix, cuts_of(self.sizes), strict=True):
            row[cut] = 1.0
        return matrix

    def nearest(self, point: Float64) -> Float64:
        """Return the feasible point that is nearest to another one."""
        x = point.astype(np.float64)
        for cut in cuts_of(self.sizes):
            x[cut] = _onto_bounds(x[cut], self.lower[cut], self.upper[cut])
        if (self.rows @ x <= self.caps + _FEASIBLE).all():
            return x
        return _DualActiveSet(self, point).solve()

    def prices(self, x: Float64, gradient: Float64) -> Float64:
        """Return the multipliers of the caps that explain the gradient best."""
        free = (x > self.lower + _NEAR) & (x < self.upper - _NEAR)
        tight = self.rows @ x >= self.caps - _NEAR
        rows = np.concatenate([self.sums(), self.rows[tight]])[:, free]
        prices = np.zeros(self.caps.size)
        multipliers = np.linalg.lstsq(rows.T, -gradient[free], rcond=None)[0]
        prices[tight] = np.maximum(multipliers[len(self.sizes) :], 0.0)
        return prices

    def gap(self, x: Float64, gradient: Float64, prices: Float64) -> float:
        """Return an upper bound of ``max gradient . (x - y)`` over the feasible y.

        It is the Lagrangian bound at the multipliers `prices` of the caps, and exact where those
        are the right ones or where there are no caps. For a convex objective it bounds how far the
        value is from the minimum.
        """
        slope = gradient + prices @ self.rows
        gaps = [
            float(slope[cut] @ x[cut]) - _cheapest(slope[cut], self.lower[cut], self.upper[cut])
            for cut in cuts_of(self.sizes)
        ]
        if self.caps.size == 0:
            return max(0.0, *gaps)
        spare = float(prices @ (self.caps - self.rows @ x))
        return max(0.0, sum(gaps) + spare)


def _onto_bounds(v: Float64, lower: Float64, upper: Float64) -> Float64:
    """Return ``clip(v - tau, lower, upper)`` with sum 1, by bisection over the kinks of that sum,
    which falls linearly with tau between neighbouring ones."""
    if lower.sum() > 1.0 + _FEASIBLE or upper.sum() < 1.0 - _FEASIBLE:
        raise Infeasible("bounds")

    def total(tau: float) -> float:
        return float(np.clip(v - tau, lower, upper).sum())

    kinks = np.unique(np.concatenate([v - lower, (v - upper)[np.isfinite(upper)]]))
    kinks = np.concatenate([[kinks[0] - 1.0], kinks])  # left of it every weight rises
    low, high = 0, kinks.size - 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if total(kinks[middle]) >= 1.0 else (low, middle)
    above, below = total(kinks[low]), total(kinks[high])
    share = (above - 1.0) / (above - below) if above > below else 0.0
    x = np.clip(v - (kinks[low] + share * (kinks[high] - kinks[low])), lower, upper)
    inside = (x > lower) & (x < upper)
    if inside.any():
        x[inside] += (1.0 - x.sum()) / inside.sum()  # rounding
    return np.asarray(np.clip(x, lower, upper))


def _cheapest(slope: Float64, lower: Float64, upper: Float64) -> float:
    """Return the least ``slope . y`` over ``lower <= y <= upper`` with sum 1: what is left over the
    lower bounds goes to the smallest slopes first."""
    order = np.argsort(slope, kind="stable")
    left = 1.0 - float(lower.sum())
    room = np.cumsum((upper - lower)[order])
    before = np.concatenate([[0.0], room[:-1]])
    given = np.clip(left - before, 0.0, (upper - lower)[order])
    return float(slope @ lower) + float(slope[order] @ given)


class _DualActiveSet:
    """Nearest point by the dual method of Goldfarb and Idnani (1983), Hessian the identity.

    It starts at the point itself and adds one violated constraint after the other; what it holds
    are an orthogonal matrix J, whose first columns span the active normals, and their triangular
    factor R.
    """

    def __init__(self, polytope: Polytope, point: Float64) -> None:
        self.polytope = polytope
        self.x = point.astype(np.float64)
        self.J = np.eye(point.size)
        self.R = np.zeros((0, 0))
        self.prices = np.zeros(0)
        self.fixed = 0  # equalities come first and stay

    def solve(self) -> Float64:
        for row in self.polytope.sums():
            self._add(row, 1.0, equality=True)
        for _ in range(50 + 20 * self.x.size):
            normal, bound = self._most_violated()
            if normal is None:
                return self._tidied()
            self._add(normal, bound)
        raise ArithmeticError("project: the active set did not settle")

    def _most_violated(self) -> tuple[Float64 | None, float]:
        """Return the constraint ``normal . x >= bound`` that is violated most."""
        p = self.polytope
        under, over = p.lower - self.x, self.x - p.upper
        beyond = p.rows @ self.x - p.caps
        worst = [part.max() if part.size else -np.inf for part in (under, over, beyond)]
        which = int(np.argmax(worst))
        if worst[which] <= _FEASIBLE:
            return None, 0.0
        if which == 2:
            k = int(beyond.argmax())
            return -p.rows[k], -float(p.caps[k])
        s = int((under, over)[which].argmax())
        normal = np.zeros(self.x.size)
        normal[s] = 1.0 if which == 0 else -1.0
        return normal, float(p.lower[s] if which == 0 else -p.upper[s])

    def _add(self, normal: Float64, bound: float, *, equality: bool = False) -> None:
        price = 0.0
        while True:
            active = self.prices.size
            turned = normal @ self.J
            step = self.J[:, active:] @ turned[active:]
            shift = np.asarray(np.linalg.solve(self.R, turned[:active]), np.float64)
            reach = float(step @ normal)
            full = (bound - float(normal @ self.x)) / reach if reach > 1e-12 else np.inf
            drop, partial = self._first_to_go(shift)
            length = min(partial, full)
            if not np.isfinite(length):
                raise Infeasible("caps")
            self.prices = self.prices - length * shift
            price += length
            if np.isfinite(full):
                self.x = self.x + length * step
            if equality or length == full:
                self._append(turned, price)
                self.fixed += int(equality)
                return
            self._remove(drop)

    def _first_to_go(self, shift: Float64) -> tuple[int, float]:
        """Return which price falls to zero first, and after what length."""
        candidates = np.flatnonzero(shift[self.fixed :] > 1e-14) + self.fixed
        if candidates.size == 0:
            return -1, np.inf
        lengths = self.prices[candidates] / shift[candidates]
        k = int(lengths.argmin())
        return int(candidates[k]), float(max(lengths[k], 0.0))

    def _append(self, turned: Float64, price: float) -> None:
        """Reflect the free columns of J so that the new normal has one component there."""
        active = self.prices.size
        rest = turned[active:].copy()
        length = float(np.linalg.norm(rest))
        sign = -1.0 if rest[0] > 0.0 else 1.0
        mirror = rest.copy()
        mirror[0] -= sign * length
        norm = float(mirror @ mirror)
        if norm > 0.0:
            free = self.J[:, active:]
            self.J[:, active:] = free - np.outer(free @ mirror, mirror) * (2.0 / norm)
        grown = np.zeros((active + 1, active + 1))
        grown[:active, :active] = self.R
        grown[:active, active] = turned[:active]
        grown[active, active] = sign * length
        self.R = grown
        self.prices = np.append(self.prices, price)

    def _remove(self, k: int) -> None:
        active = self.prices.size
        turn, triangle = np.linalg.qr(np.delete(self.R, k, axis=1), mode="complete")
        self.J[:, :active] = self.J[:, :active] @ turn
        self.R = triangle[: active - 1]
        self.prices = np.delete(self.prices, k)

    def _tidied(self) -> Float64:
        return np.clip(self.x, self.polytope.lower, self.polytope.upper)
