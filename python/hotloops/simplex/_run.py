"""The loops: Langevin multiplicative weights and its relatives."""

from __future__ import annotations

import math
from concurrent.futures import Executor
from typing import Any

from hotloops.simplex._objective import Objective
from hotloops.simplex._result import SimplexResult
from hotloops.simplex._runner import run
from hotloops.simplex._state import SimplexState

__all__ = ["accelerated_mwu", "lmwu", "mwu", "projected_langevin"]


def lmwu(
    objective: Objective,
    *,
    sizes: Any = None,
    x0: Any = None,
    step_size: Any,
    inverse_temperature: Any = math.inf,
    base_measure: Any = 1.0,
    retraction: str = "entropic",
    num_steps: int,
    num_chains: int = 1,
    schedule: Any = None,
    temperature_schedule: Any = None,
    swap_every: int | None = None,
    floor: Any = "auto",
    clip: float = 30.0,
    polish_steps: int = 200,
    trace_every: int = 0,
    burn_in: int = 0,
    covariance: bool = False,
    num_bins: int = 0,
    seed: int = 0,
    chain_offset: int = 0,
    step_offset: int = 0,
    dtype: Any = None,
    state: SimplexState | None = None,
    out: Any = None,
    backend: str | None = None,
    num_threads: int | None = None,
    progress: bool = False,
    max_seconds: float | None = None,
    executor: Executor | None = None,
) -> SimplexResult:
    """Minimise over weights by many chains of Langevin multiplicative weights.

    Every chain follows ``log x' = log x - eps g(x) + sqrt(2 eps / beta) z / sqrt(x) - const``, the
    Riemannian Langevin step of the Shahshahani metric with the multiplicative retraction. For small
    steps its law tends to ``exp(-beta f)`` with respect to the base measure, which for large
    `inverse_temperature` beta lives at the global minima: the noise carries chains out of local
    ones, where plain multiplicative weights stop.

    Parameters
    ----------
    objective : Objective
        What to minimise: `Polynomial`, `QuadraticProgram`, `Custom`, ...
    sizes : sequence of int, optional
        Entries of each simplex of the product on which the weights live, laid end to end. Default:
        those of the objective, mostly one simplex.
    x0 : array_like, shape (d,) or (C, d), or "dirichlet", optional
        Where the chains start. Default: the middle. "dirichlet" draws points uniformly from the
        simplices. Zeros are lifted to the floor, with a warning.
    step_size : float or array_like, shape (C,)
        The number eps, positive. A shorter array repeats along the chains; its length divides C.
    inverse_temperature : float or array_like, shape (C,)
        The number beta, positive. Default infinity: no noise. A shorter array repeats.
    base_measure : float or array_like, shape (d,)
        Alpha of the Dirichlet measure that the law is a density of: 1 (default) is the uniform
        measure on the simplex, 1/2 the volume of the metric. Above 1 it repels from the faces.
    retraction : {"entropic", "sphere", "metropolis", "projected", "linear"}
        "entropic" is the multiplicative form. "sphere" follows geodesics and is the accurate one
        for a `base_measure` below 1. "metropolis" is the same with steps accepted or refused, so
        that its law is exact for every step size; it takes two evaluations a step. "projected" adds
        Euclidean noise and projects. "linear" has no noise; see `mwu`.
    num_steps : int
        Steps of each chain, at least 1.
    num_chains : int
        Independent chains C. Default 1.
    schedule : PolynomialDecay or array_like, optional
        Factors of `step_size`, step by step; the last of an array holds from then on.
    temperature_schedule : LogarithmicCooling, LinearCooling, GeometricCooling, array_like, optional
        Factors of `inverse_temperature`.
    swap_every : int, optional
        Parallel tempering: after so many steps neighbours on the ladder of temperatures exchange
        their points. `inverse_temperature` is then the ladder, at least two numbers.
    floor : "auto", float or None
        No weight of the multiplicative form stays below it. "auto" (default) is eps / beta: below
        that the discrete chain would stick to the face. None is for study only.
    clip : float
        Bound of the exponents. Default 30.
    polish_steps : int
        Multiplicative steps with backtracking, followed by Newton's, for the best point; see
        `polish`. 0 returns it as the chain met it. Default 200.
    trace_every : int
        Keep all chains after each so many steps. Default 0: never.
    burn_in : int
        Steps that do not enter `mean`, `variance`, `covariance` and `histogram`. Default 0.
    covariance : bool
        Keep the covariance of the weights of each chain; d^2 operations a step. Default False.
    num_bins : int
        Keep a histogram of each weight of each chain, with so many equal bins of [0, 1]. Default 0:
        none.
    seed : int
        Key of the random numbers, 0 to 2**64 - 1. Default 0.
    chain_offset, step_offset : int
        Index of the first chain and step in the stream: chains 10 to 19 of a large ensemble are
        ``num_chains=10, chain_offset=10``. Defaults 0.
    dtype : {"float32", "float64"}, optional
        Precision of the chains. Default: that of `x0`, else of the objective's data, else float64.
        The polish is float64 in any case.
    state : SimplexState, optional
        ``result.state`` of an earlier run, to go on from; with the same arguments the result
        equals that of one long run bit for bit.
    out : ndarray, shape (C, d), optional
        Memory for `chains_x`.
    backend : {"cpp", "cuda", "numba"}, optional
        Default "cpp", or "cuda" if `x0`, `out` or the data of the objective live there.
    num_threads : int, optional
        Default: `hotloops.get_num_threads`.
    progress : bool
        Show a progress bar. Default False.
    max_seconds : float, optional
        Stop after about this time; the result has ``complete=False`` and can be gone on from.
    executor : concurrent.futures.Executor, optional
        Spread the chains over its workers: processes, or machines with the executor of a dask
        client. The result has the same bits. Each part then runs on one thread, unless
        `num_threads` says otherwise.

    Returns
    -------
    SimplexResult
        Best point and value, all chains, averages, and reports of floor, clip and exchanges.

    Raises
    ------
    TypeError
        Arguments of the wrong type, precision or device.
    ValueError
        Shapes, signs, weights off the simplex, or a `state` that does not fit.
    OverflowError
        More than 2**32 chains or 2**48 steps.
    hotloops.BackendUnavailable
        The backend cannot run here.

    Warns
    -----
    RuntimeWarning
        Zeros in `x0`; a base measure below 1 with the entropic form; chains whose step was not
        finite.

    Notes
    -----
    Class A for polynomials and quadratic programs: the same bits for every number of threads,
    instruction set and backend, and for a chain alone or in a batch. The cost of a step is that of
    the objective and, for each weight, one normal, one exponential and one root. Memory is a few
    times C d numbers.

    Y. Feng, X. Wang, T. Xie, "Langevin Multiplicative Weights Update with Applications in
    Polynomial Portfolio Management", AAAI 2025, arXiv:2502.19210.

    Examples
    --------
    >>> from hotloops import simplex
    >>> near, far = [0.6, 0.3, 0.1], [0.2, 0.2, 0.6]  # a local and the global minimum
    >>> distance = simplex.Polynomial.squared_distance
    >>> objective = distance(far) * (distance(near) + 0.02)
    >>> stuck = simplex.mwu(objective, x0=[0.7, 0.2, 0.1], step_size=0.5, num_steps=2000)
    >>> free = simplex.lmwu(
    ...     objective,
    ...     x0=[0.7, 0.2, 0.1],
    ...     step_size=0.2,
    ...     inverse_temperature=300.0,
    ...     num_steps=2000,
    ...     num_chains=64,
    ...     seed=1,
    ... )
    >>> stuck.x.round(2).tolist(), free.x.round(2).tolist()
    ([0.58, 0.29, 0.13], [0.2, 0.2, 0.6])
    """
    return run("lmwu", **locals())


