"""Kernels of simplex take the arrays of the case list, write states and never data."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest

from hotloops import simplex
from hotloops.simplex import _engine
from hotloops.simplex._options import make_options
from hotloops.simplex._state import ChainArrays, Steps
from tests.contract import cases, simplex_cases

every_case = pytest.mark.parametrize(
    ("case", "dtype"),
    [
        pytest.param(case, dtype, id=f"{case}-{dtype}")
        for case in cases.SIMPLEX
        for dtype in case.dtypes
    ],
)


@every_case
@pytest.mark.parametrize("backend", ["cpp", "numba"])
def test_roles_of_arguments(case: cases.Case, dtype: str, backend: str) -> None:
    objective, _ = case.make(dtype)
    assert objective.kernel == case.kernel
    count, dim = simplex_cases.NUM_CHAINS, objective.dim
    options = make_options(
        "run",
        count,
        (dim,),
        np.dtype(dtype),
        step_size=0.125,
        inverse_temperature=16.0,
        base_measure=1.0,
        retraction="entropic",
        floor="auto",
        clip=30.0,
        terms=objective.terms,
    )
    state = ChainArrays.start(np.full((count, dim), 1.0 / dim, dtype))
    parameters = objective.parameters(np.dtype(dtype))
    known = {**state.to_dict(), **{name: getattr(options, name) for name in vars(options)}}
    named = [argument.name for argument in case.arguments]
    taken = [value for value in parameters if isinstance(value, np.ndarray)]
    arrays = {name: known[name] for name in named if name in known}
    arrays |= dict(zip([name for name in named if name not in known], taken, strict=True))
    sizes: dict[Any, int] = {"C": count, "d": dim}
    for argument in case.arguments:
        array = arrays[argument.name]
        assert array.dtype == (dtype if argument.dtype == "T" else argument.dtype), argument.name
        for symbol, length in zip(argument.shape, array.shape, strict=True):
            assert sizes.setdefault(symbol, length) == length, argument.name
    before = {name: array.tobytes() for name, array in arrays.items()}
    importlib.import_module(f"hotloops.simplex._{backend}").advance(
        state,
        case.kernel,
        parameters,
        options,
        Steps(
            seed=1,
            chain_offset=0,
            first_step=0,
            num_steps=3,
            accumulate=True,
            num_threads=2,
        ),
    )
    changed = {name for name, array in arrays.items() if array.tobytes() != before[name]}
    roles = {argument.name: argument.role for argument in case.arguments}
    assert {"x", "sums", "squares"} <= changed
    assert all(roles[name] == "state" for name in changed)


@every_case
def test_chunks_of_steps_and_pieces_of_a_run(
    case: cases.Case, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However the steps are cut, into native calls or into runs of either backend."""
    made = case.make(dtype)
    monkeypatch.setattr(_engine, "_FIRST_CHUNK_UPDATES", 1)
    monkeypatch.setattr(_engine, "_CHUNK_SECONDS", 0.0)
    backends = ("cpp", "numba") if cases.has_pinned_bits(case, "cpp") else ("cpp",)
    whole = case.call(made, backend=backends[0])
    for backend in backends:
        for found, expected in zip(case.call(made, backend=backend), whole, strict=True):
            np.testing.assert_array_equal(found, expected)
    state: simplex.SimplexState | None = None
    for steps, turn in ((5, -1), (17, 0), (18, -1)):
        backend = backends[turn]
        *arrays, _ = case.call(made, state=state, num_steps=steps, backend=backend)
        state = state_of(case, made, arrays, steps, state)
    assert state is not None
    for found, expected in zip(state.arrays.to_dict().values(), whole[:-1], strict=True):
        np.testing.assert_array_equal(found, expected)


def state_of(
    case: cases.Case,
    made: Any,
    arrays: list[Any],
    steps: int,
    before: simplex.SimplexState | None,
) -> simplex.SimplexState:
    """Return the state that a result of these arrays has."""
    settings = simplex_cases.CASES[case.name.removeprefix("simplex/")][3]
    made_before = 0 if before is None else before.num_steps
    names = ChainArrays.start(np.ones((1, 1))).to_dict()
    return simplex.SimplexState(
        arrays=ChainArrays(**dict(zip(names, arrays, strict=True))),
        kernel=case.kernel,
        retraction=settings.get("retraction", "entropic"),
        sizes=tuple(settings.get("sizes", made[0].sizes)),
        seed=0x0123456789ABCDEF,
        chain_offset=2**31 - 7,
        next_step=2**32 - 20 + made_before + steps,
        num_steps=made_before + steps,
        burn_in=simplex_cases.BURN_IN,
    )
