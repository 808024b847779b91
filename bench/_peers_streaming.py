"""Streaming logistic regression and Markovian linear approximation, as `_peers_sgd` does it.

What a step draws is drawn by the library itself: features and labels of the logistic model, and
the next state of the Markov chain by inversion of the cumulative row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from _peers_sgd import Call, Single


@dataclass(frozen=True)
class Streaming:
    """Chains on a logistic model: ``x = s z``, z ~ N(0, I), ``P(y = 1) = sigmoid(x^T t*)``."""

    truth: Single
    scale: Single
    l2: float
    theta0: Single  # (chains, step sizes, dim)
    step_sizes: Single
    num_steps: int


@dataclass(frozen=True)
class Markov:
    """Chains ``t <- t + g (A[s] t + b[s])`` with a state s of their own that follows P."""

    matrices: Single  # (states, dim, dim)
    vectors: Single  # (states, dim)
    transitions: npt.NDArray[np.float64]  # (states, states)
    stationary: npt.NDArray[np.float64]  # (states,), of which the first states are drawn
    theta0: Single
    step_sizes: Single
    num_steps: int

    @property
    def cumulative(self) -> Single:
        """Upper ends of the intervals that a uniform number must fall into."""
        ends: Single = np.cumsum(self.transitions, axis=1).astype(np.float32)
        ends[:, -1] = 1.0
        return ends

    def first_states(self) -> Any:
        """Draw a state for each chain."""
        rng = np.random.default_rng(2)
        share = self.stationary
        return rng.choice(share.size, self.theta0.shape[0], p=share).astype(np.int32)


def numpy_streaming(case: Streaming) -> Call:
    """Return a loop over steps, all chains at once, in buffers."""
    from scipy.special import expit

    rng = np.random.Generator(np.random.SFC64(1))
    num_chains, _, dim = case.theta0.shape
    features = np.empty((num_chains, dim), np.float32)
    uniform = np.empty(num_chains, np.float32)
    gradient, pull = np.empty_like(case.theta0), np.empty_like(case.theta0)
    ridge = np.float32(case.l2)
    scaled = case.step_sizes[:, None]

    def call() -> tuple[Single, Single]:
        theta = case.theta0.copy()
        sums = np.zeros_like(theta)
        for _ in range(case.num_steps):
            rng.standard_normal(out=features, dtype=np.float32)
            np.multiply(features, case.scale, out=features)
            rng.random(out=uniform, dtype=np.float32)
            label = uniform < expit(features @ case.truth)
            margin = np.einsum("cjd,cd->cj", theta, features)
            residual = expit(margin) - label[:, None]
            np.multiply(residual[:, :, None], features[:, None, :], out=gradient)
            np.add(gradient, np.multiply(theta, ridge, out=pull), out=gradient)
            np.multiply(gradient, scaled, out=gradient)
            np.subtract(theta, gradient, out=theta)
            np.add(sums, theta, out=sums)
        return sums / case.num_steps, theta

    return call


def numba_streaming(case: Streaming, threads: int) -> Call:
    """Return nested loops under ``@njit(parallel=True, fastmath=True)``."""
    from numba import njit, prange, set_num_threads

    @njit(parallel=True, fastmath=True)
    def loop(truth, scale, ridge, theta0, step_sizes, num_steps):  # type: ignore[no-untyped-def]
        theta, sums = theta0.copy(), np.zeros_like(theta0)
        num_chains, num_step_sizes, dim = theta.shape
        one = np.float32(1)
        for chain in prange(num_chains):
            features = np.empty(dim, np.float32)
            for _ in range(num_steps):
                margin = np.float32(0)
                for i in range(dim):
                    x = scale[i] * np.float32(np.random.standard_normal())  # noqa: NPY002
                    features[i] = x
                    margin += truth[i] * x
                share = one / (one + np.exp(-margin))
                label = one if np.float32(np.random.random()) < share else np.float32(0)  # noqa: NPY002
                for j in range(num_step_sizes):
                    margin = np.float32(0)
                    for i in range(dim):
                        margin += features[i] * theta[chain, j, i]
                    residual = one / (one + np.exp(-margin)) - label
                    for i in range(dim):
                        t = theta[chain, j, i]
                        t -= step_sizes[j] * (residual * features[i] + ridge * t)
                        theta[chain, j, i] = t
                        sums[chain, j, i] += t
        return sums / np.float32(num_steps), theta

    set_num_threads(threads)
    ridge = np.float32(case.l2)
    arguments = (case.truth, case.scale, ridge, case.theta0, case.step_sizes)
    loop(*arguments, 1)
    return lambda: loop(*arguments, case.num_steps)


def jax_streaming(case: Streaming, generator: str) -> Call:
    """Return ``lax.scan`` over steps of a chain's step under vmap, compiled."""
    import jax
    import jax.numpy as jnp

    truth, scale, theta0, step_sizes = (
        jnp.asarray(part) for part in (case.truth, case.scale, case.theta0, case.step_sizes)
    )
    num_chains, _, dim = case.theta0.shape

    def step_of_chain(theta: Any, normal: Any, uniform: Any) -> Any:
        features = scale * normal
        label = uniform < jax.nn.sigmoid(features @ truth)
        residual = jax.nn.sigmoid(theta @ features) - label
        gradient = residual[:, None] * features + case.l2 * theta
        return theta - step_sizes[:, None] * gradient

    @jax.jit
    def run(start: Any, key: Any) -> tuple[Any, Any]:
        def step(carry: tuple[Any, Any], index: Any) -> tuple[tuple[Any, Any], None]:
            theta, sums = carry
            first, second = jax.random.split(jax.random.fold_in(key, index))
            normals = jax.random.normal(first, (num_chains, dim), jnp.float32)
            uniforms = jax.random.uniform(second, (num_chains,), jnp.float32)
            theta = jax.vmap(step_of_chain)(theta, normals, uniforms)
            return (theta, sums + theta), None

        carry = (start, jnp.zeros_like(start))
        (theta, sums), _ = jax.lax.scan(step, carry, jnp.arange(case.num_steps))
        return sums / case.num_steps, theta

    key = jax.random.key(1, impl=generator)
    return lambda: jax.block_until_ready(run(theta0, key))


