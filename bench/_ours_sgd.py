"""The loops of `_peers_sgd` as a user of hotloops writes them."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _peers_sgd import Call, Logistic, Quadratic
from _peers_streaming import Markov, Streaming

from hotloops import sgd


def quadratic(case: Quadratic, backend: str, threads: int) -> Call:
    """Return a run of the built-in quadratic."""
    problem = sgd.Quadratic(case.curvature, case.minimizer, case.noise_scale)
    return _run(problem, case, backend, threads)


def logistic(case: Logistic, backend: str, threads: int) -> Call:
    """Return a run of the built-in logistic loss, one row in each step."""
    problem = sgd.Logistic(case.features, case.labels, l2=case.l2)
    return _run(problem, case, backend, threads)


def streaming(case: Streaming, backend: str, threads: int) -> Call:
    """Return a run of the logistic model whose features are made in the loop."""
    problem = sgd.StreamingLogistic(case.truth, scale=case.scale, l2=case.l2)
    return _run(problem, case, backend, threads)


def markov(case: Markov, backend: str, threads: int) -> Call:
    """Return a run of the linear approximation driven by a Markov chain."""
    problem = sgd.MarkovLSA(case.matrices, case.vectors, case.transitions)
    return _run(problem, case, backend, threads)


def compiled_quadratic(case: Quadratic, threads: int) -> Call:
    """Return a run of the quadratic with a gradient that Numba compiled to an address."""
    from numba import carray, cfunc, types

    a, center, scale = case.curvature, case.minimizer, case.noise_scale
    dim = a.size
    pointer = types.CPointer(types.float32)
    signature = types.int32(pointer, pointer, types.int64, types.voidptr, pointer)

    @cfunc(signature)
    def gradient(theta, noise, step, data, out):  # type: ignore[no-untyped-def]
        t, xi, g = carray(theta, dim), carray(noise, dim), carray(out, dim)
        for i in range(dim):
            g[i] = a[i] * (t[i] - center[i]) + scale[i] * xi[i]
        return 0

    return _run(sgd.Custom(gradient, dim), case, "cpp", threads)


def njit_quadratic(case: Quadratic, threads: int) -> Call:
    """Return a run of the quadratic with a gradient for the Numba driver."""
    from numba import njit

    a, center, scale = case.curvature, case.minimizer, case.noise_scale

    @njit
    def gradient(theta, noise, step, data, out):  # type: ignore[no-untyped-def]
        for i in range(theta.size):
            out[i] = a[i] * (theta[i] - center[i]) + scale[i] * noise[i]

    return _run(sgd.Custom(gradient, a.size), case, "numba", threads)


def callable_quadratic(case: Quadratic, threads: int) -> Call:
    """Return a run of the quadratic with a gradient in Python, for all chains at once."""
    a, center, scale = case.curvature, case.minimizer, case.noise_scale

    def gradient(theta: Any, noise: Any, step: int, data: Any, out: Any) -> None:
        np.subtract(theta, center, out=out)
        out *= a
        out += scale * noise

    return _run(sgd.Custom(gradient, a.size), case, None, threads)


def _run(
    problem: sgd.Problem,
    case: Quadratic | Logistic | Streaming | Markov,
    backend: str | None,
    threads: int,
) -> Call:
    run = with_statistics(problem, case, ("mean",), backend, threads)

    def call() -> tuple[Any, Any]:
        result = run()
        return result.mean, result.last

    return call


def with_statistics(
    problem: sgd.Problem,
    case: Quadratic | Logistic | Streaming | Markov,
    statistics: tuple[str, ...],
    backend: str | None,
    threads: int,
) -> Callable[[], sgd.SGDResult]:
    """Return a run that sums these statistics in the loop, as a whole result."""

    def call() -> sgd.SGDResult:
        return sgd.run(
            problem,
            case.step_sizes,
            case.num_steps,
            burn_in=0,
            num_chains=case.theta0.shape[0],
            theta0=case.theta0,
            seed=7,
            statistics=statistics,
            backend=backend,
            num_threads=threads,
        )

    return call


def large_ensemble(num_chains: int, dim: int, num_steps: int, threads: int) -> Callable[[], Any]:
    """Return a run that tells how much memory it took, and how much its arrays take."""
    problem = sgd.Quadratic(np.ones(dim), 0.0)

    def run(chains: int, steps: int) -> sgd.SGDResult:
        return sgd.run(
            problem,
            0.1,
            steps,
            burn_in=0,
            num_chains=chains,
            seed=7,
            dtype=np.float32,
            statistics=("mean",),
            backend="cpp",
            num_threads=threads,
        )

    def call() -> dict[str, int]:
        run(1, 1)  # what stays loaded is not memory of the run
        before = peak_memory()
        result = run(num_chains, num_steps)
        state = result.state.arrays
        arrays = (
            *(result.mean, result.extrapolated),
            *(state.theta, state.sums, state.flags, state.diverged_at),
        )
        return {
            "peak_bytes": peak_memory(),
            "run_bytes": peak_memory() - before,
            "array_bytes": sum(array.nbytes for array in arrays),
            "diverged": int(state.flags.sum()),
        }

    return call


def peak_memory() -> int:
    """Return the largest resident memory that this process has had, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # there, getrusage counts memory of the process that started this one too
        lines = status.read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
