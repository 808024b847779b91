"""Fixtures of the admm tests."""

from __future__ import annotations

import pytest


@pytest.fixture(params=["cpp", "numba"])
def engine(request: pytest.FixtureRequest) -> str:
    """Each backend that this family has."""
    return str(request.param)
