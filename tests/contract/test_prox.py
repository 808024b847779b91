"""Kernels of prox take the arrays of the case list and write `out` alone; rows know no others."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest

from tests.contract import cases, prox_cases

every_case = pytest.mark.parametrize(
    ("case", "dtype"),
    [
        pytest.param(case, dtype, id=f"{case}-{dtype}")
        for case in cases.PROX
        for dtype in case.dtypes
    ],
)


@every_case
@pytest.mark.parametrize("backend", ["cpp", "numba"])
def test_roles_of_arguments(
    case: cases.Case, dtype: str, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator, v, _ = case.make(dtype)
    module = importlib.import_module(f"hotloops.prox._{backend}")
    kernel = getattr(module, case.kernel)
    calls = []

    def spy(*given: Any, **keywords: Any) -> Any:
        arrays = [value for value in given if isinstance(value, np.ndarray)]
        before = [array.tobytes() for array in arrays]
        returned = kernel(*given, **keywords)
        calls.append([(array, old) for array, old in zip(arrays, before, strict=True)])
        return returned

    monkeypatch.setattr(module, case.kernel, spy)
    for step in prox_cases.STEPS:
        out = np.full_like(v, np.nan)
        operator(prox_cases.COLUMNS)(v, step, out, backend=backend)
        assert np.isfinite(out).all()
    assert len(calls) == len(prox_cases.STEPS)
    for call in calls:
        sizes: dict[Any, int] = {"R": prox_cases.ROWS, "n": prox_cases.COLUMNS}
        for argument, (array, before) in zip(case.arguments, call, strict=True):
            assert array.dtype == (dtype if argument.dtype == "T" else argument.dtype)
            for symbol, length in zip(argument.shape, array.shape, strict=True):
                name = str(symbol).removeprefix("1 or ")
                if length != 1 or name == symbol:
                    assert sizes.setdefault(name, length) == length, argument.name
            assert argument.role == "out" or array.tobytes() == before, argument.name


@every_case
@pytest.mark.parametrize("backend", ["cpp", "numba"])
def test_rows_alone_and_in_a_batch(case: cases.Case, dtype: str, backend: str) -> None:
    operator, v, _ = case.make(dtype)
    function, steps = operator(prox_cases.COLUMNS), prox_cases.STEPS[1]
    whole = function(v, steps, backend=backend)
    for row in range(prox_cases.ROWS):
        alone = function(v[row], steps[row], backend=backend)
        np.testing.assert_array_equal(alone, whole[row], strict=True)
    for begin, end in ((0, 2), (1, 5), (3, 4)):
        part = function(v[begin:end], steps[begin:end], backend=backend)
        np.testing.assert_array_equal(part, whole[begin:end], strict=True)
    assert function(v, steps, out=v, backend=backend) is v
    np.testing.assert_array_equal(v, whole, strict=True)
