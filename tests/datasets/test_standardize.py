"""Scaling of columns."""

import numpy as np
import pytest

from hotloops import datasets


def test_columns_have_mean_zero_and_variance_one():
    scaled = datasets.standardize(datasets.load_breast_cancer().X)
    np.testing.assert_allclose(scaled.mean(axis=0), 0.0, atol=1e-13)
    np.testing.assert_allclose(scaled.std(axis=0), 1.0, rtol=1e-13)


def test_known_values_and_intercept():
    scaled = datasets.standardize([[1, 10], [2, 10], [3, 10]], intercept=True)
    root = np.sqrt(1.5)
    np.testing.assert_allclose(scaled, [[-root, 0, 1], [0, 0, 1], [root, 0, 1]], rtol=1e-15)


def test_a_constant_column_is_exactly_zero():
    # The mean of 0.1 over 7 rows is not 0.1 in floating point.
    column = np.full((7, 1), 0.1)
    assert (datasets.standardize(column) == 0.0).all()


def test_input_is_left_alone_and_dtype_is_honoured():
    table = np.arange(6.0).reshape(3, 2)
    table.flags.writeable = False
    scaled = datasets.standardize(table, dtype="float32")
    assert scaled.dtype == np.float32
    assert table.tolist() == [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]


@pytest.mark.parametrize(
    ("table", "keywords", "error", "word"),
    [
        ([1.0, 2.0], {}, ValueError, "`X`"),
        (np.zeros((0, 3)), {}, ValueError, "`X`"),
        ([[1.0, np.nan]], {}, ValueError, "`X`"),
        ([["a", "b"]], {}, TypeError, "`X`"),
        ([[1.0]], {"intercept": 1}, TypeError, "`intercept`"),
        ([[1.0]], {"dtype": "int8"}, TypeError, "`dtype`"),
    ],
)
def test_bad_input(table, keywords, error, word):
    with pytest.raises(error, match=f"standardize: {word}"):
        datasets.standardize(table, **keywords)
