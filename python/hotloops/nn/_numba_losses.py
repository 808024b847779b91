"""The twin of ``csrc/nn/{cpu_losses.cpp,step_counts.hpp}``: losses and gradients, row by row."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops._runtime._numba_jit import inline, kernel
from hotloops._runtime._numba_math import exp_bounded, log_positive, sigmoid
from hotloops._runtime._numba_packs import traced, where
from hotloops._runtime._numba_special import (
    clamp,
    exp_bound,
    log1p,
    log1p_excess,
    log_factorial,
    rising,
    softplus,
)
from hotloops.nn._jobs import LossJob

__all__ = ["evaluate"]

_MEAN_SQUARED, _CROSS_ENTROPY, _BINARY_CROSS_ENTROPY = 0, 1, 2
_NEGATIVE_BINOMIAL, _POISSON, _HUBER = 3, 4, 5
_LOWEST_LOG_THETA, _HIGHEST_LOG_THETA = -10.0, 15.0
_BINARY = 4


def evaluate(job: LossJob) -> npt.NDArray[np.float64]:
    """Return the loss of each row, and add the gradient of their weighted mean."""
    losses = np.empty(job.rows.size)
    dtype = job.logits.dtype
    gradient = np.empty((0, 0), dtype) if job.gradient is None else job.gradient
    scale = dtype.type(job.weight / job.rows.size)
    place = job.logits, job.first, job.width, job.rows
    end = scale, losses, gradient
    if job.labels is not None:
        _labels(*place, job.labels, *end)
    elif job.dense is not None:
        _dense(job.kind, *place, job.dense, dtype.type(job.delta), *end)
    else:
        assert job.counts is not None
        table = job.counts
        source = table.indptr, table.indices, table.values
        if job.kind == _BINARY_CROSS_ENTROPY:
            _sparse(*place, *source, table.transform == _BINARY, *end)
        elif job.kind == _POISSON:
            _poisson(*place, *source, table.totals, *end)
        else:
            theta, log_theta = np.empty_like(job.log_theta), np.empty_like(job.log_theta)
            _set_theta(job.log_theta.ravel(), theta.ravel(), log_theta.ravel())
            laws = theta, log_theta, job.groups, job.log_theta_gradient
            _negative_binomial(*place, *source, table.totals, *laws, *end)
    return losses


@inline
def _strand_total(strands: Any) -> float:
    return float(
        ((strands[0] + strands[1]) + (strands[2] + strands[3]))
        + ((strands[4] + strands[5]) + (strands[6] + strands[7]))
    )


@inline
def _sum_of(x: Any) -> float:
    strands = np.zeros(8)
    for j in range(x.size):
        strands[j & 7] += np.float64(x[j])
    return _strand_total(strands)


@inline
def _give(gradient: Any, r: int, first: int, slope: Any, scale: Any) -> None:
    if gradient.size:
        for j in range(slope.size):
            gradient[r, first + j] += slope[j] * scale


# --- dense targets -------------------------------------------------------------------------------


@traced
def _square(d: Any) -> Any:
    return d * d


@traced
def _huber(d: Any, delta: Any) -> tuple[Any, Any]:
    """Return Huber's loss and its slope."""
    inside = where(d > delta, delta, d)
    inside = where(inside < -delta, -delta, inside)
    return inside * (d - 0.5 * inside), inside


@traced
def _bernoulli(h: Any, x: Any) -> tuple[Any, Any]:
    """Return minus the log likelihood of logits h and its slope."""
    return softplus(h) - x * h, sigmoid(h) - x


@kernel
def _dense(
    kind: int,
    h: Any,
    first: int,
    width: int,
    rows: Any,
    target: Any,
    delta: Any,
    scale: Any,
    losses: Any,
    gradient: Any,
) -> None:
    """Squared error, Huber's loss or logistic loss against a dense table."""
    term, slope = np.empty(width, h.dtype), np.empty(width, h.dtype)
    mean = h.dtype.type(1.0 / width)
    for r in range(rows.size):
        row = rows[r]
        for j in range(width):
            x, y = h[r, first + j], target[row, j]
            if kind == _BINARY_CROSS_ENTROPY:
                term[j], slope[j] = _bernoulli(x, y)
            elif kind == _HUBER:
                term[j], inside = _huber(x - y, delta)
                slope[j] = mean * inside
            else:
                d = x - y
                term[j], slope[j] = _square(d), mean * (d + d)
        total = _sum_of(term)
        losses[r] = total if kind == _BINARY_CROSS_ENTROPY else total / width
        _give(gradient, r, first, slope, scale)


# --- softmax -------------------------------------------------------------------------------------


@traced
def _exp_clamped(x: Any) -> Any:
    return exp_bounded(clamp(x, exp_bound(x)))


@inline
def _softmax(h: Any, r: int, first: int, share: Any) -> float:
    """Write softmax(h) of a row to `share` and return log sum exp h."""
    top = h[r, first]
    for j in range(1, share.size):
        top = max(top, h[r, first + j])
    for j in range(share.size):
        share[j] = _exp_clamped(h[r, first + j] - top)
    total = _sum_of(share)
    inverse = h.dtype.type(1.0 / total)
    for j in range(share.size):
        share[j] *= inverse
    return float(np.float64(top) + log_positive(total))


