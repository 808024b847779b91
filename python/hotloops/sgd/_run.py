"""The loop itself: arguments in, chunks through a driver, result out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from typing import Any

import numpy as np

from hotloops._runtime import arrays, executors
from hotloops._runtime.progress import Progress
from hotloops.sgd._engine import Job, Segment, integrate
from hotloops.sgd._problem import Problem
from hotloops.sgd._result import SGDResult, warn_of
from hotloops.sgd._rules import Ball, Box, PiecewiseConstant, PolynomialDecay
from hotloops.sgd._setup import Setup, prepare
from hotloops.sgd._state import ChainArrays, SGDState
from hotloops.sgd._statistics import StatisticsArrays

__all__ = ["run"]

# Parts of an ensemble begin at multiples of the widest register pack.
_GRANULARITY = 16


def run(
    problem: Problem,
    step_sizes: Any,
    num_steps: int,
    *,
    burn_in: int | None = None,
    num_chains: int = 1,
    theta0: Any = None,
    seed: int = 0,
    chain_offset: int = 0,
    step_offset: int = 0,
    dtype: Any = None,
    checkpoints: Any = None,
    state: SGDState | None = None,
    out: Any = None,
    backend: str | None = None,
    num_threads: int | None = None,
    progress: bool = False,
    max_seconds: float | None = None,
    executor: Executor | None = None,
    statistics: Sequence[str] | None = None,
    batch_length: int | None = None,
    schedule: PolynomialDecay | PiecewiseConstant | None = None,
    clip_norm: float | None = None,
    weight_decay: float = 0.0,
    projection: Ball | Box | None = None,
) -> SGDResult:
    """Run an ensemble of constant-step SGD chains and average it.

    Every chain makes `burn_in` steps ``t_{k+1} = t_k - gamma g(t_k, xi_{k+1})`` that are not
    averaged, then `num_steps` that are. Each of the J step sizes has a copy of the chain of its
    own; the copies of one chain see the same noise, which is what makes the extrapolated average
    as precise as the plain one.

    Parameters
    ----------
    problem : Problem
        Such as `Quadratic`, `LeastSquares`, `Logistic`, `StreamingLogistic`, `MarkovLSA` or
        `Custom`.
    step_sizes : float or array_like, shape (J,) or (C, J)
        Positive and distinct. ``(gamma, 2 gamma)`` with ``gamma = num_steps ** -0.5`` is the choice
        of the paper. (C, J): every chain has its own, with the bits of a run of its own.
    num_steps : int
        Averaged steps, at least 1.
    burn_in : int, optional
        Steps before averaging. Default `num_steps`, the convention of the paper; it should be well
        above ``1 / (gamma mu)``. With `state`, the burn-in was chosen by the first run.
    num_chains : int
        Independent chains C. Default 1, or as many as `step_sizes` has rows.
    theta0 : array_like, shape (d,), (C, d) or (C, J, d), optional
        Where the chains start. Default: zero. It is never averaged.
    seed : int
        Key of the random numbers, 0 to 2**64 - 1. Default 0.
    chain_offset : int
        Index of the first chain in the stream: chains 10 to 19 of a large ensemble are
        ``num_chains=10, chain_offset=10``, with the same bits. Default 0.
    step_offset : int
        Index of the first step in the stream. Default 0.
    dtype : {"float32", "float64"}, optional
        Precision of the state. Default: that of `theta0`, else of the problem's data, else float64.
        Averages are float64 in any case. float32 is about twice as fast.
    checkpoints : array_like of int, optional
        Numbers of averaged steps, increasing, at most `num_steps`, after which the averages and
        iterates are kept. With `state` they count from the start of the averaging, as in the run
        that made it.
    state : SGDState, optional
        ``result.state`` of an earlier run, to go on from: `num_steps` more steps enter the same
        averages, and the result equals that of one long run bit for bit. Seed, chains and step
        sizes are those of the state.
    out : array, shape (C, J, d), float64, optional
        Memory for the averages.
    backend : {"cpp", "cuda", "numba"}, optional
        Default: "cuda" for arrays on a GPU, else "cpp".
    num_threads : int, optional
        Default: `hotloops.get_num_threads`, or 1 in each part when an `executor` is given.
    progress : bool
        Show a progress bar. Default False.
    max_seconds : float, optional
        Stop after about this time; the result holds the steps made so far, has ``complete=False``,
        and can be gone on from.
    executor : concurrent.futures.Executor, optional
        Spread the chains over its workers: processes, or machines with the executor of a dask
        client. The result has the same bits.
    statistics : sequence of str, optional
        What to sum beside the iterates, for every step size and for the extrapolated path:
        "batch_means" (1024 J d bytes for each chain) and "random_scaling" (8 (2 J + 1) d) for
        confidence intervals, "variance" (8 (J + 1) d) or "covariance" (4 (J + 1) d (d + 1)) of the
        iterates, "plug_in" (8 d (d + 1)) for losses over rows or streams of features; any of them
        takes 8 J d more. ("mean",) sums the iterates alone. Default: ("mean", "batch_means",
        "random_scaling"), without "batch_means" where they would fill more than 256 MB. With
        `state`, the first run chose.
    batch_length : int, optional
        Steps of one stored batch. Default: the smallest power of two that makes at most 128
        batches of the steps so far; the batches of a run that goes on are joined in pairs. A length
        of your own takes 8 J d bytes for each batch and chain.
    schedule : PolynomialDecay or PiecewiseConstant, optional
        What the step sizes are multiplied by, step by step. Default: constant steps, the setting
        of the theory.
    clip_norm : float, optional
        Gradients longer than this are shortened to it. Default: never.
    weight_decay : float
        Adds ``weight_decay t`` to the (clipped) gradient. Default 0.
    projection : Ball or Box, optional
        Where iterates are pulled back to after each step. Default: nowhere.

    Returns
    -------
    SGDResult
        Its arrays are of the library that the problem's data or `theta0` came from.

    Raises
    ------
    TypeError
        Arguments of the wrong type, precision or device.
    ValueError
        Shapes, signs, non-finite values, equal step sizes, a constant step size of 2 / L or more
        on a quadratic, memory that overlaps, statistics that the problem does not have, or a
        `state` that does not fit.
    OverflowError
        More than 2**32 chains or 2**48 steps: the random numbers' counter ends there.
    hotloops.BackendUnavailable
        The backend cannot run here.

    Warns
    -----
    RuntimeWarning
        A step size of 1 / L or more; a burn-in with ``gamma mu burn_in < 5`` at constant steps.
    hotloops.DivergenceWarning
        Some chains diverged; see `SGDResult.flags`.

    Notes
    -----
    Class A: the same bits for every number of threads, instruction set and backend, and for a
    chain alone or in a batch. The cost is that of the problem's step times
    C (num_steps + burn_in). Memory is that of state, statistics and results, for each chain
    J d (8 + the bytes of `dtype`) plus what `statistics` says; random numbers are not stored.

    A step is: gradient, clipping, weight decay, schedule, update, projection, in this order.
    Rules and statistics are part of the `state`: a run that goes on may repeat these keywords but
    not change them.

    Examples
    --------
    >>> from hotloops import sgd
    >>> problem = sgd.Cosine(phi=1.0, sigma=1.0)
    >>> run = sgd.run(problem, [0.05, 0.1], num_steps=10_000, num_chains=64, seed=7)
    >>> run.mean.shape, run.extrapolated.shape
    ((64, 2, 1), (64, 1))
    >>> low, high = run.confidence_interval(level=0.95)
    >>> low.shape
    (64, 1)
    >>> more = sgd.run(problem, [0.05, 0.1], num_steps=10_000, state=run.state)
    >>> more.num_steps
    20000
    """
    setup = prepare(
        problem,
        step_sizes,
        num_steps,
        burn_in=burn_in,
        num_chains=num_chains,
        theta0=theta0,
        seed=seed,
        chain_offset=chain_offset,
        step_offset=step_offset,
        dtype=dtype,
        checkpoints=checkpoints,
        state=state,
        out=out,
        backend=backend,
        num_threads=num_threads,
        progress=progress,
        max_seconds=max_seconds,
        executor=executor,
        statistics=statistics,
        batch_length=batch_length,
        schedule=schedule,
        clip_norm=clip_norm,
        weight_decay=weight_decay,
        projection=projection,
    )
    with arrays.stream_context(setup.library):
        if executor is None:
            done, snapshots = _run_here(setup)
        else:
            done, snapshots = _run_on(executor, setup)
        return _finish(setup, done, snapshots)


def _segments(setup: Setup) -> Iterator[Segment]:
    """Cut the run where averaging begins and where snapshots are taken."""
    if setup.burn_in:
        yield Segment(setup.burn_in, accumulate=False, snapshot=False)
    done = setup.num_averaged
    for stop in setup.checkpoints:
        yield Segment(stop - done, accumulate=True, snapshot=True)
        done = stop
    end = setup.num_averaged + setup.num_steps
    if end > done:
        yield Segment(end - done, accumulate=True, snapshot=False)


Snapshots = list[tuple[Any, Any]]


def _run_here(setup: Setup) -> tuple[int, Snapshots]:
    segments = list(_segments(setup))
    total = sum(segment.num_steps for segment in segments)
    with Progress(
        total,
        enabled=setup.progress,
        description=f"sgd {setup.job.kernel}",
        max_seconds=setup.max_seconds,
    ) as bar:
        return integrate(setup.job, setup.arrays, segments, bar, setup.statistics)


def _run_on(executor: Executor, setup: Setup) -> tuple[int, Snapshots]:
    segments = list(_segments(setup))
    num_chains = setup.arrays.theta.shape[0]

    def part(
        begin: int, end: int
    ) -> tuple[Job, ChainArrays, StatisticsArrays | None, list[Segment]]:
        sums = None if setup.statistics is None else setup.statistics.rows(begin, end)
        return setup.job.at(begin), setup.arrays.rows(begin, end), sums, segments

    with Progress(
        num_chains, enabled=setup.progress, description=f"sgd {setup.job.kernel}", unit="chain"
    ) as bar:
        parts = executors.map_rows(
            "run", executor, num_chains, _GRANULARITY, _run_part, part, bar.update
        )
    setup.arrays.replace([arrays_ for arrays_, _, _ in parts])
    if setup.statistics is not None:
        setup.statistics.replace([sums for _, sums, _ in parts if sums is not None])
    snapshots = [
        (np.concatenate([cut[0] for cut in cuts]), np.concatenate([cut[1] for cut in cuts]))
        for cuts in zip(*(snapshots for _, _, snapshots in parts), strict=True)
    ]
    return sum(segment.num_steps for segment in segments), snapshots


def _run_part(
    job: Job,
    chain_arrays: ChainArrays,
    statistics: StatisticsArrays | None,
    segments: list[Segment],
) -> tuple[ChainArrays, StatisticsArrays | None, Snapshots]:
    """Run the chains of one worker; in threads the arrays are views, so they are copied first."""
    own = chain_arrays.copy()
    sums = None if statistics is None else statistics.copy()
    total = sum(segment.num_steps for segment in segments)
    with Progress(total, enabled=False, description="") as bar:
        _, snapshots = integrate(job, own, segments, bar, sums)
    return own, sums, snapshots


def _finish(setup: Setup, done: int, snapshots: Snapshots) -> SGDResult:
    burnt = min(done, setup.burn_in)
    averaged = setup.num_averaged + done - burnt
    if setup.statistics is not None:
        setup.statistics.resize_path(setup.statistics.num_batches, setup.library.xp)
    state = SGDState(
        arrays=setup.arrays,
        step_sizes=setup.step_sizes,
        kernel=setup.job.kernel,
        seed=setup.job.seed,
        chain_offset=setup.job.chain_offset,
        next_step=setup.job.first_step + done,
        burn_in_left=setup.burn_in - burnt,
        num_averaged=averaged,
        rules=setup.job.rules,
        statistics_names=setup.statistics_names,
        batch_length=setup.batch_length,
        statistics=setup.statistics,
        curvature=setup.curvature,
        plug_in=setup.plug_in,
    )
    complete = done == setup.burn_in + setup.num_steps
    result = SGDResult.from_state(
        state,
        library=setup.library,
        complete=complete,
        checkpoints=setup.checkpoints[: len(snapshots)],
        snapshots=snapshots,
        out=setup.out,
    )
    warn_of(result)
    return result
