"""The same loops as a good user of each library writes them.

Every function takes a case, prepares what can be prepared (buffers, compiled code, arrays on the
library's side), and returns a callable that makes all the steps and returns the averages and the
last iterates, of shape (chains, step sizes, dim). The peers add up their averages in float32, which
is less work than the float64 of hotloops.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Single: TypeAlias = npt.NDArray[np.float32]
Call: TypeAlias = Callable[[], tuple[Any, Any]]


@dataclass(frozen=True)
class Quadratic:
    """Chains on ``sum_i a_i (t_i - t*_i)^2 / 2`` with noise ``s_i xi_i``."""

    curvature: Single
    minimizer: Single
    noise_scale: Single
    theta0: Single  # (chains, step sizes, dim)
    step_sizes: Single
    num_steps: int


@dataclass(frozen=True)
class Logistic:
    """Chains on a logistic loss with a ridge; one row, drawn with replacement, in each step."""

    features: Single
    labels: Single
    l2: float
    theta0: Single
    step_sizes: Single
    num_steps: int


def numpy_quadratic(case: Quadratic) -> Call:
    """Return a loop over steps, all chains at once, without temporaries."""
    rng = np.random.Generator(np.random.SFC64(1))
    noise = np.empty_like(case.theta0[:, :1])
    gradient = np.empty_like(case.theta0)
    scaled = case.step_sizes[:, None]

    def call() -> tuple[Single, Single]:
        theta = case.theta0.copy()
        sums = np.zeros_like(theta)
        for _ in range(case.num_steps):
            rng.standard_normal(out=noise, dtype=np.float32)
            np.multiply(noise, case.noise_scale, out=noise)
            np.subtract(theta, case.minimizer, out=gradient)
            np.multiply(gradient, case.curvature, out=gradient)
            np.add(gradient, noise, out=gradient)
            np.multiply(gradient, scaled, out=gradient)
            np.subtract(theta, gradient, out=theta)
            np.add(sums, theta, out=sums)
        return sums / case.num_steps, theta

    return call


def numpy_logistic(case: Logistic) -> Call:
    """Return a loop over steps, all chains at once; the rows are drawn before it."""
    from scipy.special import expit

    rng = np.random.Generator(np.random.SFC64(1))
    num_rows = case.features.shape[0]
    rows = np.empty_like(case.theta0[:, 0])
    gradient, pull = np.empty_like(case.theta0), np.empty_like(case.theta0)
    ridge = np.float32(case.l2)
    scaled = case.step_sizes[:, None]

    def call() -> tuple[Single, Single]:
        theta = case.theta0.copy()
        sums = np.zeros_like(theta)
        drawn = rng.integers(0, num_rows, size=(case.num_steps, theta.shape[0]))
        for index in drawn:
            np.take(case.features, index, axis=0, out=rows, mode="clip")
            margin = np.einsum("cjd,cd->cj", theta, rows)
            residual = expit(margin) - case.labels[index, None]
            np.multiply(residual[:, :, None], rows[:, None, :], out=gradient)
            np.add(gradient, np.multiply(theta, ridge, out=pull), out=gradient)
            np.multiply(gradient, scaled, out=gradient)
            np.subtract(theta, gradient, out=theta)
            np.add(sums, theta, out=sums)
        return sums / case.num_steps, theta

    return call


def numba_quadratic(case: Quadratic, threads: int) -> Call:
    """Return three nested loops under ``@njit(parallel=True, fastmath=True)``."""
    from numba import njit, prange, set_num_threads

    @njit(parallel=True, fastmath=True)
    def loop(curvature, minimizer, noise_scale, theta0, step_sizes, num_steps):  # type: ignore[no-untyped-def]
        theta, sums = theta0.copy(), np.zeros_like(theta0)
        num_chains, num_step_sizes, dim = theta.shape
        for chain in prange(num_chains):
            for _ in range(num_steps):
                for i in range(dim):
                    noise = noise_scale[i] * np.float32(np.random.standard_normal())  # noqa: NPY002
                    for j in range(num_step_sizes):
                        t = theta[chain, j, i]
                        t -= step_sizes[j] * (curvature[i] * (t - minimizer[i]) + noise)
                        theta[chain, j, i] = t
                        sums[chain, j, i] += t
        return sums / np.float32(num_steps), theta

    set_num_threads(threads)
    arguments = (case.curvature, case.minimizer, case.noise_scale, case.theta0, case.step_sizes)
    loop(*arguments, 1)
    return lambda: loop(*arguments, case.num_steps)


def numba_logistic(case: Logistic, threads: int) -> Call:
    """Return nested loops under ``@njit(parallel=True, fastmath=True)``, sums in vector code."""
    from numba import njit, prange, set_num_threads

    @njit(parallel=True, fastmath=True)
    def loop(features, labels, ridge, theta0, step_sizes, num_steps):  # type: ignore[no-untyped-def]
        theta, sums = theta0.copy(), np.zeros_like(theta0)
        num_chains, num_step_sizes, dim = theta.shape
        one = np.float32(1)
        for chain in prange(num_chains):
            for _ in range(num_steps):
                row = np.random.randint(0, labels.size)  # noqa: NPY002
                for j in range(num_step_sizes):
                    margin = np.float32(0)
                    for i in range(dim):
                        margin += features[row, i] * theta[chain, j, i]
                    residual = one / (one + np.exp(-margin)) - labels[row]
                    for i in range(dim):
                        t = theta[chain, j, i]
                        t -= step_sizes[j] * (residual * features[row, i] + ridge * t)
                        theta[chain, j, i] = t
                        sums[chain, j, i] += t
        return sums / np.float32(num_steps), theta

    set_num_threads(threads)
    ridge = np.float32(case.l2)
    arguments = (case.features, case.labels, ridge, case.theta0, case.step_sizes)
    loop(*arguments, 1)
    return lambda: loop(*arguments, case.num_steps)


def jax_quadratic(case: Quadratic, generator: str) -> Call:
    """Return ``lax.scan`` over steps of a chain's step under vmap, compiled."""
    import jax
    import jax.numpy as jnp

    curvature, minimizer, noise_scale, theta0, step_sizes = (
        jnp.asarray(part)
        for part in (
            case.curvature,
            case.minimizer,
            case.noise_scale,
            case.theta0,
            case.step_sizes[:, None],
        )
    )
    shape = (theta0.shape[0], theta0.shape[2])

    def step_of_chain(theta: Any, noise: Any) -> Any:
        gradient = curvature * (theta - minimizer) + noise_scale * noise
        return theta - step_sizes * gradient

    @jax.jit
    def run(start: Any, key: Any) -> tuple[Any, Any]:
        def step(carry: tuple[Any, Any], index: Any) -> tuple[tuple[Any, Any], None]:
            theta, sums = carry
            noise = jax.random.normal(jax.random.fold_in(key, index), shape, jnp.float32)
            theta = jax.vmap(step_of_chain)(theta, noise)
            return (theta, sums + theta), None

        start = (start, jnp.zeros_like(start))
        (theta, sums), _ = jax.lax.scan(step, start, jnp.arange(case.num_steps))
        return sums / case.num_steps, theta

    key = jax.random.key(1, impl=generator)
    return lambda: jax.block_until_ready(run(theta0, key))


