"""The Numba backend of the step kernels; the twin of ``csrc/admm/cpu_step.cpp``."""

from __future__ import annotations

from typing import Any

import numpy as np

from hotloops._runtime._numba_jit import inline, kernel, map_slices
from hotloops._runtime._numba_math import counter_word_1, philox4x32
from hotloops._runtime._numba_packs import word
from hotloops.admm._rounding import Rounding
from hotloops.admm._rule import Rule
from hotloops.admm._tensors import Tensors

__all__ = ["all_finite", "momentum", "orthogonalize", "sisa"]

_CHUNK = 1 << 15
_CLIENTS_PER_PART = 64
_STREAM_ROUNDING = 0xFFFF
_LOW = word(0xFFFFFFFF)
_SECOND_MOMENT = 2


@kernel
def _client(
    kind: int, w: Any, gradient: Any, dual: Any, moment: Any, sums: Any, c: Any, first: bool
) -> None:
    alpha, sigma, rho, grad_scale, coupled = c[0], c[1], c[2], c[3], c[4]
    constant, eps, keep, gain, correction, cap = c[5], c[6], c[7], c[8], c[9], c[10]
    for j in range(w.size):
        decayed = coupled * w[j] if coupled != 0 else coupled
        u = (grad_scale * gradient[j] + decayed) + dual[j]
        q = constant
        if kind == 1:
            q = moment[j]
        elif kind == 2:
            v = keep * moment[j] + gain * (u * u)
            moment[j] = v
            corrected = v * correction
            q = np.sqrt(cap if corrected > cap else corrected)
        elif kind == 3:
            q = -u if u < 0 else u
        step = sigma * (u / (sigma + rho * (q + eps)))
        dual[j] = dual[j] - step
        share = alpha * (dual[j] - step)
        sums[j] = share if first else sums[j] + share


@inline
def _at_random(bits: int, noise: int) -> int:
    """Return the bits of a bfloat16; see ``float_to_bf16_at_random`` in C++."""
    added = noise if (bits & 0x7FFFFFFF) < 0x7F7F0000 else 0
    return (bits + added) >> 16


@kernel
def _round(duals: Any, dual_bits: Any, moments: Any, moment_bits: Any, place: Any) -> None:
    """Store duals, and moments if there is room for them, in bfloat16."""
    seed, step, row, begin = place
    for j in range(0, duals.size, 4):
        words = philox4x32(
            step & _LOW,
            counter_word_1(step, _STREAM_ROUNDING),
            row,
            (begin + word(j)) >> word(2),
            seed & _LOW,
            seed >> word(32),
        )
        for k in range(j, min(j + 4, duals.size)):
            bits = np.int64(words[k - j] & _LOW)
            dual_bits[k] = _at_random(np.int64(duals[k]), bits & 0xFFFF)
            if moment_bits.size > 0:
                moment_bits[k] = _at_random(np.int64(moments[k]), bits >> 16)


@kernel
def _global(w: Any, sums: Any, c: Any) -> None:
    scale, shrink = c[0], c[1]
    for j in range(w.size):
        w[j] = w[j] + (sums[j] * scale - shrink * w[j])


@kernel
def _momentum(gradient: Any, momenta: Any, out: Any, c: Any) -> None:
    beta, grad_scale = c[0], c[1]
    for j in range(momenta.size):
        scaled = grad_scale * gradient[j]
        momenta[j] = beta * momenta[j] + scaled
        out[j] = scaled + beta * momenta[j]


