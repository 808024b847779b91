"""Training runs: batches, losses, gradients and updates, many steps in one native call."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops._runtime import dispatch, threads, validate
from hotloops._runtime.errors import NumericalError
from hotloops._runtime.progress import Progress
from hotloops._runtime.validate import describe, fail
from hotloops.nn._checks import check_losses
from hotloops.nn._jobs import Loss, TrainJob
from hotloops.nn._layout import BATCH_NORM
from hotloops.nn._network import Network, kernels_of
from hotloops.nn._optimizers import Adam, AdamW
from hotloops.nn._result import Report, TrainResult, TrainState
from hotloops.nn._rule import Rule, State, ema_decay
from hotloops.nn._tables import Batch

__all__ = ["Report", "TrainResult", "TrainState", "evaluate", "train"]

Array = npt.NDArray[Any]

_CHUNK_SECONDS = 0.1
_MAX_STEPS = 2**48 - 1


def train(
    network: Network,
    losses: Sequence[Loss],
    tables: Batch,
    *,
    batch_size: int = 128,
    epochs: int | None = None,
    num_steps: int | None = None,
    optimizer: Adam | None = None,
    ema: float | None = None,
    seed: int = 0,
    state: TrainState | None = None,
    prepare: Callable[..., object] | None = None,
    callback: Callable[[Report], object] | None = None,
    callback_steps: int | None = None,
    progress: bool = False,
    max_seconds: float | None = None,
    backend: str | None = None,
    num_threads: int | None = None,
    where: str = "train",
) -> TrainResult:
    """Train a network in place.

    Parameters
    ----------
    network : Network
    losses : sequence of Loss
        Their weighted sum is minimised.
    tables : Batch
        Whole tables: dense inputs, then dense targets; CSR tables; tables of indices. Where
        `prepare` makes the batches, index tables of `batch_size` rows stand for what it fills.
    batch_size : int
        Rows of a step; at most those of the tables.
    epochs, num_steps : int
        One of them: passes over the tables, each in an order of its own whose incomplete last batch
        is left out, or steps of this call.
    optimizer : Adam or AdamW, optional
        Its numbers; its own moments are neither used nor changed. Default ``AdamW()``.
    ema : float, optional
        Decay of a moving average of the parameters, kept in the state.
    seed : int
        Of the order of rows and of dropout.
    state : TrainState, optional
        Of a run before, to go on from: its parameters, running statistics, moments, average, seed
        and step are taken.
    prepare : callable, optional
        ``prepare(step, dense, indices)`` fills the batch of a step (Numba and CUDA backends), or
        the address of a native one.
    callback : callable, optional
        Called with a `Report` after every `callback_steps` steps (default: an epoch); a true
        answer stops the run.
    callback_steps : int, optional
    progress : bool
    max_seconds : float, optional
    backend : {"cpp", "cuda", "numba"}, optional
        Default: "cuda" for tables on a GPU, else "cpp".
    num_threads : int, optional
    where : str
        Name of the function in messages.

    Returns
    -------
    TrainResult

    Raises
    ------
    TypeError, ValueError
        Arguments of the wrong type, shape or range.
    hotloops.NumericalError
        A loss isn't finite; the network is then as it was before the call.
    """
    run = _Run(where, network, losses, tables, batch_size, optimizer, ema, seed, state, prepare)
    steps = run.count_steps(epochs, num_steps)
    if callback is not None and not callable(callback):
        fail(TypeError, where, "callback", "be callable", describe(callback))
    every = run.steps_per_epoch or steps
    if callback_steps is not None:
        every = validate.integer(where, "callback_steps", callback_steps, low=1)
    validate.boolean(where, "progress", progress)
    if max_seconds is not None:
        max_seconds = validate.real(where, "max_seconds", max_seconds, low=0.0)
    count = threads.resolve_num_threads(where, num_threads)
    kernels = kernels_of(dispatch.resolve_backend(where, backend, tables.device))
    clock = Progress(steps, enabled=progress, description=where, max_seconds=max_seconds)
    before = network.flat_parameters.copy(), network.flat_buffers.copy()
    run.begin()
    try:
        with clock:
            complete = run.loop(kernels, count, steps, clock, callback, every)
    except BaseException:
        network.flat_parameters[:], network.flat_buffers[:] = before
        raise
    return run.result(complete)


def evaluate(
    network: Network,
    losses: Sequence[Loss],
    tables: Batch,
    *,
    block_size: int = 512,
    backend: str | None = None,
    num_threads: int | None = None,
    where: str = "evaluate",
) -> npt.NDArray[np.float64]:
    """Return the losses of all rows of tables, not in training and without the weights.

    Parameters
    ----------
    network, losses, tables
        As in `train`.
    block_size : int
        Rows at a time.
    backend : {"cpp", "cuda", "numba"}, optional
        Default: "cuda" for tables on a GPU, else "cpp".
    num_threads : int, optional
    where : str
        Name of the function in messages.

    Returns
    -------
    ndarray, shape (losses, rows)

    Raises
    ------
    TypeError, ValueError
        Arguments of the wrong type, shape or range.
    """
    check_losses(where, network.program, losses, tables, False)
    size = validate.integer(where, "block_size", block_size, low=1)
    count = threads.resolve_num_threads(where, num_threads)
    kernels = kernels_of(dispatch.resolve_backend(where, backend, tables.device))
    memory = network.flat_parameters, network.flat_buffers
    found: npt.NDArray[np.float64] = kernels.evaluate(
        network.program, *memory, list(losses), tables, size, count
    )
    return found


class _Run:
    """One checked call of `train`."""

    def __init__(
        self,
        where: str,
        network: Network,
        losses: Sequence[Loss],
        tables: Batch,
        batch_size: int,
        optimizer: Adam | None,
        ema: float | None,
        seed: int,
        state: TrainState | None,
        prepare: Callable[..., object] | None,
    ) -> None:
        self._where, self._network, self._prepare = where, network, prepare
        self._optimizer = AdamW() if optimizer is None else optimizer
        if not isinstance(self._optimizer, Adam):
            expectation = "be an optimizer of hotloops.nn"
            fail(TypeError, where, "optimizer", expectation, describe(optimizer))
        decay = 0.0 if ema is None else ema_decay(where, "ema", ema)
        self._rule: Rule = self._optimizer.rule(network.program, decay)
        self._tables = tables
        self._batch_size = self._check_batch_size(batch_size)
        check_losses(where, network.program, losses, tables, prepare is not None)
        self._losses = tuple(losses)
        seed = validate.integer(where, "seed", seed, low=0, high=2**64 - 1)
        self._state = self._start(seed) if state is None else self._continue(state)
        self._history: list[tuple[Array, Array]] = []
        self._memory: dict[str, Any] = {}

    @property
    def steps_per_epoch(self) -> int:
        """Steps of one pass over the tables; 0 where every batch is made anew."""
        return 0 if self._prepare is not None else self._tables.num_rows // self._batch_size

    def count_steps(self, epochs: int | None, num_steps: int | None) -> int:
        """Return the number of steps that was asked for."""
        where = self._where
        if (epochs is None) == (num_steps is None):
            got = "neither" if epochs is None else "both"
            raise TypeError(f"{where}: one of `epochs` and `num_steps` must be given, got {got}")
        if num_steps is not None:
            steps = validate.integer(where, "num_steps", num_steps, low=0)
        else:
            passes = validate.integer(where, "epochs", epochs, low=0)
            if not self.steps_per_epoch:
                fail(ValueError, where, "epochs", "be None where batches are made", repr(epochs))
            steps = passes * self.steps_per_epoch
        if self._state.num_steps + steps > _MAX_STEPS:
            raise OverflowError(f"{where}: a run has at most 2**48 steps")
        return steps

    def begin(self) -> None:
        """Make the network's memory that of the run."""
        network, state = self._network, self._state
        network.flat_parameters[:] = state.parameters
        network.flat_buffers[:] = state.buffers
        self._state = dataclasses.replace(
            state, parameters=network.flat_parameters, buffers=network.flat_buffers
        )

    def loop(
        self,
        kernels: Any,
        num_threads: int,
        num_steps: int,
        clock: Progress,
        callback: Callable[[Report], object] | None,
        every: int,
    ) -> bool:
        """Make the steps; return whether all were made."""
        until_report, pace = every, _Pace(clock.watched)
        done, reported = 0, 0
        while done < num_steps:
            if clock.out_of_time():
                return False
            chunk = min(num_steps - done, pace.steps)
            if callback is not None:
                chunk = min(chunk, until_report)
            with pace.of(chunk):
                self._advance(kernels, chunk, num_threads)
            clock.update(chunk)
            done += chunk
            until_report -= chunk
            if callback is not None and (until_report == 0 or done == num_steps):
                until_report = every
                if callback(self._report(reported)) and done < num_steps:
                    return False
                reported = len(self._history)
        return True

    def result(self, complete: bool) -> TrainResult:
        """Return what was found."""
        state = self._state.copy()
        losses = [part for part, _ in self._history] or [np.empty((0, len(self._losses)))]
        norms = [part for _, part in self._history] or [np.empty(0)]
        found = np.concatenate(losses), np.concatenate(norms)
        return TrainResult(*found, state.num_steps, complete, state)

    def _advance(self, kernels: Any, num_steps: int, num_threads: int) -> None:
        first = self._state.num_steps
        rates = [self._optimizer.rate(step) for step in range(first, first + num_steps)]
        state = self._state
        job = TrainJob(
            self._network.program,
            self._losses,
            self._tables,
            self._batch_size,
            first,
            np.array(rates, np.float64),
            self._rule,
            State(state.parameters, state.first_moment, state.second_moment, state.average),
            state.buffers,
            state.seed,
            self._prepare,
            num_threads,
            self._memory,
        )
        losses, norms = kernels.train(job)
        self._history.append((losses, norms))
        self._state = dataclasses.replace(state, num_steps=first + num_steps)
        finite = np.isfinite(losses).all(axis=1) & np.isfinite(norms)
        if not finite.all():
            step = first + int((~finite).argmax())
            message = f"{self._where}: the loss or its gradient is not finite at step {step}"
            raise NumericalError(message, step=step)

    def _report(self, first: int) -> Report:
        losses = np.concatenate([part for part, _ in self._history[first:]])
        return Report(self._network, self._state.num_steps, losses, self._state)

    def _check_batch_size(self, batch_size: int) -> int:
        where, rows = self._where, self._tables.num_rows
        size = validate.integer(where, "batch_size", batch_size, low=1)
        if self._prepare is None and size > rows:
            expectation = f"be at most the {rows} rows of the tables"
            fail(ValueError, where, "batch_size", expectation, str(size))
        if size < 2 and self._network.program.uses(BATCH_NORM):
            fail(ValueError, where, "batch_size", "be at least 2 for a batch norm", str(size))
        return size

    def _start(self, seed: int) -> TrainState:
        parameters = self._network.flat_parameters
        average = np.zeros_like(parameters) if self._rule.ema_decay else parameters[:0].copy()
        moments = np.zeros_like(parameters), np.zeros_like(parameters)
        buffers = self._network.flat_buffers
        return TrainState(parameters, *moments, average, buffers, 0, seed, self._batch_size)

    def _continue(self, state: TrainState) -> TrainState:
        where = self._where
        if not isinstance(state, TrainState):
            expectation = "be the `state` of a result"
            fail(TypeError, where, "state", expectation, describe(state))
        fresh = self._start(0)
        for name, value in fresh.arrays().items():
            validate.array(
                where,
                f"state.{name}",
                getattr(state, name),
                shape=value.shape,
                dtype=value.dtype,
                exact_dtype=True,
                empty=True,
            )
        validate.integer(where, "state.num_steps", state.num_steps, low=0, high=_MAX_STEPS)
        validate.integer(where, "state.seed", state.seed, low=0, high=2**64 - 1)
        if state.batch_size != self._batch_size:
            expectation = f"be {state.batch_size} as in the run before"
            fail(ValueError, where, "batch_size", expectation, str(self._batch_size))
        return state.copy()


class _Pace:
    """How many steps a call makes: all, or about a tenth of a second of them when watched."""

    def __init__(self, watched: bool) -> None:
        self._watched = watched
        self.steps = 1 if watched else 1 << 40

    def of(self, steps: int) -> _Pace:
        """Time the call that makes so many steps."""
        self._made = steps
        return self

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(self, *error: object) -> None:
        if self._watched:
            seconds = max(time.perf_counter() - self._began, 1e-9)
            wanted = int(self._made * _CHUNK_SECONDS / seconds)
            self.steps = max(1, min(wanted, 8 * self.steps))
