"""The command that the papers' experiments share: run those that are named, print, draw."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from _paper_report import Report

from hotloops._report import text

__all__ = ["run_experiments"]

Experiments = Mapping[str, Callable[[bool], Report]]


def run_experiments(program: str, experiments: Experiments, arguments: list[str] | None) -> int:
    """Run the experiments that are asked for; return 1 if a number differs, else 0."""
    options = _parser(program, experiments).parse_args(arguments)
    different = []
    for name in options.experiments or experiments:
        began = time.perf_counter()
        report = experiments[name](options.quick)
        seconds = time.perf_counter() - began
        text.show(f"\n=== {name}. {report.title}\n")
        report.show()
        text.show(f"{seconds:.1f} s")
        for file in report.save(options.out):
            text.show(f"Picture: {file}")
        if not report.agrees:
            different.append(name)
    if different:
        text.show(f"\nFigures that differ: {', '.join(different)}")
    return int(bool(different))


def _parser(program: str, experiments: Experiments) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program, description="The papers' experiments, expected figures beside ours."
    )
    parser.add_argument(
        "experiments",
        nargs="*",
        choices=[*experiments, []],
        metavar="EXPERIMENT",
        help=f"of {', '.join(experiments)}; default: all",
    )
    parser.add_argument("--quick", action="store_true", help="smaller ensembles and sizes")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("hotloops-paper"),
        metavar="DIR",
        help="folder for the pictures (default: %(default)s)",
    )
    return parser
