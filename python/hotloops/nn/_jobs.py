"""What faces hand to backends: one loss on one batch, and a stretch of training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops.nn._layout import Operand, ParameterEntry, Program
from hotloops.nn._rule import Rule, State
from hotloops.nn._tables import Batch, Csr

__all__ = ["LOSSES", "Loss", "LossJob", "TrainJob", "mean_of_rows"]

LOSSES = (
    "mean_squared_error",
    "cross_entropy",
    "binary_cross_entropy",
    "negative_binomial",
    "poisson",
    "huber",
)


@dataclass(frozen=True)
class Loss:
    """One term of what a training run minimises.

    Parameters
    ----------
    kind : str
        ``"mean_squared_error"``, ``"huber"``, ``"cross_entropy"``, ``"binary_cross_entropy"``,
        ``"negative_binomial"`` or ``"poisson"``; each is the function of that name.
    logits : Operand
        What of the network it looks at.
    target : int
        Number of the table that it compares with: of the dense tables (which begin with the
        network's inputs), of the index tables for cross entropy, of the CSR tables for counts.
    sparse : bool
        Whether binary cross entropy takes a CSR table.
    log_theta : ParameterEntry, optional
        Of shape (1 or groups, columns): logarithms of the inverse dispersions of the negative
        binomial.
    group : int, optional
        Number of the index table that picks the row of `log_theta`.
    delta : float
        Where Huber's loss turns linear.
    weight : float
        Of this term in the sum.
    """

    kind: str
    logits: Operand
    target: int
    sparse: bool = False
    log_theta: ParameterEntry | None = None
    group: int | None = None
    delta: float = 1.0
    weight: float = 1.0

    @property
    def code(self) -> int:
        """The number of the kind in ``csrc/nn/program.hpp``."""
        return LOSSES.index(self.kind)

    @property
    def is_sparse(self) -> bool:
        """Whether the target is a CSR table."""
        return self.sparse or self.kind in ("negative_binomial", "poisson")

    @property
    def is_dense(self) -> bool:
        """Whether the target is a dense table."""
        return not self.is_sparse and self.kind != "cross_entropy"

    @property
    def integers(self) -> tuple[int, ...]:
        """The whole numbers as the kernels take them."""
        log_theta = -1 if self.log_theta is None else self.log_theta.offset
        group = -1 if self.group is None else self.group
        return self.code, *self.logits.fields, self.target, int(self.is_sparse), log_theta, group

    @property
    def reals(self) -> tuple[float, float]:
        """The other numbers as the kernels take them."""
        return self.delta, self.weight


@dataclass(frozen=True, eq=False)
class LossJob:
    """One loss on one batch; row r of the targets is row ``rows[r]``.

    Attributes
    ----------
    kind : int
    logits : ndarray, shape (rows, ...)
        Columns `first` to ``first + width - 1`` of it.
    first, width : int
    rows : ndarray of int64
    dense, counts, labels : targets, of which one is there
    log_theta : ndarray, shape (groups, width)
        Of no rows where there is none.
    groups : ndarray of int32
        Empty where all rows take the first row of `log_theta`.
    delta, weight : float
    gradient : ndarray or None
        Added to, in the same columns as those of the logits.
    log_theta_gradient : ndarray
        Added to; of no rows where it isn't wanted.
    """

    kind: int
    logits: npt.NDArray[Any]
    first: int
    width: int
    rows: npt.NDArray[np.int64]
    dense: npt.NDArray[Any] | None
    counts: Csr | None
    labels: npt.NDArray[np.int32] | None
    log_theta: npt.NDArray[Any]
    groups: npt.NDArray[np.int32]
    delta: float
    weight: float
    gradient: npt.NDArray[Any] | None
    log_theta_gradient: npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class TrainJob:
    """Steps first_step .. first_step + len(learning_rates) - 1 of a run.

    Attributes
    ----------
    program : Program
    losses : sequence of Loss
    tables : Batch
        Whole tables; without rows where `prepare` makes every batch.
    batch_size : int
    first_step : int
    learning_rates : ndarray of float64
    rule : Rule
    state : State
        Changed in place, as is `buffers`.
    buffers : ndarray
    seed : int
    prepare : callable, optional
        ``prepare(step, dense, indices)`` fills the dense tables and the index tables of a batch;
        for C++ its attributes `address` and `context` are those of a native one.
    num_threads : int
    memory : dict
        What the backend keeps from one stretch of a run to the next.
    """

    program: Program
    losses: Sequence[Loss]
    tables: Batch
    batch_size: int
    first_step: int
    learning_rates: npt.NDArray[np.float64]
    rule: Rule
    state: State
    buffers: npt.NDArray[Any]
    seed: int
    prepare: Callable[..., object] | None
    num_threads: int
    memory: dict[str, Any]


def mean_of_rows(losses: npt.NDArray[np.float64]) -> float:
    """Return the mean, added in eight strands as the kernels do."""
    padded = np.zeros(-(-losses.size // 8) * 8)
    padded[: losses.size] = losses
    s = np.add.reduce(padded.reshape(-1, 8), axis=0)
    return float((((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]))) / losses.size)
