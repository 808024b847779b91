"""The twin of ``csrc/admm/cpu_solve_touched.cpp``."""

from __future__ import annotations

from typing import Any

import numpy as np

from hotloops._runtime._numba_jit import inline, kernel
from hotloops.admm._numba_rows import CHUNK_ROWS, Place, Rows, find_rows

_BLOCK = 256
_STRANDS = 8


@inline
def _add(parameter: int, stamp: int, seen: Any, now: Any, both: Any, counts: Any) -> None:
    if seen[parameter] == stamp:
        return
    if seen[parameter] != stamp - 1:
        both[counts[1]] = parameter
        counts[1] += 1
    seen[parameter] = stamp
    now[counts[0]] = parameter
    counts[0] += 1


@kernel
def list_rows(
    rows: Rows, place: Place, ids: Any, stamp: int, seen: Any, now: Any, both: Any, counts: Any
) -> None:
    """List the columns of the rows of a task."""
    for first in range(place.first, place.last, CHUNK_ROWS):
        number = min(place.last - first, CHUNK_ROWS)
        find_rows(rows, place, first, number, ids)
        for j in range(number):
            for k in range(rows.indptr[ids[j]], rows.indptr[ids[j] + 1]):
                _add(rows.indices[k], stamp, seen, now, both, counts)


@kernel
def list_parameters(
    parameters: Any, stamp: int, seen: Any, now: Any, both: Any, counts: Any
) -> None:
    """List parameters that every batch reaches."""
    for k in range(parameters.size):
        _add(parameters[k], stamp, seen, now, both, counts)


@kernel
def round_touched_slice(
    partials: Any,
    tasks: Any,
    scale: Any,
    alpha: Any,
    sigmas: Any,
    w: Any,
    dual: Any,
    reals: Any,
    doubles: Any,
    sums: Any,
    parameters: Any,
) -> None:
    """Make the local steps and the next global point at some parameters of a slice."""
    step, mean_dual, mean_gradient = doubles[0], doubles[1], doubles[2]
    num_clients = alpha.size
    weight = 0.0
    for client in range(num_clients):
        weight += alpha[client] * sigmas[client]
    strands = np.zeros((6, _STRANDS))
    begin = 0
    while begin < parameters.size:
        end = begin + 1
        while end < parameters.size and parameters[end] // _BLOCK == parameters[begin] // _BLOCK:
            end += 1
        for j in range(end - begin):
            step[j] = 0.0
            mean_dual[j] = 0.0
            mean_gradient[j] = 0.0
        task = 0
        for client in range(num_clients):
            first = task
            while task < tasks.shape[0] and tasks[task, 0] == client:
                task += 1
            reals[0] = sigmas[client]
            for j in range(end - begin):
                p = parameters[begin + j]
                s = p % _STRANDS
                total = 0.0
                for t in range(first, task):
                    total = total + partials[t, p]
                    partials[t, p] = 0
                reals[1] = scale[client] * total
                g = reals[1]
                pi = dual[client, p]
                d = (g + pi) / reals[0]
                step[j] = step[j] + alpha[client] * (2.0 * g + pi)
                dual[client, p] = 0 - g
                own = 1.0 * dual[client, p]
                mean_dual[j] = mean_dual[j] + alpha[client] * own
                mean_gradient[j] = mean_gradient[j] + alpha[client] * g
                moved, point = 1.0 * d, 1.0 * (w[p] - d)
                strands[0, s] = strands[0, s] + alpha[client] * (moved * moved)
                strands[5, s] = strands[5, s] + alpha[client] * (point * point)
        for j in range(end - begin):
            p = parameters[begin + j]
            s = p % _STRANDS
            old = 1.0 * w[p]  # in double
            w[p] = old - step[j] / weight
            new = 1.0 * w[p]
            strands[1, s] = strands[1, s] + (new - old) * (new - old)
            strands[2, s] = strands[2, s] + new * new
            strands[3, s] = strands[3, s] + mean_dual[j] * mean_dual[j]
            strands[4, s] = strands[4, s] + mean_gradient[j] * mean_gradient[j]
        begin = end
    for which in range(6):
        s6 = strands[which]
        sums[which] = ((s6[0] + s6[4]) + (s6[2] + s6[6])) + ((s6[1] + s6[5]) + (s6[3] + s6[7]))
