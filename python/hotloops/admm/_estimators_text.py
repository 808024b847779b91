"""What the docstrings of the estimators share."""

from __future__ import annotations

from typing import Any

__all__ = ["ATTRIBUTES", "LINEAR", "NOTES", "SHARED", "in_docstring"]

LINEAR = """fit_intercept : bool
        Add an intercept, which is not penalised. Default True."""

SHARED = """scheme : str
        Preconditioner of the clients' steps, see `hotloops.admm.solve`. "auto" (default) takes the
        majorants of the clients' Hessians up to 2047 features, and the identity beyond.
    sigma : "auto" or float
        Penalty of the clients' distance from consensus. Default "auto".
    rho : float, optional
        Weight of the preconditioner. Default: 1 for Hessians and majorants, 0 for the identity, 10
        for the adaptive schemes.
    max_iter : int
        Rounds, at most. Default 1000.
    tol : float
        Both residuals of the consensus must fall to this, relative to the point and to the duals.
        Default 1e-5.
    warm_start : bool
        Go on from the point and the duals of the last fit where shapes and clients agree. Default
        False.
    backend : {{"cpp", "numba"}}, optional
        Default "cpp".
    num_threads : int, optional
        Default: `hotloops.get_num_threads`."""

ATTRIBUTES = """n_iter_ : int
        Rounds of the last fit.
    n_features_in_ : int
    feature_names_in_ : ndarray
        Where X has names.
    result_ : AdmmResult
        What `hotloops.admm.solve` returned, with residuals, history and duals."""

NOTES = """Without ``groups=`` all rows belong to one client: scikit-learn's own solvers are then
    the faster choice. Class B with Hessians and majorants, class A with the other schemes.
    A round costs a gradient of every client; majorants add two products with a square matrix."""

_FIT = """Parameters
        ----------
        X : {array_like, CSR matrix}, shape (n_samples, n_features)
            float32 stays float32; everything else becomes float64.
        y : array_like, shape (n_samples,)
        sample_weight : array_like, shape (n_samples,), optional
            Zero or positive.
        groups : array_like, shape (n_samples,), optional
            An id of the client of each row. Default: one client.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            Parameters or data out of range.

        Warns
        -----
        sklearn.exceptions.ConvergenceWarning
            `max_iter` rounds did not reach `tol`."""


def in_docstring(method: Any) -> Any:
    """Fill in what the docstrings of all `fit` share."""
    method.__doc__ = method.__doc__.replace("__FIT__", _FIT)
    return method
