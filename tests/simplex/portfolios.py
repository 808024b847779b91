"""Real returns that several test modules share."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from hotloops import datasets, simplex


@functools.cache
def table() -> Any:
    return datasets.load_sp500()


@functools.cache
def percent_returns(last: int | None = 2520) -> Any:
    found = table().returns(last, percent=True)
    found.flags.writeable = False
    return found


def assets(*names: str, last: int = 2520) -> Any:
    """Percent returns of some of the assets."""
    columns = [table().assets.index(name) for name in names]
    return np.ascontiguousarray(percent_returns(last)[:, columns])


def crra(xi: float = 10.0, **settings: Any) -> simplex.PortfolioMoments:
    """All twenty assets under CRRA preferences, in percent."""
    preferences = simplex.crra_preferences(xi, percent=True)
    return simplex.PortfolioMoments(
        percent_returns(), preferences, names=table().assets, **settings
    )
