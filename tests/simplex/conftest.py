"""Fixtures of the simplex tests."""

from __future__ import annotations

import pytest


@pytest.fixture(params=["cpp", "numba"])
def engine(request: pytest.FixtureRequest) -> str:
    """Each backend that this family has."""
    return str(request.param)


@pytest.fixture(params=["float32", "float64"])
def precision(request: pytest.FixtureRequest) -> str:
    """Each precision."""
    return str(request.param)
