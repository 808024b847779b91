"""No product is contracted with a sum on the device: kernels of class A round each on its own."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path.relative_to(ROOT) for path in ROOT.glob("csrc/*/cuda*.cu"))
CONTRACTED = re.compile(r"^\s+(?:fma|mad)\.[a-z.]*f(?:32|64)\b.*$", re.MULTILINE)


def ptx(source: Path, target: Path, *flags: str) -> str:
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("no nvcc")
    command = [
        *(nvcc, "-std=c++17", "-ptx", "-arch=compute_80", "-I", str(ROOT / "csrc"), *flags),
        *("-o", str(target), str(source)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target.read_text()


def flags_of_the_build() -> list[str]:
    """What the build passes on to nvcc for floating-point code."""
    text = (ROOT / "cmake/HotloopsCuda.cmake").read_text()
    return re.findall(r"--(?:fmad|ftz|prec-div|prec-sqrt|use_fast_math)\S*", text)


@pytest.mark.parametrize("source", SOURCES, ids=str)
def test_no_contraction(source: Path, tmp_path: Path) -> None:
    text = ptx(ROOT / source, tmp_path / "kernels.ptx", *flags_of_the_build())
    assert ".entry" in text
    assert CONTRACTED.findall(text) == []
    # Divisions and roots are those of IEEE 754, and small numbers are not flushed to zero.
    assert re.findall(r"\b(?:div\.approx|div\.full|sqrt\.approx|rcp\.approx)\S*", text) == []
    assert ".ftz" not in text


def test_the_check_sees_contraction(tmp_path: Path) -> None:
    text = ptx(ROOT / "csrc/random/cuda.cu", tmp_path / "kernels.ptx", "--fmad=true")
    assert CONTRACTED.findall(text)


def test_built_module(tmp_path: Path) -> None:
    """The PTX inside of the installed module too."""
    found = importlib.util.find_spec("hotloops._cuda")
    if found is None or found.origin is None:
        pytest.skip("hotloops was built without CUDA")
    cuobjdump = shutil.which("cuobjdump")
    if cuobjdump is None:
        pytest.skip("no cuobjdump")
    done = subprocess.run(
        [cuobjdump, "-ptx", found.origin], capture_output=True, text=True, check=True
    )
    if ".entry" not in done.stdout:
        pytest.skip("built for one kind of device, without PTX")
    assert CONTRACTED.findall(done.stdout) == []
