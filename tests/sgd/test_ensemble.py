"""Statistics over chains against plain NumPy, and R-hat where chains disagree."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from hotloops import sgd

Array = npt.NDArray[Any]
ToHost = Callable[[Any], Array]

STEPS = [0.05, 0.1]
CHAINS, DIM, NUM_STEPS = 24, 2, 640

pytestmark = pytest.mark.filterwarnings("ignore:run. burn_in:RuntimeWarning")


def problem() -> sgd.Quadratic:
    return sgd.Quadratic([1.0, 2.0], 0.3)


def run_of(**options: Any) -> sgd.SGDResult:
    given: dict[str, Any] = {
        "num_chains": CHAINS,
        "seed": 3,
        "statistics": ["batch_means", "variance"],
        "checkpoints": [10, 100, NUM_STEPS],
        **options,
    }
    return sgd.run(problem(), STEPS, NUM_STEPS, **given)


def gelman_rubin(draws: Array) -> Array:
    """The definition, for draws (chains, n, ...)."""
    n = draws.shape[1]
    between = n * draws.mean(axis=1).var(axis=0, ddof=1)
    within = draws.var(axis=1, ddof=1).mean(axis=0)
    return np.sqrt(((n - 1) / n * within + between / n) / within)


@pytest.mark.parametrize("of", ["extrapolated", "mean"])
def test_quantiles_means_and_covariances(backend: str, of: str, to_host: ToHost) -> None:
    run = run_of(backend=backend)
    values = to_host(getattr(run, of))
    levels = [0.05, 0.5, 1.0]
    np.testing.assert_allclose(run.quantiles(levels, of=of), np.quantile(values, levels, axis=0))
    np.testing.assert_allclose(run.quantiles(0.5, of=of), np.median(values, axis=0))
    np.testing.assert_allclose(run.ensemble_mean(of=of), values.mean(axis=0), rtol=1e-12)
    flat = values.reshape(CHAINS, -1, DIM)
    expected = np.stack([np.cov(flat[:, j].T) for j in range(flat.shape[1])])
    found = run.ensemble_covariance(of=of)
    np.testing.assert_allclose(found.reshape(expected.shape), expected, rtol=1e-10)


def test_checkpoints(to_host: ToHost) -> None:
    run = run_of()
    means = run.checkpoint_mean  # (K, C, J, d)
    combined = 2 * means[:, :, 0] - means[:, :, 1]
    found = run.quantiles([0.1, 0.9], checkpoints=True)
    np.testing.assert_allclose(found, np.quantile(combined, [0.1, 0.9], axis=1), rtol=1e-9)
    found = run.quantiles(0.1, of="mean", checkpoints=True)
    np.testing.assert_allclose(found, np.quantile(means, 0.1, axis=1), rtol=1e-9)
    np.testing.assert_allclose(run.ensemble_mean(checkpoints=True), combined.mean(axis=1))
    covariance = run.ensemble_covariance(of="mean", checkpoints=True)
    assert covariance.shape == (3, 2, DIM, DIM)
    np.testing.assert_allclose(covariance[1, 0], np.cov(means[1, :, 0].T), rtol=1e-9)


@pytest.mark.parametrize("of", ["extrapolated", "mean"])
def test_r_hat_of_halves(backend: str, of: str, to_host: ToHost) -> None:
    """640 steps are 80 stored batches of 8: two halves of 40 draws each."""
    run = run_of(backend=backend)
    draws = to_host(run.batch_means(80, of=of))
    assert draws.shape[1] == 80
    halves = np.concatenate([draws[:, :40], draws[:, 40:]])
    np.testing.assert_allclose(run.r_hat(of=of), gelman_rubin(halves), rtol=1e-12)


@pytest.mark.parametrize("of", ["extrapolated", "mean"])
def test_r_hat_of_whole_chains(backend: str, of: str, to_host: ToHost) -> None:
    run = run_of(backend=backend, statistics=["variance"])
    every = run_of(backend=backend, checkpoints=range(1, NUM_STEPS + 1), statistics=["mean"])
    trace = np.moveaxis(to_host(every.checkpoint_last), 0, 1)  # (C, n, J, d)
    if of == "extrapolated":
        trace = 2 * trace[:, :, 0] - trace[:, :, 1]
    expected = gelman_rubin(trace) * 1.0
    # The variances within are divided by n, not n - 1: beyond what the tolerance sees.
    np.testing.assert_allclose(run.r_hat(of=of), expected, rtol=2e-3)


def test_r_hat_sees_chains_that_disagree() -> None:
    """Large while steps are too small to leave the starts, near 1 after a burn-in."""
    start = np.linspace(-50, 50, 8)[:, None]
    of, options = sgd.Quadratic([1.0], 0.0), {"num_chains": 8, "theta0": start, "seed": 1}
    early = sgd.run(of, [0.001, 0.002], 200, burn_in=0, **options)
    assert early.r_hat()[0] > 3
    assert (early.r_hat(of="mean") > 3).all()
    late = sgd.run(of, STEPS, 20_000, burn_in=1000, **options)
    assert late.r_hat()[0] < 1.01
    one = sgd.run(of, STEPS, 20_000, burn_in=1000, seed=1)  # its halves
    assert one.r_hat()[0] < 1.05


@pytest.mark.filterwarnings("ignore::hotloops.DivergenceWarning")
def test_diverged_chains_are_left_out(to_host: ToHost) -> None:
    of = sgd.Quadratic([1.0], 0.0, 1.0, divergence_limit=0.65)
    options: dict[str, Any] = {
        "burn_in": 0,
        "num_chains": 40,
        "seed": 1,
        "statistics": ["batch_means", "variance"],
        "checkpoints": [50, 200],
    }
    run = sgd.run(of, STEPS, 200, **options)
    valid = run.valid
    assert 1 < valid.sum() < 40
    kept = run.extrapolated[valid]
    np.testing.assert_allclose(run.quantiles(0.3), np.quantile(kept, 0.3, axis=0))
    np.testing.assert_allclose(run.ensemble_mean(), kept.mean(axis=0))
    np.testing.assert_allclose(
        run.ensemble_mean(of="mean", checkpoints=True), run.checkpoint_mean[:, valid].mean(axis=1)
    )
    draws = run.batch_means(100)[valid]
    halves = np.concatenate([draws[:, :50], draws[:, 50:]])
    np.testing.assert_allclose(run.r_hat(), gelman_rubin(halves), rtol=1e-12)


@pytest.mark.filterwarnings("ignore::hotloops.DivergenceWarning")
@pytest.mark.parametrize("method", ["quantiles", "ensemble_mean", "ensemble_covariance"])
def test_every_chain_diverged(method: str) -> None:
    of = sgd.Quadratic([1.0], 0.0, 9.0, divergence_limit=0.1)
    run = sgd.run(of, STEPS, 60, num_chains=3)
    with pytest.raises(ValueError, match=f"^{method}: every chain diverged$"):
        getattr(run, method)(*([0.5] if method == "quantiles" else []))
    text = "r_hat: `num_chains` must be at least 2 chains that did not diverge, got 0"
    with pytest.raises(ValueError, match=re.escape(text)):
        run.r_hat()


BAD: list[tuple[str, dict[str, Any], type[Exception], str]] = [
    ("quantiles", {"q": 1.5}, ValueError, "`q` must lie in [0, 1], got 1.5"),
    ("quantiles", {"q": [-0.1, 0.5]}, ValueError, "`q` must lie in [0, 1], got [-0.1, 0.5]"),
    ("quantiles", {"q": np.nan}, ValueError, "`q` must be finite, got nan"),
    ("quantiles", {"q": "half"}, TypeError, "`q` must be an array of real numbers, got dtype <U4"),
    ("quantiles", {"q": [[0.5]]}, ValueError, "`q` must have 0 or 1 dimensions, got (1, 1)"),
    ("ensemble_mean", {"of": "x"}, ValueError, "`of` must be one of 'extrapolated', 'mean', got"),
    ("ensemble_mean", {"checkpoints": 1}, TypeError, "`checkpoints` must be True or False, got 1"),
    ("r_hat", {"of": "x"}, ValueError, "`of` must be one of 'extrapolated', 'mean', got 'x'"),
    (
        "ensemble_covariance",
        {},
        ValueError,
        "`num_chains` must be at least 2 chains that did not diverge, got 1",
    ),
]


@pytest.mark.parametrize(("method", "options", "kind", "text"), BAD)
def test_bad_arguments(
    method: str, options: dict[str, Any], kind: type[Exception], text: str
) -> None:
    run = run_of(num_chains=1)
    with pytest.raises(kind, match="^" + re.escape(f"{method}: {text}")):
        getattr(run, method)(**options)


def test_r_hat_of_one_whole_chain() -> None:
    run = run_of(num_chains=1, statistics=["variance"])
    text = "r_hat: `num_chains` must be at least 2 chains that did not diverge, got 1"
    with pytest.raises(ValueError, match=re.escape(text)):
        run.r_hat()
