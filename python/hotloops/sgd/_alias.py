"""Alias tables: a finite law from one word."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hotloops.sgd._problem import Float64

__all__ = ["Thresholds", "alias_tables", "draw"]

Thresholds = npt.NDArray[np.uint32]
Aliases = npt.NDArray[np.int32]

_ONE = 2**32


def alias_tables(law: Float64) -> tuple[Thresholds, Aliases]:
    """Return thresholds and aliases, each (R, S), for R laws on S states that sum to one.

    Slot k of S stands for state k when the fraction of the word is below ``threshold[k] 2^-32``,
    else for ``alias[k]``. Probabilities are first rounded to multiples of ``2^-32 / S`` that sum to
    one, and represented exactly from there on; what is zero stays zero.

    M. D. Vose, "A linear algorithm for generating random numbers with a given distribution", IEEE
    Transactions on Software Engineering 17 (1991), here for all rows at once: every step settles
    one slot of each, the lightest left or the one that has been giving.
    """
    num_rows, num_states = law.shape
    rows = np.arange(num_rows)
    weight = _rounded(law)
    order = np.argsort(weight, axis=1, kind="stable")
    threshold = np.full(law.shape, _ONE - 1, np.uint32)
    alias = np.broadcast_to(np.arange(num_states, dtype=np.int32), law.shape).copy()
    light = np.zeros(num_rows, np.int64)
    giver = np.full(num_rows, num_states - 1)
    left = weight[rows, order[:, -1]]  # of the giver
    for _ in range(num_states - 1):
        spent = left <= _ONE
        slot = np.where(spent, order[rows, giver], order[rows, light])
        kept = np.where(spent, left, weight[rows, slot])
        giver = giver - spent
        light = light + ~spent
        heir = order[rows, giver]
        short = kept < _ONE
        threshold[rows[short], slot[short]] = kept[short]
        alias[rows[short], slot[short]] = heir[short]
        left = np.where(spent, weight[rows, heir], left) - (_ONE - kept)
    return threshold, alias


def _rounded(law: Float64) -> npt.NDArray[np.int64]:
    """Return multiples of ``2^-32 / S`` that sum to one in each row; the largest takes the rest."""
    num_rows, num_states = law.shape
    weight = np.rint(law * (num_states * float(_ONE))).astype(np.int64)
    largest = law.argmax(axis=1)
    weight[np.arange(num_rows), largest] += num_states * _ONE - weight.sum(axis=1)
    return np.asarray(weight, np.int64)


def draw(
    words: npt.NDArray[np.uint32], threshold: Thresholds, alias: Aliases
) -> npt.NDArray[np.int64]:
    """Draw one state for each word from one law: thresholds and aliases (S,)."""
    product = words.astype(np.uint64) * np.uint64(threshold.size)
    slot = (product >> np.uint64(32)).astype(np.int64)
    keeps = (product & np.uint64(_ONE - 1)) < threshold[slot]
    return np.asarray(np.where(keeps, slot, alias[slot]), np.int64)
