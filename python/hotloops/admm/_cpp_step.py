"""The C++ backend of the step kernels."""

from __future__ import annotations

from typing import Any

import numpy as np

from hotloops._runtime import dispatch
from hotloops.admm._rounding import Rounding
from hotloops.admm._rule import Rule
from hotloops.admm._tensors import PRECISIONS, Tensors, addresses, client_addresses, sizes, table_of

__all__ = ["all_finite", "momentum", "orthogonalize", "sisa"]


def sisa(
    tensors: Tensors, rule: Rule, *, starts: bool, finishes: bool, num_threads: int,
    rounding: Rounding | None = None,
) -> None:  # fmt: skip
    """Do the clients' part for the gradients there are, and the global part if it `finishes`."""
    run = getattr(dispatch.core(), f"admm_sisa_{tensors.dtype}")
    clients = rule.clients[: tensors.num_clients]
    table = table_of(tensors)
    run(
        table.sizes,
        table.w,
        table.gradients,
        table.duals,
        table.moments,
        table.sums,
        table.copies,
        None if rounding is None else rounding.rows,
        table.gradient_precision,
        table.copy_precision,
        rule.kind,
        clients.astype(tensors.dtype),
        rule.scale,
        rule.shrink,
        starts,
        finishes,
        0 if rounding is None else rounding.seed,
        0 if rounding is None else rounding.step,
        num_threads,
    )


def momentum(
    tensors: Tensors, momenta: list[Any], out: list[Any], beta: float, grad_scale: float,
    num_threads: int,
) -> None:  # fmt: skip
    """Update momenta with the gradients of the single client, and write the look-ahead."""
    run = getattr(dispatch.core(), f"admm_momentum_{tensors.dtype}")
    run(
        sizes(tensors.w),
        client_addresses(tensors.gradients),
        addresses(momenta),
        addresses(out),
        PRECISIONS[tensors.gradient_precision],
        beta,
        grad_scale,
        num_threads,
    )


def orthogonalize(
    matrices: Any, out: Any, steps: int, coefficients: tuple[float, ...], num_threads: int
) -> None:
    """Newton-Schulz of (count, rows, columns)."""
    run = getattr(dispatch.core(), f"admm_orthogonalize_{matrices.dtype}")
    run(matrices, out, steps, *coefficients, num_threads)


def all_finite(tensors: Tensors, num_threads: int) -> bool:
    """Whether all gradients are finite."""
    table = table_of(tensors)
    each = np.repeat(table.sizes, table.num_clients)
    check = dispatch.core().all_finite
    return bool(check(table.gradients, each, table.gradient_precision, num_threads))
