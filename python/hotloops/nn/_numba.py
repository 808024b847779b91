"""The Numba backend of networks; the twin of ``csrc/nn``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops._runtime._numba_jit import kernel
from hotloops._runtime._numba_math import STREAM_PERMUTATION, counter_word_1, philox4x32
from hotloops._runtime._numba_packs import word
from hotloops._runtime.blas import single_threaded
from hotloops.nn import _numba_losses, _numba_update
from hotloops.nn._jobs import Loss, LossJob, TrainJob, mean_of_rows
from hotloops.nn._layout import Operand, Program
from hotloops.nn._numba_pass import Pass
from hotloops.nn._rule import Rule, State
from hotloops.nn._tables import Batch

__all__ = [
    "PreparedBatches",
    "Run",
    "epoch_order",
    "evaluate",
    "evaluate_loss",
    "log_theta_of",
    "predict",
    "train",
    "update",
]

Array = npt.NDArray[Any]


class Run:
    """A forward pass, and the backward passes that may follow it.

    Parameters
    ----------
    program : Program
    parameters, buffers : ndarray
        A forward pass in training moves the running statistics in `buffers`.
    batch : Batch
    training : bool
    seed, step : int
        Of dropout.
    num_threads : int
        Of the products of dense layers.
    before : object, optional
        Not used: a pass whose memory could be used again.
    """

    def __init__(
        self,
        program: Program,
        parameters: Array,
        buffers: Array,
        batch: Batch,
        training: bool,
        seed: int,
        step: int,
        num_threads: int,
        before: object = None,
    ) -> None:
        rows = np.arange(batch.num_rows, dtype=np.int64)
        self._program = program
        self._pass = Pass(
            program, parameters, buffers, batch, rows, training, seed, step, num_threads
        )
        with single_threaded:
            self._pass.forward()

    def read(self, operand: Operand, out: Array) -> None:
        """Copy the columns of an operand to `out`."""
        out[:] = self._pass.column(self._pass.values, operand)

    def backward(self, outputs: list[Array], parameter_gradient: Array) -> list[Array]:
        """Fill the gradient of the parameters and return those of the dense inputs."""
        run = self._pass
        run.start_backward()
        for operand, gradient in zip(self._program.outputs, outputs, strict=True):
            columns = run.column(run.gradients, operand)
            columns += gradient
        with single_threaded:
            run.backward()
        parameter_gradient[:] = run.parameter_gradient
        return run.gradients[: self._program.num_inputs]


def predict(
    program: Program,
    parameters: Array,
    buffers: Array,
    batch: Batch,
    targets: list[Array],
    block_size: int,
    num_threads: int,
) -> None:
    """Fill the outputs block by block, not in training."""
    with single_threaded:
        for begin in range(0, batch.num_rows, block_size):
            rows = np.arange(begin, min(begin + block_size, batch.num_rows), dtype=np.int64)
            held = _gather(program, batch, rows)
            run = Pass(program, parameters, buffers, held, rows, num_threads=num_threads)
            run.forward()
            for operand, target in zip(program.outputs, targets, strict=True):
                target[rows] = run.column(run.values, operand)


def evaluate_loss(job: LossJob, num_threads: int) -> npt.NDArray[np.float64]:
    """Return the loss of each row, and add the gradients."""
    return _numba_losses.evaluate(job)


def evaluate(
    program: Program,
    parameters: Array,
    buffers: Array,
    losses: list[Loss],
    tables: Batch,
    block_size: int,
    num_threads: int,
) -> npt.NDArray[np.float64]:
    """Return the losses of all rows, not in training: shape (losses, rows)."""
    found = np.empty((len(losses), tables.num_rows))
    with single_threaded:
        for begin in range(0, tables.num_rows, block_size):
            rows = np.arange(begin, min(begin + block_size, tables.num_rows), dtype=np.int64)
            held = _gather(program, tables, rows)
            run = Pass(program, parameters, buffers, held, rows, num_threads=num_threads)
            run.forward()
            for k, loss in enumerate(losses):
                found[k, rows] = _numba_losses.evaluate(_loss_job(loss, run, tables, rows))
    return found


def update(
    rule: Rule,
    state: State,
    gradient: Array,
    learning_rate: float,
    step: int,
    num_threads: int,
) -> float:
    """Make one step of an optimizer, counted from 1, and return the norm of the gradient."""
    return _numba_update.update(rule, state, gradient, learning_rate, step)


def train(job: TrainJob) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Make the steps of a job; return the losses and the norms of the gradients of each."""
    num_steps = job.learning_rates.size
    losses, norms = np.empty((num_steps, len(job.losses))), np.empty(num_steps)
    batches = _Batches(job)
    with single_threaded:
        for number in range(num_steps):
            step = job.first_step + number
            run = _one_step(job, batches, step, losses[number])
            rate = float(job.learning_rates[number])
            gradient = run.parameter_gradient
            norms[number] = _numba_update.update(job.rule, job.state, gradient, rate, step + 1)
    return losses, norms


