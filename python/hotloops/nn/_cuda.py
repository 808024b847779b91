"""The CUDA backend of networks: CuPy arrays, on CuPy's current stream, products by cuBLAS.

Parameters of a `Network` live in host memory: a call sends them to the device, and a stretch of
training keeps everything there until it is over.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops._runtime import cublas
from hotloops._runtime.device import LaunchQueue, Place, place_of
from hotloops.nn._jobs import Loss, LossJob, TrainJob
from hotloops.nn._layout import (
    BATCH_NORM,
    LAYER_NORM,
    SPARSE_DENSE,
    Instruction,
    Operand,
    Program,
)
from hotloops.nn._numba import PreparedBatches, epoch_order, log_theta_of
from hotloops.nn._rule import Rule, State
from hotloops.nn._tables import Batch, Csr

__all__ = ["Run", "evaluate", "evaluate_loss", "predict", "train", "update"]

_ELEMENTS_OF_A_SUM = 1 << 14  # nn_update_elements in csrc/nn/kernels.hpp


class Run:
    """A forward pass, and the backward passes that may follow it; see the Numba twin."""

    def __init__(
        self,
        program: Program,
        parameters: Any,
        buffers: Any,
        batch: Batch,
        training: bool,
        seed: int,
        step: int,
        num_threads: int,
        before: object = None,
    ) -> None:
        with _place(batch) as place:
            tables = _send_tables(batch)
            self._memory = _Memory(program, tables, batch.num_rows, parameters.dtype)
            device = _send(parameters), _send(buffers)
            self._parameters = device[0]
            self._memory.forward(place, *device, tables, None, training, seed, step)
            if training:
                _return(device[1], buffers)

    def read(self, operand: Operand, out: Any) -> None:
        """Copy the columns of an operand to `out`."""
        _return(_columns(self._memory.values, operand), out)

    def backward(self, outputs: list[Any], parameter_gradient: Any) -> list[Any]:
        """Fill the gradient of the parameters and return those of the dense inputs."""
        memory = self._memory
        with place_of(self._parameters) as place:
            memory.need_gradients()
            gradient = _empty_like(self._parameters)
            memory.clear(place, gradient)
            for operand, given in zip(memory.program.outputs, outputs, strict=True):
                columns = _columns(memory.gradients, operand)
                columns += _send(given)
            memory.backward(place, gradient)
            _return(gradient, parameter_gradient)
        return memory.gradients[: memory.program.num_inputs]


def predict(
    program: Program,
    parameters: Any,
    buffers: Any,
    batch: Batch,
    targets: list[Any],
    block_size: int,
    num_threads: int,
) -> None:
    """Fill the outputs block by block, not in training."""
    with _place(batch) as place:
        blocks = _Blocks(program, parameters, buffers, batch, block_size)
        for begin, memory in blocks.forward(place):
            for operand, target in zip(program.outputs, targets, strict=True):
                found = _columns(memory.values, operand)
                _return(found, target[begin : begin + len(found)])


def evaluate(
    program: Program,
    parameters: Any,
    buffers: Any,
    losses: list[Loss],
    tables: Batch,
    block_size: int,
    num_threads: int,
) -> npt.NDArray[np.float64]:
    """Return the losses of all rows, not in training: shape (losses, rows)."""
    with _place(tables) as place:
        blocks = _Blocks(program, parameters, buffers, tables, block_size)
        found = _empty((len(losses), tables.num_rows), np.dtype(np.float64))
        for begin, memory in blocks.forward(place):
            rows = blocks.rows(begin)
            for k, loss in enumerate(losses):
                job = _loss_job(loss, memory, blocks.parameters, None, blocks.tables, rows)
                _loss(place, job, found[k, begin : begin + rows.size])
        return np.asarray(found.get())


def evaluate_loss(job: LossJob, num_threads: int) -> npt.NDArray[np.float64]:
    """Return the loss of each row, and add the gradients."""
    with place_of(job.logits) as place:
        row_losses = _empty(job.rows.size, np.dtype(np.float64))
        _loss(place, dataclasses.replace(job, rows=_send(job.rows)), row_losses)
        return np.asarray(row_losses.get())


def update(
    rule: Rule, state: State, gradient: Any, learning_rate: float, step: int, num_threads: int
) -> float:
    """Make one step of an optimizer, counted from 1, and return the norm of the gradient."""
    with place_of(gradient) as place:
        norms = _empty(1, np.dtype(np.float64))
        _Updates(rule, state, gradient.size).step(place, gradient, learning_rate, step, norms)
        return float(norms.get()[0])


def train(job: TrainJob) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Make the steps of a job; return the losses and the norms of the gradients of each."""
    num_steps, num_losses = job.learning_rates.size, len(job.losses)
    with _place(job.tables) as place:
        run = _Training(job)
        losses = _empty((num_steps, num_losses), np.dtype(np.float64))
        norms = _empty(num_steps, np.dtype(np.float64))
        queue = LaunchQueue()
        for number in range(num_steps):
            run.step(place, number, losses[number], norms[number : number + 1])
            queue.launched()
        run.finish()
        return losses.get(), norms.get()


