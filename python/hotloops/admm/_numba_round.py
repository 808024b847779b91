"""The twin of ``csrc/admm/cpu_solve_round.cpp``."""

from __future__ import annotations

from typing import Any

import numpy as np

from hotloops._runtime._numba_jit import inline, kernel
from hotloops.admm._numba_losses import ADAGRAD, ADAM, DIAG, IDENTITY, moment

BLOCK = 256
_STRANDS = 8


@inline
def _add_squares(strands: Any, which: int, weight: float, x: Any, count: int) -> None:
    for k in range(count):
        s = k % _STRANDS
        strands[which, s] = strands[which, s] + weight * (x[k] * x[k])


@kernel
def round_slice(
    partials: Any,
    tasks: Any,
    active: Any,
    scale: Any,
    alpha: Any,
    sigmas: Any,
    rhos: Any,
    betas: Any,
    rates: Any,
    relaxing: Any,
    scheme: int,
    relaxation: float,
    l2: float,
    penalised: int,
    w: Any,
    dual: Any,
    second: Any,
    local: Any,
    gradient: Any,
    doubles: Any,
    reals: Any,
    sums: Any,
    begin: int,
    end: int,
) -> None:
    """Make the local steps and the next global point of a slice of parameters."""
    total, mean_dual, mean_gradient, row, points = (
        doubles[0],
        doubles[1],
        doubles[2],
        doubles[3],
        doubles[4],
    )
    g, penalties = reals[0], reals[1]
    num_clients = alpha.size
    weight = 0.0
    for client in range(num_clients):
        weight += alpha[client] * sigmas[client]
    strands = np.zeros((6, _STRANDS))
    for first in range(begin, end, BLOCK):
        count = min(end - first, BLOCK)
        for k in range(count):
            total[k] = 0.0
            mean_dual[k] = 0.0
            mean_gradient[k] = 0.0
        task = 0
        for client in range(num_clients):
            penalties[0], penalties[1] = sigmas[client], rhos[client]
            sigma, rho = penalties[0], penalties[1]
            if active[client] == 0:
                while task < tasks.shape[0] and tasks[task, 0] == client:
                    task += 1
                for k in range(count):
                    points[k] = local[client, first + k]
            else:
                for k in range(count):
                    row[k] = 0.0
                while task < tasks.shape[0] and tasks[task, 0] == client:
                    for k in range(count):
                        row[k] = row[k] + partials[task, first + k]
                    task += 1
                for k in range(count):
                    g[k] = scale[client] * row[k]
                    mean_gradient[k] = mean_gradient[k] + alpha[client] * g[k]
                    if gradient.size > 0:
                        gradient[client, first + k] = g[k]
                for k in range(count):
                    p = first + k
                    u = g[k] + dual[client, p]
                    if scheme == IDENTITY:
                        d = u / (sigma + rho * (rates[3] + rates[1]))
                    else:
                        q = second[client, p]
                        if scheme != DIAG:
                            q = moment(scheme == ADAGRAD, q, u, betas[0], betas[1])
                            second[client, p] = q
                            if scheme == ADAM:
                                q = q / rates[0]
                            q = np.sqrt(q)
                        if q > rates[2]:
                            q = rates[2]
                        d = u / (sigma + rho * (q + rates[1]))
                    dual[client, p] = dual[client, p] - sigma * d
                    centre = w[p]
                    if relaxation != 1.0:
                        centre = relaxing[0] * w[p] + relaxing[1] * local[client, p]
                    points[k] = centre - d
                if local.size > 0:
                    for k in range(count):
                        local[client, first + k] = points[k]
            for k in range(count):
                pi = float(dual[client, first + k])
                total[k] = total[k] + alpha[client] * (sigmas[client] * points[k] + pi)
                mean_dual[k] = mean_dual[k] + alpha[client] * pi
                row[k] = points[k] - w[first + k]
            _add_squares(strands, 0, alpha[client], row, count)
            _add_squares(strands, 5, alpha[client], points, count)
        for k in range(count):
            p = first + k
            ridge = l2 if p < penalised else 0.0
            old = float(w[p])
            mean_gradient[k] = mean_gradient[k] + ridge * old
            w[p] = total[k] / (weight + ridge)
            points[k] = w[p]
            row[k] = points[k] - old
        _add_squares(strands, 1, 1.0, row, count)
        _add_squares(strands, 2, 1.0, points, count)
        _add_squares(strands, 3, 1.0, mean_dual, count)
        _add_squares(strands, 4, 1.0, mean_gradient, count)
    for which in range(6):
        s = strands[which]
        sums[which] = ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]))
