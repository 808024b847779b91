"""What passes between the loop and the backends of the solver."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from hotloops.admm._data import ClientData, to_host

if TYPE_CHECKING:
    from hotloops.admm._optimistic import Optimistic

__all__ = ["SCHEMES", "SLICE", "Batch", "Engine", "ListEngine", "RoundState", "Work", "in_order"]

Float64 = npt.NDArray[np.float64]

SCHEMES = ("identity", "diag", "adagrad", "rmsprop", "adam")  # by number, as in solve_kernels.hpp
SAMPLINGS = ("full", "replacement", "epoch")
SLICE = 4096  # admm_slice
NUM_SUMS = 6


def in_order(terms: Float64) -> float:
    """Return the sum, added up from the left on every machine."""
    return float(np.cumsum(terms)[-1])


@dataclass
class Batch:
    """Which rows a gradient takes."""

    sampling: int = 0
    size: int = 0
    seed: int = 0
    round: int = 0


@dataclass(frozen=True)
class Work:
    """How the rows of a call are cut, and memory for the sums of the pieces."""

    tasks: npt.NDArray[np.int64]
    scale: Float64
    partials: Any
    values: Any

    @classmethod
    def prepare(cls, data: ClientData, batch_size: int | None, *, gradients: bool = True) -> Work:
        """Cut the work of full passes, or of mini-batches."""
        tasks = data.tasks(batch_size)
        rows = tasks.shape[0] if gradients else 0
        with data.library_device():
            partials = data.xp.zeros((rows, data.dim), data.dtype)
            values = data.xp.zeros(tasks.shape[0])
        return cls(
            tasks=tasks,
            scale=np.ascontiguousarray(data.scale(batch_size), np.float64),
            partials=partials,
            values=values,
        )

    def client_values(self, num_clients: int) -> Float64:
        """Return the mean loss of each client from the sums of its pieces."""
        sums = np.zeros(num_clients)
        np.add.at(sums, self.tasks[:, 0], to_host(self.values))
        return sums * self.scale

    def client_gradients(self, num_clients: int) -> npt.NDArray[Any]:
        """Return the mean gradient of each client, shape (m, d), as the kernel of a round does."""
        sums = np.zeros((num_clients, self.partials.shape[1]))
        for (client, _, _), part in zip(self.tasks.tolist(), to_host(self.partials), strict=True):
            sums[client] += part
        return np.asarray(sums * self.scale[:, None], np.dtype(self.partials.dtype))


@dataclass
class RoundState:
    """The arrays and numbers of one round; see AdmmRound in solve_kernels.hpp."""

    alpha: Float64
    sigma: Float64
    rho: Float64
    scheme: int
    beta: float
    correction: float
    eps: float
    cap: float
    relaxation: float
    l2: float
    penalised: int
    w: npt.NDArray[Any]
    dual: npt.NDArray[Any]
    second: npt.NDArray[Any] | None
    local: npt.NDArray[Any] | None
    gradient: npt.NDArray[Any] | None
    sums: Float64
    active: npt.NDArray[np.uint8] | None = None
    optimistic: bool = False


class Engine(Protocol):
    """A backend."""

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
    ) -> None: ...

    def round(self, work: Work, state: RoundState) -> None: ...


@runtime_checkable
class ListEngine(Engine, Protocol):
    """A backend that also makes rounds by lists of entries."""

    def optimistic_round(
        self, work: Work, batch: Batch, state: RoundState, memory: Optimistic
    ) -> None: ...
