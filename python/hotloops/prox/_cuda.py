"""The CUDA backend of the proximal operators: CuPy arrays, on CuPy's current stream."""

from __future__ import annotations

from typing import Any

from hotloops._runtime import dispatch
from hotloops._runtime.device import Place, place_of
from hotloops.prox import _cpp

__all__ = ["elements", "groups", "rows", "top", "variation"]

_NAME = "prox"


def elements(operation: int, v: Any, out: Any, constants: Any, num_threads: int) -> None:
    """Queue an operator of single elements; `constants` is (constants, 1 or rows, 1 or columns)."""
    module = dispatch.cuda()
    num_rows, columns = v.shape
    count, rows_, columns_ = constants.shape
    with place_of(v) as place:
        getattr(module, f"prox_elements_{v.dtype}")(
            operation,
            num_rows,
            columns,
            _address(place, "v", v),
            _address(place, "out", out),
            place.address(_NAME, "constants", constants, (count, rows_, columns_), v.dtype),
            rows_ * columns_,
            0 if rows_ == 1 else columns_,
            columns_ != 1,
            place.device,
            place.stream,
        )


def rows(operation: int, v: Any, out: Any, numbers: Any, num_threads: int) -> None:
    """Queue an operator of rows; `numbers` is (1,) or (rows,)."""
    module = dispatch.cuda()
    with place_of(v) as place:
        getattr(module, f"prox_rows_{v.dtype}")(
            operation,
            *v.shape,
            _address(place, "v", v),
            _address(place, "out", out),
            place.address(_NAME, "numbers", numbers, tuple(numbers.shape), "float64"),
            0 if numbers.size == 1 else 1,
            place.device,
            place.stream,
        )


def groups(
    v: Any,
    out: Any,
    offsets: Any,
    indices: Any,
    weights: Any,
    soft: Any,
    shrink: Any,
    num_threads: int,
) -> None:
    """Queue the thresholding of elements and the shrinking of groups."""
    module = dispatch.cuda()
    count = int(weights.size)
    columns = (int(v.shape[1]),)
    with place_of(v) as place:
        getattr(module, f"prox_groups_{v.dtype}")(
            *v.shape,
            count,
            _address(place, "v", v),
            _address(place, "out", out),
            place.address(_NAME, "offsets", offsets, (count + 1,), "int64"),
            0 if indices is None else place.address(_NAME, "i", indices, columns, "int64"),
            place.address(_NAME, "weights", weights, (count,), "float64"),
            place.address(_NAME, "soft", soft, tuple(soft.shape), "float64"),
            place.address(_NAME, "shrink", shrink, tuple(shrink.shape), "float64"),
            0 if shrink.size == 1 else 1,
            place.device,
            place.stream,
        )


def top(v: Any, out: Any, keep: int, num_threads: int) -> None:
    """Keep the largest magnitudes of each row, in host memory."""
    host = v.get()
    _cpp.top(host, host, keep, num_threads)
    out.set(host)


def variation(v: Any, out: Any, numbers: Any, num_threads: int) -> None:
    """Apply the total variation, in host memory."""
    host = v.get()
    _cpp.variation(host, host, numbers, num_threads)
    out.set(host)


def _address(place: Place, name: str, array: Any) -> int:
    return place.address(_NAME, name, array, tuple(array.shape), array.dtype)
