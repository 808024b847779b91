"""The twin of ``csrc/admm/cpu_solve_network.cpp``."""

from __future__ import annotations

from typing import Any

from hotloops._runtime._numba_buffers import buffers, lanes_of, load, store
from hotloops._runtime._numba_jit import inline, kernel
from hotloops.admm._numba_losses import (
    RELU,
    SOFTMAX,
    TANH,
    exp_clamped,
    gelu,
    log_of,
    relu,
    tanh,
)
from hotloops.admm._numba_rows import NETWORK_ROWS, Layers, Model, Place, Rows, find_rows


@inline
def _weights_at(model: Model, layer: int) -> int:
    """Return where the parameters of a layer begin."""
    at = 0
    for k in range(layer):
        width = model.layers[k + 1]
        at += model.layers[k] * width + (width if model.intercept else 0)
    return at


@inline
def _units_at(model: Model, layer: int) -> int:
    """Return where the units of layer 1, 2, ... begin."""
    at = 0
    for k in range(1, layer):
        at += (NETWORK_ROWS * model.layers[k] + 15) // 16 * 16
    return at


@inline
def _enter(rows: Rows, model: Model, memory: Layers, number: int, w: Any) -> None:
    width = model.layers[1]
    for r in range(number):
        row, to = memory.ids[r], r * width
        if rows.is_dense:
            for k in range(rows.columns):
                x = rows.dense[row * rows.columns + k]
                for j in range(width):
                    memory.active[to + j] = memory.active[to + j] + x * w[k * width + j]
        else:
            for k in range(rows.indptr[row], rows.indptr[row + 1]):
                at = rows.indices[k] * width
                for j in range(width):
                    part = w[at + j]
                    if rows.has_values:
                        part = rows.values[k] * part
                    memory.active[to + j] = memory.active[to + j] + part


