"""CUDA arrays in, CUDA arrays out: the face, over a stand-in for CuPy and the C++ driver."""

from __future__ import annotations

import dataclasses
import sys
import types
from typing import Any

import numpy as np
import pytest

import hotloops
from hotloops import simplex
from hotloops._runtime import arrays as array_layer
from hotloops._runtime import dispatch
from hotloops.simplex import _cpp
from hotloops.simplex._state import ChainArrays, Steps
from tests.cuda import fake_cupy
from tests.simplex import reference


def plain(value: Any) -> Any:
    return value.view(np.ndarray) if isinstance(value, np.ndarray) else value


def advance(arrays: ChainArrays, kernel: str, parameters: Any, options: Any, steps: Steps) -> None:
    """Advance arrays of the stand-in, whose memory is that of the host."""
    names = [field.name for field in dataclasses.fields(ChainArrays)]
    own = ChainArrays(**{name: plain(getattr(arrays, name)) for name in names})
    steps = Steps(**{name: plain(value) for name, value in vars(steps).items()})
    _cpp.advance(own, kernel, tuple(plain(item) for item in parameters), options, steps)


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch) -> Any:
    stand_in = fake_cupy.make()
    stand_in.isfinite, stand_in.may_share_memory = np.isfinite, np.may_share_memory
    stand_in.asarray = lambda value, dtype=None, order=None: fake_cupy.asarray(value, dtype)
    driver: Any = types.ModuleType("hotloops.simplex._cuda")
    driver.advance = advance
    driver.project = lambda x, threads: _cpp.project(plain(x), threads)
    monkeypatch.setitem(sys.modules, "cupy", stand_in)
    monkeypatch.setitem(sys.modules, "hotloops.simplex._cuda", driver)
    monkeypatch.setattr(dispatch, "cuda", lambda: driver)
    library_of = array_layer.library_of

    def placed(value: Any) -> Any:
        if isinstance(value, fake_cupy.ndarray):
            return array_layer.Library("cupy", "cuda", 0)
        return library_of(value)

    monkeypatch.setattr(array_layer, "library_of", placed)
    return stand_in


SETTINGS: dict[str, Any] = {
    "step_size": 0.1,
    "inverse_temperature": [20.0, 100.0],
    "num_steps": 30,
    "num_chains": 6,
    "trace_every": 10,
    "seed": 3,
}


@pytest.mark.parametrize("swap_every", [None, 5])
def test_chains_of_the_device(cupy: Any, swap_every: int | None) -> None:
    x0 = np.array([0.7, 0.2, 0.1])
    objective = reference.double_well()
    here = simplex.lmwu(objective, x0=x0, swap_every=swap_every, **SETTINGS)
    there = simplex.lmwu(objective, x0=cupy.asarray(x0), swap_every=swap_every, **SETTINGS)
    for name in ("chains_x", "best_x", "trace"):
        found = getattr(there, name)
        assert isinstance(found, cupy.ndarray)
        np.testing.assert_array_equal(found.get(), getattr(here, name))
    np.testing.assert_array_equal(there.x, here.x)
    assert type(there.state.arrays.x) is np.ndarray
    more = [simplex.lmwu(objective, state=r.state, **SETTINGS).x for r in (here, there)]
    np.testing.assert_array_equal(*more)


def test_the_backend_can_be_asked_for(cupy: Any) -> None:
    objective = reference.double_well()
    here = simplex.lmwu(objective, **SETTINGS)
    there = simplex.lmwu(objective, backend="cuda", **SETTINGS)
    assert type(there.chains_x) is np.ndarray  # NumPy in, NumPy out
    np.testing.assert_array_equal(there.chains_x, here.chains_x)
    with hotloops.use_backend("cuda"):
        np.testing.assert_array_equal(simplex.lmwu(objective, **SETTINGS).chains_x, here.chains_x)


def test_memory_for_the_answer_on_the_device(cupy: Any) -> None:
    out = cupy.empty((6, 3))
    result = simplex.lmwu(reference.double_well(), out=out, **SETTINGS)
    assert result.chains_x is out
    expected = simplex.lmwu(reference.double_well(), **SETTINGS).chains_x
    np.testing.assert_array_equal(out.get(), expected)


def test_returns_on_the_device(cupy: Any) -> None:
    returns = np.random.default_rng(0).normal(size=(40, 3))
    here = simplex.PortfolioMoments(returns, [1.0, 0.5, 0.1, 0.02])
    there = simplex.PortfolioMoments(cupy.asarray(returns), [1.0, 0.5, 0.1, 0.02])
    result = simplex.lmwu(there, **SETTINGS)
    assert isinstance(result.chains_x, cupy.ndarray)
    np.testing.assert_array_equal(result.chains_x.get(), simplex.lmwu(here, **SETTINGS).chains_x)


def test_single_functions(cupy: Any) -> None:
    x, g = np.array([0.2, 0.3, 0.5]), np.array([1.0, -1.0, 0.5])
    moved = simplex.lmwu_step(cupy.asarray(x), cupy.asarray(g), step_size=0.1)
    assert isinstance(moved, cupy.ndarray)
    np.testing.assert_array_equal(moved.get(), simplex.lmwu_step(x, g, step_size=0.1))
    v = cupy.asarray(np.array([[0.5, 1.0, -2.0]]))
    assert simplex.project(v).get().tolist() == [[0.25, 0.75, 0.0]]
    assert simplex.project(v, out=v) is v
    value, gradient = reference.double_well().value_and_grad(cupy.asarray(x[None]))
    assert isinstance(value, cupy.ndarray)
    assert isinstance(gradient, cupy.ndarray)


def test_mixed_devices_are_refused(cupy: Any) -> None:
    x, g = np.array([0.2, 0.3, 0.5]), np.array([1.0, -1.0, 0.5])
    with pytest.raises(TypeError, match="`gradient` must live on cuda:0 as `x`, got cpu"):
        simplex.lmwu_step(cupy.asarray(x), g, step_size=0.1)
    with pytest.raises(TypeError, match="`out` must live on cpu as `v`, got cuda:0"):
        simplex.project(x, out=cupy.asarray(x))
    with pytest.raises(TypeError, match="must be 'cuda' for CUDA arrays"):
        simplex.project(cupy.asarray(x), backend="cpp")
    own = simplex.Custom(lambda x: (x[:, 0], x), 3)
    with pytest.raises(TypeError, match="must live in host memory, where a function of your own"):
        simplex.lmwu(own, x0=cupy.asarray(x), step_size=0.1, num_steps=1)


def test_an_executor_cannot_have_the_device(cupy: Any) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with (
        ThreadPoolExecutor(1) as executor,
        pytest.raises(TypeError, match="`executor` must be None with backend='cuda'"),
    ):
        simplex.lmwu(reference.double_well(), backend="cuda", executor=executor, **SETTINGS)