class _Memory:
    """The device's memory of one batch, and the native pass over it."""

    def __init__(
        self, program: Program, tables: Batch, num_rows: int, dtype: np.dtype[Any]
    ) -> None:
        self.program, self._num_rows = program, num_rows
        self.values = [_empty((num_rows, width), dtype) for width in program.widths.tolist()]
        self.gradients: list[Any] = []
        self._statistics = [
            _empty(_num_statistics(it, num_rows), np.dtype(np.float64)) for it in program.decoded
        ]
        self._matrices = [
            _empty((num_rows, tables.sparse[it.input.slot].columns), dtype)
            if it.operation == SPARSE_DENSE
            else None
            for it in program.decoded
        ]
        kind = "NnDevicePassFloat32" if dtype == np.float32 else "NnDevicePassFloat64"
        self._pass = getattr(cublas.load(), kind)(
            program.instructions,
            program.constants,
            program.widths.tolist(),
            program.num_inputs,
            program.num_parameters,
            num_rows,
            [_address(value) for value in self.values],
            [_address(value) for value in self._statistics],
            [_address(value) for value in self._matrices],
        )
        self._held: tuple[Any, ...] = ()

    def need_gradients(self) -> None:
        """Allocate the gradients of the slots, once."""
        if not self.gradients:
            self.gradients = [_empty_like(value) for value in self.values]
            self._pass.set_gradients([_address(value) for value in self.gradients])

    def forward(
        self,
        place: Place,
        parameters: Any,
        buffers: Any,
        tables: Batch,
        rows: Any,
        training: bool,
        seed: int,
        step: int,
    ) -> None:
        """Fill the slots from rows of the tables, which live on the device."""
        self._held = parameters, buffers, tables, rows
        self._pass.forward(
            [_address(table) for table in tables.dense],
            [_csr_addresses(table) for table in tables.sparse],
            [_address(table) for table in tables.indices],
            _address(rows),
            _address(parameters),
            _address(buffers),
            self._num_rows,
            training,
            seed,
            step,
            place.device,
            place.stream,
        )

    def clear(self, place: Place, parameter_gradient: Any) -> None:
        """Set all gradients to 0; those of the outputs are then to be added."""
        self._pass.clear(_address(parameter_gradient), place.device, place.stream)

    def backward(self, place: Place, parameter_gradient: Any) -> None:
        """Fill the gradients of parameters and inputs."""
        self._pass.backward(_address(parameter_gradient), place.device, place.stream)


