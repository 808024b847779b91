"""The loop over rounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops import random
from hotloops._runtime.errors import NumericalError
from hotloops._runtime.progress import Progress
from hotloops.admm._data import ClientData, to_host
from hotloops.admm._dense_hessian import Hessians
from hotloops.admm._optimistic import Optimistic, is_optimistic
from hotloops.admm._schedules import Balancing, Schedule
from hotloops.admm._state import AdmmState
from hotloops.admm._work import (
    NUM_SUMS,
    SLICE,
    Batch,
    Engine,
    ListEngine,
    RoundState,
    Work,
    in_order,
)

__all__ = [
    "HISTORY",
    "Job",
    "Outcome",
    "Penalty",
    "Round",
    "draw_active",
    "objective_at",
    "run_rounds",
]

HISTORY = ("round", "objective", "primal_residual", "dual_residual", "gradient_norm", "sigma")

_STREAM_PARTICIPATION = 8


@dataclass(frozen=True)
class Penalty:
    """``l2 / 2 |w|^2`` and a regularizer, on the parameters that are penalised."""

    l2: float
    regularizer: Any
    size: int
    shape: tuple[int, ...]

    def value(self, w: npt.NDArray[Any]) -> float:
        """Return the penalty of a point."""
        own = to_host(w)[: self.size].astype(np.float64)
        total = 0.5 * self.l2 * float((own * own).sum())
        if self.regularizer is not None:
            total += float(np.sum(self.regularizer.value(own.reshape(self.shape))))
        return total

    def apply(self, w: npt.NDArray[Any], weight: float) -> None:
        """Replace w by the proximal point of the regularizer with step 1 / (weight + l2)."""
        if self.regularizer is None:
            return
        own = w[: self.size].reshape(self.shape)
        own[...] = self.regularizer(own, 1.0 / (weight + self.l2))


@dataclass(frozen=True)
class Round:
    """What a callback sees after a round.

    Attributes
    ----------
    round : int
        Rounds made so far.
    w : ndarray, shape (d,)
        The global point; it changes in place, so copy what you keep.
    objective : float
        NaN when it was not evaluated in this round.
    primal_residual, dual_residual, gradient_norm : float
    sigma : float
        Largest penalty of the round.
    """

    round: int
    w: npt.NDArray[Any]
    objective: float
    primal_residual: float
    dual_residual: float
    gradient_norm: float
    sigma: float


@dataclass(frozen=True)
class Job:
    """All that a run is made of, besides its state."""

    function: str
    data: ClientData
    driver: Engine
    penalty: Penalty
    schedule: Schedule
    scheme: int
    hessians: Hessians | None
    beta: float
    eps: float
    cap: float
    relaxation: float
    batch: Batch
    participants: int
    tol: tuple[float, float] | None
    gradient_tol: float | None
    evaluate_every: int
    record: bool
    callback: Callable[[Round], Any] | None


@dataclass(frozen=True)
class Outcome:
    """What the rounds of a call left behind."""

    state: AdmmState
    history: list[tuple[float, ...]]  # the columns of HISTORY
    iterates: list[npt.NDArray[Any]]
    converged: bool


def draw_active(
    seed: int, round_: int, num_clients: int, count: int
) -> npt.NDArray[np.uint8] | None:
    """Return who takes part in a round: those with the smallest random numbers; None for all."""
    if count >= num_clients:
        return None
    draws = random.uniforms(
        seed, [round_], num_clients, 1, _STREAM_PARTICIPATION, num_threads=1
    ).reshape(-1)
    active = np.zeros(num_clients, np.uint8)
    active[np.argsort(draws, kind="stable")[:count]] = 1
    return active


def objective_at(job: Job, work: Work, w: npt.NDArray[Any]) -> float:
    """Return the whole objective, in one pass over the data."""
    job.driver.gradient(work, Batch(), w, values=work.values)
    losses = work.client_values(job.data.num_clients)
    return in_order(job.data.alpha * losses) + job.penalty.value(w)


def run_rounds(job: Job, start: AdmmState, num_rounds: int, bar: Progress) -> Outcome:
    """Make up to `num_rounds` rounds from a state, whose arrays are advanced in place."""
    loop = _Loop(job, start)
    for _ in range(num_rounds):
        if bar.out_of_time():
            break
        if loop.advance():
            break
        bar.update()
    return Outcome(loop.finish(start), loop.history, loop.iterates, loop.converged)


class _Loop:
    """One call of `run_rounds`."""

    def __init__(self, job: Job, start: AdmmState) -> None:
        data = job.data
        batch_size = None if job.batch.sampling == 0 else job.batch.size
        self.job = job
        self.start = start
        self.made = start.round
        self.balance = start.balance
        self.batch = replace(job.batch)
        optimistic = is_optimistic(job, start)
        by_lists = job.driver if optimistic and isinstance(job.driver, ListEngine) else None
        self.work = Work.prepare(data, batch_size, gradients=by_lists is None)
        self.passes = Work.prepare(data, None, gradients=False)
        self.history: list[tuple[float, ...]] = []
        self.iterates: list[npt.NDArray[Any]] = [to_host(start.w).copy()] if job.record else []
        self.converged = False
        self.before: Any = None
        self.optimistic = None if by_lists is None else Optimistic(by_lists, data, self.work, start)
        slices = -(-data.dim // SLICE)
        with data.library_device():
            sums = data.xp.zeros((slices, NUM_SUMS))
        self.state = RoundState(
            alpha=np.ascontiguousarray(data.alpha),
            sigma=start.sigma.copy(),
            rho=start.rho.copy(),
            scheme=job.scheme,
            beta=job.beta,
            correction=1.0,
            eps=job.eps,
            cap=job.cap,
            relaxation=job.relaxation,
            l2=job.penalty.l2,
            penalised=job.penalty.size,
            w=start.w,
            dual=start.dual,
            second=start.second,
            local=start.local,
            gradient=None,
            sums=sums,
            optimistic=optimistic,
        )

    def finish(self, start: AdmmState) -> AdmmState:
        if self.optimistic is not None:
            self.optimistic.before.write(start.dual)
        return replace(start, round=self.made, balance=self.balance)

    def advance(self) -> bool:
        """Make one round; return whether it was the last one."""
        job, state = self.job, self.state
        growth, rho_growth = job.schedule.factors(self.made)
        np.multiply(self.start.sigma, growth * self.balance, out=state.sigma)
        np.multiply(self.start.rho, rho_growth, out=state.rho)
        state.correction = 1.0 - job.beta ** (self.made + 1)
        self.batch.round = self.made
        state.active = draw_active(
            self.batch.seed, self.made, job.data.num_clients, job.participants
        )
        if self.optimistic is not None:
            whole = job.tol is not None
            sums = self.optimistic.advance(self.work, self.batch, state, whole=whole)
            return self._close(sums.tolist())
        job.driver.gradient(
            self.work, self.batch, state.w, active=state.active, partials=self.work.partials
        )
        if job.penalty.regularizer is not None:
            self.before = to_host(state.w).astype(np.float64)
        if job.hessians is None:
            job.driver.round(self.work, state)
            sums = to_host(state.sums).sum(axis=0)
        else:
            with np.errstate(over="ignore", invalid="ignore"):  # `_close` looks for it
                sums = _round_with_hessians(job, self.work, state)
        return self._close(sums.tolist())

    def _close(self, sums: list[float]) -> bool:
        job, state = self.job, self.state
        weight = in_order(state.alpha * state.sigma)
        if job.penalty.regularizer is not None:
            job.penalty.apply(state.w, weight)
            after = to_host(state.w).astype(np.float64)
            moved = after - self.before
            sums[1], sums[2] = float((moved * moved).sum()), float((after * after).sum())
        self.made += 1
        primal, dual = sums[0] ** 0.5, weight * sums[1] ** 0.5
        if not np.isfinite(sums[0] + sums[2]):
            message = (
                f"{job.function}: the iterate was not finite after round {self.made}; "
                "a larger sigma takes shorter steps"
            )
            raise NumericalError(message, step=self.made)
        entry = Round(
            round=self.made,
            w=state.w,
            objective=self._evaluate(),
            primal_residual=primal,
            dual_residual=dual,
            gradient_norm=sums[4] ** 0.5,
            sigma=float(state.sigma.max()),
        )
        self.history.append(
            (self.made, entry.objective, primal, dual, entry.gradient_norm, entry.sigma)
        )
        if job.record:
            self.iterates.append(to_host(state.w).copy())
        self._balance(primal, dual)
        self.converged = self._small(entry, sums)
        asked = job.callback is not None and job.callback(entry) is True
        return self.converged or asked

    def _evaluate(self) -> float:
        every = self.job.evaluate_every
        if every == 0 or self.made % every != 0:
            return float("nan")
        return objective_at(self.job, self.passes, self.state.w)

    def _balance(self, primal: float, dual: float) -> None:
        schedule = self.job.schedule
        if isinstance(schedule, Balancing) and self.made % schedule.every == 0:
            changed = self.balance * schedule.change(primal, dual)
            self.balance = max(changed, schedule.lowest)

    def _small(self, entry: Round, sums: list[float]) -> bool:
        job = self.job
        if job.gradient_tol is not None and entry.gradient_norm <= job.gradient_tol:
            return True
        if job.tol is None:
            return False
        absolute, relative = job.tol
        floor = absolute * job.data.dim**0.5
        points = max(sums[2], sums[5]) ** 0.5
        return bool(
            entry.primal_residual <= floor + relative * points
            and entry.dual_residual <= floor + relative * sums[3] ** 0.5
        )


def _round_with_hessians(job: Job, work: Work, state: RoundState) -> npt.NDArray[np.float64]:
    """Do what the kernel of a round does, with directions that come from linear algebra."""
    assert job.hessians is not None
    gradients = work.client_gradients(job.data.num_clients)
    w = state.w.astype(np.float64)
    acting = np.ones(job.data.num_clients, bool) if state.active is None else state.active > 0
    gradients[~acting] = 0.0  # nobody computed them
    directions = job.hessians.directions(state, gradients)
    centre = np.broadcast_to(w, directions.shape)
    if state.local is not None:
        centre = state.relaxation * w + (1.0 - state.relaxation) * state.local
    local = centre - directions
    if state.local is not None:
        local = np.where(acting[:, None], local, state.local)
        state.local[...] = local
    changed = state.dual - state.sigma[:, None] * directions
    state.dual[...] = np.where(acting[:, None], changed, state.dual)
    total = state.alpha @ (state.sigma[:, None] * local + state.dual)
    l2 = np.where(np.arange(w.size) < state.penalised, state.l2, 0.0)
    state.w[...] = total / (state.alpha @ state.sigma + l2)
    pooled = state.alpha @ gradients + l2 * w
    after, dual = state.w.astype(np.float64), state.alpha @ state.dual
    return np.array(
        [
            state.alpha @ ((local - w) ** 2).sum(axis=1),
            ((after - w) ** 2).sum(),
            (after**2).sum(),
            (dual**2).sum(),
            (pooled**2).sum(),
            state.alpha @ (local**2).sum(axis=1),
        ]
    )
