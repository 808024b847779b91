"""Sampling from the velocity network of CFGen at its sizes, beside PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from _bench_machine import THREADS
from _cases_simplex import product_rate

from hotloops import flow

torch = pytest.importorskip("torch")
import _peers_networks as peers  # noqa: E402  (needs torch)

# torch.compile uses parts of PyTorch that it warns of itself.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")

DIM, KINDS, STEPS, WEIGHT = 50, 10, 20, 2.0
SIZES = {"small": (32, 20, 3), "big": (64, 100, 3)}
ROWS = (64, 4096)
LIBRARIES = (
    "hotloops cpp",
    "hotloops numba",
    "PyTorch",
    "PyTorch, conditions by label",
    "PyTorch, compiled",
)


@pytest.fixture(autouse=True)
def two_threads() -> None:
    torch.set_num_threads(THREADS)


def network(size: str) -> flow.VelocityNetwork:
    """Return a network whose every weight is at work: that of each block's last layer too."""
    made = flow.VelocityNetwork(DIM, size=size, attributes={"kind": KINDS}, seed=1)
    rng = np.random.default_rng(0)
    for name, value in made.parameters.items():
        if ".net2." in name:
            value[:] = rng.normal(0.0, value.shape[-1] ** -0.5, value.shape)
    return made


def operations(size: str, rows: int) -> int:
    """Multiplications and additions of one run that cannot be tabulated, two for each weight."""
    hidden, _, blocks = SIZES[size]
    branches = 2
    shared = DIM * hidden  # the first product is the same in all branches
    each = 2 * blocks * hidden * hidden + hidden * DIM
    return 2 * STEPS * 2 * rows * (shared + branches * each)


def make(library: str, size: str, rows: int) -> Callable[[], Any]:
    rng = np.random.default_rng(2)
    z = rng.normal(size=(rows, DIM)).astype(np.float32)
    labels = rng.integers(0, KINDS, rows)
    ours = network(size)
    if library.startswith("hotloops"):
        out = np.empty_like(z)
        guided = flow.guided_velocity(ours, {"kind": labels}, WEIGHT)
        options = {"backend": library.split()[-1], "num_threads": THREADS, "out": out}
        return lambda: flow.integrate(guided, z, method="midpoint", steps=STEPS, **options)
    theirs = peers.Velocity(DIM, *SIZES[size], KINDS)
    state = {name: torch.from_numpy(value) for name, value in ours.state_dict().items()}
    theirs.load_state_dict(state)
    return peers.sampler(
        theirs.eval(),
        torch.from_numpy(z),
        torch.from_numpy(labels),
        WEIGHT,
        STEPS,
        hoist=library != "PyTorch",
        jit=library.endswith("compiled"),
    )


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("library", LIBRARIES)
def test_sampling(
    benchmark: Any, measure: Callable[..., None], size: str, rows: int, library: str
) -> None:
    benchmark.group = f"flow: {rows} rows, {size} network, guided, midpoint {STEPS}"
    if library.endswith("compiled") and benchmark.disabled:
        pytest.skip("it takes longer to compile than all else")
    expected = make("hotloops cpp", size, rows)()
    call = make(library, size, rows)
    limit = product_rate() * rows / operations(size, rows)
    if library == "hotloops cpp":
        benchmark.extra_info.update(limit="sgemm", limit_per_second=limit)
    measure(
        library,
        call,
        lambda found: np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-3),
        elements=rows,
        unit="samples",
        bytes_moved=8 * rows * DIM,
        dtype="float32",
    )
