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
from tests.cuda.cases import RULES, Case, on_device, run_cuda

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

    def _bind(self, **arguments: Any) -> Any:
        bound = Bound(arguments)
        self.bound.append(bound)
        return bound


class Bound:
    def __init__(self, arguments: dict[str, Any]) -> None:
        self.arguments = arguments
        self.workspace: tuple[int, int] | None = None
        self.rules: dict[str, Any] = {}
        self.statistics: dict[str, Any] = {}

    def set_workspace(self, address: int, size: int) -> None:
        self.workspace = (address, size)

    def set_rules(self, **rules: Any) -> None:
        self.rules = rules

    def set_statistics(self, **statistics: Any) -> None:
        self.statistics = statistics


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


def bound(module: Any, dtype: str = "Float32", **changes: Any) -> Any:
    """Ten chains of two copies and three coordinates, nowhere."""
    names = ("theta", "sums", "flags", "diverged_at", "step_sizes", "auxiliary", "stream")
    sizes = {"num_chains": 10, "num_step_sizes": 2, "dim": 3, "num_auxiliary": 0, "device": 0}
    given = {**dict.fromkeys(names, 0), **sizes, "own_step_sizes": False, **changes}
    return getattr(module, f"SgdChains{dtype}")(**given)


NO_STATISTICS: dict[str, Any] = {
    "count": 0, "first_step": 0, "weights": 0, "own_weights": False, "shift": 0, "stride": 0,
    "path": 0, "slots": 0, "squares": 0, "products": 0, "second": 0, "full": False,
    "plug_hessian": 0, "plug_outer": 0,
}  # fmt: skip
NO_RULES: dict[str, Any] = {
    "clip_norm": float("inf"), "weight_decay": 0.0, "projection": 0, "low": 0, "high": 0,
    "center": 0, "radius": 0.0, "schedule": 0, "exponent": 0.0, "offset": 0.0, "boundaries": 0,
    "factors": 0, "num_boundaries": 0, "origin": 0,
}  # fmt: skip
GAUSSIAN = (0, 0.0, 0, 0)


def test_launch_without_a_driver_is_an_error(built: Any) -> None:
    if built.driver_state()["available"]:
        pytest.skip("there is a driver")
    chains = bound(built)
    with pytest.raises(RuntimeError, match=r"CUDA error \d+ \(status 6\)"):
        built.sgd_quadratic(chains, 1, 0, 0, 5, False, 1e6, 0, 0, 0, *GAUSSIAN)
    with pytest.raises(RuntimeError, match="status 6"):
        built.random_philox(0, 0, 4, 0, 0, 0)


def refused(
    chains: Any, kernel: Any, *parameters: Any, steps: int = 5, averaged: bool = True
) -> Any:
    with pytest.raises(ValueError, match=r"^sgd") as caught:
        kernel(chains, 1, 0, 10, steps, averaged, 1e6, *parameters)
    return str(caught.value)


def test_module_refuses_what_would_be_unsafe(shim: Any) -> None:
    """Sizes and choices; what addresses lead to is checked where they are taken."""
    with pytest.raises(ValueError, match="theta must have shape"):
        bound(shim, num_step_sizes=0)
    chains = bound(shim)
    rows = (0, 0, 0, 1, 0, 0.0, 0.0)
    assert "features must have shape" in refused(chains, shim.sgd_logistic, *rows)
    quadratic, nowhere = shim.sgd_quadratic_general, (0, 0, 0)
    assert "law of the noise" in refused(chains, quadratic, *nowhere, 7, 0.0, 0, 0)
    assert "df must be above 2" in refused(chains, quadratic, *nowhere, 4, 2.0, 0, 0)
    assert "1 to 2**20 values" in refused(chains, quadratic, *nowhere, 6, 0.0, 0, 0)
    stream = shim.sgd_streaming_logistic_general
    assert "rho must lie" in refused(chains, stream, 0, 0, False, 0.0, 0.0, 1.0)
    assert "auxiliary must have shape" in refused(chains, stream, 0, 0, False, 0.0, 0.0, 0.5)
    markov = shim.sgd_markov_lsa_general
    assert "S must be at most 4096" in refused(chains, markov, 0, 0, 0, 0, 4097)
    assert "one state for each chain" in refused(chains, markov, 0, 0, 0, 0, 5)


