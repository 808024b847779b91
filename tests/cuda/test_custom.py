"""Gradients in CUDA C++: the kernel around them, in the shim, under nvcc and under NVRTC."""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import hotloops
from hotloops.sgd import _cpp, _cuda, _cuda_custom
from tests.cuda.cases import Case, assert_same_bits, on_device
from tests.cuda.conftest import Compiler
from tests.cuda.test_ptx import CONTRACTED, flags_of_the_build

# The same text for the CPU driver and for the kernel. `data` holds what makes it fail.
GRADIENT = """
typedef {real} Real;
{linkage} int pull(const Real* theta, const Real* noise, long long step, const void* data,
                   Real* out) {{
    const Real* target = static_cast<const Real*>(data);
    for (int i = 0; i < {dim}; ++i) {{
        out[i] = theta[i] - target[i] + noise[i % {normals}] * noise[{normals}];
    }}
    const bool fails = static_cast<double>(step) == static_cast<double>(target[{dim}]);
    return fails && theta[0] > Real(0) ? -7 : 0;
}}
"""
NAME = "hl_cuda_sgd_custom"
REALS = {"float32": "float", "float64": "double"}
SIGNATURE = """T* theta, double* sums, std::uint8_t* flags, std::int64_t* diverged_at,
    const T* step_sizes, std::int64_t num_chains, std::uint64_t seed, std::int64_t chain_offset,
    std::int64_t first_step, std::int64_t num_steps, std::int32_t accumulate, T divergence_limit,
    const void* data, unsigned long long* failed"""
LAUNCHER = """
using T = {real};
extern "C" __attribute__((visibility("default"))) void launch(unsigned blocks, unsigned threads,
    {signature}) {{
    hl_shim::run_grid(dim3(blocks), dim3(threads), 0, nullptr, [&] {{
        {name}(theta, sums, flags, diverged_at, step_sizes, num_chains, seed, chain_offset,
               first_step, num_steps, accumulate, divergence_limit, data, failed);
    }});
}}
"""


class NVRTCError(Exception):
    """CuPy's name for it."""


class Nvrtc:
    """CuPy's module, with the shim for a compiler; a "cubin" is the path of a library."""

    NVRTCError = NVRTCError
    compiler: Compiler
    folder: Path
    made = 0

    def createProgram(self, code: str, name: str, headers: Any, names: Any) -> str:
        return code

    def compileProgram(self, code: str, options: tuple[str, ...]) -> None:
        assert {"--std=c++17", "--fmad=false", "--gpu-architecture=sm_90"} < set(options)
        Nvrtc.made += 1
        real = "float" if f"({NAME}, float" in code else "double"
        text = code + LAUNCHER.format(real=real, signature=SIGNATURE, name=NAME)
        stem = self.folder / hashlib.sha256(text.encode()).hexdigest()[:16]
        stem.with_suffix(".cu").write_text(text)
        self.log = ""
        try:
            self.compiler.compile(stem.with_suffix(".cu"), stem.with_suffix(".o"))
        except AssertionError as error:
            self.log = str(error)
            raise NVRTCError from None
        self.library = stem.with_suffix(".so")
        self.compiler.link([stem.with_suffix(".o")], self.library)

    def getCUBIN(self, code: str) -> bytes:
        return str(self.library).encode()

    def getProgramLog(self, code: str) -> str:
        return self.log

    def destroyProgram(self, code: str) -> None:
        pass


class Module:
    """CuPy's class of loaded code."""

    def load(self, code: bytes) -> None:
        self.library = ctypes.CDLL(code.decode())

    def get_function(self, name: str) -> Callable[..., None]:
        assert name == NAME

        def kernel(grid: tuple[int], block: tuple[int], values: tuple[Any, ...]) -> None:
            self.library.launch(
                ctypes.c_uint(*grid), ctypes.c_uint(*block), *map(as_ctypes, values)
            )

        return kernel


