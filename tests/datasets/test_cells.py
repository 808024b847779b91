"""The blood cells: their facts, AnnData, and that they can be rebuilt from where they come from."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from hotloops import datasets
from hotloops.datasets._dataset import read_arrays


def test_facts():
    table = datasets.load_pbmc68k_reduced()
    totals = np.asarray(table.counts.sum(axis=1)).ravel()
    assert table.counts.shape == (700, 765)
    assert table.counts.dtype == np.int32
    assert table.counts.has_sorted_indices
    assert (table.counts.nnz, table.counts.data.min(), table.counts.data.max()) == (174400, 1, 259)
    assert (totals.min(), totals.max(), round(float(totals.mean()), 1)) == (342, 1654, 695.2)
    logs = np.log(totals)
    np.testing.assert_allclose([logs.mean(), logs.std(ddof=1)], [6.49714, 0.30186], atol=5e-6)
    kinds, sizes = np.unique(table.cell_types, return_counts=True)
    assert (len(kinds), sizes.min(), sizes.max()) == (10, 8, 240)
    assert kinds[np.argmax(sizes)] == "Dendritic"
    assert kinds[np.argmin(sizes)] == "CD4+/CD45RA+/CD25- Naive T"
    assert set(table.phases) == {"G1", "G2M", "S"}
    assert (table.total_counts >= totals).all()
    assert len(set(table.genes)) == 765
    assert len(set(table.cells)) == 700
    assert "700 cells, 765 genes" in repr(table)


def test_it_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        datasets.load_pbmc68k_reduced().name = "other"


def test_anndata():
    pytest.importorskip("anndata")
    table = datasets.load_pbmc68k_reduced()
    cells = table.to_anndata()
    assert cells.shape == (700, 765)
    assert (table.counts != cells.X).nnz == 0
    assert list(cells.obs) == ["cell_type", "phase", "total_counts"]
    assert cells.obs["cell_type"].astype(str).tolist() == table.cell_types.tolist()
    assert cells.obs["cell_type"].dtype == "category"
    assert cells.var_names.tolist() == list(table.genes)
    assert "10x" in cells.uns["licence"]


def test_without_anndata(run_python):
    code = """
    from hotloops import datasets
    try:
        datasets.load_pbmc68k_reduced().to_anndata()
    except ImportError as error:
        print(error)
    """
    assert "hotloops[cells]" in run_python(code, blocked=["anndata"])


def test_rebuilding_gives_the_packaged_counts():
    pytest.importorskip("scanpy")
    pytest.importorskip("h5py")
    path = Path(__file__).with_name("rebuild_pbmc68k.py")
    spec = importlib.util.spec_from_file_location("rebuild_pbmc68k", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    rebuilt, packaged = module.rebuild(module.find_source()), read_arrays("pbmc68k_reduced.npz")
    assert set(rebuilt) == set(packaged)
    for name, array in packaged.items():
        np.testing.assert_array_equal(rebuilt[name], array, err_msg=name)
