"""LMWUPortfolio in the hands of scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hotloops import simplex
from tests.simplex import portfolios

sklearn = pytest.importorskip("sklearn")
from sklearn.base import BaseEstimator, TransformerMixin, clone  # noqa: E402
from sklearn.model_selection import GridSearchCV, TimeSeriesSplit, cross_val_predict  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.utils.estimator_checks import parametrize_with_checks  # noqa: E402


@parametrize_with_checks([simplex.LMWUPortfolio(num_steps=20, num_chains=8)])
def test_conventions_of_scikit_learn(estimator: Any, check: Any) -> None:
    check(estimator)


def test_convex_preferences_are_solved_by_the_polish() -> None:
    returns = portfolios.percent_returns()
    model = simplex.LMWUPortfolio(risk_aversion=10.0, percent=True).fit(returns)
    assert model.solver_ == "polish"
    assert model.value_ == pytest.approx(-0.033379924961, abs=2e-12)
    assert model.kkt_residual_ < 1e-10
    assert model.score(returns) == pytest.approx(0.033379924961, abs=2e-12)
    np.testing.assert_allclose(model.predict(returns), returns @ model.weights_, rtol=1e-12)
    fractions = simplex.LMWUPortfolio(risk_aversion=10.0).fit(returns / 100)
    np.testing.assert_allclose(fractions.weights_, model.weights_, atol=1e-9)


def test_other_preferences_by_chains_and_seed() -> None:
    returns = portfolios.assets("AMD", "JNJ", "RRC")
    settings: dict[str, Any] = {"preferences": [0.0, 2.0, 1.0, 0.01], "num_steps": 500}
    model = simplex.LMWUPortfolio(random_state=0, **settings).fit(returns)
    assert model.solver_ == "lmwu"
    assert model.value_ == pytest.approx(1.60137, abs=1e-4)
    again = clone(model).fit(returns)
    np.testing.assert_array_equal(again.weights_, model.weights_)


def test_a_vertex_that_chains_from_the_middle_miss() -> None:
    model = simplex.LMWUPortfolio(
        preferences=[0.0, 3.0, 1.0, 0.002], num_steps=200, random_state=1
    ).fit(portfolios.percent_returns())
    assert model.value_ == pytest.approx(-13.0643943788, abs=1e-9)


@pytest.mark.parametrize("objective", ["crra", "cara", "log"])
def test_expected_utility(objective: str) -> None:
    returns = portfolios.percent_returns() / 100
    model = simplex.LMWUPortfolio(objective, risk_aversion=3.0, max_weights=0.2).fit(returns)
    assert model.weights_.max() <= 0.2
    assert model.kkt_residual_ < 1e-10
    assert model.solver_ == "polish"


def test_names_of_a_data_frame() -> None:
    pandas = pytest.importorskip("pandas")
    tickers = list(portfolios.table().assets)
    frame = pandas.DataFrame(portfolios.percent_returns(), columns=tickers)
    model = simplex.LMWUPortfolio(
        percent=True,
        min_weights={"AAPL": 0.05},
        max_weights={"LLY": 0.1},
        groups={"health": (["JNJ", "LLY", "MRK", "PFE", "UNH"], 0.25)},
        previous_weights={"AAPL": 1.0},
        transaction_costs=0.001,
    ).fit(frame)
    held = dict(zip(model.feature_names_in_, model.weights_, strict=True))
    assert held["AAPL"] >= 0.05
    assert held["LLY"] <= 0.1
    assert sum(held[name] for name in ("JNJ", "LLY", "MRK", "PFE", "UNH")) <= 0.25 + 1e-12
    with pytest.raises(ValueError, match="`min_weights` must have names of columns of X as keys"):
        simplex.LMWUPortfolio(min_weights={"XYZ": 0.1}).fit(frame)


class KeepFirst(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """A selection of assets, as a portfolio pipeline begins with."""

    def fit(self, X: Any, y: Any = None) -> KeepFirst:
        return self

    def transform(self, X: Any) -> Any:
        return X[:, :5]


def test_pipelines_and_searches() -> None:
    returns = portfolios.percent_returns()[-600:]
    pipeline = make_pipeline(KeepFirst(), simplex.LMWUPortfolio(percent=True))
    assert pipeline.fit(returns).predict(returns).shape == (600,)
    assert pipeline[-1].weights_.shape == (5,)
    search = GridSearchCV(
        simplex.LMWUPortfolio(percent=True),
        {"ridge": [0.0, 0.1], "max_weights": [0.3, 1.0]},
        cv=TimeSeriesSplit(3),
    ).fit(returns)
    assert search.best_estimator_.weights_.sum() == pytest.approx(1.0)
    out = cross_val_predict(simplex.LMWUPortfolio(percent=True), returns, cv=3)
    assert out.shape == (600,)


def test_periods_can_have_weights() -> None:
    returns = portfolios.percent_returns()[-500:]
    weights = np.exp(np.linspace(-3, 0, 500))
    model = simplex.LMWUPortfolio(percent=True).fit(returns, sample_weight=weights)
    preferences = simplex.crra_preferences(10.0, percent=True)
    point = simplex.polish(simplex.PortfolioMoments(returns, preferences, time_weights=weights))
    np.testing.assert_allclose(model.weights_, point.x, atol=1e-10)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"solver": "cvx"}, "`solver` must be one of"),
        ({"objective": "sharpe"}, "`objective` must be one of"),
        ({"step_size": "small", "solver": "lmwu"}, "`step_size` must be one of 'auto'"),
        ({"inverse_temperature": "cold", "solver": "lmwu"}, "must be one of 'auto'"),
        ({"num_chains": 0, "solver": "lmwu"}, "`num_chains` must be an integer >= 1"),
        ({"max_weights": 0.01}, "LMWUPortfolio: `max_weights` must leave room"),
        ({"min_weights": 0.06}, "LMWUPortfolio: `min_weights` must leave room"),
        ({"min_weights": 0.04, "max_weights": [0.03, *[1.0] * 19]}, "not be above `max_weights`"),
        ({"max_weights": [0.5, 0.5]}, "LMWUPortfolio: `max_weights` must have shape \\(20,\\)"),
        ({"max_weights": {"LLY": 0.1}}, "got 'LLY'; these columns have no names"),
        ({"transaction_costs": 0.1}, "LMWUPortfolio: `previous_weights` must be given when `trans"),
        ({"transaction_costs": -0.1}, "LMWUPortfolio: `transaction_costs` must be"),
        ({"risk_aversion": -1.0}, "LMWUPortfolio: `risk_aversion` must be"),
        ({"risk_aversion": -1.0, "objective": "crra"}, "LMWUPortfolio: `risk_aversion` must be"),
        ({"objective": "crra", "preferences": [1, 2]}, "`preferences` must be left out unless"),
        ({"objective": "log", "standardised": True}, "got True with 'log'"),
        ({"groups": [(["LLY"], 0.3)]}, "LMWUPortfolio: `groups\\[0\\]` must hold indices"),
    ],
)
def test_bad_parameters(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        simplex.LMWUPortfolio(**changes).fit(portfolios.percent_returns()[:50])


def test_bad_kinds_of_parameters() -> None:
    returns = portfolios.percent_returns()[:50]
    with pytest.raises(TypeError, match="LMWUPortfolio: `max_weights` must be a finite number"):
        simplex.LMWUPortfolio(max_weights="half").fit(returns)
    with pytest.raises(ValueError, match="LMWUPortfolio: `sample_weight` must have shape"):
        simplex.LMWUPortfolio().fit(returns, sample_weight=np.ones(3))


def test_example_and_form_of_the_docstring() -> None:
    """It is imported on demand, so that the test of all public names does not see it."""
    import doctest

    examples = doctest.DocTestFinder().find(simplex.LMWUPortfolio, "LMWUPortfolio", globs={})
    runner = doctest.DocTestRunner()
    assert sum(runner.run(case).failed for case in examples) == 0
    validate = pytest.importorskip("numpydoc.validate")
    found = validate.validate("hotloops.simplex.LMWUPortfolio")["errors"]
    wanted = {"PR01", "PR02", "PR03", "PR04", "PR05", "PR06", "PR08", "PR09", "SS03", "SS06"}
    assert [error for error in found if error[0] in wanted] == []


def test_it_says_what_is_missing_without_scikit_learn(run_python: Any) -> None:
    printed = run_python(
        """
        from hotloops import simplex
        assert "LMWUPortfolio" in dir(simplex)
        try:
            simplex.LMWUPortfolio
        except ImportError as error:
            print(error)
        """,
        blocked=["sklearn"],
    )
    assert "hotloops.simplex.LMWUPortfolio needs scikit-learn >= 1.6" in printed
