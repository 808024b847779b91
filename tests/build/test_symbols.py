"""What the compiled objects export, and that loading them leaves the floating-point mode alone."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hotloops._runtime import dispatch

if TYPE_CHECKING:
    from conftest import Isa

SOURCE = Path(__file__).parents[2]
CHECK = SOURCE / "cmake" / "check_symbols.cmake"
HEADER = '#include "core/config.hpp"\n'
GOOD = (
    HEADER
    + """
namespace hl { inline namespace HL_ISA_NAMESPACE {
struct Table { int (*work)(int); };
extern const Table family_table;
template <class T> HL_INLINE T twice(T x) { return x + x; }
struct Row { int value; HL_MEMBER int get() const { return value; } };
static int work(int x) { return Row{twice(x)}.get(); }
const Table family_table = {work};
} }
"""
)
WEAK = GOOD + "template <class T> T loose(T x) { return x; }\ntemplate int loose<int>(int);\n"
OUTSIDE = GOOD + "namespace hl { int stray(int x) { return x; } }\n"
GLOBAL = GOOD + "int stray(int x) { return x; }\n"


def tool(name: str) -> str:
    if sys.platform != "linux":
        pytest.skip("the check reads ELF objects")
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def check(tmp_path: Path, code: str, level: str, defined: str) -> subprocess.CompletedProcess[str]:
    """Compile `code` for `defined` and check it as an object of `level`."""
    source, listed = tmp_path / "cpu.cpp", tmp_path / "objects.txt"
    made = tmp_path / "cpu.o"
    source.write_text(code)
    listed.write_text(f"{level}|{made}\n")
    compiler = [tool("c++"), "-std=c++17", "-O1", "-fPIC", "-fvisibility=hidden"]
    include = f"-I{SOURCE / 'csrc'}"
    subprocess.run(
        [*compiler, f"-DHL_ISA_{defined.upper()}", include, "-c", str(source), "-o", str(made)],
        check=True,
    )
    return subprocess.run(
        [tool("cmake"), f"-DNM={tool('nm')}", f"-DLIST={listed}", "-P", str(CHECK)],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("level", ["base", "v3", "v4"])
def test_a_driver_of_its_level_passes(tmp_path: Path, level: str) -> None:
    done = check(tmp_path, GOOD, level, level)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("code", "complaint"),
    [
        (WEAK, "weak symbol _Z5looseIiET_S0_"),
        (OUTSIDE, "symbol outside hl::isa_v3: _ZN2hl5strayEi"),
        (GLOBAL, "symbol outside hl::isa_v3: _Z5strayi"),
    ],
)
def test_a_loose_symbol_is_found(tmp_path: Path, code: str, complaint: str) -> None:
    done = check(tmp_path, code, "v3", "v3")
    assert done.returncode != 0
    assert complaint in done.stderr


def test_a_driver_of_another_level_is_found(tmp_path: Path) -> None:
    done = check(tmp_path, GOOD, "v3", "v4")
    assert done.returncode != 0
    assert "symbol outside hl::isa_v3: _ZN2hl6isa_v412family_tableE" in done.stderr


def exported(module: Any) -> set[str]:
    done = subprocess.run(
        [tool("nm"), "--dynamic", "--defined-only", "--format=posix", module.__file__],
        capture_output=True,
        text=True,
        check=True,
    )
    return {line.split()[0] for line in done.stdout.splitlines()}


def test_the_module_exports_three_names() -> None:
    core = dispatch.core()
    names = {"PyInit__core", "hotloops_get_num_threads", "hotloops_set_num_threads"}
    assert exported(core) == names


def test_the_cuda_module_imports_without_a_driver_and_exports_one_name() -> None:
    if not dispatch.core().build_info()["cuda"]:
        pytest.skip("built without CUDA")
    from hotloops import _cuda

    state = _cuda.driver_state()
    assert state["available"] == (state["reason"] == "")
    assert (_cuda.device_count() > 0) == state["available"]
    assert exported(_cuda) == {"PyInit__cuda"}


FLOAT_MODE = """
import numpy as np

def survives():
    return float(np.array([1e-300])[0] * np.array([1e-10])[0]) == 1e-310

assert survives()
import hotloops
from hotloops import _core, random, sgd
assert survives()
assert _core._test_float_environment(count=64, num_threads=4) == (64, 64)
random.normals(seed=1, steps=3, chains=100, coordinates=5)
problem = sgd.Quadratic(np.ones(4), np.zeros(4))
sgd.run(problem, [0.1], num_steps=20, num_chains=64, backend="cpp")
assert survives()
assert _core._test_float_environment(count=64, num_threads=4) == (64, 64)
print("same")
"""


def test_no_call_changes_the_floating_point_mode(isa: Isa) -> None:
    assert isa.run_all(FLOAT_MODE) == dict.fromkeys(isa.levels, "same\n")
