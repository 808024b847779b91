"""Rebuild the packaged integer counts of 700 blood cells from the file in scanpy's wheel.

Usage: python tests/datasets/rebuild_pbmc68k.py pbmc68k_reduced.npz

``raw.X`` of scanpy's ``10x_pbmc68k_reduced.h5ad`` holds log1p(count * 1e4 / n_counts), rounded to
three decimals, and ``n_counts`` is the total of the cell over all genes. So the count is the
nearest integer to expm1(x) n_counts / 1e4, and it is sure while the rounding of x moves that by
less than a half. Both are checked here, for every entry.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np

ROUNDING = 5.1e-4


def find_source() -> Path:
    """Return the file in scanpy's folder, without importing scanpy."""
    found = importlib.util.find_spec("scanpy")
    if found is None or not found.submodule_search_locations:
        raise FileNotFoundError("scanpy is not installed")
    return Path(found.submodule_search_locations[0]) / "datasets" / "10x_pbmc68k_reduced.h5ad"


def rebuild(path: Path) -> dict[str, Any]:
    """Return the arrays of the packaged file."""
    import h5py
    from scipy.sparse import csr_array

    with h5py.File(path, "r") as file:
        raw = file["raw.X"]
        values, columns, rows = (raw[name][:] for name in ("data", "indices", "indptr"))
        obs, var = file["obs"][:], file["raw.var"][:]
        names = {
            name: _text(file["uns"][f"{name}_categories"][:]) for name in ("bulk_labels", "phase")
        }
    per_ten_thousand = np.repeat(obs["n_counts"].astype(np.float64), np.diff(rows)) / 1e4
    unrounded = np.expm1(values.astype(np.float64)) * per_ten_thousand
    counts = np.rint(unrounded)
    bound = ROUNDING * (unrounded + per_ten_thousand)
    if bound.max() >= 0.5 or (np.abs(unrounded - counts) > bound + 1e-9).any() or counts.min() < 1:
        raise ValueError("the rounding of some entries is not sure")
    shape = (len(rows) - 1, len(var))
    table = csr_array((counts.astype(np.int32), columns, rows), shape=shape)
    table.sort_indices()
    return {
        "data": table.data.astype(np.uint16),
        "indices": table.indices.astype(np.uint16),
        "indptr": table.indptr.astype(np.int32),
        "shape": np.array(table.shape),
        "total_counts": obs["n_counts"].astype(np.int32),
        "genes": _text([entry[0] for entry in var]),
        "cells": _text(obs["index"]),
        "cell_type": obs["bulk_labels"].astype(np.int8),
        "cell_type_names": names["bulk_labels"],
        "louvain": obs["louvain"].astype(np.int8),
        "phase": obs["phase"].astype(np.int8),
        "phase_names": names["phase"],
    }


def _text(entries: Any) -> Any:
    return np.array([entry.decode() for entry in entries])


if __name__ == "__main__":
    np.savez_compressed(sys.argv[1], **rebuild(find_source()))