def mwu(
    objective: Objective,
    *,
    sizes: Any = None,
    x0: Any = None,
    step_size: Any,
    inverse_temperature: Any = math.inf,
    base_measure: Any = 1.0,
    retraction: str = "entropic",
    num_steps: int,
    num_chains: int = 1,
    schedule: Any = None,
    temperature_schedule: Any = None,
    swap_every: int | None = None,
    floor: Any = "auto",
    clip: float = 30.0,
    polish_steps: int = 200,
    trace_every: int = 0,
    burn_in: int = 0,
    covariance: bool = False,
    num_bins: int = 0,
    seed: int = 0,
    chain_offset: int = 0,
    step_offset: int = 0,
    dtype: Any = None,
    state: SimplexState | None = None,
    out: Any = None,
    backend: str | None = None,
    num_threads: int | None = None,
    progress: bool = False,
    max_seconds: float | None = None,
    executor: Executor | None = None,
) -> SimplexResult:
    """Minimise over weights by multiplicative weights update, without noise.

    It is `lmwu` at infinite inverse temperature: ``x' = x exp(-eps g) / sum``, the exponentiated
    gradient, or with ``retraction="linear"`` the variant ``x' = x (1 - eps g) / sum``, for which
    ``eps max|g|`` must stay below 1. Both stop at the local minimum of the start.

    Parameters
    ----------
    objective : Objective
        What to minimise.
    sizes, x0, step_size : as in `lmwu`
        Where the weights live, where the chains start, and eps.
    inverse_temperature : float
        Infinity: there is no noise.
    base_measure : float
        Has no effect without noise.
    retraction : {"entropic", "linear"}
        Which form of the update.
    num_steps, num_chains, schedule : as in `lmwu`
        Steps, chains, and factors of the step size.
    temperature_schedule, swap_every : as in `lmwu`
        Have no effect without noise.
    floor, clip : as in `lmwu`
        Bounds of weights and exponents.
    polish_steps, trace_every, burn_in, covariance, num_bins : as in `lmwu`
        The polish, and what is kept of the chains.
    seed, chain_offset, step_offset, dtype, state : as in `lmwu`
        Random starts, precision, and where to go on from.
    out, backend, num_threads, progress, max_seconds, executor : as in `lmwu`
        Where it runs.

    Returns
    -------
    SimplexResult
        As of `lmwu`.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As `lmwu`; a finite `inverse_temperature`.

    Notes
    -----
    Class A as `lmwu`.

    Examples
    --------
    >>> from hotloops import simplex
    >>> program = simplex.QuadraticProgram([[2.0, 0.0], [0.0, 1.0]])
    >>> simplex.mwu(program, step_size=0.5, num_steps=100).x.round(6).tolist()
    [0.333333, 0.666667]
    """
    return run("mwu", **locals())


