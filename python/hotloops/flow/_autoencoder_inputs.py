"""What an autoencoder reads: one matrix of counts for each modality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hotloops._runtime.validate import describe, fail
from hotloops.flow._autoencoder_program import Modality
from hotloops.flow._matrices import CountMatrix, read_counts

__all__ = ["read_matrices"]


def read_matrices(
    function: str,
    X: Any,
    modalities: Sequence[Modality],
    features: Mapping[str, int] | None,
    dtype: np.dtype[Any],
    allow_noninteger: bool,
    argument: str = "X",
) -> list[CountMatrix]:
    """Check the matrices of all modalities; `features` are the columns they must have."""
    named = X if isinstance(X, Mapping) else {modalities[0].name: X}
    if len(modalities) > 1 and named is not X:
        names = ", ".join(repr(item.name) for item in modalities)
        fail(TypeError, function, argument, f"be a dictionary with the keys {names}", describe(X))
    found: list[CountMatrix] = []
    for item in modalities:
        place = f"{argument}[{item.name!r}]" if len(modalities) > 1 else argument
        if item.name not in named:
            there = ", ".join(map(repr, named)) or "none"
            fail(ValueError, function, argument, f"have the key {item.name!r}", f"the keys {there}")
        matrix = read_counts(
            function,
            place,
            named[item.name],
            dtype=dtype,
            allow_noninteger=allow_noninteger,
            binary=not item.counted,
            columns=None if features is None else features[item.name],
        )
        if found and matrix.rows != found[0].rows:
            expectation = f"have {found[0].rows} rows as `{argument}[{modalities[0].name!r}]` has"
            fail(ValueError, function, place, expectation, str(matrix.rows))
        found.append(matrix)
    return found
