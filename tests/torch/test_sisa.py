"""SISA for PyTorch: the bits of the flat kernel, state, schedulers, scalers, clients, errors."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hotloops import admm  # noqa: E402
from hotloops.torch import SISA  # noqa: E402

SHAPES = [(5, 7), (11,), (3, 2, 4), (70_000,)]


def parameters(seed: int = 0, dtype: Any = None) -> list[Any]:
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.nn.Parameter(torch.randn(shape, generator=generator).to(dtype or torch.float32))
        for shape in SHAPES
    ]


def set_gradients(params: list[Any], seed: int, scale: float = 1.0) -> None:
    generator = torch.Generator().manual_seed(100 + seed)
    for p in params:
        p.grad = (scale * torch.randn(p.shape, generator=generator)).to(p.dtype)


def run(optimizer: Any, params: list[Any], steps: range, clients: int = 1) -> None:
    for t in steps:
        for client in range(clients):
            set_gradients(params, clients * t + client)
            optimizer.step(client=client if clients > 1 else None)


def bits(params: list[Any]) -> list[bytes]:
    return [p.detach().contiguous().view(torch.uint8).numpy().tobytes() for p in params]


@pytest.mark.parametrize("scheme", ["adam", "rmsprop", "adagrad", "identity", "softsign"])
@pytest.mark.parametrize("clients", [1, 3])
def test_bits_of_the_flat_kernel(scheme: str, clients: int) -> None:
    options: dict[str, Any] = {"lam": 0.01, "weight_decay": 0.1, "scheme": scheme}
    params = parameters()
    optimizer = SISA(params, 0.5, 3.0, n_clients=clients, **options)
    arrays = [p.detach().numpy().copy() for p in params]
    PI, V = ([np.zeros((clients, *a.shape), "f4") for a in arrays] for _ in range(2))
    for t in range(4):
        gradients: list[list[Any]] = [[] for _ in params]
        for client in range(clients):
            set_gradients(params, 10 * t + client)
            for own, p in zip(gradients, params, strict=True):
                own.append(p.grad.numpy().copy())
            optimizer.step(client=client if clients > 1 else None)
        admm.sisa_step(arrays, gradients, PI, V, sigma=0.5, rho=3.0, t=t + 1, **options)
    for p, a in zip(params, arrays, strict=True):
        np.testing.assert_array_equal(p.detach().numpy(), a)


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16"])
@pytest.mark.parametrize("clients", [1, 2])
def test_state_round_trip(dtype: str, clients: int) -> None:
    kind = getattr(torch, dtype)
    whole = parameters(dtype=kind)
    run(SISA(whole, 1.0, 5.0, n_clients=clients), whole, range(6), clients)
    first = parameters(dtype=kind)
    optimizer = SISA(first, 1.0, 5.0, n_clients=clients)
    run(optimizer, first, range(3), clients)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    second = [torch.nn.Parameter(p.detach().clone()) for p in first]
    again = SISA(second, 1.0, 5.0, n_clients=clients)
    again.load_state_dict(torch.load(file, weights_only=True))
    run(again, second, range(3, 6), clients)
    assert bits(second) == bits(whole)


def test_sixteen_bit_parameters_have_a_master_in_float32() -> None:
    """Steps far below the resolution of bfloat16 add up."""
    p = torch.nn.Parameter(torch.ones(100, dtype=torch.bfloat16))
    reference = torch.nn.Parameter(torch.ones(100))
    optimizers = [SISA([x], 1000.0, 0.0, scheme="identity") for x in (p, reference)]
    for _ in range(500):
        for x, optimizer in zip((p, reference), optimizers, strict=True):
            x.grad = torch.full_like(x, 0.125)
            optimizer.step()
    assert torch.equal(p.detach(), reference.detach().bfloat16())
    assert p[0] < 0.95
    assert optimizers[0].state[p]["master"].dtype == torch.float32


def test_schedulers_scale_sigma_and_rho() -> None:
    params, other = parameters(), parameters()
    optimizer = SISA(params, 0.5, 3.0)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    by_hand = SISA(
        other, 1.0, 1.0, schedule=lambda t, s, r: (0.5 * 2.0 ** (t - 1), 3 * 2.0 ** (t - 1))
    )
    for t in range(4):
        assert optimizer.param_groups[0]["lr"] == 1 / 3.5 / 2**t
        for p, o in ((params, optimizer), (other, by_hand)):
            set_gradients(p, t)
            o.step()
        scheduler.step()
    assert bits(params) == bits(other)


def test_a_learning_rate_of_zero_stands_still() -> None:
    params = parameters()
    before = bits(params)
    optimizer = SISA(params, 0.5, 3.0)
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: float(t > 0))
    set_gradients(params, 0)
    optimizer.step()
    assert bits(params) == before


def test_groups_have_numbers_of_their_own() -> None:
    params = parameters()
    optimizer = SISA([{"params": params[:2]}, {"params": params[2:], "sigma": 2.0}], 1.0, 3.0)
    alone = parameters()
    others = [SISA(alone[:2], 1.0, 3.0), SISA(alone[2:], 2.0, 3.0)]
    for t in range(3):
        for p in (params, alone):
            set_gradients(p, t)
        for o in (optimizer, *others):
            o.step()
    assert bits(params) == bits(alone)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_gradient_scaler() -> None:
    """Gradients are unscaled as they are read; infinities leave everything as it was."""
    params, plain = parameters(), parameters()
    optimizer, reference = SISA(params, 1.0, 3.0), SISA(plain, 1.0, 3.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaler.scale(torch.ones(1))
    for t in range(3):
        set_gradients(params, t, scale=1024.0)
        set_gradients(plain, t)
        scaler.step(optimizer)
        scaler.update()
        reference.step()
    assert bits(params) == bits(plain)
    state = copy.deepcopy(optimizer.state_dict())
    set_gradients(params, 9)
    params[1].grad[3] = float("inf")
    scaler.step(optimizer)
    scaler.update()
    assert bits(params) == bits(plain)
    assert scaler.get_scale() == 512.0
    for key, value in optimizer.state_dict()["state"].items():
        for name, tensor in value.items():
            assert torch.equal(tensor, state["state"][key][name])
    assert optimizer.state_dict()["param_groups"] == state["param_groups"]


def test_a_client_with_infinities_sits_out() -> None:
    p = torch.nn.Parameter(torch.zeros(3))
    optimizer = SISA([p], 1.0, 0.0, n_clients=2, scheme="identity")
    found = torch.zeros(1)
    optimizer.grad_scale, optimizer.found_inf = None, found
    for value, infinite in ((1.0, 0.0), (float("inf"), 1.0)):
        p.grad = torch.full((3,), value)
        found.fill_(infinite)
        optimizer.step(client=int(infinite))
    # Client 0: u = 1, pi = -1, share (pi - u) / 2; client 1 keeps its dual 0.
    assert torch.equal(p.detach(), torch.full((3,), -1.0))
    assert torch.equal(optimizer.state[p]["PI"], torch.tensor([[-1.0] * 3, [0.0] * 3]))


def test_clients_in_any_order_and_missing_gradients() -> None:
    """The parameters move with the last client; a missing gradient counts as zero."""
    p = torch.nn.Parameter(torch.zeros(3))
    optimizer = SISA([p], 2.0, 0.0, n_clients=3, scheme="identity")
    for client in (2, 0, 1):
        assert torch.equal(p.detach(), torch.zeros(3))
        p.grad = torch.ones(3) if client != 1 else None
        optimizer.step(client=client)
    np.testing.assert_allclose(p.detach(), -2 / 3, rtol=1e-6)
    single = SISA([torch.nn.Parameter(torch.ones(2))], 1.0, 1.0)
    single.step()  # no gradient: nothing to do
    assert not single.state


def test_layouts_other_than_rows() -> None:
    """Channels last: state and gradients follow the parameter's memory."""
    weights = torch.randn(4, 3, 5, 5)
    rows = torch.nn.Parameter(weights.clone())
    last = torch.nn.Parameter(weights.clone().to(memory_format=torch.channels_last))
    for p in (rows, last):
        optimizer = SISA([p], 1.0, 2.0)
        for t in range(3):
            set_gradients([p], t)  # row by row for both
            optimizer.step()
    assert torch.equal(rows.detach(), last.detach().contiguous())


