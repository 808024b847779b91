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
    ADDITIVE,
    KERNELS,
    LAYOUTS,
    LOSSES,
    Case,
    Run,
    assert_same_bits,
    on_device,
    run_cpp,
    run_cuda,
    to_host,
)

DIMS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 31, 33, 64, 66, 128, 130)

# Every layout over the grid, and the general kernel of every problem (test_shim_general.py asks
# those for rules and statistics too).
VARIANTS = [*LAYOUTS, *(f"{kernel} general" for kernel in KERNELS)]
every_variant = pytest.mark.parametrize("kernel", VARIANTS, indirect=True)


@pytest.fixture
def kernel(request: pytest.FixtureRequest) -> str:
    """The kernel's name; the general variant is made to be chosen."""
    name, _, variant = str(request.param).partition(" ")
    if variant:
        request.getfixturevalue("general")
    return name


def sizes(kernel: str, dtype: str, dim: int) -> tuple[int, int]:
    """Another number of chains and of copies for each case, so that all of them meet."""
    number = KERNELS.index(kernel) + 5 * DIMS.index(dim) + 2 * (dtype == "float64")
    chains = (1, 7, 19) if dim > 60 else (1, 7, 257)
    return chains[number % 3], 1 + number % 5


def compare(cupy: Any, case: Case, parts: tuple[int, ...] = (3, 6), burn_in: int = 1) -> Any:
    expected = run_cpp(case, parts, burn_in)
    assert_same_bits(run_cuda(cupy, case, parts, burn_in), expected)
    return expected.chains


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kernel", [*LAYOUTS, "quadratic_full general"], indirect=True)
def test_every_kernel_and_size(cuda: Any, kernel: str, dtype: str, dim: int) -> None:
    num_chains, copies = sizes(kernel, dtype, dim)
    case = Case(kernel, dtype, dim, num_chains, copies)
    chains = compare(cuda, case)
    assert not chains.flags.any()


@pytest.mark.parametrize("dim", [3, 20, 40, 130])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kernel", LOSSES[2:])
def test_losses(cuda: Any, kernel: str, dtype: str, dim: int) -> None:
    """One kernel for each loss and length of the state, with step sizes of each chain's own."""
    compare(cuda, Case(kernel, dtype, dim, num_chains=9, copies=3, own_steps=True))


@pytest.mark.parametrize("dim", [2, 6, 33, 130])
@pytest.mark.parametrize("copies", range(1, 10))
@pytest.mark.parametrize("kernel", LAYOUTS)
def test_every_number_of_copies(cuda: Any, kernel: str, copies: int, dim: int) -> None:
    case = Case(kernel, "float32", dim, num_chains=5, copies=copies, own_steps=copies % 2 == 0)
    compare(cuda, case, parts=(4,), burn_in=0)


def limit_for_half(case: Case, num_steps: int) -> float:
    """Return the limit that half of all copies leave within so many steps."""
    chains = case.chains()
    largest = np.zeros(chains.flags.shape)
    for step in range(num_steps):
        later = case.with_(first_step=case.first_step + step)
        chains = run_cpp(later, (1,), start=chains).chains
        largest = np.maximum(largest, np.abs(chains.theta).max(axis=2))
    return float(np.median(largest))


@pytest.mark.parametrize("dim", [1, 5, 17, 33, 130])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "kernel", [*LAYOUTS, *(f"{name} general" for name in ("cosine", "huber"))], indirect=True
)
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


@every_variant
def test_not_finite(cuda: Any, kernel: str) -> None:
    """Overflow and NaN freeze a copy as a number beyond the limit does."""
    case = Case(kernel, "float32", 6, divergence_limit=3e38)
    chains = case.chains()
    chains.step_sizes[:] = (0.1, 3e37)
    device = on_device(cuda, chains)
    options: dict[str, Any] = {
        "seed": 3, "chain_offset": 0, "first_step": 0, "num_steps": 12, "accumulate": True,
        "divergence_limit": 3e38, "num_threads": 1,
    }  # fmt: skip
    sgd._cpp.advance(chains, kernel, case.parameters(), **options)
    sgd._cuda.advance(device, kernel, on_device(cuda, case.parameters()), **options)
    assert_same_bits(Run(device, None), Run(chains, None))
    assert chains.flags[:, 1].all()
    assert not chains.flags[:, 0].any()


@pytest.mark.parametrize(("dim", "batch_size"), [(3, 1), (5, 2), (9, 3), (130, 7)])
@pytest.mark.parametrize("num_rows", [1, 3, 50])
@pytest.mark.parametrize("sampling", [0, 1, 2])
@pytest.mark.parametrize("kernel", ["logistic", "logistic general"], indirect=True)
def test_row_sampling(
    cuda: Any, kernel: str, sampling: int, num_rows: int, dim: int, batch_size: int
) -> None:
    """Epochs end within a batch, within a launch and between launches."""
    case = Case(
        kernel, "float32", dim, num_chains=3, first_step=20_000_000,
        num_rows=num_rows, batch_size=batch_size, sampling=sampling,
    )  # fmt: skip
    compare(cuda, case, parts=(5, 2, 30), burn_in=0)


