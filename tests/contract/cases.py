"""The kernels and what each promises: arguments with their roles, class of determinism, inputs.

One `Case` for each kernel and way of using it. Inputs are fractions of small integers, exact in
float32 and the same on every platform.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops import random, sgd

Array = npt.NDArray[Any]

DTYPES = ("float32", "float64")
SEED = 0x0123456789ABCDEF


@dataclass(frozen=True)
class Argument:
    """An array that a kernel takes.

    The role is "state" (advanced in place), "data" (never written) or "out" (written whole). The
    shape is made of numbers and symbols; the dtype is a name, or "T" for that of the case.
    """

    name: str
    role: str
    shape: tuple[int | str, ...]
    dtype: str = "T"


@dataclass(frozen=True)
class Case:
    """One kernel and one kind of input for it.

    `make(dtype)` gives what `call` takes; `call(made, **options)` gives the arrays that must be the
    same everywhere, with options among backend, num_threads, executor.
    """

    name: str
    kernel: str
    arguments: tuple[Argument, ...]
    make: Callable[[str], Any]
    call: Callable[..., list[Array]]
    determinism: str = "A"
    dtypes: tuple[str, ...] = DTYPES
    options: dict[str, Any] = field(default_factory=dict)

    def digest(self, dtype: str, **options: Any) -> str:
        """Run it and return a hash of all its answers."""
        return digest(self.call(self.make(dtype), **{**self.options, **options}))

    def __str__(self) -> str:
        return self.name


def digest(arrays: list[Array]) -> str:
    """Hash values, types and shapes."""
    state = hashlib.sha256()
    for array in arrays:
        plain = np.ascontiguousarray(array)
        state.update(f"{plain.dtype.newbyteorder('=').name}{plain.shape}".encode())
        state.update(plain.astype(plain.dtype.newbyteorder("<")).tobytes())
    return state.hexdigest()


def fractions(shape: tuple[int, ...], seed: int, dtype: Any = np.float64) -> Array:
    """Multiples of 1/32 between -2 and 2, from Philox."""
    words = random.philox(
        np.stack([np.arange(int(np.prod(shape)))] + [np.full(int(np.prod(shape)), seed)] * 3, -1),
        [1, 2],
    )[:, 0]
    return ((words % 129).astype(np.int64) - 64).reshape(shape).astype(dtype) / dtype(32)


STEP_SIZES = [1 / 32, 1 / 16, 3 / 32]
NUM_CHAINS = 37  # fills no pack of any instruction set
BURN_IN, NUM_STEPS = 9, 40
MANY_ROWS = 2**20 + 9  # above the number from which on words are rejected
OFFSETS = {"chain_offset": 2**31 - 7, "step_offset": 2**32 - 20}  # words carry over on the way


def start(dim: int, dtype: str) -> Array:
    return fractions((NUM_CHAINS, len(STEP_SIZES), dim), 5, np.dtype(dtype).type)


def result_arrays(result: sgd.SGDResult) -> list[Array]:
    names = ("mean", "extrapolated", "last", "flags", "diverged_at")
    kept = ("checkpoint_mean", "checkpoint_last")
    return [np.asarray(getattr(result, name)) for name in names + kept]


def run_sgd(made: Any, **options: Any) -> list[Array]:
    problem, dtype = made
    return result_arrays(
        sgd.run(
            problem,
            STEP_SIZES,
            NUM_STEPS,
            burn_in=BURN_IN,
            num_chains=NUM_CHAINS,
            theta0=start(problem.dim, dtype),
            seed=SEED,
            checkpoints=[1, 13, NUM_STEPS],
            **{**OFFSETS, **options},
        )
    )


CHAINS = (
    Argument("theta", "state", ("C", "J", "d")),
    Argument("sums", "state", ("C", "J", "d"), "float64"),
    Argument("flags", "state", ("C", "J"), "uint8"),
    Argument("diverged_at", "state", ("C", "J"), "int64"),
    Argument("step_sizes", "data", ("J",)),
)
QUADRATIC = (
    *CHAINS,
    Argument("curvature", "data", ("d",)),
    Argument("minimizer", "data", ("d",)),
    Argument("noise_scale", "data", ("d",)),
)
QUADRATIC_FULL = (
    *CHAINS,
    Argument("matrix", "data", ("d", "d")),
    Argument("minimizer", "data", ("d",)),
    Argument("noise_factor", "data", ("d", "d")),
)
ROWS = (*CHAINS, Argument("features", "data", ("n", "d")), Argument("targets", "data", ("n",)))


def quadratic(dim: int, noise: float = 1.0, **options: Any) -> Callable[[str], Any]:
    def make(dtype: str) -> Any:
        curvature = 1 + np.abs(fractions((dim,), 1))
        scale = noise * np.abs(fractions((dim,), 3))
        return sgd.Quadratic(curvature, fractions((dim,), 2), scale, **options), dtype

    return make


def quadratic_full(dim: int) -> Callable[[str], Any]:
    def make(dtype: str) -> Any:
        factor = np.tril(fractions((dim, dim), 3))
        matrix = np.eye(dim) * 4 + (fractions((dim, dim), 1) + fractions((dim, dim), 1).T) / (
            8 * dim
        )
        return sgd.Quadratic(matrix, fractions((dim,), 2), cholesky=factor), dtype

    return make


def rows(loss: Any, count: int, dim: int, **options: Any) -> Callable[[str], Any]:
    def make(dtype: str) -> Any:
        kind = np.dtype(dtype).type
        targets = fractions((count,), 7, kind)
        if loss is sgd.Logistic:
            targets = (targets > 0).astype(dtype)
        return loss(fractions((count, dim), 6, kind), targets, 1 / 16, **options), dtype

    return make


def sgd_case(
    name: str, kernel: str, arguments: tuple[Argument, ...], make: Callable[[str], Any]
) -> Case:
    return Case(f"sgd/{name}", kernel, arguments, make, run_sgd)


SGD = [
    sgd_case("quadratic", "quadratic", QUADRATIC, quadratic(6)),
    sgd_case("quadratic d=1", "quadratic", QUADRATIC, quadratic(1)),
    sgd_case("quadratic d=33", "quadratic", QUADRATIC, quadratic(33)),
    sgd_case(
        "quadratic diverging", "quadratic", QUADRATIC, quadratic(3, 4.0, divergence_limit=3.0)
    ),
    sgd_case("quadratic_full", "quadratic_full", QUADRATIC_FULL, quadratic_full(7)),
    sgd_case("cosine", "cosine", CHAINS, lambda dtype: (sgd.Cosine(0.75, 1.25, 5), dtype)),
    sgd_case("least_squares", "least_squares", ROWS, rows(sgd.LeastSquares, 50, 5)),
    sgd_case(
        "least_squares batches", "least_squares", ROWS, rows(sgd.LeastSquares, 50, 4, batch_size=7)
    ),
    sgd_case(
        "least_squares large batches",
        "least_squares",
        ROWS,
        rows(sgd.LeastSquares, 60, 2, batch_size=1030),
    ),
    sgd_case(
        "least_squares many rows",
        "least_squares",
        ROWS,
        rows(sgd.LeastSquares, MANY_ROWS, 1, batch_size=8),
    ),
    sgd_case(
        "least_squares sequential",
        "least_squares",
        ROWS,
        rows(sgd.LeastSquares, 11, 3, batch_size=3, sampling="sequential"),
    ),
    sgd_case("logistic", "logistic", ROWS, rows(sgd.Logistic, 50, 9)),
    sgd_case(
        "logistic reshuffle few",
        "logistic",
        ROWS,
        rows(sgd.Logistic, 7, 3, batch_size=2, sampling="reshuffle"),
    ),
    sgd_case(
        "logistic reshuffle",
        "logistic",
        ROWS,
        rows(sgd.Logistic, 100, 3, batch_size=9, sampling="reshuffle"),
    ),
    sgd_case("logistic large margins", "logistic", ROWS, rows(sgd.Logistic, 20, 30)),
]


STEPS = [0, 1, 2**32 - 1, 2**32, 2**48 - 1, 5]
ROW_INDICES = [*range(19), 2**32 - 1, 2**31]
COORDINATES = range(3, 50)


def law(draw: Any) -> Callable[..., list[Array]]:
    def call(dtype: str, **options: Any) -> list[Array]:
        return [
            draw(SEED, STEPS, ROW_INDICES, COORDINATES, 9, dtype=dtype, **options),
            draw(SEED, 3, 2, 1000, dtype=dtype, **options),
            draw(1, 300, 5, 1, 65535, dtype=dtype, **options),
        ]

    return call


def draw_words(dtype: str, **options: Any) -> list[Array]:
    counters = np.stack([np.arange(50_000) * 7919 % 2**32] * 4, axis=-1)
    return [random.philox(counters, [[3, 4]], **options)]


GRID = (
    Argument("out", "out", ("S", "C", "k")),
    Argument("steps", "data", ("S",), "int64"),
    Argument("chains", "data", ("C",), "int64"),
)
WORDS = (
    Argument("out", "out", ("n", 4), "uint32"),
    Argument("counters", "data", ("n", 4), "uint32"),
    Argument("keys", "data", ("n", 2), "uint32"),
)
RANDOM = [
    Case("random/normals", "normals", GRID, str, law(random.normals)),
    Case("random/uniforms", "uniforms", GRID, str, law(random.uniforms)),
    Case("random/philox", "philox", WORDS, str, draw_words, dtypes=("uint32",)),
]

CASES = [*SGD, *RANDOM]


def instances() -> Iterator[tuple[Case, str]]:
    """Every case in every precision."""
    for case in CASES:
        for dtype in case.dtypes:
            yield case, dtype


def digests(**options: Any) -> dict[str, str]:
    """Return the hashes of all cases by name."""
    return {f"{case}/{dtype}": case.digest(dtype, **options) for case, dtype in instances()}
