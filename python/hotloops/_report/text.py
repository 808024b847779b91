"""Tables for the terminal, and numbers as people read them."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import TextIO

_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_TIMES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
_ASCII = str.maketrans({"±": "+/-", "×": "x", "µ": "u", "−": "-", "─": "-", "‖": "|", "γ": "g"})


def rate(per_second: float, unit: str = "") -> str:
    """Write a rate: ``1.24 Gupdates/s``."""
    scale, letter = prefix(per_second)
    text = f"{significant(per_second / scale)} {letter}{unit}".rstrip()
    return f"{text}/s"


def prefix(value: float) -> tuple[float, str]:
    """Return the power of a thousand to divide a large value by, and its letter."""
    return next(((scale, name) for scale, name in _PREFIXES if abs(value) >= scale), (1.0, ""))


def duration(seconds: float) -> str:
    """Write a duration: ``3.41 ms``."""
    scale, unit = next(
        ((scale, name) for scale, name in _TIMES if abs(seconds) >= scale), _TIMES[-1]
    )
    return f"{significant(seconds / scale)} {unit}"


def significant(value: float, digits: int = 3) -> str:
    """Write a number with so many significant figures and no exponent."""
    if value == 0.0 or not math.isfinite(value):
        return f"{value:g}"
    decimals = digits - 1 - math.floor(math.log10(abs(value)))
    return f"{value:,.{max(0, decimals)}f}"


def aligned(rows: Sequence[Sequence[str]], *, gap: int = 3, rule_after: Sequence[int] = ()) -> str:
    """Lay out a table: first column to the left, the others to the right.

    Parameters
    ----------
    rows : sequence of sequence of str
        The cells; every row has as many.
    gap : int, default 3
        Spaces between columns.
    rule_after : sequence of int
        Rows to draw a line under.

    Returns
    -------
    str
        The lines, without a newline at the end.
    """
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for number, row in enumerate(rows):
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append((" " * gap).join(cells).rstrip())
        if number in rule_after:
            lines.append("─" * (sum(widths) + gap * (len(widths) - 1)))
    return "\n".join(lines)


def spelled_for(stream: TextIO, text: str) -> str:
    """Return text as a stream can show it: unchanged, or in ASCII."""
    try:
        text.encode(stream.encoding or "ascii")
    except UnicodeEncodeError:
        return _in_ascii(text)
    return text


def _in_ascii(text: str) -> str:
    return text.translate(_ASCII).encode("ascii", "replace").decode("ascii")


def show(text: str = "", stream: TextIO | None = None) -> None:
    """Print a line."""
    stream = stream or sys.stdout
    print(spelled_for(stream, text), file=stream, flush=True)


def show_table(
    rows: Sequence[Sequence[str]], *, rule_after: Sequence[int] = (), stream: TextIO | None = None
) -> None:
    """Print an aligned table, laid out again if the terminal needs another spelling of it."""
    stream = stream or sys.stdout
    laid_out = aligned(rows, rule_after=rule_after)
    if spelled_for(stream, laid_out) != laid_out:
        cells = [[_in_ascii(cell) for cell in row] for row in rows]
        laid_out = aligned(cells, rule_after=rule_after)
    show(laid_out, stream)
