"""Wrong arguments, each with its message, before any work."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse

from hotloops import admm

X = np.arange(12.0).reshape(6, 2)
Y = np.array([1.0, -1.0, 1.0, -1.0, 1.0, -1.0])
GOOD: dict[str, Any] = {"clients": [0, 0, 0, 1, 1, 1], "rho": 1.0, "num_rounds": 1, "sigma": 1.0}


def broken(**parts: Any) -> Any:
    """A CSR matrix of shape (6, 2) with wrong parts, past SciPy's own checks."""
    table = scipy.sparse.csr_array(X)
    for name, value in parts.items():
        setattr(table, name, value)
    return table


ROWS = scipy.sparse.csr_array(X)
DATA: list[tuple[str, Any, Any, dict[str, Any], type[Exception], str]] = [
    ("no X", None, Y, {}, TypeError, "`y` must be None when `X` is"),
    ("no y", X, None, {}, TypeError, "`y` must be an array"),
    ("vector", X[:, 0], Y, {}, ValueError, "`X` must have 2 dimensions"),
    ("nan", np.full((6, 2), np.nan), Y, {}, ValueError, "`X` must be finite"),
    ("half", X.astype(np.float16), Y, {}, TypeError, "`X` must have dtype float32 or float64"),
    ("short y", X, Y[:5], {}, ValueError, "`y` must have length 6"),
    ("third label", X, [1, 2, 3, 1, 2, 3], {}, ValueError, r"labels in \{0, 1\} or in \{-1, 1\}"),
    ("one label", X, np.ones(6), {}, ValueError, "`y` must hold two classes, got one class"),
    ("other label", X, -np.ones(6), {}, ValueError, "`y` must hold two classes"),
    (
        "high index",
        broken(indices=np.where(ROWS.indices == 1, 7, ROWS.indices).astype(np.int32)),
        Y,
        {},
        ValueError,
        r"column indices in \[0, 2\), got 7",
    ),
    (
        "negative index",
        broken(indices=(ROWS.indices - 1).astype(np.int32)),
        Y,
        {},
        ValueError,
        "column indices .* got -1",
    ),
    (
        "falling indptr",
        broken(indptr=np.array([0, 4, 2, 6, 8, 10, 11], np.int32)),
        Y,
        {},
        ValueError,
        "an indptr that rises",
    ),
    (
        "long indptr",
        broken(indptr=np.array([0, 2, 4, 6, 8, 10, 99], np.int32)),
        Y,
        {},
        ValueError,
        "an indptr that rises",
    ),
    (
        "nan entry",
        broken(data=np.full(ROWS.nnz, np.nan)),
        Y,
        {},
        ValueError,
        "`X` must be finite",
    ),
    ("short ids", X, Y, {"clients": [0, 1]}, ValueError, "`clients` must have length 6"),
    ("float ids", X, Y, {"clients": np.ones(6)}, TypeError, "an id for each row"),
    ("number", X, Y, {"clients": 3}, TypeError, "an id for each row"),
    (
        "empty client",
        X,
        Y,
        {"clients": [[0, 1], np.array([], np.int64)]},
        ValueError,
        r"`clients\[1\]` must not be empty",
    ),
    (
        "far row",
        X,
        Y,
        {"clients": [[0, 1], [2, 6]]},
        ValueError,
        r"`clients\[1\]` must hold rows in \[0, 6\), got 6",
    ),
    ("no pairs", None, None, {"clients": [X, X]}, TypeError, r"a list of \(X, y\) pairs"),
    (
        "widths",
        None,
        None,
        {"clients": [(X, Y), (X[:, :1], Y)]},
        ValueError,
        r"`clients\[1\]\[0\]` must have 2 columns",
    ),
    (
        "precisions",
        None,
        None,
        {"clients": [(X, Y), (X.astype(np.float32), Y)]},
        TypeError,
        "must have dtype float64 as the first client",
    ),
    ("short weight", X, Y, {"sample_weight": [1.0]}, ValueError, "`sample_weight` must have shape"),
    (
        "negative weight",
        X,
        Y,
        {"sample_weight": [1, 1, 1, 1, 1, -1]},
        ValueError,
        "`sample_weight` must be zero or positive",
    ),
    (
        "weightless client",
        X,
        Y,
        {"sample_weight": [0, 0, 0, 1, 1, 1]},
        ValueError,
        "give every client a positive weight, got zero for client 0",
    ),
]


@pytest.mark.parametrize(
    ("table", "y", "options", "kind", "message"), [r[1:] for r in DATA], ids=[r[0] for r in DATA]
)
def test_data(table: Any, y: Any, options: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message) as caught:
        admm.solve("logistic", table, y, **{**GOOD, **options})
    assert str(caught.value).startswith("solve: ")


