"""The rounds of the baselines, and what they come to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops._runtime import validate
from hotloops._runtime.errors import NumericalError
from hotloops.admm._data import ClientData
from hotloops.admm._engine import draw_active
from hotloops.admm._solve import driver_factory, make_batch, make_penalty
from hotloops.admm._start import starting_point
from hotloops.admm._work import Batch, Work, in_order

__all__ = ["BaselineResult", "Loop"]

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class BaselineResult:
    """Where averaged local steps have come to.

    Attributes
    ----------
    w : ndarray, shape (d,)
    objective : float
        Losses, weighted over the clients, and the ridge penalty, at `w`.
    history : dict of ndarray
        "round" and "objective", for the rounds in which it was evaluated.
    iterates : ndarray, shape (R + 1, d), or None
    num_rounds : int
    complete : bool
        False when ``max_seconds`` stopped the run early.
    """

    w: npt.NDArray[Any]
    objective: float
    history: dict[str, npt.NDArray[Any]]
    iterates: npt.NDArray[Any] | None
    num_rounds: int
    complete: bool


class Loop:
    """The rounds of one call."""

    def __init__(self, function: str, data: ClientData, given: dict[str, Any]) -> None:
        self.function, self.data = function, data
        self.batch: Batch = make_batch(function, data, given)
        self.penalty = make_penalty(function, data, None, given["l2"])
        self.step_size = _step_size(function, given["step_size"])
        self.local_steps = validate.integer(function, "local_steps", given["local_steps"], low=1)
        self.every = validate.integer(function, "evaluate_every", given["evaluate_every"], low=0)
        share = validate.real(
            function, "participation", given["participation"], low=0.0, high=1.0, open_low=True
        )
        self.participants = max(1, round(share * data.num_clients))
        self.mu = validate.real(function, "mu", given.get("mu", 0.0), low=0.0)
        self.global_step = validate.real(
            function,
            "global_step_size",
            given.get("global_step_size", 1.0),
            low=0.0,
            open_low=True,
        )
        recorded = validate.boolean(function, "record_iterates", given["record_iterates"])
        self.w = starting_point(function, data, given["w0"])
        self.driver = driver_factory(function, data, given["backend"], given["num_threads"])(data)
        size = None if self.batch.sampling == 0 else self.batch.size
        self.work = Work.prepare(data, size)
        self.passes = Work.prepare(data, None, gradients=False)
        shape = (data.num_clients, data.dim)
        self.controls = np.zeros(shape, data.dtype) if function == "scaffold" else None
        self.ridge = np.where(np.arange(data.dim) < self.penalty.size, self.penalty.l2, 0.0)
        self.made = 0
        self.iterates = [self.w.copy()] if recorded else None
        self.history: list[tuple[int, float]] = []

    def advance(self) -> None:
        data = self.data
        active = draw_active(self.batch.seed, self.made, data.num_clients, self.participants)
        length = self.step_size(self.made)
        points = np.tile(self.w, (data.num_clients, 1))
        correction = self._correction()
        for step in range(self.local_steps):
            self.batch.round = self.made * self.local_steps + step
            points = self._local_step(points, active, length, correction)
        acting = np.ones(data.num_clients, bool) if active is None else active > 0
        weights = np.ones(data.num_clients) if self.function == "local_sgd" else data.alpha
        weights = np.where(acting, weights, 0.0)
        weights = weights / in_order(weights)
        moves = points.astype(np.float64) - self.w
        if self.controls is not None:
            self._update_controls(moves, acting, length)
        self.w = (self.w + self.global_step * _mean_of(weights, moves)).astype(data.dtype)
        self.made += 1
        if not np.isfinite(self.w).all():
            message = (
                f"{self.function}: the iterate was not finite after round {self.made}; "
                "take a smaller step_size"
            )
            raise NumericalError(message, step=self.made)
        if self.iterates is not None:
            self.iterates.append(self.w.copy())
        if self.every and self.made % self.every == 0:
            self.history.append((self.made, self._objective()))

    def _correction(self) -> Any:
        if self.controls is None:
            return 0.0
        return _mean_of(self.data.alpha, self.controls) - self.controls

    def _local_step(
        self, points: npt.NDArray[Any], active: Any, length: float, correction: Any
    ) -> npt.NDArray[Any]:
        self.driver.gradient(
            self.work, self.batch, points, active=active, partials=self.work.partials
        )
        gradients = self.work.client_gradients(self.data.num_clients).astype(np.float64)
        gradients += self.ridge * points + correction
        if self.mu > 0.0:
            gradients += self.mu * (points - self.w)
        moved = (points - length * gradients).astype(self.data.dtype)
        if active is None:
            return moved
        return np.ascontiguousarray(np.where(active[:, None] > 0, moved, points))

    def _update_controls(self, moves: Float64, acting: Any, length: float) -> None:
        assert self.controls is not None
        mean = _mean_of(self.data.alpha, self.controls)
        renewed = self.controls - mean - moves / (self.local_steps * length)
        self.controls = np.where(acting[:, None], renewed, self.controls).astype(self.data.dtype)

    def _objective(self) -> float:
        self.driver.gradient(self.passes, Batch(), self.w, values=self.passes.values)
        losses = self.passes.client_values(self.data.num_clients)
        return in_order(self.data.alpha * losses) + self.penalty.value(self.w)

    def result(self, *, complete: bool) -> BaselineResult:
        rounds = np.array([made for made, _ in self.history], np.int64)
        values = np.array([value for _, value in self.history], np.float64)
        return BaselineResult(
            w=self.w,
            objective=self._objective(),
            history={"round": rounds, "objective": values},
            iterates=None if self.iterates is None else np.stack(self.iterates),
            num_rounds=self.made,
            complete=complete,
        )


def _mean_of(weights: Float64, rows: npt.NDArray[Any]) -> Float64:
    """Return ``sum weights_i rows_i``, added up in the order of the clients."""
    total = np.zeros(rows.shape[1])
    for weight, row in zip(weights.tolist(), rows, strict=True):
        total += weight * row.astype(np.float64)
    return total


def _step_size(function: str, step_size: Any) -> Callable[[int], float]:
    if not callable(step_size):
        length = validate.real(function, "step_size", step_size, low=0.0, open_low=True)
        return lambda round_: length

    return lambda round_: validate.real(
        function, "step_size", step_size(round_), low=0.0, open_low=True
    )
