"""Ensembles spread over executors have the bits of one machine."""

from __future__ import annotations

import importlib.util
import multiprocessing
import sys
import warnings
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hotloops
from hotloops import sgd

NAMES = (
    "mean",
    "extrapolated",
    "last",
    "flags",
    "diverged_at",
    "checkpoint_mean",
    "checkpoint_last",
)

# Burn-ins are short on purpose.
pytestmark = pytest.mark.filterwarnings("ignore:run. burn_in:RuntimeWarning")

generator = np.random.default_rng(6)
FEATURES = generator.normal(size=(40, 3))
LABELS = (FEATURES[:, 0] > 0).astype(float)


def gradient(theta: Any, noise: Any, step: int, data: Any, out: Any) -> None:
    """At module level, so that it can travel."""
    out[...] = theta - data + noise


PROBLEMS: list[Any] = [
    pytest.param(sgd.Quadratic([1.0, 2.0, 0.5], 0.1), id="quadratic"),
    pytest.param(sgd.Quadratic(np.eye(3) + 0.1, 0.1), id="quadratic_full"),
    pytest.param(sgd.Cosine(1.0, 1.0, 3), id="cosine"),
    pytest.param(sgd.Logistic(FEATURES, LABELS, 0.1, batch_size=3), id="logistic"),
    pytest.param(sgd.LeastSquares(FEATURES, LABELS, 0.1, sampling="reshuffle"), id="least_squares"),
    pytest.param(sgd.Custom(gradient, 3, np.array([1.0, 0.0, -1.0])), id="callable"),
]


def run(problem: sgd.Problem, **options: Any) -> sgd.SGDResult:
    options = {"num_chains": 137, "seed": 3, "chain_offset": 5, "checkpoints": [1, 9], **options}
    return sgd.run(problem, [0.02, 0.05], 40, burn_in=30, **options)


def assert_same(found: sgd.SGDResult, expected: sgd.SGDResult) -> None:
    for name in NAMES:
        left, right = getattr(found, name), getattr(expected, name)
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right, err_msg=name)
    assert found.num_steps == expected.num_steps
    assert found.state.next_step == expected.state.next_step
    assert found.complete == expected.complete


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_threads(problem: sgd.Problem, dtype: str) -> None:
    if isinstance(problem, sgd.Custom):
        problem = sgd.Custom(gradient, 3, problem.data.astype(dtype))
    expected = run(problem, dtype=dtype)
    for workers in (1, 3, 200):
        with futures.ThreadPoolExecutor(workers) as pool:
            assert_same(run(problem, dtype=dtype, executor=pool), expected)
            assert_same(run(problem, dtype=dtype, executor=pool, num_threads=2), expected)


def test_numba_in_threads() -> None:
    problem = sgd.Quadratic([1.0, 2.0, 0.5], 0.1)
    with futures.ThreadPoolExecutor(3) as pool:
        assert_same(run(problem, executor=pool, backend="numba"), run(problem))


@pytest.fixture(scope="module")
def process_pool() -> Iterator[futures.Executor]:
    """Workers that are started afresh; they import this file for the gradients in it."""
    sys.path.insert(0, str(Path(__file__).parents[2]))
    context = multiprocessing.get_context("spawn")
    with futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        yield pool
    sys.path.remove(str(Path(__file__).parents[2]))


@pytest.mark.parametrize("problem", PROBLEMS)
def test_processes(problem: sgd.Problem, process_pool: futures.Executor) -> None:
    assert_same(run(problem, executor=process_pool), run(problem))


def test_going_on_over_processes(process_pool: futures.Executor) -> None:
    problem = sgd.Logistic(FEATURES, LABELS, 0.1, batch_size=3)
    expected = run(problem)
    first = sgd.run(
        problem,
        [0.02, 0.05],
        15,
        burn_in=30,
        num_chains=137,
        seed=3,
        chain_offset=5,
        executor=process_pool,
    )
    second = sgd.run(problem, [0.02, 0.05], 25, state=first.state, executor=process_pool)
    np.testing.assert_array_equal(second.mean, expected.mean)
    np.testing.assert_array_equal(second.last, expected.last)


