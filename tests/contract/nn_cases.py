"""Small networks in the contract: everything but products of matrices, which are BLAS's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse

from hotloops import nn, use_backend
from hotloops.nn import ProgramBuilder
from hotloops.nn._layout import ACTIVATIONS
from tests.contract.sgd_problems import Argument, Array, fractions

ROWS, WIDTH = 70, 37
SEED = 0x0123456789ABCDEF
STEP = 2**32 - 3

PASS = (
    Argument("x", "data", ("n", "d")),
    Argument("parameters", "data", ("p",)),
    Argument("buffers", "state", ("b",)),
    Argument("y", "out", ("n", "w")),
    Argument("parameter_gradient", "out", ("p",)),
    Argument("x_gradient", "out", ("n", "d")),
)
LOSS = (
    Argument("logits", "data", ("n", "w")),
    Argument("gradient", "out", ("n", "w")),
    Argument("row_losses", "out", ("n",), "float64"),
)
UPDATE = (
    Argument("parameters", "state", ("p",)),
    Argument("first_moment", "state", ("p",)),
    Argument("second_moment", "state", ("p",)),
    Argument("gradient", "data", ("p",)),
)

Call = Callable[..., list[Array]]


def _passes(write: Callable[[ProgramBuilder, Any], Any], width: int = WIDTH) -> Call:
    """Forward and backward of one layer, in training and not."""

    def call(dtype: str, **options: Any) -> list[Array]:
        b = ProgramBuilder()
        network = nn.Network(b.finish([write(b, b.input(width))]), dtype=dtype, seed=SEED)
        kind = np.dtype(dtype).type
        if network.num_parameters:
            network.flat_parameters[:] = fractions((network.num_parameters,), 1, kind)
        x = fractions((ROWS, width), 2, kind) * kind(3)
        index = [np.arange(ROWS) % 5 - 1] if network.program.index_tables else []
        found = []
        for training in (False, True):
            y = network.forward(x, *index, training=training, step=STEP, **options)
            gradient = network.backward(fractions(y.shape, 3, kind))
            found += [y, gradient, network.flat_gradients.copy(), network.flat_buffers.copy()]
        return found

    return call


def _activations(dtype: str, **options: Any) -> list[Array]:
    found = []
    for name in ACTIVATIONS:
        found += _passes(lambda b, x, f=name: b.activation(x, f))(dtype, **options)
    return found


def _losses(dtype: str, **options: Any) -> list[Array]:
    kind = np.dtype(dtype).type
    h, y = fractions((ROWS, WIDTH), 4, kind), fractions((ROWS, WIDTH), 5, kind)
    whole = np.maximum(y * kind(32), 0)
    whole[:, 0] += 1
    counts, bits = scipy.sparse.csr_array(whole), scipy.sparse.csr_array((y > 1).astype(dtype))
    labels, groups = np.arange(ROWS) % WIDTH, np.arange(ROWS) % 3
    log_theta = fractions((3, WIDTH), 6, kind) * kind(2)
    results = (
        nn.mean_squared_error(h, y, **options),
        nn.huber(h, y, 0.75, **options),
        nn.cross_entropy(h, labels, **options),
        nn.binary_cross_entropy(h, bits, **options),
        nn.binary_cross_entropy(h, bits.toarray(), **options),
        nn.poisson_nll(h, counts, **options),
        nn.negative_binomial_nll(h, counts, log_theta, groups, **options),
    )
    return [np.asarray(item) for result in results for item in result]


def _updates(dtype: str, **options: Any) -> list[Array]:
    kind = np.dtype(dtype).type
    found = []
    for optimizer in (
        nn.Adam(0.125, weight_decay=0.25),
        nn.AdamW(0.0625, weight_decay=0.5, clip_norm=8.0),
    ):
        p = fractions((40_009,), 7, kind)
        for step in range(3):
            norm = optimizer.step(p, fractions((p.size,), 8 + step, kind), **options)
        found += [np.asarray(norm), p, optimizer.first_moment, optimizer.second_moment]
    return found


def _initial(dtype: str, **options: Any) -> list[Array]:
    b = ProgramBuilder()
    x = b.input(9)
    for init in ("uniform", "truncated", "normal"):
        x = b.dense(x, 11, init=init, addend=x if x.width == 11 else None)
    with use_backend(options.get("backend")):
        return [nn.Network(b.finish([x]), dtype=dtype, seed=SEED).flat_parameters]


CASES: dict[str, tuple[str, tuple[Argument, ...], Call]] = {
    "activations": ("activation", PASS, _activations),
    "batch_norm": ("batch_norm", PASS, _passes(lambda b, x: b.batch_norm(x, activation="elu"))),
    "layer_norm": ("layer_norm", PASS, _passes(lambda b, x: b.layer_norm(x, activation="silu"))),
    "dropout": ("dropout", PASS, _passes(lambda b, x: b.dropout(b.dropout(x, 0.25), 0.375))),
    "embedding": (
        "embedding",
        PASS,
        _passes(lambda b, x: b.embedding(0, num_rows=4, width=WIDTH, addend=x)),
    ),
    "time_embedding": (
        "time_embedding",
        PASS,
        _passes(lambda b, x: b.time_embedding(x, 26, scale=250.0), 1),
    ),
    "losses": ("loss", LOSS, _losses),
    "updates": ("update", UPDATE, _updates),
    "initial parameters": ("initial", (), _initial),
}
