"""Games: potentials against enumeration, equilibria, logit equilibria."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from hotloops import simplex
from tests.simplex import reference

PAYOFF = [[2.0, 0.0, 0.5], [0.0, 1.0, 0.2]]


def mixed(sizes: tuple[int, ...], seed: int) -> Any:
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.dirichlet(np.ones(n)) for n in sizes])


def test_one_step_of_two_players(engine: str) -> None:
    game = simplex.PotentialGame(PAYOFF)
    result = simplex.mwu(
        game,
        x0=[0.3, 0.7, 0.2, 0.6, 0.2],
        step_size=0.1,
        num_steps=1,
        polish_steps=0,
        backend=engine,
    )
    expected = [
        0.29706825676603815,
        0.7029317432339618,
        0.2000149581455057,
        0.6060754256826026,
        0.19390961617189148,
    ]
    np.testing.assert_allclose(result.chains_x[0], expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("start", "value"), [([0.3, 0.7, 0.2, 0.6, 0.2], -1.0), ([0.5, 0.5, 0.4, 0.4, 0.2], -2.0)]
)
def test_each_start_ends_at_an_equilibrium(start: list[float], value: float) -> None:
    game = simplex.PotentialGame(PAYOFF)
    result = simplex.mwu(game, x0=start, step_size=0.1, num_steps=2000)
    assert result.value == pytest.approx(value, abs=1e-12)
    assert simplex.nash_gap(game, result.x) < 1e-12
    assert simplex.nash_gap(game, np.array(start)) > 0.05


LOGIT = [
    ([0.9, 0.1, 0.9, 0.05, 0.05], -2.000128789817, [0.9999543571851, 1 - 0.9999543571851]),
    ([0.1, 0.9, 0.05, 0.9, 0.05], -1.006628247096, [0.008443853737638, 0.991556146262362]),
]


@pytest.mark.parametrize(("start", "value", "first"), LOGIT)
def test_logit_equilibria(start: list[float], value: float, first: list[float]) -> None:
    game = simplex.PotentialGame(PAYOFF, entropy=0.2)
    point = simplex.polish(game, start)
    assert point.value == pytest.approx(value, abs=1e-12)
    np.testing.assert_allclose(point.x[:2], first, atol=1e-10)
    assert point.kkt_residual < 1e-11
    run = simplex.mwu(game, x0=start, step_size=0.1, num_steps=5000, polish_steps=0)
    assert run.value == pytest.approx(value, abs=1e-10)
    # Each strategy is the softmax of the payoffs against the other.
    x, y = point.x[:2], point.x[2:]
    answer = np.exp(np.array(PAYOFF) @ y / 0.2)
    np.testing.assert_allclose(x, answer / answer.sum(), rtol=1e-9)
    answer = np.exp(x @ np.array(PAYOFF) / 0.2)
    np.testing.assert_allclose(y, answer / answer.sum(), rtol=1e-9)


@pytest.mark.parametrize("sizes", [(2, 3), (2, 3, 4), (2, 2, 3, 2)])
def test_potential_is_the_expectation(sizes: tuple[int, ...]) -> None:
    payoff = np.random.default_rng(1).normal(size=sizes)
    game = simplex.PotentialGame(payoff)
    x = mixed(sizes, 2)
    parts = np.split(x, np.cumsum(sizes)[:-1])
    expected = sum(
        payoff[profile] * np.prod([parts[i][a] for i, a in enumerate(profile)])
        for profile in itertools.product(*map(range, sizes))
    )
    value, gradient = game.value_and_grad(x)
    assert float(value) == pytest.approx(-expected, rel=1e-12)
    np.testing.assert_allclose(gradient, reference.differences(game, x), rtol=1e-6, atol=1e-9)
    assert game.sizes == sizes


def test_payoffs_with_a_potential_are_recognised() -> None:
    rng = np.random.default_rng(3)
    potential = rng.normal(size=(2, 3, 4))
    payoffs = np.stack(
        [
            potential + rng.normal(size=(1, 3, 4)),  # what a player cannot change
            potential + rng.normal(size=(2, 1, 4)),
            potential + rng.normal(size=(2, 3, 1)),
        ]
    )
    game = simplex.PotentialGame.from_payoffs(payoffs)
    x = mixed((2, 3, 4), 4)
    assert simplex.nash_gap(game, x) == pytest.approx(
        simplex.nash_gap(simplex.PotentialGame(potential), x), rel=1e-10
    )
    with pytest.raises(ValueError, match="must be those of an exact potential game, got gains of"):
        simplex.PotentialGame.from_payoffs(rng.normal(size=(2, 2, 2)))
    with pytest.raises(ValueError, match="`payoffs` must have shape"):
        simplex.PotentialGame.from_payoffs(np.zeros((3, 2, 2)))


def test_polymatrix_is_the_sum_over_pairs(engine: str) -> None:
    rng = np.random.default_rng(5)
    sizes = (2, 3, 2, 4)
    payoffs = {
        (i, j): rng.normal(size=(sizes[i], sizes[j])) for i in range(4) for j in range(i + 1, 4)
    }
    game = simplex.Polymatrix(payoffs, sizes)
    x = mixed(sizes, 6)
    parts = np.split(x, np.cumsum(sizes)[:-1])
    expected = -sum(parts[i] @ matrix @ parts[j] for (i, j), matrix in payoffs.items())
    value, gradient = game.value_and_grad(x, backend=engine)
    assert float(value) == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(gradient, reference.differences(game, x), rtol=1e-6, atol=1e-9)


ACTIONS = [[(0, 1), (2,)], [(1,), (0, 2), (2,)], [(0,), (1, 2)], [(0, 1, 2), ()]]


@pytest.mark.parametrize("shape", ["affine", "convex", "any"])
def test_congestion_is_the_expectation_of_the_potential(shape: str) -> None:
    rng = np.random.default_rng(7)
    loads = np.arange(1, 5)
    costs = {
        "affine": rng.random((3, 1)) * loads + rng.random((3, 1)),
        "convex": rng.random((3, 1)) * loads**2 + rng.random((3, 1)),
        "any": rng.random((3, 4)),
    }[shape]
    game = simplex.Congestion(ACTIONS, costs)
    assert game.degree == {"affine": 2, "convex": 3, "any": 4}[shape]
    x = mixed(game.sizes, 8)
    parts = np.split(x, np.cumsum(game.sizes)[:-1])
    expected = 0.0
    for profile in itertools.product(*(range(n) for n in game.sizes)):
        users = np.zeros(3, int)
        for player, action in enumerate(profile):
            for resource in ACTIONS[player][action]:
                users[resource] += 1
        chance = np.prod([parts[i][a] for i, a in enumerate(profile)])
        expected += chance * sum(costs[r, :n].sum() for r, n in enumerate(users))
    assert float(game.value_and_grad(x)[0]) == pytest.approx(expected, rel=1e-12)
    # A gain of a player to first order is the change of the expected cost.
    best = simplex.lmwu(
        game, step_size=0.05, inverse_temperature=100.0, num_steps=500, num_chains=16, seed=1
    )
    assert simplex.nash_gap(game, best.x) < 1e-9


def test_chains_find_the_best_of_many_equilibria() -> None:
    """Four players, three actions each: exchanges of temperatures bring every cold chain there."""
    payoff = np.random.default_rng(15).normal(size=(3, 3, 3, 3))
    game = simplex.PotentialGame(payoff)
    best = np.unravel_index(payoff.argmax(), payoff.shape)

    def share(x: Any) -> float:
        return float((x.reshape(-1, 4, 3).argmax(axis=2) == best).all(axis=1).mean())

    settings: dict[str, Any] = {"x0": "dirichlet", "num_chains": 256, "seed": 5}
    plain = simplex.mwu(game, step_size=0.2, num_steps=1000, **settings)
    noisy = simplex.lmwu(
        game,
        step_size=0.05,
        inverse_temperature=np.geomspace(1.0, 100.0, 16),
        swap_every=5,
        num_steps=2000,
        **settings,
    )
    assert noisy.value == pytest.approx(-payoff.max(), abs=1e-12)
    assert share(plain.chains_x) < 0.5
    assert share(noisy.chains_x[15::16]) > 0.9


def test_rows_of_strategies_have_a_gap_each() -> None:
    game = simplex.PotentialGame(PAYOFF, entropy=0.2)
    rows = np.array([[1.0, 0, 1, 0, 0], [0.5, 0.5, 1, 0, 0]])
    np.testing.assert_allclose(simplex.nash_gap(game, rows), [0.0, 1.0], atol=1e-15)


BAD: list[tuple[Any, type[Exception], str]] = [
    (lambda: simplex.PotentialGame([1.0, 2.0]), ValueError, "`potential` must have 2 or 3"),
    (lambda: simplex.PotentialGame([[np.nan, 1.0]]), ValueError, "`potential` must be finite"),
    (lambda: simplex.PotentialGame(PAYOFF, entropy="x"), TypeError, "`entropy` must be a finite"),
    (lambda: simplex.Polymatrix([], (2, 2)), TypeError, "`payoffs` must be a mapping"),
    (lambda: simplex.Polymatrix({}, 3), TypeError, "`sizes` must be a sequence of integers"),
    (
        lambda: simplex.Polymatrix({(0, 0): [[1.0]]}, (1, 1)),
        ValueError,
        "must belong to two different players below 2, got \\(0, 0\\)",
    ),
    (
        lambda: simplex.Polymatrix({(0, 1): [[1.0]]}, (2, 1)),
        ValueError,
        "must have shape \\(2, 1\\)",
    ),
    (lambda: simplex.Congestion([], [[1.0]]), ValueError, "`actions` must hold at least one"),
    (lambda: simplex.Congestion("ab", [[1.0]]), TypeError, "`actions` must hold for each player"),
    (lambda: simplex.Congestion([[0]], [[1.0]]), TypeError, "must hold for each player"),
    (
        lambda: simplex.Congestion([[(0,), (4,)]], [[1.0]]),
        ValueError,
        "must name resources below 1, the rows of `costs`, got 4",
    ),
    (
        lambda: simplex.Congestion([[(0,)], [(0,)]], [[1.0]]),
        ValueError,
        "`costs` must have shape \\(resources, 2\\)",
    ),
    (lambda: simplex.nash_gap(None, [1.0]), TypeError, "nash_gap: `game` must be an objective"),
    (
        lambda: simplex.nash_gap(simplex.PotentialGame(PAYOFF), [1.0]),
        ValueError,
        "nash_gap: `x` must have 5 weights",
    ),
]


@pytest.mark.parametrize(("call", "error", "words"), BAD)
def test_bad_arguments(call: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call()


def test_too_many_monomials() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(OverflowError, match="must have at most 2,000,000 monomials"):
        simplex.Congestion([[(0,)] * 12] * 12, rng.random((1, 12)))
