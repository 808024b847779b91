"""The heterogeneity experiments of the paper behind `hotloops.admm` on the Adult table.

``python bench/paper_admm.py [A1 A2] [--quick] [--out DIR]`` runs those that are named, or both;
prints expected figures beside ours, and writes a picture of each experiment as SVG and PNG. The
exit status is 1 if a number differs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # for the modules beside this file

import _paper_adult as adult
from _paper_command import run_experiments
from _paper_report import Report

EXPERIMENTS: dict[str, Callable[[bool], Report]] = {"A1": adult.run_a1, "A2": adult.run_a2}


def main(arguments: list[str] | None = None) -> int:
    """Run the experiments that are asked for; return the exit status."""
    return run_experiments("paper_admm.py", EXPERIMENTS, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
