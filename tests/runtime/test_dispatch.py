"""Which backend runs, who decides, and what is said when it cannot."""

from __future__ import annotations

import asyncio
import importlib
import re
import sys
import threading
import types
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

import hotloops
from hotloops._runtime import dispatch
from hotloops._runtime.dispatch import resolve_backend
from hotloops._runtime.errors import BackendUnavailable


def raises(kind: type[Exception], message: str) -> Any:
    return pytest.raises(kind, match="^" + re.escape(message) + "$")


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Start without a choice and with nothing loaded, and leave it so."""
    monkeypatch.delenv("HOTLOOPS_BACKEND", raising=False)
    monkeypatch.setattr(dispatch, "_modules", {})
    monkeypatch.setattr(dispatch, "_cuda_ready", False)
    monkeypatch.setattr(dispatch, "_warned_fallback", False)
    with hotloops.use_backend(None):
        yield


def state(reason: str = "") -> dict[str, Any]:
    return {"available": not reason, "reason": reason}


class Modules:
    """Replaces what imports as the core, the CUDA module and Numba."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.imported: list[str] = []
        self.errors: dict[str, ImportError] = {}
        self.driver_state = state()
        self.cuda = types.SimpleNamespace(driver_state=lambda: self.driver_state)
        self.by_name: dict[str, Any] = {
            "hotloops._core": types.ModuleType("hotloops._core"),
            "hotloops._cuda": self.cuda,
            "numba": types.ModuleType("numba"),
        }
        monkeypatch.setattr(importlib, "import_module", self.import_module)

    def import_module(self, name: str) -> Any:
        self.imported.append(name)
        if name in self.errors:
            raise self.errors[name]
        return self.by_name[name]

    def remove(self, name: str) -> None:
        self.errors[name] = ModuleNotFoundError(f"No module named {name!r}", name=name)


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> Modules:
    return Modules(monkeypatch)


NO_CORE = "backend 'cpp' is not available: hotloops._core is not built into this installation"
NO_CUDA = "backend 'cuda' is not available: hotloops._cuda is not built into this installation"
NO_NUMBA = "backend 'numba' is not available: numba is not installed"


def test_arrays_decide_by_default(modules: Modules) -> None:
    assert resolve_backend("f", None, "cpu") == "cpp"
    assert resolve_backend("f", None, "cuda") == "cuda"


