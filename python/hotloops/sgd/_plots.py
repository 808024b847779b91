"""Pictures of a result; matplotlib is imported here and nowhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hotloops._runtime import arrays, validate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from hotloops.sgd._result import SGDResult

__all__ = ["draw"]

_MAX_COORDINATES = 30


def draw(result: SGDResult, reference: Any, coordinates: Any) -> Figure:
    """Draw estimates by coordinate, and the errors by number of steps where there are any."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            f"plot: pictures need matplotlib: pip install 'hotloops[plot]' ({error})"
        ) from error
    if not result.valid.any():
        raise ValueError("plot: there is nothing to draw, since every chain diverged")
    mean, extrapolated = _host("mean", result.mean), _host("extrapolated", result.extrapolated)
    shown = _coordinates(coordinates, mean.shape[2])
    center = _reference(reference, mean.shape[2])
    panels = 2 if len(result.checkpoints) > 1 else 1
    figure = Figure(figsize=(6.4 * panels, 4.2), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, panels))
    _draw_estimates(axes[0], result, mean, extrapolated, center, shown)
    if panels == 2:
        _draw_convergence(axes[1], result, center if reference is not None else None)
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
    series = [(f"step {g:g}", mean[valid, j]) for j, g in enumerate(result.step_sizes)]
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
    axes.set_title("Ensemble mean, 2 standard errors")
    axes.legend(frameon=False)


def _draw_convergence(
    axes: Axes, result: SGDResult, center: npt.NDArray[np.float64] | None
) -> None:
    means = _host("checkpoint_mean", result.checkpoint_mean)[:, result.valid]
    combined = np.einsum("kcjd,j->kcd", means, result.weights)
    series = [(f"step {g:g}", means[:, :, j]) for j, g in enumerate(result.step_sizes)]
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
