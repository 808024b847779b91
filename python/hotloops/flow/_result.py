"""What an integration returns when everything is asked for."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hotloops._runtime import checkpoints, optional
from hotloops.flow._branches import on_host

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["IntegrationResult"]

_KIND, _VERSION = "flow.integration", 1


@dataclass(frozen=True, eq=False)
class IntegrationResult:
    """States, times and costs of an integration.

    Attributes
    ----------
    x : array, shape (n, d)
        The states at `t`.
    t : ndarray of float64, shape (n,)
        The time that each row has reached: ``t1``, unless it was stopped by ``max_seconds``.
    times : ndarray of float64, shape (m,)
        ``t_eval``, empty without it.
    trajectory : array, shape (m, n, d)
        The states at `times`; NaN where they were not reached.
    evaluations, accepted, rejected : ndarray of int64, shape (n,)
        Evaluations of the velocity (all branches of guidance are one) and steps of each row.
    complete : bool
        False when ``max_seconds`` stopped it.
    """

    x: Any
    t: npt.NDArray[np.float64]
    times: npt.NDArray[np.float64]
    trajectory: Any
    evaluations: npt.NDArray[np.int64]
    accepted: npt.NDArray[np.int64]
    rejected: npt.NDArray[np.int64]
    complete: bool

    def __repr__(self) -> str:
        n, d = self.x.shape
        mean = float(np.mean(self.evaluations)) if n else 0.0
        state = "" if self.complete else ", not complete"
        return f"<IntegrationResult: {n} rows of {d}, {mean:.1f} evaluations a row{state}>"

    def to_dict(self) -> dict[str, Any]:
        """Return the arrays and numbers by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the result to an ``.npz`` file, by atomic rename.

        Parameters
        ----------
        path : str or path-like
            The file; an existing one is replaced only when the new one is whole.
        """
        arrays = {name: on_host("save", name, value) for name, value in self.to_dict().items()}
        del arrays["complete"]
        checkpoints.save_npz(path, _KIND, _VERSION, {"complete": self.complete}, arrays)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> IntegrationResult:
        """Read a saved result, as NumPy arrays.

        Raises
        ------
        ValueError
            The file is cut, corrupt, or was not written by `save`.
        """
        header, arrays = checkpoints.load_npz(path, _KIND, _VERSION)
        try:
            return cls(**arrays, complete=bool(header["complete"]))
        except (KeyError, TypeError) as error:
            name = os.fspath(path)
            raise ValueError(f"{name}: the file lacks parts of a result ({error!r})") from error

    def plot(self) -> Figure:
        """Draw the first two coordinates of the trajectories, or of the states without them."""
        figure = optional.figure_class()(figsize=(4.5, 4.0), layout="constrained")
        axes = figure.subplots()
        x, path = (on_host("plot", name, getattr(self, name)) for name in ("x", "trajectory"))
        if x.shape[1] == 1:
            axes.plot(self.times, path[:, :, 0], color="C0", alpha=0.3, linewidth=0.7)
            axes.plot(self.t, x[:, 0], ".", color="C1")
            axes.set_xlabel("time")
            axes.set_ylabel("coordinate 1")
            return figure
        axes.plot(path[:, :, 0], path[:, :, 1], color="C0", alpha=0.3, linewidth=0.7)
        axes.plot(x[:, 0], x[:, 1], ".", color="C1")
        axes.set_xlabel("coordinate 1")
        axes.set_ylabel("coordinate 2")
        return figure
