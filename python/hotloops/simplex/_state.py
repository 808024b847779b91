"""Where a run stands: what the drivers advance and what a later run goes on from."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops._runtime import validate

__all__ = ["FORMS", "ChainArrays", "SimplexState", "StepOptions", "Steps", "check_state"]

# By number, as in kernels.hpp.
FORMS = ("entropic", "sphere", "projected", "linear", "metropolis", "accelerated")


@dataclass
class ChainArrays:
    """C-contiguous arrays that a driver advances in place; C chains, d weights.

    Attributes
    ----------
    x : ndarray, shape (C, d)
    value : ndarray, shape (C,)
        The objective at `x`, written at the end of each call.
    best_x : ndarray, shape (C, d)
    best_value : ndarray, shape (C,)
        The lowest objective that a chain met, and where.
    smallest : ndarray, shape (C,)
        The smallest weight that a chain met.
    sums, squares : ndarray, shape (C, d), float64
        Sums of the weights, and of their squares, after the burn-in.
    products : ndarray, shape (C, d, d) or (C, 0, 0), float64
        Sums of the products of weights after the burn-in, where they are asked for.
    histogram : ndarray, shape (C, d, B) or (C, 0, 0), int64
        Counts of the weights after the burn-in in B equal parts of [0, 1], likewise.
    auxiliary : ndarray, shape (C, d + 1) or (C, 0)
        The slow sequence and gamma of the accelerated form.
    floored, clipped : ndarray, shape (C,), int64
        Weights that were lifted to the floor; steps with an exponent that was cut.
    accepted : ndarray, shape (C,), int64
        Steps that the Metropolis-adjusted form accepted.
    flags : ndarray, shape (C,), uint8
        1 where a step was not finite and the chain is frozen.
    failed_at : ndarray, shape (C,), int64
        That step, else -1.
    tried, swapped : ndarray, shape (C,), int64
        Exchanges with the next chain of the ladder.
    """

    x: npt.NDArray[Any]
    value: npt.NDArray[Any]
    best_x: npt.NDArray[Any]
    best_value: npt.NDArray[Any]
    smallest: npt.NDArray[Any]
    sums: npt.NDArray[np.float64]
    squares: npt.NDArray[np.float64]
    products: npt.NDArray[np.float64]
    histogram: npt.NDArray[np.int64]
    auxiliary: npt.NDArray[Any]
    floored: npt.NDArray[np.int64]
    clipped: npt.NDArray[np.int64]
    accepted: npt.NDArray[np.int64]
    flags: npt.NDArray[np.uint8]
    failed_at: npt.NDArray[np.int64]
    tried: npt.NDArray[np.int64]
    swapped: npt.NDArray[np.int64]

    @classmethod
    def start(
        cls,
        x: npt.NDArray[Any],
        *,
        covariance: bool = False,
        bins: int = 0,
        accelerated: bool = False,
    ) -> ChainArrays:
        """Return the state of chains that have made no step; `x` is kept, not copied."""
        count, dim = x.shape
        auxiliary = np.empty((count, 0), x.dtype)
        if accelerated:
            auxiliary = np.concatenate([x, np.ones((count, 1), x.dtype)], axis=1)
        return cls(
            x=x,
            value=np.full(count, np.nan, x.dtype),
            best_x=x.copy(),
            best_value=np.full(count, np.inf, x.dtype),
            smallest=np.full(count, np.inf, x.dtype),
            sums=np.zeros(x.shape),
            squares=np.zeros(x.shape),
            products=np.zeros((count, dim, dim) if covariance else (count, 0, 0)),
            histogram=np.zeros((count, dim, bins) if bins else (count, 0, 0), np.int64),
            auxiliary=auxiliary,
            floored=np.zeros(count, np.int64),
            clipped=np.zeros(count, np.int64),
            accepted=np.zeros(count, np.int64),
            flags=np.zeros(count, np.uint8),
            failed_at=np.full(count, -1, np.int64),
            tried=np.zeros(count, np.int64),
            swapped=np.zeros(count, np.int64),
        )

    def copy(self) -> ChainArrays:
        """Return arrays of the same values in memory of their own."""
        return ChainArrays(**{item.name: getattr(self, item.name).copy() for item in fields(self)})

    def rows(self, begin: int, end: int) -> ChainArrays:
        """Return views of some of the chains."""
        return ChainArrays(**{name: array[begin:end] for name, array in self.to_dict().items()})

    @classmethod
    def joined(cls, parts: list[ChainArrays]) -> ChainArrays:
        """Return the chains of all parts, in order."""
        tables = [part.to_dict() for part in parts]
        return cls(**{name: np.concatenate([t[name] for t in tables]) for name in tables[0]})

    def to_dict(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays by name."""
        return {item.name: getattr(self, item.name) for item in fields(self)}


