"""Published and derived numbers: time embeddings, a velocity network, the negative binomial."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hotloops import nn
from hotloops.nn._tables import Batch
from hotloops.nn._train import train
from tests.nn.networks import both, velocity_network

X, T = np.array([[0.3, -1.2]]), np.array([[0.25]])


@both
def test_time_embedding(backend: str) -> None:
    waves = nn.TimeEmbedding(6, waves_only=True, dtype="float64")
    found = waves([[0.37]], backend=backend)
    expected = [
        *(-0.650264939560776, -0.529836140908493, 0.036991558411181),
        *(0.759707515020103, -0.848100031710408, 0.999315578086478),
    ]
    np.testing.assert_allclose(found[0], expected, atol=1e-13)


@both
def test_time_embedding_of_one_frequency(backend: str) -> None:
    waves = nn.TimeEmbedding(2, scale=2.0, waves_only=True, dtype="float64")
    found = waves([[0.7]], backend=backend)
    np.testing.assert_allclose(found[0], [np.sin(1.4), np.cos(1.4)], atol=1e-15)


@both
def test_time_embedding_in_float32_has_the_angles_of_float64(backend: str) -> None:
    t = np.linspace(0.0, 1.0, 1001, dtype=np.float32).reshape(-1, 1)
    waves = nn.TimeEmbedding(100, waves_only=True)(t, backend=backend)
    f = 10000.0 ** (-np.arange(50) / 49)
    angle = 1000.0 * t.astype(float) * f
    expected = np.concatenate([np.sin(angle), np.cos(angle)], axis=1)
    np.testing.assert_allclose(waves, expected, atol=2e-7)


@both
@pytest.mark.parametrize(
    ("label", "expected"),
    [
        (1, (0.230837835708937, 0.629693664099128)),
        (-1, (0.235438853996359, 0.62555639514475)),
    ],
    ids=["label", "none"],
)
def test_velocity(backend: str, label: int, expected: tuple[float, float]) -> None:
    network, _ = velocity_network()
    found = network.forward(X, T, [label], backend=backend)
    np.testing.assert_allclose(found[0], expected, rtol=1e-14)


@both
def test_gradients_of_the_velocity(backend: str) -> None:
    network, _ = velocity_network()
    v = network.forward(X, T, [1], backend=backend)
    value, gradient = nn.mean_squared_error(v, [[0.5, 0.5]], backend=backend)
    assert value == pytest.approx(0.04463435859665334, rel=1e-13)
    network.backward(gradient)
    expected = {
        "in.weight": ((0, 0), -0.027026572),
        "inner.weight": ((1, 2), 0.001103379),
        "condition.weight": ((2, 0), -0.000540272),
        "outer.weight": ((0, 1), 0.017760627),
        "out.weight": ((1, 1), -0.033259775),
        "time.0.weight": ((0, 3), 5.61e-7),
        "time.2.bias": ((2,), -0.004084419),
    }
    for name, (index, number) in expected.items():
        assert network.gradients[name][index] == pytest.approx(number, abs=2e-8), name
    assert network.gradients["table.weight"][1, 3] == pytest.approx(-0.005170918, abs=2e-8)
    assert network.gradients["table.weight"][0, 0] == 0.0


@both
def test_the_loss_of_a_training_step_is_that_of_the_function(backend: str) -> None:
    network, v = velocity_network()
    tables = Batch([X, T, np.array([[0.5, 0.5]])], [], [np.array([1], np.int32)], 1)
    loss = nn.Loss("mean_squared_error", v, 2)
    result = train(network, [loss], tables, batch_size=1, num_steps=1, backend=backend)
    assert result.losses[0, 0] == pytest.approx(0.04463435859665334, rel=1e-13)


NEGATIVE_BINOMIAL = [
    (0.0, 0.05, 2.0, -0.0493852251807429, -0.04878048780487806, -0.000604737375864953),
    (3.0, 4.0, 2.0, -2.0273255405408213, -1.0 / 3.0, 0.3027754226637802),
    (7.0, 1.5, 0.5, -4.270083754953793, 1.375, -0.1130134254261903),
    (150.0, 90.0, 10.0, -6.2421787124644, 6.0, -0.8229212202255853),
    (1.0, 1e-6, 1e6, -13.815511557965273, None, None),
]


@both
@pytest.mark.parametrize("case", NEGATIVE_BINOMIAL, ids=lambda case: f"x={case[0]:g}")
def test_negative_binomial(backend: str, case: tuple[Any, ...]) -> None:
    """The count under test has a second beside it, that brings the total up; what is known of the
    second is taken away."""
    x, mu, theta, log_p, by_mu, by_theta = case
    total = 2.0 * max(x, mu) + 1.0
    rest, mean = total - x, total - mu
    logits = np.log([[mu / total, mean / total]])
    value, gradient, slope = nn.negative_binomial_nll(
        logits, [[x, rest]], np.log([theta, 1.0]), backend=backend
    )
    assert -value - _log_p(rest, mean, 1.0) == pytest.approx(log_p, rel=1e-9)
    if by_mu is not None:
        along = by_mu + (rest - mean) / (1.0 + mean)
        assert -gradient[0, 0] == pytest.approx(by_mu - mu / total * along, rel=1e-9)
    if by_theta is not None:
        assert -slope[0] == pytest.approx(by_theta, rel=1e-11)


def _log_p(x: float, mu: float, theta: float) -> float:
    from scipy.special import gammaln

    both = np.log(theta + mu)
    ends = gammaln(x + theta) - gammaln(theta) - gammaln(x + 1)
    return float(theta * (np.log(theta) - both) + x * (np.log(mu) - both) + ends)


@both
def test_negative_binomial_through_softmax(backend: str) -> None:
    value, gradient, _ = nn.negative_binomial_nll(
        [[0.5, -1.0, 2.0, 0.0]],
        [[3.0, 0.0, 8.0, 1.0]],
        [0.1, -0.3, 0.7, 0.0],
        backend=backend,
    )
    assert value == pytest.approx(6.828745073125973, rel=1e-14)
    expected = [0.409673521548246, -0.268464083480819, -0.07357687860204, -0.067632559465387]
    np.testing.assert_allclose(-gradient[0], expected, rtol=1e-11)
    assert abs(gradient.sum()) < 1e-14
