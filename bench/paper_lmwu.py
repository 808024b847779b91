"""Experiments with Langevin multiplicative weights: expected figures beside ours, and pictures.

``python bench/paper_lmwu.py [X1 X2 ...] [--quick] [--out DIR]`` runs those that are named, or all;
prints for each number what is expected, what came out, its Monte-Carlo standard error and a
verdict; and writes a picture of each experiment as SVG and PNG. The exit status is 1 if a number
differs.

The method is that of Y. Feng, X. Wang, T. Xie, "Langevin Multiplicative Weights Update with
Applications in Polynomial Portfolio Management", AAAI 2025, arXiv:2502.19210. The data and the
parameters of the tables there are not public; expected figures here come from algebra, quadrature,
exhaustive search and solvers of convex programs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # for the modules beside this file

import _paper_lmwu_games as games
import _paper_lmwu_portfolio as portfolio
import _paper_lmwu_speed as speed
import _paper_lmwu_wells as wells
from _paper_command import run_experiments
from _paper_report import Report

EXPERIMENTS: dict[str, Callable[[bool], Report]] = {
    "X1": portfolio.run_x1,
    "X2": wells.run_x2,
    "X3": wells.run_x3,
    "X4": games.run_x4,
    "X5": speed.run_x5,
}


def main(arguments: list[str] | None = None) -> int:
    """Run the experiments that are asked for; return the exit status."""
    return run_experiments("paper_lmwu.py", EXPERIMENTS, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
