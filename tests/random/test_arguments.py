"""Every argument of `hotloops.random` wrong in every way: what is raised, and nothing changes."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import hotloops
from hotloops import random

HUGE = 2**70
WORDS = np.dtype(np.uint32)


def raises(kind: type[Exception], message: str) -> Any:
    return pytest.raises(kind, match="^" + re.escape(message) + "$")


class OnDevice:
    """An array that says it lives on a GPU, and on another kind of device."""

    dtype, shape = np.dtype(np.float64), (2, 3, 4)

    def __init__(self, device: int) -> None:
        self.device = device

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device, 0

    def __dlpack__(self, **kwargs: Any) -> Any:
        raise AssertionError("nothing may be imported from it")


def readonly(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    array.flags.writeable = False
    return array


UINT64 = "be an integer in [0, 18446744073709551615]"
UINT16 = "be an integer in [0, 65535]"
COUNT = "be an integer >= 1"
LIMITS = {"steps": 2**48, "chains": 2**32, "coordinates": 2**34}

FILL: list[tuple[str, Any, type[Exception], str]] = [
    ("seed", -1, ValueError, f"{UINT64}, got -1"),
    ("seed", 2**64, OverflowError, f"{UINT64}, got 18446744073709551616"),
    ("seed", 1.0, TypeError, f"{UINT64}, got 1.0"),
    ("seed", True, TypeError, f"{UINT64}, got True"),
    ("seed", None, TypeError, f"{UINT64}, got None"),
    ("seed", "1", TypeError, f"{UINT64}, got '1'"),
    ("seed", [1], TypeError, f"{UINT64}, got a list of length 1"),
    ("seed", np.nan, TypeError, f"{UINT64}, got nan"),
    ("stream", -1, ValueError, f"{UINT16}, got -1"),
    ("stream", 2**16, ValueError, f"{UINT16}, got 65536"),
    ("stream", HUGE, OverflowError, f"{UINT16}, got {HUGE}"),
    ("stream", 0.5, TypeError, f"{UINT16}, got 0.5"),
    ("dtype", np.float16, TypeError, "be float32 or float64, got float16"),
    ("dtype", "int32", TypeError, "be float32 or float64, got int32"),
    ("dtype", "single malt", TypeError, "be float32 or float64, got 'single malt'"),
    ("dtype", None, TypeError, "be float32 or float64, got None"),
    ("backend", "jax", ValueError, "be one of 'cpp', 'cuda', 'numba', got 'jax'"),
    ("backend", 1, TypeError, "be one of 'cpp', 'cuda', 'numba', got 1"),
    ("num_threads", 0, ValueError, "be an integer in [1, 1024], got 0"),
    ("num_threads", -2, ValueError, "be an integer in [1, 1024], got -2"),
    ("num_threads", 1025, ValueError, "be an integer in [1, 1024], got 1025"),
    ("num_threads", 1.5, TypeError, "be an integer in [1, 1024], got 1.5"),
    ("out", [0.0] * 24, TypeError, "be an array, got a list of length 24"),
    ("out", 0.0, TypeError, "be an array, got 0.0"),
    ("out", np.zeros(24), ValueError, "have shape (2, 3, 4), got (24,)"),
    ("out", np.zeros((4, 3, 2)), ValueError, "have shape (2, 3, 4), got (4, 3, 2)"),
    ("out", np.zeros((2, 3, 4), np.float32), TypeError, "have dtype float64, got float32"),
    ("out", np.zeros((2, 3, 4), ">f8"), TypeError, "have dtype float64, got >f8"),
    ("out", readonly(np.zeros((2, 3, 4))), ValueError, "be writable, got a read-only array"),
    (
        "out",
        np.zeros((4, 3, 2)).T,
        ValueError,
        "be C-contiguous and aligned, got an array with strides (8, 16, 48)",
    ),
    (
        "out",
        np.zeros(24 * 8 + 1, np.uint8)[1:].view(np.float64).reshape(2, 3, 4),
        ValueError,
        "be C-contiguous and aligned, got an array that is not aligned",
    ),
]
for _name, _limit in LIMITS.items():
    _beyond = f"stay within the counter's range, at most {_limit - 1}, got"
    FILL += [
        (_name, 0, ValueError, f"{COUNT}, got 0"),
        (_name, -3, ValueError, f"{COUNT}, got -3"),
        (_name, 2.0, TypeError, f"{COUNT}, got 2.0"),
        (_name, True, TypeError, f"{COUNT}, got True"),
        (_name, None, TypeError, f"{COUNT}, got None"),
        (_name, "12", TypeError, f"{COUNT}, got '12'"),
        (_name, {1, 2}, TypeError, f"{COUNT}, got a set of length 2"),
        (_name, _limit + 1, OverflowError, f"{_beyond} {_limit}"),
        (_name, [0, _limit], OverflowError, f"{_beyond} {_limit}"),
        (_name, range(_limit, _limit + 1), OverflowError, f"{_beyond} {_limit}"),
        (_name, range(HUGE), OverflowError, f"{_beyond} {HUGE - 1}"),
        (_name, range(5, -HUGE, -HUGE), ValueError, f"not be negative, got {5 - HUGE}"),
        (_name, [3, -1], ValueError, "not be negative, got -1"),
        (_name, range(-1, 3), ValueError, "not be negative, got -1"),
        (_name, range(3, 3), ValueError, "not be empty, got range(3, 3)"),
        (_name, np.zeros(0, int), ValueError, "not be empty, got shape (0,)"),
        (_name, [[1, 2]], ValueError, "have shape (n,), got (1, 2)"),
        (_name, [1.0, 2.0], TypeError, "be an array of integers, got dtype float64"),
        (_name, [True], TypeError, "be an array of integers, got dtype bool"),
        (_name, np.array(["1"]), TypeError, "be an array of integers, got dtype <U1"),
        (
            _name,
            [[1], [1, 2]],
            ValueError,
            "be a rectangular array of real numbers, got a list of length 2 with ragged rows",
        ),
        (
            _name,
            np.array([2**63], np.uint64),
            ValueError,
            "hold integers that int64 can hold, got 9223372036854775808 at index (0,)",
        ),
    ]


@pytest.mark.parametrize("law", ["normals", "uniforms"])
@pytest.mark.parametrize(("argument", "value", "kind", "text"), FILL)
def test_wrong_argument(
    law: str, argument: str, value: Any, kind: type[Exception], text: str
) -> None:
    arguments: dict[str, Any] = {"seed": 1, "steps": 2, "chains": 3, "coordinates": 4}
    out = np.full((2, 3, 4), 7.0)
    before = out.tobytes()
    if argument not in ("dtype", *LIMITS):
        arguments["out"] = out
    with raises(kind, f"{law}: `{argument}` must {text}"):
        getattr(random, law)(**{**arguments, argument: value})
    assert out.tobytes() == before
    if isinstance(value, np.ndarray):
        assert not value.any() or argument != "out"


@pytest.mark.parametrize("law", ["normals", "uniforms"])
def test_sizes_are_checked_before_memory_is_taken(law: str) -> None:
    draw = getattr(random, law)
    size = 2**40 * 2**30 * 4 * 8
    text = f"{law}: the size {2**40} x {2**30} x 4 x 8 must stay below 2**63, got {size}"
    with raises(OverflowError, text):
        draw(0, 2**40, 2**30, 4)
    with pytest.raises(MemoryError):
        draw(0, 2**44, 1, 1)


def test_numpy_integers_are_fine() -> None:
    expected = random.normals(3, 2, 3, 4, 1)
    drawn = random.normals(np.uint64(3), np.int8(2), np.array(3), np.int64(4), np.uint16(1))
    np.testing.assert_array_equal(drawn, expected)
    one_step = random.normals(3, range(1, 5, 2**80), 3, 4, 1)
    np.testing.assert_array_equal(one_step, expected[1:])


def test_out_on_another_device() -> None:
    with pytest.raises((hotloops.BackendUnavailable, AssertionError)):
        random.normals(1, 2, 3, 4, out=OnDevice(2))
    with raises(TypeError, "normals: `backend` must be 'cuda' for CUDA arrays, got 'cpp'"):
        random.normals(1, 2, 3, 4, out=OnDevice(2), backend="cpp")
    with pytest.raises(TypeError, match=r"^normals: .* got an array on metal"):
        random.normals(1, 2, 3, 4, out=OnDevice(8))


COUNTER_SHAPE = "have shape (..., 4)"
PHILOX: list[tuple[str, Any, type[Exception], str]] = [
    ("counter", [0.0] * 4, TypeError, "be an array of integers, got dtype float64"),
    ("counter", [True] * 4, TypeError, "be an array of integers, got dtype bool"),
    ("counter", None, TypeError, "be an array of real numbers, got None"),
    ("counter", "0000", TypeError, "be an array of real numbers, got '0000'"),
    ("counter", {}, TypeError, "be an array of real numbers, got a dict of length 0"),
    ("counter", 3, ValueError, f"{COUNTER_SHAPE}, got ()"),
    ("counter", [1, 2, 3], ValueError, f"{COUNTER_SHAPE}, got (3,)"),
    ("counter", np.zeros((0, 4), WORDS), ValueError, "not be empty, got shape (0, 4)"),
    (
        "counter",
        [0, 0, -1, 0],
        ValueError,
        "hold integers that uint32 can hold, got -1 at index (2,)",
    ),
    (
        "counter",
        [0, 2**32, 0, 0],
        ValueError,
        "hold integers that uint32 can hold, got 4294967296 at index (1,)",
    ),
    (
        "counter",
        [[1], [1, 2]],
        ValueError,
        "be a rectangular array of real numbers, got a list of length 2 with ragged rows",
    ),
    ("key", [0.0, 1.0], TypeError, "be an array of integers, got dtype float64"),
    ("key", None, TypeError, "be an array of real numbers, got None"),
    ("key", [1, 2, 3], ValueError, "have shape (..., 2), got (3,)"),
    ("key", [-1, 0], ValueError, "hold integers that uint32 can hold, got -1 at index (0,)"),
    (
        "key",
        np.zeros((2, 2), WORDS),
        ValueError,
        "have leading axes that fit those of `counter`, (3,), got (2,)",
    ),
    ("out", np.zeros((3, 4), np.int32), TypeError, "have dtype uint32, got int32"),
    ("out", np.zeros((4, 3), WORDS), ValueError, "have shape (3, 4), got (4, 3)"),
    ("out", readonly(np.zeros((3, 4), WORDS)), ValueError, "be writable, got a read-only array"),
    ("out", [[0] * 4] * 3, TypeError, "be an array, got a list of length 3"),
    ("backend", "gpu", ValueError, "be one of 'cpp', 'cuda', 'numba', got 'gpu'"),
    ("num_threads", 0, ValueError, "be an integer in [1, 1024], got 0"),
    ("num_threads", "2", TypeError, "be an integer in [1, 1024], got '2'"),
]


@pytest.mark.parametrize(("argument", "value", "kind", "text"), PHILOX)
def test_wrong_argument_of_philox(
    argument: str, value: Any, kind: type[Exception], text: str
) -> None:
    counter, key = np.arange(12, dtype=WORDS).reshape(3, 4), np.array([1, 2], WORDS)
    out = np.full((3, 4), 7, WORDS)
    arguments = {"counter": counter, "key": key, "out": out, argument: value}
    before = counter.tobytes(), key.tobytes(), out.tobytes()
    with raises(kind, f"philox: `{argument}` must {text}"):
        random.philox(**arguments)
    assert (counter.tobytes(), key.tobytes(), out.tobytes()) == before


def test_philox_does_not_overwrite_its_input() -> None:
    memory = np.arange(16, dtype=WORDS).reshape(4, 4)
    before = memory.tobytes()
    with raises(
        ValueError,
        "philox: `out` must not overlap `counter` in memory, got arrays that share memory",
    ):
        random.philox(memory[:3], [0, 1], out=memory[1:])
    with raises(
        ValueError, "philox: `out` must not overlap `key` in memory, got arrays that share memory"
    ):
        random.philox(np.zeros((3, 4), WORDS), memory[0, :2], out=memory[:3])
    assert memory.tobytes() == before


def test_inputs_of_any_layout(threads: int) -> None:
    """Strided, reversed, read-only and Fortran-ordered inputs mean what NumPy means by them."""
    counters = np.arange(4000, dtype=WORDS).reshape(1000, 4)
    expected = random.philox(counters, [5, 6])
    for given in (np.asfortranarray(counters), readonly(counters.copy()), counters.astype(">u4")):
        words = random.philox(given, [5, 6], num_threads=threads)
        np.testing.assert_array_equal(words, expected)
    words = random.philox(counters[::-3], np.array([5, 9, 6])[::2], num_threads=threads)
    np.testing.assert_array_equal(words, expected[::-3])
