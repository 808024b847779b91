"""Many small tensors: how their memory is found does not change what is done with it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hotloops._runtime import dispatch  # noqa: E402
from hotloops.torch import NSISA, SISA, _buckets  # noqa: E402
from tests.torch.test_sisa import bits, parameters, run, set_gradients  # noqa: E402

EXCHANGE = _buckets._EXCHANGE
F32 = 0  # hotloops.admm._tensors.PRECISIONS


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch before 2.10."""
    monkeypatch.setattr(_buckets, "_EXCHANGE", None)


def read(tensors: list[Any], precision: int = F32) -> Any:
    return dispatch.core().admm_addresses(tensors, torch.Tensor, EXCHANGE, precision)


@pytest.mark.skipif(EXCHANGE is None, reason="needs PyTorch 2.10")
def test_addresses() -> None:
    good = [torch.zeros(3), torch.nn.Parameter(torch.zeros(2, 5)), torch.zeros(4, 4)[2:]]
    expected = np.array([x.data_ptr() for x in good], np.uint64)
    np.testing.assert_array_equal(read(good), expected)
    assert read([]).size == 0
    others = (
        *(None, 3, np.zeros(3, np.float32), torch.zeros(3, dtype=torch.float64)),
        *(torch.zeros(4, 5).T, torch.zeros(6)[::2], torch.zeros(3, 3).to_sparse()),
        *(torch.zeros(3, device="meta"), torch.zeros(3, dtype=torch.int32)),
    )
    for other in others:
        assert read([*good, other]) is None
    assert read(good, precision=1) is None
    with pytest.raises(ValueError, match="PyCapsule"):
        dispatch.core().admm_addresses(good, torch.Tensor, 3, F32)


def trained(kind: Any, dtype: Any, clients: int) -> Any:
    params = parameters(dtype=dtype)
    optimizer = kind(params, 1.0, 5.0, n_clients=clients)
    run(optimizer, params, range(3), clients)
    return bits(params)


CASES = [
    (kind, dtype, clients)
    for kind in (SISA, NSISA)
    for dtype in (torch.float32, torch.bfloat16)
    for clients in (1, 3)
]


@pytest.mark.parametrize("case", CASES)
def test_same_bits_without_the_exchange(case: Any, request: pytest.FixtureRequest) -> None:
    expected = trained(*case)
    request.getfixturevalue("without")
    assert trained(*case) == expected


def test_state_and_parameters_that_are_exchanged_between_rounds() -> None:
    """Memory is looked up again: the old one is neither read nor written."""
    plain, moved = parameters(), parameters()
    pair = [SISA(params, 1.0, 5.0, n_clients=2) for params in (plain, moved)]
    old: list[Any] = []
    for t in range(4):
        for params, optimizer in zip((plain, moved), pair, strict=True):
            run(optimizer, params, range(t, t + 1), 2)
        before = [(x, x.clone()) for x in old]
        old = []
        for p in moved:
            state = pair[1].state[p]
            old += [p.data, state["PI"], state["V"]]
            p.data = p.data.clone()
            state["PI"] = state["PI"].clone()
            state["V"].data = state["V"].data.clone()
        assert all(torch.equal(x, y) for x, y in before)
    assert bits(moved) == bits(plain)


def test_gradients_of_other_kinds_come_and_go() -> None:
    """A list that cannot be read at once is taken apart, and the next one is read again."""
    alike, mixed = parameters(), parameters()
    pair = [SISA(params, 1.0, 5.0, n_clients=2) for params in (alike, mixed)]
    for t in range(4):
        for client in range(2):
            for params, optimizer in zip((alike, mixed), pair, strict=True):
                set_gradients(params, 10 * t + client)
                if client == 0:
                    params[0].grad = torch.zeros_like(params[0])
                if params is mixed and t in (1, 2):
                    p = params[2 if t == 1 else 0]
                    if p.ndim == 2:
                        p.grad = p.grad.T.contiguous().T
                    if client == 0:
                        params[0].grad = None
                optimizer.step(client=client)
    assert bits(mixed) == bits(alike)
    mixed[0].grad = torch.zeros_like(mixed[0]).to_sparse()
    with pytest.raises(TypeError, match="SISA: `params` must have dense gradients, got a sparse"):
        pair[1].step(client=0)
