"""One step of training against torch, where it is installed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.nn.native import (
    NEGATIVE_BINOMIAL,
    Optimizer,
    Run,
    State,
    Tables,
    Writer,
    csr,
    losses,
    train,
)

torch: Any = pytest.importorskip("torch")


def test_steps_of_a_count_autoencoder() -> None:
    rows, genes = 40, 30
    generator = np.random.default_rng(0)
    counts = generator.poisson(0.7, (rows, genes)).astype(float)
    counts[:, 0] += 1
    w = Writer()
    h = w.batch_norm(w.sparse_dense(0, genes, 12), "elu")
    z = w.dense(h, 4)
    h = w.batch_norm(w.dense(z, 12), "elu")
    logits = w.dense(h, genes)
    log_theta = w.parameters(genes)
    tables = Tables(sparse=[csr(counts, "float64", 1)])
    run = Run(w, tables, rows, [logits], input_gradients=False, size=0.3)
    run.buffers[:] = np.tile(np.repeat([0.0, 1.0], 12), 2)
    of = losses((NEGATIVE_BINOMIAL, logits, 0, 1, log_theta, -1, 0.0, 1.0))

    nn = torch.nn
    layers = [nn.Linear(genes, 12), nn.BatchNorm1d(12), nn.ELU(), nn.Linear(12, 4)]
    layers += [nn.Linear(4, 12), nn.BatchNorm1d(12), nn.ELU(), nn.Linear(12, genes)]
    net = nn.Sequential(*layers).double()
    theta = nn.Parameter(torch.zeros(genes, dtype=torch.float64))
    flat = torch.from_numpy(run.parameters)
    # The order in which the program took its parameters; the norm's come after the layer's.
    held = [p for layer in layers if not isinstance(layer, nn.ELU) for p in layer.parameters()]
    held.append(theta)
    place = 0
    with torch.no_grad():
        for number, p in enumerate(held):
            part = flat[place : place + p.numel()]
            p.copy_(part.reshape(p.T.shape).T if number == 0 else part.reshape(p.shape))
            place += p.numel()
    assert place == run.parameters.size
    adam = torch.optim.AdamW(held, lr=1e-2, weight_decay=1e-2)
    x = torch.from_numpy(counts)
    expected = []
    for _ in range(3):
        scale = x.sum(1, keepdim=True)
        mu = scale * torch.softmax(net(torch.log1p(x)), 1)
        t = theta.exp()
        log_p = t * (t.log() - (t + mu).log()) + x * (mu.log() - (t + mu).log())
        log_p = log_p + torch.lgamma(x + t) - torch.lgamma(t) - torch.lgamma(x + 1)
        value = -log_p.sum(1).mean()
        adam.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(held, 1.0)
        adam.step()
        expected.append(value.item())

    state = State(run, average=False)
    found, _ = train(run, state, of, Optimizer(), 3)
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-9)
    first = state.parameters[: 12 * genes].reshape(genes, 12).T
    np.testing.assert_allclose(first, layers[0].weight.detach().numpy(), rtol=1e-5, atol=1e-7)
    last = layers[-1].weight.detach().numpy()
    weight = state.parameters[-2 * genes - last.size : -2 * genes].reshape(last.shape)
    np.testing.assert_allclose(weight, last, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(state.parameters[-genes:], theta.detach().numpy(), atol=1e-7)
    running = layers[1].running_mean.numpy(), layers[1].running_var.numpy()
    np.testing.assert_allclose(state.buffers[:24], np.concatenate(running), rtol=1e-6)
