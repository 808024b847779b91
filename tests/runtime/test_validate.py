"""Every check, and the whole of every message."""

from __future__ import annotations

import fractions
import re
from typing import Any

import numpy as np
import pytest

from hotloops._runtime import validate


def raises(kind: type[Exception], message: str) -> Any:
    return pytest.raises(kind, match="^" + re.escape(message) + "$")


class Indexable:
    def __index__(self) -> int:
        return 7


@pytest.mark.parametrize(
    "value", [7, np.int8(7), np.uint64(7), np.array(7), Indexable()], ids=lambda v: type(v).__name__
)
def test_integer_accepts(value: object) -> None:
    number = validate.integer("f", "n", value, low=7, high=7)
    assert number == 7
    assert type(number) is int


@pytest.mark.parametrize(
    ("value", "got"),
    [
        (True, "True"),
        (np.bool_(False), "False"),
        (3.0, "3.0"),
        (np.float64(3), "3.0"),
        ("3", "'3'"),
        (None, "None"),
        ([3], "a list of length 1"),
        (np.array([3]), "a numpy.ndarray of shape (1,) and dtype int64"),
        (3 + 0j, "(3+0j)"),
        (object(), "an object"),
    ],
)
def test_integer_type(value: object, got: str) -> None:
    with raises(TypeError, f"run: `num_steps` must be an integer >= 1, got {got}"):
        validate.integer("run", "num_steps", value, low=1)


@pytest.mark.parametrize(
    ("value", "low", "high", "expectation"),
    [
        (0, 1, None, ">= 1"),
        (-(2**80), 1, None, ">= 1"),
        (9, None, 8, "<= 8"),
        (-1, 0, 8, "in [0, 8]"),
        (9, 0, 8, "in [0, 8]"),
    ],
)
def test_integer_range(value: int, low: int | None, high: int | None, expectation: str) -> None:
    with raises(ValueError, f"run: `n` must be an integer {expectation}, got {value}"):
        validate.integer("run", "n", value, low=low, high=high)


@pytest.mark.parametrize(
    ("value", "low", "high", "message"),
    [
        (2**63, None, None, "be an integer of at most 64 bits, got 9223372036854775808"),
        (2**63, 0, None, "be an integer >= 0 of at most 64 bits, got 9223372036854775808"),
        (-(2**63) - 1, None, None, "be an integer of at most 64 bits, got -9223372036854775809"),
        (2**64, 0, 2**32, "be an integer in [0, 4294967296], got 18446744073709551616"),
        (10**5000, 0, 8, "be an integer in [0, 8], got an integer of 16610 bits"),
        (2**64, 0, 2**64 - 1, f"be an integer in [0, {2**64 - 1}], got {2**64}"),
    ],
    ids=["int64", "low", "negative", "high", "digits", "uint64"],
)
def test_integer_overflow(value: int, low: int | None, high: int | None, message: str) -> None:
    with raises(OverflowError, f"run: `n` must {message}"):
        validate.integer("run", "n", value, low=low, high=high)


def test_integer_extremes() -> None:
    assert validate.integer("f", "n", 2**63 - 1) == 2**63 - 1
    assert validate.integer("f", "n", -(2**63)) == -(2**63)
    assert validate.integer("f", "seed", 2**64 - 1, low=0, high=2**64 - 1) == 2**64 - 1


@pytest.mark.parametrize(
    "value",
    [0.5, np.float32(0.5), np.array(0.5), fractions.Fraction(1, 2)],
    ids=lambda v: type(v).__name__,
)
def test_real_accepts(value: object) -> None:
    number = validate.real("f", "x", value, low=0.0, high=0.5, open_low=True)
    assert number == 0.5
    assert type(number) is float


@pytest.mark.parametrize("value", [1, np.uint8(1), 0])
def test_real_accepts_integers(value: object) -> None:
    assert validate.real("f", "x", value, low=0) == value


