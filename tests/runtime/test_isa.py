"""Which instruction-set level runs, against what the processor says of itself."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hotloops._runtime import dispatch

if TYPE_CHECKING:
    from conftest import Isa, RunPython

ISA_LEVELS = ("base", "v3", "v4")

# The names that Linux gives to the features of the x86-64 psABI levels.
V3_FLAGS = {
    "pni",
    "ssse3",
    "sse4_1",
    "sse4_2",
    "popcnt",
    "cx16",
    "lahf_lm",
    "avx",
    "avx2",
    "bmi1",
    "bmi2",
    "f16c",
    "fma",
    "abm",
    "movbe",
}
V4_FLAGS = {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}

REPORT = "from hotloops import _core; print(_core.isa(), _core.detected_isa())"
FAILURE = """
try:
    import hotloops._core
except ImportError as error:
    print(error)
"""


def flags_of_the_processor() -> set[str]:
    cpuinfo = Path("/proc/cpuinfo")
    if sys.platform != "linux" or not cpuinfo.exists():
        pytest.skip("no /proc/cpuinfo to compare with")
    for line in cpuinfo.read_text().splitlines():
        if line.startswith("flags"):
            return set(line.split(":", 1)[1].split())
    pytest.skip("not an x86 processor")


def test_the_probe_agrees_with_the_kernel() -> None:
    flags = flags_of_the_processor()
    expected = "base"
    if flags >= V3_FLAGS:
        expected = "v4" if flags >= V4_FLAGS else "v3"
    assert dispatch.core().detected_isa() == expected


def test_each_level_can_be_chosen(isa: Isa) -> None:
    detected = dispatch.core().detected_isa()
    for level, report in isa.run_all(REPORT).items():
        assert report == f"{level} {detected}\n"


@pytest.mark.parametrize("env", [{}, {"HOTLOOPS_ISA": ""}])
def test_the_highest_level_is_the_default(run_python: RunPython, env: dict[str, str]) -> None:
    detected = dispatch.core().detected_isa()
    assert run_python(REPORT, env=env) == f"{detected} {detected}\n"


def test_a_level_above_the_processor_is_refused(run_python: RunPython, isa: Isa) -> None:
    missing = [level for level in ISA_LEVELS if level not in isa.levels]
    if not missing:
        pytest.skip("this processor has every level")
    for level in missing:
        message = run_python(FAILURE, env={"HOTLOOPS_ISA": level})
        assert message == (
            f"HOTLOOPS_ISA={level} is above the level of this processor, "
            f"which is {isa.levels[-1]}\n"
        )


@pytest.mark.parametrize("text", ["avx2", "V3", "v3 ", "2", "x" * 300])
def test_an_unknown_level_is_refused(run_python: RunPython, text: str) -> None:
    message = run_python(FAILURE, env={"HOTLOOPS_ISA": text})
    assert message == f"HOTLOOPS_ISA must be base, v3 or v4, got '{text[:60]}'\n"


def test_x86_builds_carry_every_level() -> None:
    flags_of_the_processor()
    assert dispatch.core().build_info()["isa_levels"] == ISA_LEVELS
