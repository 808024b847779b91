"""Everything that `run` checks before any work."""

from __future__ import annotations

import itertools
import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops._runtime import arrays, dispatch, executors, threads, validate
from hotloops._runtime.arrays import NUMPY, Library
from hotloops.sgd._custom import Custom
from hotloops.sgd._engine import Job
from hotloops.sgd._extrapolation import check_step_sizes, weights_of
from hotloops.sgd._problem import Problem, to_host
from hotloops.sgd._rules import Rules
from hotloops.sgd._setup_rules import prepare_rules
from hotloops.sgd._setup_statistics import prepare_statistics
from hotloops.sgd._state import ChainArrays, SGDState, check_state
from hotloops.sgd._statistics import StatisticsArrays

__all__ = ["Setup", "prepare"]

_MAX_CHAINS = 2**32
_MAX_STEPS = 2**48
_MIN_BURN_IN = 5.0  # of gamma mu burn_in: what is left of the start has then decayed to exp(-5)


@dataclass
class Setup:
    """A run that may begin."""

    job: Job
    arrays: ChainArrays
    step_sizes: npt.NDArray[np.float64]
    burn_in: int
    num_steps: int
    num_averaged: int
    checkpoints: list[int]
    library: Library
    out: Any
    progress: bool
    max_seconds: float | None
    statistics_names: tuple[str, ...]
    batch_length: int | None
    statistics: StatisticsArrays | None
    curvature: float | None

    @property
    def plug_in(self) -> tuple[int, float] | None:
        """Return what the plug-in estimate has to know of the problem."""
        if "plug_in" not in self.statistics_names:
            return None
        problem: Any = self.job.problem
        return getattr(problem, "batch_size", 1), problem.l2


def prepare(
    problem: Problem,
    step_sizes: Any,
    num_steps: int,
    *,
    burn_in: int | None,
    num_chains: int,
    theta0: Any,
    seed: int,
    chain_offset: int,
    step_offset: int,
    dtype: Any,
    checkpoints: Any,
    state: SGDState | None,
    out: Any,
    backend: str | None,
    num_threads: int | None,
    progress: bool,
    max_seconds: float | None,
    executor: Any,
    statistics: Any,
    batch_length: Any,
    schedule: Any,
    clip_norm: Any,
    weight_decay: Any,
    projection: Any,
) -> Setup:
    """Check the arguments of `run` and allocate the state."""
    if not isinstance(problem, Problem):
        expectation = "be a problem such as sgd.Logistic(X, y)"
        validate.fail(TypeError, "run", "problem", expectation, validate.describe(problem))
    steps = check_step_sizes("run", step_sizes, per_chain=True)
    weights = weights_of("run", steps, stacklevel=4)
    count = validate.integer("run", "num_steps", num_steps, low=1)
    validate.boolean("run", "progress", progress)
    if max_seconds is not None:
        validate.real("run", "max_seconds", max_seconds, low=0.0)
    _check_executor(executor, max_seconds)
    library, resolved = _place(problem, theta0, state, out, backend, executor)
    start = _start(
        state, problem, steps, num_chains, seed, chain_offset, step_offset, burn_in, count
    )
    _check_range(problem, start, count)
    rules = prepare_rules(
        problem,
        clip_norm=clip_norm,
        weight_decay=weight_decay,
        projection=projection,
        schedule=schedule,
        first_step=start.next_step,
        state=state,
    )
    chains = _allocate(problem, steps, start, theta0, state, dtype, library)
    _check_out(out, chains, problem, theta0, state)
    _check_precision(chains)
    _check_stability(problem, steps, start, rules)
    with arrays.stream_context(library):
        names, length, sums = prepare_statistics(
            problem,
            statistics,
            batch_length,
            chains=chains,
            weights=weights,
            rules=rules,
            num_steps=count,
            limited=max_seconds is not None,
            state=state,
            xp=library.xp,
        )
    workers = 1 if executor is not None and num_threads is None else num_threads
    job = Job(
        problem=problem,
        backend=resolved,
        dtype=np.dtype(str(chains.theta.dtype)),
        seed=start.seed,
        chain_offset=start.chain_offset,
        first_step=start.next_step,
        num_threads=threads.resolve_num_threads("run", workers),
        rules=rules,
    )
    return Setup(
        job=job,
        arrays=chains,
        step_sizes=steps,
        burn_in=start.burn_in,
        num_steps=count,
        num_averaged=start.num_averaged,
        checkpoints=_check_checkpoints(checkpoints, start.num_averaged, count),
        library=library,
        out=out,
        progress=progress,
        max_seconds=max_seconds,
        statistics_names=names,
        batch_length=length,
        statistics=sums,
        curvature=_curvature(problem, rules),
    )


