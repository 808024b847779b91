"""Log-likelihood of counts, cell by cell."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops.flow._matrices import CountMatrix

__all__ = ["clip_log_theta", "log_likelihood", "means"]

Array = npt.NDArray[np.float64]

# Beyond these the law is Poisson to double precision, or all its mass lies on zero.
_LOG_THETA_RANGE = (-10.0, 15.0)
_TERM_BY_TERM = 16


def clip_log_theta(log_theta: npt.NDArray[Any]) -> Array:
    """Return ln theta within the range that the likelihood is evaluated in."""
    return np.clip(np.asarray(log_theta, np.float64), *_LOG_THETA_RANGE)


def means(likelihood: str, logits: npt.NDArray[Any], sizes: npt.NDArray[Any] | None) -> Array:
    """Return L softmax(h), or sigmoid(h) of Bernoulli modalities."""
    h = np.asarray(logits, np.float64)
    if sizes is None or likelihood == "bernoulli":
        return np.exp(-np.logaddexp(0.0, -h))
    return np.exp(_log_means(h, np.asarray(sizes, np.float64)))


def log_likelihood(
    likelihood: str,
    counts: CountMatrix,
    logits: npt.NDArray[Any],
    sizes: npt.NDArray[Any],
    log_theta: npt.NDArray[Any] | None,
) -> Array:
    """Return the sum over features of log p(x), shape (rows,).

    Parameters
    ----------
    likelihood : str
    counts : CountMatrix
    logits : ndarray, shape (rows, features)
    sizes : ndarray, shape (rows,)
        L; not used by Bernoulli modalities.
    log_theta : ndarray, shape (1, features) or (rows, features), or None
        Of negative binomial modalities.
    """
    h = np.asarray(logits, np.float64)
    rows = np.repeat(np.arange(counts.rows), np.diff(counts.indptr))
    x, at = counts.values.astype(np.float64), (rows, counts.indices)
    if likelihood == "bernoulli":
        dense, more = -np.logaddexp(0.0, h), h[at]
    else:
        log_mu = _log_means(h, np.asarray(sizes, np.float64))
        if likelihood == "poisson":
            dense, more = _poisson(x, log_mu, at)
        else:
            dense, more = _negative_binomial(x, log_mu, at, clip_log_theta(np.asarray(log_theta)))
    return np.asarray(dense.sum(axis=1) + np.bincount(rows, weights=more, minlength=counts.rows))


def _log_means(h: Array, sizes: Array) -> Array:
    """ln L + h - logsumexp(h), which stays finite where the softmax underflows."""
    top = h.max(axis=1, keepdims=True)
    total = np.log(np.exp(h - top).sum(axis=1, keepdims=True))
    return np.asarray(np.log(sizes)[:, None] + (h - top) - total)


def _poisson(x: Array, log_mu: Array, at: Any) -> tuple[Array, Array]:
    from scipy.special import gammaln

    return -np.exp(log_mu), x * log_mu[at] - gammaln(x + 1.0)


def _negative_binomial(x: Array, log_mu: Array, at: Any, log_theta: Array) -> tuple[Array, Array]:
    """Return what every entry has, as if it were zero, and what the nonzeros have beyond it."""
    from scipy.special import gammaln

    theta = np.exp(log_theta)
    dense = -theta * np.log1p(np.exp(log_mu) / theta)
    t = np.broadcast_to(theta, log_mu.shape)[at]
    mu = np.exp(log_mu[at])
    rising = _log_rising(x, t)
    return dense, rising - gammaln(x + 1.0) + x * (log_mu[at] - np.log(t + mu))


def _log_rising(x: Array, t: Array) -> Array:
    """ln of t (t + 1) ... (t + x - 1): term by term where lgamma(x + t) - lgamma(t) cancels."""
    from scipy.special import gammaln

    result: Array = gammaln(x + t) - gammaln(t)
    few = np.flatnonzero((x <= _TERM_BY_TERM) & (x == np.rint(x)))
    short, base = x[few], t[few]
    total = np.zeros_like(base)
    for i in range(_TERM_BY_TERM):
        total += np.where(short > i, np.log(base + i), 0.0)
    result[few] = total
    return result
