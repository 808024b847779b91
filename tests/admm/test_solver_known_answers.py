"""Optima and iterates that an independent implementation computed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hotloops import admm, prox
from tests.admm.consensus import adult

OPTIMUM = 0.333340752069  # logistic, l2 = 1e-3, no intercept
ROUNDS = [1, 10, 100, 300]
GAPS: list[tuple[str, dict[str, Any], list[float]]] = [
    (
        "adam",
        {"scheme": "adam", "sigma": 1.0, "rho": 10.0},
        [0.2106853894, 0.0683193558, 5.742655895e-3, 7.605841e-4],
    ),
    (
        "rmsprop",
        {"scheme": "rmsprop", "sigma": 1.0, "rho": 10.0, "beta": 0.99},
        [0.2786434149, 0.0588171326, 5.708299663e-3, 7.524150e-4],
    ),
    (
        "adagrad",
        {"scheme": "adagrad", "sigma": 1.0, "rho": 1.0},
        [0.2786434376, 0.0586941149, 5.704220324e-3, 7.518141e-4],
    ),
    (
        "no preconditioner",
        {"scheme": "identity", "sigma": 2.0, "rho": 0.0},
        [0.1977431646, 0.0961563237, 1.431558031e-2, 2.984956e-3],
    ),
    (
        "geometric sigma",
        {
            "scheme": "adam",
            "sigma": 1.0,
            "rho": 10.0,
            "schedule": admm.Geometric(0.997, every=10),
        },
        [0.2107375487, 0.0684416838, 5.885136414e-3, 8.431662e-4],
    ),
]


@pytest.mark.parametrize(("options", "gaps"), [row[1:] for row in GAPS], ids=[r[0] for r in GAPS])
def test_adult_split_by_label(options: dict[str, Any], gaps: list[float]) -> None:
    X, y, parts = adult()
    fit = admm.solve(
        "logistic", X, y, clients=parts, l2=1e-3, num_rounds=300, record_iterates=True, **options
    )
    assert fit.iterates is not None
    found = [_objective(X, y, fit.iterates[k]) - OPTIMUM for k in ROUNDS]
    np.testing.assert_allclose(found[:3], gaps[:3], rtol=1e-6)
    np.testing.assert_allclose(found[3], gaps[3], rtol=1e-5)
    assert fit.objective == pytest.approx(found[3] + OPTIMUM, abs=1e-13)


def _objective(X: Any, y: Any, w: Any) -> float:
    return float(np.logaddexp(0.0, -y * (X @ w)).mean() + 0.5e-3 * (w @ w))


def test_adult_twin(engine: str) -> None:
    X, y, parts = adult()
    fit = admm.solve(
        "logistic", X, y, clients=parts, l2=1e-3, sigma=1.0, rho=10.0, num_rounds=10, backend=engine
    )
    assert fit.objective - OPTIMUM == pytest.approx(0.0683193558, rel=1e-8)


def test_baselines_on_adult_split_by_label() -> None:
    X, y, parts = adult()
    common: dict[str, Any] = {"l2": 1e-3, "num_rounds": 300}
    drift = admm.fedavg("logistic", X, y, clients=parts, step_size=0.5, **common)
    assert drift.objective - OPTIMUM == pytest.approx(2.5e-2, rel=0.02)
    pooled = [np.arange(y.size)]
    descent = admm.fedavg("logistic", X, y, clients=pooled, step_size=0.6, local_steps=1, **common)
    assert descent.objective - OPTIMUM == pytest.approx(2.1e-3, rel=0.03)
    steered = admm.scaffold("logistic", X, y, clients=parts, step_size=0.5, **common)
    assert steered.objective - OPTIMUM < 1e-3


def test_largest_eigenvalue_of_adult() -> None:
    X, y, _ = adult()
    fit = admm.solve("logistic", X, y, clients=[np.arange(y.size)], rho=0.0, num_rounds=1)
    assert fit.lipschitz[0] == pytest.approx(1.571919699223, rel=1e-6)
    assert fit.state.sigma[0] == pytest.approx(1.5 * 1.571919699223, rel=1e-6)


def test_l1_on_adult() -> None:
    X, y, parts = adult()
    fit = admm.solve(
        "logistic",
        X,
        y,
        clients=parts,
        regularizer=prox.L1(1e-3),
        scheme="identity",
        sigma=2.0,
        rho=0.0,
        num_rounds=1000,
        record_iterates=True,
    )
    assert fit.iterates is not None
    gaps = [
        np.logaddexp(0.0, -y * (X @ w)).mean() + 1e-3 * np.abs(w).sum() - 0.347035069373
        for w in fit.iterates[[10, 100, 1000]]
    ]
    np.testing.assert_allclose(gaps, [8.967e-2, 1.394e-2, 6.911e-4], rtol=1e-3)
    assert int((fit.w != 0).sum()) == 50


@pytest.mark.parametrize(
    ("loss", "l2", "optimum", "norm"),
    [
        ("logistic", 1e-2, 0.372723746864, 2.3996438094),
        ("squares", 1e-2, 0.229688141480, 0.9490869567),
        ("squared_hinge", 1e-3, 0.212646083006, 1.61503877),
    ],
)
def test_pooled_optima_of_adult(loss: str, l2: float, optimum: float, norm: float) -> None:
    X, y, _ = adult()
    fit = admm.solve(
        loss,
        X,
        y,
        clients=[np.arange(y.size)],
        l2=l2,
        scheme="hessian",
        sigma=0.003,
        rho=1.0,
        num_rounds=60,
        tol=1e-9,
    )
    assert fit.objective == pytest.approx(optimum, abs=2e-9)
    assert np.linalg.norm(fit.w) == pytest.approx(norm, rel=1e-4)


def test_softmax_optimum_of_digits() -> None:
    digits = pytest.importorskip("sklearn.datasets").load_digits()
    X, y = digits.data / 16.0, digits.target
    fit = admm.solve(
        "softmax",
        X,
        y,
        clients=np.arange(y.size) % 3,
        l2=1e-2,
        scheme="identity",
        sigma=4.0,
        rho=0.0,
        num_rounds=4000,
        gradient_tol=1e-5,
    )
    assert fit.objective == pytest.approx(0.741462087449, abs=1e-8)
    assert np.linalg.norm(fit.w) == pytest.approx(7.956030, rel=1e-4)
    assert ((X @ fit.coef).argmax(1) == y).mean() == pytest.approx(0.952699, abs=1e-3)


def test_hand_trace(engine: str) -> None:
    curvatures, targets = np.array([[2.0, 1.0], [1.0, 3.0]]), np.array([[1.0, -1.0], [3.0, 2.0]])
    # The mean of two rows has a half of each, hence the root of twice the curvature.
    pairs = [
        (np.diag(np.sqrt(2.0 * h)), np.sqrt(2.0 * h) * t)
        for h, t in zip(curvatures, targets, strict=True)
    ]
    shares = [np.full(2, 0.25), np.full(2, 0.75)]
    options: dict[str, Any] = {"sigma": 2.0, "rho": 1.0, "l2": 0.5, "beta": 0.9, "eps": 0.0}
    fit = admm.solve(
        "squares",
        None,
        None,
        clients=pairs,
        sample_weight=shares,
        num_rounds=3,
        record_iterates=True,
        backend=engine,
        **options,
    )
    expected = [[0.0, 0.0], [0.92, 0.76666667], [1.3539204, 1.26333961], [1.48542948, 1.41571692]]
    np.testing.assert_allclose(fit.iterates, expected, atol=6e-9)
    second = admm.solve(
        "squares", None, None, clients=pairs, sample_weight=shares, num_rounds=2, **options
    )
    np.testing.assert_allclose(
        second.state.dual, [[0.52073380, -1.38707701], [1.62295606, 2.18459169]], atol=6e-9
    )


@pytest.fixture(scope="module")
def digits() -> tuple[Any, Any, Any, Any]:
    table = pytest.importorskip("sklearn.datasets").load_digits()
    X, y = table.data[:300] / 16.0, table.target[:300]
    order = np.argsort(y, kind="stable")
    parts = [order[:100], order[100:200], order[200:300]]
    return X, y, parts, 0.1 * np.sin(np.arange(1.0, 1211.0))


def test_network_trace(digits: Any) -> None:
    X, y, parts, w0 = digits
    fit = admm.solve(
        admm.MLP((16,), activation="tanh"),
        X,
        y,
        clients=parts,
        sigma=0.5,
        rho=20.0,
        l2=1e-4,
        num_rounds=200,
        evaluate_every=1,
        record_iterates=True,
        w0=w0,
    )
    assert fit.iterates is not None
    losses = fit.history["objective"] - 0.5e-4 * (fit.iterates[1:] ** 2).sum(1)
    expected = {1: 2.2714249107, 10: 1.9839832760, 50: 0.0899594840}
    for rounds, value in expected.items():
        assert losses[rounds - 1] == pytest.approx(value, rel=1e-6)
    assert losses[99] == pytest.approx(0.0289057669, rel=1e-3)
    assert losses[199] == pytest.approx(0.0111493416, rel=1e-3)


@pytest.mark.parametrize(
    ("gamma", "error"), [(0.75, 0.160441), (0.9, 0.011864), (0.99, 0.0)], ids=str
)
def test_geometric_schedules_freeze(gamma: float, error: float) -> None:
    def run() -> Any:
        return admm.solve(
            "squares",
            np.ones((1, 1)),
            [1.0],
            clients=[0],
            scheme="identity",
            sigma=2.0,
            rho=0.0,
            schedule=admm.Geometric(gamma),
            num_rounds=3000,
        )

    if error == 0.0:
        fit = run()
    else:
        with pytest.warns(RuntimeWarning, match="freeze short of the minimiser"):
            fit = run()
    assert abs(fit.w[0] - 1.0) == pytest.approx(error, abs=6e-7)


@pytest.mark.parametrize("rounds", [500, 1000])
def test_mini_batches_on_adult(rounds: int) -> None:
    X, y, parts = adult()
    fit = admm.solve(
        "logistic",
        X,
        y,
        clients=parts,
        l2=1e-3,
        sigma=2.0,
        rho=10.0,
        batch_size=256,
        num_rounds=rounds,
        seed=rounds,
    )
    expected = {500: 1.3e-3, 1000: 3.4e-4}[rounds]
    assert expected / 2 < fit.objective - OPTIMUM < expected * 2
