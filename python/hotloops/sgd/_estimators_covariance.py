"""The covariance of the estimators' coefficients, and the intercept's freedom from the ridge.

An average over steps solves, to first order, the estimating equation in which row i has the weight
``m_i / T``: its share of the T averaged steps. With scores ``g_i`` and Hessian H at the estimate,

    cov = H^{-1} (sum_i (m_i / T)^2 g_i g_i^T) H^{-1}

is therefore the covariance of the estimate about the parameter of the population, whatever the
sampling: it is H^{-1} S H^{-1} (1/N + 1/T) for T draws with replacement from N rows, and the
sandwich of one pass over a stream when each row is used once. With the deviations ``m_i / T - p_i``
from the weights of the data in place of the shares, it is the covariance about the minimiser of the
objective on the data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from hotloops.sgd._estimators_loop import Plan
from hotloops.sgd._estimators_rows import Float64, Table

__all__ = ["Moments", "Objective", "distance_left", "free_intercept", "sandwich"]

_MAX_NEWTON_STEPS = 30
_MAX_HALVINGS = 10
_TOLERANCE = 1e-9  # of what is left of the intercept's penalty


@dataclass
class Moments:
    """Sums over the averaged steps.

    Attributes
    ----------
    steps : float
        T.
    hessian : ndarray, shape (K, dim, dim), or () while it is not needed
        Of ``m_i h_i x_i x_i^T``, and the ridge of the coefficients T times.
    outer : ndarray, shape (K, dim, dim), or () while it is not needed
        Of ``m_i^2 g_i g_i^T``.
    """

    steps: float = 0.0
    hessian: Float64 = field(default_factory=lambda: np.zeros(()))
    outer: Float64 = field(default_factory=lambda: np.zeros(()))

    def mean_hessian(self) -> Float64:
        mean: Float64 = self.hessian / self.steps
        return mean

    def covariance(self) -> Float64:
        return sandwich(self.mean_hessian(), self.outer / self.steps**2)


class Objective:
    """``sum_i p_i loss_i(x_i^T t) + alpha |coefficients|^2 / 2``: the intercept is free.

    Parameters
    ----------
    plan : Plan
    table : Table
    """

    def __init__(self, plan: Plan, table: Table) -> None:
        self._table = table
        self._alpha = plan.alpha
        loss = plan.problem(np.zeros((1, table.dim)), table.targets[0, :1])
        self._slopes: Callable[[Float64, Float64], Float64] = loss._slopes
        self._curvatures: Callable[[Float64, Float64], Float64] = loss._curvatures
        self._penalised = np.ones(table.dim)
        if table.intercept:
            self._penalised[-1] = 0.0

    def expand(self, shares: Float64, theta: Float64) -> tuple[Float64, Float64]:
        """Return gradients (K, dim) and Hessians (K, dim, dim); `shares` weigh the rows."""
        gradient = np.zeros_like(theta)
        hessian = np.zeros((*theta.shape, theta.shape[1]))
        for cut in self._table.blocks():
            block = self._table.read(cut)
            margins = theta @ block.T
            for k, margin in enumerate(margins):
                targets = self._table.targets[k, cut]
                gradient[k] += block.T @ (shares[cut] * self._slopes(margin, targets))
                weights = shares[cut] * self._curvatures(margin, targets)
                hessian[k] += block.T @ (weights[:, None] * block)
        total = float(shares.sum())
        gradient += total * self._alpha * self._penalised * theta
        hessian += np.diag(total * self._alpha * self._penalised)
        return gradient, hessian

    def scores(
        self, uses: Float64, squares: list[Float64], theta: Float64
    ) -> tuple[Float64, list[Float64]]:
        """Return ``sum_i m_i g_i``, (K, dim), and ``sum_i s_i g_i g_i^T`` for each array s."""
        total = np.zeros_like(theta)
        outers = [np.zeros((*theta.shape, theta.shape[1])) for _ in squares]
        for cut in self._table.blocks():
            block = self._table.read(cut)
            margins = theta @ block.T
            for k, margin in enumerate(margins):
                slopes = self._slopes(margin, self._table.targets[k, cut])
                scores = slopes[:, None] * block + self._alpha * self._penalised * theta[k]
                total[k] += uses[cut] @ scores
                for outer, weights in zip(outers, squares, strict=True):
                    outer[k] += scores.T @ (weights[cut][:, None] * scores)
        return total, outers


def sandwich(hessian: Float64, outer: Float64) -> Float64:
    """Return ``H^{-1} S H^{-1}``, symmetric, with a pseudo-inverse where H is singular."""
    inverse = np.linalg.pinv(hessian, hermitian=True)
    product = inverse @ outer @ inverse
    result: Float64 = (product + product.swapaxes(-1, -2)) / 2
    return result


def distance_left(hessian: Float64, gradient: Float64, covariance: Float64) -> float:
    """Return how far estimates are from solving their equation, in standard errors at most.

    The scores at the estimate, averaged over the steps, are ``(t_first - t_last) / (gamma T)`` and
    what the bias of the step size adds: both vanish in a long run with small steps.
    """
    inverse = np.linalg.pinv(hessian, hermitian=True)
    distance = np.abs(np.einsum("kij,kj->ki", inverse, gradient))
    errors = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
    return float((distance / np.maximum(errors, 1e-300)).max())


def free_intercept(objective: Objective, shares: Float64, theta: Float64, alpha: float) -> Float64:
    """Move the estimates, (K, dim), to where they would be without a ridge on the intercept.

    The kernels' ridge shrinks every coordinate, so that the gradient at the estimate t of the
    objective with a free intercept is ``noise - alpha t_0 e_0``. The answer t' is where it is the
    noise alone: ``G(t') = G(t) + alpha t_0 e_0``, found by Newton's method. One step does it for
    squared errors; for small alpha a second one is of no consequence.
    """
    gradient, hessian = objective.expand(shares, theta)
    pull = alpha * theta[:, -1]
    goal = gradient.copy()
    goal[:, -1] += pull
    scale = np.abs(pull)
    missing = goal - gradient
    for _ in range(_MAX_NEWTON_STEPS):
        open_ = np.abs(missing).max(axis=1) > _TOLERANCE * scale
        if not open_.any():
            break
        inverse = np.linalg.pinv(hessian, hermitian=True)
        step = np.where(open_[:, None], np.einsum("kij,kj->ki", inverse, missing), 0.0)
        for _ in range(_MAX_HALVINGS):
            gradient, trial_hessian = objective.expand(shares, theta + step)
            trial = goal - gradient
            worse = np.linalg.norm(trial, axis=1) > np.linalg.norm(missing, axis=1)
            if not (worse & open_).any():
                break
            step[worse] /= 2
        if (worse & open_).any():
            break
        theta, hessian, missing = theta + step, trial_hessian, trial
    return theta
