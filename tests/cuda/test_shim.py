"""The CUDA kernels, run thread by thread on a CPU, return the bits of the C++ drivers."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from hotloops import DivergenceWarning, random, sgd
from hotloops.random import _cpp as random_cpp
from hotloops.random import _cuda as random_cuda
from tests.cuda.cases import (
    KERNELS,
    Case,
    assert_same_bits,
    on_device,
    run_cpp,
    run_cuda,
    to_host,
)

DIMS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 31, 33, 64, 66, 128, 130)
SEPARABLE = ("quadratic", "cosine")
ROWS = ("least_squares", "logistic")


def sizes(kernel: str, dtype: str, dim: int) -> tuple[int, int]:
    """Another number of chains and of copies for each case, so that all of them meet."""
    number = KERNELS.index(kernel) + 5 * DIMS.index(dim) + 2 * (dtype == "float64")
    chains = (1, 7, 19) if dim > 60 else (1, 7, 257)
    return chains[number % 3], 1 + number % 5


def compare(cupy: Any, case: Case, parts: tuple[int, ...] = (3, 6), burn_in: int = 1) -> Any:
    expected = run_cpp(case, parts, burn_in)
    assert_same_bits(run_cuda(cupy, case, parts, burn_in), expected)
    return expected


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_every_kernel_and_size(cuda: Any, kernel: str, dtype: str, dim: int) -> None:
    num_chains, copies = sizes(kernel, dtype, dim)
    case = Case(kernel, dtype, dim, num_chains, copies)
    chains = compare(cuda, case)
    assert not chains.flags.any()


@pytest.mark.parametrize("dim", [2, 6, 33, 130])
@pytest.mark.parametrize("copies", range(1, 10))
@pytest.mark.parametrize("kernel", KERNELS)
def test_every_number_of_copies(cuda: Any, kernel: str, copies: int, dim: int) -> None:
    compare(cuda, Case(kernel, "float32", dim, num_chains=5, copies=copies), parts=(4,), burn_in=0)


def limit_for_half(case: Case, num_steps: int) -> float:
    """Return the limit that half of all copies leave within so many steps."""
    chains = case.chains()
    largest = np.zeros(chains.flags.shape)
    for step in range(num_steps):
        chains = run_cpp(case.with_(first_step=case.first_step + step), (1,), start=chains)
        largest = np.maximum(largest, np.abs(chains.theta).max(axis=2))
    return float(np.median(largest))


@pytest.mark.parametrize("dim", [1, 3, 5, 9, 17, 33, 130, 200])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_divergence_freezes_whole_copies(cuda: Any, kernel: str, dtype: str, dim: int) -> None:
    parts = (4, 1, 7, 9)
    case = Case(kernel, dtype, dim, num_chains=23, copies=3, spread=0.01)
    case = case.with_(divergence_limit=limit_for_half(case, sum(parts)))
    chains = compare(cuda, case, parts, burn_in=1)
    flags = chains.flags.astype(bool)
    assert 0.3 < flags.mean() < 0.7
    # They stopped in different parts: the later ones began with copies that were frozen already.
    stops = chains.diverged_at[flags] - case.first_step
    assert len(np.unique(np.digitize(stops, np.cumsum((0, *parts))))) >= 2


@pytest.mark.parametrize("kernel", KERNELS)
def test_not_finite(cuda: Any, kernel: str) -> None:
    """Overflow and NaN freeze a copy as a number beyond the limit does."""
    case = Case(kernel, "float32", 6, divergence_limit=3e38)
    parameters = on_device(cuda, case.parameters())
    chains = case.chains()
    chains.step_sizes[:] = (0.1, 3e37)
    device = on_device(cuda, chains)
    options: dict[str, Any] = {
        "seed": 3, "chain_offset": 0, "first_step": 0, "num_steps": 12, "accumulate": True,
        "divergence_limit": 3e38, "num_threads": 1,
    }  # fmt: skip
    sgd._cpp.advance(chains, kernel, case.parameters(), **options)
    sgd._cuda.advance(device, kernel, parameters, **options)
    assert_same_bits(device, chains)
    assert chains.flags[:, 1].all()
    assert not chains.flags[:, 0].any()


@pytest.mark.parametrize(("dim", "batch_size"), [(3, 1), (5, 2), (9, 3), (33, 4), (130, 7)])
@pytest.mark.parametrize("num_rows", [1, 3, 50])
@pytest.mark.parametrize("sampling", [0, 1, 2])
def test_row_sampling(cuda: Any, sampling: int, num_rows: int, dim: int, batch_size: int) -> None:
    """Epochs end within a batch, within a launch and between launches."""
    case = Case(
        "logistic", "float32", dim, num_chains=3, first_step=20_000_000,
        num_rows=num_rows, batch_size=batch_size, sampling=sampling,
    )  # fmt: skip
    compare(cuda, case, parts=(5, 2, 30), burn_in=0)


@pytest.mark.parametrize("num_rows", [2**20, 2**20 + 1, 3 * 2**19 + 5])
@pytest.mark.parametrize("sampling", [0, 1])
def test_many_rows(cuda: Any, sampling: int, num_rows: int) -> None:
    """Above 2**20 rows the words that would bias the choice are drawn again."""
    case = Case(
        "least_squares", "float32", 2, num_chains=257, copies=1, num_rows=num_rows,
        batch_size=5, sampling=sampling,
    )  # fmt: skip
    compare(cuda, case, parts=(16,), burn_in=0)


@pytest.mark.parametrize("first_step", [2**32 - 4, 5 * 2**32 - 1, 2**48 - 12])
@pytest.mark.parametrize("kernel", KERNELS)
def test_counters(cuda: Any, kernel: str, first_step: int) -> None:
    """Steps beyond 32 bits, within a call; the last chains; the largest seed."""
    case = Case(
        kernel, "float64", 5, num_chains=9, first_step=first_step, seed=2**64 - 1,
        chain_offset=2**32 - 9, batch_size=1,
    )  # fmt: skip
    compare(cuda, case, parts=(11,), burn_in=0)


@pytest.mark.parametrize("kernel", KERNELS)
def test_many_launches(cuda: Any, kernel: str) -> None:
    """A long call is cut into launches, and the caller waits for the early ones."""
    case = Case(kernel, "float32", 1, num_chains=2, copies=1, batch_size=1)
    before = cuda.shim.launches()
    compare(cuda, case, parts=(30_500, 15_000), burn_in=0)
    launches = cuda.shim.launches() - before
    assert 6 <= launches <= 12
    assert cuda.cuda.Event.waited >= 1


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("dim", [3, 17, 130])
@pytest.mark.parametrize("kernel", KERNELS)
def test_cut_grid_and_order_of_lanes(cuda: Any, kernel: str, dim: int, backwards: bool) -> None:
    """A grid of two blocks does the work of all; lanes wait for each other in either order."""
    cuda.shim.set_max_blocks(2)
    cuda.shim.set_backwards(backwards)
    case = Case(kernel, "float32", dim, num_chains=91, copies=2)
    case = case.with_(divergence_limit=limit_for_half(case, 9))
    assert compare(cuda, case).flags.any()


@pytest.mark.parametrize("kernel", KERNELS)
def test_little_workspace(cuda: Any, kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chains take turns when the workspace has no room for all."""
    case = Case(kernel, "float64", 140, num_chains=70, copies=3)
    case = case.with_(divergence_limit=limit_for_half(case, 9))
    full = sgd._cuda._workspace
    sizes: list[int] = []

    def little(size: int) -> Any:
        sizes.append(size)
        return full(-(-size // 3))

    monkeypatch.setattr(sgd._cuda, "_workspace", little)
    compare(cuda, case)
    assert all(size > 0 for size in sizes)
    assert len(sizes) == 2


@pytest.mark.parametrize("kernel", KERNELS)
def test_no_workspace_is_an_error(cuda: Any, kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sgd._cuda, "_workspace", lambda size: None)
    case = Case(kernel, "float32", 129)
    with pytest.raises(RuntimeError, match=f"sgd_{kernel}.*status 5"):
        run_cuda(cuda, case, (1,))


@pytest.mark.parametrize("kernel", KERNELS)
def test_workspace_stays_bounded(cuda: Any, kernel: str) -> None:
    """2**20 chains of 1000 coordinates take no more than 64 MiB beyond the caller's arrays."""
    chains = cuda.shim.SgdChainsFloat64(0, 0, 0, 0, 0, 2**20, 4, 1000, 0, 0)
    size = getattr(cuda.shim, f"sgd_{kernel}_workspace")(chains)
    assert 2**25 < size <= 2**26
    chains = cuda.shim.SgdChainsFloat64(0, 0, 0, 0, 0, 2**20, 4, 128, 0, 0)
    assert getattr(cuda.shim, f"sgd_{kernel}_workspace")(chains) == 0


def test_launch_steps(cuda: Any) -> None:
    steps = cuda.shim.sgd_launch_steps
    assert steps(0, 10**9, 1, 100.0) == 10_000
    assert steps(0, 7, 1, 100.0) == 7
    assert steps(2**32 - 3, 100, 1, 1.0) == 3
    assert steps(2**32, 100, 1, 1.0) == 100
    # Work of 2e12 operations a second, and threads of 5e8: below half a second.
    for threads, cost in itertools.product((1, 10**4, 10**7), (100.0, 1e4, 1e6)):
        count = steps(0, 10**9, threads, cost)
        assert count == 4 or (count * threads * cost <= 1e12 and count * cost <= 2.5e8)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("law", ["normals", "uniforms"])
@pytest.mark.parametrize(
    ("shape", "first"),
    [((1, 1, 1), 0), ((3, 5, 8), 0), ((3, 5, 8), 4), ((2, 7, 9), 0), ((2, 3, 6), 3), ((1, 2, 1), 2),
     ((5, 257, 3), 0), ((2, 2, 4), 2**34 - 5)],
)  # fmt: skip
def test_bulk_random(
    cuda: Any, law: str, dtype: str, shape: tuple[int, int, int], first: int
) -> None:
    generator = np.random.default_rng(1)
    steps = generator.integers(0, 2**48, shape[0])
    chains = generator.integers(0, 2**32, shape[1])
    expected = np.full(shape, np.nan, dtype)
    random_cpp.fill(expected, law, 2**63 + 5, 7, steps, chains, first, 1)
    for max_blocks in (2**31 - 1, 1):
        cuda.shim.set_max_blocks(max_blocks)
        got = cuda.full(shape, np.nan, dtype=dtype)
        places = (cuda.asarray(steps), cuda.asarray(chains))
        random_cuda.fill(got, law, 2**63 + 5, 7, *places, first, 1)
        assert got.tobytes() == expected.tobytes()
    # Memory that does not begin at a multiple of 16 bytes.
    shifted = cuda.zeros(expected.size + 1, dtype=dtype)[1:].reshape(shape)
    random_cuda.fill(shifted, law, 2**63 + 5, 7, *places, first, 1)
    assert shifted.tobytes() == expected.tobytes()


def test_philox(cuda: Any) -> None:
    generator = np.random.default_rng(2)
    counters = generator.integers(0, 2**32, (1000, 4), np.uint32)
    keys = generator.integers(0, 2**32, (1000, 2), np.uint32)
    expected = np.zeros_like(counters)
    random_cpp.philox(expected, counters, keys, 1)
    got = cuda.zeros((1000, 4), dtype="uint32")
    random_cuda.philox(got, cuda.asarray(counters), cuda.asarray(keys), 1)
    assert got.tobytes() == expected.tobytes()


def test_faces(cuda: Any) -> None:
    """From the public functions down to the kernels: results are CuPy's arrays, with equal bits."""
    for backend_of in (
        lambda backend: random.normals(7, 3, 4, 9, backend=backend),
        lambda backend: random.uniforms(7, [1, 5], range(4), [0, 1, 8], backend=backend),
    ):
        on_gpu = backend_of("cuda")
        assert isinstance(on_gpu, cuda.ndarray)
        assert on_gpu.tobytes() == backend_of("cpp").tobytes()
    options: dict[str, Any] = {
        "num_steps": 40, "burn_in": 100, "num_chains": 9, "seed": 4, "checkpoints": [7, 21],
    }  # fmt: skip
    for dtype in ("float32", "float64"):
        problem = sgd.Cosine(phi=1.0, sigma=2.0, dim=3, divergence_limit=1.2)
        with pytest.warns(DivergenceWarning):
            runs = [
                sgd.run(problem, [0.05, 0.1], dtype=dtype, backend=backend, **options)
                for backend in ("cuda", "cpp")
            ]
        for name in ("mean", "extrapolated", "last", "flags", "diverged_at", "checkpoint_mean"):
            on_gpu, on_cpu = (getattr(run, name) for run in runs)
            assert isinstance(on_gpu, cuda.ndarray)
            assert to_host(on_gpu).tobytes() == on_cpu.tobytes(), name
        assert runs[1].flags.any()
