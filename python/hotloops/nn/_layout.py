"""What a finished program is: arrays for the kernels, and the names of what they hold.

The numbers and the order of the fields are those of ``csrc/nn/program.hpp``.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hotloops._runtime.validate import describe, fail

__all__ = [
    "ACTIVATIONS",
    "INITS",
    "TRANSFORMS",
    "BufferEntry",
    "Operand",
    "ParameterEntry",
    "Program",
    "SparseTable",
    "frozen",
]

DENSE, SPARSE_DENSE, ACTIVATION, BATCH_NORM = 0, 1, 2, 3
LAYER_NORM, DROPOUT, EMBEDDING, TIME_EMBEDDING = 4, 5, 6, 7

ACTIVATIONS = ("identity", "relu", "elu", "silu", "gelu", "tanh", "sigmoid", "softplus")
TRANSFORMS = ("none", "log1p", "proportions", "log1p_scaled", "binary")
INITS = ("uniform", "truncated", "zeros", "normal", "ones")

NUM_INTEGERS, NUM_REALS = 17, 2


@dataclass(frozen=True)
class Operand:
    """The columns ``begin .. begin + width - 1`` of a slot.

    Attributes
    ----------
    slot, begin, width : int
        ``operand[a:b]`` is the operand of some of its columns.
    """

    slot: int
    begin: int
    width: int

    def __getitem__(self, columns: Any) -> Operand:
        if not isinstance(columns, slice) or columns.step not in (None, 1):
            fail(TypeError, "Operand", "columns", "be a slice without a step", describe(columns))
        begin, end, _ = columns.indices(self.width)
        if end <= begin:
            got = f"{begin}:{end} of {self.width}"
            fail(ValueError, "Operand", "columns", "select at least one column", got)
        return Operand(self.slot, self.begin + begin, end - begin)

    @property
    def fields(self) -> tuple[int, int, int]:
        """The three numbers as an instruction holds them."""
        return self.slot, self.begin, self.width


@dataclass(frozen=True)
class ParameterEntry:
    """Where a parameter lies in the flat buffer, and how it begins.

    Attributes
    ----------
    name : str
    offset : int
        First element in the buffer of all parameters.
    shape : tuple of int
        As stored, row-major.
    init : str
        One of ``"uniform"``, ``"truncated"``, ``"zeros"``, ``"normal"``, ``"ones"``.
    fan_in : int
        Number of inputs, which sets the scale of ``"uniform"`` and ``"truncated"``.
    role : str
        One of ``"weight"``, ``"bias"``, ``"norm"``, ``"embedding"``, ``"free"``.
    transposed : bool
        Whether torch holds the transpose of it.
    """

    name: str
    offset: int
    shape: tuple[int, ...]
    init: str
    fan_in: int
    role: str
    transposed: bool = False

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def torch_shape(self) -> tuple[int, ...]:
        """The shape in a torch state dict."""
        return self.shape[::-1] if self.transposed else self.shape


@dataclass(frozen=True)
class BufferEntry:
    """Where running statistics lie in the buffer of all of them.

    Attributes
    ----------
    name : str
    offset, size : int
    start : float
        What they are before training: 0 for means, 1 for variances.
    """

    name: str
    offset: int
    size: int
    start: float


@dataclass(frozen=True)
class SparseTable:
    """What a program expects of one CSR table.

    Attributes
    ----------
    columns : int
    transform : str
        What is done to the values as they are read, one of `TRANSFORMS`.
    """

    columns: int
    transform: str


class Instruction(NamedTuple):
    """One instruction in Python's terms; see ``NnInstruction`` in ``csrc/nn/program.hpp``."""

    operation: int
    input: Operand
    output: Operand
    addend: Operand
    pre: Operand
    weight: int
    bias: int
    activation: int
    buffer: int
    constants: tuple[float, float]


@dataclass(frozen=True, eq=False)
class Program:
    """A finished network: what the kernels read, and the names of what it holds.

    Attributes
    ----------
    instructions : ndarray of int64, shape (n, 17)
    constants : ndarray of float64, shape (n, 2)
    widths : ndarray of int64, shape (slots,)
        The first `num_inputs` slots are the dense inputs.
    num_inputs, num_parameters, num_buffers : int
    outputs : tuple of Operand
    parameters : dict of ParameterEntry
    buffers : dict of BufferEntry
    sparse_tables : tuple of SparseTable
        CSR inputs in the order of their numbers.
    index_tables : tuple of int
        Number of rows of the embedding that each table of indices picks from.
    """

    instructions: npt.NDArray[np.int64]
    constants: npt.NDArray[np.float64]
    widths: npt.NDArray[np.int64]
    num_inputs: int
    num_parameters: int
    num_buffers: int
    outputs: tuple[Operand, ...]
    parameters: Mapping[str, ParameterEntry]
    buffers: Mapping[str, BufferEntry]
    sparse_tables: tuple[SparseTable, ...]
    index_tables: tuple[int, ...]

    @property
    def input_widths(self) -> tuple[int, ...]:
        """Number of columns of each dense input."""
        return tuple(int(width) for width in self.widths[: self.num_inputs])

    @functools.cached_property
    def decoded(self) -> tuple[Instruction, ...]:
        """The instructions, for those who run them from Python."""
        return tuple(
            Instruction(
                row[0],
                Operand(*row[1:4]),
                Operand(*row[4:7]),
                Operand(*row[7:10]),
                Operand(*row[10:13]),
                row[13],
                row[14],
                row[15],
                row[16],
                (constants[0], constants[1]),
            )
            for row, constants in zip(
                self.instructions.tolist(), self.constants.tolist(), strict=True
            )
        )

    def uses(self, operation: int) -> bool:
        """Say whether any instruction is of a kind."""
        return bool((self.instructions[:, 0] == operation).any())

    def to_header(self) -> dict[str, Any]:
        """Return all but the three arrays in the form that JSON can hold."""
        header = {
            name: getattr(self, name)
            for name in ("num_inputs", "num_parameters", "num_buffers", "index_tables")
        }
        for name in ("outputs", "sparse_tables"):
            header[name] = [dataclasses.asdict(item) for item in getattr(self, name)]
        for name in ("parameters", "buffers"):
            header[name] = [dataclasses.asdict(item) for item in getattr(self, name).values()]
        return header

    @classmethod
    def from_header(cls, header: Mapping[str, Any], arrays: Mapping[str, Any]) -> Program:
        """Return the program of `to_header` and its arrays."""
        entries = [
            ParameterEntry(**{**item, "shape": tuple(item["shape"])})
            for item in header["parameters"]
        ]
        running = [BufferEntry(**item) for item in header["buffers"]]
        return cls(
            frozen(arrays["instructions"], np.int64),
            frozen(arrays["constants"], np.float64),
            frozen(arrays["widths"], np.int64),
            header["num_inputs"],
            header["num_parameters"],
            header["num_buffers"],
            tuple(Operand(**item) for item in header["outputs"]),
            {entry.name: entry for entry in entries},
            {entry.name: entry for entry in running},
            tuple(SparseTable(**item) for item in header["sparse_tables"]),
            tuple(header["index_tables"]),
        )


def frozen(values: Any, dtype: npt.DTypeLike) -> Any:
    """Return a copy as an array that nobody can write to."""
    array = np.array(values, dtype=dtype)
    array.flags.writeable = False
    return array
