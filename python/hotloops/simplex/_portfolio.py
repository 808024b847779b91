"""Portfolios: moments of their returns, and expected utility."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from hotloops._runtime import validate
from hotloops.simplex._objective import Float64, host_array
from hotloops.simplex._ridge import (
    RidgeSum,
    check_batch,
    check_names,
    check_returns,
    check_time_weights,
)

__all__ = ["ExpectedUtility", "PortfolioMoments", "crra_preferences"]

_MAX_ORDER = 8
UTILITIES = {"crra": "power_utility", "cara": "exponential_utility", "log": "log_utility"}


def crra_preferences(xi: float, *, order: int = 4, percent: bool = False) -> Float64:
    """Return the weights of the moments for constant relative risk aversion.

    They come from the Taylor series of the utility ``W^(1 - xi) / (1 - xi)`` at wealth 1:
    ``(1, xi / 2, xi (xi + 1) / 6, xi (xi + 1) (xi + 2) / 24)``, and so on.

    Parameters
    ----------
    xi : float
        Relative risk aversion, positive.
    order : int
        Number of moments, 1 to 8. Default 4.
    percent : bool
        For returns in percent: the k-th weight is divided by ``100^(k - 1)``, so that the objective
        is in percent too. Default False.

    Returns
    -------
    ndarray, shape (order,), float64

    Raises
    ------
    TypeError, ValueError
        Arguments out of range.

    Examples
    --------
    >>> from hotloops import simplex
    >>> simplex.crra_preferences(10.0).round(3).tolist()
    [1.0, 5.0, 18.333, 55.0]
    """
    aversion = validate.real("crra_preferences", "xi", xi, low=0.0, open_low=True)
    count = validate.integer("crra_preferences", "order", order, low=1, high=_MAX_ORDER)
    unit = 100.0 if validate.boolean("crra_preferences", "percent", percent) else 1.0
    weights = [1.0]
    for k in range(2, count + 1):
        weights.append(weights[-1] * (aversion + k - 2) / (k * unit))
    return np.array(weights)


class PortfolioMoments(RidgeSum):
    """Minus mean, plus variance, minus skewness, plus kurtosis of a portfolio, and so on.

    With ``y_t`` the return of the portfolio in period t and ``m_k`` its central moments, it is
    ``f = -l_1 m_1 + l_2 m_2 - l_3 m_3 + l_4 m_4 - ...``, evaluated from the returns themselves:
    time and memory are O(T d), and no tensor of co-moments is formed.

    Parameters
    ----------
    returns : array_like or DataFrame, shape (T, d)
        Return of each asset in each period; at least two periods. The columns of a DataFrame give
        names to the assets.
    preferences : array_like, shape (K,), optional
        ``l_1 .. l_K`` with K at most 8. Default: ``crra_preferences(10.0)``, for returns that are
        fractions.
    raw : bool
        Moments about zero instead of the mean. Default False.
    standardised : bool
        Skewness ``m_3 / m_2^(3/2)`` and kurtosis ``m_4 / m_2^2`` in place of m_3 and m_4; K is then
        at most 4. This objective is not convex. Default False.
    time_weights : array_like, shape (T,), optional
        Weight of each period, not negative; only ratios count. Default: equal.
    batch_size : int, optional
        The chains see so many rows, drawn anew in each step, instead of all. Values, best points
        and the polish are those of all rows; best points are then looked for once in as many steps
        as see all rows. Default: all rows.
    names : sequence of str, optional
        Names of the assets. Default: those of the columns of a DataFrame.
    **terms
        Costs, regularisers, bounds and caps: the keywords of `Objective.with_terms`.

    Attributes
    ----------
    names : tuple of str or None
        Names of the assets.
    is_convex : bool
        Whether the preferences make the objective convex over all portfolios of these assets: then
        `polish` alone finds its minimum. ``8 l_2 l_4 >= 3 l_3^2`` is enough.

    Raises
    ------
    TypeError, ValueError
        Returns that are not finite, fewer than two periods, standardised moments of a constant
        column, preferences or terms out of range.

    Notes
    -----
    Class B: sums over periods are blocked, with the same bits for every number of threads. float32
    returns are accumulated in float64.

    R. Zhou, D. P. Palomar, "Solving high-order portfolios via successive convex approximation
    algorithms", IEEE Transactions on Signal Processing 69 (2021).

    Examples
    --------
    >>> from hotloops import datasets, simplex
    >>> table = datasets.load_sp500()
    >>> objective = simplex.PortfolioMoments(table.returns(2520), names=table.assets)
    >>> best = simplex.polish(objective)
    >>> objective.names[best.x.argmax()], round(float(best.x.max()), 4)
    ('LLY', 0.2359)
    """

    def __init__(
        self,
        returns: Any,
        preferences: Any = None,
        *,
        raw: bool = False,
        standardised: bool = False,
        time_weights: Any = None,
        batch_size: int | None = None,
        names: Any = None,
        **terms: Any,
    ) -> None:
        name = "PortfolioMoments"
        rows, found, self.library = check_returns(name, returns)
        self.dtype = rows.dtype if hasattr(returns, "dtype") else None
        self._set_size(name, (rows.shape[1],))
        self.names = check_names(name, names, found, self.dim)
        self.raw = validate.boolean(name, "raw", raw)
        self.standardised = validate.boolean(name, "standardised", standardised)
        self.preferences = _check_preferences(name, preferences, self.standardised)
        if self.raw and self.standardised:
            expectation = "be False with standardised=True, which is about the mean"
            validate.fail(ValueError, name, "raw", expectation, "True")
        weights = check_time_weights(name, time_weights, rows.shape[0])
        batch = check_batch(name, batch_size, rows.shape[0])
        mean = weights @ rows.astype(np.float64, copy=False)
        self.profile = "standardised" if self.standardised else "polynomial"
        signed = self.preferences * (-1.0) ** np.arange(1, self.preferences.size + 1)
        if self.standardised:
            self._check_spread(name, rows)
            if batch is not None:
                expectation = "be None with standardised=True, which is no mean over rows"
                validate.fail(ValueError, name, "batch_size", expectation, str(batch))
            coefficients = np.zeros(3)
            coefficients[: signed.size - 1] = signed[1:]
        else:
            coefficients = np.concatenate([[0.0], signed])
        if not self.raw:
            if not self.standardised:
                coefficients[1] = 0.0
            center, linear = mean, signed[0] * mean
        else:
            center, linear = np.zeros(self.dim), np.zeros(self.dim)
        self._set_rows(rows, weights, center, linear, coefficients.tolist(), batch)
        self.terms = self.with_terms(**terms).terms

    def __repr__(self) -> str:
        orders = self.preferences.size
        return f"PortfolioMoments(periods={len(self._rows)}, assets={self.dim}, orders={orders})"

    @staticmethod
    def _check_spread(function: str, rows: Any) -> None:
        """Standardised moments need a variance at every vertex of the simplex."""
        constant = np.flatnonzero(np.ptp(rows, axis=0) == 0.0)
        if constant.size:
            expectation = "have no constant column with standardised=True"
            validate.fail(ValueError, function, "returns", expectation, f"column {constant[0]}")

    def moments(self, x: Any) -> Float64:
        """Return the moments of a portfolio, as `preferences` weigh them.

        Parameters
        ----------
        x : array_like, shape (d,)
            The weights of the assets.

        Returns
        -------
        ndarray, shape (K,), float64
            The mean, then moments of order 2 to K.
        """
        point, _ = host_array("moments", "x", x, shape=(self.dim,), dtype=np.float64)
        y: Float64 = self._margins(point)
        powers = [float(self._row_weights @ y**k) for k in range(1, self.preferences.size + 1)]
        if not self.raw:
            powers[0] = float(self._row_weights @ (self._rows @ point))
        if self.standardised:
            powers[2:] = [m / powers[1] ** (k / 2) for k, m in enumerate(powers[2:], start=3)]
        return np.array(powers)

    def _profile(self, y: Float64, order: int) -> Float64:
        polynomial = np.polynomial.Polynomial(self._coefficients)
        return np.asarray(polynomial.deriv(order)(y) if order else polynomial(y))

    def _own_convexity(self) -> bool:
        """The second derivative of q is not negative over all returns that a portfolio can have."""
        if self.standardised:
            return False
        bend = np.polynomial.Polynomial(self._coefficients).deriv(2)
        low = float((self._rows.min(axis=1) - self._center.max()).min())
        high = float((self._rows.max(axis=1) - self._center.min()).max())
        real = bend.roots()
        kinks = real.real[abs(real.imag) < 1e-12 * (1.0 + abs(real))]
        inside = kinks[(kinks > low) & (kinks < high)]
        points = np.sort(np.concatenate([[low, high], inside]))
        between = np.concatenate([points, (points[1:] + points[:-1]) / 2.0])
        values = bend(between)
        return bool(values.min() >= -1e-12 * np.abs(values).max())

    def _standardised_parts(self, x: Float64) -> tuple[Float64, list[float], Float64, Float64]:
        """Return y, its moments 2 to 4, and first and second derivatives of F by them."""
        y = self._margins(x)
        m2, m3, m4 = (float(self._row_weights @ y**k) for k in (2, 3, 4))
        a, b, c = self._coefficients
        root = math.sqrt(m2)
        first = np.array(
            [a - 1.5 * b * m3 / (m2**2 * root) - 2.0 * c * m4 / m2**3, b / (m2 * root), c / m2**2]
        )
        second = np.zeros((3, 3))
        second[0, 0] = 3.75 * b * m3 / (m2**3 * root) + 6.0 * c * m4 / m2**4
        second[0, 1] = second[1, 0] = -1.5 * b / (m2**2 * root)
        second[0, 2] = second[2, 0] = -2.0 * c / m2**3
        return y, [m2, m3, m4], first, second

    def _own_value_and_grad(self, x: Float64) -> tuple[float, Float64]:
        if not self.standardised:
            return super()._own_value_and_grad(x)
        y, (m2, m3, m4), first, _ = self._standardised_parts(x)
        a, b, c = self._coefficients
        value = float(self._linear @ x) + a * m2 + b * m3 / m2**1.5 + c * m4 / m2**2
        slope = 2.0 * first[0] * y + 3.0 * first[1] * y**2 + 4.0 * first[2] * y**3
        return value, self._linear + self._pulled(self._row_weights * slope)

    def _own_hessian(self, x: Float64) -> Float64:
        if not self.standardised:
            return super()._own_hessian(x)
        y, _, first, second = self._standardised_parts(x)
        w = self._row_weights
        bend = 2.0 * first[0] + 6.0 * first[1] * y + 12.0 * first[2] * y**2
        slopes = np.stack([self._pulled(w * k * y ** (k - 1)) for k in (2, 3, 4)])
        return np.asarray(self._crossed(w * bend) + slopes.T @ second @ slopes)


def _check_preferences(function: str, preferences: Any, standardised: bool) -> Float64:
    if preferences is None:
        return crra_preferences(10.0)
    weights, _ = host_array(
        function, "preferences", preferences, shape=("K",), dtype=np.float64, copy=True
    )
    most = 4 if standardised else _MAX_ORDER
    if weights.size > most:
        expectation = f"hold at most {most} numbers"
        validate.fail(ValueError, function, "preferences", expectation, str(weights.size))
    return np.asarray(weights)


class ExpectedUtility(RidgeSum):
    """Minus the expected utility of the wealth ``1 + x . r`` over the periods, without a series.

    Parameters
    ----------
    returns : array_like or DataFrame, shape (T, d)
        Return of each asset in each period.
    utility : {"crra", "cara", "log"}
        ``(W^(1 - a) - 1) / (1 - a)``, ``-exp(-a W) / a``, or ``log W``.
    risk_aversion : float
        The number a, positive; 1 with "crra" is "log". Default 10. Not used by "log".
    percent : bool
        The returns are in percent. Default False.
    time_weights, batch_size, names : as of `PortfolioMoments`
        Weights of the periods, minibatches, names of the assets.
    **terms
        The keywords of `Objective.with_terms`.

    Raises
    ------
    TypeError, ValueError
        As `PortfolioMoments`; a return of -1 or below with "crra" or "log", which would end all
        wealth.

    Notes
    -----
    Convex, so that `polish` alone finds the minimum. Class B, as `PortfolioMoments`.

    Examples
    --------
    >>> from hotloops import datasets, simplex
    >>> table = datasets.load_sp500()
    >>> objective = simplex.ExpectedUtility(table.returns(2520), "log")
    >>> best = simplex.polish(objective)  # the portfolio of Kelly
    >>> best.kkt_residual < 1e-12
    True
    """

    def __init__(
        self,
        returns: Any,
        utility: str = "crra",
        *,
        risk_aversion: float = 10.0,
        percent: bool = False,
        time_weights: Any = None,
        batch_size: int | None = None,
        names: Any = None,
        **terms: Any,
    ) -> None:
        name = "ExpectedUtility"
        validate.choice(name, "utility", utility, tuple(UTILITIES))
        rows, found, self.library = check_returns(name, returns)
        self.dtype = rows.dtype if hasattr(returns, "dtype") else None
        self._set_size(name, (rows.shape[1],))
        self.names = check_names(name, names, found, self.dim)
        self.risk_aversion = validate.real(
            name, "risk_aversion", risk_aversion, low=0.0, open_low=True
        )
        if utility == "crra" and self.risk_aversion == 1.0:
            utility = "log"
        self.utility = utility
        if validate.boolean(name, "percent", percent):
            rows = rows * rows.dtype.type(0.01)
        if utility != "cara" and float(rows.min()) <= -1.0:
            place = tuple(int(i) for i in np.unravel_index(int(rows.argmin()), rows.shape))
            expectation = f"be above -1, which ends all wealth, with utility={utility!r}"
            got = f"{float(rows.min()):g} at index {place}"
            validate.fail(ValueError, name, "returns", expectation, got)
        self.profile = UTILITIES[utility]
        zeros = np.zeros(self.dim)
        self._set_rows(
            rows,
            check_time_weights(name, time_weights, rows.shape[0]),
            zeros,
            zeros,
            [self.risk_aversion],
            check_batch(name, batch_size, rows.shape[0]),
        )
        self.terms = self.with_terms(**terms).terms

    def __repr__(self) -> str:
        return (
            f"ExpectedUtility({self.utility!r}, periods={len(self._rows)}, assets={self.dim}, "
            f"risk_aversion={self.risk_aversion:g})"
        )

    def _own_convexity(self) -> bool:
        return True

    def _profile(self, y: Float64, order: int) -> Float64:
        a = self.risk_aversion
        if self.utility == "cara":
            decay = np.exp(-a * (1.0 + y))
            return np.asarray(decay * (1.0 / a, -1.0, a)[order])
        wealth = 1.0 + y
        if self.utility == "log":
            return np.asarray((-np.log(wealth), -1.0 / wealth, wealth**-2.0)[order])
        if order == 0:
            return np.asarray((1.0 - wealth ** (1.0 - a)) / (1.0 - a))
        return np.asarray(-(wealth**-a) if order == 1 else a * wealth ** (-a - 1.0))
