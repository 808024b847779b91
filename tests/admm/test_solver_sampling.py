"""Mini-batches: uniform with replacement, permutations by epochs, and who takes part."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hotloops import admm, random
from hotloops.admm._cpp import Driver
from hotloops.admm._data import gather_clients
from hotloops.admm._engine import draw_active
from hotloops.admm._losses import as_loss
from hotloops.admm._work import Batch, Work


class Counter:
    """Says how often each row was drawn: rows are unit vectors, and the slope at 0 is -1."""

    def __init__(self, sizes: list[int], batch_size: int) -> None:
        self.sizes, self.batch_size = sizes, batch_size
        rows = sum(sizes)
        parts = np.split(np.arange(rows), np.cumsum(sizes)[:-1])
        self.data = gather_clients(
            "solve", as_loss("solve", "squares"), np.eye(rows), np.ones(rows), parts
        )
        self.driver = Driver(self.data, 1)
        self.work = Work.prepare(self.data, batch_size)
        self.parts = parts

    def __call__(self, round_: int, sampling: int, seed: int = 0) -> list[Any]:
        batch = Batch(sampling, self.batch_size, seed, round_)
        self.driver.gradient(self.work, batch, np.zeros(self.data.dim), partials=self.work.partials)
        sums = -self.work.partials
        clients = self.work.tasks[:, 0]
        return [sums[clients == k].sum(0)[part] for k, part in enumerate(self.parts)]


def test_draws_with_replacement_are_uniform() -> None:
    counter = Counter([100], 10_000)
    total = sum(counter(r, 1, seed=11)[0] for r in range(100))
    assert total.sum() == 1e6
    assert ((total - 1e4) ** 2 / 1e4).sum() < 149.4  # 99.9 % of chi-squared with 99 dof
    assert total.min() > 0


def test_draws_are_those_of_philox() -> None:
    size, seed = 7, 0x0123456789ABCDEF
    counter = Counter([3, 5], size)
    counts = counter(9, 1, seed)
    for client, rows in enumerate((3, 5)):
        expected = np.zeros(rows)
        for block in range(2):
            words = random.philox(
                np.array([9, 5 << 16, client, block], np.uint32),
                np.array([seed & 0xFFFFFFFF, seed >> 32], np.uint32),
            )
            for word in words[: size - 4 * block]:
                expected[(int(word) * rows) >> 32] += 1
        np.testing.assert_array_equal(counts[client], expected)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 9, 31, 64, 100])
def test_epochs_are_permutations(size: int) -> None:
    counter = Counter([size], 1)
    orders = []
    for epoch in range(3):
        order = [int(counter(epoch * size + k, 2)[0].argmax()) for k in range(size)]
        assert sorted(order) == list(range(size))
        orders.append(tuple(order))
    if size > 8:
        assert len(set(orders)) == 3
        assert tuple(range(size)) not in orders


def test_batches_that_cross_epochs_use_every_row_once() -> None:
    counter = Counter([10, 7], 3)
    total = [np.zeros(10), np.zeros(7)]
    for r in range(70):
        for sums, part in zip(total, counter(r, 2), strict=True):
            sums += part
    np.testing.assert_array_equal(total[0], 21.0)
    np.testing.assert_array_equal(total[1], 30.0)


def test_first_rows_of_epochs_are_uniform() -> None:
    counter = Counter([16], 1)
    firsts = np.array([int(counter(16 * epoch, 2)[0].argmax()) for epoch in range(4000)])
    counts = np.bincount(firsts, minlength=16)
    assert ((counts - 250.0) ** 2 / 250.0).sum() < 37.7  # 99.9 % with 15 dof


def test_participants_are_drawn_without_favour() -> None:
    total = np.zeros(10)
    for r in range(2000):
        active = draw_active(3, r, 10, 3)
        assert active is not None
        assert active.sum() == 3
        total += active
    assert np.abs(total - 600.0).max() < 4 * (2000 * 0.3 * 0.7) ** 0.5
    assert draw_active(3, 0, 10, 10) is None


def test_mini_batch_gradients_are_unbiased_under_weights() -> None:
    rng = np.random.default_rng(0)
    X, y, weights = rng.standard_normal((30, 2)), rng.standard_normal(30), rng.uniform(0, 3, 30)
    full = np.average((X.T * -y).T, axis=0, weights=weights)
    data = gather_clients(
        "solve", as_loss("solve", "squares"), X, y, [np.arange(30)], sample_weight=weights
    )
    driver, work = Driver(data, 1), Work.prepare(data, 200_000)
    driver.gradient(work, Batch(1, 200_000, 1, 0), np.zeros(2), partials=work.partials)
    spread = np.abs(X * y[:, None] * (weights / weights.mean())[:, None]).std(axis=0)
    error = np.abs(work.client_gradients(1)[0] - full)
    assert (error < 4 * spread / 200_000**0.5 + 1e-12).all()


def test_rounds_draw_anew() -> None:
    X, y = np.eye(6), np.arange(6.0)
    fits = [
        admm.solve(
            "squares", X, y, clients=np.arange(6) % 2, batch_size=1, rho=1.0, num_rounds=3, seed=s
        )
        for s in (0, 0, 1)
    ]
    np.testing.assert_array_equal(fits[0].w, fits[1].w)
    assert (fits[0].w != fits[2].w).any()
