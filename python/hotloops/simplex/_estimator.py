"""Portfolios for scikit-learn, in the manner of skfolio."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from hotloops._runtime import validate
from hotloops.simplex._objective import Float64
from hotloops.simplex._polish import Point, polish
from hotloops.simplex._portfolio import (
    UTILITIES,
    ExpectedUtility,
    PortfolioMoments,
    crra_preferences,
)
from hotloops.simplex._result import SimplexResult
from hotloops.simplex._run import lmwu

__all__ = ["LMWUPortfolio"]

_SOLVERS = ("auto", "polish", "lmwu")
_OBJECTIVES = ("moments", *UTILITIES)
_RUNGS = 8  # temperatures of the ladder
_HOTTEST, _COLDEST = 3.0, 3000.0  # inverse temperatures, in units of d over the spread of values
_SWAP_EVERY = 20
_FINALISTS = 4  # chains whose best points are polished
_OWN_NAMES = {  # of what objectives call otherwise
    "lower": "min_weights",
    "upper": "max_weights",
    "anchor": "previous_weights",
    "turnover": "transaction_costs",
    "xi": "risk_aversion",
    "time_weights": "sample_weight",
}


class LMWUPortfolio(BaseEstimator):  # type: ignore[misc]
    """Long-only portfolio by moments up to kurtosis and beyond, or by expected utility.

    Convex objectives are solved by Newton's method within bounds and caps (`polish`); others by
    chains of Langevin multiplicative weights on a ladder of temperatures, from the middle, from
    near every single asset and from random portfolios.

    Parameters
    ----------
    objective : {"moments", "crra", "cara", "log"}
        `PortfolioMoments`, or `ExpectedUtility` with one of its utilities. Default "moments".
    risk_aversion : float
        Of the utility, or of the preferences over moments; above zero. Default 10, a usual figure
        for cautious investors. Not used by "log", nor where `preferences` are given.
    preferences : array_like, shape (K,), optional
        Weights of the moments. Default: ``crra_preferences(risk_aversion)``. For "moments" only.
    standardised : bool
        See `PortfolioMoments`. Default False. For "moments" only.
    percent : bool
        Returns are in percent. Default False.
    min_weights, max_weights : float, array_like or dict of names
        Bounds of each weight. Defaults 0 and 1.
    groups : mapping or sequence of (members, cap), optional
        See `Objective.with_terms`; members may be names of columns.
    previous_weights : float, array_like or dict of names, optional
        The weights held before.
    transaction_costs : float
        For each unit of weight that is bought or sold. Default 0.
    ridge, entropy : float
        See `Objective.with_terms`. Defaults 0.
    solver : {"auto", "polish", "lmwu"}
        "auto" (default) takes `polish` where the objective is known to be convex.
    step_size : "auto" or float
        Of the chains. "auto": half of one over the largest spread of the gradient at single assets.
    inverse_temperature : "auto", float or array_like
        Of the chains. "auto": a ladder of eight, over three decades, whose chains exchange points.
    num_steps, num_chains : int
        Defaults 2000 and 64.
    random_state : int, RandomState or None
        Default None.
    backend, num_threads : as in `lmwu`
        Where the chains run.

    Attributes
    ----------
    weights_ : ndarray, shape (n_features,)
        The portfolio.
    value_ : float
        The objective, with all its terms.
    kkt_residual_ : float
        See `kkt_residual`; measured within bounds and caps.
    objective_ : Objective
        What was minimised.
    result_ : SimplexResult or Point
        What the solver returned; a Point too, where the best was not the best chain's.
    solver_ : {"polish", "lmwu"}
        Which one it was.
    n_features_in_ : int
        Number of assets.
    feature_names_in_ : ndarray of str
        Their names, when the columns have some.

    Raises
    ------
    TypeError, ValueError
        In `fit`: parameters are checked there, as scikit-learn asks.
    ImportError
        scikit-learn is not installed.

    Notes
    -----
    Class B: the same `random_state` gives the same weights for every number of threads. A convex
    problem of 20 assets and 2,520 periods takes some milliseconds; chains take
    ``4 n_samples n_features`` operations for each of `num_steps` and `num_chains`.

    Examples
    --------
    >>> from hotloops import datasets, simplex
    >>> returns = datasets.load_sp500().returns(2520)
    >>> model = simplex.LMWUPortfolio(risk_aversion=10.0, max_weights=0.1).fit(returns)
    >>> round(float(model.weights_.max()), 6), model.predict(returns[:3]).shape
    (0.1, (3,))
    """

    def __init__(
        self,
        objective: str = "moments",
        *,
        risk_aversion: float = 10.0,
        preferences: Any = None,
        standardised: bool = False,
        percent: bool = False,
        min_weights: Any = 0.0,
        max_weights: Any = 1.0,
        groups: Any = None,
        previous_weights: Any = None,
        transaction_costs: float = 0.0,
        ridge: float = 0.0,
        entropy: float = 0.0,
        solver: str = "auto",
        step_size: Any = "auto",
        inverse_temperature: Any = "auto",
        num_steps: int = 2000,
        num_chains: int = 64,
        random_state: Any = None,
        backend: str | None = None,
        num_threads: int | None = None,
    ) -> None:
        self.objective = objective
        self.risk_aversion = risk_aversion
        self.preferences = preferences
        self.standardised = standardised
        self.percent = percent
        self.min_weights = min_weights
        self.max_weights = max_weights
        self.groups = groups
        self.previous_weights = previous_weights
        self.transaction_costs = transaction_costs
        self.ridge = ridge
        self.entropy = entropy
        self.solver = solver
        self.step_size = step_size
        self.inverse_temperature = inverse_temperature
        self.num_steps = num_steps
        self.num_chains = num_chains
        self.random_state = random_state
        self.backend = backend
        self.num_threads = num_threads

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> LMWUPortfolio:
        """Choose the weights from past returns.

        Parameters
        ----------
        X : array_like or DataFrame, shape (n_samples, n_features)
            Return of each asset in each period.
        y : None
            Not used.
        sample_weight : array_like, shape (n_samples,), optional
            Weight of each period.

        Returns
        -------
        LMWUPortfolio
            The estimator itself.

        Raises
        ------
        TypeError, ValueError
            Parameters or data out of range, `preferences` or `standardised` with a utility.
        """
        X = validate_data(self, X, dtype=[np.float64, np.float32], ensure_min_samples=2)
        validate.choice("LMWUPortfolio", "solver", self.solver, _SOLVERS)
        self.objective_ = self._make_objective(X, sample_weight)
        direct = self.solver == "polish" or (self.solver == "auto" and self.objective_.is_convex)
        self.solver_ = "polish" if direct else "lmwu"
        best: Point | SimplexResult
        best = polish(self.objective_) if direct else self._best_of(self._run_chains())
        self.result_ = best
        self.weights_ = best.x
        self.value_, self.kkt_residual_ = best.value, best.kkt_residual
        return self

    def predict(self, X: Any) -> Float64:
        """Return the returns of the portfolio.

        Parameters
        ----------
        X : array_like, shape (n_samples, n_features)
            Returns of the assets.

        Returns
        -------
        ndarray, shape (n_samples,)
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        return np.asarray(X @ self.weights_)

    def fit_predict(self, X: Any, y: Any = None) -> Float64:
        """Fit, and return the returns of the portfolio over the same periods.

        Parameters
        ----------
        X : array_like, shape (n_samples, n_features)
            Returns of the assets.
        y : None
            Not used.

        Returns
        -------
        ndarray, shape (n_samples,)
        """
        return self.fit(X, y).predict(X)

    def score(self, X: Any, y: Any = None) -> float:
        """Return minus the objective of the portfolio over other periods, without its terms.

        Parameters
        ----------
        X : array_like, shape (n_samples, n_features)
            Returns of the assets.
        y : None
            Not used.

        Returns
        -------
        float
            The larger, the better.
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False, ensure_min_samples=2)
        objective = self._make_objective(X, None, bare=True)
        return -objective.precise_value_and_grad(self.weights_)[0]

    def _make_objective(
        self, X: Any, sample_weight: Any, *, bare: bool = False
    ) -> PortfolioMoments | ExpectedUtility:
        validate.choice("LMWUPortfolio", "objective", self.objective, _OBJECTIVES)
        with _own_names():
            return self._objective_of(X, sample_weight, bare)

    def _objective_of(
        self, X: Any, sample_weight: Any, bare: bool
    ) -> PortfolioMoments | ExpectedUtility:
        names = getattr(self, "feature_names_in_", None)
        shared: dict[str, Any] = {} if bare else self._terms(X.shape[1])
        shared |= {"time_weights": sample_weight, "names": names}
        if self.objective != "moments":
            self._refuse_options_of_moments()
            return ExpectedUtility(
                X,
                self.objective,
                risk_aversion=self.risk_aversion,
                percent=self.percent,
                **shared,
            )
        preferences = self.preferences
        if preferences is None:
            preferences = crra_preferences(self.risk_aversion, percent=self.percent)
        return PortfolioMoments(X, preferences, standardised=self.standardised, **shared)

    def _refuse_options_of_moments(self) -> None:
        for argument, given in (
            ("preferences", self.preferences is not None),
            ("standardised", bool(self.standardised)),
        ):
            if given:
                expectation = "be left out unless `objective` is 'moments'"
                got = f"{validate.describe(getattr(self, argument))} with {self.objective!r}"
                validate.fail(ValueError, "LMWUPortfolio", argument, expectation, got)

    def _terms(self, dim: int) -> dict[str, Any]:
        lower = self._by_name("min_weights", self.min_weights, dim, 0.0)
        upper = self._by_name("max_weights", self.max_weights, dim, 1.0)
        return {
            "lower": lower if lower is not None and np.any(lower) else None,
            "upper": upper if upper is not None and np.any(np.asarray(upper) < 1.0) else None,
            "groups": self.groups,
            "anchor": self._by_name("previous_weights", self.previous_weights, dim, 0.0),
            "turnover": self.transaction_costs,
            "ridge": self.ridge,
            "entropy": self.entropy,
        }

    def _by_name(self, argument: str, value: Any, dim: int, default: float) -> Any:
        """Return a number for all assets, or one for each."""
        if value is None:
            return None
        if not isinstance(value, Mapping):
            if np.ndim(value) == 0:
                return validate.real("LMWUPortfolio", argument, value)
            return validate.array(
                "LMWUPortfolio", argument, value, shape=(dim,), dtype=np.float64, copy=True
            )
        names = list(getattr(self, "feature_names_in_", []))
        unknown = [name for name in value if name not in names]
        if unknown:
            expectation = "have names of columns of X as keys"
            got = repr(unknown[0]) + ("" if names else "; these columns have no names")
            validate.fail(ValueError, "LMWUPortfolio", argument, expectation, got)
        filled = np.full(dim, default)
        for name, number in value.items():
            filled[names.index(name)] = validate.real("LMWUPortfolio", argument, number)
        return filled

    def _run_chains(self) -> SimplexResult:
        objective = self.objective_
        generator = check_random_state(self.random_state)
        ladder: Any = self.inverse_temperature
        spread, slope = self._scales()
        automatic = isinstance(ladder, str)
        if automatic:
            validate.choice("LMWUPortfolio", "inverse_temperature", ladder, ("auto",))
            ladder = np.geomspace(_HOTTEST, _COLDEST, _RUNGS) * objective.dim / spread
        step_size: Any = self.step_size
        if isinstance(step_size, str):
            validate.choice("LMWUPortfolio", "step_size", step_size, ("auto",))
            step_size = 0.5 / slope
        chains = validate.integer("LMWUPortfolio", "num_chains", self.num_chains, low=1)
        if automatic:
            chains = -(-chains // _RUNGS) * _RUNGS
        return lmwu(
            objective,
            x0=self._starts(chains, generator),
            step_size=step_size,
            inverse_temperature=ladder,
            num_steps=self.num_steps,
            num_chains=chains,
            swap_every=_SWAP_EVERY if automatic else None,
            seed=int(generator.randint(2**31 - 1)),
            backend=self.backend,
            num_threads=self.num_threads,
        )

    def _starts(self, count: int, generator: Any) -> Float64:
        """Return the middle, points near single assets, and random portfolios."""
        dim = self.objective_.dim
        starts = generator.dirichlet(np.ones(dim), count)
        starts[0] = 1.0 / dim
        single = min(dim, (count - 1) // 2)
        chosen = generator.permutation(dim)[:single]
        starts[1 : 1 + single] = 0.1 / dim
        starts[np.arange(1, 1 + single), chosen] += 0.9
        return np.asarray(starts)

    def _scales(self) -> tuple[float, float]:
        """Return the spreads of values and of gradients over the middle and single assets."""
        dim = self.objective_.dim
        points = np.concatenate([np.full((1, dim), 1.0 / dim), np.eye(dim)])
        inside = self.objective_.without_penalties()
        values, slopes = zip(*(inside.precise_value_and_grad(x) for x in points), strict=True)
        return max(float(np.ptp(values)), 1e-300), max(float(np.ptp(slopes, axis=1).max()), 1e-300)

    def _best_of(self, result: SimplexResult) -> Point | SimplexResult:
        """Polish some more chains: what is best before need not be the best after."""
        best: Point | SimplexResult = result
        for chain in np.argsort(result.best_value)[1:_FINALISTS]:
            start = np.asarray(result.best_x[chain], np.float64)
            other = polish(self.objective_, start / start.sum())
            if other.value < best.value:
                best = other
        return best


@contextlib.contextmanager
def _own_names() -> Iterator[None]:
    """Let errors of an objective name the parameter of the estimator that they are about."""
    try:
        yield
    except (TypeError, ValueError) as error:
        message = re.sub(r"^\w+: ", "LMWUPortfolio: ", str(error))
        message = re.sub(r"`(\w+)`", lambda name: f"`{_OWN_NAMES.get(name[1], name[1])}`", message)
        raise type(error)(message) from error
