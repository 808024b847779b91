"""What promises class A has the same bits in C++ and Numba: all but products of matrices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse

from hotloops import nn
from tests.nn.networks import ACTIVATIONS, both_types, randomise, sparse_counts

BACKENDS = ("cpp", "numba")


def assert_same(found: list[Any]) -> None:
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            a, b = np.asarray(a), np.asarray(b)
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)
            np.testing.assert_array_equal(np.signbit(a), np.signbit(b))


def passes(network: nn.Network, inputs: list[Any], training: bool = False) -> list[Any]:
    """Return values, gradients and running statistics of each backend."""
    found = []
    for backend in BACKENDS:
        own = network.copy()
        y = own.forward(*inputs, training=training, step=9, backend=backend)
        weights = np.random.default_rng(1).normal(size=y.shape).astype(y.dtype)
        gradient = own.backward(weights)
        gradients = () if gradient is None else gradient
        gradients = gradients if isinstance(gradients, tuple) else (gradients,)
        found.append((y, *gradients, own.flat_gradients, own.flat_buffers))
    return found


@both_types
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(dtype: str, name: str) -> None:
    b = nn.ProgramBuilder()
    network = nn.Network(b.finish([b.activation(b.input(37), name)]), dtype=dtype)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 37)) * 10.0 ** rng.uniform(-6, 2.5, (300, 1))
    x[0, :6] = [0.0, -0.0, 1e30, -1e30, 80.5, -80.5]
    assert_same(passes(network, [x.astype(dtype)]))


@both_types
def test_batch_norm(dtype: str) -> None:
    b = nn.ProgramBuilder()
    y = b.batch_norm(b.input(37), activation="silu")
    network = randomise(nn.Network(b.finish([y]), dtype=dtype))
    x = np.random.default_rng(2).normal(3.0, 2.0, (65, 37)).astype(dtype)
    for training in (False, True):
        assert_same(passes(network, [x], training))


@both_types
def test_layer_norm(dtype: str) -> None:
    b = nn.ProgramBuilder()
    y = b.layer_norm(b.input(37), activation="gelu")
    network = randomise(nn.Network(b.finish([y]), dtype=dtype))
    x = np.random.default_rng(3).normal(3.0, 2.0, (70, 37)).astype(dtype)
    assert_same(passes(network, [x]))


@both_types
def test_dropout(dtype: str) -> None:
    b = nn.ProgramBuilder()
    y = b.dropout(b.dropout(b.input(45), 0.25), 0.5)
    network = nn.Network(b.finish([y]), dtype=dtype, seed=2**63 + 5)
    x = np.random.default_rng(4).normal(size=(19, 45)).astype(dtype)
    assert_same(passes(network, [x], training=True))


@both_types
def test_embeddings(dtype: str) -> None:
    b = nn.ProgramBuilder()
    t = b.time_embedding(b.input(1), 22, scale=1000.0)
    network = nn.Network(
        b.finish([b.embedding(0, num_rows=4, width=22, addend=t)]), dtype=dtype, seed=3
    )
    x = np.random.default_rng(5).uniform(size=(100, 1)).astype(dtype)
    assert_same(passes(network, [x, np.arange(100) % 5 - 1]))


@both_types
def test_losses(dtype: str) -> None:
    rng = np.random.default_rng(6)
    h, y = rng.normal(0.0, 2.0, (21, 43)).astype(dtype), rng.normal(size=(21, 43)).astype(dtype)
    counts = sparse_counts(21, 43).astype(dtype)
    bits = scipy.sparse.csr_array((rng.random((21, 43)) < 0.3).astype(dtype))
    labels, groups = rng.integers(0, 43, 21), rng.integers(0, 2, 21)
    log_theta = rng.normal(0.0, 3.0, (2, 43)).astype(dtype)
    calls = [
        lambda backend: nn.mean_squared_error(h, y, backend=backend),
        lambda backend: nn.huber(h, y, 0.7, backend=backend),
        lambda backend: nn.cross_entropy(h, labels, backend=backend),
        lambda backend: nn.binary_cross_entropy(h, bits, backend=backend),
        lambda backend: nn.binary_cross_entropy(h, bits.toarray(), backend=backend),
        lambda backend: nn.poisson_nll(h, counts, backend=backend),
        lambda backend: nn.negative_binomial_nll(h, counts, log_theta, groups, backend=backend),
    ]
    for call in calls:
        assert_same([call(backend) for backend in BACKENDS])