def test_module_refuses_rules_and_statistics(shim: Any) -> None:
    cosine = (1.0, 1.0, *GAUSSIAN)
    for wrong, message in (
        ({"projection": 3}, "must be 0, 1 or 2"),
        ({"schedule": -1}, "must be 0, 1 or 2"),
        ({"schedule": 1, "offset": -1.0}, "offset must not be negative"),
    ):
        with pytest.raises(ValueError, match=message):
            bound(shim).set_rules(**{**NO_RULES, **wrong})
    for wrong, message in (
        ({"count": -1}, "count must not be negative"),
        ({"path": 64, "stride": 0, "slots": 2}, "path must have shape"),
        ({"path": 64, "stride": 1, "slots": 0}, "path must have shape"),
        ({"plug_outer": 64}, "must come together"),
        ({"squares": 64}, "must come together"),
    ):
        with pytest.raises(ValueError, match=message):
            bound(shim).set_statistics(**{**NO_STATISTICS, **wrong})
    chains = bound(shim)
    chains.set_rules(**{**NO_RULES, "weight_decay": 0.5, "origin": 11})
    assert "origin must not lie" in refused(chains, shim.sgd_cosine_general, *cosine)
    chains = bound(shim)
    chains.set_statistics(
        **{**NO_STATISTICS, "count": 3, "first_step": 10, "path": 64, "stride": 2, "slots": 4}
    )
    assert "averaged steps" in refused(chains, shim.sgd_cosine_general, *cosine, averaged=False)
    # The tenth averaged step would need a fifth slot.
    message = refused(chains, shim.sgd_cosine_general, *cosine, steps=7)
    assert "a slot for every `stride`" in message


@pytest.mark.parametrize(
    "kernel", ["quadratic", "quadratic_full", "cosine", "logistic", "quadratic_statistics"]
)
def test_fast_kernels_refuse_what_they_lack(shim: Any, kernel: str) -> None:
    run = getattr(shim, f"sgd_{kernel}")
    zeros = (0,) * (2 if kernel == "cosine" else 3)
    rows = (0, 0, 1, 1, 0, 0.0, 0.0)
    parameters = rows if kernel == "logistic" else (*zeros, *GAUSSIAN)
    chains = bound(shim)
    chains.set_rules(**{**NO_RULES, "weight_decay": 0.5})
    assert "takes no rules" in refused(chains, run, *parameters)
    asked = {"second": 64} if "statistics" in kernel else {"squares": 64, "products": 64}
    chains = bound(shim)
    chains.set_statistics(**{**NO_STATISTICS, **asked})
    assert "or such statistics" in refused(chains, run, *parameters)
    if kernel != "logistic":
        assert "other laws of noise" in refused(bound(shim), run, *zeros, 3, 0.0, 0, 0)


def test_backend_modules_do_not_import_cupy(run_python: RunPython) -> None:
    run_python(
        """
        import hotloops.sgd._cuda, hotloops.random._cuda, sys
        assert not [name for name in sys.modules if name.startswith("cupy")]
        """,
        blocked=["cupy"],
    )


def pointers(*arrays: Any) -> tuple[int, ...]:
    return tuple(array.data.ptr for array in arrays)


def test_chains_are_bound_by_address(recorder: Recorder, cupy: Any) -> None:
    case = Case("quadratic", "float32", 6, num_chains=5, copies=2)
    chains = on_device(cupy, case.chains())
    parameters = on_device(cupy, case.parameters())
    _cuda.advance(chains, "quadratic", parameters, **OPTIONS)
    (made,) = recorder.bound
    names = ("theta", "sums", "flags", "diverged_at", "step_sizes", "auxiliary")
    assert made.arguments == {
        **{name: getattr(chains, name).data.ptr for name in names},
        "num_chains": 5, "num_step_sizes": 2, "dim": 6, "own_step_sizes": False,
        "num_auxiliary": 0, "device": 0, "stream": fake_cupy.STREAM,
    }  # fmt: skip
    assert (made.workspace, made.rules, made.statistics) == (None, {}, {})
    # Three launches of at most ten steps, each beginning where the one before ended.
    assert [name for name, _ in recorder.calls] == ["sgd_quadratic"] * 3
    assert [call[1:5] for _, call in recorder.calls] == [
        (3, 4, 10, 25), (3, 4, 20, 15), (3, 4, 30, 5),
    ]  # fmt: skip
    for _, call in recorder.calls:
        assert call[5:] == (True, 1e6, *pointers(*parameters[:3]), 0, 5.5, 0, 0)