@pytest.mark.parametrize("num_rows", [2**20, 2**20 + 1, 3 * 2**19 + 5])
@pytest.mark.parametrize("sampling", [0, 1])
@pytest.mark.parametrize("kernel", ["least_squares", "least_squares general"], indirect=True)
def test_many_rows(cuda: Any, kernel: str, sampling: int, num_rows: int) -> None:
    """Above 2**20 rows the words that would bias the choice are drawn again."""
    case = Case(
        kernel, "float32", 2, num_chains=257, copies=1, num_rows=num_rows,
        batch_size=5, sampling=sampling,
    )  # fmt: skip
    compare(cuda, case, parts=(16,), burn_in=0)


@pytest.mark.parametrize("first_step", [2**32 - 4, 5 * 2**32 - 1, 2**48 - 12])
@every_variant
def test_counters(cuda: Any, kernel: str, first_step: int) -> None:
    """Steps beyond 32 bits, within a call; the last chains; the largest seed."""
    case = Case(
        kernel, "float64", 5, num_chains=9, first_step=first_step, seed=2**64 - 1,
        chain_offset=2**32 - 9, batch_size=1,
    )  # fmt: skip
    compare(cuda, case, parts=(11,), burn_in=0)


@every_variant
def test_many_launches(cuda: Any, kernel: str) -> None:
    """A long call is cut into launches, and the caller waits for the early ones."""
    cuda.shim.set_max_steps(9)
    case = Case(kernel, "float32", 5, num_chains=6, copies=2)
    before = cuda.shim.launches()
    compare(cuda, case, parts=(100, 41), burn_in=0)
    assert cuda.shim.launches() - before == 12 + 5
    assert cuda.cuda.Event.waited == (12 - 3) + (5 - 3)


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("dim", [3, 17, 130])
@pytest.mark.parametrize(
    "kernel", [*LAYOUTS, *(f"{name} general" for name in KERNELS[-4:])], indirect=True
)
def test_cut_grid_and_order_of_lanes(cuda: Any, kernel: str, dim: int, backwards: bool) -> None:
    """A grid of two blocks does the work of all; lanes wait for each other in either order."""
    cuda.shim.set_max_blocks(2)
    cuda.shim.set_backwards(backwards)
    case = Case(kernel, "float32", dim, num_chains=91, copies=2)
    if "general" in kernel:
        case = case.with_(num_chains=200)
    case = case.with_(divergence_limit=limit_for_half(case, 9))
    assert compare(cuda, case).flags.any()


@every_variant
def test_little_workspace(cuda: Any, kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chains take turns when the workspace has no room for all."""
    case = Case(kernel, "float64", 140, num_chains=140, copies=3)
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


@every_variant
def test_no_workspace_is_an_error(cuda: Any, kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sgd._cuda, "_workspace", lambda size: None)
    case = Case(kernel, "float32", 129)
    with pytest.raises(RuntimeError, match=f"sgd_{kernel}.*status 5"):
        run_cuda(cuda, case, (1,))


@pytest.mark.parametrize(
    ("kernel", "copies", "dim"),
    [("quadratic", 5, 3), ("cosine", 2, 129), ("huber", 9, 3), ("huber", 2, 33)],
)
def test_statistics_beyond_the_registers_are_an_error(
    cuda: Any, kernel: str, copies: int, dim: int
) -> None:
    """The caller chooses another kernel then."""
    chains, noise = bound(cuda, 3, copies, dim), (0, 0.0, 0, 0)
    given = {"quadratic": (0, 0, 0, *noise), "cosine": (0.0, 0.0, *noise)}
    parameters = given.get(kernel, (0, 0, 1, 1, 0, 0.0, 1.0))
    run = getattr(cuda.shim, f"sgd_{kernel}_statistics")
    with pytest.raises(RuntimeError, match=rf"sgd_{kernel}.*status 5"):
        run(chains, 1, 0, 0, 5, True, 1e6, *parameters)


def bound(cuda: Any, num_chains: int, copies: int, dim: int) -> Any:
    """Chains without arrays, for their sizes."""
    nowhere = dict.fromkeys(
        ("theta", "sums", "flags", "diverged_at", "step_sizes", "auxiliary", "stream"), 0
    )
    return cuda.shim.SgdChainsFloat64(
        num_chains=num_chains, num_step_sizes=copies, dim=dim, own_step_sizes=False,
        num_auxiliary=0, device=0, **nowhere,
    )  # fmt: skip


@pytest.mark.parametrize("kernel", [*ADDITIVE, *LOSSES])
def test_workspace_stays_bounded(cuda: Any, kernel: str) -> None:
    """2**20 chains of 1000 coordinates take no more than 64 MiB beyond the caller's arrays."""
    size_of = getattr(cuda.shim, f"sgd_{kernel}_workspace")
    assert 2**25 < size_of(bound(cuda, 2**20, 4, 1000)) <= 2**26
    assert size_of(bound(cuda, 2**20, 4, 128)) == 0


@pytest.mark.parametrize("kernel", KERNELS)
def test_general_workspace_stays_bounded(cuda: Any, kernel: str) -> None:
    size_of = getattr(cuda.shim, f"sgd_{kernel}_general_workspace")
    assert 2**25 < size_of(bound(cuda, 2**20, 4, 1000)) <= 2**26
    # Few chains take what they need, in whole blocks of 64; a block fits in any case.
    assert size_of(bound(cuda, 65, 1, 4)) == 2 * size_of(bound(cuda, 1, 1, 4))
    assert size_of(bound(cuda, 1, 4, 10**5)) >= 64 * 4 * 10**5 * 24


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
