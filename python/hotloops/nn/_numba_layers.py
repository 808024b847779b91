"""The twin of the layers of ``csrc/nn`` that are no matrix products."""

from __future__ import annotations

from typing import Any

import numpy as np

from hotloops._runtime._numba_jit import inline, kernel
from hotloops._runtime._numba_math import (
    STREAM_DROPOUT,
    counter_word_1,
    exp_bounded,
    philox4x32,
)
from hotloops._runtime._numba_special import log1p, sine_cosine

__all__ = [
    "add_columns",
    "dropout",
    "embed",
    "embed_backward",
    "layer_norm",
    "layer_norm_backward",
    "norm_columns",
    "norm_columns_backward",
    "sparse_product",
    "sparse_product_backward",
    "time_embed",
    "time_embed_backward",
]

_LOG_PERIOD = float.fromhex("0x1.26bb1bbb55516p+3")  # of 10000
_LAYER_SHIFT = 20
_ROWS_OF_SUM = 64


# --- norms ---------------------------------------------------------------------------------------


@kernel
def norm_columns(
    x: Any,
    first: int,
    y: Any,
    target: int,
    gamma: Any,
    beta: Any,
    running: Any,
    eps: float,
    momentum: float,
    training: bool,
    mean: Any,
    inverse: Any,
) -> None:
    """Normalise columns by the batch, or by the running means and variances that `running` holds.

    `mean` and `inverse` receive the means and the inverse deviations, for the backward pass.
    """
    rows, width = x.shape[0], gamma.size
    real = x.dtype.type
    if training:
        keep, take = real(1.0 - momentum), real(momentum)
        for j in range(width):
            total = 0.0
            for r in range(rows):
                total += np.float64(x[r, first + j])
            mean[j] = total / rows
            total = 0.0
            for r in range(rows):
                d = np.float64(x[r, first + j]) - mean[j]
                total += d * d
            running[j] = keep * running[j] + take * real(mean[j])
            k = width + j
            running[k] = keep * running[k] + take * real(total / (rows - 1))
            inverse[j] = 1.0 / np.sqrt(total / rows + eps)
    else:
        for j in range(width):
            mean[j] = running[j]
            inverse[j] = 1.0 / np.sqrt(np.float64(running[width + j]) + eps)
    for r in range(rows):
        for j in range(width):
            normalised = (x[r, first + j] - real(mean[j])) * real(inverse[j])
            y[r, target + j] = normalised * gamma[j] + beta[j]


@kernel
def norm_columns_backward(
    x: Any,
    first: int,
    gradient: Any,
    g: Any,
    target: int,
    gamma: Any,
    mean: Any,
    inverse: Any,
    training: bool,
    gamma_gradient: Any,
    beta_gradient: Any,
) -> None:
    """Add to the gradients of x, gamma and beta what g, the gradient of the norm's value, gives."""
    rows, width = x.shape[0], gamma.size
    real = x.dtype.type
    share = 1.0 / rows if training else 0.0
    for j in range(width):
        total, along = 0.0, 0.0
        for r in range(rows):
            d = np.float64(g[r, target + j])
            total += d
            along += d * (np.float64(x[r, first + j]) - mean[j])
        along *= inverse[j]
        gamma_gradient[j] += real(along)
        beta_gradient[j] += real(total)
        offset, tilt = real(total * share), real(along * share)
        centre, factor = real(mean[j]), real(inverse[j])
        for r in range(rows):
            normalised = (x[r, first + j] - centre) * factor
            rest = g[r, target + j] - offset - normalised * tilt
            gradient[r, first + j] += gamma[j] * factor * rest


@inline
def _total(strands: Any) -> float:
    return float(
        ((strands[0] + strands[1]) + (strands[2] + strands[3]))
        + ((strands[4] + strands[5]) + (strands[6] + strands[7]))
    )


@inline
def _row_law(
    x: Any, r: int, first: int, width: int, eps: float, strands: Any
) -> tuple[float, float]:
    strands[:] = 0.0
    for j in range(width):
        strands[j & 7] += np.float64(x[r, first + j])
    mean = _total(strands) / width
    strands[:] = 0.0
    for j in range(width):
        d = np.float64(x[r, first + j]) - mean
        strands[j & 7] += d * d
    return mean, 1.0 / np.sqrt(_total(strands) / width + eps)


@kernel
def layer_norm(x: Any, first: int, y: Any, target: int, gamma: Any, beta: Any, eps: float) -> None:
    """Normalise rows."""
    width, strands, real = gamma.size, np.empty(8), x.dtype.type
    for r in range(x.shape[0]):
        mean, inverse = _row_law(x, r, first, width, eps, strands)
        for j in range(width):
            normalised = (x[r, first + j] - real(mean)) * real(inverse)
            y[r, target + j] = normalised * gamma[j] + beta[j]


@kernel
def layer_norm_backward(
    x: Any,
    first: int,
    gradient: Any,
    g: Any,
    target: int,
    gamma: Any,
    eps: float,
    gamma_gradient: Any,
) -> None:
    """Add to the gradients of x and gamma what g, the gradient of the norm's value, gives."""
    width, real = gamma.size, x.dtype.type
    strands, along, gamma_sums = np.empty(8), np.empty(8), np.zeros(width)
    for r in range(x.shape[0]):
        mean, inverse = _row_law(x, r, first, width, eps, strands)
        strands[:] = 0.0
        along[:] = 0.0
        for j in range(width):
            normalised = (np.float64(x[r, first + j]) - mean) * inverse
            d = np.float64(g[r, target + j])
            gamma_sums[j] += d * normalised
            d *= np.float64(gamma[j])
            strands[j & 7] += d
            along[j & 7] += d * normalised
        total, product = _total(strands) / width, _total(along) / width
        for j in range(width):
            normalised = (np.float64(x[r, first + j]) - mean) * inverse
            d = np.float64(g[r, target + j]) * np.float64(gamma[j])
            gradient[r, first + j] += real(inverse * (d - total - normalised * product))
    for j in range(width):
        gamma_gradient[j] += real(gamma_sums[j])


