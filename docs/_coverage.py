"""Measures the coverage of intervals while the pages are built: a directive for Sphinx.

``{coverage-table} ar1`` is the reference table of the project beside ours, ``{coverage-table}
methods`` compares the methods on a logistic model. Seeds are fixed, so that every build on every
machine writes the same numbers.
"""

from __future__ import annotations

import math
import warnings
from typing import Any, ClassVar

import numpy as np
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from hotloops import sgd

LEVEL = 0.95

# Step size, averaged steps, batches; then what a reference run of 4,000 chains gave: coverage of
# batch means and of random scaling (standard error 0.0035), mean of Sigma-hat.
REFERENCE = (
    (0.05, 4_000, 50, 0.920, 0.948, 0.753),
    (0.05, 4_000, 20, 0.939, 0.942, 0.892),
    (0.05, 20_000, 50, 0.947, 0.952, 0.954),
    (0.1, 20_000, 50, 0.949, 0.954, 0.982),
)
_CHAINS, _BURN_IN = 4_000, 400


def ar1() -> list[dict[str, float]]:
    """Return for each row of the reference our coverages and mean Sigma-hat.

    The problem is ``t^2 / 2`` with N(0, 1) noise: iterates are an autoregression of order one, the
    minimiser is 0 and the long-run variance 1.
    """
    problem = sgd.Quadratic([1.0], 0.0)
    rows = []
    for step_size, n, batches, *_ in REFERENCE:
        run = sgd.run(
            problem,
            step_size,
            n,
            burn_in=_BURN_IN,
            num_chains=_CHAINS,
            seed=11,
            statistics=("batch_means", "random_scaling"),
            batch_length=n // batches,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # short batches are the point here
            intervals = {
                "batch_means": run.confidence_interval(LEVEL, "batch_means", num_batches=batches),
                "random_scaling": run.confidence_interval(LEVEL, "random_scaling"),
            }
            sigma = run.long_run_covariance("batch_means", num_batches=batches)
        rows.append(
            {name: _share(low, high, 0.0)[0] for name, (low, high) in intervals.items()}
            | {"sigma": float(sigma.mean())}
        )
    return rows


def methods() -> list[tuple[str, float, float, float]]:
    """Return for each method: name, coverage, its standard error, width over that of the optimum.

    Streaming logistic regression with three coefficients, 1,000 chains of 80,000 averaged steps.
    """
    problem = sgd.StreamingLogistic([1.0, -0.5, 0.25])
    at, n = problem.minimizer(), 80_000
    run = sgd.run(
        problem,
        [0.05, 0.1],
        n,
        burn_in=2_000,
        num_chains=1_000,
        seed=12,
        statistics=("batch_means", "random_scaling", "plug_in"),
    )
    optimum = 2 * 1.959964 * np.sqrt(np.diag(problem.optimal_covariance()) / n)
    batches = 20
    options: dict[str, dict[str, int]] = {
        "batch_means": {"num_batches": batches},
        "obm": {"window": n // batches},
        "random_scaling": {},
        "plug_in": {},
        "bootstrap": {"window": n // batches, "num_samples": 400},
    }
    rows = []
    for name, chosen in options.items():
        low, high = run.confidence_interval(LEVEL, name, **chosen)
        rows.append((f"{name}, extrapolated", *_share(low, high, at), _width(low, high, optimum)))
    low, high = run.confidence_interval(LEVEL, "batch_means", num_batches=batches, of="mean")
    for j, step_size in enumerate(run.step_sizes):
        ends = low[:, j], high[:, j]
        name = f"batch_means, average at step size {step_size:g}"
        rows.append((name, *_share(*ends, at), _width(*ends, optimum)))
    return rows


def _share(low: Any, high: Any, at: Any) -> tuple[float, float]:
    """Return the coverage and its standard error: chains are independent, coordinates are not."""
    by_chain = ((low <= at) & (at <= high)).mean(axis=1)
    return float(by_chain.mean()), float(by_chain.std(ddof=1) / math.sqrt(by_chain.size))


def _width(low: Any, high: Any, optimum: Any) -> float:
    return float(np.mean((high - low) / optimum))


def ar1_cells() -> list[list[str]]:
    """Return the head and the rows of the first table."""
    cells = [
        [
            *("step size γ", "steps n", "batches K", "γ × batch length"),
            *("batch means", "reference", "random scaling", "reference", "mean Σ̂", "reference"),
        ]
    ]
    for (step_size, n, batches, *reference), found in zip(REFERENCE, ar1(), strict=True):
        known = [f"{value:.3f}" for value in reference]
        ours = [f"{found[name]:.3f}" for name in ("batch_means", "random_scaling", "sigma")]
        pairs = [cell for pair in zip(ours, known, strict=True) for cell in pair]
        length = step_size * n / batches
        cells.append([f"{step_size:g}", f"{n:,}", str(batches), f"{length:g}", *pairs])
    return cells


def methods_cells() -> list[list[str]]:
    """Return the head and the rows of the second table."""
    cells = [["interval", "coverage", "width / optimum"]]
    for name, share, error, width in methods():
        cells.append([name, f"{share:.3f} ± {error:.3f}", f"{width:.2f}"])
    return cells


class CoverageTable(SphinxDirective):
    """``{coverage-table} ar1`` or ``{coverage-table} methods``."""

    required_arguments = 1
    tables: ClassVar[dict[str, Any]] = {"ar1": ar1_cells, "methods": methods_cells}

    def run(self) -> list[nodes.Node]:
        """Measure and return the table."""
        name = self.arguments[0]
        if name not in self.tables:
            raise self.error(f"coverage-table must be one of {', '.join(self.tables)}, got {name}")
        self.env.note_dependency(__file__)
        return [_table(self.tables[name]())]


def _table(cells: list[list[str]]) -> nodes.table:
    width = len(cells[0])
    group = nodes.tgroup("", *(nodes.colspec(colwidth=1) for _ in range(width)), cols=width)
    head, *rows = [
        nodes.row("", *(nodes.entry("", nodes.paragraph(text=text)) for text in row))
        for row in cells
    ]
    group += [nodes.thead("", head), nodes.tbody("", *rows)]
    return nodes.table("", group)
