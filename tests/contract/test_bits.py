"""Class A: one set of bits for each kernel, whatever runs it and however it is cut."""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from hotloops import sgd

sys.path.insert(0, str(Path(__file__).parent))

import cases

EXPECTED: dict[str, str] = json.loads(cases.PINNED.read_text())
every_case = pytest.mark.parametrize("name", list(cases.PROBLEMS))
every_dtype = pytest.mark.parametrize("dtype", cases.DTYPES)


@every_dtype
@every_case
def test_every_backend(name: str, dtype: str, backend: str) -> None:
    if backend == "cuda":
        pytest.skip("the cases hold NumPy arrays; tests/cuda compares the GPU")
    assert cases.bits(cases.run(name, dtype, backend=backend)) == EXPECTED[f"{name}-{dtype}"]


@every_dtype
@every_case
def test_any_number_of_threads(name: str, dtype: str, threads: int) -> None:
    assert cases.bits(cases.run(name, dtype, num_threads=threads)) == EXPECTED[f"{name}-{dtype}"]


@pytest.mark.parametrize("level", ["base", "v3", "v4"])
def test_every_instruction_set(level: str, isa: Any, run_python: Any) -> None:
    if level not in isa.levels:
        pytest.skip(f"this processor has no {level}")
    code = f"import runpy; runpy.run_path({cases.__file__!r}, run_name='__main__')"
    printed = run_python(code, env={"HOTLOOPS_ISA": level, "HOTLOOPS_BACKEND": "cpp"})
    assert json.loads(printed) == EXPECTED


@every_dtype
@every_case
def test_going_on_from_a_file(name: str, dtype: str, tmp_path: Path) -> None:
    """run(n) = run(k), save, load, run(n - k); the cut lies on either side of the carry."""
    for cut in (1, 14, 41):
        path = tmp_path / f"{cut}.npz"
        cases.run(name, dtype, num_steps=cut).save(path)
        state = sgd.SGDResult.load(path).state
        rest = {"num_steps": cases.NUM_STEPS - cut, "burn_in": None, "num_chains": 1}
        start = {"seed": 0, "step_offset": 0, "chain_offset": 0}
        result = cases.run(name, dtype, state=state, **rest, **start)
        assert cases.bits(result) == EXPECTED[f"{name}-{dtype}"]


@every_dtype
@every_case
def test_a_chain_alone(name: str, dtype: str) -> None:
    batch = cases.run(name, dtype)
    for chain in (0, 7, 36):
        offset = cases.WHERE["chain_offset"] + chain
        alone = cases.run(name, dtype, num_chains=1, chain_offset=offset)
        assert cases.bits(alone) == cases.bits(batch, slice(chain, chain + 1))


@every_case
def test_chunks_of_a_watched_run(name: str) -> None:
    """With a clock running, the steps are cut into chunks."""
    result = cases.run(name, "float32", max_seconds=1e6)
    assert cases.bits(result) == EXPECTED[f"{name}-float32"]


@every_case
def test_an_executor(name: str) -> None:
    with ThreadPoolExecutor(3) as executor:
        result = cases.run(name, "float64", executor=executor)
    assert cases.bits(result) == EXPECTED[f"{name}-float64"]


def test_cases_diverge_where_they_should() -> None:
    """Else the freezing of chains would go untested."""
    flags = cases.run("quadratic_diverging", "float64").flags
    assert flags.any()
    assert not flags.all()
