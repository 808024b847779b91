"""No product is contracted with a sum on the device: kernels of class A round each on its own."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    path.relative_to(ROOT)
    for path in ROOT.glob("csrc/*/cuda*.cu")
    if path.name != "cuda_general_custom.cu"  # which has no kernel
)
# Sums over the rows of returns are of class B: their kernels ask for multiply-add by name.
FUSED = "ridge_sum"
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


def contracted(text: str) -> list[str]:
    """The contracted operations outside of the kernels that ask for them."""
    kernels = (part.partition("(") for part in text.split(".entry")[1:])
    return [
        line for name, _, body in kernels if FUSED not in name for line in CONTRACTED.findall(body)
    ]


def flags_of_the_build() -> list[str]:
    """What the build passes on to nvcc for floating-point code."""
    text = (ROOT / "cmake/HotloopsCuda.cmake").read_text()
    return re.findall(r"--(?:fmad|ftz|prec-div|prec-sqrt|use_fast_math)\S*", text)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, str]:
    """The PTX of every source."""
    folder = tmp_path_factory.mktemp("ptx")

    def build(source: Path) -> str:
        target = folder / f"{source.parent.name}_{source.stem}.ptx"
        return ptx(ROOT / source, target, *flags_of_the_build())

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(zip(SOURCES, pool.map(build, SOURCES), strict=True))


@pytest.mark.parametrize("source", SOURCES, ids=str)
def test_no_contraction(compiled: dict[Path, str], source: Path) -> None:
    text = compiled[source]
    assert ".entry" in text
    assert contracted(text) == []
    # Divisions and roots are those of IEEE 754, and small numbers are not flushed to zero.
    assert re.findall(r"\b(?:div\.approx|div\.full|sqrt\.approx|rcp\.approx)\S*", text) == []
    assert ".ftz" not in text


def test_the_check_sees_contraction(tmp_path: Path) -> None:
    text = ptx(ROOT / "csrc/random/cuda.cu", tmp_path / "kernels.ptx", "--fmad=true")
    assert contracted(text)


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
    assert contracted(done.stdout) == []
