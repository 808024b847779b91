"""The twin of ``csrc/admm/cpu_solve_optimistic.cpp``; the face sorts the products."""

from __future__ import annotations

from typing import Any

import numpy as np

from hotloops._runtime._numba_jit import inline, kernel
from hotloops.admm._numba_rows import CHUNK_ROWS, Model, Place, Rows, find_rows

_SLICE = 4096
_STRANDS = 8


@kernel
def count_products(rows: Rows, place: Place, ids: Any) -> int:
    """Count the entries of the rows of a task."""
    count = 0
    for first in range(place.first, place.last, CHUNK_ROWS):
        number = min(place.last - first, CHUNK_ROWS)
        find_rows(rows, place, first, number, ids)
        for j in range(number):
            count += rows.indptr[ids[j] + 1] - rows.indptr[ids[j]]
    return count


@kernel
def write_products(
    rows: Rows,
    model: Model,
    place: Place,
    ids: Any,
    slopes: Any,
    task: int,
    num_tasks: int,
    keys: Any,
    values: Any,
) -> None:
    """Write slopes times entries; the key is the parameter and, below it, the task."""
    at = 0
    for first in range(place.first, place.last, CHUNK_ROWS):
        number = min(place.last - first, CHUNK_ROWS)
        find_rows(rows, place, first, number, ids)
        for j in range(number):
            slope = slopes[first - place.first + j]
            for k in range(rows.indptr[ids[j]], rows.indptr[ids[j] + 1]):
                keys[at] = int(rows.indices[k]) * num_tasks + task
                values[at] = rows.values[k] * slope if rows.has_values else slope
                at += 1
            if model.intercept:
                keys[at] = rows.columns * num_tasks + task
                values[at] = slope
                at += 1


@inline
def _fold(s: Any) -> Any:
    return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]))


@kernel
def walk(
    keys: Any,
    values: Any,
    tasks: Any,
    old_parameters: Any,
    old_clients: Any,
    old_values: Any,
    num_old: int,
    new_parameters: Any,
    new_clients: Any,
    new_values: Any,
    scale: Any,
    alpha: Any,
    sigmas: Any,
    w: Any,
    sums: Any,
    reals: Any,
) -> int:
    """Go through products and old duals by parameters; return how many duals are new."""
    num_tasks, num_products, num_new = tasks.shape[0], keys.size, 0
    weight = 0.0
    for client in range(alpha.size):
        weight += alpha[client] * sigmas[client]
    strands = np.zeros((6, _STRANDS))
    none = np.int64(2**62)
    product = old = 0
    piece = -1
    while product < num_products or old < num_old:
        parameter = keys[product] // num_tasks if product < num_products else none
        if old < num_old and old_parameters[old] < parameter:
            parameter = old_parameters[old]
        if parameter // _SLICE != piece:
            if piece >= 0:
                for which in range(6):
                    sums[piece, which] = _fold(strands[which])
            strands[:] = 0.0
            piece = parameter // _SLICE
        step = mean_dual = mean_gradient = moved = point = 0.0
        before = 1.0 * w[parameter]  # in double
        while True:
            client = none
            if product < num_products and keys[product] // num_tasks == parameter:
                client = tasks[keys[product] % num_tasks, 0]
            is_new = client != none
            is_old = False
            if old < num_old and old_parameters[old] == parameter:
                if old_clients[old] < client:
                    is_new = False
                    client = np.int64(old_clients[old])
                is_old = old_clients[old] == client
            if client == none:
                break
            reals[0] = 0.0
            if is_new:
                total = 0.0
                while (
                    product < num_products
                    and keys[product] // num_tasks == parameter
                    and tasks[keys[product] % num_tasks, 0] == client
                ):
                    key = keys[product]
                    reals[1] = 0.0
                    while product < num_products and keys[product] == key:
                        reals[1] = reals[1] + values[product]
                        product += 1
                    total = total + reals[1]
                reals[0] = scale[client] * total
            g = reals[0]
            reals[1] = 0.0
            if is_old:
                reals[1] = old_values[old]
                old += 1
            pi = reals[1]
            reals[1] = sigmas[client]
            d = (g + pi) / reals[1]
            reals[1] = w[parameter] - d
            local = 1.0 * reals[1]
            apart = 1.0 * d
            reals[1] = 0 - g
            dual = reals[1]
            step = step + alpha[client] * (2.0 * g + pi)
            mean_dual = mean_dual + alpha[client] * dual
            mean_gradient = mean_gradient + alpha[client] * g
            moved = moved + alpha[client] * (apart * apart)
            point = point + alpha[client] * (local * local - before * before)
            if is_new:
                new_parameters[num_new] = parameter
                new_clients[num_new] = client
                new_values[num_new] = dual
                num_new += 1
        w[parameter] = before - step / weight
        after = 1.0 * w[parameter]
        s = parameter % _STRANDS
        strands[0, s] = strands[0, s] + moved
        strands[1, s] = strands[1, s] + (after - before) * (after - before)
        strands[2, s] = strands[2, s] + after * after
        strands[3, s] = strands[3, s] + mean_dual * mean_dual
        strands[4, s] = strands[4, s] + mean_gradient * mean_gradient
        strands[5, s] = strands[5, s] + point
    if piece >= 0:
        for which in range(6):
            sums[piece, which] = _fold(strands[which])
    return num_new
