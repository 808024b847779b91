"""Experiments with generated cells: expected figures beside ours, and pictures.

``python bench/paper_flow.py [quality guidance ...] [--quick] [--out DIR]`` runs those that are
named, or all; prints for each number what is expected, what came out and a verdict; and writes a
picture of each experiment as SVG and PNG. The exit status is 1 if a number differs.

The method is that of A. Palma, T. Richter, H. Zhang, M. Lubetzki, A. Tong, A. Dittadi, F. J. Theis,
"Multi-Modal and Multi-Attribute Generation of Single Cells with CFGen", ICLR 2025,
arXiv:2407.11734. Its data sets are large; here are the 700 blood cells that ship with the package,
and simulated cells whose law is known. The paper's tables cannot be compared with these.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # for the modules beside this file

import _paper_cells_attributes as attributes
import _paper_cells_halves as halves
import _paper_cells_quality as quality
import _paper_cells_solvers as solvers
from _paper_command import run_experiments
from _paper_report import Report

EXPERIMENTS: dict[str, Callable[[bool], Report]] = {
    "quality": quality.run,
    "halves": halves.run_halves,
    "simulated": halves.run_simulated,
    "guidance": attributes.run_guidance,
    "batches": attributes.run_batches,
    "augmentation": attributes.run_augmentation,
    "modalities": attributes.run_modalities,
    "solvers": solvers.run,
}


def main(arguments: list[str] | None = None) -> int:
    """Run the experiments that are asked for; return the exit status."""
    return run_experiments("paper_flow.py", EXPERIMENTS, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
