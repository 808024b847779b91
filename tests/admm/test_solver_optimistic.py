"""Mini-batches of sparse rows without preconditioner: only what they reach moves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse

from hotloops import NumericalError, admm, random
from hotloops.admm import _optimistic

SETTINGS: dict[str, Any] = {
    "sigma": 6.0,
    "rho": 0.0,
    "scheme": "identity",
    "batch_size": 7,
    "seed": 3,
    "num_rounds": 6,
}
both = pytest.mark.parametrize("backend", ["cpp", "numba"])
both_types = pytest.mark.parametrize("dtype", ["float32", "float64"])


def table(dtype: str = "float64", rows: int = 60, columns: int = 9000) -> tuple[Any, Any, Any]:
    """Sparse features, some of them in most rows, signs, and three clients."""
    rng = np.random.default_rng(columns)
    X = scipy.sparse.random_array((rows, columns), density=6 / columns, rng=rng, format="lil")
    X[:, 4095:4098] = rng.standard_normal((rows, 3))
    y = np.where(rng.random(rows) < 0.5, 1.0, -1.0)
    return scipy.sparse.csr_array(X, dtype=dtype), y, np.arange(rows) % 3


def optimistic_gradient(X: Any, y: Any, ids: Any, num_rounds: int, intercept: bool) -> list[Any]:
    """w' = w - (2 g - g_before) / sigma with the mean over clients of their batches' gradients."""
    X = np.column_stack([X.toarray(), np.ones(len(y))]) if intercept else X.toarray()
    clients = [np.flatnonzero(ids == client) for client in np.unique(ids)]
    w, before, points = np.zeros(X.shape[1]), np.zeros(X.shape[1]), []
    for round_ in range(num_rounds):
        gradient = np.zeros(X.shape[1])
        for client, rows in enumerate(clients):
            batch = rows[drawn(round_, client, rows.size)]
            slopes = -y[batch] / (1.0 + np.exp(y[batch] * (X[batch] @ w)))
            gradient += X[batch].T @ slopes / batch.size * rows.size / len(y)
        w = w - (2.0 * gradient - before) / SETTINGS["sigma"]
        before = gradient
        points.append(w)
    return points


def drawn(round_: int, client: int, count: int) -> Any:
    """The rows of a batch with replacement; tests/admm/test_solver_sampling.py checks them."""
    blocks = -(-SETTINGS["batch_size"] // 4)
    counters = [[round_, 5 << 16, client, block] for block in range(blocks)]
    words = random.philox(
        np.array(counters, np.uint32), np.array([SETTINGS["seed"], 0], np.uint32)
    ).reshape(-1)[: SETTINGS["batch_size"]]
    return (words.astype(np.uint64) * count) >> np.uint64(32)


@pytest.mark.parametrize("intercept", [False, True])
@both
def test_rounds_are_those_of_the_optimistic_gradient(backend: str, intercept: bool) -> None:
    X, y, ids = table()
    run = admm.solve(
        "logistic",
        X,
        y,
        clients=ids,
        intercept=intercept,
        record_iterates=True,
        backend=backend,
        **SETTINGS,
    )
    expected = optimistic_gradient(X, y, ids, SETTINGS["num_rounds"], intercept)
    assert run.iterates is not None
    np.testing.assert_allclose(run.iterates[1:], expected, rtol=1e-12, atol=1e-15)


@both
@both_types
def test_what_no_batch_reaches_keeps_its_bits(backend: str, dtype: str) -> None:
    X, y, ids = table(dtype)
    w0 = np.random.default_rng(0).standard_normal(X.shape[1]).astype(dtype)
    run = admm.solve("squares", X, y, clients=ids, w0=w0, backend=backend, **SETTINGS)
    reached = np.diff(X.tocsc().indptr) > 0
    np.testing.assert_array_equal(run.w[~reached], w0[~reached])
    moved = run.w != w0
    assert 20 < moved.sum() < reached.sum()
    assert moved[4095:4098].all()


@both
@both_types
def test_dense_rows_take_the_other_way_to_the_same_points(backend: str, dtype: str) -> None:
    X, y, ids = table(dtype)
    settings = SETTINGS | {"tol": 1e-12, "evaluate_every": 2, "backend": backend}
    sparse = admm.solve("logistic", X, y, clients=ids, **settings)
    dense = admm.solve("logistic", X.toarray(), y, clients=ids, **settings)
    exact = {"float32": 2e-5, "float64": 1e-12}[dtype]
    np.testing.assert_allclose(sparse.w, dense.w, rtol=exact, atol=exact)
    np.testing.assert_allclose(sparse.state.dual, dense.state.dual, rtol=exact, atol=exact)
    for name, values in dense.history.items():
        np.testing.assert_allclose(sparse.history[name], values, rtol=20 * exact, err_msg=name)


@both_types
@pytest.mark.parametrize("sampling", ["replacement", "epoch"])
def test_same_bits_over_backends_and_threads(dtype: str, sampling: str) -> None:
    X, y, ids = table(dtype, rows=400, columns=60_000)
    settings = SETTINGS | {"batch_size": 150, "sampling": sampling, "tol": 1e-9, "intercept": True}
    runs = [
        admm.solve("logistic", X, y, clients=ids, backend=name, num_threads=threads, **settings)
        for name in ("cpp", "numba")
        for threads in (1, 2, 5)
    ]
    for run in runs[1:]:
        assert run.w.tobytes() == runs[0].w.tobytes()
        assert run.state.dual.tobytes() == runs[0].state.dual.tobytes()
        for name, values in runs[0].history.items():
            assert run.history[name].tobytes() == values.tobytes(), name


@both
@pytest.mark.parametrize("schedule", [None, admm.Power(0.5), admm.Balancing(every=2)])
def test_going_on_has_the_same_bits(backend: str, schedule: Any, tmp_path: Path) -> None:
    X, y, ids = table("float32")
    settings = SETTINGS | {"backend": backend, "schedule": schedule, "tol": 1e-12}
    settings["num_rounds"] = 5
    whole = admm.solve("logistic", X, y, clients=ids, **(settings | {"num_rounds": 9}))
    first = admm.solve("logistic", X, y, clients=ids, **(settings | {"num_rounds": 4}))
    first.save(tmp_path / "first.npz")
    state = admm.AdmmResult.load(tmp_path / "first.npz").state
    second = admm.solve("logistic", X, y, clients=ids, state=state, **settings)
    assert second.w.tobytes() == whole.w.tobytes()
    for name, values in whole.history.items():
        assert second.history[name].tobytes() == values[4:].tobytes(), name


@both
def test_points_that_earlier_rounds_remember_are_kept_up(backend: str) -> None:
    """Rounds of all clients between rounds of some end where they do for dense rows."""
    X, y, ids = table()
    ends = []
    for rows in (X, X.toarray()):
        state = None
        for share, num_rounds in ((0.5, 4), (1.0, 5), (0.5, 6)):
            settings = SETTINGS | {"num_rounds": num_rounds, "participation": share}
            fit = admm.solve(
                "logistic", rows, y, clients=ids, state=state, backend=backend, **settings
            )
            state = fit.state
        ends.append(state)
    np.testing.assert_allclose(ends[0].local, ends[1].local, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(ends[0].w, ends[1].w, rtol=1e-12, atol=1e-15)


@both
def test_numbers_that_are_not_finite_stop_the_run(backend: str) -> None:
    X, y, ids = table()
    settings = SETTINGS | {"sigma": 1e-200, "num_rounds": 50, "backend": backend}
    w0 = np.full(X.shape[1], 1e150)
    with pytest.raises(NumericalError, match=r"^solve: the iterate was not finite after round"):
        admm.solve("squares", X, y, clients=ids, w0=w0, **settings)
    np.testing.assert_array_equal(w0, 1e150)


@pytest.mark.parametrize(
    "change",
    [
        {"rho": 0.1},
        {"l2": 0.1},
        {"scheme": "adam"},
        {"batch_size": None},
        {"batch_size": 40},
        {"relaxation": 1.5},
        {"participation": 0.5},
    ],
    ids=str,
)
def test_other_rounds_move_everything(change: dict[str, Any], monkeypatch: Any) -> None:
    made = []
    original = _optimistic.Optimistic.advance

    def advance(self: Any, *given: Any, **options: Any) -> Any:
        made.append(1)
        return original(self, *given, **options)

    monkeypatch.setattr(_optimistic.Optimistic, "advance", advance)
    X, y, ids = table()
    admm.solve("logistic", X, y, clients=ids, **SETTINGS)
    assert len(made) == SETTINGS["num_rounds"]
    admm.solve("logistic", X, y, clients=ids, **(SETTINGS | change))
    assert len(made) == SETTINGS["num_rounds"]
