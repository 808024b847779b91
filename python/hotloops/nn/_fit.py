"""Plain regression and classification: tables in, a trained network out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hotloops._runtime import arrays, validate
from hotloops._runtime.arrays import Library
from hotloops._runtime.validate import describe, fail
from hotloops.nn._jobs import Loss
from hotloops.nn._layout import SparseTable
from hotloops.nn._tables import Batch, read_dense, read_indices, read_inputs, read_sparse
from hotloops.nn._train import TrainResult, train

if TYPE_CHECKING:
    from hotloops.nn._network import Network

__all__ = ["fit"]

FITTABLE = (
    "mean_squared_error",
    "huber",
    "cross_entropy",
    "binary_cross_entropy",
    "poisson",
)


def fit(
    network: Network,
    inputs: tuple[Any, ...],
    y: Any,
    loss: str,
    delta: float,
    options: dict[str, Any],
) -> TrainResult:
    """Train on inputs and one target; see `Network.fit`."""
    where = f"{type(network).__name__}.fit"
    program = network.program
    validate.choice(where, "loss", loss, FITTABLE)
    if len(program.outputs) != 1:
        expectation = "have one output"
        fail(ValueError, where, "network", expectation, f"{len(program.outputs)}")
    size = validate.real(where, "delta", delta, low=0.0, open_low=True)
    tables, library = read_inputs(where, program, inputs, network.dtype)
    operand = program.outputs[0]
    _check_place(where, y, library)
    kind, target = _target(where, y, loss, tables, operand.width, network.dtype)
    lists = {name: list(getattr(tables, name)) for name in ("dense", "sparse", "indices")}
    lists[kind].append(target)
    number = len(lists[kind]) - 1
    term = Loss(loss, operand, number, sparse=kind == "sparse", delta=size)
    whole = Batch(**lists, num_rows=tables.num_rows)
    options["batch_size"] = min(options["batch_size"], tables.num_rows)
    with arrays.stream_context(library):
        return train(network, [term], whole, where=where, **options)


def _check_place(where: str, y: Any, library: Library) -> None:
    """Check that the target lives where the inputs do; matrices of SciPy are sent there."""
    import scipy.sparse

    own = None if scipy.sparse.issparse(y) else arrays.library_of(y)
    if own is not None and own.place != library.place:
        expectation = f"live on {library.place} like the inputs"
        fail(TypeError, where, "y", expectation, f"an array on {own.place}")


def _target(
    where: str, y: Any, loss: str, tables: Batch, width: int, dtype: Any
) -> tuple[str, Any]:
    """Return which kind of table the target is, and the table."""
    import scipy.sparse

    symbols = {"rows": tables.num_rows}
    if loss == "cross_entropy":
        return "indices", read_indices(where, "y", y, width, symbols, low=0)
    if scipy.sparse.issparse(y) or loss == "poisson":
        if loss not in ("binary_cross_entropy", "poisson"):
            fail(TypeError, where, "y", f"be a dense array for {loss}", describe(y))
        wanted = SparseTable(width, "none")
        return "sparse", read_sparse(where, "y", y, wanted, dtype, symbols, counts=True)
    native, _ = arrays.import_array(where, "y", y, dtype=dtype)
    if native.ndim == 1 and width == 1:
        native = native.reshape(-1, 1)
    target = read_dense(where, "y", native, width, dtype, symbols)
    if loss == "binary_cross_entropy" and ((target < 0) | (target > 1)).any():
        fail(ValueError, where, "y", "hold numbers in [0, 1]", f"{target.min()} to {target.max()}")
    return "dense", target
