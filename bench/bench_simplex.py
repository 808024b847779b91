"""Weights on simplices beside their peers: the same chains, steps and precision in every row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import _peers_simplex as peers
import numpy as np
import pytest
from _bench_machine import THREADS
from _cases_simplex import Moments, check, moments, product_rate, quartic, wells

from hotloops import simplex

Measure = Callable[..., None]

MOMENTS_ROWS: dict[str, Callable[[Moments], peers.Call]] = {
    "hotloops cpp": lambda case: peers.ours_moments(case, "cpp", THREADS),
    "hotloops numba": lambda case: peers.ours_moments(case, "numba", THREADS),
    "NumPy, all chains at once": peers.numpy_moments,
    "JAX, jitted scan": peers.jax_moments,
}

QUARTIC_ROWS: dict[str, Callable[..., peers.Call]] = {
    "hotloops cpp": lambda case: peers.ours_quartic(case, "cpp", THREADS),
    "hotloops numba": lambda case: peers.ours_quartic(case, "numba", THREADS),
    "NumPy, all chains at once": peers.numpy_quartic,
    "JAX, jitted scan": peers.jax_quartic,
    "Numba, loops in prange": lambda case: peers.numba_quartic(case, THREADS),
}

WELLS_ROWS: dict[str, Callable[..., peers.Call]] = {
    "hotloops cpp": lambda case: peers.ours_wells(case, "cpp", THREADS),
    "hotloops numba": lambda case: peers.ours_wells(case, "numba", THREADS),
    "NumPy, all chains at once": peers.numpy_wells,
    "JAX, jitted scan": peers.jax_wells,
    "Numba, loops in prange": lambda case: peers.numba_wells(case, THREADS),
}

CONVEX_ROWS: dict[str, Callable[[Moments], peers.Call]] = {
    "hotloops polish": peers.polish,
    "SciPy, SLSQP": peers.scipy_slsqp,
    "yand-mvsk": peers.yand,
}


def limit_by_products(operations: float) -> dict[str, Any]:
    """Return the limit that a matrix product of this run sets."""
    return {
        "operations_per_element": operations,
        "limit": "matrix product",
        "limit_per_second": product_rate() / operations,
    }


@pytest.mark.benchmark(group="simplex: portfolio moments, T = 2520, d = 20, 256 chains")
@pytest.mark.parametrize("library", MOMENTS_ROWS, indirect=True)
def test_moments(measure: Measure, library: str) -> None:
    case = moments()
    operations = 4.0 * case.returns.size  # two products, two operations for each number
    measure(
        library,
        MOMENTS_ROWS[library](case),
        lambda answer: check(case, answer),
        elements=case.num_chains * case.num_steps,
        unit="chain steps",
        bytes_moved=case.returns.nbytes,
        **(limit_by_products(operations) if library.startswith("hotloops") else {}),
    )


@pytest.mark.benchmark(group="simplex: dense quartic, d = 16, 1024 chains")
@pytest.mark.parametrize("library", QUARTIC_ROWS, indirect=True)
def test_quartic(measure: Measure, library: str) -> None:
    case = quartic()
    measure(
        library,
        QUARTIC_ROWS[library](case),
        lambda answer: check(case, answer),
        elements=case.num_chains * case.num_steps,
        unit="chain steps",
        bytes_moved=case.num_chains * case.tensor.shape[0] * 8,
    )


@pytest.mark.benchmark(group="simplex: quartic with two wells, d = 16, 1024 chains")
@pytest.mark.parametrize("library", WELLS_ROWS, indirect=True)
def test_wells(measure: Measure, library: str) -> None:
    """The peers use the two distances; ours does not know them and adds up 545 monomials."""
    case = wells()
    measure(
        library,
        WELLS_ROWS[library](case),
        lambda answer: check(case, answer),
        elements=case.num_chains * case.num_steps,
        unit="chain steps",
        bytes_moved=case.num_chains * case.far.size * 8,
    )


@pytest.mark.benchmark(group="simplex: convex portfolio to its minimum, T = 2520, d = 20")
@pytest.mark.parametrize("library", CONVEX_ROWS, indirect=True)
def test_convex(measure: Measure, library: str) -> None:
    case = moments()

    def within(answer: tuple[Any, float]) -> None:
        x = np.asarray(answer[0])
        assert abs(x.sum() - 1.0) < 1e-9
        assert x.min() > -1e-12
        # The minimum of these returns in float64, and what their rounding to float32 changes.
        assert abs(float(case.value(x[None])[0]) + 0.033379924961) < 1e-8

    measure(
        library,
        CONVEX_ROWS[library](case),
        within,
        elements=1,
        unit="portfolios",
        bytes_moved=case.returns.nbytes,
    )


@pytest.mark.benchmark(group="simplex: projection of 100 000 rows of 64")
@pytest.mark.parametrize("library", ["hotloops cpp", "hotloops numba", "NumPy, by sorting"])
def test_projection(measure: Measure, library: str) -> None:
    v = np.random.default_rng(0).normal(size=(100_000, 64))
    expected = peers.numpy_projection(v)
    call: Callable[[], Any] = expected
    if library.startswith("hotloops"):
        out, backend = np.empty_like(v), library.split()[1]

        def call() -> Any:
            return simplex.project(v, out=out, backend=backend, num_threads=THREADS)

    measure(
        library,
        call,
        lambda answer: np.testing.assert_allclose(answer, expected(), atol=1e-13),
        elements=v.size,
        unit="numbers",
        bytes_moved=2 * v.nbytes,
        threads=1 if library.startswith("NumPy") else THREADS,
    )
