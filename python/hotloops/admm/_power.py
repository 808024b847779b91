"""Lipschitz constants of the clients' gradients by power iterations."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops.admm._data import ClientData
from hotloops.admm._losses import as_loss
from hotloops.admm._work import Batch, Work

__all__ = ["largest_eigenvalues"]


def largest_eigenvalues(
    make_driver: Any, data: ClientData, num_iterations: int = 20
) -> npt.NDArray[np.float64]:
    """Return lambda_max of ``X_i^T S_i X_i / sum(S_i)`` for each client, from below.

    The product with that matrix is the gradient of least squares with targets of zero, so that the
    kernel of the solver does the work, for all clients at once.
    """
    zeros = [
        replace(one, targets=np.zeros(one.num_rows, data.dtype), labels=None)
        for one in data.matrices
    ]
    layers = np.array([data.layers[0], 1], np.int64)
    squares = replace(data, matrices=zeros, layers=layers, loss=as_loss("solve", "squares"))
    driver = make_driver(squares)
    work = Work.prepare(squares, None)
    # Positive and of many sizes: no eigenvector of data of one sign is orthogonal to it.
    start = 1.0 + 0.5 * np.sin(np.arange(1.0, squares.dim + 1.0))
    v = np.tile(start / np.linalg.norm(start), (data.num_clients, 1)).astype(data.dtype)
    values = np.zeros(data.num_clients)
    for _ in range(num_iterations):
        driver.gradient(work, Batch(), v, partials=work.partials)
        product = work.client_gradients(data.num_clients).astype(np.float64)
        values = np.linalg.norm(product, axis=1)
        safe = np.where(values > 0.0, values, 1.0)
        v = np.ascontiguousarray(product / safe[:, None], data.dtype)
    return values
