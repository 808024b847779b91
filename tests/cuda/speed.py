"""Throughput on this GPU beside the CPU and CuPy: ``python -m tests.cuda.speed``.

Each row is checked against the C++ driver before it is timed. The peers are what a user of CuPy
would write: its normal generator, and the loop over whole arrays.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable
from typing import Any

import cupy
import numpy as np

import hotloops
from hotloops import random, sgd

SECONDS = 0.5


def seconds_of(work: Callable[[int], Any], repeats: int = 3) -> float:
    """Return the time of one unit of work: enough units to fill half a second, best of three."""
    work(1)
    cupy.cuda.Device().synchronize()
    units = 1
    while True:
        elapsed = timed(work, units)
        if elapsed > SECONDS / 4:
            break
        units *= 4
    units = max(1, int(units * SECONDS / elapsed))
    return min(timed(work, units) for _ in range(repeats)) / units


def timed(work: Callable[[int], Any], units: int) -> float:
    began = time.perf_counter()
    work(units)
    cupy.cuda.Device().synchronize()
    return time.perf_counter() - began


def normals(dtype: str) -> dict[str, Any]:
    shape = (64, 2**14, 16)
    out = cupy.empty(shape, dtype)
    rows = (cupy.arange(shape[0]), cupy.arange(shape[1]))
    from hotloops.random import _cuda

    def ours(units: int) -> None:
        for unit in range(units):
            _cuda.fill(out, "normals", unit, 0, *rows, 0, 1)

    def cupys(units: int) -> None:
        for _ in range(units):
            cupy.random.standard_normal(shape, dtype=dtype)

    def cpu(units: int) -> None:
        for unit in range(units):
            random.normals(unit, *shape, dtype=dtype, backend="cpp")

    ours(1)
    assert out.get().tobytes() == random.normals(0, *shape, dtype=dtype).tobytes()
    return row(f"normals {dtype}", np.prod(shape), seconds_of(ours), seconds_of(cpu), cupys)


def row(
    name: str,
    updates: Any,
    ours: float,
    cpu: float,
    peer: Callable[[int], Any] | None = None,
) -> dict[str, Any]:
    found = {"row": name, "per_second": float(updates) / ours, "cpu_per_second": updates / cpu}
    if peer is not None:
        found["cupy_per_second"] = float(updates) / seconds_of(peer)
    return found


def run_row(
    name: str, make: Callable[[Any], Any], options: dict[str, Any], peer: Any = None
) -> dict[str, Any]:
    def on(xp: Any, backend: str) -> Callable[[int], Any]:
        problem = make(xp)
        return lambda units: sgd.run(problem, num_steps=100 * units, backend=backend, **options)

    gpu, cpu = on(cupy.asarray, "cuda"), on(np.asarray, "cpp")
    assert gpu(3).mean.get().tobytes() == cpu(3).mean.tobytes(), name
    steps = len(options["step_sizes"])
    updates = 100 * options["num_chains"] * steps * make(np.asarray).dim
    return row(name, updates, seconds_of(gpu), seconds_of(cpu, 1), peer)


def loop_of_cupy(num_chains: int, steps: list[float], dim: int) -> Callable[[int], Any]:
    """Return the quadratic as a loop over arrays (chains, step sizes, dim)."""
    gamma = cupy.asarray(steps, "float32")[None, :, None]

    def work(units: int) -> Any:
        theta = cupy.zeros((num_chains, len(steps), dim), "float32")
        total = cupy.zeros(theta.shape)
        for _ in range(100 * units):
            noise = cupy.random.standard_normal((num_chains, 1, dim), dtype="float32")
            theta -= gamma * (theta - 1 + noise)
            total += theta
        return total

    return work


def quadratic(dtype: str, num_chains: int, dim: int, copies: int) -> dict[str, Any]:
    steps = [0.05, 0.1][:copies]
    return run_row(
        f"quadratic {dtype} C={num_chains} d={dim} J={copies}",
        lambda to: sgd.Quadratic(to(np.ones(dim)), to(np.ones(dim))),
        {
            "step_sizes": steps,
            "num_chains": num_chains,
            "burn_in": 0,
            "dtype": dtype,
            "statistics": ("mean",),
        },
        loop_of_cupy(num_chains, steps, dim) if dtype == "float32" else None,
    )


def general() -> list[dict[str, Any]]:
    """What the general kernel costs beside the one that it stands in for, and the streams."""
    options = {"step_sizes": [0.05, 0.1], "num_chains": 16384, "burn_in": 0, "dtype": "float32"}
    bare = {**options, "statistics": ("mean",)}
    generator = np.random.default_rng(1)
    features = (generator.standard_normal((569, 30)) / 6).astype("float32")
    labels = (features[:, 0] > 0).astype("float32")
    matrices = -np.eye(4) + generator.standard_normal((6, 4, 4)) / 8
    transitions = np.full((6, 6), 1 / 6)

    def quadratic_of(to: Callable[[Any], Any]) -> Any:
        return sgd.Quadratic(to(np.ones(16)), to(np.ones(16)))

    def logistic_of(to: Callable[[Any], Any]) -> Any:
        return sgd.Logistic(to(features), to(labels), l2=0.01)

    def stream_of(to: Callable[[Any], Any]) -> Any:
        return sgd.StreamingLogistic(to(np.ones(10)))

    def markov_of(to: Callable[[Any], Any]) -> Any:
        return sgd.MarkovLSA(to(matrices), to(np.ones((6, 4))), to(transitions))

    return [
        run_row("quadratic d=16, intervals", quadratic_of, options),
        run_row("quadratic d=16, clipped", quadratic_of, {**bare, "clip_norm": 3.0}),
        run_row("logistic N=569 d=30, intervals", logistic_of, options),
        run_row("streaming_logistic d=10", stream_of, bare),
        run_row("streaming_logistic d=10, intervals", stream_of, options),
        run_row("markov_lsa S=6 d=4", markov_of, bare),
    ]


def rows() -> list[dict[str, Any]]:
    found = [normals("float32"), normals("float64")]
    shapes = ((1024, 16, 1), (65536, 16, 1), (65536, 16, 2), (4096, 256, 2))
    found += [quadratic(dtype, *shape) for shape in shapes for dtype in ("float32", "float64")]
    generator = np.random.default_rng(0)
    factor = np.tril(generator.standard_normal((16, 16))) / 4
    found.append(
        run_row(
            "quadratic_full float32 C=16384 d=16 J=2",
            lambda to: sgd.Quadratic(to(np.eye(16)), to(np.ones(16)), cholesky=to(factor)),
            {
                "step_sizes": [0.05, 0.1],
                "num_chains": 16384,
                "burn_in": 0,
                "dtype": "float32",
                "statistics": ("mean",),
            },
        )
    )
    for num_rows, dim, num_chains in ((569, 30, 1024), (569, 30, 65536), (32561, 123, 16384)):
        features = (generator.standard_normal((num_rows, dim)) / 6).astype("float32")
        labels = (features[:, 0] > 0).astype("float32")
        found.append(
            run_row(
                f"logistic float32 N={num_rows} C={num_chains} d={dim} J=2",
                lambda to, x=features, y=labels: sgd.Logistic(to(x), to(y), l2=0.01),
                {
                    "step_sizes": [0.05, 0.1],
                    "num_chains": num_chains,
                    "burn_in": 0,
                    "statistics": ("mean",),
                },
            )
        )
    return found + general()


def main() -> None:
    warnings.simplefilter("ignore", RuntimeWarning)  # runs for their speed need no burn-in
    device = cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()
    threads = hotloops.get_num_threads()
    print(f"{device}; coordinate updates (or numbers) per second; CPU with {threads} threads")
    for found in rows():
        ratio = found["per_second"] / found["cpu_per_second"]
        peer = found.get("cupy_per_second")
        beside = f"  {found['per_second'] / peer:8.1f} x CuPy" if peer else ""
        print(f"{found['row']:44s} {found['per_second']:.3e}  {ratio:8.1f} x CPU{beside}")
        print("JSON", json.dumps(found))


if __name__ == "__main__":
    main()
