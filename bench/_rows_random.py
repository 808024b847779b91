"""Ways to fill an array with standard normals on one thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


def hotloops(count: int, dtype: str, backend: str) -> Callable[[], Any]:
    """Return hotloops.random.normals."""
    from hotloops import random

    out = np.empty((1, 1, count), dtype)

    def call() -> Any:
        random.normals(7, 1, 1, count, dtype=dtype, out=out, backend=backend, num_threads=1)
        return out.reshape(count)

    return call


def numpy(count: int, dtype: str, generator: str) -> Callable[[], Any]:
    """Return numpy.random.Generator.standard_normal, a ziggurat."""
    rng = np.random.Generator(getattr(np.random, generator)(1))
    out = np.empty(count, dtype)
    precision: Any = np.dtype(dtype).type

    def call() -> Any:
        return rng.standard_normal(out=out, dtype=precision)

    return call


def torch(count: int, dtype: str) -> Callable[[], Any]:
    """Return torch.Tensor.normal_."""
    import torch

    out = torch.empty(count, dtype=getattr(torch, dtype))

    def call() -> Any:
        torch.set_num_threads(1)
        return out.normal_()

    return call


def jax(count: int, dtype: str, generator: str) -> Callable[[], Any]:
    """Return jax.random.normal, compiled."""
    import jax

    draw = jax.jit(lambda key: jax.random.normal(key, (count,), dtype))
    key = jax.random.key(1, impl=generator)
    return lambda: jax.block_until_ready(draw(key))
