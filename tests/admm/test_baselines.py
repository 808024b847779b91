"""The baselines against their plain form, and the partitions against what they promise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hotloops import NumericalError, admm
from hotloops.admm import partition
from tests.admm.consensus import logistic_gradient, small_problem

L2, STEP, LOCAL, ROUNDS = 0.05, 0.3, 4, 12


def plain(name: str, mu: float = 0.0, global_step: float = 1.0) -> Any:
    X, y, ids = small_problem()
    m = 3
    alpha = np.bincount(ids) / ids.size
    weights = np.full(m, 1 / m) if name == "local_sgd" else alpha
    w, controls = np.zeros(X.shape[1]), np.zeros((m, X.shape[1]))
    for _ in range(ROUNDS):
        mean = alpha @ controls
        points = np.tile(w, (m, 1))
        for i in range(m):
            for _ in range(LOCAL):
                g = logistic_gradient(X[ids == i], y[ids == i], points[i]) + L2 * points[i]
                if name == "scaffold":
                    g = g - controls[i] + mean
                points[i] = points[i] - STEP * (g + mu * (points[i] - w))
        if name == "scaffold":
            controls = controls - mean + (w - points) / (LOCAL * STEP)
        w = w + global_step * (weights @ (points - w))
    return w


@pytest.mark.parametrize(
    ("name", "extra", "other"),
    [
        ("fedavg", {}, {}),
        ("local_sgd", {}, {}),
        ("fedprox", {"mu": 0.7}, {"mu": 0.7}),
        ("scaffold", {"global_step_size": 0.8}, {"global_step": 0.8}),
    ],
)
def test_equal_the_plain_form(name: str, extra: Any, other: Any, engine: str) -> None:
    X, y, ids = small_problem()
    fit = getattr(admm, name)(
        "logistic",
        X,
        y,
        clients=ids,
        l2=L2,
        step_size=STEP,
        local_steps=LOCAL,
        num_rounds=ROUNDS,
        record_iterates=True,
        evaluate_every=4,
        backend=engine,
        **extra,
    )
    np.testing.assert_allclose(fit.w, plain(name, **other), atol=1e-14)
    assert fit.iterates.shape == (ROUNDS + 1, X.shape[1])
    assert fit.history["round"].tolist() == [4, 8, 12]
    assert fit.history["objective"][-1] == fit.objective
    assert fit.complete


def test_one_local_step_is_gradient_descent() -> None:
    X, y, ids = small_problem()
    options: dict[str, Any] = {"step_size": 0.5, "local_steps": 1, "num_rounds": 10}
    split = admm.fedavg("logistic", X, y, clients=ids, **options)
    pooled = admm.fedavg("logistic", X, y, clients=[np.arange(y.size)], **options)
    np.testing.assert_allclose(split.w, pooled.w, atol=1e-14)


def test_drift_and_its_cure() -> None:
    X, y, ids = small_problem()
    target = admm.solve(
        "logistic", X, y, clients=ids, l2=L2, scheme="majorant", rho=1.0, num_rounds=500
    )
    options: dict[str, Any] = {"clients": ids, "l2": L2, "step_size": 0.3, "num_rounds": 800}
    drift = admm.fedavg("logistic", X, y, **options)
    steered = admm.scaffold("logistic", X, y, **options)
    assert np.linalg.norm(drift.w - target.w) > 5e-3
    assert np.linalg.norm(steered.w - target.w) < 1e-6


def test_participation_batches_and_step_sizes_by_round() -> None:
    X, y, ids = small_problem()
    options: dict[str, Any] = {
        "clients": ids,
        "step_size": lambda r: 0.5 / (1 + r),
        "num_rounds": 6,
        "participation": 0.5,
        "batch_size": 8,
        "sampling": "epoch",
        "seed": 4,
    }
    for name in ("fedavg", "scaffold"):
        run = getattr(admm, name)
        one, two = run("logistic", X, y, **options), run("logistic", X, y, num_threads=3, **options)
        np.testing.assert_array_equal(one.w, two.w)
        assert np.isfinite(one.objective)


def test_bad_arguments() -> None:
    X, y, ids = small_problem()
    options: dict[str, Any] = {"clients": ids, "num_rounds": 1}
    with pytest.raises(ValueError, match=r"fedavg: `step_size` must be a finite number > 0.0"):
        admm.fedavg("logistic", X, y, step_size=0.0, **options)
    with pytest.raises(ValueError, match="fedprox: `mu`"):
        admm.fedprox("logistic", X, y, step_size=0.1, mu=-1.0, **options)
    with pytest.raises(ValueError, match="scaffold: `global_step_size`"):
        admm.scaffold("logistic", X, y, step_size=0.1, global_step_size=0.0, **options)
    with pytest.raises(ValueError, match="local_sgd: `local_steps`"):
        admm.local_sgd("logistic", X, y, step_size=0.1, local_steps=0, **options)
    with pytest.raises(OverflowError, match="fedavg: `num_rounds` must stay below"):
        admm.fedavg("logistic", X, y, clients=ids, step_size=0.1, num_rounds=2**47)
    with pytest.raises(NumericalError, match="fedavg: the iterate was not finite"):
        admm.fedavg("squares", X, y, clients=ids, step_size=1e9, num_rounds=100)


# --- partitions ----------------------------------------------------------------------------------

LABELS = np.arange(600) % 5


def is_partition(parts: Any, count: int) -> bool:
    return bool((np.sort(np.concatenate(parts)) == np.arange(count)).all())


@pytest.mark.parametrize(
    "parts",
    [
        partition.iid(LABELS, 7),
        partition.iid(600, 7),
        partition.label_k(LABELS, 7, 2),
        partition.dirichlet(LABELS, 7, 0.3),
        partition.quantity(LABELS, 7, 0.5),
        partition.feature_noise(np.zeros((600, 3)), 7)[1],
    ],
    ids=["iid", "count", "label_k", "dirichlet", "quantity", "feature_noise"],
)
def test_every_row_has_one_client(parts: Any) -> None:
    assert len(parts) == 7
    assert is_partition(parts, 600)
    assert all((np.diff(part) > 0).all() for part in parts)


def test_labels_of_clients() -> None:
    for k in (1, 2, 5):
        parts = partition.label_k(LABELS, 10, k)
        assert [np.unique(LABELS[part]).size for part in parts] == [k] * 10
    sizes = [part.size for part in partition.label_k(LABELS, 10, 1)]
    assert sizes == [60] * 10


def test_shares_become_uneven() -> None:
    def spread(beta: float) -> float:
        parts = partition.dirichlet(LABELS, 5, beta, seed=2)
        shares = np.array([np.bincount(LABELS[part], minlength=5) for part in parts]) / 120
        return float(shares.std())

    assert spread(0.1) > 2 * spread(5.0)
    sizes = [part.size for part in partition.quantity(600, 5, 0.3, seed=1)]
    assert max(sizes) > 3 * min(sizes)
    assert min(sizes) >= 10


def test_noise_grows_with_the_client() -> None:
    X, parts = partition.feature_noise(np.zeros((6000, 3)), 4, 0.9)
    found = [X[part].std() for part in parts]
    np.testing.assert_allclose(found, [0.0, 0.3, 0.6, 0.9], rtol=0.05)


def test_seeds() -> None:
    for make in (partition.iid, partition.label_k, partition.dirichlet, partition.quantity):
        one, same, other = (make(LABELS, 7, seed=s) for s in (1, 1, 2))
        assert all((a == b).all() for a, b in zip(one, same, strict=True))
        assert any(a.size != b.size or (a != b).any() for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: partition.iid(3, 4), ValueError, "iid: `num_clients`"),
        (lambda: partition.label_k(LABELS, 3, 6), ValueError, "label_k: `k`"),
        (lambda: partition.label_k(LABELS, 3, 1), ValueError, "reach 5 labels together with `k`"),
        (lambda: partition.label_k([0, 1, 1], 3, 1), ValueError, "leave rows for every client"),
        (lambda: partition.dirichlet(LABELS, 3, 0.0), ValueError, "dirichlet: `beta`"),
        (
            lambda: partition.dirichlet(LABELS, 60, 0.05, min_rows=9),
            ValueError,
            "dirichlet: `beta` must leave 9 rows for every client",
        ),
        (
            lambda: partition.quantity(20, 3, min_rows=10),
            ValueError,
            "quantity: `beta` must leave 10 rows",
        ),
        (lambda: partition.feature_noise(np.zeros((6, 2)), 1), ValueError, "`num_clients`"),
        (lambda: partition.label_k(np.zeros((3, 2)), 2), TypeError, "an array of labels"),
    ],
)
def test_bad_partitions(call: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        call()
