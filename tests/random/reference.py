"""The stream of random numbers in plain NumPy, written from its definition, not from the package.

Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]

_MASK = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)


def philox(counter: Any, key: Any) -> Words:
    """Philox4x32-10 of counters (..., 4) under keys (..., 2), as 64-bit integers below 2**32."""
    c = [np.asarray(counter)[..., i].astype(np.uint64) for i in range(4)]
    k = [np.asarray(key)[..., i].astype(np.uint64) for i in range(2)]
    for round_ in range(10):
        if round_ > 0:
            k = [(k[0] + np.uint64(0x9E3779B9)) & _MASK, (k[1] + np.uint64(0xBB67AE85)) & _MASK]
        p0 = np.uint64(0xD2511F53) * c[0]
        p1 = np.uint64(0xCD9E8D57) * c[2]
        c = [(p1 >> _SHIFT) ^ c[1] ^ k[0], p1 & _MASK, (p0 >> _SHIFT) ^ c[3] ^ k[1], p0 & _MASK]
    return np.stack(np.broadcast_arrays(*c), axis=-1)


def words(seed: int, step: Any, chain: Any, block: Any, stream: int) -> Words:
    """Four words at each (step, chain, block); the indices are broadcast against each other."""
    step, chain, block = np.broadcast_arrays(
        np.asarray(step, np.uint64), np.asarray(chain, np.uint64), np.asarray(block, np.uint64)
    )
    high = (step >> _SHIFT) | np.uint64(stream << 16)
    counter = np.stack([step & _MASK, high, chain, block], axis=-1)
    return philox(counter, np.array([seed & 0xFFFFFFFF, seed >> 32], np.uint64))


def counter_of(block: Any, key: Any) -> Words:
    """The counters whose words these are: Philox backwards."""
    c = [np.asarray(block)[..., i].astype(np.uint64) for i in range(4)]
    bumps = (0x9E3779B9, 0xBB67AE85)
    inverse_0 = np.uint64(pow(0xD2511F53, -1, 2**32))
    inverse_1 = np.uint64(pow(0xCD9E8D57, -1, 2**32))
    for round_ in reversed(range(10)):
        k = [np.uint64((int(key[i]) + round_ * bumps[i]) % 2**32) for i in range(2)]
        c0, c2 = (c[3] * inverse_0) & _MASK, (c[1] * inverse_1) & _MASK
        p0, p1 = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
        c = [c0, (p1 >> _SHIFT) ^ c[0] ^ k[0], c2, (p0 >> _SHIFT) ^ c[2] ^ k[1]]
    return np.stack(c, axis=-1)


def box_muller(block: Words, *, offset: int = 1) -> npt.NDArray[np.longdouble]:
    """Four normals from four words, in extended precision; whole quarter turns are exact.

    The uniform of the radius is ``(2 x + offset) 2^-33``.
    """
    x = block.astype(np.int64)
    normals = np.empty(x.shape, np.longdouble)
    half_pi = np.longdouble("1.57079632679489661923132169163975144")
    for i in (0, 2):
        uniform = (2 * x[..., i] + offset).astype(np.longdouble) * np.longdouble(2.0**-33)
        radius = np.sqrt(-2 * np.log(uniform))
        quadrant = (x[..., i + 1] + 2**29) >> 30
        turn = (x[..., i + 1] - (quadrant << 30)).astype(np.longdouble) * half_pi / 2**30
        sine, cosine = np.sin(turn), np.cos(turn)
        quadrant %= 4
        along = np.choose(quadrant, [cosine, -sine, -cosine, sine])
        across = np.choose(quadrant, [sine, cosine, -sine, -cosine])
        normals[..., i], normals[..., i + 1] = radius * along, radius * across
    return normals
