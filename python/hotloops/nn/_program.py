"""Networks as programs: instructions over slots, written once, run by every backend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hotloops._runtime import validate
from hotloops._runtime.validate import describe, fail
from hotloops.nn._layout import (
    ACTIVATION,
    BATCH_NORM,
    DENSE,
    DROPOUT,
    EMBEDDING,
    INITS,
    LAYER_NORM,
    SPARSE_DENSE,
    TIME_EMBEDDING,
    TRANSFORMS,
    BufferEntry,
    Operand,
    ParameterEntry,
    Program,
    SparseTable,
    frozen,
)
from hotloops.nn._writer import Writer, activation_code, join, positive_eps, word

__all__ = ["Operand", "Program", "ProgramBuilder"]

_MOST_DROPOUTS, _WIDEST_DROPOUT = 1 << 12, 1 << 22


class ProgramBuilder(Writer):
    """Writes a program, one layer a call.

    Each call returns the `Operand` it writes to, which the next calls read. All calls that write
    take ``output=``, columns of a slot from `slot`, by which several layers fill one matrix side
    by side.

    Notes
    -----
    Layers with parameters take ``name=``; a name that was used before is an error unless
    ``shared=True``, which uses those parameters again (their gradients add up). With the name
    ``""`` parameters are called "weight" and "bias" alone.

    ``init=`` is ``"uniform"`` (weights and biases uniform between -1/sqrt(inputs) and
    1/sqrt(inputs)), ``"truncated"`` (normal, cut at two standard deviations, variance 1/inputs;
    biases zero), ``"normal"`` (standard normal; biases zero) or ``"zeros"``.

    Examples
    --------
    >>> from hotloops.nn import ProgramBuilder
    >>> b = ProgramBuilder()
    >>> x = b.input(4)
    >>> h = b.dense(x, 8, activation="relu", name="hidden")
    >>> program = b.finish(outputs=[b.dense(h, 2, addend=x[:2], name="last")])
    >>> list(program.parameters)
    ['hidden.weight', 'hidden.bias', 'last.weight', 'last.bias']
    """

    # --- slots -----------------------------------------------------------------------------------

    def input(self, width: int) -> Operand:
        """Add a dense input; inputs come before anything else."""
        columns = validate.integer("ProgramBuilder.input", "width", width, low=1)
        if len(self._written) > self._num_inputs:
            raise ValueError("ProgramBuilder.input: inputs must come before all layers and slots")
        self._num_inputs += 1
        return self._new_slot(columns, written=True)

    def slot(self, width: int) -> Operand:
        """Add a matrix that several layers fill by ``output=``."""
        return self._new_slot(validate.integer("ProgramBuilder.slot", "width", width, low=1))

    # --- layers ----------------------------------------------------------------------------------

    def dense(
        self,
        x: Operand,
        width: int | None = None,
        *,
        addend: Operand | None = None,
        activation: str = "identity",
        bias: bool = True,
        init: str = "uniform",
        name: str | None = None,
        shared: bool = False,
        output: Operand | None = None,
    ) -> Operand:
        """Add ``y = f(x W^T + b + addend)``, W of shape (width, columns of x).

        Parameters
        ----------
        x : Operand
        width : int, optional
            Columns of y; may be left out where `output` says it.
        addend : Operand, optional
            Of the width of y.
        activation : str
            f, one of ``"identity"``, ``"relu"``, ``"elu"``, ``"silu"``, ``"gelu"``, ``"tanh"``,
            ``"sigmoid"``, ``"softplus"``.
        bias : bool
        init : str
        name : str, optional
            The parameters are called ``name.weight`` and ``name.bias``; by default they are
            numbered.
        shared : bool
        output : Operand, optional

        Returns
        -------
        Operand
        """
        where = "ProgramBuilder.dense"
        source = self._readable(where, "x", x)
        columns = self._width(where, width, output)
        validate.boolean(where, "bias", bias)
        shape = (columns, source.width)
        offsets = self._affine(where, name, "dense", shape, source.width, init, bias, shared)
        fields = (source.fields, *offsets)
        return self._layer(where, DENSE, fields, columns, addend, activation, output)

    def sparse_dense(
        self,
        table: int,
        *,
        columns: int,
        width: int | None = None,
        transform: str = "none",
        addend: Operand | None = None,
        activation: str = "identity",
        bias: bool = True,
        init: str = "uniform",
        name: str | None = None,
        shared: bool = False,
        output: Operand | None = None,
    ) -> Operand:
        """Add ``y = f(t(x) W + b + addend)`` with x a CSR table, W of shape (columns, width).

        Parameters
        ----------
        table : int
            Number of the CSR table among the inputs, from 0 on.
        columns : int
            Columns of the table.
        width : int, optional
            Columns of y; may be left out where `output` says it.
        transform : str
            t, done to the values as they are read: ``"none"``, ``"log1p"``, ``"proportions"``
            (x / total of the row), ``"log1p_scaled"`` (log1p of that) or ``"binary"`` (x > 0).
        addend, activation, bias, init, name, shared, output
            As in `dense`. The weight of a torch state dict is the transpose of the one stored.

        Returns
        -------
        Operand
        """
        where = "ProgramBuilder.sparse_dense"
        number = validate.integer(where, "table", table, low=0)
        entries = validate.integer(where, "columns", columns, low=1)
        validate.choice(where, "transform", transform, TRANSFORMS)
        wide = self._width(where, width, output)
        validate.boolean(where, "bias", bias)
        wanted = SparseTable(entries, transform)
        if self._sparse.get(number, wanted) != wanted:
            expectation = f"be read as before, as {self._sparse[number]}"
            fail(ValueError, where, "table", expectation, str(wanted))
        shape = (entries, wide)
        offsets = self._affine(where, name, "sparse_dense", shape, entries, init, bias, shared)
        fields = ((number, 0, entries), *offsets)
        y = self._layer(where, SPARSE_DENSE, fields, wide, addend, activation, output)
        self._sparse[number] = wanted
        return y

    def activation(self, x: Operand, activation: str, *, output: Operand | None = None) -> Operand:
        """Add ``y = f(x)``.

        Parameters
        ----------
        x : Operand
        activation : str
            As in `dense`.
        output : Operand, optional

        Returns
        -------
        Operand
        """
        where = "ProgramBuilder.activation"
        source = self._readable(where, "x", x)
        code = activation_code(where, activation)
        target = self._target(where, source.width, output)
        self._add(ACTIVATION, source.fields, target, activation=code)
        return target

    def batch_norm(
        self,
        x: Operand,
        *,
        activation: str = "identity",
        eps: float = 1e-5,
        momentum: float = 0.1,
        name: str | None = None,
        output: Operand | None = None,
    ) -> Operand:
        """Add ``y = f(gamma (x - mean) / sqrt(variance + eps) + beta)``, per column.

        In training the mean and the biased variance of the batch are used, and the running ones
        move by ``momentum`` towards the batch's mean and unbiased variance; otherwise the running
        ones are used.

        Parameters
        ----------
        x : Operand
        activation : str
            As in `dense`.
        eps : float
            Above zero.
        momentum : float
            In [0, 1].
        name : str, optional
            Parameters ``name.weight`` (gamma) and ``name.bias`` (beta), buffers
            ``name.running_mean`` and ``name.running_var``.
        output : Operand, optional

        Returns
        -------
        Operand
        """
        where = "ProgramBuilder.batch_norm"
        source = self._readable(where, "x", x)
        numbers = (
            positive_eps(where, eps),
            validate.real(where, "momentum", momentum, low=0.0, high=1.0),
        )
        label = self._name(where, name, "batch_norm")
        fields = (source.fields, *self._norm(where, label, source.width))
        buffer = self._num_buffers
        y = self._layer(
            where, BATCH_NORM, fields, source.width, None, activation, output, buffer, numbers
        )
        for part, start in (("running_mean", 0.0), ("running_var", 1.0)):
            entry = BufferEntry(join(label, part), self._num_buffers, source.width, start)
            self._buffers[entry.name] = entry
            self._num_buffers += source.width
        return y

    def layer_norm(
        self,
        x: Operand,
        *,
        activation: str = "identity",
        eps: float = 1e-5,
        name: str | None = None,
        output: Operand | None = None,
    ) -> Operand:
        """Add ``y = f(gamma (x - mean) / sqrt(variance + eps) + beta)``, per row.

        Parameters
        ----------
        x : Operand
        activation : str
            As in `dense`.
        eps : float
            Above zero.
        name : str, optional
            Parameters ``name.weight`` (gamma) and ``name.bias`` (beta).
        output : Operand, optional

        Returns
        -------
        Operand
        """
        where = "ProgramBuilder.layer_norm"
        source = self._readable(where, "x", x)
        numbers = (positive_eps(where, eps), 0.0)
        label = self._name(where, name, "layer_norm")
        fields = (source.fields, *self._norm(where, label, source.width))
        return self._layer(
            where, LAYER_NORM, fields, source.width, None, activation, output, -1, numbers
        )

    def dropout(self, x: Operand, p: float, *, output: Operand | None = None) -> Operand:
        """Add ``y = x mask / (1 - p)`` in training, ``y = x`` otherwise.

        Parameters
        ----------
        x : Operand
        p : float
            Probability in [0, 1) that an element becomes zero.
        output : Operand, optional

        Returns
        -------
        Operand
        """
        where = "ProgramBuilder.dropout"
        source = self._readable(where, "x", x)
        probability = validate.real(where, "p", p, low=0.0)
        if probability >= 1.0:
            fail(ValueError, where, "p", "be a number in [0, 1)", describe(p))
        if self._num_dropouts >= _MOST_DROPOUTS or source.width > _WIDEST_DROPOUT:
            raise OverflowError(
                f"{where}: at most {_MOST_DROPOUTS} layers of at most {_WIDEST_DROPOUT} columns "
                "have random numbers of their own"
            )
        target = self._target(where, source.width, output)
        number = self._num_dropouts
        self._num_dropouts += 1
        self._add(DROPOUT, source.fields, target, buffer=number, constants=(probability, 0.0))
        return target

    def embedding(
        self,
        table: int,
        *,
        num_rows: int,
        width: int | None = None,
        addend: Operand | None = None,
        init: str = "normal",
        name: str | None = None,
        shared: bool = False,
        output: Operand | None = None,
    ) -> Operand:
        """Add ``y = W[index] + addend``, W of shape (num_rows, width); index -1 adds nothing.

        Parameters
        ----------
        table : int
            Number of the table of indices among the inputs, from 0 on.
        num_rows : int
            Indices are below it.
        width : int, optional
            Columns of y; may be left out where `output` says it.
        addend : Operand, optional
            Of the width of y.
        init : str
        name : str, optional
            The parameter is called ``name.weight``.
        shared : bool
        output : Operand, optional

        Returns
        -------
        Operand
        """
        where = "ProgramBuilder.embedding"
        number = validate.integer(where, "table", table, low=0)
        rows = validate.integer(where, "num_rows", num_rows, low=1)
        columns = self._width(where, width, output)
        if self._indices.get(number, rows) != rows:
            expectation = f"be {self._indices[number]} as before for table {number}"
            fail(ValueError, where, "num_rows", expectation, str(rows))
        label = self._name(where, name, "embedding")
        entry = ParameterEntry(join(label, "weight"), -1, (rows, columns), init, rows, "embedding")
        offset = self._weight(where, entry, shared)
        fields = ((number, 0, rows), offset, -1)
        y = self._layer(where, EMBEDDING, fields, columns, addend, "identity", output)
        self._indices[number] = rows
        return y

    def time_embedding(
        self, x: Operand, width: int, *, scale: float = 1.0, output: Operand | None = None
    ) -> Operand:
        """Add ``y = [sin(scale x f), cos(scale x f)]``, f_j = 10000^(-j / (width/2 - 1)).

        Parameters
        ----------
        x : Operand
            Of one column.
        width : int
            Even. For 2 the one frequency is 1.
        scale : float
        output : Operand, optional

        Returns
        -------
        Operand
        """
        where = "ProgramBuilder.time_embedding"
        source = self._readable(where, "x", x)
        if source.width != 1:
            fail(ValueError, where, "x", "have one column", str(source.width))
        columns = validate.integer(where, "width", width, low=2)
        if columns % 2:
            fail(ValueError, where, "width", "be even", str(columns))
        factor = validate.real(where, "scale", scale)
        target = self._target(where, columns, output)
        self._add(TIME_EMBEDDING, source.fields, target, constants=(factor, 0.0))
        return target

    def parameter(self, name: Any, shape: Sequence[int], *, init: str = "zeros") -> ParameterEntry:
        """Add a parameter that belongs to no layer, such as the dispersions of a loss.

        Parameters
        ----------
        name : str
        shape : tuple of int
        init : str
            As in `dense`, or ``"ones"``; the number of inputs is that of the last axis.

        Returns
        -------
        ParameterEntry
        """
        where = "ProgramBuilder.parameter"
        word(where, name)
        lengths = tuple(validate.integer(where, "shape", length, low=1) for length in shape)
        validate.choice(where, "init", init, INITS)
        fan_in = lengths[-1] if lengths else 1
        return self._reserve(where, ParameterEntry(name, -1, lengths, init, fan_in, "free"))

    # --- the end ---------------------------------------------------------------------------------

    def finish(self, outputs: Any) -> Program:
        """Check that everything is there and return the frozen program.

        Parameters
        ----------
        outputs : sequence of Operand
            What a forward pass returns.

        Returns
        -------
        Program

        Raises
        ------
        ValueError
            A slot has columns that nothing fills, tables are not numbered from 0 on without
            gaps, there is no layer or no output.
        """
        where = "ProgramBuilder.finish"
        if not self._rows:
            raise ValueError(f"{where}: a program must have at least one layer")
        if isinstance(outputs, Operand) or not isinstance(outputs, Sequence) or not outputs:
            fail(TypeError, where, "outputs", "be a list of operands", describe(outputs))
        for slot, columns in enumerate(self._written):
            if not all(columns):
                missing = columns.index(False)
                raise ValueError(f"{where}: column {missing} of slot {slot} must be filled")
        results = tuple(self._readable(where, "outputs", item) for item in outputs)
        return Program(
            frozen(self._rows, np.int64),
            frozen(self._constants, np.float64),
            frozen([len(columns) for columns in self._written], np.int64),
            self._num_inputs,
            self._num_parameters,
            self._num_buffers,
            results,
            dict(self._parameters),
            dict(self._buffers),
            tuple(_in_order(where, "CSR", self._sparse)),
            tuple(_in_order(where, "index", self._indices)),
        )


def _in_order(where: str, kind: str, tables: Mapping[int, Any]) -> list[Any]:
    numbers = sorted(tables)
    if numbers != list(range(len(numbers))):
        raise ValueError(f"{where}: {kind} tables must be numbered 0, 1, ..., got {numbers}")
    return [tables[number] for number in numbers]
