"""States and parameters for every kernel of sgd, and the comparison of two runs bit for bit."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops.sgd import _cpp, _cuda
from hotloops.sgd._noise import LAWS
from hotloops.sgd._rules import (
    NO_RULES,
    Ball,
    Box,
    PiecewiseConstant,
    PolynomialDecay,
    Rules,
)
from hotloops.sgd._state import ChainArrays
from hotloops.sgd._statistics import CHAIN_ARRAYS, StatisticsArrays

# One kernel of each layout over the grid, then the losses that share the one of the logistic.
LAYOUTS = ("quadratic", "quadratic_full", "cosine", "least_squares", "logistic")
ADDITIVE = ("quadratic", "quadratic_full", "cosine")
LOSSES = ("least_squares", "logistic", "huber", "squared_hinge", "softplus_hinge", "poisson")
STREAMING = ("streaming_least_squares", "streaming_logistic")
ROWS = (*LOSSES, *STREAMING)
KERNELS = (*ADDITIVE, *LOSSES, *STREAMING, "markov_lsa")
NAMES = tuple(field.name for field in fields(ChainArrays))
STEP_SIZES = (0.05, 0.1, 0.2, 0.02, 0.15, 0.3, 0.07, 0.25, 0.03)
NUM_STATES = 5

# Everything that the fast kernels lack.
DECAY, PIECES = PolynomialDecay(0.5, offset=2.0), PiecewiseConstant([13, 16], [1.0, 0.5, 0.25])
RULES = {
    "none": NO_RULES,
    "clip": Rules(clip_norm=0.7),
    "decay": Rules(weight_decay=0.125),
    "box": Rules(projection=Box(-0.75, 0.5)),
    "ball": Rules(projection=Ball(0.9, center=0.125)),
    "polynomial": Rules(schedule=DECAY),
    "piecewise": Rules(schedule=PIECES, origin=2),
    "all": Rules(0.7, 0.125, Ball(0.9, center=0.125), PIECES, origin=3),
}
STATISTICS = {
    "none": (),
    "path": ("path",),
    "scaling": ("squares", "products"),
    "variance": ("second",),
    "covariance": ("covariance",),
    "default": ("path", "squares", "products"),
    "plug_in": ("path", "squares", "products", "covariance", "plug_in"),
}
STRIDE = 2


@dataclass(frozen=True)
class Case:
    """Where some chains start and how they go on."""

    kernel: str
    dtype: str
    dim: int
    num_chains: int = 7
    copies: int = 2
    seed: int = 0x0123456789ABCDEF
    chain_offset: int = 5
    first_step: int = 11
    divergence_limit: float = 1e6
    num_rows: int = 50
    batch_size: int = 3
    sampling: int = 0
    spread: float = 0.3  # of where the chains start
    law: str = "gaussian"
    full: bool = False  # features of a stream that depend on each other, on those before them too
    own_steps: bool = False
    rules: str = "none"
    statistics: str = "none"

    def chains(self) -> ChainArrays:
        random = np.random.default_rng((self.dim, self.num_chains, self.copies))
        shape = (self.num_chains, self.copies, self.dim)
        step_sizes = np.array(STEP_SIZES[: self.copies])
        if self.own_steps:
            step_sizes = step_sizes * random.uniform(0.5, 1.5, (self.num_chains, 1))
        return ChainArrays(
            theta=(self.spread * random.standard_normal(shape)).astype(self.dtype),
            sums=random.standard_normal(shape),
            flags=np.zeros(shape[:2], np.uint8),
            diverged_at=np.full(shape[:2], -1, np.int64),
            step_sizes=step_sizes.astype(self.dtype),
            auxiliary=self._auxiliary(random),
        )

    def _auxiliary(self, random: np.random.Generator) -> npt.NDArray[Any] | None:
        if self.kernel == "markov_lsa":
            return random.integers(0, NUM_STATES, (self.num_chains, 1)).astype(self.dtype)
        if self.kernel in STREAMING and self.full:
            return random.standard_normal((self.num_chains, self.dim)).astype(self.dtype)
        return None

    def running(self, num_steps: int) -> StatisticsArrays | None:
        """Room for the statistics of so many averaged steps, filled with what came before."""
        names = STATISTICS[self.statistics]
        if not names:
            return None
        random = np.random.default_rng((self.dim, self.copies))
        chains, copies, dim = self.num_chains, self.copies, self.dim
        paths, triangle = copies + 1 if copies > 1 else 1, dim * (dim + 1) // 2
        weights = random.uniform(-1, 2, (chains, copies) if self.own_steps else copies)
        made = StatisticsArrays(
            count=0,
            weights=weights if copies > 1 else np.ones_like(weights),
            shift=self.chains().theta.astype(np.float64),
            stride=STRIDE,
        )
        shapes = {
            "path": (chains, num_steps // STRIDE, copies, dim),
            "squares": (chains, paths, dim),
            "products": (chains, copies, dim),
            "second": (chains, paths, dim),
            "covariance": (chains, paths, triangle),
            "plug_hessian": (chains, triangle),
            "plug_outer": (chains, triangle),
        }
        if "plug_in" in names:
            names = (*names[:-1], "plug_hessian", "plug_outer")
        for name in names:
            kept = "second" if name == "covariance" else name
            setattr(made, kept, random.uniform(0, 1, shapes[name]))
        return made

    def parameters(self) -> tuple[Any, ...]:
        random = np.random.default_rng(self.dim)
        d = self.dim

        def own(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
            return np.ascontiguousarray(values, self.dtype)

        table = own(random.standard_normal(9 if self.law == "table" else 0))
        noise = (LAWS.index(self.law), 5.5, table)
        if self.kernel == "cosine":
            return 1.0, 0.7, noise
        center = own(random.standard_normal(d))
        if self.kernel == "quadratic":
            scale = own(random.uniform(0.5, 1, d))
            return own(random.uniform(0.5, 2, d)), center, scale, noise
        if self.kernel == "quadratic_full":
            root = random.standard_normal((d, d))
            # Not quite symmetric, to tell rows from columns.
            matrix = root @ root.T / d + np.eye(d) + 1e-3 * random.standard_normal((d, d))
            return own(matrix), center, own(np.tril(root)), noise
        if self.kernel in STREAMING:
            factor = np.tril(random.standard_normal((d, d)) / d) + np.eye(d) / np.sqrt(d)
            rho = 0.5 if self.full else 0.0
            return center, own(factor if self.full else np.diag(factor)), 0.5, 0.01, rho
        if self.kernel == "markov_lsa":
            return self._markov(random)
        features = own(random.standard_normal((self.num_rows, d)) / np.sqrt(d))
        targets = own((random.random(self.num_rows) < 0.5).astype(float))
        if self.kernel.endswith("hinge"):
            targets = own(2 * targets - 1)
        return features, targets, self.batch_size, self.sampling, 0.01, 0.75

    def _markov(self, random: np.random.Generator) -> tuple[Any, ...]:
        d = self.dim
        matrices = random.standard_normal((NUM_STATES, d, d)) / (2 * d) - np.eye(d)
        offsets = random.standard_normal((NUM_STATES, d))
        threshold = random.integers(0, 2**32, (NUM_STATES, NUM_STATES), np.uint32)
        alias = random.integers(0, NUM_STATES, (NUM_STATES, NUM_STATES), np.int32)
        return matrices.astype(self.dtype), offsets.astype(self.dtype), threshold, alias

    def __str__(self) -> str:
        return f"{self.kernel}-{self.dtype}-{self.dim}-{self.rules}-{self.statistics}"

    def with_(self, **changes: Any) -> Case:
        return replace(self, **changes)


def covering() -> list[Case]:
    """Every kernel under every rule and with every statistic; all else takes turns."""
    found = []
    dims = itertools.cycle((1, 2, 3, 4, 5, 7, 9, 12, 13))
    # The plug-in estimate, which not every kernel and rule has, is apart.
    names = [name for name in STATISTICS if name != "plug_in"]
    for k, kernel in enumerate(KERNELS):
        for r, rules in enumerate(RULES):
            case = Case(
                kernel,
                ("float32", "float64")[(k + r) % 2],
                next(dims),
                num_chains=(1, 67, 9)[(k + r // 2) % 3],
                copies=1 + (k + 3 * r) % 5,
                first_step=2**32 - 7 if r % 2 else 11,
                own_steps=(k + r) % 3 == 1,
                law=LAWS[(k + r) % len(LAWS)],
                full=(k + r) % 2 == 0,
                sampling=(k + r) % 3,
                rules=rules,
                statistics=names[(k + r) % len(names)],
            )
            found.append(case)
    return found


@dataclass
class Run:
    """Chains and their statistics."""

    chains: ChainArrays
    statistics: StatisticsArrays | None

    @property
    def arrays(self) -> dict[str, Any]:
        found = {name: getattr(self.chains, name) for name in NAMES}
        if self.statistics is not None:
            found |= {name: getattr(self.statistics, name) for name in CHAIN_ARRAYS}
        return {name: array for name, array in found.items() if array is not None}


def on_device(cupy: Any, value: Any) -> Any:
    """Return arrays, tuples, chains and statistics of NumPy as those of `cupy`."""
    if isinstance(value, ChainArrays | StatisticsArrays):
        kept = {field.name: getattr(value, field.name) for field in fields(value)}
        return type(value)(**{name: on_device(cupy, part) for name, part in kept.items()})
    if isinstance(value, tuple):
        return tuple(on_device(cupy, part) for part in value)
    return cupy.asarray(value) if isinstance(value, np.ndarray) else value


def run_cpp(
    case: Case, parts: tuple[int, ...], burn_in: int = 0, start: ChainArrays | None = None
) -> Run:
    """Advance by the CPU driver, in parts; the first `burn_in` of them do not accumulate."""
    run = Run(start or case.chains(), case.running(sum(parts)))
    return _run(_cpp, case, run, case.parameters(), parts, burn_in)


def run_cuda(cupy: Any, case: Case, parts: tuple[int, ...], burn_in: int = 0) -> Run:
    """The same on the device; `cupy` may be the stand-in."""
    run = Run(on_device(cupy, case.chains()), on_device(cupy, case.running(sum(parts))))
    return _run(_cuda, case, run, on_device(cupy, case.parameters()), parts, burn_in)


def _run(
    backend: Any,
    case: Case,
    run: Run,
    parameters: tuple[Any, ...],
    parts: tuple[int, ...],
    burn_in: int,
) -> Run:
    step = case.first_step
    for number, steps in enumerate(parts):
        accumulate = number >= burn_in
        backend.advance(
            run.chains,
            case.kernel,
            parameters,
            seed=case.seed,
            chain_offset=case.chain_offset,
            first_step=step,
            num_steps=steps,
            accumulate=accumulate,
            divergence_limit=case.divergence_limit,
            num_threads=1,
            rules=RULES[case.rules],
            statistics=run.statistics,
        )
        step += steps
        if run.statistics is not None and accumulate:
            run.statistics.count += steps
    return run


def assert_same_bits(first: Run, second: Run) -> None:
    assert first.arrays.keys() == second.arrays.keys()
    for name, array in first.arrays.items():
        one, other = to_host(array), to_host(second.arrays[name])
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        different = np.flatnonzero(
            (one.reshape(-1, 1).view(np.uint8) != other.reshape(-1, 1).view(np.uint8)).any(axis=1)
        )
        place = np.unravel_index(different[0], one.shape) if different.size else ()
        assert different.size == 0, f"{name} differs in {different.size} places, first at {place}"


def to_host(array: Any) -> npt.NDArray[Any]:
    return array.get() if hasattr(array, "get") else np.asarray(array)
