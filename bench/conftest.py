"""How a row is checked, timed and described, and what all rows of a run share."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for the modules beside this file

from _bench_machine import THREADS, Machine, active_isa, machine
from _bench_worker import Worker

# What a row's name begins with, and the packages whose versions matter for it.
_PACKAGES = {
    "hotloops": ("hotloops", "numpy", "numba"),
    "NumPy": ("numpy",),
    "Numba": ("numba", "numpy"),
    "SciPy": ("scipy", "numpy"),
    "JAX": ("jax", "jaxlib"),
    "PyTorch": ("torch",),
    "pyproximal": ("pyproximal", "numpy", "numba"),
    "Python": ("numpy",),
    "yand-mvsk": ("yand-mvsk",),
}


@pytest.fixture(scope="session", autouse=True)
def cores() -> Iterator[None]:
    """Let every library see the same two processors; some take all they see."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:THREADS])
    yield
    os.sched_setaffinity(0, before)


@pytest.fixture(scope="session")
def limits(cores: None) -> Machine:
    """Measure what this machine can do at most."""
    return machine(1, THREADS)


@pytest.fixture
def library(request: pytest.FixtureRequest) -> str:
    """Return the name of a row; skip it when its library is not installed."""
    name = str(request.param)
    peers = (
        ("JAX", "jax"),
        ("PyTorch", "torch"),
        ("pyproximal", "pyproximal"),
        ("yand-mvsk", "yand_mvsk"),
    )
    for start, module in peers:
        if name.startswith(start):
            pytest.importorskip(module)
    return name


@pytest.fixture
def worker() -> Iterator[Callable[..., Worker]]:
    """Start processes that end with the test."""
    started: list[Worker] = []

    def start(make: Callable[..., Callable[[], Any]], *args: Any, **env: str) -> Worker:
        started.append(Worker(make, *args, **env))
        return started[-1]

    yield start
    for process in started:
        process.close()


@pytest.fixture
def describe(benchmark: Any, limits: Machine) -> Callable[..., None]:
    """Write down what a row is, in the keys that ``hotloops bench`` reads and some more.

    `operations` counts operations on 32-bit lanes for one element; with it the report can tell the
    share of the machine's limit. `reference` marks a row of ours that the others of its group are
    compared with, as with a peer. `isa` is needed where it is not that of this process.
    """

    def write(
        library: str,
        *,
        elements: int,
        unit: str,
        bytes_moved: int,
        threads: int = THREADS,
        operations: float = 0.0,
        reference: bool = False,
        isa: str | None = None,
        **extra: Any,
    ) -> None:
        ours = library.startswith("hotloops")
        benchmark.extra_info.update(
            library=f"{library} (reference)" if reference else library,
            ours=ours and not reference,
            elements=elements,
            unit=unit,
            bytes=bytes_moved,
            threads=threads,
            isa=isa or active_isa(),
            versions=_versions(library),
            processor=_processor(),
            copy_bytes_per_second=limits.copy_bytes[threads],
            lane_operations_per_second=limits.lane_operations[threads],
            **extra,
        )
        if ours and operations:
            benchmark.extra_info.update(
                operations_per_element=operations,
                limit="arithmetic",
                limit_per_second=limits.lane_operations[threads] / operations,
            )

    return write


@pytest.fixture
def measure(benchmark: Any, describe: Callable[..., None]) -> Callable[..., None]:
    """Check a row's answer, describe the row and time it.

    `timed` stands for `call` where the answer comes another way than in the timed run.
    """

    def run(
        library: str,
        call: Callable[[], Any],
        check: Callable[[Any], None],
        *,
        timed: Callable[[], Any] | None = None,
        **description: Any,
    ) -> None:
        check(call())
        describe(library, **description)
        benchmark(timed or call)

    return run


def _versions(library: str) -> dict[str, str]:
    packages = next(names for start, names in _PACKAGES.items() if library.startswith(start))
    return {
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in packages},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
