"""The estimators find the minimisers, whatever the rows come in."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import optimize, sparse, special

pytest.importorskip("sklearn", reason="the estimators need scikit-learn")
from sklearn.linear_model import LogisticRegression, Ridge

from hotloops import sgd

Float64 = npt.NDArray[np.float64]

generator = np.random.default_rng(5)
X = generator.normal(size=(150, 3)) * [1.0, 0.7, 1.3] + [0.5, 0.0, -0.3]
Y = X @ [1.0, -2.0, 0.5] + 3.0 + generator.standard_t(4, size=150)
LABELS = (generator.uniform(size=150) < special.expit(X @ [1.0, -0.5, 0.0] + 0.7)).astype(int)
THREE = np.digitize(X @ [1.0, 1.0, 0.0] + generator.normal(size=150), [-0.5, 1.0])

REGRESSION = ("squared_error", "huber")
CLASSIFICATION = ("log_loss", "squared_hinge", "softplus_hinge")

# Runs of some hundred steps end a standard error off, and say so.
SHORT = "ignore::sklearn.exceptions.ConvergenceWarning"


def make(loss: str, **options: Any) -> Any:
    cls = sgd.RRSGDRegressor if loss in REGRESSION else sgd.RRSGDClassifier
    return cls(loss, **{"random_state": 0, **options})


def answers(loss: str) -> Any:
    return Y if loss in REGRESSION else LABELS


def row_losses(loss: str, margins: Float64, targets: Any) -> Float64:
    if loss in REGRESSION:
        r = margins - targets
        return r**2 / 2 if loss == "squared_error" else special.huber(1.35, r)
    signed = np.where(targets > 0, margins, -margins)
    if loss == "log_loss":
        return np.logaddexp(0, -signed)
    if loss == "squared_hinge":
        return np.maximum(0, 1 - signed) ** 2
    return np.logaddexp(0, 1 - signed)


def exact(loss: str, alpha: float, weights: Float64 | None = None, targets: Any = None) -> Float64:
    """Coefficients, then the intercept, by a quasi-Newton method."""
    targets = answers(loss) if targets is None else targets
    shares = np.full(len(X), 1 / len(X)) if weights is None else weights / weights.sum()

    def objective(t: Float64) -> float:
        margins = X @ t[:-1] + t[-1]
        return float(shares @ row_losses(loss, margins, targets) + alpha * t[:-1] @ t[:-1] / 2)

    found = optimize.minimize(objective, np.zeros(4), method="BFGS", options={"gtol": 1e-7})
    return np.asarray(found.x)


def theta_of(model: Any) -> Float64:
    return np.append(np.ravel(model.coef_), model.intercept_)


def assert_near(model: Any, truth: Float64, deviations: float = 4.5) -> None:
    """The estimate is off the minimiser by the noise of the steps only."""
    scale = np.sqrt(np.diag(model.optimization_cov_))
    assert (np.abs(theta_of(model) - truth) < deviations * scale).all()


@pytest.mark.parametrize("alpha", [0.0, 1e-2, 0.5])
@pytest.mark.parametrize("loss", REGRESSION + CLASSIFICATION)
def test_finds_the_minimiser_with_a_free_intercept(loss: str, alpha: float) -> None:
    model = make(loss, alpha=alpha, n_passes=2000, burn_in=20_000).fit(X, answers(loss))
    assert_near(model, exact(loss, alpha))
    assert np.sqrt(np.diag(model.optimization_cov_)).max() < 0.015


@pytest.mark.parametrize("sampling", ["iid", "reshuffle", "sequential"])
def test_agrees_with_ridge(sampling: str) -> None:
    ridge = Ridge(alpha=0.3 * len(X)).fit(X, Y)
    model = make("squared_error", alpha=0.3, sampling=sampling, n_passes=2000, step_size=0.005)
    model.fit(X, Y)
    # A fixed order has a bias of its own, of the order of the step size.
    tolerance = {"iid": 0.02, "reshuffle": 0.003, "sequential": 0.01}[sampling]
    np.testing.assert_allclose(model.coef_, ridge.coef_, atol=tolerance)
    np.testing.assert_allclose(model.intercept_, ridge.intercept_, atol=tolerance)


def test_agrees_with_logistic_regression() -> None:
    theirs = LogisticRegression(C=1 / (0.02 * len(X)), tol=1e-8).fit(X, LABELS)
    model = make("log_loss", alpha=0.02, n_passes=2000).fit(X, LABELS)
    assert_near(model, np.append(theirs.coef_[0], theirs.intercept_))
    np.testing.assert_allclose(model.predict_proba(X), theirs.predict_proba(X), atol=0.01)
    np.testing.assert_allclose(model.predict_log_proba(X), np.log(model.predict_proba(X)))
    assert (model.predict(X) == theirs.predict(X)).mean() > 0.98


def test_without_intercept() -> None:
    model = make("squared_error", alpha=0.1, fit_intercept=False, n_passes=2000).fit(X, Y)
    ridge = Ridge(alpha=0.1 * len(X), fit_intercept=False).fit(X, Y)
    scale = np.sqrt(np.diag(model.optimization_cov_))
    assert (np.abs(model.coef_ - ridge.coef_) < 4.5 * scale).all()
    assert model.intercept_ == 0.0
    assert model.conf_int().shape == (3, 2)


@pytest.mark.parametrize("loss", CLASSIFICATION)
def test_each_class_against_the_others(loss: str) -> None:
    names = np.array(["ash", "beech", "cedar"])
    model = make(loss, alpha=0.05, n_passes=1000).fit(X, names[THREE])
    assert model.classes_.tolist() == names.tolist()
    assert model.coef_.shape == (3, 3)
    assert model.coef_cov_.shape == (3, 4, 4)
    assert model.conf_int().shape == (3, 4, 2)
    for k in range(3):
        truth = exact(loss, 0.05, targets=(k == THREE).astype(int))
        own = np.append(model.coef_[k], model.intercept_[k])
        assert (np.abs(own - truth) < 4.5 * np.sqrt(np.diag(model.optimization_cov_[k]))).all()
    assert model.decision_function(X).shape == (150, 3)
    assert hasattr(model, "predict_proba") == (loss == "log_loss")
    if loss == "log_loss":
        np.testing.assert_allclose(model.predict_proba(X).sum(axis=1), 1)


@pytest.mark.parametrize("loss", ["huber", "log_loss", "squared_hinge"])
def test_weights_weigh_the_gradient(loss: str) -> None:
    weights = np.random.default_rng(2).gamma(0.7, size=150)
    model = make(loss, alpha=0.01, n_passes=2000, burn_in=20_000)
    model.fit(X, answers(loss), sample_weight=weights)
    assert_near(model, exact(loss, 0.01, weights))


@pytest.mark.parametrize("sampling", ["reshuffle", "sequential"])
def test_weights_in_whole_passes(sampling: str) -> None:
    weights = np.random.default_rng(2).gamma(2.0, size=150)
    model = make("squared_error", alpha=0.0, sampling=sampling, n_passes=3000, step_size=0.002)
    model.fit(X, Y, sample_weight=weights)
    np.testing.assert_allclose(theta_of(model), exact("squared_error", 0.0, weights), atol=0.02)


@pytest.mark.parametrize("loss", ["squared_error", "log_loss"])
def test_a_weight_is_a_number_of_equal_rows_in_any_order(loss: str) -> None:
    weights = np.random.default_rng(3).integers(0, 4, 150)
    repeated = np.repeat(np.arange(150), weights)
    other = np.random.default_rng(4).permutation(repeated)
    y = answers(loss)
    weighted = make(loss).fit(X, y, sample_weight=weights)
    for rows in (repeated, other):
        same = make(loss).fit(X[rows], y[rows])
        np.testing.assert_allclose(theta_of(same), theta_of(weighted), rtol=1e-9)
    doubled = make(loss).fit(X, y, sample_weight=2 * weights)
    np.testing.assert_array_equal(theta_of(doubled), theta_of(weighted))


def test_class_weights_are_sample_weights() -> None:
    by_class = make("log_loss", class_weight={0: 1.0, 1: 3.0}).fit(X, LABELS)
    by_row = make("log_loss").fit(X, LABELS, sample_weight=np.where(LABELS == 1, 3.0, 1.0))
    np.testing.assert_array_equal(by_class.coef_, by_row.coef_)
    balanced = make("log_loss", class_weight="balanced").fit(X, LABELS)
    even = 1 / np.bincount(LABELS)[LABELS]
    by_row = make("log_loss").fit(X, LABELS, sample_weight=even)
    np.testing.assert_allclose(balanced.coef_, by_row.coef_, rtol=1e-9)


@pytest.mark.parametrize("sampling", ["iid", "reshuffle"])
@pytest.mark.parametrize("loss", ["squared_error", "squared_hinge"])
def test_sparse_rows_give_the_bits_of_dense_ones(loss: str, sampling: str) -> None:
    dense = np.where(np.abs(X) < 0.6, 0.0, X)
    dense[0] = 0.0
    options = {"sampling": sampling, "batch_size": 3}
    model = make(loss, **options).fit(dense, answers(loss))
    for kind in (sparse.csr_array, sparse.csc_matrix, sparse.coo_array):
        same = make(loss, **options).fit(kind(dense), answers(loss))
        np.testing.assert_array_equal(same.coef_, model.coef_)
        np.testing.assert_allclose(same.coef_cov_, model.coef_cov_, rtol=1e-12)
        np.testing.assert_allclose(same.predict(kind(dense)), model.predict(dense), rtol=1e-12)


def test_large_sparse_rows_are_made_dense_block_by_block() -> None:
    tracemalloc = pytest.importorskip("tracemalloc")
    tall = sparse.random_array((20_000, 2_000), density=1e-3, rng=1, format="csr")
    y = np.asarray(tall.sum(axis=1)).ravel()
    tracemalloc.start()
    make("squared_error", n_passes=1, burn_in=0, covariance=None, alpha=0.0).fit(tall, y)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64e6 < tall.shape[0] * tall.shape[1] * 8


def test_bits_do_not_depend_on_threads_or_backend() -> None:
    options = {"num_chains": 3, "n_passes": 3, "burn_in": 100, "batch_size": 2}
    one = make("log_loss", num_threads=1, **options).fit(X, LABELS)
    for other in ({"num_threads": 2}, {"num_threads": 1, "backend": "numba"}):
        same = make("log_loss", **options, **other).fit(X, LABELS)
        np.testing.assert_array_equal(same.coef_, one.coef_)


def test_chains_are_averaged() -> None:
    variances = []
    for chains in (1, 16):
        model = make("squared_error", num_chains=chains, n_passes=5, burn_in=500).fit(X, Y)
        variances.append(np.diag(model.optimization_cov_))
        assert_near(model, exact("squared_error", 1e-4))
    np.testing.assert_allclose(variances[0] / variances[1], 16, rtol=0.35)


@pytest.mark.filterwarnings(SHORT)
def test_extrapolation_is_that_of_run() -> None:
    """A pass in order from a fixed step is `run` on the rows with a column of ones."""
    steps = [0.01, 0.02, 0.04]
    model = make(
        "log_loss", alpha=0.0, step_sizes=steps, sampling="sequential", n_passes=4, burn_in=150
    ).fit(X, LABELS)
    problem = sgd.Logistic(np.column_stack([X, np.ones(150)]), LABELS, sampling="sequential")
    run = sgd.run(problem, steps, 600, burn_in=150, statistics=["mean"])
    np.testing.assert_allclose(theta_of(model), run.extrapolated[0], rtol=1e-12)
    assert model.t_ == 750
    assert model.n_iter_ == 5
    plain = make(
        "log_loss",
        alpha=0.0,
        step_size=0.01,
        extrapolate=False,
        sampling="sequential",
        n_passes=4,
        burn_in=150,
    ).fit(X, LABELS)
    np.testing.assert_allclose(theta_of(plain), run.mean[0, 0], rtol=1e-12)


@pytest.mark.filterwarnings(SHORT)
def test_automatic_steps_follow_the_rows() -> None:
    rows = np.column_stack([X, np.ones(150)])
    squares = (rows**2).sum(axis=1)
    ratio = (squares**2).mean() / squares.mean()
    for loss, curvature in (("squared_error", 1.0), ("log_loss", 0.25), ("squared_hinge", 2.0)):
        model = make(loss, alpha=0.3, n_passes=1, burn_in=0).fit(X, answers(loss))
        larger = 0.5 / (curvature * ratio + 0.3)
        np.testing.assert_allclose(model.step_sizes_, [larger / 2, larger], rtol=1e-12)
        longer = make(loss, alpha=0.3, n_passes=600, burn_in=0).fit(X, answers(loss))
        shrink = 1 if loss == "squared_error" else 1 / 3
        np.testing.assert_allclose(longer.step_sizes_, model.step_sizes_ * shrink, rtol=1e-12)
    model = make("squared_error", step_size=0.01, step_ratio=3.0, n_passes=1).fit(X, Y)
    np.testing.assert_allclose(model.step_sizes_, [0.01, 0.03])


def test_steps_shrink_when_automatic_ones_diverge() -> None:
    """Directions that meet larger rows than the average does: the automatic step is too long."""
    wide = np.zeros((400, 200))
    wide[np.arange(400), np.arange(400) % 200] = 1e-3
    wide[:4, :] = 0
    wide[:4, 0] = 40.0
    wide[4:200, 1:] += np.random.default_rng(1).normal(size=(196, 199))
    model = make("squared_error", n_passes=20, covariance=None).fit(wide, wide[:, 0])
    assert np.isfinite(model.coef_).all()
    with pytest.raises(Exception, match="diverged"):
        make("squared_error", step_size=10.0).fit(wide, wide[:, 0])
