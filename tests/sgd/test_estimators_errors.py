"""What the estimators say about bad input."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the estimators need scikit-learn")

import hotloops
from hotloops import sgd

generator = np.random.default_rng(1)
X = generator.normal(size=(40, 2))
Y = X[:, 0] + generator.normal(size=40)
LABELS = (Y > 0).astype(int)

BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"loss": "hinge"}, ValueError, "`loss` must be one of 'squared_error', 'huber', got 'hinge'"),
    ({"alpha": -1.0}, ValueError, "`alpha` must be a finite number >= 0.0, got -1.0"),
    ({"alpha": "1"}, TypeError, "`alpha` must be a finite number >= 0.0, got '1'"),
    ({"fit_intercept": 1}, TypeError, "`fit_intercept` must be True or False, got 1"),
    ({"extrapolate": "no"}, TypeError, "`extrapolate` must be True or False, got 'no'"),
    ({"step_size": 0.0}, ValueError, "`step_size` must be a finite number > 0.0, got 0.0"),
    ({"step_size": "big"}, ValueError, "`step_size` must be 'auto' or a positive number"),
    ({"step_ratio": 1.0}, ValueError, "`step_ratio` must be a finite number > 1.0, got 1.0"),
    ({"step_sizes": [0.1, 0.1]}, ValueError, "`step_sizes` must hold distinct step sizes"),
    ({"n_passes": 0}, ValueError, "`n_passes` must be an integer >= 1, got 0"),
    ({"n_passes": "all"}, ValueError, "`n_passes` must be 'auto' or an integer >= 1, got 'all'"),
    ({"burn_in": -1}, ValueError, "`burn_in` must be an integer >= 0, got -1"),
    ({"batch_size": 0}, ValueError, "`batch_size` must be an integer in [1, 16777216], got 0"),
    ({"sampling": "random"}, ValueError, "`sampling` must be one of 'iid', 'reshuffle'"),
    ({"num_chains": 0}, ValueError, "`num_chains` must be an integer in [1, 4294967296], got 0"),
    ({"covariance": "hac"}, ValueError, "`covariance` must be one of 'sandwich', 'batch_means'"),
    ({"epsilon": 0.0}, ValueError, "`epsilon` must be a finite number > 0.0, got 0.0"),
    ({"num_threads": 0}, ValueError, "RRSGDRegressor: `num_threads` must be"),
    ({"backend": "fortran"}, ValueError, "`backend` must be one of"),
    (
        {"covariance": "batch_means", "sampling": "reshuffle"},
        ValueError,
        "`covariance` must be 'sandwich' or None with sampling='reshuffle'",
    ),
]


@pytest.mark.parametrize(("options", "kind", "message"), BAD)
def test_bad_parameters(options: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=re.escape(message)):
        sgd.RRSGDRegressor(**options).fit(X, Y)


@pytest.mark.parametrize(
    ("weights", "kind", "message"),
    [
        (np.ones(39), ValueError, "`sample_weight` must have shape (n,) with n = 40, got (39,)"),
        (np.ones((40, 1)), ValueError, "`sample_weight` must have shape (n,)"),
        (-np.ones(40), ValueError, "`sample_weight` must hold no negative weights, got -1"),
        (np.zeros(40), ValueError, "`sample_weight` must hold a positive weight, got only zero"),
        (np.full(40, np.nan), ValueError, "`sample_weight` must be finite"),
        (["a"] * 40, TypeError, "`sample_weight` must be an array of real numbers"),
    ],
)
def test_bad_weights(weights: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=re.escape(message)):
        sgd.RRSGDRegressor().fit(X, Y, sample_weight=weights)


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"loss": "huber"}, ValueError, "`loss` must be one of 'log_loss', 'squared_hinge'"),
        ({"sharpness": -1.0}, ValueError, "`sharpness` must be a finite number > 0.0, got -1.0"),
        ({"class_weight": "even"}, ValueError, "`class_weight` must be one of 'balanced'"),
        ({"class_weight": [1, 2]}, TypeError, "`class_weight` must be a dict, 'balanced' or None"),
        (
            {"class_weight": {0: -1.0, 1: 1.0}},
            ValueError,
            "`class_weight` must hold finite weights that are not negative, got [-1.0, 1.0]",
        ),
        (
            {"class_weight": {0: 0.0, 1: 0.0}},
            ValueError,
            "`class_weight` must leave a positive weight to at least two classes",
        ),
    ],
)
def test_bad_parameters_of_the_classifier(
    options: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=re.escape("RRSGDClassifier: " + message)):
        sgd.RRSGDClassifier(**options).fit(X, LABELS)


def test_one_class_is_not_enough() -> None:
    with pytest.raises(ValueError, match=r"`y` must hold at least two classes, got 1 class$"):
        sgd.RRSGDClassifier().fit(X, np.ones(40))
    with pytest.raises(ValueError, match="got 1 class of positive weight"):
        sgd.RRSGDClassifier().fit(X, LABELS, sample_weight=LABELS)


@pytest.mark.parametrize(
    ("options", "arguments", "message"),
    [
        ({}, {}, "`classes` must be given in the first call of partial_fit, got None"),
        ({}, {"classes": [0]}, "`classes` must hold at least two classes, got [0]"),
        ({}, {"classes": [1, 2]}, "`y` must hold labels among `classes`, got 0"),
        (
            {"class_weight": "balanced"},
            {"classes": [0, 1]},
            "`class_weight` must be a dict or None in partial_fit",
        ),
    ],
)
def test_bad_streams(options: dict[str, Any], arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        sgd.RRSGDClassifier(**options).partial_fit(X, LABELS, **arguments)


def test_a_stream_does_not_change_its_mind() -> None:
    model = sgd.RRSGDClassifier(burn_in=0).partial_fit(X, LABELS, classes=[0, 1])
    model.partial_fit(X, LABELS, classes=[1, 0])
    with pytest.raises(ValueError, match=r"`classes` must be \[0, 1\] as in the first call"):
        model.partial_fit(X, LABELS, classes=[0, 1, 2])
    model.set_params(fit_intercept=False)
    with pytest.raises(ValueError, match="`fit_intercept` must be True as in the first call"):
        model.partial_fit(X, LABELS)
    model.set_params(fit_intercept=True, loss="squared_hinge")
    with pytest.raises(ValueError, match="`loss` must be 'log_loss' as in the first call"):
        model.partial_fit(X, LABELS)


@pytest.mark.parametrize("call", ["fit", "partial_fit"])
def test_divergence_of_chosen_steps(call: str) -> None:
    model = sgd.RRSGDRegressor(step_size=5.0, burn_in=0, random_state=0)
    with pytest.raises(
        hotloops.NumericalError, match=r"diverged with step sizes \[5.0, 10.0\]; choose smaller"
    ):
        getattr(model, call)(np.tile(X, (20, 1)), np.tile(Y, 20))
    assert not hasattr(model, "coef_")


def test_intervals_need_a_covariance() -> None:
    model = sgd.RRSGDRegressor(covariance=None, random_state=0).fit(X, Y)
    assert model.coef_cov_ is None
    with pytest.raises(ValueError, match=r"RRSGDRegressor\.conf_int: there is no `coef_cov_`"):
        model.conf_int()
    model = sgd.RRSGDRegressor(random_state=0, burn_in=0).partial_fit(X, Y)
    with pytest.raises(ValueError, match=r"there is no `optimization_cov_`.*not partial_fit"):
        model.conf_int(about="minimizer")


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"level": 0.0}, ValueError, "`level` must be a finite number in (0.0, 1.0], got 0.0"),
        ({"level": 1.0}, ValueError, "`level` must lie below 1, got 1.0"),
        ({"level": None}, TypeError, "`level` must be a finite number"),
        ({"about": "truth"}, ValueError, "`about` must be one of 'population', 'minimizer'"),
    ],
)
def test_bad_intervals(arguments: dict[str, Any], kind: type[Exception], message: str) -> None:
    model = sgd.RRSGDRegressor(random_state=0).fit(X, Y)
    with pytest.raises(kind, match=re.escape(message)):
        model.conf_int(**arguments)


def test_only_logistic_regression_has_probabilities() -> None:
    model = sgd.RRSGDClassifier("squared_hinge", random_state=0).fit(X, LABELS)
    for method in ("predict_proba", "predict_log_proba"):
        with pytest.raises(AttributeError) as raised:
            getattr(model, method)
        text = str(raised.value) + str(raised.value.__cause__)
        assert "probabilities need loss='log_loss', got 'squared_hinge'" in text
