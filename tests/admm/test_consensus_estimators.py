"""The estimators are good members of scikit-learn, and find what its own solvers find."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import scipy.sparse

pytest.importorskip("sklearn", reason="the estimators need scikit-learn")
from sklearn import linear_model, svm
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from hotloops import admm, datasets

ALL = [
    admm.ConsensusRidge(),
    admm.ConsensusLasso(),
    admm.ConsensusElasticNet(),
    admm.ConsensusLogisticRegression(),
    admm.ConsensusLinearSVC(),
    admm.ConsensusMLPClassifier(),
]


# Planes that separate the rows leave the curvature without a bound from below.
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks(ALL)
def test_scikit_learn_is_content(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.fixture(scope="module")
def cancer() -> tuple[Any, Any, Any]:
    table = datasets.load_breast_cancer()
    X = (table.X - table.X.mean(0)) / table.X.std(0)
    return X, table.y, np.arange(X.shape[0]) % 3


@pytest.fixture(scope="module")
def regression() -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((120, 8))
    y = 3.0 + X[:, 0] - 2.0 * X[:, 3] + 0.3 * rng.standard_normal(120)
    return X, y, (y > y.mean()).astype(int)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (admm.ConsensusRidge(2.0, tol=1e-9), linear_model.Ridge(2.0)),
        (admm.ConsensusLasso(0.1, tol=1e-9), linear_model.Lasso(0.1, tol=1e-12)),
        (
            admm.ConsensusElasticNet(0.1, l1_ratio=0.4, tol=1e-9),
            linear_model.ElasticNet(0.1, l1_ratio=0.4, tol=1e-12),
        ),
    ],
    ids=["ridge", "lasso", "elastic net"],
)
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_regression(ours: Any, theirs: Any, fit_intercept: bool, regression: Any) -> None:
    X, y, groups = regression
    weights = np.linspace(0.5, 1.5, y.size)
    model = clone(ours).set_params(fit_intercept=fit_intercept)
    reference = clone(theirs).set_params(fit_intercept=fit_intercept).fit(X, y, weights)
    model.fit(X, y, weights, groups=groups)
    np.testing.assert_allclose(model.coef_, reference.coef_, atol=1e-6)
    assert model.intercept_ == pytest.approx(reference.intercept_, abs=1e-6)
    np.testing.assert_array_equal(model.coef_ == 0, reference.coef_ == 0)
    assert model.score(X, y) == pytest.approx(reference.score(X, y), abs=1e-6)
    assert 1 <= model.n_iter_ <= 1000


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
def test_logistic_regression_of_two_classes(cancer: Any, sparse: bool) -> None:
    X, y, groups = cancer
    reference = linear_model.LogisticRegression(C=0.1, tol=1e-10, max_iter=10**5).fit(X, y)
    model = admm.ConsensusLogisticRegression(0.1, tol=1e-7)
    model.fit(scipy.sparse.csr_array(X) if sparse else X, y, groups=groups)
    np.testing.assert_allclose(model.coef_, reference.coef_, atol=1e-4)
    np.testing.assert_allclose(model.predict_proba(X), reference.predict_proba(X), atol=1e-4)
    assert (model.predict(X) == reference.predict(X)).all()


def test_logistic_regression_of_three_classes() -> None:
    X, y = load_iris(return_X_y=True)
    X = StandardScaler().fit_transform(X)
    names = np.array(["setosa", "versicolor", "virginica"])[y]
    reference = linear_model.LogisticRegression(tol=1e-10, max_iter=10**5).fit(X, names)
    model = admm.ConsensusLogisticRegression(tol=1e-7, max_iter=3000)
    model.fit(X, names, groups=y)  # each client has one class
    np.testing.assert_allclose(model.predict_proba(X), reference.predict_proba(X), atol=1e-3)
    assert model.coef_.shape == (3, 4)
    assert (model.predict(X) == reference.predict(X)).mean() > 0.99


def test_linear_svc() -> None:
    X, y = load_iris(return_X_y=True)
    X = StandardScaler().fit_transform(X)
    # The penalty of the intercept is the only difference; a large scaling takes it away.
    reference = svm.LinearSVC(C=0.1, tol=1e-10, max_iter=10**6, intercept_scaling=1e3).fit(X, y)
    model = admm.ConsensusLinearSVC(0.1, tol=1e-7, max_iter=3000).fit(X, y, groups=y)
    np.testing.assert_allclose(model.coef_, reference.coef_, atol=1e-3)
    np.testing.assert_allclose(model.intercept_, reference.intercept_, atol=1e-3)


def test_network_learns_from_clients_with_one_class_each() -> None:
    X, y = load_iris(return_X_y=True)
    X = StandardScaler().fit_transform(X)
    model = admm.ConsensusMLPClassifier((10,), activation="tanh", random_state=0, tol=1e-3)
    model.fit(X, y, groups=y)
    assert model.score(X, y) > 0.95
    assert [W.shape for W in model.coefs_] == [(4, 10), (10, 3)]
    np.testing.assert_allclose(model.predict_proba(X).sum(1), 1.0)
    again = clone(model).fit(X, y, groups=y)
    np.testing.assert_array_equal(again.coefs_[0], model.coefs_[0])


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu"])
def test_predictions_of_networks_are_those_that_were_trained(activation: str) -> None:
    X, y = load_iris(return_X_y=True)
    model = admm.ConsensusMLPClassifier(
        (6, 5), activation=activation, alpha=0.0, max_iter=30, random_state=1, tol=0.0
    )
    with pytest.warns(ConvergenceWarning):
        model.fit(X, y)
    log_p = np.log(model.predict_proba(X)[np.arange(y.size), y])
    assert -log_p.mean() == pytest.approx(model.loss_, rel=1e-10)


def test_class_weights(cancer: Any) -> None:
    X, y, groups = cancer
    weights = np.where(y == 1, 3.0, 1.0)
    by_class = admm.ConsensusLogisticRegression(class_weight={0: 1.0, 1: 3.0}, tol=1e-7)
    by_row = admm.ConsensusLogisticRegression(tol=1e-7)
    by_class.fit(X, y, groups=groups)
    by_row.fit(X, y, weights, groups=groups)
    np.testing.assert_allclose(by_class.coef_, by_row.coef_, atol=1e-12)
    reference = linear_model.LogisticRegression(class_weight="balanced", tol=1e-10, max_iter=10**5)
    balanced = admm.ConsensusLogisticRegression(class_weight="balanced", tol=1e-7)
    balanced.fit(X, y, groups=groups)
    reference.fit(X, y)
    np.testing.assert_allclose(balanced.predict_proba(X), reference.predict_proba(X), atol=1e-3)


def test_warm_starts_go_on(cancer: Any) -> None:
    X, y, groups = cancer
    whole = admm.ConsensusLogisticRegression(max_iter=40, tol=0.0)
    halves = admm.ConsensusLogisticRegression(max_iter=20, tol=0.0, warm_start=True)
    with pytest.warns(ConvergenceWarning):
        whole.fit(X, y, groups=groups)
    for _ in range(2):
        with pytest.warns(ConvergenceWarning):
            halves.fit(X, y, groups=groups)
    np.testing.assert_array_equal(halves.coef_, whole.coef_)
    with pytest.warns(ConvergenceWarning):
        halves.fit(X, y, groups=groups % 2)  # other clients: from the start
    assert halves.result_.num_rounds == 20


def test_in_a_pipeline_and_pickled(cancer: Any) -> None:
    table = datasets.load_breast_cancer()
    model = make_pipeline(StandardScaler(), admm.ConsensusLogisticRegression())
    assert cross_val_score(model, table.X, table.y, cv=3).min() > 0.95
    X, y, groups = cancer
    fitted = admm.ConsensusLinearSVC().fit(X, y, groups=groups)
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.decision_function(X), fitted.decision_function(X))


def test_float32_stays(regression: Any) -> None:
    X, y, groups = regression
    model = admm.ConsensusRidge().fit(X.astype(np.float32), y, groups=groups)
    assert model.coef_.dtype == np.float32


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (admm.ConsensusRidge(-1.0), "ConsensusRidge: `alpha`"),
        (admm.ConsensusElasticNet(l1_ratio=1.5), "ConsensusElasticNet: `l1_ratio`"),
        (admm.ConsensusLasso(max_iter=0), "ConsensusLasso: `max_iter`"),
        (admm.ConsensusRidge(tol=-1.0), "ConsensusRidge: `tol`"),
        (admm.ConsensusRidge(scheme="newton"), "ConsensusRidge: `scheme`"),
        (admm.ConsensusLogisticRegression(C=0.0), "ConsensusLogisticRegression: `C`"),
        (admm.ConsensusLinearSVC(C=-1.0), "ConsensusLinearSVC: `C`"),
        (admm.ConsensusMLPClassifier(alpha=-1.0), "ConsensusMLPClassifier: `alpha`"),
        (admm.ConsensusMLPClassifier(()), "`hidden` must be a tuple"),
    ],
)
def test_bad_parameters(estimator: Any, message: str) -> None:
    X, y = np.arange(12.0).reshape(6, 2), np.array([0, 1, 0, 1, 0, 1])
    with pytest.raises(ValueError, match=message):
        estimator.fit(X, y)


def test_bad_groups_weights_and_labels(cancer: Any) -> None:
    X, y, groups = cancer
    model = admm.ConsensusLogisticRegression()
    with pytest.raises(ValueError, match=r"`groups` must have shape \(569,\)"):
        model.fit(X, y, groups=groups[:5])
    with pytest.raises(ValueError, match="`sample_weight` must hold a positive weight"):
        model.fit(X, y, np.zeros(y.size))
    with pytest.raises(ValueError, match="at least two classes, got one class"):
        model.fit(X, np.zeros(y.size, int))
