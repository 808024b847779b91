"""Figures of results."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hotloops._runtime import optional

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from hotloops.admm._result import AdmmResult

__all__ = ["draw"]


def draw(result: AdmmResult) -> Figure:
    """Draw what `AdmmResult.plot` promises."""
    history = result.history
    evaluated = np.isfinite(history["objective"])
    figure = optional.figure_class()(figsize=(9.0, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, label in (
        ("primal_residual", "primal residual"),
        ("dual_residual", "dual residual"),
        ("gradient_norm", "norm of the pooled gradient"),
    ):
        left.semilogy(history["round"], np.maximum(history[name], 1e-300), label=label)
    left.set_xlabel("round")
    left.legend(frameon=False)
    if evaluated.any():
        right.plot(history["round"][evaluated], history["objective"][evaluated])
    else:
        right.plot([result.num_rounds], [result.objective], "o")
    right.set_xlabel("round")
    right.set_ylabel("objective")
    return figure
