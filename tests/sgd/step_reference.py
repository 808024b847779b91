"""One step of the SGD loop after the other in plain NumPy, in the order of operations that every
backend keeps: written from the definitions of the gradients, rules and statistics, bit for bit.

Random words come from the NumPy Philox of the tests; logarithms, exponentials and the normals made
of them, whose bits have tests of their own, from the package.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops import random
from hotloops._runtime import _numba_math as mathematics
from hotloops.sgd._rules import NO_RULES, Ball, Box, PiecewiseConstant, PolynomialDecay, Rules
from hotloops.sgd._state import ChainArrays
from hotloops.sgd._statistics import StatisticsArrays
from tests.random.reference import words
from tests.sgd import reference

Array = npt.NDArray[Any]

GAUSSIAN, UNIFORM, RADEMACHER, LAPLACE, STUDENT_T, NONE, TABLE = range(7)
NOISE, FEATURES, LABELS, TRANSITIONS, ROWS = 0, 1, 2, 3, 5
IID, RESHUFFLE, SEQUENTIAL = range(3)
LOW = np.uint64(0xFFFFFFFF)


def dot(a: Array, b: Array) -> Array:
    """Sum over the last axis in four strands."""
    a, b = np.broadcast_arrays(a, b)
    strands = [np.zeros(a.shape[:-1], a.dtype) for _ in range(4)]
    for k in range(a.shape[-1]):
        strands[k % 4] = strands[k % 4] + a[..., k] * b[..., k]
    return (strands[0] + strands[1]) + (strands[2] + strands[3])


def spread_words(seed: int, step: int, chains: Array, count: int, stream: int) -> Array:
    """The words of coordinates 0 .. count - 1, shape (C, count), as uint32."""
    blocks = words(seed, step, chains[:, None], np.arange((count + 3) // 4), stream)
    return blocks.reshape(len(chains), -1)[:, :count].astype(np.uint32)


def uniform(word: Array, dtype: Any) -> Array:
    """(2 x + 1) 2^-33 in float64, ((x >> 9) + 1/2) 2^-23 in float32; both are exact."""
    if np.dtype(dtype) == np.float32:
        return (((word >> 9) + 0.5) * 2.0**-23).astype(np.float32)
    return (2.0 * word + 1.0) * 2.0**-33


def signed(value: Array, word: Array) -> Array:
    return np.where(word >> 31 == 1, -value, value)


def noise_of(law: int, df: float, table: Array, word: Array, turn: Array, dtype: Any) -> Array:
    """The value of each word; Student's t also takes a second word."""
    real = np.dtype(dtype).type
    u = uniform(word, dtype)
    if law == UNIFORM:
        return (u + u - real(1)) * real(1.7320508075688772)
    if law == RADEMACHER:
        return signed(np.ones_like(u), word)
    if law == LAPLACE:
        exponential = -mathematics.log_positive(uniform(word << np.uint32(1), dtype))
        return signed(exponential * real(0.70710678118654752), word)
    if law == STUDENT_T:
        power = mathematics.exp_bounded(real(-2.0 / df) * mathematics.log_positive(u))
        radius = np.sqrt(real(df) * (power - real(1)))
        wide = turn.astype(np.uint32 if real is np.float32 else np.uint64)
        return real(np.sqrt((df - 2.0) / df)) * mathematics.polar_turns(radius, wide)[0]
    if law == NONE:
        return np.zeros_like(u)
    return table[(word.astype(np.uint64) * np.uint64(table.size) >> np.uint64(32)).astype(int)]


# --- losses --------------------------------------------------------------------------------------


def sigmoid(x: Array) -> Array:
    return mathematics.sigmoid(x)


def residual_and_curvature(loss: str, m: Array, y: Array, shape: float) -> tuple[Array, Array]:
    real = m.dtype.type
    one, two = np.ones_like(m), real(2) * np.ones_like(m)
    s = real(shape)
    if loss == "least_squares":
        return m - y, one
    if loss == "logistic":
        p = sigmoid(m)
        return p - y, p * (one - p)
    if loss == "huber":
        return np.clip(m - y, -s, s), (np.abs(m - y) <= s).astype(m.dtype)
    if loss == "squared_hinge":
        h = one - y * m
        return np.where(h > 0, (-two * y) * h, real(0)), np.where(h > 0, two, real(0))
    if loss == "softplus_hinge":
        p = sigmoid(s * (one - y * m))
        return -y * p, s * (p * (one - p))
    bound = 80 if real is np.float32 else 700
    mean = mathematics.exp_bounded(np.clip(m, real(-bound), real(bound)))
    return mean - y, mean


