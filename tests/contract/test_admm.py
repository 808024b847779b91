"""Steps of admm take the arrays of the case list; elements, tensors and calls are independent."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hotloops import admm
from tests.contract import admm_cases, cases

every_step = pytest.mark.parametrize(
    ("case", "dtype"),
    [
        pytest.param(case, dtype, id=f"{case}-{dtype}")
        for case in cases.ADMM
        for dtype in case.dtypes
        if case.kernel == "sisa"
    ],
)


def take(arrays: dict[str, Any], part: slice) -> dict[str, Any]:
    """Return copies of some elements of all arrays."""
    return {name: array[..., part].copy() for name, array in arrays.items()}


@every_step
@pytest.mark.parametrize("backend", ["cpp", "numba"])
def test_roles_of_arguments(case: cases.Case, dtype: str, backend: str) -> None:
    states, settings = case.make(dtype)
    for arrays in states:
        before = {name: array.tobytes() for name, array in arrays.items()}
        admm.sisa_step(**arrays, **admm_cases.STEP, **settings, backend=backend)
        sizes = {"m": admm_cases.CLIENTS, "d": arrays["w"].size}
        for argument in case.arguments:
            array = arrays[argument.name]
            assert array.dtype == (dtype if argument.dtype == "T" else argument.dtype)
            assert array.shape == tuple(sizes[str(symbol)] for symbol in argument.shape)
            same = array.tobytes() == before[argument.name]
            assert same == (argument.role == "data"), argument.name


@every_step
@pytest.mark.parametrize("backend", ["cpp", "numba"])
def test_tensors_alone_in_a_list_and_in_pieces(case: cases.Case, dtype: str, backend: str) -> None:
    states, settings = case.make(dtype)
    options = {**admm_cases.STEP, **settings, "t": 2, "backend": backend}
    alone = [take(arrays, slice(None)) for arrays in states]
    for arrays in alone:
        admm.sisa_step(**arrays, **options)
    together = [take(arrays, slice(None)) for arrays in states]
    admm.sisa_step(**{name: [a[name] for a in together] for name in together[0]}, **options)
    for one, other in zip(alone, together, strict=True):
        for name, array in one.items():
            np.testing.assert_array_equal(other[name], array, strict=True)
    for part in (slice(0, 1), slice(17, 3_000), slice(39_999, None)):
        piece = take(states[-1], part)
        admm.sisa_step(**piece, **options)
        for name, array in piece.items():
            np.testing.assert_array_equal(array, alone[-1][name][..., part], strict=True)


@every_step
def test_clients_one_by_one(case: cases.Case, dtype: str) -> None:
    states, settings = case.make(dtype)
    finishing = ("lam", "copy_to", "weight_decay")
    for arrays in states:
        whole = take(arrays, slice(None))
        admm.sisa_step(**whole, **admm_cases.STEP, **settings)
        s = np.empty_like(arrays["w"])
        copy = arrays.pop("copy_to", None)
        G = arrays.pop("G")
        clients = {key: value for key, value in settings.items() if key != "lam"}
        for client, g in enumerate(G):
            admm.sisa_step_client(client, g=g, s=s, **arrays, **admm_cases.STEP, **clients)
        last = {key: settings[key] for key in finishing if key in settings}
        if not settings.get("decoupled", True):
            last.pop("weight_decay")
        admm.sisa_finish(arrays["w"], s, copy_to=copy, **admm_cases.STEP, **last)
        for name in arrays:
            np.testing.assert_array_equal(arrays[name], whole[name], strict=True)
