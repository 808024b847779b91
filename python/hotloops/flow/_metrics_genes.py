"""What counts look like gene by gene."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops._runtime import validate
from hotloops.flow._branches import need_host

__all__ = ["mean_variance", "zero_fraction"]


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

    need_host(name, "counts", counts, ", as metrics have no CUDA backend")
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
