"""Linear stochastic approximation driven by a finite Markov chain."""

from __future__ import annotations

from typing import Any

import numpy as np

from hotloops import random
from hotloops._runtime import arrays, validate
from hotloops.sgd._alias import alias_tables, draw
from hotloops.sgd._problem import (
    DIVERGENCE_LIMIT,
    Float64,
    Problem,
    float64_of,
    in_precision,
    origin_of,
    solve,
)

__all__ = ["MarkovLSA"]

_STREAM_STARTS = 4
_MAX_STATES = 4096
_SUMS_TO_ONE = 1e-9


class MarkovLSA(Problem):
    """Linear stochastic approximation with a finite Markov chain as its noise.

    ``t <- t + gamma (A[s] t + b[s])`` while s moves through S states with transition matrix P. In
    the terms of the other problems the gradient is ``-(A[s] t + b[s])``, `hessian` is ``-Abar``
    with ``Abar = sum_s pi_s A[s]`` for the stationary law pi, and `minimizer` solves
    ``Abar t* + bbar = 0``.

    Parameters
    ----------
    A : array_like, shape (S, d, d)
        One matrix for each state, S <= 4096. All eigenvalues of the mean ``Abar`` must have
        negative real parts; single states may well be unstable.
    b : array_like, shape (S, d)
        One vector for each state.
    P : array_like, shape (S, S)
        Transition probabilities, ``P[i, j]`` from i to j. Every state must be reachable from every
        other; the chain may be periodic.
    start : int or array_like, shape (S,), optional
        State, or law of the state, of the first step. Default: the stationary law.
    divergence_limit : float
        A chain with a coordinate beyond it is flagged and frozen. Default 1e6.

    Raises
    ------
    TypeError, ValueError
        Wrong types or shapes, non-finite values, rows of `P` that are no probabilities, a chain
        that falls apart into classes, a mean matrix that is not stable.

    Notes
    -----
    A step costs O(d^2) for each step size and one random word, which an alias table turns into the
    next state; the tables take 8 S^2 bytes, and probabilities are rounded to multiples of
    ``2^-32 / S``. A chain keeps one more number, its state. Class A.

    With Markovian noise the invariant mean is off ``t*`` by a term of order gamma although the
    recursion is linear; extrapolation removes it. `lsa_exact_mean` computes it.
    `noise_covariance` is the sum over all lags of the covariance of the noise
    ``(A[s] - Abar) t* + b[s] - bbar``, from the fundamental matrix of the chain.

    References
    ----------
    D. Huo, Y. Chen, Q. Xie, "Bias and extrapolation in Markovian linear stochastic approximation
    with constant stepsizes", 2023.

    Examples
    --------
    >>> from hotloops import sgd
    >>> problem = sgd.MarkovLSA(
    ...     A=[[[-1.5]], [[-0.25]]], b=[[1.0], [2.0]], P=[[0.9, 0.1], [0.2, 0.8]]
    ... )
    >>> float(problem.minimizer()[0].round(12))
    1.230769230769
    """

    kernel = "markov_lsa"

    def __init__(
        self,
        A: Any,
        b: Any,
        P: Any,
        start: Any = None,
        *,
        divergence_limit: float = DIVERGENCE_LIMIT,
    ) -> None:
        name = "MarkovLSA"
        arrays.common_library(
            name, {key: value for key, value in {"A": A, "b": b, "P": P}.items() if _typed(value)}
        )
        self.library, self.dtype = origin_of(name, {"A": A, "b": b})
        symbols: dict[str, int] = {}
        self._matrices: Float64 = validate.array(
            name, "A", float64_of(name, "A", A), shape=("S", "d", "d"), symbols=symbols
        )
        self._vectors: Float64 = validate.array(
            name, "b", float64_of(name, "b", b), shape=("S", "d"), symbols=symbols
        )
        self.num_states = symbols["S"]
        if self.num_states > _MAX_STATES:
            expectation = f"have at most {_MAX_STATES} states"
            validate.fail(ValueError, name, "A", expectation, str(self.num_states))
        transitions: Float64 = validate.array(
            name, "P", float64_of(name, "P", P), shape=("S", "S"), symbols=symbols
        )
        self._transitions = _laws(name, "P", transitions)
        _check_irreducible(self._transitions)
        self._stationary = _stationary_law(self._transitions)
        self._start = self._starting_law(start)
        self._set_size(name, symbols["d"], divergence_limit)
        self._mean_matrix = np.tensordot(self._stationary, self._matrices, 1)
        self._decay = -float(np.linalg.eigvals(self._mean_matrix).real.max())
        if self._decay <= 0:
            expectation = "have a mean of which all eigenvalues have negative real parts"
            validate.fail(ValueError, name, "A", expectation, f"one of {-self._decay:g}")
        self._tables = alias_tables(self._transitions)

    def __repr__(self) -> str:
        return f"MarkovLSA(states={self.num_states}, dim={self.dim})"

    @property
    def num_auxiliary(self) -> int:
        return 1

    def initial_auxiliary(
        self, seed: int, first_chain: int, num_chains: int, step: int, dtype: np.dtype[Any], xp: Any
    ) -> Any:
        counters = np.zeros((num_chains, 4), np.uint32)
        counters[:, 0] = step & 0xFFFFFFFF
        counters[:, 1] = step >> 32 | _STREAM_STARTS << 16
        counters[:, 2] = np.arange(first_chain, first_chain + num_chains, dtype=np.uint64)
        words = random.philox(counters, np.array([seed & 0xFFFFFFFF, seed >> 32], np.uint32))
        threshold, alias = alias_tables(self._start[None])
        states = draw(words[:, 0], threshold[0], alias[0])
        return xp.asarray(states[:, None].astype(dtype))

    def parameters(self, dtype: np.dtype[Any], xp: Any) -> tuple[Any, ...]:
        matrices = in_precision("MarkovLSA", "A", self._matrices, dtype, xp)
        vectors = in_precision("MarkovLSA", "b", self._vectors, dtype, xp)
        return matrices, vectors, *(xp.asarray(table) for table in self._tables)

    def stationary_law(self) -> Any:
        """Return ``pi``, shape (S,), float64."""
        return self._answer(self._stationary)

    def curvature_bounds(self) -> tuple[float | None, float | None]:
        return self._decay, None

    def _starting_law(self, start: Any) -> Float64:
        if start is None:
            return self._stationary
        if isinstance(start, int | np.integer):
            state = validate.integer("MarkovLSA", "start", start, low=0, high=self.num_states - 1)
            alone: Float64 = (np.arange(self.num_states) == state).astype(np.float64)
            return alone
        law: Float64 = validate.array(
            "MarkovLSA",
            "start",
            float64_of("MarkovLSA", "start", start),
            shape=("S",),
            symbols={"S": self.num_states},
        )
        start_law: Float64 = _laws("MarkovLSA", "start", law[None])[0]
        return start_law

    def _minimizer(self) -> Float64:
        return solve(self._mean_matrix, -self._stationary @ self._vectors)

    def _hessian(self) -> Float64:
        return -self._mean_matrix

    def _noise_covariance(self) -> Float64:
        """``E^T (D Z + Z^T D - D - pi pi^T) E`` with ``Z = (I - P + 1 pi^T)^{-1}``."""
        noise = self._matrices @ self._host_minimizer + self._vectors
        law = self._stationary
        noise = noise - law @ noise
        identity = np.eye(self.num_states)
        summed = solve(identity - self._transitions + law, noise)  # Z E
        half = noise.T @ (law[:, None] * (summed - noise / 2))
        covariance: Float64 = half + half.T
        return covariance


