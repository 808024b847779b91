"""Every public name has a docstring in numpydoc form, and its examples give what they show."""

from __future__ import annotations

import dataclasses
import doctest
import importlib
import importlib.util
import inspect
from collections.abc import Iterator

import pytest

MODULES = (
    "hotloops",
    "hotloops.admm",
    "hotloops.datasets",
    "hotloops.flow",
    "hotloops.nn",
    "hotloops.prox",
    "hotloops.random",
    "hotloops.sgd",
    "hotloops.simplex",
    *(["hotloops.torch"] if importlib.util.find_spec("torch") else []),
)
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
# No section on examples, see-also or an extended summary is asked for, nor words where the name and
# the type say it all; a class is documented in its own docstring, not again in __init__.
NOT_ASKED = {"EX01", "SA01", "ES01", "GL01", "GL02", "GL03", "GL08", "SS05", "RT01", "RT03", "PR07"}


def _public_names() -> Iterator[str]:
    for module in MODULES:
        for name in importlib.import_module(module).__all__:
            if not name.startswith("__") and f"{module}.{name}" not in MODULES:
                yield f"{module}.{name}"


PUBLIC_NAMES = list(_public_names())


def look_up(name: str) -> object:
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


@pytest.mark.parametrize("name", PUBLIC_NAMES)
def test_examples_give_what_they_show(name: str) -> None:
    found = doctest.DocTestFinder(recurse=False).find(look_up(name), name, globs={})
    runner = doctest.DocTestRunner(optionflags=OPTIONS)
    for case in found:
        report: list[str] = []
        runner.run(case, out=report.append)
        assert not runner.failures, "".join(report)


@pytest.mark.parametrize("name", PUBLIC_NAMES)
def test_docstring_is_numpydoc(name: str) -> None:
    validate = pytest.importorskip("numpydoc.validate")
    item = look_up(name)
    assert inspect.getdoc(item), f"{name} has no docstring"
    # The fields of a result are its attributes; nobody makes one by hand.
    not_asked = NOT_ASKED | ({"PR01"} if dataclasses.is_dataclass(item) else set())
    errors = [
        f"{code}: {message}"
        for code, message in validate.validate(name)["errors"]
        if code not in not_asked
    ]
    assert not errors
