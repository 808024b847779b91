"""The CUDA backend of the SGD loop: CuPy arrays, on CuPy's current stream."""

from __future__ import annotations

from typing import Any

from hotloops._runtime import dispatch
from hotloops._runtime.device import LaunchQueue, Place, place_of
from hotloops.sgd._cuda_chains import bind
from hotloops.sgd._cuda_custom import advance as advance_custom
from hotloops.sgd._noise import LAWS
from hotloops.sgd._rules import NO_RULES, Rules
from hotloops.sgd._state import ChainArrays
from hotloops.sgd._statistics import StatisticsArrays

__all__ = ["advance"]

# Step sizes and coordinates that fit into the registers of the kernels with statistics.
_MOST_SEPARABLE = (4, 128)
_MOST_ROWS = (8, 32)


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
    rules: Rules = NO_RULES,
    statistics: StatisticsArrays | None = None,
) -> None:
    """Queue `num_steps` steps of all chains, in place; it returns before they are made.

    A long run is cut into launches of a fraction of a second, of which few wait at any time.
    `num_threads` has no meaning here.
    """
    module = dispatch.cuda()
    averaged = statistics if accumulate else None
    with place_of(arrays.theta) as place:
        chains, kept = bind(module, place, arrays, rules, averaged, first_step)
        if kernel == "custom":
            advance_custom(
                chains,
                arrays,
                parameters,
                general=not rules.trivial or averaged is not None,
                place=place,
                seed=seed,
                chain_offset=chain_offset,
                first_step=first_step,
                num_steps=num_steps,
                accumulate=accumulate,
                divergence_limit=divergence_limit,
            )
            return
        passed, alive = _PARAMETERS[kernel](place, arrays, kernel, parameters)
        name = f"sgd_{kernel}"
        if not rules.trivial or not _has_fast_kernel(kernel, parameters):
            name += "_general"
        elif averaged is not None:
            name += "_statistics" if _fast_statistics(kernel, arrays, averaged) else "_general"
        workspace = _workspace(getattr(module, f"{name}_workspace")(chains))
        if workspace is not None:
            chains.set_workspace(int(workspace.data.ptr), int(workspace.nbytes))
        launch = getattr(module, name)
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
        del alive, kept, workspace


def _has_fast_kernel(kernel: str, parameters: tuple[Any, ...]) -> bool:
    """Whether there is one that keeps its state in registers; it knows Gaussian noise only."""
    if kernel in ("quadratic", "quadratic_full", "cosine"):
        law = parameters[-1][0]
        return bool(law == LAWS.index("gaussian"))
    return _PARAMETERS[kernel] is _rows


def _fast_statistics(kernel: str, arrays: ChainArrays, statistics: StatisticsArrays) -> bool:
    """Whether there is one that keeps these statistics in registers too."""
    if kernel == "quadratic_full":
        return False
    _, copies, dim = arrays.theta.shape
    most_copies, most_dim = _MOST_ROWS if _PARAMETERS[kernel] is _rows else _MOST_SEPARABLE
    running_sums = statistics.second is None and statistics.plug_hessian is None
    return bool(copies <= most_copies and dim <= most_dim and running_sums)


def _workspace(size: int) -> Any:
    if size == 0:
        return None
    import cupy

    return cupy.empty(size, dtype="uint8")


Passed = tuple[tuple[Any, ...], Any]  # what the kernel takes, and what must stay allocated for it


def _noise(place: Place, arrays: ChainArrays, kernel: str, noise: Any) -> tuple[Any, ...]:
    law, df, table = noise
    size = int(table.shape[0])
    address = 0
    if size:
        address = place.address(kernel, "noise", table, (size,), arrays.theta.dtype)
    return int(law), float(df), address, size


