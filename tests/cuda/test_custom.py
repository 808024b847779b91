"""Gradients in CUDA C++: the kernel around them, in the shim, under nvcc and under NVRTC."""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import hotloops
from hotloops import sgd
from hotloops._runtime import dispatch
from hotloops.sgd import _cpp, _cuda, _cuda_custom
from tests.cuda.cases import RULES, Case, Run, assert_same_bits, on_device
from tests.cuda.conftest import ROOT, Compiler
from tests.cuda.test_ptx import CONTRACTED

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
LAUNCHER = """
extern "C" __attribute__((visibility("default"))) void launch(unsigned blocks, unsigned threads,
    const void* given, std::int64_t first, std::int64_t steps, const void* data,
    unsigned long long* failed, double* workspace) {{
    hl_shim::run_grid(dim3(blocks), dim3(threads), 0, nullptr, [&] {{
        {name}(static_cast<const hl::SgdChains<{real}>*>(given), first, steps, data, failed,
               workspace);
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
        text = code + LAUNCHER.format(real=real, name=NAME)
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
) -> tuple[Run, Run]:
    data = np.append(np.linspace(-1, 1, case.dim), fails_at).astype(case.dtype)
    function = on_cpu(Nvrtc.compiler, folder, case.dtype, case.dim, normals)
    address = ctypes.cast(function, ctypes.c_void_p).value
    source = gradient("__device__", case.dtype, case.dim, normals)
    on_host = Run(case.chains(), case.running(40))
    device = Run(on_device(custom, on_host.chains), on_device(custom, on_host.statistics))
    given = {
        _cpp: (on_host, (address, data.ctypes.data, normals, uniforms)),
        _cuda: (device, (source, "pull", custom.asarray(data), normals, uniforms)),
    }
    for backend, (run, parameters) in given.items():
        for first, steps, accumulate in ((2**32 - 4, 3, False), (2**32 - 1, 40, True)):
            backend.advance(
                run.chains, "custom", parameters, seed=case.seed, chain_offset=3,
                first_step=first, num_steps=steps, accumulate=accumulate, num_threads=1,
                divergence_limit=case.divergence_limit, rules=RULES[case.rules],
                statistics=run.statistics,
            )  # fmt: skip
    return device, on_host


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("dim", "copies", "normals", "uniforms"),
    [(1, 1, 1, 1), (3, 5, 4, 6), (130, 2, 130, 1)],
)
def test_same_bits_as_the_cpu(
    custom: Any, tmp_path: Path, dtype: str, dim: int, copies: int, normals: int, uniforms: int
) -> None:
    """State in registers (copies times dim up to 256) and in memory, with copies that diverge."""
    limit = 1.1 if dim == 1 else 1.4
    case = Case("custom", dtype, dim, 300, copies, divergence_limit=limit, own_steps=dim == 3)
    device, on_host = run_both(custom, tmp_path, case, normals, uniforms)
    assert_same_bits(device, on_host)
    assert on_host.chains.flags.any()
    assert not on_host.chains.flags.all()


@pytest.mark.parametrize(
    ("dtype", "dim", "copies", "rules", "statistics"),
    [
        ("float32", 1, 1, "none", "default"),
        ("float64", 3, 3, "all", "none"),
        ("float32", 5, 2, "box", "covariance"),
        ("float64", 9, 2, "all", "default"),
    ],
)
def test_rules_and_statistics(
    custom: Any, tmp_path: Path, dtype: str, dim: int, copies: int, rules: str, statistics: str
) -> None:
    """With launches of a few steps, and chains that take turns."""
    custom.shim.set_max_steps(7)
    case = Case(
        "custom", dtype, dim, 300, copies, divergence_limit=1.4 if rules == "none" else 1e6,
        own_steps=copies == 2, rules=rules, statistics=statistics,
    )  # fmt: skip
    assert_same_bits(*run_both(custom, tmp_path, case, dim, 1))


def test_small_workspace(custom: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size_of = custom.shim.sgd_workspace
    monkeypatch.setattr(custom.shim, "sgd_workspace", lambda count, size: size_of(1, size))
    case = Case("custom", "float64", 2, num_chains=200, rules="all", statistics="default")
    assert_same_bits(*run_both(custom, tmp_path, case, 2, 1))


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
    with pytest.raises(RuntimeError, match=rf"returned -7 at index {first} "):
        _cuda.advance(
            chains, "custom", parameters, seed=1, chain_offset=0, first_step=2**32 - 4,
            num_steps=3, accumulate=False, num_threads=1, divergence_limit=1e6,
            rules=RULES["decay"],
        )  # fmt: skip


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


PULL = """
template <class T>
__device__ int gradient(const T* theta, const T* noise, long long, const void* data, T* out) {
    for (int i = 0; i < 3; ++i)
        out[i] = theta[i] - static_cast<const T*>(data)[i] + noise[i];
    return 0;
}
"""


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_face(custom: Any, dtype: str) -> None:
    """`Custom` with CUDA source is the quadratic with the same gradient, intervals and all."""
    center = np.array([1.0, -2.0, 0.5], dtype)
    options: dict[str, Any] = {
        "num_steps": 60, "burn_in": 40, "num_chains": 9, "seed": 3, "dtype": dtype,
        "clip_norm": 2.5, "projection": sgd.Ball(4.0),
    }  # fmt: skip
    expected = sgd.run(
        sgd.Quadratic(np.ones(3, dtype), center), [0.25, 0.5], backend="cpp", **options
    )
    problem = sgd.Custom(PULL, 3, custom.asarray(center), dtype=dtype)
    assert repr(problem) == "Custom(CUDA source of gradient, dim=3)"
    found = sgd.run(problem, [0.25, 0.5], **options)
    for name in ("mean", "extrapolated", "last", "diverged_at"):
        assert isinstance(getattr(found, name), custom.ndarray)
        assert getattr(found, name).tobytes() == getattr(expected, name).tobytes(), name
    assert found.state.statistics.squares.tobytes() == expected.state.statistics.squares.tobytes()
    renamed = sgd.Custom(
        PULL.replace("gradient", "pull"), 3, custom.asarray(center), dtype=dtype, entry="pull"
    )
    assert sgd.run(renamed, [0.25, 0.5], **options).mean.tobytes() == expected.mean.tobytes()


def test_source_in_the_documentation(custom: Any) -> None:
    text = (ROOT / "docs/sgd.md").read_text(encoding="utf-8")
    (source,) = re.findall(r'source = """\n(.*?)"""', text, re.DOTALL)
    problem = sgd.Custom(source, 2, custom.asarray([0.1]), num_normals=2, num_uniforms=1)
    run = sgd.run(problem, [0.1, 0.2], num_steps=200, burn_in=100, num_chains=64, seed=1)
    first, second = run.extrapolated.mean(axis=0)
    assert first > 0.5
    assert second < -0.5


def test_face_errors(custom: Any) -> None:
    with pytest.raises(TypeError, match="`data` must live on a CUDA device, got cpu"):
        sgd.Custom(PULL, 3, np.zeros(3))
    with pytest.raises(ValueError, match="`entry` must be a name, got 'f\\(\\)'"):
        sgd.Custom(PULL, 3, entry="f()")
    with pytest.raises(TypeError, match="`entry` must be a name, got 3"):
        sgd.Custom(PULL, 3, entry=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`grad` must define a function `pull` where"):
        sgd.Custom(PULL, 3, entry="pull")
    problem = sgd.Custom(PULL, 3)
    with pytest.raises(TypeError, match="`backend` must be 'cuda' for CUDA arrays, got 'cpp'"):
        sgd.run(problem, 0.1, 5, backend="cpp")
    with pytest.raises(TypeError, match="must live on the same device, got cuda:0 and cpu"):
        sgd.run(problem, 0.1, 5, theta0=np.zeros(3))
    with pytest.raises(ValueError, match="sgd_custom: the CUDA source does not compile"):
        sgd.run(sgd.Custom("int gradient(", 3), 0.1, 5, burn_in=5)


def test_face_without_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Any:
        raise hotloops.BackendUnavailable("backend 'cuda' is not available: no driver")

    monkeypatch.setattr(dispatch, "cuda", missing)
    problem = sgd.Custom(PULL, 3)
    with pytest.raises(hotloops.BackendUnavailable, match="no driver"):
        sgd.run(problem, 0.1, 5)


@pytest.mark.parametrize("general", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nvcc_takes_it(dtype: str, general: bool, include: Path, tmp_path: Path) -> None:
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("no nvcc")
    source = tmp_path / "kernel.cu"
    user = gradient("__device__", dtype, 3, 3)
    source.write_text(_cuda_custom.source_of(user, "pull", dtype, 3, 2, 3, 1, general))
    target = tmp_path / "kernel.ptx"
    command = [
        *(nvcc, "-std=c++17", "-ptx", "-arch=compute_80", "--Werror=all-warnings"),
        *(*flags_of_the_build(), "-I", str(include), "-o", str(target), str(source)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert ".entry hl_cuda_sgd_custom" in target.read_text()
    assert CONTRACTED.findall(target.read_text()) == []


def flags_of_the_build() -> list[str]:
    """What the build passes on to nvcc for floating-point code."""
    text = (ROOT / "cmake/HotloopsCuda.cmake").read_text()
    return re.findall(r"--(?:fmad|ftz|prec-div|prec-sqrt|use_fast_math)\S*", text)


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


@pytest.mark.parametrize("general", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nvrtc_takes_it(dtype: str, general: bool, include: Path) -> None:
    """The compiler that CuPy uses, which has no standard headers."""
    library = find_nvrtc()
    if library is None:
        pytest.skip("no NVRTC")
    for builtins in Path(library).parent.glob("libnvrtc-builtins.so*"):
        ctypes.CDLL(str(builtins))  # which NVRTC looks for by its name alone
    nvrtc = ctypes.CDLL(library)
    user = gradient("__device__", dtype, 3, 3)
    text = _cuda_custom.source_of(user, "pull", dtype, 3, 2, 3, 1, general)
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
    names = (
        "sgd/custom_cuda.cuh", "sgd/cuda_chain.cuh", "sgd/cuda_lane.cuh", "core/cuda_device.cuh",
        "core/rtc/cstdint",
    )  # fmt: skip
    for name in names:
        assert (include / "hotloops" / name).is_file()
