"""What a run returns."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt

from hotloops._runtime import checkpoints as files
from hotloops.admm._data import to_host
from hotloops.admm._state import AdmmState, check_state

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["AdmmResult"]

StrPath: TypeAlias = "str | os.PathLike[str]"

_KIND = "admm.solve"
_VERSION = 1


@dataclass(frozen=True, eq=False)
class AdmmResult:
    """The consensus point of a run, with all that is needed to go on.

    d is the number of parameters, m that of clients, R that of rounds of this call.

    Attributes
    ----------
    w : ndarray, shape (d,)
        The global point. A linear model with K outputs keeps its weights as (columns, K), row by
        row, and then its K intercepts; `coef` and `intercept` are views of them.
    objective : float
        Losses, weighted over the clients, plus penalties, at `w`.
    primal_residual : float
        Root of ``sum alpha_i |w_i - w|^2`` of the last round.
    dual_residual : float
        ``(sum alpha_i sigma_i) |w - w_before|``.
    gradient_norm : float
        Norm of the pooled gradient, with ``l2`` but without a regularizer, at the point before the
        last global step.
    history : dict of ndarray, shape (R,)
        "round", "objective" (NaN where it was not evaluated), "primal_residual", "dual_residual",
        "gradient_norm" and "sigma" after each round of this call.
    iterates : ndarray, shape (R + 1, d), or None
        The global points of this call, the first one included.
    lipschitz : ndarray, shape (m,)
        Lipschitz constants of the clients' gradients, NaN where they were not needed.
    layers : tuple of int
        Columns, hidden units and outputs.
    num_rounds : int
        Rounds over all runs that this one went on from.
    converged : bool
        Whether `tol` or `gradient_tol` was met.
    complete : bool
        False when ``max_seconds`` stopped the run early.
    state : AdmmState
        For ``state=`` of the next run.
    """

    w: npt.NDArray[Any]
    objective: float
    primal_residual: float
    dual_residual: float
    gradient_norm: float
    history: dict[str, npt.NDArray[Any]]
    iterates: npt.NDArray[Any] | None
    lipschitz: npt.NDArray[np.float64]
    layers: tuple[int, ...]
    num_rounds: int
    converged: bool
    complete: bool
    state: AdmmState = field(repr=False)

    axes: ClassVar[dict[str, tuple[str, ...]]] = {
        "w": ("parameter",),
        "iterates": ("record", "parameter"),
        "lipschitz": ("client",),
    }

    @property
    def coef(self) -> npt.NDArray[Any]:
        """Weights of a linear model, shape (columns,) or (columns, outputs)."""
        columns, outputs = self._linear()
        own = self.w[: columns * outputs]
        return own if outputs == 1 else own.reshape(columns, outputs)

    @property
    def intercept(self) -> npt.NDArray[Any]:
        """Intercepts of a linear model, shape (outputs,); zeros where it has none."""
        columns, outputs = self._linear()
        rest = self.w[columns * outputs :]
        return rest if rest.size else np.zeros(outputs, self.w.dtype)

    def _linear(self) -> tuple[int, int]:
        if len(self.layers) != 2:
            raise AttributeError("a network has no coef and intercept; its parameters are in `w`")
        return self.layers[0], self.layers[1]

    def __repr__(self) -> str:
        text = (
            f"AdmmResult(objective={self.objective:.10g}, "
            f"primal_residual={self.primal_residual:.2g}, dual_residual={self.dual_residual:.2g}, "
            f"clients={self.state.dual.shape[0]}, parameters={self.w.size}, "
            f"num_rounds={self.num_rounds}, converged={self.converged}"
        )
        return text + ("" if self.complete else ", complete=False") + ")"

    def to_dict(self) -> dict[str, Any]:
        """Return arrays and numbers by name, without the state."""
        names = (
            *("w", "objective", "primal_residual", "dual_residual", "gradient_norm", "history"),
            *("iterates", "lipschitz", "layers", "num_rounds", "converged", "complete"),
        )
        return {name: getattr(self, name) for name in names}

    def save(self, path: StrPath) -> None:
        """Write result and state to an ``.npz`` file, by atomic rename.

        Parameters
        ----------
        path : str or path-like
            The file; an existing one is replaced only when the new one is whole.
        """
        header = self.state.header() | {
            "layers": list(self.layers),
            "converged": self.converged,
            "complete": self.complete,
            "numbers": [
                None if not np.isfinite(number) else float(number)
                for number in (
                    self.objective,
                    self.primal_residual,
                    self.dual_residual,
                    self.gradient_norm,
                )
            ],
        }
        stored = {name: to_host(array) for name, array in self.state.arrays().items()}
        stored |= {f"history_{k}": v for k, v in self.history.items()}
        if self.iterates is not None:
            stored["iterates"] = self.iterates
        files.save_npz(path, _KIND, _VERSION, header, stored)

    @classmethod
    def load(cls, path: StrPath) -> AdmmResult:
        """Read a saved result.

        Raises
        ------
        ValueError
            The file is cut, corrupt, or was not written by `save`.
        """
        header, stored = files.load_npz(path, _KIND, _VERSION)
        try:
            history = {
                name.removeprefix("history_"): stored.pop(name)
                for name in [*stored]
                if name.startswith("history_")
            }
            iterates = stored.pop("iterates", None)
            state = AdmmState(
                w=stored["w"],
                dual=stored["dual"],
                second=stored.get("second"),
                local=stored.get("local"),
                sigma=stored["sigma"],
                rho=stored["rho"],
                lipschitz=stored["lipschitz"],
                balance=float(header["balance"]),
                round=int(header["round"]),
                seed=int(header["seed"]),
                loss=str(header["loss"]),
                scheme=str(header["scheme"]),
            )
            check_state("load", state)
            numbers = [float("nan") if x is None else float(x) for x in header["numbers"]]
            objective, primal, dual, gradient = numbers
            return cls(
                w=state.w,
                objective=objective,
                primal_residual=primal,
                dual_residual=dual,
                gradient_norm=gradient,
                history=history,
                iterates=iterates,
                lipschitz=state.lipschitz,
                layers=tuple(int(width) for width in header["layers"]),
                num_rounds=state.round,
                converged=bool(header["converged"]),
                complete=bool(header["complete"]),
                state=state,
            )
        except (KeyError, TypeError, IndexError, ValueError, OverflowError) as error:
            name = os.fspath(path)
            raise ValueError(f"{name}: the file lacks parts of a result ({error!r})") from error

    def plot(self) -> Figure:
        """Draw the residuals, and the objective where it was evaluated, over the rounds.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        ImportError
            matplotlib is not installed.
        """
        from hotloops.admm._plots import draw

        return draw(self)
