"""Training runs: against a plain loop, going on bit for bit, stopping, what they refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse

import hotloops
from hotloops import nn, random
from hotloops.nn._tables import Batch
from hotloops.nn._train import evaluate, train
from tests.nn.networks import (
    COLUMNS,
    ROWS,
    Array,
    autoencoder,
    both,
    both_types,
    randomise,
    sparse_counts,
)


def shuffled(count: int, epoch: int, seed: int) -> Array:
    """Fisher and Yates's shuffle; draw i is word i of the epoch's row 0 in stream 7."""
    blocks = -(-count // 4)
    counters = np.zeros((blocks, 4), np.uint32)
    counters[:, 0], counters[:, 1], counters[:, 3] = epoch, 7 << 16, np.arange(blocks)
    words = random.philox(counters, np.array([seed, 0], np.uint32)).ravel()
    rows = np.arange(count)
    for i in range(count - 1, 0, -1):
        j = int(words[i]) * (i + 1) >> 32
        rows[i], rows[j] = rows[j], rows[i]
    return rows


# --- a run is what a plain loop does -------------------------------------------------------------


@both
def test_against_a_plain_loop(backend: str) -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(23, 3)), rng.normal(size=(23, 2))
    network = nn.MLP([3, 5, 2], "tanh", dropout=0.2, norm="layer", dtype="float64", seed=8)
    plain = network.copy()
    options: dict[str, Any] = {"weight_decay": 0.1, "clip_norm": 0.3}
    result = network.fit(
        x,
        y,
        epochs=3,
        batch_size=5,
        optimizer=nn.AdamW(0.03, **options),
        ema=0.8,
        seed=8,
        backend=backend,
    )
    optimizer, ema = nn.AdamW(0.03, **options), nn.EMA(0.8)
    losses, norms = [], []
    for step in range(12):
        order = shuffled(23, step // 4, 8)
        rows = order[step % 4 * 5 : step % 4 * 5 + 5]
        out = plain.forward(x[rows], training=True, step=step, backend=backend)
        value, gradient = nn.mean_squared_error(out, y[rows], backend=backend)
        plain.backward(gradient)
        losses.append(value)
        norms.append(optimizer.step(plain, backend=backend))
        average = ema.step(plain)
    np.testing.assert_allclose(result.losses[:, 0], losses, rtol=1e-12)
    np.testing.assert_allclose(result.gradient_norms, norms, rtol=1e-12)
    np.testing.assert_allclose(network.flat_parameters, plain.flat_parameters, rtol=1e-11)
    np.testing.assert_allclose(result.state.average, average, rtol=1e-11)
    assert result.num_steps == result.state.num_steps == 12


@both
def test_losses_add_up(backend: str) -> None:
    """A step along several losses is one along the gradient of their weighted sum."""
    network, losses, tables = autoencoder()
    plain = network.copy()
    seed = network.seed
    optimizer = nn.Adam(0.01)
    run = train(
        network,
        losses,
        tables,
        batch_size=ROWS,
        num_steps=1,
        optimizer=optimizer,
        seed=seed,
        backend=backend,
    )
    rows = shuffled(ROWS, 0, seed)
    counts = sparse_counts(ROWS, COLUMNS)[rows]
    labels = tables.indices[0][rows]
    b = plain.program.outputs[0]
    out = plain.forward(tables.dense[0][rows], counts, training=True, step=0, backend=backend)
    gradient = np.zeros_like(out)
    nll, g, by_theta = nn.negative_binomial_nll(
        out[:, :COLUMNS], counts, plain.parameters["log_theta"], labels, backend=backend
    )
    gradient[:, :COLUMNS] += g
    entropy, g = nn.cross_entropy(out[:, COLUMNS:], labels, backend=backend)
    gradient[:, COLUMNS:] += 0.5 * g
    bent, g = nn.huber(out[:, 1:3], tables.dense[2][rows], 0.5, backend=backend)
    gradient[:, 1:3] += 0.2 * g
    assert b.width == COLUMNS + 3
    found = run.losses[0, [0, 1, 3]]
    np.testing.assert_allclose(found, [nll, entropy, bent], rtol=1e-12)
    plain.backward(gradient)
    moved = run.state.first_moment / 0.1
    expected = plain.flat_gradients.copy()
    entry = plain.program.parameters["log_theta"]
    expected[entry.offset :] = by_theta.ravel()
    own = np.ones(expected.size, bool)
    for name in ("encoder.0", "encoder.1", "encoder.2", "time"):  # the third loss reaches these
        for part in ("weight", "bias"):
            item = plain.program.parameters[f"{name}.{part}"]
            own[item.offset : item.offset + item.size] = False
    np.testing.assert_allclose(moved[own], expected[own], rtol=1e-10, atol=1e-13)


@both_types
def test_backends_agree(dtype: str) -> None:
    found = []
    for backend in ("cpp", "numba"):
        network, losses, tables = autoencoder(dtype)
        run = train(network, losses, tables, batch_size=16, epochs=3, backend=backend, ema=0.9)
        found.append((run.losses, run.gradient_norms, network.flat_parameters, run.state.average))
    tolerance = 1e-9 if dtype == "float64" else 2e-3
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@both
def test_threads_do_not_change_the_bits(backend: str) -> None:
    found = []
    for threads in (1, 2, 5):
        network, losses, tables = autoencoder("float32")
        run = train(
            network, losses, tables, batch_size=20, epochs=2, num_threads=threads, backend=backend
        )
        found.append((run.losses, network.flat_parameters, network.flat_buffers))
    for one in found[1:]:
        for a, b in zip(found[0], one, strict=True):
            np.testing.assert_array_equal(a, b)


# --- going on ------------------------------------------------------------------------------------


@both
@both_types
def test_pieces_of_a_run(backend: str, dtype: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "batch_size": 16,
        "optimizer": nn.AdamW(lambda step: 0.01 / (1 + step), clip_norm=1.0),
        "ema": 0.9,
        "backend": backend,
    }
    network, losses, tables = autoencoder(dtype)
    whole = train(network, losses, tables, num_steps=11, seed=3, **options)
    other, losses, tables = autoencoder(dtype)
    first = train(other, losses, tables, num_steps=5, seed=3, **options)
    first.save(tmp_path / "run.npz")
    first = nn.TrainResult.load(tmp_path / "run.npz")
    fresh, losses, tables = autoencoder(dtype)
    second = train(fresh, losses, tables, num_steps=6, state=first.state, seed=99, **options)
    np.testing.assert_array_equal(np.vstack([first.losses, second.losses]), whole.losses)
    norms = np.concatenate([first.gradient_norms, second.gradient_norms])
    np.testing.assert_array_equal(norms, whole.gradient_norms)
    for name, value in whole.state.arrays().items():
        np.testing.assert_array_equal(getattr(second.state, name), value, err_msg=name)
    assert second.state.header() == whole.state.header()
    np.testing.assert_array_equal(fresh.flat_parameters, network.flat_parameters)
    np.testing.assert_array_equal(fresh.flat_buffers, network.flat_buffers)


@both
def test_watching_does_not_change_the_bits(backend: str) -> None:
    found = []
    for options in ({}, {"max_seconds": 1e6}, {"callback": print, "callback_steps": 2}):
        network, losses, tables = autoencoder()
        calls: list[nn.Report] = []
        if "callback" in options:
            options["callback"] = calls.append
        run = train(network, losses, tables, batch_size=16, num_steps=7, backend=backend, **options)
        assert run.complete
        found.append((run.losses, network.flat_parameters))
    for one in found[1:]:
        for a, b in zip(found[0], one, strict=True):
            np.testing.assert_array_equal(a, b)
    assert [report.num_steps for report in calls] == [2, 4, 6, 7]
    np.testing.assert_array_equal(np.vstack([r.losses for r in calls]), found[0][0])
    assert all(report.network is network for report in calls)


@both
def test_a_callback_stops(backend: str) -> None:
    network, losses, tables = autoencoder()
    states = []

    def stop(report: nn.Report) -> bool:
        states.append(report.state.copy())
        return report.num_steps >= 6

    run = train(network, losses, tables, batch_size=20, epochs=9, callback=stop, backend=backend)
    assert (run.complete, run.num_steps, len(run.losses)) == (False, 6, 6)
    assert "complete=False" in repr(run)
    np.testing.assert_array_equal(states[-1].parameters, network.flat_parameters)
    assert [state.num_steps for state in states] == [3, 6]


def test_max_seconds() -> None:
    network, losses, tables = autoencoder()
    run = train(network, losses, tables, batch_size=20, epochs=10**6, max_seconds=0.05)
    assert not run.complete
    assert 0 < run.num_steps < 3 * 10**6
    assert train(network, losses, tables, num_steps=0, batch_size=9).losses.shape == (0, 4)


def test_progress(capsys: pytest.CaptureFixture[str]) -> None:
    network = nn.MLP([2, 1])
    network.fit(np.ones((4, 2)), np.ones(4), epochs=2, progress=True)
    assert "MLP.fit" in capsys.readouterr().err


# --- failures ------------------------------------------------------------------------------------


@both
def test_a_loss_that_overflows(backend: str) -> None:
    network = nn.MLP([2, 3, 1])
    before = network.flat_parameters.copy()
    x = np.full((8, 2), 1e30, np.float32)
    message = "MLP.fit: the loss or its gradient is not finite at step 0"
    with pytest.raises(hotloops.NumericalError, match=message) as caught:
        network.fit(x, np.zeros(8), num_steps=3, backend=backend)
    assert caught.value.step == 0
    np.testing.assert_array_equal(network.flat_parameters, before)


@both
def test_a_failing_callback_changes_nothing(backend: str) -> None:
    network, losses, tables = autoencoder()
    before = network.flat_parameters.copy(), network.flat_buffers.copy()

    def fail(report: nn.Report) -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        train(network, losses, tables, batch_size=9, epochs=1, callback=fail, backend=backend)
    np.testing.assert_array_equal(network.flat_parameters, before[0])
    np.testing.assert_array_equal(network.flat_buffers, before[1])


# --- losses of whole tables, made batches --------------------------------------------------------


@both
def test_evaluate(backend: str) -> None:
    network, losses, tables = autoencoder()
    randomise(network)
    found = evaluate(network, losses, tables, block_size=16, backend=backend)
    assert found.shape == (4, ROWS)
    counts = sparse_counts(ROWS, COLUMNS)
    out = network.predict(tables.dense[0], counts, backend=backend)
    value, _, _ = nn.negative_binomial_nll(
        out[:, :COLUMNS],
        counts,
        network.parameters["log_theta"],
        tables.indices[0],
        backend=backend,
    )
    assert found[0].mean() == pytest.approx(value, rel=1e-12)
    value, _ = nn.cross_entropy(out[:, COLUMNS:], tables.indices[0], backend=backend)
    assert found[1].mean() == pytest.approx(value, rel=1e-12)


def test_batches_that_are_made() -> None:
    b = nn.ProgramBuilder()
    y = b.embedding(0, num_rows=3, width=2, addend=b.dense(b.input(2), 2, name="d"), name="e")
    network = nn.Network(b.finish([y]), dtype="float64")
    seen = []

    def prepare(step: int, dense: list[Array], indices: list[Array]) -> None:
        rng = np.random.default_rng(step)
        seen.append(step)
        dense[0][:] = rng.normal(size=dense[0].shape)
        indices[0][:] = rng.integers(-1, 3, indices[0].size)
        shift = np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0], [0.0, 0.0]])
        dense[1][:] = 2.0 * dense[0] + shift[indices[0]]

    tables = Batch([], [], [np.zeros(0, np.int32)], 0)
    options: dict[str, Any] = {"prepare": prepare, "backend": "numba", "batch_size": 32}
    loss = nn.Loss("mean_squared_error", y, 1)
    run = train(
        network, [loss], tables, num_steps=1500, optimizer=nn.Adam(0.02), ema=0.99, **options
    )
    assert seen == list(range(1500))
    assert run.losses[-1, 0] < 1e-3
    np.testing.assert_allclose(network.parameters["d.weight"], 2 * np.eye(2), atol=0.05)
    with pytest.raises(ValueError, match="`epochs` must be None where batches are made, got 3"):
        train(network, [loss], tables, epochs=3, **options)


# --- fit -----------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize(
    "loss", ["mean_squared_error", "huber", "cross_entropy", "binary_cross_entropy", "poisson"]
)
def test_fit_learns(backend: str, loss: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 4))
    h = x @ rng.normal(size=(4, 3))
    y: Any = {
        "cross_entropy": h.argmax(axis=1),
        "binary_cross_entropy": scipy.sparse.csr_array((h > 0).astype(float)),
        "poisson": rng.poisson(10 * np.exp(h) / np.exp(h).sum(axis=1, keepdims=True)) + 1,
    }.get(loss, np.tanh(h))
    network = nn.MLP([4, 16, 3], "silu")
    run = network.fit(
        x, y, loss=loss, epochs=60, batch_size=50, optimizer=nn.Adam(0.02), backend=backend
    )
    assert run.losses.shape == (480, 1)
    reached = float(run.losses[-8:].mean() / run.losses[:8].mean())
    assert reached < (0.9 if loss == "poisson" else 0.2)
    if loss == "cross_entropy":
        assert (network.predict(x).argmax(axis=1) == y).mean() > 0.95


def test_fit_of_one_column_takes_a_vector() -> None:
    x = np.linspace(-1, 1, 64).reshape(-1, 1)
    first, second = nn.MLP([1, 4, 1], seed=1), nn.MLP([1, 4, 1], seed=1)
    a = first.fit(x, x.ravel() ** 2, epochs=3)
    b = second.fit(x, x**2, num_steps=3, batch_size=64)
    np.testing.assert_array_equal(a.losses, b.losses)
    assert a.to_dict()["num_steps"] == 3
    assert len(nn.MLP([1, 4, 1]).fit(x, x).losses) == 10


def test_plot() -> None:
    pyplot = pytest.importorskip("matplotlib.pyplot")
    figure = nn.MLP([1, 1]).fit(np.ones((4, 1)), np.ones(4)).plot()
    assert figure.axes[0].get_xlabel() == "step"
    pyplot.close(figure)
