"""Checks of losses against the program and the tables that they name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy.typing as npt

from hotloops._runtime import validate
from hotloops._runtime.validate import describe, fail
from hotloops.nn._jobs import LOSSES, Loss
from hotloops.nn._layout import Program
from hotloops.nn._tables import Batch

__all__ = ["check_losses"]

Array = npt.NDArray[Any]


def check_losses(
    where: str, program: Program, losses: Sequence[Loss], tables: Batch, prepared: bool
) -> None:
    """Check losses against the program and the tables that they name."""
    if not losses:
        fail(ValueError, where, "losses", "not be empty", repr(losses))
    for number, loss in enumerate(losses):
        name = f"losses[{number}]"
        if not isinstance(loss, Loss):
            fail(TypeError, where, name, "be a Loss", describe(loss))
        validate.choice(where, f"{name}.kind", loss.kind, LOSSES)
        operand = loss.logits
        if not 0 <= operand.slot < program.widths.size or not (
            0 <= operand.begin < operand.begin + operand.width <= program.widths[operand.slot]
        ):
            fail(ValueError, where, f"{name}.logits", "be an operand of the program", str(operand))
        validate.real(where, f"{name}.weight", loss.weight)
        validate.real(where, f"{name}.delta", loss.delta, low=0.0, open_low=True)
        _check_target(where, name, loss, program, tables, prepared)
        _check_dispersion(where, name, loss, tables)


def _check_target(
    where: str, name: str, loss: Loss, program: Program, tables: Batch, prepared: bool
) -> None:
    low, width = 0, loss.logits.width
    if loss.is_dense:
        low, count, kind = program.num_inputs, len(tables.dense), "a dense target"
        if prepared:
            return
    elif loss.is_sparse:
        count, kind = len(tables.sparse), "a CSR"
    else:
        count, kind = len(tables.indices), "an index"
    if not low <= loss.target < count:
        expectation = f"be the number of {kind} table, {low} to {count - 1}"
        fail(ValueError, where, f"{name}.target", expectation, str(loss.target))
    if loss.is_dense and tables.dense[loss.target].shape[1] != width:
        got = str(tables.dense[loss.target].shape[1])
        fail(ValueError, where, f"{name}.target", f"have {width} columns", got)
    if loss.is_sparse and tables.sparse[loss.target].columns != width:
        got = str(tables.sparse[loss.target].columns)
        fail(ValueError, where, f"{name}.target", f"have {width} columns", got)
    if loss.kind in ("negative_binomial", "poisson"):
        totals = tables.sparse[loss.target].totals
        if totals.size and totals.min() <= 0:
            got = f"row {int(totals.argmin())}"
            fail(ValueError, where, f"{name}.target", "have rows with a sum above zero", got)
    if loss.kind == "cross_entropy" and not prepared:
        _check_range(where, f"{name}.target", tables.indices[loss.target], width)


def _check_dispersion(where: str, name: str, loss: Loss, tables: Batch) -> None:
    if loss.kind != "negative_binomial":
        if loss.log_theta is not None:
            fail(ValueError, where, f"{name}.log_theta", f"be None for {loss.kind}", "a parameter")
        return
    if loss.log_theta is None or loss.log_theta.shape[-1] != loss.logits.width:
        got = "None" if loss.log_theta is None else f"shape {loss.log_theta.shape}"
        expectation = f"be a parameter with {loss.logits.width} columns"
        fail(ValueError, where, f"{name}.log_theta", expectation, got)
    rows = loss.log_theta.size // loss.logits.width
    if loss.group is None:
        if rows != 1:
            expectation = f"pick one of the {rows} rows of log_theta"
            fail(ValueError, where, f"{name}.group", expectation, "None")
        return
    if not 0 <= loss.group < len(tables.indices):
        expectation = f"be the number of an index table, 0 to {len(tables.indices) - 1}"
        fail(ValueError, where, f"{name}.group", expectation, str(loss.group))
    _check_range(where, f"{name}.group", tables.indices[loss.group], rows)


def _check_range(where: str, name: str, index: Array, high: int) -> None:
    wrong = (index < 0) | (index >= high)
    if wrong.any():
        at = int(wrong.argmax())
        expectation = f"hold integers in [0, {high - 1}]"
        fail(ValueError, where, name, expectation, f"{index[at]} at index ({at},)")