def test_argument_over_context_over_environment(
    modules: Modules, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOTLOOPS_BACKEND", "numba")
    assert resolve_backend("f", None, "cpu") == "numba"
    with hotloops.use_backend("cpp"):
        assert resolve_backend("f", None, "cpu") == "cpp"
        assert resolve_backend("f", "numba", "cpu") == "numba"
        with hotloops.use_backend(None):
            assert resolve_backend("f", None, "cpu") == "numba"
        assert resolve_backend("f", None, "cpu") == "cpp"
    assert resolve_backend("f", None, "cpu") == "numba"
    monkeypatch.setenv("HOTLOOPS_BACKEND", "")
    assert resolve_backend("f", None, "cpu") == "cpp"


def test_what_was_asked_for(modules: Modules, monkeypatch: pytest.MonkeyPatch) -> None:
    assert dispatch.asked_backend("f", None) is None
    monkeypatch.setenv("HOTLOOPS_BACKEND", "cuda")
    assert dispatch.asked_backend("f", None) == "cuda"
    with hotloops.use_backend("numba"):
        assert dispatch.asked_backend("f", None) == "numba"
        assert dispatch.asked_backend("f", "cpp") == "cpp"
    with pytest.raises(ValueError, match=r"^f: `backend` must be one of"):
        dispatch.asked_backend("f", "gpu")
    assert modules.imported == []


def test_use_backend_as_a_plain_call_stays(modules: Modules) -> None:
    hotloops.use_backend("numba")
    assert resolve_backend("f", None, "cpu") == "numba"
    hotloops.use_backend(None)
    assert resolve_backend("f", None, "cpu") == "cpp"


def test_use_backend_comes_back_after_an_error(modules: Modules) -> None:
    with pytest.raises(ZeroDivisionError), hotloops.use_backend("numba"):
        raise ZeroDivisionError
    assert resolve_backend("f", None, "cpu") == "cpp"


def test_other_threads_do_not_see_it(modules: Modules) -> None:
    seen = []
    with hotloops.use_backend("numba"):
        thread = threading.Thread(target=lambda: seen.append(resolve_backend("f", None, "cpu")))
        thread.start()
        thread.join()
    # From 3.14 on, free-threaded Python hands the context of the parent to new threads.
    inherited = bool(getattr(sys.flags, "thread_inherit_context", 0))
    assert seen == ["numba" if inherited else "cpp"]


def test_other_tasks_do_not_see_it(modules: Modules) -> None:
    async def choose(name: Any, wait: asyncio.Event, done: asyncio.Event) -> str:
        hotloops.use_backend(name)
        done.set()
        await wait.wait()
        return resolve_backend("f", None, "cpu")

    async def both() -> tuple[str, str]:
        first, second = asyncio.Event(), asyncio.Event()
        return await asyncio.gather(choose("numba", second, first), choose("cpp", first, second))

    assert tuple(asyncio.run(both())) == ("numba", "cpp")


@pytest.mark.parametrize("name", ["c++", "CPP", "gpu", ""])
def test_unknown_names(name: str, modules: Modules, monkeypatch: pytest.MonkeyPatch) -> None:
    options = "be one of 'cpp', 'cuda', 'numba'"
    with raises(ValueError, f"run: `backend` must {options}, got {name!r}"):
        resolve_backend("run", name, "cpu")
    with raises(ValueError, f"use_backend: `name` must {options}, got {name!r}"):
        hotloops.use_backend(name)  # type: ignore[arg-type]
    if name:
        monkeypatch.setenv("HOTLOOPS_BACKEND", name)
        with raises(ValueError, f"run: `HOTLOOPS_BACKEND` must {options}, got {name!r}"):
            resolve_backend("run", None, "cpu")
    assert modules.imported == []


def test_names_of_other_types(modules: Modules) -> None:
    options = "be one of 'cpp', 'cuda', 'numba'"
    with raises(TypeError, f"run: `backend` must {options}, got 1"):
        resolve_backend("run", 1, "cpu")  # type: ignore[arg-type]
    with raises(TypeError, f"use_backend: `name` must {options}, got 1"):
        hotloops.use_backend(1)  # type: ignore[arg-type]


def test_wrong_device(modules: Modules, monkeypatch: pytest.MonkeyPatch) -> None:
    on_host = "must be 'cpp' or 'numba' for arrays in host memory, got 'cuda'"
    on_device = "must be 'cuda' for CUDA arrays, got"
    with raises(TypeError, f"run: `backend` {on_host}"):
        resolve_backend("run", "cuda", "cpu")
    for name in ("cpp", "numba"):
        with raises(TypeError, f"run: `backend` {on_device} '{name}'"):
            resolve_backend("run", name, "cuda")
    with hotloops.use_backend("cuda"), raises(TypeError, f"run: `use_backend` {on_host}"):
        resolve_backend("run", None, "cpu")
    monkeypatch.setenv("HOTLOOPS_BACKEND", "numba")
    with raises(TypeError, f"run: `HOTLOOPS_BACKEND` {on_device} 'numba'"):
        resolve_backend("run", None, "cuda")
    assert modules.imported == []


def test_missing_core_falls_back_with_one_warning(modules: Modules) -> None:
    modules.remove("hotloops._core")
    with pytest.warns(RuntimeWarning) as caught:
        assert resolve_backend("f", None, "cpu") == "numba"
    expected = f"{NO_CORE}; hotloops runs its slower Numba twins instead"
    assert [str(warning.message) for warning in caught] == [expected]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert resolve_backend("f", None, "cpu") == "numba"
    assert modules.imported.count("hotloops._core") == 1, "a failed import is not tried again"


def test_missing_core_when_asked_for(modules: Modules) -> None:
    modules.remove("hotloops._core")
    with raises(BackendUnavailable, NO_CORE):
        resolve_backend("f", "cpp", "cpu")


def test_nothing_to_run_on(modules: Modules) -> None:
    modules.remove("hotloops._core")
    modules.remove("numba")
    with raises(BackendUnavailable, f"{NO_CORE}; {NO_NUMBA}"):
        resolve_backend("f", None, "cpu")


def test_missing_numba(modules: Modules) -> None:
    modules.remove("numba")
    assert resolve_backend("f", None, "cpu") == "cpp"
    with raises(BackendUnavailable, NO_NUMBA):
        resolve_backend("f", "numba", "cpu")


def test_broken_imports_say_why(modules: Modules) -> None:
    modules.errors["hotloops._core"] = ImportError("libm.so: version not found")
    modules.errors["numba"] = ImportError("Numba needs NumPy 2.3 or less")
    modules.errors["hotloops._cuda"] = ModuleNotFoundError("No module named 'x'", name="x")
    start = "backend '{}' is not available: {} cannot be imported: "
    with raises(
        BackendUnavailable, start.format("cpp", "hotloops._core") + "libm.so: version not found"
    ):
        dispatch.core()
    with raises(
        BackendUnavailable, start.format("numba", "numba") + "Numba needs NumPy 2.3 or less"
    ):
        dispatch.numba()
    with raises(BackendUnavailable, start.format("cuda", "hotloops._cuda") + "No module named 'x'"):
        dispatch.cuda()


@pytest.mark.parametrize("variable", ["HOTLOOPS_ISA", "HOTLOOPS_NUM_THREADS"])
def test_a_bad_variable_is_no_missing_core(modules: Modules, variable: str) -> None:
    modules.errors["hotloops._core"] = ImportError(f"{variable} must be something else")
    with pytest.raises(BackendUnavailable, match=f"cannot be imported: {variable} must be"):
        resolve_backend("f", None, "cpu")


def test_cuda_not_built(modules: Modules) -> None:
    modules.remove("hotloops._cuda")
    with raises(BackendUnavailable, NO_CUDA):
        resolve_backend("f", None, "cuda")


@pytest.mark.parametrize("reason", ["no CUDA driver is installed", "the driver finds no device"])
def test_cuda_without_driver_or_device(modules: Modules, reason: str) -> None:
    modules.driver_state = state(reason)
    for _ in range(2):
        with raises(BackendUnavailable, f"backend 'cuda' is not available: {reason}"):
            resolve_backend("f", "cuda", "cuda")
    modules.driver_state = state()
    assert dispatch.cuda() is modules.cuda


def test_a_bad_environment_stops_calls_not_imports(run_python: Any) -> None:
    """With the real core, if this installation has one."""
    code = """
        import importlib.util
        import hotloops
        from hotloops._runtime.dispatch import resolve_backend
        if importlib.util.find_spec("hotloops._core") is None:
            print("HOTLOOPS_ISA")
        else:
            try:
                resolve_backend("f", None, "cpu")
            except hotloops.BackendUnavailable as error:
                print(error)
    """
    assert "HOTLOOPS_ISA" in run_python(code, env={"HOTLOOPS_ISA": "v99"})


def test_isa_levels_really_taken(isa: Any) -> None:
    taken = isa.run_all("from hotloops._runtime import dispatch; print(dispatch.core().isa())")
    assert taken == {level: f"{level}\n" for level in isa.levels}
    assert "base" in isa.levels


def test_every_backend_resolves(backend: str) -> None:
    device = "cuda" if backend == "cuda" else "cpu"
    assert resolve_backend("f", backend, device) == backend
