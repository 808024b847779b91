"""The Numba backend of the counts; the twin of ``csrc/flow/cpu_counts.cpp``."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from hotloops._runtime._numba_buffers import buffers, store
from hotloops._runtime._numba_jit import aligned, kernel, map_slices
from hotloops._runtime._numba_math import uniform
from hotloops._runtime._numba_packs import traced, word
from hotloops.flow import _numba_likelihood as _likelihood
from hotloops.flow._numba_count_steps import (
    BERNOULLI_ATTEMPT,
    Address,
    gamma_variate,
    negative_binomial_count,
    pack_words,
    poisson_count,
    uniform_53,
)

__all__ = ["draw", "likelihood"]

_LANES = 8
_CHUNK = 512
_PART = 1 << 14

_NEGATIVE_BINOMIAL, _POISSON, _BERNOULLI, _GAMMA = range(4)
_LAWS = {
    "negative_binomial": _NEGATIVE_BINOMIAL,
    "poisson": _POISSON,
    "bernoulli": _BERNOULLI,
    "gamma": _GAMMA,
}

likelihood = _likelihood.likelihood


class Job(NamedTuple):
    """Flat parameters with the strides of their axes, and where the answer goes."""

    first: Any
    second: Any
    first_row_stride: int
    first_column_stride: int
    second_row_stride: int
    second_column_stride: int
    numbers: Any
    first_row: int  # -1: look into `numbers`
    columns: int
    parts: int
    counts: Any
    reals: Any


class Memory(NamedTuple):
    """Memory of one thread."""

    uniforms: Any  # of a chunk: block after block for each column of a block


@traced
def _paired(at: Any, first: Any, attempt: Any) -> tuple[Any, Any]:
    """Return the uniforms of the even and of the odd columns of a pack of blocks."""
    words = pack_words(at, attempt, first)
    return uniform_53(words[0], words[1]), uniform_53(words[2], words[3])


@traced
def _fourfold(at: Any, first: Any, attempt: Any) -> tuple[Any, ...]:
    return tuple(uniform(x) for x in pack_words(at, attempt, first))


@kernel
def _draw(
    law: int, low: Any, high: Any, step: int, job_arrays: Job, memory_arrays: Memory, tile: int
) -> None:
    job, memory = buffers(job_arrays), buffers(memory_arrays).uniforms
    row, part = tile // job.parts, tile % job.parts
    number = row + job.first_row if job.first_row >= 0 else job.numbers[row]
    at = Address(low, high, number, step)
    end = min(job.columns, (part + 1) * _PART)
    for begin in range(part * _PART, end, _CHUNK):
        count = min(_CHUNK, end - begin)
        first = row * job.first_row_stride + begin * job.first_column_stride
        second = row * job.second_row_stride + begin * job.second_column_stride
        target = row * job.columns + begin
        if law == _GAMMA:
            for j in range(count):
                alpha = job.first[first + j * job.first_column_stride]
                scale = job.second[second + j * job.second_column_stride]
                job.reals[target + j] = gamma_variate(at, begin + j, alpha) * scale
        elif law == _BERNOULLI:
            for pack in range(_CHUNK // (4 * _LANES)):
                four = _fourfold(at, begin // 4 + pack * _LANES, BERNOULLI_ATTEMPT)
                for k in range(4):
                    store(memory, k * (_CHUNK // (4 * _LANES)) + pack, four[k])
            for j in range(count):
                u = memory[j % 4 * (_CHUNK // 4) + j // 4]
                chance = job.first[first + j * job.first_column_stride]
                job.counts[target + j] = 1 if u < chance else 0
        else:
            for pack in range(_CHUNK // (2 * _LANES)):
                even, odd = _paired(at, begin // 2 + pack * _LANES, 0)
                store(memory, pack, even)
                store(memory, _CHUNK // (2 * _LANES) + pack, odd)
            for j in range(count):
                v = memory[j % 2 * (_CHUNK // 2) + j // 2]
                mean = job.first[first + j * job.first_column_stride]
                if law == _POISSON:
                    job.counts[target + j] = poisson_count(at, begin + j, v, mean)
                else:
                    theta = job.second[second + j * job.second_column_stride]
                    job.counts[target + j] = negative_binomial_count(at, begin + j, v, mean, theta)


def draw(
    law: str,
    out: Any,
    first: Any,
    second: Any,
    seed: int,
    step: int,
    numbers: Any,
    first_row: int,
    num_threads: int,
) -> None:
    """Fill `out` (rows, columns); the parameters are (1 or rows, 1 or columns)."""
    rows, columns = out.shape
    real = law == "gamma"
    # Arithmetic is float64 in any case, so one compilation serves both precisions.
    reals = out if real and out.dtype == np.float64 else np.empty(out.size if real else 0)
    parts = -(-columns // _PART)
    flat = [np.ascontiguousarray(x, np.float64).reshape(-1) for x in (first, second)]
    job = Job(
        flat[0],
        flat[1],
        *_strides(first),
        *_strides(second),
        np.zeros(0, np.int64) if numbers is None else numbers,
        first_row if numbers is None else -1,
        columns,
        parts,
        (np.zeros(0, np.int32) if real else out).reshape(-1),
        reals.reshape(-1),
    )
    key = word(seed & 0xFFFFFFFF), word(seed >> 32)

    def call(memory: Memory, begin: int, end: int, *steps: int) -> None:
        for tile in range(begin, end):
            _draw(_LAWS[law], *key, step, job, memory, tile)

    map_slices(lambda: Memory(aligned(_CHUNK, np.float64)), call, rows * parts, 1, num_threads)
    if real and out.dtype != np.float64:
        out[...] = reals.reshape(out.shape)


def _strides(x: Any) -> tuple[int, int]:
    rows, columns = x.shape
    return 0 if rows == 1 else columns, 0 if columns == 1 else 1
