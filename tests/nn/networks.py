"""Programs that the tests share, and gradients by central differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse

from hotloops import nn
from hotloops.nn._layout import SparseTable
from hotloops.nn._tables import Batch, read_sparse

ROWS, COLUMNS = 61, 7  # of the tables of `autoencoder`

Array = np.ndarray[Any, np.dtype[Any]]

ACTIVATIONS = ("identity", "relu", "elu", "silu", "gelu", "tanh", "sigmoid", "softplus")

both = pytest.mark.parametrize("backend", ["cpp", "numba"])
both_types = pytest.mark.parametrize("dtype", ["float32", "float64"])


def numeric_gradient(function: Callable[[], float], array: Array, h: float = 1e-5) -> Array:
    """Differentiate by the elements of `array`, which `function` reads."""
    found = np.empty_like(array)
    for index in np.ndindex(array.shape):
        kept = array[index]
        array[index] = kept + h
        above = function()
        array[index] = kept - h
        found[index] = (above - function()) / (2.0 * h)
        array[index] = kept
    return found


def check_gradients(
    network: nn.Network,
    inputs: list[Any],
    backend: str,
    *,
    training: bool = False,
    seed: int = 3,
    tolerance: float = 1e-6,
) -> None:
    """Compare all gradients of a random combination of the outputs with differences."""
    rng = np.random.default_rng(seed)
    buffers = network.flat_buffers.copy()

    def outputs() -> tuple[Array, ...]:
        network.flat_buffers[:] = buffers
        found = network.forward(*inputs, training=training, step=5, backend=backend)
        return found if isinstance(found, tuple) else (found,)

    weights = tuple(rng.normal(size=y.shape) for y in outputs())

    def value() -> float:
        return sum(float((c * y).sum()) for c, y in zip(weights, outputs(), strict=True))

    outputs()
    found = network.backward(weights if len(weights) > 1 else weights[0])
    gradients = network.flat_gradients.copy()
    expected = numeric_gradient(value, network.flat_parameters)
    scale = max(1.0, float(np.abs(expected).max(initial=0.0)))
    np.testing.assert_allclose(gradients, expected, rtol=tolerance, atol=10 * tolerance * scale)
    dense = [x for x in inputs if isinstance(x, np.ndarray) and x.ndim == 2]
    found = found if isinstance(found, tuple) else (found,) * (found is not None)
    assert len(found) == network.program.num_inputs
    for x, gradient in zip(dense, found, strict=False):
        expected = numeric_gradient(value, x)
        np.testing.assert_allclose(gradient, expected, rtol=tolerance, atol=10 * tolerance * scale)


def randomise(network: nn.Network, seed: int = 1, scale: float = 0.7) -> nn.Network:
    """Give every parameter and running statistic a value of its own."""
    rng = np.random.default_rng(seed)
    network.flat_parameters[:] = rng.normal(0.0, scale, network.num_parameters)
    for name, values in network.buffers.items():
        values[:] = rng.normal(size=values.size)
        if name.endswith("var"):
            values[:] = rng.uniform(0.5, 2.0, values.size)
    return network


def sparse_counts(rows: int, columns: int, seed: int = 0, mean: float = 1.5) -> Any:
    """Return counts, some of them large, with no empty row."""
    rng = np.random.default_rng(seed)
    counts = rng.poisson(mean, (rows, columns)).astype(float)
    counts[rng.random((rows, columns)) < 0.4] = 0.0
    counts[:, 0] += 1.0
    counts[0, -1] = 40.0
    return scipy.sparse.csr_array(counts)


def everything(dtype: str = "float64", dropout: float = 0.3) -> nn.Network:
    """Return a network with every kind of instruction: two dense inputs, a CSR one, labels."""
    b = nn.ProgramBuilder()
    x, t = b.input(5), b.input(1)
    phi = b.time_embedding(t, 6, scale=3.0)
    h = b.dense(phi, 4, activation="silu", name="time.0")
    h = b.dense(h, 4, addend=x[1:5], activation="gelu", name="time.2")
    z = b.slot(8)
    b.batch_norm(h, activation="elu", output=z[:4], name="norm")
    b.embedding(0, num_rows=3, width=4, addend=h, output=z[4:], name="table")
    z = b.layer_norm(z, activation="softplus", name="rows")
    d = b.dropout(z, dropout)
    d = b.dense(d[2:7], 5, activation="tanh", addend=x, name="middle")
    y = b.activation(d, "sigmoid")
    s = b.sparse_dense(
        0, columns=7, width=5, transform="log1p", addend=y, activation="relu", name="counts"
    )
    return nn.Network(b.finish([s, d[1:3]]), dtype=dtype, seed=11)


def inputs_of_everything(rows: int = 6, dtype: str = "float64", seed: int = 0) -> list[Any]:
    rng = np.random.default_rng(seed)
    labels = np.resize([0, 1, 2, -1, 2, 1], rows)
    counts = sparse_counts(rows, 7, seed).astype(dtype)
    x, t = rng.normal(size=(rows, 5)), rng.uniform(size=(rows, 1))
    return [x.astype(dtype), t.astype(dtype), counts, labels]


def velocity_network(dtype: str = "float64") -> tuple[nn.Network, nn.Operand]:
    """Return a small velocity network of flow matching, parameters sin(1 + i) / 2 in the order in
    which the reference lists them, and its output."""
    b = nn.ProgramBuilder()
    x, t = b.input(2), b.input(1)
    e = b.dense(b.time_embedding(t, 4, scale=1000.0), 4, activation="silu", name="time.0")
    e = b.dense(e, 4, name="time.2")
    e = b.embedding(0, num_rows=2, width=4, addend=e, name="table")
    h = b.dense(x, 3, name="in")
    c = b.dense(b.activation(e, "silu"), 3, name="condition")
    p = b.dense(b.activation(h, "silu"), 3, addend=c, activation="silu", name="inner")
    h = b.dense(p, 3, addend=h, name="outer")
    v = b.dense(b.activation(h, "silu"), 2, name="out")
    network = nn.Network(b.finish([v]), dtype=dtype)
    names = ["time.0", "time.2", "in", "inner", "condition", "outer", "out"]
    order = [f"{name}.{part}" for name in names for part in ("weight", "bias")]
    place = 1
    for name in [*order, "table.weight"]:
        view = network.parameters[name]
        view[:] = np.sin(np.arange(place, place + view.size)).reshape(view.shape) / 2.0
        place += view.size
    return network, v


def autoencoder(dtype: str = "float64") -> tuple[nn.Network, list[nn.Loss], Batch]:
    """Two heads on one code: counts with dispersions by label, and the label itself."""
    b = nn.ProgramBuilder()
    t = b.input(1)
    x = b.sparse_dense(0, columns=COLUMNS, width=9, transform="log1p", name="encoder.0")
    x = b.batch_norm(x, activation="elu", name="encoder.1")
    z = b.dense(b.dropout(x, 0.1), 3, addend=b.dense(t, 3, name="time"), name="encoder.2")
    h = b.layer_norm(b.dense(z, 8, name="decoder.0"), activation="silu", name="decoder.1")
    y = b.slot(COLUMNS + 3)
    b.dense(h, output=y[:COLUMNS], name="decoder.2")
    b.dense(z, output=y[COLUMNS:], name="labels")
    theta = b.parameter("log_theta", (3, COLUMNS), init="normal")
    network = nn.Network(b.finish([y]), dtype=dtype, seed=5)
    losses = [
        nn.Loss("negative_binomial", y[:COLUMNS], 0, log_theta=theta, group=0),
        nn.Loss("cross_entropy", y[COLUMNS:], 0, weight=0.5),
        nn.Loss("mean_squared_error", z, 1, weight=0.1),
        nn.Loss("huber", y[1:3], 2, weight=0.2, delta=0.5),
    ]
    rng = np.random.default_rng(0)
    counts = sparse_counts(ROWS, COLUMNS)
    kind = np.dtype(dtype)
    table = SparseTable(COLUMNS, "log1p")
    tables = Batch(
        [rng.normal(size=(ROWS, width)).astype(kind) for width in (1, 3, 2)],
        [read_sparse("test", "counts", counts, table, kind, {})],
        [(np.arange(ROWS) % 3).astype(np.int32)],
        ROWS,
    )
    return network, losses, tables


def two_outputs(dtype: str = "float32") -> nn.Network:
    b = nn.ProgramBuilder()
    x, y = b.input(3), b.input(2)
    h = b.dense(x, 4, activation="tanh", name="h")
    return nn.Network(b.finish([b.dense(h, 2, addend=y, name="a"), h[1:]]), dtype=dtype)


X, Y = np.linspace(-1, 1, 15).reshape(5, 3), np.linspace(0, 1, 10).reshape(5, 2)
