"""Every instruction forward against NumPy, and backward against differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.sparse
import scipy.special

from tests.nn.native import ACTIVATIONS, Operand, Run, Tables, Writer, csr

Array = npt.NDArray[Any]

STEP = 1e-5
TOLERANCE = 1e-6

VALUES: dict[str, Callable[[Array], Array]] = {
    "identity": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "elu": lambda x: np.where(x > 0, x, np.expm1(x)),
    "silu": lambda x: x * scipy.special.expit(x),
    "gelu": lambda x: x * scipy.special.ndtr(x),
    "tanh": np.tanh,
    "sigmoid": scipy.special.expit,
    "softplus": lambda x: np.logaddexp(0, x),
}


def check_gradients(run: Run, outputs: list[Operand], training: bool, seed: int = 0) -> None:
    """Compare the backward pass of a random linear function of the outputs with differences."""
    generator = np.random.default_rng(seed)
    buffers = run.buffers.copy()

    def evaluate() -> float:
        run.buffers[:] = buffers
        run.forward(training)
        parts = zip(outputs, cotangents, strict=True)
        return float(sum((run.value(output) * weight).sum() for output, weight in parts))

    run.forward(training)
    cotangents = [generator.standard_normal(run.value(output).shape) for output in outputs]
    evaluate()
    gradient = run.backward(cotangents)
    input_gradients = [run.workspace.gradient(s).copy() for s in range(len(run.tables.dense))]
    for array, found in [
        (run.parameters, gradient),
        *zip((x for x in run.tables.dense), input_gradients, strict=True),
    ]:
        flat, found = array.reshape(-1), found.reshape(-1)
        scale = max(1.0, float(np.abs(found).max(initial=0.0)))
        for i in generator.permutation(flat.size)[:60]:
            kept = flat[i]
            flat[i] = kept + STEP
            above = evaluate()
            flat[i] = kept - STEP
            below = evaluate()
            flat[i] = kept
            assert abs((above - below) / (2 * STEP) - found[i]) < TOLERANCE * scale, i


def matrix(rows: int, width: int, seed: int = 1) -> Array:
    return np.random.default_rng(seed).standard_normal((rows, width))


SHAPES = [(2, 1, 1), (3, 5, 4), (7, 17, 33), (65, 9, 70), (130, 3, 2)]


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("rows", "inputs", "outputs"), SHAPES)
def test_dense(rows: int, inputs: int, outputs: int, activation: str) -> None:
    w = Writer()
    x, more = w.input(inputs), w.input(outputs)
    y = w.dense(x, outputs, addend=more, activation=activation)
    tables = Tables([matrix(rows, inputs), matrix(rows, outputs, 2)])
    run = Run(w, tables, rows, [y])
    run.forward()
    weight = run.parameters[: inputs * outputs].reshape(outputs, inputs)
    bias = run.parameters[inputs * outputs :]
    expected = VALUES[activation](tables.dense[0] @ weight.T + bias + tables.dense[1])
    np.testing.assert_allclose(run.value(y), expected, rtol=1e-12, atol=1e-13)
    check_gradients(run, [y], True)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("rows", [2, 40])
def test_activation(rows: int, activation: str) -> None:
    w = Writer()
    x = w.input(37)
    y = w.activation(x, activation)
    run = Run(w, Tables([3 * matrix(rows, 37)]), rows, [y])
    run.forward()
    np.testing.assert_allclose(
        run.value(y), VALUES[activation](run.tables.dense[0]), rtol=1e-13, atol=1e-15
    )
    check_gradients(run, [y], True)


@pytest.mark.parametrize("activation", ["identity", "elu", "silu"])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("rows", "width"), [(2, 1), (5, 70), (150, 3)])
def test_batch_norm(rows: int, width: int, training: bool, activation: str) -> None:
    w = Writer()
    x = w.input(width)
    y = w.batch_norm(x, activation)
    run = Run(w, Tables([matrix(rows, width)]), rows, [y], size=1.0)
    before = run.buffers.copy()
    run.forward(training)
    a = run.tables.dense[0]
    gamma, beta = run.parameters[:width], run.parameters[width:]
    mean, variance = (a.mean(0), a.var(0)) if training else (before[:width], before[width:])
    expected = VALUES[activation]((a - mean) / np.sqrt(variance + 1e-5) * gamma + beta)
    np.testing.assert_allclose(run.value(y), expected, rtol=1e-11, atol=1e-12)
    if training:
        running = np.concatenate([a.mean(0), a.var(0, ddof=1)])
        np.testing.assert_allclose(run.buffers, 0.9 * before + 0.1 * running, rtol=1e-13)
    else:
        np.testing.assert_array_equal(run.buffers, before)
    check_gradients(run, [y], training)


def test_batch_norm_refuses_one_row_in_training() -> None:
    w = Writer()
    y = w.batch_norm(w.input(3))
    run = Run(w, Tables([matrix(1, 3)]), 1, [y])
    run.forward(False)
    with pytest.raises(ValueError, match="batch_norm needs at least two rows in training"):
        run.forward(True)


@pytest.mark.parametrize("activation", ["identity", "tanh", "gelu"])
@pytest.mark.parametrize(("rows", "width"), [(1, 2), (2, 70), (150, 5)])
def test_layer_norm(rows: int, width: int, activation: str) -> None:
    w = Writer()
    x = w.input(width)
    y = w.layer_norm(x, activation)
    run = Run(w, Tables([matrix(rows, width)]), rows, [y], size=1.0)
    run.forward()
    a = run.tables.dense[0]
    gamma, beta = run.parameters[:width], run.parameters[width:]
    normal = (a - a.mean(1, keepdims=True)) / np.sqrt(a.var(1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(
        run.value(y), VALUES[activation](normal * gamma + beta), rtol=1e-11, atol=1e-12
    )
    check_gradients(run, [y], True)


@pytest.mark.parametrize("training", [True, False])
def test_dropout(training: bool) -> None:
    rows, width, p = 300, 45, 0.3
    w = Writer()
    x = w.input(width)
    y = w.dropout(x, p, layer=2)
    z = w.dropout(x, p, layer=3)
    run = Run(w, Tables([1 + matrix(rows, width) ** 2]), rows, [y, z])
    run.forward(training)
    a, b = run.tables.dense[0], run.value(y)
    if not training:
        np.testing.assert_array_equal(b, a)
        return
    kept = b != 0
    np.testing.assert_array_equal(b[kept], (a * (1 / (1 - p)))[kept])
    count = rows * width
    assert abs(kept.mean() - (1 - p)) < 4 * np.sqrt(p * (1 - p) / count)
    assert abs((kept & (run.value(z) != 0)).mean() - (1 - p) ** 2) < 4 * 0.5 / np.sqrt(count)
    check_gradients(run, [y, z], True)
    run.forward(training, step=6)
    assert (run.value(y) != b).any()


@pytest.mark.parametrize("rows", [1, 2, 90])
@pytest.mark.parametrize(("categories", "width"), [(1, 1), (4, 67)])
def test_embedding(rows: int, categories: int, width: int) -> None:
    generator = np.random.default_rng(4)
    index = generator.integers(-1, categories, rows).astype(np.int32)
    w = Writer()
    x = w.input(width)
    first = w.embedding(0, categories, width, addend=x)
    y = w.embedding(0, categories, width, addend=first)
    run = Run(w, Tables([matrix(rows, width)], indices=[index]), rows, [y])
    run.forward()
    tables = run.parameters.reshape(2, categories, width)
    expected = run.tables.dense[0] + np.where(
        (index >= 0)[:, None], tables[0][index] + tables[1][index], 0
    )
    np.testing.assert_allclose(run.value(y), expected, rtol=1e-13, atol=1e-15)
    check_gradients(run, [y], True)


def test_time_embedding() -> None:
    w = Writer()
    t = w.input(1)
    y = w.time_embedding(t, 6)
    single = w.time_embedding(t, 2)
    run = Run(w, Tables([np.array([[0.37], [0.0]])]), 2, [y, single])
    run.forward()
    # Section 9.5 of the specification: n = 3, f = 1, 0.01, 0.0001.
    expected = [
        -0.650264939560776,
        -0.529836140908493,
        0.036991558411181,
        0.759707515020103,
        -0.848100031710408,
        0.999315578086478,
    ]
    np.testing.assert_allclose(run.value(y)[0], expected, atol=2e-13)
    np.testing.assert_allclose(run.value(single), [[np.sin(370), np.cos(370)], [0, 1]], atol=2e-13)


def test_time_embedding_gives_a_gradient() -> None:
    w = Writer()
    y = w.time_embedding(w.input(1), 20, scale=3.0)
    run = Run(w, Tables([matrix(5, 1)]), 5, [y])
    check_gradients(run, [y], True)


def test_time_embedding_in_float32_reduces_in_double() -> None:
    w = Writer()
    y = w.time_embedding(w.input(1), 8)
    t = np.random.default_rng(0).uniform(0, 1, (200, 1)).astype(np.float32)
    run = Run(w, Tables([t]), 200, [y], dtype="float32")
    run.forward()
    f = 10.0 ** (-4 * np.arange(4) / 3)
    angle = 1000 * t.astype(np.float64) * f
    expected = np.concatenate([np.sin(angle), np.cos(angle)], axis=1)
    assert np.abs(run.value(y) - expected).max() < 1e-7


TRANSFORMS: list[Callable[[Array, Array], Array]] = [
    lambda x, total: x,
    lambda x, total: np.log1p(x),
    lambda x, total: x / total,
    lambda x, total: np.log1p(x / total),
    lambda x, total: (x > 0).astype(float),
]


@pytest.mark.parametrize("transform", range(5))
@pytest.mark.parametrize(("rows", "columns", "width"), [(2, 1, 1), (3, 40, 5), (70, 65, 150)])
def test_sparse_dense(rows: int, columns: int, width: int, transform: int) -> None:
    generator = np.random.default_rng(6)
    counts = generator.poisson(0.3, (rows, columns)).astype(float)
    counts[:, 0] += 1
    w = Writer()
    more = w.input(width)
    y = w.sparse_dense(0, columns, width, activation="elu", addend=more)
    tables = Tables([matrix(rows, width)], [csr(counts, "float64", transform)])
    run = Run(w, tables, rows, [y])
    run.forward()
    weight = run.parameters[: columns * width].reshape(columns, width)
    a = TRANSFORMS[transform](counts, counts.sum(1, keepdims=True))
    expected = VALUES["elu"](a @ weight + run.parameters[columns * width :] + tables.dense[0])
    np.testing.assert_allclose(run.value(y), expected, rtol=1e-11, atol=1e-12)
    check_gradients(run, [y], True)


def test_sparse_dense_of_rows_without_values() -> None:
    w = Writer()
    y = w.sparse_dense(0, 9, 4)
    empty = scipy.sparse.csr_array((3, 9))
    run = Run(w, Tables([], [csr(empty, "float64", 1)]), 3, [y])
    run.forward()
    np.testing.assert_array_equal(run.value(y), np.tile(run.parameters[36:], (3, 1)))
    assert not run.backward([np.ones((3, 4))])[:36].any()


def test_slices_shared_weights_and_several_readers() -> None:
    rows = 11
    w = Writer()
    x = w.input(10)
    weight = w.parameters(15)
    joined = w.slot(8)
    w.add(0, x.part(2, 5), 5, weight=weight, activation="silu", output=joined.part(0, 5))
    w.dense(x.part(4, 10), 3, activation="tanh", output=joined.part(5, 8))
    again = w.add(0, joined.part(1, 4), 5, weight=weight, addend=joined.part(3, 8))
    y = w.dense(joined, 6, activation="softplus")
    z = w.activation(again, "gelu")
    run = Run(w, Tables([matrix(rows, 10)]), rows, [y, z, joined.part(2, 4)])
    check_gradients(run, [y, z, joined.part(2, 4)], True)


def test_rows_of_tables() -> None:
    w = Writer()
    y = w.sparse_dense(0, 6, 3, addend=w.embedding(0, 4, 3, addend=w.input(3)))
    generator = np.random.default_rng(2)
    counts = generator.poisson(1.0, (9, 6)).astype(float)
    index = generator.integers(-1, 4, 9).astype(np.int32)
    tables = Tables([matrix(9, 3)], [csr(counts, "float64")], [index])
    run = Run(w, tables, 9, [y])
    run.forward()
    whole = run.value(y)
    rows = np.array([7, 0, 3, 3], dtype=np.int64)
    run.forward(rows=rows)
    np.testing.assert_array_equal(run.value(y)[:4], whole[rows])


def test_nothing_flows_to_inputs_unless_it_is_asked_for() -> None:
    w = Writer()
    y = w.dense(w.input(4), 3)
    run = Run(w, Tables([matrix(5, 4)]), 5, [y], input_gradients=False)
    run.forward()
    run.backward([np.ones((5, 3))])
    with pytest.raises(ValueError, match="this slot has no gradient"):
        run.workspace.gradient(0)
