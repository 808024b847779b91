"""Importing: fast, light, and never stopped by something that is missing."""

from __future__ import annotations

import importlib.util
import os
import pickle
import re
import types
from pathlib import Path
from typing import Any

import pytest

import hotloops

FAMILIES = [
    name for name in ("random", "sgd", "datasets") if importlib.util.find_spec(f"hotloops.{name}")
]
IMPORTS = ["import hotloops", *(f"from hotloops import {name}" for name in FAMILIES)]
OPTIONAL = [
    "numba",
    "cupy",
    "torch",
    "jax",
    "scipy",
    "scipy.linalg.cython_blas",
    "tqdm",
    "matplotlib",
    "threadpoolctl",
    "pandas",
    "sklearn",
    "dask",
    "hotloops._core",
    "hotloops._cuda",
]
HEAVY = [name for name in OPTIONAL if "." not in name] + ["distributed", "asyncio"]
PUBLIC = [
    "BackendUnavailable",
    "DivergenceWarning",
    "NumericalError",
    "__version__",
    "get_include",
    "get_num_threads",
    "set_num_threads",
    "show_runtime",
    "use_backend",
]


@pytest.mark.parametrize("blocked", OPTIONAL)
@pytest.mark.parametrize("statement", IMPORTS)
def test_import_without(run_python: Any, statement: str, blocked: str) -> None:
    printed = run_python(f"{statement}\nprint('imported')", blocked=[blocked], flags=["-Werror"])
    assert printed == "imported\n"


@pytest.mark.parametrize("blocked", OPTIONAL)
def test_the_top_works_without(run_python: Any, blocked: str) -> None:
    code = """
        import hotloops
        hotloops.show_runtime()
        hotloops.set_num_threads(2)
        assert hotloops.get_num_threads() == 2
        with hotloops.use_backend("cpp"):
            pass
    """
    assert run_python(code, blocked=[blocked]).startswith("hotloops ")


def test_import_without_anything(run_python: Any) -> None:
    for statement in IMPORTS:
        run_python(statement, blocked=OPTIONAL, flags=["-Werror"])


@pytest.mark.parametrize("statement", IMPORTS)
def test_nothing_heavy_is_imported(run_python: Any, statement: str) -> None:
    """Beyond what NumPy itself loads."""
    code = f"""
        import sys
        import numpy
        before = set(sys.modules)
        {statement}
        print(sorted(set({HEAVY!r}) & (set(sys.modules) - before)))
    """
    assert run_python(code) == "[]\n"


@pytest.mark.parametrize("statement", IMPORTS)
def test_import_is_fast(run_python: Any, statement: str, tmp_path: Path) -> None:
    """Below 0.15 s beyond NumPy's own time, in the best of some runs.

    Processor time, so that other work on the machine does not count; the first run compiles.
    """
    code = f"""
        import time
        import numpy
        start = time.process_time()
        {statement}
        print(time.process_time() - start)
    """
    env = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(tmp_path)}
    assert min(float(run_python(code, env=env)) for _ in range(4)) < 0.15


def test_public_names() -> None:
    assert sorted(hotloops.__all__) == sorted(PUBLIC)
    for name in hotloops.__all__:
        assert hasattr(hotloops, name)
    assert set(PUBLIC) <= set(dir(hotloops))
    assert {"sgd", "random", "datasets"} <= set(dir(hotloops))


@pytest.mark.parametrize("name", FAMILIES)
def test_families_load_when_they_are_used(run_python: Any, name: str) -> None:
    code = f"""
        import sys, hotloops
        assert "hotloops.{name}" not in sys.modules
        print(hotloops.{name}.__name__, "{name}" in vars(hotloops))
    """
    assert run_python(code).split() == [f"hotloops.{name}", "True"]


def test_other_names_do_not_exist() -> None:
    with pytest.raises(AttributeError, match=r"^module 'hotloops' has no attribute 'adam'$"):
        _ = hotloops.adam  # type: ignore[attr-defined, unused-ignore]
    assert not hasattr(hotloops, "nothing")


def test_version_is_that_of_the_project() -> None:
    project = Path(__file__).parents[2] / "pyproject.toml"
    found = re.search(r'^version = "(.*)"$', project.read_text(), re.MULTILINE)
    assert found is not None
    assert found[1] == hotloops.__version__


def test_types_are_shipped() -> None:
    assert (Path(hotloops.__file__).parent / "py.typed").exists()


def test_include_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hotloops, "__path__", [str(tmp_path / "a"), str(tmp_path / "b")])
    with pytest.raises(FileNotFoundError, match=r"^get_include: no headers are installed in "):
        hotloops.get_include()
    (tmp_path / "b" / "include" / "hotloops").mkdir(parents=True)
    assert hotloops.get_include() == os.path.join(tmp_path, "b", "include")


def test_errors_keep_their_names_and_numbers() -> None:
    error = hotloops.NumericalError("sgd.run: diverged", step=3, row=7)
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again, hotloops.NumericalError)
    assert (str(again), again.step, again.row) == ("sgd.run: diverged", 3, 7)
    assert repr(hotloops.NumericalError) == "<class 'hotloops.NumericalError'>"
    assert hotloops.NumericalError("f: text").step is None
    assert issubclass(hotloops.NumericalError, ArithmeticError)
    assert issubclass(hotloops.BackendUnavailable, RuntimeError)
    assert issubclass(hotloops.DivergenceWarning, RuntimeWarning)


def test_families_are_modules() -> None:
    for name in FAMILIES:
        assert isinstance(getattr(hotloops, name), types.ModuleType)
