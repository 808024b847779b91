"""Count matrices as the kernels read them: checked CSR tables with the total of each row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops._runtime.validate import as_array, describe, fail
from hotloops.flow._branches import need_host

__all__ = ["CountMatrix", "as_matrix", "read_counts", "row_chunks"]

_CHUNK = 4096  # rows that are read from a file at a time
_LARGEST = 2**31 - 1
_EXACT_IN_FLOAT32 = 2**24


@dataclass(frozen=True, eq=False)
class CountMatrix:
    """A table of counts in CSR form.

    Attributes
    ----------
    indptr : ndarray of int64, shape (n + 1,)
    indices : ndarray of int32
        Columns, ascending in each row.
    values : ndarray of float32 or float64
        No zeros.
    columns : int
    totals : ndarray, shape (n,)
        Sum of each row, in the type of `values`.
    """

    indptr: npt.NDArray[np.int64]
    indices: npt.NDArray[np.int32]
    values: npt.NDArray[Any]
    columns: int
    totals: npt.NDArray[Any]

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.totals)

    def take(self, rows: npt.NDArray[np.int64] | slice) -> CountMatrix:
        """Return some of the rows."""
        part = self.to_csr()[rows]
        part.sort_indices()
        return CountMatrix(
            part.indptr.astype(np.int64),
            part.indices.astype(np.int32),
            part.data,
            self.columns,
            self.totals[rows],
        )

    def to_csr(self) -> Any:
        """Return a `scipy.sparse.csr_array` that shares the memory."""
        from scipy.sparse import csr_array

        parts = (self.values, self.indices, self.indptr)
        return csr_array(parts, shape=(self.rows, self.columns))


def as_matrix(function: str, argument: str, value: Any) -> Any:
    """Return `value` if it is a sparse or stored matrix, else as an array of two dimensions."""
    need_host(function, argument, value, ", as counts are read there")
    if not _is_sparse(value) and not _is_stored(value):
        value = as_array(function, argument, value)
    shape = tuple(getattr(value, "shape", ()))
    if len(shape) != 2:
        fail(ValueError, function, argument, "have 2 dimensions", f"shape {shape}")
    if 0 in shape:
        expectation = "have at least one cell and one feature"
        fail(ValueError, function, argument, expectation, f"shape {shape}")
    if np.dtype(value.dtype).kind not in "fiub":
        fail(TypeError, function, argument, "hold real numbers", f"dtype {value.dtype}")
    return value


def read_counts(
    function: str,
    argument: str,
    value: Any,
    *,
    dtype: np.dtype[Any],
    allow_noninteger: bool = False,
    binary: bool = False,
    columns: int | None = None,
) -> CountMatrix:
    """Check a matrix of counts, dense, sparse or in a file, and return it as CSR.

    A file is read by chunks of rows, so that only the nonzeros are ever held. With `binary`, every
    positive value becomes 1 and rows without any are allowed.
    """
    if isinstance(value, CountMatrix):
        return value
    matrix = as_matrix(function, argument, value)
    if columns is not None and matrix.shape[1] != columns:
        expectation = f"have {columns} columns as in fit"
        fail(ValueError, function, argument, expectation, f"shape {tuple(matrix.shape)}")
    parts = []
    for first, rows in _csr_chunks(matrix):
        _check_values(function, argument, rows, first, allow_noninteger, dtype)
        if binary:
            rows.data = np.ones_like(rows.data)
        parts.append(_to_table(rows, dtype))
    table = parts[0] if len(parts) == 1 else _join(parts)
    if not binary:
        empty = np.flatnonzero(table.totals <= 0)
        if empty.size:
            got = f"no counts in row {int(empty[0])} ({empty.size} such cells)"
            fail(ValueError, function, argument, "have no cells without counts", got)
    return table


def row_chunks(rows: int, chunk: int = _CHUNK) -> Iterator[slice]:
    """Cut the rows into pieces."""
    for first in range(0, rows, chunk):
        yield slice(first, min(first + chunk, rows))


def _is_sparse(value: Any) -> bool:
    from scipy.sparse import issparse

    return bool(issparse(value))


def _is_stored(value: Any) -> bool:
    """Tell the matrices of open files: h5py's, Zarr's, and anndata's sparse ones."""
    module = type(value).__module__.partition(".")[0]
    return module in ("h5py", "zarr", "anndata") and hasattr(value, "__getitem__")


def _csr_chunks(matrix: Any) -> Iterator[tuple[int, Any]]:
    """Return (first row, canonical CSR) of the whole, or of chunks of a stored matrix."""
    if not _is_stored(matrix):
        yield 0, _canonical(matrix)
    elif getattr(matrix, "format", "csr") == "csc":  # rows of a stored CSC matrix are scattered
        yield 0, _canonical(matrix.to_memory())
    else:
        for rows in row_chunks(matrix.shape[0], _CHUNK):
            yield rows.start, _canonical(matrix[rows])


def _canonical(matrix: Any) -> Any:
    from scipy.sparse import csr_array

    rows = csr_array(matrix, copy=True)
    rows.sum_duplicates()
    rows.eliminate_zeros()
    return rows


def _check_values(
    function: str,
    argument: str,
    rows: Any,
    first: int,
    allow_noninteger: bool,
    dtype: np.dtype[Any],
) -> None:
    values = rows.data

    def refuse(kind: type[Exception], bad: npt.NDArray[np.bool_], expectation: str) -> None:
        if bad.any():
            place = int(bad.argmax())
            row = int(np.searchsorted(rows.indptr, place, side="right")) - 1 + first
            got = f"{describe(values[place])} in row {row}, column {int(rows.indices[place])}"
            fail(kind, function, argument, expectation, got)

    if values.dtype.kind == "f":
        refuse(ValueError, ~np.isfinite(values), "be finite")
    refuse(ValueError, values < 0, "hold counts, which are not negative")
    if values.dtype.kind == "f" and not allow_noninteger:
        expectation = (
            "hold whole numbers (raw counts may lie in another `layer`; or pass "
            "allow_noninteger=True)"
        )
        refuse(ValueError, values != np.rint(values), expectation)
    refuse(OverflowError, values > _LARGEST, "hold counts below 2**31")
    if dtype == np.float32 and not allow_noninteger:
        expectation = 'hold counts up to 2**24 (or take dtype="float64")'
        refuse(ValueError, values > _EXACT_IN_FLOAT32, expectation)


def _to_table(rows: Any, dtype: np.dtype[Any]) -> CountMatrix:
    totals = np.add.reduceat(
        np.append(rows.data.astype(np.float64), 0.0), np.minimum(rows.indptr[:-1], rows.nnz)
    )
    totals[np.diff(rows.indptr) == 0] = 0.0
    return CountMatrix(
        rows.indptr.astype(np.int64),
        rows.indices.astype(np.int32),
        rows.data.astype(dtype),
        int(rows.shape[1]),
        totals.astype(dtype),
    )


def _join(parts: list[CountMatrix]) -> CountMatrix:
    starts = np.cumsum([0, *(part.indptr[-1] for part in parts[:-1])])
    ends = [part.indptr[1:] + start for part, start in zip(parts, starts, strict=True)]
    return CountMatrix(
        np.concatenate([np.zeros(1, np.int64), *ends]),
        np.concatenate([part.indices for part in parts]),
        np.concatenate([part.values for part in parts]),
        parts[0].columns,
        np.concatenate([part.totals for part in parts]),
    )