def accelerated_mwu(
    objective: Objective,
    *,
    sizes: Any = None,
    x0: Any = None,
    step_size: Any,
    inverse_temperature: Any = math.inf,
    base_measure: Any = 1.0,
    retraction: str = "accelerated",
    num_steps: int,
    num_chains: int = 1,
    schedule: Any = None,
    temperature_schedule: Any = None,
    swap_every: int | None = None,
    floor: Any = "auto",
    clip: float = 30.0,
    polish_steps: int = 200,
    trace_every: int = 0,
    burn_in: int = 0,
    covariance: bool = False,
    num_bins: int = 0,
    seed: int = 0,
    chain_offset: int = 0,
    step_offset: int = 0,
    dtype: Any = None,
    state: SimplexState | None = None,
    out: Any = None,
    backend: str | None = None,
    num_threads: int | None = None,
    progress: bool = False,
    max_seconds: float | None = None,
    executor: Executor | None = None,
    acceleration: Any = None,
    convexity: float = 1.0,
    gamma: float = 1.0,
) -> SimplexResult:
    """Minimise over weights by accelerated multiplicative weights, without noise.

    It is the accelerated gradient method of Riemannian geometry with the multiplicative retraction:
    with the fast sequence x and the slow one v, ``y ~ x^(1 - t) v^t``, ``x' ~ y exp(-eps g(y))``
    and ``v' ~ y (v / y)^((1 - a) gamma / gamma') exp(-(a / gamma') g(y))``, where ``gamma' = (1 -
    a) gamma + a mu`` and ``t = a gamma / (gamma + a mu)``. A baseline: it stops at a local minimum
    as `mwu` does, and need not be faster.

    Parameters
    ----------
    objective : Objective
        What to minimise.
    sizes, x0, step_size : as in `lmwu`
        Where the weights live, where the chains start, and eps.
    inverse_temperature, base_measure : float
        Infinity and 1: there is no noise.
    retraction : {"accelerated"}
        Which form of the update.
    num_steps, num_chains, schedule : as in `lmwu`
        Steps, chains, and factors of the step size.
    temperature_schedule, swap_every : as in `lmwu`
        Have no effect without noise.
    floor, clip : as in `lmwu`
        Have no effect here.
    polish_steps, trace_every, burn_in, covariance, num_bins : as in `lmwu`
        The polish, and what is kept of the chains.
    seed, chain_offset, step_offset, dtype, state : as in `lmwu`
        Random starts, precision, and where to go on from.
    out, backend, num_threads, progress, max_seconds, executor : as in `lmwu`
        Where it runs.
    acceleration : float or array_like, shape (C,), optional
        The number a, above 0 and below 1. Default: ``sqrt(convexity * step_size)``, or 0.1 where
        that is not below 1.
    convexity : float
        The number mu, not negative. Default 1.
    gamma : float
        Where gamma starts, positive. Default 1.

    Returns
    -------
    SimplexResult
        As of `lmwu`.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As `lmwu`; a finite `inverse_temperature`.

    Notes
    -----
    Class A as `lmwu`. This is the general Riemannian form; it is not claimed to be step for step
    the algorithm of the paper.

    Y. Feng, I. Panageas, X. Wang, "Accelerated Multiplicative Weights Update Avoids Saddle Points
    Almost Always", IJCAI 2022, arXiv:2204.11407.

    Examples
    --------
    >>> from hotloops import simplex
    >>> program = simplex.QuadraticProgram([[2.0, 0.0], [0.0, 1.0]])
    >>> simplex.accelerated_mwu(program, step_size=0.5, num_steps=100).x.round(6).tolist()
    [0.333333, 0.666667]
    """
    return run("accelerated_mwu", **locals())


