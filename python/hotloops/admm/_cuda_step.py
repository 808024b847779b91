"""The CUDA backend of the step kernels: arrays of CuPy (and, by `launch`, tensors of torch)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops._runtime import dispatch
from hotloops._runtime.device import place_of
from hotloops.admm._rounding import Rounding
from hotloops.admm._rule import Rule
from hotloops.admm._tensors import PRECISIONS, Tensors, addresses, client_addresses, sizes

__all__ = ["all_finite", "launch", "momentum", "orthogonalize", "sisa"]

# Takes 64-bit words to the device; returns their address and what keeps them alive.
Upload = Callable[[npt.NDArray[np.uint64]], tuple[int, object]]


def launch(
    module: Any,
    name: str,
    arguments: tuple[Any, ...],
    upload: Upload,
    found_inf: int,
    device: int,
    stream: int,
) -> object:
    """Queue a step kernel with the arguments of its C++ binding; return the table on the device.

    The addresses of all tensors travel in one small table.
    """
    lengths = arguments[0]
    counts = -(-lengths // module.admm_chunk)
    first_chunk = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    is_sisa = "sisa" in name
    lists = list(arguments[1:8] if is_sisa else arguments[1:4])
    parts = [lengths, first_chunk, *(item for item in lists if item is not None)]
    scalars = arguments[11] if is_sisa else np.empty(0)
    words = np.zeros(-(-scalars.nbytes // 8), np.uint64)
    words.view(np.uint8)[: scalars.nbytes] = np.ascontiguousarray(scalars).view(np.uint8).ravel()
    parts.append(words)
    table = np.concatenate([part.view(np.uint64) for part in parts])
    base, memory = upload(table)
    places, offset = [], 0
    for part in parts:
        places.append(base + 8 * offset)
        offset += part.size
    given = iter(places[2:-1])
    given_addresses = [0 if item is None else next(given) for item in lists]
    chunks = int(first_chunk[-1])
    if is_sisa:
        w, gradients, duals, moments, sums, copies, rows = given_addresses
        getattr(module, name)(
            len(lengths), len(scalars), chunks, places[0], places[1], w, gradients, duals, moments,
            sums, copies, rows, places[-1], *arguments[8:11], *arguments[12:18], found_inf, device,
            stream,
        )  # fmt: skip
    else:
        getattr(module, name)(
            len(lengths),
            chunks,
            *places[:2],
            *given_addresses,
            *arguments[4:7],
            found_inf,
            device,
            stream,
        )
    return memory


def sisa(
    tensors: Tensors,
    rule: Rule,
    *,
    starts: bool,
    finishes: bool,
    num_threads: int,
    rounding: Rounding | None = None,
    found_inf: Any = None,
) -> None:
    """Queue the clients' part for the gradients there are, and the global part if it `finishes`."""
    arguments = (
        sizes(tensors.w),
        addresses(tensors.w),
        client_addresses(tensors.gradients),
        client_addresses(tensors.duals),
        client_addresses(tensors.moments) if tensors.moments else None,
        addresses(tensors.sums) if tensors.sums else None,
        addresses(tensors.copies) if tensors.copies else None,
        None if rounding is None else rounding.rows,
        PRECISIONS[tensors.gradient_precision],
        PRECISIONS[tensors.copy_precision],
        rule.kind,
        rule.clients[: tensors.num_clients].astype(tensors.dtype),
        rule.scale,
        rule.shrink,
        starts,
        finishes,
        0 if rounding is None else rounding.seed,
        0 if rounding is None else rounding.step,
    )
    _launch(tensors, f"admm_sisa_{tensors.dtype}", arguments, found_inf)


def momentum(
    tensors: Tensors, momenta: list[Any], out: list[Any], beta: float, grad_scale: float,
    num_threads: int,
) -> None:  # fmt: skip
    """Queue the update of the momenta with the gradients of the single client."""
    arguments = (
        sizes(tensors.w),
        client_addresses(tensors.gradients),
        addresses(momenta),
        addresses(out),
        PRECISIONS[tensors.gradient_precision],
        beta,
        grad_scale,
    )
    _launch(tensors, f"admm_momentum_{tensors.dtype}", arguments, None)


def orthogonalize(
    matrices: Any, out: Any, steps: int, coefficients: tuple[float, ...], num_threads: int
) -> None:
    """Newton-Schulz of (count, rows, columns), by the batched products of cuBLAS."""
    import cupy

    a, b, c = coefficients
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.swapaxes(1, 2) if tall else matrices
    largest = cupy.abs(x).max(axis=(1, 2), keepdims=True)
    safe = cupy.where(largest > 0, largest, 1)
    norm = safe * cupy.sqrt(((x / safe) ** 2).sum(axis=(1, 2), keepdims=True))
    x = x / (norm + x.dtype.type(1e-7))
    for _ in range(steps):
        gram = x @ x.swapaxes(1, 2)
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    out[...] = x.swapaxes(1, 2) if tall else x


def all_finite(tensors: Tensors, num_threads: int) -> bool:
    """Whether all gradients are finite; it waits for the device."""
    for clients in tensors.gradients:
        for array in clients:
            exponent = {"float16": 0x7C00, "bfloat16": 0x7F80}.get(tensors.gradient_precision)
            xp = tensors.library.xp
            finite = xp.isfinite(array) if exponent is None else (array & exponent) != exponent
            if not bool(finite.all()):
                return False
    return True


def _launch(tensors: Tensors, name: str, arguments: tuple[Any, ...], found_inf: Any) -> None:
    import cupy

    def upload(table: npt.NDArray[np.uint64]) -> tuple[int, object]:
        there = cupy.asarray(table)
        return int(there.data.ptr), there

    with place_of(tensors.w[0]) as place:
        flag = 0
        if found_inf is not None:
            shape = tuple(found_inf.shape)
            flag = place.address("sisa_step", "found_inf", found_inf, shape, np.float32)
        launch(dispatch.cuda(), name, arguments, upload, flag, place.device, place.stream)
