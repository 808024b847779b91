"""What a row must return before it is timed.

A row's chains are random, and each library draws its own numbers, so answers are compared in
distribution: with exact moments where there are any, else with a plain float64 loop in NumPy. The
bounds are six standard errors: a right answer fails less than once in 10^7 runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from _peers_sgd import Logistic, Quadratic
from _peers_streaming import Markov, Streaming

Float64 = npt.NDArray[np.float64]

_ERRORS = 6.0


class QuadraticAnswer:
    """Exact moments of chains that start at the minimiser.

    With ``rho = 1 - gamma a``, the average of n iterates is off the minimiser by
    ``-(gamma s / n) sum_k xi_k (1 - rho^(n-k+1)) / (1 - rho)`` and the last by
    ``-gamma s sum_k rho^(n-k) xi_k``. Copies of a chain share the xi.
    """

    def __init__(self, case: Quadratic) -> None:
        self.case = case
        n = case.num_steps
        a = case.curvature.astype(np.float64)
        s = case.noise_scale.astype(np.float64)
        gamma = case.step_sizes.astype(np.float64)[:, None]
        rho = (1.0 - gamma * a)[:, None, :]  # (step sizes, 1, dim)
        power = rho ** np.arange(n + 1)[:, None]
        in_mean = (gamma * s)[:, None, :] / n * (1.0 - power[:, 1:]) / (1.0 - rho)
        in_last = (gamma * s)[:, None, :] * power[:, :-1]
        self.covariance_of_mean = np.einsum("jmi,kmi->jki", in_mean, in_mean)
        self.covariance_of_last = np.einsum("jmi,kmi->jki", in_last, in_last)

    def check(self, answer: tuple[Any, Any]) -> None:
        """Raise if averages or last iterates do not have these moments."""
        for values, covariance in zip(
            answer, (self.covariance_of_mean, self.covariance_of_last), strict=True
        ):
            off = _float64(values, self.case.theta0.shape) - self.case.minimizer
            deviation = np.sqrt(np.einsum("jji->ji", covariance))
            z = off / deviation
            error = 1.0 / np.sqrt(z.shape[0])
            _bounded("mean", z.mean(axis=0) / error)
            # Normal variables: the product of two with correlation r has variance 1 + r^2.
            if z.shape[0] == 1:  # one chain: its coordinates are no sample of anything
                continue
            r = covariance / (deviation[:, None] * deviation[None, :])
            found = np.einsum("cji,cki->jki", z, z) / z.shape[0]
            _bounded("covariance", (found - r) / (error * np.sqrt(1.0 + r**2)))


class SampledAnswer:
    """Averages and last iterates of the same chains with other random numbers, in float64."""

    def __init__(self, reference: tuple[Float64, Float64]) -> None:
        self.reference = reference

    def check(self, answer: tuple[Any, Any]) -> None:
        """Raise if means or variances over the chains differ from the reference."""
        for values, reference in zip(answer, self.reference, strict=True):
            found = _float64(values, reference.shape)
            size = found.shape[0]
            variances = found.var(axis=0), reference.var(axis=0)
            error = np.sqrt((variances[0] + variances[1]) / size)
            _bounded("mean", (found.mean(axis=0) - reference.mean(axis=0)) / error)
            _bounded("variance", _variance_scores(found, reference))


def plain_logistic(case: Logistic) -> tuple[Float64, Float64]:
    """Return averages and last iterates of a plain loop."""
    rng = np.random.default_rng(20)
    features, labels = case.features.astype(np.float64), case.labels

    def gradient(theta: Float64) -> Float64:
        index = rng.integers(0, labels.size, theta.shape[0])
        rows = features[index][:, None, :]
        margin = (rows * theta).sum(axis=2, keepdims=True)
        residual = _sigmoid(margin) - labels[index][:, None, None]
        return residual * rows + case.l2 * theta

    return _plain(case, gradient)


def plain_streaming(case: Streaming) -> tuple[Float64, Float64]:
    """Return averages and last iterates of a plain loop."""
    rng = np.random.default_rng(21)
    truth, scale = case.truth.astype(np.float64), case.scale.astype(np.float64)

    def gradient(theta: Float64) -> Float64:
        rows = rng.standard_normal((theta.shape[0], 1, truth.size)) * scale
        label = rng.random((theta.shape[0], 1)) < _sigmoid(rows @ truth)
        margin = (rows * theta).sum(axis=2, keepdims=True)
        return (_sigmoid(margin) - label[:, :, None]) * rows + case.l2 * theta

    return _plain(case, gradient)


def plain_markov(case: Markov) -> tuple[Float64, Float64]:
    """Return averages and last iterates of a plain loop."""
    rng = np.random.default_rng(22)
    matrices, vectors = case.matrices.astype(np.float64), case.vectors.astype(np.float64)
    ends = np.cumsum(case.transitions, axis=1)
    states = rng.choice(case.stationary.size, case.theta0.shape[0], p=case.stationary)

    def gradient(theta: Float64) -> Float64:
        nonlocal states
        drift = np.einsum("cik,cjk->cji", matrices[states], theta) + vectors[states][:, None]
        uniform = rng.random(states.size) * ends[states, -1]
        states = (ends[states] <= uniform[:, None]).sum(axis=1)
        return -drift

    return _plain(case, gradient)


def _plain(
    case: Logistic | Streaming | Markov, gradient: Callable[[Float64], Float64]
) -> tuple[Float64, Float64]:
    theta = case.theta0.astype(np.float64)
    step_sizes = case.step_sizes.astype(np.float64)[:, None]
    sums = np.zeros_like(theta)
    for _ in range(case.num_steps):
        theta = theta - step_sizes * gradient(theta)
        sums += theta
    return sums / case.num_steps, theta


def _sigmoid(margin: Float64) -> Float64:
    share: Float64 = 1.0 / (1.0 + np.exp(-margin))
    return share


def _variance_scores(first: Float64, second: Float64) -> Float64:
    """Return differences of variances over their standard errors, from fourth moments."""
    squares = [(part - part.mean(axis=0)) ** 2 for part in (first, second)]
    error = np.sqrt(sum(part.var(axis=0) / part.shape[0] for part in squares))
    scores: Float64 = (squares[0].mean(axis=0) - squares[1].mean(axis=0)) / error
    return scores


def check_normals(values: Any, shape: tuple[int, ...]) -> None:
    """Raise if four moments, or the correlation of neighbours, are not those of N(0, 1)."""
    z = _float64(values, shape).ravel()
    error = 1.0 / np.sqrt(z.size)
    _bounded("mean", z.mean() / error)
    _bounded("variance", ((z**2).mean() - 1.0) / (error * np.sqrt(2.0)))
    _bounded("third moment", (z**3).mean() / (error * np.sqrt(15.0)))
    _bounded("fourth moment", ((z**4).mean() - 3.0) / (error * np.sqrt(96.0)))
    _bounded("correlation", (z[1:] * z[:-1]).mean() / error)


def _float64(values: Any, shape: tuple[int, ...]) -> Float64:
    found = np.asarray(values)
    assert found.shape == shape, f"shape {found.shape}, expected {shape}"
    assert np.isfinite(found).all()
    return found.astype(np.float64)


def _bounded(what: str, scores: Any) -> None:
    worst = float(np.abs(scores).max())
    assert worst < _ERRORS, f"{what}: off by {worst:.1f} standard errors"
