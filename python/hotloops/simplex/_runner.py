"""How a run goes: arguments in, chunks through a driver, the best point polished, result out."""

from __future__ import annotations

import math
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops._runtime import arrays as array_layer
from hotloops._runtime import executors, threads, validate
from hotloops._runtime.arrays import NUMPY, Library
from hotloops._runtime.progress import Progress
from hotloops.simplex._engine import Job, integrate
from hotloops.simplex._functions import check_sizes, kkt_residual
from hotloops.simplex._objective import Objective, handed_back
from hotloops.simplex._options import make_options
from hotloops.simplex._polish import descend
from hotloops.simplex._result import SimplexResult
from hotloops.simplex._schedules import as_schedule
from hotloops.simplex._setup import normalised, resume, start_points, warn_of
from hotloops.simplex._state import ChainArrays, SimplexState

__all__ = ["run"]

_MAX_CHAINS = 2**32
_MAX_STEPS = 2**48
_PACK = 16  # chains of the widest register
_CUPY = Library("cupy", "cuda")


@dataclass(frozen=True)
class _Start:
    """Where the chains begin, or go on."""

    arrays: ChainArrays
    seed: int
    chain_offset: int
    origin: int
    made: int
    burn_in: int
    library: Library


def run(function: str, objective: Any, **given: Any) -> SimplexResult:
    """Check everything, run, polish the best point."""
    if not isinstance(objective, Objective):
        expectation = "be an objective such as simplex.QuadraticProgram(Q)"
        validate.fail(TypeError, function, "objective", expectation, validate.describe(objective))
    num_steps = validate.integer(function, "num_steps", given["num_steps"], low=1)
    polish_steps = validate.integer(function, "polish_steps", given["polish_steps"], low=0)
    shown = validate.boolean(function, "progress", given["progress"])
    if given["max_seconds"] is not None:
        validate.real(function, "max_seconds", given["max_seconds"], low=0.0)
    _check_executor(function, given["executor"], given["max_seconds"])
    parts = objective.sizes
    if given["sizes"] is not None:
        parts = check_sizes(function, given["sizes"], objective.dim)
    if parts != objective.sizes and objective.terms is not None and objective.terms.constrained:
        expectation = f"be {list(objective.sizes)} as of the objective, which has bounds or caps"
        validate.fail(ValueError, function, "sizes", expectation, str(list(parts)))
    start = _start(function, objective, parts, given)
    job = _job(function, objective, parts, start, given)
    _check_range(function, start, num_steps)
    target = _check_out(function, given["out"], start.arrays)
    if given["executor"] is not None and job.backend == "cuda":
        validate.fail(TypeError, function, "executor", "be None with backend='cuda'", "one")
    if given["executor"] is None:
        with Progress(
            num_steps, enabled=shown, description=function, max_seconds=given["max_seconds"]
        ) as bar:
            chains, made, records = _integrate(job, start, num_steps, bar)
    else:
        chains, records = _spread(given["executor"], job, start, num_steps, shown)
        made = num_steps
    if target is not None:
        _fill(target, chains)
    warn_of(function, chains)
    state = SimplexState(
        arrays=chains,
        kernel=objective.kernel,
        retraction=given["retraction"],
        sizes=parts,
        seed=start.seed,
        chain_offset=start.chain_offset,
        next_step=start.origin + start.made + made,
        num_steps=start.made + made,
        burn_in=start.burn_in,
    )
    trace = np.stack(records) if records else np.empty((0, *chains.x.shape), chains.x.dtype)
    best = _best(objective, chains, parts, polish_steps)
    result = SimplexResult.from_state(
        state, best, trace, complete=made == num_steps, names=objective.names
    )
    return _handed_over(result, start.library, given["out"])


def _check_executor(function: str, executor: Any, max_seconds: float | None) -> None:
    if executor is None:
        return
    executors.check_executor(function, executor)
    if max_seconds is not None:
        expectation = "be None when `executor` is given (its parts would stop at different steps)"
        validate.fail(ValueError, function, "max_seconds", expectation, str(max_seconds))


