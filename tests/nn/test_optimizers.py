"""Adam, AdamW and averages against plain NumPy; saving, errors."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hotloops
from hotloops import nn
from tests.nn.networks import Array, both, both_types


def reference(
    p: Array, gradients: list[Array], decoupled: bool, clip: float | None, decay: float, lr: float
) -> Array:
    b1, b2, eps = 0.8, 0.95, 1e-6
    m, v = np.zeros_like(p), np.zeros_like(p)
    for k, gradient in enumerate(gradients, 1):
        norm = np.sqrt(np.sum(gradient**2))
        g = gradient * (min(1.0, clip / (norm + 1e-6)) if clip else 1.0)
        if decoupled:
            p = p * (1.0 - lr * decay)
        else:
            g = g + decay * p
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        p = p - lr * (m / (1 - b1**k)) / (np.sqrt(v / (1 - b2**k)) + eps)
    return p


@both
@pytest.mark.parametrize("decoupled", [True, False], ids=["adamw", "adam"])
@pytest.mark.parametrize("clip", [None, 0.5, 1e9])
@pytest.mark.parametrize("size", [1, 7, 40_000])
def test_steps(backend: str, decoupled: bool, clip: float | None, size: int) -> None:
    rng = np.random.default_rng(0)
    p = rng.normal(size=size)
    gradients = [rng.normal(size=size) for _ in range(5)]
    expected = reference(p.copy(), gradients, decoupled, clip, 0.1, 0.02)
    kind = nn.AdamW if decoupled else nn.Adam
    options: dict[str, Any] = {"betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.1}
    optimizer = kind(0.02, clip_norm=clip, **options)
    for g in gradients:
        norm = optimizer.step(p, g, backend=backend)
        assert norm == pytest.approx(float(np.sqrt(np.sum(g**2))), rel=1e-14)
    np.testing.assert_allclose(p, expected, rtol=1e-12, atol=1e-14)
    assert optimizer.num_steps == 5


@both_types
def test_same_bits(dtype: str) -> None:
    """Class A: C++ and Numba, any number of threads."""
    rng = np.random.default_rng(1)
    start = rng.normal(size=50_001).astype(dtype)
    gradients = [rng.normal(size=start.size).astype(dtype) for _ in range(3)]
    found = []
    for backend, threads in (("cpp", 1), ("cpp", 5), ("numba", 1)):
        p = start.copy()
        optimizer = nn.AdamW(1e-2, weight_decay=0.1, clip_norm=3.0)
        for g in gradients:
            norm = optimizer.step(p, g, backend=backend, num_threads=threads)
        found.append((norm, p, optimizer.first_moment, optimizer.second_moment))
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


@both
def test_no_decay(backend: str) -> None:
    network = nn.MLP([3, 4, 2], norm="layer", dtype="float64", seed=3)
    network.flat_parameters[:] = 1.0
    network.flat_gradients[:] = 0.0
    optimizer = nn.AdamW(0.5, weight_decay=0.5, no_decay=("bias", "norm"))
    optimizer.step(network, backend=backend)
    found = {name: float(value.ravel()[0]) for name, value in network.parameters.items()}
    assert found == {
        "0.weight": 0.75,
        "0.bias": 1.0,
        "1.weight": 1.0,
        "1.bias": 1.0,
        "3.weight": 0.75,
        "3.bias": 1.0,
    }


@both
def test_a_schedule(backend: str) -> None:
    asked: list[int] = []

    def rate(step: int) -> float:
        asked.append(step)
        return 0.1 / (1 + step)

    p = np.zeros(2)
    optimizer = nn.Adam(rate, betas=(0.0, 0.0), eps=1e-12)
    for _ in range(3):
        optimizer.step(p, np.array([1.0, -2.0]), backend=backend)
    assert asked == [0, 1, 2]
    np.testing.assert_allclose(p, np.array([-1.0, 1.0]) * 0.1 * (1 + 1 / 2 + 1 / 3))


@pytest.mark.parametrize("kind", [nn.Adam, nn.AdamW])
def test_save_and_load(kind: type[nn.Adam], tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    p, path = rng.normal(size=9), tmp_path / "optimizer.npz"
    optimizer = kind(0.1, weight_decay=0.2, clip_norm=1.0, betas=(0.5, 0.6))
    optimizer.save(path)
    assert kind.load(path).first_moment is None
    optimizer.step(p, rng.normal(size=9))
    optimizer.save(path)
    loaded, q = kind.load(path), p.copy()
    assert repr(loaded) == repr(optimizer)
    g = rng.normal(size=9)
    optimizer.step(p, g)
    loaded.step(q, g)
    np.testing.assert_array_equal(p, q)
    other = nn.AdamW if kind is nn.Adam else nn.Adam
    with pytest.raises(ValueError, match=f"holds {kind.__name__}, not {other.__name__}"):
        other.load(path)


def test_average_has_no_bias_of_its_start() -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(size=(20, 4))
    ema = nn.EMA(0.9)
    for k in range(20):
        found = ema.step(values[k])
        weights = 0.9 ** np.arange(k, -1, -1)
        expected = weights @ values[: k + 1] / weights.sum()
        np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert ema.num_steps == 20
    assert found is ema.average


def test_arrays_of_torch() -> None:
    torch = pytest.importorskip("torch")
    p, g = torch.ones(3), torch.tensor([2.0, -1.0, 0.5])
    nn.Adam(0.1).step(p, g)
    np.testing.assert_allclose(p.numpy(), [0.9, 1.1, 0.9], rtol=1e-6)


def test_a_gradient_that_is_not_finite_changes_nothing() -> None:
    p, optimizer = np.ones(3), nn.Adam()
    with pytest.raises(hotloops.NumericalError, match="the gradient of parameter 1 is not finite"):
        optimizer.step(p, np.array([0.0, np.nan, np.inf]))
    np.testing.assert_array_equal(p, 1.0)
    assert optimizer.num_steps == 0


def _read_only() -> Array:
    array = np.ones(3)
    array.flags.writeable = False
    return array


def _after_other_size() -> None:
    optimizer = nn.Adam()
    optimizer.step(np.ones(3), np.ones(3))
    optimizer.step(np.ones(4), np.ones(4))


def _ema_of_other_size() -> None:
    ema = nn.EMA()
    ema.step(np.ones(3))
    ema.step(np.ones(4))


ERRORS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (
        lambda: nn.Adam(-1.0),
        ValueError,
        "Adam: `learning_rate` must be a finite number >= 0.0, got -1.0",
    ),
    (lambda: nn.AdamW("fast"), TypeError, "AdamW: `learning_rate` must be a finite number"),
    (lambda: nn.Adam(betas=0.9), TypeError, "Adam: `betas` must be two numbers, got 0.9"),
    (
        lambda: nn.Adam(betas=(0.9, 1.0)),
        ValueError,
        "Adam: `betas` must be below 1, got (0.9, 1.0)",
    ),
    (lambda: nn.Adam(eps=0.0), ValueError, "Adam: `eps` must be a finite number > 0.0, got 0.0"),
    (
        lambda: nn.Adam(weight_decay=-0.1),
        ValueError,
        "Adam: `weight_decay` must be a finite number >= 0.0, got -0.1",
    ),
    (
        lambda: nn.Adam(clip_norm=0.0),
        ValueError,
        "Adam: `clip_norm` must be a finite number > 0.0, got 0.0",
    ),
    (
        lambda: nn.Adam(no_decay="bias"),
        TypeError,
        "Adam: `no_decay` must be a sequence of words, got 'bias'",
    ),
    (
        lambda: nn.Adam(no_decay=("bias",)).step(np.ones(2), np.ones(2)),
        ValueError,
        "Adam: `no_decay` must be empty where parameters have no names, got ('bias',)",
    ),
    (
        lambda: nn.Adam(no_decay=("scale",)).step(nn.MLP([2, 2])),
        ValueError,
        "Adam: `no_decay` must name parameters of the network, got 'scale'",
    ),
    (
        lambda: nn.Adam(lambda step: -1.0).step(np.ones(2), np.ones(2)),
        ValueError,
        "Adam: `learning_rate(0)` must be a finite number >= 0.0, got -1.0",
    ),
    (
        lambda: nn.Adam().step(np.ones(2)),
        TypeError,
        "Adam.step: `gradients` must be an array of real numbers, got None",
    ),
    (
        lambda: nn.Adam().step(np.ones(2), np.ones(3)),
        ValueError,
        "Adam.step: `gradients` must have shape (2,), got (3,)",
    ),
    (
        lambda: nn.Adam().step(np.ones(2), np.ones(2, "f")),
        TypeError,
        "Adam.step: `gradients` must have dtype float64, got float32",
    ),
    (
        lambda: nn.Adam().step([1.0, 2.0], np.ones(2)),
        TypeError,
        "Adam.step: `parameters` must be an array, got a list of length 2",
    ),
    (
        lambda: nn.Adam().step(np.ones((2, 2)), np.ones((2, 2))),
        ValueError,
        "Adam.step: `parameters` must have 1 dimension, got (2, 2)",
    ),
    (
        lambda: nn.Adam().step(_read_only(), np.ones(3)),
        ValueError,
        "Adam.step: `parameters` must be writable, got a read-only array",
    ),
    (
        _after_other_size,
        ValueError,
        "Adam.step: `parameters` must be like those of the steps before",
    ),
    (lambda: nn.EMA(1.0), ValueError, "EMA: `decay` must be a number in (0, 1), got 1.0"),
    (lambda: nn.EMA(0.0), ValueError, "EMA: `decay` must be a finite number > 0.0, got 0.0"),
    (
        _ema_of_other_size,
        ValueError,
        "EMA.step: `parameters` must be like those of the steps before",
    ),
    (
        lambda: nn.Adam(lambda step: 0.1).save("x.npz"),
        TypeError,
        "Adam.save: `learning_rate` must be a number, got a function",
    ),
]


@pytest.mark.parametrize(
    ("call", "kind", "message"), ERRORS, ids=[f"{i:02d}" for i in range(len(ERRORS))]
)
def test_errors(call: Callable[[], Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=re.escape(message)):
        call()
