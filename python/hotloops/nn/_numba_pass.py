"""The twin of ``csrc/nn/cpu*.cpp``: whole passes over programs, one kernel an instruction.

Each is compiled when it is first used, so that a program pays only for the layers that it has.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops._runtime._numba_packs import word
from hotloops.nn import _layout as of
from hotloops.nn import _numba_layers as layers
from hotloops.nn import _numba_products as products
from hotloops.nn import _numba_steps as steps
from hotloops.nn._layout import Instruction, Operand, Program
from hotloops.nn._tables import Batch

__all__ = ["Pass"]

Array = npt.NDArray[Any]

_KEEPS_ARGUMENT = (steps.SILU, steps.GELU)


class Pass:
    """One batch on its way through a program, as ``csrc/nn/cpu.cpp`` takes it.

    Parameters
    ----------
    program : Program
    parameters, buffers : ndarray
        Flat; a forward pass in training moves the running statistics in `buffers`.
    batch : Batch
        Dense inputs of this batch alone, the other tables whole.
    rows : ndarray of int64
        Which rows of those tables make the batch.
    training : bool
    seed, step : int
        Of dropout.
    num_threads : int
        Of the products; the rest is done by the caller's.
    """

    def __init__(
        self,
        program: Program,
        parameters: Array,
        buffers: Array,
        batch: Batch,
        rows: npt.NDArray[np.int64],
        training: bool = False,
        seed: int = 0,
        step: int = 0,
        num_threads: int = 1,
    ) -> None:
        self._program, self._batch, self._rows = program, batch, rows
        self.parameters, self._buffers = parameters, buffers
        self._training, self._step = training, step
        self._num_threads = num_threads
        self._key = word(seed & 0xFFFFFFFF), word(seed >> 32)
        self._statistics: dict[int, tuple[Array, Array]] = {}
        widths = program.widths[program.num_inputs :].tolist()
        inputs = batch.dense[: program.num_inputs]
        self.values = inputs + [np.empty((rows.size, width), parameters.dtype) for width in widths]
        self._first_slot = 0
        self.gradients: list[Array] = []
        self.parameter_gradient = np.zeros(0, parameters.dtype)

    def forward(self) -> None:
        """Fill the slots."""
        for number, it in enumerate(self._program.decoded):
            _FORWARD[it.operation](self, it, number)
            if it.pre.slot >= 0:
                self.column(self.values, it.pre)[:] = self.column(self.values, it.output)
            if it.operation != of.ACTIVATION and it.activation != steps.IDENTITY:
                y = self.values[it.output.slot]
                begin, width = it.output.begin, it.output.width
                steps.activate(it.activation, y, begin, y, begin, width)

    def start_backward(self, inputs: bool = True) -> None:
        """Set all gradients to 0; those of the outputs are then to be added.

        Without `inputs` the layers that read dense inputs don't pass gradients on to them. The
        zeros are negative, since -0 + x has the bits of x whatever x is.
        """
        self._first_slot = 0 if inputs else self._program.num_inputs
        self.gradients = [np.full_like(value, -0.0) for value in self.values]
        self.parameter_gradient = np.full_like(self.parameters, -0.0)
        for entry in self._program.parameters.values():
            if entry.role == "free":  # no layer adds to it, only losses may
                self._vector(self.parameter_gradient, entry.offset, entry.size)[:] = 0.0

    def backward(self) -> None:
        """Fill the gradients of parameters and inputs."""
        for number in reversed(range(len(self._program.decoded))):
            it = self._program.decoded[number]
            self._enter(it)
            _BACKWARD[it.operation](self, it, number)
            if it.addend.slot >= 0:
                addend = self.column(self.gradients, it.addend)
                addend += self.column(self.gradients, it.output)

    def column(self, slots: list[Array], operand: Operand) -> Array:
        """Return the view of an operand's columns."""
        return slots[operand.slot][:, operand.begin : operand.begin + operand.width]

    def _contiguous(self, slots: list[Array], operand: Operand) -> Array:
        return np.ascontiguousarray(self.column(slots, operand))

    # --- what the instructions read and write ----------------------------------------------------

    def _enter(self, it: Instruction) -> None:
        """Turn the gradient of f's value into that of its argument."""
        if it.activation == steps.IDENTITY:
            return
        source = it.output
        if it.activation in _KEEPS_ARGUMENT:
            source = it.input if it.operation == of.ACTIVATION else it.pre
        target = self.gradients[it.output.slot], it.output.begin, it.output.width
        steps.multiply_slope(it.activation, self.values[source.slot], source.begin, *target)

    def _vector(self, flat: Array, offset: int, size: int) -> Array:
        return flat[offset : offset + size] if offset >= 0 else flat[:0]

    def _weight(self, flat: Array, it: Instruction) -> Array:
        shape = it.output.width, it.input.width
        if it.operation in (of.SPARSE_DENSE, of.EMBEDDING):
            shape = shape[::-1]
        return self._vector(flat, it.weight, shape[0] * shape[1]).reshape(shape)

    def _finish(self, it: Instruction) -> None:
        bias = self._vector(self.parameters, it.bias, it.output.width)
        has_addend = it.addend.slot >= 0
        y = self.values[it.output.slot]
        addend = self.values[it.addend.slot] if has_addend else y
        target = it.output.begin, it.output.width
        steps.finish(y, *target, bias, addend, it.addend.begin, has_addend)

    def _add_bias_gradient(self, it: Instruction) -> None:
        if it.bias >= 0:
            bias = self._vector(self.parameter_gradient, it.bias, it.output.width)
            g = self.gradients[it.output.slot]
            layers.add_columns(g, it.output.begin, it.output.width, bias)

    def _norm(self, flat: Array, it: Instruction) -> tuple[Array, Array]:
        width = it.output.width
        return self._vector(flat, it.weight, width), self._vector(flat, it.bias, width)

    # --- layers ----------------------------------------------------------------------------------

    def _dense(self, it: Instruction, number: int) -> None:
        x, weight = self._contiguous(self.values, it.input), self._weight(self.parameters, it)
        y = self.values[it.output.slot]
        products.forward(x, weight, y, it.output.begin, self._num_threads)
        self._finish(it)

    def _dense_backward(self, it: Instruction, number: int) -> None:
        x = self._contiguous(self.values, it.input)
        g = self._contiguous(self.gradients, it.output)
        products.by_weight(g, x, self._weight(self.parameter_gradient, it), self._num_threads)
        self._add_bias_gradient(it)
        if it.input.slot >= self._first_slot:
            weight = self._weight(self.parameters, it)
            target = self.gradients[it.input.slot], it.input.begin
            products.by_input(g, weight, *target, self._num_threads)

    def _sparse_dense(self, it: Instruction, number: int) -> None:
        table = self._batch.sparse[it.input.slot]
        y, weight = self.values[it.output.slot], self._weight(self.parameters, it)
        source = table.indptr, table.indices, table.values, table.totals, table.transform
        layers.sparse_product(*source, self._rows, weight, y, it.output.begin)
        self._finish(it)

    def _sparse_dense_backward(self, it: Instruction, number: int) -> None:
        table = self._batch.sparse[it.input.slot]
        g, weight = self.gradients[it.output.slot], self._weight(self.parameter_gradient, it)
        source = table.indptr, table.indices, table.values, table.totals, table.transform
        layers.sparse_product_backward(*source, self._rows, g, it.output.begin, weight)
        self._add_bias_gradient(it)

    def _activation(self, it: Instruction, number: int) -> None:
        x, y = self.values[it.input.slot], self.values[it.output.slot]
        steps.activate(it.activation, x, it.input.begin, y, it.output.begin, it.output.width)

    def _pass_back(self, it: Instruction, number: int) -> None:
        gradient = self.column(self.gradients, it.input)
        gradient += self.column(self.gradients, it.output)

    def _batch_norm(self, it: Instruction, number: int) -> None:
        width = it.output.width
        mean, inverse = np.empty(width), np.empty(width)
        self._statistics[number] = mean, inverse
        layers.norm_columns(
            self.values[it.input.slot],
            it.input.begin,
            self.values[it.output.slot],
            it.output.begin,
            *self._norm(self.parameters, it),
            self._buffers[it.buffer : it.buffer + 2 * width],
            *it.constants,
            self._training,
            mean,
            inverse,
        )

    def _batch_norm_backward(self, it: Instruction, number: int) -> None:
        layers.norm_columns_backward(
            self.values[it.input.slot],
            it.input.begin,
            self.gradients[it.input.slot],
            self.gradients[it.output.slot],
            it.output.begin,
            self._norm(self.parameters, it)[0],
            *self._statistics[number],
            self._training,
            *self._norm(self.parameter_gradient, it),
        )

    def _layer_norm(self, it: Instruction, number: int) -> None:
        x, y = self.values[it.input.slot], self.values[it.output.slot]
        gamma, beta = self._norm(self.parameters, it)
        layers.layer_norm(x, it.input.begin, y, it.output.begin, gamma, beta, it.constants[0])

    def _layer_norm_backward(self, it: Instruction, number: int) -> None:
        layers.layer_norm_backward(
            self.values[it.input.slot],
            it.input.begin,
            self.gradients[it.input.slot],
            self.gradients[it.output.slot],
            it.output.begin,
            self._norm(self.parameters, it)[0],
            it.constants[0],
            self._norm(self.parameter_gradient, it)[0],
        )
        self._add_bias_gradient(it)

    def _dropout(self, it: Instruction, number: int) -> None:
        if not self._training:
            self.column(self.values, it.output)[:] = self.column(self.values, it.input)
            return
        self._mask(it, self.values, it.input, it.output, False)

    def _dropout_backward(self, it: Instruction, number: int) -> None:
        if not self._training:
            self._pass_back(it, number)
            return
        self._mask(it, self.gradients, it.output, it.input, True)

    def _mask(
        self, it: Instruction, slots: list[Array], source: Operand, target: Operand, add: bool
    ) -> None:
        x, y = slots[source.slot], slots[target.slot]
        place = x, source.begin, y, target.begin, source.width
        p = it.constants[0]
        numbers = x.dtype.type(1.0 / (1.0 - p)), word(int(p * 2.0**32))
        layers.dropout(*place, *numbers, it.buffer, self._step, *self._key, add)

    def _embedding(self, it: Instruction, number: int) -> None:
        index = self._batch.indices[it.input.slot][self._rows]
        table = self._weight(self.parameters, it)
        layers.embed(table, index, self.values[it.output.slot], it.output.begin)
        self._finish(it)

    def _embedding_backward(self, it: Instruction, number: int) -> None:
        index = self._batch.indices[it.input.slot][self._rows]
        table = self._weight(self.parameter_gradient, it)
        gradient = np.zeros_like(table)
        layers.embed_backward(index, self.gradients[it.output.slot], it.output.begin, gradient)
        table += gradient

    def _time_embedding(self, it: Instruction, number: int) -> None:
        x, y = self.values[it.input.slot], self.values[it.output.slot]
        half = it.output.width // 2
        layers.time_embed(x, it.input.begin, y, it.output.begin, half, it.constants[0])

    def _time_embedding_backward(self, it: Instruction, number: int) -> None:
        y, g = self.values[it.output.slot], self.gradients[it.output.slot]
        target = self.gradients[it.input.slot], it.input.begin, it.output.width // 2
        layers.time_embed_backward(y, it.output.begin, g, *target, it.constants[0])


_FORWARD = {
    of.DENSE: Pass._dense,
    of.SPARSE_DENSE: Pass._sparse_dense,
    of.ACTIVATION: Pass._activation,
    of.BATCH_NORM: Pass._batch_norm,
    of.LAYER_NORM: Pass._layer_norm,
    of.DROPOUT: Pass._dropout,
    of.EMBEDDING: Pass._embedding,
    of.TIME_EMBEDDING: Pass._time_embedding,
}
_BACKWARD = {
    of.DENSE: Pass._dense_backward,
    of.SPARSE_DENSE: Pass._sparse_dense_backward,
    of.ACTIVATION: Pass._pass_back,
    of.BATCH_NORM: Pass._batch_norm_backward,
    of.LAYER_NORM: Pass._layer_norm_backward,
    of.DROPOUT: Pass._dropout_backward,
    of.EMBEDDING: Pass._embedding_backward,
    of.TIME_EMBEDDING: Pass._time_embedding_backward,
}
