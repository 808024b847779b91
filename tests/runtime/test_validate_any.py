"""Any input at all: the checks return what they promise, or say what is wrong."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hotloops._runtime import validate

NUMPY_ARRAYS = st.one_of(
    hnp.scalar_dtypes(), hnp.complex_number_dtypes(), hnp.unicode_string_dtypes(), st.just("O")
).flatmap(lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0)))
NESTED_LISTS = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3)),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=8,
)


def attempt(check: Callable[..., Any], *args: Any, **keywords: Any) -> tuple[Any, str | None]:
    """Return what a check returns, or its message."""
    try:
        return check("f", "x", *args, **keywords), None
    except (TypeError, ValueError, OverflowError) as error:
        return None, str(error)


@settings(max_examples=100, deadline=None)
@given(
    value=st.one_of(NUMPY_ARRAYS, NESTED_LISTS),
    dtype=st.sampled_from([None, np.float32, np.float64, np.int64]),
    transpose=st.booleans(),
)
def test_arrays(value: Any, dtype: type | None, transpose: bool) -> None:
    if transpose and isinstance(value, np.ndarray):
        value = value.T
    result, message = attempt(validate.array, value, dtype=dtype)
    if message is not None:
        assert re.match(r"f: `x` must .*, got .+", message, re.DOTALL)
        return
    assert result.dtype == dtype if dtype is not None else result.dtype in (np.float32, np.float64)
    assert result.flags.c_contiguous
    assert result.flags.aligned
    assert result.dtype.isnative
    assert result.size > 0
    assert np.isfinite(result).all()
    expected = np.asarray(value)
    if expected.dtype.kind in "iu":
        assert [int(item) for item in result.ravel()] == [int(item) for item in expected.ravel()]
    else:
        assert np.array_equal(result, expected.astype(result.dtype))


@given(value=st.one_of(st.integers(), st.floats(), st.text(), st.none(), st.booleans()))
def test_numbers(value: Any) -> None:
    number, message = attempt(validate.integer, value, low=-5, high=2**64 - 1)
    if message is None:
        assert number == value
        assert -5 <= number < 2**64
    else:
        assert message.startswith("f: `x` must be an integer in [-5, 18446744073709551615], got ")
    number, message = attempt(validate.real, value, low=0)
    if message is None:
        assert number == float(value)
        assert number >= 0
    else:
        assert message.startswith("f: `x` must be a finite number >= 0, got ")
