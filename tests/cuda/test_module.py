"""The module without a driver, and what the Python side of the backend hands to it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from hotloops import BackendUnavailable
from hotloops._runtime import device, dispatch
from hotloops._runtime.device import LaunchQueue, Place, place_of
from hotloops.random import _cuda as random_cuda
from hotloops.sgd import _cuda
from tests.conftest import RunPython
from tests.cuda import fake_cupy
from tests.cuda.cases import Case, on_device, run_cuda

OPTIONS: dict[str, Any] = {
    "seed": 3,
    "chain_offset": 4,
    "first_step": 10,
    "num_steps": 25,
    "accumulate": True,
    "divergence_limit": 1e6,
    "num_threads": 1,
}


@pytest.fixture
def built() -> Any:
    try:
        return importlib.import_module("hotloops._cuda")
    except ModuleNotFoundError:
        pytest.skip("hotloops was built without CUDA")


class Recorder:
    """A ``_cuda`` that writes down its calls and makes at most ten steps a launch."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.bound: list[Any] = []
        self.workspace = 0

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("SgdChains"):
            return self._bind
        if name.endswith("_workspace"):
            return lambda chains: self.workspace

        def call(*arguments: Any) -> int:
            self.calls.append((name, arguments))
            return min(arguments[4], 10) if name.startswith("sgd_") else 0

        return call

    def _bind(self, *arguments: Any) -> Any:
        bound = Bound(arguments)
        self.bound.append(bound)
        return bound


class Bound:
    def __init__(self, arguments: tuple[Any, ...]) -> None:
        self.arguments = arguments
        self.workspace: tuple[int, int] | None = None

    def set_workspace(self, address: int, size: int) -> None:
        self.workspace = (address, size)


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch) -> Any:
    module = fake_cupy.make()
    monkeypatch.setitem(sys.modules, "cupy", module)
    return module


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch, cupy: Any) -> Recorder:
    fake = Recorder()
    monkeypatch.setattr(dispatch, "cuda", lambda: fake)
    return fake


def test_module_loads_without_a_driver(built: Any) -> None:
    state = built.driver_state()
    assert set(state) == {
        "available", "reason", "device_count", "driver_version", "runtime_version",
    }  # fmt: skip
    assert state["available"] == (state["reason"] == "")
    if not state["available"]:
        assert built.device_count() == 0
        with pytest.raises(BackendUnavailable, match=state["reason"]):
            dispatch.cuda()
    assert built.architectures()


def test_launch_without_a_driver_is_an_error(built: Any) -> None:
    if built.driver_state()["available"]:
        pytest.skip("there is a driver")
    chains = built.SgdChainsFloat32(0, 0, 0, 0, 0, 10, 2, 3, 0, 0)
    with pytest.raises(RuntimeError, match=r"CUDA error \d+ \(status 6\)"):
        built.sgd_quadratic(chains, 1, 0, 0, 5, False, 1e6, 0, 0, 0)
    with pytest.raises(RuntimeError, match="status 6"):
        built.random_philox(0, 0, 4, 0, 0, 0)


def test_module_refuses_sizes(built: Any) -> None:
    with pytest.raises(ValueError, match="theta must have shape"):
        built.SgdChainsFloat64(0, 0, 0, 0, 0, 10, 0, 3, 0, 0)
    chains = built.SgdChainsFloat64(0, 0, 0, 0, 0, 10, 1, 3, 0, 0)
    with pytest.raises(ValueError, match="features must have shape"):
        built.sgd_logistic(chains, 1, 0, 0, 5, False, 1e6, 0, 0, 0, 1, 0, 0.0)


def test_backend_modules_do_not_import_cupy(run_python: RunPython) -> None:
    run_python(
        """
        import hotloops.sgd._cuda, hotloops.random._cuda, sys
        assert not [name for name in sys.modules if name.startswith("cupy")]
        """,
        blocked=["cupy"],
    )


def test_chains_are_bound_by_address(recorder: Recorder, cupy: Any) -> None:
    case = Case("quadratic", "float32", 6, num_chains=5, copies=2)
    chains = on_device(cupy, case.chains())
    parameters = on_device(cupy, case.parameters())
    _cuda.advance(chains, "quadratic", parameters, **OPTIONS)
    addresses = [
        array.data.ptr for array in (chains.theta, chains.sums, chains.flags, chains.diverged_at)
    ]
    (bound,) = recorder.bound
    assert bound.arguments == (
        *addresses, chains.step_sizes.data.ptr, 5, 2, 6, 0, fake_cupy.STREAM,
    )  # fmt: skip
    assert bound.workspace is None
    # Three launches of at most ten steps, each beginning where the one before ended.
    assert [name for name, _ in recorder.calls] == ["sgd_quadratic"] * 3
    assert [call[1:5] for _, call in recorder.calls] == [
        (3, 4, 10, 25), (3, 4, 20, 15), (3, 4, 30, 5),
    ]  # fmt: skip
    for _, call in recorder.calls:
        assert call[5:] == (True, 1e6, *(array.data.ptr for array in parameters))


def test_matrices_come_transposed(recorder: Recorder, cupy: Any) -> None:
    case = Case("quadratic_full", "float64", 3, num_chains=2)
    kept: list[Any] = []
    original = cupy.ascontiguousarray

    def keep(value: Any, dtype: Any = None) -> Any:
        kept.append(original(value, dtype))
        return kept[-1]

    cupy.ascontiguousarray = keep
    chains, parameters = on_device(cupy, case.chains()), on_device(cupy, case.parameters())
    _cuda.advance(chains, "quadratic_full", parameters, **OPTIONS)
    matrix, minimizer, factor = parameters
    assert np.array_equal(kept[0], matrix.T)
    assert np.array_equal(kept[1], factor.T)
    assert recorder.calls[0][1][7:] == tuple(
        array.data.ptr for array in (kept[0], minimizer, kept[1])
    )


