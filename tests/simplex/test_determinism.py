"""Class A: the same bits over threads, instruction sets, backends, batches, splits and files."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hotloops import simplex
from tests.simplex import reference

FORMS = [
    ("entropic", 1.0),
    ("entropic", 1.5),
    ("sphere", 0.5),
    ("sphere", 1.25),
    ("projected", 1.0),
]
OFFSETS = {"chain_offset": 2**31 - 7, "step_offset": 2**32 - 20}  # words carry over on the way


def quadratic() -> simplex.QuadraticProgram:
    rng = np.random.default_rng(1)
    return simplex.QuadraticProgram(rng.normal(size=(7, 7)), rng.normal(size=7))


OBJECTIVES = {"polynomial": (reference.double_well, None), "quadratic": (quadratic, (3, 4))}


def settings(name: str, form: str, alpha: float, dtype: str) -> dict[str, Any]:
    return {
        "sizes": OBJECTIVES[name][1],
        "x0": "dirichlet",
        "step_size": [0.05, 0.02],
        "inverse_temperature": [30.0, 500.0],
        "base_measure": alpha,
        "retraction": form,
        "schedule": simplex.PolynomialDecay(0.25),
        "temperature_schedule": simplex.LinearCooling(0.02),
        "num_steps": 60,
        "num_chains": 38,
        "burn_in": 7,
        "trace_every": 25,
        "swap_every": 9,
        "seed": 0x0123456789ABCDEF,
        "dtype": dtype,
        "polish_steps": 0,
        **OFFSETS,
    }


def arrays_of(result: simplex.SimplexResult) -> dict[str, Any]:
    return result.state.arrays.to_dict() | {"trace": result.trace}


def assert_same(left: simplex.SimplexResult, right: simplex.SimplexResult) -> None:
    expected = arrays_of(right)
    for name, array in arrays_of(left).items():
        assert array.dtype == expected[name].dtype
        np.testing.assert_array_equal(array, expected[name], err_msg=name)


@pytest.mark.parametrize("name", list(OBJECTIVES))
@pytest.mark.parametrize(("form", "alpha"), FORMS)
def test_threads_and_backends(name: str, form: str, alpha: float, precision: str) -> None:
    objective = OBJECTIVES[name][0]()
    given = settings(name, form, alpha, precision)
    first = simplex.lmwu(objective, backend="cpp", num_threads=1, **given)
    assert np.unique(first.trace.reshape(-1, objective.dim), axis=0).shape[0] > 38
    for other in ({"num_threads": 2}, {"num_threads": 5}, {"backend": "numba"}):
        assert_same(simplex.lmwu(objective, **other, **given), first)


@pytest.mark.parametrize("engine_of_mwu", ["cpp", "numba"])
@pytest.mark.parametrize("form", ["entropic", "linear"])
def test_without_noise(form: str, engine_of_mwu: str, precision: str) -> None:
    found = [
        simplex.mwu(
            quadratic(),
            x0="dirichlet",
            step_size=0.1,
            num_steps=50,
            num_chains=19,
            retraction=form,
            dtype=precision,
            backend=backend,
        )
        for backend in ("cpp", engine_of_mwu)
    ]
    assert_same(*found)


@pytest.mark.parametrize("name", list(OBJECTIVES))
def test_chains_alone_and_in_a_batch(name: str, engine: str, precision: str) -> None:
    objective = OBJECTIVES[name][0]()
    given = settings(name, "entropic", 1.0, precision) | {
        "swap_every": None,
        "step_size": 0.05,
        "inverse_temperature": 30.0,
    }
    whole = simplex.lmwu(objective, backend=engine, **given)
    for begin, end in [(0, 1), (5, 6), (37, 38), (1, 37), (16, 32)]:
        given |= {
            "num_chains": end - begin,
            "chain_offset": OFFSETS["chain_offset"] + begin,
        }
        part = simplex.lmwu(objective, backend=engine, **given)
        for array, expected in zip(
            part.state.arrays.to_dict().values(),
            whole.state.arrays.to_dict().values(),
            strict=True,
        ):
            np.testing.assert_array_equal(array, expected[begin:end])
        np.testing.assert_array_equal(part.trace, whole.trace[:, begin:end])


@pytest.mark.parametrize("name", list(OBJECTIVES))
def test_going_on(name: str, engine: str, precision: str, tmp_path: Path) -> None:
    objective = OBJECTIVES[name][0]()
    given = settings(name, "entropic", 1.0, precision)
    whole = simplex.lmwu(objective, backend=engine, **given)
    first = simplex.lmwu(objective, backend=engine, **(given | {"num_steps": 4}))
    kept = {name: array.copy() for name, array in first.state.arrays.to_dict().items()}
    path = tmp_path / "run.npz"
    first.save(path)
    rest = given | {"x0": None}
    middle = simplex.lmwu(
        objective,
        state=simplex.SimplexResult.load(path).state,
        backend=engine,
        **(rest | {"num_steps": 31}),
    )
    end = simplex.lmwu(objective, state=middle.state, backend=engine, **(rest | {"num_steps": 25}))
    for name_, array in end.state.arrays.to_dict().items():
        np.testing.assert_array_equal(array, getattr(whole.state.arrays, name_), err_msg=name_)
    assert (end.num_steps, end.state.next_step) == (60, whole.state.next_step)
    np.testing.assert_array_equal(np.concatenate([middle.trace, end.trace]), whole.trace)
    for name_, array in first.state.arrays.to_dict().items():
        np.testing.assert_array_equal(array, kept[name_])


def test_a_saved_result_comes_back(tmp_path: Path) -> None:
    result = simplex.lmwu(
        reference.double_well(),
        step_size=0.1,
        inverse_temperature=9.0,
        num_steps=30,
        trace_every=10,
    )
    result.save(tmp_path / "run.npz")
    loaded = simplex.SimplexResult.load(tmp_path / "run.npz")
    for name, value in result.to_dict().items():
        np.testing.assert_array_equal(np.asarray(getattr(loaded, name)), value, err_msg=name)
    assert repr(loaded) == repr(result)


CODE = """
import hashlib
import numpy as np
from tests.simplex import test_determinism as t
for dtype in ("float32", "float64"):
    for name in t.OBJECTIVES:
        for form, alpha in t.FORMS:
            print(t.digest(name, form, alpha, dtype))
"""


def digest(name: str, form: str, alpha: float, dtype: str) -> str:
    # Starting points go through NumPy's logarithm, so they are not drawn here.
    given = settings(name, form, alpha, dtype) | {"x0": None}
    result = simplex.lmwu(OBJECTIVES[name][0](), backend="cpp", **given)
    state = hashlib.sha256()
    for array in arrays_of(result).values():
        state.update(np.ascontiguousarray(array).tobytes())
    return state.hexdigest()


def test_instruction_sets(isa: Any) -> None:
    root = str(Path(__file__).parents[2])
    code = f"import sys\nsys.path.insert(0, {root!r})\n" + CODE
    answers = set(isa.run_all(code).values())
    assert len(answers) == 1
    lines = answers.pop().split()
    assert len(set(lines)) == len(lines) == 2 * 2 * len(FORMS)