def projected_langevin(
    objective: Objective,
    *,
    sizes: Any = None,
    x0: Any = None,
    step_size: Any,
    inverse_temperature: Any = math.inf,
    base_measure: Any = 1.0,
    retraction: str = "projected",
    num_steps: int,
    num_chains: int = 1,
    schedule: Any = None,
    temperature_schedule: Any = None,
    swap_every: int | None = None,
    floor: Any = "auto",
    clip: float = 30.0,
    polish_steps: int = 200,
    trace_every: int = 0,
    burn_in: int = 0,
    covariance: bool = False,
    num_bins: int = 0,
    seed: int = 0,
    chain_offset: int = 0,
    step_offset: int = 0,
    dtype: Any = None,
    state: SimplexState | None = None,
    out: Any = None,
    backend: str | None = None,
    num_threads: int | None = None,
    progress: bool = False,
    max_seconds: float | None = None,
    executor: Executor | None = None,
) -> SimplexResult:
    """Minimise over weights by projected Langevin dynamics, the Euclidean baseline.

    Every chain follows ``x' = Proj(x - eps g + sqrt(2 eps / beta) z)`` with the exact projection
    onto the simplices. Weights can be zero.

    Parameters
    ----------
    objective : Objective
        What to minimise.
    sizes, x0, step_size, inverse_temperature : as in `lmwu`
        Where the weights live, where the chains start, eps and beta.
    base_measure : float
        The number 1: the law of this form cannot be chosen.
    retraction : {"projected"}
        Which form of the update.
    num_steps, num_chains, schedule, temperature_schedule, swap_every : as in `lmwu`
        Steps, chains, schedules and exchanges.
    floor, clip : as in `lmwu`
        Have no effect here.
    polish_steps, trace_every, burn_in, covariance, num_bins : as in `lmwu`
        The polish, and what is kept of the chains.
    seed, chain_offset, step_offset, dtype, state : as in `lmwu`
        Random starts, precision, and where to go on from.
    out, backend, num_threads, progress, max_seconds, executor : as in `lmwu`
        Where it runs.

    Returns
    -------
    SimplexResult
        As of `lmwu`.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As `lmwu`.

    Notes
    -----
    Class A as `lmwu`.

    Examples
    --------
    >>> from hotloops import simplex
    >>> program = simplex.QuadraticProgram([[2.0, 0.0], [0.0, 1.0]])
    >>> simplex.projected_langevin(program, step_size=0.1, num_steps=100).x.round(6).tolist()
    [0.333333, 0.666667]
    """
    return run("projected_langevin", **locals())