@dataclass(frozen=True)
class Steps:
    """What one call of a driver is to do with the chains.

    Attributes
    ----------
    seed, chain_offset, first_step : int
        Of the random numbers.
    num_steps : int
    accumulate : bool
        Whether sums, products and histograms grow.
    num_threads : int
    step_factors, temperature_factors : ndarray, shape (num_steps,), or None
        What schedules make of step sizes and temperatures.
    gradient : ndarray, shape (C, d), or None
        Receives the gradient after the last step.
    noise : ndarray, shape (C, d), or None
        Takes the place of what would be drawn in a single step.
    """

    seed: int
    chain_offset: int
    first_step: int
    num_steps: int
    accumulate: bool
    num_threads: int
    step_factors: Any = None
    temperature_factors: Any = None
    gradient: Any = None
    noise: Any = None


@dataclass(frozen=True)
class StepOptions:
    """What the chains of a run share; arrays are in the precision of the state."""

    form: int
    step_sizes: npt.NDArray[Any]  # (C,)
    temperatures: npt.NDArray[Any]  # (C,) 1 / beta
    alpha: npt.NDArray[Any]  # (d,)
    offsets: npt.NDArray[np.int32]  # (N + 1,)
    terms: tuple[Any, ...] | None
    noisy: bool
    corrected: bool
    floor_scale: float
    floor_least: float
    clip: float
    accelerations: npt.NDArray[Any] | None = None  # (C,) a of the accelerated form
    convexity: float = 0.0  # mu of the accelerated form


@dataclass(frozen=True)
class SimplexState:
    """What ``state=`` goes on from; bit for bit, as if the run had never stopped.

    Attributes
    ----------
    arrays : ChainArrays
        Points, best points and counts; a run copies them and leaves these alone.
    kernel : str
        Which objective it belongs to.
    retraction : str
        Which form of the step.
    sizes : tuple of int
        Numbers of entries of the simplices.
    seed, chain_offset : int
        Key of the random numbers and index of the first chain.
    next_step : int
        Index of the next step in the stream of random numbers.
    num_steps : int
        Steps made so far.
    burn_in : int
        Steps that did not enter the averages, or will not.
    """

    arrays: ChainArrays
    kernel: str
    retraction: str
    sizes: tuple[int, ...]
    seed: int
    chain_offset: int
    next_step: int
    num_steps: int
    burn_in: int


def check_state(function: str, state: SimplexState) -> None:
    """Check what may have come from a file or gone through the user's hands."""
    for name in ("chain_offset", "next_step", "num_steps", "burn_in"):
        validate.integer(function, f"state.{name}", getattr(state, name), low=0)
    validate.integer(function, "state.seed", state.seed, low=0, high=2**64 - 1)
    validate.choice(function, "state.retraction", state.retraction, FORMS)
    x = state.arrays.x
    if getattr(x, "ndim", 0) != 2 or x.shape[1] != sum(state.sizes):
        expectation = f"have shape (C, {sum(state.sizes)})"
        validate.fail(ValueError, function, "state.arrays.x", expectation, validate.describe(x))
    precision = validate.float_dtype(function, "state.arrays.x.dtype", x.dtype)
    shapes = _shapes(state.arrays)
    kinds: dict[str, Any] = dict.fromkeys(("sums", "squares", "products"), np.float64)
    kinds |= {"flags": np.uint8}
    counts = ("histogram", "floored", "clipped", "accepted", "failed_at", "tried", "swapped")
    kinds |= dict.fromkeys(counts, np.int64)
    for name, value in state.arrays.to_dict().items():
        validate.array(
            function,
            f"state.arrays.{name}",
            value,
            shape=shapes.get(name, x.shape[:1]),
            dtype=kinds.get(name, precision),
            exact_dtype=True,
            finite=name == "x",
            empty=name in ("products", "histogram", "auxiliary"),
        )


def _shapes(arrays: ChainArrays) -> dict[str, tuple[int, ...]]:
    """Return the shapes of what is more than one number for each chain."""
    count, dim = arrays.x.shape
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(
        ("x", "best_x", "sums", "squares"), arrays.x.shape
    )
    for name, full in (("products", (count, dim, dim)), ("auxiliary", (count, dim + 1))):
        empty = np.size(getattr(arrays, name)) == 0
        shapes[name] = (count, *(0 for _ in full[1:])) if empty else full
    bins = arrays.histogram.shape[-1] if np.ndim(arrays.histogram) == 3 else 0
    shapes["histogram"] = (count, dim, bins) if bins else (count, 0, 0)
    return shapes
