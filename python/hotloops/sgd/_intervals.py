"""Estimates of the long-run covariance from what the drivers stored, and quantiles.

Arrays are of NumPy or CuPy. `running` holds the sums of the iterates after every stored batch, of
shape (F, C, d) or (F, C, J, d): time comes first.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from hotloops._runtime import validate

__all__ = [
    "SCALING_QUANTILES",
    "batch_length_of",
    "batch_means",
    "normal_quantile",
    "overlapping_means",
    "plug_in_covariance",
    "scaling_quantile",
    "scaling_variance",
    "spread",
    "t_quantile",
    "triangle_to_full",
]

# sup-type limit of random scaling: two-sided quantiles of W(1) / sqrt(int (W(r) - r W(1))^2 dr);
# S. Lee, Y. Liao, M. Seo, Y. Shin, AAAI 2022, after Abadir and Paruolo, Econometrica 1997.
SCALING_QUANTILES = {0.8: 3.875, 0.9: 5.323, 0.95: 6.747, 0.98: 8.613}

MAX_DEFAULT_BATCHES = 50
MIN_DEFAULT_BATCHES = 5
# Shorter batches see too little of the correlation: Sigma is low by about 1 / (gamma mu m).
MIN_RELAXATIONS = 20.0


def t_quantile(level: float, degrees: float) -> float:
    """Return the two-sided quantile of Student's t."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, 0.5 + level / 2))


def normal_quantile(level: float) -> float:
    """Return the two-sided quantile of the normal law."""
    from scipy.special import ndtri

    return float(ndtri(0.5 + level / 2))


def scaling_quantile(function: str, level: float) -> float:
    """Return the two-sided quantile of random scaling, where it is tabulated."""
    for known, quantile in SCALING_QUANTILES.items():
        if abs(level - known) < 1e-12:
            return quantile
    levels = ", ".join(str(known) for known in SCALING_QUANTILES)
    expectation = f"be one of {levels} for 'random_scaling', whose quantiles are tabulated"
    return validate.fail(ValueError, function, "level", expectation, str(level))


def batch_length_of(stored: int, stride: int, relaxation: float | None) -> int:
    """Return how many stored batches make one batch by default.

    At most 50 batches, and as few as keep `relaxation` (``gamma mu``) times their length at 20 or
    more, but not below 5.
    """
    group = -(-stored // MAX_DEFAULT_BATCHES)
    if relaxation is not None:
        enough = math.ceil(min(MIN_RELAXATIONS / (relaxation * stride), float(stored)))
        group = max(group, min(enough, stored // MIN_DEFAULT_BATCHES))
    return max(1, group)


def batch_means(running: Any, stride: int, group: int, num_batches: int, gap: int = 0) -> Any:
    """Return the means of the last `num_batches` batches of `group` stored ones each, of which the
    first `gap` are left out."""
    first = running.shape[0] - num_batches * group
    sums = running[first + group - 1 :: group].copy()
    before = first + gap - 1
    if before >= 0:
        sums -= running[before::group][:num_batches]
    else:
        sums[1:] -= running[before + group :: group][: num_batches - 1]
    return sums / float((group - gap) * stride)


def overlapping_means(running: Any, stride: int, window: int) -> Any:
    """Return the deviations of all means over `window` stored batches from the mean over all."""
    sums = running[window - 1 :].copy()
    sums[1:] -= running[:-window]
    return sums / float(window * stride) - running[-1] / float(running.shape[0] * stride)


def spread(deviations: Any, scale: float, xp: Any, *, full: bool) -> Any:
    """Return ``scale sum_k x_k x_k^T`` over the first axis, or its diagonal."""
    if full:
        return xp.einsum("k...d,k...e->...de", deviations, deviations) * scale
    return (deviations * deviations).sum(axis=0) * scale


def scaling_variance(count: int, sums: Any, squares: Any, products: Any) -> Any:
    """Return the diagonal of ``V = n^-2 sum_s s^2 (mean_s - mean_n)^2`` (random scaling).

    With ``S_s = s mean_s`` relative to the shift: ``S_n`` in `sums`, ``sum S_s^2`` in `squares`,
    ``sum s S_s`` in `products`.
    """
    n = float(count)
    all_squares = float(count * (count + 1) * (2 * count + 1) // 6)
    slope = sums / n
    total = (squares - 2.0 * slope * products) + slope * slope * all_squares
    return total.clip(0.0) / (n * n)


def triangle_to_full(triangle: Any, dim: int, xp: Any) -> Any:
    """Return symmetric matrices (..., d, d) from the rows of their lower triangles."""
    rows, columns = np.tril_indices(dim)
    full = xp.empty((*triangle.shape[:-1], dim, dim), triangle.dtype)
    full[..., rows, columns] = triangle
    full[..., columns, rows] = triangle
    return full


def plug_in_covariance(hessian: Any, outer: Any) -> Any:
    """Return ``H^-1 S H^-1`` for NumPy matrices (C, d, d); NaN where H is singular."""
    covariance = np.full(hessian.shape, np.nan)
    for chain, (h, s) in enumerate(zip(hessian, outer, strict=True)):
        try:
            half = np.linalg.solve(h, s)
            product = np.linalg.solve(h, half.T)
        except np.linalg.LinAlgError:
            continue
        covariance[chain] = (product + product.T) / 2
    return covariance
