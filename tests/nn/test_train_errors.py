"""Training runs that must not begin."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse

from hotloops import nn
from hotloops.nn._train import train
from tests.nn.networks import autoencoder

X, Y = np.ones((6, 2)), np.ones((6, 3))


def _fit(y: Any = Y, x: Any = X, widths: Any = (2, 4, 3), **options: Any) -> Callable[[], Any]:
    return lambda: nn.MLP(list(widths)).fit(x, y, **options)


def _train(change: Callable[[dict[str, Any]], Any]) -> Callable[[], Any]:
    def run() -> None:
        network, losses, tables = autoencoder()
        call = {"network": network, "losses": losses, "tables": tables, "num_steps": 1}
        change(call)
        train(**{"batch_size": 4, **call})

    return run


def _loss(**fields: Any) -> Callable[[], Any]:
    def change(call: dict[str, Any]) -> None:
        y = call["network"].program.outputs[0]
        usual = {"kind": "mean_squared_error", "logits": y[:3], "target": 1}
        call["losses"] = [nn.Loss(**{**usual, **fields})]

    return _train(change)


def _resume(**changes: Any) -> Callable[[], Any]:
    def run() -> None:
        import dataclasses

        state = nn.MLP([2, 4, 3]).fit(X, Y, num_steps=1, batch_size=3).state
        wrong = dataclasses.replace(state, **changes)
        nn.MLP([2, 4, 3]).fit(X, Y, num_steps=1, batch_size=3, state=wrong)

    return run


THETA = autoencoder()[0].program.parameters["log_theta"]

ERRORS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (
        _fit(loss="hinge"),
        ValueError,
        "MLP.fit: `loss` must be one of 'mean_squared_error', 'huber', 'cross_entropy', "
        "'binary_cross_entropy', 'poisson', got 'hinge'",
    ),
    (
        _fit(Y[:5]),
        ValueError,
        "MLP.fit: `y` must have shape (rows, 3) with rows = 6 as in `inputs[0]`, got (5, 3)",
    ),
    (_fit(Y[:, 0]), ValueError, "MLP.fit: `y` must have shape (rows, 3), got (6,)"),
    (
        _fit(Y * np.nan),
        ValueError,
        "MLP.fit: `y` must be finite in float32, got nan at index (0, 0)",
    ),
    (_fit(x=Y), ValueError, "MLP.fit: `inputs[0]` must have shape (rows, 2), got (6, 3)"),
    (
        _fit(scipy.sparse.csr_array(Y)),
        TypeError,
        "MLP.fit: `y` must be a dense array for mean_squared_error, got a scipy.csr_array",
    ),
    (
        _fit(Y + 1, loss="binary_cross_entropy"),
        ValueError,
        "MLP.fit: `y` must hold numbers in [0, 1], got 2.0 to 2.0",
    ),
    (
        _fit([0, 1, 2, 3, 0, 1], loss="cross_entropy"),
        ValueError,
        "MLP.fit: `y` must hold integers in [0, 2], got 3 at index (3,)",
    ),
    (
        _fit(Y * 0, loss="poisson"),
        ValueError,
        "MLP.fit: `losses[0].target` must have rows with a sum above zero, got row 0",
    ),
    (_fit(delta=0), ValueError, "MLP.fit: `delta` must be a finite number > 0.0, got 0"),
    (
        _fit(epochs=1, num_steps=1),
        TypeError,
        "MLP.fit: one of `epochs` and `num_steps` must be given, got both",
    ),
    (_fit(epochs=-1), ValueError, "MLP.fit: `epochs` must be an integer >= 0, got -1"),
    (_fit(num_steps=0.5), TypeError, "MLP.fit: `num_steps` must be an integer >= 0, got 0.5"),
    (_fit(batch_size=0), ValueError, "MLP.fit: `batch_size` must be an integer >= 1, got 0"),
    (
        _fit(optimizer="adam"),
        TypeError,
        "MLP.fit: `optimizer` must be an optimizer of hotloops.nn, got 'adam'",
    ),
    (_fit(ema=1.0), ValueError, "MLP.fit: `ema` must be a number in (0, 1), got 1.0"),
    (_fit(seed=-1), ValueError, "MLP.fit: `seed` must be an integer in [0, "),
    (_fit(state=3), TypeError, "MLP.fit: `state` must be the `state` of a result, got 3"),
    (_fit(progress=1), TypeError, "MLP.fit: `progress` must be True or False, got 1"),
    (
        _fit(max_seconds=-1),
        ValueError,
        "MLP.fit: `max_seconds` must be a finite number >= 0.0, got -1",
    ),
    (
        _fit(callback=print, callback_steps=0),
        ValueError,
        "MLP.fit: `callback_steps` must be an integer >= 1, got 0",
    ),
    (_fit(callback=3), TypeError, "MLP.fit: `callback` must be callable, got 3"),
    (
        _resume(parameters=np.zeros(3, np.float32)),
        ValueError,
        "MLP.fit: `state.parameters` must have shape (27,), got (3,)",
    ),
    (
        _resume(first_moment=np.zeros(27)),
        TypeError,
        "MLP.fit: `state.first_moment` must have dtype float32, got float64",
    ),
    (
        _resume(average=np.zeros(27, np.float32)),
        ValueError,
        "MLP.fit: `state.average` must have shape (0,), got (27,)",
    ),
    (
        _resume(batch_size=2),
        ValueError,
        "MLP.fit: `batch_size` must be 2 as in the run before, got 3",
    ),
    (
        _resume(num_steps=-1),
        ValueError,
        "MLP.fit: `state.num_steps` must be an integer in [0, ",
    ),
    (
        lambda: nn.MLP([2, 3, 1], norm="batch").fit(X, X[:, 0], batch_size=1),
        ValueError,
        "MLP.fit: `batch_size` must be at least 2 for a batch norm, got 1",
    ),
    (
        _train(lambda call: call.update(batch_size=62)),
        ValueError,
        "train: `batch_size` must be at most the 61 rows of the tables, got 62",
    ),
    (
        _train(lambda call: call.update(num_steps=None)),
        TypeError,
        "train: one of `epochs` and `num_steps` must be given, got neither",
    ),
    (
        _train(lambda call: call.update(num_steps=2**48)),
        OverflowError,
        "train: a run has at most 2**48 steps",
    ),
    (
        _train(lambda call: call.update(losses=[])),
        ValueError,
        "train: `losses` must not be empty, got []",
    ),
    (
        _train(lambda call: call.update(losses=["mse"])),
        TypeError,
        "train: `losses[0]` must be a Loss, got 'mse'",
    ),
    (_loss(kind="mse"), ValueError, "train: `losses[0].kind` must be one of 'mean_squared_error'"),
    (
        _loss(logits=nn.Operand(0, 0, 3)),
        ValueError,
        "train: `losses[0].logits` must be an operand of the program, got Operand(slot=0",
    ),
    (
        _loss(target=0),
        ValueError,
        "train: `losses[0].target` must be the number of a dense target table, 1 to 2, got 0",
    ),
    (
        _loss(target=2),
        ValueError,
        "train: `losses[0].target` must have 3 columns, got 2",
    ),
    (
        _loss(kind="cross_entropy"),
        ValueError,
        "train: `losses[0].target` must be the number of an index table, 0 to 0, got 1",
    ),
    (
        _loss(kind="poisson", target=0),
        ValueError,
        "train: `losses[0].target` must have 3 columns, got 7",
    ),
    (
        _loss(weight=np.nan),
        ValueError,
        "train: `losses[0].weight` must be a finite number, got nan",
    ),
    (
        _loss(delta=0.0, kind="huber"),
        ValueError,
        "train: `losses[0].delta` must be a finite number > 0.0, got 0.0",
    ),
    (
        _loss(log_theta=THETA),
        ValueError,
        "train: `losses[0].log_theta` must be None for mean_squared_error, got a parameter",
    ),
    (
        _loss(kind="negative_binomial", logits=autoencoder()[1][0].logits, target=0),
        ValueError,
        "train: `losses[0].log_theta` must be a parameter with 7 columns, got None",
    ),
    (
        _loss(
            kind="negative_binomial", logits=autoencoder()[1][0].logits, target=0, log_theta=THETA
        ),
        ValueError,
        "train: `losses[0].group` must pick one of the 3 rows of log_theta, got None",
    ),
    (
        _loss(
            kind="negative_binomial",
            logits=autoencoder()[1][0].logits,
            target=0,
            log_theta=THETA,
            group=1,
        ),
        ValueError,
        "train: `losses[0].group` must be the number of an index table, 0 to 0, got 1",
    ),
]


@pytest.mark.parametrize(
    ("call", "kind", "message"), ERRORS, ids=[f"{i:02d}" for i in range(len(ERRORS))]
)
def test_errors(call: Callable[[], Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=re.escape(message)):
        call()
