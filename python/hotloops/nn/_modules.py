"""Networks that need no builder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hotloops._runtime import validate
from hotloops._runtime.validate import describe, fail
from hotloops.nn._layout import ACTIVATIONS, Operand
from hotloops.nn._network import Network
from hotloops.nn._program import ProgramBuilder

__all__ = ["MLP", "Embedding", "ResidualMLP", "TimeEmbedding"]

_NORMS = ("batch", "layer")


class MLP(Network):
    """A multilayer perceptron: linear layers, each but the last with norm, activation, dropout.

    Parameters
    ----------
    widths : sequence of int
        Of the input, the hidden layers and the output: at least two.
    activation : str
        Of the hidden layers: ``"relu"`` (default), ``"elu"``, ``"silu"``, ``"gelu"``, ``"tanh"``,
        ``"sigmoid"``, ``"softplus"`` or ``"identity"``.
    norm : {"batch", "layer"}, optional
        Between linear layer and activation; default none.
    dropout : float
        Probability in [0, 1) after each activation; default 0, which adds no layers.
    dtype : {"float32", "float64"}
    seed : int
        Of the initial weights, which are uniform between -1/sqrt(inputs) and 1/sqrt(inputs), and of
        dropout.

    Raises
    ------
    TypeError, ValueError
        Arguments of the wrong type or range.

    See Also
    --------
    Network : What it can do.

    Notes
    -----
    Parameters are named as those of ``torch.nn.Sequential`` of the same layers, "0.weight",
    "0.bias", ..., so that `load_state_dict` takes the state of one. Class B.

    Examples
    --------
    >>> import numpy as np
    >>> from hotloops import nn
    >>> rng = np.random.default_rng(0)
    >>> x = rng.uniform(-1, 1, (512, 2))
    >>> network = nn.MLP([2, 32, 1], "tanh", dtype="float64")
    >>> result = network.fit(x, x[:, 0] * x[:, 1], epochs=200, batch_size=64)
    >>> bool(result.losses[-1, 0] < 0.01)
    True
    """

    def __init__(
        self,
        widths: Any,
        activation: str = "relu",
        *,
        norm: str | None = None,
        dropout: float = 0.0,
        dtype: Any = "float32",
        seed: int = 0,
    ) -> None:
        if not isinstance(widths, Sequence) or isinstance(widths, str):
            fail(TypeError, "MLP", "widths", "be a sequence of integers", describe(widths))
        sizes = [validate.integer("MLP", f"widths[{i}]", w, low=1) for i, w in enumerate(widths)]
        if len(sizes) < 2:
            fail(ValueError, "MLP", "widths", "have at least two elements", str(len(sizes)))
        _check_layers("MLP", activation, norm)
        p = _probability("MLP", dropout)
        builder = ProgramBuilder()
        x = builder.input(sizes[0])
        place = 0
        for width in sizes[1:-1]:
            inner = "identity" if norm else activation
            x = builder.dense(x, width, activation=inner, name=str(place))
            place += 1
            if norm:
                x = _norm(builder, norm, x, activation, str(place))
                place += 1
            place += activation != "identity"
            if p > 0.0:
                x = builder.dropout(x, p)
                place += 1
        y = builder.dense(x, sizes[-1], name=str(place))
        super().__init__(builder.finish([y]), dtype=dtype, seed=seed)


class ResidualMLP(Network):
    """A linear layer, blocks ``h <- h + W2 f(W1 f(h))``, and a linear layer of ``f(h)``.

    Parameters
    ----------
    inputs, hidden, outputs : int
        Widths.
    num_blocks : int
        Default 3.
    activation : str
        Name of f, as in `MLP`; default ``"silu"``.
    norm : {"batch", "layer"}, optional
        Before every f; default none.
    dropout : float
        Before W2; default 0.
    dtype : {"float32", "float64"}
    seed : int
        Of the initial weights and of dropout. Weights are truncated normals of variance 1/inputs,
        W2 is zero, so that every block begins as the identity.

    Raises
    ------
    TypeError, ValueError
        Arguments of the wrong type or range.

    Notes
    -----
    The block is that of K. He, X. Zhang, S. Ren, J. Sun, "Identity mappings in deep residual
    networks", ECCV 2016, figure 1(b). Class B.

    Examples
    --------
    >>> import numpy as np
    >>> from hotloops import nn
    >>> network = nn.ResidualMLP(5, 16, 2, num_blocks=2)
    >>> network(np.zeros((3, 5), np.float32)).shape
    (3, 2)
    """

    def __init__(
        self,
        inputs: int,
        hidden: int,
        outputs: int,
        *,
        num_blocks: int = 3,
        activation: str = "silu",
        norm: str | None = None,
        dropout: float = 0.0,
        dtype: Any = "float32",
        seed: int = 0,
    ) -> None:
        where = "ResidualMLP"
        sizes = {"inputs": inputs, "hidden": hidden, "outputs": outputs}
        for argument, value in sizes.items():
            validate.integer(where, argument, value, low=1)
        blocks = validate.integer(where, "num_blocks", num_blocks, low=0)
        _check_layers(where, activation, norm)
        p = _probability(where, dropout)
        builder = ProgramBuilder()

        def bend(h: Operand, name: str) -> Operand:
            if norm:
                return _norm(builder, norm, h, activation, name)
            return builder.activation(h, activation)

        h = builder.dense(builder.input(inputs), hidden, init="truncated", name="net_in")
        for k in range(blocks):
            inner = bend(h, f"blocks.{k}.norm1")
            then = "identity" if norm else activation
            inner = builder.dense(
                inner, hidden, activation=then, init="truncated", name=f"blocks.{k}.linear1"
            )
            if norm:
                inner = bend(inner, f"blocks.{k}.norm2")
            if p > 0.0:
                inner = builder.dropout(inner, p)
            name = f"blocks.{k}.linear2"
            h = builder.dense(inner, hidden, addend=h, init="zeros", name=name)
        y = builder.dense(bend(h, "norm_out"), outputs, init="truncated", name="net_out")
        super().__init__(builder.finish([y]), dtype=dtype, seed=seed)


class Embedding(Network):
    """A table whose rows are picked by indices.

    Parameters
    ----------
    num_rows, width : int
    dtype : {"float32", "float64"}
    seed : int
        Of the initial table, which is standard normal.

    Raises
    ------
    TypeError, ValueError
        Arguments of the wrong type or range.

    Notes
    -----
    Index -1 gives zeros. The parameter is called "weight". Class A.

    Examples
    --------
    >>> from hotloops import nn
    >>> table = nn.Embedding(10, 4)
    >>> table([3, -1, 3]).shape
    (3, 4)
    """

    def __init__(self, num_rows: int, width: int, *, dtype: Any = "float32", seed: int = 0) -> None:
        rows = validate.integer("Embedding", "num_rows", num_rows, low=1)
        columns = validate.integer("Embedding", "width", width, low=1)
        builder = ProgramBuilder()
        y = builder.embedding(0, num_rows=rows, width=columns, name="")
        super().__init__(builder.finish([y]), dtype=dtype, seed=seed)


class TimeEmbedding(Network):
    """Sines and cosines of a time at many frequencies, and two linear layers over them.

    Parameters
    ----------
    width : int
        Even; of the waves and of the output.
    scale : float
        Factor of the time; default 1000, for times in [0, 1].
    activation : str
        Between the linear layers, as in `MLP`; default ``"silu"``.
    waves_only : bool
        Leave the linear layers out; default False.
    dtype : {"float32", "float64"}
    seed : int
        Of the initial weights.

    Raises
    ------
    TypeError, ValueError
        Arguments of the wrong type or range.

    Notes
    -----
    The waves are ``sin(scale t f_j)`` for all j and then ``cos(scale t f_j)``, with
    ``f_j = 10000^(-j / (width / 2 - 1))``; their arguments are computed in float64. Linear layers
    are called "0" and "2". Class B.

    References
    ----------
    A. Vaswani et al., "Attention is all you need", NeurIPS 2017, section 3.5.

    Examples
    --------
    >>> from hotloops import nn
    >>> waves = nn.TimeEmbedding(6, waves_only=True, dtype="float64")
    >>> waves([[0.37]]).round(6)
    array([[-0.650265, -0.529836,  0.036992,  0.759708, -0.8481  ,  0.999316]])
    """

    def __init__(
        self,
        width: int,
        *,
        scale: float = 1000.0,
        activation: str = "silu",
        waves_only: bool = False,
        dtype: Any = "float32",
        seed: int = 0,
    ) -> None:
        where = "TimeEmbedding"
        columns = validate.integer(where, "width", width, low=2)
        if columns % 2:
            fail(ValueError, where, "width", "be even", str(columns))
        factor = validate.real(where, "scale", scale)
        validate.choice(where, "activation", activation, ACTIVATIONS)
        builder = ProgramBuilder()
        y = builder.time_embedding(builder.input(1), columns, scale=factor)
        if not validate.boolean(where, "waves_only", waves_only):
            init = "truncated"
            y = builder.dense(y, columns, activation=activation, init=init, name="0")
            y = builder.dense(y, columns, init=init, name="2")
        super().__init__(builder.finish([y]), dtype=dtype, seed=seed)


def _check_layers(where: str, activation: Any, norm: Any) -> None:
    validate.choice(where, "activation", activation, ACTIVATIONS)
    if norm is not None:
        validate.choice(where, "norm", norm, _NORMS)


def _probability(where: str, dropout: Any) -> float:
    p = validate.real(where, "dropout", dropout, low=0.0)
    if p >= 1.0:
        fail(ValueError, where, "dropout", "be a number in [0, 1)", describe(dropout))
    return p


def _norm(builder: ProgramBuilder, norm: str, x: Operand, activation: str, name: str) -> Operand:
    if norm == "batch":
        return builder.batch_norm(x, activation=activation, name=name)
    return builder.layer_norm(x, activation=activation, name=name)
