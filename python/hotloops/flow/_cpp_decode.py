"""The C++ backend of decoding: from hidden activations to counts."""

from __future__ import annotations

from typing import Any

import numpy as np

from hotloops._runtime.arrays import empty
from hotloops._runtime.blas import core_with_blas, single_threaded

__all__ = ["decode"]


def decode(
    output: str,
    head: int,
    hidden: Any,
    weight: Any,
    bias: Any,
    sizes: Any,
    theta: Any,
    theta_of: Any,
    seed: int,
    step: int,
    first_row: int,
    num_threads: int,
) -> Any:
    """Return the counts, or the means, of checked arrays."""
    shape = (len(hidden), hidden.shape[1] if weight is None else len(weight))
    counts = empty(shape, np.int32) if output == "dense" else None
    means = empty(shape, hidden.dtype) if output == "mean" else None
    function = getattr(core_with_blas(), f"flow_decode_{hidden.dtype}")
    with single_threaded:
        found = function(
            *(head, hidden, weight, bias, sizes, theta, theta_of),
            *(seed, step, first_row, counts, means, num_threads),
        )
    if output == "csr":
        from scipy.sparse import csr_array

        return csr_array(found, shape=shape)
    return counts if output == "dense" else means