OPTIONS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"scheme": "newton"}, ValueError, "`scheme` must be one of"),
    ({"scheme": "exact"}, ValueError, "'exact' is for the loss 'squares', got 'logistic'"),
    ({"sigma": 0.0}, ValueError, r"`sigma` must be a finite number > 0.0, got 0.0"),
    ({"sigma": -1.0}, ValueError, "`sigma`"),
    ({"sigma": [1.0, 0.0]}, ValueError, "`sigma` must be positive"),
    ({"sigma": [1.0]}, ValueError, r"`sigma` must have shape \(2,\)"),
    ({"sigma": "large"}, ValueError, "`sigma` must be one of 'auto'"),
    ({"rho": -1.0}, ValueError, "`rho` must be a finite number >= 0.0, got -1.0"),
    ({"rho": [1.0, -2.0]}, ValueError, "`rho` must be zero or positive"),
    ({"beta": 1.0}, ValueError, r"`beta` must lie in \[0, 1\)"),
    ({"eps": -1e-8}, ValueError, "`eps`"),
    ({"eta": 0.0}, ValueError, "`eta`"),
    ({"l2": -1.0}, ValueError, "`l2`"),
    ({"relaxation": 2.0}, ValueError, r"`relaxation` must be a finite number in \[1.0, 1.8\]"),
    ({"participation": 0.0}, ValueError, "`participation`"),
    ({"batch_size": 0}, ValueError, "`batch_size` must be an integer in"),
    ({"sampling": "cyclic"}, ValueError, "`sampling` must be one of"),
    ({"num_rounds": 0}, ValueError, "`num_rounds` must be an integer >= 1, got 0"),
    ({"num_rounds": 2**48 + 1}, OverflowError, "`num_rounds` must stay below"),
    ({"num_rounds": 2**40, "batch_size": 2**30}, OverflowError, "solve: the size .* 2\\*\\*63"),
    ({"tol": (1.0, 2.0, 3.0)}, ValueError, "`tol` must be a number or a pair"),
    ({"tol": -1.0}, ValueError, "`tol`"),
    ({"gradient_tol": -1.0}, ValueError, "`gradient_tol`"),
    ({"evaluate_every": -1}, ValueError, "`evaluate_every`"),
    ({"w0": [1.0]}, ValueError, r"`w0` must have shape \(2,\), got \(1,\)"),
    ({"w0": [1.0, np.inf]}, ValueError, "`w0` must be finite"),
    ({"schedule": "linear"}, TypeError, "`schedule` must be None or a schedule"),
    ({"regularizer": 3.0}, TypeError, "`regularizer` must be an object with __call__"),
    ({"preconditioner": [1.0, 1.0]}, ValueError, "`preconditioner` must be None unless"),
    (
        {"scheme": "diag", "preconditioner": [1.0]},
        ValueError,
        r"`preconditioner` must have shape \(2,\) or \(2, 2\)",
    ),
    (
        {"scheme": "diag", "preconditioner": [1.0, -1.0]},
        ValueError,
        "`preconditioner` must be zero or positive",
    ),
    ({"callback": 3}, TypeError, "`callback` must be callable"),
    ({"seed": -1}, ValueError, "`seed`"),
    ({"intercept": 1}, TypeError, "`intercept` must be True or False"),
    ({"record_iterates": "yes"}, TypeError, "`record_iterates`"),
    ({"out": np.zeros(3)}, ValueError, r"`out` must have shape \(2,\)"),
    ({"out": np.zeros(2, np.float32)}, TypeError, "`out` must have dtype float64"),
    ({"backend": "cuda"}, TypeError, "`backend` must be 'cpp' or 'numba'"),
    ({"num_threads": 0}, ValueError, "`num_threads`"),
    ({"state": 3}, TypeError, "`state` must be the `state` of a result of solve"),
]