def disturb(number: int, optimizer: Any, params: list[Any], t: int) -> None:
    """Change between two steps what an optimizer might remember from the last one."""
    if number == 0 and t == 2:
        optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    elif number == 1 and t == 2:
        optimizer.state.clear()
    elif number == 2:
        params[t % 4].grad = None
    elif number == 3 and t == 2:
        for p in params:
            p.data = p.data.clone()
            optimizer.state[p]["PI"] = optimizer.state[p]["PI"].clone()
    elif number == 4:
        optimizer.param_groups[0].update(lr=0.5 / (1 + t), sigma=1.0 + t, beta2=0.9)
    elif number == 5:
        params[0].grad = params[0].grad.t().contiguous().t()
    elif number == 6 and t == 2:
        optimizer.param_groups[0]["params"] = params[:2]


@pytest.mark.parametrize("number", range(7))
@pytest.mark.parametrize("clients", [1, 2])
def test_nothing_is_remembered_that_has_changed(number: int, clients: int) -> None:
    results = []
    for forget in (False, True):
        params = parameters()
        optimizer = SISA(params, 1.0, 3.0, n_clients=clients, weight_decay=0.01)
        for t in range(5):
            for client in range(clients):
                set_gradients(params, clients * t + client)
                if client == 0:
                    disturb(number, optimizer, params, t)
                if forget:
                    optimizer._plans.clear()
                    optimizer._rules.clear()
                optimizer.step(client=client if clients > 1 else None)
        results.append(bits(params))
    assert results[0] == results[1]


