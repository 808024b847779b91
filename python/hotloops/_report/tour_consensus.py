"""The part of the tour on clients whose data differ: averaging drifts, multipliers do not."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops import datasets
from hotloops._report import page
from hotloops._report.axes import Axis
from hotloops._report.svg import Chart

__all__ = ["Consensus", "code", "picture", "run_consensus", "section", "table"]

L2 = 1e-3
LOCAL_STEPS = 5
STEP_SIZE = 0.5
_EVERY = 5

_EXPLANATION = """
<p>The rows of a9a belong to four clients here, two with nothing but high incomes and two with
nothing but low ones. All methods fit the same regularised logistic regression. FedAvg averages the
results of five gradient steps of every client; since each client steers towards a model of its own
label, the average settles beside the optimum of the pooled data. SISA takes one gradient a round
and gives every client a multiplier that cancels the difference between its data and those of the
others, so that the pooled optimum is its only fixed point.</p>
"""
_METHOD = """
<p>S. Zhou, O. Wang, Z. Luo, Y. Zhu, G. Y. Li: <cite>Preconditioned Inexact Stochastic ADMM for Deep
Models</cite>, <a href="https://arxiv.org/abs/2502.10784">arXiv:2502.10784</a>.</p>
"""
_CAPTION = (
    "How far the pooled objective is above its minimum. A round of FedAvg costs five gradients of "
    "every client, one of SISA costs one."
)


@dataclass(frozen=True)
class Consensus:
    """What the runs gave.

    Attributes
    ----------
    rounds : ndarray of int
        Where the objectives were evaluated.
    gaps : dict of ndarray
        Objective less the pooled optimum, by method.
    accuracies : dict of float
        Share of right answers on the test table, by method.
    seconds : dict of float
    """

    rounds: npt.NDArray[np.int64]
    gaps: dict[str, npt.NDArray[np.float64]]
    accuracies: dict[str, float]
    seconds: dict[str, float]


def section(outcome: Consensus) -> tuple[str, str]:
    """Return heading and HTML of the page's section."""
    html = (
        _EXPLANATION
        + page.table(table(outcome), strong=(3,))
        + page.figures([(picture(outcome).svg(), _CAPTION)])
        + f"<pre>{escape(code(outcome))}</pre>"
        + _METHOD
    )
    return "Clients with one label each", html


def clients_by_label(y: npt.NDArray[Any]) -> list[npt.NDArray[np.int64]]:
    """Return four clients of one label each."""
    low, high = np.flatnonzero(y <= 0), np.flatnonzero(y > 0)
    return [*np.array_split(low, 2), *np.array_split(high, 2)]


def run_consensus(num_rounds: int, *, num_threads: int | None = None) -> Consensus:
    """Run FedAvg and SISA from zero, and the pooled problem to its end."""
    from hotloops import admm

    table, test = datasets.load_a9a(sparse=True), datasets.load_a9a("test", sparse=True)
    parts = clients_by_label(table.y)
    common: dict[str, Any] = {
        "l2": L2,
        "num_rounds": num_rounds,
        "evaluate_every": _EVERY,
        "num_threads": num_threads,
    }
    pooled = admm.solve(
        "logistic",
        table.X,
        table.y,
        clients=[np.arange(table.y.size)],
        l2=L2,
        scheme="hessian",
        sigma=0.003,
        rho=1.0,
        num_rounds=30,
        tol=1e-7,
        num_threads=num_threads,
    )
    methods: dict[str, Callable[[], Any]] = {
        "FedAvg": lambda: admm.fedavg(
            "logistic",
            table.X,
            table.y,
            clients=parts,
            step_size=STEP_SIZE,
            local_steps=LOCAL_STEPS,
            **common,
        ),
        "SISA": lambda: admm.solve(
            "logistic", table.X, table.y, clients=parts, sigma=1.0, rho=10.0, **common
        ),
    }
    gaps, accuracies, seconds = {}, {}, {}
    for name, run in methods.items():
        began = time.perf_counter()
        fit = run()
        seconds[name] = time.perf_counter() - began
        objective = fit.history["objective"]
        gaps[name] = objective[np.isfinite(objective)] - pooled.objective
        right = (test.X @ fit.w > 0) == (test.y > 0)
        accuracies[name] = float(np.mean(right))
    rounds = np.arange(_EVERY, num_rounds + 1, _EVERY)
    return Consensus(rounds, gaps, accuracies, seconds)


def table(outcome: Consensus) -> list[list[str]]:
    """Return the cells of the table: quantities down, methods across."""
    names = list(outcome.gaps)
    rounds = int(outcome.rounds[-1])
    local = {"FedAvg": LOCAL_STEPS, "SISA": 1}
    return [
        ["a9a, four clients, one label each", *names],
        ["rounds", *(str(rounds) for _ in names)],
        ["gradients of every client", *(str(rounds * local[name]) for name in names)],
        ["objective above its minimum", *(f"{outcome.gaps[name][-1]:.2e}" for name in names)],
        ["test accuracy", *(f"{100 * outcome.accuracies[name]:.1f} %" for name in names)],
        ["time", *(f"{outcome.seconds[name]:.2f} s" for name in names)],
    ]


def picture(outcome: Consensus) -> Chart:
    """Draw the gaps over the rounds."""
    title = "a9a, four clients with one label each"
    chart = Chart(title, Axis("round"), Axis("objective above its minimum", log=True))
    for colour, (name, gaps) in enumerate(outcome.gaps.items()):
        chart.line(outcome.rounds.tolist(), np.maximum(gaps, 1e-12).tolist(), name, colour)
    return chart


def code(outcome: Consensus) -> str:
    """Return what a reader can run."""
    return f"""from hotloops import admm, datasets

table = datasets.load_a9a(sparse=True)
fit = admm.solve("logistic", table.X, table.y, clients=table.y, l2={L2:g},
                 sigma=1.0, rho=10.0, num_rounds={int(outcome.rounds[-1])}, evaluate_every={_EVERY})
print(fit)  # clients=table.y: one client for each label"""