def jax_logistic(case: Logistic, generator: str) -> Call:
    """Return ``lax.scan`` over rows drawn in one call, a chain's step under vmap, compiled."""
    import jax
    import jax.numpy as jnp

    features, labels = jnp.asarray(case.features), jnp.asarray(case.labels)
    theta0, step_sizes = jnp.asarray(case.theta0), jnp.asarray(case.step_sizes)
    shape = (case.num_steps, theta0.shape[0])

    def step_of_chain(theta: Any, index: Any) -> Any:
        row = features[index]
        residual = jax.nn.sigmoid(theta @ row) - labels[index]
        gradient = residual[:, None] * row + case.l2 * theta
        return theta - step_sizes[:, None] * gradient

    @jax.jit
    def run(start: Any, key: Any) -> tuple[Any, Any]:
        def step(carry: tuple[Any, Any], index: Any) -> tuple[tuple[Any, Any], None]:
            theta, sums = carry
            theta = jax.vmap(step_of_chain)(theta, index)
            return (theta, sums + theta), None

        drawn = jax.random.randint(key, shape, 0, features.shape[0])
        (theta, sums), _ = jax.lax.scan(step, (start, jnp.zeros_like(start)), drawn)
        return sums / case.num_steps, theta

    key = jax.random.key(1, impl=generator)
    return lambda: jax.block_until_ready(run(theta0, key))


def torch_quadratic(case: Quadratic, threads: int) -> Call:
    """Return a loop over steps, all chains at once, without temporaries or gradients."""
    import torch

    curvature, minimizer, noise_scale, theta0, step_sizes = (
        torch.from_numpy(part.copy())
        for part in (
            case.curvature,
            case.minimizer,
            case.noise_scale,
            case.theta0,
            case.step_sizes[:, None],
        )
    )
    noise = torch.empty_like(theta0[:, :1])
    gradient = torch.empty_like(theta0)
    torch.set_num_threads(threads)

    @torch.inference_mode()
    def call() -> tuple[Any, Any]:
        theta = theta0.clone()
        sums = torch.zeros_like(theta)
        for _ in range(case.num_steps):
            noise.normal_()
            torch.sub(theta, minimizer, out=gradient)
            gradient.mul_(curvature).addcmul_(noise, noise_scale)
            theta.addcmul_(gradient, step_sizes, value=-1.0)
            sums.add_(theta)
        return sums / case.num_steps, theta

    return call


def torch_logistic(case: Logistic, threads: int) -> Call:
    """Return a loop over steps, all chains at once; the rows are drawn before it."""
    import torch

    features, labels, theta0, step_sizes = (
        torch.from_numpy(part.copy())
        for part in (case.features, case.labels, case.theta0, case.step_sizes[:, None])
    )
    shape = (case.num_steps, theta0.shape[0])
    torch.set_num_threads(threads)

    @torch.inference_mode()
    def call() -> tuple[Any, Any]:
        theta = theta0.clone()
        sums = torch.zeros_like(theta)
        for index in torch.randint(features.shape[0], shape):
            rows = features.index_select(0, index).unsqueeze(2)
            margin = torch.bmm(theta, rows).squeeze(2)
            residual = torch.sigmoid(margin) - labels[index].unsqueeze(1)
            gradient = residual.unsqueeze(2) * rows.transpose(1, 2)
            gradient.add_(theta, alpha=case.l2)
            theta.addcmul_(gradient, step_sizes, value=-1.0)
            sums.add_(theta)
        return sums / case.num_steps, theta

    return call
