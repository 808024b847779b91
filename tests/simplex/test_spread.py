"""Runs over executors, accelerated weights, the memory of large portfolios, slow paths."""

from __future__ import annotations

import concurrent.futures
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hotloops import simplex
from tests.simplex import reference


@pytest.mark.parametrize("tempered", [False, True])
def test_parts_of_an_executor_are_one_run(tempered: bool) -> None:
    settings: dict[str, Any] = {
        "step_size": 0.1,
        "inverse_temperature": [20.0, 100.0, 300.0] if tempered else 100.0,
        "swap_every": 7 if tempered else None,
        "num_steps": 60,
        "num_chains": 99,
        "trace_every": 20,
        "burn_in": 10,
        "covariance": True,
        "num_bins": 5,
        "seed": 4,
    }
    here = simplex.lmwu(reference.double_well(), **settings)
    with concurrent.futures.ThreadPoolExecutor(2) as executor:
        spread = simplex.lmwu(reference.double_well(), executor=executor, **settings)
    left, right = here.state.arrays.to_dict(), spread.state.arrays.to_dict()
    for name, array in left.items():
        np.testing.assert_array_equal(array, right[name], err_msg=name)
    np.testing.assert_array_equal(here.trace, spread.trace)
    np.testing.assert_array_equal(here.x, spread.x)


def test_objectives_travel_to_other_processes() -> None:
    returns = np.random.default_rng(0).normal(size=(20, 3))
    for objective in (
        reference.double_well(),
        simplex.QuadraticProgram(np.eye(3)),
        simplex.PortfolioMoments(returns, upper=0.5),
    ):
        copy = pickle.loads(pickle.dumps(objective))
        x = np.array([0.2, 0.3, 0.5])
        np.testing.assert_array_equal(
            copy.precise_value_and_grad(x)[1], objective.precise_value_and_grad(x)[1]
        )
    with pytest.raises(TypeError, match="a compiled `value_and_grad` cannot be sent"):
        pickle.dumps(simplex.Custom(12345, 3))


def accelerated(
    x: Any, v: Any, gamma: float, gradient: Any, eps: float, a: float, mu: float
) -> Any:
    """One step of the general accelerated form, in logarithms, with NumPy."""

    def normal(logarithm: Any) -> Any:
        weights = np.exp(logarithm - logarithm.max())
        return weights / weights.sum()

    after = (1 - a) * gamma + a * mu
    theta = a * gamma / (gamma + a * mu)
    y = normal((1 - theta) * np.log(x) + theta * np.log(v))
    g = gradient(y)
    keep = (1 - a) * gamma / after
    slow = normal((1 - keep) * np.log(y) + keep * np.log(v) - a / after * g)
    return normal(np.log(y) - eps * g), slow, after


def test_accelerated_steps_are_those_of_the_formulas() -> None:
    objective = reference.double_well()
    x = v = np.array([0.3, 0.3, 0.4])
    gamma = 1.7
    for _ in range(25):
        x, v, gamma = accelerated(
            x, v, gamma, lambda y: objective.precise_value_and_grad(y)[1], 0.5, 0.3, 0.8
        )
    result = simplex.accelerated_mwu(
        objective,
        x0=[0.3, 0.3, 0.4],
        step_size=0.5,
        acceleration=0.3,
        convexity=0.8,
        gamma=1.7,
        num_steps=25,
    )
    np.testing.assert_allclose(result.chains_x[0], x, rtol=1e-11)
    np.testing.assert_allclose(result.state.arrays.auxiliary[0], [*v, gamma], rtol=1e-11)


def test_accelerated_weights_stop_at_the_local_minimum_too() -> None:
    stuck = simplex.accelerated_mwu(
        reference.double_well(), x0=[0.7, 0.2, 0.1], step_size=0.5, num_steps=2000, polish_steps=0
    )
    assert stuck.value == pytest.approx(0.007977559358, abs=1e-10)
    # From (.3, .3, .4) the reference run stands at 1.93e-6 after 51 steps, plain ones at 1.26e-7.
    settings: dict[str, Any] = {
        "x0": [0.3, 0.3, 0.4],
        "step_size": 0.5,
        "num_steps": 51,
        "polish_steps": 0,
    }
    fast = simplex.accelerated_mwu(reference.double_well(), acceleration=0.3, **settings)
    plain = simplex.mwu(reference.double_well(), **settings)
    assert float(fast.chains_value[0]) == pytest.approx(1.93e-6, rel=0.01)
    assert float(plain.chains_value[0]) == pytest.approx(1.26e-7, rel=0.01)


def test_going_on_from_a_file(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"step_size": 0.2, "num_chains": 3, "x0": None}
    whole = simplex.accelerated_mwu(reference.double_well(), num_steps=30, gamma=2.0, **settings)
    first = simplex.accelerated_mwu(reference.double_well(), num_steps=12, gamma=2.0, **settings)
    first.save(tmp_path / "run.npz")
    state = simplex.SimplexResult.load(tmp_path / "run.npz").state
    rest = simplex.accelerated_mwu(reference.double_well(), num_steps=18, state=state, **settings)
    np.testing.assert_array_equal(rest.chains_x, whole.chains_x)
    np.testing.assert_array_equal(rest.state.arrays.auxiliary, whole.state.arrays.auxiliary)


def test_covariances_and_histograms_are_those_of_the_trace() -> None:
    result = simplex.lmwu(
        reference.double_well(),
        step_size=0.1,
        inverse_temperature=30.0,
        num_steps=80,
        num_chains=5,
        trace_every=1,
        burn_in=20,
        covariance=True,
        num_bins=7,
        seed=2,
    )
    kept = result.trace[20:]
    assert result.covariance is not None
    assert result.histogram is not None
    for chain in range(5):
        expected = np.cov(kept[:, chain].T, bias=True)
        np.testing.assert_allclose(result.covariance[chain], expected, atol=1e-14)
        for s in range(3):
            counts = np.histogram(kept[:, chain, s], bins=7, range=(0, 1))[0]
            np.testing.assert_array_equal(result.histogram[chain, s], counts)
    assert np.isnan(result.acceptance).all()
    assert result.to_dict()["covariance"] is result.covariance
    bare = simplex.lmwu(reference.double_well(), step_size=0.1, num_steps=2)
    assert bare.covariance is None
    assert bare.histogram is None


def test_large_portfolios_fit_in_little_memory(run_python: Any) -> None:
    """2000 assets, 1000 periods: co-moments of order four would be 10^13 numbers."""
    printed = run_python(
        """
        import resource
        import numpy as np
        from hotloops import simplex

        returns = np.random.default_rng(0).normal(0.05, 1.0, size=(1000, 2000))
        settings = dict(step_size=0.5, num_steps=3, num_chains=4, num_threads=2, seed=1)
        small = simplex.PortfolioMoments(returns[:10, :5], [1.0, 0.5, 0.1, 0.02])
        simplex.lmwu(small, inverse_temperature=100.0, **settings)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        objective = simplex.PortfolioMoments(returns, [1.0, 0.5, 0.1, 0.02])
        result = simplex.lmwu(objective, inverse_temperature=1e4, polish_steps=5, **settings)
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert result.x.shape == (2000,) and np.isfinite(result.value)
        print((after - before) // 1024, returns.nbytes >> 20)
        """
    )
    used, table = (int(number) for number in printed.split()[-2:])
    assert used + table < 100  # MB, with the returns themselves
