"""The estimators are good members of scikit-learn."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the estimators need scikit-learn")
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from hotloops import datasets, sgd

OTHERS = [
    sgd.RRSGDRegressor(loss="huber", num_chains=2, sampling="reshuffle", covariance=None),
    sgd.RRSGDClassifier(loss="squared_hinge", extrapolate=False),
    sgd.RRSGDClassifier(loss="softplus_hinge", batch_size=4, covariance="batch_means"),
]

# Draws that go through the order given cannot treat a weight of 3 as three equal rows.
IN_ORDER = {
    "check_sample_weight_equivalence_on_dense_data": "an epoch has as many steps as rows",
    "check_sample_weight_equivalence_on_sparse_data": "an epoch has as many steps as rows",
}


def expected_failures(estimator: Any) -> dict[str, str]:
    return {} if estimator.sampling == "iid" else IN_ORDER


# Rows that a plane separates have no minimiser to converge to, unless alpha is large.
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks([sgd.RRSGDRegressor(), sgd.RRSGDClassifier()])
def test_scikit_learn_is_content(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks(OTHERS, expected_failed_checks=expected_failures)
def test_scikit_learn_is_content_with_other_parameters(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.fixture(scope="module")
def cancer() -> tuple[Any, Any]:
    table = datasets.load_breast_cancer()
    return table.X, table.y


def test_in_a_pipeline(cancer: tuple[Any, Any]) -> None:
    X, y = cancer
    model = make_pipeline(StandardScaler(), sgd.RRSGDClassifier(alpha=1e-2, random_state=0))
    assert cross_val_score(model, X, y, cv=3).min() > 0.95


def test_in_a_grid_search(cancer: tuple[Any, Any]) -> None:
    X, y = cancer
    model = make_pipeline(StandardScaler(), sgd.RRSGDClassifier(random_state=0, covariance=None))
    search = GridSearchCV(model, {"rrsgdclassifier__alpha": [1e-2, 100.0]}, cv=2)
    search.fit(X, y)
    assert search.best_params_ == {"rrsgdclassifier__alpha": 1e-2}


def test_clones_and_pickles_give_the_same_bits(cancer: tuple[Any, Any]) -> None:
    X, y = StandardScaler().fit_transform(cancer[0]), cancer[1]
    model = sgd.RRSGDClassifier(alpha=1e-2, random_state=3).fit(X, y)
    again = clone(model).fit(X, y)
    thawed = pickle.loads(pickle.dumps(model))
    for other in (again, thawed):
        np.testing.assert_array_equal(other.coef_, model.coef_)
        np.testing.assert_array_equal(other.coef_cov_, model.coef_cov_)
    for other in (model, thawed):
        other.partial_fit(X[:50], y[:50])
    np.testing.assert_array_equal(thawed.coef_, model.coef_)


def test_without_scikit_learn_the_message_names_the_extra(run_python: Any) -> None:
    code = """
    from hotloops import sgd
    try:
        sgd.RRSGDRegressor
    except ImportError as error:
        print(error)
    print(hasattr(sgd, "RRSGDTransformer"))
    """
    printed = run_python(code, blocked=["sklearn"])
    assert printed.splitlines() == [
        "hotloops.sgd.RRSGDRegressor needs scikit-learn >= 1.6: pip install 'hotloops[sklearn]'",
        "False",
    ]


def test_import_of_the_family_leaves_scikit_learn_alone(run_python: Any) -> None:
    code = "import sys\nfrom hotloops import sgd\nprint('sklearn' in sys.modules)"
    assert run_python(code) == "False\n"
    assert {"RRSGDClassifier", "RRSGDRegressor"} <= set(dir(sgd))
