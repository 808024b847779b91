"""Markovian linear stochastic approximation: alias tables, kernel, formulas, arguments."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hotloops import sgd
from hotloops.sgd._alias import alias_tables, draw
from tests.random.reference import words
from tests.sgd import reference

Float64 = npt.NDArray[np.float64]

# Two states; t* = 1.230769230769, and the bias is solved for exactly.
TWO: tuple[Any, Any, Any] = ([[[-1.5]], [[-0.25]]], [[1.0], [2.0]], [[0.9, 0.1], [0.2, 0.8]])


def some_chain(num_states: int, dim: int, seed: int) -> tuple[Float64, Float64, Float64]:
    """Matrices around a stable mean, and transitions of which some are impossible."""
    rng = np.random.default_rng(seed)
    matrices = rng.uniform(-1, 1, (num_states, dim, dim)) - 2.5 * np.eye(dim)
    transitions = rng.uniform(size=(num_states, num_states))
    transitions[rng.uniform(size=transitions.shape) < 0.4] = 0.0
    transitions += np.roll(np.eye(num_states), 1, axis=1)  # one class
    transitions /= transitions.sum(axis=1, keepdims=True)
    return matrices, rng.uniform(-1, 1, (num_states, dim)), transitions


def implied(threshold: Any, alias: Any) -> Float64:
    """Probabilities of the states under a table, exactly, in integers until the end."""
    size = threshold.size
    weight = [0] * size
    for slot in range(size):
        kept = 2**32 if alias[slot] == slot else int(threshold[slot])
        weight[slot] += kept
        weight[int(alias[slot])] += 2**32 - kept
    assert sum(weight) == size * 2**32
    return np.array([w / (size * 2**32) for w in weight])


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.one_of(st.just(0.0), st.floats(1e-12, 1.0), st.floats(0.4, 0.6)),
        min_size=1,
        max_size=40,
    ).filter(lambda weights: sum(weights) > 0)
)
def test_alias_tables_hold_the_law(weights: list[float]) -> None:
    law = np.array(weights) / sum(weights)
    threshold, alias = alias_tables(law[None])
    assert threshold.dtype == np.uint32
    assert alias.dtype == np.int32
    assert alias.min() >= 0
    assert alias.max() < law.size
    found = implied(threshold[0], alias[0])
    assert np.abs(found - law).max() < 2.0**-31
    assert not found[law == 0].any(), "impossible states stay impossible"


def test_alias_tables_of_many_rows_are_those_of_each() -> None:
    _, _, transitions = some_chain(17, 1, 3)
    threshold, alias = alias_tables(transitions)
    for row, law in enumerate(transitions):
        alone = alias_tables(law[None])
        np.testing.assert_array_equal(threshold[row], alone[0][0])
        np.testing.assert_array_equal(alias[row], alone[1][0])
        assert np.abs(implied(threshold[row], alias[row]) - law).max() < 2.0**-31


@pytest.mark.parametrize("size", [1, 2, 3, 8, 4096])
def test_certain_and_equal_states(size: int) -> None:
    equal = np.full((1, size), 1 / size)
    threshold, alias = alias_tables(equal)
    rng = np.random.default_rng(1)
    drawn = rng.integers(0, 2**32, 10_000, dtype=np.uint32)
    slots = (drawn.astype(np.uint64) * np.uint64(size)) >> np.uint64(32)
    if size & (size - 1) == 0:
        np.testing.assert_array_equal(draw(drawn, threshold[0], alias[0]), slots)
    certain = np.zeros((1, size))
    certain[0, size // 2] = 1.0
    threshold, alias = alias_tables(certain)
    extremes = np.array([0, 1, 2**31, 2**32 - 1], np.uint32)
    for chosen in (drawn, extremes):
        assert (draw(chosen, threshold[0], alias[0]) == size // 2).all()


def test_draws_follow_the_law() -> None:
    law = np.array([0.5, 0.0, 0.2, 0.05, 0.25])
    threshold, alias = alias_tables(law[None])
    rng = np.random.default_rng(2)
    n = 400_000
    counts = np.bincount(
        draw(rng.integers(0, 2**32, n, dtype=np.uint32), threshold[0], alias[0]), minlength=5
    )
    assert (np.abs(counts - n * law) <= 4.5 * np.sqrt(n * law * (1 - law))).all()


class Path:
    """The states of all chains, from the definitions."""

    def __init__(
        self, problem: sgd.MarkovLSA, start: Float64, seed: int, chains: Any, step: int
    ) -> None:
        self.tables = problem.parameters(np.dtype(np.float64), np)[2:]
        self.seed, self.chains, self.at = seed, chains, step
        word = words(seed, step, chains, 0, 4)[:, 0].astype(np.uint32)
        tables = alias_tables(start[None])
        self.state = draw(word, tables[0][0], tables[1][0])

    def at_step(self, step: int) -> npt.NDArray[np.int64]:
        while self.at < step:
            word = words(self.seed, self.at, self.chains, 0, 3)[:, 0].astype(np.uint32)
            self.state = np.array(
                [
                    draw(word[k : k + 1], self.tables[0][s], self.tables[1][s])[0]
                    for k, s in enumerate(self.state)
                ]
            )
            self.at += 1
        return self.state


@pytest.mark.filterwarnings("ignore:run:RuntimeWarning")
@pytest.mark.parametrize("backend", ["cpp", "numba"])
@pytest.mark.parametrize("start", [None, 3, "law"])
@pytest.mark.parametrize(("num_states", "dim"), [(5, 1), (7, 4), (33, 6)])
def test_kernel_against_the_loop(num_states: int, dim: int, start: Any, backend: str) -> None:
    num_chains, seed, chain_offset, step_offset = 19, 2**40 + 9, 2**31 + 5, 2**32 - 3
    chains = np.arange(num_chains) + chain_offset
    matrices, vectors, transitions = some_chain(num_states, dim, dim)
    law = np.arange(num_states) / np.arange(num_states).sum()
    problem = sgd.MarkovLSA(matrices, vectors, transitions, law if start == "law" else start)
    first = law if start == "law" else problem.stationary_law()
    if start == 3:
        first = np.eye(num_states)[3]
    path = Path(problem, first, seed, chains, step_offset)

    def gradient(theta: Float64, step: int, noise: Float64) -> Float64:
        state = path.at_step(step)
        return -(np.einsum("cij,cj->ci", matrices[state], theta) + vectors[state])

    theta0 = np.random.default_rng(3).normal(size=(num_chains, 3, dim))
    common: dict[str, Any] = {
        "num_steps": 20,
        "burn_in": 4,
        "seed": seed,
        "chain_offset": chain_offset,
        "step_offset": step_offset,
    }
    steps = [0.05, 0.02, 0.11]
    mean, last = reference.simulate(gradient, steps, theta0, **common)
    common |= {"num_chains": num_chains, "backend": backend, "statistics": ["mean"]}
    run = sgd.run(problem, steps, theta0=theta0, **common)
    np.testing.assert_allclose(run.last, last, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(run.mean, mean, rtol=1e-12, atol=1e-12)
    single = sgd.run(problem, steps, theta0=theta0.astype(np.float32), **common)
    np.testing.assert_allclose(single.last, last, rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:run:RuntimeWarning")
def test_going_on_keeps_the_state() -> None:
    problem = sgd.MarkovLSA(*some_chain(9, 2, 5))
    whole = sgd.run(problem, [0.05, 0.1], 30, burn_in=10, num_chains=5, seed=8)
    part = sgd.run(problem, [0.05, 0.1], 13, burn_in=10, num_chains=5, seed=8)
    rest = sgd.run(problem, [0.05, 0.1], 17, state=part.state)
    np.testing.assert_array_equal(rest.last, whole.last)
    np.testing.assert_array_equal(rest.mean, whole.mean)
    alone = sgd.run(problem, [0.05, 0.1], 30, burn_in=10, chain_offset=3, seed=8)
    np.testing.assert_array_equal(alone.last[0], whole.last[3])


def test_a_diverged_copy_does_not_stop_the_chain() -> None:
    """The copy with the huge step is frozen; the other sees the states as if it were alone."""
    problem = sgd.MarkovLSA(*some_chain(5, 2, 4))
    with pytest.warns(RuntimeWarning, match="diverged"):
        both = sgd.run(problem, [0.1, 50.0], 200, num_chains=6, theta0=[1.0, 1.0], seed=3)
    alone = sgd.run(problem, 0.1, 200, num_chains=6, theta0=[1.0, 1.0], seed=3)
    assert both.flags[:, 1].all()
    np.testing.assert_array_equal(both.last[:, 0], alone.last[:, 0])


def test_known_answers() -> None:
    """S by the formula (and as the sum over 400 lags), and the optimal covariance."""
    problem = sgd.MarkovLSA(*TWO)
    np.testing.assert_allclose(problem.stationary_law(), [2 / 3, 1 / 3], rtol=1e-15)
    np.testing.assert_allclose(problem.minimizer(), [1.230769230769], rtol=1e-12)
    np.testing.assert_allclose(problem.hessian(), [[13 / 12]], rtol=1e-15)
    np.testing.assert_allclose(problem.noise_covariance(), [[8.114398422091]], rtol=1e-12)
    np.testing.assert_allclose(problem.optimal_covariance(), [[6.914043625923]], rtol=1e-12)


@pytest.mark.parametrize("seed", [0, 1])
def test_covariance_is_the_sum_over_all_lags(seed: int) -> None:
    matrices, vectors, transitions = some_chain(8, 3, seed)
    problem = sgd.MarkovLSA(matrices, vectors, transitions)
    law, at = problem.stationary_law(), problem.minimizer()
    np.testing.assert_allclose(law @ transitions, law, atol=1e-15)
    mean = np.tensordot(law, matrices, 1)
    np.testing.assert_allclose(mean @ at, -law @ vectors, atol=1e-14)
    np.testing.assert_allclose(problem.hessian(), -mean, atol=1e-15)
    noise = matrices @ at + vectors  # of mean zero
    weighted = noise * law[:, None]
    total = weighted.T @ noise
    power = np.eye(8)
    for _ in range(2000):
        power = power @ transitions
        lagged = weighted.T @ power @ noise
        total = total + lagged + lagged.T
    np.testing.assert_allclose(problem.noise_covariance(), total, atol=1e-12)
    inverse = np.linalg.inv(mean)
    np.testing.assert_allclose(
        problem.optimal_covariance(), inverse @ total @ inverse.T, atol=1e-11
    )
    low, _ = problem.curvature_bounds()
    assert low == pytest.approx(-np.linalg.eigvals(mean).real.max())


def test_periodic_chains_are_fine() -> None:
    problem = sgd.MarkovLSA([[[-1.0]], [[-1.0]]], [[1.0], [-1.0]], [[0, 1], [1, 0]])
    np.testing.assert_allclose(problem.minimizer(), [0.0], atol=1e-15)
    # The noise of two steps cancels: nothing is left in the long run.
    np.testing.assert_allclose(problem.noise_covariance(), [[0.0]], atol=1e-15)


def test_arrays_are_copied() -> None:
    matrices, vectors, transitions = some_chain(3, 2, 0)
    problem = sgd.MarkovLSA(matrices, vectors, transitions)
    before = problem.optimal_covariance()
    for array in (matrices, vectors, transitions):
        array[...] = np.nan
    np.testing.assert_array_equal(problem.optimal_covariance(), before)
    assert repr(problem) == "MarkovLSA(states=3, dim=2)"


A, B, P = -np.ones((3, 2, 2)) - np.eye(2), np.ones((3, 2)), np.full((3, 3), 1 / 3)
REAL = "be an array of real numbers, got"
ISLANDS = [[0.5, 0.5, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]
TRANSIENT = [[0.5, 0.25, 0.25], [0.0, 0.5, 0.5], [0.0, 0.5, 0.5]]
BAD: list[tuple[str, Any, type[Exception], str]] = [
    ("A", None, TypeError, f"{REAL} None"),
    ("A", "1", TypeError, f"{REAL} '1'"),
    ("A", np.ones((3, 2)), ValueError, "have shape (S, d, d), got (3, 2)"),
    ("A", np.ones((3, 2, 3)), ValueError, "have shape (S, d, d), got (3, 2, 3)"),
    ("A", np.full((3, 2, 2), np.nan), ValueError, "be finite, got nan at index (0, 0, 0)"),
    (
        "A",
        np.zeros((3, 2, 2)),
        ValueError,
        "have a mean of which all eigenvalues have negative real parts, got one of 0",
    ),
    (
        "A",
        np.broadcast_to(np.diag([-1.0, 0.5]), (3, 2, 2)),
        ValueError,
        "have a mean of which all eigenvalues have negative real parts, got one of 0.5",
    ),
    ("b", np.ones((2, 2)), ValueError, "have shape (S, d) with S = 3 as in `A`"),
    ("b", np.ones(3), ValueError, "have shape (S, d), got (3,)"),
    ("b", [[1.0, np.inf]] * 3, ValueError, "be finite, got inf at index (0, 1)"),
    ("P", np.eye(2), ValueError, "have shape (S, S) with S = 3 as in `A`, got (2, 2)"),
    ("P", np.ones(3), ValueError, "have shape (S, S), got (3,)"),
    ("P", [[1.1, -0.1, 0.0]] + [[0.2, 0.3, 0.5]] * 2, ValueError, "not be negative, got -0.1"),
    (
        "P",
        [[0.2, 0.3, 0.5], [0.2, 0.3, 0.4], [0.2, 0.3, 0.5]],
        ValueError,
        "have rows that sum to 1, got 0.9 in row 1",
    ),
    ("P", ISLANDS, ValueError, "lead from every state to every other, got 2 classes of states"),
    ("P", TRANSIENT, ValueError, "lead from every state to every other, got 2 classes of states"),
    ("start", 3, ValueError, "be an integer in [0, 2], got 3"),
    ("start", -1, ValueError, "be an integer in [0, 2], got -1"),
    ("start", True, TypeError, "be an integer in [0, 2], got True"),
    ("start", "0", TypeError, f"{REAL} '0'"),
    ("start", 0.5, ValueError, "have shape (S,)"),
    ("start", [0.5, 0.5], ValueError, "have shape (S,) with S = 3 as in `A`, got (2,)"),
    ("start", [0.5, 0.6, -0.1], ValueError, "not be negative, got -0.1"),
    ("start", [0.5, 0.1, 0.1], ValueError, "sum to 1, got 0.7"),
    ("divergence_limit", 0, ValueError, "be a finite number in (0.0, 1e+30], got 0"),
]


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad[0])
def test_bad_arguments(bad: tuple[str, Any, type[Exception], str]) -> None:
    argument, value, error, text = bad
    message = f"MarkovLSA: `{argument}` must {text}"
    with pytest.raises(error, match="^" + re.escape(message)):
        sgd.MarkovLSA(**{"A": A, "b": B, "P": P, argument: value})


def test_too_many_states() -> None:
    size = 4097
    with pytest.raises(
        ValueError, match=r"^MarkovLSA: `A` must have at most 4096 states, got 4097"
    ):
        sgd.MarkovLSA(-np.ones((size, 1, 1)), np.ones((size, 1)), np.ones((1, 1)))


@pytest.mark.filterwarnings("ignore:run:RuntimeWarning")
def test_values_beyond_the_precision_of_the_run() -> None:
    for matrices, vectors, name in (([[[-1e300]]], [[1.0]], "A"), ([[[-1.0]]], [[1e300]], "b")):
        problem = sgd.MarkovLSA(matrices, vectors, [[1.0]])
        with pytest.raises(ValueError, match=f"^MarkovLSA: `{name}` must be finite in float32"):
            sgd.run(problem, 0.1, 10, dtype="float32")
