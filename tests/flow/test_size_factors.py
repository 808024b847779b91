"""Size factors: moments of each category, draws that are addressed by row, bad arguments."""

from __future__ import annotations

import numpy as np
import pytest

from hotloops import datasets, random
from hotloops.flow import SizeFactorModel

LOGS = np.array([1.0, 2.0, 4.0, 3.0, 5.0, 2.5])
NAMES = ["a", "a", "a", "b", "b", "c"]


@pytest.fixture
def model():
    return SizeFactorModel().fit(np.exp(LOGS), NAMES)


def test_moments_of_each_category(model):
    assert model.categories_ == ("a", "b", "c")
    np.testing.assert_allclose(model.mean_[:, 0], [7 / 3, 4.0, 2.5])
    deviations = [np.std([1.0, 2.0, 4.0], ddof=1), np.sqrt(2.0)]
    pooled = np.sqrt((2 * deviations[0] ** 2 + deviations[1] ** 2) / 3)
    np.testing.assert_allclose(model.sd_[:, 0], [*deviations, pooled])
    np.testing.assert_allclose(model.frequency_, [3 / 6, 2 / 6, 1 / 6])
    np.testing.assert_allclose([model.minimum_[0], model.maximum_[0]], [1.0, 5.0])


def test_known_cells():
    cells = datasets.load_pbmc68k_reduced()
    model = SizeFactorModel().fit(cells.counts.sum(axis=1))
    np.testing.assert_allclose([model.mean_[0, 0], model.sd_[0, 0]], [6.49714, 0.30186], atol=5e-6)
    assert model.categories_ == ("all",)


def test_one_cell_in_each_category_takes_the_spread_over_all():
    model = SizeFactorModel().fit(np.exp([1.0, 2.0]), ["a", "b"])
    np.testing.assert_allclose(model.sd_[:, 0], np.std([1.0, 2.0], ddof=1))
    assert SizeFactorModel().fit([7.0]).sample(4, seed=0) == pytest.approx(7.0)


@pytest.mark.parametrize("category", [0, 1, 2])
def test_draws_have_the_moments(model, category):
    n = 1 << 16
    logs = np.log(model.sample(n, category, seed=3))
    sd = model.sd_[category, 0]
    assert abs(logs.mean() - model.mean_[category, 0]) < 4.5 * sd / np.sqrt(n)
    assert abs(logs.std(ddof=1) - sd) < 4.5 * sd / np.sqrt(2 * n)


@pytest.mark.parametrize("how", ["frequency", "uniform"])
def test_drawn_categories(model, how):
    n = 1 << 16
    shares = model.frequency_ if how == "frequency" else np.full(3, 1 / 3)
    codes = model.draw_categories(n, seed=5, categories=how)
    found = np.bincount(codes, minlength=3) / n
    assert (np.abs(found - shares) < 4.5 * np.sqrt(shares * (1 - shares) / n)).all()
    drawn = model.sample(n, seed=5, categories=how)
    np.testing.assert_array_equal(drawn, model.sample(n, codes, seed=5))


def test_draws_are_those_of_the_stream(model):
    normals = random.normals(9, [0], 5, 1, 9)[0, :, 0]
    np.testing.assert_array_equal(
        model.sample(5, "b", seed=9), np.exp(model.mean_[1, 0] + model.sd_[1, 0] * normals)
    )


def test_a_row_alone_is_the_row_of_a_batch(model):
    together = model.sample(10, seed=2)
    apart = [model.sample(1, seed=2, first_row=row)[0] for row in range(10)]
    np.testing.assert_array_equal(together, apart)
    np.testing.assert_array_equal(together[4:], model.sample(6, seed=2, first_row=4))


def test_names_and_codes(model):
    expected = model.sample(3, ["b", "a", "c"], seed=1)
    np.testing.assert_array_equal(expected, model.sample(3, [1, 0, 2], seed=1))
    np.testing.assert_array_equal(expected, model.sample(3, np.array([1, 0, 2]), seed=1))