def _one_step(job: TrainJob, batches: _Batches, step: int, losses: Array) -> Pass:
    """Return the passes of a step, whose losses are written."""
    batch, rows = batches.of_step(step)
    memory = job.state.parameters, job.buffers, batch, rows
    run = Pass(job.program, *memory, True, job.seed, step, job.num_threads)
    run.forward()
    run.start_backward(inputs=False)
    tables = job.tables if job.prepare is None else batch
    for k, loss in enumerate(job.losses):
        losses[k] = mean_of_rows(_numba_losses.evaluate(_loss_job(loss, run, tables, rows)))
    run.backward()
    return run


class PreparedBatches:
    """Batches that a job's `prepare` makes, each in the memory of the one before.

    Parameters
    ----------
    job : TrainJob
    empty : callable
        ``empty(shape, dtype)`` of the library whose arrays `prepare` fills.
    """

    def __init__(self, job: TrainJob, empty: Callable[..., Any] = np.empty) -> None:
        self._job = job
        self._dense = [empty((job.batch_size, w), job.buffers.dtype) for w in _widths(job)]
        self._indices = [empty(job.batch_size, np.dtype(np.int32)) for _ in job.tables.indices]

    def of_step(self, step: int) -> Batch:
        """Return the batch of a step."""
        job = self._job
        assert job.prepare is not None
        job.prepare(step, self._dense, self._indices)
        return Batch(self._dense, job.tables.sparse, self._indices, job.batch_size)


class _Batches:
    """The batch of each step: rows of the tables in the order of the epoch, or made for it."""

    def __init__(self, job: TrainJob) -> None:
        self._job = job
        self._epoch = -1
        self._order = np.empty(0, np.int64)
        self._prepared = None if job.prepare is None else PreparedBatches(job)

    def of_step(self, step: int) -> tuple[Batch, npt.NDArray[np.int64]]:
        """Return dense inputs, whole tables otherwise, and the rows of the batch in them."""
        job, size = self._job, self._job.batch_size
        if self._prepared is not None:
            return self._prepared.of_step(step), np.arange(size, dtype=np.int64)
        batches = job.tables.num_rows // size
        if step // batches != self._epoch:
            self._epoch = step // batches
            self._order = epoch_order(job.tables.num_rows, self._epoch, job.seed)
        begin = step % batches * size
        rows = self._order[begin : begin + size].copy()
        return _gather(job.program, job.tables, rows), rows


def epoch_order(num_rows: int, epoch: int, seed: int) -> npt.NDArray[np.int64]:
    """Return the order in which an epoch takes the rows of the tables."""
    order = np.empty(num_rows, np.int64)
    _shuffle(order, epoch, word(seed & 0xFFFFFFFF), word(seed >> 32))
    return order


def log_theta_of(loss: Loss, flat: Any) -> Any:
    """Return the rows of log theta in the parameters or their gradient; there may be none."""
    entry = loss.log_theta
    begin, size = (0, 0) if entry is None else (entry.offset, entry.size)
    return flat[begin : begin + size].reshape(-1, loss.logits.width)


def _gather(program: Program, tables: Batch, rows: npt.NDArray[np.int64]) -> Batch:
    """Return tables whose dense inputs are those of some rows alone."""
    count = program.num_inputs
    inputs = [table[rows] for table in tables.dense[:count]]
    return Batch(inputs + tables.dense[count:], tables.sparse, tables.indices, rows.size)


def _widths(job: TrainJob) -> list[int]:
    """Return the columns of the dense tables that `prepare` fills: inputs, then targets."""
    widths = dict(enumerate(job.program.input_widths))
    for loss in job.losses:
        if loss.is_dense:
            widths[loss.target] = loss.logits.width
    return [widths[number] for number in range(len(widths))]


def _loss_job(loss: Loss, run: Pass, tables: Batch, rows: npt.NDArray[np.int64]) -> LossJob:
    slot = loss.logits.slot
    return LossJob(
        loss.code,
        run.values[slot],
        loss.logits.begin,
        loss.logits.width,
        rows,
        tables.dense[loss.target] if loss.is_dense else None,
        tables.sparse[loss.target] if loss.is_sparse else None,
        tables.indices[loss.target] if loss.kind == "cross_entropy" else None,
        log_theta_of(loss, run.parameters),
        np.empty(0, np.int32) if loss.group is None else tables.indices[loss.group],
        loss.delta,
        loss.weight,
        run.gradients[slot] if run.gradients else None,
        log_theta_of(loss, run.parameter_gradient)
        if run.gradients
        else np.empty((0, loss.logits.width), run.parameters.dtype),
    )


@kernel
def _shuffle(rows: Any, epoch: int, low: Any, high: Any) -> None:
    """Fisher and Yates's shuffle; draw i of an epoch is word i % 4 of block i / 4."""
    for i in range(rows.size):
        rows[i] = i
    c0 = np.uint64(epoch) & np.uint64(0xFFFFFFFF)
    c1 = counter_word_1(epoch, STREAM_PERMUTATION)
    zero = np.uint64(0)
    held = -1
    words = (zero, zero, zero, zero)
    for i in range(rows.size - 1, 0, -1):
        if i // 4 != held:
            held = i // 4
            words = philox4x32(c0, c1, zero, np.uint64(held), low, high)
        drawn = words[i % 4] & np.uint64(0xFFFFFFFF)
        j = np.int64((drawn * np.uint64(i + 1)) >> np.uint64(32))
        rows[i], rows[j] = rows[j], rows[i]
