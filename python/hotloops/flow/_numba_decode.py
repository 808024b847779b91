"""The Numba backend of decoding: from hidden activations to counts.

The product is that of SciPy's BLAS, block by block; counts are drawn by the twin of the bulk
functions.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hotloops._runtime import threads
from hotloops._runtime._numba_jit import kernel
from hotloops._runtime._numba_log_gamma import exp_and_minus_one
from hotloops._runtime._numba_math import sigmoid
from hotloops._runtime.blas import single_threaded
from hotloops.flow import _numba_counts

__all__ = ["decode"]

_BLOCK = 32
_LAWS = ("negative_binomial", "poisson", "bernoulli")


@kernel
def _means(logits: Any, sizes: Any, bernoulli: bool, out: Any) -> int:
    """Fill `out` with means or probabilities; return the first row that is not finite, or -1."""
    rows, columns = logits.shape
    for i in range(rows):
        total = 0.0
        if bernoulli:
            for j in range(columns):
                h = float(logits[i, j])
                total += h - h
                out[i, j] = sigmoid(h)
            if total != 0.0:  # NaN too
                return i
            continue
        largest = float(logits[i, 0])
        for j in range(columns):
            largest = max(largest, float(logits[i, j]))
        for j in range(columns):
            x = float(logits[i, j]) - largest
            out[i, j] = exp_and_minus_one(x)[0] if x >= -700.0 else 0.0
            total += out[i, j]
        if not (total > 0.0 and total < 2.0**1000):
            return i
        scale = sizes[i] / total
        for j in range(columns):
            out[i, j] *= scale
    return -1


def decode(
    output: str,
    head: int,
    hidden: Any,
    weight: Any,
    bias: Any,
    sizes: Any,
    theta: Any,
    theta_of: Any,
    seed: int,
    step: int,
    first_row: int,
    num_threads: int,
) -> Any:
    """Return the counts, or the means, of checked arrays."""
    from scipy.linalg.blas import dgemm, sgemm
    from scipy.sparse import csr_array, vstack

    gemm = sgemm if hidden.dtype == np.float32 else dgemm
    count, features = len(hidden), hidden.shape[1] if weight is None else len(weight)
    before = first_row % _BLOCK
    num_blocks = -(-(before + count) // _BLOCK)
    kind = hidden.dtype if output == "mean" else np.int32
    dense = None if output == "csr" else np.empty((count, features), kind)
    parts: list[Any] = [None] * num_blocks
    ones, given = np.ones((1, 1)), np.zeros(count) if sizes is None else sizes

    def block(number: int) -> None:
        start = number * _BLOCK - before
        begin, end = max(start, 0), min(start + _BLOCK, count)
        logits = hidden[begin:end].astype(np.float64)
        if weight is not None:
            padded = np.zeros((_BLOCK, hidden.shape[1]), hidden.dtype)
            padded[begin - start : end - start] = hidden[begin:end]
            product = gemm(1.0, weight.T, padded.T, trans_a=True).T
            logits = product[begin - start : end - start].astype(np.float64)
        if bias is not None:
            logits += bias
        mean = np.empty_like(logits)
        wrong = _means(logits, given[begin:end], head == 2, mean)
        if wrong >= 0:
            raise ValueError(f"decode: the logits are not finite at index {begin + wrong}")
        if output == "mean":
            dense[begin:end] = mean  # type: ignore[index]
            return
        target = np.empty(mean.shape, np.int32) if dense is None else dense[begin:end]
        own = ones if theta is None else theta if theta_of is None else theta[theta_of[begin:end]]
        _numba_counts.draw(
            _LAWS[head], target, mean, own, seed, step, None, first_row + begin, num_threads=1
        )
        if dense is None:
            parts[number] = csr_array(target)

    def task(begin: int, end: int) -> None:
        for number in range(begin, end):
            block(number)

    with single_threaded:
        threads.map_tiles(task, num_blocks, num_threads)
    if dense is not None:
        return dense
    if not parts:
        return csr_array((count, features), dtype=np.int32)
    return vstack(parts, format="csr")
