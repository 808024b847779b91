"""The problems that rows solve, what a row does, and what it needs of the processor."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from _bench_answers import (
    QuadraticAnswer,
    SampledAnswer,
    plain_logistic,
    plain_markov,
    plain_streaming,
)
from _peers_sgd import Logistic, Quadratic
from _peers_streaming import Markov, Streaming

from hotloops import datasets

CHAINS = 1024
STEP_SIZES = (0.05, 0.1)
L2 = 1e-2
MEGABYTE = 1 << 20

# Operations on 32-bit lanes, counted in csrc; one on a 64-bit lane is two. A normal: 35 for its
# share of a Philox block (eight rounds of two products, two shifts and four xors; the first two are
# kept from step to step) and 33 for Box-Muller. A coordinate of a quadratic: 5 for gradient and
# update, 3 to see whether it is in range, 4 to add it up in float64, and 1 for each normal. A
# coordinate of a logistic loss: 2 for the margin, 5 for gradient and update, 7 as before, and 170
# in each step for the row's index and the sigmoid.
NORMAL = 69
QUADRATIC = 12
LOGISTIC = 14
LOGISTIC_STEP = 170


@functools.cache
def quadratic(
    num_step_sizes: int, dim: int = 16, num_steps: int = 1000, num_chains: int = CHAINS
) -> Quadratic:
    """Return chains that start at the minimiser."""
    minimizer = np.linspace(-1.0, 1.0, dim, dtype=np.float32)
    return Quadratic(
        curvature=np.linspace(1.0, 2.0, dim, dtype=np.float32),
        minimizer=minimizer,
        noise_scale=np.ones(dim, np.float32),
        theta0=np.broadcast_to(minimizer, (num_chains, num_step_sizes, dim)).copy(),
        step_sizes=np.asarray(STEP_SIZES[:num_step_sizes], np.float32),
        num_steps=num_steps,
    )


@functools.cache
def logistic(data: str, num_step_sizes: int, num_steps: int) -> Logistic:
    """Return chains that start at zero."""
    if data == "a9a":
        table = datasets.load_a9a("train", dtype=np.float32)
        features = table.X
    else:
        table = datasets.load_breast_cancer()
        features = datasets.standardize(table.X, dtype=np.float32)
    return Logistic(
        features=features,
        labels=(table.y > 0).astype(np.float32),
        l2=L2,
        theta0=np.zeros((CHAINS, num_step_sizes, features.shape[1]), np.float32),
        step_sizes=np.asarray(STEP_SIZES[:num_step_sizes], np.float32),
        num_steps=num_steps,
    )


@functools.cache
def quadratic_answer(*case: int) -> QuadraticAnswer:
    return QuadraticAnswer(quadratic(*case))


@functools.cache
def logistic_answer(*case: Any) -> SampledAnswer:
    return SampledAnswer(plain_logistic(logistic(*case)))


@functools.cache
def streaming(num_step_sizes: int, dim: int = 10, num_steps: int = 1000) -> Streaming:
    """Return chains that start at zero, on features of unequal scale."""
    return Streaming(
        truth=np.linspace(-1.0, 1.0, dim, dtype=np.float32),
        scale=np.linspace(0.5, 1.5, dim, dtype=np.float32),
        l2=L2,
        theta0=np.zeros((CHAINS, num_step_sizes, dim), np.float32),
        step_sizes=np.asarray(STEP_SIZES[:num_step_sizes], np.float32),
        num_steps=num_steps,
    )


@functools.cache
def streaming_answer(*case: int) -> SampledAnswer:
    return SampledAnswer(plain_streaming(streaming(*case)))


@functools.cache
def markov(num_step_sizes: int, dim: int = 5, num_steps: int = 1000) -> Markov:
    """Return chains on ten states, with matrices that are stable in the mean."""
    rng = np.random.default_rng(11)
    transitions = rng.random((10, 10))
    transitions /= transitions.sum(axis=1, keepdims=True)
    stationary = np.linalg.matrix_power(transitions, 200)[0]
    mean = rng.standard_normal((dim, dim))
    mean -= (np.linalg.eigvals(mean).real.max() + 1.0) * np.eye(dim)
    noise = rng.uniform(-1.0, 1.0, (10, dim, dim))
    noise -= np.einsum("s,sij->ij", stationary, noise)
    return Markov(
        matrices=(mean + noise).astype(np.float32),
        vectors=rng.uniform(-1.0, 1.0, (10, dim)).astype(np.float32),
        transitions=transitions,
        stationary=stationary,
        theta0=np.zeros((CHAINS, num_step_sizes, dim), np.float32),
        step_sizes=np.asarray(STEP_SIZES[:num_step_sizes], np.float32),
        num_steps=num_steps,
    )


@functools.cache
def markov_answer(*case: int) -> SampledAnswer:
    return SampledAnswer(plain_markov(markov(*case)))


def work(case: Quadratic | Logistic | Streaming | Markov) -> dict[str, Any]:
    """Return what a row does: an update is one coordinate of one copy of a chain in one step."""
    arrays = [value for value in vars(case).values() if isinstance(value, np.ndarray)]
    results = case.theta0.size * (8 + 4)
    return {
        "elements": case.theta0.size * case.num_steps,
        "unit": "updates",
        "bytes_moved": sum(array.nbytes for array in arrays) + results,
        "chains": case.theta0.shape[0],
        "step_sizes": case.theta0.shape[1],
        "dim": case.theta0.shape[2],
        "steps": case.num_steps,
        "dtype": "float32",
    }


def streaming_operations(case: Streaming) -> float:
    """Return operations for one update: features, label and two dot products beside the loss.

    A coordinate of a step: a normal, 1 to scale it, 2 for the product with the true parameter. A
    step: 140 for the block of the label's uniform, and 30 for each sigmoid.
    """
    _, num_step_sizes, dim = case.theta0.shape
    shared = dim * (NORMAL + 2) + 140 + 30
    return LOGISTIC + (shared + 30 * num_step_sizes) / (dim * num_step_sizes)


def markov_operations(case: Markov) -> float:
    """Return operations for one update: 2 for each element of the matrix, 4 for sign and update.

    As before 7 to see whether it is in range and to add it up; a step: 140 for a block of words
    and 10 for the next state. Reading the matrices of the states is not counted.
    """
    _, num_step_sizes, dim = case.theta0.shape
    return 2 * dim + 11 + 150 / (dim * num_step_sizes)
