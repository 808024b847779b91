"""The CUDA step kernels, run on a CPU, return the bits of the C++ drivers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hotloops import admm

SCHEMES = ("identity", "diag", "adam", "softsign")


def problem(shape: tuple[int, ...], clients: int, dtype: str, gradients: str) -> dict[str, Any]:
    rng = np.random.default_rng(5)
    return {
        "w": rng.normal(size=shape).astype(dtype),
        "G": rng.normal(size=(clients, *shape)).astype(gradients),
        "PI": rng.normal(size=(clients, *shape)).astype(dtype),
        "V": rng.random((clients, *shape)).astype(dtype),
    }


def assert_same(host: dict[str, Any], device: dict[str, Any]) -> None:
    for name, array in host.items():
        assert device[name].get().tobytes() == array.tobytes(), name


@pytest.mark.parametrize("gradients", ["float16", "float32", "float64"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_same_bits(cuda: Any, scheme: str, dtype: str, gradients: str) -> None:
    """Sizes that do and do not fill whole pieces of four; several chunks."""
    rule: dict[str, Any] = {"sigma": [1.0, 2.0, 3.0], "rho": 4.0, "lam": 0.1, "scheme": scheme}
    for size in (1, 7, 4096, 9001):
        host = problem((size,), 3, dtype, gradients)
        device = {name: cuda.asarray(array) for name, array in host.items()}
        for t in (1, 2):
            admm.sisa_step(**host, t=t, weight_decay=0.1, **rule)
            admm.sisa_step(**device, t=t, weight_decay=0.1, **rule)
        assert_same(host, device)


def test_more_clients_than_a_part(cuda: Any) -> None:
    host = problem((19,), 131, "float32", "float32")
    device = {name: cuda.asarray(array) for name, array in host.items()}
    for arrays in (host, device):
        admm.sisa_step(**arrays, sigma=2.0, rho=1.0, weight_decay=0.2, decoupled=False)
    assert_same(host, device)


def test_client_by_client_and_lists(cuda: Any) -> None:
    shapes = [(3, 5), (8,), (4100,)]
    hosts = [problem(shape, 2, "float32", "float32") for shape in shapes]
    results = []
    for put in (np.copy, cuda.asarray):
        w = [put(h["w"]) for h in hosts]
        PI, V = ([put(h[name]) for h in hosts] for name in ("PI", "V"))
        s = [put(np.full_like(h["w"], 9.0)) for h in hosts]
        for i in range(2):
            g = [put(h["G"][i]) for h in hosts]
            admm.sisa_step_client(i, w, g, PI, V, s=s, sigma=1.0, rho=2.0)
        admm.sisa_finish(w, s, sigma=1.0, num_clients=2)
        results.append([a.tobytes() for a in (*w, *PI, *V, *s)])
    assert results[0] == results[1]


def test_found_inf_stays_on_the_device(cuda: Any) -> None:
    host = problem((50,), 1, "float32", "float32")
    device = {name: cuda.asarray(array) for name, array in host.items()}
    before = {name: array.get().tobytes() for name, array in device.items()}
    flag = cuda.asarray(np.ones(1, np.float32))
    flag.__class__.__dlpack__ = None
    try:
        assert admm.sisa_step(**device, sigma=1.0, rho=1.0, found_inf=flag)
    finally:
        del flag.__class__.__dlpack__
    assert {name: array.get().tobytes() for name, array in device.items()} == before


def test_low_precision_copy(cuda: Any) -> None:
    host = problem((37,), 1, "float32", "float32")
    device = {name: cuda.asarray(array) for name, array in host.items()}
    copies = [np.empty(37, np.float16), cuda.asarray(np.empty(37, np.float16))]
    admm.sisa_step(**host, sigma=1.0, rho=1.0, copy_to=copies[0])
    admm.sisa_step(**device, sigma=1.0, rho=1.0, copy_to=copies[1])
    assert copies[0].tobytes() == copies[1].get().tobytes()
    np.testing.assert_array_equal(copies[0], host["w"].astype(np.float16))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_rounded_state(cuda: Any, scheme: str) -> None:
    """Duals and second moments in bfloat16, in pieces of four and one by one; lists."""
    ml_dtypes = pytest.importorskip("ml_dtypes")
    rule: dict[str, Any] = {"sigma": [1.0, 2.0], "rho": 4.0, "scheme": scheme, "seed": 2**50 + 3}
    hosts = [problem((size,), 2, "float32", "float32") for size in (1, 7, 4096, 9001)]
    for host in hosts:
        for name in ("PI", "V"):
            host[name] = host[name].astype(ml_dtypes.bfloat16)
    lists = {name: [host[name] for host in hosts] for name in hosts[0]}
    device = {name: [cuda.asarray(array) for array in arrays] for name, arrays in lists.items()}
    for t in (1, 2**34):
        admm.sisa_step(**lists, t=t, **rule)
        admm.sisa_step(**device, t=t, **rule)
    for name, arrays in lists.items():
        for array, other in zip(arrays, device[name], strict=True):
            assert other.get().tobytes() == array.tobytes(), name
