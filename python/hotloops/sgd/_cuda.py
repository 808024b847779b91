"""The CUDA backend of the SGD loop: CuPy arrays, on CuPy's current stream."""

from __future__ import annotations

from typing import Any

from hotloops._runtime import dispatch
from hotloops._runtime.device import LaunchQueue, Place, place_of
from hotloops.sgd._cuda_custom import advance as advance_custom
from hotloops.sgd._state import ChainArrays

__all__ = ["advance"]


def advance(
    arrays: ChainArrays,
    kernel: str,
    parameters: tuple[Any, ...],
    *,
    seed: int,
    chain_offset: int,
    first_step: int,
    num_steps: int,
    accumulate: bool,
    divergence_limit: float,
    num_threads: int,
) -> None:
    """Queue `num_steps` steps of all chains, in place; it returns before they are made.

    A long run is cut into launches of a fraction of a second, of which few wait at any time.
    `num_threads` has no meaning here.
    """
    module = dispatch.cuda()
    with place_of(arrays.theta) as place:
        if kernel == "custom":
            advance_custom(
                place,
                arrays,
                parameters,
                seed=seed,
                chain_offset=chain_offset,
                first_step=first_step,
                num_steps=num_steps,
                accumulate=accumulate,
                divergence_limit=divergence_limit,
            )
            return
        chains = _bind(module, place, arrays)
        passed, alive = _PARAMETERS[kernel](place, arrays, kernel, parameters)
        workspace = _workspace(getattr(module, f"sgd_{kernel}_workspace")(chains))
        if workspace is not None:
            chains.set_workspace(int(workspace.data.ptr), int(workspace.nbytes))
        launch = getattr(module, f"sgd_{kernel}")
        queue = LaunchQueue()
        end = first_step + num_steps
        while first_step < end:
            first_step += launch(
                chains,
                seed,
                chain_offset,
                first_step,
                end - first_step,
                accumulate,
                divergence_limit,
                *passed,
            )
            queue.launched()
        # Memory freed from here on is used again only by later work on this stream.
        del alive, workspace


def _bind(module: Any, place: Place, arrays: ChainArrays) -> Any:
    shape = tuple(int(length) for length in arrays.theta.shape)
    num_chains, num_step_sizes, dim = shape
    dtype = arrays.theta.dtype
    cells = (num_chains, num_step_sizes)
    kind = module.SgdChainsFloat32 if dtype.itemsize == 4 else module.SgdChainsFloat64
    return kind(
        place.address("sgd", "theta", arrays.theta, shape, dtype),
        place.address("sgd", "sums", arrays.sums, shape, "float64"),
        place.address("sgd", "flags", arrays.flags, cells, "uint8"),
        place.address("sgd", "diverged_at", arrays.diverged_at, cells, "int64"),
        place.address("sgd", "step_sizes", arrays.step_sizes, (num_step_sizes,), dtype),
        num_chains,
        num_step_sizes,
        dim,
        place.device,
        place.stream,
    )


def _workspace(size: int) -> Any:
    if size == 0:
        return None
    import cupy

    return cupy.empty(size, dtype="uint8")


Passed = tuple[tuple[Any, ...], Any]  # what the kernel takes, and what must stay allocated for it


def _quadratic(place: Place, arrays: ChainArrays, kernel: str, parameters: Any) -> Passed:
    dim, dtype = int(arrays.theta.shape[2]), arrays.theta.dtype
    names = ("curvature", "minimizer", "noise_scale")
    addresses = tuple(
        place.address(kernel, name, array, (dim,), dtype)
        for name, array in zip(names, parameters, strict=True)
    )
    return addresses, parameters


def _quadratic_full(place: Place, arrays: ChainArrays, kernel: str, parameters: Any) -> Passed:
    import cupy

    dim, dtype = int(arrays.theta.shape[2]), arrays.theta.dtype
    matrix, minimizer, noise_factor = parameters
    for name, square in (("matrix", matrix), ("noise_factor", noise_factor)):
        place.address(kernel, name, square, (dim, dim), dtype)
    # Neighbouring lanes work on neighbouring rows: transposed, they read neighbouring numbers.
    columns = (cupy.ascontiguousarray(matrix.T), cupy.ascontiguousarray(noise_factor.T))
    addresses = (
        int(columns[0].data.ptr),
        place.address(kernel, "minimizer", minimizer, (dim,), dtype),
        int(columns[1].data.ptr),
    )
    return addresses, (columns, minimizer)


def _cosine(place: Place, arrays: ChainArrays, kernel: str, parameters: Any) -> Passed:
    phase, noise_scale = parameters
    return (float(phase), float(noise_scale)), None


def _rows(place: Place, arrays: ChainArrays, kernel: str, parameters: Any) -> Passed:
    features, targets, batch_size, sampling, l2 = parameters
    dim, dtype = int(arrays.theta.shape[2]), arrays.theta.dtype
    num_rows = int(features.shape[0])
    passed = (
        place.address(kernel, "features", features, (num_rows, dim), dtype),
        place.address(kernel, "targets", targets, (num_rows,), dtype),
        num_rows,
        batch_size,
        sampling,
        float(l2),
    )
    return passed, (features, targets)


_PARAMETERS = {
    "quadratic": _quadratic,
    "quadratic_full": _quadratic_full,
    "cosine": _cosine,
    "least_squares": _rows,
    "logistic": _rows,
}