@pytest.mark.parametrize(
    ("value", "got"),
    [
        (True, "True"),
        (np.array(True), "True"),
        ("0.5", "'0.5'"),
        (None, "None"),
        (1j, "1j"),
        ([0.5], "a list of length 1"),
        (np.array([0.5]), "a numpy.ndarray of shape (1,) and dtype float64"),
    ],
    ids=repr,
)
def test_real_type(value: object, got: str) -> None:
    with raises(TypeError, f"run: `l2` must be a finite number >= 0, got {got}"):
        validate.real("run", "l2", value, low=0)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_real_not_finite(value: float) -> None:
    with raises(ValueError, f"run: `l2` must be a finite number, got {value}"):
        validate.real("run", "l2", value)


def test_real_range() -> None:
    with raises(ValueError, "run: `a` must be a finite number > 0.0, got 0.0"):
        validate.real("run", "a", 0.0, low=0.0, open_low=True)
    with raises(ValueError, "run: `a` must be a finite number in [0, 1], got 1.5"):
        validate.real("run", "a", 1.5, low=0, high=1)
    with raises(ValueError, "run: `a` must be a finite number in (0, 1], got 0"):
        validate.real("run", "a", 0, low=0, high=1, open_low=True)
    with raises(ValueError, "run: `a` must be a finite number <= 1, got 2"):
        validate.real("run", "a", 2, high=1)
    with raises(OverflowError, "run: `a` must be a finite number, got an integer of 3322 bits"):
        validate.real("run", "a", 10**1000)


def test_choice() -> None:
    assert validate.choice("f", "sampling", "iid", ("iid", "reshuffle")) == "iid"
    with raises(ValueError, "f: `sampling` must be one of 'iid', 'reshuffle', got 'iiid'"):
        validate.choice("f", "sampling", "iiid", ("iid", "reshuffle"))
    with raises(TypeError, "f: `sampling` must be one of 'iid', 'reshuffle', got None"):
        validate.choice("f", "sampling", None, ("iid", "reshuffle"))
    long = "x" * 100
    with raises(ValueError, f"f: `s` must be one of 'a', got 'xxx{'x' * 53}..."):
        validate.choice("f", "s", long, ("a",))


def test_boolean() -> None:
    assert validate.boolean("f", "progress", np.True_) is True
    assert validate.boolean("f", "progress", False) is False
    with raises(TypeError, "f: `progress` must be True or False, got 1"):
        validate.boolean("f", "progress", 1)


@pytest.mark.parametrize("value", ["float32", "f4", np.float32, np.dtype("f4"), "single"])
def test_float_dtype(value: object) -> None:
    assert validate.float_dtype("f", "dtype", value) == np.float32


@pytest.mark.parametrize(
    ("value", "got"),
    [
        ("float16", "float16"),
        (int, "int64"),
        (None, "None"),
        ("double precision", "'double precision'"),
        (np.longdouble, str(np.dtype(np.longdouble))),
        (">f4", ">f4"),
        (3.5, "3.5"),
    ],
    ids=repr,
)
def test_float_dtype_refuses(value: object, got: str) -> None:
    with raises(TypeError, f"f: `dtype` must be float32 or float64, got {got}"):
        validate.float_dtype("f", "dtype", value)


def test_array_keeps_what_is_right() -> None:
    for dtype in (np.float32, np.float64):
        given = np.ones((2, 3), dtype)
        assert validate.array("f", "x", given) is given
        assert validate.array("f", "x", given, dtype=dtype, exact_dtype=True) is given
        fresh = validate.array("f", "x", given, copy=True)
        assert not np.shares_memory(fresh, given)


def test_array_of_a_list_with_copy_is_its_own() -> None:
    given = [1.0, 2.0]
    assert validate.array("f", "x", given, copy=True).tolist() == given