@pytest.mark.parametrize(
    ("options", "kind", "message"), OPTIONS, ids=[str(row[0])[:40] for row in OPTIONS]
)
def test_options(options: Any, kind: type[Exception], message: str) -> None:
    w0 = options.get("w0")
    with pytest.raises(kind, match=message) as caught:
        admm.solve("logistic", X, Y, **{**GOOD, **options})
    assert str(caught.value).startswith("solve: ")
    assert options.get("w0") is w0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: admm.Geometric(0.0), "`gamma` must be"),
        (lambda: admm.Geometric(1.1), "`gamma` must be"),
        (lambda: admm.Geometric(0.9, every=0), "`every`"),
        (lambda: admm.Power(1.5), "`exponent`"),
        (lambda: admm.LearningRate([1.0, 0.0]), "`rate` must be positive"),
        (lambda: admm.Balancing(ratio=1.0), "`ratio`"),
        (lambda: admm.Balancing(factor=0.5), "`factor`"),
        (lambda: admm.HuberHinge(0.0), "`delta`"),
        (lambda: admm.Huber(-1.0), "`delta`"),
        (lambda: admm.Quantile(1.0), "`q` must lie between 0 and 1"),
        (lambda: admm.Quantile(0.5, 0.0), "`width`"),
        (lambda: admm.MLP(()), "`hidden` must be a tuple of 1 to 60 widths"),
        (lambda: admm.MLP((0,)), "`hidden`"),
        (lambda: admm.MLP((3,), "sigmoid"), "`activation`"),
        (lambda: admm.MLP((3,), head="hinge"), "`head`"),
    ],
)
def test_parts(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_losses_without_a_bound_need_sigma() -> None:
    options = {**GOOD, "sigma": "auto"}
    with pytest.raises(ValueError, match="`sigma` must be a number for the loss 'poisson'"):
        admm.solve("poisson", X, Y > 0, **options)
    with pytest.raises(ValueError, match="`w0` must be given for a network"):
        admm.solve(admm.MLP((3,)), X, Y > 0, **GOOD)
    with pytest.raises(ValueError, match="`scheme` must be another one for a network"):
        admm.solve(admm.MLP((3,)), X, Y > 0, **{**GOOD, "scheme": "hessian"})
    with pytest.raises(ValueError, match="whose curvature is unbounded"):
        admm.solve("poisson", X, Y > 0, **{**GOOD, "scheme": "majorant"})
    with pytest.raises(ValueError, match="`X` must have an entry that is not zero"):
        admm.solve("logistic", np.zeros((6, 2)), Y, **options)


def test_labels_and_counts() -> None:
    with pytest.raises(ValueError, match="`y` must hold class numbers"):
        admm.solve("softmax", X, [0, 1, 2, -1, 0, 1], **GOOD)
    with pytest.raises(ValueError, match="`y` must hold two classes or more"):
        admm.solve("softmax", X, np.zeros(6, int), **GOOD)
    with pytest.raises(TypeError, match="`y` must be an array of integers"):
        admm.solve("softmax", X, np.linspace(0, 1, 6), **GOOD)
    with pytest.raises(ValueError, match="`y` must be zero or positive"):
        admm.solve("poisson", X, Y, **GOOD)
    with pytest.raises(ValueError, match="`loss` must be one of"):
        admm.solve("hinge", X, Y, **GOOD)


def test_states_that_do_not_fit() -> None:
    fit = admm.solve("logistic", X, Y, **GOOD)
    options = {**GOOD, "state": fit.state}
    with pytest.raises(ValueError, match="`w0` must be None when `state` is given"):
        admm.solve("logistic", X, Y, **options, w0=[0.0, 0.0])
    with pytest.raises(ValueError, match="`loss` must be 'logistic' as in `state`"):
        admm.solve("squares", X, Y, **options)
    with pytest.raises(ValueError, match="`scheme` must be 'adam' as in `state`"):
        admm.solve("logistic", X, Y, **options, scheme="identity")
    with pytest.raises(ValueError, match="`seed` must be 0 as in `state`"):
        admm.solve("logistic", X, Y, **options, seed=1)
    with pytest.raises(ValueError, match="belong to 3 clients and 2 parameters, got one of 2"):
        admm.solve("logistic", X, Y, **{**options, "clients": [0, 0, 1, 1, 2, 2]})
    with pytest.raises(TypeError, match="`state` must have the precision of `X`"):
        admm.solve("logistic", X.astype(np.float32), Y, **options)
    with pytest.raises(ValueError, match="`state` must hold the clients' points"):
        admm.solve("logistic", X, Y, **options, relaxation=1.5)


def test_the_binding_checks_what_would_be_unsafe() -> None:
    from hotloops import _core

    clients = _core.AdmmClientsFloat64(np.array([2, 1], np.int64), 1, 0, False, 0.0, 0.0)
    with pytest.raises(ValueError, match="indices must lie below columns"):
        clients.add_sparse(
            np.array([0, 1], np.int64), np.array([2], np.int32), None, np.ones(1), None, None
        )
    clients.add_dense(np.ones((3, 2)), np.ones(3), None, None)
    with pytest.raises(ValueError, match="rows must lie in the matrix"):
        clients.add_client(0, np.array([3], np.int64))
    clients.add_client(0, None)
    tasks = np.array([[0, 0, 4]], np.int64)
    with pytest.raises(ValueError, match="reaches beyond its client"):
        clients.gradient(0, 0, 0, 0, tasks, None, np.zeros(2), False, np.zeros((1, 2)), None, 0, 1)
    tasks[0, 2] = 3
    with pytest.raises(ValueError, match="more rows than slopes"):
        clients.gradient(0, 0, 0, 0, tasks, None, np.zeros(2), False, np.zeros((1, 2)), None, 2, 1)
    tasks[0, 2] = 2
    one, none = np.ones(1), np.empty(0, np.int64)
    duals = _core.AdmmDualsFloat64(none, np.empty(0, np.int32), np.empty(0))
    with pytest.raises(ValueError, match="rows must be in CSR"):
        clients.optimistic_round(
            *(1, 2, 0, 0, tasks, np.zeros((1, 2)), 2),
            *(one, one, one, np.zeros(2), duals, 0, duals, np.zeros((1, 6))),
        )
