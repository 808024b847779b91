"""One evaluation of a velocity, with everything checked."""

from __future__ import annotations

from typing import Any

import numpy as np

from hotloops._runtime import arrays, dispatch, threads, validate
from hotloops._runtime.arrays import Library
from hotloops.flow._branches import Branches, make_branches, on_host
from hotloops.flow._evaluate import make_evaluator
from hotloops.flow._network_inputs import dense_inputs
from hotloops.flow._velocities import Velocity, classify

__all__ = ["evaluate_once"]


def evaluate_once(
    where: str,
    velocity: Any,
    z: Any,
    t: Any,
    labels: Any,
    weights: Any,
    *,
    log_size: Any = None,
    inputs: Any = None,
    backend: str | None = None,
    num_threads: int | None = None,
) -> Any:
    """Return the velocity (n, d) at z (n, d) and t, a number or (n,), in the library of z."""
    found = classify(where, velocity)
    host, library = arrays.import_array(where, "z", z, dtype=found.dtype)
    if library.device != "cpu" and found.kind != "network":
        got = f"an array on {library.place}"
        validate.fail(TypeError, where, "z", "live in host memory", got)
    points = validate.array(
        where, "z", host, ndim=2, dtype=found.dtype, exact_dtype=True, empty=True
    )
    n = points.shape[0]
    given = on_host(where, "t", t)
    times = validate.array(where, "t", given, ndim=(0, 1), dtype=points.dtype, empty=True)
    if times.ndim == 1 and times.shape != (n,):
        validate.fail(
            ValueError, where, "t", f"be one number or have shape ({n},)", str(times.shape)
        )
    attributes = getattr(velocity, "attributes", None) if found.kind == "network" else None
    branches = make_branches(where, labels, weights, attributes, n)
    extra = dense_inputs(where, found, log_size, inputs, points)
    resolved = "numba"
    if found.kind in ("network", "address"):
        resolved = dispatch.resolve_backend(where, backend, library.device)
    count = threads.resolve_num_threads(where, num_threads)
    if resolved == "cuda":
        return _on_device(found, branches, extra, points, times, library)
    out = arrays.empty(points.shape, points.dtype)
    evaluate = make_evaluator(
        where, found, branches, extra, None, points.shape, points.dtype, resolved, count
    )
    evaluate(points, np.array(np.broadcast_to(times, (n,))), out)
    return arrays.export_array(out, library)


def _on_device(
    velocity: Velocity, branches: Branches, inputs: list[Any], z: Any, t: Any, library: Library
) -> Any:
    from hotloops.flow import _cuda_integrate

    with arrays.stream_context(library):
        out = library.xp.empty(z.shape, z.dtype)
        _cuda_integrate.evaluate(velocity, branches, inputs, z, t, out)
    return arrays.export_array(out, library)
