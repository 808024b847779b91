"""Duals and second moments in bfloat16: their random bits, their mean, every way to get them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from hotloops import admm, random

torch = pytest.importorskip("torch")

if TYPE_CHECKING:
    from conftest import Isa

CLIENTS = 3
RULE: dict[str, Any] = {"sigma": [1.0, 2.0, 3.0], "rho": 4.0}
ROUNDING_STREAM = 0xFFFF


def rounded(values: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """The float32 of the bfloat16 that a uniform number below 2^16 rounds to, by its definition."""
    bits = values.view(np.uint32)
    below = (bits & np.uint32(0xFFFF0000)).view(np.float32)
    goes_up = (bits & np.uint32(0xFFFF)) + noise.astype(np.uint32) > 0xFFFF
    largest = (bits & np.uint32(0x7FFFFFFF)) >= 0x7F7F0000
    above = ((bits & np.uint32(0xFFFF0000)) + np.uint32(0x10000)).view(np.float32)
    return np.where(goes_up & ~largest, above, below)


def words(seed: int, step: int, row: int, count: int) -> np.ndarray:
    """The words of elements 0, 1, ... from the public generator alone."""
    blocks = -(-count // 4)
    counters = np.zeros((blocks, 4), np.uint32)
    counters[:, 0], counters[:, 2], counters[:, 3] = step & 0xFFFFFFFF, row, np.arange(blocks)
    counters[:, 1] = (step >> 32) | ROUNDING_STREAM << 16
    key = np.array([seed & 0xFFFFFFFF, seed >> 32], np.uint32)
    return random.philox(counters, np.broadcast_to(key, (blocks, 2))).ravel()[:count]


def problem(shape: tuple[int, ...], seed: int = 0) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "w": torch.randn(shape, generator=generator),
        "G": torch.randn((CLIENTS, *shape), generator=generator),
        "PI": torch.randn((CLIENTS, *shape), generator=generator).bfloat16(),
        "V": torch.rand((CLIENTS, *shape), generator=generator).bfloat16(),
    }


def digest(state: dict[str, Any]) -> list[bytes]:
    return [tensor.view(torch.uint8).numpy().tobytes() for tensor in state.values()]


@pytest.mark.parametrize("backend", ["cpp", "numba"])
@pytest.mark.parametrize("scheme", ["identity", "diag", "adam", "adagrad", "softsign"])
def test_against_the_step_in_float32_and_the_public_generator(backend: str, scheme: str) -> None:
    """One step on float32 state, then rounded by NumPy with the words of `hotloops.random`."""
    seed, t, shape = 2**40 + 17, 2**33 + 5, (7, 601)
    state = problem(shape)
    w, G = state["w"].numpy().copy(), state["G"].numpy()
    PI, V = state["PI"].float().numpy(), state["V"].float().numpy()
    admm.sisa_step(w, G, PI, V, t=t, scheme=scheme, **RULE)
    admm.sisa_step(**state, t=t, scheme=scheme, seed=seed, backend=backend, **RULE)
    np.testing.assert_array_equal(state["w"].numpy(), w)
    for i in range(CLIENTS):
        drawn = words(seed, t, i, PI[i].size)
        duals = rounded(PI[i].ravel(), drawn & 0xFFFF)
        np.testing.assert_array_equal(state["PI"][i].float().numpy().ravel(), duals)
        moments = V[i].ravel()
        if scheme in ("adam", "adagrad"):
            moments = rounded(moments, drawn >> 16)
        np.testing.assert_array_equal(state["V"][i].float().numpy().ravel(), moments)


def test_threads_twin_and_splits() -> None:
    """The same bits over threads and backends, client by client, and for the front part alone."""
    shape, seed = (70_003,), 9
    results = []
    for options in ({"num_threads": 1}, {"num_threads": 5}, {"backend": "numba"}):
        state = problem(shape)
        for t in (1, 2):
            admm.sisa_step(**state, t=t, seed=seed, **RULE, **options)
        results.append(digest(state))
    state, s = problem(shape), torch.empty(shape)
    front = {key: value[..., :2_345].clone() for key, value in problem(shape).items()}
    G = state.pop("G")
    for t in (1, 2):
        for i in range(CLIENTS):
            admm.sisa_step_client(i, g=G[i], s=s, t=t, seed=seed, **state, **RULE)
        admm.sisa_finish(state["w"], s, **RULE)
        admm.sisa_step(**front, t=t, seed=seed, **RULE)
    results.append(digest({"w": state["w"], "G": G, "PI": state["PI"], "V": state["V"]}))
    assert results[1:] == results[:1] * 3
    for key, value in front.items():
        assert torch.equal(value, {**state, "G": G}[key][..., :2_345])


def test_tensors_of_a_list_have_rows_of_their_own() -> None:
    shapes, seed = [(40_001,), (3, 5), (1,)], 4
    states = [problem(shape, k) for k, shape in enumerate(shapes)]
    lists = {key: [state[key] for state in states] for key in states[0]}
    first = problem(shapes[0])
    expected = [words(seed, 1, k * CLIENTS + 1, states[k]["w"].numel()) for k in range(3)]
    moved = []
    for k, shape in enumerate(shapes):
        other = problem(shape, k)
        arrays = [
            other["w"].numpy(),
            other["G"].numpy(),
            *(other[n].float().numpy() for n in ("PI", "V")),
        ]
        admm.sisa_step(*arrays, **RULE)
        moved.append(rounded(arrays[2][1].ravel(), expected[k] & 0xFFFF))
    slow = {key: [x.clone() for x in value] for key, value in lists.items()}
    admm.sisa_step(**lists, seed=seed, num_threads=2, **RULE)
    admm.sisa_step(**slow, seed=seed, backend="numba", **RULE)
    admm.sisa_step(**first, seed=seed, **RULE)
    assert digest(first) == digest({key: value[0] for key, value in lists.items()})
    for k in range(3):
        assert digest({key: value[k] for key, value in lists.items()}) == digest(
            {key: value[k] for key, value in slow.items()}
        )
        np.testing.assert_array_equal(lists["PI"][k][1].float().numpy().ravel(), moved[k])


CODE = """
import hashlib
import torch
from hotloops import admm
digest = hashlib.sha256()
generator = torch.Generator().manual_seed(0)
w, G = torch.randn(3_333, generator=generator), torch.randn((2, 3_333), generator=generator)
PI, V = torch.zeros((2, 3_333), dtype=torch.bfloat16), torch.zeros((2, 3_333), dtype=torch.bfloat16)
for t in (1, 2, 3):
    admm.sisa_step(w, G, PI, V, sigma=1.0, rho=2.0, t=t, seed=77)
