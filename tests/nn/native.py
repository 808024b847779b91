"""Programs written by hand, straight onto the native functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse

from hotloops._runtime.blas import core_with_blas, single_threaded

Array = npt.NDArray[Any]

DENSE, SPARSE_DENSE, ACTIVATION, BATCH_NORM = 0, 1, 2, 3
LAYER_NORM, DROPOUT, EMBEDDING, TIME_EMBEDDING = 4, 5, 6, 7
ACTIVATIONS = ("identity", "relu", "elu", "silu", "gelu", "tanh", "sigmoid", "softplus")
SEED = 11
MEAN_SQUARED, CROSS_ENTROPY, BINARY_CROSS_ENTROPY, NEGATIVE_BINOMIAL, POISSON, HUBER = range(6)


class Operand(NamedTuple):
    """Columns of a slot."""

    slot: int
    begin: int
    width: int

    def part(self, begin: int, end: int) -> Operand:
        return Operand(self.slot, self.begin + begin, end - begin)


NOTHING = Operand(-1, 0, 0)


class Writer:
    """Collects the rows of a program."""

    def __init__(self) -> None:
        self.rows: list[list[int]] = []
        self.constants: list[tuple[float, float]] = []
        self.widths: list[int] = []
        self.num_inputs = self.num_parameters = self.num_buffers = 0

    def slot(self, width: int) -> Operand:
        self.widths.append(width)
        return Operand(len(self.widths) - 1, 0, width)

    def input(self, width: int) -> Operand:
        self.num_inputs += 1
        return self.slot(width)

    def parameters(self, size: int) -> int:
        self.num_parameters += size
        return self.num_parameters - size

    def add(
        self,
        operation: int,
        source: Operand,
        width: int,
        *,
        activation: str = "identity",
        addend: Operand = NOTHING,
        output: Operand | None = None,
        weight: int = -1,
        bias: int = -1,
        buffer: int = -1,
        constants: tuple[float, float] = (0.0, 0.0),
    ) -> Operand:
        y = self.slot(width) if output is None else output
        keeps = activation in ("silu", "gelu") and operation != ACTIVATION
        pre = self.slot(width) if keeps else NOTHING
        code = ACTIVATIONS.index(activation)
        self.rows.append([operation, *source, *y, *addend, *pre, weight, bias, code, buffer])
        self.constants.append(constants)
        return y

    def dense(self, x: Operand, width: int, bias: bool = True, **more: Any) -> Operand:
        weight = self.parameters(width * x.width)
        offset = self.parameters(width) if bias else -1
        return self.add(DENSE, x, width, weight=weight, bias=offset, **more)

    def sparse_dense(self, table: int, columns: int, width: int, **more: Any) -> Operand:
        source = Operand(table, 0, columns)
        weight = self.parameters(width * columns)
        return self.add(
            SPARSE_DENSE, source, width, weight=weight, bias=self.parameters(width), **more
        )

    def activation(self, x: Operand, activation: str) -> Operand:
        return self.add(ACTIVATION, x, x.width, activation=activation)

    def batch_norm(self, x: Operand, activation: str = "identity", **more: Any) -> Operand:
        self.num_buffers += 2 * x.width
        return self.add(
            BATCH_NORM,
            x,
            x.width,
            activation=activation,
            weight=self.parameters(x.width),
            bias=self.parameters(x.width),
            buffer=self.num_buffers - 2 * x.width,
            constants=(1e-5, 0.1),
            **more,
        )

    def layer_norm(self, x: Operand, activation: str = "identity") -> Operand:
        weight, bias = self.parameters(x.width), self.parameters(x.width)
        return self.add(
            LAYER_NORM,
            x,
            x.width,
            activation=activation,
            weight=weight,
            bias=bias,
            constants=(1e-5, 0.0),
        )

    def dropout(self, x: Operand, p: float, layer: int = 0) -> Operand:
        return self.add(DROPOUT, x, x.width, buffer=layer, constants=(p, 0.0))

    def embedding(self, table: int, num_rows: int, width: int, **more: Any) -> Operand:
        weight = self.parameters(num_rows * width)
        return self.add(EMBEDDING, Operand(table, 0, num_rows), width, weight=weight, **more)

    def time_embedding(self, t: Operand, width: int, scale: float = 1000.0) -> Operand:
        return self.add(TIME_EMBEDDING, t, width, constants=(scale, 0.0))

    def arrays(self) -> tuple[Any, ...]:
        return (
            np.array(self.rows, dtype=np.int64).reshape(-1, 17),
            np.array(self.constants, dtype=np.float64).reshape(-1, 2),
            np.array(self.widths, dtype=np.int64),
            self.num_inputs,
            self.num_parameters,
            self.num_buffers,
        )

    def program(self) -> Any:
        return core_with_blas().NnProgram(*self.arrays())


class Tables(NamedTuple):
    """What a program reads."""

    dense: Sequence[Array] = ()
    sparse: Sequence[tuple[Any, ...]] = ()
    indices: Sequence[Array] = ()

    def lists(self) -> tuple[list[Any], ...]:
        return tuple(list(tables) for tables in self)


def csr(matrix: Any, dtype: str, transform: int = 0) -> tuple[Any, ...]:
    """A CSR table as the native functions take it."""
    table = scipy.sparse.csr_array(matrix)
    totals = np.asarray(table.sum(axis=1)).reshape(-1).astype(dtype)
    values = table.data.astype(dtype)
    columns = table.shape[1]
    indptr, indices = table.indptr.astype(np.int64), table.indices.astype(np.int32)
    return indptr, indices, values, columns, transform, totals


class Run:
    """One program with its memory, parameters and tables."""

    def __init__(
        self,
        writer: Writer,
        tables: Tables,
        rows: int,
        seeds: list[Operand],
        dtype: str = "float64",
        input_gradients: bool = True,
        seed: int = 3,
        threads: int = 2,
        size: float = 0.5,
    ) -> None:
        self.core = core_with_blas()
        self.dtype, self.tables, self.threads, self.seeds = dtype, tables, threads, seeds
        self.program = writer.program()
        kind = {"float32": "NnWorkspaceFloat32", "float64": "NnWorkspaceFloat64"}[dtype]
        operands = np.array(seeds, dtype=np.int64).reshape(-1, 3)
        self.workspace = getattr(self.core, kind)(self.program, rows, operands, input_gradients)
        generator = np.random.default_rng(seed)
        self.parameters = (size * generator.standard_normal(writer.num_parameters)).astype(dtype)
        self.buffers = generator.uniform(0.5, 1.5, writer.num_buffers).astype(dtype)

    def call(self, name: str, *arguments: Any) -> Any:
        with single_threaded:
            return getattr(self.core, f"{name}_{self.dtype}")(*arguments)

    def forward(self, training: bool = True, rows: Array | None = None, step: int = 5) -> None:
        tables = self.tables
        self.call(
            "nn_forward",
            self.workspace,
            self.parameters,
            self.buffers,
            *tables.lists(),
            rows,
            training,
            SEED,
            step,
            self.threads,
        )

    def value(self, operand: Operand) -> Array:
        columns = slice(operand.begin, operand.begin + operand.width)
        return np.array(self.workspace.value(operand.slot)[:, columns])

    def backward(self, gradients: list[Array]) -> Array:
        out = np.full_like(self.parameters, np.nan)
        self.call("nn_backward", self.workspace, gradients, out, self.threads)
        return out


class Losses(NamedTuple):
    """Losses in the form of the native functions."""

    fields: Array
    constants: Array


def losses(*rows: tuple[Any, ...]) -> Losses:
    """Rows of (kind, logits, target, sparse, log_theta, group, constant, weight)."""
    fields = [[kind, *logits, *rest[:4]] for kind, logits, *rest in rows]
    constants = [row[-2:] for row in rows]
    return Losses(np.array(fields, dtype=np.int64), np.array(constants, dtype=np.float64))


class Optimizer(NamedTuple):
    """Numbers of an optimizer."""

    kind: int = 1
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 1e-2
    clip_norm: float = 1.0
    ema_decay: float = 0.0
    no_decay: tuple[tuple[int, int], ...] = ()

    def arrays(self) -> tuple[int, Array, Array]:
        ranges = np.array(self.no_decay, dtype=np.int64).reshape(-1, 2)
        return self.kind, np.array(self[1:7]), ranges


class State:
    """What training goes on from."""

    def __init__(self, run: Run, average: bool = True) -> None:
        self.parameters = run.parameters.copy()
        self.first = np.zeros_like(run.parameters)
        self.second = np.zeros_like(run.parameters)
        self.average = run.parameters.copy() if average else None
        self.buffers = run.buffers.copy()

    def arrays(self) -> list[Array]:
        held = [self.parameters, self.first, self.second, self.average, self.buffers]
        return [array for array in held if array is not None]


def train(
    run: Run,
    state: State,
    of: Losses,
    optimizer: Optimizer,
    steps: int,
    first: int = 0,
    rate: float = 1e-2,
    prepare: int = 0,
    context: int = 0,
) -> tuple[Array, Array]:
    """Run some steps; returns losses (steps, losses) and norms."""
    out, norms = np.full((steps, len(of.fields)), np.nan), np.full(steps, np.nan)
    tables = Tables() if prepare else run.tables
    done = run.call(
        "nn_train",
        run.workspace,
        *of,
        *tables.lists(),
        *optimizer.arrays(),
        state.parameters,
        state.first,
        state.second,
        state.average,
        state.buffers,
        np.full(steps, rate),
        first,
        SEED,
        out,
        norms,
        prepare,
        context,
        run.threads,
    )
    assert done == steps
    return out, norms


def problem(dtype: str = "float64", rows: int = 50, threads: int = 2, batch: int = 16) -> Any:
    """An autoencoder of counts with every kind of instruction, and its losses."""
    genes, types = 30, 3
    generator = np.random.default_rng(7)
    counts = generator.poisson(0.6, (rows, genes)).astype(float)
    counts[:, 0] += 1
    labels = generator.integers(0, types, rows).astype(np.int32)
    t = generator.uniform(0, 1, (rows, 1))
    target = generator.standard_normal((rows, 4))
    w = Writer()
    time = w.input(1)
    phi = w.time_embedding(time, 8)
    e = w.embedding(0, types, 12, addend=w.dense(phi, 12, activation="silu"))
    h = w.batch_norm(w.sparse_dense(0, genes, 12, addend=e), "elu")
    h = w.dropout(h, 0.2)
    z = w.layer_norm(w.dense(h, 4))
    d = w.batch_norm(w.dense(z, 12, activation="gelu"), "silu")
    logits = w.dense(d, genes)
    classes = w.dense(z, types)
    log_theta = w.parameters(types * genes)
    of = losses(
        (NEGATIVE_BINOMIAL, logits, 0, 1, log_theta, 0, 0.0, 1.0),
        (MEAN_SQUARED, z, 1, 0, -1, -1, 0.0, 0.5),
        (CROSS_ENTROPY, classes, 0, 0, -1, -1, 0.0, 0.25),
    )
    tables = Tables([t.astype(dtype), target.astype(dtype)], [csr(counts, dtype, 1)], [labels])
    run = Run(w, tables, batch, [logits, z, classes], dtype, False, threads=threads)
    run.buffers[:] = 0.5
    return run, of
