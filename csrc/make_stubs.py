"""Write the type stubs of the native modules: ``python csrc/make_stubs.py`` after a build.

What a module holds is read from the signatures that pybind11 puts into its docstrings, so a stub
cannot differ from the module that it was made of; a test compares the two. Names that begin with an
underscore are for tests and left out.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

MODULES = ("_core", "_cuda")
PACKAGE = Path(__file__).parents[1] / "python" / "hotloops"

# What pybind11 calls the types of arguments, and what a caller should hand over.
TYPES = (
    (r"hotloops\._(?:core|cuda)\.", ""),
    (r"typing\.SupportsInt( \| typing\.SupportsIndex)?", "int"),
    (r"typing\.SupportsFloat( \| typing\.SupportsIndex)?", "float"),
    (r"typing\.Annotated\[numpy\.typing\.ArrayLike, numpy\.(\w+)\]", r"npt.NDArray[np.\1]"),
    (r"numpy\.typing\.NDArray\[numpy\.(\w+)\]", r"npt.NDArray[np.\1]"),
    (r"typing\.Any|\bobject\b", "Any"),
    (r"\bdict\b(?!\[)", "dict[str, Any]"),
    (r"\blist\b(?!\[)", "list[Any]"),
    (r"\btuple\b(?!\[)", "tuple[Any, ...]"),
    (r"\blist\b(?!\[)", "list[Any]"),
    (r"\bcollections\.abc\.", ""),
)
# Pointers to objects, for which None stands for "not asked for".
NULLABLE = re.compile(r"\b(rules|statistics): (\w+)\b(?!\[)")

HEADER = """\
# Made by csrc/make_stubs.py; run it again after a change of the bindings.

from collections.abc import Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt
"""


def signatures(name: str, documentation: str) -> list[str]:
    """Return ``(parameters) -> result`` of every overload."""
    lines = re.findall(rf"^(?:\d+\. )?{name}(\(.*\) -> .*)$", documentation, re.MULTILINE)
    if len(lines) > 1 and lines[0].startswith("(*args"):
        lines = lines[1:]
    for pattern, replacement in TYPES:
        lines = [re.sub(pattern, replacement, line) for line in lines]
    return [NULLABLE.sub(r"\1: \2 | None", line) for line in lines]


def functions(name: str, documentation: str, indent: str = "") -> str:
    """Return the lines of a function."""
    found = signatures(name, documentation)
    decorator = f"{indent}@overload\n" if len(found) > 1 else ""
    return "".join(f"{decorator}{indent}def {name}{found_one}: ...\n" for found_one in found)


def class_of(name: str, kind: Any) -> str:
    """Return the lines of a class: how it is made, its methods and properties."""
    lines = [functions("__init__", kind.__init__.__doc__, "    ").replace("self: " + name, "self")]
    for member, value in sorted(vars(kind).items()):
        if member.startswith("_"):
            continue
        if isinstance(value, property):
            lines.append(f"    @property\n    def {member}(self) -> Any: ...\n")
        else:
            made = functions(member, value.__doc__, "    ")
            lines.append(made.replace("self: " + name, "self"))
    return f"class {name}:\n" + "".join(lines)


def stub(module: ModuleType) -> str:
    """Return the stub of a module."""
    names = [name for name in sorted(dir(module)) if not name.startswith("_")]
    kinds = [name for name in names if inspect.isclass(getattr(module, name))]
    parts = [class_of(name, getattr(module, name)) for name in kinds]
    parts += [functions(name, getattr(module, name).__doc__) for name in names if name not in kinds]
    return HEADER + "\n" + "\n".join(parts)


def main() -> None:
    for name in sys.argv[1:] or MODULES:
        try:
            module = importlib.import_module(f"hotloops.{name}")
        except ImportError as error:
            print(f"{name}: left as it is, {error}")
            continue
        path = PACKAGE / f"{name}.pyi"
        path.write_text(stub(module), encoding="utf-8")
        print(f"{path} written")


if __name__ == "__main__":
    main()