def test_closure_and_copies() -> None:
    p = torch.nn.Parameter(torch.ones(3))
    optimizer = copy.deepcopy(SISA([p], 2.0, 1.0, n_clients=1))
    (own,) = optimizer.param_groups[0]["params"]

    def closure() -> Any:
        optimizer.zero_grad()
        loss = (own**2).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 3.0
    assert closure().item() < 3.0


BAD: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: SISA(parameters(), 0.0, 1.0), ValueError, "SISA: `sigma` must be a finite number > 0"),
    (lambda: SISA(parameters(), 1.0, -1.0), ValueError, "SISA: `rho` must be a finite number >= 0"),
    (lambda: SISA(parameters(), 1.0, 1.0, beta2=1.0), ValueError, "SISA: `beta2` must be below 1"),
    (lambda: SISA(parameters(), 1.0, 1.0, n_clients=0), ValueError, "SISA: `n_clients` must be an"),
    (lambda: SISA(parameters(), 1.0, 1.0, scheme="diag"), ValueError, "SISA: `scheme` must be one"),
    (lambda: SISA(parameters(), 1.0, 1.0, alpha=[0.5, 0.5]), ValueError, "SISA: `alpha` must have"),
    (lambda: SISA(parameters(), 1.0, 1.0, schedule=3), TypeError, "SISA: `schedule` must be a fu"),
    (lambda: SISA(parameters(), 1.0, 1.0, num_threads=0), ValueError, "SISA: `num_threads`"),
    (lambda: SISA(parameters(), 1.0, 1.0, reduce_dtype=int), TypeError, "SISA: `reduce_dtype`"),
    (lambda: SISA([torch.ones(3, dtype=torch.cfloat)], 1.0, 1.0), TypeError, "SISA: `params` must"),
    (lambda: SISA([torch.ones(6)[::2]], 1.0, 1.0), ValueError, "SISA: `params` must hold dense"),
    (lambda: SISA([torch.ones(1, device="meta")], 1.0, 1.0), TypeError, "SISA: `params` must li"),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(BAD)))
def test_bad_arguments(number: int) -> None:
    make, kind, message = BAD[number]
    with pytest.raises(kind, match=message):
        make()


def test_bad_steps() -> None:
    params = parameters()
    optimizer = SISA(params, 1.0, 1.0, n_clients=2)
    set_gradients(params, 0)
    with pytest.raises(ValueError, match="SISA: `client` must be given where there are several"):
        optimizer.step()
    with pytest.raises(ValueError, match=r"SISA: `client` must be an integer in \[0, 1\], got 2"):
        optimizer.step(client=2)
    optimizer.step(client=1)
    with pytest.raises(ValueError, match="SISA: `client` must not come twice in a round"):
        optimizer.step(client=1)
    with pytest.raises(ValueError, match="SISA: `state_dict` must be called between rounds"):
        optimizer.state_dict()
    optimizer.step(client=0)
    optimizer.param_groups[0]["lr"] = -1.0
    with pytest.raises(ValueError, match="SISA: `lr` must be finite and not negative"):
        optimizer.step(client=0)
    embedding = torch.nn.Embedding(5, 2, sparse=True)
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(TypeError, match="SISA: `params` must have dense gradients"):
        SISA(embedding.parameters(), 1.0, 1.0).step()


def test_wrong_states_are_refused() -> None:
    params = parameters()
    optimizer = SISA(params, 1.0, 1.0, n_clients=2)
    run(optimizer, params, range(1), 2)
    state = optimizer.state_dict()
    before = bits(params)
    cases = [
        (SISA(parameters(), 1.0, 1.0), state, "have `PI` of shape"),
        (SISA(parameters()[:2], 1.0, 1.0), state, "have 2 parameters in the group"),
        (optimizer, torch.optim.Adam(params).state_dict(), "come from SISA"),
        (optimizer, {"state": {}}, "hold `state` and `param_groups`"),
        (optimizer, {"state": {}, "param_groups": []}, "have 1 groups"),
    ]
    for target, wrong, message in cases:
        with pytest.raises(ValueError, match=f"SISA: `state_dict` must {message}"):
            target.load_state_dict(wrong)
    run(optimizer, params, range(1, 2), 2)
    assert bits(params) != before
