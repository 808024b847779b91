"""Every example of the README and of the pages runs, in the order in which a reader meets it."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import hotloops
from hotloops._runtime import dispatch

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
FENCE = re.compile(
    r"(?:^<!-- requires: (?P<needs>[\w., ]+) -->\n)?^```(?P<language>\w+)\n(?P<code>.*?)^```$",
    flags=re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, text, line in the page, and the modules that it needs."""

    language: str
    code: str
    line: int
    needs: tuple[str, ...]


def blocks(page: Path, language: str) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = [
        Block(
            match["language"],
            match["code"],
            text.count("\n", 0, match.start("code")),
            tuple(name.strip() for name in (match["needs"] or "").split(",") if name.strip()),
        )
        for match in FENCE.finditer(text)
    ]
    return [block for block in found if block.language == language]


def available(module: str) -> bool:
    if importlib.util.find_spec(module) is None:
        return False
    if module != "cupy":
        return True
    try:
        dispatch.cuda()
    except hotloops.BackendUnavailable:
        return False
    return True


def script(page: Path) -> str:
    """Return the Python blocks of a page as one program, each at the line that it has there."""
    lines: list[str] = []
    for block in blocks(page, "python"):
        if all(available(module) for module in block.needs):
            lines += [""] * (block.line - len(lines)) + block.code.splitlines()
    return "\n".join(lines) + "\n"


def run(command: list[str], folder: Path) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HOTLOOPS_")}
    done = subprocess.run(
        command,
        cwd=folder,
        env={**environment, "MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=str)
def test_python_examples_run_without_warnings(page: Path, tmp_path: Path) -> None:
    program = tmp_path / f"{page.stem.replace('-', '_')}.py"
    program.write_text(script(page), encoding="utf-8")
    run([sys.executable, "-W", "error::RuntimeWarning", str(program)], tmp_path)


def test_the_pages_have_examples() -> None:
    with_examples = {page.stem for page in PAGES if blocks(page, "python")}
    assert {
        "quickstart",
        "sgd",
        "simplex",
        "random",
        "determinism",
        "errors",
        "executors",
    } <= with_examples


def test_cpp_example_ends_at_the_number_of_the_python_example(tmp_path: Path) -> None:
    cmake = shutil.which("cmake")
    if cmake is None or shutil.which("c++") is None:
        pytest.skip("cmake or a C++ compiler is not installed")
    page = ROOT / "docs" / "cpp-headers.md"
    (project,), (program,) = blocks(page, "cmake"), blocks(page, "cpp")
    (tmp_path / "CMakeLists.txt").write_text(project.code, encoding="utf-8")
    (tmp_path / "main.cpp").write_text(program.code, encoding="utf-8")
    prefix = f"-DCMAKE_PREFIX_PATH={hotloops.get_include()}"
    run([cmake, "-S", ".", "-B", "made", prefix], tmp_path)
    run([cmake, "--build", "made"], tmp_path)
    (tmp_path / "same.py").write_text(script(page), encoding="utf-8")
    expected = run([sys.executable, "same.py"], tmp_path).split()[-1]
    assert float(run([str(tmp_path / "made" / "one_chain")], tmp_path)) == float(expected)


def test_code_that_is_quoted_is_the_code() -> None:
    """The page on adding a kernel shows a step of the source; it must not drift from it."""
    quoted = next(
        block.code
        for block in blocks(ROOT / "docs" / "adding-a-kernel.md", "cpp")
        if "quadratic_gradient" in block.code
    )
    assert quoted in (ROOT / "csrc" / "sgd" / "step.hpp").read_text(encoding="utf-8")


def test_documented_status_numbers_are_those_of_the_header() -> None:
    header = (ROOT / "csrc" / "core" / "status.hpp").read_text(encoding="utf-8")
    in_header = {
        (int(number), name) for name, number in re.findall(r"^    (\w+) = (\d+),", header, re.M)
    }
    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    in_page = {
        (int(number), name) for number, name in re.findall(r"^\| (\d+) \| `(\w+)`", page, re.M)
    }
    assert len(in_header) >= 7
    assert in_page == in_header


def test_documented_streams_are_those_of_the_header() -> None:
    header = (ROOT / "csrc" / "core" / "philox.hpp").read_text(encoding="utf-8")
    (body,) = re.findall(r"enum class Stream[^{]*\{(.*?)\}", header, re.S)
    in_header = {int(number) for number in re.findall(r"= (\d+),", body)}
    page = (ROOT / "docs" / "random.md").read_text(encoding="utf-8")
    in_page = {int(number) for number in re.findall(r"^\| (\d+)(?: to \d+)? \|", page, re.M)}
    assert in_header <= in_page
    assert {0, 65535} <= in_header


@pytest.mark.slow
def test_pages_build_without_a_warning(tmp_path: Path) -> None:
    for module in ("sphinx", "furo", "numpydoc", "myst_parser"):
        pytest.importorskip(module)
    options = ["-W", "--keep-going", "-q", "-b", "html", "-d", str(tmp_path / "trees")]
    run(
        [sys.executable, "-m", "sphinx", *options, str(ROOT / "docs"), str(tmp_path / "html")],
        tmp_path,
    )
    assert (tmp_path / "html" / "index.html").exists()


@pytest.mark.parametrize(
    "module",
    ["hotloops", "hotloops.sgd", "hotloops.simplex", "hotloops.random", "hotloops.datasets"],
)
def test_every_public_name_is_in_the_reference(module: str) -> None:
    imported = importlib.import_module(module)
    page = (ROOT / "docs" / f"api-{module.rpartition('.')[2]}.md").read_text(encoding="utf-8")
    listed = set(re.findall(rf"^\.\. auto\w+:: {re.escape(module)}\.(\w+)$", page, re.M))
    public = {name for name in imported.__all__ if name != "__version__"}
    families = {name for name in public if (ROOT / "python" / "hotloops" / name).is_dir()}
    assert listed == public - families
