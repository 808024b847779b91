"""What a run returns."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt

from hotloops._runtime import arrays as array_layer
from hotloops._runtime import checkpoints as files
from hotloops._runtime.arrays import Library
from hotloops._runtime.errors import DivergenceWarning, NumericalError
from hotloops.sgd._ensemble import Ensemble
from hotloops.sgd._extrapolation import combine, weights_of
from hotloops.sgd._problem import to_host
from hotloops.sgd._rules import pack_rules, unpack_rules
from hotloops.sgd._state import ChainArrays, SGDState, check_state
from hotloops.sgd._statistics import pack_statistics, unpack_statistics

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["SGDResult", "warn_of"]

StrPath: TypeAlias = "str | os.PathLike[str]"

_KIND = "sgd.run"
_VERSION = 2


@dataclass(frozen=True, eq=False)
class SGDResult(Ensemble):
    """Averages of an ensemble of SGD chains, with all that is needed to go on.

    Arrays are of the library that the problem's data came from. C is the number of chains, J that
    of step sizes, d that of coordinates, K that of checkpoints.

    Attributes
    ----------
    mean : array, shape (C, J, d), float64
        Polyak-Ruppert averages.
    extrapolated : array, shape (C, d), float64
        Richardson-Romberg combination ``sum_j w_j mean[:, j]``.
    last : array, shape (C, J, d)
        Last iterates, in the precision of the run.
    weights : ndarray, shape (J,), float64
        ``w_j``; (C, J) when every chain has its own step sizes.
    flags : array, shape (C, J), uint8
        1 where the chain diverged. Such a chain is frozen at its last iterate in range, its
        numbers are finite but mean nothing, and neither does its extrapolation.
    diverged_at : array, shape (C, J), int64
        The step that left the range, else -1.
    step_sizes : ndarray, shape (J,), float64
        (C, J) when every chain has its own.
    num_steps : int
        Averaged steps, over all runs that this one went on from.
    complete : bool
        False when ``max_seconds`` stopped the run early.
    checkpoints : tuple of int
        Numbers of averaged steps at which copies were kept.
    checkpoint_mean : array, shape (K, C, J, d), float64
    checkpoint_last : array, shape (K, C, J, d)
    state : SGDState
        For ``sgd.run(..., state=result.state)``. It shares its memory with `last`.
    library : Library
        Where the arrays live.

    Notes
    -----
    ``axes`` names the axes of every array.
    """

    mean: Any
    extrapolated: Any
    last: Any
    weights: npt.NDArray[np.float64]
    flags: Any
    diverged_at: Any
    step_sizes: npt.NDArray[np.float64]
    num_steps: int
    complete: bool
    checkpoints: tuple[int, ...]
    checkpoint_mean: Any
    checkpoint_last: Any
    state: SGDState = field(repr=False)
    library: Library = field(repr=False, default=array_layer.NUMPY)

    axes: ClassVar[dict[str, tuple[str, ...]]] = {
        "mean": ("chain", "step_size", "coordinate"),
        "extrapolated": ("chain", "coordinate"),
        "last": ("chain", "step_size", "coordinate"),
        "weights": ("step_size",),
        "flags": ("chain", "step_size"),
        "diverged_at": ("chain", "step_size"),
        "step_sizes": ("step_size",),
        "checkpoint_mean": ("checkpoint", "chain", "step_size", "coordinate"),
        "checkpoint_last": ("checkpoint", "chain", "step_size", "coordinate"),
    }

    def __repr__(self) -> str:
        num_chains, _, dim = tuple(self.mean.shape)
        diverged = int((to_host(self.state.arrays.flags) != 0).any(axis=1).sum())
        steps = self.step_sizes
        shown = steps.tolist() if steps.ndim == 1 else f"<{steps.shape[1]} for each chain>"
        text = (
            f"SGDResult(chains={num_chains}, step_sizes={shown}, dim={dim}, "
            f"num_steps={self.num_steps}, diverged={diverged}"
        )
        return text + ("" if self.complete else ", complete=False") + ")"

    @property
    def valid(self) -> npt.NDArray[np.bool_]:
        """The chains of which no copy diverged, shape (C,), as a NumPy array."""
        return np.asarray((to_host(self.state.arrays.flags) == 0).all(axis=1))

    def check(self) -> SGDResult:
        """Return the result itself, or raise when a chain diverged.

        Raises
        ------
        hotloops.NumericalError
            With the first step and its chain, as `step` and `row`.
        """
        steps = to_host(self.state.arrays.diverged_at)
        if (steps < 0).all():
            return self
        row, j = np.unravel_index(
            int(np.where(steps < 0, np.iinfo(np.int64).max, steps).argmin()), steps.shape
        )
        step = int(steps[row, j])
        size = float(np.broadcast_to(self.step_sizes, steps.shape)[row, j])
        raise NumericalError(
            f"run: chain {row} diverged at step {step} with step size {size:g}; "
            f"{int((~self.valid).sum())} of {steps.shape[0]} chains diverged",
            step=step,
            row=int(row),
        )

    @classmethod
    def from_state(
        cls,
        state: SGDState,
        *,
        library: Library,
        complete: bool,
        checkpoints: list[int],
        snapshots: list[tuple[Any, Any]],
        out: Any = None,
    ) -> SGDResult:
        """Compute the averages from the sums and hand everything to the caller's library."""
        chains = state.arrays
        weights = weights_of("run", state.step_sizes, stacklevel=None)
        mean = _average(chains.sums, state.num_averaged, out)
        xp = library.xp
        shape = tuple(chains.theta.shape)
        sums = [cut / count for (cut, _), count in zip(snapshots, checkpoints, strict=True)]
        lasts = [last for _, last in snapshots]
        kept_mean = xp.stack(sums) if sums else xp.empty((0, *shape), np.float64)
        kept_last = xp.stack(lasts) if lasts else xp.empty((0, *shape), chains.theta.dtype)

        def give(array: Any) -> Any:
            return array_layer.export_array(array, library)

        return cls(
            mean=give(mean) if out is None else out,
            extrapolated=give(combine(mean, weights if weights.ndim == 1 else xp.asarray(weights))),
            last=give(chains.theta),
            weights=weights,
            flags=give(chains.flags),
            diverged_at=give(chains.diverged_at),
            step_sizes=state.step_sizes,
            num_steps=state.num_averaged,
            complete=complete,
            checkpoints=tuple(checkpoints),
            checkpoint_mean=give(kept_mean),
            checkpoint_last=give(kept_last),
            state=state,
            library=library,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the arrays and numbers by name, without the state."""
        names = (*self.axes, "num_steps", "complete", "checkpoints")
        return {name: getattr(self, name) for name in names}

    def save(self, path: StrPath) -> None:
        """Write result and state to an ``.npz`` file, by atomic rename.

        Parameters
        ----------
        path : str or path-like
            The file; an existing one is replaced only when the new one is whole.
        """
        chains = self.state.arrays
        header = {
            "kernel": self.state.kernel,
            "seed": self.state.seed,
            "chain_offset": self.state.chain_offset,
            "next_step": self.state.next_step,
            "burn_in_left": self.state.burn_in_left,
            "num_averaged": self.state.num_averaged,
            "complete": self.complete,
            "checkpoints": list(self.checkpoints),
            "statistics": list(self.state.statistics_names),
            "batch_length": self.state.batch_length,
            "curvature": self.state.curvature,
            "plug_in": self.state.plug_in,
        }
        stored = {
            "step_sizes": self.step_sizes,
            "theta": to_host(chains.theta),
            "sums": to_host(chains.sums),
            "flags": to_host(chains.flags),
            "diverged_at": to_host(chains.diverged_at),
            "checkpoint_mean": _host_of(self.checkpoint_mean),
            "checkpoint_last": _host_of(self.checkpoint_last),
            "auxiliary": to_host(chains.auxiliary),
        }
        for part in (pack_rules(self.state.rules), pack_statistics(self.state.statistics)):
            header |= part[0]
            stored |= part[1]
        files.save_npz(path, _KIND, _VERSION, header, stored)

    @classmethod
    def load(cls, path: StrPath) -> SGDResult:
        """Read a saved result, as NumPy arrays.

        Raises
        ------
        ValueError
            The file is cut, corrupt, or was not written by `save`.
        """
        header, stored = files.load_npz(path, _KIND, _VERSION)
        try:
            return cls._restore(header, stored)
        except (KeyError, TypeError, IndexError, ValueError, OverflowError) as error:
            name = os.fspath(path)
            raise ValueError(f"{name}: the file lacks parts of a result ({error!r})") from error

    @classmethod
    def _restore(cls, header: dict[str, Any], stored: dict[str, npt.NDArray[Any]]) -> SGDResult:
        theta = stored["theta"]
        chains = ChainArrays(
            theta=theta,
            sums=stored["sums"],
            flags=stored["flags"],
            diverged_at=stored["diverged_at"],
            step_sizes=stored["step_sizes"].astype(theta.dtype),
            auxiliary=stored.get("auxiliary"),
        )
        plug_in = header.get("plug_in")
        state = SGDState(
            arrays=chains,
            step_sizes=stored["step_sizes"],
            kernel=str(header["kernel"]),
            seed=int(header["seed"]),
            chain_offset=int(header["chain_offset"]),
            next_step=int(header["next_step"]),
            burn_in_left=int(header["burn_in_left"]),
            num_averaged=int(header["num_averaged"]),
            rules=unpack_rules(header, stored),
            statistics_names=tuple(header.get("statistics", ("mean",))),
            batch_length=header.get("batch_length"),
            statistics=unpack_statistics(header, stored),
            curvature=header.get("curvature"),
            plug_in=None if plug_in is None else (int(plug_in[0]), float(plug_in[1])),
        )
        check_state("load", state)
        counts = [int(count) for count in header["checkpoints"]]
        kept = zip(stored["checkpoint_mean"], stored["checkpoint_last"], strict=True)
        snapshots = [(mean * count, last) for (mean, last), count in zip(kept, counts, strict=True)]
        result = cls.from_state(
            state,
            library=array_layer.NUMPY,
            complete=bool(header["complete"]),
            checkpoints=counts,
            snapshots=snapshots,
        )
        object.__setattr__(result, "checkpoint_mean", stored["checkpoint_mean"])
        return result

    def to_inferencedata(self, num_batches: int | None = None) -> Any:
        """Return the batch means of every path as draws, for ArviZ.

        Parameters
        ----------
        num_batches : int, optional
            As in `confidence_interval`.

        Returns
        -------
        arviz.InferenceData
            Its group ``posterior`` has ``extrapolated`` (chain, draw, coordinate) and ``mean``
            (chain, draw, step_size, coordinate); a draw is the mean of one batch. Chains that
            diverged are left out. ArviZ 1.0, which has no class of this name any more, gets an
            ``xarray.DataTree``.

        Raises
        ------
        ImportError
            ArviZ is not installed.
        ValueError
            Batch means were not asked for, or every chain diverged.

        Notes
        -----
        Batch means spread less than the law of the estimate's posterior would: their standard
        deviation is that of the estimate times the root of the number of batches.
        """
        from hotloops.sgd._inferencedata import inference_data

        return inference_data(self, num_batches)

    def plot(self, reference: Any = None, *, coordinates: Any = None) -> Figure:
        """Draw estimates, intervals where they were stored, and convergence by checkpoints.

        Parameters
        ----------
        reference : array_like, shape (d,), optional
            The exact minimiser, drawn as zero; estimates are then shown as differences to it, and
            intervals that miss it in another colour.
        coordinates : array_like of int, optional
            Which to draw. Default: the first 30. Of several chains, the 95 % intervals of the first
            of them are drawn.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        ImportError
            matplotlib is not installed.
        ValueError
            Every chain diverged, or an argument does not fit.
        """
        from hotloops.sgd._plots import draw

        return draw(self, reference, coordinates)


def _average(sums: Any, count: int, out: Any) -> Any:
    divisor = float(count) if count else float("nan")
    if out is None:
        return sums / divisor
    native, _ = array_layer.import_array("run", "out", out)
    native[...] = sums / divisor
    return native


def warn_of(result: SGDResult) -> None:
    """Tell the caller of `run` what makes its numbers meaningless."""
    if result.num_steps == 0:
        warnings.warn(
            "run: time was up during the burn-in: there are no averages yet; go on from `state`",
            RuntimeWarning,
            stacklevel=4,
        )
    flags = to_host(result.state.arrays.flags)
    diverged = int((flags != 0).any(axis=1).sum())
    if diverged:
        warnings.warn(
            f"run: {diverged} of {flags.shape[0]} chains diverged; they are flagged in `flags` and "
            "frozen at their last iterate in range",
            DivergenceWarning,
            stacklevel=4,
        )


def _host_of(array: Any) -> npt.NDArray[Any]:
    native, _ = array_layer.import_array("save", "result", array)
    return to_host(native)
