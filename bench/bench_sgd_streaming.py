"""Problems that make their data in the loop, beside their peers: streams and Markov chains."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import _ours_sgd as ours
import _peers_streaming as peers
import pytest
from _bench_machine import THREADS, lower_levels
from _cases_sgd import (
    markov,
    markov_answer,
    markov_operations,
    streaming,
    streaming_answer,
    streaming_operations,
    work,
)
from _peers_sgd import Call

Measure = Callable[..., None]

pytestmark = pytest.mark.filterwarnings("ignore:run. burn_in:RuntimeWarning")

STREAMING_ROWS: dict[str, Callable[[peers.Streaming], Call]] = {
    "hotloops cpp": lambda case: ours.streaming(case, "cpp", THREADS),
    "hotloops numba": lambda case: ours.streaming(case, "numba", THREADS),
    "NumPy, vectorised": peers.numpy_streaming,
    "Numba, loops in prange": lambda case: peers.numba_streaming(case, THREADS),
    "JAX, scan and vmap, threefry": lambda case: peers.jax_streaming(case, "threefry2x32"),
    "JAX, scan and vmap, rbg": lambda case: peers.jax_streaming(case, "rbg"),
    "PyTorch, vectorised": lambda case: peers.torch_streaming(case, THREADS),
}

MARKOV_ROWS: dict[str, Callable[[peers.Markov], Call]] = {
    "hotloops cpp": lambda case: ours.markov(case, "cpp", THREADS),
    "hotloops numba": lambda case: ours.markov(case, "numba", THREADS),
    "NumPy, vectorised": peers.numpy_markov,
    "Numba, loops in prange": lambda case: peers.numba_markov(case, THREADS),
    "JAX, scan and vmap, threefry": lambda case: peers.jax_markov(case, "threefry2x32"),
    "PyTorch, vectorised": lambda case: peers.torch_markov(case, THREADS),
}


def measure_streaming(measure: Measure, library: str, num_step_sizes: int) -> None:
    case = streaming(num_step_sizes)
    measure(
        library,
        STREAMING_ROWS[library](case),
        streaming_answer(num_step_sizes).check,
        operations=streaming_operations(case),
        threads=1 if library.startswith("NumPy") else THREADS,
        **work(case),
    )


@pytest.mark.benchmark(group="sgd: streaming logistic, d = 10, one step size")
@pytest.mark.parametrize("library", STREAMING_ROWS, indirect=True)
def test_streaming_one(measure: Measure, library: str) -> None:
    measure_streaming(measure, library, 1)


@pytest.mark.benchmark(group="sgd: streaming logistic, d = 10, two step sizes")
@pytest.mark.parametrize("library", STREAMING_ROWS, indirect=True)
def test_streaming_two(measure: Measure, library: str) -> None:
    measure_streaming(measure, library, 2)


@pytest.mark.benchmark(group="sgd: streaming logistic, d = 10, two step sizes")
@pytest.mark.parametrize("level", lower_levels())
def test_streaming_two_at_lower_level(measure: Measure, worker: Any, level: str) -> None:
    case = streaming(2)
    process = worker(ours.streaming, case, "cpp", THREADS, HOTLOOPS_ISA=level)
    measure(
        f"hotloops cpp, HOTLOOPS_ISA={level}",
        process.result,
        streaming_answer(2).check,
        timed=process.call,
        isa=level,
        **work(case),
    )


@pytest.mark.benchmark(group="sgd: Markov LSA, 10 states, d = 5, two step sizes")
@pytest.mark.parametrize("library", MARKOV_ROWS, indirect=True)
def test_markov_two(measure: Measure, library: str) -> None:
    case = markov(2)
    measure(
        library,
        MARKOV_ROWS[library](case),
        markov_answer(2).check,
        operations=markov_operations(case),
        threads=1 if library.startswith("NumPy") else THREADS,
        **work(case),
    )
