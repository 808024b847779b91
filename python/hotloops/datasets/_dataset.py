"""The record that every loader returns, and the file reading that all loaders share."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops._runtime import validate


@dataclass(frozen=True, eq=False)
class Dataset:
    """A table of features with its labels and its papers.

    Attributes
    ----------
    name : str
        Short name, for instance ``"breast_cancer"``.
    X : numpy.ndarray or scipy.sparse.csr_array
        Features, shape (n, d).
    y : numpy.ndarray
        Labels, shape (n,), int64.
    feature_names : tuple of str
        One name a column.
    target_names : dict of int to str
        What each label means.
    source : str
        Where the table comes from.
    licence : str
        The terms under which it is passed on.
    citation : str
        What to cite when you use it.
    description : str
        What a row is and what the columns hold.
    """

    name: str
    X: Any
    y: npt.NDArray[np.int64]
    feature_names: tuple[str, ...]
    target_names: dict[int, str]
    source: str
    licence: str
    citation: str
    description: str

    def __repr__(self) -> str:
        n, d = self.X.shape
        return f"Dataset({self.name!r}: {n} rows, {d} features, {self.X.dtype}, {self.licence})"


def read_arrays(file_name: str) -> dict[str, npt.NDArray[Any]]:
    """Return every array of one packaged ``.npz`` file."""
    path = files("hotloops.datasets") / "data" / file_name
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def standardize(
    X: npt.ArrayLike, *, intercept: bool = False, dtype: npt.DTypeLike = np.float64
) -> npt.NDArray[np.floating[Any]]:
    """Scale the columns of a table to mean 0 and variance 1.

    A constant column becomes a column of zeros.

    Parameters
    ----------
    X : array_like, shape (n, d)
        The table. It is not changed.
    intercept : bool, default False
        Append a last column of ones.
    dtype : {"float64", "float32"}, default "float64"
        Type of the result. Means and deviations are computed in float64.

    Returns
    -------
    numpy.ndarray, shape (n, d) or (n, d + 1)
        The scaled copy.

    Examples
    --------
    >>> from hotloops import datasets
    >>> X = datasets.standardize([[1.0, 5.0], [3.0, 5.0]], intercept=True)
    >>> X.tolist()
    [[-1.0, 0.0, 1.0], [1.0, 0.0, 1.0]]
    """
    function = "standardize"
    table = validate.array(function, "X", X, ndim=2, dtype=np.dtype(np.float64))
    append_ones = validate.boolean(function, "intercept", intercept)
    target = validate.float_dtype(function, "dtype", dtype)
    if table.shape[0] == 0:
        validate.fail(ValueError, function, "X", "have at least one row", f"shape {table.shape}")
    centred = table - table.mean(axis=0)
    deviation = centred.std(axis=0)
    # A constant column whose mean does not round to its value keeps a deviation of a few ulp.
    constant = table.max(axis=0) == table.min(axis=0)
    scaled = np.where(constant, 0.0, centred / np.where(constant, 1.0, deviation))
    if append_ones:
        scaled = np.column_stack([scaled, np.ones(len(scaled))])
    return scaled.astype(target)