# --- dropout, embeddings -------------------------------------------------------------------------


@kernel
def dropout(
    x: Any,
    first: int,
    y: Any,
    target: int,
    width: int,
    scale: Any,
    threshold: Any,
    layer: int,
    step: int,
    low: Any,
    high: Any,
    add: bool,
) -> None:
    """Write (or add) x mask scale; the backward pass is the same with gradients.

    Element (r, j) is kept when word j % 4 of its block is at least the threshold.
    """
    c0 = np.uint64(step) & np.uint64(0xFFFFFFFF)
    c1 = counter_word_1(step, STREAM_DROPOUT)
    for r in range(x.shape[0]):
        for block in range((width + 3) // 4):
            c3 = (np.uint64(layer) << np.uint64(_LAYER_SHIFT)) + np.uint64(block)
            words = philox4x32(c0, c1, np.uint64(r), c3, low, high)
            for k in range(min(4, width - 4 * block)):
                j = 4 * block + k
                kept = (words[k] & np.uint64(0xFFFFFFFF)) >= threshold
                value = x[r, first + j] * scale if kept else scale - scale
                if add:
                    y[r, target + j] += value
                else:
                    y[r, target + j] = value


@kernel
def embed(table: Any, index: Any, y: Any, target: int) -> None:
    """Write rows of a table; index -1 writes zeros."""
    for r in range(index.size):
        if index[r] < 0:
            for j in range(table.shape[1]):
                y[r, target + j] = 0.0
        else:
            for j in range(table.shape[1]):
                y[r, target + j] = table[index[r], j]


@kernel
def embed_backward(index: Any, g: Any, target: int, gradient: Any) -> None:
    """Add rows of g to the rows of a table's gradient."""
    for r in range(index.size):
        if index[r] >= 0:
            for j in range(gradient.shape[1]):
                gradient[index[r], j] += g[r, target + j]


@inline
def _frequency(j: int, half: int) -> float:
    return float(exp_bounded(-_LOG_PERIOD * j / (half - 1))) if half > 1 else 1.0


@kernel
def time_embed(x: Any, first: int, y: Any, target: int, half: int, scale: float) -> None:
    """Write sines and cosines; the angles are float64 whatever x is."""
    for j in range(half):
        f = _frequency(j, half)
        for r in range(x.shape[0]):
            s, c = sine_cosine(scale * np.float64(x[r, first]) * f)
            y[r, target + j] = s
            y[r, target + half + j] = c


@kernel
def time_embed_backward(
    y: Any, target: int, g: Any, gradient: Any, first: int, half: int, scale: float
) -> None:
    """Add the gradient of the one column that was embedded."""
    for r in range(y.shape[0]):
        total = 0.0
        for j in range(half):
            s, c = np.float64(y[r, target + j]), np.float64(y[r, target + half + j])
            d = c * g[r, target + j] - s * g[r, target + half + j]
            total += _frequency(j, half) * d
        gradient[r, first] += scale * total


# --- products with CSR tables --------------------------------------------------------------------


@inline
def _transformed(value: Any, transform: int, total: Any) -> Any:
    """Return what a program reads of a value of a CSR table."""
    if transform == 1:
        return log1p(value)
    if transform == 2:
        return value / total
    if transform == 3:
        return log1p(value / total)
    if transform == 4:
        return value / value if value > 0 else value - value
    return value


@kernel
def sparse_product(
    indptr: Any,
    indices: Any,
    values: Any,
    totals: Any,
    transform: int,
    rows: Any,
    weight: Any,
    y: Any,
    target: int,
) -> None:
    """Write the product of some rows of a CSR table with W (columns, width)."""
    for r in range(rows.size):
        y[r, target : target + weight.shape[1]] = 0.0
        row = rows[r]
        for k in range(indptr[row], indptr[row + 1]):
            value = _transformed(values[k], transform, totals[row])
            for j in range(weight.shape[1]):
                y[r, target + j] += value * weight[indices[k], j]


@kernel
def sparse_product_backward(
    indptr: Any,
    indices: Any,
    values: Any,
    totals: Any,
    transform: int,
    rows: Any,
    g: Any,
    target: int,
    gradient: Any,
) -> None:
    """Add the gradient of W."""
    for r in range(rows.size):
        row = rows[r]
        for k in range(indptr[row], indptr[row + 1]):
            value = _transformed(values[k], transform, totals[row])
            for j in range(gradient.shape[1]):
                gradient[indices[k], j] += value * g[r, target + j]


@kernel
def add_columns(g: Any, target: int, width: int, gradient: Any) -> None:
    """Add the sums of some columns of g to a vector."""
    for j in range(width):
        total = gradient[j]
        for first in range(0, g.shape[0], _ROWS_OF_SUM):
            part = total - total
            for r in range(first, min(first + _ROWS_OF_SUM, g.shape[0])):
                part += g[r, target + j]
            total += part
        gradient[j] = total
