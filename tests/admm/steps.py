"""The step of SISA written as the paper writes it, with the local copies stored."""

from __future__ import annotations

from typing import Any

import numpy as np

SCHEMES = ("identity", "diag", "adagrad", "rmsprop", "adam", "softsign", "sigma_rho")


class Naive:
    """Algorithm 1 with W stored, in float64."""

    def __init__(self, w: np.ndarray, alpha: np.ndarray, sigma: np.ndarray, rho: np.ndarray,
                 scheme: str = "adam", beta: float = 0.999, eps: float = 1e-8, lam: float = 0.0,
                 diagonal: np.ndarray | None = None) -> None:  # fmt: skip
        self.w = w.astype(float)
        clients = len(alpha)
        self.alpha, self.sigma, self.rho = alpha, sigma, rho
        self.scheme, self.beta, self.eps, self.lam, self.t = scheme, beta, eps, lam, 0
        self.PI = np.zeros((clients, *w.shape))
        self.V = np.zeros((clients, *w.shape)) if diagonal is None else diagonal
        self.W = np.repeat(self.w[None], clients, axis=0)

    def q(self, i: int, u: np.ndarray) -> Any:
        if self.scheme in ("identity", "sigma_rho"):
            return 1.0
        if self.scheme == "diag":
            return self.V[i]
        if self.scheme == "softsign":
            return np.abs(u)
        if self.scheme == "adagrad":
            self.V[i] += u * u
            return np.sqrt(self.V[i])
        self.V[i] = self.beta * self.V[i] + (1 - self.beta) * u * u
        correction = 1 - self.beta**self.t if self.scheme == "adam" else 1.0
        return np.sqrt(self.V[i] / correction)

    def step(self, gradients: np.ndarray) -> None:
        """One round with these gradients at self.w; then the next global step."""
        self.t += 1
        for i, g in enumerate(gradients):
            u = g + self.PI[i]
            eps = 0.0 if self.scheme == "sigma_rho" else self.eps
            self.W[i] = self.w - u / (self.sigma[i] + self.rho[i] * (self.q(i, u) + eps))
            self.PI[i] = self.PI[i] + self.sigma[i] * (self.W[i] - self.w)
        weights = self.alpha * self.sigma
        total = np.tensordot(weights, self.W, 1) + np.tensordot(self.alpha, self.PI, 1)
        self.w = total / (weights.sum() + self.lam)
