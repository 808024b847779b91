"""The C++ backend of networks."""

from __future__ import annotations

import threading
import weakref
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops._runtime.blas import core_with_blas, single_threaded
from hotloops.nn._jobs import Loss, LossJob, TrainJob
from hotloops.nn._layout import Operand, Program
from hotloops.nn._rule import Rule, State
from hotloops.nn._tables import Batch

__all__ = [
    "Run",
    "evaluate",
    "evaluate_loss",
    "native_program",
    "predict",
    "train",
    "update",
]

Array = npt.NDArray[Any]

_programs: weakref.WeakKeyDictionary[Program, Any] = weakref.WeakKeyDictionary()
_kept = threading.local()


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
    before : object, optional
        A pass that is no longer needed, whose memory is used again where it fits: fresh memory
        costs page faults, at 4096 rows of 512 a quarter of the call.
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
        self._workspace: Any
        self._program, self._num_threads = program, num_threads
        self._dtype, self._num_rows = parameters.dtype, batch.num_rows
        if isinstance(before, Run) and before._fits(program, self._dtype, batch.num_rows):
            self._workspace = before._workspace
        else:
            seeds = _fields(program.outputs)
            self._workspace = _workspace(program, self._dtype, batch.num_rows, seeds, True)
        with single_threaded:
            _call("forward", self._dtype)(
                self._workspace,
                parameters,
                buffers,
                *_lists(batch),
                None,
                training,
                seed,
                step,
                num_threads,
            )

    def _fits(self, program: Program, dtype: np.dtype[Any], num_rows: int) -> bool:
        return self._program is program and (self._dtype, self._num_rows) == (dtype, num_rows)

    def read(self, operand: Operand, out: Array) -> None:
        """Copy the columns of an operand to `out`."""
        self._workspace.read(operand.slot, operand.begin, out, self._num_threads)

    def backward(self, outputs: list[Array], parameter_gradient: Array) -> list[Array]:
        """Fill the gradient of the parameters and return those of the dense inputs."""
        with single_threaded:
            _call("backward", self._dtype)(
                self._workspace, outputs, parameter_gradient, self._num_threads
            )
        return [self._workspace.gradient(s).copy() for s in range(self._program.num_inputs)]


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
    workspace = _kept_workspace(program, parameters.dtype, min(block_size, batch.num_rows))
    forward, lists = _call("forward", parameters.dtype), _lists(batch)
    with single_threaded:
        for begin in range(0, batch.num_rows, block_size):
            end = min(begin + block_size, batch.num_rows)
            rows = np.arange(begin, end, dtype=np.int64)
            memory = workspace, parameters, buffers
            forward(*memory, *lists, rows, False, 0, 0, num_threads)
            for operand, target in zip(program.outputs, targets, strict=True):
                workspace.read(operand.slot, operand.begin, target[begin:end], num_threads)


def evaluate_loss(job: LossJob, num_threads: int) -> npt.NDArray[np.float64]:
    """Return the loss of each row, and add the gradients."""
    row_losses = np.empty(len(job.logits))
    dense = [] if job.dense is None else [job.dense]
    sparse = [] if job.counts is None else [tuple(job.counts)]
    indices = [] if job.labels is None else [job.labels]
    indices += [job.groups] if job.groups.size else []
    _call("loss", job.logits.dtype)(
        job.kind,
        job.logits,
        dense,
        sparse,
        indices,
        job.log_theta if job.log_theta.size else None,
        job.delta,
        job.weight,
        job.gradient,
        job.log_theta_gradient if job.log_theta_gradient.size else None,
        row_losses,
        num_threads,
    )
    return row_losses


def update(
    rule: Rule, state: State, gradient: Array, learning_rate: float, step: int, num_threads: int
) -> float:
    """Make one step of an optimizer, counted from 1, and return the norm of the gradient."""
    moments = state.first_moment, state.second_moment, _average(state)
    arguments = *_rule(rule), state.parameters, *moments, gradient, learning_rate, step
    return float(_call("update", gradient.dtype)(*arguments, num_threads))


def train(job: TrainJob) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Make the steps of a job; return the losses and the norms of the gradients of each."""
    num_steps, dtype = job.learning_rates.size, job.state.parameters.dtype
    losses, norms = np.empty((num_steps, len(job.losses))), np.empty(num_steps)
    if "workspace" not in job.memory:
        seeds = _fields([loss.logits for loss in job.losses])
        job.memory["workspace"] = _workspace(job.program, dtype, job.batch_size, seeds, False)
    prepared = job.prepare is not None
    with single_threaded:
        _call("train", dtype)(
            job.memory["workspace"],
            *_losses(job.losses),
            *(([], [], []) if prepared else _lists(job.tables)),
            *_rule(job.rule),
            job.state.parameters,
            job.state.first_moment,
            job.state.second_moment,
            _average(job.state),
            job.buffers,
            job.learning_rates,
            job.first_step,
            job.seed,
            losses,
            norms,
            getattr(job.prepare, "address", 0),
            getattr(job.prepare, "context", 0),
            job.num_threads,
        )
    return losses, norms


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
    dtype = parameters.dtype
    seeds = _fields([loss.logits for loss in losses])
    found = np.empty((len(losses), tables.num_rows))
    workspace = _workspace(program, dtype, min(block_size, tables.num_rows), seeds, False)
    with single_threaded:
        memory = parameters, buffers, found
        arguments = workspace, *_losses(losses), *_lists(tables), *memory
        _call("evaluate", dtype)(*arguments, num_threads)
    return found


def _call(name: str, dtype: np.dtype[Any]) -> Any:
    return getattr(core_with_blas(), f"nn_{name}_{dtype}")


def native_program(program: Program) -> Any:
    """Return the native program, which is checked once."""
    found = _programs.get(program)
    if found is None:
        arrays = program.instructions, program.constants, program.widths
        numbers = program.num_inputs, program.num_parameters, program.num_buffers
        found = _programs[program] = core_with_blas().NnProgram(*arrays, *numbers)
    return found


def _workspace(
    program: Program, dtype: np.dtype[Any], rows: int, seeds: Any, input_gradients: bool
) -> Any:
    make = getattr(core_with_blas(), f"NnWorkspace{dtype.name.capitalize()}")
    return make(native_program(program), rows, seeds, input_gradients)


def _kept_workspace(program: Program, dtype: np.dtype[Any], rows: int) -> Any:
    """Return memory for predictions: that of this thread's last ones where it fits.

    Solvers predict the same number of rows many times, and fresh memory costs page faults.
    """
    wanted = program, dtype, rows
    if getattr(_kept, "what", None) != wanted:
        _kept.what = wanted
        _kept.workspace = _workspace(program, dtype, rows, None, False)
    return _kept.workspace


def _fields(operands: Any) -> npt.NDArray[np.int64]:
    return np.array([operand.fields for operand in operands], np.int64).reshape(-1, 3)


def _lists(batch: Batch) -> tuple[list[Array], list[tuple[Any, ...]], list[Array]]:
    return batch.dense, [tuple(table) for table in batch.sparse], batch.indices


def _losses(losses: Any) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    integers = np.array([loss.integers for loss in losses], np.int64)
    return integers, np.array([loss.reals for loss in losses], np.float64)


def _rule(rule: Rule) -> tuple[int, npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    numbers = rule.beta1, rule.beta2, rule.eps, rule.weight_decay, rule.clip_norm, rule.ema_decay
    ranges = np.array(rule.no_decay, np.int64).reshape(-1, 2)
    return int(rule.decoupled), np.array(numbers), ranges


def _average(state: State) -> Array | None:
    return state.average if state.average.size else None
