"""The faces of networks with arrays of a GPU, over the shim, against the C++ backend."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hotloops import nn
from tests.cuda.test_nn_shim import TOLERANCE, both_types, close
from tests.nn.networks import everything, inputs_of_everything, randomise, sparse_counts


def send(cuda: Any, inputs: Any) -> list[Any]:
    """Return inputs with all arrays on the stand-in's device; SciPy's matrices stay."""
    return [cuda.asarray(x) if isinstance(x, np.ndarray) else x for x in inputs]


def as_tuple(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def mlp(dtype: str = "float64") -> nn.MLP:
    return nn.MLP([4, 8, 3], dtype=dtype, seed=3)


@both_types
@pytest.mark.parametrize("training", [False, True])
def test_forward_and_backward(cuda: Any, dtype: str, training: bool) -> None:
    networks = [randomise(everything(dtype)) for _ in range(2)]
    inputs = inputs_of_everything(40, dtype)
    expected = as_tuple(networks[0].forward(*inputs, training=training, step=4))
    found = as_tuple(networks[1].forward(*send(cuda, inputs), training=training, step=4))
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=x.shape).astype(dtype) for x in expected]
    single = len(weights) == 1
    there = send(cuda, weights)
    expected += as_tuple(networks[0].backward(weights[0] if single else weights))
    found += as_tuple(networks[1].backward(there[0] if single else there))
    for a, b in zip(found, expected, strict=True):
        assert isinstance(a, cuda.ndarray)
        close(a, b, dtype)
    close(networks[1].flat_gradients, networks[0].flat_gradients, dtype)
    close(networks[1].flat_buffers, networks[0].flat_buffers, dtype)


@both_types
def test_predict(cuda: Any, dtype: str) -> None:
    network = randomise(everything(dtype))
    inputs = inputs_of_everything(40, dtype)
    expected = as_tuple(network.predict(*inputs))
    found = as_tuple(network.predict(*send(cuda, inputs), block_size=16, backend="cuda"))
    for a, b in zip(found, expected, strict=True):
        assert isinstance(a, cuda.ndarray)
        close(a, b, dtype)


def test_out(cuda: Any) -> None:
    network, x = mlp(), cuda.asarray(np.ones((5, 4)))
    for call in (network.forward, network.predict):
        out = cuda.empty((5, 3))
        assert call(x, out=out) is out
        close(out, network.forward(np.ones((5, 4))), "float64")


@both_types
@pytest.mark.parametrize("loss", ["mean_squared_error", "cross_entropy", "poisson"])
def test_fit(cuda: Any, dtype: str, loss: str) -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(50, 4)).astype(dtype)
    y: Any = rng.normal(size=(50, 3)).astype(dtype)
    if loss == "cross_entropy":
        y = rng.integers(0, 3, 50)
    elif loss == "poisson":
        y = rng.poisson(3.0, size=(50, 3)).astype(dtype) + 1
    options = {"loss": loss, "batch_size": 16, "num_steps": 8, "ema": 0.9, "seed": 2}
    networks = mlp(dtype), mlp(dtype)
    expected = networks[0].fit(x, y, **options)
    found = networks[1].fit(cuda.asarray(x), cuda.asarray(y), **options)
    close(found.losses, expected.losses, dtype)
    assert not isinstance(networks[1].flat_parameters, cuda.ndarray)
    for a, b in zip(found.state.arrays().values(), expected.state.arrays().values(), strict=True):
        np.testing.assert_allclose(a, b, atol=100 * TOLERANCE[dtype])


def test_fit_with_matrices_of_scipy(cuda: Any) -> None:
    b = nn.ProgramBuilder()
    x = b.input(4)
    h = b.sparse_dense(0, columns=6, width=5, transform="log1p", addend=None, name="sparse")
    y = b.dense(x, 6, addend=b.dense(h, 6, name="middle"), name="last")
    program = b.finish([y])
    counts = sparse_counts(30, 6).astype("float64")
    dense = np.random.default_rng(0).normal(size=(30, 4))
    networks = [nn.Network(program, dtype="float64", seed=1) for _ in range(2)]
    options = {"loss": "mean_squared_error", "batch_size": 8, "num_steps": 5}
    target = np.ones((30, 6))
    networks[0].fit((dense, counts), target, **options)
    networks[1].fit((cuda.asarray(dense), counts), cuda.asarray(target), **options)
    close(networks[1].flat_parameters, networks[0].flat_parameters, "float64")


def test_errors(cuda: Any) -> None:
    network, here = mlp(), np.ones((5, 4))
    there = cuda.asarray(here)
    with pytest.raises(
        TypeError, match=r"^MLP\.forward: `backend` must be 'cuda' for CUDA arrays, got 'cpp'$"
    ):
        network.forward(there, backend="cpp")
    with pytest.raises(
        TypeError, match=r"^MLP\.predict: `backend` must be 'cuda' for CUDA arrays, got 'numba'$"
    ):
        network.predict(there, backend="numba")
    with pytest.raises(
        TypeError, match=r"^MLP\.fit: `backend` must be 'cuda' for CUDA arrays, got 'cpp'$"
    ):
        network.fit(there, cuda.asarray(np.ones((5, 3))), backend="cpp")
    for call in (network.forward, network.predict):
        with pytest.raises(TypeError, match=r"`out` must live on cuda:0 like the inputs, got an"):
            call(there, out=np.empty((5, 3)))
        with pytest.raises(TypeError, match=r"`out` must live on cpu like the inputs, got an"):
            call(here, out=cuda.empty((5, 3)))
    network.forward(there)
    with pytest.raises(TypeError, match=r"`gradient` must live on cuda:0 like the inputs, got an"):
        network.backward(np.ones((5, 3)))
    with pytest.raises(TypeError, match=r"`y` must live on cuda:0 like the inputs, got an array"):
        network.fit(there, np.ones((5, 3)))
    with pytest.raises(TypeError, match=r"`y` must live on cpu like the inputs, got an array"):
        network.fit(here, cuda.asarray(np.ones((5, 3))))
    with pytest.raises(ValueError, match=r"^MLP\.forward: `inputs\[0\]` must be finite, got nan"):
        network.forward(cuda.asarray(np.full((5, 4), np.nan)))


def test_tables_on_two_devices(cuda: Any) -> None:
    network = randomise(everything("float64"))
    inputs = send(cuda, inputs_of_everything(40, "float64"))
    inputs[-1] = np.asarray(inputs[-1].get())
    with pytest.raises(TypeError, match="must live on the same device"):
        network.forward(*inputs)
