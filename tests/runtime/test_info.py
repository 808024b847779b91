"""What `show_runtime` tells, with everything there and with everything missing."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import sys
from typing import Any

import numpy as np
import pytest

import hotloops
from hotloops._runtime import dispatch, info
from hotloops._runtime.errors import BackendUnavailable

KEYS = [
    *("hotloops", "python", "platform", "numpy", "scipy", "numba", "cupy", "torch"),
    *("core", "isa", "compiler", "threads", "cuda", "blas", "environment"),
]


class Core:
    def isa(self) -> str:
        return "v3"

    def detected_isa(self) -> str:
        return "v4"

    def compiler(self) -> str:
        return "gcc 12.2"

    def get_num_threads(self) -> int:
        return 6


class Cuda:
    def driver_state(self) -> dict[str, Any]:
        return {
            "available": True,
            "reason": "",
            "device_count": 2,
            "driver_version": 13020,
            "runtime_version": 12080,
        }


@pytest.fixture
def everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "core", Core)
    monkeypatch.setattr(dispatch, "cuda", Cuda)


@pytest.mark.usefixtures("everything")
def test_everything_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOTLOOPS_ISA", "v3")
    found = info.runtime_info()
    assert list(found) == KEYS
    assert found["hotloops"] == hotloops.__version__
    assert found["numpy"] == np.__version__
    assert found["python"].startswith(platform.python_version())
    assert found["core"] == "available"
    assert found["isa"] == "v3 (this processor has v4)"
    assert found["compiler"] == "gcc 12.2"
    assert found["threads"] == 6
    assert found["cuda"] == "2 device(s), driver for CUDA 13.2, built with CUDA 12.8"
    assert found["environment"]["HOTLOOPS_ISA"] == "v3"
    json.dumps(found)


@pytest.mark.usefixtures("everything")
def test_printing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOTLOOPS_BACKEND", "cpp")
    hotloops.show_runtime()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == KEYS
    assert f"hotloops     {hotloops.__version__}" in lines
    assert "isa          v3 (this processor has v4)" in lines
    assert "HOTLOOPS_BACKEND=cpp" in lines[-1]


def test_everything_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        def raise_() -> None:
            raise BackendUnavailable(f"backend '{name}' is not available: blocked")

        return raise_

    def no_package(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    for name in ("core", "cuda", "numba"):
        monkeypatch.setattr(dispatch, name, missing(name))
    monkeypatch.setattr(importlib.metadata, "version", no_package)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.delenv("HOTLOOPS_NUM_THREADS", raising=False)
    found = info.runtime_info()
    assert list(found) == KEYS
    assert found["core"] == "backend 'core' is not available: blocked"
    assert (found["isa"], found["compiler"]) == ("none", "none")
    assert found["cuda"] == "backend 'cuda' is not available: blocked"
    assert found["torch"] == "not installed"


@pytest.mark.usefixtures("everything")
def test_no_overrides(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in info.runtime_info()["environment"]:
        monkeypatch.delenv(name)
    hotloops.show_runtime()
    assert capsys.readouterr().out.splitlines()[-1] == "environment  no overrides"


def test_a_bad_thread_count_is_told_not_raised(run_python: Any) -> None:
    code = "import hotloops; hotloops.show_runtime()"
    for blocked in ((), ("hotloops._core",)):
        printed = run_python(code, env={"HOTLOOPS_NUM_THREADS": "many"}, blocked=blocked)
        assert "threads      HOTLOOPS_NUM_THREADS must be a positive integer, got 'many'" in printed


def test_blas_of_scipy(run_python: Any) -> None:
    scipy_config = pytest.importorskip("scipy.__config__")
    name = scipy_config.CONFIG["Build Dependencies"]["blas"]["name"]
    assert name in info.runtime_info()["blas"]
    code = "from hotloops._runtime import info; print(info._blas())"
    expected = "none (scipy cannot be imported: scipy is blocked by the test)\n"
    assert run_python(code, blocked=["scipy"]) == expected


def test_nothing_heavy_is_imported(run_python: Any) -> None:
    code = """
        import sys, hotloops
        hotloops.show_runtime()
        print(sorted({"numba", "torch", "cupy", "jax", "scipy.linalg"} & set(sys.modules)))
    """
    assert run_python(code).splitlines()[-1] == "[]"
