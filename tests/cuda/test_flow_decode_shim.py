"""Decoding on a GPU, over the shim, against the C++ backend."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import sparse

import hotloops
from hotloops import flow
from hotloops.flow import _cuda_decode
from tests.cuda.test_nn_shim import both_types

ROWS, WIDTH, FEATURES = 21, 6, 271
GENERATOR = np.random.default_rng(8)
HIDDEN = GENERATOR.normal(size=(ROWS, WIDTH))
WEIGHT = GENERATOR.normal(size=(FEATURES, WIDTH))
BIAS = GENERATOR.normal(size=FEATURES)
TOTALS = np.exp(GENERATOR.normal(7, 0.5, ROWS))
THETA = np.exp(GENERATOR.normal(size=(3, FEATURES)))
INDEX = np.arange(ROWS) % 3
LAWS: dict[str, dict[str, Any]] = {
    "nb": {"size_factor": TOTALS, "theta": THETA, "theta_index": INDEX},
    "poisson": {"size_factor": TOTALS},
    "bernoulli": {},
}
every_law = pytest.mark.parametrize("law", LAWS)


def decode(send: Any, law: str, dtype: str = "float64", **options: Any) -> Any:
    arrays = [x.astype(dtype) for x in (HIDDEN, WEIGHT, BIAS)]
    named = {**LAWS[law], "likelihood": law, "seed": 3, **options}
    return flow.decode_counts(send(arrays[0]), *arrays[1:], **named)


def here(value: Any) -> Any:
    return value


@every_law
@both_types
def test_means(cuda: Any, law: str, dtype: str) -> None:
    expected = decode(here, law, dtype, output="mean")
    found = decode(cuda.asarray, law, dtype, output="mean")
    assert isinstance(found, cuda.ndarray)
    assert found.dtype == dtype
    rtol = 1e-5 if dtype == "float32" else 1e-12
    np.testing.assert_allclose(found.get(), expected, rtol=rtol)


@every_law
def test_counts(cuda: Any, law: str) -> None:
    """The same words at means that differ in their last bits: a count in millions may differ."""
    for options in ({}, {"step": 5, "first_row": 2**32 - ROWS}):
        expected = decode(here, law, output="dense", **options)
        found = decode(cuda.asarray, law, output="dense", **options)
        assert isinstance(found, cuda.ndarray)
        assert found.dtype == np.int32
        assert (found.get() != expected).sum() <= 1
        matrix = decode(cuda.asarray, law, **options)
        assert isinstance(matrix, sparse.csr_array)
        assert matrix.dtype == np.int32
        assert matrix.has_sorted_indices
        assert matrix.nnz == np.count_nonzero(found.get())
        np.testing.assert_array_equal(matrix.toarray(), found.get())


@every_law
def test_blocks_of_rows(cuda: Any, monkeypatch: pytest.MonkeyPatch, law: str) -> None:
    """A cell is at the same place of the same product, whoever is around it."""
    monkeypatch.setattr(_cuda_decode, "_BLOCK", 8)
    first = 5
    whole = decode(cuda.asarray, law, output="dense", first_row=first).get()
    np.testing.assert_array_equal(decode(cuda.asarray, law, first_row=first).toarray(), whole)
    part = slice(6, 19)
    named = {name: value if name == "theta" else value[part] for name, value in LAWS[law].items()}
    found = flow.decode_counts(
        cuda.asarray(HIDDEN[part]),
        *(WEIGHT, BIAS),
        **{**named, "likelihood": law, "seed": 3, "first_row": first + 6, "output": "dense"},
    )
    np.testing.assert_array_equal(found.get(), whole[part])


def test_logits_and_arrays_of_the_device(cuda: Any) -> None:
    logits = HIDDEN @ WEIGHT.T
    for law, named in LAWS.items():
        there = {name: cuda.asarray(value) for name, value in named.items()}
        options = {"likelihood": law, "output": "mean"}
        expected = flow.decode_counts(logits, None, BIAS, **named, **options)
        found = flow.decode_counts(
            cuda.asarray(logits), None, cuda.asarray(BIAS), **there, **options
        )
        np.testing.assert_allclose(found.get(), expected, rtol=1e-12)
        plain = flow.decode_counts(cuda.asarray(logits), **there, **options)
        np.testing.assert_allclose(
            plain.get(), flow.decode_counts(logits, **named, **options), rtol=1e-12
        )


@pytest.mark.parametrize("backwards", [False, True])
def test_grid_that_is_cut_does_the_same(cuda: Any, backwards: bool) -> None:
    expected = {law: decode(cuda.asarray, law, output="dense").get() for law in LAWS}
    cuda.shim.set_max_blocks(2)
    cuda.shim.set_backwards(backwards)
    for law in LAWS:
        found = decode(cuda.asarray, law, output="dense")
        np.testing.assert_array_equal(found.get(), expected[law])


def test_no_rows(cuda: Any) -> None:
    for output in ("csr", "dense", "mean"):
        found = flow.decode_counts(
            cuda.asarray(HIDDEN[:0]), WEIGHT, None, 5.0, likelihood="poisson", output=output
        )
        assert found.shape == (0, FEATURES)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's; CuPy gives none
@every_law
@pytest.mark.parametrize("output", ["csr", "dense", "mean"])
def test_overflowing_logits_are_reported(cuda: Any, law: str, output: str) -> None:
    hidden = HIDDEN.copy()
    hidden[11] = 1e200
    with pytest.raises(hotloops.NumericalError, match=r"decode_counts: .*not finite at index 11"):
        flow.decode_counts(
            cuda.asarray(hidden), WEIGHT * 1e200, likelihood=law, output=output, **LAWS[law]
        )


def test_errors(cuda: Any) -> None:
    there = cuda.asarray(HIDDEN)
    options = {"size_factor": 5.0, "likelihood": "poisson"}
    with pytest.raises(
        TypeError, match=r"^decode_counts: `backend` must be 'cuda' for CUDA arrays, got 'cpp'$"
    ):
        flow.decode_counts(there, WEIGHT, backend="cpp", **options)
    with pytest.raises(
        TypeError, match=r"^decode_counts: `weight` must live in host memory like `hidden`, got an"
    ):
        flow.decode_counts(HIDDEN, cuda.asarray(WEIGHT), **options)
    with pytest.raises(ValueError, match=r"^decode_counts: `hidden` must be finite, got nan"):
        flow.decode_counts(cuda.asarray(np.full((2, WIDTH), np.nan)), WEIGHT, **options)
    cuda.shim.fail_next_launch(9)
    with pytest.raises(RuntimeError, match="flow decode: CUDA error 9"):
        flow.decode_counts(there, WEIGHT, **options)