def _typed(value: object) -> bool:
    return hasattr(value, "dtype")


def _laws(name: str, argument: str, laws: Float64) -> Float64:
    """Check rows of probabilities and let them sum to one to the last bit or two."""
    if laws.min() < 0:
        validate.fail(ValueError, name, argument, "not be negative", f"{laws.min():g}")
    sums = laws.sum(axis=1)
    worst = int(np.abs(sums - 1).argmax())
    if abs(sums[worst] - 1) > _SUMS_TO_ONE:
        whole = argument != "P"
        expectation = "sum to 1" if whole else "have rows that sum to 1"
        got = f"{sums[worst]:g}" + ("" if whole else f" in row {worst}")
        validate.fail(ValueError, name, argument, expectation, got)
    normalised: Float64 = laws / sums[:, None]
    return normalised


def _check_irreducible(transitions: Float64) -> None:
    from scipy.sparse import csgraph

    count, _ = csgraph.connected_components(transitions > 0, connection="strong")
    if count > 1:
        expectation = "lead from every state to every other"
        validate.fail(ValueError, "MarkovLSA", "P", expectation, f"{count} classes of states")


def _stationary_law(transitions: Float64) -> Float64:
    """Solve ``pi P = pi``, ``sum pi = 1``; adding ones everywhere makes the system regular."""
    size = len(transitions)
    system = (np.eye(size) - transitions).T + 1.0
    law = np.maximum(solve(system, np.ones(size)), 0.0)
    normalised: Float64 = law / law.sum()
    return normalised
