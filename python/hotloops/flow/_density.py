"""Densities: the divergence of a network integrated along its flow."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops import random
from hotloops._runtime import dispatch, threads, validate
from hotloops.flow._branches import Branches, make_branches
from hotloops.flow._integrate import integrate
from hotloops.flow._network import VelocityNetwork
from hotloops.nn._network import kernels_of
from hotloops.nn._tables import Batch

__all__ = ["log_density"]

_STREAM_PROBES = 16
_EXACT_COLUMNS = 64


def log_density(
    where: str,
    network: VelocityNetwork,
    points: npt.NDArray[Any],
    labels: Any,
    weights: Any,
    log_size: Any,
    divergence: str | None,
    num_probes: int,
    seed: int,
    options: dict[str, Any],
) -> npt.NDArray[np.float64]:
    """Return log p (n,) of the points (n, d) under the flow of standard normal noise."""
    n, d = points.shape
    kind = ("exact" if d <= _EXACT_COLUMNS else "hutchinson") if divergence is None else divergence
    validate.choice(where, "divergence", kind, ("exact", "hutchinson"))
    count = validate.integer(where, "num_probes", num_probes, low=1)
    key = validate.integer(where, "seed", seed, low=0, high=2**64 - 1)
    for name in ("t0", "t1", "t_eval", "out", "full_output"):
        if name in options:
            raise TypeError(f"{where}: unexpected argument `{name}`")
    given = dict(options)
    backend = dispatch.resolve_backend(where, given.pop("backend", None), "cpu")
    num_threads = threads.resolve_num_threads(where, given.pop("num_threads", None))
    branches = make_branches(where, labels, weights, network.attributes, n)
    sizes = network.size_inputs(where, log_size, n)
    probes = np.repeat(np.eye(d)[:, None], n, axis=1)
    if kind == "hutchinson":
        drawn = random.uniforms(key, count, n, d, _STREAM_PROBES, backend=backend)
        probes = np.where(drawn < 0.5, -1.0, 1.0)
    field = _Augmented(network, branches, sizes, probes, kind == "exact", backend, num_threads)
    start = np.concatenate([points, np.zeros((n, 1), points.dtype)], axis=1)
    ends = integrate(field, start, t0=1.0, t1=0.0, **given).astype(np.float64)
    noise, lost = ends[:, :d], ends[:, d]
    # `lost` is the integral of the divergence from 1 back to 0.
    total: npt.NDArray[np.float64] = (
        lost - 0.5 * (noise * noise).sum(axis=1) - 0.5 * d * np.log(2.0 * np.pi)
    )
    return total


class _Augmented:
    """The velocity of a point together with its divergence."""

    def __init__(
        self,
        network: VelocityNetwork,
        branches: Branches,
        sizes: list[npt.NDArray[Any]],
        probes: npt.NDArray[np.float64],
        exact: bool,
        backend: str,
        num_threads: int,
    ) -> None:
        self._network, self._branches = network, branches
        self._kernels, self._num_threads = kernels_of(backend), num_threads
        copies = len(probes)
        self._tables = [
            [np.tile(codes, copies) for codes in branches.labels[b]] for b in range(branches.count)
        ]
        self._sizes = [np.tile(size, (copies, 1)) for size in sizes]
        self._probes = probes.astype(network.dtype)
        self._scale = 1.0 if exact else 1.0 / copies

    def __call__(self, state: npt.NDArray[Any], t: npt.NDArray[Any]) -> npt.NDArray[Any]:
        copies, _, d = self._probes.shape
        z = np.ascontiguousarray(state[:, :d])
        dense = [np.tile(z, (copies, 1)), np.tile(t, copies)[:, None], *self._sizes]
        parts = [self._branch(dense, tables) for tables in self._tables]
        total: npt.NDArray[Any] = parts[0].copy()
        weights = self._branches.weights.astype(state.dtype)
        for part, weight in zip(parts[1:], weights, strict=True):
            total += weight.reshape(-1, 1) * (part - parts[0])
        return total

    def _branch(self, dense: list[Any], tables: list[Any]) -> npt.NDArray[Any]:
        """Return the velocity (n, d) of one branch, and its divergence, side by side."""
        copies, n, d = self._probes.shape
        network, program = self._network, self._network.program
        memory = network.flat_parameters, network.flat_buffers
        batch = Batch(dense, [], tables, copies * n)
        run = self._kernels.Run(program, *memory, batch, False, 0, 0, self._num_threads)
        value = np.empty((n, d + 1), network.dtype)
        slopes = np.empty((copies * n, d), network.dtype)
        run.read(program.outputs[0], slopes)
        value[:, :d] = slopes[:n]
        probes = self._probes.reshape(copies * n, d)
        unused = np.empty_like(network.flat_parameters)
        gradient = run.backward([probes], unused)[0]
        products = (gradient * probes).sum(axis=1).reshape(copies, n)
        value[:, d] = self._scale * products.sum(axis=0)
        return value
