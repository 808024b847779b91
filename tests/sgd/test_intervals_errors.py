"""Bad arguments of intervals and covariances, and runs that have not what they need."""

from __future__ import annotations

import re
from typing import Any

import pytest

from hotloops import sgd

METHODS = "be one of 'batch_means', 'obm', 'random_scaling', 'plug_in', 'bootstrap'"
TABULATED = "be one of 0.8, 0.9, 0.95, 0.98 for 'random_scaling', whose quantiles are tabulated"
BAD: list[tuple[str, dict[str, Any], type[Exception], str]] = [
    ("confidence_interval", {"level": "a"}, TypeError, "`level` must be a finite number in (0.0"),
    ("confidence_interval", {"level": 0.0}, ValueError, "`level` must be a finite number in (0.0"),
    ("confidence_interval", {"level": 1.0}, ValueError, "`level` must be below 1, got 1.0"),
    ("confidence_interval", {"level": 95}, ValueError, "`level` must be a finite number in (0.0"),
    ("confidence_interval", {"method": "bm"}, ValueError, f"`method` must {METHODS}, got 'bm'"),
    ("confidence_interval", {"method": 3}, TypeError, f"`method` must {METHODS}, got 3"),
    (
        "confidence_interval",
        {"method": "random_scaling", "level": 0.99},
        ValueError,
        f"`level` must {TABULATED}, got 0.99",
    ),
    (
        "confidence_interval",
        {"method": "plug_in"},
        ValueError,
        "'plug_in' must be among the `statistics` of run, got ('mean', 'batch_means', 'random_s",
    ),
    (
        "confidence_interval",
        {"method": "plug_in", "of": "mean"},
        ValueError,
        "`of` must be 'extrapolated' for 'plug_in', which follows the extrapolated mean",
    ),
    (
        "confidence_interval",
        {"of": "last"},
        ValueError,
        "`of` must be one of 'extrapolated', 'mean', got 'last'",
    ),
    ("confidence_interval", {"normal": 1}, TypeError, "`normal` must be True or False, got 1"),
    (
        "confidence_interval",
        {"num_batches": 1},
        ValueError,
        "`num_batches` must be an integer >= 2, got 1",
    ),
    (
        "confidence_interval",
        {"gap": -1},
        ValueError,
        "`gap` must be an integer >= 0, got -1",
    ),
    ("batch_means", {"gap": 1.0}, TypeError, "`gap` must be an integer >= 0, got 1.0"),
    (
        "batch_means",
        {"gap": 2, "num_batches": 50},
        ValueError,
        "`gap` must be shorter than the batches of 2 steps, got 2",
    ),
    (
        "long_run_covariance",
        {"gap": 5, "method": "obm"},
        ValueError,
        "`gap` must be 0 for 'obm', which has no batches of its own, got 5",
    ),
    (
        "confidence_interval",
        {"num_batches": 101},
        ValueError,
        "`num_batches` must be at most the 100 stored batches of 1 steps, got 101",
    ),
    (
        "confidence_interval",
        {"num_batches": 2.5},
        TypeError,
        "`num_batches` must be an integer >= 2, got 2.5",
    ),
    (
        "confidence_interval",
        {"method": "obm", "window": 100},
        ValueError,
        "`window` must be shorter than the 100 stored batches of 1 steps, got 100",
    ),
    (
        "confidence_interval",
        {"method": "obm", "window": 0},
        ValueError,
        "`window` must be an integer >= 1, got 0",
    ),
    (
        "confidence_interval",
        {"method": "bootstrap", "num_samples": 1},
        ValueError,
        "`num_samples` must be an integer in [2, 2147483648], got 1",
    ),
    (
        "long_run_covariance",
        {"method": "random_scaling"},
        ValueError,
        "`method` must be one of 'batch_means', 'obm', 'plug_in', got 'random_scaling'",
    ),
    ("bootstrap", {"seed": -1}, ValueError, "`seed` must be an integer in [0, 1844674407370955"),
    ("bootstrap", {"num_samples": "3"}, TypeError, "`num_samples` must be an integer in [2, 21"),
    ("batch_means", {"of": 1}, TypeError, "`of` must be one of 'extrapolated', 'mean', got 1"),
    (
        "autocorrelation_time",
        {},
        ValueError,
        "'variance' must be among the `statistics` of run, got ('mean', 'batch_means', 'random_s",
    ),
]


@pytest.mark.parametrize(("method", "options", "kind", "text"), BAD)
def test_bad_arguments(
    method: str, options: dict[str, Any], kind: type[Exception], text: str
) -> None:
    run = sgd.run(sgd.Quadratic([1.0], 0.0), 0.1, 100)
    with pytest.raises(kind, match="^" + re.escape(f"{method}: {text}")):
        getattr(run, method)(**options)


@pytest.mark.parametrize(
    ("method", "needed"),
    [
        ("confidence_interval", "random_scaling"),
        ("long_run_covariance", "batch_means"),
        ("batch_means", "batch_means"),
        ("bootstrap", "batch_means"),
        ("autocorrelation_time", "variance"),
        ("r_hat", "variance"),
        ("to_inferencedata", "batch_means"),
    ],
)
def test_statistics_that_were_not_asked_for(method: str, needed: str) -> None:
    if method == "to_inferencedata":
        pytest.importorskip("arviz")
        method, call = "batch_means", "to_inferencedata"
    else:
        call = method
    run = sgd.run(sgd.Quadratic([1.0], 0.0), 0.1, 100, num_chains=2, statistics=["mean"])
    text = f"{method}: '{needed}' must be among the `statistics` of run, got ('mean',)"
    with pytest.raises(ValueError, match=re.escape(text)):
        getattr(run, call)()


@pytest.mark.parametrize("name", ["variance", "covariance"])
def test_properties_that_were_not_asked_for(name: str) -> None:
    run = sgd.run(sgd.Quadratic([1.0], 0.0), 0.1, 100)
    with pytest.raises(ValueError, match=f"^{name}: '{name}' must be among the `statistics`"):
        getattr(run, name)


def test_too_few_batches() -> None:
    run = sgd.run(sgd.Quadratic([1.0], 0.0), 0.1, 100, batch_length=60)
    text = "batch_means: `num_steps` must be at least 2 batches of 60 steps, got 100"
    with pytest.raises(ValueError, match=re.escape(text)):
        run.batch_means()


@pytest.mark.parametrize(
    "method",
    [
        "confidence_interval",
        "long_run_covariance",
        "batch_means",
        "bootstrap",
        "autocorrelation_time",
        "r_hat",
        "ensemble_mean",
        "ensemble_covariance",
    ],
)
@pytest.mark.filterwarnings("ignore:run. time was up:RuntimeWarning")
def test_no_averages_yet(method: str) -> None:
    run = sgd.run(sgd.Quadratic([1.0], 0.0), 0.1, 100, burn_in=100, max_seconds=0.0)
    text = f"^{method}: there are no averages yet; go on from `state`$"
    with pytest.raises(ValueError, match=text):
        getattr(run, method)()
