"""Networks as objects: passes, arrays of other libraries, names, files, errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hotloops import nn
from hotloops.nn._initial import initial_parameters
from tests.nn.networks import (
    X,
    Y,
    both,
    both_types,
    everything,
    inputs_of_everything,
    randomise,
    two_outputs,
)

# --- passes --------------------------------------------------------------------------------------


@both
def test_several_inputs_and_outputs(backend: str) -> None:
    network = two_outputs()
    first, second = network(X, Y, backend=backend)
    assert (first.shape, second.shape, first.dtype) == ((5, 2), (5, 3), np.float32)
    by_x, by_y = network.backward((np.ones_like(first), np.zeros_like(second)))
    assert by_x.shape == (5, 3)
    np.testing.assert_array_equal(by_y, 1.0)
    np.testing.assert_allclose(network.gradients["a.bias"], 5.0)


@both
def test_out(backend: str) -> None:
    network = two_outputs()
    expected = network(X, Y, backend=backend)
    out = np.empty((5, 2), np.float32), np.empty((5, 3), np.float32)
    for call in (network.forward, network.predict):
        assert call(X, Y, out=out, backend=backend) is out
        for a, b in zip(out, expected, strict=True):
            np.testing.assert_array_equal(a, b)


@both
def test_predict_in_blocks(backend: str) -> None:
    network = randomise(everything())
    inputs = inputs_of_everything(40)
    expected = network(*inputs, backend=backend)
    for size in (1, 7, 40, 1000):
        found = network.predict(*inputs, block_size=size, backend=backend)
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-14)


@both
def test_threads_do_not_change_the_bits(backend: str) -> None:
    network = nn.MLP([40, 300, 130, 5], "gelu", norm="batch", seed=4)
    x = np.random.default_rng(0).normal(size=(700, 40)).astype("f")
    found = []
    for threads in (1, 2, 5):
        other = network.copy()
        y = other(x, training=True, backend=backend, num_threads=threads)
        g = other.backward(np.ones_like(y))
        found.append((y, g, other.flat_gradients.copy(), other.flat_buffers.copy()))
    for one in found[1:]:
        for a, b in zip(found[0], one, strict=True):
            np.testing.assert_array_equal(a, b)


@both
def test_backward_again_after_other_calls(backend: str) -> None:
    """A backward pass belongs to the last forward pass, whatever was predicted in between."""
    network = two_outputs("float64")
    ones = np.ones((5, 2)), np.ones((5, 3))
    network(X, Y, backend=backend)
    expected = network.backward(ones)
    gradients = network.flat_gradients.copy()
    network.predict(X[:2], Y[:2], backend=backend)
    for a, b in zip(network.backward(ones), expected, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(network.flat_gradients, gradients)


def test_a_network_of_labels_alone() -> None:
    table = nn.Embedding(4, 3, dtype="float64")
    y = table([2, -1, 2])
    np.testing.assert_array_equal(y, [table.parameters["weight"][2], [0, 0, 0], y[0]])
    assert table.backward(np.ones((3, 3))) is None
    np.testing.assert_array_equal(table.gradients["weight"].sum(axis=1), [0, 0, 6, 0])


@both
def test_arrays_of_torch(backend: str) -> None:
    torch = pytest.importorskip("torch")
    network = two_outputs()
    x, y = torch.tensor(X, dtype=torch.float32), torch.tensor(Y, dtype=torch.float32)
    found = network(x, y, backend=backend)
    assert all(isinstance(item, torch.Tensor) for item in found)
    gradient = network.backward(tuple(torch.ones_like(item) for item in found))
    assert isinstance(gradient[0], torch.Tensor)
    expected = network(X, Y, backend=backend)
    np.testing.assert_array_equal(found[0].numpy(), expected[0])
    assert isinstance(network.predict(x, y, backend=backend)[0], torch.Tensor)


def test_integers_and_lists_are_taken() -> None:
    network = nn.MLP([2, 3, 1], seed=2)
    expected = network(np.array([[1.0, 2.0]], np.float32))
    for x in ([[1, 2]], np.array([[1, 2]]), np.array([[1.0, 2.0]])):
        np.testing.assert_array_equal(network(x), expected)


# --- parameters ----------------------------------------------------------------------------------


@both_types
def test_parameters_are_views(dtype: str) -> None:
    network = nn.MLP([2, 3, 1], dtype=dtype)
    network.parameters["0.weight"][1, 0] = 7.0
    assert network.flat_parameters[2] == 7.0
    assert network.dtype == np.dtype(dtype)
    assert network.num_parameters == 13
    with pytest.raises(TypeError, match="does not support item assignment"):
        network.parameters["0.weight"] = 1  # type: ignore[index]


def test_copy() -> None:
    network = randomise(everything())
    other = network.copy()
    other.flat_parameters += 1.0
    other.flat_buffers += 1.0
    np.testing.assert_array_equal(other.flat_parameters, network.flat_parameters + 1.0)
    assert (other.buffers["norm.running_var"] != network.buffers["norm.running_var"]).all()
    assert other.program is network.program


def test_state_dict_goes_around() -> None:
    network = randomise(everything())
    state = network.state_dict()
    assert state["counts.weight"].shape == (5, 7)
    np.testing.assert_array_equal(state["counts.weight"], network.parameters["counts.weight"].T)
    other = everything()
    other.load_state_dict(state)
    np.testing.assert_array_equal(other.flat_parameters, network.flat_parameters)
    np.testing.assert_array_equal(other.flat_buffers, network.flat_buffers)
    state["counts.weight"][:] = 0.0
    assert (network.parameters["counts.weight"] != 0.0).any()


def test_prefix_and_missing_names() -> None:
    network = nn.MLP([2, 3, 1], seed=1)
    other = nn.MLP([2, 3, 1], seed=2)
    state = {f"net.{name}": value for name, value in other.state_dict().items()}
    network.load_state_dict({**state, "other": np.zeros(3)}, prefix="net.")
    np.testing.assert_array_equal(network.flat_parameters, other.flat_parameters)
    network.load_state_dict({"0.bias": np.ones(3), "unknown": 3}, strict=False)
    np.testing.assert_array_equal(network.parameters["0.bias"], 1.0)
    np.testing.assert_array_equal(network.parameters["0.weight"], other.parameters["0.weight"])


def test_state_from_archives(tmp_path: Path) -> None:
    network, other = nn.MLP([2, 3, 1], seed=1), nn.MLP([2, 3, 1], seed=2)
    np.savez(tmp_path / "state.npz", **other.state_dict())
    network.load_state_dict(tmp_path / "state.npz")
    np.testing.assert_array_equal(network.flat_parameters, other.flat_parameters)
    safetensors = pytest.importorskip("safetensors.numpy")
    safetensors.save_file(network.state_dict(), tmp_path / "state.safetensors")
    third = nn.MLP([2, 3, 1], seed=3)
    third.load_state_dict(str(tmp_path / "state.safetensors"))
    np.testing.assert_array_equal(third.flat_parameters, other.flat_parameters)


def test_safetensors_is_optional(tmp_path: Path, run_python: Any) -> None:
    code = """
    from hotloops import nn
    try:
        nn.MLP([2, 1]).load_state_dict("x.safetensors")
    except ImportError as error:
        print(error)
    """
    printed = run_python(code, blocked=("safetensors",))
    assert "load_state_dict: reading .safetensors files needs the package safetensors" in printed


@both_types
def test_save_and_load(dtype: str, tmp_path: Path) -> None:
    network = randomise(everything(dtype))
    network.save(tmp_path / "network.npz")
    loaded = nn.Network.load(tmp_path / "network.npz")
    inputs = inputs_of_everything(dtype=dtype)
    for training in (False, True):
        pairs = zip(
            loaded(*inputs, training=training, step=3),
            network(*inputs, training=training, step=3),
            strict=True,
        )
        for a, b in pairs:
            np.testing.assert_array_equal(a, b)
    assert loaded.program.to_header() == network.program.to_header()
    assert (loaded.seed, loaded.dtype) == (network.seed, network.dtype)
    np.testing.assert_array_equal(loaded.flat_buffers, network.flat_buffers)


def test_load_keeps_the_class(tmp_path: Path) -> None:
    nn.MLP([2, 3, 1]).save(tmp_path / "network.npz")
    assert type(nn.MLP.load(tmp_path / "network.npz")) is nn.MLP


def test_damaged_files(tmp_path: Path) -> None:
    path = tmp_path / "network.npz"
    nn.MLP([2, 3, 1]).save(path)
    data = path.read_bytes()
    path.write_bytes(data[:-40])
    with pytest.raises(ValueError, match="cut or damaged"):
        nn.Network.load(path)
    nn.Adam().save(path)
    with pytest.raises(ValueError, match=r"holds 'nn\.optimizer', expected 'nn\.network'"):
        nn.Network.load(path)


# --- initial parameters --------------------------------------------------------------------------


def law_of(init: str) -> nn.Network:
    b = nn.ProgramBuilder()
    y = b.dense(b.input(100), 400, init=init, name="d")
    return nn.Network(b.finish([y]), dtype="float64", seed=5)


def test_initial_laws() -> None:
    uniform = law_of("uniform").parameters
    for name in ("d.weight", "d.bias"):
        assert np.abs(uniform[name]).max() < 0.1
    w = uniform["d.weight"]
    assert abs(w.mean()) < 4 * 0.1 / np.sqrt(3 * w.size)
    assert w.var() == pytest.approx(0.01 / 3, rel=4 * np.sqrt(0.8 / w.size))
    truncated = law_of("truncated").parameters
    w = truncated["d.weight"]
    assert np.abs(w).max() < 2.0 / 0.8796 / 10.0
    assert w.var() == pytest.approx(0.01, rel=4 * np.sqrt(1.2 / w.size))
    assert (truncated["d.bias"] == 0.0).all()
    normal = law_of("normal").parameters
    assert normal["d.weight"].var() == pytest.approx(1.0, rel=4 * np.sqrt(2 / 40_000))
    assert np.abs(normal["d.weight"]).max() > 3.0
    zeros = law_of("zeros").parameters
    assert (zeros["d.weight"] == 0.0).all()


def test_initial_parameters_are_addressed() -> None:
    """Stream 14, the step the parameter's number: drawn again from the bulk generator."""
    from hotloops import random

    network = nn.MLP([3, 4, 2], dtype="float64", seed=77)
    for number, (name, value) in enumerate(network.parameters.items()):
        u = random.uniforms(77, [number], 1, value.size, 14)[0, 0]
        fan_in = 3 if name.startswith("0") else 4
        np.testing.assert_array_equal(value.ravel(), (2.0 * u - 1.0) / np.sqrt(fan_in))
    assert (nn.MLP([3, 4, 2], seed=78).flat_parameters != network.flat_parameters).all()