def test_rows_and_numbers(recorder: Recorder, cupy: Any) -> None:
    case = Case("logistic", "float32", 4, num_rows=20, batch_size=3, sampling=1)
    chains, parameters = on_device(cupy, case.chains()), on_device(cupy, case.parameters())
    _cuda.advance(chains, "logistic", parameters, **OPTIONS)
    features, targets = parameters[:2]
    expected = (features.data.ptr, targets.data.ptr, 20, 3, 1, 0.01)
    assert recorder.calls[0][1][7:] == expected
    cosine = Case("cosine", "float32", 4)
    _cuda.advance(on_device(cupy, cosine.chains()), "cosine", (1, np.float64(0.5)), **OPTIONS)
    assert recorder.calls[-1][1][7:] == (1.0, 0.5)


def test_workspace_is_as_large_as_asked(recorder: Recorder, cupy: Any) -> None:
    recorder.workspace = 4096
    made: list[Any] = []
    original = cupy.empty

    def empty(*args: Any, **kwargs: Any) -> Any:
        made.append(original(*args, **kwargs))
        return made[-1]

    cupy.empty = empty
    run_cuda(cupy, Case("cosine", "float32", 4), (5,))
    assert recorder.bound[0].workspace == (made[-1].data.ptr, 4096)


def test_device_and_stream_of_the_arrays(recorder: Recorder, cupy: Any) -> None:
    case = Case("cosine", "float64", 2, num_chains=3)
    with cupy.cuda.Device(1):
        chains = on_device(cupy, case.chains())
    with cupy.cuda.Stream(77):
        _cuda.advance(chains, "cosine", case.parameters(), **OPTIONS)
        recorded = fake_cupy.Event.recorded
    assert recorder.bound[0].arguments[-2:] == (1, 77)
    assert set(recorded) == {77}
    assert cupy.cuda.Device.current == 0
    out = cupy.zeros((2, 3, 4))
    indices = cupy.zeros(2, dtype="int64"), cupy.zeros(3, dtype="int64")
    with cupy.cuda.Stream(78):
        random_cuda.fill(out, "normals", 1, 2, *indices, 5, 1)
    name, call = recorder.calls[-1]
    assert name == "random_normals_float64"
    assert call == (
        out.data.ptr, 1, 2, indices[0].data.ptr, 2, indices[1].data.ptr, 3, 5, 4, 0, 78,
    )  # fmt: skip


def test_few_launches_wait(cupy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = LaunchQueue()
    for number in range(1, 11):
        queue.launched()
        assert fake_cupy.Event.waited == max(0, number - device._MOST_IN_FLIGHT)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda a: a.astype("float32"), ValueError, "must be a float64 array .* got float32"),
        (lambda a: a[:, :1], ValueError, r"of shape \(5, 2\) on cuda:0, C-contiguous, got"),
        (lambda a: a.T.copy().T, ValueError, "with strides"),
        (np.array, TypeError, "got ndarray"),
    ],
)
def test_arrays_that_a_kernel_must_not_get(
    cupy: Any, change: Callable[[Any], Any], error: type[Exception], message: str
) -> None:
    good = cupy.zeros((5, 2))
    place = Place(0, 1)
    assert place.address("f", "x", good, (5, 2), "float64") == good.data.ptr
    with pytest.raises(error, match="f: `x` must be a float64 array") as caught:
        place.address("f", "x", change(good), (5, 2), "float64")
    caught.match(message)
    with cupy.cuda.Device(1):
        elsewhere = cupy.zeros((5, 2))
    with pytest.raises(TypeError, match="on cuda:0"):
        place.address("f", "x", elsewhere, (5, 2), "float64")


def test_place(cupy: Any) -> None:
    with cupy.cuda.Device(1):
        array = cupy.zeros(3)
    with cupy.cuda.Stream(9), place_of(array) as place:
        assert place == Place(1, 9)
        assert cupy.cuda.Device.current == 1
    assert cupy.cuda.Device.current == 0


def test_errors_of_a_launch(cuda: Any) -> None:
    """An error of CUDA is an exception with its number, and the next call works again."""
    case = Case("cosine", "float32", 4)
    cuda.shim.fail_next_launch(2)
    with pytest.raises(RuntimeError, match=r"sgd_cosine: CUDA error 2 \(status 6\)"):
        run_cuda(cuda, case, (5,))
    run_cuda(cuda, case, (5,))
    cuda.shim.fail_next_launch(700)
    with pytest.raises(RuntimeError, match=r"random_uniforms: CUDA error 700 \(status 6\)"):
        random_cuda.fill(
            cuda.zeros((1, 1, 4)), "uniforms", 0, 0, cuda.zeros(1, dtype="int64"),
            cuda.zeros(1, dtype="int64"), 0, 1,
        )  # fmt: skip


def test_launches_go_to_the_device_of_the_arrays(cuda: Any) -> None:
    case = Case("cosine", "float32", 4)
    for number in (1, 0):
        with cuda.cuda.Device(number), cuda.cuda.Stream(1234 + number):
            run_cuda(cuda, case, (5,))
        assert cuda.shim.device() == number
        assert cuda.shim.last_stream() == 1234 + number
    with cuda.cuda.Device(7):
        chains = on_device(cuda, case.chains())
    with pytest.raises(RuntimeError, match="cudaSetDevice: CUDA error 101"):
        _cuda.advance(chains, "cosine", case.parameters(), **OPTIONS)
