"""Chains, rules and statistics as the CUDA module takes them: addresses of checked arrays."""

from __future__ import annotations

from typing import Any

from hotloops._runtime.device import Place
from hotloops.sgd._rules import Ball, Box, PiecewiseConstant, PolynomialDecay, Rules
from hotloops.sgd._state import ChainArrays
from hotloops.sgd._statistics import StatisticsArrays

__all__ = ["bind"]


def bind(
    module: Any,
    place: Place,
    arrays: ChainArrays,
    rules: Rules,
    statistics: StatisticsArrays | None,
    first_step: int,
) -> tuple[Any, Any]:
    """Return the chains for calls from `first_step` on, and what must stay allocated for them."""
    num_chains, num_step_sizes, dim = shape = _shape(arrays)
    dtype = arrays.theta.dtype
    cells = (num_chains, num_step_sizes)
    own = arrays.step_sizes.ndim == 2
    num_auxiliary = int(arrays.auxiliary.shape[1])
    kind = module.SgdChainsFloat32 if dtype.itemsize == 4 else module.SgdChainsFloat64
    chains = kind(
        theta=place.address("sgd", "theta", arrays.theta, shape, dtype),
        sums=place.address("sgd", "sums", arrays.sums, shape, "float64"),
        flags=place.address("sgd", "flags", arrays.flags, cells, "uint8"),
        diverged_at=place.address("sgd", "diverged_at", arrays.diverged_at, cells, "int64"),
        step_sizes=place.address(
            "sgd", "step_sizes", arrays.step_sizes, cells if own else cells[1:], dtype
        ),
        auxiliary=place.address(
            "sgd", "auxiliary", arrays.auxiliary, (num_chains, num_auxiliary), dtype
        ),
        num_chains=num_chains,
        num_step_sizes=num_step_sizes,
        dim=dim,
        own_step_sizes=own,
        num_auxiliary=num_auxiliary,
        device=place.device,
        stream=place.stream,
    )
    kept = None if rules.trivial else _set_rules(chains, place, rules, dim, dtype)
    if statistics is not None:
        _set_statistics(chains, place, statistics, shape, first_step)
    return chains, kept


def _shape(arrays: ChainArrays) -> tuple[int, int, int]:
    num_chains, num_step_sizes, dim = (int(length) for length in arrays.theta.shape)
    return num_chains, num_step_sizes, dim


def _set_rules(chains: Any, place: Place, rules: Rules, dim: int, dtype: Any) -> Any:
    """Hand over the rules; return the arrays that they were copied to."""
    import cupy

    low, high, center, radius = None, None, None, 0.0
    if isinstance(rules.projection, Box):
        low, high = rules.projection.place(dim, dtype, cupy)
    elif isinstance(rules.projection, Ball):
        radius, center = rules.projection.place(dim, dtype, cupy)
    exponent, offset = 0.0, 0.0
    boundaries, factors = None, None
    if isinstance(rules.schedule, PolynomialDecay):
        exponent, offset = rules.schedule.exponent, rules.schedule.offset
    elif isinstance(rules.schedule, PiecewiseConstant):
        boundaries = cupy.asarray(rules.schedule.boundaries, dtype="int64")
        factors = cupy.asarray(rules.schedule.factors, dtype="float64")
    bounds = {"low": low, "high": high, "center": center}
    count = 0 if boundaries is None else len(boundaries)
    chains.set_rules(
        clip_norm=rules.clip_norm,
        weight_decay=rules.weight_decay,
        projection=(type(None), Box, Ball).index(type(rules.projection)),
        **{name: _optional(place, name, array, (dim,), dtype) for name, array in bounds.items()},
        radius=float(radius),
        schedule=(type(None), PolynomialDecay, PiecewiseConstant).index(type(rules.schedule)),
        exponent=exponent,
        offset=offset,
        boundaries=_optional(place, "boundaries", boundaries, (count,), "int64"),
        factors=_optional(place, "factors", factors, (count + 1,), "float64"),
        num_boundaries=count,
        origin=rules.origin,
    )
    return low, high, center, boundaries, factors


def _set_statistics(
    chains: Any,
    place: Place,
    statistics: StatisticsArrays,
    shape: tuple[int, int, int],
    first_step: int,
) -> None:
    num_chains, copies, dim = shape
    paths = copies + 1 if copies > 1 else 1
    triangle = dim * (dim + 1) // 2
    own = statistics.weights.ndim == 2
    slots = 0 if statistics.path is None else int(statistics.path.shape[1])
    second = statistics.second
    full = second is not None and int(second.shape[2]) != dim
    shapes: dict[str, tuple[int, ...]] = {
        "weights": (num_chains, copies) if own else (copies,),
        "shift": shape,
        "path": (num_chains, slots, copies, dim),
        "squares": (num_chains, paths, dim),
        "products": shape,
        "second": (num_chains, paths, triangle if full else dim),
        "plug_hessian": (num_chains, triangle),
        "plug_outer": (num_chains, triangle),
    }
    addresses = {
        name: _optional(place, name, getattr(statistics, name), expected, "float64")
        for name, expected in shapes.items()
    }
    chains.set_statistics(
        count=statistics.count,
        first_step=first_step,
        own_weights=own,
        stride=statistics.stride,
        slots=slots,
        full=full,
        **addresses,
    )


def _optional(place: Place, name: str, array: Any, shape: tuple[int, ...], dtype: Any) -> int:
    return 0 if array is None else place.address("sgd", name, array, shape, dtype)
