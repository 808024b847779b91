"""Training of the autoencoder: epochs over the CSR tables, watched on cells kept apart."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops import random
from hotloops._runtime.validate import fail
from hotloops.flow._labels import Codes
from hotloops.flow._likelihood import clip_log_theta, log_likelihood
from hotloops.flow._matrices import CountMatrix, row_chunks
from hotloops.flow._trained_autoencoder import TrainedAutoencoder
from hotloops.nn import AdamW, Network
from hotloops.nn._jobs import Loss
from hotloops.nn._layout import TRANSFORMS
from hotloops.nn._tables import Batch, Csr
from hotloops.nn._train import Report, TrainResult, TrainState, train

__all__ = ["NO_DECAY", "FitOptions", "Fitting", "below"]

Array = npt.NDArray[Any]

_SPLIT_STREAM, _SPLIT_STEP = 7, 2**48 - 1  # an epoch that no training reaches
_THETA_RANGE = (0.1, 100.0)
_SMALLEST_EXCESS = 1e-3
_LOSSES = {"nb": "negative_binomial", "poisson": "poisson", "bernoulli": "binary_cross_entropy"}
_ELEMENTS = 1 << 21  # logits that are held at a time
# What the words of the argument are to the optimizer.
NO_DECAY = {"bias": "bias", "norm": "norm", "log_theta": "free"}


@dataclass(frozen=True)
class FitOptions:
    """Arguments of the constructor that the training reads, checked."""

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    clip_norm: float
    no_decay: tuple[str, ...]
    validation_share: float
    early_stopping: bool
    patience: int
    theta_init: str
    seed: int
    backend: str | None
    num_threads: int | None


class Fitting:
    """A training that can be stopped and gone on with.

    Parameters
    ----------
    trained : TrainedAutoencoder
        Whose programs are trained.
    options : FitOptions
    rows : int
        Number of cells, kept ones included.
    """

    def __init__(self, trained: TrainedAutoencoder, options: FitOptions, rows: int) -> None:
        self.trained, self.rows = trained, rows
        self.network = Network(trained.programs.training, dtype=trained.dtype, seed=options.seed)
        self.optimizer = AdamW(
            options.learning_rate,
            weight_decay=options.weight_decay,
            clip_norm=options.clip_norm,
            no_decay=tuple(NO_DECAY[word] for word in options.no_decay),
        )
        self.state: TrainState | None = None
        self.history: dict[str, list[float]] = {"train": [], "validation": []}
        self.recent: list[float] = []  # losses of the steps of the epoch that is under way
        self.kept_epoch = 0
        self.kept: tuple[Array, Array] | None = None
        self.training_rows, self.validation_rows = split_rows(
            rows, options.validation_share, options.seed
        )

    @property
    def epoch(self) -> int:
        """Epochs that are complete."""
        return len(self.history["train"])

    def check_same(self, function: str, matrices: Sequence[CountMatrix]) -> None:
        """Refuse to go on with other cells."""
        if matrices[0].rows != self.rows:
            expectation = f"have the {self.rows} cells of the fit that is gone on with"
            fail(ValueError, function, "X", expectation, str(matrices[0].rows))

    def set_log_theta(self, matrices: Sequence[CountMatrix], codes: Codes | None) -> None:
        """Start the dispersions from the moments of the training cells."""
        programs = self.trained.programs
        own = None if codes is None else codes[self.training_rows]
        for item, matrix in zip(self.trained.modalities, matrices, strict=True):
            if item.likelihood == "nb":
                log_theta = self.network.parameters[programs.log_theta[item.name]]
                log_theta[:] = moments(matrix.take(self.training_rows), own, len(log_theta))

    def run(
        self,
        options: FitOptions,
        matrices: Sequence[CountMatrix],
        codes: Codes | None,
        *,
        progress: bool,
        max_seconds: float | None,
    ) -> bool:
        """Train up to the epochs asked for; return False when the time is over before."""
        began = time.monotonic()
        tables = self._tables(matrices, codes)
        batch_size = min(options.batch_size, tables.num_rows)
        per_epoch = tables.num_rows // batch_size
        watch = self._watch(options, matrices, codes, per_epoch)
        done = 0 if self.state is None else self.state.num_steps
        left = options.epochs * per_epoch - done
        # A run that was stopped within an epoch ends it first, so that the reports keep their time.
        for steps in (min(left, -done % per_epoch), left - min(left, -done % per_epoch)):
            if steps <= 0 or self._out_of_patience(options):
                continue
            seconds = None if max_seconds is None else max_seconds - (time.monotonic() - began)
            result = train(
                self.network,
                self._losses(codes),
                tables,
                batch_size=batch_size,
                num_steps=steps,
                optimizer=self.optimizer,
                seed=options.seed,
                state=self.state,
                callback=watch,
                callback_steps=min(steps, per_epoch),
                progress=progress,
                max_seconds=None if seconds is None else max(seconds, 0.0),
                backend=options.backend,
                num_threads=options.num_threads,
                where="CountAutoencoder.fit",
            )
            self.state = result.state
            if not result.complete and not self._out_of_patience(options):
                self.recent += self._unfinished(result, per_epoch)
                return False
        return True

    def _unfinished(self, result: TrainResult, per_epoch: int) -> list[float]:
        """Return the losses of the steps after the last whole epoch."""
        losses = result.losses.sum(axis=1)
        made = min(result.num_steps % per_epoch, len(losses))
        return [float(loss) for loss in losses[len(losses) - made :]]

    def parameters(self) -> dict[str, Array]:
        """Return the parameters of the epoch that is kept, in torch's layout."""
        if self.kept is None:
            return self.network.state_dict()
        best = self.network.copy()
        best.flat_parameters[:], best.flat_buffers[:] = self.kept
        return best.state_dict()

    def _tables(self, matrices: Sequence[CountMatrix], codes: Codes | None) -> Batch:
        rows = self.training_rows
        sparse = [
            Csr(
                part.indptr,
                part.indices,
                part.values,
                part.columns,
                TRANSFORMS.index(item.transform),
                part.totals,
            )
            for item, part in zip(
                self.trained.modalities, (matrix.take(rows) for matrix in matrices), strict=True
            )
        ]
        return Batch([], sparse, [] if codes is None else [codes[rows]], len(rows))

    def _losses(self, codes: Codes | None) -> list[Loss]:
        programs, losses = self.trained.programs, []
        for number, item in enumerate(self.trained.modalities):
            log_theta = group = None
            if item.likelihood == "nb":
                log_theta = programs.training.parameters[programs.log_theta[item.name]]
                group = None if codes is None else 0
            losses.append(
                Loss(
                    _LOSSES[item.likelihood],
                    programs.logits[number],
                    number,
                    sparse=True,
                    log_theta=log_theta,
                    group=group,
                )
            )
        return losses

    def _watch(
        self,
        options: FitOptions,
        matrices: Sequence[CountMatrix],
        codes: Codes | None,
        per_epoch: int,
    ) -> Callable[[Report], bool]:
        """Return what is done at the end of every epoch; it says whether to stop."""
        rows = self.validation_rows
        watched = [matrix.take(rows) for matrix in matrices]
        others = None if codes is None else codes[rows]

        def at_the_end(report: Report) -> bool:
            self.recent += report.losses.sum(axis=1).tolist()
            self.history["train"].append(float(np.mean(self.recent)))
            self.recent = []
            if rows.size:
                self.history["validation"].append(self._loss(options, watched, others))
            self._keep(options)
            return self._out_of_patience(options)

        return at_the_end

    def pack(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """Return what a file must hold to go on."""
        header: dict[str, Any] = {
            "rows": self.rows,
            "history": self.history,
            "recent": self.recent,
            "kept_epoch": self.kept_epoch,
            "state": None if self.state is None else self.state.header(),
        }
        arrays = {} if self.state is None else self.state.arrays()
        arrays = {f"state/{name}": value for name, value in arrays.items()}
        if self.kept is not None:
            arrays["kept_parameters"], arrays["kept_buffers"] = self.kept
        return header, arrays

    @classmethod
    def unpack(
        cls,
        trained: TrainedAutoencoder,
        options: FitOptions,
        header: dict[str, Any],
        arrays: dict[str, Array],
    ) -> Fitting:
        """Return the training of a file."""
        fitting = cls(trained, options, header["rows"])
        fitting.history, fitting.recent = header["history"], header["recent"]
        fitting.kept_epoch = header["kept_epoch"]
        if header["state"] is not None:
            state: dict[str, Any] = {**below(arrays, "state/"), **header["state"]}
            fitting.state = TrainState(**state)
            fitting.network.flat_parameters[:] = fitting.state.parameters
            fitting.network.flat_buffers[:] = fitting.state.buffers
        if "kept_parameters" in arrays:
            fitting.kept = arrays["kept_parameters"], arrays["kept_buffers"]
        return fitting

    def _loss(
        self, options: FitOptions, matrices: Sequence[CountMatrix], codes: Codes | None
    ) -> float:
        """Return the negative log-likelihood per cell, in evaluation mode."""
        programs, total = self.trained.programs, 0.0
        chunk = max(1, _ELEMENTS // sum(self.trained.widths))
        for rows in row_chunks(matrices[0].rows, chunk):
            parts = [matrix.take(rows) for matrix in matrices]
            _, *logits = self.network.forward(
                *(part.to_csr() for part in parts),
                backend=options.backend,
                num_threads=options.num_threads,
            )
            for item, part, h in zip(self.trained.modalities, parts, logits, strict=True):
                theta = None
                if item.likelihood == "nb":
                    every = self.network.parameters[programs.log_theta[item.name]]
                    theta = clip_log_theta(every if codes is None else every[codes[rows]])
                found = log_likelihood(item.likelihood, part, h, part.totals, theta)
                total -= float(found.sum())
        return total / matrices[0].rows

    def _keep(self, options: FitOptions) -> None:
        """Copy the parameters of the best epoch, where that is asked for."""
        watched = self.history["validation"]
        if not options.early_stopping:
            self.kept, self.kept_epoch = None, self.epoch
        elif self.kept is None or watched[-1] < min(watched[:-1]):
            self.kept = (self.network.flat_parameters.copy(), self.network.flat_buffers.copy())
            self.kept_epoch = self.epoch

    def _out_of_patience(self, options: FitOptions) -> bool:
        return options.early_stopping and self.epoch - self.kept_epoch >= options.patience


def split_rows(
    rows: int, share: float, seed: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return training and validation rows, each ascending; at least two cells are trained on."""
    kept = min(round(share * rows), rows - 2)
    order = np.argsort(
        random.uniforms(seed, [_SPLIT_STEP], 1, rows, _SPLIT_STREAM)[0, 0], kind="stable"
    )
    return np.sort(order[kept:]), np.sort(order[:kept])


def moments(matrix: CountMatrix, codes: Codes | None, groups: int) -> npt.NDArray[np.float64]:
    """Return ln theta by the method of moments, from counts scaled to the mean total.

    A group of fewer than two cells takes the dispersions of all cells.
    """
    table = matrix.to_csr().astype(np.float64)
    totals = matrix.totals.astype(np.float64)
    table.data *= np.repeat(totals.mean() / totals, np.diff(matrix.indptr))
    everything = _log_theta(table)
    if codes is None:
        return everything[None]
    found = np.tile(everything, (groups, 1))
    for group in range(groups):
        rows = np.flatnonzero(codes == group)
        if rows.size > 1:
            found[group] = _log_theta(table[rows])
    return found


def _log_theta(table: Any) -> npt.NDArray[np.float64]:
    rows = table.shape[0]
    mean = np.asarray(table.sum(axis=0)).ravel() / rows
    squares = np.asarray((table * table).sum(axis=0)).ravel()
    variance = (squares - rows * mean**2) / max(rows - 1, 1)
    theta = mean**2 / np.maximum(variance - mean, _SMALLEST_EXCESS)
    return np.asarray(np.log(np.clip(theta, *_THETA_RANGE)))


def below(arrays: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    """Return the arrays whose names begin with a prefix, without it."""
    return {
        name.removeprefix(prefix): value
        for name, value in arrays.items()
        if name.startswith(prefix)
    }
