"""SISA, NSISA, AdamW and Muon beside each other on scikit-learn's digits, by label and at random.

Run it by hand: ``python bench/paper_admm_torch.py`` takes a few minutes on two cores. It needs the
extras torch, sklearn and plot, and writes ``paper_admm_torch.svg``. Each optimizer has one setting
for all four problems, a usual one; none was searched for.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn import functional

from hotloops.admm import orthogonalize
from hotloops.torch import NSISA, SISA

CLIENTS = 4


def perceptron() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)
    )


def convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(128, 10),
    )  # fmt: skip


class Muon:
    """Momentum, orthogonalised (Jordan et al., 2024), for matrices; AdamW for the rest."""

    def __init__(self, params: Any, lr: float) -> None:
        params = list(params)
        self.matrices = [p for p in params if p.ndim >= 2]
        self.momenta = [torch.zeros_like(p) for p in self.matrices]
        self.other = torch.optim.AdamW([p for p in params if p.ndim < 2], lr=3e-3)
        self.lr = lr

    @torch.no_grad()
    def step(self) -> None:
        for p, momentum in zip(self.matrices, self.momenta, strict=True):
            momentum.mul_(0.95).add_(p.grad)
            flat = (p.grad + 0.95 * momentum).reshape(len(p), -1)
            scale = max(1.0, flat.shape[0] / flat.shape[1]) ** 0.5
            p.add_(orthogonalize(flat).reshape(p.shape), alpha=-self.lr * scale)
        self.other.step()


class PerClient:
    """An optimizer of ours, which takes the gradients of one client at a time."""

    def __init__(self, optimizer: SISA) -> None:
        self.optimizer = optimizer

    def step(self, client: int) -> None:
        self.optimizer.step(client=client)


OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "SISA": lambda p: PerClient(SISA(p, sigma=2.0, rho=100.0, n_clients=CLIENTS)),
    "NSISA": lambda p: PerClient(
        NSISA(p, sigma=30.0, rho=30.0, n_clients=CLIENTS, sigma_other=2.0, rho_other=100.0)
    ),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=3e-3),
    "Muon": lambda p: Muon(p, lr=0.02),
}


@dataclass
class Run:
    """Losses and accuracies after every epoch."""

    losses: list[float] = field(default_factory=list)
    accuracies: list[float] = field(default_factory=list)


def parts(labels: torch.Tensor, skewed: bool, seed: int) -> list[torch.Tensor]:
    """Return the rows of each client: in order of their labels, or at random."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(labels), generator=generator)
    if skewed:
        order = order[torch.argsort(labels[order], stable=True)]
    return list(order.chunk(CLIENTS))


def train(make: Callable[[], nn.Module], name: str, skewed: bool, epochs: int, seed: int) -> Run:
    X, y = load_digits(return_X_y=True)
    images = torch.tensor(X.reshape(-1, 1, 8, 8) / 16, dtype=torch.float32)
    labels = torch.tensor(y)
    rows, held_out = (
        torch.tensor(i) for i in train_test_split(np.arange(len(y)), random_state=seed, stratify=y)
    )
    torch.manual_seed(seed)
    model = make()
    optimizer = OPTIMIZERS[name](model.parameters())
    clients = [rows[p] for p in parts(labels[rows], skewed, seed)]
    generator = torch.Generator().manual_seed(seed)
    run = Run()
    for _ in range(epochs):
        orders = [c[torch.randperm(len(c), generator=generator)] for c in clients]
        for batches in zip(*(o.split(32) for o in orders), strict=False):
            if isinstance(optimizer, PerClient):
                for i, batch in enumerate(batches):
                    model.zero_grad()
                    functional.cross_entropy(model(images[batch]), labels[batch]).backward()
                    optimizer.step(i)
            else:  # the same rows in one batch
                model.zero_grad()
                both = torch.cat(batches)
                functional.cross_entropy(model(images[both]), labels[both]).backward()
                optimizer.step()
        with torch.no_grad():
            loss = functional.cross_entropy(model(images[rows]), labels[rows])
            right = model(images[held_out]).argmax(1) == labels[held_out]
        run.losses.append(float(loss))
        run.accuracies.append(float(right.float().mean()))
    return run


def draw(results: dict[tuple[str, str, str], list[Run]], path: str) -> None:
    import matplotlib.pyplot as plt

    problems = list(dict.fromkeys((model, split) for model, split, _ in results))
    figure, axes = plt.subplots(1, len(problems), figsize=(4 * len(problems), 3.2), sharey=True)
    for axis, (model, split) in zip(axes, problems, strict=True):
        for name in OPTIMIZERS:
            losses = np.mean([run.losses for run in results[model, split, name]], axis=0)
            axis.semilogy(1 + np.arange(len(losses)), losses, label=name)
        axis.set(title=f"{model}, {split}", xlabel="epoch")
    axes[0].set_ylabel("training loss")
    axes[0].legend()
    figure.tight_layout()
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", default="paper_admm_torch.svg")
    options = parser.parse_args()
    results: dict[tuple[str, str, str], list[Run]] = {}
    print(f"{'model':8} {'clients':9} {'optimizer':9} {'loss':>9} {'accuracy':>9}")
    for model, make in (("MLP", perceptron), ("CNN", convolutional)):
        for split in ("at random", "by label"):
            for name in OPTIMIZERS:
                runs = [
                    train(make, name, split == "by label", options.epochs, seed)
                    for seed in range(options.seeds)
                ]
                results[model, split, name] = runs
                loss = np.mean([run.losses[-1] for run in runs])
                accuracy = np.mean([run.accuracies[-1] for run in runs])
                print(f"{model:8} {split:9} {name:9} {loss:9.2e} {accuracy:9.4f}")
    draw(results, options.output)


if __name__ == "__main__":
    main()
