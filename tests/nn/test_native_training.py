"""Updates, training loops, determinism and what a program may not say."""

from __future__ import annotations

import ctypes
import pathlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.nn.native import (
    CROSS_ENTROPY,
    HUBER,
    MEAN_SQUARED,
    Operand,
    Optimizer,
    Run,
    State,
    Tables,
    Writer,
    losses,
    problem,
    train,
)

Array = npt.NDArray[Any]


def power(base: float, exponent: int) -> float:
    return float(base) ** exponent


@pytest.mark.parametrize("kind", [0, 1])
@pytest.mark.parametrize("clip", [0.0, 1.0, 1e6])
def test_update_follows_the_equations(kind: int, clip: float) -> None:
    size, rate = 70_000, 3e-3
    generator = np.random.default_rng(1)
    w = Writer()
    w.parameters(size)
    w.input(1)
    run = Run(w, Tables([np.zeros((1, 1))]), 1, [])
    ranges = ((5, 90), (20_000, 40_000))
    optimizer = Optimizer(kind, clip_norm=clip, ema_decay=0.9, no_decay=ranges)
    state = State(run)
    p, m, v = state.parameters.copy(), np.zeros(size), np.zeros(size)
    average = np.zeros(size)
    decays = np.full(size, optimizer.weight_decay)
    for begin, end in ranges:
        decays[begin:end] = 0
    for k in (1, 2, 3):
        g = generator.standard_normal(size)
        norm = run.call(
            "nn_update",
            *optimizer.arrays(),
            state.parameters,
            state.first,
            state.second,
            state.average,
            g,
            rate,
            k,
            2,
        )
        np.testing.assert_allclose(norm, np.linalg.norm(g), rtol=1e-14)
        if clip:
            g = g * min(1, clip / (norm + 1e-6))
        if kind == 0:
            g = g + decays * p
        else:
            p = p * (1 - rate * decays)
        m = 0.9 * m + 0.1 * g
        v = 0.999 * v + 0.001 * g * g
        p = p - rate * (m / (1 - 0.9**k)) / (np.sqrt(v / (1 - 0.999**k)) + 1e-8)
        average = 0.9 * average + 0.1 * p
        np.testing.assert_allclose(state.parameters, p, rtol=1e-11)
        assert state.average is not None
        np.testing.assert_allclose(state.average, average / (1 - 0.9**k), rtol=1e-10)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_training_has_the_same_bits_for_any_number_of_threads(dtype: str) -> None:
    results = []
    for threads in (1, 2, 5):
        run, of = problem(dtype, threads=threads)
        state = State(run)
        out = train(run, state, of, Optimizer(ema_decay=0.99), 10)
        results.append([*state.arrays(), *out])
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("cut", [1, 3, 7])
def test_training_goes_on_bit_for_bit(cut: int) -> None:
    run, of = problem()
    whole, parts = State(run), State(run)
    optimizer = Optimizer(ema_decay=0.99)
    expected = train(run, whole, of, optimizer, 10)
    first = train(run, parts, of, optimizer, cut)
    again, _ = problem()
    second = train(again, parts, of, optimizer, 10 - cut, first=cut)
    for a, b in zip(whole.arrays(), parts.arrays(), strict=True):
        np.testing.assert_array_equal(a, b)
    for k in range(2):
        np.testing.assert_array_equal(expected[k], np.concatenate([first[k], second[k]]))


def test_training_lowers_the_losses() -> None:
    run, of = problem("float32")
    state = State(run)
    out, norms = train(run, state, of, Optimizer(), 600)
    early, late = out[:30].mean(0), out[-30:].mean(0)
    assert (late < early).all()
    assert np.isfinite(norms).all()