class _Updates:
    """An optimizer's numbers and its scratch memory on the device."""

    def __init__(self, rule: Rule, state: State, count: int) -> None:
        self._rule, self._state, self._count = rule, state, count
        self._sums = _empty(-(-count // _ELEMENTS_OF_A_SUM), np.dtype(np.float64))
        ranges = np.array(rule.no_decay, np.int64).reshape(-1, 2)
        self._no_decay = _send(ranges) if len(ranges) else None
        self._kernel = getattr(cublas.load(), f"nn_update_{state.parameters.dtype}")

    def step(self, place: Place, gradient: Any, learning_rate: float, step: int, norm: Any) -> None:
        """Queue a step; `norm` takes the norm of the gradient."""
        rule, state = self._rule, self._state
        numbers = rule.beta1, rule.beta2, rule.eps, rule.weight_decay
        self._kernel(
            rule.decoupled,
            [*numbers, rule.clip_norm, rule.ema_decay],
            _address(self._no_decay),
            len(rule.no_decay),
            _address(state.parameters),
            _address(state.first_moment),
            _address(state.second_moment),
            _address(state.average) if rule.ema_decay else 0,
            _address(gradient),
            self._count,
            learning_rate,
            step,
            _address(self._sums),
            _address(norm),
            place.device,
            place.stream,
        )


class _Training:
    """A stretch of training whose state stays on the device until `finish`."""

    def __init__(self, job: TrainJob) -> None:
        self._job, self._epoch = job, -1
        self._order = np.empty(0, np.int64)
        self._prepared = None if job.prepare is None else PreparedBatches(job, _empty)
        held = job.state
        names = "parameters", "first_moment", "second_moment", "average"
        self._state = State(*(_send(getattr(held, name)) for name in names))
        self._buffers = _send(job.buffers)
        self._tables = _send_tables(job.tables)
        dtype = held.parameters.dtype
        self._memory = _Memory(job.program, self._tables, job.batch_size, dtype)
        self._memory.need_gradients()
        self._gradient = _empty_like(self._state.parameters)
        self._updates = _Updates(job.rule, self._state, self._gradient.size)
        self._row_losses = _empty(job.batch_size, np.dtype(np.float64))

    def step(self, place: Place, number: int, losses: Any, norm: Any) -> None:
        """Queue a step; `losses` and `norm` take what it found."""
        job, memory = self._job, self._memory
        step = job.first_step + number
        tables, rows = self._batch(step)
        memory.forward(
            place, self._state.parameters, self._buffers, tables, rows, True, job.seed, step
        )
        memory.clear(place, self._gradient)
        for k, loss in enumerate(job.losses):
            term = _loss_job(loss, memory, self._state.parameters, self._gradient, tables, rows)
            _loss(place, term, self._row_losses)
            losses[k] = self._row_losses.mean()
        memory.backward(place, self._gradient)
        rate = float(job.learning_rates[number])
        self._updates.step(place, self._gradient, rate, step + 1, norm)

    def finish(self) -> None:
        """Bring the state back to where it came from."""
        for name in ("parameters", "first_moment", "second_moment", "average"):
            _return(getattr(self._state, name), getattr(self._job.state, name))
        _return(self._buffers, self._job.buffers)

    def _batch(self, step: int) -> tuple[Batch, Any]:
        job, size = self._job, self._job.batch_size
        if self._prepared is not None:
            return _send_tables(self._prepared.of_step(step)), _send(np.arange(size))
        batches = job.tables.num_rows // size
        if step // batches != self._epoch:
            self._epoch = step // batches
            self._order = _send(epoch_order(job.tables.num_rows, self._epoch, job.seed))
        begin = step % batches * size
        return self._tables, self._order[begin : begin + size]


class _Blocks:
    """Whole tables on their way through a program, block by block, not in training."""

    def __init__(
        self, program: Program, parameters: Any, buffers: Any, tables: Batch, block_size: int
    ) -> None:
        self._program, self._size = program, block_size
        self.parameters, self._buffers = _send(parameters), _send(buffers)
        self.tables = _send_tables(tables)

    def rows(self, begin: int) -> Any:
        """Return the numbers of the rows of the block that begins there."""
        return _send(np.arange(begin, min(begin + self._size, self.tables.num_rows)))

    def forward(self, place: Place) -> Iterator[tuple[int, _Memory]]:
        """Run the blocks; yield where each begins, and its memory."""
        for begin in range(0, self.tables.num_rows, self._size):
            rows = self.rows(begin)
            memory = _Memory(self._program, self.tables, rows.size, self.parameters.dtype)
            memory.forward(place, self.parameters, self._buffers, self.tables, rows, False, 0, 0)
            yield begin, memory


def _loss_job(
    loss: Loss, memory: _Memory, parameters: Any, gradient: Any, tables: Batch, rows: Any
) -> LossJob:
    slot, back = loss.logits.slot, gradient is not None
    return LossJob(
        loss.code,
        memory.values[slot],
        loss.logits.begin,
        loss.logits.width,
        rows,
        tables.dense[loss.target] if loss.is_dense else None,
        tables.sparse[loss.target] if loss.is_sparse else None,
        tables.indices[loss.target] if loss.kind == "cross_entropy" else None,
        log_theta_of(loss, parameters),
        np.empty(0, np.int32) if loss.group is None else tables.indices[loss.group],
        loss.delta,
        loss.weight,
        memory.gradients[slot] if back else None,
        log_theta_of(loss, gradient) if back else np.empty((0, loss.logits.width)),
    )


def _loss(place: Place, job: LossJob, row_losses: Any) -> None:
    """Queue a loss and its gradients."""
    module, dtype = cublas.load(), job.logits.dtype
    num_rows, groups = job.rows.size, len(job.log_theta)
    size = getattr(module, f"nn_loss_scratch_{dtype}")(job.kind, num_rows, job.width, groups)
    scratch = _empty(size, dtype)
    first = job.first * dtype.itemsize
    gradient = job.gradient
    getattr(module, f"nn_loss_{dtype}")(
        job.kind,
        _address(job.logits) + first,
        job.logits.shape[1],
        num_rows,
        job.width,
        _address(job.dense),
        None if job.counts is None else _csr_addresses(job.counts),
        _address(job.labels),
        _address(job.rows),
        _address(job.log_theta) if groups else 0,
        groups,
        _address(job.groups) if job.groups.size else 0,
        job.delta,
        job.weight,
        0 if gradient is None else _address(gradient) + first,
        0 if gradient is None else gradient.shape[1],
        _address(job.log_theta_gradient) if len(job.log_theta_gradient) else 0,
        _address(row_losses),
        _address(scratch),
        place.device,
        place.stream,
    )


def _num_statistics(it: Instruction, num_rows: int) -> int:
    """Return how many numbers a norm keeps: nn_statistics in csrc/nn/kernels.hpp."""
    if it.operation == BATCH_NORM:
        return 2 * it.output.width
    return 2 * num_rows if it.operation == LAYER_NORM else 1


def _place(tables: Batch) -> AbstractContextManager[Place]:
    """Return the place of the first table that is on a device."""
    csr = [table.values for table in tables.sparse]
    every = [*tables.dense, *csr, *tables.indices]
    return place_of(next(table for table in every if is_on_device(table)))


def _columns(slots: Sequence[Any], operand: Operand) -> Any:
    return slots[operand.slot][:, operand.begin : operand.begin + operand.width]


def _send(array: Any) -> Any:
    """Return an array of the current device, the same one where it is there already."""
    import cupy

    return cupy.asarray(array)


def _send_tables(tables: Batch) -> Batch:
    return Batch(
        [_send(table) for table in tables.dense],
        [Csr(*map(_send_part, table)) for table in tables.sparse],
        [_send(table) for table in tables.indices],
        tables.num_rows,
    )


def _send_part(part: Any) -> Any:
    return part if isinstance(part, int) else _send(part)


def is_on_device(array: Any) -> bool:
    """Whether an array is CuPy's."""
    return type(array).__module__.partition(".")[0] == "cupy"


def _return(there: Any, out: Any) -> None:
    """Copy an array of the device to one of the host or of the device."""
    out[...] = there if is_on_device(out) else there.get()


def _empty(shape: int | tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    import cupy

    return cupy.empty(shape, dtype)


def _empty_like(array: Any) -> Any:
    return _empty(array.shape, array.dtype)


def _address(array: Any) -> int:
    return 0 if array is None else int(array.data.ptr)


def _csr_addresses(table: Csr) -> tuple[int, int, int, int, int, int]:
    arrays = table.indptr, table.indices, table.values
    begin = [_address(array) for array in arrays]
    return begin[0], begin[1], begin[2], table.columns, table.transform, _address(table.totals)