def test_a_name_that_looks_like_a_code_is_a_name():
    model = SizeFactorModel().fit(np.exp([1.0, 1.0, 9.0, 9.0]), [1, 1, 2, 2])
    assert model.categories_ == ("1", "2")
    assert model.sample(1, 1, seed=0) == pytest.approx(np.exp(1.0))
    assert model.sample(1, "2", seed=0) == pytest.approx(np.exp(9.0))
    assert model.sample(1, 0, seed=0) == pytest.approx(np.exp(1.0))


def test_two_modalities():
    logs = np.column_stack([LOGS, 10.0 + 0.5 * LOGS])
    model = SizeFactorModel().fit(np.exp(logs), NAMES)
    one = SizeFactorModel().fit(np.exp(LOGS), NAMES)
    drawn = model.sample(4, "a", seed=8)
    assert drawn.shape == (4, 2)
    np.testing.assert_array_equal(drawn[:, 0], one.sample(4, "a", seed=8))
    normals = random.normals(8, [0], 4, 2, 9)[0]
    np.testing.assert_allclose(np.log(drawn), model.mean_[0] + model.sd_[0] * normals)


def test_save_and_load(model, tmp_path):
    model.save(tmp_path / "model.npz")
    again = SizeFactorModel.load(tmp_path / "model.npz")
    np.testing.assert_array_equal(again.sample(7, seed=4), model.sample(7, seed=4))
    assert again.categories_ == model.categories_
    np.testing.assert_array_equal(again.maximum_, model.maximum_)


@pytest.mark.parametrize(
    ("totals", "labels", "error", "message"),
    [
        ([1.0, 0.0], None, ValueError, "SizeFactorModel.fit: `totals` must be positive, got 0.0"),
        ([1.0, np.nan], None, ValueError, "`totals` must be finite, got nan at index (1,)"),
        ([], None, ValueError, "`totals` must not be empty"),
        ([1.0, 2.0], ["a"], ValueError, "`labels` must be one label for each of 2 cells, got 1"),
        ([1.0, 2.0], ["a", None], ValueError, "must have no missing labels, got None in row 1"),
        ([1.0, 2.0], [np.nan, 1.0], ValueError, "must have no missing labels, got nan in row 0"),
        ([1.0, 2.0], ["1", 1], ValueError, "must have categories with different names, got '1' an"),
        ([1.0, 2.0], "ab", ValueError, "`labels` must be one label for each of 2 cells, got 'ab'"),
    ],
)
def test_bad_arguments_of_fit(totals, labels, error, message):
    with pytest.raises(error) as caught:
        SizeFactorModel().fit(totals, labels)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"n": 0}, ValueError, "SizeFactorModel.sample: `n` must be an integer >= 1, got 0"),
        (
            {"category": "d"},
            ValueError,
            "must be a category of the training cells, one of 'a', 'b'",
        ),
        ({"category": 3}, ValueError, "must be a category of the training cells"),
        ({"category": True}, ValueError, "must be a category of the training cells"),
        ({"category": ["a"]}, ValueError, "must be one label for each of 2 cells, got 1 labels"),
        ({"seed": -1}, ValueError, "`seed` must be an integer in"),
        ({"first_row": -1}, ValueError, "`first_row` must be an integer >= 0, got -1"),
        ({"categories": "equal"}, ValueError, "`categories` must be one of 'frequency', 'uniform'"),
    ],
)
def test_bad_arguments_of_sample(model, arguments, error, message):
    with pytest.raises(error) as caught:
        model.sample(**{"n": 2, "seed": 0, **arguments})
    assert message in str(caught.value)


def test_unfitted():
    with pytest.raises(ValueError, match=r"SizeFactorModel\.sample: the model must be fitted"):
        SizeFactorModel().sample(1, seed=0)