def test_an_epoch_visits_every_row_once() -> None:
    rows, batch = 40, 8
    w = Writer()
    x = w.input(1)
    y = w.dense(x, 1, bias=False)
    values = 2.0 ** np.arange(rows)[:, None]
    run = Run(w, Tables([np.ones((rows, 1)), values]), batch, [y], input_gradients=False)
    run.parameters[:] = 0
    of = losses((MEAN_SQUARED, y, 1, 0, -1, -1, 0.0, 1.0))
    # With nothing learned the loss is the mean of the squares: which rows there were.
    seen = []
    for epoch in (0, 1):
        out, _ = train(run, State(run), of, Optimizer(), 5, first=5 * epoch, rate=0.0)
        assert out.sum() * batch == (values**2).sum()
        seen.append(out[:, 0])
    assert (seen[0] != seen[1]).any()


def test_the_order_of_an_epoch_is_uniform() -> None:
    rows = 5
    w = Writer()
    y = w.dense(w.input(1), 1, bias=False)
    values = np.arange(rows, dtype=float)[:, None]
    run = Run(w, Tables([np.ones((rows, 1)), values]), 1, [y], input_gradients=False)
    run.parameters[:] = 0
    of = losses((MEAN_SQUARED, y, 1, 0, -1, -1, 0.0, 1.0))
    epochs = 4000
    out, _ = train(run, State(run), of, Optimizer(), rows * epochs, rate=0.0)
    order = np.sqrt(out[:, 0]).round().astype(int).reshape(epochs, rows)
    counts = np.array([[(order[:, i] == k).sum() for k in range(rows)] for i in range(rows)])
    assert np.abs(counts - epochs / rows).max() < 4.5 * np.sqrt(epochs * 0.16)


def test_known_velocity_network() -> None:
    """Section 9.5 of the specification."""
    w = Writer()
    x, t = w.input(2), w.input(1)
    phi = w.time_embedding(t, 4)
    e = w.dense(w.dense(phi, 4, activation="silu"), 4)
    size = w.num_parameters
    w_in = w.parameters(9)
    w1, c, w2, w_out = w.parameters(12), w.parameters(15), w.parameters(12), w.parameters(8)
    e = w.embedding(0, 2, 4, addend=e)

    def dense(source: Operand, width: int, offset: int, **more: Any) -> Operand:
        bias = offset + width * source.width
        return w.add(0, source, width, weight=offset, bias=bias, **more)

    h = dense(x, 3, w_in)
    shift = dense(w.activation(e, "silu"), 3, c)
    p = dense(w.activation(h, "silu"), 3, w1, addend=shift, activation="silu")
    h = dense(p, 3, w2, addend=h)
    v = dense(w.activation(h, "silu"), 2, w_out)
    target = np.full((1, 2), 0.5)
    points, times = np.array([[0.3, -1.2]]), np.array([[0.25]])
    run = Run(w, Tables([points, times], indices=[np.array([1], np.int32)]), 1, [v])
    run.parameters[:] = np.sin(1 + np.arange(w.num_parameters)) / 2
    run.forward()
    np.testing.assert_allclose(run.value(v)[0], (0.230837835708937, 0.629693664099128), atol=2e-14)
    difference = run.value(v) - target
    assert abs((difference**2).mean() - 0.04463435859665334) < 1e-14
    gradient = run.backward([difference])
    table = w.num_parameters - 8
    expected = {
        w_in: -0.027026572,
        w1 + 5: 0.001103379,
        c + 8: -0.000540272,
        w2 + 1: 0.017760627,
        w_out + 4: -0.033259775,
        3: 5.61e-7,
        size - 4 + 2: -0.004084419,
        table + 7: -0.005170918,
        table: 0.0,
    }
    for place, value in expected.items():
        assert abs(gradient[place] - value) < 2e-9, place
    run.tables.indices[0][:] = -1
    run.forward()
    np.testing.assert_allclose(run.value(v)[0], (0.235438853996359, 0.62555639514475), atol=2e-14)


