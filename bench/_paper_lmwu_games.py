"""X4: potential games with two to six players: how often the best equilibrium is found."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from _paper_report import COLOURS, Comparison, Report

from hotloops import simplex

_ACTIONS = 3
_LADDER = np.geomspace(1.0, 100.0, 16)
_METHODS = ("multiplicative weights", "projected Langevin", "LMWU, annealed", "LMWU, tempered")


def run_x4(quick: bool) -> Report:
    """Share of chains at the best pure equilibrium, over random common payoffs."""
    games, chains, steps = (4, 128, 2_000) if quick else (20, 256, 4_000)
    players = (2, 3, 4, 5, 6)
    shares = np.zeros((len(players), len(_METHODS), games))
    best = np.zeros((len(players), games))
    gaps = np.zeros((len(players), games))
    for i, count in enumerate(players):
        for k in range(games):
            payoff = np.random.default_rng([4, count, k]).normal(size=(_ACTIONS,) * count)
            shares[i, :, k], best[i, k], gaps[i, k] = _play(payoff, chains, steps)
    report = Report(
        "X4",
        "Potential games with random payoffs",
        [
            f"{games} games of each size, {_ACTIONS} actions, normal payoffs; {chains} chains of",
            f"{steps:,} steps. The share is that of the chains whose most likely actions are those",
            "of the largest payoff, known by enumeration; of tempered chains the coldest count.",
        ],
        family="lmwu",
    )
    rows = [["players", *_METHODS]]
    for i, count in enumerate(players):
        rows.append([str(count), *(f"{share:.2f}" for share in shares[i].mean(axis=1))])
    report.tables.append(("Mean share over games", rows))
    found = float(best.mean())
    error = math.sqrt(0.02 * 0.98 / best.size)  # 293 of 300 other games
    report.comparisons += [
        Comparison("games in which a tempered run has the best value", 0.98, found, error),
        Comparison("largest Nash gap of a result", 0.0, float(gaps.max()), 0.0, 1e-8),
    ]
    report.draw = lambda figure: _draw(figure, players, shares)
    return report


def _play(payoff: Any, chains: int, steps: int) -> tuple[list[float], bool, float]:
    """Return the shares of the methods, whether tempering found the best, and its Nash gap."""
    game = simplex.PotentialGame(payoff)
    top = np.unravel_index(payoff.argmax(), payoff.shape)

    def share(x: Any) -> float:
        chosen = np.asarray(x).reshape(len(x), payoff.ndim, _ACTIONS).argmax(axis=2)
        return float((chosen == top).all(axis=1).mean())

    common: dict[str, Any] = {"x0": "dirichlet", "num_chains": chains, "num_steps": steps}
    common |= {"seed": 4, "polish_steps": 0}
    cooling = simplex.GeometricCooling(300.0 ** (1.0 / steps), cap=300.0)
    plain = simplex.mwu(game, step_size=0.2, **common)
    projected = simplex.projected_langevin(
        game, step_size=0.01, inverse_temperature=1.0, temperature_schedule=cooling, **common
    )
    annealed = simplex.lmwu(
        game, step_size=0.05, inverse_temperature=1.0, temperature_schedule=cooling, **common
    )
    tempered = simplex.lmwu(
        game,
        step_size=0.05,
        inverse_temperature=_LADDER,
        swap_every=5,
        **(common | {"polish_steps": 200}),
    )
    last = tempered.chains_x[_LADDER.size - 1 :: _LADDER.size]
    shares = [share(run.chains_x) for run in (plain, projected, annealed)] + [share(last)]
    found = math.isclose(tempered.value, -float(payoff.max()), abs_tol=1e-9)
    return shares, found, float(simplex.nash_gap(game, tempered.x))


def _draw(figure: Any, players: tuple[int, ...], shares: Any) -> None:
    axes = figure.subplots()
    for m, name in enumerate(_METHODS):
        mean = shares[:, m].mean(axis=1)
        error = shares[:, m].std(axis=1, ddof=1) / math.sqrt(shares.shape[2])
        places = np.array(players) + 0.06 * (m - 1.5)
        axes.errorbar(
            places, mean, error, marker="osd^"[m], color=COLOURS[m], label=name, capsize=3
        )
    axes.set(xlabel="players", ylabel="share of chains at the best equilibrium", ylim=(0, 1.05))
    axes.set_xticks(players)
    axes.set_title("Potential games, mean over games and its error")
    axes.legend(fontsize=9, loc="lower left")
