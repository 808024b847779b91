"""From hidden activations to counts: the law, the outputs, rows by themselves, errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import sparse, special

import hotloops
from hotloops import flow

BACKENDS = ("cpp", "numba")
ROWS, WIDTH, FEATURES = 75, 24, 1501
GENERATOR = np.random.default_rng(8)
HIDDEN = GENERATOR.normal(size=(ROWS, WIDTH))
WEIGHT = GENERATOR.normal(size=(FEATURES, WIDTH)) / 3
BIAS = GENERATOR.normal(size=FEATURES)
TOTALS = np.exp(GENERATOR.normal(7, 0.5, ROWS))
THETA = np.exp(GENERATOR.normal(size=FEATURES))
LAWS: dict[str, dict[str, Any]] = {
    "nb": {"size_factor": TOTALS, "theta": THETA},
    "poisson": {"size_factor": TOTALS},
    "bernoulli": {},
}
every_law = pytest.mark.parametrize("law", LAWS)
every_backend = pytest.mark.parametrize("backend", BACKENDS)


def decode(law: str, rows: slice = slice(None), dtype: str = "float64", **options: Any) -> Any:
    named = dict(LAWS[law])
    if "size_factor" in named:
        named["size_factor"] = named["size_factor"][rows]
    arrays = [x.astype(dtype) for x in (HIDDEN[rows], WEIGHT, BIAS)]
    return flow.decode_counts(*arrays, **{**named, "likelihood": law, "seed": 3, **options})


def means(law: str) -> Any:
    logits = HIDDEN @ WEIGHT.T + BIAS
    if law == "bernoulli":
        return special.expit(logits)
    return TOTALS[:, None] * special.softmax(logits, axis=1)


@every_law
@every_backend
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_means(law: str, backend: str, dtype: str) -> None:
    mu = decode(law, dtype=dtype, output="mean", backend=backend)
    assert mu.dtype == dtype
    np.testing.assert_allclose(mu, means(law), rtol=3e-5 if dtype == "float32" else 1e-12)
    if law != "bernoulli":
        np.testing.assert_allclose(mu.sum(1, dtype=float), TOTALS, rtol=1e-6)


@every_law
@every_backend
def test_counts_are_those_of_the_means(law: str, backend: str) -> None:
    """The bulk functions, at the means that the same products give, draw the same counts."""
    mu = decode(law, output="mean", backend=backend)
    options = {"seed": 3, "step": 5, "rows": 40}
    if law == "nb":
        expected = flow.negative_binomial(mu, THETA, **options)
    else:
        expected = (flow.poisson if law == "poisson" else flow.bernoulli)(mu, **options)
    dense = decode(law, output="dense", step=5, first_row=40, backend=backend)
    moved = decode(law, output="mean", first_row=40, backend=backend)
    np.testing.assert_allclose(moved, mu, rtol=1e-12)
    assert dense.dtype == np.int32
    # A count may differ where the means of two places in a block differ in their last bit.
    assert (dense != expected).sum() <= 1


@every_law
@every_backend
def test_csr_equals_dense(law: str, backend: str) -> None:
    dense = decode(law, output="dense", backend=backend)
    found = decode(law, backend=backend)
    assert isinstance(found, sparse.csr_array)
    assert found.dtype == np.int32
    assert found.has_sorted_indices
    assert found.nnz == np.count_nonzero(dense)
    np.testing.assert_array_equal(found.toarray(), dense)


@every_law
@every_backend
def test_row_alone(law: str, backend: str) -> None:
    """A cell is at the same place of the same product, whoever is around it."""
    whole = decode(law, output="mean", first_row=13, backend=backend)
    drawn = decode(law, output="dense", first_row=13, backend=backend)
    for i in (0, 18, 19, ROWS - 1):
        rows = slice(i, i + 1)
        alone = decode(law, rows, output="mean", first_row=13 + i, backend=backend)
        np.testing.assert_array_equal(alone[0], whole[i])
        counts = decode(law, rows, first_row=13 + i, backend=backend)
        np.testing.assert_array_equal(counts.toarray()[0], drawn[i])
    part = decode(law, slice(20, 70), output="dense", first_row=33, backend=backend)
    np.testing.assert_array_equal(part, drawn[20:70])


@every_law
def test_threads(law: str, threads: int) -> None:
    for backend in BACKENDS:
        expected = decode(law, output="dense", backend=backend, num_threads=1)
        found = decode(law, backend=backend, num_threads=threads)
        np.testing.assert_array_equal(found.toarray(), expected)


@every_law
def test_backends_agree(law: str) -> None:
    mu = [decode(law, output="mean", backend=backend) for backend in BACKENDS]
    np.testing.assert_allclose(mu[0], mu[1], rtol=1e-12)
    counts = [decode(law, output="dense", backend=backend) for backend in BACKENDS]
    assert (counts[0] != counts[1]).sum() <= 1


@every_backend
def test_theta_of_groups(backend: str) -> None:
    groups = np.stack([THETA, 3 * THETA, THETA / 2])
    index = np.arange(ROWS) % 3
    found = decode("nb", theta=groups, theta_index=index, output="dense", backend=backend)
    for g in range(3):
        alone = decode("nb", theta=groups[g], output="dense", backend=backend)
        np.testing.assert_array_equal(found[index == g], alone[index == g])
    one = decode("nb", theta=THETA[None], theta_index=np.zeros(ROWS, int), backend=backend)
    np.testing.assert_array_equal(one.toarray(), decode("nb", output="dense", backend=backend))


@every_backend
def test_extreme_logits(backend: str) -> None:
    """Softmax neither overflows nor underflows to NaN; features without mass get no counts."""
    weight = np.array([[900.0], [-900.0], [899.0]])
    found = flow.decode_counts(
        np.ones((2, 1)), weight, None, 100.0, likelihood="poisson", output="mean", backend=backend
    )
    share = 1 / (1 + np.exp(-1.0))
    np.testing.assert_allclose(found, [[100 * share, 0.0, 100 * (1 - share)]] * 2, rtol=1e-12)
    empty = flow.decode_counts(
        np.ones((3, 1)), weight, None, 0.0, likelihood="poisson", backend=backend
    )
    assert empty.nnz == 0


@every_law
@every_backend
def test_logits_instead_of_activations(law: str, backend: str) -> None:
    logits = HIDDEN @ WEIGHT.T
    found = flow.decode_counts(
        logits, None, BIAS, likelihood=law, output="mean", backend=backend, **LAWS[law]
    )
    np.testing.assert_allclose(found, means(law), rtol=1e-12)
    drawn = flow.decode_counts(
        logits, None, BIAS, likelihood=law, seed=3, backend=backend, **LAWS[law]
    )
    assert (drawn.toarray() != decode(law, output="dense", backend=backend)).sum() <= 1


@every_backend
def test_no_rows(backend: str) -> None:
    for output in ("csr", "dense", "mean"):
        found = decode("poisson", slice(0, 0), output=output, backend=backend)
        assert found.shape == (0, FEATURES)


@every_law
@every_backend
def test_overflowing_logits_are_reported(law: str, backend: str) -> None:
    hidden = HIDDEN.copy()
    hidden[41] = 1e200
    weight = WEIGHT * 1e200
    with pytest.raises(hotloops.NumericalError, match=r"decode_counts: .*not finite at index 41"):
        flow.decode_counts(
            hidden, weight, likelihood=law, backend=backend, num_threads=1, **LAWS[law]
        )


GOOD: dict[str, Any] = {
    "hidden": np.ones((2, 3)),
    "weight": np.ones((4, 3)),
    "bias": np.ones(4),
    "size_factor": 5.0,
    "theta": np.ones(4),
}


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"hidden": np.ones(3)}, ValueError, r"`hidden` must have shape \(n, width\)"),
        ({"hidden": np.full((2, 3), np.nan)}, ValueError, "`hidden` must be finite"),
        ({"weight": np.ones((4, 2))}, ValueError, r"`weight` must have shape \(features, width\)"),
        ({"weight": np.ones((4, 3), "f4")}, TypeError, "`weight` must have dtype float64"),
        ({"weight": np.full((4, 3), np.inf)}, ValueError, "`weight` must be finite"),
        ({"bias": np.ones(3)}, ValueError, r"`bias` must have shape \(features,\)"),
        ({"size_factor": None}, TypeError, "`size_factor` must be a number, or one for each cell"),
        ({"size_factor": -1.0}, ValueError, "`size_factor` must not be negative"),
        ({"size_factor": np.ones(3)}, ValueError, r"`size_factor` must be a number or have shape"),
        ({"size_factor": np.nan}, ValueError, "`size_factor` must be finite"),
        ({"size_factor": 2e8}, OverflowError, r"`size_factor` must be at most 1e\+08"),
        ({"theta": None}, TypeError, "`theta` must be an array of inverse dispersions"),
        ({"theta": np.zeros(4)}, ValueError, "`theta` must be positive"),
        ({"theta": np.ones(3)}, ValueError, r"`theta` must have shape \(features,\)"),
        ({"theta": np.ones((2, 4))}, TypeError, "`theta_index` must name one of the 2 rows"),
        (
            {"theta": np.ones((2, 4)), "theta_index": [0, 2]},
            ValueError,
            r"`theta_index` must lie in \[0, 2\), got 2",
        ),
        ({"theta_index": [0]}, ValueError, r"`theta_index` must have shape \(2,\)"),
        ({"likelihood": "zinb"}, ValueError, "`likelihood` must be one of"),
        ({"likelihood": "poisson"}, ValueError, "`theta` must be None but for"),
        ({"likelihood": "bernoulli", "theta": None}, ValueError, "`size_factor` must be None for"),
        (
            {"likelihood": "poisson", "theta": None, "theta_index": [0, 0]},
            ValueError,
            "`theta_index` must be None but for",
        ),
        ({"output": "coo"}, ValueError, "`output` must be one of"),
        ({"seed": -1}, ValueError, "`seed` must be an integer in"),
        ({"step": 2**26}, ValueError, "`step` must be an integer in"),
        ({"first_row": 2**32 - 1}, OverflowError, "`first_row` must leave 2 numbers"),
        ({"backend": "cuda"}, TypeError, "`backend` must be 'cpp' or 'numba'"),
        ({"num_threads": 0}, ValueError, "`num_threads` must be"),
    ],
)
def test_bad_arguments(changed: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match="decode_counts: " + message):
        flow.decode_counts(**{**GOOD, **changed})
