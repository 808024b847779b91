"""Counts of molecules in blood cells."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops.datasets._dataset import read_arrays

_SOURCE = (
    "the example set `pbmc68k_reduced` of scanpy 1.11, its integer counts rebuilt from the "
    "log-normalised values"
)
_LICENCE = "CC BY 4.0 (10x Genomics), by way of scanpy (BSD-3-Clause)"
_CITATION = (
    "G. X. Y. Zheng et al. (2017). Massively parallel digital transcriptional profiling of single "
    "cells. Nature Communications 8, 14049. https://doi.org/10.1038/ncomms14049"
)
_DESCRIPTION = (
    "Unique molecular identifiers of 765 genes in 700 peripheral blood cells of one donor. Few "
    "cells and few genes: good for examples and tests, not for conclusions about whole genomes."
)


@dataclass(frozen=True, eq=False)
class CellTable:
    """Counts of cells by genes, with what is known of every cell.

    Attributes
    ----------
    name : str
        Short name, for instance ``"pbmc68k_reduced"``.
    counts : scipy.sparse.csr_array
        Shape (cells, genes), int32.
    genes, cells : tuple of str
        Names of the columns and of the rows.
    cell_types : numpy.ndarray
        Shape (cells,), of str.
    phases : numpy.ndarray
        Phase of the cell cycle, shape (cells,), of str.
    total_counts : numpy.ndarray
        Molecules of each cell over the whole transcriptome, of which `counts` holds a part. Shape
        (cells,), int64.
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
    counts: Any
    genes: tuple[str, ...]
    cells: tuple[str, ...]
    cell_types: npt.NDArray[np.str_]
    phases: npt.NDArray[np.str_]
    total_counts: npt.NDArray[np.int64]
    source: str
    licence: str
    citation: str
    description: str

    def __repr__(self) -> str:
        n, d = self.counts.shape
        return (
            f"CellTable({self.name!r}: {n} cells, {d} genes, {self.counts.nnz} nonzeros, "
            f"{np.unique(self.cell_types).size} cell types, {self.licence})"
        )

    def to_anndata(self) -> Any:
        """Return the table as an `anndata.AnnData`, with the counts in ``X``.

        Returns
        -------
        anndata.AnnData
            ``obs`` has the columns ``cell_type``, ``phase`` and ``total_counts``; ``uns`` has
            ``source``, ``licence`` and ``citation``.

        Raises
        ------
        ImportError
            anndata is not installed (``pip install "hotloops[cells]"``).
        """
        return make_anndata(
            self.counts,
            {
                "cell_type": self.cell_types,
                "phase": self.phases,
                "total_counts": self.total_counts,
            },
            self.cells,
            self.genes,
            {"source": self.source, "licence": self.licence, "citation": self.citation},
        )


def load_pbmc68k_reduced() -> CellTable:
    """Load the counts of 765 genes in 700 blood cells of ten types.

    Returns
    -------
    CellTable
        `counts` of shape (700, 765).

    Examples
    --------
    >>> from hotloops import datasets
    >>> table = datasets.load_pbmc68k_reduced()
    >>> table.counts.shape, table.counts.nnz, int((table.cell_types == "Dendritic").sum())
    ((700, 765), 174400, 240)
    """
    from scipy.sparse import csr_array

    arrays = read_arrays("pbmc68k_reduced.npz")
    parts = (arrays["data"].astype(np.int32), arrays["indices"].astype(np.int32), arrays["indptr"])
    return CellTable(
        name="pbmc68k_reduced",
        counts=csr_array(parts, shape=tuple(arrays["shape"].tolist())),
        genes=tuple(arrays["genes"].tolist()),
        cells=tuple(arrays["cells"].tolist()),
        cell_types=arrays["cell_type_names"][arrays["cell_type"]],
        phases=arrays["phase_names"][arrays["phase"]],
        total_counts=arrays["total_counts"].astype(np.int64),
        source=_SOURCE,
        licence=_LICENCE,
        citation=_CITATION,
        description=_DESCRIPTION,
    )


def make_anndata(
    counts: Any,
    columns: dict[str, npt.NDArray[Any]],
    cells: tuple[str, ...],
    genes: tuple[str, ...],
    uns: dict[str, Any],
) -> Any:
    """Return an AnnData; columns of words become categories."""
    try:
        anndata = importlib.import_module("anndata")
        pandas = importlib.import_module("pandas")
    except ImportError as error:
        raise ImportError(
            f'to_anndata: anndata must be installed (pip install "hotloops[cells]"): {error}'
        ) from error
    obs = pandas.DataFrame(index=pandas.Index(list(cells), dtype=object))
    for name, values in columns.items():
        words = values.dtype.kind == "U"
        obs[name] = pandas.Categorical(values.astype(object)) if words else values
    var = pandas.DataFrame(index=pandas.Index(list(genes), dtype=object))
    return anndata.AnnData(counts, obs=obs, var=var, uns=uns)