@dataclass(frozen=True)
class _Start:
    num_chains: int
    seed: int
    chain_offset: int
    next_step: int
    burn_in: int
    num_averaged: int
    resumed: bool


def _start(
    state: SGDState | None,
    problem: Problem,
    steps: npt.NDArray[np.float64],
    num_chains: int,
    seed: int,
    chain_offset: int,
    step_offset: int,
    burn_in: int | None,
    num_steps: int,
) -> _Start:
    chains = validate.integer("run", "num_chains", num_chains, low=1)
    key = validate.integer("run", "seed", seed, low=0, high=2**64 - 1)
    first_chain = validate.integer("run", "chain_offset", chain_offset, low=0)
    first_step = validate.integer("run", "step_offset", step_offset, low=0)
    if steps.ndim == 2:
        if chains not in (1, steps.shape[0]):
            expectation = f"have shape (J,) or (C, J) with C = {chains} as in `num_chains`"
            validate.fail(ValueError, "run", "step_sizes", expectation, str(steps.shape))
        chains = int(steps.shape[0])
    if state is None:
        burn = num_steps if burn_in is None else burn_in
        burn = validate.integer("run", "burn_in", burn, low=0)
        return _Start(chains, key, first_chain, first_step, burn, 0, False)
    _check_state(state, problem, steps)
    if burn_in is not None:
        expectation = "be None when `state` is given (the first run chose it)"
        validate.fail(ValueError, "run", "burn_in", expectation, str(burn_in))
    own_chains = int(state.arrays.theta.shape[0])
    for name, given, default, known in (
        ("num_chains", chains, 1, own_chains),
        ("seed", key, 0, state.seed),
        ("chain_offset", first_chain, 0, state.chain_offset),
        ("step_offset", first_step, 0, state.next_step),
    ):
        if given not in (default, known):
            validate.fail(ValueError, "run", name, f"be {known} as in `state`", str(given))
    return _Start(
        own_chains,
        state.seed,
        state.chain_offset,
        state.next_step,
        state.burn_in_left,
        state.num_averaged,
        True,
    )


def _check_state(state: object, problem: Problem, steps: npt.NDArray[np.float64]) -> None:
    if not isinstance(state, SGDState):
        expectation = "be the `state` of a result of run"
        validate.fail(TypeError, "run", "state", expectation, validate.describe(state))
    check_state("run", state)
    if state.kernel != problem.kernel or state.arrays.theta.shape[2] != problem.dim:
        expectation = f"belong to a {problem.kernel} problem with dim = {problem.dim}"
        got = f"one of a {state.kernel} problem with dim = {state.arrays.theta.shape[2]}"
        validate.fail(ValueError, "run", "state", expectation, got)
    if state.arrays.auxiliary.shape[1] != problem.num_auxiliary:
        expectation = f"carry {problem.num_auxiliary} numbers for each chain"
        got = str(state.arrays.auxiliary.shape[1])
        validate.fail(ValueError, "run", "state", expectation, got)
    if not np.array_equal(state.step_sizes, steps):
        expectation = f"be {state.step_sizes.tolist()} as in `state`"
        validate.fail(ValueError, "run", "step_sizes", expectation, str(steps.tolist()))


def _check_executor(executor: Any, max_seconds: float | None) -> None:
    if executor is None:
        return
    executors.check_executor("run", executor)
    if max_seconds is not None:
        expectation = "be None when `executor` is given (its parts would stop at different steps)"
        validate.fail(ValueError, "run", "max_seconds", expectation, str(max_seconds))


def _place(
    problem: Problem,
    theta0: Any,
    state: SGDState | None,
    out: Any,
    backend: str | None,
    executor: Any,
) -> tuple[Library, str]:
    """Return the library of the answers and the backend."""
    placed: dict[str, Any] = {}
    if theta0 is not None and hasattr(theta0, "dtype"):
        placed["theta0"] = theta0
    if state is not None:
        placed["state"] = getattr(getattr(state, "arrays", None), "theta", None)
    if out is not None:
        placed["out"] = out
    library = problem.library
    if placed:
        common = arrays.common_library("run", placed)
        if common.device not in ("cpu", "cuda"):  # says so
            arrays.import_array("run", *next(iter(placed.items())))
        if library is not None and common.place != library.place:
            raise TypeError(
                f"run: `problem` and `{next(iter(placed))}` must live on the same device, "
                f"got {library.place} and {common.place}"
            )
        if library is None or library.name == "numpy":
            library = common
    if isinstance(problem, Custom) and problem.kind in ("njit", "callable"):
        return library or NUMPY, _custom_backend(problem, backend)
    if library is None and dispatch.asked_backend("run", backend) == "cuda":
        library = Library("cupy", "cuda")
    library = library or NUMPY
    resolved = dispatch.resolve_backend("run", backend, library.device)
    if executor is not None and library.device != "cpu":
        validate.fail(TypeError, "run", "executor", "be None for CUDA arrays", "an executor")
    if isinstance(problem, Custom) and problem.kind == "address" and resolved != "cpp":
        expectation = "be 'cpp' for a compiled gradient"
        validate.fail(TypeError, "run", "backend", expectation, repr(resolved))
    return library, resolved


