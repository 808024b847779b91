"""Chains that leave the range: flagged, frozen, reported, and harmless to all others."""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np
import pytest

import hotloops
from hotloops import sgd

pytestmark = [
    pytest.mark.filterwarnings("ignore:run. the step size:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:run. burn_in:RuntimeWarning"),
]

BACKENDS = ["cpp", "numba"]
# Row norms 1 and 20: the second kind of row throws a chain away at once with a step size of 0.1.
FEATURES = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [200.0, 0.0]])
TARGETS = np.array([1.0, -1.0, 0.5, 3.0])


def throwing(dtype: str = "float64") -> sgd.Problem:
    return sgd.LeastSquares(FEATURES.astype(dtype), TARGETS.astype(dtype), 0.01)


def run(problem: sgd.Problem, *args: Any, **options: Any) -> sgd.SGDResult:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", hotloops.DivergenceWarning)
        if "state" not in options:
            options = {"statistics": ["mean"], **options}
        return sgd.run(problem, *args, **options)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_flags_steps_and_frozen_iterates(backend: str, dtype: str) -> None:
    """Followed step by step: the first step beyond the limit is recorded, and nothing after it."""
    options: dict[str, Any] = {"num_chains": 37, "seed": 3, "backend": backend, "dtype": dtype}
    steps = [0.01, 0.1]
    whole = run(throwing(), steps, 30, burn_in=0, checkpoints=np.arange(1, 31), **options)
    path = whole.checkpoint_last
    assert np.isfinite(path).all()
    assert (np.abs(path) <= 1e6).all()
    assert np.isfinite(whole.mean).all()
    assert 0 < whole.flags.sum() < whole.flags.size, "some diverge, some do not"
    assert whole.flags.max() == 1
    np.testing.assert_array_equal(whole.flags == 1, whole.diverged_at >= 0)
    for chain, j in np.argwhere(whole.flags):
        at = whole.diverged_at[chain, j]
        held = path[at - 1, chain, j] if at > 0 else np.zeros(2)
        np.testing.assert_array_equal(path[at:, chain, j], np.broadcast_to(held, (30 - at, 2)))
        # The step that was not taken leaves the range: it is one of the four rows' steps.
        t = held.astype(np.float64)
        beyond = [
            np.abs(t - steps[j] * ((x @ t - y) * x + 0.01 * t)).max()
            for x, y in zip(FEATURES, TARGETS, strict=True)
        ]
        assert max(beyond) > 1e6
    expected = path.astype(np.float64).cumsum(axis=0)[-1] / 30
    np.testing.assert_allclose(whole.mean, expected, rtol=1e-14, atol=1e-300)


@pytest.mark.parametrize("backend", BACKENDS)
def test_other_chains_do_not_notice(backend: str) -> None:
    """Bit for bit, chain by chain and step size by step size."""
    options: dict[str, Any] = {"burn_in": 2, "seed": 4, "backend": backend}
    whole = run(throwing(), [0.01, 0.1], 6, num_chains=29, **options)
    assert 0 < whole.flags.sum() < whole.flags.size
    for chain in range(29):
        alone = run(throwing(), [0.01, 0.1], 6, chain_offset=chain, **options)
        np.testing.assert_array_equal(whole.last[chain], alone.last[0])
        np.testing.assert_array_equal(whole.mean[chain], alone.mean[0])
        np.testing.assert_array_equal(whole.diverged_at[chain], alone.diverged_at[0])
    only = run(throwing(), [0.01], 6, num_chains=29, **options)
    np.testing.assert_array_equal(whole.mean[:, 0], only.mean[:, 0])


