"""Exact moments of the invariant law of linear stochastic approximation."""

from __future__ import annotations

from typing import Any

import numpy as np

from hotloops._runtime import validate
from hotloops.sgd._markov import MarkovLSA
from hotloops.sgd._problem import Float64, solve

__all__ = ["lsa_exact_mean", "lsa_exact_second_moment"]

_MAX_UNKNOWNS_OF_MEAN = 8192  # half a gigabyte
_MAX_UNKNOWNS = 4000
_DENSE_SPECTRUM = 500  # up to here all eigenvalues are a matter of a second


def lsa_exact_mean(problem: Any, step_size: float) -> Any:
    """Return the invariant mean of linear stochastic approximation with a constant step.

    Parameters
    ----------
    problem : MarkovLSA or tuple (A, b, P)
        With a tuple, what `MarkovLSA` takes.
    step_size : float
        ``gamma > 0``.

    Returns
    -------
    array, shape (d,), float64
        ``E t`` under the invariant law; its distance to ``problem.minimizer()`` is the bias.

    Raises
    ------
    TypeError, ValueError
        Not such a problem, more than 8192 unknowns, or a step size at which the mean does not
        settle.

    Notes
    -----
    With ``u_j = E[t 1{s = j}]``: ``u_j = sum_i P_ij ((I + gamma A_i) u_i + gamma b_i pi_i)``, one
    linear system with S d unknowns, O((S d)^3). Single precision plays no part in it. Class B.

    References
    ----------
    D. Huo, Y. Chen, Q. Xie, "Bias and extrapolation in Markovian linear stochastic approximation
    with constant stepsizes", 2023.

    Examples
    --------
    >>> from hotloops import sgd
    >>> chain = ([[[-1.5]], [[-0.25]]], [[1.0], [2.0]], [[0.9, 0.1], [0.2, 0.8]])
    >>> float(sgd.lsa_exact_mean(chain, 0.05)[0].round(12))
    1.303758471965
    """
    system = _System("lsa_exact_mean", problem, step_size)
    return system.problem._answer(system.mean().sum(axis=0))


def lsa_exact_second_moment(problem: Any, step_size: float) -> Any:
    """Return the invariant second moment of linear stochastic approximation, ``E t t^T``.

    Parameters
    ----------
    problem : MarkovLSA or tuple (A, b, P)
        With a tuple, what `MarkovLSA` takes.
    step_size : float
        ``gamma > 0``.

    Returns
    -------
    array, shape (d, d), float64
        Subtract the outer product of `lsa_exact_mean` for the covariance.

    Raises
    ------
    TypeError, ValueError
        Not such a problem, ``S d^2 > 4000``, or a step size at which second moments explode.

    Notes
    -----
    The system of `lsa_exact_mean` for ``E[t t^T 1{s = j}]``, with S d^2 unknowns, O((S d^2)^3).
    Class B.

    Examples
    --------
    >>> from hotloops import sgd
    >>> chain = ([[[-1.0]]], [[2.0]], [[1.0]])  # one state: no noise, t = 2 for ever
    >>> sgd.lsa_exact_second_moment(chain, 0.5)
    array([[4.]])
    """
    system = _System("lsa_exact_second_moment", problem, step_size)
    return system.problem._answer(system.second_moment().sum(axis=0))


class _System:
    """The linear equations of the invariant law."""

    def __init__(self, function: str, problem: Any, step_size: float) -> None:
        self.function = function
        if isinstance(problem, tuple | list) and len(problem) == 3:
            problem = MarkovLSA(*problem)
        if not isinstance(problem, MarkovLSA):
            expectation = "be a MarkovLSA or a tuple (A, b, P)"
            validate.fail(TypeError, function, "problem", expectation, validate.describe(problem))
        self.problem = problem
        gamma = validate.real(function, "step_size", step_size, low=0.0, open_low=True)
        self.step_size = gamma
        self.moves: Float64 = np.eye(problem.dim) + gamma * problem._matrices
        self.pushes: Float64 = gamma * problem._vectors
        self.transitions = problem._transitions
        self.law = problem._stationary

    def mean(self) -> Float64:
        """Return ``E[t 1{s = j}]``, shape (S, d)."""
        limit = _MAX_UNKNOWNS_OF_MEAN
        right = self.transitions.T @ (self.pushes * self.law[:, None])
        return self._solve(self.moves, right, "S d", limit, "the mean does not settle")

    def second_moment(self) -> Float64:
        """Return ``E[t t^T 1{s = j}]``, shape (S, d, d)."""
        num_states, d = self.pushes.shape
        self._check_size(num_states * d * d, "S d^2", _MAX_UNKNOWNS)
        moved = np.einsum("sij,sj->si", self.moves, self.mean())
        cross = moved[:, :, None] * self.pushes[:, None, :]
        squares = self.pushes[:, :, None] * self.pushes[:, None, :] * self.law[:, None, None]
        inside = (cross + cross.transpose(0, 2, 1) + squares).reshape(num_states, d * d)
        moves = np.einsum("sik,sjl->sijkl", self.moves, self.moves)
        solution = self._solve(
            moves.reshape(num_states, d * d, d * d),
            self.transitions.T @ inside,
            "S d^2",
            _MAX_UNKNOWNS,
            "second moments explode",
        ).reshape(num_states, d, d)
        symmetric: Float64 = (solution + solution.transpose(0, 2, 1)) / 2
        return symmetric

    def _solve(
        self, moves: Float64, right: Float64, unknowns: str, limit: int, failure: str
    ) -> Float64:
        """Solve ``v_j = sum_i P_ij moves_i v_i + right_j``."""
        num_states, size = right.shape
        count = num_states * size
        self._check_size(count, unknowns, limit)
        operator = np.einsum("ij,ikl->jkil", self.transitions, moves).reshape(count, count)
        radius = _spectral_radius(operator)
        if radius >= 1:
            expectation = f"be small enough: {failure}"
            got = f"{self.step_size:g}, with spectral radius {radius:g}"
            validate.fail(ValueError, self.function, "step_size", expectation, got)
        return solve(np.eye(count) - operator, right.reshape(-1)).reshape(num_states, size)

    def _check_size(self, count: int, unknowns: str, limit: int) -> None:
        if count > limit:
            expectation = f"have {unknowns} <= {limit}"
            validate.fail(ValueError, self.function, "problem", expectation, str(count))


def _spectral_radius(operator: Float64) -> float:
    if len(operator) <= _DENSE_SPECTRUM:
        return float(np.abs(np.linalg.eigvals(operator)).max())
    from scipy.sparse import linalg

    start = np.ones(len(operator))
    try:
        values = linalg.eigs(operator, k=1, which="LM", v0=start, return_eigenvectors=False)
    except linalg.ArpackNoConvergence:
        values = np.linalg.eigvals(operator)
    return float(np.abs(values).max())
