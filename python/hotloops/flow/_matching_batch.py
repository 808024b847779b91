"""What a step of flow matching sees: points on paths, their velocities, and labels, some dropped.

Everything is a function of the seed, the step and the position in the batch, so a run can stop
anywhere and go on with the same bits. The twin of ``csrc/flow/step_matching.hpp``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops import random
from hotloops._runtime import arrays
from hotloops.flow._branches import on_host

__all__ = ["MatchingData", "MatchingRule", "draw_batch", "epoch_order", "pair_rows"]

STREAM_ORDER = 7
STREAM_NOISE, STREAM_CHOICES, STREAM_PATH = 11, 12, 13

# Coordinates of stream 12: of a position, then (at position 0) of the whole batch.
_TIME, _CONDITION, _ATTRIBUTE, _BATCH = 0, 1, 2, 4
_NUM_CHOICES = 7

NONE = -1


@dataclass(frozen=True)
class MatchingRule:
    """The path and the draws.

    Attributes
    ----------
    sigma : float
    optimal : bool
        The path of optimal transport, from pairs, instead of that of Lipman et al.
    p_cond : float
        Probability that a row sees labels.
    per_batch : bool
        Whether the labels are dropped for all rows of a batch together.
    together : bool
        Whether all labels are seen at once, or one of them.
    antithetic : bool
        Whether the times of a batch are spread evenly.
    seed : int
    """

    sigma: float
    optimal: bool
    p_cond: float
    per_batch: bool
    together: bool
    antithetic: bool
    seed: int


@dataclass(frozen=True, eq=False)
class MatchingData:
    """The training set, in host memory or on a GPU.

    Attributes
    ----------
    z : ndarray, shape (n, d)
    sizes : ndarray, shape (modalities, n)
        Scaled size factors.
    labels : ndarray of int32, shape (attributes, n)
    """

    z: npt.NDArray[Any]
    sizes: npt.NDArray[Any]
    labels: npt.NDArray[np.int32]

    @property
    def xp(self) -> Any:
        """NumPy or CuPy."""
        return arrays.common_library("MatchingData", {"z": self.z}).xp

    def on_host(self) -> MatchingData:
        """Return the same data in host memory."""
        if self.xp is np:
            return self
        names = "z", "sizes", "labels"
        return MatchingData(*(on_host("MatchingData", name, getattr(self, name)) for name in names))


def draw_batch(
    rule: MatchingRule,
    data: MatchingData,
    rows: npt.NDArray[np.int64],
    step: int,
    dense: list[npt.NDArray[Any]],
    indices: list[npt.NDArray[np.int32]],
    backend: str,
) -> None:
    """Fill the inputs z, t, size factors and the target (n, d), and the labels of a batch.

    `rows` are the rows of the training set, position by position.
    """
    size, d = dense[0].shape
    kind = dense[0].dtype.type
    xp = data.xp
    rows = xp.asarray(rows)
    noise = _normals(rule, step, size, d, STREAM_NOISE, kind, backend, xp)
    choices = _choices(rule, step, size, backend, xp)
    if rule.antithetic:
        t = (xp.arange(size) + choices[0, _BATCH + _TIME]) / size
    else:
        t = choices[:, _TIME]
    dense[1][:, 0] = t
    t = dense[1]
    ends, one = data.z[rows], kind(1)
    if rule.optimal:
        dense[0][...] = (one - t) * noise + t * ends
        if rule.sigma > 0.0:
            blur = _normals(rule, step, size, d, STREAM_PATH, kind, backend, xp)
            dense[0][...] += kind(rule.sigma) * blur
        dense[-1][...] = ends - noise
    else:
        rest = kind(1.0 - rule.sigma)
        dense[0][...] = t * ends + (one - rest * t) * noise
        dense[-1][...] = ends - rest * noise
    for i, sizes in enumerate(data.sizes):
        dense[2 + i][:, 0] = sizes[rows]
    seen = _seen(rule, len(indices), choices, xp)
    for a, target in enumerate(indices):
        target[...] = xp.where(seen[a], data.labels[a, rows], NONE)


def _choices(
    rule: MatchingRule, step: int, size: int, backend: str, xp: Any = np
) -> npt.NDArray[np.float64]:
    drawn = random.uniforms(
        *(rule.seed, [step], size, _NUM_CHOICES, STREAM_CHOICES),
        out=_out(xp, (1, size, _NUM_CHOICES), np.float64),
        backend=backend,
    )
    values: npt.NDArray[np.float64] = drawn[0]
    return values


def _seen(
    rule: MatchingRule, count: int, choices: npt.NDArray[np.float64], xp: Any = np
) -> npt.NDArray[np.bool_]:
    """Return which of the attributes (count, size) the rows of a batch see."""
    first = _BATCH if rule.per_batch else 0
    which = xp.broadcast_to(choices[:1], choices.shape) if rule.per_batch else choices
    seen: npt.NDArray[np.bool_] = which[:, first + _CONDITION] < rule.p_cond
    chosen = xp.minimum((which[:, first + _ATTRIBUTE] * count).astype(np.int64), count - 1)
    among = xp.ones((count, 1), bool) if rule.together else chosen == xp.arange(count)[:, None]
    mask: npt.NDArray[np.bool_] = seen & among
    return mask


def pair_rows(
    rule: MatchingRule,
    data: MatchingData,
    rows: npt.NDArray[np.int64],
    step: int,
    backend: str,
) -> npt.NDArray[np.int64]:
    """Return the rows in the order in which they are nearest to the noise of the positions.

    The sum of squared distances is minimal among the orders that leave every position the labels
    that it sees: for sets of equal size the plan of optimal transport is a permutation.
    """
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist

    size, d = rows.size, data.z.shape[1]
    noise = _normals(rule, step, size, d, STREAM_NOISE, data.z.dtype, backend)
    group = np.zeros(size, np.int64)
    count = len(data.labels)
    if count:
        seen = _seen(rule, count, _choices(rule, step, size, backend))
        kinds = np.concatenate([seen, np.where(seen, data.labels[:, rows], NONE)])
        group = np.unique(kinds, axis=1, return_inverse=True)[1].reshape(-1)
    paired: npt.NDArray[np.int64] = rows.copy()
    for number in range(int(group.max()) + 1):
        places = np.flatnonzero(group == number)
        cost = cdist(noise[places], data.z[rows[places]], "sqeuclidean")
        paired[places] = rows[places[linear_sum_assignment(cost)[1]]]
    return paired


def epoch_order(seed: int, epoch: int, n: int, backend: str) -> npt.NDArray[np.int64]:
    """Return the rows of the training set in the order of an epoch: that of uniforms."""
    keys = random.uniforms(seed, [epoch], 1, n, STREAM_ORDER, backend=backend)[0, 0]
    order: npt.NDArray[np.int64] = np.argsort(keys, kind="stable")
    return order


def _normals(
    rule: MatchingRule,
    step: int,
    rows: int,
    d: int,
    stream: int,
    dtype: Any,
    backend: str,
    xp: Any = np,
) -> npt.NDArray[Any]:
    drawn = random.normals(
        *(rule.seed, [step], rows, d, stream),
        dtype=dtype,
        out=_out(xp, (1, rows, d), dtype),
        backend=backend,
    )
    values: npt.NDArray[Any] = drawn[0]
    return values


def _out(xp: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    """Return memory of the current device for random numbers; on the host they find their own."""
    return None if xp is np else xp.empty(shape, dtype)
