"""SISA and NSISA with duals and second moments in bfloat16."""

from __future__ import annotations

import copy
import io
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hotloops import admm  # noqa: E402
from hotloops.torch import NSISA, SISA  # noqa: E402
from tests.torch.test_sisa import bits, parameters, run, set_gradients  # noqa: E402

LOW: dict[str, Any] = {"state_dtype": torch.bfloat16, "seed": 2**60 + 1}


@pytest.mark.parametrize("clients", [1, 3])
def test_bits_of_the_flat_kernel(clients: int) -> None:
    """Parameters in two groups are numbered through, as in a list."""
    params = parameters()
    groups = [{"params": params[:1]}, {"params": params[1:]}]
    optimizer = SISA(groups, 0.5, 3.0, n_clients=clients, **LOW)
    w = [p.detach().clone() for p in params]
    PI, V = ([torch.zeros((clients, *x.shape), dtype=torch.bfloat16) for x in w] for _ in range(2))
    for t in range(1, 4):
        gradients: list[list[Any]] = [[] for _ in params]
        for client in range(clients):
            set_gradients(params, 10 * t + client)
            for own, p in zip(gradients, params, strict=True):
                own.append(p.grad.clone())
            optimizer.step(client=client if clients > 1 else None)
        admm.sisa_step(w, gradients, PI, V, sigma=0.5, rho=3.0, t=t, seed=LOW["seed"])
    assert bits(params) == bits(w)
    for p, duals, moments in zip(params, PI, V, strict=True):
        state = optimizer.state[p]
        assert state["PI"].dtype == state["V"].dtype == torch.bfloat16
        assert torch.equal(state["PI"], duals.reshape(clients, -1))
        assert torch.equal(state["V"], moments.reshape(clients, -1))


@pytest.mark.parametrize("kind", [SISA, NSISA])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("clients", [1, 2])
def test_going_on_from_a_saved_state(kind: Any, dtype: Any, clients: int) -> None:
    whole = parameters(dtype=dtype)
    run(kind(whole, 1.0, 5.0, n_clients=clients, **LOW), whole, range(6), clients)
    first = parameters(dtype=dtype)
    optimizer = kind(first, 1.0, 5.0, n_clients=clients, **LOW)
    run(optimizer, first, range(3), clients)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    second = [torch.nn.Parameter(p.detach().clone()) for p in first]
    other = kind(second, 1.0, 5.0, n_clients=clients, state_dtype=torch.bfloat16)  # seed is saved
    other.load_state_dict(torch.load(file, weights_only=True))
    assert other.state[second[0]]["PI"].dtype == torch.bfloat16
    copied = copy.deepcopy((other, second))
    run(other, second, range(3, 6), clients)
    run(*copied, range(3, 6), clients)
    assert bits(second) == bits(whole) == bits(copied[1])


def test_a_missing_gradient_and_another_seed() -> None:
    """The random bits of a parameter do not depend on which others have gradients."""
    both, one, other = parameters(), parameters(), parameters()
    for params, seed, gone in ((both, 5, []), (one, 5, [0, 2]), (other, 6, [])):
        optimizer = SISA(params, 1.0, 5.0, state_dtype=torch.bfloat16, seed=seed)
        for t in range(3):
            set_gradients(params, t)
            for k in gone:
                params[k].grad = None
            optimizer.step()
    assert bits(both)[1::2] == bits(one)[1::2]
    assert bits(both)[3] != bits(other)[3]


def losses(**options: Any) -> list[float]:
    """Train a small network on four clients with labels of their own."""
    generator = torch.Generator().manual_seed(0)
    X = torch.randn((40, 5), generator=generator)
    y = (X @ torch.randn((5, 3), generator=generator)).argmax(1)
    order = y.argsort(stable=True)
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))
    rule = {"sigma": 0.5, "rho": 10.0, "n_clients": 4, "num_threads": 1}
    optimizer = SISA(model.parameters(), **rule, **options)
    found = []
    for _ in range(80):
        for client, rows in enumerate(order.chunk(4)):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(X[rows]), y[rows]).backward()
            optimizer.step(client=client)
        found.append(torch.nn.functional.cross_entropy(model(X), y).item())
    return found


def test_training_ends_where_float32_does() -> None:
    exact = losses()
    low = [losses(state_dtype=torch.bfloat16, seed=seed) for seed in range(3)]
    assert exact[-1] < 0.5 * exact[0]
    for found in low:
        np.testing.assert_allclose(found[-1], exact[-1], rtol=0.05)
    assert len({found[-1] for found in low}) == 3


def test_a_client_that_sits_out_keeps_its_dual() -> None:
    p = torch.nn.Parameter(torch.zeros(3))
    optimizer = SISA([p], 1.0, 0.0, n_clients=2, scheme="identity", **LOW)
    found = torch.zeros(1)
    optimizer.grad_scale, optimizer.found_inf = None, found
    for value, infinite in ((1.0, 0.0), (float("inf"), 1.0)):
        p.grad = torch.full((3,), value)
        found.fill_(infinite)
        optimizer.step(client=int(infinite))
    assert torch.equal(p.detach(), torch.full((3,), -1.0))
    expected = torch.tensor([[-1.0] * 3, [0.0] * 3]).bfloat16()
    assert torch.equal(optimizer.state[p]["PI"], expected)


def test_bad_arguments() -> None:
    with pytest.raises(TypeError, match=r"SISA: `state_dtype` must be torch.bfloat16 or None, got"):
        SISA(parameters(), 1.0, 1.0, state_dtype=torch.float16)
    with pytest.raises(TypeError, match=r"SISA: `state_dtype` must be torch.bfloat16 or None, got"):
        SISA(parameters(), 1.0, 1.0, state_dtype="bfloat16")
    with pytest.raises(TypeError, match="SISA: `params` must not hold float64 where the state is"):
        SISA(parameters(dtype=torch.float64), 1.0, 1.0, **LOW)
    for seed, kind in ((-1, ValueError), (2**64, OverflowError), (0.5, TypeError)):
        with pytest.raises(kind, match="SISA: `seed` must be an integer"):
            SISA(parameters(), 1.0, 1.0, state_dtype=torch.bfloat16, seed=seed)


def test_states_of_the_other_type_are_refused() -> None:
    pair = [SISA(parameters(), 1.0, 1.0), SISA(parameters(), 1.0, 1.0, **LOW)]
    for optimizer in pair:
        (group,) = optimizer.param_groups
        run(optimizer, group["params"], range(1))
    for own, other, message in ((0, 1, "not in"), (1, 0, "in")):
        before = copy.deepcopy(pair[own].state_dict())
        with pytest.raises(ValueError, match=rf"`state_dict` must have `PI` {message} torch.bfl"):
            pair[own].load_state_dict(pair[other].state_dict())
        after = pair[own].state_dict()
        assert after["param_groups"] == before["param_groups"]
        for key, state in before["state"].items():
            for name, tensor in state.items():
                assert torch.equal(after["state"][key][name], tensor)
