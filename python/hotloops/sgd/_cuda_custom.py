"""Gradients written in CUDA C++, compiled by CuPy together with the package's headers."""

from __future__ import annotations

import functools
import os
from typing import Any

import numpy as np

import hotloops
from hotloops._runtime import dispatch
from hotloops._runtime.device import LaunchQueue, Place
from hotloops.sgd._state import ChainArrays

__all__ = ["advance", "source_of"]

_NAME = "hl_cuda_sgd_custom"
_THREADS_PER_BLOCK = 128
_GENERAL_THREADS_PER_BLOCK = 64
_MOST_BLOCKS = 2**31 - 1
_NO_FAILURE = 2**64 - 1
_REALS = {"float32": "float", "float64": "double"}
# What a step costs beside its random numbers, for the length of a launch only: a guess.
_OPERATIONS_PER_COORDINATE = 40
_OPERATIONS_PER_BLOCK = 240


def source_of(
    source: str,
    entry: str,
    dtype: str,
    dim: int,
    copies: int,
    num_normals: int,
    num_uniforms: int,
    general: bool = False,
) -> str:
    """Return the CUDA C++ of a kernel around the function `entry` of the user's `source`.

    `general` is the one with rules and statistics.
    """
    macro = "HL_SGD_CUSTOM_GENERAL_KERNEL" if general else "HL_SGD_CUSTOM_KERNEL"
    return (
        f"// hotloops {hotloops.__version__}\n"
        "#include <hotloops/sgd/custom_cuda.cuh>\n"
        f"{source}\n"
        f"{macro}({_NAME}, {_REALS[dtype]}, {entry}, {dim}, {copies}, "
        f"{num_normals}, {num_uniforms})\n"
    )


def advance(
    chains: Any,
    arrays: ChainArrays,
    parameters: tuple[Any, ...],
    *,
    general: bool,
    place: Place,
    seed: int,
    chain_offset: int,
    first_step: int,
    num_steps: int,
    accumulate: bool,
    divergence_limit: float,
) -> None:
    """Make `num_steps` steps of all chains, in place.

    `chains` are what `arrays` are bound to, with rules and statistics when `general`. `parameters`:
    source, name of the gradient in it, CuPy array that it gets as ``data`` or None, number of
    normals, number of uniforms. It waits for the steps, to see whether a gradient failed.
    """
    import cupy

    source, entry, data, num_normals, num_uniforms = parameters
    num_chains, copies, dim = (int(length) for length in arrays.theta.shape)
    dtype = str(arrays.theta.dtype)
    kernel = _compile(
        source, entry, dtype, dim, copies, num_normals, num_uniforms, general, place.device
    )
    module = dispatch.cuda()
    threads, blocks, workspace = _grid(module, chains, num_chains, general)
    whole = chains.descriptor(
        seed, chain_offset, first_step, num_steps, accumulate, divergence_limit
    )
    given = cupy.asarray(np.frombuffer(whole, np.uint8))
    failed = cupy.asarray(np.array([_NO_FAILURE], dtype=np.uint64))
    cost = _cost(dtype, dim, copies, num_normals + num_uniforms)
    if general:
        cost += module.sgd_statistics_cost(chains)
    queue = LaunchQueue()
    end = first_step + num_steps
    while first_step < end:
        count = module.sgd_launch_steps(first_step, end - first_step, num_chains, cost)
        values = (
            given,
            np.int64(first_step),
            np.int64(count),
            np.uint64(0) if data is None else data,
            failed,
            np.uint64(0) if workspace is None else workspace,
        )
        kernel((blocks,), (threads,), values)
        queue.launched()
        first_step += count
    _check(int(failed.get()[0]))


def _grid(module: Any, chains: Any, num_chains: int, general: bool) -> tuple[int, int, Any]:
    """Return threads a block, blocks, and the workspace of the general kernel."""
    if not general:
        blocks = min(-(-num_chains // _THREADS_PER_BLOCK), _MOST_BLOCKS)
        return _THREADS_PER_BLOCK, blocks, None
    import cupy

    threads = _GENERAL_THREADS_PER_BLOCK
    block_bytes = threads * module.sgd_custom_thread_bytes(chains)
    size = module.sgd_workspace(-(-num_chains // threads), block_bytes)
    return threads, size // block_bytes, cupy.empty(size, dtype="uint8")


@functools.lru_cache(maxsize=64)
def _compile(
    source: str,
    entry: str,
    dtype: str,
    dim: int,
    copies: int,
    num_normals: int,
    num_uniforms: int,
    general: bool,
    device: int,
) -> Any:
    """Return the kernel around a gradient, for one device.

    `cupy.RawModule` would flush small numbers to zero, and the bits would differ from the CPU's.
    """
    import cupy

    if not entry.isidentifier():
        raise ValueError(f"sgd_custom: the name of the gradient must be a name, got {entry!r}")
    text = source_of(source, entry, dtype, dim, copies, num_normals, num_uniforms, general)
    headers = hotloops.get_include()
    options = (
        "--std=c++17",
        "--fmad=false",
        f"--gpu-architecture=sm_{cupy.cuda.Device(device).compute_capability}",
        f"-I{headers}",
        f"-I{os.path.join(headers, 'hotloops', 'core', 'rtc')}",
    )
    nvrtc = cupy.cuda.nvrtc
    program = nvrtc.createProgram(text, f"{_NAME}.cu", (), ())
    try:
        nvrtc.compileProgram(program, options)
        code = nvrtc.getCUBIN(program)
    except nvrtc.NVRTCError as error:
        log = nvrtc.getProgramLog(program)
        raise ValueError(f"sgd_custom: the CUDA source does not compile: {log}") from error
    finally:
        nvrtc.destroyProgram(program)
    module = cupy.cuda.function.Module()
    module.load(code)
    return module.get_function(_NAME)


def _cost(dtype: str, dim: int, copies: int, num_random: int) -> float:
    operation = float(getattr(dispatch.cuda(), f"sgd_operation_cost_{dtype}"))
    blocks = -(-num_random // 4) + 1
    return operation * (_OPERATIONS_PER_BLOCK * blocks + _OPERATIONS_PER_COORDINATE * copies * dim)


def _check(failed: int) -> None:
    if failed == _NO_FAILURE:
        return
    chain, returned = failed >> 32, failed & 0xFFFFFFFF
    code = returned - 2**32 if returned >= 2**31 else returned
    raise RuntimeError(
        f"sgd_custom: the user's function returned {code} at index {chain} (status 4)"
    )
