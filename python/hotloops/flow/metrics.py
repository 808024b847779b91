"""How close generated cells are to real ones.

Distances between two clouds of points (`mmd`, `wasserstein`), neighbourhoods
(`knn_precision_recall`, `classifier_f1`) and what counts look like gene by gene (`zero_fraction`,
`mean_variance`). The clouds are usually principal components of log-normalised counts: fit them on
the real cells, and project the generated ones, normalised in the same way, with the real mean and
loadings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops._runtime import validate
from hotloops.flow import _pairs

__all__ = [
    "PrecisionRecall",
    "classifier_f1",
    "knn_precision_recall",
    "mean_variance",
    "mmd",
    "pairwise_distances",
    "wasserstein",
    "zero_fraction",
]

_SIGMAS = (0.01, 0.1, 1.0, 10.0, 100.0)
_BLOCK_ELEMENTS = 1 << 22


def mmd(
    x: Any,
    y: Any,
    *,
    kernel: str = "rbf",
    sigmas: Any = _SIGMAS,
    backend: str | None = None,
    num_threads: int | None = None,
) -> float:
    """Return the squared maximum mean discrepancy of two sets of points.

    Parameters
    ----------
    x : array_like, shape (n, d)
    y : array_like, shape (m, d)
        n and m may differ.
    kernel : {"rbf", "linear"}
        "rbf" (default): the biased V-statistic ``mean k(x, x') + mean k(y, y') - 2 mean k(x, y)``
        with the sum of Gaussian kernels ``k(a, b) = sum_s exp(-|a - b|^2 / (2 s^2))``; it is never
        negative, and 0 only for equal sets. "linear": the linear-time estimator ``mean (x_i - y_i)
        . (x_{i+1} - y_{i+1})`` for the linear kernel, over the rows that both have; it may be
        negative.
    sigmas : array_like
        Widths s of the Gaussian kernels; default 0.01, 0.1, 1, 10 and 100. They are added, not
        averaged.
    backend : {"cpp", "numba"}, optional
        Default "cpp".
    num_threads : int, optional
        Default `hotloops.get_num_threads`; never changes the result.

    Returns
    -------
    float
        MMD^2; take its root to compare with papers that print MMD.

    Raises
    ------
    TypeError, ValueError
        Arguments of the wrong type or shape, NaN, widths that are not above 0; fewer than two rows
        for the linear kernel.

    Notes
    -----
    Class A. Memory is that of the points: pairs are visited tile by tile, those within a set once.
    The work is ``(n + m)^2 / 2`` distances and exponentials.

    With few points in many dimensions the narrow kernels see each point alone, and the statistic
    has the floor ``5 (1/n + 1/m) / 2`` or so: compare sets of one size only.

    References
    ----------
    A. Gretton, K. Borgwardt, M. Rasch, B. Schoelkopf, A. Smola, "A kernel two-sample test", JMLR
    13, 2012.

    Examples
    --------
    >>> from hotloops.flow import metrics
    >>> round(metrics.mmd([[0, 0], [1, 0], [0, 1]], [[0.5, 0.5], [2, 1], [-1, 0]]), 12)
    1.584977101039
    """
    name = "mmd"
    validate.choice(name, "kernel", kernel, ("rbf", "linear"))
    sizes: dict[str, int] = {}
    a, b = _pairs.points(name, "x", x, sizes), _pairs.points(name, "y", y, sizes)
    widths = validate.array(name, "sigmas", sigmas, ndim=1, dtype=np.float64, positive=True)
    kernels = _pairs.module(name, backend)
    threads_ = _pairs.resolve_threads(name, num_threads)
    if kernel == "linear":
        count = min(len(a), len(b))
        if count < 2:
            validate.fail(ValueError, name, "x", "share at least two rows with `y`", str(count))
        delta = a[:count] - b[:count]
        return float((delta[:-1] * delta[1:]).sum(axis=1).mean())
    scales = -0.5 / np.square(widths)

    def mean(p: _pairs.Points, q: _pairs.Points) -> float:
        return _pairs.kernel_sum(kernels, p, q, scales, threads_) / (len(p) * len(q))

    return mean(a, a) + mean(b, b) - 2.0 * mean(a, b)


def pairwise_distances(
    x: Any,
    y: Any = None,
    *,
    metric: str = "sqeuclidean",
    backend: str | None = None,
    num_threads: int | None = None,
) -> npt.NDArray[np.float64]:
    """Return the distances of all rows of `x` to all rows of `y`.

    Parameters
    ----------
    x : array_like, shape (n, d)
    y : array_like, shape (m, d), optional
        Default: `x`.
    metric : {"sqeuclidean", "euclidean", "l1"}
        Default squared Euclidean.
    backend : {"cpp", "numba"}, optional
        Default "cpp".
    num_threads : int, optional
        Default `hotloops.get_num_threads`; never changes the result.

    Returns
    -------
    numpy.ndarray of float64, shape (n, m)

    Raises
    ------
    TypeError, ValueError
        Arguments of the wrong type or shape, NaN.

    Notes
    -----
    Class A. Differences are taken before they are squared, so that close points keep their digits
    (the formula with a matrix product loses them).

    Examples
    --------
    >>> from hotloops.flow import metrics
    >>> metrics.pairwise_distances([[0, 0], [3, 4]], metric="l1")
    array([[0., 7.],
           [7., 0.]])
    """
    name = "pairwise_distances"
    validate.choice(name, "metric", metric, ("sqeuclidean", "euclidean", "l1"))
    sizes: dict[str, int] = {}
    a = _pairs.points(name, "x", x, sizes)
    b = a if y is None else _pairs.points(name, "y", y, sizes)
    kernels = _pairs.module(name, backend)
    threads_ = _pairs.resolve_threads(name, num_threads)
    kind = "l1" if metric == "l1" else "sqeuclidean"
    found = _pairs.block_distances(kernels, a, _pairs.columns(b), len(b), kind, threads_)
    return np.sqrt(found, out=found) if metric == "euclidean" else found


def wasserstein(
    x: Any,
    y: Any,
    *,
    p: int = 2,
    backend: str | None = None,
    num_threads: int | None = None,
) -> float:
    """Return the exact Wasserstein distance of two sets of points with equal weights.

    Parameters
    ----------
    x : array_like, shape (n, d)
    y : array_like, shape (m, d)
    p : {1, 2}
        Order: 1 is the least mean Euclidean distance, 2 (default) the root of the least mean
        squared one.
    backend, num_threads
        Of the distances, as in `pairwise_distances`.

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        Arguments of the wrong type or shape, NaN.
    ImportError
        Sets of different sizes, and POT is not installed (``pip install pot``).

    Notes
    -----
    For sets of one size the plan is a permutation, found by SciPy's ``linear_sum_assignment``; for
    others POT's network simplex finds it. Both are exact and take about ``n^2`` memory and ``n^3``
    time: half a second at 1,000 points, minutes above 5,000. The distance of small samples in many
    dimensions is mostly their size: compare sets of one size only.

    Examples
    --------
    >>> from hotloops.flow import metrics
    >>> a, b = [[0, 0], [1, 0], [0, 1]], [[0.5, 0.5], [2, 1], [-1, 0]]
    >>> round(metrics.wasserstein(a, b, p=1), 10), round(metrics.wasserstein(a, b), 10)
    (1.0404401145, 1.0801234497)
    """
    name = "wasserstein"
    order = validate.integer(name, "p", p, low=1, high=2)
    sizes: dict[str, int] = {}
    a, b = _pairs.points(name, "x", x, sizes), _pairs.points(name, "y", y, sizes)
    metric = "euclidean" if order == 1 else "sqeuclidean"
    cost = pairwise_distances(a, b, metric=metric, backend=backend, num_threads=num_threads)
    if len(a) == len(b):
        from scipy.optimize import linear_sum_assignment

        mean = float(cost[linear_sum_assignment(cost)].mean())
    else:
        mean = _transport_cost(cost)
    return mean if order == 1 else mean**0.5


def _transport_cost(cost: npt.NDArray[np.float64]) -> float:
    try:
        import ot
    except ImportError as error:
        raise ImportError(
            "wasserstein: sets of different sizes need POT, which cannot be imported "
            f"({error}); install it (pip install pot), or pass sets of one size"
        ) from error
    n, m = cost.shape
    found = ot.emd2(np.full(n, 1.0 / n), np.full(m, 1.0 / m), cost, numItermax=100_000_000)
    return float(found)


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


def zero_fraction(counts: Any) -> npt.NDArray[np.float64]:
    """Return the share of cells in which each gene is zero.

    Parameters
    ----------
    counts : array_like or scipy.sparse matrix, shape (cells, genes)

    Returns
    -------
    numpy.ndarray of float64, shape (genes,)

    Raises
    ------
    TypeError, ValueError
        What is no matrix of finite numbers with at least one row.

    Examples
    --------
    >>> from hotloops.flow import metrics
    >>> metrics.zero_fraction([[0, 2], [0, 0]])
    array([1. , 0.5])
    """
    values, rows, indices, columns = _entries("zero_fraction", counts)
    nonzero = np.bincount(indices[values != 0.0], minlength=columns)
    return 1.0 - nonzero / rows


def mean_variance(counts: Any) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return mean and variance (with n - 1) of each gene over the cells.

    Parameters
    ----------
    counts : array_like or scipy.sparse matrix, shape (cells, genes)
        At least two cells.

    Returns
    -------
    mean, variance : numpy.ndarray of float64, shape (genes,)

    Raises
    ------
    TypeError, ValueError
        What is no matrix of finite numbers with at least two rows.

    Examples
    --------
    >>> from hotloops.flow import metrics
    >>> mean, variance = metrics.mean_variance([[0, 2], [0, 4]])
    >>> mean.tolist(), variance.tolist()
    ([0.0, 3.0], [0.0, 2.0])
    """
    name = "mean_variance"
    values, rows, indices, columns = _entries(name, counts)
    if rows < 2:
        validate.fail(ValueError, name, "counts", "hold at least 2 rows", str(rows))
    stored = np.bincount(indices, minlength=columns)
    mean = np.bincount(indices, weights=values, minlength=columns) / rows
    # About the mean, in which the entries that are not stored are zero.
    squares = np.bincount(indices, weights=(values - mean[indices]) ** 2, minlength=columns)
    return mean, (squares + (rows - stored) * mean**2) / (rows - 1)


def _entries(
    name: str, counts: Any
) -> tuple[npt.NDArray[np.float64], int, npt.NDArray[np.int64], int]:
    """Return stored values, number of rows, the column of each value, number of columns."""
    from scipy import sparse

    if sparse.issparse(counts):
        matrix = sparse.coo_array(counts)
        matrix.sum_duplicates()
        shape, indices = matrix.shape, matrix.coords[1]
        given = matrix.data
    else:
        given = validate.array(name, "counts", counts, ndim=2)
        shape, indices = given.shape, np.tile(np.arange(given.shape[1]), given.shape[0])
    if shape[0] < 1:
        validate.fail(ValueError, name, "counts", "hold at least 1 row", "0")
    values = validate.array(name, "counts", given.ravel(), dtype=np.float64, empty=True)
    return values, int(shape[0]), indices.astype(np.int64), int(shape[1])
