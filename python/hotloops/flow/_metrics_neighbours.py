"""Metrics of neighbourhoods: who is near to whom among real and generated points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops._runtime import validate
from hotloops.flow import _pairs

__all__ = ["PrecisionRecall", "classifier_f1", "knn_precision_recall"]

_BLOCK_ELEMENTS = 1 << 22


@dataclass(frozen=True)
class PrecisionRecall:
    """Shares of points that lie in the neighbourhoods of the other set.

    Attributes
    ----------
    precision : float
        Share of generated points within the radius of a real one.
    recall : float
        Share of real points within the radius of a generated one.
    density : float
        Number of real neighbourhoods that a generated point lies in, over k, on average; above 1
        where generated points crowd where real ones are.
    coverage : float
        Share of real points whose neighbourhood holds a generated one.
    k : int
        A point's radius is the distance to its k-th nearest neighbour in its own set.
    """

    precision: float
    recall: float
    density: float
    coverage: float
    k: int

    def to_dict(self) -> dict[str, float]:
        """Return the four numbers by name."""
        return {
            "precision": self.precision,
            "recall": self.recall,
            "density": self.density,
            "coverage": self.coverage,
        }


def knn_precision_recall(
    real: Any,
    generated: Any,
    *,
    k: int = 5,
    metric: str = "l1",
    backend: str | None = None,
    num_threads: int | None = None,
) -> PrecisionRecall:
    """Return precision, recall, density and coverage of generated points.

    Parameters
    ----------
    real : array_like, shape (n, d)
    generated : array_like, shape (m, d)
    k : int
        Neighbours that make a radius; below n and m. Default 5.
    metric : {"l1", "sqeuclidean"}
        Default L1, which tells points of many dimensions apart better.
    backend, num_threads
        As in `pairwise_distances`.

    Returns
    -------
    PrecisionRecall

    Raises
    ------
    TypeError, ValueError
        Arguments of the wrong type, shape or range, NaN.

    Notes
    -----
    Class A. Distances are made a block of rows at a time: memory is 32 MB, whatever n and m are.
    A point on the rim of a ball is not in it.

    References
    ----------
    T. Kynkaanniemi, T. Karras, S. Laine, J. Lehtinen, T. Aila, "Improved precision and recall
    metric for assessing generative models", NeurIPS 2019. M. F. Naeem, S. J. Oh, Y. Uh, Y. Choi, J.
    Yoo, "Reliable fidelity and diversity metrics for generative models", ICML 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from hotloops.flow import metrics
    >>> rng = np.random.default_rng(0)
    >>> a, b = rng.normal(size=(2, 500, 3))
    >>> found = metrics.knn_precision_recall(a, b)
    >>> found.precision > 0.9, found.recall > 0.9
    (True, True)
    """
    name = "knn_precision_recall"
    neighbours = validate.integer(name, "k", k, low=1)
    validate.choice(name, "metric", metric, ("l1", "sqeuclidean"))
    sizes: dict[str, int] = {}
    a = _pairs.points(name, "real", real, sizes, least=neighbours + 1)
    b = _pairs.points(name, "generated", generated, sizes, least=neighbours + 1)
    search = _Search(
        _pairs.module(name, backend), metric, _pairs.resolve_threads(name, num_threads)
    )
    real_radius, own_radius = search.radii(a, neighbours), search.radii(b, neighbours)
    hits = np.zeros(len(b), np.int64)
    recalled = covered = 0
    for rows, distance in search.blocks(a, b):
        inside = distance < real_radius[rows, None]
        hits += inside.sum(axis=0)
        covered += int(inside.any(axis=1).sum())
        recalled += int((distance < own_radius).any(axis=1).sum())
    return PrecisionRecall(
        precision=float((hits > 0).mean()),
        recall=recalled / len(a),
        density=float(hits.mean()) / neighbours,
        coverage=covered / len(a),
        k=neighbours,
    )


@dataclass(frozen=True)
class _Search:
    """Distances of blocks of rows to all points of the other set."""

    kernels: Any
    metric: str
    num_threads: int

    def blocks(self, x: _pairs.Points, y: _pairs.Points) -> Any:
        """Yield (slice of rows, distances to all points)."""
        others = _pairs.columns(y)
        step = max(4, _BLOCK_ELEMENTS // len(y) // 4 * 4)
        for begin in range(0, len(x), step):
            rows = slice(begin, min(begin + step, len(x)))
            yield (
                rows,
                _pairs.block_distances(
                    self.kernels, x[rows], others, len(y), self.metric, self.num_threads
                ),
            )

    def radii(self, x: _pairs.Points, k: int) -> npt.NDArray[np.float64]:
        """Return the distance of each point to its k-th neighbour; the nearest one is itself."""
        parts = [np.partition(distance, k, axis=1)[:, k] for _, distance in self.blocks(x, x)]
        return np.concatenate(parts)


def classifier_f1(real: Any, generated: Any, *, k: int = 5, folds: int = 5, seed: int = 0) -> float:
    """Return how well a k-nearest-neighbour classifier tells real from generated points.

    Parameters
    ----------
    real : array_like, shape (n, d)
    generated : array_like, shape (m, d)
    k : int
        Neighbours that vote. Default 5.
    folds : int
        Parts of the stratified cross-validation, at least 2; every point is judged by a classifier
        that has not seen it. Default 5.
    seed : int
        Of the split.

    Returns
    -------
    float
        Macro-averaged F1 score: 0.5 when sets of one size cannot be told apart, 1 when they always
        can. It can fall below 0.5 when generated points are nearer to real ones than those are to
        each other.

    Raises
    ------
    TypeError, ValueError
        Arguments of the wrong type, shape or range, NaN; fewer points than folds or neighbours.
    ImportError
        scikit-learn is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> from hotloops.flow import metrics
    >>> rng = np.random.default_rng(0)
    >>> a = rng.normal(size=(300, 2))
    >>> bool(metrics.classifier_f1(a, a + 10.0) == 1.0)
    True
    """
    name = "classifier_f1"
    neighbours = validate.integer(name, "k", k, low=1)
    parts = validate.integer(name, "folds", folds, low=2)
    key = validate.integer(name, "seed", seed, low=0, high=2**32 - 1)
    sizes: dict[str, int] = {}
    least = max(parts, neighbours)
    a = _pairs.points(name, "real", real, sizes, least=least)
    b = _pairs.points(name, "generated", generated, sizes, least=least)
    try:
        from sklearn.metrics import f1_score
        from sklearn.model_selection import StratifiedKFold, cross_val_predict
        from sklearn.neighbors import KNeighborsClassifier
    except ImportError as error:
        raise ImportError(f"{name}: scikit-learn cannot be imported ({error})") from error
    points = np.concatenate([a, b])
    labels = np.repeat([0, 1], [len(a), len(b)])
    split = StratifiedKFold(parts, shuffle=True, random_state=key)
    guessed = cross_val_predict(KNeighborsClassifier(neighbours), points, labels, cv=split)
    return float(f1_score(labels, guessed, average="macro"))
