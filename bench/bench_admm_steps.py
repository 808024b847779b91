"""Step kernels beside PyTorch: one client beside AdamW, four beside a list of tensors; NS5."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import _peers_steps as peers
import numpy as np
import pytest
from _bench_machine import THREADS, Machine

from hotloops import admm

torch = pytest.importorskip("torch")

COUNT = 10_000_000
CLIENTS = 4
RULE = {"sigma": 1.0, "rho": 10.0}
BYTES = {1: 28, CLIENTS: 20 * CLIENTS + 8}  # of float32 state, for one parameter


@pytest.fixture(autouse=True)
def two_threads() -> None:
    torch.set_num_threads(THREADS)


def flat(backend: str) -> Callable[[], Any]:
    gradient = np.random.default_rng(0).normal(size=COUNT).astype(np.float32)
    w, PI, V = (np.zeros(COUNT, np.float32) for _ in range(3))

    def call() -> Any:
        admm.sisa_step(w, gradient, PI, V, backend=backend, num_threads=THREADS, **RULE)
        return w

    return call


def optimizer(make: Callable[[Any], Any]) -> Callable[[], Any]:
    p = torch.nn.Parameter(torch.zeros(COUNT))
    p.grad = torch.from_numpy(np.random.default_rng(0).normal(size=COUNT).astype(np.float32))
    own = make([p])

    def call() -> Any:
        own.step()
        return p.detach().numpy()

    return call


def sisa(params: Any) -> Any:
    from hotloops.torch import SISA

    return SISA(params, num_threads=THREADS, **RULE)


ONE = {
    "hotloops cpp": lambda: flat("cpp"),
    "hotloops numba": lambda: flat("numba"),
    "hotloops torch.SISA": lambda: optimizer(sisa),
    "PyTorch, AdamW fused": lambda: optimizer(lambda p: torch.optim.AdamW(p, fused=True)),
    "PyTorch, AdamW foreach": lambda: optimizer(lambda p: torch.optim.AdamW(p, foreach=True)),
}


def check_one(library: str, w: Any) -> None:
    """The first step from zero: against u for SISA, against its sign for AdamW."""
    gradient = np.random.default_rng(0).normal(size=COUNT).astype(np.float32)[:1000]
    if "AdamW" in library:
        np.testing.assert_allclose(w[:1000], -1e-3 * np.sign(gradient), rtol=1e-3)
    else:
        np.testing.assert_allclose(
            w[:1000], -2 * gradient / (1 + 10 * np.abs(gradient)), rtol=1e-4, atol=1e-6
        )


def memory_limit(benchmark: Any, limits: Machine, bytes_each: int) -> None:
    limit = limits.copy_bytes[THREADS] / bytes_each
    benchmark.extra_info.update(limit="memory", limit_per_second=limit)


@pytest.mark.benchmark(group="admm: one step, one client, 10,000,000 float32")
@pytest.mark.parametrize("library", ONE)
def test_one_client(
    benchmark: Any, limits: Machine, measure: Callable[..., None], library: str
) -> None:
    if "hotloops" in library:
        memory_limit(benchmark, limits, BYTES[1])
    measure(
        library,
        ONE[library](),
        lambda w: check_one(library, w),
        elements=COUNT,
        unit="parameters",
        bytes_moved=BYTES[1] * COUNT,
        dtype="float32",
    )


def model() -> tuple[list[Any], list[Any]]:
    """Return the tensors of a network with 48 blocks, and gradients of four clients."""
    rng = np.random.default_rng(1)
    shapes = [(64, 64), (64,), (64, 256), (256,)] * 48
    w = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
    return w, [rng.normal(size=(CLIENTS, *shape)).astype(np.float32) for shape in shapes]


def one_call(backend: str) -> Callable[[], Any]:
    w, G = model()
    PI, V = ([np.zeros_like(g) for g in G] for _ in range(2))
    t = 0

    def call() -> Any:
        nonlocal t
        t += 1
        admm.sisa_step(w, G, PI, V, t=t, backend=backend, num_threads=THREADS, **RULE)
        return w

    return call


def tensors(step: Callable[..., Callable[[], Any]]) -> Callable[[], Any]:
    w, G = model()
    gradients = [[torch.from_numpy(g) for g in clients] for clients in G]
    return step([torch.from_numpy(x) for x in w], gradients, **RULE)


def torch_classes() -> Callable[[], Any]:
    from hotloops.torch import SISA

    w, G = model()
    params = [torch.nn.Parameter(torch.from_numpy(x)) for x in w]
    gradients = [[torch.from_numpy(g) for g in clients] for clients in G]
    own = SISA(params, n_clients=CLIENTS, num_threads=THREADS, **RULE)

    def call() -> Any:
        for client in range(CLIENTS):
            for p, clients in zip(params, gradients, strict=True):
                p.grad = clients[client]
            own.step(client=client)
        return params

    return call


FOUR = {
    "hotloops cpp": lambda: one_call("cpp"),
    "hotloops torch.SISA": torch_classes,
    "PyTorch, a list of tensors": lambda: tensors(peers.list_of_tensors),
    "PyTorch, foreach": lambda: tensors(peers.foreach),
}


@pytest.mark.benchmark(group="admm: one step, four clients, 192 tensors, 1 M float32")
@pytest.mark.parametrize("library", FOUR)
def test_four_clients(
    benchmark: Any, limits: Machine, measure: Callable[..., None], library: str
) -> None:
    expected = one_call("cpp")()
    count = sum(w.size for w in expected)
    if "hotloops" in library:
        memory_limit(benchmark, limits, BYTES[CLIENTS])

    def check(weights: Any) -> None:
        for got, wanted in zip(weights, expected, strict=True):
            plain = got.detach() if torch.is_tensor(got) else got
            np.testing.assert_allclose(np.asarray(plain), wanted, atol=1e-5)

    measure(
        library,
        FOUR[library](),
        check,
        elements=count,
        unit="parameters",
        bytes_moved=BYTES[CLIENTS] * count,
        dtype="float32",
    )


SHAPE = (64, 128, 128)


def batch() -> Any:
    return np.random.default_rng(2).normal(size=SHAPE).astype(np.float32)


def orthogonalize() -> Callable[[], Any]:
    matrices, out = batch(), np.empty(SHAPE, np.float32)
    return lambda: admm.orthogonalize(matrices, out=out, num_threads=THREADS)


NS5 = {
    "hotloops cpp": orthogonalize,
    "PyTorch, bmm": lambda: peers.newton_schulz(torch.from_numpy(batch())),
}


@pytest.mark.benchmark(group="admm: five Newton-Schulz steps, 64 matrices 128 x 128, float32")
@pytest.mark.parametrize("library", NS5)
def test_newton_schulz(measure: Callable[..., None], library: str) -> None:
    expected = admm.orthogonalize(batch().astype(np.float64))
    measure(
        library,
        NS5[library](),
        lambda x: np.testing.assert_allclose(np.asarray(x), expected, atol=1e-4),
        elements=SHAPE[0],
        unit="matrices",
        bytes_moved=2 * expected.size * 4,
        dtype="float32",
    )