def test_out_and_state_stay_with_the_caller(process_pool: futures.Executor) -> None:
    problem = sgd.Cosine(1.0, 1.0, 3)
    out, theta0 = np.zeros((137, 2, 3)), np.full((137, 3), 0.5)
    result = run(problem, out=out, theta0=theta0, executor=process_pool)
    assert result.mean is out
    np.testing.assert_array_equal(theta0, 0.5)
    np.testing.assert_array_equal(out, run(problem, theta0=theta0).mean)
    state = result.state
    held = state.arrays.theta.tobytes(), state.arrays.sums.tobytes()
    with futures.ThreadPoolExecutor(2) as pool:
        sgd.run(problem, [0.02, 0.05], 25, state=state, executor=pool)
    assert (state.arrays.theta.tobytes(), state.arrays.sums.tobytes()) == held


def test_fewer_chains_than_workers(process_pool: futures.Executor) -> None:
    problem = sgd.Cosine(1.0, 1.0, 3)
    for chains in (1, 2, 17):
        with futures.ThreadPoolExecutor(16) as pool:
            for executor in (pool, process_pool):
                found = run(problem, num_chains=chains, executor=executor)
                assert_same(found, run(problem, num_chains=chains))


@pytest.mark.filterwarnings("ignore::hotloops.DivergenceWarning")
@pytest.mark.filterwarnings("ignore:run. the step size:RuntimeWarning")
def test_divergence_in_parts(process_pool: futures.Executor) -> None:
    problem = sgd.Quadratic([1.0], 0.0, 3.0, divergence_limit=1.3)
    found = run(problem, executor=process_pool)
    assert 0 < found.flags.sum() < found.flags.size
    assert_same(found, run(problem))
    with warnings.catch_warnings():
        warnings.simplefilter("error", hotloops.DivergenceWarning)
        with pytest.raises(hotloops.DivergenceWarning, match="of 137 chains diverged"):
            run(problem, executor=process_pool)


def failing(theta: Any, noise: Any, step: int, data: Any, out: Any) -> None:
    out[...] = 0.0
    if step == 3:
        raise ArithmeticError("from a worker")


def test_failure_in_a_part(process_pool: futures.Executor) -> None:
    out = np.full((137, 2, 3), 7.0)
    with pytest.raises(ArithmeticError, match="from a worker"):
        run(sgd.Custom(failing, 3), executor=process_pool, out=out)
    assert (out == 7.0).all()
    assert_same(run(PROBLEMS[2].values[0], executor=process_pool), run(PROBLEMS[2].values[0]))


def test_compiled_gradient_stays_here(process_pool: futures.Executor) -> None:
    problem = sgd.Custom(12345, 3)
    with pytest.raises(TypeError, match="cannot be sent to another process"):
        run(problem, executor=process_pool)


def test_executor_that_was_shut_down() -> None:
    pool = futures.ThreadPoolExecutor(2)
    pool.shutdown()
    with pytest.raises(RuntimeError, match="shutdown"):
        run(sgd.Cosine(), executor=pool)


def test_progress_counts_chains(capsys: pytest.CaptureFixture[str]) -> None:
    with futures.ThreadPoolExecutor(2) as pool:
        run(sgd.Cosine(1.0, 1.0, 3), executor=pool, progress=True)
    assert "137/137" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("distributed") is None, reason="needs dask")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_dask_cluster() -> None:
    """A real scheduler with workers in processes of their own."""
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        executor = client.get_executor()
        for case in PROBLEMS:
            (problem,) = case.values
            if not isinstance(problem, sgd.Custom):
                assert_same(run(problem, executor=executor), run(problem))
        whole = run(PROBLEMS[3].values[0], num_chains=1000)
        assert_same(run(PROBLEMS[3].values[0], num_chains=1000, executor=executor), whole)
        text = r"pass `\.get_executor\(\)` of a dask client"
        with pytest.raises(TypeError, match=text):
            run(PROBLEMS[0].values[0], executor=client)
