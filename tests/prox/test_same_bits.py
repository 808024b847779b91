"""One answer whatever the backend, the threads, the instruction set, the batch, the memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.prox.cases import OPERATORS

if TYPE_CHECKING:
    from conftest import Isa

CODE = """
import hashlib, sys
import numpy as np
sys.path.insert(0, {root!r})
from tests.prox.cases import OPERATORS
for name, make in OPERATORS.items():
    digest = hashlib.sha256()
    for dtype in ("float32", "float64"):
        for n in (3, 77, 200):
            v = (3 * np.random.default_rng(n).normal(size=(4, n))).astype(dtype)
            for step in (0.7, np.linspace(0.2, 5.0, 4)):
                digest.update(make(n)(v, step).tobytes())
    print(name, digest.hexdigest())
"""


def test_every_instruction_set(isa: Isa) -> None:
    from pathlib import Path

    outputs = isa.run_all(CODE.format(root=str(Path(__file__).parents[2])))
    assert len(next(iter(outputs.values())).splitlines()) == len(OPERATORS)
    assert len(set(outputs.values())) == 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", OPERATORS)
def test_numba_twin(name: str, dtype: str) -> None:
    v = (3 * np.random.default_rng(0).normal(size=(5, 77))).astype(dtype)
    v[1] *= 0.01
    v[2] = 0.0
    for step in (0.7, np.linspace(0.2, 5.0, 5)):
        expected = OPERATORS[name](77)(v, step)
        got = OPERATORS[name](77)(v, step, backend="numba", num_threads=2)
        assert got.tobytes() == expected.tobytes()


@pytest.mark.parametrize("name", OPERATORS)
def test_threads_batches_and_in_place(name: str) -> None:
    v = np.random.default_rng(1).normal(size=(3, 40_000)).astype(np.float32)
    function = OPERATORS[name](40_000)
    expected = function(v, 0.9, num_threads=1)
    assert function(v, 0.9, num_threads=5).tobytes() == expected.tobytes()
    assert function(v[1], 0.9).tobytes() == expected[1].tobytes()
    assert v.tobytes() == np.random.default_rng(1).normal(size=(3, 40_000)).astype("f4").tobytes()
    assert function(v, 0.9, out=v) is v
    assert v.tobytes() == expected.tobytes()


def test_many_short_rows() -> None:
    v = np.random.default_rng(2).normal(size=(70, 50, 3))
    for name in ("simplex", "l1 ball", "l2", "top k", "total variation", "l1 by column"):
        function = OPERATORS[name](3)
        result = function(v, 0.4)
        assert result.shape == v.shape
        assert result[69, 49].tobytes() == function(v[69, 49].copy(), 0.4).tobytes()


GROUPS = """
import numpy as np
from hotloops import prox
for size in (1, 2, 3, 4, 5, 7, 8, 9, 10, 15, 16, 17, 24, 25, 31, 32, 33):
    for dtype in (np.float32, np.float64):
        v = np.random.default_rng(size).normal(size=(6, 21 * size)).astype(dtype)
        v[3, : 5 * size] = 0.0
        extreme = 1e160 if dtype == np.float64 else 1e30  # squares overflow, and vanish
        steps = np.array([1.0, 1e-3, 1e3, 1.0, 1.0 / extreme, extreme])
        v *= steps[:, None].astype(dtype)
        function = prox.SparseGroupLasso(np.arange(21 * size) // size, 0.05, 0.4)
        expected = function(v, steps, backend="numba", num_threads=1)
        assert np.isfinite(expected).all() and expected.any(axis=1).all()
        np.testing.assert_array_equal(function(v, steps), expected, strict=True)
        for row in range(6):  # the end of a row is the end of its memory
            alone = v[row].copy()
            function(alone, steps[row], out=alone)
            np.testing.assert_array_equal(alone, expected[row])
print("done")
"""


def test_groups_of_every_size(isa: Isa) -> None:
    assert set(isa.run_all(GROUPS).values()) == {"done\n"}
