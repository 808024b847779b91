"""The same counts over backends, threads and splits; a row depends on its number alone."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hotloops import flow
from hotloops._runtime import dispatch

ROWS, COLUMNS = 19, 1203  # neither fills packs, chunks or parts
GENERATOR = np.random.default_rng(3)
MU = np.exp(GENERATOR.uniform(-12, 8, (ROWS, COLUMNS)))
THETA = np.exp(GENERATOR.uniform(-12, 9, (1, COLUMNS)))
SEED = 0x0123456789ABCDEF
ROOT = str(Path(__file__).parents[2])


def negative_binomial(mu: Any = MU, theta: Any = THETA, **options: Any) -> Any:
    return flow.negative_binomial(mu, theta, **{"seed": SEED, "step": 77, **options})


def poisson(mu: Any = MU, theta: Any = THETA, **options: Any) -> Any:
    return flow.poisson(mu, **{"seed": SEED, "step": 77, **options})


def bernoulli(mu: Any = MU, theta: Any = THETA, **options: Any) -> Any:
    return flow.bernoulli(mu / (1 + mu), **{"seed": SEED, "step": 77, **options})


def gamma(mu: Any = MU, theta: Any = THETA, **options: Any) -> Any:
    return flow.gamma(mu, theta, **{"seed": SEED, "step": 77, **options})


LAWS = {
    "negative_binomial": negative_binomial,
    "poisson": poisson,
    "bernoulli": bernoulli,
    "gamma": gamma,
}
# Of the little-endian bytes; only a change of the stream or of the mathematics may change them.
PINNED = {
    "negative_binomial": "9c2dd0c802fc9cf4",
    "poisson": "48cdf6f7b7408de4",
    "bernoulli": "cea55040a98ccb38",
    "gamma": "efab2653d5adc3b1",
}
every_law = pytest.mark.parametrize("law", LAWS)


def digest(x: Any) -> str:
    return hashlib.sha256(x.astype(x.dtype.newbyteorder("<")).tobytes()).hexdigest()[:16]


@every_law
@pytest.mark.parametrize("backend", ["cpp", "numba"])
def test_pinned(law: str, backend: str) -> None:
    assert digest(LAWS[law](backend=backend)) == PINNED[law]


def test_instruction_sets(isa: Any) -> None:
    """Every level that this processor has, in a process of its own."""
    code = f"""