def _quadratic(place: Place, arrays: ChainArrays, kernel: str, parameters: Any) -> Passed:
    dim, dtype = int(arrays.theta.shape[2]), arrays.theta.dtype
    *vectors, noise = parameters
    names = ("curvature", "minimizer", "noise_scale")
    addresses = tuple(
        place.address(kernel, name, array, (dim,), dtype)
        for name, array in zip(names, vectors, strict=True)
    )
    return (*addresses, *_noise(place, arrays, kernel, noise)), parameters


def _quadratic_full(place: Place, arrays: ChainArrays, kernel: str, parameters: Any) -> Passed:
    import cupy

    dim, dtype = int(arrays.theta.shape[2]), arrays.theta.dtype
    matrix, minimizer, noise_factor, noise = parameters
    for name, square in (("matrix", matrix), ("noise_factor", noise_factor)):
        place.address(kernel, name, square, (dim, dim), dtype)
    # Neighbouring lanes work on neighbouring rows: transposed, they read neighbouring numbers.
    columns = (cupy.ascontiguousarray(matrix.T), cupy.ascontiguousarray(noise_factor.T))
    addresses = (
        int(columns[0].data.ptr),
        place.address(kernel, "minimizer", minimizer, (dim,), dtype),
        int(columns[1].data.ptr),
    )
    return (*addresses, *_noise(place, arrays, kernel, noise)), (columns, minimizer, noise)


def _cosine(place: Place, arrays: ChainArrays, kernel: str, parameters: Any) -> Passed:
    phase, noise_scale, noise = parameters
    return (float(phase), float(noise_scale), *_noise(place, arrays, kernel, noise)), noise


def _rows(place: Place, arrays: ChainArrays, kernel: str, parameters: Any) -> Passed:
    features, targets, batch_size, sampling, l2, shape = parameters
    dim, dtype = int(arrays.theta.shape[2]), arrays.theta.dtype
    num_rows = int(features.shape[0])
    passed = (
        place.address(kernel, "features", features, (num_rows, dim), dtype),
        place.address(kernel, "targets", targets, (num_rows,), dtype),
        num_rows,
        batch_size,
        sampling,
        float(l2),
        float(shape),
    )
    return passed, (features, targets)


def _streaming(place: Place, arrays: ChainArrays, kernel: str, parameters: Any) -> Passed:
    theta, factor, noise_scale, l2, rho = parameters
    dim, dtype = int(arrays.theta.shape[2]), arrays.theta.dtype
    full = factor.ndim == 2
    passed = (
        place.address(kernel, "theta", theta, (dim,), dtype),
        place.address(kernel, "factor", factor, (dim, dim) if full else (dim,), dtype),
        full,
        float(noise_scale),
        float(l2),
        float(rho),
    )
    return passed, (theta, factor)


def _markov(place: Place, arrays: ChainArrays, kernel: str, parameters: Any) -> Passed:
    matrices, offsets, threshold, alias = parameters
    dim, dtype = int(arrays.theta.shape[2]), arrays.theta.dtype
    states = int(matrices.shape[0])
    passed = (
        place.address(kernel, "matrices", matrices, (states, dim, dim), dtype),
        place.address(kernel, "offsets", offsets, (states, dim), dtype),
        place.address(kernel, "threshold", threshold, (states, states), "uint32"),
        place.address(kernel, "alias", alias, (states, states), "int32"),
        states,
    )
    # It waits for the device, as does nothing else here; but a wrong state would be a wild address.
    held = arrays.auxiliary
    if not bool(((held >= 0) & (held < states)).all()):
        raise ValueError("sgd_markov_lsa: auxiliary must hold one state for each chain")
    return passed, parameters


_PARAMETERS = {
    "quadratic": _quadratic,
    "quadratic_full": _quadratic_full,
    "cosine": _cosine,
    "least_squares": _rows,
    "logistic": _rows,
    "huber": _rows,
    "squared_hinge": _rows,
    "softplus_hinge": _rows,
    "poisson": _rows,
    "streaming_least_squares": _streaming,
    "streaming_logistic": _streaming,
    "markov_lsa": _markov,
}
