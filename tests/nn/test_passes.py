"""Passes one after the other and side by side: same bits, memory that is used again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from hotloops import nn
from tests.nn.networks import Array, both


@both
def test_many_rows_have_the_same_bits_over_threads(backend: str) -> None:
    """Sizes at which products are shared, and the tiles of the last rows and columns are cut."""
    network = nn.MLP([300, 600, 40], "relu", seed=1)
    x = np.random.default_rng(0).normal(size=(1100, 300)).astype(np.float32)
    found = []
    for count in (1, 2, 3):
        out = network.forward(x, backend=backend, num_threads=count)
        by_x = network.backward(np.cos(out))
        found.append((out, by_x, network.flat_gradients.copy()))
    for arrays in found[1:]:
        for array, first in zip(arrays, found[0], strict=True):
            np.testing.assert_array_equal(array, first)
    state = network.state_dict()
    hidden = np.maximum(x @ state["0.weight"].T + state["0.bias"], 0)
    expected = hidden @ state["2.weight"].T + state["2.bias"]
    np.testing.assert_allclose(found[0][0], expected, rtol=1e-4, atol=1e-5)


@both
def test_a_pass_leaves_nothing_to_the_next(backend: str) -> None:
    """Passes use the memory of those before, but neither their inputs nor their gradients."""
    network = nn.MLP([3, 8, 2], "silu", dtype="float64", seed=1)
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 5, 3))
    gradient = rng.normal(size=(5, 2))

    def both_ways(on: nn.Network, x: Array) -> list[Array]:
        out = on.forward(x, backend=backend)
        return [out, on.backward(gradient), on.flat_gradients.copy()]

    expected = both_ways(network.copy(), second)
    both_ways(network, first)
    kept = first.copy()
    again = both_ways(network, second)
    for found, wanted in zip(again, expected, strict=True):
        np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(network.backward(gradient), expected[1])
    np.testing.assert_array_equal(first, kept)


@both
def test_backward_of_rejected_gradients_can_be_repeated(backend: str) -> None:
    network = nn.MLP([3, 2], seed=1)
    network.forward(np.ones((4, 3), np.float32), backend=backend)
    with pytest.raises(ValueError, match="gradient"):
        network.backward(np.ones((5, 2), np.float32))
    assert network.backward(np.ones((4, 2), np.float32)).shape == (4, 3)


def test_forward_from_several_threads() -> None:
    """Calls at one time share no memory."""
    network = nn.MLP([4, 32, 3], "tanh", seed=1)
    inputs = np.random.default_rng(0).normal(size=(8, 50, 4)).astype(np.float32)
    expected = [network.copy().forward(x) for x in inputs]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(20):
            for found, wanted in zip(pool.map(network.forward, inputs), expected, strict=True):
                np.testing.assert_array_equal(found, wanted)
