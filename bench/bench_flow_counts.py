"""Counts in bulk, decoding and metrics beside NumPy, SciPy and torch.distributions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from _bench_machine import THREADS

from hotloops import flow
from hotloops.flow import metrics

Make = Callable[[], Callable[[], Any]]

CELLS, GENES = 256, 2000
SHAPE = (CELLS, GENES)
GENERATOR = np.random.default_rng(0)


def gene_like() -> Any:
    """Means of genes whose counts are zero in nine cells of ten."""
    share = np.exp(GENERATOR.normal(-2.5, 1.6, GENES))
    totals = np.exp(GENERATOR.normal(np.log(280.0), 0.35, (CELLS, 1)))
    return totals * share / share.sum()


MEANS = {
    "gene-like": gene_like(),
    "1": np.full(SHAPE, 1.0),
    "10": np.full(SHAPE, 10.0),
    "100": np.full(SHAPE, 100.0),
}
THETA = np.exp(GENERATOR.normal(0.0, 1.0, GENES))


def ours(draw: Callable[..., Any], *parameters: Any, backend: str, kind: Any = np.int32) -> Any:
    out = np.empty(SHAPE, kind)
    options = {"out": out, "backend": backend, "num_threads": THREADS}
    return lambda: draw(*parameters, seed=1, **options)


def torch_draw(name: str, *parameters: Any) -> Any:
    torch = pytest.importorskip("torch")
    torch.set_num_threads(THREADS)
    law = getattr(torch.distributions, name)(
        *(torch.from_numpy(np.ascontiguousarray(x)) for x in parameters)
    )
    return lambda: law.sample().numpy()


def negative_binomial(library: str, mu: Any) -> Any:
    if library.startswith("hotloops"):
        return ours(flow.negative_binomial, mu, THETA, backend=library.split()[-1])
    if library == "PyTorch":
        theta = np.broadcast_to(THETA, SHAPE)
        return torch_draw("NegativeBinomial", theta, mu / (mu + theta))
    rng = np.random.default_rng(1)
    n, p = np.broadcast_to(THETA, SHAPE), THETA / (THETA + mu)
    return lambda: rng.negative_binomial(n, p)


def poisson(library: str, rate: Any) -> Any:
    if library.startswith("hotloops"):
        return ours(flow.poisson, rate, backend=library.split()[-1])
    if library == "PyTorch":
        return torch_draw("Poisson", rate)
    rng = np.random.default_rng(1)
    return lambda: rng.poisson(rate)


def gamma(library: str, alpha: Any) -> Any:
    if library.startswith("hotloops"):
        return ours(flow.gamma, alpha, backend=library.split()[-1], kind=np.float64)
    if library == "PyTorch":
        return torch_draw("Gamma", alpha, np.ones(SHAPE))
    rng = np.random.default_rng(1)
    return lambda: rng.standard_gamma(alpha)


def close(x: Any, mean: Any, variance: Any) -> None:
    """The mean over all draws, within five standard errors."""
    error = abs(np.asarray(x, float).sum() - np.broadcast_to(mean, SHAPE).sum())
    assert error < 5.0 * np.broadcast_to(variance, SHAPE).sum() ** 0.5


LIBRARIES = ("hotloops cpp", "hotloops numba", "NumPy", "PyTorch")


@pytest.mark.parametrize("mean", MEANS)
@pytest.mark.parametrize("library", LIBRARIES)
def test_negative_binomial(
    benchmark: Any, measure: Callable[..., None], mean: str, library: str
) -> None:
    benchmark.group = f"negative binomial counts, mean {mean}"
    mu = MEANS[mean]
    measure(
        library,
        negative_binomial(library, mu),
        lambda x: close(x, mu, mu + mu**2 / THETA),
        elements=mu.size,
        unit="counts",
        bytes_moved=12 * mu.size,
        threads=1 if library == "NumPy" else THREADS,
        dtype="float64",
        nonzero=float((flow.negative_binomial(mu, THETA) > 0).mean()),
    )


@pytest.mark.parametrize("rate", ["0.1", "3", "30"])
@pytest.mark.parametrize("library", LIBRARIES)
def test_poisson(benchmark: Any, measure: Callable[..., None], rate: str, library: str) -> None:
    benchmark.group = f"Poisson counts, rate {rate}"
    rates = np.full(SHAPE, float(rate))
    measure(
        library,
        poisson(library, rates),
        lambda x: close(x, rates, rates),
        elements=rates.size,
        unit="counts",
        bytes_moved=12 * rates.size,
        threads=1 if library == "NumPy" else THREADS,
        dtype="float64",
    )


@pytest.mark.parametrize("alpha", ["0.3", "5"])
@pytest.mark.parametrize("library", LIBRARIES)
def test_gamma(benchmark: Any, measure: Callable[..., None], alpha: str, library: str) -> None:
    benchmark.group = f"gamma variates, shape {alpha}"
    shapes = np.full(SHAPE, float(alpha))
    measure(
        library,
        gamma(library, shapes),
        lambda x: close(x, shapes, shapes),
        elements=shapes.size,
        unit="variates",
        bytes_moved=16 * shapes.size,
        threads=1 if library == "NumPy" else THREADS,
        dtype="float64",
    )


WIDTH, FEATURES = 512, 14_087
HIDDEN = GENERATOR.normal(size=(CELLS, WIDTH)).astype(np.float32) * 0.3
WEIGHT = GENERATOR.normal(size=(FEATURES, WIDTH)).astype(np.float32) * 0.1
INVERSE_DISPERSION = np.exp(GENERATOR.normal(size=FEATURES))
TOTAL = 1500.0


def decode(library: str) -> Any:
    if library.startswith("hotloops"):
        backend = library.split()[-1]
        return lambda: flow.decode_counts(
            *(HIDDEN, WEIGHT, None, TOTAL, INVERSE_DISPERSION),
            backend=backend,
            num_threads=THREADS,
        )
    from scipy.sparse import csr_array

    rng = np.random.default_rng(1)

    def call() -> Any:
        logits = (HIDDEN @ WEIGHT.T).astype(np.float64)
        e = np.exp(logits - logits.max(axis=1, keepdims=True))
        mu = TOTAL * e / e.sum(axis=1, keepdims=True)
        p = INVERSE_DISPERSION / (INVERSE_DISPERSION + mu)
        return csr_array(rng.negative_binomial(INVERSE_DISPERSION, p).astype(np.int32))

    return call


@pytest.mark.parametrize("library", ["hotloops cpp", "hotloops numba", "NumPy"])
def test_decode(benchmark: Any, measure: Callable[..., None], library: str) -> None:
    benchmark.group = f"decode and draw, {FEATURES:,} genes"
    mu = flow.decode_counts(HIDDEN, WEIGHT, None, TOTAL, INVERSE_DISPERSION, output="mean")
    spread = float((mu + mu.astype(float) ** 2 / INVERSE_DISPERSION).sum()) ** 0.5

    def check(x: Any) -> None:
        assert abs(x.sum() - TOTAL * CELLS) < 5.0 * spread

    measure(
        library,
        decode(library),
        check,
        elements=CELLS,
        unit="cells",
        bytes_moved=WEIGHT.nbytes,
        dtype="float32",
    )


POINTS = 2000
REAL = GENERATOR.normal(size=(POINTS, 30))
GENERATED = GENERATOR.normal(size=(POINTS, 30)) * 1.1


def discrepancy(library: str) -> Any:
    if library.startswith("hotloops"):
        backend = library.split()[-1]
        return lambda: metrics.mmd(REAL, GENERATED, backend=backend, num_threads=THREADS)
    from scipy.spatial.distance import cdist

    def mean(a: Any, b: Any) -> float:
        squared = cdist(a, b, "sqeuclidean")
        scales = [-0.5 / s**2 for s in (0.01, 0.1, 1.0, 10.0, 100.0)]
        return float(sum(np.exp(scale * squared).mean() for scale in scales))

    return lambda: mean(REAL, REAL) + mean(GENERATED, GENERATED) - 2.0 * mean(REAL, GENERATED)


@pytest.mark.parametrize("library", ["hotloops cpp", "hotloops numba", "SciPy"])
def test_mmd(benchmark: Any, measure: Callable[..., None], library: str) -> None:
    benchmark.group = f"MMD of {POINTS:,} and {POINTS:,} points, five kernels"
    expected = metrics.mmd(REAL, GENERATED)
    measure(
        library,
        discrepancy(library),
        lambda found: np.testing.assert_allclose(found, expected, rtol=1e-9),
        elements=2 * POINTS**2,
        unit="pairs",
        bytes_moved=REAL.nbytes + GENERATED.nbytes,
        threads=1 if library == "SciPy" else THREADS,
        dtype="float64",
    )
