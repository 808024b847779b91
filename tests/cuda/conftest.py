"""The CUDA grid code on a CPU: the package's bindings and kernels, compiled with the shim."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from hotloops._runtime import dispatch
from tests.cuda import fake_cupy

ROOT = Path(__file__).parents[2]
SOURCES = (
    "csrc/sgd/cuda_separable.cu",
    "csrc/sgd/cuda_quadratic_full.cu",
    "csrc/sgd/cuda_rows.cu",
    "csrc/random/cuda.cu",
    "csrc/sgd/bind_cuda.cpp",
    "csrc/random/bind_cuda.cpp",
    "tests/cpp/cuda_shim_module.cpp",
)
FLAGS = ("-std=c++17", "-O1", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off")


class Compiler:
    """A C++ compiler that takes ``.cu`` files for C++ over the shim."""

    def __init__(self, program: str, include: Path) -> None:
        self._command = (
            *(program, *FLAGS, "-include", str(ROOT / "tests/cpp/cuda_shim.hpp")),
            *("-I", str(ROOT / "csrc"), "-I", str(include)),
        )

    def compile(self, source: Path, target: Path, *flags: str) -> None:
        self._run(*flags, "-x", "c++", "-c", str(source), "-o", str(target))

    def link(self, objects: list[Path], target: Path) -> None:
        self._run("-shared", *map(str, objects), "-o", str(target))

    def _run(self, *arguments: str) -> None:
        done = subprocess.run(
            (*self._command, *arguments), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def include(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to include ``<hotloops/...>`` from, as if the headers were installed."""
    folder = tmp_path_factory.mktemp("include")
    (folder / "hotloops").symlink_to(ROOT / "csrc")
    return folder


@pytest.fixture(scope="session")
def compiler(include: Path) -> Compiler:
    program = shutil.which(os.environ.get("CXX", "c++"))
    if program is None:
        pytest.skip("no C++ compiler")
    if platform.system() != "Linux":
        pytest.skip("the shim needs the fibers of glibc")
    return Compiler(program, include)


@pytest.fixture(scope="session")
def shim(compiler: Compiler, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The module of the bindings and kernels over the shim."""
    pybind11 = pytest.importorskip("pybind11", reason="the bindings need pybind11's headers")
    python = sysconfig.get_paths()["include"]
    folder = tmp_path_factory.mktemp("shim")
    headers = ("-isystem", pybind11.get_include(), "-isystem", python)

    def build(name: str) -> Path:
        target = folder / (name.replace("/", "_") + ".o")
        compiler.compile(ROOT / name, target, *headers)
        return target

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(build, SOURCES))
    library = folder / "cuda_shim.so"
    compiler.link(objects, library)
    spec = importlib.util.spec_from_file_location("cuda_shim", library)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def cuda(shim: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The CUDA backend over the shim, with arrays of a stand-in for CuPy, which is returned."""
    cupy = fake_cupy.make()
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setattr(dispatch, "cuda", lambda: shim)
    cupy.shim = shim
    yield cupy
    shim.set_max_blocks(2**31 - 1)
    shim.set_backwards(False)
    shim.fail_next_launch(0)
