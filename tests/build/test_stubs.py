"""The type stubs say what the native modules hold."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path

import pytest

import hotloops

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["_core", "_cuda"])
def test_stub_is_that_of_the_module(name: str) -> None:
    if importlib.util.find_spec(f"hotloops.{name}") is None:
        assert name == "_cuda"
        pytest.skip("hotloops._cuda is not built into this installation")
    found = importlib.util.spec_from_file_location("make_stubs", ROOT / "csrc/make_stubs.py")
    assert found is not None
    assert found.loader is not None
    maker = importlib.util.module_from_spec(found)
    found.loader.exec_module(maker)
    text = (ROOT / f"python/hotloops/{name}.pyi").read_text(encoding="utf-8")
    made = maker.stub(importlib.import_module(f"hotloops.{name}"))
    assert made == text, "run csrc/make_stubs.py"


def test_stubs_are_installed() -> None:
    folder = Path(hotloops.__file__).parent
    for name in ("_core.pyi", "_cuda.pyi", "py.typed"):
        assert (folder / name).exists(), name
