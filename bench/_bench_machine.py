"""What this machine can do at most, measured in the run whose results are compared with it."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

THREADS = 2  # of every row that does not say otherwise

_LEVELS = ("base", "v3", "v4")
_OPERATIONS = 32  # in the body of _issue, for each lane
_LANES = 256  # 2 KB: they stay in L1
_TURNS = 5_000  # a few milliseconds
_COPY_BYTES = 1 << 27
_REPETITIONS = 40


@dataclass(frozen=True)
class Machine:
    """Limits of the machine, for a number of threads.

    Attributes
    ----------
    lane_operations : dict of int to float
        Operations on 32-bit lanes a second. The loops of hotloops are bound by how many vector
        instructions a core can issue: multiplications, additions, shifts and logical operations
        on registers, with nearly no traffic beyond L1 and no fused multiply-adds, which would make
        the bits depend on the compiler. The rate of a matrix product would be the wrong limit:
        that one counts two operations for each fused instruction. So the limit is what a loop
        reaches that does nothing but multiply, add and xor on registers.
    copy_bytes : dict of int to float
        Bytes read and written a second by copying arrays that are larger than the caches.
    """

    lane_operations: dict[int, float]
    copy_bytes: dict[int, float]


def active_isa() -> str:
    """Return the instruction-set level of this process."""
    from hotloops._runtime import dispatch

    return str(dispatch.core().isa())


def lower_levels() -> tuple[str, ...]:
    """Return the instruction-set levels below that of this process."""
    return _LEVELS[: _LEVELS.index(active_isa())]


@functools.cache
def machine(*thread_counts: int) -> Machine:
    """Measure the limits; takes about a second for each number of threads."""
    counts = sorted(set(thread_counts))
    return Machine(
        lane_operations={count: _issue_rate(count) for count in counts},
        copy_bytes={count: _copy_rate(count) for count in counts},
    )


def _issue_rate(threads: int) -> float:
    issue = _compile_issue()

    def work(_: int) -> None:
        issue(np.ones(_LANES, np.float32), np.arange(_LANES, dtype=np.uint32), _TURNS)

    issue(np.ones(_LANES, np.float32), np.arange(_LANES, dtype=np.uint32), 1)
    return threads * _OPERATIONS * _LANES * _TURNS / _best_time(work, threads, _REPETITIONS)


def _copy_rate(threads: int) -> float:
    source = np.ones((threads, _COPY_BYTES // threads // 8))
    target = np.zeros_like(source)

    def work(index: int) -> None:
        np.copyto(target[index], source[index])

    return 2 * source.nbytes / _best_time(work, threads, _REPETITIONS // 4)


def _best_time(work: Callable[[int], None], threads: int, repetitions: int) -> float:
    """Return the shortest time in which all threads do the work once."""
    best = float("inf")
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(repetitions):
            began = time.perf_counter()
            list(pool.map(work, range(threads)))
            best = min(best, time.perf_counter() - began)
    return best


@functools.cache
def _compile_issue() -> Any:
    from numba import njit

    # Multiplication and xor with other constants alternate with additions, so that the compiler
    # cannot merge them; the two strands keep all execution ports busy.
    body = "x = x * a; w = w ^ k; x = x + b; w = w + k; " * (_OPERATIONS // 4)
    source = (
        "def issue(reals, words, turns):\n"
        "    a, b, k = np.float32(0.999), np.float32(0.001), np.uint32(0x9E3779B9)\n"
        "    for _ in range(turns):\n"
        "        for i in range(reals.size):\n"
        "            x = reals[i]; w = words[i]\n"
        f"            {body}\n"
        "            reals[i] = x; words[i] = w\n"
    )
    scope: dict[str, Any] = {"np": np}
    exec(source, scope)
    return njit(nogil=True)(scope["issue"])