def test_prepared_batches() -> None:
    """A function that fills the batch gives the bits of tables that hold the same."""
    rows, steps = 70, 4
    w = Writer()
    x = w.input(2)
    y = w.embedding(0, 3, 2, addend=w.dense(x, 2, activation="tanh"))
    of = losses((MEAN_SQUARED, y, 1, 0, -1, -1, 0.0, 1.0))
    kind = ctypes.CFUNCTYPE(
        ctypes.c_int32,
        ctypes.c_void_p,
        ctypes.c_int64,
        ctypes.c_int64,
        ctypes.c_int64,
        ctypes.POINTER(ctypes.POINTER(ctypes.c_double)),
        ctypes.POINTER(ctypes.POINTER(ctypes.c_int32)),
    )

    def value(step: int, row: int, column: int) -> float:
        return float(np.sin(1 + 3 * row + column + 0.1 * step))

    def fill(context: int, step: int, begin: int, end: int, dense: Any, indices: Any) -> int:
        for r in range(begin, end):
            for j in range(2):
                dense[0][2 * r + j] = value(step, r, j)
                dense[1][2 * r + j] = value(step, r, 2 + j)
            indices[0][r] = (r + step) % 4 - 1
        return 13 if step == 99 else 0

    prepare = kind(fill)
    address = ctypes.cast(prepare, ctypes.c_void_p).value
    assert address is not None
    run = Run(w, Tables(), rows, [y], input_gradients=False, threads=2)
    state = State(run)
    out, _ = train(run, state, of, Optimizer(), steps, prepare=address)
    expected = State(run)
    for step in range(steps):
        points = np.array([[value(step, r, j) for j in range(4)] for r in range(rows)])
        index = ((np.arange(rows) + step) % 4 - 1).astype(np.int32)
        one = Run(w, Tables([points[:, :2].copy()], indices=[index]), rows, [y])
        one.parameters = expected.parameters
        one.forward()
        difference = one.value(y) - points[:, 2:]
        gradient = one.backward([difference * (1 / 140) * 2])
        np.testing.assert_allclose(out[step, 0], (difference**2).mean(), rtol=1e-13)
        one.call(
            "nn_update",
            *Optimizer().arrays(),
            expected.parameters,
            expected.first,
            expected.second,
            None,
            gradient,
            1e-2,
            step + 1,
            1,
        )
    np.testing.assert_allclose(state.parameters, expected.parameters, rtol=1e-9)
    with pytest.raises(RuntimeError, match="the user's function returned 13"):
        train(run, state, of, Optimizer(), 2, first=98, prepare=address)


def narrow(dtype: str = "float64", rows: int = 150, threads: int = 2, batch: int = 70) -> Any:
    """A network that trains tile by tile, and its losses."""
    generator = np.random.default_rng(7)
    w = Writer()
    x, t = w.input(5), w.input(1)
    e = w.embedding(0, 3, 8, addend=w.dense(w.time_embedding(t, 6), 8, activation="silu"))
    h = w.layer_norm(w.dense(x, 8, addend=e), "gelu")
    h = w.dense(w.dropout(h, 0.2), 8, addend=h, activation="tanh")
    y, classes = w.dense(h, 4), w.dense(h, 3)
    of = losses(
        (MEAN_SQUARED, y.part(0, 3), 2, 0, -1, -1, 0.0, 0.5),
        (HUBER, y.part(0, 3), 2, 0, -1, -1, 0.4, 0.5),
        (CROSS_ENTROPY, classes, 0, 0, -1, -1, 0.0, 0.25),
    )
    dense = [generator.standard_normal((rows, width)).astype(dtype) for width in (5, 1, 3)]
    labels = generator.integers(0, 3, rows).astype(np.int32)
    seeds = [y.part(0, 3), y.part(0, 3), classes]
    run = Run(w, Tables(dense, [], [labels]), batch, seeds, dtype, False, threads=threads)
    return run, of


