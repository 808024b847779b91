"""Builds for one instruction-set level: what they say where the processor or the user disagrees."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from hotloops._runtime import dispatch

CSRC = Path(__file__).parents[2] / "csrc"
LEVELS = ("base", "v3", "v4")
MAIN = """
#include <cstdio>
#include "core/dispatch.hpp"

int main() {
    const char* error = hl::isa_error();
    std::printf("%s", error == nullptr ? hl::isa_name(hl::active_isa()) : error);
    return 0;
}
"""


@pytest.fixture(scope="module", params=LEVELS)
def level(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def program(level: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("c++")
    if compiler is None or platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("a C++ compiler for x86-64 is not installed")
    folder = tmp_path_factory.mktemp("one_level")
    (folder / "main.cpp").write_text(MAIN)
    sources = [str(folder / "main.cpp"), str(CSRC / "core" / "dispatch.cpp")]
    options = ["-std=c++17", f"-DHL_ONLY_ISA={level}", f"-I{CSRC}"]
    subprocess.run([compiler, *options, *sources, "-o", str(folder / "program")], check=True)
    return folder / "program"


def answer(program: Path, wanted: str | None) -> str:
    env = {name: text for name, text in os.environ.items() if name != "HOTLOOPS_ISA"}
    if wanted is not None:
        env["HOTLOOPS_ISA"] = wanted
    return subprocess.run([program], env=env, capture_output=True, text=True, check=True).stdout


def own() -> str:
    return str(dispatch.core().detected_isa())


@pytest.mark.parametrize("wanted", [None, "", "same"])
def test_its_level_runs_where_the_processor_has_it(
    program: Path, level: str, wanted: str | None
) -> None:
    found = answer(program, level if wanted == "same" else wanted)
    if LEVELS.index(own()) >= LEVELS.index(level):
        assert found == level
    else:
        assert found == (
            f"hotloops was compiled for {level} only, and this processor has no more than {own()}"
        )


def test_another_level_is_refused(program: Path, level: str) -> None:
    if LEVELS.index(own()) < LEVELS.index(level):
        pytest.skip("this processor lacks the level")
    other = "v3" if level == "base" else "base"
    found = answer(program, other)
    assert found == f"HOTLOOPS_ISA is '{other}', but hotloops was compiled for {level} only"
