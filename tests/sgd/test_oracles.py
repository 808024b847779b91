"""Exact moments of linear stochastic approximation: known answers, Monte-Carlo, arguments."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from hotloops import sgd

Float64 = npt.NDArray[np.float64]

# Two states; t* = 1.230769230769.
TWO: tuple[Any, Any, Any] = ([[[-1.5]], [[-0.25]]], [[1.0], [2.0]], [[0.9, 0.1], [0.2, 0.8]])


def some_chain(num_states: int, dim: int, seed: int) -> tuple[Float64, Float64, Float64]:
    rng = np.random.default_rng(seed)
    transitions = rng.uniform(size=(num_states, num_states)) ** 3
    transitions /= transitions.sum(axis=1, keepdims=True)
    matrices = rng.uniform(-1, 1, (num_states, dim, dim)) - 1.5 * np.eye(dim)
    return matrices, rng.uniform(-1, 1, (num_states, dim)), transitions


def test_known_answers() -> None:
    problem = sgd.MarkovLSA(*TWO)
    means = {}
    for gamma in (0.0125, 0.025, 0.05):
        (means[gamma],) = sgd.lsa_exact_mean(problem, gamma)
        np.testing.assert_array_equal(sgd.lsa_exact_mean(TWO, gamma), [means[gamma]])
    assert means[0.025] == pytest.approx(1.267986176563, abs=1e-12)
    assert means[0.05] == pytest.approx(1.303758471965, abs=1e-12)
    (at,) = problem.minimizer()
    assert (sgd.lsa_exact_mean(problem, 1e-5)[0] - at) / 1e-5 == pytest.approx(1.52, abs=0.01)
    two = 2 * means[0.0125] - means[0.025] - at
    assert two == pytest.approx(3.7199231873e-4, rel=1e-9)
    three = sgd.extrapolate([[mean] for mean in means.values()], list(means))[0] - at
    assert three == pytest.approx(1.4439627883e-5, rel=1e-8)


def test_independent_states_have_no_bias() -> None:
    matrices, vectors, _ = some_chain(6, 3, 1)
    law = np.arange(1.0, 7.0) / 21
    problem = sgd.MarkovLSA(matrices, vectors, np.tile(law, (6, 1)))
    for gamma in (0.01, 0.1):
        mean = sgd.lsa_exact_mean(problem, gamma)
        np.testing.assert_allclose(mean, problem.minimizer(), rtol=0, atol=1e-14)


def test_moments_by_iterating_the_recursion() -> None:
    """E[t 1{s = j}] and E[t t^T 1{s = j}] pushed forward step by step until they rest."""
    matrices, vectors, transitions = some_chain(5, 3, 2)
    gamma = 0.2
    problem = sgd.MarkovLSA(matrices, vectors, transitions)
    law = problem.stationary_law()
    moves, pushes = np.eye(3) + gamma * matrices, gamma * vectors
    first, second = np.zeros((5, 3)), np.zeros((5, 3, 3))
    for _ in range(2000):
        moved = np.einsum("sij,sj->si", moves, first)
        cross = moved[:, :, None] * pushes[:, None, :]
        pushed = np.einsum("si,sj,s->sij", pushes, pushes, law)
        second = np.einsum("sik,skl,sjl->sij", moves, second, moves)
        second = np.tensordot(transitions.T, second + cross + cross.transpose(0, 2, 1) + pushed, 1)
        first = transitions.T @ (moved + pushes * law[:, None])
    np.testing.assert_allclose(sgd.lsa_exact_mean(problem, gamma), first.sum(0), atol=1e-13)
    np.testing.assert_allclose(
        sgd.lsa_exact_second_moment(problem, gamma), second.sum(0), atol=1e-13
    )


@pytest.mark.parametrize("backend", ["cpp", "numba"])
@pytest.mark.parametrize("which", ["two", "some"])
def test_monte_carlo(which: str, backend: str) -> None:
    """Averages and last iterates of 20,000 chains, within four standard errors."""
    problem = sgd.MarkovLSA(*(TWO if which == "two" else some_chain(5, 2, 3)))
    gammas, count = (0.05, 0.1), 20_000
    run = sgd.run(
        problem,
        gammas,
        400,
        burn_in=400,
        num_chains=count,
        theta0=problem.minimizer(),
        seed=11,
        backend=backend,
    )

    def near(samples: Float64, expected: Float64) -> None:
        error = samples.std(axis=0, ddof=1) / np.sqrt(count)
        assert (np.abs(samples.mean(axis=0) - expected) < 4 * error).all()

    for j, gamma in enumerate(gammas):
        mean = sgd.lsa_exact_mean(problem, gamma)
        near(run.mean[:, j], mean)
        last = run.last[:, j]
        near(last, mean)
        near(last[:, :, None] * last[:, None, :], sgd.lsa_exact_second_moment(problem, gamma))
        # The bias is there to be seen.
        bias = np.abs(mean - problem.minimizer())
        assert (bias > 6 * run.mean[:, j].std(axis=0) / np.sqrt(count)).any()
    exact = [sgd.lsa_exact_mean(problem, gamma) for gamma in gammas]
    near(run.extrapolated, 2 * exact[0] - exact[1])


def test_large_systems_use_sparse_eigenvalues() -> None:
    problem = sgd.MarkovLSA(*some_chain(150, 4, 4))
    mean = sgd.lsa_exact_mean(problem, 0.05)
    small = sgd.lsa_exact_mean(problem, 0.025)
    at = problem.minimizer()
    ratio = np.linalg.norm(mean - at) / np.linalg.norm(small - at)
    assert 1.8 < ratio < 2.2


def test_step_sizes_at_which_nothing_settles() -> None:
    problem = sgd.MarkovLSA([[[-1.0]]], [[1.0]], [[1.0]])
    np.testing.assert_allclose(sgd.lsa_exact_mean(problem, 1.999), [1.0])
    text = "`step_size` must be small enough: the mean does not settle, got 2.5, with spectral"
    with pytest.raises(ValueError, match=f"^lsa_exact_mean: {re.escape(text)} radius 1.5"):
        sgd.lsa_exact_mean(problem, 2.5)
    # Independent states -3 and 1: the mean settles, E (1 + g A)^2 = 1 - 2 g + 5 g^2 does below 0.4.
    wild = ([[[-3.0]], [[1.0]]], [[1.0], [1.0]], np.full((2, 2), 0.5))
    assert np.isfinite(sgd.lsa_exact_mean(wild, 0.5)).all()
    assert np.isfinite(sgd.lsa_exact_second_moment(wild, 0.39)).all()
    text = "`step_size` must be small enough: second moments explode, got 0.41, with spectral"
    with pytest.raises(ValueError, match=f"^lsa_exact_second_moment: {re.escape(text)}"):
        sgd.lsa_exact_second_moment(wild, 0.41)


FUNCTIONS = [sgd.lsa_exact_mean, sgd.lsa_exact_second_moment]
STEP = "be a finite number > 0.0, got"
KIND = "be a MarkovLSA or a tuple (A, b, P), got"
BAD: list[tuple[str, Any, type[Exception], str]] = [
    ("problem", sgd.Quadratic([1.0], 0.0), TypeError, f"{KIND} a hotloops.Quadratic"),
    ("problem", None, TypeError, f"{KIND} None"),
    ("problem", TWO[:2], TypeError, f"{KIND} a tuple of length 2"),
    ("problem", "abc", TypeError, f"{KIND} 'abc'"),
    ("step_size", 0.0, ValueError, f"{STEP} 0.0"),
    ("step_size", -0.1, ValueError, f"{STEP} -0.1"),
    ("step_size", np.nan, ValueError, f"{STEP} nan"),
    ("step_size", [0.1], TypeError, f"{STEP} a list of length 1"),
    ("step_size", None, TypeError, f"{STEP} None"),
]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad[0])
def test_bad_arguments(bad: tuple[str, Any, type[Exception], str], function: Any) -> None:
    argument, value, error, text = bad
    message = f"{function.__name__}: `{argument}` must {text}"
    with pytest.raises(error, match="^" + re.escape(message) + "$"):
        function(**{"problem": TWO, "step_size": 0.1, argument: value})


def test_raw_arrays_are_checked_like_a_problem() -> None:
    with pytest.raises(ValueError, match=r"^MarkovLSA: `P` must have rows that sum to 1"):
        sgd.lsa_exact_mean((TWO[0], TWO[1], np.eye(2) * 0.5), 0.1)


def test_systems_that_are_too_large() -> None:
    count, dim = 41, 10
    big = sgd.MarkovLSA(
        np.broadcast_to(-np.eye(dim), (count, dim, dim)),
        np.ones((count, dim)),
        np.full((count, count), 1 / count),
    )
    text = "lsa_exact_second_moment: `problem` must have S d^2 <= 4000, got 4100"
    with pytest.raises(ValueError, match="^" + re.escape(text) + "$"):
        sgd.lsa_exact_second_moment(big, 0.1)
    count, dim = 33, 250
    wide = sgd.MarkovLSA(
        np.broadcast_to(-np.eye(dim), (count, dim, dim)),
        np.ones((count, dim)),
        np.roll(np.eye(count), 1, axis=1),
    )
    text = "lsa_exact_mean: `problem` must have S d <= 8192, got 8250"
    with pytest.raises(ValueError, match="^" + re.escape(text) + "$"):
        sgd.lsa_exact_mean(wide, 0.1)
