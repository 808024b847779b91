"""Breast Cancer Wisconsin (Diagnostic)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hotloops._runtime import validate
from hotloops.datasets._dataset import Dataset, read_arrays

_SOURCE = (
    "UCI Machine Learning Repository, Breast Cancer Wisconsin (Diagnostic), "
    "doi 10.24432/C5DW2B; copied from the table that scikit-learn ships"
)
_LICENCE = "CC BY 4.0 (scikit-learn's copy: BSD-3-Clause)"
_CITATION = (
    "W. Wolberg, O. Mangasarian, N. Street, W. Street (1993). Breast Cancer Wisconsin "
    "(Diagnostic) [Dataset]. UCI Machine Learning Repository. https://doi.org/10.24432/C5DW2B"
)
_DESCRIPTION = (
    "569 tumours. Ten properties of the cell nuclei in a digitised image of a fine needle "
    "aspirate, each as mean, standard error and worst value. Label 1 is benign (357 rows), 0 "
    "malignant (212)."
)


def load_breast_cancer(*, dtype: npt.DTypeLike = np.float64) -> Dataset:
    """Load the Breast Cancer Wisconsin (Diagnostic) table, 569 rows of 30 features.

    Parameters
    ----------
    dtype : {"float64", "float32"}, default "float64"
        Type of `X`.

    Returns
    -------
    Dataset
        `X` of shape (569, 30) in the original units; `y` in {0, 1}, 1 for benign.

    Examples
    --------
    >>> from hotloops import datasets
    >>> table = datasets.load_breast_cancer()
    >>> table.X.shape, int(table.y.sum())
    ((569, 30), 357)
    """
    target = validate.float_dtype("load_breast_cancer", "dtype", dtype)
    arrays = read_arrays("breast_cancer.npz")
    malignant, benign = (str(name) for name in arrays["target_names"])
    return Dataset(
        name="breast_cancer",
        X=arrays["X"].astype(target),
        y=arrays["y"].astype(np.int64),
        feature_names=tuple(str(name) for name in arrays["feature_names"]),
        target_names={0: malignant, 1: benign},
        source=_SOURCE,
        licence=_LICENCE,
        citation=_CITATION,
        description=_DESCRIPTION,
    )
