"""Laws, rules and statistics on the device: the bits of the C++ drivers, and which kernel runs."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from hotloops import sgd
from hotloops._runtime.arrays import Library
from hotloops.sgd._noise import LAWS
from tests.contract import cases as contract
from tests.contract.test_determinism import PINNED
from tests.cuda.cases import (
    ADDITIVE,
    KERNELS,
    LAYOUTS,
    LOSSES,
    ROWS,
    RULES,
    STATISTICS,
    STREAMING,
    Case,
    assert_same_bits,
    covering,
    run_cpp,
    run_cuda,
)

PARTS = (4, 3, 6)
SEPARABLE = ("quadratic", "cosine")


def compare(cupy: Any, case: Case, parts: tuple[int, ...] = PARTS) -> Any:
    """The first part is burn-in; the others go on from one another's statistics."""
    expected = run_cpp(case, parts, 1)
    assert_same_bits(run_cuda(cupy, case, parts, 1), expected)
    return expected


every_case = pytest.mark.parametrize("case", [pytest.param(c, id=str(c)) for c in covering()])


@every_case
def test_rules_and_statistics(cuda: Any, case: Case) -> None:
    compare(cuda, case)


def test_the_cases_cover_what_they_should() -> None:
    found = covering()
    seen = {(case.kernel, case.rules) for case in found}
    assert seen == set(itertools.product(KERNELS, RULES))
    seen = {(case.kernel, case.statistics) for case in found}
    wanted = set(itertools.product(KERNELS, set(STATISTICS) - {"plug_in"}))  # which is below
    assert wanted <= seen


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("kernel", ADDITIVE)
def test_laws(cuda: Any, kernel: str, law: str, dtype: str) -> None:
    compare(cuda, Case(kernel, dtype, 6, num_chains=70, law=law))


