"""Intervals and covariances against their definitions, on a stored trace in plain NumPy."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from hotloops import random, sgd
from hotloops._runtime import arrays

Array = npt.NDArray[Any]
ToHost = Callable[[Any], Array]

STEPS = {1: [0.1], 2: [0.05, 0.1], 3: [0.2, 0.05, 0.1]}
NUM_STEPS, CHAINS, DIM = 310, 4, 3

pytestmark = [
    pytest.mark.filterwarnings("ignore:run. burn_in:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:.* batches of .* steps are short:RuntimeWarning"),
]


class Traced:
    """A run that stores every averaged iterate, and what they are."""

    def __init__(self, copies: int, to_host: ToHost, **options: Any) -> None:
        problem = sgd.Quadratic(np.linspace(0.5, 2.0, DIM), 0.3)
        given: dict[str, Any] = {"num_chains": CHAINS, "seed": 9, "burn_in": 20, **options}
        given.setdefault("batch_length", 5)
        given.setdefault("statistics", ["batch_means", "random_scaling", "covariance"])
        self.run = sgd.run(problem, STEPS[copies], NUM_STEPS, **given)
        every = sgd.run(
            problem,
            STEPS[copies],
            NUM_STEPS,
            **{**given, "statistics": ["mean"], "batch_length": None},
            checkpoints=range(1, NUM_STEPS + 1),
        )
        paths = to_host(every.checkpoint_last).astype(float)  # (n, C, J, d)
        combined = np.einsum("j,ncjd->ncd", self.run.weights, paths)
        self.paths = {"mean": paths, "extrapolated": combined}
        self.host = to_host


@pytest.fixture(params=[1, 2, 3])
def traced(request: pytest.FixtureRequest, backend: str, to_host: ToHost) -> Traced:
    return Traced(request.param, to_host, backend=backend)


OF = pytest.mark.parametrize("of", ["extrapolated", "mean"])


def batches(trace: Array, count: int, length: int) -> Array:
    """Means of the last `count` batches, (K, C, ...)."""
    used = trace[len(trace) - count * length :]
    return used.reshape(count, length, *trace.shape[1:]).mean(axis=1)


def covariance_of(deviations: Array, scale: float) -> Array:
    return scale * sum(x[..., :, None] * x[..., None, :] for x in deviations)


def diagonal(matrices: Array) -> Array:
    return np.einsum("...ii->...i", matrices)


def check_interval(traced: Traced, of: str, half: Array, **options: Any) -> None:
    low, high = (traced.host(end) for end in traced.run.confidence_interval(of=of, **options))
    center = traced.paths[of].mean(axis=0)
    np.testing.assert_allclose((high - low) / 2, half, rtol=1e-9)
    np.testing.assert_allclose((high + low) / 2, center, rtol=1e-9, atol=1e-12)


@OF
@pytest.mark.parametrize("count", [2, 7, 31, 62])
def test_batch_means(traced: Traced, of: str, count: int) -> None:
    length = 62 // count * 5
    means = batches(traced.paths[of], count, length)
    found = traced.host(traced.run.batch_means(count, of=of))
    np.testing.assert_allclose(found, means.swapaxes(0, 1), rtol=1e-9, atol=1e-11)
    for normal in (False, True):
        divisor = count if normal else count - 1
        sigma = covariance_of(means - means.mean(axis=0), length / divisor)
        found = traced.host(
            traced.run.long_run_covariance("batch_means", count, of=of, normal=normal)
        )
        np.testing.assert_allclose(found, sigma, rtol=1e-8, atol=1e-10)
        quantile = stats.norm.ppf(0.95) if normal else stats.t.ppf(0.95, count - 1)
        half = quantile * np.sqrt(diagonal(sigma) / NUM_STEPS)
        check_interval(
            traced, of, half, level=0.9, method="batch_means", num_batches=count, normal=normal
        )


@OF
@pytest.mark.parametrize(("count", "gap"), [(2, 100), (7, 1), (7, 15), (31, 5)])
def test_gaps_between_batches(traced: Traced, of: str, count: int, gap: int) -> None:
    """The first steps of every batch are left out, in whole stored batches of 5 steps."""
    length, skipped = 62 // count * 5, 5 * math.ceil(gap / 5)
    trace = traced.paths[of]
    used = trace[NUM_STEPS - count * length :].reshape(count, length, *trace.shape[1:])
    means = used[:, skipped:].mean(axis=1)
    found = traced.host(traced.run.batch_means(count, of=of, gap=gap))
    np.testing.assert_allclose(found, means.swapaxes(0, 1), rtol=1e-9, atol=1e-11)
    sigma = covariance_of(means - means.mean(axis=0), (length - skipped) / (count - 1))
    found = traced.host(traced.run.long_run_covariance(num_batches=count, of=of, gap=gap))
    np.testing.assert_allclose(found, sigma, rtol=1e-8, atol=1e-10)
    half = stats.t.ppf(0.975, count - 1) * np.sqrt(diagonal(sigma) / NUM_STEPS)
    check_interval(traced, of, half, num_batches=count, gap=gap)


@OF
@pytest.mark.parametrize("window", [None, 5, 43, 100])
def test_overlapping_batch_means(traced: Traced, of: str, window: int | None) -> None:
    """Starts lie on the grid of the stored batches, 5 steps apart."""
    length = 5 * math.ceil((math.ceil(NUM_STEPS ** (2 / 3)) if window is None else window) / 5)
    trace = traced.paths[of]
    starts = range(0, NUM_STEPS - length + 1, 5)
    means = np.stack([trace[s : s + length].mean(axis=0) for s in starts])
    sigma = covariance_of(means - trace.mean(axis=0), length / len(starts))
    found = traced.host(traced.run.long_run_covariance("obm", window=window, of=of))
    np.testing.assert_allclose(found, sigma, rtol=1e-8, atol=1e-10)
    degrees = max(1.0, 1.5 * (NUM_STEPS / length - 1))
    for normal, quantile in ((True, stats.norm.ppf(0.975)), (False, stats.t.ppf(0.975, degrees))):
        half = quantile * np.sqrt(diagonal(sigma) / NUM_STEPS)
        check_interval(traced, of, half, method="obm", window=window, normal=normal)


def test_overlapping_batches_at_all_starts(backend: str, to_host: ToHost) -> None:
    """`batch_length=1`: the estimate of the literature, m / (n - m + 1) times the sum over all."""
    traced = Traced(2, to_host, backend=backend, batch_length=1)
    trace, m = traced.paths["extrapolated"], 46  # ceil(310^(2/3))
    assert m == math.ceil(NUM_STEPS ** (2 / 3))
    means = np.stack([trace[s : s + m].mean(axis=0) for s in range(NUM_STEPS - m + 1)])
    sigma = covariance_of(means - trace.mean(axis=0), m / (NUM_STEPS - m + 1))
    found = traced.host(traced.run.long_run_covariance("obm"))
    np.testing.assert_allclose(found, sigma, rtol=1e-8, atol=1e-10)


@OF
def test_random_scaling(traced: Traced, of: str) -> None:
    trace = traced.paths[of]
    counts = np.arange(1, NUM_STEPS + 1).reshape(-1, *[1] * (trace.ndim - 1))
    running = trace.cumsum(axis=0) / counts
    variance = (counts**2 * (running - running[-1]) ** 2).sum(axis=0) / NUM_STEPS**2
    for level, quantile in {0.8: 3.875, 0.9: 5.323, 0.95: 6.747, 0.98: 8.613}.items():
        half = quantile * np.sqrt(variance / NUM_STEPS)
        check_interval(traced, of, half, level=level, method="random_scaling")


@OF
def test_random_scaling_far_from_zero(of: str, to_host: ToHost) -> None:
    """The three terms of V cancel; relative to the first iterate nothing is lost."""
    problem = sgd.Quadratic([1.0], 0.0, 1e-3)
    far = sgd.Quadratic([1.0], 1e5, 1e-3)
    options: dict[str, Any] = {"num_chains": 3, "seed": 1}
    near_ends = sgd.run(problem, STEPS[2], 5000, **options).confidence_interval(
        method="random_scaling", of=of
    )
    far_ends = sgd.run(far, STEPS[2], 5000, theta0=[1e5], **options).confidence_interval(
        method="random_scaling", of=of
    )
    width, expected = (ends[1] - ends[0] for ends in (far_ends, near_ends))
    np.testing.assert_allclose(width, expected, rtol=1e-5)


def test_covariance_and_variance(traced: Traced) -> None:
    trace = traced.paths["mean"]
    if trace.shape[2] > 1:
        trace = np.concatenate([trace, traced.paths["extrapolated"][:, :, None]], axis=2)
    centered = trace - trace.mean(axis=0)
    expected = covariance_of(centered, 1 / NUM_STEPS)
    found = traced.host(traced.run.covariance)
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-11)
    np.testing.assert_allclose(
        traced.host(traced.run.variance), diagonal(expected), rtol=1e-8, atol=1e-11
    )


def test_variance_alone(backend: str, to_host: ToHost) -> None:
    run = Traced(2, to_host, backend=backend).run
    alone = Traced(2, to_host, backend=backend, statistics=["variance"], batch_length=None).run
    np.testing.assert_array_equal(to_host(alone.variance), to_host(run.variance))
    text = "covariance: 'covariance' must be among the `statistics` of run"
    with pytest.raises(ValueError, match=re.escape(text)):
        _ = alone.covariance


@OF
def test_autocorrelation_time(traced: Traced, of: str) -> None:
    trace = traced.paths[of]
    means = batches(trace, 31, 10)
    sigma = diagonal(covariance_of(means - means.mean(axis=0), 10 / 30))
    expected = sigma / (2 * trace.var(axis=0))
    np.testing.assert_allclose(
        traced.host(traced.run.autocorrelation_time(31, of=of)), expected, rtol=1e-8
    )


def test_autocorrelation_time_of_an_autoregression() -> None:
    """AR(1): (1 + rho) / (2 (1 - rho)) with rho = 1 - gamma = 0.9, 9.5 steps."""
    run = sgd.run(
        sgd.Quadratic([1.0], 0.0),
        0.1,
        100_000,
        num_chains=64,
        statistics=["batch_means", "variance"],
        seed=4,
    )
    assert abs(run.autocorrelation_time(40).mean() - 9.5) < 0.4


@OF
def test_bootstrap(traced: Traced, of: str) -> None:
    """Samples by their formula, and their spread: that of overlapping batch means."""
    trace, length = traced.paths[of], 50
    starts = range(0, NUM_STEPS - length + 1, 5)
    means = np.stack([trace[s : s + length].mean(axis=0) for s in starts])
    weights = random.normals(77, 400, CHAINS, len(starts), 6)  # (B, C, N)
    moves = np.einsum("bcs,sc...->cb...", weights, means - trace.mean(axis=0))
    scale = np.sqrt(length / len(starts) / NUM_STEPS)
    expected = trace.mean(axis=0)[:, None] + scale * moves
    found = traced.host(traced.run.bootstrap(400, window=length, of=of, seed=77))
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-10)
    sigma = traced.host(traced.run.long_run_covariance("obm", window=length, of=of))
    spread = traced.host(traced.run.bootstrap(4000, window=length, of=of)).std(axis=1)
    np.testing.assert_allclose(spread, np.sqrt(diagonal(sigma) / NUM_STEPS), rtol=0.06)
    ends = traced.run.confidence_interval(0.9, "bootstrap", window=length, of=of, num_samples=400)
    draws = traced.host(traced.run.bootstrap(400, window=length, of=of))
    for end, level in zip(ends, (0.05, 0.95), strict=True):
        np.testing.assert_allclose(traced.host(end), np.quantile(draws, level, axis=1))


def test_bootstrap_of_some_chains(to_host: ToHost) -> None:
    """Its weights belong to the chain: chains 2 and 3 alone get the same."""
    whole = Traced(2, to_host).run.bootstrap(50)
    part = Traced(2, to_host, num_chains=2, chain_offset=2).run.bootstrap(50)
    np.testing.assert_array_equal(part, whole[2:])


@pytest.mark.parametrize("steps", [100, 1000, 20_000])
@pytest.mark.parametrize("curvature", [0.02, 0.5, 5.0])
def test_default_number_of_batches(steps: int, curvature: float) -> None:
    """At most 50 batches, as many as keep gamma mu m >= 20, but not below 5."""
    run = sgd.run(sgd.Quadratic([curvature], 0.0), 0.1, steps, burn_in=steps)
    assert run.state.statistics is not None
    stride, stored = run.state.statistics.stride, run.state.statistics.num_batches
    count = run.batch_means().shape[1]
    group = stored // count

    def long_enough(stored_batches: int) -> bool:
        return 0.1 * curvature * stored_batches * stride >= 20

    assert 5 <= count <= 50
    assert long_enough(group) or stored // (group + 1) < 5
    assert group == 1 or stored / (group - 1) > 50 or not long_enough(group - 1)


def test_warning_of_short_batches() -> None:
    run = sgd.run(sgd.Quadratic([1.0], 0.0), [0.05, 0.1], 4000, batch_length=80)
    with pytest.warns(RuntimeWarning, match=r"batches of 80 steps .* gamma mu = 0\.05") as caught:
        run.confidence_interval(num_batches=50)
    assert caught[0].filename == __file__
    with pytest.warns(RuntimeWarning, match="long_run_covariance: batches of") as caught:
        run.long_run_covariance("obm", window=100)
    assert caught[0].filename == __file__
    with pytest.warns(RuntimeWarning, match="share of about 0.25"):
        run.confidence_interval(method="bootstrap", window=80)


@pytest.mark.filterwarnings("error")
def test_no_warning_of_long_batches() -> None:
    run = sgd.run(sgd.Quadratic([1.0], 0.0), [0.05, 0.1], 4000)
    run.confidence_interval()  # 9 batches of 14 x 32 steps
    run.confidence_interval(num_batches=10)
    run.confidence_interval(method="obm", window=400)
    run.confidence_interval(method="random_scaling")
    unknown = sgd.run(sgd.Custom(lambda t, n, s, d, o: t + n, 1), 0.1, 100)
    unknown.confidence_interval(num_batches=50)  # of a problem whose curvature is not known


def test_weight_decay_adds_to_the_curvature() -> None:
    run = sgd.run(sgd.Quadratic([1.0], 0.0), 0.1, 500, weight_decay=0.5)
    assert run.state.curvature == 1.5


def test_schedules_count_at_their_end() -> None:
    """After 400 steps of (k + 0)^(-1/2) the step size is a twentieth."""
    schedule = sgd.PolynomialDecay(0.5)
    run = sgd.run(sgd.Quadratic([1.0], 0.0), 0.4, 300, burn_in=100, schedule=schedule)
    with pytest.warns(RuntimeWarning, match=r"gamma mu = 0\.02"):
        run.confidence_interval(num_batches=10)


@pytest.mark.filterwarnings("ignore::hotloops.DivergenceWarning")
def test_diverged_chains_have_no_intervals(backend: str, to_host: ToHost) -> None:
    of = sgd.Quadratic([1.0, 1.0], 0.0, 1.0, divergence_limit=0.65)
    run = sgd.run(
        of,
        [0.05, 0.1],
        200,
        burn_in=0,
        num_chains=40,
        seed=1,
        backend=backend,
        statistics=["batch_means", "random_scaling", "covariance"],
    )
    flags = to_host(run.flags) != 0
    bad = flags.any(axis=1)
    assert 0 < bad.sum() < 40
    for method in ("batch_means", "obm", "random_scaling", "bootstrap"):
        for end in run.confidence_interval(method=method):
            np.testing.assert_array_equal(np.isnan(to_host(end)), np.stack([bad, bad], axis=1))
        for end in run.confidence_interval(method=method, of="mean"):
            np.testing.assert_array_equal(np.isnan(to_host(end)).all(axis=2), flags)
    assert np.isnan(to_host(run.long_run_covariance())[bad]).all()
    assert np.isnan(to_host(run.autocorrelation_time())[bad]).all()
    assert np.isfinite(to_host(run.autocorrelation_time())[~bad]).all()


def test_step_sizes_of_each_chain(backend: str, to_host: ToHost) -> None:
    table = np.array([[0.05, 0.1], [0.2, 0.1], [0.03, 0.3]])
    problem = sgd.Quadratic([1.0, 2.0], 0.3)
    options: dict[str, Any] = {"seed": 2, "backend": backend}
    together = sgd.run(problem, table, 500, **options)
    for method in ("batch_means", "obm", "random_scaling", "bootstrap"):
        ends = together.confidence_interval(method=method, num_batches=20)
        for chain, steps in enumerate(table):
            alone = sgd.run(problem, steps, 500, chain_offset=chain, **options)
            own = alone.confidence_interval(method=method, num_batches=20)
            for one, other in zip(ends, own, strict=True):
                np.testing.assert_allclose(to_host(one)[chain], to_host(other)[0], rtol=1e-12)
    text = repr(together)
    assert "step_sizes=<2 for each chain>" in text


def test_answers_come_in_the_library_of_the_data() -> None:
    torch = pytest.importorskip("torch")
    problem = sgd.Quadratic(torch.tensor([1.0, 2.0], dtype=torch.float64), 0.0)
    run = sgd.run(problem, [0.05, 0.1], 500, statistics=["batch_means", "covariance"])
    answers = [
        *run.confidence_interval(),
        run.long_run_covariance(),
        run.covariance,
        run.variance,
        run.batch_means(),
        run.bootstrap(10),
        run.autocorrelation_time(),
    ]
    for answer in answers:
        assert isinstance(answer, torch.Tensor)
        assert arrays.library_of(answer) == arrays.Library("torch", "cpu")
