"""Categories of cells: names, codes, and the checks of both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops._runtime.validate import describe, fail

__all__ = ["Codes", "Labels", "code_labels", "find_codes", "read_labels"]

Codes = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Labels:
    """The categories of one attribute.

    Attributes
    ----------
    name : str
        Of the attribute.
    categories : tuple of str
        Sorted.
    """

    name: str
    categories: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.categories)


def read_labels(function: str, name: str, values: Any, rows: int) -> tuple[Labels, Codes]:
    """Check one label a cell and return the categories with the code of each cell."""
    entries = _entries(function, name, values, rows)
    texts = [str(entry) for entry in entries]
    met: dict[str, Any] = {}
    for entry, text in zip(entries, texts, strict=True):
        if not _same(met.setdefault(text, entry), entry):
            got = f"{describe(met[text])} and {describe(entry)}"
            fail(ValueError, function, name, "have categories with different names", got)
    categories = tuple(sorted(met))
    place = {category: code for code, category in enumerate(categories)}
    return Labels(name, categories), np.array([place[text] for text in texts], np.int32)


def code_labels(function: str, labels: Labels, values: Any, rows: int) -> Codes:
    """Return the codes of one label a cell, all of which must be known."""
    place = {category: code for code, category in enumerate(labels.categories)}
    entries = _entries(function, labels.name, values, rows)
    codes = [place.get(str(entry), -1) for entry in entries]
    if -1 in codes:
        _unknown(function, labels, entries[codes.index(-1)])
    return np.array(codes, np.int32)


def find_codes(function: str, labels: Labels, value: Any, rows: int) -> Codes:
    """Return a code a row, from one name or code for all rows or from one for each."""
    if isinstance(value, str | bytes) or np.ndim(value) == 0:
        return np.full(rows, _find(function, labels, value), np.int32)
    entries = _entries(function, labels.name, value, rows)
    known: dict[Any, int] = {}
    for entry in entries:
        if entry not in known:
            known[entry] = _find(function, labels, entry)
    return np.array([known[entry] for entry in entries], np.int32)


def _entries(function: str, name: str, values: Any, rows: int) -> list[Any]:
    if isinstance(values, str | bytes) or np.ndim(values) != 1:
        fail(ValueError, function, name, f"be one label for each of {rows} cells", describe(values))
    entries = list(np.asarray(values, dtype=object))
    if len(entries) != rows:
        expectation = f"be one label for each of {rows} cells"
        fail(ValueError, function, name, expectation, f"{len(entries)} labels")
    for row, entry in enumerate(entries):
        if entry is None or _is_missing(entry):
            fail(ValueError, function, name, "have no missing labels", f"{entry!r} in row {row}")
    return entries


def _is_missing(entry: Any) -> bool:
    """NaN, NaT and pandas' NA are the values that aren't equal to themselves."""
    try:
        return not bool(entry == entry)
    except TypeError:
        return True


def _same(first: Any, second: Any) -> bool:
    if first is second:
        return True
    numbers = isinstance(first, int | np.integer) and isinstance(second, int | np.integer)
    return (type(first) is type(second) or numbers) and bool(first == second)


def _find(function: str, labels: Labels, value: Any) -> int:
    if str(value) in labels.categories:
        return labels.categories.index(str(value))
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if whole and 0 <= value < len(labels):
        return int(value)
    _unknown(function, labels, value)
    return -1


def _unknown(function: str, labels: Labels, value: Any) -> None:
    shown = ", ".join(repr(category) for category in labels.categories[:10])
    more = f" and {len(labels) - 10} more" if len(labels) > 10 else ""
    expectation = f"be a category of the training cells, one of {shown}{more}"
    fail(ValueError, function, labels.name, expectation, describe(value))