def _custom_backend(problem: Custom, backend: str | None) -> str:
    wanted = {"njit": "numba", "callable": "callable"}[problem.kind]
    if backend is not None:
        validate.choice("run", "backend", backend, dispatch.BACKENDS)
    if backend not in (None, wanted) and problem.kind == "njit":
        expectation = "be 'numba' or None for an @njit gradient (use @cfunc for 'cpp')"
        validate.fail(TypeError, "run", "backend", expectation, repr(backend))
    if backend is not None and problem.kind == "callable":
        expectation = "be None for a Python callable"
        validate.fail(TypeError, "run", "backend", expectation, repr(backend))
    if wanted == "numba":
        dispatch.numba()
    return wanted


def _check_range(problem: Problem, start: _Start, num_steps: int) -> None:
    """The counter of the random numbers has 32 bits for chains and 48 for steps."""
    last_chain = start.chain_offset + start.num_chains
    if last_chain > _MAX_CHAINS:
        raise OverflowError(
            f"run: chain_offset + num_chains must be at most 2**32, got {last_chain}"
        )
    last_step = start.next_step + start.burn_in + num_steps
    if last_step > _MAX_STEPS:
        raise OverflowError(
            f"run: step_offset + burn_in + num_steps must be at most 2**48, got {last_step}"
        )
    validate.sizes("run", last_step + 1, getattr(problem, "batch_size", 1))


def _allocate(
    problem: Problem,
    steps: npt.NDArray[np.float64],
    begin: _Start,
    theta0: Any,
    state: SGDState | None,
    dtype: Any,
    library: Library,
) -> ChainArrays:
    wanted = None if dtype is None else validate.float_dtype("run", "dtype", dtype)
    if state is not None:
        return _resume(state, theta0, wanted)
    shape = (begin.num_chains, steps.shape[-1], problem.dim)
    validate.sizes("run", *shape, 8)
    start, typed = None, False
    if theta0 is not None:
        start, _ = arrays.import_array("run", "theta0", theta0)
        typed = hasattr(theta0, "dtype") and start.dtype.kind == "f"
        if wanted is None and typed:
            wanted = np.dtype(str(start.dtype))
    precision = wanted or problem.dtype or np.dtype(np.float64)
    _check_compiled_precision(problem, precision)
    with arrays.stream_context(library):
        xp = library.xp
        if start is None:
            theta = xp.zeros(shape, precision)
        else:
            checked = validate.array("run", "theta0", start, dtype=precision, exact_dtype=typed)
            theta = _broadcast(checked, shape, problem.divergence_limit, xp)
        with np.errstate(over="ignore"):  # _check_precision looks at it
            own_steps = steps.astype(precision)
        return ChainArrays(
            theta=theta,
            sums=xp.zeros(shape, np.float64),
            flags=xp.zeros(shape[:2], np.uint8),
            diverged_at=xp.full(shape[:2], -1, np.int64),
            step_sizes=xp.asarray(own_steps),
            auxiliary=problem.initial_auxiliary(
                begin.seed, begin.chain_offset, begin.num_chains, begin.next_step, precision, xp
            ),
        )


def _resume(state: SGDState, theta0: Any, wanted: np.dtype[Any] | None) -> ChainArrays:
    if theta0 is not None:
        expectation = "be None when `state` is given"
        validate.fail(ValueError, "run", "theta0", expectation, validate.describe(theta0))
    own = np.dtype(str(state.arrays.theta.dtype))
    if wanted not in (None, own):
        validate.fail(TypeError, "run", "dtype", f"be {own} as in `state`", str(wanted))
    return state.arrays.copy()


def _broadcast(start: Any, shape: tuple[int, int, int], limit: float, xp: Any) -> Any:
    """Return theta (C, J, d) from (d,), (C, d) or (C, J, d)."""
    num_chains, num_steps, dim = shape
    allowed = {(dim,): (1, 1, dim), (num_chains, dim): (num_chains, 1, dim), shape: shape}
    given = tuple(start.shape)
    if given not in allowed:
        expectation = (
            f"have shape (d,), (C, d) or (C, J, d) with C = {num_chains}, J = {num_steps}, "
            f"d = {dim}"
        )
        validate.fail(ValueError, "run", "theta0", expectation, str(given))
    largest = float(abs(start).max())
    if largest > limit:
        expectation = f"stay within the divergence limit {limit:g}"
        validate.fail(ValueError, "run", "theta0", expectation, f"{largest:g}")
    return xp.ascontiguousarray(xp.broadcast_to(start.reshape(allowed[given]), shape)).copy()


