"""One hash for each kernel and precision, however it is computed.

Of class A everywhere; of class B wherever there is multiply-add, which the base level has not.
"""

from __future__ import annotations

import json
from concurrent import futures
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hotloops import sgd
from hotloops.sgd import _engine
from tests.contract import cases
from tests.contract.pin import PATH
from tests.random.reference import words
from tests.sgd import step_reference

PINNED: dict[str, str] = json.loads(PATH.read_text(encoding="utf-8"))
ROOT = str(Path(__file__).parents[2])

CHECKPOINTED = len(cases.CHECKPOINTED)

pytestmark = [
    pytest.mark.filterwarnings("ignore:run. burn_in:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:run. the step size:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::hotloops.DivergenceWarning"),
]

every_case = pytest.mark.parametrize(
    ("case", "dtype"),
    [pytest.param(*pair, id=f"{pair[0]}-{pair[1]}") for pair in cases.instances()],
)
sgd_cases = pytest.mark.parametrize(
    ("case", "dtype"),
    [
        pytest.param(case, dtype, id=f"{case}-{dtype}")
        for case, dtype in cases.instances()
        if case in cases.SGD
    ],
)


def expected_digest(case: cases.Case, dtype: str, backend: str) -> str:
    """The pinned one, or where C++ has no multiply-add for class B the one of a single thread."""
    if cases.has_pinned_bits(case, backend):
        return PINNED[f"{case}/{dtype}"]
    return case.digest(dtype, backend=backend, num_threads=1)


def assert_same(found: list[Any], expected: list[Any]) -> None:
    for left, right in zip(found, expected, strict=True):
        assert left.dtype == right.dtype
        assert left.shape == right.shape
        np.testing.assert_array_equal(left, right)


def test_every_case_is_pinned() -> None:
    assert set(PINNED) == {f"{case}/{dtype}" for case, dtype in cases.instances()}
    assert {case.determinism for case in cases.CASES} == {"A", "B"}
    assert all(case.kernel == "ridge_sum" for case in cases.CASES if case.determinism == "B")
    assert len(set(PINNED.values())) == len(PINNED)


@every_case
@pytest.mark.parametrize("backend", ["cpp", "numba"])  # tests/cuda compares the third
def test_backends(case: cases.Case, dtype: str, backend: str) -> None:
    assert case.digest(dtype, backend=backend) == expected_digest(case, dtype, backend)


