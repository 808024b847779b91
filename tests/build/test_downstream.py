"""A CMake project of somebody else, built against the installed headers."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

import hotloops

PROJECT = """
cmake_minimum_required(VERSION 3.24)
project(downstream LANGUAGES CXX)
find_package(hotloops 0.1 CONFIG REQUIRED)
add_executable(downstream main.cpp {sources})
target_link_libraries(downstream PRIVATE hotloops::headers)
target_compile_options(downstream PRIVATE -Wall -Wextra -Wconversion -Wshadow -Werror)
"""

# The vectors of Random123's kat_vectors for philox4x32-10.
MAIN = """
#include <cstdint>
#include <cstdio>
#include <hotloops/core/philox.hpp>

static void show(hl::PhiloxBlock<std::uint64_t> counter, hl::PhiloxKey key) {
    const hl::PhiloxBlock<std::uint64_t> words = hl::philox4x32(counter, key);
    for (const std::uint64_t word : words.word) {
        std::printf("%08x ", static_cast<unsigned>(word & 0xffffffffu));
    }
    std::printf("\\n");
}

int main() {
    show({{0, 0, 0, 0}}, {0, 0});
    show({{0xffffffffu, 0xffffffffu, 0xffffffffu, 0xffffffffu}}, {0xffffffffu, 0xffffffffu});
    show({{0x243f6a88u, 0x85a308d3u, 0x13198a2eu, 0x03707344u}}, {0xa4093822u, 0x299f31d0u});
    return 0;
}
"""
EXPECTED = """\
6627e8d5 e169c58d bc57ac4c 9b00dbd8
408f276d 41c83b0e a20bc7c6 6d5451fd
d16cfe09 94fdcceb 5001e420 24126ea1
"""


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def build(tmp_path: Path, sources: dict[str, str]) -> Path:
    """Build the project with extra sources and return its program."""
    cmake = shutil.which("cmake")
    if cmake is None or shutil.which("c++") is None:
        pytest.skip("cmake or a C++ compiler is not installed")
    for name, text in {"main.cpp": MAIN, **sources}.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "CMakeLists.txt").write_text(PROJECT.format(sources=" ".join(sources)))
    made = tmp_path / "made"
    prefix = f"-DCMAKE_PREFIX_PATH={hotloops.get_include()}"
    run(cmake, "-S", str(tmp_path), "-B", str(made), prefix)
    run(cmake, "--build", str(made))
    return made / "downstream"


def test_a_project_finds_the_package_and_draws_the_published_words(tmp_path: Path) -> None:
    output = run(str(build(tmp_path, {})))
    assert [line.split() for line in output.splitlines()] == [
        line.split() for line in EXPECTED.splitlines()
    ]


def test_each_installed_header_stands_alone(tmp_path: Path) -> None:
    include = Path(hotloops.get_include())
    headers = sorted(path.relative_to(include) for path in include.rglob("*.hpp"))
    families = {header.parts[1] for header in headers}
    assert {"core", "sgd"} <= families
    sources = {
        f"alone_{number}.cpp": f'#include "{os.fspath(header)}"\n#include "{os.fspath(header)}"\n'
        for number, header in enumerate(headers)
    }
    build(tmp_path, sources)


def test_no_header_needs_the_compiled_core() -> None:
    core = Path(hotloops.get_include()) / "hotloops" / "core"
    names = {path.name for path in core.iterdir()}
    assert {"config.hpp", "status.hpp", "view.hpp", "philox.hpp", "math.hpp"} <= names
    assert not names & {"pool.hpp", "interrupt.hpp", "dispatch.hpp", "bind.hpp", "bind_status.hpp"}
