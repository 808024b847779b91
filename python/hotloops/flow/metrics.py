"""How close generated cells are to real ones.

Distances between two clouds of points (`mmd`, `wasserstein`), neighbourhoods
(`knn_precision_recall`, `classifier_f1`) and what counts look like gene by gene (`zero_fraction`,
`mean_variance`). The clouds are usually principal components of log-normalised counts: fit them on
the real cells, and project the generated ones, normalised in the same way, with the real mean and
loadings.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops._runtime import validate
from hotloops.flow import _pairs
from hotloops.flow._metrics_genes import mean_variance, zero_fraction
from hotloops.flow._metrics_neighbours import (
    PrecisionRecall,
    classifier_f1,
    knn_precision_recall,
)

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
