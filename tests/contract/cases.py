"""The kernels and what each promises: arguments with their roles, class of determinism, inputs.

One `Case` for each kernel and way of using it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from hotloops import random, sgd
from hotloops._runtime import dispatch
from hotloops.sgd._statistics import CHAIN_ARRAYS
from tests.contract import admm_cases, nn_cases, prox_cases, simplex_cases
from tests.contract.sgd_problems import (
    CHAINS,
    MARKOV,
    QUADRATIC,
    QUADRATIC_FULL,
    ROWS,
    STREAM,
    STREAM_AR1,
    Argument,
    Array,
    fractions,
    markov,
    quadratic,
    quadratic_full,
    rows,
    streaming,
)

DTYPES = ("float32", "float64")
SEED = 0x0123456789ABCDEF


@dataclass(frozen=True)
class Case:
    """One kernel and one kind of input for it.

    `make(dtype)` gives what `call` takes; `call(made, **options)` gives the arrays that must be the
    same everywhere, with options among backend, num_threads, executor. `run` holds what a case of
    sgd asks of `sgd.run` besides the problem: step sizes, rules, statistics.
    """

    name: str
    kernel: str
    arguments: tuple[Argument, ...]
    make: Callable[[str], Any]
    call: Callable[..., list[Array]]
    determinism: str = "A"
    dtypes: tuple[str, ...] = DTYPES
    options: dict[str, Any] = field(default_factory=dict)
    run: dict[str, Any] = field(default_factory=dict)

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


STEP_SIZES = [1 / 32, 1 / 16, 3 / 32]
NUM_CHAINS = 37  # fills no pack of any instruction set
BURN_IN, NUM_STEPS = 9, 40
MANY_ROWS = 2**20 + 9  # above the number from which on words are rejected
OFFSETS = {"chain_offset": 2**31 - 7, "step_offset": 2**32 - 20}  # words carry over on the way


def start(dim: int, dtype: str, copies: int = len(STEP_SIZES)) -> Array:
    return fractions((NUM_CHAINS, copies, dim), 5, np.dtype(dtype).type)


# Results that have the chains behind the checkpoints; in all others they come first.
CHECKPOINTED = ("checkpoint_mean", "checkpoint_last")


def result_arrays(result: sgd.SGDResult) -> list[Array]:
    names = ("mean", "extrapolated", "last", "flags", "diverged_at")
    found = [np.asarray(getattr(result, name)) for name in names]
    if result.state.arrays.auxiliary.size:
        found.append(result.state.arrays.auxiliary)
    if result.state.statistics is not None:
        sums = [getattr(result.state.statistics, name) for name in CHAIN_ARRAYS]
        found += [array for array in sums if array is not None]
    return found + [np.asarray(getattr(result, name)) for name in CHECKPOINTED]


def run_options(case_run: dict[str, Any], begin: int = 0, end: int = NUM_CHAINS) -> dict[str, Any]:
    """Return keywords of `sgd.run` for some of the chains of a case."""
    options = {"step_sizes": STEP_SIZES, "statistics": ("mean",), **case_run}
    if np.ndim(options["step_sizes"]) == 2:
        options["step_sizes"] = options["step_sizes"][begin:end]
    return options


def run_sgd(made: Any, run: dict[str, Any], **options: Any) -> list[Array]:
    problem, dtype = made
    asked = run_options(run)
    copies = np.shape(asked["step_sizes"])[-1]
    return result_arrays(
        sgd.run(
            problem,
            num_steps=NUM_STEPS,
            burn_in=BURN_IN,
            num_chains=NUM_CHAINS,
            theta0=start(problem.dim, dtype, copies),
            seed=SEED,
            checkpoints=[1, 13, NUM_STEPS],
            **{**OFFSETS, **asked, **options},
        )
    )


def sgd_case(
    name: str,
    kernel: str,
    arguments: tuple[Argument, ...],
    make: Callable[[str], Any],
    **run: Any,
) -> Case:
    return Case(f"sgd/{name}", kernel, arguments, make, partial(run_sgd, run=run), run=run)


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
    sgd_case("huber", "huber", ROWS, rows(sgd.Huber, 50, 5, delta=0.75)),
    sgd_case("squared_hinge", "squared_hinge", ROWS, rows(sgd.SquaredHinge, 50, 4, batch_size=3)),
    sgd_case(
        "softplus_hinge", "softplus_hinge", ROWS, rows(sgd.SoftplusHinge, 50, 6, sharpness=1.5)
    ),
    sgd_case("poisson", "poisson", ROWS, rows(sgd.Poisson, 50, 3)),
    sgd_case(
        "streaming_least_squares",
        "streaming_least_squares",
        STREAM,
        streaming(sgd.StreamingLeastSquares, 7, noise_scale=0.75, l2=1 / 8),
    ),
    sgd_case(
        "streaming_least_squares autoregressive",
        "streaming_least_squares",
        STREAM_AR1,
        streaming(sgd.StreamingLeastSquares, 4, full=True, rho=0.5),
    ),
    sgd_case(
        "streaming_logistic",
        "streaming_logistic",
        STREAM,
        streaming(sgd.StreamingLogistic, 10, l2=1 / 8),
    ),
    sgd_case(
        "streaming_logistic autoregressive",
        "streaming_logistic",
        STREAM_AR1,
        streaming(sgd.StreamingLogistic, 3, full=True, rho=-0.75),
    ),
    sgd_case("markov_lsa", "markov_lsa", MARKOV, markov(6, 5)),
    sgd_case("markov_lsa d=1", "markov_lsa", MARKOV, markov(3, 1)),
]

EVERYTHING = ("batch_means", "random_scaling", "variance")
TABLE = [-1.5, -0.25, 0.0, 0.75, 1.0]
SGD += [
    sgd_case(f"quadratic {name}", "quadratic", QUADRATIC, quadratic(dim, noise_law=law))
    for name, law, dim in (
        ("uniform", "uniform", 6),
        ("rademacher", "rademacher", 5),
        ("laplace", "laplace", 9),
        ("student", sgd.StudentT(5.5), 7),
        ("without noise", "none", 3),
        ("table", TABLE, 6),
    )
]
SGD += [
    sgd_case(
        "quadratic_full student",
        "quadratic_full",
        QUADRATIC_FULL,
        quadratic_full(5, noise=sgd.StudentT(6.0)),
        statistics=EVERYTHING,
    ),
    sgd_case(
        "cosine laplace",
        "cosine",
        CHAINS,
        lambda dtype: (sgd.Cosine(0.75, 1.25, 5, noise="laplace"), dtype),
    ),
]

# Every chain has step sizes of its own.
OWN_STEP_SIZES = np.array(STEP_SIZES) * (1 + np.arange(NUM_CHAINS)[:, None] % 5 / 8)
BALL = sgd.Ball(2.25, center=0.25)
BOX = sgd.Box(-1.25, 0.75)
PIECES = sgd.PiecewiseConstant([BURN_IN + 3, 30], [1.0, 0.5, 0.25])
DECAY = sgd.PolynomialDecay(0.5, offset=2.0)
SGD += [
    sgd_case(
        "quadratic own steps", "quadratic", QUADRATIC, quadratic(6), step_sizes=OWN_STEP_SIZES
    ),
    sgd_case(
        "quadratic clipped", "quadratic", QUADRATIC, quadratic(9), clip_norm=1.5, weight_decay=0.25
    ),
    sgd_case(
        "quadratic_full in a box",
        "quadratic_full",
        QUADRATIC_FULL,
        quadratic_full(6),
        projection=BOX,
        schedule=DECAY,
    ),
    sgd_case(
        "quadratic in a ball",
        "quadratic",
        QUADRATIC,
        quadratic(5, 4.0, divergence_limit=2.0),
        projection=BALL,
        schedule=PIECES,
        step_sizes=OWN_STEP_SIZES,
    ),
    sgd_case(
        "logistic by all rules",
        "logistic",
        ROWS,
        rows(sgd.Logistic, 50, 9, batch_size=2),
        clip_norm=0.5,
        weight_decay=0.125,
        projection=BALL,
        schedule=DECAY,
        statistics=EVERYTHING,
    ),
    sgd_case(
        "markov_lsa by rules",
        "markov_lsa",
        MARKOV,
        markov(4, 3),
        projection=BOX,
        schedule=PIECES,
        clip_norm=2.0,
    ),
    sgd_case(
        "quadratic statistics",
        "quadratic",
        QUADRATIC,
        quadratic(6),
        statistics=EVERYTHING,
    ),
    sgd_case(
        "quadratic statistics of one step size",
        "quadratic",
        QUADRATIC,
        quadratic(33),
        statistics=EVERYTHING,
        step_sizes=STEP_SIZES[:1],
        batch_length=4,
    ),
    sgd_case(
        "quadratic statistics of two step sizes",
        "quadratic",
        QUADRATIC,
        quadratic(3, 4.0, divergence_limit=3.0),
        statistics=EVERYTHING,
        step_sizes=OWN_STEP_SIZES[:, :2],
        batch_length=7,
    ),
    sgd_case(
        "cosine statistics of four step sizes",
        "cosine",
        CHAINS,
        lambda dtype: (sgd.Cosine(0.75, 1.25, 5), dtype),
        statistics=EVERYTHING,
        step_sizes=[*STEP_SIZES, 1 / 8],
        batch_length=3,
    ),
    sgd_case(
        "quadratic covariance",
        "quadratic",
        QUADRATIC,
        quadratic(6),
        statistics=("random_scaling", "covariance"),
    ),
    sgd_case(
        "logistic plug_in",
        "logistic",
        ROWS,
        rows(sgd.Logistic, 50, 4),
        statistics=("batch_means", "plug_in"),
    ),
    sgd_case(
        "huber plug_in",
        "huber",
        ROWS,
        rows(sgd.Huber, 50, 3, batch_size=5),
        statistics=("covariance", "plug_in"),
        step_sizes=STEP_SIZES[:1],
    ),
    sgd_case(
        "streaming_logistic plug_in",
        "streaming_logistic",
        STREAM,
        streaming(sgd.StreamingLogistic, 5),
        statistics=("random_scaling", "plug_in"),
        step_sizes=STEP_SIZES[:2],
    ),
    sgd_case("markov_lsa statistics", "markov_lsa", MARKOV, markov(6, 4), statistics=EVERYTHING),
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

SIMPLEX = [
    Case(
        f"simplex/{name}",
        kernel,
        arguments,
        make,
        partial(simplex_cases.run, settings=settings),
        determinism=determinism,
    )
    for name, (kernel, arguments, make, settings, determinism) in simplex_cases.CASES.items()
]

NN = [
    Case(f"nn/{name}", kernel, arguments, str, call)
    for name, (kernel, arguments, call) in nn_cases.CASES.items()
]

PROX = [
    Case(f"prox/{name}", kernel, arguments, prox_cases.make(operator), prox_cases.run)
    for name, (kernel, arguments, operator) in prox_cases.CASES.items()
]

ADMM = [
    *(
        Case(f"admm/{name}", "sisa", arguments, admm_cases.make_step(name), admm_cases.step)
        for name, (arguments, _) in admm_cases.STEPS.items()
    ),
    *(
        Case(f"admm/solve {name}", "solve", (), admm_cases.make_run(name), admm_cases.run)
        for name in admm_cases.RUNS
    ),
]

CASES = [*SGD, *RANDOM, *SIMPLEX, *PROX, *ADMM, *NN]


def instances() -> Iterator[tuple[Case, str]]:
    """Every case in every precision."""
    for case in CASES:
        for dtype in case.dtypes:
            yield case, dtype


def has_pinned_bits(case: Case, backend: str) -> bool:
    """Whether it must have them: class B needs multiply-add, and the base level has none."""
    return case.determinism == "A" or backend != "cpp" or dispatch.core().isa() != "base"


def digests(**options: Any) -> dict[str, str]:
    """Return the hashes of all cases by name."""
    return {f"{case}/{dtype}": case.digest(dtype, **options) for case, dtype in instances()}
