"""What a network reads: matrices, CSR matrices and tables of indices, checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hotloops._runtime import arrays, validate
from hotloops._runtime.arrays import NUMPY, Library
from hotloops._runtime.validate import describe, fail
from hotloops.nn._layout import TRANSFORMS, Program, SparseTable

__all__ = ["Batch", "Csr", "read_dense", "read_indices", "read_inputs", "read_sparse"]

_LARGEST_COLUMN = 2**31 - 1


class Csr(NamedTuple):
    """A CSR table as the kernels take it.

    Attributes
    ----------
    indptr : ndarray of int64
    indices : ndarray of int32
    values : ndarray
    columns, transform : int
    totals : ndarray
        Sum of the values of each row.
    """

    indptr: npt.NDArray[np.int64]
    indices: npt.NDArray[np.int32]
    values: npt.NDArray[Any]
    columns: int
    transform: int
    totals: npt.NDArray[Any]

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return self.indptr.size - 1


@dataclass(frozen=True)
class Batch:
    """Checked inputs of a program, and targets after them where there are any.

    CSR tables are in host memory; the others are in host memory or on one GPU.

    Attributes
    ----------
    dense : list of ndarray, shape (rows, width)
    sparse : list of Csr
    indices : list of ndarray of int32, shape (rows,)
    num_rows : int
    """

    dense: list[npt.NDArray[Any]]
    sparse: list[Csr]
    indices: list[npt.NDArray[np.int32]]
    num_rows: int

    @property
    def device(self) -> str:
        """Where the tables are, "cpu" or "cuda"."""
        named = {f"dense[{i}]": table for i, table in enumerate(self.dense)}
        named |= {f"indices[{i}]": table for i, table in enumerate(self.indices)}
        return arrays.common_library("Batch", named).device


def read_inputs(
    function: str, program: Program, inputs: Sequence[Any], dtype: np.dtype[Any]
) -> tuple[Batch, Library]:
    """Check the inputs of a program: dense ones, then CSR tables, then indices.

    Returns
    -------
    Batch
    Library
        Of the first input that is an array of some library.
    """
    counts = (program.num_inputs, len(program.sparse_tables), len(program.index_tables))
    if len(inputs) != sum(counts):
        expectation = f"be {_count_text(counts)}"
        fail(TypeError, function, "inputs", expectation, f"{len(inputs)} arrays")
    named = {f"inputs[{i}]": value for i, value in enumerate(inputs)}
    library = _library(function, named)
    symbols: dict[str, int] = {}
    names = iter(named.items())
    dense = [
        read_dense(function, *next(names), width, dtype, symbols) for width in program.input_widths
    ]
    sparse = [
        read_sparse(function, *next(names), table, dtype, symbols)
        for table in program.sparse_tables
    ]
    indices = [read_indices(function, *next(names), rows, symbols) for rows in program.index_tables]
    return Batch(dense, sparse, indices, symbols.get("rows", 0)), library


def read_dense(
    function: str,
    name: str,
    value: Any,
    width: int,
    dtype: np.dtype[Any],
    symbols: dict[str, int],
) -> npt.NDArray[Any]:
    """Check a matrix of (rows, width)."""
    native, _ = arrays.import_array(function, name, value, dtype=dtype)
    checked: npt.NDArray[Any] = validate.array(
        function, name, native, shape=("rows", width), symbols=symbols, dtype=dtype
    )
    return checked


def read_indices(
    function: str,
    name: str,
    value: Any,
    num_rows: int,
    symbols: dict[str, int],
    low: int = -1,
) -> npt.NDArray[np.int32]:
    """Check a table of indices below `num_rows`; -1 stands for none."""
    native, _ = arrays.import_array(function, name, value, dtype=np.int64)
    checked: npt.NDArray[np.int64] = validate.array(
        function, name, native, shape=("rows",), symbols=symbols, dtype=np.int64
    )
    wrong = (checked < low) | (checked >= num_rows)
    if wrong.any():
        at = int(wrong.argmax())
        expectation = f"hold integers in [{low}, {num_rows - 1}]"
        fail(ValueError, function, name, expectation, f"{checked[at]} at index ({at},)")
    return checked.astype(np.int32)


def read_sparse(
    function: str,
    name: str,
    value: Any,
    table: SparseTable,
    dtype: np.dtype[Any],
    symbols: dict[str, int],
    counts: bool = False,
) -> Csr:
    """Check a CSR table; other formats of SciPy and dense matrices are converted."""
    import scipy.sparse

    if not scipy.sparse.issparse(value):
        native, library = arrays.import_array(function, name, value, dtype=dtype)
        checked = validate.array(function, name, native, ndim=2, dtype=dtype)
        value = scipy.sparse.csr_array(checked if library.device == "cpu" else checked.get())
    matrix = value.tocsr()
    rows, columns = matrix.shape
    known = symbols.setdefault("rows", rows)
    if columns != table.columns or rows != known:
        expectation = f"have shape ({known}, {table.columns})"
        fail(ValueError, function, name, expectation, f"{(rows, columns)}")
    if columns > _LARGEST_COLUMN:
        raise OverflowError(f"{function}: `{name}` must have fewer than 2**31 columns")
    if not matrix.has_canonical_format:
        matrix = matrix.copy()
        matrix.sum_duplicates()
    values = validate.array(function, f"{name}.data", matrix.data, dtype=dtype, empty=True)
    needs_counts = counts or table.transform != "none"
    if needs_counts and values.size and values.min() < 0:
        at = int(values.argmin())
        fail(
            ValueError,
            function,
            f"{name}.data",
            "not be negative",
            f"{values[at]} at index ({at},)",
        )
    return Csr(
        matrix.indptr.astype(np.int64),
        matrix.indices.astype(np.int32),
        values,
        columns,
        TRANSFORMS.index(table.transform),
        np.asarray(matrix.sum(axis=1, dtype=np.float64)).reshape(-1).astype(dtype),
    )


def _library(function: str, named: dict[str, Any]) -> Library:
    import scipy.sparse

    own = {name: value for name, value in named.items() if not scipy.sparse.issparse(value)}
    for name, value in own.items():
        if value is None:
            fail(TypeError, function, name, "be an array of real numbers", describe(value))
    return arrays.common_library(function, own) if own else NUMPY


def _count_text(counts: tuple[int, int, int]) -> str:
    kinds = ("dense", "CSR", "index")
    parts = [
        f"{count} {kind} array{'' if count == 1 else 's'}"
        for count, kind in zip(counts, kinds, strict=True)
        if count
    ]
    return " and ".join(parts)
