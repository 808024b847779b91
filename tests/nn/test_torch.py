"""The same networks in torch: weights go over, values and gradients agree, training gets as far."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from hotloops import nn
from tests.nn.networks import both, randomise

torch = pytest.importorskip("torch")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Networks as small as these run faster on one thread, much faster on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


ACTIVATIONS: dict[str, Any] = {
    "relu": torch.nn.ReLU,
    "elu": torch.nn.ELU,
    "silu": torch.nn.SiLU,
    "gelu": torch.nn.GELU,
    "tanh": torch.nn.Tanh,
    "sigmoid": torch.nn.Sigmoid,
    "softplus": torch.nn.Softplus,
}
WIDTHS = [6, 9, 5, 3]


def sequential(activation: str, norm: str | None, dropout: float = 0.0) -> Any:
    """Return the module that `MLP` is named after, with statistics and parameters of its own."""
    torch.manual_seed(0)
    layers: list[Any] = []
    for i, (a, b) in enumerate(pairwise(WIDTHS)):
        layers.append(torch.nn.Linear(a, b))
        if i == len(WIDTHS) - 2:
            break
        if norm:
            kind = torch.nn.BatchNorm1d if norm == "batch" else torch.nn.LayerNorm
            layers.append(kind(b))
            torch.nn.init.normal_(layers[-1].weight)
            torch.nn.init.normal_(layers[-1].bias)
        layers.append(ACTIVATIONS[activation]())
        if dropout:
            layers.append(torch.nn.Dropout(dropout))
    module = torch.nn.Sequential(*layers)
    if norm == "batch":
        module(torch.randn(40, WIDTHS[0]))  # moves the running statistics
    return module


@both
@pytest.mark.parametrize("norm", [None, "batch", "layer"])
@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_values_and_gradients(backend: str, activation: str, norm: str | None) -> None:
    module = sequential(activation, norm)
    network = nn.MLP(WIDTHS, activation, norm=norm)
    network.load_state_dict(module)
    x = np.random.default_rng(1).normal(size=(11, WIDTHS[0])).astype("f")
    weights = np.random.default_rng(2).normal(size=(11, WIDTHS[-1])).astype("f")
    for training in (False, True):
        module.train(training)
        leaf = torch.tensor(x, requires_grad=True)
        y = module(leaf)
        found = network.forward(x, training=training, backend=backend)
        np.testing.assert_allclose(found, y.detach().numpy(), rtol=1e-5, atol=1e-5)
        module.zero_grad()
        (y * torch.tensor(weights)).sum().backward()
        gradient = network.backward(weights)
        np.testing.assert_allclose(gradient, leaf.grad.numpy(), rtol=1e-4, atol=1e-5)
        for name, parameter in module.named_parameters():
            np.testing.assert_allclose(
                network.gradients[name], parameter.grad.numpy(), rtol=1e-4, atol=2e-5, err_msg=name
            )
    for name, value in module.named_buffers():
        if "num_batches" not in name:
            np.testing.assert_allclose(network.buffers[name], value.numpy(), rtol=1e-5, atol=1e-6)


def test_our_state_runs_in_torch() -> None:
    network = randomise(nn.MLP(WIDTHS, "gelu", norm="batch"))
    module = sequential("gelu", "batch").eval()
    state = {name: torch.from_numpy(value) for name, value in network.state_dict().items()}
    missing = module.load_state_dict(state, strict=False)
    assert all("num_batches" in name for name in missing.missing_keys)
    x = np.random.default_rng(1).normal(size=(11, WIDTHS[0])).astype("f")
    expected = module(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(network(x), expected, rtol=1e-5, atol=1e-5)


def test_embeddings_and_transposed_weights() -> None:
    table = torch.nn.Embedding(5, 3)
    own = nn.Embedding(5, 3)
    own.load_state_dict(table)
    labels = [4, 0, 2]
    np.testing.assert_array_equal(own(labels), table(torch.tensor(labels)).detach().numpy())
    linear = torch.nn.Linear(7, 4)
    b = nn.ProgramBuilder()
    sparse = nn.Network(b.finish([b.sparse_dense(0, columns=7, width=4, name="")]))
    sparse.load_state_dict(linear)
    x = np.random.default_rng(0).poisson(1.0, (3, 7)).astype("f")
    expected = linear(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(sparse(x), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(sparse.state_dict()["weight"], linear.weight.detach().numpy())


@both
@pytest.mark.parametrize("kind", ["Adam", "AdamW"])
def test_optimizers(backend: str, kind: str) -> None:
    rng = np.random.default_rng(3)
    p = rng.normal(size=30)
    parameter = torch.nn.Parameter(torch.tensor(p))
    options: dict[str, Any] = {"betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.1}
    theirs = getattr(torch.optim, kind)([parameter], lr=0.02, **options)
    ours = getattr(nn, kind)(0.02, clip_norm=2.0, **options)
    for _ in range(6):
        g = rng.normal(size=30)
        parameter.grad = torch.tensor(g)
        norm = torch.nn.utils.clip_grad_norm_([parameter], 2.0)
        theirs.step()
        assert ours.step(p, g, backend=backend) == pytest.approx(float(norm), rel=1e-12)
        np.testing.assert_allclose(p, parameter.detach().numpy(), rtol=1e-10)


@both
def test_losses(backend: str) -> None:
    rng = np.random.default_rng(4)
    h, y = rng.normal(size=(9, 4)), rng.normal(size=(9, 4))
    labels, bits = rng.integers(0, 4, 9), rng.integers(0, 2, (9, 4)).astype(float)
    functional = torch.nn.functional
    cases = [
        (nn.mean_squared_error(h, y, backend=backend), functional.mse_loss, y, 1.0),
        (nn.huber(h, y, backend=backend), functional.huber_loss, y, 1.0),
        (nn.cross_entropy(h, labels, backend=backend), functional.cross_entropy, labels, 1.0),
        (
            nn.binary_cross_entropy(h, bits, backend=backend),
            functional.binary_cross_entropy_with_logits,
            bits,
            4.0,  # theirs is a mean over the columns too
        ),
    ]
    for (value, gradient), function, target, factor in cases:
        leaf = torch.tensor(h, requires_grad=True)
        expected = factor * function(leaf, torch.tensor(target))
        expected.backward()
        assert value == pytest.approx(float(expected.detach()), rel=1e-12)
        np.testing.assert_allclose(gradient, leaf.grad.numpy(), rtol=1e-10, atol=1e-15)


@both
def test_one_run_step_by_step(backend: str) -> None:
    """The same start and the same batches (all rows) give the same losses."""
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(64, WIDTHS[0])), rng.normal(size=(64, WIDTHS[-1]))
    module = sequential("elu", "batch").double()
    network = nn.MLP(WIDTHS, "elu", norm="batch", dtype="float64")
    network.load_state_dict(module)
    run = network.fit(
        x,
        y,
        num_steps=40,
        batch_size=64,
        optimizer=nn.AdamW(1e-2, weight_decay=0.1, clip_norm=1.0),
        backend=backend,
    )
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-2, weight_decay=0.1)
    module.train()
    for step in range(40):
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(module(torch.tensor(x)), torch.tensor(y))
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        assert run.losses[step, 0] == pytest.approx(float(loss.detach()), rel=1e-8)
        assert run.gradient_norms[step] == pytest.approx(float(norm), rel=1e-7)
    np.testing.assert_allclose(
        network.buffers["1.running_var"], module[1].running_var.numpy(), rtol=1e-7
    )


def _losses_of_torch(x: Any, labels: Any, seeds: range) -> list[float]:
    reached = []
    for seed in seeds:
        torch.manual_seed(seed)
        module = torch.nn.Sequential(
            torch.nn.Linear(8, 32), torch.nn.ReLU(), torch.nn.Dropout(0.1), torch.nn.Linear(32, 4)
        )
        optimizer = torch.optim.AdamW(module.parameters(), lr=5e-3)
        data, target = torch.tensor(x), torch.tensor(labels)
        for _ in range(6):
            order = torch.randperm(len(x))
            for rows in order[: len(x) // 50 * 50].split(50):
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(module(data[rows]), target[rows]).backward()
                optimizer.step()
        module.eval()
        with torch.no_grad():
            reached.append(float(torch.nn.functional.cross_entropy(module(data), target)))
    return reached


def test_training_gets_as_far() -> None:
    """Four runs each, random starts, orders and masks: the means agree within the noise."""
    rng = np.random.default_rng(6)
    x = rng.normal(size=(1000, 8)).astype("f")
    labels = (x @ rng.normal(size=(8, 4)) + rng.gumbel(size=(1000, 4))).argmax(axis=1)
    theirs = np.array(_losses_of_torch(x, labels, range(4)))
    ours = []
    for seed in range(4):
        network = nn.MLP([8, 32, 4], dropout=0.1, seed=seed)
        optimizer = nn.AdamW(5e-3)
        network.fit(
            x,
            labels,
            loss="cross_entropy",
            epochs=6,
            batch_size=50,
            optimizer=optimizer,
            seed=seed,
        )
        ours.append(nn.cross_entropy(network.predict(x), labels)[0])
    noise = np.sqrt((np.var(ours, ddof=1) + theirs.var(ddof=1)) / 4)
    assert abs(np.mean(ours) - theirs.mean()) < 5 * max(noise, 2e-3)
