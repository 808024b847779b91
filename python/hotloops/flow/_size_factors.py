"""How many molecules a cell has: a log-normal law for each category of cells."""

from __future__ import annotations

import os
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hotloops import random
from hotloops._runtime import checkpoints, validate
from hotloops.flow._labels import Codes, Labels, find_codes, read_labels

__all__ = ["SizeFactorModel"]

StrPath: TypeAlias = "str | os.PathLike[str]"
Array = npt.NDArray[np.float64]

_STREAM = 9
_SIZES, _CATEGORIES = 0, 1  # steps of the stream
_KIND, _VERSION = "flow.size_factors", 1


class SizeFactorModel:
    """Laws of the size factor L, the total of a cell's counts: ln L ~ N(m_c, sd_c^2).

    m_c and sd_c are the mean and the standard deviation (with n - 1) of ln L over the training
    cells of category c. A category of one cell takes the deviation pooled over the categories.

    Attributes
    ----------
    categories_ : tuple of str
        Sorted; ``("all",)`` when no labels were given.
    mean_, sd_ : numpy.ndarray, shape (categories, sizes)
        Of ln L.
    frequency_ : numpy.ndarray, shape (categories,)
        Share of each category among the training cells.
    minimum_, maximum_ : numpy.ndarray, shape (sizes,)
        Range of ln L over all training cells.

    Notes
    -----
    Draws come from Philox stream 9: the normals of row i from step 0, its category from step 1, so
    that row i alone equals row i of any batch. Determinism class A.

    References
    ----------
    A. Palma et al., "Multi-Modal and Multi-Attribute Generation of Single Cells with CFGen", ICLR
    2025, arXiv:2407.11734, section 4.

    Examples
    --------
    >>> from hotloops import datasets, flow
    >>> cells = datasets.load_pbmc68k_reduced()
    >>> model = flow.SizeFactorModel().fit(cells.counts.sum(axis=1), cells.cell_types)
    >>> model.sample(3, "Dendritic", seed=1).shape
    (3,)
    """

    categories_: tuple[str, ...]
    mean_: Array
    sd_: Array
    frequency_: Array
    minimum_: Array
    maximum_: Array

    def __repr__(self) -> str:
        if not hasattr(self, "categories_"):
            return "SizeFactorModel()"
        return f"SizeFactorModel({len(self.categories_)} categories)"

    def fit(self, totals: npt.ArrayLike, labels: Any = None) -> SizeFactorModel:
        """Take the laws from the totals of the training cells.

        Parameters
        ----------
        totals : array_like, shape (n,) or (n, sizes)
            L of each cell; one column for each modality that is counted. Above zero.
        labels : array_like, shape (n,), optional
            Category of each cell. Default: one category for all.

        Returns
        -------
        SizeFactorModel
            The model itself.

        Raises
        ------
        TypeError, ValueError
            Totals that are not finite and above zero; missing or ambiguous labels.
        """
        function = "SizeFactorModel.fit"
        given = validate.array(
            function, "totals", totals, ndim=(1, 2), dtype=np.float64, positive=True
        )
        self._one_size = given.ndim == 1
        logs = np.log(given.reshape(len(given), -1))
        if labels is None:
            names, codes = Labels("labels", ("all",)), np.zeros(len(logs), np.int32)
        else:
            names, codes = read_labels(function, "labels", labels, len(logs))
        self._set(names.categories, *_moments(logs, codes, len(names)))
        self.minimum_, self.maximum_ = logs.min(axis=0), logs.max(axis=0)
        return self

    def sample(
        self,
        n: int,
        category: Any = None,
        *,
        seed: int,
        first_row: int = 0,
        categories: str = "frequency",
    ) -> Array:
        """Draw size factors.

        Parameters
        ----------
        n : int
            How many.
        category : str, int or array_like of them, optional
            Name or code of the category, for all rows or one for each. Default: drawn.
        seed : int
            0 to 2**64 - 1.
        first_row : int
            Number of the first row. Default 0.
        categories : {"frequency", "uniform"}
            How categories are drawn that are not given: by their share of the training cells (the
            default, since it keeps the mixture of totals), or all alike as in the original code.

        Returns
        -------
        numpy.ndarray, shape (n,) or (n, sizes)
            L, not its logarithm.

        Raises
        ------
        TypeError, ValueError
            Arguments of the wrong type or range; an unknown category.
        """
        function = "SizeFactorModel.sample"
        rows = self._rows(function, n, first_row)
        seed = validate.integer(function, "seed", seed, low=0, high=2**64 - 1)
        if category is None:
            codes = self.draw_categories(n, seed=seed, first_row=first_row, categories=categories)
        else:
            codes = find_codes(function, Labels("category", self.categories_), category, len(rows))
        return self._draw(codes, seed, rows)

    def draw_categories(
        self, n: int, *, seed: int, first_row: int = 0, categories: str = "frequency"
    ) -> Codes:
        """Draw codes of categories.

        Parameters
        ----------
        n : int
            How many.
        seed : int
            0 to 2**64 - 1.
        first_row : int
            Number of the first row. Default 0.
        categories : {"frequency", "uniform"}
            See `sample`.

        Returns
        -------
        numpy.ndarray of int32, shape (n,)
        """
        function = "SizeFactorModel.draw_categories"
        rows = self._rows(function, n, first_row)
        seed = validate.integer(function, "seed", seed, low=0, high=2**64 - 1)
        how = validate.choice(function, "categories", categories, ("frequency", "uniform"))
        count = len(self.categories_)
        shares = self.frequency_ if how == "frequency" else np.full(count, 1.0 / count)
        uniforms = random.uniforms(seed, [_CATEGORIES], rows, 1, _STREAM)[0, :, 0]
        codes = np.searchsorted(np.cumsum(shares), uniforms, side="right")
        return np.asarray(np.minimum(codes, count - 1), np.int32)

    def save(self, path: StrPath) -> None:
        """Write the model to an ``.npz`` file, without pickle.

        Parameters
        ----------
        path : str or path-like
            File to write, exactly as named.
        """
        checkpoints.save_npz(path, _KIND, _VERSION, *self._pack())

    @classmethod
    def load(cls, path: StrPath) -> SizeFactorModel:
        """Read a model that `save` wrote.

        Parameters
        ----------
        path : str or path-like
            The file.

        Returns
        -------
        SizeFactorModel

        Raises
        ------
        ValueError
            The file is cut, damaged or of another kind.
        """
        return cls._unpack(*checkpoints.load_npz(path, _KIND, _VERSION))

    def _pack(self) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        """Return header and arrays of a file."""
        self._check_fitted("SizeFactorModel.save")
        names = ("mean_", "sd_", "frequency_", "minimum_", "maximum_")
        header = {"categories": list(self.categories_), "one_size": self._one_size}
        return header, {name.rstrip("_"): getattr(self, name) for name in names}

    @classmethod
    def _unpack(
        cls, header: dict[str, Any], arrays: dict[str, npt.NDArray[Any]]
    ) -> SizeFactorModel:
        """Return the model of a file."""
        model = cls()
        model._one_size = bool(header["one_size"])
        model._set(tuple(header["categories"]), *(arrays[k] for k in ("mean", "sd", "frequency")))
        model.minimum_, model.maximum_ = arrays["minimum"], arrays["maximum"]
        return model

    def _set(self, categories: tuple[str, ...], mean: Array, sd: Array, frequency: Array) -> None:
        self.categories_, self.mean_, self.sd_, self.frequency_ = categories, mean, sd, frequency

    def _rows(self, function: str, n: int, first_row: int) -> npt.NDArray[np.int64]:
        self._check_fitted(function)
        count = validate.integer(function, "n", n, low=1)
        first = validate.integer(function, "first_row", first_row, low=0)
        return np.arange(first, first + count)

    def _check_fitted(self, function: str) -> None:
        if not hasattr(self, "categories_"):
            raise ValueError(f"{function}: the model must be fitted first, got one without fit")

    def _draw(self, codes: Codes, seed: int, rows: npt.NDArray[np.int64]) -> Array:
        normals = random.normals(seed, [_SIZES], rows, self.mean_.shape[1], _STREAM)[0]
        sizes: Array = np.exp(self.mean_[codes] + self.sd_[codes] * normals)
        return sizes[:, 0] if self._one_size else sizes


def _moments(logs: Array, codes: Codes, categories: int) -> tuple[Array, Array, Array]:
    """Return means, deviations and shares of the categories."""
    counts = np.bincount(codes, minlength=categories).astype(np.float64)
    mean = np.zeros((categories, logs.shape[1]))
    np.add.at(mean, codes, logs)
    mean /= counts[:, None]
    squares = np.zeros_like(mean)
    np.add.at(squares, codes, (logs - mean[codes]) ** 2)
    free = counts - 1.0
    if free.sum() > 0.0:
        pooled = np.sqrt(squares.sum(axis=0) / free.sum())
    else:  # one cell in each category: the spread over all of them is what is known
        pooled = logs.std(axis=0, ddof=1) if len(logs) > 1 else np.zeros(logs.shape[1])
    own = np.sqrt(squares / np.maximum(free, 1.0)[:, None])
    return mean, np.where(free[:, None] > 0.0, own, pooled), counts / len(logs)
