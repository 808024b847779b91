"""The SGD loop beside its peers: the same chains, steps and precision in every row of a group."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import _ours_sgd as ours
import _peers_sgd as peers
import pytest
from _bench_machine import THREADS, lower_levels
from _cases_sgd import (
    LOGISTIC,
    LOGISTIC_STEP,
    MEGABYTE,
    NORMAL,
    QUADRATIC,
    logistic,
    logistic_answer,
    quadratic,
    quadratic_answer,
    work,
)

Measure = Callable[..., None]

pytestmark = pytest.mark.filterwarnings("ignore:run. burn_in:RuntimeWarning")

QUADRATIC_ROWS: dict[str, Callable[[peers.Quadratic], peers.Call]] = {
    "hotloops cpp": lambda case: ours.quadratic(case, "cpp", THREADS),
    "hotloops numba": lambda case: ours.quadratic(case, "numba", THREADS),
    "NumPy, vectorised": peers.numpy_quadratic,
    "Numba, loops in prange": lambda case: peers.numba_quadratic(case, THREADS),
    "JAX, scan and vmap, threefry": lambda case: peers.jax_quadratic(case, "threefry2x32"),
    "JAX, scan and vmap, rbg": lambda case: peers.jax_quadratic(case, "rbg"),
    "PyTorch, vectorised": lambda case: peers.torch_quadratic(case, THREADS),
}

LOGISTIC_ROWS: dict[str, Callable[[peers.Logistic], peers.Call]] = {
    "hotloops cpp": lambda case: ours.logistic(case, "cpp", THREADS),
    "hotloops numba": lambda case: ours.logistic(case, "numba", THREADS),
    "NumPy, vectorised": peers.numpy_logistic,
    "Numba, loops in prange": lambda case: peers.numba_logistic(case, THREADS),
    "JAX, scan and vmap, threefry": lambda case: peers.jax_logistic(case, "threefry2x32"),
    "PyTorch, vectorised": lambda case: peers.torch_logistic(case, THREADS),
}


def measure_quadratic(measure: Measure, library: str, num_step_sizes: int, *shape: int) -> None:
    case = quadratic(num_step_sizes, *shape)
    measure(
        library,
        QUADRATIC_ROWS[library](case),
        quadratic_answer(num_step_sizes, *shape).check,
        operations=QUADRATIC + NORMAL / num_step_sizes,
        threads=1 if library.startswith("NumPy") else THREADS,
        **work(case),
    )


@pytest.mark.benchmark(group="sgd: quadratic, d = 16, one step size")
@pytest.mark.parametrize("library", QUADRATIC_ROWS, indirect=True)
def test_quadratic_one(measure: Measure, library: str) -> None:
    measure_quadratic(measure, library, 1)


@pytest.mark.benchmark(group="sgd: quadratic, d = 16, one step size")
@pytest.mark.parametrize("level", lower_levels())
def test_quadratic_one_at_lower_level(measure: Measure, worker: Any, level: str) -> None:
    case = quadratic(1)
    process = worker(ours.quadratic, case, "cpp", THREADS, HOTLOOPS_ISA=level)
    measure(
        f"hotloops cpp, HOTLOOPS_ISA={level}",
        process.result,
        quadratic_answer(1).check,
        timed=process.call,
        isa=level,
        **work(case),
    )


@pytest.mark.benchmark(group="sgd: quadratic, d = 16, two step sizes")
@pytest.mark.parametrize("library", QUADRATIC_ROWS, indirect=True)
def test_quadratic_two(measure: Measure, library: str) -> None:
    measure_quadratic(measure, library, 2)


@pytest.mark.benchmark(group="sgd: quadratic, d = 16, cost of a second step size")
@pytest.mark.parametrize("num_step_sizes", [1, 2])
def test_quadratic_cost_of_a_second_step_size(measure: Measure, num_step_sizes: int) -> None:
    case = quadratic(num_step_sizes)
    per_copy = work(case) | {"unit": "normals", "elements": case.theta0[:, 0].size * case.num_steps}
    measure(
        f"hotloops cpp, {num_step_sizes} step size{'s' * (num_step_sizes > 1)}",
        ours.quadratic(case, "cpp", THREADS),
        quadratic_answer(num_step_sizes).check,
        reference=num_step_sizes == 1,
        operations=NORMAL + QUADRATIC * num_step_sizes,
        **per_copy,
    )


@pytest.mark.benchmark(group="sgd: quadratic, d = 16, threads")
@pytest.mark.parametrize("threads", [1, 2])
def test_quadratic_threads(measure: Measure, threads: int) -> None:
    case = quadratic(1)
    measure(
        f"hotloops cpp, {threads} thread{'s' * (threads > 1)}",
        ours.quadratic(case, "cpp", threads),
        quadratic_answer(1).check,
        threads=threads,
        reference=threads == 1,
        operations=QUADRATIC + NORMAL,
        **work(case),
    )


def measure_logistic(measure: Measure, library: str, *problem: Any) -> None:
    case = logistic(*problem)
    dim, num_step_sizes = case.features.shape[1], case.step_sizes.size
    measure(
        library,
        LOGISTIC_ROWS[library](case),
        logistic_answer(*problem).check,
        operations=LOGISTIC + LOGISTIC_STEP / (dim * num_step_sizes),
        threads=1 if library.startswith("NumPy") else THREADS,
        **work(case),
    )


@pytest.mark.benchmark(group="sgd: logistic on breast cancer, one step size")
@pytest.mark.parametrize("library", LOGISTIC_ROWS, indirect=True)
def test_logistic_one(measure: Measure, library: str) -> None:
    measure_logistic(measure, library, "breast cancer", 1, 2000)


@pytest.mark.benchmark(group="sgd: logistic on breast cancer, one step size")
@pytest.mark.parametrize("level", lower_levels())
def test_logistic_one_at_lower_level(measure: Measure, worker: Any, level: str) -> None:
    problem = "breast cancer", 1, 2000
    case = logistic(*problem)
    process = worker(ours.logistic, case, "cpp", THREADS, HOTLOOPS_ISA=level)
    measure(
        f"hotloops cpp, HOTLOOPS_ISA={level}",
        process.result,
        logistic_answer(*problem).check,
        timed=process.call,
        isa=level,
        **work(case),
    )


@pytest.mark.benchmark(group="sgd: logistic on breast cancer, two step sizes")
@pytest.mark.parametrize("library", LOGISTIC_ROWS, indirect=True)
def test_logistic_two(measure: Measure, library: str) -> None:
    measure_logistic(measure, library, "breast cancer", 2, 1000)


@pytest.mark.benchmark(group="sgd: logistic on a9a, one step size")
@pytest.mark.parametrize("library", LOGISTIC_ROWS, indirect=True)
def test_logistic_a9a(measure: Measure, library: str) -> None:
    measure_logistic(measure, library, "a9a", 1, 400)


@pytest.mark.benchmark(group="sgd: quadratic, 65,536 chains, d = 4, two step sizes")
@pytest.mark.parametrize("library", QUADRATIC_ROWS, indirect=True)
def test_many_short_chains(measure: Measure, library: str) -> None:
    measure_quadratic(measure, library, 2, 4, 100, 65_536)


@pytest.mark.benchmark(group="sgd: quadratic, one chain, d = 128, two step sizes")
@pytest.mark.parametrize("library", QUADRATIC_ROWS, indirect=True)
def test_one_long_chain(measure: Measure, library: str) -> None:
    measure_quadratic(measure, library, 2, 128, 10_000, 1)


CUSTOM_ROWS: dict[str, Callable[[peers.Quadratic], peers.Call]] = {
    "hotloops cpp, built-in": lambda case: ours.quadratic(case, "cpp", THREADS),
    "hotloops cpp, Custom by @cfunc": lambda case: ours.compiled_quadratic(case, THREADS),
    "hotloops numba, Custom by @njit": lambda case: ours.njit_quadratic(case, THREADS),
    "hotloops, Custom by a NumPy callable": lambda case: ours.callable_quadratic(case, THREADS),
}


@pytest.mark.benchmark(group="sgd: own gradient of a quadratic, d = 2")
@pytest.mark.parametrize("name", CUSTOM_ROWS)
def test_custom(measure: Measure, name: str) -> None:
    case = quadratic(1, 2)
    measure(
        name,
        CUSTOM_ROWS[name](case),
        quadratic_answer(1, 2).check,
        reference=name.endswith("built-in"),
        **work(case),
    )


@pytest.mark.benchmark(group="sgd: memory of 10^6 chains, d = 4, 10^3 steps")
def test_memory(benchmark: Any, describe: Measure, worker: Any) -> None:
    num_chains, dim = 10**6, 4
    num_steps = 1000 if benchmark.enabled else 20  # the memory does not depend on it
    process = worker(ours.large_ensemble, num_chains, dim, num_steps, THREADS)
    memory = benchmark.pedantic(process.result, rounds=1)
    assert memory["diverged"] == 0
    assert memory["peak_bytes"] < 1000 * MEGABYTE
    assert memory["run_bytes"] < memory["array_bytes"] + 32 * MEGABYTE
    describe(
        "hotloops cpp",
        elements=num_chains * dim * num_steps,
        unit="updates",
        bytes_moved=memory["array_bytes"],
        operations=QUADRATIC + NORMAL,
        **memory,
    )
