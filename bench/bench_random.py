"""Normals per second on one thread, beside the generators of NumPy, PyTorch and JAX."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import _rows_random as rows
import numpy as np
import pytest
from _bench_answers import check_normals
from _bench_machine import lower_levels

COUNT = 1 << 20

# Operations on 32-bit lanes for one normal, counted in csrc: its shares of a Philox block and of a
# pair of Box-Muller. The float64 code works on 64-bit lanes, which count as two.
OPERATIONS = {"float32": 42 + 33, "float64": 40 + 92}

ROWS: dict[str, Callable[[str], Callable[[], Any]]] = {
    "hotloops cpp": lambda dtype: rows.hotloops(COUNT, dtype, "cpp"),
    "hotloops numba": lambda dtype: rows.hotloops(COUNT, dtype, "numba"),
    "NumPy, SFC64": lambda dtype: rows.numpy(COUNT, dtype, "SFC64"),
    "NumPy, PCG64DXSM": lambda dtype: rows.numpy(COUNT, dtype, "PCG64DXSM"),
    "NumPy, Philox": lambda dtype: rows.numpy(COUNT, dtype, "Philox"),
    "PyTorch, Mersenne Twister": lambda dtype: rows.torch(COUNT, dtype),
    "JAX, threefry": lambda dtype: rows.jax(COUNT, dtype, "threefry2x32"),
    "JAX, rbg": lambda dtype: rows.jax(COUNT, dtype, "rbg"),
}


def work(dtype: str) -> dict[str, Any]:
    """Return what a row does."""
    return {
        "elements": COUNT,
        "unit": "normals",
        "bytes_moved": COUNT * np.dtype(dtype).itemsize,
        "threads": 1,
        "operations": OPERATIONS[dtype],
        "dtype": dtype,
    }


def measure_library(measure: Callable[..., None], library: str, dtype: str) -> None:
    measure(
        library,
        ROWS[library](dtype),
        lambda values: check_normals(values, (COUNT,)),
        **work(dtype),
    )


def measure_level(measure: Callable[..., None], worker: Any, level: str, dtype: str) -> None:
    process = worker(rows.hotloops, COUNT, dtype, "cpp", HOTLOOPS_ISA=level)
    measure(
        f"hotloops cpp, HOTLOOPS_ISA={level}",
        process.result,
        lambda values: check_normals(values, (COUNT,)),
        timed=process.call,
        isa=level,
        **work(dtype),
    )


@pytest.mark.benchmark(group="random: float32 normals on one thread")
@pytest.mark.parametrize("library", ROWS, indirect=True)
def test_float32(measure: Callable[..., None], library: str) -> None:
    measure_library(measure, library, "float32")


@pytest.mark.benchmark(group="random: float32 normals on one thread")
@pytest.mark.parametrize("level", lower_levels())
def test_float32_at_lower_level(measure: Callable[..., None], worker: Any, level: str) -> None:
    measure_level(measure, worker, level, "float32")


# JAX draws float64 only when the whole process is set to it.
@pytest.mark.benchmark(group="random: float64 normals on one thread")
@pytest.mark.parametrize("library", [row for row in ROWS if "JAX" not in row], indirect=True)
def test_float64(measure: Callable[..., None], library: str) -> None:
    measure_library(measure, library, "float64")


@pytest.mark.benchmark(group="random: float64 normals on one thread")
@pytest.mark.parametrize("level", lower_levels())
def test_float64_at_lower_level(measure: Callable[..., None], worker: Any, level: str) -> None:
    measure_level(measure, worker, level, "float64")