PROBLEMS: list[Any] = [
    pytest.param(sgd.Quadratic([1.0, 1.9], 0.0, 1e3, divergence_limit=2e3), id="quadratic"),
    pytest.param(
        sgd.Quadratic(np.array([[1.0, 0.2], [0.2, 1.5]]), 0.0, 1e3, divergence_limit=2e3),
        id="quadratic_full",
    ),
    pytest.param(sgd.Cosine(0.0, 10.0, 2, divergence_limit=25.0), id="cosine"),
    pytest.param(throwing(), id="least_squares"),
    pytest.param(sgd.Logistic(FEATURES, [0, 1, 0, 1], 0.01, divergence_limit=12.0), id="logistic"),
    pytest.param(sgd.Custom(lambda t, n, s, d, o: -n * t, 2, divergence_limit=50.0), id="callable"),
]


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_problem_is_watched(problem: sgd.Problem, dtype: str) -> None:
    limit = problem.divergence_limit
    theta0 = np.ones(2, dtype)
    result = run(problem, [0.05, 0.9], 200, num_chains=40, theta0=theta0, checkpoints=[1, 50, 200])
    assert 0 < result.flags.sum() < 80 or result.flags.all()
    for array in (result.mean, result.last, result.checkpoint_last, result.extrapolated):
        assert np.isfinite(array).all()
    assert (np.abs(result.last) <= limit).all()
    stopped = result.flags[:, :, None] == 1
    held = np.broadcast_to(stopped & (result.diverged_at < 250)[:, :, None], result.last.shape)
    np.testing.assert_array_equal(result.checkpoint_last[1][held], result.last[held])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_overflow_to_infinity_and_nan(backend: str, dtype: str) -> None:
    """One step from a good iterate to infinity, or to the difference of two infinities."""
    huge = float(np.finfo(dtype).max) / 2
    problem = sgd.LeastSquares(
        np.array([[huge, -huge]], dtype), np.array([1.0], dtype), divergence_limit=1e30
    )
    result = run(problem, [0.5, 0.25], 5, theta0=np.array([1e3, 1e3], dtype), backend=backend)
    assert result.flags.all()
    assert (result.diverged_at == 0).all()
    np.testing.assert_array_equal(result.last, 1e3)


def test_warning() -> None:
    text = (
        r"^run: (\d+) of 37 chains diverged; they are flagged in `flags` and frozen at their last "
        r"iterate in range$"
    )
    with pytest.warns(hotloops.DivergenceWarning, match=text) as caught:
        result = sgd.run(throwing(), [0.01, 0.1], 30, num_chains=37, seed=3)
    found = re.match(text, str(caught[-1].message))
    assert found is not None
    assert int(found[1]) == (~result.valid).sum()
    assert caught[-1].filename == __file__
    assert f"diverged={(~result.valid).sum()}" in repr(result)


def test_any_copy_invalidates_the_chain() -> None:
    """Extrapolation from a diverged copy is worthless, so the chain is not valid."""
    result = run(throwing(), [0.01, 0.1], 30, num_chains=37, seed=3, burn_in=0)
    some = result.flags.any(axis=1)
    assert (result.flags[some].sum(axis=1) < 2).any(), "a chain of which one copy diverged"
    np.testing.assert_array_equal(result.valid, ~some)
    assert result.valid.dtype == bool


def test_check_names_the_first_step_and_chain() -> None:
    result = run(throwing(), [0.01, 0.1], 30, num_chains=37, seed=3, step_offset=100)
    when = np.where(result.flags == 1, result.diverged_at, 2**60)
    row, j = np.unravel_index(when.argmin(), when.shape)
    step = int(when.min())
    assert step >= 100
    text = (
        f"run: chain {row} diverged at step {step} with step size {[0.01, 0.1][j]:g}; "
        f"{(~result.valid).sum()} of 37 chains diverged"
    )
    with pytest.raises(hotloops.NumericalError, match="^" + re.escape(text) + "$") as caught:
        result.check()
    assert (caught.value.step, caught.value.row) == (step, row)
    assert isinstance(caught.value, ArithmeticError)
    fine = sgd.run(sgd.Cosine(), 0.1, 100)
    assert fine.check() is fine
    assert fine.valid.all()


def test_going_on_keeps_flags() -> None:
    options: dict[str, Any] = {"num_chains": 37, "seed": 3}
    whole = run(throwing(), [0.01, 0.1], 50, burn_in=0, **options)
    first = run(throwing(), [0.01, 0.1], 20, burn_in=0, **options)
    second = run(throwing(), [0.01, 0.1], 30, state=first.state)
    assert 0 < first.flags.sum() < whole.flags.sum()
    for name in ("mean", "last", "flags", "diverged_at", "extrapolated"):
        np.testing.assert_array_equal(getattr(second, name), getattr(whole, name), err_msg=name)


def test_start_at_the_limit() -> None:
    """The limit itself is in range; what comes next decides."""
    problem = sgd.Quadratic([1.0], 0.0, 0.0, divergence_limit=8.0)
    result = sgd.run(problem, 0.5, 3, burn_in=0, theta0=[[8.0], [-8.0]], num_chains=2)
    assert not result.flags.any()
    np.testing.assert_array_equal(result.last[:, 0, 0], [1.0, -1.0])
    problem = sgd.Quadratic([1.0], 20.0, 0.0, divergence_limit=8.0)
    result = run(problem, 0.5, 3, burn_in=0, theta0=[0.0])
    assert result.flags.all()
    assert result.last[0, 0, 0] == 0.0