# --- rows of a table -----------------------------------------------------------------------------


def mixed(x: Array) -> Array:
    """32 well-mixed bits of 32 bits."""
    x = (x ^ (x >> np.uint64(16))) * np.uint64(0x7FEB352D) & LOW
    x = (x ^ (x >> np.uint64(15))) * np.uint64(0x846CA68B) & LOW
    return x ^ (x >> np.uint64(16))


def permuted(keys: Array, position: Array, num_rows: int) -> Array:
    """The row at a position of an epoch: a rotation, then Feistel rounds on the bits of the index,
    again while they lead beyond the last row. `keys` (..., 9) are those of the epoch."""
    n = np.uint64(num_rows)
    x = (position.astype(np.uint64) + (keys[..., 8] * n >> np.uint64(32))) % n
    num_bits = (num_rows - 1).bit_length()
    num_low = np.uint64((num_bits + 1) // 2)
    masks = [np.uint64((1 << bits) - 1) for bits in (num_bits // 2, (num_bits + 1) // 2)]
    again = np.ones(x.shape, bool)
    while again.any():
        halves = [x >> num_low, x & masks[1]]
        shift = 0
        for _ in range(4 if num_rows <= 64 else 1):
            for r in range(8):
                key = keys[..., r] + np.uint64(shift) & LOW
                halves[r % 2] = halves[r % 2] ^ mixed(halves[1 - r % 2] ^ key) & masks[r % 2]
            shift = (shift + 0x9E3779B9) % 2**32
        x = np.where(again, halves[0] << num_low | halves[1], x)
        again &= x >= n
    return x.astype(int)


def rows_of(
    seed: int, step: int, chains: Array, num_rows: int, batch_size: int, sampling: int
) -> Array:
    """The rows of one step, shape (C, batch)."""
    if sampling == IID:
        return reference.iid_rows(seed, step, chains, num_rows, batch_size)
    if sampling == SEQUENTIAL:
        return reference.sequential_rows(step, len(chains), num_rows, batch_size)
    epoch, position = np.divmod(step * batch_size + np.arange(batch_size), num_rows)
    blocks = words(seed, epoch[:, None], chains[:, None, None], np.arange(3), ROWS)
    keys = blocks.reshape(len(chains), batch_size, 12)
    return permuted(keys, np.broadcast_to(position, keys.shape[:2]), num_rows)


# --- gradients: (C, J, d) of one step ------------------------------------------------------------


class Batch:
    """The rows of one step, shape (C, batch, d), and what a sample adds to gradients."""

    def __init__(self, x: Array, y: Array, l2: float, loss: str, shape: float) -> None:
        self.x, self.y, self.loss, self.shape = x, y, loss, shape
        self.l2 = x.dtype.type(l2)
        self.inverse = x.dtype.type(1) / x.dtype.type(x.shape[1])

    def gradient(self, theta: Array) -> Array:
        """The gradient at theta (C, d); the samples are added in their order."""
        slopes = self.derivatives(theta)[0]
        total = np.add.accumulate(slopes[..., None] * self.x, axis=1)[:, -1]
        return total * self.inverse + self.l2 * theta

    def derivatives(self, theta: Array) -> tuple[Array, Array]:
        """Residual and curvature of every sample, (C, batch)."""
        margin = dot(self.x, theta[:, None])
        return residual_and_curvature(self.loss, margin, self.y, self.shape)


class Loop:
    """What `reference` needs to go from step to step."""

    def __init__(self, arrays: ChainArrays, kernel: str, parameters: Any, seed: int, offset: int):
        self.arrays, self.kernel, self.parameters, self.seed = arrays, kernel, parameters, seed
        self.chains = np.arange(offset, offset + arrays.theta.shape[0])
        self.dtype = arrays.theta.dtype
        self.dim = arrays.theta.shape[2]
        self.batch: Batch | None = None

    def gradients(self, step: int) -> Array:
        theta, given = self.arrays.theta, self.parameters
        copies = range(theta.shape[1])
        if self.kernel in ("quadratic", "quadratic_full", "cosine"):
            return self._additive(theta, step)
        if self.kernel == "markov_lsa":
            return self._markov(theta, step)
        if self.kernel.startswith("streaming"):
            self.batch = self._stream(step)
        else:
            features, targets, size, sampling, l2, shape = given
            rows = rows_of(self.seed, step, self.chains, len(features), size, sampling)
            self.batch = Batch(features[rows], targets[rows], l2, self.kernel, shape)
        return np.stack([self.batch.gradient(theta[:, j]) for j in copies], axis=1)

    def _additive(self, theta: Array, step: int) -> Array:
        law, df, table = self.parameters[-1]
        if law == GAUSSIAN:
            xi = random.normals(self.seed, [step], self.chains, self.dim, dtype=self.dtype)[0]
        else:
            word, turn = (
                spread_words(self.seed, step, self.chains, self.dim, stream)
                for stream in (NOISE, LABELS)
            )
            xi = noise_of(law, df, table, word, turn, self.dtype)
        xi = xi[:, None]
        real = self.dtype.type
        if self.kernel == "cosine":
            phase, scale = map(real, self.parameters[:2])
            return (real(2) * theta - mathematics.sine(theta + phase)) + scale * xi
        matrix, minimizer, factor = self.parameters[:3]
        if self.kernel == "quadratic":
            return matrix * (theta - minimizer) + factor * xi
        rows = range(self.dim)
        noise = np.stack([dot(factor[i, : i + 1], xi[..., : i + 1]) for i in rows], axis=-1)
        pull = np.stack([dot(matrix[i], theta - minimizer) for i in rows], axis=-1)
        return pull + noise

    def _stream(self, step: int) -> Batch:
        true, factor, noise_scale, l2, rho = self.parameters
        real = self.dtype.type
        count = self.dim + 1
        xi = random.normals(self.seed, [step], self.chains, count, FEATURES, dtype=self.dtype)[0]
        z, last = xi[:, : self.dim], xi[:, self.dim]
        if rho != 0:
            z = real(rho) * self.arrays.auxiliary + real(np.sqrt(1 - rho * rho)) * z
            self.arrays.auxiliary[...] = z
        if factor.ndim == 1:
            x = factor * z
        else:
            rows = range(self.dim)
            x = np.stack([dot(factor[i, : i + 1], z[:, : i + 1]) for i in rows], axis=-1)
        margin = dot(true, x)
        if self.kernel == "streaming_least_squares":
            y, loss = margin + real(noise_scale) * last, "least_squares"
        else:
            u = uniform(spread_words(self.seed, step, self.chains, 1, LABELS)[:, 0], self.dtype)
            y, loss = (u < sigmoid(margin)).astype(self.dtype), "logistic"
        return Batch(x[:, None], y[:, None], l2, loss, 0.0)

    def _markov(self, theta: Array, step: int) -> Array:
        matrices, offsets, threshold, alias = self.parameters
        state = self.arrays.auxiliary[:, 0].astype(int)
        rows = range(self.dim)
        pull = np.stack([dot(matrices[state, None, i], theta) for i in rows], axis=-1)
        gradient = -(pull + offsets[state, None])
        word = spread_words(self.seed, step, self.chains, 1, TRANSITIONS)[:, 0].astype(np.uint64)
        product = word * np.uint64(len(matrices))
        slot = (product >> np.uint64(32)).astype(int)
        keeps = (product & np.uint64(0xFFFFFFFF)) < threshold[state, slot]
        self.arrays.auxiliary[:, 0] = np.where(keeps, slot, alias[state, slot])
        return gradient


# --- rules ---------------------------------------------------------------------------------------


def factor_of(rules: Rules, step: int) -> float:
    k = step - rules.origin + 1
    if isinstance(rules.schedule, PolynomialDecay):
        place = np.array([k + rules.schedule.offset])
        power = -rules.schedule.exponent * mathematics.log_positive(place)
        return float(mathematics.exp_bounded(power)[0])
    assert isinstance(rules.schedule, PiecewiseConstant)
    return rules.schedule.factors[sum(bound < k for bound in rules.schedule.boundaries)]


def proposed(arrays: ChainArrays, gradient: Array, rules: Rules, step: int) -> Array:
    """The next iterates (C, J, d), before they are known to stay in range."""
    theta, real = arrays.theta, arrays.theta.dtype.type
    if rules.clip_norm != np.inf:
        norm, limit = np.sqrt(dot(gradient, gradient)), real(rules.clip_norm)
        scale = np.where(norm > limit, limit / norm, real(1))
        gradient = gradient * scale[..., None]
    if rules.weight_decay != 0:
        gradient = gradient + real(rules.weight_decay) * theta
    steps = np.broadcast_to(arrays.step_sizes, theta.shape[:2])[..., None]
    if rules.schedule is not None:
        steps = steps * real(factor_of(rules, step))
    moved: Array = theta - steps * gradient
    if isinstance(rules.projection, Box):
        low, high = rules.projection.low.astype(theta.dtype), rules.projection.high
        moved = np.where(moved < low, low, moved)
        moved = np.where(moved > high.astype(theta.dtype), high.astype(theta.dtype), moved)
    if isinstance(rules.projection, Ball):
        center, radius = rules.projection.center.astype(theta.dtype), real(rules.projection.radius)
        difference = moved - center
        distance = np.sqrt(dot(difference, difference))[..., None]
        moved = np.where(distance > radius, center + difference * (radius / distance), moved)
    return moved


# --- statistics ----------------------------------------------------------------------------------


def extrapolated(weights: Array, copies: Array) -> Array:
    """The copies, shape (C, J, d), with their combination behind them when there are several."""
    if copies.shape[1] == 1:
        return copies
    weights = np.broadcast_to(weights, copies.shape[:2])[..., None]
    total = weights[:, 0] * copies[:, 0]
    for j in range(1, copies.shape[1]):
        total = total + weights[:, j] * copies[:, j]
    return np.concatenate([copies, total[:, None]], axis=1)


def lower(matrix: Array) -> Array:
    """The lower triangles of (..., d, d), by rows."""
    return matrix[(..., *np.tril_indices(matrix.shape[-1]))]


def collect(arrays: ChainArrays, statistics: StatisticsArrays, s: int) -> None:
    """Add the iterates, which are in the sums as number `s`."""
    kept = statistics
    centred = extrapolated(kept.weights, arrays.sums - s * kept.shift)
    if kept.squares is not None:
        kept.squares += centred * centred
    if kept.products is not None:
        kept.products += s * centred[:, : arrays.theta.shape[1]]
    if kept.second is not None:
        y = extrapolated(kept.weights, arrays.theta.astype(float) - kept.shift)
        full = kept.second.shape != y.shape
        kept.second += lower(y[..., :, None] * y[..., None, :]) if full else y * y
    if kept.path is not None and s % kept.stride == 0:
        kept.path[:, s // kept.stride - 1] = arrays.sums


def plug_in(arrays: ChainArrays, statistics: StatisticsArrays, batch: Batch, s: int) -> None:
    """Add the rows of the step that makes averaged iterate `s`, at the mean of those before."""
    if s < 2:
        return
    combined = extrapolated(statistics.weights, arrays.sums)[:, -1]
    mean = (combined * (1.0 / (s - 1))).astype(arrays.theta.dtype)
    curvatures = batch.derivatives(mean)[1].astype(float)
    for r in range(batch.x.shape[1]):
        curvature, x = curvatures[:, r, None, None], batch.x[:, r].astype(float)
        statistics.plug_hessian += lower((curvature * x[:, :, None]) * x[:, None, :])
    gradient = batch.gradient(mean).astype(float)
    statistics.plug_outer += lower(gradient[:, :, None] * gradient[:, None, :])


# --- the loop ------------------------------------------------------------------------------------


def advance(
    arrays: ChainArrays,
    kernel: str,
    parameters: tuple[Any, ...],
    *,
    seed: int,
    chain_offset: int,
    first_step: int,
    num_steps: int,
    accumulate: bool,
    divergence_limit: float,
    num_threads: int,
    rules: Rules = NO_RULES,
    statistics: StatisticsArrays | None = None,
) -> None:
    """As the drivers of the package, one step after the other."""
    loop = Loop(arrays, kernel, parameters, seed, chain_offset)
    limit = arrays.theta.dtype.type(divergence_limit)
    with np.errstate(all="ignore"):
        for step in range(first_step, first_step + num_steps):
            gradient = loop.gradients(step)
            if statistics is not None and accumulate:
                s = statistics.count + step - first_step + 1
                if statistics.plug_hessian is not None:
                    assert loop.batch is not None
                    plug_in(arrays, statistics, loop.batch, s)
            moved = proposed(arrays, gradient, rules, step)
            good = (np.abs(moved) <= limit).all(axis=2)
            running = arrays.flags == 0
            arrays.diverged_at[running & ~good] = step
            arrays.flags[running & ~good] = 1
            np.copyto(arrays.theta, moved, where=(running & good)[..., None])
            if accumulate:
                arrays.sums += arrays.theta
                if statistics is not None:
                    collect(arrays, statistics, s)