for tensor in (w, PI, V):
    digest.update(tensor.view(torch.uint8).numpy().tobytes())
print(digest.hexdigest())
"""


def test_every_instruction_set(isa: Isa) -> None:
    assert len(set(isa.run_all(CODE).values())) == 1


@pytest.mark.parametrize("value", [1.0 + 2**-9, -3.00390625, 1e-39, 5e-41, 1.99999])
def test_the_mean_is_right(value: float) -> None:
    """Normal, subnormal and beside a power of two; the chance is a multiple of 2^-16."""
    count = 200_000
    exact = np.float32(value)
    PI = torch.zeros((1, count), dtype=torch.bfloat16)
    # sigma = 1, rho = 0: the new dual is -g.
    admm.sisa_step(
        torch.zeros(count), torch.full((count,), -float(exact)), PI, sigma=1.0, rho=0.0,
        scheme="identity", seed=3,
    )  # fmt: skip
    found = PI.double().numpy()
    neighbours = np.unique(found)
    assert len(neighbours) == 2
    assert neighbours[0] < float(exact) < neighbours[1]
    gap = neighbours[1] - neighbours[0]
    chance = (float(exact) - neighbours[0]) / gap
    error = (found.mean() - float(exact)) / gap
    assert abs(error) < 4.5 * np.sqrt(chance * (1 - chance) / count)


def test_the_mean_over_steps_is_right_where_rounding_to_nearest_stands_still() -> None:
    """V <- 0.999 V + 0.001 from 0 to its limit: steps below half a unit in the last place."""
    count, steps = 4_000, 3_000
    w, g = torch.zeros(count), torch.ones(count)
    PI, V = (torch.zeros((1, count), dtype=torch.bfloat16) for _ in range(2))
    for t in range(1, steps + 1):
        PI.zero_()  # u = g = 1
        admm.sisa_step(w, g, PI, V, sigma=1.0, rho=1.0, beta=0.999, t=t, scheme="rmsprop", seed=1)
    expected = 1 - 0.999**steps
    # The noise of one step is below a unit, 2^-8, and its memory 1 / (1 - 0.999^2) steps.
    deviation = 2.0**-8 / 2 * np.sqrt(1 / (1 - 0.999**2))
    assert abs(V.double().mean() - expected) < 4.5 * deviation / np.sqrt(count)
    nearest = torch.zeros(1, dtype=torch.bfloat16)
    for _ in range(steps):
        nearest = (0.999 * nearest.float() + 0.001).bfloat16()
    assert nearest.item() < 0.5 * expected


@pytest.mark.parametrize("backend", ["cpp", "numba"])
def test_ends_of_the_range(backend: str) -> None:
    """Infinities and NaN stay, the last interval is cut off; zero and exact numbers stay."""
    largest = float(torch.finfo(torch.bfloat16).max)
    beyond = float(np.float32(3.4028234e38))
    values = [np.inf, -np.inf, np.nan, largest, -largest, beyond, -beyond, 0.0, 1.5, -(2.0**-133)]
    expected = [np.inf, -np.inf, np.nan, *[largest, -largest] * 2, 0.0, 1.5, -(2.0**-133)]
    for seed in range(20):
        PI = torch.zeros((1, len(values)), dtype=torch.bfloat16)
        admm.sisa_step(
            torch.zeros(len(values)), -torch.tensor(values), PI, sigma=1.0, rho=0.0,
            scheme="identity", seed=seed, backend=backend,
        )  # fmt: skip
        np.testing.assert_array_equal(PI[0].double().numpy(), expected)


def test_arrays_of_ml_dtypes() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    state = problem((50,))
    arrays = {key: value.float().numpy().copy() for key, value in state.items()}
    for key in ("PI", "V"):
        arrays[key] = arrays[key].astype(ml_dtypes.bfloat16)
    admm.sisa_step(**state, **RULE)
    admm.sisa_step(**arrays, **RULE)
    for key, value in state.items():
        np.testing.assert_array_equal(arrays[key].astype("f4"), value.float().numpy())


def test_nsisa() -> None:
    """Only duals and second moments may be bfloat16, not the momentum."""
    w, G, B = torch.eye(4), torch.eye(4), torch.zeros((1, 4, 4))
    PI = torch.zeros((1, 4, 4), dtype=torch.bfloat16)
    assert admm.nsisa_step(w, G, PI, B, sigma=8.0, rho=10.0)
    assert PI.abs().max() > 0
    with pytest.raises(TypeError, match="nsisa_step: `B` must"):
        admm.nsisa_step(w, G, PI, B.bfloat16(), sigma=8.0, rho=10.0)


def test_bad_arguments() -> None:
    state = problem((6,))
    before = digest(state)
    low = torch.zeros((CLIENTS, 6), dtype=torch.bfloat16)
    frozen = low.clone().requires_grad_()
    cases: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"V": torch.zeros((CLIENTS, 6))}, TypeError, "`V` must have dtype bfloat16 as the first"),
        ({"PI": torch.zeros((CLIENTS, 6))}, TypeError, "`V` must"),
        ({"PI": low[:, :5]}, ValueError, "`PI` must have shape"),
        ({"PI": low.t().contiguous().t()}, ValueError, "`PI` must be C-contiguous and have shape"),
        ({"PI": frozen}, TypeError, "`PI` must not require a gradient"),
        ({"w": torch.zeros(6).double()}, TypeError, "`PI` must"),
        ({"PI": low, "V": low}, ValueError, "`PI` must not overlap `V`"),
        ({"PI": low.half()}, TypeError, "`PI` must have dtype float32"),
        ({"seed": -1}, ValueError, "`seed` must be an integer in"),
        ({"seed": 1.5}, TypeError, "`seed` must be an integer"),
    ]
    for changes, kind, message in cases:
        with pytest.raises(kind, match=f"sisa_step: {message}"):
            admm.sisa_step(**{**state, **changes}, **RULE)
        lists = {key: [value] for key, value in {**state, **changes}.items() if key != "seed"}
        with pytest.raises(kind, match="sisa_step: "):
            admm.sisa_step(**lists, **RULE, seed=changes.get("seed", 0))
    assert digest(state) == before
