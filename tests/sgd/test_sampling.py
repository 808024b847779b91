"""Which rows a run reads, seen through its iterates.

The problem is least squares with X = (1, ..., 1)^T and step size 1: every step lands on
the mean of the targets of its minibatch, so the iterates spell out the rows.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from hotloops import sgd
from tests.sgd import reference

Rows = npt.NDArray[np.int64]

# A step size of 1 is 1 / L on purpose, and there is no burn-in.
pytestmark = [
    pytest.mark.filterwarnings("ignore:run. the step size:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:run. burn_in:RuntimeWarning"),
]


def rows_of(num_rows: int, num_steps: int, num_chains: int, **options: Any) -> Rows:
    """Return the rows that minibatches of one row read, shape (steps, chains)."""
    sampling, dtype = options.pop("sampling", "iid"), options.pop("dtype", "float64")
    problem = sgd.LeastSquares(
        np.ones((num_rows, 1), dtype),
        np.arange(num_rows, dtype=dtype),
        sampling=sampling,
        divergence_limit=2.0**33,
    )
    run = sgd.run(
        problem,
        1.0,
        num_steps,
        num_chains=num_chains,
        burn_in=0,
        checkpoints=np.arange(1, num_steps + 1),
        statistics=["mean"],
        **options,
    )
    rows = run.checkpoint_last[:, :, 0, 0]
    assert (rows == np.round(rows)).all()
    assert rows.min() >= 0
    assert rows.max() < num_rows
    return rows.astype(np.int64)


def chi_square_p(counts: npt.NDArray[Any]) -> float:
    return float(stats.chisquare(counts.ravel()).pvalue)


@pytest.mark.parametrize("backend", ["cpp", "numba"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_iid_rows_follow_the_rule(backend: str, dtype: str) -> None:
    rows = rows_of(77, 9, 41, seed=3, chain_offset=12, backend=backend, dtype=dtype)
    expected = [reference.iid_rows(3, k, range(12, 53), 77, 1)[:, 0] for k in range(9)]
    np.testing.assert_array_equal(rows, expected)


@pytest.mark.parametrize("backend", ["cpp", "numba"])
@pytest.mark.parametrize("num_rows", [2**20, 2**20 + 1, 3 * 2**20 + 7])
def test_iid_rows_of_large_tables(backend: str, num_rows: int) -> None:
    """Above 2**20 rows the bias is rejected away; 4000 draws meet some rejections."""
    rows = rows_of(num_rows, 2, 2000, seed=5, backend=backend)
    expected = [reference.iid_rows(5, k, range(2000), num_rows, 1)[:, 0] for k in range(2)]
    np.testing.assert_array_equal(rows, expected)


def test_some_words_are_rejected() -> None:
    """The table of the test above is large enough for the rule to show."""
    num_rows = 3 * 2**20 + 7
    word = reference.words(5, np.arange(2)[:, None], np.arange(2000), 0, 5)[..., 0].astype(object)
    rejected = (word * num_rows % 2**32) < 2**32 % num_rows
    assert rejected.any()


@pytest.mark.parametrize("num_rows", [2, 3, 10, 569])
def test_iid_rows_are_uniform_and_independent(num_rows: int) -> None:
    """Chi-square tests that a right sampler fails for one seed in 10^4 each."""
    rows = rows_of(num_rows, 100, 2000, seed=1)
    assert chi_square_p(np.bincount(rows.ravel(), minlength=num_rows)) > 1e-4
    along_steps = rows[:-1] * num_rows + rows[1:]
    along_chains = rows[:, :-1] * num_rows + rows[:, 1:]
    if num_rows <= 10:
        for pairs in (along_steps, along_chains):
            disjoint = pairs[::2] if pairs is along_steps else pairs[:, ::2]
            assert chi_square_p(np.bincount(disjoint.ravel(), minlength=num_rows**2)) > 1e-4


def test_samples_of_a_minibatch_are_independent() -> None:
    """Pairs of rows in one batch of two, read off the sum of targets 1, 2, 4 and 8."""
    targets = 2.0 ** np.arange(4)
    problem = sgd.LeastSquares(np.ones((4, 1)), targets, batch_size=2)
    sums = []
    for seed in range(8):
        run = sgd.run(problem, 1.0, 1, burn_in=0, num_chains=5000, seed=seed)
        sums.append(2 * run.last[:, 0, 0])
    values, counts = np.unique(np.concatenate(sums), return_counts=True)
    pairs = {2.0 ** (i + 1): 1 for i in range(4)}
    pairs |= {2.0**i + 2.0**j: 2 for i, j in itertools.combinations(range(4), 2)}
    assert values.tolist() == sorted(pairs)
    expected = np.array([pairs[value] for value in values]) / 16 * counts.sum()
    assert stats.chisquare(counts, expected).pvalue > 1e-4


@pytest.mark.parametrize("backend", ["cpp", "numba"])
def test_sequential_rows(backend: str) -> None:
    rows = rows_of(7, 20, 3, sampling="sequential", backend=backend)
    np.testing.assert_array_equal(rows, np.broadcast_to(np.arange(20)[:, None] % 7, (20, 3)))
    late = rows_of(7, 5, 2, sampling="sequential", step_offset=12, backend=backend)
    np.testing.assert_array_equal(late[:, 0], (12 + np.arange(5)) % 7)


@pytest.mark.parametrize("backend", ["cpp", "numba"])
@pytest.mark.parametrize("num_rows", [1, 2, 3, 4, 5, 16, 17, 100, 129])
def test_every_epoch_is_a_permutation(backend: str, num_rows: int) -> None:
    epochs = 4
    rows = rows_of(num_rows, epochs * num_rows, 19, sampling="reshuffle", seed=2, backend=backend)
    rows = rows.reshape(epochs, num_rows, 19)
    whole = np.broadcast_to(np.arange(num_rows)[:, None], (num_rows, 19))
    for epoch in rows:
        np.testing.assert_array_equal(np.sort(epoch, axis=0), whole)
    if num_rows >= 16:
        chains = {tuple(epoch[:, chain]) for epoch in rows for chain in range(19)}
        assert len(chains) == epochs * 19, "epochs and chains have orders of their own"


def test_reshuffled_run_can_start_anywhere() -> None:
    rows = rows_of(10, 30, 5, sampling="reshuffle", seed=6)
    late = rows_of(10, 12, 3, sampling="reshuffle", seed=6, step_offset=15, chain_offset=2)
    np.testing.assert_array_equal(late, rows[15:27, 2:])


def test_minibatches_of_a_reshuffled_run_cross_epochs() -> None:
    """Batches of 4 of 10 rows: sample s of the stream is the same row as with batches of one."""
    single = rows_of(10, 40, 6, sampling="reshuffle", seed=9)
    targets = 10.0 ** np.arange(10)
    problem = sgd.LeastSquares(
        np.ones((10, 1)), targets, batch_size=4, sampling="reshuffle", divergence_limit=1e10
    )
    run = sgd.run(problem, 1.0, 10, burn_in=0, num_chains=6, seed=9, checkpoints=np.arange(1, 11))
    expected = targets[single].reshape(10, 4, 6).mean(axis=1)
    np.testing.assert_allclose(run.checkpoint_last[:, :, 0, 0], expected, rtol=1e-14)


def test_large_minibatches_of_a_reshuffled_run() -> None:
    """A batch of whole epochs has the mean of all targets, wherever its parts are cut."""
    targets = np.arange(7.0)
    for batch_size in (1022, 1029, 2051):
        problem = sgd.LeastSquares(
            np.ones((7, 1)), targets, batch_size=batch_size, sampling="reshuffle"
        )
        run = sgd.run(problem, 1.0, 4, burn_in=0, num_chains=9, checkpoints=range(1, 5))
        np.testing.assert_allclose(run.checkpoint_last, 3.0, rtol=1e-12)


@pytest.mark.parametrize("num_rows", [2, 3, 4])
def test_all_orders_are_equally_likely(num_rows: int) -> None:
    """A right shuffle would fail each of these chi-square tests for one seed in 10^4."""
    epochs = 3
    rows = rows_of(num_rows, epochs * num_rows, 100_000, sampling="reshuffle", seed=4)
    orders = rows.reshape(epochs, num_rows, -1).transpose(0, 2, 1)
    code = (orders * num_rows ** np.arange(num_rows)).sum(axis=2)
    ranks = {
        sum(row * num_rows**i for i, row in enumerate(order)): rank
        for rank, order in enumerate(itertools.permutations(range(num_rows)))
    }
    rank = np.vectorize(ranks.__getitem__)(code)
    for epoch in rank:
        assert chi_square_p(np.bincount(epoch, minlength=math.factorial(num_rows))) > 1e-4
    for first, second in itertools.pairwise(rank):
        pairs = first * math.factorial(num_rows) + second
        counts = np.bincount(pairs, minlength=math.factorial(num_rows) ** 2)
        assert chi_square_p(counts) > 1e-4, "epochs are independent"


@pytest.mark.parametrize("num_rows", [5, 6, 7, 8, 12, 16, 31, 64])
def test_neighbours_in_an_epoch_are_uniform(num_rows: int) -> None:
    """The first three rows of an epoch, by pairs; one seed in 10^4 would fail each test."""
    rows = rows_of(num_rows, 3, 100_000, sampling="reshuffle", seed=8)
    assert chi_square_p(np.bincount(rows[0], minlength=num_rows)) > 1e-4
    for first, second in itertools.combinations(rows, 2):
        shift = (second - first) % num_rows  # 1, ..., n - 1
        counts = np.bincount(first * num_rows + shift, minlength=num_rows**2)
        assert chi_square_p(counts.reshape(num_rows, num_rows)[:, 1:]) > 1e-4