def test_tile_by_tile_is_layer_by_layer() -> None:
    rows = 150
    run, of = narrow(batch=rows)
    state, optimizer = State(run), Optimizer()
    found, _ = train(run, state, of, optimizer, 3)
    other, _ = narrow(batch=rows)
    expected = State(run)
    other.parameters = expected.parameters
    y, labels = other.tables.dense[2], other.tables.indices[0]
    # Rows keep their places, so that dropout keeps its masks: the order of the epochs is undone.
    for step in range(3):
        order = epoch_order(rows, step)
        other.forward(rows=order, step=step)
        h, classes = other.value(other.seeds[0]), other.value(other.seeds[2])
        d = h - y[order]
        softmax = np.exp(classes) / np.exp(classes).sum(1, keepdims=True)
        hit = np.eye(3)[labels[order]]
        values = (d**2).mean(), np.where(abs(d) < 0.4, d * d / 2, 0.4 * (abs(d) - 0.2)).mean()
        np.testing.assert_allclose(found[step, :2], values, rtol=1e-11)
        np.testing.assert_allclose(
            found[step, 2], -np.log((softmax * hit).sum(1)).mean(), rtol=1e-11
        )
        gradients = [d / d.size, 0.5 * d.clip(-0.4, 0.4) / d.size, 0.25 * (softmax - hit) / rows]
        gradient = other.backward(gradients)
        held = expected.parameters, expected.first, expected.second, None
        other.call("nn_update", *optimizer.arrays(), *held, gradient, 1e-2, step + 1, 1)
    np.testing.assert_allclose(state.parameters, expected.parameters, rtol=1e-8, atol=1e-10)


def epoch_order(rows: int, epoch: int) -> Array:
    """The rows of an epoch in their order, as the first epoch of a run without learning tells."""
    w = Writer()
    y = w.dense(w.input(1), 1, bias=False)
    values = np.arange(rows, dtype=float)[:, None]
    run = Run(w, Tables([np.ones((rows, 1)), values]), 1, [y], input_gradients=False)
    run.parameters[:] = 0
    of = losses((MEAN_SQUARED, y, 1, 0, -1, -1, 0.0, 1.0))
    out, _ = train(run, State(run), of, Optimizer(), rows, first=rows * epoch, rate=0.0)
    return np.sqrt(out[:, 0]).round().astype(np.int64)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_tiles_have_the_same_bits_for_any_number_of_threads(dtype: str) -> None:
    results = []
    for threads, cut in ((1, 7), (2, 3), (5, 1)):
        run, of = narrow(dtype, threads=threads, rows=1000, batch=300)
        state = State(run)
        first = train(run, state, of, Optimizer(ema_decay=0.99), cut)
        second = train(run, state, of, Optimizer(ema_decay=0.99), 7 - cut, first=cut)
        results.append([*state.arrays(), np.concatenate([first[0], second[0]])])
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_evaluation_over_a_table() -> None:
    run, of = problem(rows=50, batch=16)
    out = np.full((3, 50), np.nan)
    tables = run.tables
    arguments = (*of, *tables.lists(), run.parameters, run.buffers)
    run.call("nn_evaluate", run.workspace, *arguments, out, 2)
    assert np.isfinite(out).all()
    alone, _ = problem(rows=50, batch=50)
    whole = np.full((3, 50), np.nan)
    alone.call("nn_evaluate", alone.workspace, *arguments, whole, 2)
    np.testing.assert_allclose(out, whole, rtol=1e-12)


def test_interrupt(run_python: Any) -> None:
    code = """
        import os, signal, sys, threading, time
        sys.path.insert(0, {path!r})
        from tests.nn.native import Optimizer, State, problem, train
        run, of = problem("float32")
        state = State(run)
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
        begin = time.perf_counter()
        try:
            train(run, state, of, Optimizer(), 200_000)
        except KeyboardInterrupt:
            print(time.perf_counter() - begin < 5.0)
    """
    root = str(pathlib.Path(__file__).parents[2])
    assert run_python(code.replace("{path!r}", repr(root))).strip() == "True"
