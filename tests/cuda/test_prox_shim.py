"""The CUDA kernels of the proximal operators, run on a CPU, return the bits of the C++ drivers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hotloops import prox
from tests.prox.cases import OPERATORS

COLUMNS = 77


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", OPERATORS)
def test_same_bits(cuda: Any, name: str, dtype: str) -> None:
    operator = OPERATORS[name](COLUMNS)
    v = (3 * np.random.default_rng(1).normal(size=(5, COLUMNS))).astype(dtype)
    for step in (0.7, np.linspace(0.2, 5.0, 5)):
        expected = operator(v, step)
        got = operator(cuda.asarray(v), step)
        assert type(got).__module__ == "cupy"
        assert got.get().tobytes() == expected.tobytes()


@pytest.mark.parametrize("backwards", [False, True])
def test_grid_that_is_cut_does_the_same(cuda: Any, backwards: bool) -> None:
    cuda.shim.set_max_blocks(1)
    cuda.shim.set_backwards(backwards)
    v = np.random.default_rng(2).normal(size=(23, 40))
    for operator in (prox.L1(0.3), prox.Simplex(), prox.L2(0.5), prox.SecondOrderCone()):
        assert operator(cuda.asarray(v), 1.3).get().tobytes() == operator(v, 1.3).tobytes()


def test_in_place(cuda: Any) -> None:
    v = np.random.default_rng(3).normal(size=(4, 33))
    for operator in (prox.SecondOrderCone(), prox.Simplex(), prox.GroupLasso(np.arange(33) % 4)):
        there = cuda.asarray(v)
        assert operator(there, out=there) is there
        assert there.get().tobytes() == operator(v).tobytes()


def test_failed_launch_is_an_error(cuda: Any) -> None:
    cuda.shim.fail_next_launch(9)
    with pytest.raises(RuntimeError, match="prox: CUDA error 9"):
        prox.L1()(cuda.asarray([1.0, 2.0]))