def as_ctypes(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return ctypes.c_void_p(value.ctypes.data)
    return np.ctypeslib.as_ctypes_type(value.dtype)(value.item())


@pytest.fixture
def custom(
    cuda: Any, compiler: Compiler, include: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    """The stand-in for CuPy, with its compiler, and the headers of the checkout."""
    Nvrtc.compiler, Nvrtc.folder = compiler, tmp_path
    cuda.cuda.nvrtc, cuda.cuda.function = Nvrtc(), SimpleNamespace(Module=Module)
    monkeypatch.setattr(hotloops, "get_include", lambda: str(include))
    _cuda_custom._compile.cache_clear()
    yield cuda
    _cuda_custom._compile.cache_clear()


def gradient(linkage: str, dtype: str, dim: int, normals: int) -> str:
    return GRADIENT.format(real=REALS[dtype], linkage=linkage, dim=dim, normals=normals)


def on_cpu(compiler: Compiler, folder: Path, dtype: str, dim: int, normals: int) -> Any:
    """Return the gradient as a C function."""
    text = gradient('extern "C" __attribute__((visibility("default")))', dtype, dim, normals)
    (folder / "pull.cpp").write_text(text)
    compiler.compile(folder / "pull.cpp", folder / "pull.o")
    compiler.link([folder / "pull.o"], folder / "pull.so")
    return ctypes.CDLL(str(folder / "pull.so")).pull


def run_both(
    custom: Any, folder: Path, case: Case, normals: int, uniforms: int, fails_at: float = -1.0
) -> tuple[Any, Any]:
    data = np.append(np.linspace(-1, 1, case.dim), fails_at).astype(case.dtype)
    function = on_cpu(Nvrtc.compiler, folder, case.dtype, case.dim, normals)
    address = ctypes.cast(function, ctypes.c_void_p).value
    source = gradient("__device__", case.dtype, case.dim, normals)
    chains = case.chains()
    device = on_device(custom, chains)
    given = {
        _cpp: (chains, (address, data.ctypes.data, normals, uniforms)),
        _cuda: (device, (source, "pull", custom.asarray(data), normals, uniforms)),
    }
    for backend, (arrays, parameters) in given.items():
        for first, steps, accumulate in ((2**32 - 4, 3, False), (2**32 - 1, 40, True)):
            backend.advance(
                arrays, "custom", parameters, seed=case.seed, chain_offset=3, first_step=first,
                num_steps=steps, accumulate=accumulate, num_threads=1,
                divergence_limit=case.divergence_limit,
            )  # fmt: skip
    return device, chains


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("dim", "copies", "normals", "uniforms"),
    [(1, 1, 1, 1), (2, 2, 2, 1), (3, 5, 4, 6), (9, 3, 7, 1), (130, 2, 130, 1)],
)
def test_same_bits_as_the_cpu(
    custom: Any, tmp_path: Path, dtype: str, dim: int, copies: int, normals: int, uniforms: int
) -> None:
    """State in registers (copies times dim up to 256) and in memory, with copies that diverge."""
    limit = 1.1 if dim == 1 else 1.4
    case = Case("custom", dtype, dim, num_chains=300, copies=copies, divergence_limit=limit)
    device, chains = run_both(custom, tmp_path, case, normals, uniforms)
    assert_same_bits(device, chains)
    assert chains.flags.any()
    assert not chains.flags.all()


def test_failure_names_the_first_chain(custom: Any, tmp_path: Path) -> None:
    case = Case("custom", "float64", 2, num_chains=300, copies=1)
    message = r"sgd_custom: the user's function returned -7 at index (\d+) \(status 4\)"
    with pytest.raises(RuntimeError, match=message) as on_cpu_:
        run_both(custom, tmp_path, case, 2, 1, fails_at=2**32 + 5)
    data = custom.asarray(np.array([-1.0, 1.0, 2**32 - 4]))
    parameters = (gradient("__device__", "float64", 2, 2), "pull", data, 2, 1)
    chains = on_device(custom, case.chains())
    with pytest.raises(RuntimeError, match=message) as on_gpu:
        _cuda.advance(
            chains, "custom", parameters, seed=1, chain_offset=0, first_step=2**32 - 4,
            num_steps=3, accumulate=False, num_threads=1, divergence_limit=1e6,
        )  # fmt: skip
    first = int(np.flatnonzero(case.chains().theta[:, 0, 0] > 0)[0])
    assert f"at index {first} " in str(on_gpu.value)
    assert "at index" in str(on_cpu_.value)


def test_compiled_once(custom: Any, tmp_path: Path) -> None:
    case = Case("custom", "float32", 2, num_chains=3, copies=1)
    made = Nvrtc.made
    run_both(custom, tmp_path, case, 2, 1)
    assert Nvrtc.made == made + 1


def test_source_that_does_not_compile(custom: Any) -> None:
    chains = on_device(custom, Case("custom", "float32", 2).chains())
    options: dict[str, Any] = {
        "seed": 1, "chain_offset": 0, "first_step": 0, "num_steps": 3, "accumulate": False,
        "num_threads": 1, "divergence_limit": 1e6,
    }  # fmt: skip
    with pytest.raises(ValueError, match=r"sgd_custom: the CUDA source does not compile: "):
        _cuda.advance(chains, "custom", ("int pull(", "pull", None, 2, 0), **options)
    with pytest.raises(ValueError, match=r"must be a name, got 'f\(\)'"):
        _cuda.advance(chains, "custom", ("", "f()", None, 2, 0), **options)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nvcc_takes_it(dtype: str, include: Path, tmp_path: Path) -> None:
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("no nvcc")
    source = tmp_path / "kernel.cu"
    user = gradient("__device__", dtype, 3, 3)
    source.write_text(_cuda_custom.source_of(user, "pull", dtype, 3, 2, 3, 1))
    target = tmp_path / "kernel.ptx"
    command = [
        *(nvcc, "-std=c++17", "-ptx", "-arch=compute_80", "--Werror=all-warnings"),
        *(*flags_of_the_build(), "-I", str(include), "-o", str(target), str(source)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert ".entry hl_cuda_sgd_custom" in target.read_text()
    assert CONTRACTED.findall(target.read_text()) == []


def find_nvrtc() -> str | None:
    """Where NVRTC lies: in a package of NVIDIA's, or beside nvcc."""
    folders: list[Path] = []
    if importlib.util.find_spec("nvidia") is not None:
        package = importlib.util.find_spec("nvidia")
        assert package is not None
        folders += [Path(folder) for folder in package.submodule_search_locations or ()]
    nvcc = shutil.which("nvcc")
    if nvcc is not None:
        folders.append(Path(nvcc).resolve().parents[1])
    for folder in folders:
        for path in sorted(folder.rglob("libnvrtc.so*")):
            return str(path)
    return None


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nvrtc_takes_it(dtype: str, include: Path) -> None:
    """The compiler that CuPy uses, which has no standard headers."""
    library = find_nvrtc()
    if library is None:
        pytest.skip("no NVRTC")
    nvrtc = ctypes.CDLL(library)
    user = gradient("__device__", dtype, 3, 3)
    text = _cuda_custom.source_of(user, "pull", dtype, 3, 2, 3, 1)
    program = ctypes.c_void_p()
    assert (
        nvrtc.nvrtcCreateProgram(ctypes.byref(program), text.encode(), b"kernel.cu", 0, None, None)
        == 0
    )
    options = [
        "--std=c++17", "--fmad=false", f"-I{include}", f"-I{include}/hotloops/core/rtc",
        "--gpu-architecture=compute_80",
    ]  # fmt: skip
    values = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
    failed = nvrtc.nvrtcCompileProgram(program, len(options), values)
    log = read(nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog, program)
    assert failed == 0, log
    ptx = read(nvrtc.nvrtcGetPTXSize, nvrtc.nvrtcGetPTX, program)
    assert ".entry hl_cuda_sgd_custom" in ptx
    assert CONTRACTED.findall(ptx) == []


def read(size_of: Any, get: Any, program: Any) -> str:
    size = ctypes.c_size_t()
    assert size_of(program, ctypes.byref(size)) == 0
    text = ctypes.create_string_buffer(size.value)
    assert get(program, text) == 0
    return text.value.decode()


def test_headers_are_installed() -> None:
    try:
        include = Path(hotloops.get_include())
    except FileNotFoundError as error:
        pytest.skip(str(error))
    for name in ("sgd/custom_cuda.cuh", "core/cuda_device.cuh", "core/rtc/cstdint"):
        assert (include / "hotloops" / name).is_file()
