"""Monomials as the tree of common beginnings that the kernel walks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["MonomialTree", "tree_of"]


class MonomialTree(NamedTuple):
    """K nodes, each before what is below it, and L leaves; see ``SimplexPolynomial`` in C++."""

    coefficients: npt.NDArray[np.float64]  # (K,) of the nodes' own monomials
    indices: npt.NDArray[np.int32]  # (K,) last factor of a node; that of the root is 0
    depths: npt.NDArray[np.int32]  # (K,) number of factors
    leaf_offsets: npt.NDArray[np.int32]  # (K + 1,)
    leaf_coefficients: npt.NDArray[np.float64]  # (L,)
    leaf_indices: npt.NDArray[np.int32]

    def packed(self, dtype: np.dtype[Any]) -> tuple[Any, ...]:
        """Return the arrays with coefficients in precision `dtype`."""
        return (
            self.coefficients.astype(dtype),
            self.indices,
            self.depths,
            self.leaf_offsets,
            self.leaf_coefficients.astype(dtype),
            self.leaf_indices,
        )


def tree_of(table: Mapping[tuple[int, ...], float]) -> MonomialTree:
    """Arrange monomials, whose indices are sorted and repeat as often as the power is.

    A beginning that several monomials share is multiplied out once. What nothing is longer than is
    a leaf of its beginning, and needs no node.
    """
    beginnings = {key[:length] for key in table for length in range(len(key))} | {()}
    nodes = sorted(beginnings)
    leaves: dict[tuple[int, ...], list[tuple[int, float]]] = {node: [] for node in nodes}
    for key, coefficient in sorted(table.items()):
        if key not in beginnings:
            leaves[key[:-1]].append((key[-1], coefficient))
    flat = [leaf for node in nodes for leaf in leaves[node]]
    return MonomialTree(
        coefficients=np.array([table.get(node, 0.0) for node in nodes], np.float64),
        indices=np.array([node[-1] if node else 0 for node in nodes], np.int32),
        depths=np.array([len(node) for node in nodes], np.int32),
        leaf_offsets=np.cumsum([0, *(len(leaves[node]) for node in nodes)]).astype(np.int32),
        leaf_coefficients=np.array([coefficient for _, coefficient in flat], np.float64),
        leaf_indices=np.array([index for index, _ in flat], np.int32),
    )
