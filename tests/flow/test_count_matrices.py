"""Count matrices of all kinds become the same table; bad ones are refused with their place."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from hotloops import datasets
from hotloops.flow import _matrices
from hotloops.flow._matrices import read_counts

DENSE = np.array([[0, 2, 0, 1], [3, 0, 0, 0], [0, 0, 5, 7]])


def read(value, **options):
    return read_counts("fit", "X", value, **{"dtype": np.dtype(np.float32), **options})


def unsorted():
    rows = sp.csr_array(DENSE.astype(np.float64))
    rows.indices[:2], rows.data[:2] = rows.indices[:2][::-1].copy(), rows.data[:2][::-1].copy()
    rows.has_sorted_indices = False
    return rows


def with_zeros():
    rows = sp.coo_array(
        ([2, 1, 3, 5, 7, 0, -1, 1], ([0, 0, 1, 2, 2, 1, 0, 0], [1, 3, 0, 2, 3, 3, 0, 0])),
        shape=(3, 4),
    )
    assert (rows.toarray() == DENSE).all()
    return rows


@pytest.mark.parametrize(
    "value",
    [
        DENSE,
        DENSE.astype(np.uint8),
        DENSE.astype(np.float32),
        np.asfortranarray(DENSE),
        DENSE.tolist(),
        sp.csr_matrix(DENSE),
        sp.csc_array(DENSE),
        sp.csr_array(DENSE.astype(np.uint16)),
        unsorted(),
        with_zeros(),
    ],
    ids=[
        "int",
        "uint8",
        "float32",
        "fortran",
        "list",
        "csr_matrix",
        "csc",
        "uint16",
        "unsorted",
        "zeros",
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_all_kinds_give_one_table(value, dtype):
    table = read(value, dtype=np.dtype(dtype))
    assert table.indptr.dtype == np.int64
    assert table.indices.dtype == np.int32
    assert table.values.dtype == table.totals.dtype == dtype
    assert table.indptr.tolist() == [0, 2, 3, 5]
    assert table.indices.tolist() == [1, 3, 0, 2, 3]
    assert table.values.tolist() == [2, 1, 3, 5, 7]
    assert table.totals.tolist() == [3, 3, 12]
    assert (table.rows, table.columns) == (3, 4)


def test_the_argument_is_left_alone():
    rows = unsorted()
    before = rows.indices.copy(), rows.data.copy()
    read(rows)
    np.testing.assert_array_equal(rows.indices, before[0])
    np.testing.assert_array_equal(rows.data, before[1])


def test_rows_of_it():
    table = read(DENSE)
    for rows in (np.array([2, 0]), slice(1, 3)):
        part = table.take(rows)
        np.testing.assert_array_equal(part.to_csr().toarray(), DENSE[rows])
        np.testing.assert_array_equal(part.totals, DENSE[rows].sum(axis=1))


def test_binary():
    table = read([[0, 2, 0], [0, 0, 0], [4, 0, 1]], binary=True)
    assert table.values.tolist() == [1, 1, 1]
    assert table.totals.tolist() == [1, 0, 2]


def test_values_that_are_not_whole():
    table = read([[0.5, 1.0]], allow_noninteger=True)
    assert table.values.tolist() == [0.5, 1.0]


@pytest.mark.parametrize("form", ["csr", "csc", "dense"])
def test_files_are_read_by_chunks(tmp_path, monkeypatch, form):
    anndata = pytest.importorskip("anndata")
    cells = datasets.load_pbmc68k_reduced().to_anndata()
    cells.X = cells.X.toarray() if form == "dense" else cells.X.asformat(form)
    cells.write_h5ad(tmp_path / "cells.h5ad")
    monkeypatch.setattr(_matrices, "_CHUNK", 128)
    sizes = []
    convert = _matrices._canonical
    monkeypatch.setattr(
        _matrices, "_canonical", lambda m: [sizes.append(m.shape[0]), convert(m)][1]
    )
    backed = anndata.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    stored = read(backed.X)
    backed.file.close()
    assert sizes == ([700] if form == "csc" else [128] * 5 + [60])
    memory = read(datasets.load_pbmc68k_reduced().counts)
    for name in ("indptr", "indices", "values", "totals"):
        np.testing.assert_array_equal(getattr(stored, name), getattr(memory, name))


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        ([[1.0, 0.5]], ValueError, "hold whole numbers (raw counts may lie in another `layer`; or"),
        ([[1.0, 0.5]], ValueError, "got 0.5 in row 0, column 1"),
        ([[1, 1], [1, -2]], ValueError, "not negative, got -2 in row 1, column 1"),
        ([[1, 1], [np.nan, 1]], ValueError, "`X` must be finite, got nan in row 1, column 0"),
        ([[1, 1], [np.inf, 1]], ValueError, "`X` must be finite, got inf in row 1, column 0"),
        ([[1, 1], [0, 0], [0, 0]], ValueError, "without counts, got no counts in row 1 (2 such"),
        ([[2**31, 1]], OverflowError, "hold counts below 2**31, got 2147483648 in row 0, column 0"),
        ([[2**24 + 1, 1]], ValueError, 'up to 2**24 (or take dtype="float64"), got 16777217'),
        ([1, 2], ValueError, "`X` must have 2 dimensions, got shape (2,)"),
        (np.zeros((0, 3)), ValueError, "at least one cell and one feature, got shape (0, 3)"),
        ([["a"]], TypeError, "hold real numbers"),
        (None, TypeError, "`X` must be an array of real numbers, got None"),
        ([[1], [1, 2]], ValueError, "`X` must be a rectangular array of real numbers"),
        ([[1j, 1]], TypeError, "`X` must hold real numbers, got dtype complex128"),
    ],
)
def test_bad_matrices(value, error, message):
    with pytest.raises(error) as caught:
        read(value)
    assert str(caught.value).startswith("fit: `X` must ")
    assert message in str(caught.value)


def test_other_number_of_columns():
    with pytest.raises(ValueError, match=r"fit: `X` must have 5 columns as in fit, got shape \(3"):
        read(DENSE, columns=5)


def test_float64_holds_what_float32_does_not():
    table = read([[2**24 + 1]], dtype=np.dtype(np.float64))
    assert table.values[0] == 2**24 + 1
