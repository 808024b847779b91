"""The clients of a call: matrices that they may share, and which rows are whose."""

from __future__ import annotations

import itertools
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops._runtime import arrays, validate
from hotloops._runtime.arrays import NUMPY, Library
from hotloops.admm._losses import Loss

__all__ = ["ClientData", "Matrix", "gather_clients", "to_host"]

Int64 = npt.NDArray[np.int64]

_SHARE = 64  # tasks that all clients together are cut into, at most
_FEWEST_ROWS = 256


def to_host(array: Any) -> Any:
    """Return a NumPy array of the same values."""
    return array.get() if hasattr(array, "get") else array


@dataclass(frozen=True)
class Matrix:
    """One matrix, dense or CSR, with what belongs to its rows."""

    dense: npt.NDArray[Any] | None
    indptr: Int64 | None
    indices: npt.NDArray[np.int32] | None
    values: npt.NDArray[Any] | None  # None: all of them are 1
    targets: npt.NDArray[Any] | None
    labels: npt.NDArray[np.int32] | None
    weights: npt.NDArray[Any] | None
    num_rows: int
    columns: int
    dtype: np.dtype[Any]

    def entries(self, rows: Int64 | None) -> int:
        """Count the entries of some rows, or of all."""
        if self.indptr is None:
            assert self.dense is not None
            return int((self.num_rows if rows is None else rows.size) * self.columns)
        indptr = to_host(self.indptr)
        if rows is None:
            return int(indptr[-1] - indptr[0])
        return int((indptr[rows + 1] - indptr[rows]).sum())

    def on_host(self) -> Any:
        """Return X as a NumPy array or a SciPy matrix."""
        if self.dense is not None:
            return to_host(self.dense)
        import scipy.sparse

        indices, indptr = to_host(self.indices), to_host(self.indptr)
        values = np.ones(indices.size, self.dtype) if self.values is None else to_host(self.values)
        return scipy.sparse.csr_array(
            (values, indices, indptr), shape=(self.num_rows, self.columns)
        )


