"""The price table: its facts, its returns, and bad arguments."""

import numpy as np
import pytest

from hotloops import datasets


def test_facts():
    table = datasets.load_sp500()
    assert table.prices.shape == (8313, 20)
    assert table.prices.dtype == np.float64
    assert table.prices.min() > 0
    assert len(set(table.assets)) == 20
    assert (table.assets[0], table.assets[-1]) == ("AAPL", "XOM")
    assert table.dates.dtype == np.dtype("datetime64[D]")
    assert (np.diff(table.dates) > np.timedelta64(0)).all()
    assert [str(table.dates[0]), str(table.dates[-1])] == ["1990-01-02", "2022-12-28"]
    assert table.prices[0, :3].tolist() == [0.264, 4.125, 4.599]
    assert "sp500_20" in repr(table)
    assert "8313 days" in repr(table)


def test_moments_of_the_equally_weighted_portfolio():
    """Known answers, computed from the prices apart from this package."""
    returns = datasets.load_sp500().returns(2520, percent=True)
    portfolio = returns @ np.full(20, 1 / 20)
    centred = portfolio - portfolio.mean()
    found = [portfolio.mean(), *(np.mean(centred**k) for k in (2, 3, 4))]
    expected = [0.072232076161, 1.207552529889, -0.045400243157, 28.907466104478]
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_returns_undo_to_prices():
    table = datasets.load_sp500()
    returns = table.returns()
    assert returns.shape == (8312, 20)
    grown = table.prices[0] * np.cumprod(1.0 + returns, axis=0)
    np.testing.assert_allclose(grown, table.prices[1:], rtol=1e-10)
    np.testing.assert_array_equal(table.returns(5), returns[-5:])
    np.testing.assert_array_equal(table.returns(percent=True), 100.0 * returns)


def test_precision():
    table = datasets.load_sp500(dtype="float32")
    assert table.prices.dtype == np.float32
    assert table.returns(10, percent=True).dtype == np.float32


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"last": 0}, ValueError, ("returns", "`last`", "0")),
        ({"last": 8313}, ValueError, ("returns", "`last`", "8312")),
        ({"last": 2.0}, TypeError, ("returns", "`last`")),
        ({"percent": 1}, TypeError, ("returns", "`percent`")),
    ],
)
def test_bad_arguments_of_returns(arguments, error, words):
    with pytest.raises(error) as caught:
        datasets.load_sp500().returns(**arguments)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("bad", ["float16", "int64", None])
def test_bad_dtype(bad):
    with pytest.raises(TypeError, match="load_sp500: `dtype`"):
        datasets.load_sp500(dtype=bad)