Records = list[npt.NDArray[Any]]


def _integrate(
    job: Job, start: _Start, num_steps: int, bar: Progress
) -> tuple[ChainArrays, int, Records]:
    """Run all chains; on a CUDA device they stay there meanwhile, unless points are exchanged."""
    chains = start.arrays
    if job.backend != "cuda" or job.swap_every:
        return chains, *integrate(job, chains, start.made, num_steps, bar)
    library = start.library if start.library.device == "cuda" else _CUPY
    with array_layer.stream_context(library):
        moved = ChainArrays(
            **{name: library.xp.asarray(array) for name, array in chains.to_dict().items()}
        )
        made, records = integrate(job, moved, start.made, num_steps, bar)
        home = {name: _home(array) for name, array in moved.to_dict().items()}
        return ChainArrays(**home), made, [_home(record) for record in records]


def _home(array: Any) -> npt.NDArray[Any]:
    return np.asarray(array.get())


def _spread(
    executor: Executor, job: Job, start: _Start, num_steps: int, shown: bool
) -> tuple[ChainArrays, Records]:
    """Run the chains in parts, each of whole ladders of temperatures and whole register packs."""
    chains = start.arrays

    def part(begin: int, end: int) -> tuple[Job, ChainArrays, int, int]:
        return job.rows(begin, end), chains.rows(begin, end), start.made, num_steps

    count = chains.x.shape[0]
    with Progress(count, enabled=shown, description=job.function, unit="chain") as bar:
        parts = executors.map_rows(
            job.function,
            executor,
            count,
            math.lcm(_PACK, job.ladder),
            _run_part,
            part,
            bar.update,
        )
    records = [
        np.concatenate(pieces) for pieces in zip(*(found for _, found in parts), strict=True)
    ]
    return ChainArrays.joined([arrays for arrays, _ in parts]), records


def _run_part(
    job: Job, arrays: ChainArrays, first: int, num_steps: int
) -> tuple[ChainArrays, Records]:
    """Run the chains of one worker; in threads the arrays are views, so they are copied first."""
    own = arrays.copy()
    with Progress(num_steps, enabled=False, description="") as bar:
        _, records = integrate(job, own, first, num_steps, bar)
    return own, records


def _fill(target: Any, chains: ChainArrays) -> None:
    """Write the points into the caller's memory."""
    if isinstance(target, np.ndarray) and not hasattr(target, "get"):
        target[...] = chains.x
        chains.x = target
        return
    with target.device:
        target[...] = _CUPY.xp.asarray(chains.x)


def _handed_over(result: SimplexResult, library: Library, out: Any) -> SimplexResult:
    """Give the points of the chains in the caller's library."""
    if out is not None:
        object.__setattr__(result, "chains_x", out)
    if library.name != "numpy":
        names = ["best_x", "trace"] + (["chains_x"] if out is None else [])
        for name in names:
            exported = handed_back(getattr(result, name), library)
            object.__setattr__(result, name, exported)
    return result


def _start(
    function: str, objective: Objective, sizes: tuple[int, ...], given: dict[str, Any]
) -> _Start:
    chains = validate.integer(function, "num_chains", given["num_chains"], low=1)
    seed = validate.integer(function, "seed", given["seed"], low=0, high=2**64 - 1)
    first_chain = validate.integer(function, "chain_offset", given["chain_offset"], low=0)
    first_step = validate.integer(function, "step_offset", given["step_offset"], low=0)
    burn_in = validate.integer(function, "burn_in", given["burn_in"], low=0)
    dtype = given["dtype"]
    wanted = None if dtype is None else validate.float_dtype(function, "dtype", dtype)
    state = given["state"]
    if state is not None:
        arrays = resume(function, state, objective, sizes, given, wanted)
        return _Start(
            arrays,
            state.seed,
            state.chain_offset,
            state.next_step - state.num_steps,
            state.num_steps,
            state.burn_in,
            objective.library or NUMPY,
        )
    validate.sizes(function, chains, objective.dim, 8)
    x, library = start_points(
        function, objective, sizes, chains, given, wanted, seed, first_chain, first_step
    )
    arrays = ChainArrays.start(
        x,
        covariance=validate.boolean(function, "covariance", given["covariance"]),
        bins=validate.integer(function, "num_bins", given["num_bins"], low=0, high=2**20),
        accelerated=given["retraction"] == "accelerated",
    )
    return _Start(arrays, seed, first_chain, first_step, 0, burn_in, library)


