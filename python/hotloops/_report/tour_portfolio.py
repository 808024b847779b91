"""The tour's portfolio: three stocks and two wells, with and without noise."""

from __future__ import annotations

import time
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops import datasets
from hotloops._report import page
from hotloops._report.axes import Axis
from hotloops._report.svg import Chart
from hotloops._report.text import duration
from hotloops._report.triangle import Triangle, triangle

Array = npt.NDArray[np.float64]

ASSETS = ("AMD", "PG", "WMT")
PREFERENCES = (0.0, 2.0, 1.0, 0.01)
DAYS = 2520
STEP_SIZE, INVERSE_TEMPERATURE = 0.02, 3.0
AVERSION = 10.0
_START = (0.8, 0.1, 0.1)
_EVERY = 10
_ACROSS = 0.1  # of AMD
_SHOWN = 128  # chains in the picture
_PLAIN, _NOISY, _BEST, _WAY = 1, 0, 2, 3


@dataclass(frozen=True)
class Portfolio:
    """What came out.

    Attributes
    ----------
    num_steps, num_chains : int
        Of the noisy chains.
    plain, noisy : SimplexResult
        Of multiplicative weights without and with noise, from the same start.
    values : numpy.ndarray, shape (records, chains)
        The objective along the noisy chains.
    plain_values : numpy.ndarray, shape (records,)
        And along the plain one.
    plain_seconds, noisy_seconds, convex_seconds : float
        Times of the runs, and of the convex portfolio of all stocks.
    convex : Point
        The best portfolio of all stocks for constant relative risk aversion.
    """

    num_steps: int
    num_chains: int
    plain: Any
    noisy: Any
    values: Array
    plain_values: Array
    plain_seconds: float
    noisy_seconds: float
    convex_seconds: float
    convex: Any


def objective() -> Any:
    """Return minus the preferred moments of the three stocks, in percent."""
    from hotloops import simplex

    data = datasets.load_sp500()
    columns = [data.assets.index(name) for name in ASSETS]
    returns = data.returns(DAYS, percent=True)[:, columns]
    return simplex.PortfolioMoments(returns, PREFERENCES, names=ASSETS)


def run(quick: bool, *, num_threads: int | None, backend: str | None, seed: int = 7) -> Portfolio:
    """Run both methods from the same start, and the convex portfolio."""
    from hotloops import simplex

    num_steps, num_chains = (1_000, 64) if quick else (4_000, 256)
    wells = objective()
    common: dict[str, Any] = {
        "x0": _START,
        "step_size": STEP_SIZE,
        "num_steps": num_steps,
        "trace_every": _EVERY,
        "num_threads": num_threads,
        "backend": backend,
    }
    simplex.lmwu(wells, **(common | {"num_steps": 1}))  # compiles what must be compiled
    began = time.perf_counter()
    plain = simplex.mwu(wells, **common)
    middle = time.perf_counter()
    noisy = simplex.lmwu(
        wells,
        inverse_temperature=INVERSE_TEMPERATURE,
        num_chains=num_chains,
        seed=seed,
        progress=True,
        **common,
    )
    end = time.perf_counter()
    everything = simplex.PortfolioMoments(
        datasets.load_sp500().returns(DAYS), simplex.crra_preferences(AVERSION)
    )
    begin_convex = time.perf_counter()
    convex = simplex.polish(everything)
    return Portfolio(
        num_steps=num_steps,
        num_chains=num_chains,
        plain=plain,
        noisy=noisy,
        values=_along(wells, noisy.trace),
        plain_values=_along(wells, plain.trace)[:, 0],
        plain_seconds=middle - began,
        noisy_seconds=end - middle,
        convex_seconds=time.perf_counter() - begin_convex,
        convex=convex,
    )


def _along(wells: Any, trace: Any) -> Array:
    points = np.asarray(trace, np.float64)
    values = wells.value_and_grad(points.reshape(-1, points.shape[-1]))[0]
    return np.asarray(values).reshape(points.shape[:2])


def table(found: Portfolio) -> list[list[str]]:
    """Return the cells: quantities down, methods across."""
    across = float((np.asarray(found.noisy.best_x)[:, 0] < found.plain.x[0] / 2).mean())
    rows = [
        ["", "multiplicative weights", "with Langevin noise"],
        ["chains", "1", f"{found.num_chains:,}"],
        ["steps", f"{found.num_steps:,}", f"{found.num_steps:,}"],
        ["objective", f"{found.plain.value:.5f}", f"{found.noisy.value:.5f}"],
    ]
    rows += [
        [f"weight of {name}", f"{left:.4f}", f"{right:.4f}"]
        for name, left, right in zip(ASSETS, found.plain.x, found.noisy.x, strict=True)
    ]
    return [
        *rows,
        [
            "residual of first order",
            f"{found.plain.kkt_residual:.0e}",
            f"{found.noisy.kkt_residual:.0e}",
        ],
        ["chains that saw the better well", "0 %", f"{100 * across:.0f} %"],
        ["time", duration(found.plain_seconds), duration(found.noisy_seconds)],
    ]


