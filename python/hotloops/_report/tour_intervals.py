"""Confidence intervals of the tour: one run of SGD, its own intervals, and the exact minimiser."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops._report.axes import Axis
from hotloops._report.estimates import fixed
from hotloops._report.svg import Chart

Array = npt.NDArray[np.float64]

LEVEL = 0.95

_COVERS, _MISSES = 0, 1
_MOST_ROWS = 40  # of a picture
_ROW_HEIGHT = 17.0


@dataclass(frozen=True)
class IntervalPlan:
    """The run whose intervals are looked at.

    Attributes
    ----------
    l2 : float
        Weight of the ridge. Batches must be long against ``1 / (step size * l2)``, so that it is
        larger than in the other runs.
    step_sizes : tuple of float
        A step size and its double.
    num_steps, burn_in, num_chains : int
        Averaged steps, steps before them, rows of the ensemble.
    """

    l2: float
    step_sizes: tuple[float, float]
    num_steps: int
    burn_in: int
    num_chains: int


@dataclass(frozen=True)
class Intervals:
    """What came out.

    Attributes
    ----------
    plan : IntervalPlan
        What was run.
    exact : numpy.ndarray, shape (d,)
        The minimiser.
    low, high : numpy.ndarray, shape (C, d)
        Ends of the intervals of the chains that did not diverge.
    """

    plan: IntervalPlan
    exact: Array
    low: Array
    high: Array

    @property
    def covered(self) -> npt.NDArray[np.bool_]:
        """Whether the exact value lies inside, shape (C, d)."""
        return np.asarray((self.low <= self.exact) & (self.exact <= self.high))

    def __str__(self) -> str:
        """Write the share of intervals that cover, with its standard error between chains."""
        shares = 100.0 * self.covered.mean(axis=1)
        error = float(shares.std(ddof=1)) / np.sqrt(shares.size)
        return f"{fixed(float(shares.mean()), error)} ± {fixed(error, error)} %"


def run_intervals(plan: IntervalPlan, X: Any, y: Any, common: dict[str, Any]) -> Intervals:
    """Run the chains, with a progress bar on standard error, and form their intervals."""
    from hotloops import sgd

    problem = sgd.Logistic(X, y, l2=plan.l2)
    run = sgd.run(
        problem,
        plan.step_sizes,
        num_steps=plan.num_steps,
        burn_in=plan.burn_in,
        num_chains=plan.num_chains,
        progress=True,
        **common,
    )
    low, high = run.confidence_interval(LEVEL)
    return Intervals(
        plan,
        exact=_to_host(problem.minimizer()),
        low=_to_host(low)[run.valid],
        high=_to_host(high)[run.valid],
    )


def picture(title: str, names: tuple[str, ...], intervals: Intervals) -> Chart:
    """Draw the intervals of the first chain, relative to the exact values."""
    covered = intervals.covered[0]
    shown = np.arange(len(names))[:_MOST_ROWS]
    headline = f"{title}: {covered.sum()} of {covered.size} intervals of one run cover"
    chart = Chart(
        headline,
        Axis("interval minus exact value"),
        Axis("", names=[names[i] for i in shown]),
        height=110.0 + _ROW_HEIGHT * shown.size,
    )
    chart.rule(0.0)
    for inside, name, colour in ((True, "covers", _COVERS), (False, "misses", _MISSES)):
        rows = [place for place, i in enumerate(shown) if covered[i] == inside]
        if not rows:
            continue
        chosen = shown[rows]
        ends = [(side[0] - intervals.exact)[chosen] for side in (intervals.low, intervals.high)]
        chart.spans(
            ends[0].tolist(),
            ends[1].tolist(),
            [float(place) for place in rows],
            name,
            colour,
            notes=[_note(names[i], intervals, i) for i in chosen],
        )
    return chart


def _note(name: str, intervals: Intervals, i: int) -> str:
    low, high = float(intervals.low[0, i]), float(intervals.high[0, i])
    return f"{name}: [{low:.4f}, {high:.4f}], exact {intervals.exact[i]:.4f}"


def _to_host(array: Any) -> npt.NDArray[Any]:
    return np.asarray(array.get() if hasattr(array, "get") else array)
