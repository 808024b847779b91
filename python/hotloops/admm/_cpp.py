"""The C++ backend of the solver."""

from __future__ import annotations

from typing import Any

import numpy as np

from hotloops._runtime import dispatch
from hotloops.admm._data import ClientData
from hotloops.admm._optimistic import DualList, Optimistic
from hotloops.admm._tiles import tiles_of_clients
from hotloops.admm._work import Batch, RoundState, Work

__all__ = ["Driver"]


class Driver:
    """Gradients and rounds over bound data.

    Parameters
    ----------
    data : ClientData
    loss : Loss
        What to measure; usually that of the data.
    num_threads : int
    """

    def __init__(self, data: ClientData, num_threads: int) -> None:
        self._core = dispatch.core()
        self._num_threads = num_threads
        loss = data.loss
        single = data.dtype == np.float32
        make = self._core.AdmmClientsFloat32 if single else self._core.AdmmClientsFloat64
        core = self._core
        self._make_list = core.AdmmDualsFloat32 if single else core.AdmmDualsFloat64
        self._clients = make(
            data.layers, loss.number, loss.activation_number, data.intercept, *loss.shape
        )
        for one in data.matrices:
            rest = (one.targets, one.labels, one.weights)
            if one.dense is not None:
                self._clients.add_dense(one.dense, *rest)
            else:
                self._clients.add_sparse(one.indptr, one.indices, one.values, *rest)
        for matrix, rows in data.members:
            self._clients.add_client(matrix, rows)
        self._data = data
        self._tiled = False

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
        """Write the sums of each task's rows: gradients to `partials`, losses to `values`.

        With `slopes` partials take the derivatives by the predictions, shape (tasks, rows).
        """
        if batch.sampling == 0 and not self._tiled:
            self._add_tiles()
        self._clients.gradient(
            batch.sampling,
            batch.size,
            batch.seed,
            batch.round,
            work.tasks,
            active,
            w,
            w.ndim == 2,
            partials,
            values,
            partials.shape[1] if slopes else 0,
            self._num_threads,
        )

    def optimistic_round(
        self, work: Work, batch: Batch, state: RoundState, memory: Optimistic
    ) -> None:
        """Go from the slopes of a batch to the next global point and duals."""
        memory.now.count = self._clients.optimistic_round(
            batch.sampling,
            batch.size,
            batch.seed,
            batch.round,
            work.tasks,
            memory.slopes,
            memory.slopes.shape[1],
            work.scale,
            state.alpha,
            state.sigma,
            state.w,
            self._list(memory.before),
            memory.before.count,
            self._list(memory.now),
            state.sums,
        )

    def _list(self, duals: DualList) -> Any:
        return self._make_list(duals.parameters, duals.clients, duals.values)

    def _add_tiles(self) -> None:
        """Give the clients their tiles, which only full passes use."""
        self._tiled = True
        for client, tiles in enumerate(tiles_of_clients(self._data)):
            if tiles is not None:
                self._clients.set_tiles(client, *tiles)

    def round(self, work: Work, state: RoundState) -> None:
        """Make the local steps and the next global point, in place."""
        self._core.admm_round(
            work.partials,
            work.tasks,
            state.active,
            work.scale,
            state.alpha,
            state.sigma,
            state.rho,
            state.scheme,
            state.beta,
            state.correction,
            state.eps,
            state.cap,
            state.relaxation,
            state.l2,
            state.penalised,
            state.w,
            state.dual,
            state.second,
            state.local,
            state.gradient,
            state.sums,
            self._num_threads,
        )
