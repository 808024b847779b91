"""The experiments of the papers behind `hotloops.sgd`: expected figures beside ours, and pictures.

``python bench/paper_sgd.py [E1 E1b E2 ...] [--quick] [--out DIR]`` runs those that are named, or
all; prints for each number what is expected, what came out, its Monte-Carlo standard error and a
verdict; and writes a picture of each experiment as SVG and PNG. The exit status is 1 if a number
differs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # for the modules beside this file

import _paper_cosine as cosine
import _paper_data as data
import _paper_intervals as intervals
import _paper_markov as markov
from _paper_command import run_experiments
from _paper_report import Report

EXPERIMENTS: dict[str, Callable[[bool], Report]] = {
    "E1": cosine.run_e1,
    "E1b": cosine.run_e1b,
    "E2": cosine.run_e2,
    "E3": markov.run_e3,
    "E4": intervals.run_e4,
    "E5": data.run_e5,
}


def main(arguments: list[str] | None = None) -> int:
    """Run the experiments that are asked for; return the exit status."""
    return run_experiments("paper_sgd.py", EXPERIMENTS, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
