"""How `ProgramBuilder` keeps its books: slots, what is written of them, names, offsets."""

from __future__ import annotations

import dataclasses
from typing import Any

from hotloops._runtime import validate
from hotloops._runtime.validate import describe, fail
from hotloops.nn._layout import (
    ACTIVATIONS,
    INITS,
    BufferEntry,
    Operand,
    ParameterEntry,
    SparseTable,
)

__all__ = ["Writer", "activation_code", "join", "positive_eps", "word"]

_KEEPS_ARGUMENT = ("silu", "gelu")  # their slopes are not functions of their values
_NOTHING = (-1, 0, 0)


class Writer:
    """The rows of a program, and what has been filled and named so far."""

    def __init__(self) -> None:
        self._rows: list[tuple[int, ...]] = []
        self._constants: list[tuple[float, float]] = []
        self._written: list[list[bool]] = []
        self._num_inputs = 0
        self._parameters: dict[str, ParameterEntry] = {}
        self._buffers: dict[str, BufferEntry] = {}
        self._num_parameters = 0
        self._num_buffers = 0
        self._num_dropouts = 0
        self._sparse: dict[int, SparseTable] = {}
        self._indices: dict[int, int] = {}

    def _layer(
        self,
        where: str,
        operation: int,
        fields: tuple[tuple[int, int, int], int, int],
        width: int,
        addend: Operand | None,
        activation: str,
        output: Operand | None,
        buffer: int = -1,
        constants: tuple[float, float] = (0.0, 0.0),
    ) -> Operand:
        """Add an instruction that ends with an activation."""
        source, weight, bias = fields
        code = activation_code(where, activation)
        added = None if addend is None else self._readable(where, "addend", addend)
        if added is not None and added.width != width:
            fail(ValueError, where, "addend", f"have {width} columns", str(added.width))
        target = self._target(where, width, output)
        keeps = activation in _KEEPS_ARGUMENT
        pre = self._new_slot(width, written=True) if keeps else None
        self._add(operation, source, target, added, pre, weight, bias, code, buffer, constants)
        return target

    def _add(
        self,
        operation: int,
        source: tuple[int, int, int],
        target: Operand,
        addend: Operand | None = None,
        pre: Operand | None = None,
        weight: int = -1,
        bias: int = -1,
        activation: int = 0,
        buffer: int = -1,
        constants: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        parts = (
            source,
            target.fields,
            *(_NOTHING if p is None else p.fields for p in (addend, pre)),
        )
        operands = tuple(number for part in parts for number in part)
        self._rows.append((operation, *operands, weight, bias, activation, buffer))
        self._constants.append(constants)

    def _new_slot(self, width: int, written: bool = False) -> Operand:
        self._written.append([written] * width)
        return Operand(len(self._written) - 1, 0, width)

    def _columns(self, where: str, argument: str, operand: object) -> tuple[Operand, list[bool]]:
        if not isinstance(operand, Operand):
            fail(TypeError, where, argument, "be an operand of this builder", describe(operand))
        inside = 0 <= operand.slot < len(self._written) and operand.begin >= 0
        if not inside or operand.begin + operand.width > len(self._written[operand.slot]):
            fail(ValueError, where, argument, "be an operand of this builder", str(operand))
        columns = self._written[operand.slot][operand.begin : operand.begin + operand.width]
        return operand, columns

    def _readable(self, where: str, argument: str, operand: object) -> Operand:
        found, columns = self._columns(where, argument, operand)
        if not all(columns):
            got = (
                f"column {found.begin + columns.index(False)} of slot {found.slot} not yet written"
            )
            fail(ValueError, where, argument, "be filled before it is read", got)
        return found

    def _target(self, where: str, width: int, output: Operand | None) -> Operand:
        if output is None:
            return self._new_slot(width, written=True)
        found, columns = self._columns(where, "output", output)
        if found.width != width:
            fail(ValueError, where, "output", f"have {width} columns", str(found.width))
        if any(columns):
            got = f"column {found.begin + columns.index(True)} of slot {found.slot} written before"
            fail(ValueError, where, "output", "be free", got)
        self._written[found.slot][found.begin : found.begin + width] = [True] * width
        return found

    def _width(self, where: str, width: int | None, output: Operand | None) -> int:
        if width is None and isinstance(output, Operand):
            return output.width
        return validate.integer(where, "width", width, low=1)

    def _name(self, where: str, name: Any, kind: str) -> str:
        if name is None:
            return f"{kind}{len(self._rows)}"
        return word(where, name) if name != "" else ""

    def _affine(
        self,
        where: str,
        name: str | None,
        kind: str,
        shape: tuple[int, int],
        fan_in: int,
        init: str,
        bias: bool,
        shared: bool,
    ) -> tuple[int, int]:
        """Reserve a weight and a bias, and return their offsets."""
        label = self._name(where, name, kind)
        flipped = kind == "sparse_dense"
        entry = ParameterEntry(join(label, "weight"), -1, shape, init, fan_in, "weight", flipped)
        weight = self._weight(where, entry, shared)
        if not bias:
            return weight, -1
        size = (shape[1] if flipped else shape[0],)
        start = "uniform" if init == "uniform" else "zeros"
        entry = ParameterEntry(join(label, "bias"), -1, size, start, fan_in, "bias")
        return weight, self._weight(where, entry, shared)

    def _norm(self, where: str, label: str, width: int) -> tuple[int, int]:
        """Reserve gamma and beta, and return their offsets."""
        gamma = ParameterEntry(join(label, "weight"), -1, (width,), "ones", width, "norm")
        beta = ParameterEntry(join(label, "bias"), -1, (width,), "zeros", width, "norm")
        return self._reserve(where, gamma).offset, self._reserve(where, beta).offset

    def _weight(self, where: str, entry: ParameterEntry, shared: bool) -> int:
        """Return the offset of a new parameter, or of the one to be shared."""
        validate.choice(where, "init", entry.init, INITS)
        known = self._parameters.get(entry.name)
        if not validate.boolean(where, "shared", shared) or known is None:
            return self._reserve(where, entry).offset
        if (known.shape, known.role) != (entry.shape, entry.role):
            expectation = f"have shape {known.shape} to share `{known.name}`"
            fail(ValueError, where, "name", expectation, str(entry.shape))
        return known.offset

    def _reserve(self, where: str, entry: ParameterEntry) -> ParameterEntry:
        if entry.name in self._parameters:
            fail(ValueError, where, "name", "be new (or `shared`)", f"{entry.name!r} again")
        placed = dataclasses.replace(entry, offset=self._num_parameters)
        total = self._num_parameters + validate.sizes(where, *entry.shape)
        self._num_parameters = validate.sizes(where, total)
        self._parameters[entry.name] = placed
        return placed


def activation_code(where: str, activation: str) -> int:
    return ACTIVATIONS.index(validate.choice(where, "activation", activation, ACTIVATIONS))


def word(where: str, name: Any) -> str:
    if not isinstance(name, str) or not name:
        fail(TypeError, where, "name", "be a word", describe(name))
    return name


def join(label: str, part: str) -> str:
    return f"{label}.{part}" if label else part


def positive_eps(where: str, eps: float) -> float:
    return validate.real(where, "eps", eps, low=0.0, open_low=True)
