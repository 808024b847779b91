"""The networks of the flow and nn benchmarks in PyTorch, with the parameters of ours."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


class _Block(nn.Module):
    def __init__(self, hidden: int, embed: int) -> None:
        super().__init__()
        self.net1 = nn.Sequential(nn.SiLU(), nn.Linear(hidden, hidden))
        self.cond_proj = nn.Sequential(nn.SiLU(), nn.Linear(embed, hidden))
        self.net2 = nn.Sequential(nn.SiLU(), nn.Linear(hidden, hidden))

    def forward(self, h: Any, condition: Any) -> Any:
        return h + self.net2(self.net1(h) + condition)


class Velocity(nn.Module):
    """The velocity network of CFGen with one attribute, without size factors."""

    def __init__(self, dim: int, hidden: int, embed: int, blocks: int, categories: int) -> None:
        super().__init__()
        self.time_embedder = nn.Sequential(
            nn.Linear(embed, embed), nn.SiLU(), nn.Linear(embed, embed)
        )
        self.attributes = nn.ModuleDict({"kind": nn.Embedding(categories, embed)})
        self.net_in = nn.Linear(dim, hidden)
        self.blocks = nn.ModuleList(_Block(hidden, embed) for _ in range(blocks))
        self.net_out = nn.Sequential(nn.SiLU(), nn.Linear(hidden, dim))
        half = embed // 2
        frequencies = 10.0 ** (-4.0 * torch.arange(half) / (half - 1))
        self.register_buffer("frequencies", 1000.0 * frequencies, persistent=False)

    def conditions(self, t: Any, labels: Any) -> list[Any]:
        """What the time, one or one for each row, and the labels, -1 is none, add to the blocks."""
        turns = t[:, None] * self.frequencies
        e = self.time_embedder(torch.cat([turns.sin(), turns.cos()], dim=1))
        table = self.attributes["kind"]
        e = e + torch.where(labels[:, None] < 0, 0.0, table(labels.clamp(min=0)))
        return [block.cond_proj(e) for block in self.blocks]

    def forward(self, z: Any, conditions: list[Any]) -> Any:
        h = self.net_in(z)
        for block, condition in zip(self.blocks, conditions, strict=True):
            h = block(h, condition)
        return self.net_out(h)


def sampler(
    network: Velocity, z: Any, labels: Any, weight: float, steps: int, *, hoist: bool, jit: bool
) -> Callable[[], Any]:
    """Midpoint steps of the guided velocity, both branches as one batch.

    `hoist` evaluates the conditions once for each label that occurs, since all rows have one time;
    else for each row, as the official code does.
    """
    n = len(z)
    none = torch.full_like(labels, -1)
    kinds = torch.arange(-1, len(network.attributes["kind"].weight))
    which = torch.cat([none, labels]) + 1

    def velocity(z: Any, t: Any) -> Any:
        if hoist:
            conditions = [c[which] for c in network.conditions(t, kinds)]
        else:
            conditions = network.conditions(t.expand(2 * n), which - 1)
        both = network(torch.cat([z, z]), conditions)
        plain, conditional = both[:n], both[n:]
        return plain + weight * (conditional - plain)

    if jit:
        velocity = torch.compile(velocity)
    h = 1.0 / steps
    times = [torch.tensor([(k + half) * h]) for k in range(steps) for half in (0.0, 0.5)]

    def call() -> Any:
        with torch.inference_mode():
            x = z
            for k in range(steps):
                middle = x + h / 2 * velocity(x, times[2 * k])
                x = x + h * velocity(middle, times[2 * k + 1])
            return x.numpy()

    return call


def perceptron(widths: list[int]) -> Any:
    """Linear layers with SiLU between them."""
    layers: list[Any] = []
    for a, b in itertools.pairwise(widths):
        layers += [nn.Linear(a, b), nn.SiLU()]
    return nn.Sequential(*layers[:-1])


def autoencoder(genes: int, hidden: tuple[int, ...], latent: int) -> Any:
    """The count autoencoder: batch norm and ELU after every layer but the last of each half."""

    def half(widths: list[int]) -> list[Any]:
        layers: list[Any] = []
        for a, b in itertools.pairwise(widths[:-1]):
            layers += [nn.Linear(a, b), nn.BatchNorm1d(b), nn.ELU()]
        return [*layers, nn.Linear(widths[-2], widths[-1])]

    widths = [genes, *hidden, latent]
    return nn.Sequential(*half(widths), *half(widths[::-1]))


def negative_binomial(logits: Any, log_theta: Any, counts: Any) -> Any:
    """Mean over the rows of -log p, with the means L softmax(logits)."""
    total = counts.sum(dim=1, keepdim=True)
    log_mu = total.log() + F.log_softmax(logits, dim=1)
    theta = log_theta.exp()
    log_sum = torch.log(theta + log_mu.exp())
    log_p = (
        theta * (log_theta - log_sum)
        + counts * (log_mu - log_sum)
        + torch.lgamma(counts + theta)
        - torch.lgamma(theta)
        - torch.lgamma(counts + 1.0)
    )
    return -log_p.sum(dim=1).mean()


def trainer(
    parameters: list[Any],
    loss: Callable[[Any], Any],
    num_rows: int,
    batch_size: int,
    num_steps: int,
    *,
    clip: float | None = None,
    jit: bool = False,
) -> Callable[[], float]:
    """Return steps of AdamW (fused) on batches of a new order; they give the last loss."""
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=1e-5, fused=True)
    generator = torch.Generator().manual_seed(0)
    compute = torch.compile(loss) if jit else loss

    def call() -> float:
        done, value = 0, torch.tensor(np.nan)
        while done < num_steps:
            order = torch.randperm(num_rows, generator=generator)
            for rows in order[: num_rows // batch_size * batch_size].split(batch_size):
                optimizer.zero_grad(set_to_none=True)
                value = compute(rows)
                value.backward()
                if clip is not None:
                    nn.utils.clip_grad_norm_(parameters, clip)
                optimizer.step()
                done += 1
                if done == num_steps:
                    break
        return float(value.detach())

    return call
