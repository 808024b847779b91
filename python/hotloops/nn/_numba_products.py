"""The products of dense layers: those of the BLAS that SciPy carries, through Numba."""

from __future__ import annotations

from typing import Any

import numpy as np

from hotloops._runtime._numba_jit import kernel

__all__ = ["by_input", "by_weight", "forward"]


@kernel
def forward(x: Any, weight: Any) -> Any:
    """Return x W^T."""
    return np.dot(x, weight.T)


@kernel
def by_weight(g: Any, x: Any) -> Any:
    """Return the gradient of W."""
    return np.dot(g.T, x)


@kernel
def by_input(g: Any, weight: Any) -> Any:
    """Return the gradient of x."""
    return np.dot(g, weight)