def section(found: Portfolio) -> tuple[str, str]:
    """Return heading and HTML of the page's section."""
    drawn = [
        (on_the_triangle(found).svg(), _CAPTION_PATHS),
        (descent(found).svg(), _CAPTION_DESCENT),
    ]
    html = (
        _EXPLANATION
        + page.table(table(found), strong=(3,))
        + page.figures(drawn)
        + _CONVEX.format(
            time=duration(found.convex_seconds),
            aversion=AVERSION,
            residual=found.convex.kkt_residual,
        )
        + f"<pre>{escape(_code(found))}</pre>"
        + _METHOD
    )
    return "A portfolio with two wells", html


def on_the_triangle(found: Portfolio) -> Triangle:
    """Draw the ways of one plain chain and of one noisy chain, and all noisy chains at the end."""
    picture = triangle("AMD, PG and WMT: where the chains go", ASSETS)
    wells = objective()
    corners = wells.value_and_grad(np.eye(3))[0]
    levels = np.geomspace(1.02 * found.noisy.value, float(np.max(corners)), 26)
    picture.contours(lambda x: np.asarray(wells.value_and_grad(x)[0]), levels.tolist())
    trace = np.asarray(found.noisy.trace, np.float64)
    picture.cloud(trace[-1, :_SHOWN], "chains with noise at the end", _NOISY)
    start = np.array([_START])
    picture.path(np.concatenate([start, _crossing(trace)]), "one of them", _WAY)
    plain = np.asarray(found.plain.trace, np.float64)[:, 0]
    picture.path(np.concatenate([start, plain]), "without noise", _PLAIN)
    picture.cloud(plain[-1:], "", _PLAIN, notes=[f"stuck at {found.plain.value:.5f}"])
    picture.cloud(
        np.asarray(found.noisy.x)[None], "best", _BEST, notes=[f"{found.noisy.value:.5f}"]
    )
    return picture


def _crossing(trace: Array) -> Array:
    """Return the way of the chain that crosses in the middle of all, until it is across."""
    across = trace[:, :, 0] < _ACROSS
    first = np.where(across.any(axis=0), across.argmax(axis=0), len(trace) - 1)
    chain = int(np.argsort(first, kind="stable")[first.size // 2])
    return np.asarray(trace[: first[chain] + 1, chain])


def descent(found: Portfolio) -> Chart:
    """Draw the objective against the step."""
    steps = [float(_EVERY * (k + 1)) for k in range(len(found.plain_values))]
    chart = Chart("Objective along the way", Axis("step", log=True), Axis("objective"))
    chart.line(steps, found.plain_values.tolist(), "without noise", _PLAIN)
    chart.line(steps, found.values.mean(axis=1).tolist(), "with noise, mean", _NOISY)
    lowest = np.minimum.accumulate(found.values.min(axis=1))
    chart.line(steps, lowest.tolist(), "with noise, lowest so far", _BEST)
    return chart


_EXPLANATION = """
<p>Three stocks, 2,520 days of returns in percent, and an investor who weighs variance, skewness and
kurtosis by (2, 1, .01). The objective has two minima: one with much AMD, and a better one with
almost none. Multiplicative weights (exponentiated gradient) go down to the minimum that is nearest.
Langevin multiplicative weights add the noise of the simplex's own metric: chains cross the barrier,
and the best point that any of them met is polished by Newton's method.</p>
"""
_CAPTION_PATHS = (
    "Corners hold one stock only; lines are levels of the objective. Without noise the chain stops "
    "in the well where it begins; one chain with noise is drawn "
    "until it is across."
)
_CAPTION_DESCENT = (
    "At a finite temperature chains stay around the minimum, so that their mean lies above it; the "
    "lowest point met is what the polish starts from."
)
_CONVEX = """
<p>Preferences of constant relative risk aversion make the objective convex. Then there is one
minimum, and no noise is needed: for all twenty stocks and aversion {aversion:g} the polish alone
took {time}, to a residual of {residual:.0e}.</p>
"""
_METHOD = """
<p>Y. Feng, X. Wang, T. Xie: <cite>Langevin Multiplicative Weights Update with Applications in
Polynomial Portfolio Management</cite>, AAAI 2025,
<a href="https://arxiv.org/abs/2502.19210">arXiv:2502.19210</a>. Prices: the example set of skfolio
(BSD-3-Clause); they end in 2022 and hold only firms that are still listed. An example, no
advice.</p>
"""


def _code(found: Portfolio) -> str:
    return f"""from hotloops import datasets, simplex

data = datasets.load_sp500()
columns = [data.assets.index(name) for name in {list(ASSETS)}]
returns = data.returns({DAYS}, percent=True)[:, columns]
wells = simplex.PortfolioMoments(returns, {list(PREFERENCES)})

start = {list(_START)}
plain = simplex.mwu(wells, x0=start, step_size={STEP_SIZE:g}, num_steps={found.num_steps:_})
noisy = simplex.lmwu(wells, x0=start, step_size={STEP_SIZE:g},
                     inverse_temperature={INVERSE_TEMPERATURE:g}, num_steps={found.num_steps:_},
                     num_chains={found.num_chains}, seed=7)
print(plain.value, plain.x)  # stuck
print(noisy.value, noisy.x)

convex = simplex.PortfolioMoments(data.returns({DAYS}), simplex.crra_preferences({AVERSION:g}))
print(simplex.polish(convex).x)  # one minimum: no chains needed"""
