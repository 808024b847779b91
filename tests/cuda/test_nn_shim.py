"""The CUDA kernels of networks on a CPU, over a stand-in for cuBLAS, against the C++ drivers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hotloops import nn
from hotloops.nn import _cpp, _cuda
from hotloops.nn._jobs import Loss, LossJob, TrainJob
from hotloops.nn._rule import State
from hotloops.nn._tables import Batch, Csr, read_inputs
from tests.nn.networks import everything, inputs_of_everything, randomise, sparse_counts

TOLERANCE = {"float32": 2e-5, "float64": 1e-12}

both_types = pytest.mark.parametrize("dtype", ["float32", "float64"])


def on_device(cuda: Any, batch: Batch) -> Batch:
    """Return the tables of a batch as arrays of the stand-in for CuPy."""
    return Batch(
        [cuda.asarray(table) for table in batch.dense],
        [
            Csr(*(part if isinstance(part, int) else cuda.asarray(part) for part in table))
            for table in batch.sparse
        ],
        [cuda.asarray(table) for table in batch.indices],
        batch.num_rows,
    )


def close(found: Any, expected: Any, dtype: str) -> None:
    tolerance = TOLERANCE[dtype]
    scale = max(1.0, float(np.abs(expected).max(initial=0.0)))
    np.testing.assert_allclose(np.asarray(found), expected, rtol=tolerance, atol=tolerance * scale)


@both_types
@pytest.mark.parametrize("training", [False, True])
def test_passes(cuda: Any, dtype: str, training: bool) -> None:
    network = randomise(everything(dtype))
    batch, _ = read_inputs("test", network.program, inputs_of_everything(70, dtype), network.dtype)
    rng = np.random.default_rng(3)
    found, expected = [], []
    for kernels, tables, out in (
        (_cpp, batch, expected),
        (_cuda, on_device(cuda, batch), found),
    ):
        rng = np.random.default_rng(3)
        buffers = network.flat_buffers.copy()
        run = kernels.Run(
            network.program, network.flat_parameters, buffers, tables, training, 5, 9, 2
        )
        weights = []
        for operand in network.program.outputs:
            value = np.empty((70, operand.width), dtype)
            run.read(operand, value)
            out.append(value)
            weights.append(rng.normal(size=value.shape).astype(dtype))
        gradient = np.empty_like(network.flat_parameters)
        out += [np.array(x) for x in run.backward(weights, gradient)]
        out += [gradient, buffers]
    for a, b in zip(found, expected, strict=True):
        close(a, b, dtype)


def loss_job(kind: str, dtype: str, groups: int) -> tuple[LossJob, list[str]]:
    rng = np.random.default_rng(1)
    rows, width = 9, 37
    counts = sparse_counts(rows + 4, width).astype(dtype)
    table = Csr(
        counts.indptr.astype(np.int64),
        counts.indices.astype(np.int32),
        counts.data,
        width,
        4 if kind == "binary_cross_entropy" else 0,
        np.asarray(counts.sum(axis=1), dtype),
    )
    dispersed = kind == "negative_binomial"
    sparse = kind in ("negative_binomial", "poisson", "binary_cross_entropy")
    labelled = kind == "cross_entropy"
    job = LossJob(
        nn.Loss(kind, nn.Operand(0, 2, width), 0).code,
        rng.normal(size=(rows, width + 5)).astype(dtype),
        2,
        width,
        rng.permutation(rows + 4)[:rows],
        None if sparse or labelled else rng.normal(size=(rows + 4, width)).astype(dtype),
        table if sparse else None,
        rng.integers(0, width, rows + 4).astype(np.int32) if labelled else None,
        rng.normal(size=(groups if dispersed else 0, width)).astype(dtype),
        rng.integers(0, groups, rows + 4).astype(np.int32) if groups > 1 else np.empty(0, np.int32),
        0.7,
        1.3,
        rng.normal(size=(rows, width + 5)).astype(dtype),
        rng.normal(size=(groups if dispersed else 0, width)).astype(dtype),
    )
    return job, ["gradient", "log_theta_gradient"]


@both_types
@pytest.mark.parametrize(
    ("kind", "groups"),
    [
        ("mean_squared_error", 1),
        ("huber", 1),
        ("cross_entropy", 1),
        ("binary_cross_entropy", 1),
        ("poisson", 1),
        ("negative_binomial", 1),
        ("negative_binomial", 3),
    ],
)
def test_losses(cuda: Any, dtype: str, kind: str, groups: int) -> None:
    from hotloops.nn import _numba

    job, changed = loss_job(kind, dtype, groups)
    there, _ = loss_job(kind, dtype, groups)
    fields = {
        name: cuda.asarray(value) if isinstance(value, np.ndarray) else value
        for name, value in vars(there).items()
    }
    if there.counts is not None:
        fields["counts"] = on_device(cuda, Batch([], [there.counts], [], 0)).sparse[0]
    device = LossJob(**fields)
    close(_cuda.evaluate_loss(device, 1), _numba.evaluate_loss(job, 1), dtype)
    for name in changed:
        close(fields[name], getattr(job, name), dtype)


def train_job(dtype: str, optimizer: nn.Adam) -> TrainJob:
    b = nn.ProgramBuilder()
    h = b.sparse_dense(0, columns=20, width=8, transform="log1p", bias=False, name="first")
    h = b.batch_norm(h, activation="elu", name="norm")
    y = b.dense(h, 20, name="last")
    theta = b.parameter("log_theta", (1, 20), init="zeros")
    network = nn.Network(b.finish([y]), dtype=dtype, seed=2)
    counts = sparse_counts(40, 20).astype(dtype)
    batch, _ = read_inputs("test", network.program, [counts], network.dtype)
    zeros = np.zeros_like(network.flat_parameters)
    losses = [Loss("negative_binomial", y, 0, log_theta=theta)]
    return TrainJob(
        network.program,
        losses,
        batch,
        8,
        0,
        np.full(12, 1e-2),
        optimizer.rule(network.program, 0.9),
        State(network.flat_parameters, zeros, zeros.copy(), zeros.copy()),
        network.flat_buffers,
        7,
        None,
        2,
        {},
    )


@both_types
@pytest.mark.parametrize("kind", [nn.Adam, nn.AdamW])
def test_training(cuda: Any, dtype: str, kind: Any) -> None:
    optimizer = kind(weight_decay=0.1, clip_norm=1.0, no_decay=("bias", "norm"))
    jobs = train_job(dtype, optimizer), train_job(dtype, optimizer)
    tables = on_device(cuda, jobs[1].tables)
    device = TrainJob(**{**vars(jobs[1]), "tables": tables})
    for found, expected in zip(_cuda.train(device), _cpp.train(jobs[0]), strict=True):
        close(found, expected, dtype)
    for name in ("parameters", "first_moment", "second_moment", "average"):
        found, expected = getattr(device.state, name), getattr(jobs[0].state, name)
        np.testing.assert_allclose(found, expected, atol=100 * TOLERANCE[dtype])
    close(device.buffers, jobs[0].buffers, dtype)


def test_failed_launch_is_an_error(cuda: Any) -> None:
    network = randomise(everything())
    batch, _ = read_inputs("test", network.program, inputs_of_everything(), network.dtype)
    cuda.shim.fail_next_launch(9)
    with pytest.raises(RuntimeError, match="CUDA error 9"):
        _cuda.Run(
            network.program,
            network.flat_parameters,
            network.flat_buffers,
            on_device(cuda, batch),
            False,
            0,
            0,
            1,
        )
