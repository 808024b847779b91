"""Pictures of a result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hotloops._runtime import optional, validate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from hotloops.simplex._result import SimplexResult

__all__ = ["draw"]


def draw(result: SimplexResult, names: Any) -> Figure:
    """Draw weights on the left and objectives of the chains on the right."""
    dim = result.x.size
    labels = [str(i) for i in range(dim)] if names is None else [str(name) for name in names]
    if len(labels) != dim:
        expectation = f"hold one name for each of {dim} weights"
        validate.fail(ValueError, "plot", "names", expectation, str(len(labels)))
    figure = optional.figure_class()(figsize=(9.0, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.bar(np.arange(dim), result.x)
    left.set_xticks(np.arange(dim), labels, rotation=90 if dim > 6 else 0)
    left.set_ylabel("weight")
    left.set_title(f"best point, objective {result.value:.6g}")
    right.plot(np.sort(result.best_value), np.arange(1, result.best_value.size + 1), ".-")
    right.axvline(result.value, color="black", linewidth=1)
    right.set_xlabel("lowest objective of a chain")
    right.set_ylabel("chains")
    right.set_title("chains, from best to worst")
    return figure
