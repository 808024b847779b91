"""What a training run leaves, tells and goes on from."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from hotloops._runtime import checkpoints as files
from hotloops._runtime import optional

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from hotloops.nn._network import Network

__all__ = ["Report", "TrainResult", "TrainState"]

Array = npt.NDArray[Any]

_KIND, _VERSION = "nn.train", 1


@dataclass(frozen=True, eq=False)
class TrainState:
    """What ``state=`` goes on from, bit for bit, as if the run had never stopped.

    Attributes
    ----------
    parameters, first_moment, second_moment : ndarray, shape (n,)
    average : ndarray, shape (n,), or (0,) where none is kept
        Moving average of the parameters, without the bias of its start.
    buffers : ndarray
        Running statistics.
    num_steps : int
        Steps made so far.
    seed : int
    batch_size : int
    """

    parameters: Array
    first_moment: Array
    second_moment: Array
    average: Array
    buffers: Array
    num_steps: int
    seed: int
    batch_size: int

    def copy(self) -> TrainState:
        """Return a state of the same values in memory of its own."""
        return dataclasses.replace(
            self, **{name: value.copy() for name, value in self.arrays().items()}
        )

    def arrays(self) -> dict[str, Array]:
        """Return the arrays by name."""
        names = ("parameters", "first_moment", "second_moment", "average", "buffers")
        return {name: getattr(self, name) for name in names}

    def header(self) -> dict[str, int]:
        """Return what is no array."""
        return {name: getattr(self, name) for name in ("num_steps", "seed", "batch_size")}


@dataclass(frozen=True, eq=False)
class TrainResult:
    """What a training run leaves beside the network that it trained.

    Attributes
    ----------
    losses : ndarray, shape (steps, losses)
        Of each step's batch before the step, without the weights.
    gradient_norms : ndarray, shape (steps,)
        Before clipping.
    num_steps : int
        Steps over all runs that this one went on from.
    complete : bool
        False when ``max_seconds`` or the callback stopped the run early.
    state : TrainState
        For ``state=`` of the next run.
    """

    losses: npt.NDArray[np.float64]
    gradient_norms: npt.NDArray[np.float64]
    num_steps: int
    complete: bool
    state: TrainState = field(repr=False)

    axes: ClassVar[dict[str, tuple[str, ...]]] = {
        "losses": ("step", "loss"),
        "gradient_norms": ("step",),
    }

    def __repr__(self) -> str:
        last = ", ".join(f"{value:.6g}" for value in self.losses[-1]) if self.losses.size else ""
        text = f"TrainResult(last losses=[{last}], num_steps={self.num_steps}"
        return text + ("" if self.complete else ", complete=False") + ")"

    def to_dict(self) -> dict[str, Any]:
        """Return arrays and numbers by name, without the state."""
        names = ("losses", "gradient_norms", "num_steps", "complete")
        return {name: getattr(self, name) for name in names}

    def save(self, path: files.StrPath) -> None:
        """Write everything to an ``.npz`` file, by atomic rename.

        Parameters
        ----------
        path : str or path-like
        """
        held = {f"state.{name}": value for name, value in self.state.arrays().items()}
        held |= {"losses": self.losses, "gradient_norms": self.gradient_norms}
        header = {"complete": self.complete, **self.state.header()}
        files.save_npz(path, _KIND, _VERSION, header, held)

    @classmethod
    def load(cls, path: files.StrPath) -> TrainResult:
        """Read what `save` wrote.

        Parameters
        ----------
        path : str or path-like

        Returns
        -------
        TrainResult

        Raises
        ------
        ValueError
            The file is cut, damaged or of another origin.
        """
        header, held = files.load_npz(path, _KIND, _VERSION)
        complete = bool(header.pop("complete"))
        names = (f.name for f in dataclasses.fields(TrainState) if f.name not in header)
        fields: dict[str, Any] = {name: held[f"state.{name}"] for name in names}
        state = TrainState(**fields, **header)
        arrays = held["losses"], held["gradient_norms"]
        return cls(*arrays, state.num_steps, complete, state)

    def plot(self, axes: Any = None) -> Figure:
        """Draw the losses against the step.

        Parameters
        ----------
        axes : matplotlib axes, optional
            Where to draw; a new figure by default.

        Returns
        -------
        Figure
        """
        if axes is None:
            axes = optional.figure_class()(layout="constrained").subplots()
        steps = np.arange(self.num_steps - len(self.losses), self.num_steps)
        for number, values in enumerate(self.losses.T):
            axes.plot(steps, values, label=f"loss {number}")
        axes.set_xlabel("step")
        axes.set_ylabel("loss")
        if self.losses.shape[1] > 1:
            axes.legend()
        figure: Figure = axes.figure
        return figure


@dataclass(frozen=True, eq=False)
class Report:
    """What a callback is told.

    Attributes
    ----------
    network : Network
        With the parameters of this moment.
    num_steps : int
        Steps made so far, over all runs that this one went on from.
    losses : ndarray, shape (steps, losses)
        Of the steps since the last report.
    state : TrainState
        Whose arrays the next steps change; keep a `copy`.
    """

    network: Network
    num_steps: int
    losses: npt.NDArray[np.float64]
    state: TrainState