@pytest.mark.parametrize(
    "given",
    [
        np.arange(12.0).reshape(3, 4).T,
        np.arange(24.0).reshape(4, 6)[:, ::2],
        np.arange(12.0)[::-1].reshape(4, 3),
        np.asfortranarray(np.arange(12.0).reshape(4, 3)),
        np.arange(12.0).reshape(4, 3).astype(">f8"),
        np.frombuffer(b"\0" + np.arange(12.0).tobytes(), offset=1).reshape(4, 3),
    ],
    ids=["transposed", "strided", "reversed", "fortran", "big-endian", "unaligned"],
)
def test_array_lays_out(given: np.ndarray[Any, Any]) -> None:
    result = validate.array("f", "x", given, shape=(4, 3))
    assert result.flags.c_contiguous
    assert result.flags.aligned
    assert result.dtype == np.float64
    assert result.dtype.isnative
    assert np.array_equal(result, given)


def test_array_keeps_no_dimensions() -> None:
    assert validate.array("f", "x", 2.5).shape == ()


def test_array_converts_integers_exactly() -> None:
    assert validate.array("f", "x", [1, 2]).dtype == np.float64
    data = np.array([[2**24, -(2**24)]])
    assert validate.array("f", "x", data, dtype=np.float32).tolist() == [[2.0**24, -(2.0**24)]]
    message = "hold integers that float32 can hold, got 16777217 at index (0, 1)"
    with raises(ValueError, f"f: `x` must {message}"):
        validate.array("f", "x", np.array([[2**24, 2**24 + 1]]), dtype=np.float32)
    for value in (2**63 - 1, 2**53 + 1):
        message = f"hold integers that float64 can hold, got {value} at index (0,)"
        with raises(ValueError, f"f: `x` must {message}"):
            validate.array("f", "x", np.array([value]))
    with raises(
        ValueError,
        f"f: `x` must hold integers that float64 can hold, got {2**64 - 1} at index (0,)",
    ):
        validate.array("f", "x", np.array([2**64 - 1], np.uint64))
    assert validate.array("f", "x", np.array([2**63], np.uint64)).tolist() == [2.0**63]
    assert validate.array("f", "x", np.array([-(2**63)])).tolist() == [-(2.0**63)]


def test_array_of_integers() -> None:
    result = validate.array("f", "rows", np.array([1, 2], np.uint8), dtype=np.int64)
    assert result.dtype == np.int64
    with raises(TypeError, "f: `rows` must be an array of integers, got dtype float64"):
        validate.array("f", "rows", [1.0], dtype=np.int64)
    with raises(TypeError, "f: `rows` must be an array of integers, got dtype bool"):
        validate.array("f", "rows", [True], dtype=np.int64)
    message = "hold integers that int8 can hold, got 300 at index (1,)"
    with raises(ValueError, f"f: `rows` must {message}"):
        validate.array("f", "rows", np.array([1, 300]), dtype=np.int8)
    message = f"hold integers that int64 can hold, got {2**64 - 1} at index (0,)"
    with raises(ValueError, f"f: `rows` must {message}"):
        validate.array("f", "rows", np.array([2**64 - 1], np.uint64), dtype=np.int64)


@pytest.mark.parametrize(
    ("given", "got"),
    [
        (np.array([1j]), "dtype complex128"),
        (np.array([True]), "dtype bool"),
        ([True, False], "dtype bool"),
        (np.array(["a"]), "dtype <U1"),
        (np.array([b"a"]), "dtype |S1"),
        (np.array([None]), "a numpy.ndarray of shape (1,) and dtype object"),
        (np.array(["2020-01-01"], "M8[D]"), "dtype datetime64[D]"),
        (None, "None"),
        ({"a": 1}, "a dict of length 1"),
        ("text", "dtype <U4"),
        (np.ma.masked_array([1.0], [True]), "a numpy.MaskedArray of shape (1,) and dtype float64"),
    ],
    ids=[
        "complex",
        "bool",
        "bools",
        "str",
        "bytes",
        "object",
        "date",
        "none",
        "dict",
        "text",
        "ma",
    ],
)
def test_array_kind(given: object, got: str) -> None:
    with raises(TypeError, f"f: `x` must be an array of real numbers, got {got}"):
        validate.array("f", "x", given)


@pytest.mark.parametrize("dtype", [np.float16, np.longdouble])
def test_array_other_floats(dtype: type) -> None:
    message = f"f: `x` must have dtype float32 or float64, got dtype {np.dtype(dtype)}"
    with raises(TypeError, message):
        validate.array("f", "x", np.ones(3, dtype))


