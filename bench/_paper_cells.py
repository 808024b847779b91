"""Real cells, the space in which they are compared, and scores: what the experiments share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops import datasets
from hotloops.flow import metrics

Array = npt.NDArray[Any]

NUM_TEST, NUM_COMPONENTS = 140, 30
NEIGHBOURS = 5


@dataclass(frozen=True)
class Split:
    """Training and test cells, with the type and the total of each."""

    train: Any
    train_types: Array
    test: Any
    test_types: Array
    genes: tuple[str, ...]

    @property
    def test_totals(self) -> Array:
        """Counts of each test cell."""
        return np.asarray(self.test.sum(axis=1), float).ravel()


def split() -> Split:
    """Return 560 training and 140 test cells."""
    cells = datasets.load_pbmc68k_reduced()
    order = np.random.RandomState(0).permutation(cells.counts.shape[0])
    test, train = order[:NUM_TEST], order[NUM_TEST:]
    types = cells.cell_types
    return Split(cells.counts[train], types[train], cells.counts[test], types[test], cells.genes)


def log_normalised(counts: Any) -> Array:
    """Return log(1 + counts scaled to a total of 10,000), dense."""
    dense = np.asarray(counts.toarray() if hasattr(counts, "toarray") else counts, float)
    totals = np.maximum(dense.sum(axis=1, keepdims=True), 1.0)
    return np.asarray(np.log1p(1e4 * dense / totals))


@dataclass(frozen=True)
class Space:
    """The first principal components of real cells, into which all cells are put alike."""

    centre: Array
    loadings: Array

    @classmethod
    def of(cls, counts: Any, components: int = NUM_COMPONENTS) -> Space:
        """Return the space of some cells."""
        x = log_normalised(counts)
        centre = x.mean(axis=0)
        _, _, directions = np.linalg.svd(x - centre, full_matrices=False)
        return cls(centre, directions[:components].T)

    def place(self, counts: Any) -> Array:
        """Return the coordinates of cells."""
        return np.asarray((log_normalised(counts) - self.centre) @ self.loadings)


@dataclass(frozen=True)
class Scores:
    """Distances of generated to real cells, means over the types; and shares of zeros.

    Attributes
    ----------
    wasserstein, mmd : float
        W2, and the squared discrepancy.
    f1 : float
        How well neighbours tell real from generated cells: 0.5 is not at all.
    zeros : float
        Share of zeros among the counts.
    """

    wasserstein: float
    mmd: float
    f1: float
    zeros: float

    def cells(self, name: str) -> list[str]:
        """Return a row of a table."""
        numbers = (f"{x:.{d}f}" for x, d in zip(vars(self).values(), (2, 3, 3, 3), strict=True))
        return [name, *numbers]


HEAD = ["", "W2", "MMD²", "kNN F1", "zeros"]


def score(space: Space, data: Split, generated: Any) -> Scores:
    """Compare generated cells with the test cells, one for each and of the same type."""
    real, made = space.place(data.test), space.place(generated)
    kinds, numbers = np.unique(data.test_types, return_counts=True)
    of_types = [
        (
            metrics.wasserstein(real[data.test_types == kind], made[data.test_types == kind]),
            metrics.mmd(real[data.test_types == kind], made[data.test_types == kind]),
        )
        for kind in kinds[numbers > 1]
    ]
    distances = np.mean(of_types, axis=0)
    zeros = 1.0 - generated.nnz / np.prod(generated.shape)
    f1 = metrics.classifier_f1(real, made, k=NEIGHBOURS)
    return Scores(float(distances[0]), float(distances[1]), f1, float(zeros))


def by_type(data: Split, draw: Callable[[str, Any, int], Any]) -> Any:
    """Return draw(type, its training cells, count), in the order of the test cells."""
    from scipy import sparse

    parts: list[Any] = [None] * len(data.test_types)
    for kind in np.unique(data.test_types):
        rows = np.flatnonzero(data.test_types == kind)
        made = sparse.csr_array(draw(kind, data.train[data.train_types == kind], rows.size))
        for place, row in enumerate(rows):
            parts[row] = made[[place]]
    return sparse.vstack(parts, format="csr")


def scatter(axes: Any, real: Array, made: Array, title: str) -> None:
    """Draw real and generated cells in their first two coordinates."""
    axes.scatter(*real[:, :2].T, s=10, c="#9aa3ad", label="real", linewidths=0)
    axes.scatter(*made[:, :2].T, s=10, c="#c2410c", label="generated", linewidths=0, alpha=0.7)
    axes.set(title=title, xlabel="component 1", ylabel="component 2")
    axes.legend()
