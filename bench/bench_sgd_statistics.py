"""What statistics cost in the loop: each beside the same run with averages alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import _ours_sgd as ours
import numpy as np
import pytest
from _bench_machine import THREADS
from _cases_sgd import quadratic, streaming, work
from _peers_sgd import Quadratic
from _peers_streaming import Streaming

from hotloops import sgd

Measure = Callable[..., None]

pytestmark = pytest.mark.filterwarnings("ignore:run. burn_in:RuntimeWarning")

COMMON = ("mean",), ("batch_means",), ("random_scaling",), ("batch_means", "random_scaling")
QUADRATIC_ROWS = (*COMMON, ("variance",), ("covariance",))
STREAMING_ROWS = (*COMMON, ("variance",), ("plug_in",))


def check(result: sgd.SGDResult, bare: sgd.SGDResult, names: tuple[str, ...]) -> None:
    """Statistics must not change the averages, and must be of the same chains."""
    assert np.asarray(result.mean).tobytes() == np.asarray(bare.mean).tobytes()
    assert np.asarray(result.last).tobytes() == np.asarray(bare.last).tobytes()
    if "batch_means" in names:
        batches = result.batch_means(num_batches=125, of="mean")
        np.testing.assert_allclose(batches.mean(axis=1), result.mean, rtol=0, atol=1e-12)
    for method in {"batch_means", "random_scaling", "plug_in"} & set(names):
        low, high = result.confidence_interval(method=method)
        assert (low < high).all()
        np.testing.assert_allclose((low + high) / 2, result.extrapolated, rtol=0, atol=1e-12)
    if {"variance", "covariance"} & set(names):
        assert (result.variance > 0).all()


def measure_statistics(
    measure: Measure, problem: sgd.Problem, case: Quadratic | Streaming, names: tuple[str, ...]
) -> None:
    bare = ours.with_statistics(problem, case, ("mean",), "cpp", THREADS)()
    call = ours.with_statistics(problem, case, names, "cpp", THREADS)
    reference = names == ("mean",)
    measure(
        f"hotloops cpp, {'averages alone' if reference else ' and '.join(names)}",
        call,
        lambda result: check(result, bare, names),
        reference=reference,
        **work(case),
    )


def label(names: tuple[str, ...]) -> str:
    return "+".join(names)


@pytest.mark.filterwarnings("ignore:confidence_interval:RuntimeWarning")
@pytest.mark.benchmark(group="sgd: cost of statistics, quadratic, d = 16, two step sizes")
@pytest.mark.parametrize("names", QUADRATIC_ROWS, ids=label)
def test_quadratic(measure: Measure, names: Any) -> None:
    case = quadratic(2)
    problem = sgd.Quadratic(case.curvature, case.minimizer, case.noise_scale)
    measure_statistics(measure, problem, case, names)


@pytest.mark.filterwarnings("ignore:confidence_interval:RuntimeWarning")
@pytest.mark.benchmark(group="sgd: cost of statistics, streaming logistic, d = 10, two step sizes")
@pytest.mark.parametrize("names", STREAMING_ROWS, ids=label)
def test_streaming(measure: Measure, names: Any) -> None:
    case = streaming(2)
    problem = sgd.StreamingLogistic(case.truth, scale=case.scale, l2=case.l2)
    measure_statistics(measure, problem, case, names)