def test_array_ragged() -> None:
    message = "be a rectangular array of real numbers, got a list of length 2 with ragged rows"
    with raises(ValueError, f"f: `x` must {message}"):
        validate.array("f", "x", [[1.0], [1.0, 2.0]])


def test_array_that_does_not_convert() -> None:
    class Stubborn:
        def __array__(self, dtype: object = None, copy: object = None) -> None:
            raise RuntimeError("no arrays here")

    with pytest.raises(TypeError, match=r"^f: `x` must be an array of real .*\(no arrays here\)$"):
        validate.array("f", "x", Stubborn())


def test_array_out_of_memory_stays_that() -> None:
    class Huge:
        def __array__(self, dtype: object = None, copy: object = None) -> None:
            raise MemoryError

    with pytest.raises(MemoryError):
        validate.array("f", "x", Huge())


def test_array_exact_dtype() -> None:
    for given in (np.ones(2), np.ones(2, np.int32)):
        with raises(TypeError, f"f: `state` must have dtype float32, got {given.dtype}"):
            validate.array("f", "state", given, dtype=np.float32, exact_dtype=True)
    result = validate.array("f", "state", [0, 1.5], dtype=np.float32, exact_dtype=True)
    assert result.dtype == np.float32


def test_array_rounds_data_to_the_wanted_type() -> None:
    result = validate.array("f", "x", np.array([0.1]), dtype=np.float32)
    assert result.dtype == np.float32
    assert result[0] == np.float32(0.1)


def test_array_ndim() -> None:
    assert validate.array("f", "x", [[1.0]], ndim=2).shape == (1, 1)
    assert validate.array("f", "x", [1.0], ndim=(1, 2)).shape == (1,)
    with raises(ValueError, "f: `x` must have 2 dimensions, got (1,)"):
        validate.array("f", "x", [1.0], ndim=2)
    with raises(ValueError, "f: `x` must have 1 dimension, got ()"):
        validate.array("f", "x", 1.0, ndim=1)
    with raises(ValueError, "f: `x` must have 1 or 2 dimensions, got (1, 1, 1)"):
        validate.array("f", "x", [[[1.0]]], ndim=(1, 2))


def test_array_shape() -> None:
    with raises(ValueError, "f: `x` must have shape (n, d), got (3,)"):
        validate.array("f", "x", np.ones(3), shape=("n", "d"))
    with raises(ValueError, "f: `x` must have shape (?, 2), got (3, 3)"):
        validate.array("f", "x", np.ones((3, 3)), shape=(None, 2))
    with raises(ValueError, "f: `a` must have shape (d, d), got (2, 3)"):
        validate.array("f", "a", np.ones((2, 3)), shape=("d", "d"))


def test_array_symbols() -> None:
    symbols: dict[str, int] = {}
    validate.array("f", "X", np.ones((569, 30)), shape=("n", "d"), symbols=symbols)
    assert symbols == {"n": 569, "d": 30}
    with raises(ValueError, "f: `y` must have shape (n,) with n = 569 as in `X`, got (568,)"):
        validate.array("f", "y", np.ones(568), shape=("n",), symbols=symbols)
    message = "f: `Z` must have shape (n, d, k) with n = 569 as in `X`, d = 30 as in `X`"
    with raises(ValueError, f"{message}, got (569, 31, 2)"):
        validate.array("f", "Z", np.ones((569, 31, 2)), shape=("n", "d", "k"), symbols=symbols)
    assert symbols == {"n": 569, "d": 30}, "a refused array leaves no trace"
    with raises(ValueError, "f: `t` must have shape (d,) with d = 4, got (5,)"):
        validate.array("f", "t", np.ones(5), shape=("d",), symbols={"d": 4})


