"""The SGD loop beside its peers: the same chains, steps and precision in every row of a group."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import _ours_sgd as ours
import _peers_sgd as peers
import numpy as np
import pytest
from _bench_answers import LogisticAnswer, QuadraticAnswer
from _bench_machine import THREADS, lower_levels

from hotloops import datasets

CHAINS = 1024
STEP_SIZES = (0.05, 0.1)
L2 = 1e-2
MEGABYTE = 1 << 20

# Operations on 32-bit lanes, counted in csrc; one on a 64-bit lane is two. A normal: 35 for its
# share of a Philox block (eight rounds of two products, two shifts and four xors; the first two are
# kept from step to step) and 33 for Box-Muller. A coordinate of a quadratic: 5 for gradient and
# update, 3 to see whether it is in range, 4 to add it up in float64, and 1 for each normal. A
# coordinate of a logistic loss: 2 for the margin, 5 for gradient and update, 7 as before, and 170
# in each step for the row's index and the sigmoid.
NORMAL = 69
QUADRATIC = 12
LOGISTIC = 14
LOGISTIC_STEP = 170

Measure = Callable[..., None]

pytestmark = pytest.mark.filterwarnings("ignore:run. burn_in:RuntimeWarning")


@functools.cache
def quadratic(num_step_sizes: int, dim: int = 16, num_steps: int = 1000) -> peers.Quadratic:
    """Return chains that start at the minimiser."""
    minimizer = np.linspace(-1.0, 1.0, dim, dtype=np.float32)
    return peers.Quadratic(
        curvature=np.linspace(1.0, 2.0, dim, dtype=np.float32),
        minimizer=minimizer,
        noise_scale=np.ones(dim, np.float32),
        theta0=np.broadcast_to(minimizer, (CHAINS, num_step_sizes, dim)).copy(),
        step_sizes=np.asarray(STEP_SIZES[:num_step_sizes], np.float32),
        num_steps=num_steps,
    )


@functools.cache
def logistic(data: str, num_step_sizes: int, num_steps: int) -> peers.Logistic:
    """Return chains that start at zero."""
    if data == "a9a":
        table = datasets.load_a9a("train", dtype=np.float32)
        features = table.X
    else:
        table = datasets.load_breast_cancer()
        features = datasets.standardize(table.X, dtype=np.float32)
    return peers.Logistic(
        features=features,
        labels=(table.y > 0).astype(np.float32),
        l2=L2,
        theta0=np.zeros((CHAINS, num_step_sizes, features.shape[1]), np.float32),
        step_sizes=np.asarray(STEP_SIZES[:num_step_sizes], np.float32),
        num_steps=num_steps,
    )


@functools.cache
def quadratic_answer(*case: int) -> QuadraticAnswer:
    return QuadraticAnswer(quadratic(*case))


@functools.cache
def logistic_answer(*case: Any) -> LogisticAnswer:
    return LogisticAnswer(logistic(*case))


def work(case: peers.Quadratic | peers.Logistic) -> dict[str, Any]:
    """Return what a row does: an update is one coordinate of one copy of a chain in one step."""
    arrays = [value for value in vars(case).values() if isinstance(value, np.ndarray)]
    results = case.theta0.size * (8 + 4)
    return {
        "elements": case.theta0.size * case.num_steps,
        "unit": "updates",
        "bytes_moved": sum(array.nbytes for array in arrays) + results,
        "chains": case.theta0.shape[0],
        "step_sizes": case.theta0.shape[1],
        "dim": case.theta0.shape[2],
        "steps": case.num_steps,
        "dtype": "float32",
    }


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


@pytest.fixture
def library(request: pytest.FixtureRequest) -> str:
    """Return the name of a row; skip it when its library is not installed."""
    name = str(request.param)
    for start, module in (("JAX", "jax"), ("PyTorch", "torch")):
        if name.startswith(start):
            pytest.importorskip(module)
    return name


def measure_quadratic(measure: Measure, library: str, num_step_sizes: int) -> None:
    case = quadratic(num_step_sizes)
    measure(
        library,
        QUADRATIC_ROWS[library](case),
        quadratic_answer(num_step_sizes).check,
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
