"""Generated cells into a file, chunk by chunk."""

from __future__ import annotations

import contextlib
import os
from typing import Any

import numpy as np

from hotloops._runtime import validate
from hotloops._runtime.progress import Progress
from hotloops._runtime.validate import describe, fail
from hotloops.flow._cells import import_extra
from hotloops.flow._generator import Generator, Sampling
from hotloops.flow._matrices import row_chunks

__all__ = ["generate_to"]

_BLOCK = 1 << 16  # elements of a chunk of the stored arrays


def generate_to(
    function: str, parts: Generator, plan: Sampling, path: Any, chunk: int, progress: bool
) -> None:
    """Write the cells of a plan to an ``.h5ad`` file, which appears when it is whole."""
    size = validate.integer(function, "chunk", chunk, low=1)
    shown = validate.boolean(function, "progress", progress)
    target = os.path.realpath(path)
    if os.path.splitext(target)[1] != ".h5ad":
        fail(ValueError, function, "path", "end in .h5ad", describe(os.fspath(path)))
    if len(parts.modalities) > 1:
        got = ", ".join(map(repr, parts.modalities))
        fail(ValueError, function, "path", "belong to a model of one modality", got)
    import_extra("anndata")
    temporary = os.path.join(os.path.dirname(target), f".hotloops-{os.urandom(8).hex()}.h5ad")
    try:
        empty = {parts.modalities[0]: None}
        parts.describe(plan.request, empty, plan.record).write_h5ad(temporary)
        _write_counts(function, parts, plan, temporary, size, shown)
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _write_counts(
    function: str, parts: Generator, plan: Sampling, path: str, chunk: int, progress: bool
) -> None:
    """Put a growing CSR matrix into the file, in the form that anndata documents."""
    h5py = import_extra("h5py")
    rows, features = plan.request.rows, parts.autoencoder.features_[parts.modalities[0]]
    with (
        h5py.File(path, "r+") as file,
        Progress(rows, enabled=progress, description=function, unit="cell") as bar,
    ):
        if "X" in file:
            del file["X"]
        group = file.create_group("X")
        group.attrs.update(
            {"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": (rows, features)}
        )
        values, columns = (
            group.create_dataset(name, (0,), np.int32, maxshape=(None,), chunks=(_BLOCK,))
            for name in ("data", "indices")
        )
        indptr = group.create_dataset("indptr", (rows + 1,), np.int64)
        end = 0
        for part in row_chunks(rows, chunk):
            counts = parts.sample(plan, "csr", part)
            for stored, new in ((values, counts.data), (columns, counts.indices)):
                stored.resize((end + counts.nnz,))
                stored[end:] = new
            indptr[part.start + 1 : part.stop + 1] = end + counts.indptr[1:]
            end += counts.nnz
            bar.update(part.stop - part.start)