@kernel
def _labels(
    h: Any,
    first: int,
    width: int,
    rows: Any,
    labels: Any,
    scale: Any,
    losses: Any,
    gradient: Any,
) -> None:
    """Cross entropy of softmax(h) and labels."""
    share = np.empty(width, h.dtype)
    for r in range(rows.size):
        log_sum = _softmax(h, r, first, share)
        label = labels[rows[r]]
        losses[r] = log_sum - np.float64(h[r, first + label])
        share[label] -= h.dtype.type(1.0)
        _give(gradient, r, first, share, scale)


# --- CSR targets ---------------------------------------------------------------------------------


@kernel
def _sparse(
    h: Any,
    first: int,
    width: int,
    rows: Any,
    indptr: Any,
    indices: Any,
    values: Any,
    binary: bool,
    scale: Any,
    losses: Any,
    gradient: Any,
) -> None:
    """Logistic loss against a CSR table: as if all were 0, put right where they are not."""
    term, slope = np.empty(width, h.dtype), np.empty(width, h.dtype)
    zero, one = h.dtype.type(0.0), h.dtype.type(1.0)
    for r in range(rows.size):
        row = rows[r]
        for j in range(width):
            term[j], slope[j] = _bernoulli(h[r, first + j], zero)
        loss = _sum_of(term)
        for k in range(indptr[row], indptr[row + 1]):
            j, x = indices[k], values[k]
            if binary:
                x = one if x > zero else zero
            loss -= np.float64(x) * np.float64(h[r, first + j])
            slope[j] -= x
        losses[r] = loss
        _give(gradient, r, first, slope, scale)


@kernel
def _poisson(
    h: Any,
    first: int,
    width: int,
    rows: Any,
    indptr: Any,
    indices: Any,
    values: Any,
    totals: Any,
    scale: Any,
    losses: Any,
    gradient: Any,
) -> None:
    """Counts with means L softmax(h), L the row's total."""
    share = np.empty(width, h.dtype)
    for r in range(rows.size):
        row = rows[r]
        total = np.float64(totals[row])
        log_scale = log_positive(total) - _softmax(h, r, first, share)
        loss, counts = total, 0.0
        for k in range(indptr[row], indptr[row + 1]):
            x = np.float64(values[k])
            counts += x
            loss += log_factorial(x) - x * (np.float64(h[r, first + indices[k]]) + log_scale)
        factor = h.dtype.type(counts)
        for j in range(width):
            share[j] *= factor
        for k in range(indptr[row], indptr[row + 1]):
            share[indices[k]] -= values[k]
        losses[r] = loss
        _give(gradient, r, first, share, scale)


# --- the negative binomial -----------------------------------------------------------------------


@traced
def _bounded_theta(x: Any) -> tuple[Any, Any]:
    x = where(x < _LOWEST_LOG_THETA, _LOWEST_LOG_THETA, x)
    x = where(x > _HIGHEST_LOG_THETA, _HIGHEST_LOG_THETA, x)
    return exp_bounded(x), x


@kernel
def _set_theta(given: Any, theta: Any, log_theta: Any) -> None:
    for j in range(given.size):
        theta[j], log_theta[j] = _bounded_theta(given[j])


@traced
def _zero_count(mu: Any, theta: Any) -> tuple[Any, Any, Any]:
    """Return -log p of a count of 0, and the slopes of log p by log mu and log theta."""
    u = mu / theta
    return theta * log1p(u), -mu / (1.0 + u), -theta * log1p_excess(u)


@inline
def _count_excess(
    x: float, log_mu: float, theta: float, log_theta: float
) -> tuple[float, float, float]:
    """Return what a count above 0 adds to those."""
    u = _exp_clamped(log_mu) / theta
    log_gamma, digamma = rising(theta, x)
    share = x / (1.0 + u)
    log_odds = log_mu - log_theta - log1p(u)
    return log_factorial(x) - log_gamma - x * log_odds, share, theta * digamma - share


@kernel
def _negative_binomial(
    h: Any,
    first: int,
    width: int,
    rows: Any,
    indptr: Any,
    indices: Any,
    values: Any,
    totals: Any,
    theta: Any,
    log_theta: Any,
    groups: Any,
    log_theta_gradient: Any,
    scale: Any,
    losses: Any,
    gradient: Any,
) -> None:
    """Counts with means L softmax(h), L the row's total, and inverse dispersions theta."""
    share, term = np.empty(width, h.dtype), np.empty(width, h.dtype)
    slope, theta_slope = np.empty(width, h.dtype), np.empty(width, h.dtype)
    for r in range(rows.size):
        row = rows[r]
        group = groups[row] if groups.size else 0
        total = totals[row]
        log_scale = log_positive(np.float64(total)) - _softmax(h, r, first, share)
        for j in range(width):
            term[j], slope[j], theta_slope[j] = _zero_count(share[j] * total, theta[group, j])
        loss = 0.0
        for k in range(indptr[row], indptr[row + 1]):
            j = indices[k]
            log_mu = np.float64(h[r, first + j]) + log_scale
            law = np.float64(theta[group, j]), np.float64(log_theta[group, j])
            more, by_mu, by_theta = _count_excess(np.float64(values[k]), log_mu, law[0], law[1])
            loss += more
            slope[j] += h.dtype.type(by_mu)
            theta_slope[j] += h.dtype.type(by_theta)
        losses[r] = _sum_of(term) + loss
        if log_theta_gradient.size:
            for j in range(width):
                log_theta_gradient[group, j] -= scale * theta_slope[j]
        along = h.dtype.type(_sum_of(slope))
        for j in range(width):
            slope[j] = share[j] * along - slope[j]
        _give(gradient, r, first, slope, scale)
