"""The Numba backend of the solver; the twin of ``csrc/admm/cpu_solve*.cpp``."""

from __future__ import annotations

from typing import Any

import numpy as np

from hotloops._runtime import threads
from hotloops._runtime._numba_jit import aligned
from hotloops._runtime._numba_packs import word
from hotloops.admm._data import ClientData, Matrix
from hotloops.admm._numba_linear import linear_task
from hotloops.admm._numba_network import network_task
from hotloops.admm._numba_optimistic import count_products, walk, write_products
from hotloops.admm._numba_round import BLOCK, round_slice
from hotloops.admm._numba_rows import (
    CHUNK_ROWS,
    GRADIENT,
    NETWORK_ROWS,
    SLOPES,
    TILE_ROWS,
    Chunk,
    Layers,
    Model,
    Place,
    Rows,
)
from hotloops.admm._optimistic import Optimistic
from hotloops.admm._tiles import tiles_of_clients
from hotloops.admm._work import SLICE, Batch, RoundState, Work

__all__ = ["Driver"]


class Driver:
    """Gradients and rounds over bound data; see `hotloops.admm._cpp.Driver`."""

    def __init__(self, data: ClientData, num_threads: int) -> None:
        self._data = data
        self._num_threads = num_threads
        self._linear = data.layers.size == 2 and int(data.layers[1]) == 1
        self._clients = [
            _rows_of(data.matrices[matrix], rows, data.dtype) for matrix, rows in data.members
        ]
        self._tiled: list[Rows] | None = None
        loss = data.loss
        self._model = Model(
            layers=data.layers,
            num_layers=data.layers.size - 1,
            loss=loss.number,
            activation=loss.activation_number,
            intercept=int(data.intercept),
            shape=np.array(loss.shape, data.dtype),
        )

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
        nothing = np.empty(0, self._data.dtype)
        tasks = work.tasks.tolist()
        clients = self._clients if batch.sampling else self._with_tiles()
        wants = SLOPES if slopes else GRADIENT * int(partials is not None)

        def run(begin: int, end: int) -> None:
            memory = self._memory()
            total = np.zeros(1)
            for index in range(begin, end):
                client = tasks[index][0]
                if active is not None and active[client] == 0:
                    continue
                own = nothing if partials is None else partials[index]
                own[...] = 0
                rows = clients[client]
                place = self._place(batch, tasks[index], wants)
                point = w[client] if w.ndim == 2 else w
                task = linear_task if self._linear else network_task
                task(rows, self._model, memory, place, point, own, total)
                if values is not None:
                    values[index] = total[0]

        threads.map_tiles(run, len(tasks), self._num_threads)

    def round(self, work: Work, state: RoundState) -> None:
        """Make the local steps and the next global point, in place."""
        dtype = self._data.dtype
        m, d = state.dual.shape
        missing = np.empty((0, 0), dtype)
        active = np.ones(m, np.uint8) if state.active is None else state.active
        slices = -(-d // SLICE)

        def run(begin: int, end: int) -> None:
            doubles = np.empty((5, BLOCK))
            for index in range(begin, end):
                round_slice(
                    work.partials,
                    work.tasks,
                    active,
                    *(work.scale, state.alpha, state.sigma, state.rho),
                    np.array([state.beta, 1.0 - state.beta], dtype),
                    np.array([state.correction, state.eps, state.cap, 1.0], dtype),
                    np.array([state.relaxation, 1.0 - state.relaxation], dtype),
                    *(state.scheme, state.relaxation, state.l2, state.penalised),
                    state.w,
                    state.dual,
                    missing if state.second is None else state.second,
                    missing if state.local is None else state.local,
                    missing if state.gradient is None else state.gradient,
                    *(doubles, np.empty((2, BLOCK), dtype), state.sums[index]),
                    *(index * SLICE, min((index + 1) * SLICE, d)),
                )

        threads.map_tiles(run, slices, self._num_threads)

    def optimistic_round(
        self, work: Work, batch: Batch, state: RoundState, memory: Optimistic
    ) -> None:
        """Go from the slopes of a batch to the next global point and duals."""
        places = [self._place(batch, task, 0) for task in work.tasks.tolist()]
        ids = np.empty(CHUNK_ROWS, np.int64)
        counts = [count_products(self._clients[place.client], place, ids) for place in places]
        sizes = np.concatenate([[0], np.cumsum(counts)])
        if self._data.intercept:
            sizes += np.concatenate([[0], np.cumsum(work.tasks[:, 2] - work.tasks[:, 1])])
        keys = np.empty(sizes[-1], np.int64)
        values = np.empty(sizes[-1], self._data.dtype)
        for number, place in enumerate(places):
            own = slice(sizes[number], sizes[number + 1])
            write_products(
                *(self._clients[place.client], self._model, place, ids, memory.slopes[number]),
                *(number, len(places), keys[own], values[own]),
            )
        order = np.argsort(keys, kind="stable")
        before, now = memory.before, memory.now
        state.sums[...] = 0.0
        now.count = walk(
            keys[order],
            values[order],
            work.tasks,
            before.parameters,
            before.clients,
            before.values,
            before.count,
            now.parameters,
            now.clients,
            now.values,
            work.scale,
            state.alpha,
            state.sigma,
            state.w,
            state.sums,
            np.empty(2, self._data.dtype),
        )

    def _place(self, batch: Batch, task: list[int], wants: int) -> Place:
        client, first, last = task
        low, high = word(batch.seed & 0xFFFFFFFF), word(batch.seed >> 32)
        return Place(batch.sampling, batch.size, batch.round, client, first, last, low, high, wants)

    def _with_tiles(self) -> list[Rows]:
        """Return the clients with their tiles, which only full passes use."""
        if self._tiled is None:
            self._tiled = [
                rows if tiles is None else _tiled_rows(rows, tiles)
                for rows, tiles in zip(self._clients, tiles_of_clients(self._data), strict=True)
            ]
        return self._tiled

    def _memory(self) -> Any:
        dtype = self._data.dtype
        if self._linear:
            z, y, weight, slope, value = (aligned(CHUNK_ROWS, dtype) for _ in range(5))
            tiled = self._tiled is not None and any(rows.is_tiled for rows in self._tiled)
            strands = np.empty(TILE_ROWS * int(self._data.layers[0]) if tiled else 0, dtype)
            ids = np.empty(CHUNK_ROWS, np.int64)
            return Chunk(ids, z, y, weight, slope, value, strands)
        widths = self._data.layers
        units = int(sum(-(-NETWORK_ROWS * w // 16) * 16 for w in widths[1:]))
        widest = NETWORK_ROWS * int(widths.max())
        return Layers(
            np.empty(NETWORK_ROWS, np.int64),
            *(aligned(units, dtype), aligned(units, dtype)),
            *(aligned(widest, dtype), aligned(widest, dtype)),
        )


def _tiled_rows(rows: Rows, tiles: Any) -> Rows:
    offsets, columns, masks = tiles
    return rows._replace(tile_offsets=offsets, tile_columns=columns, tile_masks=masks, is_tiled=1)


def _rows_of(one: Matrix, rows: Any, dtype: Any) -> Rows:
    """Return the rows of a client as flat arrays, empty ones for those that are not there."""

    def flat(array: Any, kind: Any) -> Any:
        return np.empty(0, kind) if array is None else np.ascontiguousarray(array).reshape(-1)

    return Rows(
        dense=flat(one.dense, dtype),
        indptr=flat(one.indptr, np.int64),
        indices=flat(one.indices, np.int32),
        values=flat(one.values, dtype),
        targets=flat(one.targets, dtype),
        labels=flat(one.labels, np.int32),
        weights=flat(one.weights, dtype),
        rows=flat(rows, np.int64),
        tile_offsets=flat(None, np.int64),
        tile_columns=flat(None, np.int32),
        tile_masks=flat(None, np.uint16),
        is_dense=int(one.dense is not None),
        has_values=int(one.values is not None),
        has_weights=int(one.weights is not None),
        has_rows=int(rows is not None),
        is_tiled=0,
        size=one.num_rows if rows is None else rows.size,
        columns=one.columns,
    )
