"""Counts from the last layer of a decoder, without the matrix of logits."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops._runtime import arrays, dispatch, threads, validate
from hotloops._runtime.arrays import Library
from hotloops._runtime.errors import NumericalError
from hotloops._runtime.validate import fail
from hotloops.flow._branches import on_host

__all__ = ["decode_counts"]

_NAME = "decode_counts"
_LIKELIHOODS = ("nb", "poisson", "bernoulli")
_OUTPUTS = ("csr", "dense", "mean")
_MAX_STEP = 2**26 - 1
_MAX_ROW = 2**32 - 1
_MAX_TOTAL = 1e8


def decode_counts(
    hidden: Any,
    weight: Any = None,
    bias: Any = None,
    size_factor: Any = None,
    theta: Any = None,
    *,
    theta_index: Any = None,
    likelihood: str = "nb",
    output: str = "csr",
    seed: int = 0,
    step: int = 0,
    first_row: int = 0,
    backend: str | None = None,
    num_threads: int | None = None,
) -> Any:
    """Draw counts of the law that a decoder's last linear layer gives.

    With logits ``h = weight @ hidden + bias``, the mean of a cell's counts is ``mu = L softmax(h)``
    for the negative binomial and the Poisson law, and their probability ``sigmoid(h)`` for the
    Bernoulli law. The logits of 32 cells at a time are made, turned into means and into counts, of
    which only the nonzeros are kept: the memory is that of the answer.

    Parameters
    ----------
    hidden : array of float32 or float64, shape (n, width)
        Activations of the last hidden layer; with a decoder of one layer, the latents. In host
        memory or on a GPU; all other arrays may be in host memory either way.
    weight : array of the same dtype, shape (features, width), optional
        Of the last layer, laid out as in PyTorch. Without it `hidden` holds the logits.
    bias : array of the same dtype, shape (features,), optional
    size_factor : float or array, shape (n,)
        Expected total L of each cell, 0 to 1e8; not for Bernoulli.
    theta : array, shape (features,) or (groups, features)
        Inverse dispersions, above 0; for the negative binomial only.
    theta_index : array of int, shape (n,), optional
        Which row of `theta` each cell has. Needed where there are several.
    likelihood : {"nb", "poisson", "bernoulli"}
        Default negative binomial.
    output : {"csr", "dense", "mean"}
        Counts as a CSR matrix (default) or an array, both int32, or the means, in the dtype of
        `hidden`. A CSR matrix is always SciPy's, in host memory, since CuPy has none of integers.
    seed : int
        Key of the random numbers, 0 to 2**64 - 1.
    step : int
        0 to 2**26 - 1. Give each modality of the same cells a step of its own, so that their counts
        are independent given the latent.
    first_row : int
        Number of the first cell. Cell i of a call is cell ``first_row + i`` of any other: its
        counts depend on neither the cells around it nor how many there are.
    backend : {"cpp", "cuda", "numba"}, optional
        Default: "cuda" for `hidden` on a GPU, else "cpp".
    num_threads : int, optional
        Default `hotloops.get_num_threads`; never changes the result.

    Returns
    -------
    scipy.sparse.csr_array or array, shape (n, features)
        Arrays are of the library of `hidden`.

    Raises
    ------
    TypeError, ValueError, OverflowError
        Arguments of the wrong type, shape or range.
    hotloops.NumericalError
        Logits that are not finite, with the row.

    Notes
    -----
    Class B: the same bits over threads on one backend. The products are those of the BLAS that
    SciPy carries, on one thread each; between backends means differ in their last bits, and so,
    once in many millions, do counts. Softmax and everything after it are float64. Blocks begin at
    multiples of 32 of the cell's number (1024 on a GPU), and short ones are filled up, so that a
    cell meets the same product in any batch.

    The cost is that of the product, ``2 width features`` operations a cell, and 9 ns a feature and
    core for softmax and draws where a tenth of the counts is not zero.

    Examples
    --------
    >>> import numpy as np
    >>> from hotloops import flow
    >>> rng = np.random.default_rng(0)
    >>> hidden, weight = rng.normal(size=(5, 8)), rng.normal(size=(100, 8))
    >>> x = flow.decode_counts(hidden, weight, None, 50.0, np.full(100, 2.0), seed=1)
    >>> x.shape, x.dtype
    ((5, 100), dtype('int32'))
    >>> mu = flow.decode_counts(hidden, weight, None, 50.0, np.full(100, 2.0), output="mean")
    >>> bool(np.allclose(mu.sum(1), 50.0))
    True
    """
    head = _LIKELIHOODS.index(validate.choice(_NAME, "likelihood", likelihood, _LIKELIHOODS))
    kind = validate.choice(_NAME, "output", output, _OUTPUTS)
    key = validate.integer(_NAME, "seed", seed, low=0, high=2**64 - 1)
    at_step = validate.integer(_NAME, "step", step, low=0, high=_MAX_STEP)
    first = validate.integer(_NAME, "first_row", first_row, low=0, high=_MAX_ROW)
    threads_ = threads.resolve_num_threads(_NAME, num_threads)
    sizes: dict[str, int] = {}
    given, library = arrays.import_array(_NAME, "hidden", hidden)
    activations = validate.array(
        _NAME, "hidden", given, shape=("n", "width"), symbols=sizes, empty=True
    )
    common: dict[str, Any] = {"symbols": sizes, "dtype": activations.dtype, "exact_dtype": True}
    weights = biases = None
    if weight is not None:
        held = _placed("weight", weight, library)
        weights = validate.array(_NAME, "weight", held, shape=("features", "width"), **common)
    else:
        sizes["features"] = sizes["width"]
    if bias is not None:
        held = _placed("bias", bias, library)
        biases = validate.array(_NAME, "bias", held, shape=("features",), **common)
    count, features = len(activations), int(sizes["features"])
    if first + count > _MAX_ROW + 1:
        expectation = f"leave {count} numbers below {_MAX_ROW + 1}"
        fail(OverflowError, _NAME, "first_row", expectation, str(first))
    totals = _totals(likelihood, size_factor, count)
    dispersions = _dispersions(likelihood, theta, features)
    index = _theta_index(dispersions, theta_index, count)
    resolved = dispatch.resolve_backend(_NAME, backend, library.device)
    module = importlib.import_module(f"hotloops.flow._{resolved}_decode")
    try:
        with arrays.stream_context(library):
            found = module.decode(
                *(kind, head, activations, weights, biases, totals, dispersions, index),
                *(key, at_step, first, threads_),
            )
    except ValueError as error:
        if "not finite" not in str(error):
            raise
        raise NumericalError(f"{_NAME}: {str(error).partition(': ')[2]}") from None
    return found if kind == "csr" else arrays.export_array(found, library)


def _placed(name: str, value: Any, library: Library) -> Any:
    """Return an array that is in host memory, or where `hidden` is."""
    native, own = arrays.import_array(_NAME, name, value)
    if own.device != "cpu" and own.place != library.place:
        expectation = f"live in host memory or on {library.place} like `hidden`"
        expectation = (
            "live in host memory like `hidden`" if library.device == "cpu" else expectation
        )
        fail(TypeError, _NAME, name, expectation, f"an array on {own.place}")
    return native


def _totals(likelihood: str, given: Any, count: int) -> npt.NDArray[np.float64] | None:
    if likelihood == "bernoulli":
        if given is not None:
            expectation = "be None for the Bernoulli law"
            fail(ValueError, _NAME, "size_factor", expectation, validate.describe(given))
        return None
    if given is None:
        fail(TypeError, _NAME, "size_factor", "be a number, or one for each cell", "None")
    values = validate.array(
        _NAME,
        "size_factor",
        on_host(_NAME, "size_factor", given),
        ndim=(0, 1),
        dtype=np.float64,
        empty=True,
    )
    if values.ndim == 1 and len(values) != count:
        expectation = f"be a number or have shape ({count},)"
        fail(ValueError, _NAME, "size_factor", expectation, str(values.shape))
    if values.size and float(values.min()) < 0.0:
        fail(ValueError, _NAME, "size_factor", "not be negative", str(float(values.min())))
    if values.size and float(values.max()) > _MAX_TOTAL:
        expectation = f"be at most {_MAX_TOTAL:g}"
        fail(OverflowError, _NAME, "size_factor", expectation, str(float(values.max())))
    return np.ascontiguousarray(np.broadcast_to(values, (count,)))


def _dispersions(likelihood: str, given: Any, features: int) -> npt.NDArray[np.float64] | None:
    if likelihood != "nb":
        if given is not None:
            expectation = "be None but for the negative binomial law"
            fail(ValueError, _NAME, "theta", expectation, validate.describe(given))
        return None
    if given is None:
        fail(TypeError, _NAME, "theta", "be an array of inverse dispersions", "None")
    values: npt.NDArray[np.float64] = validate.array(
        _NAME, "theta", on_host(_NAME, "theta", given), ndim=(1, 2), dtype=np.float64, positive=True
    )
    if values.shape[-1] != features:
        expectation = f"have shape (features,) or (groups, features) with features = {features}"
        fail(ValueError, _NAME, "theta", expectation, str(values.shape))
    return values.reshape(-1, features)


def _theta_index(
    theta: npt.NDArray[np.float64] | None, given: Any, count: int
) -> npt.NDArray[np.int64] | None:
    if theta is None or len(theta) == 1:
        if given is not None and theta is None:
            expectation = "be None but for the negative binomial law"
            fail(ValueError, _NAME, "theta_index", expectation, validate.describe(given))
        if given is None:
            return None
    assert theta is not None
    if given is None:
        expectation = f"name one of the {len(theta)} rows of `theta` for each cell"
        fail(TypeError, _NAME, "theta_index", expectation, "None")
    index: npt.NDArray[np.int64] = validate.array(
        _NAME,
        "theta_index",
        on_host(_NAME, "theta_index", given),
        shape=(count,),
        dtype=np.int64,
        empty=True,
    )
    if index.size and not 0 <= int(index.min()) <= int(index.max()) < len(theta):
        wrong = index[(index < 0) | (index >= len(theta))][0]
        fail(ValueError, _NAME, "theta_index", f"lie in [0, {len(theta)})", str(int(wrong)))
    return index