def _check_compiled_precision(problem: Problem, precision: np.dtype[Any]) -> None:
    if isinstance(problem, Custom) and problem.kind == "address" and precision != problem.dtype:
        expectation = f"be {problem.dtype} as in the signature of the compiled gradient"
        validate.fail(TypeError, "run", "dtype", expectation, str(precision))


def _check_precision(chains: ChainArrays) -> None:
    """Step sizes must stay finite, positive and distinct in the precision of the state."""
    steps = to_host(chains.step_sizes)
    good = np.isfinite(steps) & (steps > 0)
    if not good.all() or (np.diff(np.sort(steps, axis=-1)) == 0).any():
        expectation = f"stay finite, positive and distinct in {steps.dtype}"
        validate.fail(ValueError, "run", "step_sizes", expectation, str(steps.tolist()))


def _check_out(
    out: Any, chains: ChainArrays, problem: Problem, theta0: Any, state: SGDState | None
) -> None:
    if out is None:
        return
    if not hasattr(out, "dtype"):  # a list would be copied and never filled
        validate.fail(TypeError, "run", "out", "be an array", validate.describe(out))
    native, _ = arrays.import_array("run", "out", out)
    validate.output("run", "out", native, shape=tuple(chains.theta.shape), dtype=np.float64)
    inputs = problem.inputs()
    if theta0 is not None:
        inputs["theta0"] = arrays.import_array("run", "theta0", theta0)[0]
    if state is not None:
        inputs |= {"state.arrays.sums": state.arrays.sums, "state.arrays.theta": state.arrays.theta}
    validate.no_overlap("run", {"out": native}, inputs)


def _bounds(problem: Problem, rules: Rules) -> tuple[float | None, float | None]:
    """Return (mu, L) of the objective together with the weight decay."""
    mu, smoothness = problem.curvature_bounds()
    decay = rules.weight_decay
    return (
        (mu + decay if mu is not None else decay or None),
        (None if smoothness is None else smoothness + decay),
    )


def _curvature(problem: Problem, rules: Rules) -> float | None:
    return _bounds(problem, rules)[0]


def _check_stability(
    problem: Problem, steps: npt.NDArray[np.float64], start: _Start, rules: Rules
) -> None:
    mu, smoothness = _bounds(problem, rules)
    decay = 1.0 if rules.schedule is None else rules.schedule.largest
    largest, smallest = float(steps.max()) * decay, float(steps.min())
    # Clipped, projected and decreasing steps may begin beyond the limit and come back.
    bare = rules.schedule is None and rules.projection is None and rules.clip_norm == math.inf
    quadratic = bare and problem.kernel.startswith("quad")
    if smoothness is not None and largest * smoothness >= 2 and quadratic:
        expectation = f"stay below 2 / L = {2 / smoothness:g}, where the chain diverges"
        validate.fail(ValueError, "run", "step_sizes", expectation, f"{largest:g}")
    if smoothness is not None and largest * smoothness >= 1:
        warnings.warn(
            f"run: the step size {largest:g} is not below 1 / L = {1 / smoothness:g}; the theory "
            "of averaging and extrapolation needs gamma L < 1",
            RuntimeWarning,
            stacklevel=4,
        )
    if mu is None or start.resumed or rules.schedule is not None:
        return
    rate = smallest * mu
    if rate * start.burn_in < _MIN_BURN_IN:
        # gamma mu may round to zero; then no number of steps is enough.
        enough = np.ceil(_MIN_BURN_IN / rate) if rate > 0 else math.inf
        warnings.warn(
            f"run: burn_in = {start.burn_in} is short for gamma mu = {rate:g}: what is left of "
            f"the start is of order exp(-{rate * start.burn_in:.2g}); {enough:.15g} steps would be "
            "enough",
            RuntimeWarning,
            stacklevel=4,
        )


def _check_checkpoints(checkpoints: Any, num_averaged: int, num_steps: int) -> list[int]:
    if checkpoints is None:
        return []
    listed = list(checkpoints) if isinstance(checkpoints, range) else checkpoints
    host, _ = arrays.import_array("run", "checkpoints", listed)
    stops = validate.array(
        "run", "checkpoints", host, shape=("k",), dtype=np.int64, positive=True
    ).tolist()
    end = num_averaged + num_steps
    if any(b <= a for a, b in itertools.pairwise(stops)):
        validate.fail(ValueError, "run", "checkpoints", "increase strictly", str(stops))
    if stops[0] <= num_averaged or stops[-1] > end:
        expectation = f"lie in [{num_averaged + 1}, {end}]"
        validate.fail(ValueError, "run", "checkpoints", expectation, str(stops))
    return [int(stop) for stop in stops]
