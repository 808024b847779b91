"""Rounds of `admm.solve` on a9a, four clients with one label each, beside SciPy's products."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from _bench_machine import THREADS
from scipy.special import expit

from hotloops import admm, datasets

Measure = Callable[..., None]

ROUNDS = 100
L2, SIGMA, RHO, BETA, EPS = 1e-3, 1.0, 10.0, 0.999, 1e-8
OBJECTIVE = 0.339083  # after a hundred rounds in float64


@pytest.fixture(scope="module")
def adult() -> tuple[Any, Any, list[Any]]:
    """The training table in float32 and four clients with one label each."""
    table = datasets.load_a9a(sparse=True, dtype=np.float32)
    negative, positive = np.flatnonzero(table.y < 0), np.flatnonzero(table.y > 0)
    parts = [negative[:12360], positive[:3921], negative[12360:], positive[3921:]]
    return table.X, table.y.astype(np.float32), parts


def solve(data: Any, backend: str, threads: int) -> Callable[[], Any]:
    """Rounds of SISA by the solver."""
    X, y, parts = data

    def call() -> Any:
        return admm.solve(
            "logistic",
            X,
            y,
            clients=parts,
            l2=L2,
            sigma=SIGMA,
            rho=RHO,
            num_rounds=ROUNDS,
            backend=backend,
            num_threads=threads,
        ).w

    return call


def with_scipy(data: Any, transposed: bool) -> Callable[[], Any]:
    """The same rounds by SciPy's products; the transposes in CSR cost memory and are made once."""
    X, y, parts = data
    own = [(X[part], y[part]) for part in parts]
    backward = [rows.T.tocsr() if transposed else rows.T for rows, _ in own]
    shares = [part.size / y.size for part in parts]

    def call() -> Any:
        w = np.zeros(X.shape[1], np.float32)
        dual = np.zeros((4, w.size), np.float32)
        second = np.zeros((4, w.size), np.float32)
        for t in range(1, ROUNDS + 1):
            total = np.zeros_like(w)
            correction = 1.0 - BETA**t
            for i, (rows, signs) in enumerate(own):
                slopes = -signs * expit(-signs * (rows @ w))
                u = (backward[i] @ slopes) / np.float32(signs.size) + dual[i]
                second[i] = np.float32(BETA) * second[i] + np.float32(1 - BETA) * u * u
                q = np.sqrt(second[i] / np.float32(correction))
                step = u / (np.float32(SIGMA) + np.float32(RHO) * (q + np.float32(EPS)))
                dual[i] -= np.float32(SIGMA) * step
                total += np.float32(shares[i]) * (np.float32(SIGMA) * (w - step) + dual[i])
            w = total / np.float32(SIGMA + L2)
        return w

    return call


ROWS = [
    ("hotloops cpp", lambda data: solve(data, "cpp", THREADS), THREADS),
    ("hotloops cpp, one thread", lambda data: solve(data, "cpp", 1), 1),
    ("hotloops numba", lambda data: solve(data, "numba", THREADS), THREADS),
    ("SciPy CSR", lambda data: with_scipy(data, False), 1),
    ("SciPy CSR and its transpose", lambda data: with_scipy(data, True), 1),
]


@pytest.mark.benchmark(group="admm: rounds on a9a, four clients, full gradients, float32")
@pytest.mark.parametrize(("name", "make", "threads"), ROWS, ids=[row[0] for row in ROWS])
def test_rounds(measure: Measure, adult: Any, name: str, make: Any, threads: int) -> None:
    X, y, _ = adult

    def check(w: Any) -> None:
        loss = np.logaddexp(0.0, -y * (X @ w)).mean() + 0.5 * L2 * float(w @ w)
        assert loss == pytest.approx(OBJECTIVE, abs=5e-6)

    measure(
        name,
        make(adult),
        check,
        elements=X.nnz * ROUNDS,
        unit="entries",
        bytes_moved=(4 * X.nnz + 8 * X.shape[0]) * ROUNDS,
        threads=threads,
    )
