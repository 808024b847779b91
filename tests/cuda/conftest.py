"""The CUDA grid code on a CPU: the package's bindings and kernels, compiled with the shim."""

from __future__ import annotations

import fcntl
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

from hotloops._runtime import arrays, cublas, dispatch
from hotloops.sgd import _cuda
from tests.cuda import fake_cupy

ROOT = Path(__file__).parents[2]
# Families whose bindings are one translation unit: each takes seconds for pybind11's templates.
UNITS = (("admm", "flow", "nn", "simplex"), ("prox", "random", "sgd"))
SOURCES = sorted(ROOT.glob("csrc/*/cuda*.cu"), key=lambda path: -path.stat().st_size)
# The shim jumps between stacks, which fortified functions take for an error.
FLAGS = (
    "-std=c++17",
    "-O1",
    "-fPIC",
    "-fvisibility=hidden",
    "-ffp-contract=off",
    "-U_FORTIFY_SOURCE",
)


def flags_of(source: Path) -> tuple[str, ...]:
    """Return what a source is compiled with besides."""
    if source.suffix != ".cu":
        return ("-O0",)  # bindings would gain nothing
    if source.parent.name != "simplex":
        return ()
    # -O0 takes a quarter of the time to compile what the tests then run for a few seconds.
    fused = dispatch.core().isa() in ("v3", "v4")
    # These levels and every device fuse products with sums.
    return ("-O0", "-mfma") if fused else ("-O0",)


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
    """The module of the bindings and kernels over the shim; workers of one run share it."""
    pytest.importorskip("pybind11", reason="the bindings need pybind11's headers")
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    library, fake = folder / "cuda_shim.so", folder / "fake_cublas.so"
    with (folder / "cuda_shim.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not library.exists():
            build(compiler, folder, fake, library)
    spec = importlib.util.spec_from_file_location("cuda_shim", library)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.load_cublas(str(fake)) == ""
    return module


def build(compiler: Compiler, folder: Path, fake: Path, library: Path) -> None:
    """Compile the stand-in for cuBLAS and, last of all, the module."""
    import pybind11

    headers = "-isystem", pybind11.get_include(), "-isystem", sysconfig.get_paths()["include"]

    units = [folder / f"bindings_{number}.cpp" for number in range(len(UNITS))]
    for unit, families in zip(units, UNITS, strict=True):
        sources = [
            path for family in families for path in ROOT.glob(f"csrc/{family}/bind_cuda*.cpp")
        ]
        unit.write_text("".join(f'#include "{path}"\n' for path in sources))
    more = ROOT / "csrc/core/cublas.cpp", ROOT / "tests/cpp/cuda_shim_module.cpp"

    def compile_one(source: Path) -> Path:
        target = folder / f"{source.parent.name}_{source.stem}.o"
        compiler.compile(source, target, *headers, *flags_of(source))
        return target

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        *objects, blas = pool.map(
            compile_one, (*units, *SOURCES, *more, ROOT / "tests/cpp/fake_cublas.cpp")
        )
    compiler.link([blas], fake)
    compiler.link(objects, library)


@pytest.fixture
def cuda(shim: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The CUDA backend over the shim, with arrays of a stand-in for CuPy, which is returned."""
    cupy = fake_cupy.make()
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setattr(dispatch, "cuda", lambda: shim)
    monkeypatch.setattr(cublas, "load", lambda: shim)
    library_of = arrays.library_of
    monkeypatch.setattr(
        arrays, "library_of", lambda value: fake_cupy.library_of(value) or library_of(value)
    )
    cupy.shim = shim
    yield cupy
    shim.set_max_blocks(2**31 - 1)
    shim.set_max_steps(10_000)
    shim.set_backwards(False)
    shim.fail_next_launch(0)


@pytest.fixture
def general(monkeypatch: pytest.MonkeyPatch) -> None:
    """All runs take the kernels with every rule and statistic, needed or not."""
    monkeypatch.setattr(_cuda, "_has_fast_kernel", lambda kernel, parameters: False)
