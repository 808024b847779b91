"""Gradients of every loss against differences of its values, and values against formulas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import scipy.special

from hotloops import admm
from hotloops.admm._cpp import Driver
from hotloops.admm._data import gather_clients
from hotloops.admm._losses import as_loss
from hotloops.admm._work import Batch, Work

RNG = np.random.default_rng(7)
ROWS, COLUMNS = 70, 6
X = RNG.standard_normal((ROWS, COLUMNS))
REALS = RNG.standard_normal(ROWS)
SIGNS = np.where(RNG.random(ROWS) < 0.5, -1.0, 1.0)
COUNTS = RNG.poisson(1.5, ROWS).astype(float)
LABELS = np.arange(ROWS) % 4
PAIRS = RNG.standard_normal((ROWS, 2))


def pinball(r: Any, q: float, width: float) -> Any:
    """The smallest value of the pinball loss at s plus (r - s)^2 / (2 width), by its cases."""
    inside = r**2 / (2 * width)
    above, below = q * r - width * q**2 / 2, (q - 1) * r - width * (1 - q) ** 2 / 2
    return np.where(r > q * width, above, np.where(r < (q - 1) * width, below, inside))


def huber(r: Any, delta: float) -> Any:
    return np.where(np.abs(r) <= delta, r**2 / 2, delta * (np.abs(r) - delta / 2))


def huber_hinge(g: Any, delta: float) -> Any:
    return np.where(g <= 0, 0.0, np.where(g < delta, g**2 / (2 * delta), g - delta / 2))


VALUES: dict[str, tuple[Any, Any, Callable[[Any, Any], Any]]] = {
    "squares": ("squares", REALS, lambda z, y: (z - y) ** 2 / 2),
    "logistic": ("logistic", SIGNS, lambda z, y: np.logaddexp(0, -y * z)),
    "squared_hinge": ("squared_hinge", SIGNS, lambda z, y: np.maximum(0, 1 - y * z) ** 2 / 2),
    "huber_hinge": (admm.HuberHinge(0.7), SIGNS, lambda z, y: huber_hinge(1 - y * z, 0.7)),
    "huber": (admm.Huber(0.8), REALS, lambda z, y: huber(z - y, 0.8)),
    "poisson": ("poisson", COUNTS, lambda z, y: np.exp(z) - y * z),
    "quantile": (admm.Quantile(0.8, 0.3), REALS, lambda z, y: pinball(y - z, 0.8, 0.3)),
    "softmax": (
        "softmax",
        LABELS,
        lambda z, y: scipy.special.logsumexp(z, axis=1) - z[np.arange(ROWS), y],
    ),
}
NETWORKS = [
    (admm.MLP((5,), "tanh"), LABELS),
    (admm.MLP((7, 3), "gelu"), LABELS),
    (admm.MLP((4, 5), "tanh", head="squares"), PAIRS),
    (admm.MLP((9,), "relu", head="squares"), REALS),
]


class Setup:
    """One loss bound to data."""

    def __init__(self, loss: Any, table: Any, y: Any, weights: Any = None) -> None:
        self.data = gather_clients(
            "solve",
            as_loss("solve", loss),
            table,
            y,
            [np.arange(0, ROWS, 2), np.arange(1, ROWS, 2)],
            sample_weight=weights,
            intercept=True,
        )
        self.driver = Driver(self.data, 1)
        self.work = Work.prepare(self.data, None)

    def values(self, w: Any) -> Any:
        self.driver.gradient(self.work, Batch(), w, values=self.work.values)
        return self.work.client_values(2)

    def gradients(self, w: Any) -> Any:
        self.driver.gradient(self.work, Batch(), w, partials=self.work.partials)
        return self.work.client_gradients(2)


def check_gradient(setup: Setup, w: Any, tolerance: float = 2e-8) -> None:
    gradients = setup.gradients(w)
    step = 1e-5
    for k in range(w.size):
        ahead, behind = w.copy(), w.copy()
        ahead[k] += step
        behind[k] -= step
        slope = (setup.values(ahead) - setup.values(behind)) / (2 * step)
        np.testing.assert_allclose(gradients[:, k], slope, atol=tolerance)


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
def test_linear_losses(name: str, sparse: bool) -> None:
    loss, y, formula = VALUES[name]
    weights = np.linspace(0.5, 2.0, ROWS)
    table = scipy.sparse.csr_array(np.where(np.abs(X) > 0.5, X, 0.0)) if sparse else X
    setup = Setup(loss, table, y, weights)
    w = 0.4 * np.sin(np.arange(1.0, setup.data.dim + 1.0))
    outputs = int(setup.data.layers[1])
    z = table @ w[: COLUMNS * outputs].reshape(COLUMNS, outputs) + w[COLUMNS * outputs :]
    losses = formula(z if outputs > 1 else z[:, 0], y)
    expected = [np.average(losses[k::2], weights=weights[k::2]) for k in range(2)]
    np.testing.assert_allclose(setup.values(w), expected, rtol=1e-13)
    check_gradient(setup, w)


@pytest.mark.parametrize(("loss", "y"), NETWORKS, ids=["tanh", "gelu", "squares", "relu"])
@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
def test_networks(loss: Any, y: Any, sparse: bool) -> None:
    table = scipy.sparse.csr_array(np.where(np.abs(X) > 0.5, X, 0.0)) if sparse else X
    setup = Setup(loss, table, y, np.linspace(0.5, 2.0, ROWS))
    check_gradient(setup, 0.5 * np.sin(np.arange(1.0, setup.data.dim + 1.0)))


@pytest.mark.parametrize("name", ["squares", "logistic", "squared_hinge", "huber", "quantile"])
def test_curvature_bounds_the_lipschitz_constant(name: str) -> None:
    loss, y, _ = VALUES[name]
    setup = Setup(loss, X, y)
    bound = as_loss("solve", loss).curvature
    assert bound is not None
    extended = np.hstack([X, np.ones((ROWS, 1))])
    for client, rows in enumerate([np.arange(0, ROWS, 2), np.arange(1, ROWS, 2)]):
        largest = np.linalg.eigvalsh(extended[rows].T @ extended[rows] / rows.size)[-1]
        for _ in range(20):
            a, b = RNG.standard_normal((2, COLUMNS + 1))
            change = setup.gradients(a)[client] - setup.gradients(b)[client]
            assert np.linalg.norm(change) <= bound * largest * np.linalg.norm(a - b) * (1 + 1e-12)


def test_extreme_predictions_stay_finite() -> None:
    for name in ("logistic", "softmax", "poisson"):
        loss, y, _ = VALUES[name]
        setup = Setup(loss, X, y)
        w = np.full(setup.data.dim, 300.0)
        assert np.isfinite(setup.gradients(w)).all()
        assert np.isfinite(setup.values(w)).all()


def test_nan_passes_through() -> None:
    for name in VALUES:
        loss, y, _ = VALUES[name]
        setup = Setup(loss, X, y)
        assert np.isnan(setup.gradients(np.full(setup.data.dim, np.nan))).all()