def sisa(
    tensors: Tensors, rule: Rule, *, starts: bool, finishes: bool, num_threads: int,
    rounding: Rounding | None = None,
) -> None:  # fmt: skip
    """Do the clients' part for the gradients there are, and the global part if it `finishes`."""
    scalars = rule.clients.astype(tensors.dtype)
    closing = np.array([rule.scale, rule.shrink], tensors.dtype)
    for k, w in enumerate(tensors.w):
        sums = tensors.sums[k] if tensors.sums else np.empty_like(w)
        total = np.empty_like(w) if tensors.num_clients > _CLIENTS_PER_PART else w[:0]

        def call(
            nothing: None, begin: int, end: int, *steps: int, k: int = k, w: Any = w,
            sums: Any = sums, total: Any = total,
        ) -> None:  # fmt: skip
            part = slice(begin * _CHUNK, end * _CHUNK)
            _clients(
                tensors, rule.kind, scalars, k, part, starts, sums[part], total[part], rounding
            )
            if finishes:
                _global(w[part], sums[part], closing)

        map_slices(lambda: None, call, -(-w.size // _CHUNK), 1, num_threads)
        if finishes and tensors.copies:
            tensors.copies[k][:] = _narrow(w, tensors.copy_precision)


def _clients(
    tensors: Tensors, kind: int, scalars: Any, k: int, part: slice, starts: bool, sums: Any,
    total: Any, rounding: Rounding | None,
) -> None:  # fmt: skip
    """Do one part of all clients; sums of more than 64 are taken in parts."""
    w = tensors.w[k][part]
    for i in range(tensors.num_clients):
        new_part = i % _CLIENTS_PER_PART == 0
        if new_part and i > 0:
            total[:] = sums if i == _CLIENTS_PER_PART else total + sums
        gradient = _widen(tensors.gradients[k][i][part], tensors)
        dual = tensors.duals[k][i][part]
        moment = tensors.moments[k][i][part] if tensors.moments else w[:0]
        first = new_part and (i > 0 or starts)
        if rounding is None:
            _client(kind, w, gradient, dual, moment, sums, scalars[i], first)
            continue
        duals, moments = _from_bfloat16(dual), _from_bfloat16(moment) if tensors.moments else moment
        _client(kind, w, gradient, duals, moments, sums, scalars[i], first)
        row = int(rounding.rows[k * tensors.num_clients + i])
        place = np.array([rounding.seed, rounding.step, row, part.start], np.uint64)
        stored = moment if kind == _SECOND_MOMENT else moment[:0]
        _round(duals.view(np.uint32), dual, moments.view(np.uint32), stored, place)
    if tensors.num_clients > _CLIENTS_PER_PART:
        sums[:] = total + sums


def momentum(
    tensors: Tensors, momenta: list[Any], out: list[Any], beta: float, grad_scale: float,
    num_threads: int,
) -> None:  # fmt: skip
    """Update momenta with the gradients of the single client, and write the look-ahead."""
    numbers = np.array([beta, grad_scale], tensors.dtype)
    for clients, memory, target in zip(tensors.gradients, momenta, out, strict=True):

        def call(
            nothing: None, begin: int, end: int, *steps: int, gradient: Any = clients[0],
            memory: Any = memory, target: Any = target,
        ) -> None:  # fmt: skip
            part = slice(begin * _CHUNK, end * _CHUNK)
            _momentum(_widen(gradient[part], tensors), memory[part], target[part], numbers)

        map_slices(lambda: None, call, -(-memory.size // _CHUNK), 1, num_threads)


def orthogonalize(
    matrices: Any, out: Any, steps: int, coefficients: tuple[float, ...], num_threads: int
) -> None:
    """Newton-Schulz of (count, rows, columns), by NumPy's matrix products."""
    a, b, c = coefficients
    tall = matrices.shape[1] > matrices.shape[2]
    for given, target in zip(matrices, out, strict=True):
        x = given.T if tall else given
        largest = float(np.abs(x).max())
        if largest == 0.0:
            target[...] = 0.0
            continue
        norm = largest * float(np.linalg.norm(x.astype(np.float64) / largest))
        x = (x / (norm + 1e-7)).astype(given.dtype)
        for _ in range(steps):
            gram = x @ x.T
            x = a * x + (b * gram + c * (gram @ gram)) @ x
        target[...] = x.T if tall else x


def all_finite(tensors: Tensors, num_threads: int) -> bool:
    """Whether all gradients are finite."""
    return all(
        bool(np.isfinite(_widen(array, tensors)).all())
        for clients in tensors.gradients
        for array in clients
    )


def _widen(gradient: Any, tensors: Tensors) -> Any:
    """Return a gradient in the precision of the state."""
    if tensors.gradient_precision == "float16":
        gradient = gradient.view(np.float16)
    elif tensors.gradient_precision == "bfloat16":
        gradient = _from_bfloat16(gradient)
    return gradient.astype(tensors.dtype, copy=False)


def _from_bfloat16(bits: Any) -> Any:
    return (bits.astype(np.uint32) << 16).view(np.float32)


def _narrow(w: Any, precision: str) -> Any:
    """Return the bits of `w` in 16-bit floats, rounded to nearest, ties to even."""
    single = w.astype(np.float32, copy=False)
    if precision == "float16":
        with np.errstate(over="ignore"):
            return single.astype(np.float16).view(np.uint16)
    bits = single.view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> 16) & np.uint32(1))) >> 16
    return np.where(np.isnan(single), (bits >> 16) | 0x40, rounded).astype(np.uint16)
