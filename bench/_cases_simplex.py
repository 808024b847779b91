"""The problems that the rows of simplex solve, and what an answer must be."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hotloops import datasets, simplex

Single: TypeAlias = npt.NDArray[np.float32]
Float64: TypeAlias = npt.NDArray[np.float64]
Call: TypeAlias = Callable[[], tuple[Any, Any]]

_ERRORS = 6.0


@dataclass(frozen=True, eq=False)  # hashed by identity
class Moments:
    """Chains on ``-l1 m1 + l2 m2 - l3 m3 + l4 m4`` of returns in percent."""

    returns: Single  # (T, d)
    preferences: tuple[float, float, float, float]
    step_size: float
    inverse_temperature: float
    num_chains: int
    num_steps: int

    def value(self, x: Float64) -> Float64:
        """Return the objective of each row of x, in float64."""
        rows = self.returns.astype(np.float64)
        mean = rows.mean(axis=0)
        y = (rows - mean) @ x.T
        first, second, third, fourth = self.preferences
        powers = second * y**2 - third * y**3 + fourth * y**4
        value: Float64 = powers.mean(axis=0) - first * (x @ mean)
        return value


@dataclass(frozen=True, eq=False)  # hashed by identity
class Quartic:
    """Chains on ``<T, x^4>`` with a dense symmetric tensor T."""

    tensor: Float64  # (d, d, d, d)
    step_size: float
    inverse_temperature: float
    num_chains: int
    num_steps: int

    def value(self, x: Float64) -> Float64:
        """Return the objective of each row of x, in float64."""
        for_each: Float64 = np.einsum("ijkl,ci,cj,ck,cl->c", self.tensor, x, x, x, x, optimize=True)
        return for_each


@dataclass(frozen=True, eq=False)  # hashed by identity
class Wells:
    """Chains on ``|x - far|^2 (|x - near|^2 + c)``, the quartic with two minima."""

    far: Float64
    near: Float64
    offset: float
    step_size: float
    inverse_temperature: float
    num_chains: int
    num_steps: int

    def value(self, x: Float64) -> Float64:
        """Return the objective of each row of x, in float64."""
        first, second = (((x - point) ** 2).sum(axis=1) for point in (self.far, self.near))
        found: Float64 = first * (second + self.offset)
        return found


Case: TypeAlias = Moments | Quartic | Wells


@functools.cache
def moments() -> Moments:
    """Return 20 stocks over ten years, with preferences of relative risk aversion 10."""
    returns = datasets.load_sp500(dtype=np.float64).returns(2520, percent=True)
    scaled = [100.0 ** (1 - k) * a for k, a in enumerate(simplex.crra_preferences(10.0), 1)]
    return Moments(
        returns=np.ascontiguousarray(returns, np.float32),
        preferences=(scaled[0], scaled[1], scaled[2], scaled[3]),
        step_size=0.5,
        inverse_temperature=2000.0,
        num_chains=256,
        num_steps=200,
    )


@functools.cache
def quartic(dim: int = 16) -> Quartic:
    """Return a tensor without structure."""
    import itertools

    tensor = np.random.default_rng(3).normal(size=(dim,) * 4)
    symmetric = sum(np.transpose(tensor, order) for order in itertools.permutations(range(4)))
    return Quartic(
        tensor=np.asarray(symmetric) / 24.0,
        step_size=0.02,
        inverse_temperature=200.0,
        num_chains=1024,
        num_steps=200,
    )


@functools.cache
def wells(dim: int = 16) -> Wells:
    """Return a quartic whose minima are two random points."""
    rng = np.random.default_rng(4)
    return Wells(
        far=rng.dirichlet(np.ones(dim)),
        near=rng.dirichlet(np.ones(dim)),
        offset=0.02,
        step_size=0.02,
        inverse_temperature=500.0,
        num_chains=1024,
        num_steps=1000,
    )


@functools.cache
def reference(case: Case) -> Float64:
    """Return the objective at the ends of chains of a plain float64 loop."""
    rng = np.random.default_rng(8)
    if isinstance(case, Moments):
        dim, gradient = case.returns.shape[1], _moments_gradient(case)
    elif isinstance(case, Wells):
        dim, gradient = case.far.size, _wells_gradient(case)
    else:
        dim = case.tensor.shape[0]

        def gradient(x: Float64) -> Float64:
            squares = np.einsum("ci,cj->cij", x, x).reshape(len(x), -1)
            pulled = (squares @ case.tensor.reshape(dim**2, -1)).reshape(-1, dim, dim)
            return 4.0 * np.einsum("cij,cj->ci", pulled, x)

    x = np.full((case.num_chains, dim), 1.0 / dim)
    variance = 2.0 * case.step_size / case.inverse_temperature
    floor = min(0.5 * variance, 0.25 / dim)
    for _ in range(case.num_steps):
        noise = np.sqrt(variance) * rng.standard_normal(x.shape)
        exponent = np.clip(noise / np.sqrt(x) - case.step_size * gradient(x), -30.0, 30.0)
        x *= np.exp(exponent - exponent.max(axis=1, keepdims=True))
        x /= x.sum(axis=1, keepdims=True)
        np.maximum(x, floor, out=x)
        x /= x.sum(axis=1, keepdims=True)
    return case.value(x)


def _moments_gradient(case: Moments) -> Callable[[Float64], Float64]:
    rows = case.returns.astype(np.float64)
    mean = rows.mean(axis=0)
    centred = rows - mean
    first, second, third, fourth = case.preferences

    def gradient(x: Float64) -> Float64:
        y = x @ centred.T
        slope = (2.0 * second - (3.0 * third - 4.0 * fourth * y) * y) * y
        found: Float64 = slope @ centred / len(rows) - first * mean
        return found

    return gradient


def _wells_gradient(case: Wells) -> Callable[[Float64], Float64]:
    def gradient(x: Float64) -> Float64:
        away, off = x - case.far, x - case.near
        first, second = ((part**2).sum(axis=1, keepdims=True) for part in (away, off))
        found: Float64 = 2.0 * (away * (second + case.offset) + first * off)
        return found

    return gradient


def check(case: Case, answer: tuple[Any, Any]) -> None:
    """Raise unless weights are on the simplex, values those of the weights, and chains of this law.

    The law is looked at through the objective: its mean over the chains must be that of the
    reference within six standard errors.
    """
    x, value = (np.asarray(part, np.float64) for part in answer)
    assert x.shape[0] == case.num_chains
    assert (x >= 0.0).all()
    np.testing.assert_allclose(x.sum(axis=1), 1.0, atol=2e-6)
    found, expected = case.value(x), reference(case)
    scale = np.abs(found).max()
    np.testing.assert_allclose(value, found, rtol=2e-5, atol=2e-5 * scale)
    error = np.sqrt(found.var() / found.size + expected.var() / expected.size)
    assert abs(found.mean() - expected.mean()) < _ERRORS * error


@functools.cache
def product_rate() -> float:
    """Return the operations a second of a large matrix product in float32, with all threads."""
    a = np.random.default_rng(0).random((1536, 1536), np.float32)
    b, out = a.T.copy(), np.empty_like(a)
    best = float("inf")
    for _ in range(12):
        began = time.perf_counter()
        np.matmul(a, b, out=out)
        best = min(best, time.perf_counter() - began)
    return 2.0 * len(a) ** 3 / best
