"""The Numba twin of the bulk random numbers against the C++ driver, bit for bit."""

from __future__ import annotations

import hashlib
import itertools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from hotloops._runtime import _numba_jit
from hotloops.random import _cpp, _numba

if TYPE_CHECKING:
    from conftest import RunPython

DTYPES = ("float32", "float64")

# For new interpreters, which import this file.
ROOT = str(Path(__file__).parents[2])
SEARCH = {"PYTHONPATH": os.pathsep.join([ROOT, os.environ.get("PYTHONPATH", "")])}
LAWS = ("normals", "uniforms")
SEED = 0xFEDCBA9876543210
STREAM = 0xFFFF

# (steps, chains, coordinates), first coordinate: whole packs of one row, rows shorter than a pack,
# blocks that begin or end inside, the last block of all.
GRIDS = [
    ((1, 1, 1), 0),
    ((1, 1, 1), 5),
    ((1, 1, 1000), 3),
    ((1, 3, 128), 0),
    ((2, 2, 131), 2**33),
    ((2, 3, 64), 4),
    ((3, 5, 7), 0),
    ((7, 9, 1), 2),
    ((1, 200, 4), 0),
    ((4, 1, 33), 2**34 - 33),
]


def indices(shape: tuple[int, int, int]) -> tuple[Any, Any]:
    """Steps and chains from their whole range, in no order."""
    generator = np.random.default_rng(7)
    steps, chains = generator.integers(0, 2**48, shape[0]), generator.integers(0, 2**32, shape[1])
    steps[0], chains[-1] = 2**48 - 1, 2**32 - 1
    return steps, chains


def draw(
    backend: Any, law: str, shape: tuple[int, int, int], first: int, dtype: str, num_threads: int
) -> Any:
    out = np.full(shape, np.nan, dtype)
    backend.fill(out, law, SEED, STREAM, *indices(shape), first, num_threads)
    return out


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("law", LAWS)
def test_fill(law: str, dtype: str, threads: int) -> None:
    for shape, first in GRIDS:
        found = draw(_numba, law, shape, first, dtype, threads)
        expected = draw(_cpp, law, shape, first, dtype, 1)
        np.testing.assert_array_equal(found, expected, f"{shape} from {first}")
        assert np.isfinite(found).all()


def test_cuts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The length of one call into compiled code changes nothing."""
    expected = draw(_cpp, "normals", (5, 40, 11), 2, "float32", 1)
    monkeypatch.setattr(_numba_jit, "_SLICE_SECONDS", 1e-12)
    found = draw(_numba, "normals", (5, 40, 11), 2, "float32", 2)
    np.testing.assert_array_equal(found, expected)


def test_philox(threads: int) -> None:
    generator = np.random.default_rng(8)
    counters = generator.integers(0, 2**32, (10_001, 4), dtype=np.uint32)
    keys = generator.integers(0, 2**32, (10_001, 2), dtype=np.uint32)
    counters[:2], keys[:2] = [[0], [2**32 - 1]], [[0], [2**32 - 1]]
    found, expected = np.empty_like(counters), np.empty_like(counters)
    _numba.philox(found, counters, keys, threads)
    _cpp.philox(expected, counters, keys, 1)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("shape", [(0, 3, 4), (3, 0, 4), (3, 4, 0)])
def test_nothing(shape: tuple[int, int, int]) -> None:
    steps, chains = np.arange(shape[0]), np.arange(shape[1])
    _numba.fill(np.empty(shape), "normals", SEED, STREAM, steps, chains, 0, 2)
    nothing = np.empty((0, 4), np.uint32)
    _numba.philox(nothing, nothing, np.empty((0, 2), np.uint32), 2)


def small_hash() -> str:
    """A few numbers of each kind, as one hash."""
    found = hashlib.sha256()
    for law, dtype in itertools.product(LAWS, DTYPES):
        for shape, first in GRIDS:
            found.update(draw(_numba, law, shape, first, dtype, 2).tobytes())
    counters = np.arange(400, dtype=np.uint32).reshape(100, 4)
    words = np.empty_like(counters)
    _numba.philox(words, counters, counters[:, :2].copy(), 2)
    found.update(words.tobytes())
    return found.hexdigest()


def test_without_compiler(run_python: RunPython) -> None:
    """With the compiler off the twin is its own reference in NumPy: slow, with the same bits."""
    code = "from tests.random import test_twin; print(test_twin.small_hash())"
    environment = {**SEARCH, "NUMBA_DISABLE_JIT": "1", "PYTHONWARNINGS": "error"}
    assert run_python(code, env=environment).strip() == small_hash()
