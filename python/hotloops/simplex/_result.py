"""What a run returns."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt

from hotloops._runtime import checkpoints as files
from hotloops._runtime.errors import NumericalError
from hotloops.simplex._state import ChainArrays, SimplexState, check_state

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["SimplexResult"]

StrPath: TypeAlias = "str | os.PathLike[str]"

_KIND = "simplex.run"
_VERSION = 1


@dataclass(frozen=True, eq=False)
class SimplexResult:
    """The best point of an ensemble of chains on simplices, with all that is needed to go on.

    C is the number of chains, d that of weights, K that of records.

    Attributes
    ----------
    x : ndarray, shape (d,), float64
        The best point that a chain met, after the deterministic polish.
    value : float
        The objective there.
    kkt_residual : float
        How far `x` is from the conditions of a minimum; see `hotloops.simplex.kkt_residual`.
    chains_x : array, shape (C, d)
        Where the chains are.
    chains_value : ndarray, shape (C,)
        The objective there.
    best_x : array, shape (C, d)
        The best point that each chain met.
    best_value : ndarray, shape (C,)
        The objective there.
    mean, variance : ndarray, shape (C, d), float64
        Of the weights over the steps after the burn-in.
    covariance : ndarray, shape (C, d, d), float64, or None
        Of the weights over the same steps, with ``covariance=True``.
    histogram : ndarray, shape (C, d, B), int64, or None
        Counts of the weights over the same steps, with ``num_bins=B``.
    trace : array, shape (K, C, d)
        The weights after each ``trace_every`` steps of this call.
    swaps : ndarray, shape (C,), float64
        Share of exchanges with the next chain of the ladder that were accepted; NaN where none was
        tried.
    acceptance : ndarray, shape (C,), float64
        Share of steps that ``retraction="metropolis"`` accepted; NaN in other forms.
    floored : ndarray, shape (C,), float64
        Share of the weights that a step lifted to the floor.
    clipped : ndarray, shape (C,), int64
        Steps in which an exponent was cut.
    smallest : ndarray, shape (C,)
        The smallest weight met.
    flags : ndarray, shape (C,), uint8
        1 where a step was not finite; such a chain is frozen at its last point.
    failed_at : ndarray, shape (C,), int64
        That step, else -1.
    num_steps : int
        Steps over all runs that this one went on from.
    complete : bool
        False when ``max_seconds`` stopped the run early.
    state : SimplexState
        For ``state=`` of the next run.
    names : tuple of str or None
        Names of the weights, where the objective has some.

    Notes
    -----
    ``axes`` names the axes of every array.
    """

    x: npt.NDArray[np.float64]
    value: float
    kkt_residual: float
    chains_x: Any
    chains_value: npt.NDArray[Any]
    best_x: Any
    best_value: npt.NDArray[Any]
    mean: npt.NDArray[np.float64]
    variance: npt.NDArray[np.float64]
    covariance: npt.NDArray[np.float64] | None
    histogram: npt.NDArray[np.int64] | None
    trace: Any
    swaps: npt.NDArray[np.float64]
    acceptance: npt.NDArray[np.float64]
    floored: npt.NDArray[np.float64]
    clipped: npt.NDArray[np.int64]
    smallest: npt.NDArray[Any]
    flags: npt.NDArray[np.uint8]
    failed_at: npt.NDArray[np.int64]
    num_steps: int
    complete: bool
    state: SimplexState = field(repr=False)
    names: tuple[str, ...] | None = None

    axes: ClassVar[dict[str, tuple[str, ...]]] = {
        "x": ("weight",),
        "chains_x": ("chain", "weight"),
        "chains_value": ("chain",),
        "best_x": ("chain", "weight"),
        "best_value": ("chain",),
        "mean": ("chain", "weight"),
        "variance": ("chain", "weight"),
        "covariance": ("chain", "weight", "weight"),
        "histogram": ("chain", "weight", "bin"),
        "trace": ("record", "chain", "weight"),
        "swaps": ("chain",),
        "acceptance": ("chain",),
        "floored": ("chain",),
        "clipped": ("chain",),
        "smallest": ("chain",),
        "flags": ("chain",),
        "failed_at": ("chain",),
    }

    def __repr__(self) -> str:
        num_chains, dim = tuple(self.chains_x.shape)
        text = (
            f"SimplexResult(value={self.value:.10g}, kkt_residual={self.kkt_residual:.2g}, "
            f"chains={num_chains}, dim={dim}, num_steps={self.num_steps}"
        )
        return text + ("" if self.complete else ", complete=False") + ")"

    def check(self) -> SimplexResult:
        """Return the result itself, or raise when a chain failed.

        Raises
        ------
        hotloops.NumericalError
            With the first step and its chain, as `step` and `row`.
        """
        failed = np.flatnonzero(self.flags)
        if failed.size == 0:
            return self
        row = int(failed[self.failed_at[failed].argmin()])
        step = int(self.failed_at[row])
        raise NumericalError(
            f"lmwu: the step of chain {row} was not finite at step {step}; "
            f"{failed.size} of {self.flags.size} chains failed",
            step=step,
            row=row,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the arrays and numbers by name, without the state."""
        names = (*self.axes, "value", "kkt_residual", "num_steps", "complete")
        return {name: getattr(self, name) for name in names}

    def save(self, path: StrPath) -> None:
        """Write result and state to an ``.npz`` file, by atomic rename.

        Parameters
        ----------
        path : str or path-like
            The file; an existing one is replaced only when the new one is whole.
        """
        state = self.state
        header = {
            "kernel": state.kernel,
            "retraction": state.retraction,
            "sizes": list(state.sizes),
            "seed": state.seed,
            "chain_offset": state.chain_offset,
            "next_step": state.next_step,
            "num_steps": state.num_steps,
            "burn_in": state.burn_in,
            "complete": self.complete,
            "polished_value": self.value if np.isfinite(self.value) else None,
            "kkt_residual": self.kkt_residual if np.isfinite(self.kkt_residual) else None,
            "names": None if self.names is None else list(self.names),
        }
        stored = state.arrays.to_dict() | {
            "polished": self.x,
            "trace": np.asarray(self.trace),
        }
        files.save_npz(path, _KIND, _VERSION, header, stored)

    @classmethod
    def load(cls, path: StrPath) -> SimplexResult:
        """Read a saved result, as NumPy arrays.

        Raises
        ------
        ValueError
            The file is cut, corrupt, or was not written by `save`.
        """
        header, stored = files.load_npz(path, _KIND, _VERSION)
        try:
            polished, trace = stored.pop("polished"), stored.pop("trace")
            state = SimplexState(
                arrays=ChainArrays(**stored),
                kernel=str(header["kernel"]),
                retraction=str(header["retraction"]),
                sizes=tuple(int(size) for size in header["sizes"]),
                seed=int(header["seed"]),
                chain_offset=int(header["chain_offset"]),
                next_step=int(header["next_step"]),
                num_steps=int(header["num_steps"]),
                burn_in=int(header["burn_in"]),
            )
            check_state("load", state)
            best = (polished, _number(header["polished_value"]), _number(header["kkt_residual"]))
            names = header.get("names")
            return cls.from_state(
                state,
                best,
                trace,
                complete=bool(header["complete"]),
                names=None if names is None else tuple(str(name) for name in names),
            )
        except (KeyError, TypeError, IndexError, ValueError, OverflowError) as error:
            name = os.fspath(path)
            raise ValueError(f"{name}: the file lacks parts of a result ({error!r})") from error

    @classmethod
    def from_state(
        cls,
        state: SimplexState,
        best: tuple[npt.NDArray[np.float64], float, float],
        trace: Any,
        *,
        complete: bool,
        names: tuple[str, ...] | None = None,
    ) -> SimplexResult:
        """Compute averages and shares from the sums and counts of a state."""
        arrays = state.arrays
        averaged = max(state.num_steps - state.burn_in, 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = arrays.sums / averaged if averaged else np.full(arrays.x.shape, np.nan)
            square = arrays.squares / averaged if averaged else mean
            swaps = np.where(arrays.tried > 0, arrays.swapped / np.maximum(arrays.tried, 1), np.nan)
        weights_moved = max(state.num_steps, 1) * arrays.x.shape[1]
        return cls(
            x=best[0],
            value=best[1],
            kkt_residual=best[2],
            chains_x=arrays.x,
            chains_value=arrays.value,
            best_x=arrays.best_x,
            best_value=arrays.best_value,
            mean=mean,
            variance=np.maximum(square - mean**2, 0.0),
            covariance=_covariance(arrays.products, mean, averaged),
            histogram=arrays.histogram if arrays.histogram.size else None,
            trace=trace,
            swaps=swaps,
            acceptance=(
                arrays.accepted / max(state.num_steps, 1)
                if state.retraction == "metropolis"
                else np.full(arrays.accepted.size, np.nan)
            ),
            floored=arrays.floored / weights_moved,
            clipped=arrays.clipped,
            smallest=arrays.smallest,
            flags=arrays.flags,
            failed_at=arrays.failed_at,
            num_steps=state.num_steps,
            complete=complete,
            state=state,
            names=names,
        )

    def plot(self, names: Any = None) -> Figure:
        """Draw the weights of the best point and the objectives that the chains reached.

        Parameters
        ----------
        names : sequence of str, optional
            What to write below the weights. Default: their names, or else their numbers.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        ImportError
            matplotlib is not installed.
        ValueError
            The number of names is not that of the weights.
        """
        from hotloops.simplex._plots import draw

        return draw(self, self.names if names is None else names)


def _covariance(products: Any, mean: Any, count: int) -> npt.NDArray[np.float64] | None:
    if products.size == 0:
        return None
    if count == 0:
        return np.full(products.shape, np.nan)
    return np.asarray(products / count - mean[:, :, None] * mean[:, None, :])


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)
