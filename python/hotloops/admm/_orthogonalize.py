"""Newton-Schulz orthogonalisation of matrices."""

from __future__ import annotations

import importlib
import math
from typing import Any

from hotloops._runtime import arrays, dispatch, threads, validate
from hotloops._runtime.validate import fail
from hotloops.admm._tensors import HALVES, import_low

__all__ = ["COEFFICIENTS", "orthogonalize"]

COEFFICIENTS = {
    "muon": (3.4445, -4.7750, 2.0315),
    "polar": (15.0 / 8.0, -10.0 / 8.0, 3.0 / 8.0),
}


def orthogonalize(
    matrices: Any,
    steps: int = 5,
    coefficients: str = "muon",
    *,
    out: Any = None,
    backend: str | None = None,
    num_threads: int | None = None,
) -> Any:
    """Move the singular values of matrices towards 1 by the Newton-Schulz iteration.

    Parameters
    ----------
    matrices : array of shape (..., rows, columns)
        Of float32 or float64; leading axes are a batch.
    steps : int
        Number of iterations; default 5, as in Muon and NSISA. "polar" wants 10 or more.
    coefficients : {"muon", "polar"}
        (3.4445, -4.7750, 2.0315), which reaches [0.68, 1.21] in five steps from any singular value
        above 0.002 of the Frobenius norm, but does not converge; or (15, -10, 3) / 8, which
        converges to the orthogonal polar factor.
    out : array, optional
        Memory for the answer; it may be `matrices`.
    backend : {"cpp", "cuda", "numba"}, optional
        Default: "cuda" for arrays on a GPU, else "cpp".
    num_threads : int, optional
        Default `hotloops.get_num_threads`.

    Returns
    -------
    array
        Of the shape, type and library of `matrices`.

    Raises
    ------
    TypeError, ValueError
        Arguments of the wrong type, shape or range; NaN or infinities (host arrays only).

    Notes
    -----
    ``X <- X / (||X||_F + 1e-7)``, then ``A = X X'``, ``X <- a X + (b A + c A A) X``; of the smaller
    Gram matrix. Matrices of zeros stay zero; no square overflows. Class B. Of the two symmetric
    products only half is computed: ``3 r^2 c + r^3`` operations a step, for r rows and c columns
    in the smaller order, instead of ``4 r^2 c + 2 r^3``. A batch is spread over threads
    matrix by matrix; a few large matrices by their columns. The number of threads never changes
    the result.

    Examples
    --------
    >>> from hotloops import admm
    >>> admm.orthogonalize([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]).round(4)
    array([[-0.4675,  0.5735],
           [ 0.0724,  0.4095],
           [ 0.6124,  0.2454]])
    """
    name = "orthogonalize"
    library = arrays.common_library(name, {"matrices": matrices, "out": out})
    given, precision = import_low(name, "matrices", matrices)
    if precision in HALVES:
        fail(TypeError, name, "matrices", "have dtype float32 or float64", precision)
    native = validate.array(name, "matrices", given, finite=library.device == "cpu", empty=True)
    if native.ndim < 2:
        fail(ValueError, name, "matrices", "have at least 2 dimensions", str(native.shape))
    count = validate.integer(name, "steps", steps, low=0)
    validate.choice(name, "coefficients", coefficients, tuple(COEFFICIENTS))
    threads_ = threads.resolve_num_threads(name, num_threads)
    resolved = dispatch.resolve_backend(name, backend, library.device)
    with arrays.stream_context(library):
        target = arrays.empty(tuple(native.shape), native.dtype, library)
        if out is not None:
            if not hasattr(out, "dtype"):
                fail(TypeError, name, "out", "be an array", validate.describe(out))
            own, _ = arrays.import_array(name, "out", out)
            target = validate.output(
                name, "out", own, shape=tuple(native.shape), dtype=native.dtype
            )
        shape = (math.prod(native.shape[:-2]), *native.shape[-2:])
        if native.size:
            _kernel(resolved)(
                native.reshape(shape),
                target.reshape(shape),
                count,
                COEFFICIENTS[coefficients],
                threads_,
            )
        return out if out is not None else arrays.export_array(target, library)


def _kernel(backend: str) -> Any:
    return importlib.import_module(f"hotloops.admm._{backend}_step").orthogonalize