@sgd_cases
def test_plain_loop(case: cases.Case, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is pinned is what NumPy finds, one step after the other, from the definitions."""
    monkeypatch.setattr(_engine, "_driver", lambda backend: step_reference.advance)
    assert case.digest(dtype) == PINNED[f"{case}/{dtype}"]


@every_case
def test_threads(case: cases.Case, dtype: str, threads: int) -> None:
    for backend in ("cpp", "numba"):
        found = case.digest(dtype, backend=backend, num_threads=threads)
        assert found == expected_digest(case, dtype, backend), backend


ALL_DIGESTS = f"""
import json, sys, warnings
warnings.simplefilter("ignore")
sys.path.insert(0, {ROOT!r})
from tests.contract import cases
print(json.dumps(cases.digests(backend="cpp")))
"""


def test_instruction_sets(isa: Any) -> None:
    """Every level that this processor has, in a process of its own."""
    class_b = {f"{case}/{dtype}" for case, dtype in cases.instances() if case.determinism == "B"}
    for level, output in isa.run_all(ALL_DIGESTS).items():
        found = json.loads(output)
        if level == "base":
            found |= {name: PINNED[name] for name in class_b}
        assert found == PINNED, level


@sgd_cases
@pytest.mark.parametrize("backend", ["cpp", "numba"])
def test_chunks_of_steps(
    case: cases.Case, dtype: str, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However the steps are cut into native calls."""
    for first, seconds in ((1, 0.0), (10**9, 10.0)):
        monkeypatch.setattr(_engine, "_FIRST_CHUNK_UPDATES", first)
        monkeypatch.setattr(_engine, "_CHUNK_SECONDS", seconds)
        assert case.digest(dtype, backend=backend) == PINNED[f"{case}/{dtype}"], first


@sgd_cases
def test_pieces_of_a_run(case: cases.Case, dtype: str) -> None:
    """run(n) in pieces through the state, in one or in different backends."""
    problem, _ = case.make(dtype)
    whole = case.call((problem, dtype))
    for backends in (("cpp",), ("numba", "cpp"), ("cpp", "numba")):
        options = cases.run_options(case.run)
        result = sgd.run(
            problem,
            num_steps=1,
            burn_in=cases.BURN_IN,
            num_chains=cases.NUM_CHAINS,
            theta0=cases.start(problem.dim, dtype, copies_of(options)),
            seed=cases.SEED,
            backend=backends[0],
            **cases.OFFSETS,
            **options,
        )
        for count, backend in zip((5, 17, 17), backends * 3, strict=False):
            steps = options["step_sizes"]
            result = sgd.run(problem, steps, count, state=result.state, backend=backend)
        assert_same(cases.result_arrays(result)[:-CHECKPOINTED], whole[:-CHECKPOINTED])


@sgd_cases
@pytest.mark.parametrize("backend", ["cpp", "numba"])
def test_chain_alone_and_in_a_batch(case: cases.Case, dtype: str, backend: str) -> None:
    """Any range of the chains is what it is in the whole ensemble."""
    problem, _ = case.make(dtype)
    whole = case.call((problem, dtype), backend=backend)
    starts = cases.start(problem.dim, dtype, copies_of(cases.run_options(case.run)))
    offset = cases.OFFSETS["chain_offset"]
    for begin, end in [(0, 1), (5, 6), (36, 37), (1, 36), (3, 20), (16, 32)]:
        part = sgd.run(
            problem,
            num_steps=cases.NUM_STEPS,
            burn_in=cases.BURN_IN,
            num_chains=end - begin,
            theta0=starts[begin:end],
            seed=cases.SEED,
            chain_offset=offset + begin,
            step_offset=cases.OFFSETS["step_offset"],
            checkpoints=[1, 13, cases.NUM_STEPS],
            backend=backend,
            **cases.run_options(case.run, begin, end),
        )
        expected = [array[begin:end] for array in whole[:-CHECKPOINTED]]
        expected += [array[:, begin:end] for array in whole[-CHECKPOINTED:]]
        assert_same(cases.result_arrays(part), expected)


@sgd_cases
def test_step_size_alone_and_with_others(case: cases.Case, dtype: str) -> None:
    """Copies of a chain share the noise and nothing else."""
    problem, _ = case.make(dtype)
    whole = case.call((problem, dtype))
    options = cases.run_options(case.run)
    step_sizes = np.array(options.pop("step_sizes"))
    copies = step_sizes.shape[-1]
    starts = cases.start(problem.dim, dtype, copies)
    for chosen in ([0], [copies - 1], [copies - 1, 0], [copies // 2, copies - 1]):
        if len(set(chosen)) < len(chosen):
            continue
        part = sgd.run(
            problem,
            step_sizes[..., chosen],
            cases.NUM_STEPS,
            burn_in=cases.BURN_IN,
            num_chains=cases.NUM_CHAINS,
            theta0=starts[:, chosen],
            seed=cases.SEED,
            **cases.OFFSETS,
            **options,
        )
        np.testing.assert_array_equal(part.mean, whole[0][:, chosen])
        np.testing.assert_array_equal(part.last, whole[2][:, chosen])
        np.testing.assert_array_equal(part.diverged_at, whole[4][:, chosen])


@sgd_cases
def test_executor(case: cases.Case, dtype: str) -> None:
    with futures.ThreadPoolExecutor(3) as pool:
        assert case.digest(dtype, executor=pool) == PINNED[f"{case}/{dtype}"]


def copies_of(options: dict[str, Any]) -> int:
    return int(np.shape(options["step_sizes"])[-1])


def lengths_of(case: cases.Case, arrays: dict[str, Any]) -> dict[str, int]:
    """Match shapes with symbols; every symbol must mean one length."""
    found: dict[str, int] = {}
    for argument in case.arguments:
        array = arrays[argument.name]
        assert array.ndim == len(argument.shape), argument.name
        for symbol, length in zip(argument.shape, array.shape, strict=True):
            expected = symbol if isinstance(symbol, int) else found.setdefault(symbol, length)
            assert expected == length, argument.name
    return found


@sgd_cases
@pytest.mark.parametrize("backend", ["cpp", "numba"])
def test_roles_of_arguments(case: cases.Case, dtype: str, backend: str) -> None:
    """Kernels take the arrays of the case list, write states and never data."""
    problem, _ = case.make(dtype)
    options = cases.run_options(case.run)
    begun = sgd.run(
        problem,
        num_steps=1,
        burn_in=0,
        num_chains=cases.NUM_CHAINS,
        theta0=cases.start(problem.dim, dtype, copies_of(options)),
        backend=backend,
        **{**options, "batch_length": None, "statistics": ("mean",)},
    )
    state = begun.state.arrays
    assert problem.kernel == case.kernel
    parameters = problem.parameters(np.dtype(dtype), np)
    named = [argument.name for argument in case.arguments]
    arrays = {name: getattr(state, name) for name in named if hasattr(state, name)}
    arrays["step_sizes"] = state.step_sizes.reshape(-1, state.step_sizes.shape[-1])[0]
    taken = [value for value in parameters if isinstance(value, np.ndarray)]
    arrays |= dict(zip([name for name in named if name not in arrays], taken, strict=True))
    sizes = lengths_of(case, arrays)
    copies = copies_of(options)
    assert (sizes["C"], sizes["J"], sizes["d"]) == (cases.NUM_CHAINS, copies, problem.dim)
    for argument in case.arguments:
        expected = dtype if argument.dtype == "T" else argument.dtype
        assert arrays[argument.name].dtype == expected, argument.name
    before = {name: array.tobytes() for name, array in arrays.items()}
    _engine._driver(backend)(
        state,
        case.kernel,
        parameters,
        seed=1,
        chain_offset=0,
        first_step=0,
        num_steps=3,
        accumulate=True,
        divergence_limit=problem.divergence_limit,
        num_threads=2,
        rules=begun.state.rules,
        statistics=None,
    )
    for argument in case.arguments:
        if argument.role == "data":
            assert arrays[argument.name].tobytes() == before[argument.name], argument.name
    changed = {name for name, array in arrays.items() if array.tobytes() != before[name]}
    assert {"theta", "sums"} <= changed


@pytest.mark.parametrize("dtype", cases.DTYPES)
def test_cases_reach_the_branches_of_the_drivers(dtype: str) -> None:
    """Chains are frozen where they should be, and words of large tables are rejected."""
    diverging = next(case for case in cases.SGD if case.name.endswith("diverging"))
    flags = diverging.call(diverging.make(dtype))[3]
    assert flags.any()
    assert not flags.all()
    steps = np.arange(cases.BURN_IN + cases.NUM_STEPS) + cases.OFFSETS["step_offset"]
    chains = np.arange(cases.NUM_CHAINS) + cases.OFFSETS["chain_offset"]
    word = words(cases.SEED, steps[:, None, None], chains[:, None], [0, 1], 5)
    low = (word * np.uint64(cases.MANY_ROWS)) % np.uint64(2**32)
    assert (low < 2**32 % cases.MANY_ROWS).any()
