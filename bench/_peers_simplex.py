"""The same chains and solvers as a good user of each library writes them.

Every function takes a case, prepares what can be prepared, and returns a callable that makes all
the steps and returns the weights (chains, dim) and the objective there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from _cases_simplex import Call, Case, Float64, Moments, Quartic, Single, Wells

from hotloops import simplex


def ours_moments(case: Moments, backend: str, threads: int) -> Call:
    """Return a run of hotloops."""
    objective = simplex.PortfolioMoments(case.returns, preferences=case.preferences)
    return _ours(objective, case, backend, threads)


def ours_quartic(case: Quartic, backend: str, threads: int) -> Call:
    """Return a run of hotloops on the monomials of the tensor."""
    return _ours(simplex.Polynomial(tensors={4: case.tensor}), case, backend, threads)


def ours_wells(case: Wells, backend: str, threads: int) -> Call:
    """Return a run of hotloops on the product of two squared distances."""
    distance = simplex.Polynomial.squared_distance
    objective = distance(case.far) * (distance(case.near) + case.offset)
    return _ours(objective, case, backend, threads)


def _ours(objective: Any, case: Case, backend: str, threads: int) -> Call:
    def call() -> tuple[Any, Any]:
        result = simplex.lmwu(
            objective,
            step_size=case.step_size,
            inverse_temperature=case.inverse_temperature,
            num_steps=case.num_steps,
            num_chains=case.num_chains,
            polish_steps=0,
            seed=1,
            dtype="float32",
            backend=backend,
            num_threads=threads,
        )
        return result.chains_x, result.chains_value

    return call


def _floor(case: Case, dim: int) -> float:
    return min(case.step_size / case.inverse_temperature, 0.25 / dim)


# --- NumPy ---------------------------------------------------------------------------------------


def _numpy_chains(
    case: Case, dim: int, evaluate: Callable[[Single], tuple[Single, Single]]
) -> Call:
    rng = np.random.Generator(np.random.SFC64(1))
    step = np.float32(case.step_size)
    scale = np.float32(np.sqrt(2 * case.step_size / case.inverse_temperature))
    floor = np.float32(_floor(case, dim))
    noise = np.empty((case.num_chains, dim), np.float32)
    exponent = np.empty_like(noise)

    def call() -> tuple[Single, Single]:
        x = np.full((case.num_chains, dim), 1 / dim, np.float32)
        for _ in range(case.num_steps):
            _, gradient = evaluate(x)
            rng.standard_normal(out=noise, dtype=np.float32)
            np.sqrt(x, out=exponent)
            np.divide(noise, exponent, out=exponent)
            np.multiply(exponent, scale, out=exponent)
            np.multiply(gradient, step, out=gradient)
            np.subtract(exponent, gradient, out=exponent)
            np.clip(exponent, -30, 30, out=exponent)
            np.exp(exponent, out=exponent)
            np.multiply(x, exponent, out=x)
            np.divide(x, x.sum(axis=1, keepdims=True), out=x)
            np.maximum(x, floor, out=x)
            np.divide(x, x.sum(axis=1, keepdims=True), out=x)
        return x, evaluate(x)[0]

    return call


def numpy_moments(case: Moments) -> Call:
    """Return a loop over steps, all chains at once, two products of BLAS in each."""
    mean = case.returns.mean(axis=0)
    centred = case.returns - mean
    transposed = np.ascontiguousarray(centred.T)
    first, second, third, fourth = (np.float32(a) for a in case.preferences)
    count = np.float32(len(centred))
    y = np.empty((case.num_chains, len(centred)), np.float32)
    slope, value = np.empty_like(y), np.empty_like(y)

    def evaluate(x: Single) -> tuple[Single, Single]:
        np.matmul(x, transposed, out=y)
        np.multiply(y, 4 * fourth, out=slope)
        np.subtract(slope, 3 * third, out=slope)
        np.multiply(slope, y, out=slope)
        np.add(slope, 2 * second, out=slope)
        np.multiply(slope, y, out=slope)
        np.multiply(y, fourth, out=value)
        np.subtract(value, third, out=value)
        np.multiply(value, y, out=value)
        np.add(value, second, out=value)
        np.multiply(value, y, out=value)
        values = np.einsum("ct,ct->c", value, y) / count - first * (x @ mean)
        return values, slope @ centred / count - first * mean

    return _numpy_chains(case, case.returns.shape[1], evaluate)


def numpy_quartic(case: Quartic) -> Call:
    """Return a loop whose contractions are products of BLAS with the tensor as a matrix."""
    dim = case.tensor.shape[0]
    matrix = np.ascontiguousarray(case.tensor.reshape(dim**2, -1), np.float32)
    squares = np.empty((case.num_chains, dim, dim), np.float32)
    pulled = np.empty((case.num_chains, dim * dim), np.float32)

    def evaluate(x: Single) -> tuple[Single, Single]:
        np.multiply(x[:, :, None], x[:, None, :], out=squares)
        np.matmul(squares.reshape(len(x), -1), matrix, out=pulled)
        cubes = np.matmul(pulled.reshape(-1, dim, dim), x[:, :, None])[:, :, 0]
        return np.einsum("ci,ci->c", cubes, x), 4 * cubes

    return _numpy_chains(case, dim, evaluate)


def numpy_wells(case: Wells) -> Call:
    """Return a loop over steps on the two distances."""
    far, near = case.far.astype(np.float32), case.near.astype(np.float32)
    offset = np.float32(case.offset)

    def evaluate(x: Single) -> tuple[Single, Single]:
        away, off = x - far, x - near
        first = np.einsum("ci,ci->c", away, away)
        second = np.einsum("ci,ci->c", off, off) + offset
        np.multiply(away, 2 * second[:, None], out=away)
        np.multiply(off, 2 * first[:, None], out=off)
        return first * second, np.add(away, off, out=away)

    return _numpy_chains(case, case.far.size, evaluate)


# --- JAX -----------------------------------------------------------------------------------------


def _jax_chains(case: Case, dim: int, evaluate: Callable[[Any], Any]) -> Call:
    import jax
    import jax.numpy as jnp

    scale = float(np.sqrt(2 * case.step_size / case.inverse_temperature))
    floor = _floor(case, dim)

    def step(x: Any, key: Any) -> tuple[Any, None]:
        _, gradient = evaluate(x)
        noise = jax.random.normal(key, x.shape, jnp.float32)
        exponent = scale * noise * jax.lax.rsqrt(x) - case.step_size * gradient
        x = x * jnp.exp(jnp.clip(exponent, -30, 30))
        x = jnp.maximum(x / x.sum(axis=1, keepdims=True), floor)
        return x / x.sum(axis=1, keepdims=True), None

    @jax.jit
    def loop(key: Any) -> tuple[Any, Any]:
        x = jnp.full((case.num_chains, dim), 1 / dim, jnp.float32)
        x, _ = jax.lax.scan(step, x, jax.random.split(key, case.num_steps))
        return x, evaluate(x)[0]

    key = jax.random.key(1, impl="rbg")

    def call() -> tuple[Any, Any]:
        x, value = loop(key)
        return x.block_until_ready(), value.block_until_ready()

    return call


def jax_moments(case: Moments) -> Call:
    """Return a jitted scan."""
    import jax.numpy as jnp

    rows = jnp.asarray(case.returns)
    mean = rows.mean(axis=0)
    centred = rows - mean
    first, second, third, fourth = case.preferences

    def evaluate(x: Any) -> tuple[Any, Any]:
        y = x @ centred.T
        value = ((second - (third - fourth * y) * y) * y * y).mean(axis=1) - first * (x @ mean)
        slope = (2 * second - (3 * third - 4 * fourth * y) * y) * y
        return value, slope @ centred / len(rows) - first * mean

    return _jax_chains(case, case.returns.shape[1], evaluate)


def jax_quartic(case: Quartic) -> Call:
    """Return a jitted scan whose contractions are products with the tensor as a matrix."""
    import jax.numpy as jnp

    dim = case.tensor.shape[0]
    matrix = jnp.asarray(case.tensor.reshape(dim**2, -1), jnp.float32)

    def evaluate(x: Any) -> tuple[Any, Any]:
        squares = (x[:, :, None] * x[:, None, :]).reshape(-1, dim * dim)
        cubes = jnp.einsum("cij,cj->ci", (squares @ matrix).reshape(-1, dim, dim), x)
        return (cubes * x).sum(axis=1), 4 * cubes

    return _jax_chains(case, dim, evaluate)


def jax_wells(case: Wells) -> Call:
    """Return a jitted scan on the two distances."""
    import jax.numpy as jnp

    far, near = jnp.asarray(case.far, jnp.float32), jnp.asarray(case.near, jnp.float32)

    def evaluate(x: Any) -> tuple[Any, Any]:
        away, off = x - far, x - near
        first = (away**2).sum(axis=1, keepdims=True)
        second = (off**2).sum(axis=1, keepdims=True) + case.offset
        return (first * second)[:, 0], 2 * (away * second + first * off)

    return _jax_chains(case, case.far.size, evaluate)


# --- Numba ---------------------------------------------------------------------------------------


def numba_quartic(case: Quartic, threads: int) -> Call:
    """Return loops over the distinct monomials under ``@njit(parallel=True, fastmath=True)``."""
    from numba import njit

    dim = case.tensor.shape[0]
    indices, coefficients = _distinct(case.tensor)

    @njit(fastmath=True)
    def evaluate(x, g):  # type: ignore[no-untyped-def]
        value = np.float32(0)
        g[:] = 0
        for m in range(coefficients.size):
            a, b, c, d = indices[m]
            left, right = coefficients[m] * x[a], x[c] * x[d]
            both = left * x[b]
            value += both * right
            g[a] += coefficients[m] * x[b] * right
            g[b] += left * right
            g[c] += both * x[d]
            g[d] += both * x[c]
        return value

    return _numba_chains(case, dim, evaluate, threads)


def numba_wells(case: Wells, threads: int) -> Call:
    """Return loops on the two distances."""
    from numba import njit

    far, near = case.far.astype(np.float32), case.near.astype(np.float32)
    offset = np.float32(case.offset)

    @njit(fastmath=True)
    def evaluate(x, g):  # type: ignore[no-untyped-def]
        first, second = np.float32(0), offset
        for s in range(x.size):
            first += (x[s] - far[s]) ** 2
            second += (x[s] - near[s]) ** 2
        for s in range(x.size):
            g[s] = 2 * ((x[s] - far[s]) * second + first * (x[s] - near[s]))
        return first * second

    return _numba_chains(case, far.size, evaluate, threads)


def _numba_chains(case: Case, dim: int, evaluate: Any, threads: int) -> Call:
    from numba import njit, prange, set_num_threads

    scale = np.float32(np.sqrt(2 * case.step_size / case.inverse_temperature))
    step, floor = np.float32(case.step_size), np.float32(_floor(case, dim))
    num_chains, num_steps = case.num_chains, case.num_steps

    @njit(parallel=True, fastmath=True)
    def loop():  # type: ignore[no-untyped-def]
        points = np.full((num_chains, dim), np.float32(1 / dim))
        values = np.empty(num_chains, np.float32)
        for chain in prange(num_chains):
            x, g = points[chain], np.empty(dim, np.float32)
            for _ in range(num_steps):
                evaluate(x, g)
                total = np.float32(0)
                for s in range(dim):
                    noise = np.float32(np.random.standard_normal())  # noqa: NPY002
                    exponent = scale * noise / np.sqrt(x[s]) - step * g[s]
                    x[s] *= np.exp(min(max(exponent, np.float32(-30)), np.float32(30)))
                    total += x[s]
                again = np.float32(0)
                for s in range(dim):
                    x[s] = max(x[s] / total, floor)
                    again += x[s]
                for s in range(dim):
                    x[s] /= again
            values[chain] = evaluate(x, g)
        return points, values

    def call() -> tuple[Any, Any]:
        set_num_threads(threads)
        return loop()

    return call


def _distinct(tensor: Float64) -> tuple[Any, Single]:
    """Return the sorted indices of the monomials, and their coefficients."""
    keys = np.sort(np.argwhere(np.ones(tensor.shape)), axis=1)
    unique, inverse = np.unique(keys, axis=0, return_inverse=True)
    sums = np.zeros(len(unique))
    np.add.at(sums, inverse.ravel(), tensor.ravel())
    return unique, sums.astype(np.float32)


# --- one convex problem --------------------------------------------------------------------------


def polish(case: Moments) -> Call:
    """Return the deterministic solver of hotloops, from the middle."""
    objective = simplex.PortfolioMoments(
        case.returns.astype(np.float64), preferences=case.preferences
    )

    def call() -> tuple[Float64, float]:
        point = simplex.polish(objective)
        return point.x, point.value

    return call


def scipy_slsqp(case: Moments) -> Call:
    """Return SciPy's SLSQP with the exact gradient."""
    from scipy.optimize import minimize

    rows = case.returns.astype(np.float64)
    mean = rows.mean(axis=0)
    centred = rows - mean
    first, second, third, fourth = case.preferences
    dim = rows.shape[1]

    def value_and_grad(x: Float64) -> tuple[float, Float64]:
        y = centred @ x
        value = ((second - (third - fourth * y) * y) * y * y).mean() - first * (mean @ x)
        slope = (2 * second - (3 * third - 4 * fourth * y) * y) * y
        return float(value), slope @ centred / len(rows) - first * mean

    def call() -> tuple[Float64, float]:
        found = minimize(
            value_and_grad,
            np.full(dim, 1 / dim),
            jac=True,
            method="SLSQP",
            bounds=[(0.0, 1.0)] * dim,
            constraints={"type": "eq", "fun": lambda x: x.sum() - 1, "jac": lambda x: np.ones(dim)},
            options={"ftol": 1e-15, "maxiter": 1000},
        )
        return found.x, float(found.fun)

    return call


def yand(case: Moments) -> Call:
    """Return the solver of yand-mvsk, at the tightest bound that it keeps."""
    from yand_mvsk import yand_mvsk_solve

    rows, preferences = case.returns.astype(np.float64), np.array(case.preferences)

    def call() -> tuple[Float64, float]:
        found = yand_mvsk_solve(rows, preferences, tau=1e-12, tol=1e-9, max_iter=2000)
        return found.x, float(found.f_val)

    return call


# --- projection ----------------------------------------------------------------------------------


def numpy_projection(v: Float64) -> Callable[[], Float64]:
    """Return the projection by sorting (Held, Wolfe, Crowder 1974)."""
    counts = np.arange(1, v.shape[1] + 1)

    def call() -> Float64:
        descending = np.sort(v, axis=1)[:, ::-1]
        thresholds = (np.cumsum(descending, axis=1) - 1.0) / counts
        support = (descending > thresholds).sum(axis=1)
        tau = thresholds[np.arange(len(v)), support - 1]
        projected: Float64 = np.maximum(v - tau[:, None], 0.0)
        return projected

    return call
