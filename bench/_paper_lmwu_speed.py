"""X5: how throughput depends on assets, chains and periods."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from _paper_report import COLOURS, Comparison, Report

from hotloops import simplex


def _returns(periods: int, assets: int) -> Any:
    """Skewed returns with heavy tails, in percent: factors, and chi-square mixing."""
    rng = np.random.default_rng([7, periods, assets])
    factors = rng.normal(size=(periods, 3)) @ rng.normal(size=(3, assets)) / 2.0
    mixing = np.sqrt(6.0 / rng.chisquare(6, size=(periods, 1)))
    skew = rng.uniform(-0.3, 0.1, assets) * (mixing**2 - 1.5)
    noise = mixing * (factors + rng.normal(size=(periods, assets)))
    return (0.05 + noise + skew).astype(np.float32)


def _rate(periods: int, assets: int, chains: int, seconds: float) -> float:
    """Return chain-steps a second, the best of three."""
    preferences = simplex.crra_preferences(10.0, percent=True)
    objective = simplex.PortfolioMoments(_returns(periods, assets), preferences)

    def run(steps: int) -> float:
        began = time.perf_counter()
        simplex.lmwu(
            objective,
            step_size=1.0,
            inverse_temperature=1e4,
            num_steps=steps,
            num_chains=chains,
            polish_steps=0,
        )
        return time.perf_counter() - began

    steps = max(2, int(4 * seconds / max(run(4), 1e-6)))
    return chains * steps / min(run(steps) for _ in range(3))


def run_x5(quick: bool) -> Report:
    """Throughput over assets, chains and periods, and the arithmetic that it means."""
    seconds = 0.05 if quick else 0.4
    assets, chains, periods = (5, 20, 50, 100), (16, 64, 256, 1024), (250, 1000, 2520, 5000)
    if quick:
        assets, chains, periods = (5, 20), (16, 256), (250, 2520)
    lines = {
        "assets": [(n, 2520, n, 256) for n in assets],
        "chains": [(n, 2520, 20, n) for n in chains],
        "periods": [(n, n, 20, 256) for n in periods],
    }
    rows = [["varied", "value", "chain-steps a second", "GFLOP/s"]]
    drawn: dict[str, list[tuple[float, float]]] = {}
    for name, cases in lines.items():
        for value, t, d, c in cases:
            rate = _rate(t, d, c, seconds)
            rows.append([name, f"{value:,}", f"{rate:,.0f}", f"{rate * 4e-9 * t * d:.1f}"])
            drawn.setdefault(name, []).append((value, rate))
    report = Report(
        "X5",
        "Throughput of LMWU on moments up to kurtosis, float32",
        [
            "2,520 periods, 20 assets, 256 chains, unless varied; all threads; 4 T d operations a",
            "chain and step. Times of this machine as it is now: quote ratios, not these figures.",
        ],
        size=(10.0, 3.6),
        family="lmwu",
    )
    report.tables.append(("Best of three", rows))
    largest = dict(drawn["periods"])
    ratio = largest[max(periods)] * max(periods) / (largest[min(periods)] * min(periods))
    report.comparisons.append(
        Comparison("work a second, most over fewest periods", 1.0, ratio, 0.0, 0.7)
    )
    report.draw = lambda figure: _draw(figure, drawn)
    return report


def _draw(figure: Any, drawn: dict[str, list[tuple[float, float]]]) -> None:
    for axes, (name, points) in zip(figure.subplots(1, 3, sharey=True), drawn.items(), strict=True):
        axes.plot(*zip(*points, strict=True), "o-", color=COLOURS[0])
        axes.set(xscale="log", yscale="log", xlabel=name)
        axes.set_xticks([value for value, _ in points], [f"{value:g}" for value, _ in points])
        axes.set_xticks([], minor=True)
    figure.axes[0].set_ylabel("chain-steps a second")
    figure.suptitle("LMWU on moments up to kurtosis, float32", fontsize=11)