def test_single_precision_rounds_double_precision() -> None:
    program = everything().program
    wide = initial_parameters(program, 9, np.float64)
    np.testing.assert_array_equal(initial_parameters(program, 9, np.float32), wide.astype("f"))


# --- ready-made networks -------------------------------------------------------------------------


def test_names_of_an_mlp() -> None:
    plain = nn.MLP([2, 3, 4, 1])
    assert [n for n in plain.parameters if n.endswith("weight")] == [
        *("0.weight", "2.weight", "4.weight")
    ]
    full = nn.MLP([2, 3, 4, 1], "elu", norm="batch", dropout=0.1)
    assert [n for n in full.parameters if n.endswith("weight")] == [
        *("0.weight", "1.weight", "4.weight", "5.weight", "8.weight")
    ]
    assert list(full.buffers)[:2] == ["1.running_mean", "1.running_var"]


def test_a_residual_mlp_begins_as_two_linear_layers() -> None:
    network = nn.ResidualMLP(3, 8, 2, num_blocks=2, norm="layer", dropout=0.2, dtype="float64")
    p = network.parameters
    assert (p["blocks.0.linear2.weight"] == 0.0).all()
    other = nn.ResidualMLP(3, 8, 2, num_blocks=0, norm="layer", dtype="float64")
    for name in other.parameters:
        other.parameters[name][:] = p[name]
    np.testing.assert_array_equal(network(X), other(X))