def _job(
    function: str,
    objective: Objective,
    sizes: tuple[int, ...],
    start: _Start,
    given: dict[str, Any],
) -> Job:
    x = start.arrays.x
    options = make_options(
        function,
        x.shape[0],
        sizes,
        x.dtype,
        terms=objective.terms,
        **{
            name: given[name]
            for name in (
                "step_size",
                "inverse_temperature",
                "base_measure",
                "retraction",
                "floor",
                "clip",
                "acceleration",
                "convexity",
            )
            if name in given
        },
    )
    if options.accelerations is not None and given["state"] is None:
        gamma = validate.real(function, "gamma", given["gamma"], low=0.0, open_low=True)
        start.arrays.auxiliary[:, -1] = gamma
    workers = given["num_threads"]
    if given["executor"] is not None and workers is None:
        workers = 1
    swap_every = given["swap_every"]
    ladder = np.size(given["inverse_temperature"])
    if swap_every is not None:
        swap_every = validate.integer(function, "swap_every", swap_every, low=1)
        if ladder < 2:
            expectation = "be a ladder of at least two when `swap_every` is given"
            got = validate.describe(given["inverse_temperature"])
            validate.fail(ValueError, function, "inverse_temperature", expectation, got)
    return Job(
        objective=objective,
        backend=objective.resolve_backend(function, given["backend"], start.library),
        options=options,
        seed=start.seed,
        chain_offset=start.chain_offset,
        origin=start.origin,
        burn_in=start.burn_in,
        trace_every=validate.integer(function, "trace_every", given["trace_every"], low=0),
        swap_every=swap_every or 0,
        ladder=ladder,
        schedule=as_schedule(function, "schedule", given["schedule"]),
        cooling=as_schedule(function, "temperature_schedule", given["temperature_schedule"]),
        num_threads=threads.resolve_num_threads(function, workers),
        function=function,
    )


def _check_range(function: str, start: _Start, num_steps: int) -> None:
    """The counter of the random numbers has 32 bits for chains and 48 for steps."""
    last_chain = start.chain_offset + start.arrays.x.shape[0]
    if last_chain > _MAX_CHAINS:
        raise OverflowError(
            f"{function}: chain_offset + num_chains must be at most 2**32, got {last_chain}"
        )
    last_step = start.origin + start.made + num_steps
    if last_step > _MAX_STEPS:
        raise OverflowError(
            f"{function}: step_offset + num_steps must be at most 2**48, got {last_step}"
        )


def _check_out(function: str, out: Any, chains: ChainArrays) -> Any:
    if out is None:
        return None
    if not hasattr(out, "dtype"):  # a list would be copied and never filled
        validate.fail(TypeError, function, "out", "be an array", validate.describe(out))
    native, _ = array_layer.import_array(function, "out", out)
    return validate.output(function, "out", native, shape=chains.x.shape, dtype=chains.x.dtype)


def _best(
    objective: Objective, chains: ChainArrays, sizes: tuple[int, ...], polish_steps: int
) -> tuple[npt.NDArray[np.float64], float, float]:
    """Return the best point of all chains, its value and its residual, polished if asked for."""
    usable = np.where(np.isfinite(chains.best_value), chains.best_value, np.inf)
    x = chains.best_x[int(usable.argmin())].astype(np.float64)
    x = normalised(x.reshape(1, -1), sizes).reshape(-1)
    if not np.isfinite(usable).any():
        return x, float("nan"), float("nan")
    if polish_steps:
        point = descend(objective, x, sizes, polish_steps)
        return point.x, point.value, point.kkt_residual
    value, gradient = objective.precise_value_and_grad(x)
    return x, value, float(kkt_residual(x, gradient, sizes=sizes))