def torch_streaming(case: Streaming, threads: int) -> Call:
    """Return a loop over steps, all chains at once, in place where PyTorch can."""
    import torch

    truth, scale, theta0, step_sizes = (
        torch.from_numpy(part.copy())
        for part in (case.truth, case.scale, case.theta0, case.step_sizes[:, None])
    )
    features = torch.empty_like(theta0[:, 0])
    uniform = torch.empty_like(theta0[:, 0, 0])
    torch.set_num_threads(threads)

    @torch.inference_mode()
    def call() -> tuple[Any, Any]:
        theta = theta0.clone()
        sums = torch.zeros_like(theta)
        for _ in range(case.num_steps):
            features.normal_().mul_(scale)
            label = uniform.uniform_() < torch.sigmoid(features @ truth)
            margin = torch.bmm(theta, features.unsqueeze(2)).squeeze(2)
            residual = torch.sigmoid(margin).sub_(label.unsqueeze(1).float())
            gradient = residual.unsqueeze(2) * features.unsqueeze(1)
            gradient.add_(theta, alpha=case.l2)
            theta.addcmul_(gradient, step_sizes, value=-1.0)
            sums.add_(theta)
        return sums / case.num_steps, theta

    return call


def numpy_markov(case: Markov) -> Call:
    """Return a loop over steps, all chains at once; the uniforms are drawn before it."""
    rng = np.random.Generator(np.random.SFC64(1))
    ends = case.cumulative
    num_chains, _, dim = case.theta0.shape
    matrices = np.empty((num_chains, dim, dim), np.float32)
    vectors = np.empty((num_chains, 1, dim), np.float32)
    drift = np.empty_like(case.theta0)
    scaled = case.step_sizes[:, None]
    start = case.first_states()

    def call() -> tuple[Single, Single]:
        theta, states = case.theta0.copy(), start
        sums = np.zeros_like(theta)
        for uniform in rng.random((case.num_steps, num_chains), dtype=np.float32):
            np.take(case.matrices, states, axis=0, out=matrices, mode="clip")
            np.take(case.vectors, states, axis=0, out=vectors[:, 0], mode="clip")
            np.matmul(theta, matrices.transpose(0, 2, 1), out=drift)
            np.add(drift, vectors, out=drift)
            np.multiply(drift, scaled, out=drift)
            np.add(theta, drift, out=theta)
            np.add(sums, theta, out=sums)
            states = (ends[states] <= uniform[:, None]).sum(axis=1)
        return sums / case.num_steps, theta

    return call