@dataclass(frozen=True)
class ClientData:
    """All that the kernels need to know of the data.

    Attributes
    ----------
    matrices : list of Matrix
    members : list of (int, ndarray or None)
        For each client its matrix and its rows there; None for all rows, in order.
    counts : ndarray, shape (m,), int64
        Rows of each client.
    totals : ndarray, shape (m,), float64
        Sums of the weights of its rows.
    layers : ndarray, int64
        Columns, hidden units, outputs.
    intercept : bool
    dtype : dtype
        Of the data and of the state.
    loss : Loss
    library : Library
        Where X came from; what is as long as the parameters lives on its device.
    """

    matrices: list[Matrix]
    members: list[tuple[int, Int64 | None]]
    counts: Int64
    totals: npt.NDArray[np.float64]
    layers: Int64
    intercept: bool
    dtype: np.dtype[Any]
    loss: Loss
    library: Library = NUMPY

    @property
    def xp(self) -> Any:
        """NumPy, or CuPy for data on a GPU."""
        return self.library.xp

    def library_device(self) -> AbstractContextManager[Any]:
        """Make the device of the data current."""
        if self.library.device == "cpu":
            return nullcontext()
        return self.xp.cuda.Device(self.library.device_id)  # type: ignore[no-any-return]

    @property
    def num_clients(self) -> int:
        return len(self.members)

    @property
    def dim(self) -> int:
        """Parameters."""
        widths = self.layers
        biases = int(widths[1:].sum()) if self.intercept else 0
        return int((widths[:-1] * widths[1:]).sum()) + biases

    @property
    def is_network(self) -> bool:
        return self.layers.size > 2

    @property
    def penalised(self) -> int:
        """Leading parameters that penalties act on: all of a network, all but intercepts else."""
        return self.dim if self.is_network else int(self.layers[0] * self.layers[1])

    @property
    def coefficient_shape(self) -> tuple[int, ...]:
        """The shape in which a regularizer meets the penalised parameters."""
        if self.is_network or self.layers[1] == 1:
            return (self.penalised,)
        return int(self.layers[0]), int(self.layers[1])

    @property
    def alpha(self) -> npt.NDArray[np.float64]:
        """Weights of the clients in the objective."""
        return np.asarray(self.totals / self.totals.sum())

    def tasks(self, batch_size: int | None) -> Int64:
        """Cut the clients' rows, or batches, into pieces that do not depend on threads.

        Each piece has a gradient of its own to add up, so there are no more than pay for that.
        """
        share = -(-_SHARE // self.num_clients)
        rows: list[tuple[int, int, int]] = []
        for client, (matrix, members) in enumerate(self.members):
            entries = self.matrices[matrix].entries(members) * int(self.layers[1:].sum())
            count = int(self.counts[client])
            if batch_size is not None:
                entries = entries * batch_size // max(count, 1)
                count = batch_size
            pieces = max(1, min(share, entries // (8 * self.dim), count // _FEWEST_ROWS))
            # Whole chunks of 64 rows, and so whole tiles.
            cuts = [count * k // pieces // 64 * 64 for k in range(pieces)] + [count]
            rows += [(client, a, b) for a, b in itertools.pairwise(cuts)]
        return np.array(rows, np.int64)

    def scale(self, batch_size: int | None) -> npt.NDArray[np.float64]:
        """Return what turns the sum over a client's rows or batch into its mean."""
        if batch_size is None:
            return 1.0 / self.totals
        return self.counts / (self.totals * batch_size)


def gather_clients(
    function: str,
    loss: Loss,
    X: Any,
    y: Any,
    clients: Any,
    *,
    sample_weight: Any = None,
    intercept: bool = False,
    num_classes: int | None = None,
) -> ClientData:
    """Check the data of a call and return it in the form of the kernels."""
    pairs = _as_pairs(function, X, y, clients, sample_weight)
    matrices: list[Matrix] = []
    libraries: list[Library] = []
    for position, (one, target, weight) in enumerate(pairs):
        names = ("X", "y", "sample_weight")
        if X is None:
            names = (f"clients[{position}][0]", f"clients[{position}][1]", "sample_weight")
        found, library = _matrix(function, loss, one, target, weight, names)
        matrices.append(found)
        libraries.append(library)
        _check_like(function, names[0], matrices[0], matrices[-1])
        if library.place != libraries[0].place:
            expectation = f"live on {libraries[0].place} as the first client"
            validate.fail(TypeError, function, names[0], expectation, library.place)
    if X is None:
        members: list[tuple[int, Int64 | None]] = [(k, None) for k in range(len(pairs))]
    else:
        rows = _members(function, clients, matrices[0].num_rows)
        members = [(0, part) for part in rows]
    outputs = _outputs(function, loss, matrices, num_classes)
    counts = np.array(
        [matrices[k].num_rows if part is None else part.size for k, part in members], np.int64
    )
    totals = counts.astype(np.float64)
    for client, (k, part) in enumerate(members):
        weights = matrices[k].weights
        if weights is not None:
            own = weights if part is None else weights[part]
            totals[client] = own.sum(dtype=np.float64)
            if not totals[client] > 0.0:
                expectation = "give every client a positive weight"
                got = f"zero for client {client}"
                validate.fail(ValueError, function, "sample_weight", expectation, got)
    return ClientData(
        matrices=matrices,
        members=members,
        counts=counts,
        totals=totals,
        layers=np.array([matrices[0].columns, *loss.hidden, outputs], np.int64),
        intercept=intercept or bool(loss.hidden),
        dtype=matrices[0].dtype,
        loss=loss,
        library=libraries[0],
    )


def _as_pairs(
    function: str, X: Any, y: Any, clients: Any, sample_weight: Any
) -> list[tuple[Any, Any, Any]]:
    if X is not None:
        if y is None:
            validate.fail(TypeError, function, "y", "be an array", "None")
        return [(X, y, sample_weight)]
    if y is not None:
        validate.fail(TypeError, function, "y", "be None when `X` is", validate.describe(y))
    expectation = "be a list of (X, y) pairs when `X` is None"
    if not isinstance(clients, list | tuple) or not clients:
        validate.fail(TypeError, function, "clients", expectation, validate.describe(clients))
    for pair in clients:
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            validate.fail(TypeError, function, "clients", expectation, validate.describe(pair))
    weights = [None] * len(clients) if sample_weight is None else sample_weight
    if not isinstance(weights, list | tuple) or len(weights) != len(clients):
        expectation = "be a list with an array for each client"
        got = validate.describe(sample_weight)
        validate.fail(ValueError, function, "sample_weight", expectation, got)
    return [(one, target, w) for (one, target), w in zip(clients, weights, strict=True)]


def _is_sparse(value: Any) -> bool:
    return hasattr(value, "tocsr") and hasattr(value, "nnz")


def _check_like(function: str, name: str, first: Matrix, other: Matrix) -> None:
    if other.columns != first.columns:
        expectation = f"have {first.columns} columns as the first client"
        validate.fail(ValueError, function, name, expectation, f"{other.columns}")
    if other.dtype != first.dtype:
        expectation = f"have dtype {first.dtype} as the first client"
        validate.fail(TypeError, function, name, expectation, f"{other.dtype}")


def _matrix(
    function: str,
    loss: Loss,
    X: Any,
    y: Any,
    sample_weight: Any,
    names: tuple[str, str, str],
) -> tuple[Matrix, Library]:
    dense = indptr = indices = values = None
    if _is_sparse(X):
        library = arrays.library_of(X.data) or NUMPY
        dtype, indptr, indices, values = _csr(function, names[0], X)
        num_rows, columns = (int(size) for size in X.shape)
        if library.device == "cuda":
            parts = (indptr, indices, values)
            indptr, indices, values = _on_device(library, function, names[0], *parts)
    else:
        X, library = arrays.import_array(function, names[0], X)
        dense = validate.array(function, names[0], X, ndim=2)
        num_rows, columns = dense.shape
        dtype = dense.dtype
    targets, labels = _targets(function, loss, names[1], y, num_rows, dtype)
    weights = None
    if sample_weight is not None:
        weights = validate.array(
            function, names[2], sample_weight, shape=(num_rows,), dtype=dtype, finite=True
        )
        if (weights < 0).any():
            got = f"{weights.min().item()}"
            validate.fail(ValueError, function, names[2], "be zero or positive", got)
    rest = (targets, labels, weights, num_rows, columns, dtype)
    return Matrix(dense, indptr, indices, values, *rest), library


def _csr(function: str, name: str, X: Any) -> tuple[np.dtype[Any], Int64, Any, Any]:
    """Return dtype, offsets, indices and values of a CSR matrix; values of 1 are left out."""
    if getattr(X, "format", "") != "csr":
        X = X.tocsr()
    values = np.asarray(to_host(X.data))
    dtype = values.dtype if values.dtype in (np.float32, np.float64) else np.dtype(np.float64)
    indptr = np.ascontiguousarray(to_host(X.indptr), np.int64)
    indices = np.asarray(to_host(X.indices))
    num_rows, columns = X.shape
    if num_rows == 0 or columns == 0:
        got = f"shape ({num_rows}, {columns})"
        validate.fail(ValueError, function, name, "not be empty", got)
    if columns >= 2**31:
        raise OverflowError(f"{function}: `{name}` must have fewer than 2**31 columns")
    well_cut = indptr.size == num_rows + 1 and indptr[0] >= 0 and (np.diff(indptr) >= 0).all()
    if not well_cut or indptr[-1] > min(indices.size, values.size):
        expectation = "have an indptr that rises from 0 to the number of entries"
        validate.fail(ValueError, function, name, expectation, "a broken indptr")
    used = indices[indptr[0] : indptr[-1]]
    if used.size and (used.min() < 0 or used.max() >= columns):
        got = f"{int(used.min() if used.min() < 0 else used.max())}"
        validate.fail(ValueError, function, name, f"have column indices in [0, {columns})", got)
    if not np.isfinite(values[indptr[0] : indptr[-1]]).all():
        validate.fail(ValueError, function, name, "be finite", "NaN or infinity among the entries")
    pattern = bool((values == 1).all())
    size = int(indptr[-1])
    return (
        dtype,
        indptr,
        np.ascontiguousarray(indices[:size], np.int32),
        None if pattern else np.ascontiguousarray(values[:size], dtype),
    )


def _on_device(
    library: Library, function: str, name: str, indptr: Any, indices: Any, values: Any
) -> tuple[Any, Any, Any]:
    """Return checked parts of a CSR matrix on its device, where a column may occur once a row."""
    inner = np.ones(indices.size, bool)
    inner[indptr[:-1][indptr[:-1] < indices.size]] = False
    if (inner[1:] & (np.diff(indices.astype(np.int64)) <= 0)).any():
        expectation = "have sorted rows without duplicates on a GPU (X.sum_duplicates())"
        validate.fail(ValueError, function, name, expectation, "others")
    parts = (indptr, indices, values)
    with library.xp.cuda.Device(library.device_id):
        moved = [None if part is None else library.xp.asarray(part) for part in parts]
    return moved[0], moved[1], moved[2]


def _targets(
    function: str, loss: Loss, name: str, y: Any, num_rows: int, dtype: np.dtype[Any]
) -> tuple[Any, Any]:
    kind = loss.targets
    if getattr(y, "dtype", None) == np.bool_:
        y = np.asarray(y).astype(np.int64)
    if kind == "labels":
        labels = validate.array(function, name, y, shape=(num_rows,), dtype=np.int64)
        if (labels < 0).any() or (labels >= 2**31).any():
            expectation = "hold class numbers 0, 1, ..."
            got = f"{int(labels.min())}" if labels.min() < 0 else f"{int(labels.max())}"
            validate.fail(ValueError, function, name, expectation, got)
        return None, labels.astype(np.int32)
    columns = (1, 2) if loss.hidden else (1,)
    targets = validate.array(function, name, y, ndim=columns, finite=True)
    if targets.shape[0] != num_rows:
        expectation = f"have length {num_rows}, that of `X`"
        validate.fail(ValueError, function, name, expectation, f"{targets.shape[0]}")
    if kind == "signs":
        targets = _signs(function, name, targets)
    elif kind == "counts" and (targets < 0).any():
        got = f"{targets.min().item()}"
        validate.fail(ValueError, function, name, "be zero or positive", got)
    return np.ascontiguousarray(targets, dtype), None


def _signs(function: str, name: str, y: npt.NDArray[Any]) -> npt.NDArray[Any]:
    zero_one = bool(np.isin(y, (0, 1)).all())
    if not zero_one and not np.isin(y, (-1, 1)).all():
        strange = y[~np.isin(y, (-1, 1))].flat[0].item()
        expectation = "hold labels in {0, 1} or in {-1, 1}"
        validate.fail(ValueError, function, name, expectation, f"{strange}")
    return np.where(y > 0, 1.0, -1.0)


def _members(function: str, clients: Any, num_rows: int) -> list[Int64 | None]:
    """Return the rows of each client from ids or from lists of indices."""
    if clients is None:
        return [None]
    listed = isinstance(clients, list | tuple) and bool(clients) and np.ndim(clients[0]) == 1
    if not listed:
        return _members_of_ids(function, clients, num_rows)
    parts: list[Int64 | None] = []
    for position, part in enumerate(clients):
        name = f"clients[{position}]"
        rows = validate.array(function, name, part, ndim=1, dtype=np.int64)
        if rows.min() < 0 or rows.max() >= num_rows:
            got = f"{int(rows.min() if rows.min() < 0 else rows.max())}"
            validate.fail(ValueError, function, name, f"hold rows in [0, {num_rows})", got)
        parts.append(rows)
    return parts


def _members_of_ids(function: str, clients: Any, num_rows: int) -> list[Int64 | None]:
    ids = np.asarray(clients)
    if ids.ndim != 1 or ids.dtype.kind not in "biuUSO":
        expectation = "be an id for each row, or a list of arrays of row numbers"
        validate.fail(TypeError, function, "clients", expectation, validate.describe(clients))
    if ids.size != num_rows:
        expectation = f"have length {num_rows}, that of `X`"
        validate.fail(ValueError, function, "clients", expectation, f"{ids.size}")
    _, numbers = np.unique(ids, return_inverse=True)
    order = np.argsort(numbers, kind="stable").astype(np.int64)
    ends = np.cumsum(np.bincount(numbers))
    return [np.ascontiguousarray(part) for part in np.split(order, ends[:-1].tolist()) if part.size]


def _outputs(function: str, loss: Loss, matrices: list[Matrix], num_classes: int | None) -> int:
    if loss.targets == "labels":
        held = [one.labels for one in matrices if one.labels is not None]
        largest = max(int(labels.max()) for labels in held)
        count = largest + 1 if num_classes is None else num_classes
        if count <= largest:
            expectation = f"hold classes below {count}"
            validate.fail(ValueError, function, "y", expectation, f"{largest}")
        if count < 2:
            validate.fail(ValueError, function, "y", "hold two classes or more", "one class")
        return count
    targets = [one.targets for one in matrices if one.targets is not None]
    if loss.targets == "signs" and all((t > 0).all() for t in targets):
        validate.fail(ValueError, function, "y", "hold two classes", "one class")
    if loss.targets == "signs" and all((t < 0).all() for t in targets):
        validate.fail(ValueError, function, "y", "hold two classes", "one class")
    widths = {1 if t.ndim == 1 else t.shape[1] for t in targets}
    if len(widths) > 1:
        validate.fail(ValueError, function, "clients", "agree on the columns of y", f"{widths}")
    return widths.pop()
