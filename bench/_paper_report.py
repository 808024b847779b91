"""What an experiment found beside what was expected, as a table, a verdict and a picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops._report import text

Float64 = npt.NDArray[np.float64]

STANDARD_ERRORS = 4.0  # a right program is outside once in 16,000 comparisons
COLOURS = ("#0067a5", "#c2410c", "#0a7a55", "#8a3fa0", "#6b7280")

_STYLE: dict[str, Any] = {
    "figure.dpi": 110,
    "savefig.bbox": "tight",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.grid": True,
    "grid.color": "#e3e7ec",
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.markersize": 5,
    "svg.hashsalt": "hotloops",  # the same file from the same numbers
}


@dataclass(frozen=True)
class Comparison:
    """One number.

    Attributes
    ----------
    name : str
        What it is.
    expected, found : float
        From theory or an independent computation; from our run.
    error : float
        Monte-Carlo standard error of `found`.
    slack : float
        How far the expected figure itself may be off: an expansion that was cut, a figure that
        was measured, a coverage that an interval only reaches as n grows.
    """

    name: str
    expected: float
    found: float
    error: float
    slack: float = 0.0

    @property
    def agrees(self) -> bool:
        """Whether the distance is within four standard errors and the slack."""
        return abs(self.found - self.expected) <= STANDARD_ERRORS * self.error + self.slack

    def cells(self) -> list[str]:
        """Return the row of a table."""
        verdict = "agrees" if self.agrees else "DIFFERS"
        scale = max(abs(self.expected), abs(self.found))
        spread = max(self.error, 1e-3 * abs(self.found), 1e-300)
        return [
            self.name,
            *(_number(value, spread, scale) for value in (self.expected, self.found, self.error)),
            f"{self.slack:.2g}" if self.slack else "",
            verdict,
        ]


@dataclass
class Report:
    """What one experiment has to say.

    Attributes
    ----------
    name, title : str
        For instance ``"E1"`` and what it shows.
    notes : list of str
        Sentences printed above the table.
    tables : list of (str, list of list of str)
        Further tables, each with a headline: figures that nothing is expected of.
    comparisons : list of Comparison
        The verdicts.
    draw : callable, optional
        Draws on a matplotlib figure.
    family : str
        What the names of its pictures begin with.
    size : tuple of float
        Of the figure, in inches.
    """

    name: str
    title: str
    notes: list[str] = field(default_factory=list)
    tables: list[tuple[str, list[list[str]]]] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)
    draw: Callable[[Any], None] | None = None
    family: str = "sgd"
    size: tuple[float, float] = (10.0, 4.2)

    @property
    def agrees(self) -> bool:
        """Whether every comparison agrees."""
        return all(comparison.agrees for comparison in self.comparisons)

    def show(self) -> None:
        """Print everything."""
        for note in self.notes:
            text.show(note)
        for headline, rows in self.tables:
            text.show(f"\n{headline}")
            text.show_table(rows, rule_after=(0,))
        if self.comparisons:
            head = ["", "expected", "ours", "± one error", "slack", "verdict"]
            rows = [head, *(comparison.cells() for comparison in self.comparisons)]
            used = [column for column in range(6) if any(row[column] for row in rows[1:])]
            text.show()
            text.show_table([[row[column] for column in used] for row in rows], rule_after=(0,))
        wrong = sum(not comparison.agrees for comparison in self.comparisons)
        verdict = f"{wrong} of {len(self.comparisons)} differ" if wrong else "all agree"
        text.show(f"\n{self.name}: {verdict} (within four Monte-Carlo standard errors)")

    def save(self, folder: Path) -> list[Path]:
        """Write the picture as SVG and PNG; return the files."""
        if self.draw is None:
            return []
        import matplotlib as mpl
        from matplotlib.figure import Figure

        folder.mkdir(parents=True, exist_ok=True)
        with mpl.rc_context(_STYLE):
            figure = Figure(figsize=self.size, layout="constrained")
            self.draw(figure)
            files = [folder / f"{self.family}-{self.name}.{suffix}" for suffix in ("svg", "png")]
            for file in files:
                metadata = {"Date": None} if file.suffix == ".svg" else {}
                figure.savefig(file, metadata=metadata)
        return files


def mean_and_error(samples: Float64) -> tuple[float, float]:
    """Return the mean of independent numbers and its standard error."""
    flat = np.ravel(samples)
    return float(flat.mean()), float(flat.std(ddof=1) / math.sqrt(flat.size))


def fraction_and_error(covered: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Return the share of hits over rows, and its error from the spread between rows.

    Columns are coordinates of one run, which are not independent; rows are independent.
    """
    by_row = np.atleast_2d(covered.T).T.mean(axis=1)
    share = float(by_row.mean())
    smallest = math.sqrt(0.25 / by_row.size) / 10.0  # all hits: not a spread of zero
    return share, max(float(by_row.std(ddof=1) / math.sqrt(by_row.size)), smallest)


def order(step_sizes: Sequence[float], values: Sequence[float]) -> float:
    """Return the slope of log |value| against log step size, by least squares."""
    x, y = np.log(step_sizes), np.log(np.abs(values))
    return float(np.polyfit(x, y, 1)[0])


def _number(value: float, spread: float, scale: float) -> str:
    """Write a value with two digits of its spread; with a power of ten if the scale is small."""
    if not math.isfinite(value):
        return f"{value:g}"
    digits = 1 - math.floor(math.log10(spread))
    if scale < 1e-2:
        figures = max(1, digits + (math.floor(math.log10(abs(value))) if value else 0))
        return f"{value:.{min(figures, 8)}e}"
    return f"{value:.{min(max(digits, 0), 10)}f}"