@inline
def _activate(model: Model, memory: Layers, layer: int, number: int) -> None:
    lanes = lanes_of(memory.active)
    first = _units_at(model, layer) // lanes
    for k in range((number * model.layers[layer] + lanes - 1) // lanes):
        x = load(memory.active, first + k)
        if model.activation == RELU:
            h, slope = relu(x)
        elif model.activation == TANH:
            h, slope = tanh(x)
        else:
            h, slope = gelu(x)
        store(memory.active, first + k, h)
        store(memory.slope, first + k, slope)


@inline
def _forward(rows: Rows, model: Model, memory: Layers, number: int, w: Any) -> None:
    for layer in range(1, model.num_layers + 1):
        inner, width = model.layers[layer - 1], model.layers[layer]
        at, out = _weights_at(model, layer - 1), _units_at(model, layer)
        for r in range(number):
            for j in range(width):
                memory.active[out + r * width + j] = 0.0
                if model.intercept:
                    memory.active[out + r * width + j] = w[at + inner * width + j]
        if layer == 1:
            _enter(rows, model, memory, number, w)
        else:
            below = _units_at(model, layer - 1)
            for r in range(number):
                to = out + r * width
                for i in range(inner):
                    x = memory.active[below + r * inner + i]
                    for j in range(width):
                        step = x * w[at + i * width + j]
                        memory.active[to + j] = memory.active[to + j] + step
        if layer < model.num_layers:
            _activate(model, memory, layer, number)


@inline
def _softmax_head(rows: Rows, model: Model, memory: Layers, number: int) -> float:
    outputs = model.layers[model.num_layers]
    out = _units_at(model, model.num_layers)
    lanes = lanes_of(memory.active)
    # The logit of the row's own class waits in `below` while z turns into exponentials.
    for r in range(number):
        at = out + r * outputs
        largest = memory.active[at]
        for j in range(1, outputs):
            if largest < memory.active[at + j]:
                largest = memory.active[at + j]
        for j in range(outputs):
            memory.active[at + j] = memory.active[at + j] - largest
        memory.below[r] = memory.active[at + rows.labels[memory.ids[r]]]
    for k in range((number * outputs + lanes - 1) // lanes):
        store(memory.active, out // lanes + k, exp_clamped(load(memory.active, out // lanes + k)))
    total = 0.0
    for r in range(number):
        at = out + r * outputs
        both = memory.active[at]
        for j in range(1, outputs):
            both += memory.active[at + j]
        for j in range(outputs):
            memory.delta[r * outputs + j] = memory.active[at + j] / both
        own = r * outputs + rows.labels[memory.ids[r]]
        loss = log_of(both) - memory.below[r]
        if rows.has_weights:
            weight = rows.weights[memory.ids[r]]
            loss = weight * loss
            for j in range(outputs):
                memory.delta[r * outputs + j] = weight * memory.delta[r * outputs + j]
            memory.delta[own] = memory.delta[own] - weight
        else:
            memory.delta[own] = memory.delta[own] - 1.0
        total += loss
    return total


@inline
def _squares_head(rows: Rows, model: Model, memory: Layers, number: int) -> float:
    outputs = model.layers[model.num_layers]
    out = _units_at(model, model.num_layers)
    total = 0.0
    for r in range(number):
        memory.below[0] = 0.0
        for j in range(outputs):
            gap = memory.active[out + r * outputs + j] - rows.targets[memory.ids[r] * outputs + j]
            memory.below[0] = memory.below[0] + gap * gap
            memory.delta[r * outputs + j] = gap
            if rows.has_weights:
                memory.delta[r * outputs + j] = rows.weights[memory.ids[r]] * gap
        memory.below[0] = 0.5 * memory.below[0]
        if rows.has_weights:
            memory.below[0] = rows.weights[memory.ids[r]] * memory.below[0]
        total += memory.below[0]
    return total


@inline
def _leave(rows: Rows, model: Model, memory: Layers, number: int, g: Any) -> None:
    width = model.layers[1]
    for r in range(number):
        row, own = memory.ids[r], r * width
        if rows.is_dense:
            for k in range(rows.columns):
                x = rows.dense[row * rows.columns + k]
                for j in range(width):
                    g[k * width + j] = g[k * width + j] + x * memory.delta[own + j]
        else:
            for k in range(rows.indptr[row], rows.indptr[row + 1]):
                at = rows.indices[k] * width
                for j in range(width):
                    part = memory.delta[own + j]
                    if rows.has_values:
                        part = rows.values[k] * part
                    g[at + j] = g[at + j] + part


@inline
def _back_through(model: Model, memory: Layers, layer: int, number: int, w: Any, g: Any) -> None:
    """Add the gradient of a layer above the first, and pass its slopes on to the one below."""
    inner, width = model.layers[layer - 1], model.layers[layer]
    at, units = _weights_at(model, layer - 1), _units_at(model, layer - 1)
    for r in range(number):
        for i in range(inner):
            x = memory.active[units + r * inner + i]
            for j in range(width):
                to = at + i * width + j
                g[to] = g[to] + x * memory.delta[r * width + j]
    for r in range(number):
        for i in range(inner):
            memory.below[r * inner + i] = 0.0
            for j in range(width):
                step = memory.delta[r * width + j] * w[at + i * width + j]
                memory.below[r * inner + i] = memory.below[r * inner + i] + step
    for k in range(number * inner):
        memory.delta[k] = memory.below[k] * memory.slope[units + k]


@inline
def _backward(rows: Rows, model: Model, memory: Layers, number: int, w: Any, g: Any) -> None:
    for back in range(model.num_layers):
        layer = model.num_layers - back
        width = model.layers[layer]
        if model.intercept:
            at = _weights_at(model, layer - 1) + model.layers[layer - 1] * width
            for r in range(number):
                for j in range(width):
                    g[at + j] = g[at + j] + memory.delta[r * width + j]
        if layer == 1:
            _leave(rows, model, memory, number, g)
        else:
            _back_through(model, memory, layer, number, w, g)


@kernel
def network_task(
    row_arrays: Rows,
    model_arrays: Model,
    memory_arrays: Layers,
    place: Place,
    w: Any,
    gradient: Any,
    total: Any,
) -> None:
    """Add up the gradient of some rows of a client, and their losses."""
    rows, model, memory = buffers(row_arrays), buffers(model_arrays), buffers(memory_arrays)
    losses = 0.0
    first = place.first
    while first < place.last:
        number = min(place.last - first, NETWORK_ROWS)
        find_rows(rows, place, first, number, memory.ids)
        _forward(rows, model, memory, number, w)
        if model.loss == SOFTMAX:
            losses += _softmax_head(rows, model, memory, number)
        else:
            losses += _squares_head(rows, model, memory, number)
        if place.wants_gradient:
            _backward(rows, model, memory, number, w, gradient)
        first += NETWORK_ROWS
    total[0] = losses