def test_array_empty() -> None:
    with raises(ValueError, "f: `x` must not be empty, got shape (0, 3)"):
        validate.array("f", "x", np.ones((0, 3)))
    assert validate.array("f", "x", np.ones((0, 3)), empty=True).shape == (0, 3)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_array_finite(value: float) -> None:
    given = np.ones((4, 3))
    given[2, 1] = given[3, 0] = value
    with raises(ValueError, f"f: `x` must be finite, got {value} at index (2, 1)"):
        validate.array("f", "x", given)
    with raises(ValueError, f"f: `x` must be finite, got {value} at index (1, 2)"):
        validate.array("f", "x", given[:3].T)
    with raises(ValueError, f"f: `x` must be finite, got {value}"):
        validate.array("f", "x", value)
    assert np.array_equal(validate.array("f", "x", given, finite=False), given, equal_nan=True)


def test_array_finite_after_rounding() -> None:
    with raises(ValueError, "f: `x` must be finite in float32, got 1e+39 at index (1,)"):
        validate.array("f", "x", [1.0, 1e39], dtype=np.float32)


def test_array_positive() -> None:
    for value in (0.0, -1.5):
        with raises(ValueError, f"f: `x` must be positive, got {value} at index (1,)"):
            validate.array("f", "x", [1.0, value], positive=True)
    assert validate.array("f", "x", [1.0, 2.0], positive=True).tolist() == [1.0, 2.0]


def test_array_leaves_the_error_state_alone() -> None:
    with np.errstate(all="raise"):
        validate.array("f", "x", np.array([0.1, 1e-300]), dtype=np.float32)


def test_output() -> None:
    out = np.empty((2, 3), np.float32)
    assert validate.output("f", "out", out, shape=(2, 3), dtype=np.float32) is out
    with raises(TypeError, "f: `out` must be an array, got a list of length 1"):
        validate.output("f", "out", [1.0], shape=(1,), dtype=np.float64)
    with raises(TypeError, "f: `out` must have dtype float64, got float32"):
        validate.output("f", "out", out, shape=(2, 3), dtype=np.float64)
    with raises(ValueError, "f: `out` must have shape (3, 2), got (2, 3)"):
        validate.output("f", "out", out, shape=(3, 2), dtype=np.float32)
    with raises(
        ValueError, "f: `out` must be C-contiguous and aligned, got an array with strides (4, 12)"
    ):
        validate.output("f", "out", out.T, shape=(3, 2), dtype=np.float32)
    unaligned = np.zeros(9, np.uint8)[1:].view(np.float64)
    with raises(
        ValueError, "f: `out` must be C-contiguous and aligned, got an array that is not aligned"
    ):
        validate.output("f", "out", unaligned, shape=(1,), dtype=np.float64)
    out.flags.writeable = False
    with raises(ValueError, "f: `out` must be writable, got a read-only array"):
        validate.output("f", "out", out, shape=(2, 3), dtype=np.float32)


def test_no_overlap() -> None:
    memory = np.zeros(10)
    x, out, state = memory[:4], memory[4:8], memory[8:]
    validate.no_overlap("f", {"out": out, "state": state}, {"x": x, "again": x})
    with raises(
        ValueError, "f: `out` must not overlap `x` in memory, got arrays that share memory"
    ):
        validate.no_overlap("f", {"out": memory[3:7]}, {"x": x})
    with raises(
        ValueError, "f: `out` must not overlap `state` in memory, got arrays that share memory"
    ):
        validate.no_overlap("f", {"out": memory[4:9], "state": state})
    validate.no_overlap("f", {"out": memory[::2]}, {"x": memory[1::2]})


def test_sizes() -> None:
    assert validate.sizes("f", 3, 4, 5) == 60
    assert validate.sizes("f", np.int32(2**30), np.int32(2**30), 4) == 2**62
    assert validate.sizes("f", 2**62, 0, 2**62) == 0
    with raises(OverflowError, f"f: the size {2**32} x {2**31} must stay below 2**63, got {2**63}"):
        validate.sizes("f", 2**32, 2**31)


def test_single_precision_is_converted_where_double_is_wanted() -> None:
    given = np.arange(3, dtype=np.float32)
    found = validate.array("f", "x", given, dtype=np.float64)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, given)
