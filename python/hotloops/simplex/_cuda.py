"""The CUDA backend of the loop, on CuPy's current stream.

Chains of CuPy's arrays stay on their device, and a call returns before their steps are made. Chains
of NumPy's arrays are copied to the current device and back.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np

from hotloops._runtime import dispatch
from hotloops._runtime.device import LaunchQueue, Place, place_of
from hotloops.simplex._state import ChainArrays, StepOptions, Steps

__all__ = ["advance", "project"]

_NAMES = tuple(field.name for field in fields(ChainArrays))


def advance(
    arrays: ChainArrays,
    kernel: str,
    parameters: tuple[Any, ...],
    options: StepOptions,
    steps: Steps,
) -> None:
    """Queue the steps of all chains, in place, and the evaluation after them.

    A long run is cut into launches of a fraction of a second, of which few wait at any time.
    `num_threads` has no meaning here.
    """
    import cupy

    if isinstance(arrays.x, cupy.ndarray):
        own, slope = arrays, steps.gradient
    else:
        own = ChainArrays(**{name: cupy.asarray(getattr(arrays, name)) for name in _NAMES})
        slope = (
            None
            if steps.gradient is None
            else cupy.empty(steps.gradient.shape, dtype=steps.gradient.dtype)
        )
    module = dispatch.cuda()
    with place_of(own.x) as place:
        run = _Run(place, module, own, options, steps.accumulate)
        run.set_extras(slope, steps.noise)
        passed = run.pass_parameters(kernel, parameters)
        run.make_workspace(kernel, passed)
        factors = run.own(steps.step_factors), run.own(steps.temperature_factors)
        launch = getattr(module, f"simplex_{kernel}")
        queue = LaunchQueue()
        made = 0
        while True:
            run.chains.set_schedule(*(_address_from(item, made) for item in factors))
            made += launch(
                run.chains,
                steps.seed,
                steps.chain_offset,
                steps.first_step + made,
                steps.num_steps - made,
                *passed,
            )
            queue.launched()
            if made == steps.num_steps:
                break
        if own is not arrays:
            for name in _NAMES:
                getattr(arrays, name)[...] = getattr(own, name).get()
            if steps.gradient is not None:
                steps.gradient[...] = slope.get()


def _address_from(array: Any, index: int) -> int:
    return 0 if array is None else int(array.data.ptr) + index * int(array.dtype.itemsize)


class _Run:
    """The device arrays of a call, which must outlive its launches, and what they are bound to."""

    def __init__(
        self,
        place: Place,
        module: Any,
        arrays: ChainArrays,
        options: StepOptions,
        accumulate: bool,
    ) -> None:
        self.place = place
        self.module = module
        self.arrays = arrays
        self.dtype = np.dtype(arrays.x.dtype)
        self.count, self.dim = (int(length) for length in arrays.x.shape)
        self.kept: list[Any] = []
        self.num_simplices = len(options.offsets) - 1
        self._bind(options)
        self.chains.set_step(
            options.form,
            options.noisy,
            options.corrected,
            accumulate,
            options.floor_scale,
            options.floor_least,
            options.clip,
        )
        if options.terms is not None:
            self._set_terms(options.terms)
        if options.accelerations is not None:
            self.chains.set_acceleration(
                self.address("auxiliary", arrays.auxiliary, (self.count, self.dim + 1)),
                self.address("accelerations", options.accelerations, (self.count,)),
                options.convexity,
            )
        if accumulate:
            self._set_moments()

    def own(self, array: Any) -> Any:
        """Return an array on the device, and keep it."""
        import cupy

        if array is None:
            return None
        if not isinstance(array, cupy.ndarray):
            array = cupy.asarray(array)
        self.kept.append(array)
        return array

    def address(self, name: str, array: Any, shape: tuple[int, ...], dtype: Any = None) -> int:
        """Return where an array begins; arrays of the host are copied."""
        kind = self.dtype if dtype is None else dtype
        return self.place.address("simplex", name, self.own(array), shape, kind)

    def _bind(self, options: StepOptions) -> None:
        arrays, single = self.arrays, self.dtype.itemsize == 4
        both, each = (self.count, self.dim), (self.count,)
        kind = self.module.SimplexChainsFloat32 if single else self.module.SimplexChainsFloat64
        self.chains = kind(
            self.address("x", arrays.x, both),
            self.address("value", arrays.value, each),
            self.address("best_x", arrays.best_x, both),
            self.address("best_value", arrays.best_value, each),
            self.address("smallest", arrays.smallest, each),
            self.address("sums", arrays.sums, both, "float64"),
            self.address("squares", arrays.squares, both, "float64"),
            self.address("floored", arrays.floored, each, "int64"),
            self.address("clipped", arrays.clipped, each, "int64"),
            self.address("accepted", arrays.accepted, each, "int64"),
            self.address("flags", arrays.flags, each, "uint8"),
            self.address("failed_at", arrays.failed_at, each, "int64"),
            self.address("step_sizes", options.step_sizes, each),
            self.address("temperatures", options.temperatures, each),
            self.address("alpha", options.alpha, (self.dim,)),
            self.address("offsets", options.offsets, (self.num_simplices + 1,), "int32"),
            self.count,
            self.dim,
            self.num_simplices,
            self.place.device,
            self.place.stream,
        )

    def set_extras(self, gradient: Any, noise: Any) -> None:
        """Bind where the gradient goes and the normals that are given."""
        both = (self.count, self.dim)
        if gradient is not None:
            self.chains.set_gradient(self.address("gradient", gradient, both))
        if noise is not None:
            self.chains.set_noise(self.address("noise", noise, both))

    def _set_terms(self, terms: tuple[Any, ...]) -> None:
        anchor, upper, caps, offsets, members = terms[5:]
        d, groups = (self.dim,), len(caps)
        self.chains.set_terms(
            *(float(number) for number in terms[:5]),
            0 if anchor is None else self.address("anchor", anchor, d),
            0 if upper is None else self.address("upper", upper, d),
            self.address("caps", caps, (groups,)),
            self.address("group_offsets", offsets, (groups + 1,), "int32"),
            self.address("group_members", members, (len(members),), "int32"),
            groups,
        )

    def _set_moments(self) -> None:
        products, histogram = self.arrays.products, self.arrays.histogram
        shape = (self.count, self.dim)
        bins = int(histogram.shape[2])
        self.chains.set_moments(
            self.address("products", products, (*shape, self.dim), "float64")
            if products.size
            else 0,
            self.address("histogram", histogram, (*shape, bins), "int64") if bins else 0,
            bins,
        )

    def pass_parameters(self, kernel: str, parameters: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return what the kernel takes besides the chains."""
        d = (self.dim,)
        if kernel == "polynomial":
            return self._blocks(*parameters)
        if kernel == "quadratic":
            matrix, linear = parameters
            square = (self.dim, self.dim)
            return self.address("matrix", matrix, square), self.address("linear", linear, d)
        if kernel == "given":
            return (self.address("gradient", parameters[0], (self.count, self.dim)),)
        rows, weights, center, linear, profile, coefficients, batch_size = parameters
        num_rows, taken = int(rows.shape[0]), int(coefficients.shape[-1])
        return (
            self.address("rows", rows, (num_rows, self.dim)),
            self.address("weights", weights, (num_rows,)),
            self.address("center", center, d),
            self.address("linear", linear, d),
            int(profile),
            self.address("coefficients", coefficients, tuple(coefficients.shape)),
            num_rows,
            taken,
            int(batch_size),
        )

    def _blocks(
        self,
        parents: Any,
        factors: Any,
        heights: Any,
        widths: Any,
        rows: Any,
        columns: Any,
        coefficients: Any,
    ) -> tuple[Any, ...]:
        products, blocks, numbers = (len(parents),), (len(heights),), (len(coefficients),)
        return (
            self.address("parents", parents, products, "int32"),
            self.address("factors", factors, products, "int32"),
            self.address("heights", heights, blocks, "int32"),
            self.address("widths", widths, blocks, "int32"),
            self.address("rows", rows, (len(rows),), "int32"),
            self.address("columns", columns, (len(columns),), "int32"),
            self.address("coefficients", coefficients, numbers),
            products[0],
            blocks[0],
            numbers[0],
        )

    def make_workspace(self, kernel: str, passed: tuple[Any, ...]) -> None:
        """Give the kernel the memory that it asks for."""
        import cupy

        size = getattr(self.module, f"simplex_{kernel}_workspace")(self.chains, *passed)
        self.kept.append(cupy.empty(size, dtype="uint8"))
        self.chains.set_workspace(int(self.kept[-1].data.ptr), int(size))


_PROJECTED_AT_ONCE = 1 << 16


def project(x: Any, num_threads: int) -> None:
    """Project rows onto the simplex, in place."""
    import cupy

    own = x if isinstance(x, cupy.ndarray) else cupy.asarray(x)
    rows, dim = (int(length) for length in x.shape)
    module = dispatch.cuda()
    with place_of(own) as place:
        size = min(rows + 63, _PROJECTED_AT_ONCE) // 64 * 64 * dim
        workspace = cupy.empty(size, dtype=own.dtype)
        getattr(module, f"simplex_project_{np.dtype(own.dtype)}")(
            place.address("project", "v", own, (rows, dim), own.dtype),
            rows,
            dim,
            place.device,
            place.stream,
            int(workspace.data.ptr),
            int(workspace.nbytes),
        )
        if own is not x:
            x[...] = own.get()
