"""Daily prices of twenty stocks of the S&P 500."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops._runtime import validate
from hotloops.datasets._dataset import read_arrays

_SOURCE = "the example table `load_sp500_dataset` of skfolio 1.12.2"
_LICENCE = "BSD-3-Clause (skfolio)"
_CITATION = (
    "C. Nicolini, M. Manzi, H. Delatte (2025). skfolio: portfolio optimization in Python. "
    "arXiv:2507.04176. https://github.com/skfolio/skfolio"
)
_DESCRIPTION = (
    "Closing prices, adjusted for splits and dividends, of 20 stocks of the S&P 500 on 8,313 "
    "trading days. Twenty firms that are still there today: good for examples and tests, not for "
    "conclusions about investing."
)


@dataclass(frozen=True, eq=False)
class PriceTable:
    """Prices of assets over time, with their papers.

    Attributes
    ----------
    name : str
        Short name, for instance ``"sp500_20"``.
    prices : numpy.ndarray
        Shape (days, assets), no missing values.
    dates : numpy.ndarray
        The day of each row, shape (days,), datetime64[D], increasing.
    assets : tuple of str
        The ticker of each column.
    source : str
        Where the table comes from.
    licence : str
        The terms under which it is passed on.
    citation : str
        What to cite when you use it.
    description : str
        What a row is and what the columns hold.
    """

    name: str
    prices: npt.NDArray[Any]
    dates: npt.NDArray[np.datetime64]
    assets: tuple[str, ...]
    source: str
    licence: str
    citation: str
    description: str

    def __repr__(self) -> str:
        n, d = self.prices.shape
        return (
            f"PriceTable({self.name!r}: {n} days, {d} assets, {self.dates[0]} to "
            f"{self.dates[-1]}, {self.prices.dtype}, {self.licence})"
        )

    def returns(self, last: int | None = None, *, percent: bool = False) -> npt.NDArray[Any]:
        """Return simple returns from each day to the next.

        Parameters
        ----------
        last : int, optional
            Only the last so many rows. Default: all.
        percent : bool, default False
            Multiply by 100. Higher moments of daily returns are then numbers of a handy size.

        Returns
        -------
        numpy.ndarray, shape (days - 1, assets) or (last, assets)
        """
        as_percent = validate.boolean("returns", "percent", percent)
        changes: npt.NDArray[Any] = self.prices[1:] / self.prices[:-1] - 1.0
        if last is not None:
            count = validate.integer("returns", "last", last, low=1, high=len(changes))
            changes = changes[-count:]
        return 100.0 * changes if as_percent else changes


def load_sp500(*, dtype: npt.DTypeLike = np.float64) -> PriceTable:
    """Load daily prices of 20 stocks of the S&P 500, from 1990 to 2022.

    Parameters
    ----------
    dtype : {"float64", "float32"}, default "float64"
        Type of `prices`.

    Returns
    -------
    PriceTable
        `prices` of shape (8313, 20).

    Examples
    --------
    >>> from hotloops import datasets
    >>> table = datasets.load_sp500()
    >>> table.assets[:3], table.returns(2520, percent=True).shape
    (('AAPL', 'AMD', 'BAC'), (2520, 20))
    """
    target = validate.float_dtype("load_sp500", "dtype", dtype)
    arrays = read_arrays("sp500_20.npz")
    return PriceTable(
        name="sp500_20",
        prices=arrays["prices"].astype(target),
        dates=arrays["dates"].astype("datetime64[D]"),
        assets=tuple(str(ticker) for ticker in arrays["tickers"]),
        source=_SOURCE,
        licence=_LICENCE,
        citation=_CITATION,
        description=_DESCRIPTION,
    )
