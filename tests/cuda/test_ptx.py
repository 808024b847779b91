"""No product is contracted with a sum on the device: kernels of class A round each on its own."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = [
    path
    for path in ROOT.glob("csrc/*/cuda*.cu")
    if path.name != "cuda_general_custom.cu"  # which has no kernel
]
# Sums over the rows of returns are of class B: their kernels ask for multiply-add by name.
FUSED = "ridge_sum"
CONTRACTED = re.compile(r"^\s+(?:fma|mad)\.[a-z.]*f(?:32|64)\b.*$", re.MULTILINE)


def contracted(text: str) -> list[str]:
    """The contracted operations outside of the kernels that ask for them."""
    kernels = (part.partition("(") for part in text.split(".entry")[1:])
    return [
        line for name, _, body in kernels if FUSED not in name for line in CONTRACTED.findall(body)
    ]


@pytest.fixture(scope="module")
def built() -> str:
    """The PTX inside of the installed module."""
    found = importlib.util.find_spec("hotloops._cuda")
    if found is None or found.origin is None:
        pytest.skip("hotloops was built without CUDA")
    parts = re.findall(rb"^\.version [\t\n -~]+", Path(found.origin).read_bytes(), re.MULTILINE)
    text = b"\n".join(parts).decode() or uncompressed(found.origin)
    if ".entry" not in text:
        pytest.skip("built for one kind of device, without PTX")
    return text


def uncompressed(module: str) -> str:
    """The PTX of a build for several architectures, which is compressed."""
    cuobjdump = shutil.which("cuobjdump")
    if cuobjdump is None:
        pytest.skip("no cuobjdump")
    command = [cuobjdump, "-ptx", module]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_every_source_is_there(built: str) -> None:
    """NVCC writes a file's hash and name into those of its kernels in anonymous namespaces."""
    names = set(re.findall(r"\.entry \S*?_GLOBAL__N__([0-9a-f]+_\d+_\w+?)_cu_", built))
    assert sorted(name.split("_", 2)[2] for name in names) == sorted(path.stem for path in SOURCES)


def test_no_contraction(built: str) -> None:
    assert contracted(built) == []


def test_divisions_and_small_numbers(built: str) -> None:
    """Divisions and roots are those of IEEE 754, and small numbers are not flushed to zero."""
    assert re.findall(r"\b(?:div\.approx|div\.full|sqrt\.approx|rcp\.approx)\S*", built) == []
    assert ".ftz" not in built


def test_the_check_sees_contraction(tmp_path: Path) -> None:
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("no nvcc")
    target = tmp_path / "kernels.ptx"
    command = [
        *(nvcc, "-std=c++17", "-ptx", "-arch=compute_80", "--fmad=true"),
        *("-I", str(ROOT / "csrc"), "-o", str(target), str(ROOT / "csrc/random/cuda.cu")),
    ]
    subprocess.run(command, check=True)
    assert contracted(target.read_text())
