"""partial_fit: rows that come in pieces."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import special

pytest.importorskip("sklearn", reason="the estimators need scikit-learn")

from hotloops import sgd

Float64 = npt.NDArray[np.float64]

generator = np.random.default_rng(8)
X = generator.normal([0.3, 0.0], size=(600, 2))
Y = X @ [1.0, -1.0] + 2.0 + generator.normal(size=600)
LABELS = (generator.uniform(size=600) < special.expit(X @ [1.0, -1.0])).astype(int)

# Runs of some hundred steps end a standard error off, and say so.
SHORT = "ignore::sklearn.exceptions.ConvergenceWarning"


def theta_of(model: Any) -> Float64:
    return np.append(np.ravel(model.coef_), model.intercept_)


@pytest.mark.parametrize("cuts", [[300], [7, 100, 101, 450]])
def test_pieces_give_the_bits_of_the_whole(cuts: list[int]) -> None:
    options = {"alpha": 0.01, "step_size": 0.05, "burn_in": 90, "random_state": 1}
    whole = sgd.RRSGDRegressor(**options).partial_fit(X, Y)
    pieces = sgd.RRSGDRegressor(**options, covariance="batch_means")
    for part in np.split(np.arange(600), cuts):
        pieces.partial_fit(X[part], Y[part])
    assert pieces.t_ == whole.t_ == 600
    # The correction for the ridge on the intercept takes a Hessian that does not depend on pieces.
    np.testing.assert_allclose(theta_of(pieces), theta_of(whole), rtol=1e-12)
    whole.partial_fit(X[:20], Y[:20])
    pieces.partial_fit(X[:20], Y[:20])
    np.testing.assert_allclose(theta_of(pieces), theta_of(whole), rtol=1e-12)


@pytest.mark.filterwarnings(SHORT)
def test_a_stream_is_one_pass_of_fit_in_order() -> None:
    options = {"alpha": 0.0, "step_size": 0.05, "burn_in": 0}
    streamed = sgd.RRSGDClassifier(**options).partial_fit(X, LABELS, classes=[0, 1])
    fitted = sgd.RRSGDClassifier(**options, sampling="sequential", n_passes=1).fit(X, LABELS)
    np.testing.assert_array_equal(streamed.coef_, fitted.coef_)
    np.testing.assert_allclose(streamed.coef_cov_, fitted.coef_cov_, rtol=1e-10)


def test_whole_weights_are_repetitions() -> None:
    weights = np.random.default_rng(0).integers(0, 4, 600)
    rows = np.repeat(np.arange(600), weights)
    options = {"step_size": 0.03, "burn_in": 50, "random_state": 0}
    weighted = sgd.RRSGDRegressor(**options).partial_fit(X, Y, sample_weight=weights)
    repeated = sgd.RRSGDRegressor(**options).partial_fit(X[rows], Y[rows])
    np.testing.assert_allclose(theta_of(weighted), theta_of(repeated), rtol=1e-12)


def test_other_weights_are_met_on_average() -> None:
    counts = [
        sgd.RRSGDRegressor(random_state=seed, burn_in=0)
        .partial_fit(X, Y, sample_weight=np.full(600, 0.35))
        .partial_fit(X, Y, sample_weight=np.full(600, 0.35))
        .t_
        for seed in range(5)
    ]
    assert set(counts) <= {420, 421}


def test_minibatches_end_with_a_smaller_one() -> None:
    model = sgd.RRSGDRegressor(batch_size=8, burn_in=0, step_size=0.1, random_state=0)
    model.partial_fit(X[:100], Y[:100])
    assert model.t_ == 13
    assert np.isfinite(theta_of(model)).all()


def test_before_the_averages_there_are_iterates() -> None:
    model = sgd.RRSGDRegressor(burn_in=700, step_size=0.05, random_state=0)
    model.partial_fit(X, Y)
    assert np.abs(theta_of(model) - [1.0, -1.0, 2.0]).max() < 1.0
    assert model.coef_cov_ is None
    with pytest.raises(ValueError, match="after the burn-in"):
        model.conf_int()
    model.partial_fit(X, Y)
    assert model.coef_cov_.shape == (3, 3)


def test_fit_goes_on_as_a_stream() -> None:
    model = sgd.RRSGDRegressor(num_chains=2, random_state=0, n_passes=2, burn_in=300)
    model.fit(X, Y)
    before = np.diag(model.coef_cov_)
    more = generator.normal(size=(5000, 2))
    model.partial_fit(more, more @ [1.0, -1.0] + 2.0 + generator.normal(size=5000))
    assert model.t_ == 300 + 1200 + 5000
    assert (np.diag(model.coef_cov_) < before).all()
    np.testing.assert_allclose(theta_of(model), [1.0, -1.0, 2.0], atol=0.1)


def test_classes_that_come_later_are_known_from_the_first_call() -> None:
    names = np.array(["a", "b", "c"])
    labels = np.digitize(X[:, 0], [-0.5, 1.0])
    model = sgd.RRSGDClassifier(burn_in=100, random_state=0)
    model.partial_fit(X[labels == 1], names[labels[labels == 1]], classes=names)
    for _ in range(5):
        model.partial_fit(X, names[labels])
    assert model.coef_.shape == (3, 2)
    assert model.score(X, names[labels]) > 0.7


def test_intervals_of_a_stream_cover() -> None:
    """One pass, each row once: the intervals hold the parameter of the population."""
    truth, repetitions = np.array([1.0, -0.5, 0.3]), 250
    inside = np.zeros(3)
    source = np.random.default_rng(17)
    for _ in range(repetitions):
        model = sgd.RRSGDClassifier(alpha=0.0, burn_in=500, step_size=0.06, random_state=0)
        rows = source.normal(size=(4500, 2))
        labels = source.uniform(size=4500) < special.expit(rows @ truth[:2] + truth[2])
        for part in np.split(np.arange(4500), 3):
            model.partial_fit(rows[part], labels[part], classes=[False, True])
        low, high = model.conf_int().T
        inside += (low < truth) & (truth < high)
    allowed = 4 * np.sqrt(0.95 * 0.05 / repetitions)
    np.testing.assert_allclose(inside / repetitions, 0.95, atol=allowed)


def test_batch_means_of_a_stream_cover() -> None:
    """Batches of 400 steps, 40 times the time in which the chain forgets."""
    truth, repetitions = np.array([1.0, -0.5, 0.3]), 250
    inside = np.zeros(3)
    source = np.random.default_rng(18)
    for _ in range(repetitions):
        model = sgd.RRSGDRegressor(
            alpha=0.0, burn_in=200, step_size=0.1, covariance="batch_means", random_state=0
        )
        rows = source.normal(size=(8200, 2))
        y = rows @ truth[:2] + truth[2] + source.normal(size=8200)
        for part in np.split(np.arange(8200), [100, 3000]):
            model.partial_fit(rows[part], y[part])
        low, high = model.conf_int().T
        inside += (low < truth) & (truth < high)
    allowed = 4 * np.sqrt(0.95 * 0.05 / repetitions)
    np.testing.assert_allclose(inside / repetitions, 0.95, atol=allowed)
