"""Mini-batches of `admm.solve` on a wide sparse table, beside SciPy and our own dense rounds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse
from _bench_machine import THREADS
from scipy.special import expit

from hotloops import admm, random

Measure = Callable[..., None]

ROUNDS, ROWS, COLUMNS, ENTRIES, CLIENTS, BATCH = 200, 20_000, 1_000_000, 50, 4, 32
SIGMA, SEED = 4.0, 1
CLIENT_ROWS = ROWS // CLIENTS


@pytest.fixture(scope="module")
def table() -> tuple[Any, Any, Any]:
    """Rows like those of texts: few columns, small numbers much more often than large ones."""
    rng = np.random.default_rng(0)
    columns = (COLUMNS * rng.random((ROWS, ENTRIES)) ** 3).astype(np.int32)
    values = rng.random((ROWS, ENTRIES), np.float32)
    indptr = np.arange(0, ROWS * ENTRIES + 1, ENTRIES)
    X = scipy.sparse.csr_array((values.ravel(), columns.ravel(), indptr), shape=(ROWS, COLUMNS))
    X.sum_duplicates()
    y = np.where(rng.random(ROWS) < 0.5, 1.0, -1.0).astype(np.float32)
    return X, y, np.arange(ROWS) // CLIENT_ROWS


def solve(data: Any, backend: str, threads: int, rho: float = 0.0) -> Callable[[], Any]:
    """Rounds of the solver; with a preconditioner they pass over all parameters."""
    X, y, ids = data

    def call() -> Any:
        return admm.solve(
            "logistic",
            X,
            y,
            clients=ids,
            scheme="identity",
            sigma=SIGMA,
            rho=rho,
            batch_size=BATCH,
            num_rounds=ROUNDS,
            evaluate_every=0,
            seed=SEED,
            backend=backend,
            num_threads=threads,
        ).w

    return call


def batches(client: int) -> Any:
    """The rows that the solver draws for a client, (rounds, batch)."""
    blocks = np.arange(BATCH // 4)
    counters = np.zeros((ROUNDS, blocks.size, 4), np.uint32)
    counters[..., 0], counters[..., 1] = np.arange(ROUNDS)[:, None], 5 << 16
    counters[..., 2], counters[..., 3] = client, blocks
    words = random.philox(counters.reshape(-1, 4), np.array([SEED, 0], np.uint32))
    return client * CLIENT_ROWS + (
        words.reshape(ROUNDS, BATCH).astype(np.int64) * CLIENT_ROWS >> 32
    )


def with_scipy(data: Any) -> Callable[[], Any]:
    """The optimistic gradient method: w moves by 2 g - g_before, in the columns of either."""
    X, y, _ = data
    drawn = np.concatenate([batches(client) for client in range(CLIENTS)], axis=1)
    share = np.float32(1.0 / (CLIENTS * BATCH))

    def call() -> Any:
        w = np.zeros(COLUMNS, np.float32)
        before = (np.empty(0, np.int32), np.empty(0, np.float32))
        for rows in drawn:
            own = X[rows]
            slopes = -y[rows] * expit(-y[rows] * (own @ w)) * share
            entries = own.data * np.repeat(slopes, np.diff(own.indptr))
            np.subtract.at(w, own.indices, np.float32(2.0 / SIGMA) * entries)
            np.add.at(w, before[0], before[1])
            before = own.indices, np.float32(1.0 / SIGMA) * entries
        return w

    return call


ALL = [
    ("hotloops cpp", lambda data: solve(data, "cpp", THREADS), THREADS),
    ("hotloops cpp, one thread", lambda data: solve(data, "cpp", 1), 1),
    ("hotloops numba", lambda data: solve(data, "numba", THREADS), THREADS),
    ("hotloops cpp, all parameters", lambda data: solve(data, "cpp", THREADS, 1e-9), THREADS),
    ("SciPy CSR", with_scipy, 1),
]


@pytest.mark.benchmark(group="admm: mini-batches of 4 x 32 sparse rows, 10^6 columns, float32")
@pytest.mark.parametrize(("name", "make", "threads"), ALL, ids=[row[0] for row in ALL])
def test_rounds(measure: Measure, table: Any, name: str, make: Any, threads: int) -> None:
    expected = with_scipy(table)()

    def check(w: Any) -> None:
        np.testing.assert_allclose(w, expected, rtol=1e-4, atol=1e-6)
        assert np.count_nonzero(w) > 10_000

    entries = ROUNDS * CLIENTS * BATCH * ENTRIES
    measure(
        name,
        make(table),
        check,
        elements=entries,
        unit="entries",
        bytes_moved=8 * entries,
        threads=threads,
    )
