"""Small networks: layers with hand-derived gradients, whole training loops in C++ and Numba.

A network is a program, instructions over matrices, that `ProgramBuilder` writes and every backend
runs; there is no tape and no graph. `MLP` and its like need no builder.
"""

from __future__ import annotations

from hotloops.nn._jobs import Loss
from hotloops.nn._layout import Operand, Program
from hotloops.nn._losses import (
    binary_cross_entropy,
    cross_entropy,
    huber,
    mean_squared_error,
    negative_binomial_nll,
    poisson_nll,
)
from hotloops.nn._modules import MLP, Embedding, ResidualMLP, TimeEmbedding
from hotloops.nn._network import Network
from hotloops.nn._optimizers import EMA, Adam, AdamW
from hotloops.nn._program import ProgramBuilder
from hotloops.nn._train import Report, TrainResult, TrainState

__all__ = [
    "EMA",
    "MLP",
    "Adam",
    "AdamW",
    "Embedding",
    "Loss",
    "Network",
    "Operand",
    "Program",
    "ProgramBuilder",
    "Report",
    "ResidualMLP",
    "TimeEmbedding",
    "TrainResult",
    "TrainState",
    "binary_cross_entropy",
    "cross_entropy",
    "huber",
    "mean_squared_error",
    "negative_binomial_nll",
    "poisson_nll",
]
