"""Every iterate of one chain of an ensemble."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hotloops import sgd

STEPS = [0.05, 0.1]
COUNT, BURN_IN, NUM_CHAINS = 30, 12, 21

rng = np.random.default_rng(7)
FEATURES = rng.normal(size=(20, 3))
TRANSITIONS = rng.uniform(size=(4, 4)) + 0.1
TRANSITIONS /= TRANSITIONS.sum(axis=1, keepdims=True)


def grad(theta: Any, noise: Any, step: int, data: Any, out: Any) -> None:
    out[...] = theta - 0.5 + noise


PROBLEMS: dict[str, sgd.Problem] = {
    "quadratic": sgd.Quadratic([1.0, 2.0, 0.5], 0.0, noise=sgd.StudentT(6)),
    "full": sgd.Quadratic(np.eye(3) + 0.1, 0.0, noise="laplace"),
    "cosine": sgd.Cosine(1.0, 0.5, 3),
    "rows": sgd.Logistic(
        FEATURES, 1 * (FEATURES[:, 0] > 0), 0.1, sampling="reshuffle", batch_size=3
    ),
    "poisson": sgd.Poisson(FEATURES / 4, rng.poisson(1.0, 20)),
    "stream": sgd.StreamingLogistic([1.0, 0.0, -1.0], rho=0.8),
    "markov": sgd.MarkovLSA(
        rng.uniform(-1, 1, (4, 3, 3)) - 2.5 * np.eye(3), rng.normal(size=(4, 3)), TRANSITIONS
    ),
    "custom": sgd.Custom(grad, 3),
}


@pytest.mark.filterwarnings("ignore:run:RuntimeWarning")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", list(PROBLEMS))
def test_same_bits_as_the_ensemble(name: str, dtype: str) -> None:
    problem = PROBLEMS[name]
    theta0 = np.random.default_rng(1).normal(size=(NUM_CHAINS, 2, 3)).astype(dtype) / 4
    common: dict[str, Any] = {
        "burn_in": BURN_IN,
        "theta0": theta0,
        "seed": 2**50 + 1,
        "chain_offset": 1000,
        "step_offset": 2**32 - 20,
    }
    if name == "custom" and dtype == "float32":
        problem = sgd.Custom(grad, 3, dtype="float32")
    kept = list(range(1, COUNT + 1))
    ensemble = sgd.run(problem, STEPS, COUNT, num_chains=NUM_CHAINS, checkpoints=kept, **common)
    for chain in (0, 13, NUM_CHAINS - 1):
        trace = sgd.replay(problem, STEPS, COUNT, chain, **common)
        assert trace.shape == (BURN_IN + COUNT, 2, 3)
        assert trace.dtype == dtype
        np.testing.assert_array_equal(trace[BURN_IN:], ensemble.checkpoint_last[:, chain])
        np.testing.assert_array_equal(trace[-1], ensemble.last[chain])
        sums = np.zeros((2, 3))
        for row in trace[BURN_IN:].astype(np.float64):
            sums += row
        np.testing.assert_array_equal(sums / COUNT, ensemble.mean[chain])


def test_rules_and_step_sizes_of_each_chain() -> None:
    problem = PROBLEMS["quadratic"]
    steps = np.linspace(0.05, 0.09, NUM_CHAINS)[:, None] * [1, 2]
    common: dict[str, Any] = {
        "theta0": np.ones((NUM_CHAINS, 3)),
        "schedule": sgd.PolynomialDecay(0.3, 2.0),
        "clip_norm": 1.0,
        "weight_decay": 0.1,
        "projection": sgd.Ball(0.75),
        "seed": 3,
        "burn_in": 200,
    }
    ensemble = sgd.run(problem, steps, 200, num_chains=NUM_CHAINS, **common)
    for chain in (0, 17):
        trace = sgd.replay(problem, steps, 200, chain, **common)
        np.testing.assert_array_equal(trace[-1], ensemble.last[chain])


@pytest.mark.parametrize("backend", ["cpp", "numba"])
def test_backends_and_starts(backend: str) -> None:
    problem = PROBLEMS["cosine"]
    one = sgd.replay(problem, STEPS, 50, 3, seed=9, theta0=[0.5, 0.5, 0.5], backend=backend)
    assert one.shape == (100, 2, 3)
    starts = np.zeros((6, 3))
    starts[3] = 0.5
    other = sgd.replay(problem, STEPS, 50, 3, seed=9, theta0=starts.tolist())
    np.testing.assert_array_equal(one, other)
    single = sgd.replay(problem, 0.05, 50, 3, seed=9, theta0=[0.5, 0.5, 0.5])
    np.testing.assert_array_equal(single[:, 0], one[:, 0])


def test_a_diverged_chain_rests_at_its_last_iterate() -> None:
    problem = sgd.Quadratic([1.0], 0.0, divergence_limit=2.0)
    with pytest.warns(RuntimeWarning, match="diverged"):
        ensemble = sgd.run(problem, 0.9, 300, num_chains=4, seed=2)
    (chain, *_) = np.flatnonzero(~ensemble.valid)
    with pytest.warns(RuntimeWarning, match="diverged"):
        trace = sgd.replay(problem, 0.9, 300, int(chain), seed=2)
    stopped = int(ensemble.diverged_at[chain, 0])
    assert (trace[stopped:] == ensemble.last[chain]).all()
    assert (np.abs(trace) <= 2.0).all()
    assert trace[stopped - 2, 0, 0] != trace[stopped - 1, 0, 0]


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"chain": -1}, ValueError, "replay: `chain` must be an integer >= 0, got -1"),
    ({"chain": 1.0}, TypeError, "replay: `chain` must be an integer >= 0, got 1.0"),
    ({"chain": None}, TypeError, "replay: `chain` must be an integer >= 0, got None"),
    ({"num_steps": 0}, ValueError, "replay: `num_steps` must be an integer >= 1, got 0"),
    ({"burn_in": -1}, ValueError, "replay: `burn_in` must be an integer >= 0, got -1"),
    ({"chain_offset": -1}, ValueError, "replay: `chain_offset` must be an integer >= 0, got -1"),
    (
        {"theta0": np.ones((2, 3))},
        ValueError,
        "replay: `chain` must be below 2, the number of chains in `theta0`, got 2",
    ),
    (
        {"step_sizes": np.array([[0.1, 0.2], [0.1, 0.3]])},
        ValueError,
        "replay: `chain` must be below 2, the number of chains in `step_sizes`, got 2",
    ),
    ({"chain": 2**32}, OverflowError, "run: chain_offset \\+ num_chains must be at most 2"),
    ({"problem": None}, TypeError, "run: `problem` must be a problem"),
    ({"seed": -1}, ValueError, "run: `seed` must be an integer in"),
]


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: next(iter(bad[0])))
def test_bad_arguments(bad: tuple[dict[str, Any], type[Exception], str]) -> None:
    changed, error, text = bad
    good: dict[str, Any] = {
        "problem": PROBLEMS["cosine"],
        "step_sizes": STEPS,
        "num_steps": 10,
        "chain": 2,
        "burn_in": 60,
    }
    with pytest.raises(error, match="^" + text):
        sgd.replay(**{**good, **changed})