def test_rules_are_handed_over(recorder: Recorder, cupy: Any) -> None:
    case = Case("cosine", "float32", 3, num_chains=5, own_steps=True)
    made = []
    for name in ("clip", "box", "ball", "polynomial", "piecewise"):
        chains = on_device(cupy, case.chains())
        _cuda.advance(chains, "cosine", case.parameters(), **OPTIONS, rules=RULES[name])
        made.append(recorder.bound[-1])
    assert {name for name, _ in recorder.calls} == {"sgd_cosine_general"}
    assert all(chains.arguments["own_step_sizes"] for chains in made)
    clip, box, ball, polynomial, piecewise = (chains.rules for chains in made)
    inert = {**NO_RULES, "factors": 0}
    assert clip == {**inert, "clip_norm": 0.7}
    assert {**box, "low": 0, "high": 0} == {**inert, "projection": 1}
    assert box["low"] != box["high"]
    assert {**ball, "center": 0} == {**inert, "projection": 2, "radius": np.float32(0.9)}
    assert polynomial == {**inert, "schedule": 1, "exponent": 0.5, "offset": 2.0}
    addresses = {"boundaries": 0, "factors": 0}
    assert {**piecewise, **addresses} == {
        **inert, "schedule": 2, "num_boundaries": 2, "origin": 2,
    }  # fmt: skip
    assert 0 not in (box["low"], box["high"], ball["center"])
    assert 0 not in (piecewise["boundaries"], piecewise["factors"])


def test_statistics_are_handed_over(recorder: Recorder, cupy: Any) -> None:
    case = Case("logistic", "float32", 3, num_chains=5, copies=2, statistics="plug_in")
    chains, parameters = on_device(cupy, case.chains()), on_device(cupy, case.parameters())
    running = on_device(cupy, case.running(100))
    running.count = 7
    _cuda.advance(chains, "logistic", parameters, **OPTIONS, statistics=running)
    names = ("weights", "shift", "path", "squares", "products", "second")
    assert recorder.bound[0].statistics == {
        **{name: getattr(running, name).data.ptr for name in names},
        "plug_hessian": running.plug_hessian.data.ptr, "plug_outer": running.plug_outer.data.ptr,
        "count": 7, "first_step": 10, "own_weights": False, "stride": 2, "slots": 50, "full": True,
    }  # fmt: skip
    running.squares = running.squares[:, :1]
    with pytest.raises(
        ValueError, match=r"sgd: `squares` must be a float64 array of shape \(5, 3, 3\)"
    ):
        _cuda.advance(chains, "logistic", parameters, **OPTIONS, statistics=running)
    # They are of averaged steps: without those, they are left alone.
    _cuda.advance(
        chains, "logistic", parameters, statistics=running, **{**OPTIONS, "accumulate": False}
    )
    assert recorder.bound[-1].statistics == {}


def test_states_of_a_markov_chain_are_checked(recorder: Recorder, cupy: Any) -> None:
    """A state that does not exist would be a wild address on the device."""
    case = Case("markov_lsa", "float32", 3)
    parameters = on_device(cupy, case.parameters())
    for wrong in (-1, 5, np.nan):
        chains = on_device(cupy, case.chains())
        chains.auxiliary[2, 0] = wrong
        with pytest.raises(ValueError, match="auxiliary must hold one state for each chain"):
            _cuda.advance(chains, "markov_lsa", parameters, **OPTIONS)
    assert recorder.calls == []


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
    matrix, minimizer, factor, _ = parameters
    assert np.array_equal(kept[0], matrix.T)
    assert np.array_equal(kept[1], factor.T)
    assert recorder.calls[0][1][7:10] == pointers(kept[0], minimizer, kept[1])


def test_rows_and_numbers(recorder: Recorder, cupy: Any) -> None:
    case = Case("logistic", "float32", 4, num_rows=20, batch_size=3, sampling=1)
    chains, parameters = on_device(cupy, case.chains()), on_device(cupy, case.parameters())
    _cuda.advance(chains, "logistic", parameters, **OPTIONS)
    features, targets = parameters[:2]
    expected = (features.data.ptr, targets.data.ptr, 20, 3, 1, 0.01, 0.75)
    assert recorder.calls[0][1][7:] == expected
    cosine = Case("cosine", "float32", 4)
    table = cupy.zeros(9, dtype="float32")
    given = (1, np.float64(0.5), (6, 0.0, table))
    _cuda.advance(on_device(cupy, cosine.chains()), "cosine", given, **OPTIONS)
    assert recorder.calls[-1][1][7:] == (1.0, 0.5, 6, 0.0, table.data.ptr, 9)


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
    made = recorder.bound[0].arguments
    assert (made["device"], made["stream"]) == (1, 77)
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
