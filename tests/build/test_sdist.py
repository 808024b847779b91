"""The source distribution holds what git tracks, less what only the repository needs."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2]
NOT_SHIPPED = (".ci/", ".github/", ".gitattributes", ".gitignore", ".pre-commit-config.yaml")
GENERATED = {"PKG-INFO"}

# Files that appear in a used checkout and have no place in a release.
STRAYS = (
    "notes.txt",
    "core.12345",
    "build/cp311/csrc/core/stray.hpp",
    "build/cp311/python/hotloops/stray.py",
    "dist/hotloops-0.0.1.tar.gz",
    "csrc/core/pool.o",
    "csrc/sgd/old.cpp.orig",
    "python/hotloops/_core.cpython-311-x86_64-linux-gnu.so",
    "python/hotloops/__pycache__/cli.cpython-311.pyc",
    "python/hotloops/sgd/__pycache__/_numba.run-1.py311.nbi",
    "tests/.pytest_cache/README.md",
    "tests/__pycache__/conftest.pyc",
    "tests/.hypothesis/examples/1",
    "bench/.benchmarks/run.json",
    "docs/_build/html/index.html",
    "hotloops-tour/index.html",
    ".venv/lib/python3.11/site.py",
    ".mypy_cache/x.json",
)


def tracked() -> set[str]:
    if shutil.which("git") is None or not (SOURCE / ".git").exists():
        pytest.skip("not a git checkout")
    done = subprocess.run(
        ["git", "ls-files", "-z"], cwd=SOURCE, capture_output=True, text=True, check=True
    )
    return {name for name in done.stdout.split("\0") if name and (SOURCE / name).exists()}


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Files of an sdist made from a copy of the checkout that strays have got into."""
    if importlib.util.find_spec("scikit_build_core") is None:
        pytest.skip("scikit-build-core is not installed")
    checkout = tmp_path_factory.mktemp("checkout")
    for name in tracked():
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(SOURCE / name, checkout / name)
    for name in STRAYS:
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_text("stray\n")

    made = tmp_path_factory.mktemp("sdist")
    code = f"from scikit_build_core.build import build_sdist; build_sdist({str(made)!r})"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    (archive,) = made.iterdir()
    with tarfile.open(archive) as tar:
        members = [member.name for member in tar.getmembers() if member.isfile()]
    (root,) = {name.split("/", 1)[0] for name in members}
    assert archive.name == f"{root}.tar.gz"
    return {name.split("/", 1)[1] for name in members}


def test_nothing_needed_is_missing(shipped: set[str]) -> None:
    needed = {name for name in tracked() if not name.startswith(NOT_SHIPPED)}
    assert needed - shipped == set()


def test_nothing_stray_enters(shipped: set[str]) -> None:
    assert shipped & set(STRAYS) == set()
    assert shipped - tracked() == GENERATED


def test_what_only_the_repository_needs_stays_there(shipped: set[str]) -> None:
    assert {name for name in shipped if name.startswith(NOT_SHIPPED)} == set()
