"""Estimates over an ensemble, each with its Monte-Carlo standard error."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_SEPARATE = 2.0  # standard errors between an estimate and zero that make it more than a bound


@dataclass(frozen=True)
class Uncertain:
    """A number that is not negative, with its standard error.

    Attributes
    ----------
    value : float
        The estimate; an upper bound if ``bound``.
    error : float
        Its standard error; 0 if the number is exact.
    bound : bool
        Whether the estimate could not be told from zero.
    """

    value: float
    error: float = 0.0
    bound: bool = False

    def __str__(self) -> str:
        if self.bound:
            return f"< {fixed(self.value, self.value, digits=2)}"
        if self.error == 0.0:
            return fixed(self.value, self.value, digits=4)
        return f"{fixed(self.value, self.error)} ± {fixed(self.error, self.error)}"


def fixed(value: float, error: float, digits: int = 2) -> str:
    """Write a value with as many decimals as ``error`` has to ``digits`` significant figures."""
    if not (math.isfinite(value) and math.isfinite(error)):
        return str(value)
    decimals = digits - 1 - math.floor(math.log10(error)) if error > 0.0 else digits
    return f"{value:,.{min(max(decimals, 0), 12)}f}"


def norm_of_mean(rows: npt.NDArray[np.float64]) -> Uncertain:
    """Estimate the norm of the mean of the law that rows are drawn from.

    The norm of the average of noisy rows is too large. Its square without bias is the average of
    the inner products of different rows, ``q = (|sum b|^2 - sum |b|^2) / (C (C - 1))``, with
    variance ``4 m'Sm / C + 2 tr(S^2) / C^2`` for mean ``m`` and covariance ``S`` of a row.

    Parameters
    ----------
    rows : numpy.ndarray, shape (C, d)
        Independent rows, at least two.

    Returns
    -------
    Uncertain
        The root of `q`, or an upper bound where `q` is within two standard errors of zero.
    """
    count = len(rows)
    mean = rows.mean(axis=0)
    centred = rows - mean
    covariance = np.atleast_2d(centred.T @ centred) / (count - 1)
    squared = float(mean @ mean) - float(np.trace(covariance)) / count
    pairs = 2.0 * float(np.sum(covariance**2)) / count**2
    # With the sample mean for m the first term is too large by twice `pairs` on average.
    variance = max(4.0 * float(mean @ covariance @ mean) / count - pairs, pairs)
    spread = math.sqrt(variance)
    if squared <= _SEPARATE * spread:
        return Uncertain(math.sqrt(max(squared, 0.0) + _SEPARATE * spread), bound=True)
    root = math.sqrt(squared)
    return Uncertain(root, spread / (2.0 * root))


def density(
    samples: npt.NDArray[np.float64], places: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Estimate the density of samples at some places by Gaussian kernels of Silverman's width."""
    quartiles = np.quantile(samples, [0.25, 0.75])
    scale = min(float(samples.std()), float(quartiles[1] - quartiles[0]) / 1.349)
    width = 0.9 * (scale or 1e-100) * len(samples) ** -0.2
    distance = (places[:, None] - samples[None, :]) / width
    kernels = np.exp(-0.5 * distance**2) / (width * math.sqrt(2.0 * math.pi))
    estimate: npt.NDArray[np.float64] = kernels.mean(axis=1)
    return estimate
