"""The CUDA backend of the solver: linear models with one output, on CuPy's current stream."""

from __future__ import annotations

from typing import Any

import numpy as np

from hotloops._runtime import dispatch, validate
from hotloops._runtime.device import Place, place_of
from hotloops.admm._data import ClientData
from hotloops.admm._tiles import TILE_ROWS, tiles_of_clients
from hotloops.admm._work import Batch, RoundState, Work

__all__ = ["Driver"]

_NAME = "solve"


class Driver:
    """Gradients and rounds over data on a device; see `hotloops.admm._cpp.Driver`.

    Points and masks may come from the host; they are copied.
    """

    def __init__(self, data: ClientData, num_threads: int) -> None:
        import cupy

        if data.layers.size > 2 or int(data.layers[1]) > 1:
            expectation = "be one with a single output for arrays on a GPU"
            got = "a network" if data.is_network else "several outputs"
            validate.fail(ValueError, _NAME, "loss", expectation, got)
        self._cupy = cupy
        self._data = data
        self._module = dispatch.cuda()
        self._memory: Any = None
        self._held: list[Work] = []
        self._there: dict[int, tuple[Any, Any]] = {}  # what the addresses in the table lead to
        self._uploads: dict[int, tuple[Any, ...]] = {}
        tiles = tiles_of_clients(data)
        self._is_tiled = any(found is not None for found in tiles)
        with data.library_device():
            table = [
                self._words(matrix, rows, found)
                for (matrix, rows), found in zip(data.members, tiles, strict=True)
            ]
            self._table = cupy.asarray(np.array(table, np.uint64))

    def gradient(
        self,
        work: Work,
        batch: Batch,
        w: Any,
        *,
        active: Any = None,
        partials: Any = None,
        values: Any = None,
        slopes: bool = False,
    ) -> None:
        """Write the sums of each task's rows: gradients to `partials`, losses to `values`."""
        loss, data = self._data.loss, self._data
        dense = data.matrices[0].dense is not None
        with place_of(self._table) as place:
            tasks, first_row, ids, row_slopes, losses, _ = self._prepare(work)
            strands = 0
            if self._is_tiled and partials is not None and batch.sampling == 0:
                strands = self._strands(work)
            point = self._cupy.asarray(w)
            mask = None if active is None else self._cupy.asarray(active)
            getattr(self._module, f"admm_gradient_{data.dtype}")(
                int(self._table.data.ptr),
                int(data.layers[0]),
                data.dim,
                loss.number,
                data.intercept,
                *loss.shape,
                *(batch.sampling, batch.size, batch.seed, batch.round),
                int(tasks.data.ptr),
                0 if mask is None else int(mask.data.ptr),
                int(work.tasks.shape[0]),
                place.address(_NAME, "w", point, tuple(w.shape), data.dtype),
                w.ndim == 2,
                0 if partials is None else self._address(place, "partials", partials),
                0 if values is None else self._address(place, "values", values),
                int(first_row.data.ptr),
                int(ids.size),
                *(int(ids.data.ptr), int(row_slopes.data.ptr), int(losses.data.ptr), strands),
                dense,
                place.device,
                place.stream,
            )

    def round(self, work: Work, state: RoundState) -> None:
        """Make the local steps and the next global point, in place."""
        with place_of(self._table) as place:
            tasks, *_, scale = self._prepare(work)
            mask = None if state.active is None else self._cupy.asarray(state.active)
            numbers = [self._cupy.asarray(a) for a in (state.alpha, state.sigma, state.rho)]
            getattr(self._module, f"admm_round_{self._data.dtype}")(
                self._address(place, "partials", work.partials),
                int(tasks.data.ptr),
                0 if mask is None else int(mask.data.ptr),
                int(work.tasks.shape[0]),
                self._data.num_clients,
                self._data.dim,
                int(scale.data.ptr),
                *(int(array.data.ptr) for array in numbers),
                state.scheme,
                state.beta,
                state.correction,
                state.eps,
                state.cap,
                state.relaxation,
                state.l2,
                state.penalised,
                self._address(place, "w", state.w),
                self._address(place, "dual", state.dual),
                *(
                    0 if array is None else self._address(place, "state", array)
                    for array in (state.second, state.local, state.gradient)
                ),
                self._address(place, "sums", state.sums),
                state.optimistic,
                place.device,
                place.stream,
            )

    def _prepare(self, work: Work) -> tuple[Any, ...]:
        """Return the tasks on the device, and memory for their rows."""
        known = self._uploads.get(id(work))
        if known is None:
            counts = work.tasks[:, 2] - work.tasks[:, 1]
            first_row = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
            size = int(first_row[-1])
            xp, dtype = self._cupy, self._data.dtype
            rows = (xp.empty(size, np.int64), xp.empty(size, dtype), xp.empty(size, dtype))
            known = (xp.asarray(work.tasks), xp.asarray(first_row), *rows, xp.asarray(work.scale))
            self._uploads[id(work)] = known
            self._held.append(work)  # or another could take its id
        return known

    def _strands(self, work: Work) -> int:
        """Return where the sums of tiled tasks may be kept."""
        size = int(work.tasks.shape[0]) * int(self._data.layers[0]) * TILE_ROWS
        if self._memory is None or self._memory.size < size:
            self._memory = self._cupy.empty(size, self._data.dtype)
        return int(self._memory.data.ptr)

    def _address(self, place: Place, name: str, array: Any) -> int:
        return place.address(_NAME, name, array, tuple(array.shape), array.dtype)

    def _words(self, matrix: int, rows: Any, tiles: Any) -> list[int]:
        """Return the fields of AdmmRows."""
        one = self._data.matrices[matrix]
        fields = (
            one.dense,
            one.indptr,
            one.indices,
            one.values,
            one.targets,
            None,
            one.weights,
            rows,
        )
        count = one.num_rows if rows is None else int(rows.size)
        parts = (None, None, None) if tiles is None else tiles
        return [*map(self._upload, fields), count, *map(self._upload, parts)]

    def _upload(self, array: Any) -> int:
        """Return where an array lies on the device, zero for none."""
        if array is None:
            return 0
        if id(array) not in self._there:
            self._there[id(array)] = (array, self._cupy.asarray(array))
        return int(self._there[id(array)][1].data.ptr)
