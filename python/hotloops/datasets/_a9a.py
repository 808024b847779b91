"""a9a: the Adult census table in LIBSVM's binary coding."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops._runtime import validate
from hotloops.datasets._dataset import Dataset, read_arrays

_SOURCE = (
    "LIBSVM Data (a9a, a9a.t), coded by J. Platt (1998) from the UCI data set Adult, "
    "doi 10.24432/C5XW20"
)
_LICENCE = "CC BY 4.0"
_CITATION = (
    "B. Becker, R. Kohavi (1996). Adult [Dataset]. UCI Machine Learning Repository. "
    "https://doi.org/10.24432/C5XW20; "
    "C.-C. Chang, C.-J. Lin (2011). LIBSVM: a library for support vector machines. "
    "ACM Transactions on Intelligent Systems and Technology 2, 27:1-27:27"
)
_DESCRIPTION = (
    "Census records coded as 123 indicators, 11 to 14 of them set in a row. Label +1 is an income "
    "above 50,000 dollars a year. Row order is that of LIBSVM's text files."
)


def load_a9a(
    split: str = "train", *, dtype: npt.DTypeLike = np.float64, sparse: bool = False
) -> Dataset:
    """Load a9a, the Adult census table as 123 binary features.

    Parameters
    ----------
    split : {"train", "test"}, default "train"
        32,561 rows for training or 16,281 for testing.
    dtype : {"float64", "float32"}, default "float64"
        Type of `X`.
    sparse : bool, default False
        Return `X` as a `scipy.sparse.csr_array`. Dense, the training table takes 32 MB in float64.

    Returns
    -------
    Dataset
        `X` of shape (n, 123) with entries 0 and 1; `y` in {-1, 1}.

    Examples
    --------
    >>> from hotloops import datasets
    >>> table = datasets.load_a9a("test", sparse=True)
    >>> table.X.shape, table.X.nnz, int((table.y == 1).sum())
    ((16281, 123), 225731, 3846)
    """
    function = "load_a9a"
    part = validate.choice(function, "split", split, ("train", "test"))
    target = validate.float_dtype(function, "dtype", dtype)
    as_sparse = validate.boolean(function, "sparse", sparse)
    arrays = read_arrays("a9a.npz")
    indptr, indices = arrays[f"{part}_indptr"], arrays[f"{part}_indices"]
    width = int(arrays["n_features"])
    build = _sparse_table if as_sparse else _dense_table
    return Dataset(
        name=f"a9a/{part}",
        X=build(indptr, indices, width, target),
        y=arrays[f"{part}_y"].astype(np.int64),
        feature_names=tuple(f"feature {number}" for number in range(1, width + 1)),
        target_names={-1: "at most 50,000 dollars", 1: "above 50,000 dollars"},
        source=_SOURCE,
        licence=_LICENCE,
        citation=_CITATION,
        description=_DESCRIPTION,
    )


def _dense_table(
    indptr: npt.NDArray[np.int32],
    indices: npt.NDArray[np.uint8],
    width: int,
    dtype: np.dtype[Any],
) -> npt.NDArray[Any]:
    table = np.zeros((len(indptr) - 1, width), dtype)
    table[np.repeat(np.arange(len(table)), np.diff(indptr)), indices] = 1.0
    return table


def _sparse_table(
    indptr: npt.NDArray[np.int32],
    indices: npt.NDArray[np.uint8],
    width: int,
    dtype: np.dtype[Any],
) -> Any:
    from scipy.sparse import csr_array

    values = np.ones(len(indices), dtype)
    return csr_array((values, indices.astype(np.int32), indptr), shape=(len(indptr) - 1, width))