import sys
sys.path.insert(0, {ROOT!r})
from tests.flow.test_counts_bits import LAWS, digest
print({{law: digest(draw(backend="cpp")) for law, draw in LAWS.items()}})
"""
    for level, output in isa.run_all(code).items():
        assert output.strip() == repr(PINNED), level


@every_law
def test_threads(law: str, threads: int) -> None:
    for backend in ("cpp", "numba"):
        assert digest(LAWS[law](backend=backend, num_threads=threads)) == PINNED[law]


@every_law
@pytest.mark.parametrize("backend", ["cpp", "numba"])
def test_row_alone(law: str, backend: str) -> None:
    whole = LAWS[law](rows=5)
    for i in (0, 7, ROWS - 1):
        alone = LAWS[law](MU[i : i + 1], rows=5 + i, backend=backend)
        np.testing.assert_array_equal(alone[0], whole[i])
        np.testing.assert_array_equal(
            LAWS[law](MU[i], THETA[0], rows=5 + i, backend=backend), whole[i]
        )


@every_law
def test_numbered_rows(law: str) -> None:
    whole = LAWS[law](rows=2**32 - ROWS)
    order = np.random.default_rng(4).permutation(ROWS)
    numbers = 2**32 - ROWS + order
    for backend in ("cpp", "numba"):
        part = LAWS[law](MU[order], rows=numbers, backend=backend)
        np.testing.assert_array_equal(part, whole[order])


@every_law
def test_shapes_that_are_broadcast(law: str) -> None:
    """Shared rows, shared columns and numbers give what the full arrays give."""
    draw = LAWS[law]
    for mu, theta in (
        (MU[:1], THETA),
        (MU[:, :1], THETA),
        (MU[:1, :1], 0.7),
        (2.5, THETA[:, :1]),
    ):
        shape = (ROWS, COLUMNS)
        full = [np.ascontiguousarray(np.broadcast_to(x, shape)) for x in (mu, theta)]
        expected = draw(*full)
        for backend in ("cpp", "numba"):
            got = draw(np.asarray(mu), np.asarray(theta), size=shape, backend=backend)
            np.testing.assert_array_equal(got, expected)


@every_law
def test_leading_axes_are_rows(law: str) -> None:
    flat = LAWS[law](MU[:18])
    deep = LAWS[law](MU[:18].reshape(3, 6, COLUMNS), THETA)
    np.testing.assert_array_equal(deep.reshape(18, COLUMNS), flat)
    partly = LAWS[law](np.ascontiguousarray(MU[:3])[:, None], THETA, size=(3, 6, COLUMNS))
    np.testing.assert_array_equal(partly[1, 4], LAWS[law](MU[1], THETA[0], rows=10))


@every_law
def test_float32_parameters_are_widened(law: str) -> None:
    single = [x.astype(np.float32) for x in (MU, THETA)]
    wide = [x.astype(np.float64) for x in single]
    probability = (single[0] / (1 + single[0])).astype(np.float64)
    for backend in ("cpp", "numba"):
        got = LAWS[law](*single, backend=backend)
        if law == "bernoulli":
            expected = flow.bernoulli(probability, seed=SEED, step=77)
        else:
            expected = LAWS[law](*wide)
        assert got.dtype == (np.float32 if law == "gamma" else np.int32)
        np.testing.assert_array_equal(got, expected.astype(got.dtype))


def test_long_row_is_cut() -> None:
    """One row of several parts; no part repeats another."""
    mu = np.full(100_003, 0.8)
    x = flow.negative_binomial(mu, 2.0, seed=1)
    for backend, num_threads in (("cpp", 2), ("numba", 2), ("numba", 1)):
        same = flow.negative_binomial(mu, 2.0, seed=1, backend=backend, num_threads=num_threads)
        np.testing.assert_array_equal(same, x)
    np.testing.assert_array_equal(flow.negative_binomial(mu[:1000], 2.0, seed=1), x[:1000])
    assert abs(np.corrcoef(x[:16384], x[16384:32768])[0, 1]) < 0.04


def test_out_and_empty() -> None:
    out = np.empty((ROWS, COLUMNS), np.int32)
    assert negative_binomial(out=out) is out
    np.testing.assert_array_equal(out, negative_binomial())
    assert flow.poisson(np.zeros((0, 5))).shape == (0, 5)
    assert flow.poisson(2.0, (3, 0)).shape == (3, 0)
    assert isinstance(flow.poisson(2.0), int)
    assert isinstance(flow.gamma(2.0), float)


def test_torch_tensors() -> None:
    torch = pytest.importorskip("torch")
    x = negative_binomial(torch.from_numpy(MU), torch.from_numpy(THETA))
    assert x.dtype == torch.int32
    np.testing.assert_array_equal(x.numpy(), negative_binomial())


def test_default_backend_is_compiled() -> None:
    assert dispatch.resolve_backend("poisson", None, "cpu") == "cpp"


def test_twin_is_plain_python(run_python: Any) -> None:
    """With the compiler switched off the twin is NumPy and Python, and finds the same."""
    code = """
import numpy as np
from hotloops import flow
mu = np.array([[0.05, 3.0, 200.0, 12.0, 0.0, 0.2, 30.0]])
theta = np.array([[0.3, 2.0, 5.0, 0.001, 1.0, 4.0, 0.2]])
options = {"seed": 9, "backend": "numba"}
print(flow.negative_binomial(mu, theta, **options).tobytes().hex())
print(flow.poisson(mu, **options).tobytes().hex())
print(flow.gamma(mu + 0.1, theta, **options).tobytes().hex())
print(flow.bernoulli(mu / 300, **options).tobytes().hex())
x = [[0, 1, 300, 20, 0, 1, 2]]
found = flow.negative_binomial_log_prob(x, mu, theta, gradient=True, backend="numba")
print([part.tobytes().hex() for part in found])
"""
    plain = run_python(code, env={"NUMBA_DISABLE_JIT": "1", "PYTHONWARNINGS": "ignore"})
    assert plain == run_python(code)
