"""The step of SISA as a list of PyTorch tensors, and Newton-Schulz by PyTorch's products."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def list_of_tensors(
    weights: list[Any], gradients: list[list[Any]], sigma: float, rho: float
) -> Callable[[], list[Any]]:
    """Return SISA's step in the paper's form: per client and tensor, the local copies stored."""
    import torch

    clients = len(gradients[0])
    alpha, beta, eps = 1.0 / clients, 0.999, 1e-8
    PI, V, W = ([[torch.zeros_like(w) for _ in range(clients)] for w in weights] for _ in range(3))
    t = 0

    @torch.no_grad()
    def call() -> list[Any]:
        nonlocal t
        t += 1
        for k, w in enumerate(weights):
            for i in range(clients):
                u = gradients[k][i] + PI[k][i]
                V[k][i].mul_(beta).addcmul_(u, u, value=1 - beta)
                q = (V[k][i] / (1 - beta**t)).sqrt_().add_(eps)
                W[k][i] = w - u / (sigma + rho * q)
                PI[k][i].add_(W[k][i] - w, alpha=sigma)
            total = torch.zeros_like(w)
            for i in range(clients):
                total.add_(alpha * (sigma * W[k][i] + PI[k][i]))
            w.copy_(total / sigma)
        return weights

    return call


def foreach(
    weights: list[Any], gradients: list[list[Any]], sigma: float, rho: float
) -> Callable[[], list[Any]]:
    """Return the same step without local copies, by operations on whole lists of tensors."""
    import torch

    clients = len(gradients[0])
    own = [[each[i].clone() for each in gradients] for i in range(clients)]
    beta, eps = 0.999, 1e-8
    PI, V = ([[torch.zeros_like(w) for w in weights] for _ in range(clients)] for _ in range(2))
    t = 0

    @torch.no_grad()
    def call() -> list[Any]:
        nonlocal t
        t += 1
        total = None
        for i in range(clients):
            step = torch._foreach_add(own[i], PI[i])
            torch._foreach_mul_(V[i], beta)
            torch._foreach_addcmul_(V[i], step, step, value=1 - beta)
            q = torch._foreach_div(V[i], 1 - beta**t)
            torch._foreach_sqrt_(q)
            torch._foreach_mul_(q, rho)
            torch._foreach_add_(q, sigma + rho * eps)
            torch._foreach_div_(step, q)
            torch._foreach_add_(PI[i], step, alpha=-sigma)
            torch._foreach_mul_(step, -sigma)
            torch._foreach_add_(step, PI[i])
            if total is None:
                total = step
            else:
                torch._foreach_add_(total, step)
        torch._foreach_add_(weights, total, alpha=1 / (clients * sigma))
        return weights

    return call


def newton_schulz(matrices: Any) -> Callable[[], Any]:
    """Return five steps on a batch, each three products, of which two take in the rest."""
    import torch

    a, b, c = 3.4445, -4.7750, 2.0315

    @torch.no_grad()
    def call() -> Any:
        x = matrices / (torch.linalg.matrix_norm(matrices, keepdim=True) + 1e-7)
        for _ in range(5):
            gram = torch.bmm(x, x.mT)
            x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
        return x

    return call
