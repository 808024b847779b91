"""Proximal operators beside NumPy's and pyproximal's, in float64 on rows of a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import _peers_prox as peers
import numpy as np
import pytest
from _bench_machine import THREADS

from hotloops import prox

ROWS, COLUMNS, GROUP = 200, 5_000, 10
STEP = 0.6

Make = Callable[[Any], Callable[[], Any]]


def ours(function: prox.Prox, library: str) -> Make:
    """Write into memory that is there already; by default `v` is looked through before."""
    _, backend, *unchecked = library.split()
    keywords = {"backend": backend.rstrip(","), "num_threads": THREADS}
    if unchecked:
        keywords["check_finite"] = False

    def make(v: Any) -> Callable[[], Any]:
        out = np.empty_like(v)
        return lambda: function(v, STEP, out, **keywords)

    return make


def theirs(name: str, *args: Any, **keywords: Any) -> Make:
    def make(v: Any) -> Callable[[], Any]:
        pyproximal = pytest.importorskip("pyproximal")
        return peers.pyproximal_rows(getattr(pyproximal, name)(*args, **keywords), v, STEP)

    return make


CASES: dict[str, tuple[prox.Prox, dict[str, Make]]] = {
    "l1": (
        prox.L1(),
        {
            "NumPy": lambda v: peers.numpy_l1(v, STEP),
            "NumPy, in place": lambda v: peers.numpy_l1_in_place(v, STEP),
            "NumPy, in place and checked": lambda v: peers.numpy_l1_checked(v, STEP),
            "pyproximal": theirs("L1"),
        },
    ),
    "simplex": (
        prox.Simplex(),
        {
            "NumPy, by sorting": lambda v: peers.numpy_simplex(v, 1.0),
            "pyproximal": theirs("Simplex", COLUMNS, 1.0, engine="numba"),
        },
    ),
    "l1 ball": (
        prox.L1Ball(20.0),
        {
            "NumPy, by sorting": lambda v: peers.numpy_l1_ball(v, 20.0),
            "pyproximal": theirs("L1Ball", COLUMNS, 20.0),
        },
    ),
    "group lasso": (
        prox.GroupLasso(np.repeat(np.arange(COLUMNS // GROUP), GROUP)),
        {
            "NumPy": lambda v: peers.numpy_groups(v, GROUP, STEP * GROUP**0.5),
            "pyproximal": lambda v: peers.pyproximal_groups(v, GROUP, STEP),
        },
    ),
    "largest 10 %": (
        prox.TopK(COLUMNS // 10),
        {
            "NumPy, by partition": lambda v: peers.numpy_top(v, COLUMNS // 10),
            "pyproximal": theirs("L0Ball", COLUMNS // 10),
        },
    ),
    "total variation": (
        prox.TotalVariation(),
        {"pyproximal": theirs("TV", (COLUMNS,), sigma=1.0, niter=1000, rtol=1e-8)},
    ),
}
# What an iterative peer reaches, and what sums in another order leave.
TOLERANCE = {"total variation": 5e-2, "simplex": 1e-6, "l1 ball": 1e-3}

NAMES = [
    (case, library)
    for case, (_, others) in CASES.items()
    for library in ("hotloops cpp", "hotloops cpp, unchecked", "hotloops numba", *others)
]


def data(case: str) -> Any:
    rng = np.random.default_rng(0)
    rows = 4 if case == "total variation" else ROWS  # its peer takes seconds
    v = rng.normal(size=(rows, COLUMNS))
    return np.repeat(rng.normal(size=(rows, COLUMNS // 50)), 50, axis=1) + v / 4 if rows == 4 else v


@pytest.mark.parametrize(("case", "library"), NAMES)
def test_prox(benchmark: Any, measure: Callable[..., None], case: str, library: str) -> None:
    benchmark.group = f"prox: {case}, rows of {COLUMNS:,} float64"
    function, others = CASES[case]
    v = data(case)
    expected = function(v, STEP)
    make = others.get(library) or ours(function, library)
    measure(
        library,
        make(v),
        lambda result: np.testing.assert_allclose(
            result, expected, atol=TOLERANCE.get(case, 1e-12)
        ),
        elements=v.size,
        unit="elements",
        bytes_moved=2 * v.nbytes,
        threads=THREADS if "hotloops" in library else 1,
        dtype="float64",
    )


SMALL = ("hotloops cpp", "hotloops cpp, with out", "NumPy", "NumPy, in place and checked")


@pytest.mark.parametrize("library", SMALL)
@pytest.mark.parametrize("size", [100, 10_000])
@pytest.mark.parametrize("case", ["l1", "simplex"])
def test_one_small_vector(
    benchmark: Any, measure: Callable[..., None], case: str, size: int, library: str
) -> None:
    """What a call costs: its checks and the way to the kernel are most of it."""
    benchmark.group = f"prox: {case}, one vector of {size:,} float64"
    v = np.random.default_rng(0).normal(size=size)
    out = np.empty_like(v)
    function = CASES[case][0]
    if case == "simplex" and "checked" in library:
        pytest.skip("there is one way by sorting")
    by_sorting = peers.numpy_simplex(v[None], 1.0)
    calls: dict[str, Callable[[], Any]] = {
        "hotloops cpp": lambda: function(v, STEP),
        "hotloops cpp, with out": lambda: function(v, STEP, out),
        "NumPy": peers.numpy_l1(v, STEP) if case == "l1" else lambda: by_sorting()[0],
        "NumPy, in place and checked": peers.numpy_l1_checked(v, STEP),
    }
    expected = function(v, STEP)
    measure(
        library,
        calls[library],
        lambda result: np.testing.assert_allclose(result, expected, atol=1e-12),
        elements=size,
        unit="elements",
        bytes_moved=2 * v.nbytes,
        threads=1,
        dtype="float64",
    )