@pytest.mark.parametrize("rules", ["none", "ball", "polynomial"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kernel", ROWS)
def test_plug_in(cuda: Any, kernel: str, dtype: str, rules: str) -> None:
    case = Case(
        kernel, dtype, 5, num_chains=70, copies=1 + len(rules) % 3, own_steps=rules == "ball",
        batch_size=2, full=dtype == "float32", rules=rules, statistics="plug_in",
    )  # fmt: skip
    compare(cuda, case)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("dim", [1, 3, 4, 33])
@pytest.mark.parametrize("kernel", STREAMING)
def test_streams(cuda: Any, kernel: str, dim: int, dtype: str, full: bool) -> None:
    """Independent features; features that depend on each other and on those of the step before."""
    case = Case(kernel, dtype, dim, num_chains=70, copies=3, full=full, statistics="plug_in")
    assert np.isfinite(compare(cuda, case).chains.theta).all()


@pytest.mark.parametrize("dim", [1, 5, 33])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_markov_states(cuda: Any, dtype: str, dim: int) -> None:
    case = Case("markov_lsa", dtype, dim, num_chains=70, copies=3, statistics="default")
    states = compare(cuda, case).chains.auxiliary
    assert len(np.unique(states)) > 1


@pytest.mark.parametrize("statistics", ["default", "covariance"])
@pytest.mark.parametrize("rules", ["none", "all"])
@pytest.mark.parametrize("kernel", LAYOUTS)
def test_statistics_of_copies_that_diverge(
    cuda: Any, kernel: str, rules: str, statistics: str
) -> None:
    case = Case(kernel, "float64", 3, 90, 2, spread=0.1, rules=rules, statistics=statistics)
    largest = np.abs(run_cpp(case, PARTS, 1).chains.theta).max(axis=2)
    flags = compare(cuda, case.with_(divergence_limit=float(np.median(largest)))).chains.flags
    assert flags.any()
    assert not flags.all()


@pytest.mark.parametrize("kernel", ["quadratic", "huber", "streaming_logistic", "markov_lsa"])
def test_statistics_over_launches_and_turns(
    cuda: Any, kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slots fall due within a launch and at its end; chains take turns in a small workspace."""
    cuda.shim.set_max_steps(5)
    cuda.shim.set_max_blocks(2)
    case = Case(kernel, "float32", 3, num_chains=200, rules="all", statistics="default")
    compare(cuda, case, (4, 30, 13))
    full = sgd._cuda._workspace
    monkeypatch.setattr(sgd._cuda, "_workspace", lambda size: full(-(-size // 3)))
    compare(cuda, case, (4, 30, 13))


SGD_CASES = [
    pytest.param(case, dtype, id=f"{case}-{dtype}")
    for case, dtype in contract.instances()
    if case in contract.SGD
]


@pytest.mark.filterwarnings("ignore:run. burn_in:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:run. the step size:RuntimeWarning")
@pytest.mark.filterwarnings("ignore::hotloops.DivergenceWarning")
@pytest.mark.parametrize(("case", "dtype"), SGD_CASES)
def test_contract(
    cuda: Any,
    case: contract.Case,
    dtype: str,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    """From `sgd.run` down: the hashes that the other backends are held to."""
    if "large batches" in case.name:  # whose 1030 exchanges between lanes a step take seconds
        request.getfixturevalue("general")
    start = contract.start
    monkeypatch.setattr(contract, "start", lambda *sizes: cuda.asarray(start(*sizes)))
    problem, _ = case.make(dtype)
    problem.library = Library("cupy", "cuda")  # as if it had been made of arrays on the device
    found = case.call((problem, dtype), backend="cuda", **case.options)
    assert contract.digest(found) == PINNED[f"{case}/{dtype}"]


def kernels_that_run(cuda: Any, monkeypatch: pytest.MonkeyPatch, case: Case) -> set[str]:
    found = set()

    class Watched:
        def __getattr__(self, name: str) -> Any:
            if name.startswith("sgd_") and not name.endswith("_workspace"):
                found.add(name)
            return getattr(cuda.shim, name)

    monkeypatch.setattr(sgd._cuda.dispatch, "cuda", Watched)
    run_cuda(cuda, case, (3, 2), 1)
    return found


@pytest.mark.parametrize("kernel", KERNELS)
def test_choice_of_the_kernel(cuda: Any, kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernels that keep all in registers, unless they lack what is asked for."""

    def names(**changes: Any) -> set[str]:
        return kernels_that_run(cuda, monkeypatch, Case(kernel, "float32", 3).with_(**changes))

    fast, general = f"sgd_{kernel}", f"sgd_{kernel}_general"
    bare = fast if kernel in (*ADDITIVE, *LOSSES) else general
    running = f"sgd_{kernel}_statistics" if kernel in (*SEPARABLE, *LOSSES) else general
    copies, dim = (8, 32) if kernel in LOSSES else (4, 128)
    assert names() == {bare}
    assert names(own_steps=True) == {bare}
    for rules in set(RULES) - {"none"}:
        assert names(rules=rules) == {general}
        assert names(rules=rules, statistics="default") == {general}
    # The burn-in has no statistics.
    for statistics in ("default", "path", "scaling"):
        assert names(statistics=statistics) == {bare, running}
        assert names(statistics=statistics, copies=copies, dim=dim) == {bare, running}
        assert names(statistics=statistics, copies=copies + 1) == {bare, general}
        assert names(statistics=statistics, dim=dim + 1) == {bare, general}
    for statistics in ("variance", "covariance"):
        assert names(statistics=statistics) == {bare, general}
    for law in LAWS:
        gaussian = law == "gaussian" or kernel not in ADDITIVE
        assert names(law=law) == {bare if gaussian else general}
        assert names(law=law, statistics="path") == ({bare, running} if gaussian else {general})


SHAPES = [
    *itertools.product(SEPARABLE, (1, 2, 3, 4), (1, 4, 6, 17, 33, 66, 128)),
    *itertools.product(("least_squares", "logistic"), range(1, 9), (1, 4, 7, 12, 30, 32)),
    *itertools.product(LOSSES[2:], (2, 3), (5,)),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("kernel", "copies", "dim"), SHAPES)
def test_statistics_in_registers(cuda: Any, kernel: str, dtype: str, copies: int, dim: int) -> None:
    """Grids of all shapes, in launches of a few steps, with copies that diverge."""
    number = dim + copies
    cuda.shim.set_max_steps(5)
    cuda.shim.set_max_blocks((2**31 - 1, 1)[number % 2])
    cuda.shim.set_backwards(number % 3 == 0)
    case = Case(
        kernel, dtype, dim, 41, copies, spread=0.1, own_steps=number % 2 == 0,
        statistics=("default", "path", "scaling")[number % 3],
    )  # fmt: skip
    largest = np.abs(run_cpp(case, PARTS, 1).chains.theta).max(axis=2)
    flags = compare(cuda, case.with_(divergence_limit=float(np.median(largest)))).chains.flags
    assert flags.any()
    assert not flags.all()
