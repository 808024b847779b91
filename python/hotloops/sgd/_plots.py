"""Pictures of a result."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hotloops._runtime import arrays, optional, validate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from hotloops.sgd._result import SGDResult

__all__ = ["draw"]

_MAX_COORDINATES = 30
_MAX_CHAINS = 100


def draw(result: SGDResult, reference: Any, coordinates: Any) -> Figure:
    """Draw estimates and intervals, and errors by number of steps where there are any."""
    if not result.valid.any():
        raise ValueError("plot: there is nothing to draw, since every chain diverged")
    mean, extrapolated = _host("mean", result.mean), _host("extrapolated", result.extrapolated)
    shown = _coordinates(coordinates, mean.shape[2])
    center = _reference(reference, mean.shape[2])
    known = center if reference is not None else None
    intervals = _intervals(result)
    panels = 1 + (intervals is not None) + (len(result.checkpoints) > 1)
    figure = optional.figure_class()(figsize=(6.4 * panels, 4.2), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, panels))
    _draw_estimates(axes[0], result, mean, extrapolated, center, shown)
    if intervals is not None:
        _draw_intervals(axes[1], result.valid, intervals, extrapolated, known, shown)
    if len(result.checkpoints) > 1:
        _draw_convergence(axes[-1], result, known)
    return figure


def _host(argument: str, array: Any) -> npt.NDArray[Any]:
    native, _ = arrays.import_array("plot", argument, array)
    host: npt.NDArray[Any] = native.get() if hasattr(native, "get") else native
    return host


def _coordinates(coordinates: Any, dim: int) -> npt.NDArray[np.int64]:
    if coordinates is None:
        return np.arange(min(dim, _MAX_COORDINATES))
    shown: npt.NDArray[np.int64] = validate.array(
        "plot", "coordinates", coordinates, ndim=1, dtype=np.int64
    )
    if shown.min() < 0 or shown.max() >= dim:
        validate.fail(ValueError, "plot", "coordinates", f"lie in [0, {dim - 1}]", str(shown))
    return shown


def _reference(reference: Any, dim: int) -> npt.NDArray[np.float64]:
    if reference is None:
        return np.zeros(dim)
    host = _host("reference", reference)
    center: npt.NDArray[np.float64] = validate.array(
        "plot", "reference", host, shape=(dim,), dtype=np.float64
    )
    return center


def _draw_estimates(
    axes: Axes,
    result: SGDResult,
    mean: npt.NDArray[Any],
    extrapolated: npt.NDArray[Any],
    center: npt.NDArray[np.float64],
    shown: npt.NDArray[np.int64],
) -> None:
    valid = result.valid
    series = [(label, mean[valid, j]) for j, label in enumerate(_labels(result))]
    if len(series) > 1:
        series.append(("extrapolated", extrapolated[valid]))
    for position, (label, values) in enumerate(series):
        centered = values[:, shown] - center[shown]
        error = 2 * centered.std(axis=0) / max(1, np.sqrt(len(centered)))
        offset = 0.12 * (position - (len(series) - 1) / 2)
        axes.errorbar(
            shown + offset, centered.mean(axis=0), error, fmt="o", ms=3, capsize=2, label=label
        )
    axes.axhline(0.0, color="0.6", lw=0.8, zorder=0)
    axes.set_xlabel("coordinate")
    axes.set_ylabel("estimate - reference" if center.any() else "estimate")
    axes.set_title("Ensemble mean, 2 standard errors" if valid.sum() > 1 else "Estimates")
    _count_coordinates(axes)
    axes.legend(frameon=False)


def _labels(result: SGDResult) -> list[str]:
    if result.step_sizes.ndim == 1:
        return [f"step {size:g}" for size in result.step_sizes]
    return [f"step size {j}" for j in range(result.step_sizes.shape[1])]


def _intervals(result: SGDResult) -> tuple[npt.NDArray[Any], npt.NDArray[Any]] | None:
    """Return the intervals (C, d) of the default method, None where nothing was stored for them."""
    statistics = result.state.statistics
    if result.num_steps == 0 or statistics is None:
        return None
    if statistics.squares is None and statistics.num_batches < 2:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # whoever asks for numbers is told
        low, high = result.confidence_interval()
    return _host("low", low), _host("high", high)


def _draw_intervals(
    axes: Axes,
    valid: npt.NDArray[np.bool_],
    intervals: tuple[npt.NDArray[Any], npt.NDArray[Any]],
    estimate: npt.NDArray[Any],
    center: npt.NDArray[np.float64] | None,
    shown: npt.NDArray[np.int64],
) -> None:
    """Draw the intervals of many chains for one coordinate, or those of one chain for all."""
    chains = np.flatnonzero(valid)[:_MAX_CHAINS]
    picked: Any
    if len(chains) > 1:
        picked, places = (chains, shown[0]), chains
        axes.set_xlabel("chain")
        axes.set_title(f"95 % intervals, coordinate {shown[0]}")
    else:
        picked, places = (chains[0], shown), shown
        axes.set_xlabel("coordinate")
        axes.set_title(f"95 % intervals, chain {chains[0]}")
    exact = (
        np.zeros(len(places)) if center is None else np.broadcast_to(center, estimate.shape)[picked]
    )
    low, middle, high = (part[picked] - exact for part in (intervals[0], estimate, intervals[1]))
    misses = (low > 0) | (high < 0) if center is not None else np.zeros(len(places), bool)
    for chosen, colour, label in ((~misses, "C0", "covers"), (misses, "C3", "misses")):
        if chosen.any():
            name = f"{label} ({int(chosen.sum())})" if center is not None else ""
            axes.vlines(places[chosen], low[chosen], high[chosen], color=colour, lw=1.2, label=name)
            axes.plot(places[chosen], middle[chosen], "o", color=colour, ms=2.5)
    axes.set_ylabel("estimate" if center is None else "estimate - reference")
    if center is not None:
        axes.axhline(0.0, color="0.6", lw=0.8, zorder=0)
        axes.margins(y=0.15)  # room for the legend above the intervals
        axes.legend(frameon=False, loc="upper right", ncols=2)
    _count_coordinates(axes)


def _count_coordinates(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _draw_convergence(
    axes: Axes, result: SGDResult, center: npt.NDArray[np.float64] | None
) -> None:
    means = _host("checkpoint_mean", result.checkpoint_mean)[:, result.valid]
    weights = np.broadcast_to(result.weights, (len(result.valid), result.weights.shape[-1]))
    combined = np.einsum("kcjd,cj->kcd", means, weights[result.valid])
    series = [(label, means[:, :, j]) for j, label in enumerate(_labels(result))]
    if len(series) > 1:
        series.append(("extrapolated", combined))
    for label, values in series:
        if center is None:
            spread = np.sqrt(values.var(axis=1).sum(axis=1))
        else:
            spread = np.sqrt(((values - center) ** 2).sum(axis=2).mean(axis=1))
        axes.loglog(result.checkpoints, spread, marker="o", ms=3, label=label)
    axes.set_xlabel("averaged steps")
    axes.set_ylabel("spread over chains" if center is None else "root mean squared error")
    axes.set_title("Convergence")
    axes.legend(frameon=False)
