"""The CUDA backend of the counts: CuPy arrays, on CuPy's current stream."""

from __future__ import annotations

from typing import Any

from hotloops._runtime import dispatch
from hotloops._runtime.device import Place, place_of

__all__ = ["draw", "likelihood"]


def draw(
    law: str,
    out: Any,
    first: Any,
    second: Any,
    seed: int,
    step: int,
    numbers: Any,
    first_row: int,
    num_threads: int,
) -> None:
    """Queue the filling of `out` (rows, columns); the parameters are (1 or rows, 1 or columns)."""
    module = dispatch.cuda()
    rows, columns = (int(length) for length in out.shape)
    with place_of(out) as place:
        getattr(module, f"flow_{law}_{first.dtype}")(
            _address(place, law, "out", out),
            rows,
            columns,
            _parameter(place, law, first, first.dtype),
            _parameter(place, law, second, first.dtype),
            seed,
            step,
            0 if numbers is None else place.address(law, "rows", numbers, (rows,), "int64"),
            first_row,
            place.device,
            place.stream,
        )


def likelihood(
    value: Any,
    mu_slope: Any,
    theta_slope: Any,
    counts: Any,
    mu: Any,
    theta: Any,
    num_threads: int,
) -> None:
    """Queue the filling of `value` (rows, columns) and of the slopes that are not None."""
    module = dispatch.cuda()
    name = "negative_binomial_log_prob"
    with place_of(value) as place:
        getattr(module, f"flow_likelihood_{value.dtype}")(
            *(
                0 if target is None else _address(place, name, "out", target)
                for target in (value, mu_slope, theta_slope)
            ),
            *(int(length) for length in value.shape),
            *(_parameter(place, name, given, value.dtype) for given in (counts, mu, theta)),
            place.device,
            place.stream,
        )


def _address(place: Place, function: str, name: str, array: Any) -> int:
    return place.address(function, name, array, tuple(array.shape), array.dtype)


def _parameter(place: Place, function: str, array: Any, dtype: Any) -> tuple[int, int, int]:
    """Return the address of a parameter and the strides of its rows and columns."""
    rows, columns = (int(length) for length in array.shape)
    where = place.address(function, "parameter", array, (rows, columns), dtype)
    return where, 0 if rows == 1 else columns, 0 if columns == 1 else 1