def numba_markov(case: Markov, threads: int) -> Call:
    """Return nested loops under ``@njit(parallel=True, fastmath=True)``."""
    from numba import njit, prange, set_num_threads

    @njit(parallel=True, fastmath=True)
    def loop(matrices, vectors, ends, states, theta0, step_sizes, num_steps):  # type: ignore[no-untyped-def]
        theta, sums = theta0.copy(), np.zeros_like(theta0)
        num_chains, num_step_sizes, dim = theta.shape
        for chain in prange(num_chains):
            state = states[chain]
            drift = np.empty(dim, np.float32)
            for _ in range(num_steps):
                for j in range(num_step_sizes):
                    for i in range(dim):
                        total = vectors[state, i]
                        for k in range(dim):
                            total += matrices[state, i, k] * theta[chain, j, k]
                        drift[i] = total
                    for i in range(dim):
                        t = theta[chain, j, i] + step_sizes[j] * drift[i]
                        theta[chain, j, i] = t
                        sums[chain, j, i] += t
                uniform = np.float32(np.random.random())  # noqa: NPY002
                following = 0
                while ends[state, following] <= uniform:
                    following += 1
                state = following
        return sums / np.float32(num_steps), theta

    set_num_threads(threads)
    arguments = (case.matrices, case.vectors, case.cumulative, case.first_states())
    last = (case.theta0, case.step_sizes)
    loop(*arguments, *last, 1)
    return lambda: loop(*arguments, *last, case.num_steps)


def jax_markov(case: Markov, generator: str) -> Call:
    """Return ``lax.scan`` over uniforms drawn in one call, a chain's step under vmap, compiled."""
    import jax
    import jax.numpy as jnp

    matrices, vectors, ends, theta0, step_sizes = (
        jnp.asarray(part)
        for part in (case.matrices, case.vectors, case.cumulative, case.theta0, case.step_sizes)
    )
    start_states = jnp.asarray(case.first_states())
    shape = (case.num_steps, theta0.shape[0])

    def step_of_chain(theta: Any, state: Any, uniform: Any) -> Any:
        drift = theta @ matrices[state].T + vectors[state]
        following = jnp.sum(ends[state] <= uniform).astype(jnp.int32)
        return theta + step_sizes[:, None] * drift, following

    @jax.jit
    def run(start: Any, states: Any, key: Any) -> tuple[Any, Any]:
        def step(carry: Any, uniform: Any) -> tuple[Any, None]:
            theta, states, sums = carry
            theta, states = jax.vmap(step_of_chain)(theta, states, uniform)
            return (theta, states, sums + theta), None

        uniforms = jax.random.uniform(key, shape, jnp.float32)
        carry = (start, states, jnp.zeros_like(start))
        (theta, _, sums), _ = jax.lax.scan(step, carry, uniforms)
        return sums / case.num_steps, theta

    key = jax.random.key(1, impl=generator)
    return lambda: jax.block_until_ready(run(theta0, start_states, key))


def torch_markov(case: Markov, threads: int) -> Call:
    """Return a loop over steps, all chains at once; the uniforms are drawn before it."""
    import torch

    transposed, vectors, ends, theta0, step_sizes = (
        torch.from_numpy(part.copy())
        for part in (
            case.matrices.transpose(0, 2, 1),
            case.vectors,
            case.cumulative,
            case.theta0,
            case.step_sizes[:, None],
        )
    )
    start = torch.from_numpy(case.first_states()).long()
    torch.set_num_threads(threads)

    @torch.inference_mode()
    def call() -> tuple[Any, Any]:
        theta, states = theta0.clone(), start
        sums = torch.zeros_like(theta)
        for uniform in torch.rand(case.num_steps, theta.shape[0]):
            drift = torch.baddbmm(
                vectors.index_select(0, states).unsqueeze(1),
                theta,
                transposed.index_select(0, states),
            )
            theta.addcmul_(drift, step_sizes)
            sums.add_(theta)
            states = (ends.index_select(0, states) <= uniform.unsqueeze(1)).sum(dim=1)
        return sums / case.num_steps, theta

    return call
