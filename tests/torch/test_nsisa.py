"""NSISA for PyTorch: which tensors are orthogonalised, the bits of the flat step, state."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hotloops import admm  # noqa: E402
from hotloops.torch import NSISA, SISA  # noqa: E402


def make(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return torch.nn.Sequential(
        torch.nn.Linear(8, 6), torch.nn.Linear(6, 8), torch.nn.Linear(8, 6, bias=False)
    )


def set_gradients(model: Any, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for p in model.parameters():
        p.grad = torch.randn(p.shape, generator=generator).to(p.dtype)


@pytest.mark.parametrize("denominator", ["softsign", "adam", "sigma_rho"])
def test_same_as_the_flat_step(denominator: str) -> None:
    model = make()
    optimizer = NSISA(model.parameters(), mu=0.1, ns_denominator=denominator, sigma_other=2.0,
                      rho_other=3.0, lam=0.01)  # fmt: skip
    matrices = [p for p in model.parameters() if p.ndim == 2]
    arrays = [p.detach().numpy().copy() for p in matrices]
    states = [np.zeros((3, 1, *a.shape), "f4") for a in arrays]
    bias = model[0].bias
    vector, PI, V = bias.detach().numpy().copy(), np.zeros((1, 6), "f4"), np.zeros((1, 6), "f4")
    for t in range(1, 4):
        set_gradients(model, t)
        for p, w, (duals, momentum, moments) in zip(matrices, arrays, states, strict=True):
            admm.nsisa_step(
                w, p.grad.numpy(), duals, momentum, moments, sigma=80.0, rho=100.0, mu=0.1, t=t,
                scheme=denominator, lam=0.01,
            )  # fmt: skip
        admm.sisa_step(vector, bias.grad.numpy(), PI, V, sigma=2.0, rho=3.0, t=t, lam=0.01)
        optimizer.step()
    for p, w in zip(matrices, arrays, strict=True):
        np.testing.assert_array_equal(p.detach().numpy(), w)
    np.testing.assert_array_equal(bias.detach().numpy(), vector)


def test_what_is_orthogonalised() -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Embedding(5, 6))
    optimizer = NSISA(
        [
            {"params": model[0].parameters()},
            {"params": model[1].parameters(), "orthogonalize": False},
        ]
    )
    set_gradients(model, 0)
    optimizer.step()
    states = {name: set(optimizer.state[p]) for name, p in model.named_parameters()}
    assert states == {"0.weight": {"PI", "B"}, "0.bias": {"PI", "V"}, "1.weight": {"PI", "V"}}


def test_round_trip_with_clients() -> None:
    runs = []
    for split in (False, True):
        model = make()
        optimizer: Any = NSISA(model.parameters(), n_clients=2)
        for t in range(4):
            if split and t == 2:
                saved = optimizer.state_dict()
                optimizer = NSISA(model.parameters(), n_clients=2)
                optimizer.load_state_dict(saved)
            for client in range(2):
                set_gradients(model, 2 * t + client)
                optimizer.step(client=client)
        runs.append([p.detach().clone() for p in model.parameters()])
    for a, b in zip(*runs, strict=True):
        assert torch.equal(a, b)


def test_sixteen_bit_matrices() -> None:
    model = make().bfloat16()
    optimizer = NSISA(model.parameters())
    set_gradients(model, 0)
    optimizer.step()
    weight = model[0].weight
    assert torch.equal(weight.detach(), optimizer.state[weight]["master"].bfloat16())


def test_bad_arguments() -> None:
    params = list(make().parameters())
    cases: list[tuple[dict[str, Any], str]] = [
        ({"beta1": 2.0}, "`beta1` must be a finite number in"),
        ({"mu": -1.0}, "`mu` must be a finite number >= 0"),
        ({"ns_steps": -1}, "`ns_steps` must be an integer >= 0"),
        ({"coefficients": "x"}, "`coefficients` must be one of"),
        ({"ns_denominator": "x"}, "`ns_denominator` must be one of"),
    ]
    for options, message in cases:
        with pytest.raises(ValueError, match=f"NSISA: {message}"):
            NSISA(params, **options)
    with pytest.raises(ValueError, match="NSISA: `params` must hold C-contiguous matrices"):
        NSISA([torch.ones(3, 4).T])
    with pytest.raises(TypeError, match="NSISA: `orthogonalize` must be True or False"):
        NSISA([{"params": params, "orthogonalize": 1}])
    with pytest.raises(ValueError, match="NSISA: `state_dict` must"):
        NSISA(params).load_state_dict(SISA(params, 1.0, 1.0).state_dict())
