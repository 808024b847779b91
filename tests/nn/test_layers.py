"""Every layer against its formula in NumPy, and its gradients against differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse
import scipy.special

from hotloops import nn, random
from tests.nn.networks import (
    ACTIVATIONS,
    Array,
    both,
    both_types,
    check_gradients,
    everything,
    inputs_of_everything,
    randomise,
    sparse_counts,
)


def reference_activation(name: str, x: Array) -> Array:
    x = x.astype(float)
    return {
        "identity": lambda: x,
        "relu": lambda: np.maximum(x, 0.0),
        "elu": lambda: np.where(x > 0.0, x, np.expm1(np.minimum(x, 0.0))),
        "silu": lambda: x * scipy.special.expit(x),
        "gelu": lambda: x * scipy.special.ndtr(x),
        "tanh": lambda: np.tanh(x),
        "sigmoid": lambda: scipy.special.expit(x),
        "softplus": lambda: np.logaddexp(0.0, x),
    }[name]()


def single(write: Any, *, widths: tuple[int, ...] = (), dtype: str = "float64") -> nn.Network:
    """Return the network of one call of the builder."""
    b = nn.ProgramBuilder()
    inputs = [b.input(width) for width in widths]
    return randomise(nn.Network(b.finish([write(b, *inputs)]), dtype=dtype))


@both
@both_types
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation(backend: str, dtype: str, name: str) -> None:
    network = single(lambda b, x: b.activation(x, name), widths=(3,), dtype=dtype)
    x = np.concatenate([np.linspace(-30, 30, 3000), [0.0, -0.0, 1e-20, -1e-20, 500.0, -500.0]])
    x = x.reshape(-1, 3).astype(dtype)
    found = network.forward(x, backend=backend)
    eps = np.finfo(dtype).eps
    expected = reference_activation(name, x)
    assert found.dtype == np.dtype(dtype)
    np.testing.assert_allclose(found, expected, rtol=8 * eps, atol=40 * eps * 1e-3)


@both
@pytest.mark.parametrize("width", [1, 3, 9])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_gradients(backend: str, name: str, width: int) -> None:
    network = single(lambda b, x: b.activation(x[:width], name), widths=(width + 1,))
    x = np.random.default_rng(0).normal(0.0, 2.0, (5, width + 1))
    check_gradients(network, [x], backend)


@both
@pytest.mark.parametrize(
    ("rows", "inputs", "width"), [(1, 1, 1), (2, 1, 4), (2, 5, 3), (70, 9, 17)]
)
@pytest.mark.parametrize("name", ["identity", "silu", "elu"])
def test_dense(backend: str, name: str, rows: int, inputs: int, width: int) -> None:
    network = single(
        lambda b, x, a: b.dense(x, width, addend=a, activation=name, name="d"),
        widths=(inputs, width),
    )
    rng = np.random.default_rng(1)
    x, addend = rng.normal(size=(rows, inputs)), rng.normal(size=(rows, width))
    weight, bias = network.parameters["d.weight"], network.parameters["d.bias"]
    expected = reference_activation(name, x @ weight.T + bias + addend)
    found = network.forward(x, addend, backend=backend)
    np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-13)
    if rows < 10:
        check_gradients(network, [x, addend], backend)


@both
@pytest.mark.parametrize("transform", ["none", "log1p", "proportions", "log1p_scaled", "binary"])
@pytest.mark.parametrize("width", [1, 7])
def test_sparse_dense(backend: str, transform: str, width: int) -> None:
    network = single(
        lambda b, a: b.sparse_dense(
            0, columns=6, width=width, transform=transform, addend=a, activation="tanh", name="s"
        ),
        widths=(width,),
    )
    table = sparse_counts(4, 6)
    addend = np.random.default_rng(2).normal(size=(4, width))
    counts = table.toarray()
    totals = counts.sum(axis=1, keepdims=True)
    read = {
        "none": counts,
        "log1p": np.log1p(counts),
        "proportions": counts / totals,
        "log1p_scaled": np.log1p(counts / totals),
        "binary": (counts > 0).astype(float),
    }[transform]
    weight, bias = network.parameters["s.weight"], network.parameters["s.bias"]
    expected = np.tanh(read @ weight + bias + addend)
    np.testing.assert_allclose(
        network.forward(addend, table, backend=backend), expected, rtol=1e-12, atol=1e-14
    )
    check_gradients(network, [addend, table], backend)


@both
def test_sparse_tables_in_other_forms(backend: str) -> None:
    network = single(lambda b: b.sparse_dense(0, columns=6, width=3))
    table = sparse_counts(4, 6)
    expected = network.forward(table, backend=backend)
    doubled = scipy.sparse.coo_array(
        (np.tile(table.data / 2.0, 2), tuple(np.tile(i, 2) for i in table.tocoo().coords)),
        shape=table.shape,
    )
    for other in (table.toarray(), table.tocsc(), scipy.sparse.csr_matrix(table), doubled):
        np.testing.assert_allclose(network.forward(other, backend=backend), expected, rtol=1e-14)


@both
@pytest.mark.parametrize(("rows", "width"), [(2, 1), (5, 3), (7, 70)])
@pytest.mark.parametrize("name", ["identity", "elu", "gelu"])
def test_batch_norm(backend: str, name: str, rows: int, width: int) -> None:
    network = single(
        lambda b, x: b.batch_norm(x[1:], activation=name, momentum=0.3, eps=1e-3, name="n"),
        widths=(width + 1,),
    )
    x = np.random.default_rng(3).normal(2.0, 3.0, (rows, width + 1))
    gamma, beta = network.parameters["n.weight"], network.parameters["n.bias"]
    mean, var = (network.buffers[f"n.running_{part}"].copy() for part in ("mean", "var"))
    seen = x[:, 1:]

    def norm(centre: Array, spread: Array) -> Array:
        z = (seen - centre) / np.sqrt(spread + 1e-3) * gamma + beta
        return reference_activation(name, z)

    found = network.forward(x, backend=backend)
    np.testing.assert_allclose(found, norm(mean, var), rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(network.buffers["n.running_mean"], mean)
    found = network.forward(x, training=True, backend=backend)
    np.testing.assert_allclose(
        found, norm(seen.mean(axis=0), seen.var(axis=0)), rtol=1e-12, atol=1e-12
    )
    expected = 0.7 * mean + 0.3 * seen.mean(axis=0)
    np.testing.assert_allclose(network.buffers["n.running_mean"], expected, rtol=1e-13)
    expected = 0.7 * var + 0.3 * seen.var(axis=0, ddof=1)
    np.testing.assert_allclose(network.buffers["n.running_var"], expected, rtol=1e-13)
    if width < 10:
        check_gradients(network, [x], backend, training=True)
        check_gradients(network, [x], backend)


@both
@pytest.mark.parametrize(("rows", "width"), [(1, 1), (2, 3), (3, 21)])
@pytest.mark.parametrize("name", ["identity", "silu", "softplus"])
def test_layer_norm(backend: str, name: str, rows: int, width: int) -> None:
    network = single(
        lambda b, x: b.layer_norm(x[1:], activation=name, eps=1e-3, name="n"), widths=(width + 1,)
    )
    x = np.random.default_rng(4).normal(2.0, 3.0, (rows, width + 1))
    gamma, beta = network.parameters["n.weight"], network.parameters["n.bias"]
    seen = x[:, 1:]
    spread = np.sqrt(seen.var(axis=1, keepdims=True) + 1e-3)
    z = (seen - seen.mean(axis=1, keepdims=True)) / spread * gamma + beta
    found = network.forward(x, backend=backend)
    np.testing.assert_allclose(found, reference_activation(name, z), rtol=1e-12, atol=1e-12)
    check_gradients(network, [x], backend)


@both
@pytest.mark.parametrize(("rows", "num_rows", "width"), [(1, 1, 1), (2, 1, 3), (9, 4, 5)])
def test_embedding(backend: str, rows: int, num_rows: int, width: int) -> None:
    network = single(
        lambda b, a: b.embedding(0, num_rows=num_rows, width=width, addend=a, name="e"),
        widths=(width,),
    )
    index = np.resize([0, -1, num_rows - 1], rows)
    addend = np.random.default_rng(5).normal(size=(rows, width))
    table = np.vstack([network.parameters["e.weight"], np.zeros(width)])
    found = network.forward(addend, index, backend=backend)
    np.testing.assert_array_equal(found, table[index] + addend)
    check_gradients(network, [addend, index], backend)


@both
@pytest.mark.parametrize("width", [2, 6])
def test_time_embedding_gradients(backend: str, width: int) -> None:
    network = single(lambda b, t: b.time_embedding(t, width, scale=3.0), widths=(1,))
    check_gradients(network, [np.linspace(-1.0, 1.0, 4).reshape(-1, 1)], backend)


@both
@both_types
def test_dropout(backend: str, dtype: str) -> None:
    """The masks are words of stream 15, counted by layer, step, row and column."""
    p, rows, width, step = 0.3, 5, 11, 2**33 + 7
    b = nn.ProgramBuilder()
    x = b.input(width)
    first, second = b.dropout(x, p), b.dropout(x, p)
    network = nn.Network(b.finish([first, second]), dtype=dtype, seed=2**40 + 9)
    values = np.random.default_rng(6).normal(size=(rows, width)).astype(dtype)
    found = network.forward(values, training=True, step=step, backend=backend)
    for layer, y in enumerate(found):
        blocks = layer * 2**20 + np.arange(3)
        counters = np.zeros((rows, 3, 4), np.uint32)
        counters[..., 0] = step % 2**32
        counters[..., 1] = step // 2**32 + 15 * 2**16
        counters[..., 2] = np.arange(rows)[:, None]
        counters[..., 3] = blocks
        words = random.philox(counters, np.array([9, 2**8], np.uint32))
        kept = words.reshape(rows, 12)[:, :width] >= np.uint32(p * 2**32)
        scale = np.dtype(dtype).type(1.0 / (1.0 - p))
        np.testing.assert_array_equal(y, np.where(kept, values * scale, 0.0))
    for y in network.forward(values, backend=backend):
        np.testing.assert_array_equal(y, values)


@both
def test_dropout_keeps_its_share(backend: str) -> None:
    b = nn.ProgramBuilder()
    network = nn.Network(b.finish([b.dropout(b.input(100), 0.3)]), seed=1)
    y = network.forward(np.ones((1000, 100), "f"), training=True, backend=backend)
    assert abs((y == 0).mean() - 0.3) < 4 * np.sqrt(0.3 * 0.7 / 1e5)


@both
def test_dropout_gradients(backend: str) -> None:
    network = single(lambda b, x: b.dense(b.dropout(x, 0.4), 3), widths=(6,))
    x = np.random.default_rng(7).normal(size=(4, 6))
    check_gradients(network, [x], backend, training=True)


@both
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_all_layers_together(backend: str, training: bool) -> None:
    network = randomise(everything())
    check_gradients(network, inputs_of_everything(), backend, training=training)


@both
def test_parts_of_a_slot_and_shared_parameters(backend: str) -> None:
    """Slots filled side by side, read in overlapping parts, one layer used twice."""
    b = nn.ProgramBuilder()
    x = b.input(4)
    z = b.slot(6)
    b.dense(x, activation="tanh", output=z[2:6], name="same")
    b.dense(x[1:3], activation="silu", output=z[:2], name="own")
    y = b.dense(z[1:5], 4, addend=z[:4], name="same", shared=True)
    y = b.dense(y, 3, addend=z[3:], activation="elu")
    network = randomise(nn.Network(b.finish([y, z[2:4], z]), dtype="float64"))
    x_ = np.random.default_rng(8).normal(size=(3, 4))
    check_gradients(network, [x_], backend)


@both
@both_types
def test_extreme_arguments_give_finite_values_and_slopes(backend: str, dtype: str) -> None:
    big = 1e30
    x = np.array([[big, -big, 1e4, -1e4, 88.0, -88.0, -104.0, -745.0]], dtype)
    for name in ACTIVATIONS:
        network = single(lambda b, x, f=name: b.activation(x, f), widths=(8,), dtype=dtype)
        y = network.forward(x, backend=backend)
        g = network.backward(np.ones_like(y))
        assert np.isfinite(y).all(), name
        assert np.isfinite(g).all(), name
        assert (np.abs(g) <= 1.2).all(), name
