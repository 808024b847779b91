"""How fast two chains that see the same noise meet."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from hotloops._runtime import arrays, optional, validate
from hotloops._runtime.errors import NumericalError
from hotloops.sgd._problem import Float64, Problem, to_host
from hotloops.sgd._replay import without_burn_in_warning
from hotloops.sgd._result import SGDResult
from hotloops.sgd._run import run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["CouplingResult", "coupling_diagnostic"]

_DEFAULT_RECORDS = 100
_ABOVE_ROUNDING = 1e3  # machine epsilons


@dataclass(frozen=True, eq=False)
class CouplingResult:
    """Distances between coupled chains, and the rate at which they shrink.

    K is the number of recorded steps; the first is 0, the start. Means are over the pairs of which
    no chain diverged.

    Attributes
    ----------
    steps : ndarray, shape (K,), int64
        Numbers of steps made.
    distance : ndarray, shape (K,)
        Mean of ``|t - t'|``.
    squared_distance : ndarray, shape (K,)
        Mean of ``|t - t'|^2``.
    cost : ndarray, shape (K,)
        Mean of ``c(t, t') = |t - t'| (|t - t*| + |t' - t*| + b)``. It is no metric: the triangle
        inequality does not hold.
    rate : float
        ``rho`` of the fit ``distance ~ rho^step``; NaN when fewer than two recorded distances are
        above rounding.
    half_life : float
        Steps that halve the distance, ``ln(1/2) / ln(rho)``; infinite when it does not shrink.
    expected_rate : float
        ``1 - gamma mu``, for comparison; NaN when mu is not known.
    contraction_steps : float
        ``ceil(2 ln 4 / (gamma mu))``, the number of steps in which the paper's semimetric halves
        (a default of theory, for comparison); NaN when mu is not known.
    offset : float
        ``b``.
    reference : ndarray, shape (d,)
        ``t*``.
    step_size : float
    num_pairs, num_diverged : int
        Pairs, and how many of them were left out because a chain diverged.
    """

    steps: npt.NDArray[np.int64]
    distance: Float64
    squared_distance: Float64
    cost: Float64
    rate: float
    half_life: float
    expected_rate: float
    contraction_steps: float
    offset: float
    reference: Float64
    step_size: float
    num_pairs: int
    num_diverged: int

    axes: ClassVar[dict[str, tuple[str, ...]]] = {
        "steps": ("record",),
        "distance": ("record",),
        "squared_distance": ("record",),
        "cost": ("record",),
        "reference": ("coordinate",),
    }

    def __repr__(self) -> str:
        return (
            f"CouplingResult(pairs={self.num_pairs}, step_size={self.step_size:g}, "
            f"rate={self.rate:.6g}, half_life={self.half_life:.4g}, "
            f"expected_rate={self.expected_rate:.6g})"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the arrays and numbers by name."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    def plot(self) -> Figure:
        """Draw distance and cost against the number of steps, with the fitted rate.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        ImportError
            Matplotlib is not installed.
        """
        return _draw(self)


def coupling_diagnostic(
    problem: Problem,
    step_size: float,
    num_steps: int,
    *,
    theta0: Any,
    theta1: Any,
    num_pairs: int,
    seed: int = 0,
    chain_offset: int = 0,
    offset: float | None = None,
    tau: float | None = None,
    mu: float | None = None,
    reference: Any = None,
    record: Any = None,
    dtype: Any = None,
    backend: str | None = None,
    num_threads: int | None = None,
) -> CouplingResult:
    """Measure how fast SGD with a constant step forgets its start.

    Pairs of chains start at `theta0` and `theta1` and see the same noise. When the chain forgets
    its start geometrically, the mean distance of a pair falls like ``rho^k``.

    Parameters
    ----------
    problem : Problem
        Any problem of `hotloops.sgd`.
    step_size : float
        ``gamma``.
    num_steps : int
        Steps of each chain.
    theta0, theta1 : array_like, shape (d,) or (num_pairs, d)
        Where the chains of a pair start; they must differ.
    num_pairs : int
        Independent pairs.
    seed, chain_offset : int
        As in `run`. Default 0.
    offset : float, optional
        ``b >= 0`` of the cost. Default ``2 sqrt(2) tau sqrt(gamma / mu)`` when `tau` is given, else
        0.
    tau : float, optional
        Standard deviation of the noise at ``t*``: ``tau^2 >= E |eps(t*)|^2``.
    mu : float, optional
        Modulus of strong convexity. Default: what the problem knows of it.
    reference : array_like, shape (d,), optional
        ``t*`` of the cost. Default: the pooled mean of all chains over the second half of the run.
    record : array_like of int, optional
        Increasing numbers of steps at which to measure, within [1, num_steps]. Default: 100 evenly
        spaced.
    dtype : {"float32", "float64"}, optional
        As in `run`.
    backend : {"cpp", "cuda", "numba"}, optional
        As in `run`.
    num_threads : int, optional
        As in `run`.

    Returns
    -------
    CouplingResult
        Distances, costs and the fitted rate, as NumPy arrays.

    Raises
    ------
    TypeError, ValueError
        As in `run`; starts that coincide, an `offset` together with `tau`, a `tau` without a known
        mu.
    hotloops.NumericalError
        A chain diverged in every pair.

    Notes
    -----
    The rate is fitted by least squares to the logarithm of the mean distance, over the recorded
    steps at which it is above 1000 machine epsilons of the starts. On a quadratic the difference of
    the chains is ``(I - gamma A)^k (theta0 - theta1)`` whatever the noise.

    The cost is that of the paper's analysis, in which the Wasserstein semimetric built on it halves
    every ``ceil(2 ln 4 / (gamma mu))`` steps. It is no metric; do not cluster with it. Its offset
    and that number of steps are defaults for comparison, not guarantees.

    Two runs of `num_pairs` chains, and 32 num_pairs d bytes for each record. Class A up to the
    means over pairs.

    References
    ----------
    M. Sheshukova et al., "Nonasymptotic Analysis of SGD with the Richardson-Romberg Extrapolation",
    ICLR 2025, arXiv:2410.05106.

    Examples
    --------
    >>> from hotloops import sgd
    >>> found = sgd.coupling_diagnostic(
    ...     sgd.Quadratic([1.0], 0.0), 0.1, 200, theta0=[3.0], theta1=[-1.0], num_pairs=8
    ... )
    >>> round(found.rate, 6), round(found.half_life, 3)
    (0.9, 6.579)
    """
    name = "coupling_diagnostic"
    if not isinstance(problem, Problem):
        expectation = "be a problem such as sgd.Logistic(X, y)"
        validate.fail(TypeError, name, "problem", expectation, validate.describe(problem))
    gamma = validate.real(name, "step_size", step_size, low=0.0, open_low=True)
    count = validate.integer(name, "num_steps", num_steps, low=1)
    pairs = validate.integer(name, "num_pairs", num_pairs, low=1)
    modulus = _modulus(problem, mu)
    shift = _offset(gamma, offset, tau, modulus)
    center = None if reference is None else _host("reference", reference, (problem.dim,))
    steps = _records(record, count)
    starts = [
        _start("theta0", theta0, pairs, problem.dim),
        _start("theta1", theta1, pairs, problem.dim),
    ]
    if np.array_equal(starts[0], starts[1]):
        validate.fail(ValueError, name, "theta1", "differ from `theta0`", "the same starts")
    stops = sorted({*steps, count // 2, count} - {0})
    with without_burn_in_warning():
        runs = [
            run(
                problem,
                gamma,
                count,
                burn_in=0,
                num_chains=pairs,
                theta0=given,
                seed=seed,
                chain_offset=chain_offset,
                dtype=dtype,
                checkpoints=stops,
                backend=backend,
                num_threads=num_threads,
                statistics=("mean",),
            )
            for given in (theta0, theta1)
        ]
    valid = runs[0].valid & runs[1].valid
    if not valid.any():
        raise NumericalError(f"{name}: a chain diverged in each of the {pairs} pairs")
    if center is None:
        center = np.mean([_late_mean(result, valid) for result in runs], axis=0)
    rows = [0] + [stops.index(step) + 1 for step in steps]
    paths = [
        _path(result, start)[rows][:, valid] for result, start in zip(runs, starts, strict=True)
    ]
    epsilon = float(np.finfo(np.dtype(str(runs[0].last.dtype))).eps)
    return _measure(paths, center, shift, gamma, modulus, np.array([0, *steps]), epsilon, pairs)


def _measure(
    paths: list[Float64],
    center: Float64,
    offset: float,
    gamma: float,
    mu: float | None,
    steps: npt.NDArray[np.int64],
    epsilon: float,
    num_pairs: int,
) -> CouplingResult:
    """Average over pairs (axis 1 of the paths, (K, pairs, d)) and fit the rate."""
    apart = np.linalg.norm(paths[0] - paths[1], axis=2)
    from_center = sum(np.linalg.norm(path - center, axis=2) for path in paths)
    distance = apart.mean(axis=1)
    size = max(float(distance[0]), max(float(np.abs(path[0]).max()) for path in paths))
    rate = _fit(steps, distance, _ABOVE_ROUNDING * epsilon * size)
    return CouplingResult(
        steps=steps,
        distance=distance,
        squared_distance=(apart**2).mean(axis=1),
        cost=(apart * (from_center + offset)).mean(axis=1),
        rate=rate,
        half_life=_half_life(rate),
        expected_rate=math.nan if mu is None else 1.0 - gamma * mu,
        contraction_steps=math.nan if mu is None else math.ceil(2 * math.log(4) / (gamma * mu)),
        offset=offset,
        reference=center,
        step_size=gamma,
        num_pairs=num_pairs,
        num_diverged=num_pairs - apart.shape[1],
    )


def _fit(steps: npt.NDArray[np.int64], distance: Float64, floor: float) -> float:
    above = np.cumprod(distance > floor).astype(bool)  # up to where rounding begins
    if above.sum() < 2:
        return math.nan
    slope, _ = np.polyfit(steps[above], np.log(distance[above]), 1)
    return float(np.exp(slope))


def _half_life(rate: float) -> float:
    if math.isnan(rate):
        return math.nan
    return math.log(0.5) / math.log(rate) if 0 < rate < 1 else math.inf


def _modulus(problem: Problem, mu: float | None) -> float | None:
    if mu is None:
        return problem.curvature_bounds()[0]
    return validate.real("coupling_diagnostic", "mu", mu, low=0.0, open_low=True)


def _offset(gamma: float, offset: float | None, tau: float | None, mu: float | None) -> float:
    name = "coupling_diagnostic"
    if offset is not None:
        if tau is not None:
            expectation = "be None when `offset` is given"
            validate.fail(ValueError, name, "tau", expectation, validate.describe(tau))
        return validate.real(name, "offset", offset, low=0.0)
    if tau is None:
        return 0.0
    deviation = validate.real(name, "tau", tau, low=0.0)
    if mu is None:
        expectation = "be given with `tau`, since the problem does not know it"
        validate.fail(ValueError, name, "mu", expectation, "None")
    return 2 * math.sqrt(2) * deviation * math.sqrt(gamma / mu)


def _records(record: Any, num_steps: int) -> list[int]:
    if record is None:
        spaced = np.linspace(1, num_steps, min(num_steps, _DEFAULT_RECORDS))
        return [int(step) for step in np.unique(np.rint(spaced))]
    listed = list(record) if isinstance(record, range) else record
    host, _ = arrays.import_array("coupling_diagnostic", "record", listed)
    stops = validate.array(
        "coupling_diagnostic", "record", to_host(host), shape=("k",), dtype=np.int64
    ).tolist()
    increasing = all(a < b for a, b in itertools.pairwise(stops))
    if not increasing or stops[0] < 1 or stops[-1] > num_steps:
        expectation = f"increase strictly within [1, {num_steps}]"
        validate.fail(ValueError, "coupling_diagnostic", "record", expectation, str(stops))
    return [int(stop) for stop in stops]


def _host(argument: str, value: Any, shape: tuple[int, ...]) -> Float64:
    native, _ = arrays.import_array("coupling_diagnostic", argument, value)
    checked: Float64 = validate.array(
        "coupling_diagnostic", argument, to_host(native), shape=shape, dtype=np.float64
    )
    return checked


def _start(argument: str, value: Any, pairs: int, dim: int) -> Float64:
    """Return where the chains start, (pairs, d)."""
    native, _ = arrays.import_array("coupling_diagnostic", argument, value)
    if tuple(native.shape) not in ((dim,), (pairs, dim)):
        expectation = f"have shape (d,) or (num_pairs, d) with d = {dim}, num_pairs = {pairs}"
        got = str(tuple(native.shape))
        validate.fail(ValueError, "coupling_diagnostic", argument, expectation, got)
    host = _host(argument, value, tuple(native.shape))
    return np.broadcast_to(host, (pairs, dim))


def _late_mean(result: SGDResult, valid: npt.NDArray[np.bool_]) -> Float64:
    """Return the mean of the valid chains over the second half of the run."""
    total = result.num_steps
    means = np.asarray(_native(result.checkpoint_mean), np.float64)[:, valid, 0].mean(axis=1)
    half = total // 2
    if half == 0:
        late: Float64 = means[-1]
        return late
    early = means[result.checkpoints.index(half)]
    rest: Float64 = (total * means[-1] - half * early) / (total - half)
    return rest


def _path(result: SGDResult, start: Float64) -> Float64:
    """Return the start and the iterates at all checkpoints, (1 + K, pairs, d)."""
    lasts = np.asarray(_native(result.checkpoint_last), np.float64)[:, :, 0]
    return np.concatenate([start[None], lasts])


def _native(array: Any) -> Any:
    native, _ = arrays.import_array("coupling_diagnostic", "problem", array)
    return to_host(native)


def _draw(result: CouplingResult) -> Figure:
    figure = optional.figure_class()(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    series = (("mean |t - t'|", result.distance), ("mean cost", result.cost))
    for label, values in series:
        shown = values > 0
        axes.semilogy(result.steps[shown], values[shown], marker="o", ms=3, lw=0.8, label=label)
    for label, rate in (("fitted rate", result.rate), ("1 - gamma mu", result.expected_rate)):
        if 0 < rate < 1:
            line = result.distance[0] * rate ** result.steps.astype(np.float64)
            axes.semilogy(result.steps, line, "--", lw=1, label=f"{label}: {rate:.5g}")
    lowest = result.distance[result.distance > 0].min()
    axes.set_ylim(bottom=lowest / 10)
    axes.set_xlabel("steps")
    axes.set_title(f"{result.num_pairs - result.num_diverged} pairs on the same noise")
    axes.legend(frameon=False)
    return figure
