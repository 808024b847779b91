"""Results for ArviZ, an optional extra."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hotloops._runtime import arrays
from hotloops.sgd._problem import to_host

if TYPE_CHECKING:
    from hotloops.sgd._result import SGDResult

__all__ = ["inference_data"]


def inference_data(result: SGDResult, num_batches: int | None) -> Any:
    """Return the batch means of a result as the posterior of an ``arviz.InferenceData``."""
    try:
        import arviz
        import xarray
    except ImportError as error:
        raise ImportError(
            f"to_inferencedata: it needs ArviZ: pip install 'hotloops[arviz]' ({error})"
        ) from error
    valid = result.valid
    if not valid.any():
        raise ValueError(
            "to_inferencedata: there is nothing to hand over, since every chain diverged"
        )
    draws = {of: _host(result.batch_means(num_batches, of=of)) for of in ("extrapolated", "mean")}
    chains = np.flatnonzero(valid) + result.state.chain_offset
    sizes = result.step_sizes
    names = sizes if sizes.ndim == 1 else np.arange(sizes.shape[1])
    posterior = xarray.Dataset(
        {
            "extrapolated": (("chain", "draw", "coordinate"), draws["extrapolated"][valid]),
            "mean": (("chain", "draw", "step_size", "coordinate"), draws["mean"][valid]),
        },
        coords={
            "chain": chains,
            "draw": np.arange(draws["mean"].shape[1]),
            "step_size": names,
            "coordinate": np.arange(draws["mean"].shape[3]),
        },
        attrs={
            "inference_library": "hotloops",
            "num_steps": result.num_steps,
            "num_diverged": int((~valid).sum()),
        },
    )
    if hasattr(arviz, "InferenceData"):
        return arviz.InferenceData(posterior=posterior)
    return xarray.DataTree.from_dict({"posterior": posterior})  # what ArviZ 1.0 works on


def _host(values: Any) -> Any:
    native, _ = arrays.import_array("to_inferencedata", "result", values)
    return to_host(native)
