"""The velocity network of the paper."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops._runtime import arrays, validate
from hotloops.flow._branches import on_host
from hotloops.flow._once import evaluate_once
from hotloops.flow._velocity_program import NORMALIZATIONS, velocity_program
from hotloops.nn import Network

__all__ = ["SIZES", "VelocityNetwork", "check_attributes"]

SIZES = {"small": (32, 20, 3), "big": (64, 100, 3)}


class VelocityNetwork(Network):
    """A residual MLP ``v(z, t, size factors, labels)`` for flow matching.

    The time and the size factors are embedded by sines and cosines and a network of two layers
    each, a label by a row of a table; their sum enters every residual block. Its output is the
    velocity of each row.

    Parameters
    ----------
    dim : int
        Width of z.
    hidden, embed, blocks : int
        Widths of the blocks and of the embeddings (even), and number of blocks. Default 32, 20, 3:
        the paper's ``"small"``.
    size : {"small", "big"}, optional
        The paper's settings by name, instead of the three: "big" is 64, 100, 3.
    attributes : dict of int, optional
        Names of attributes and their numbers of categories.
    size_range : tuple of float, or list of those, optional
        Least and largest logarithm of the size factors, which are scaled to [0, 1] by it; one pair
        for each modality. Default None: size factors aren't embedded.
    normalization : {"none", "layer", "batch"}
        Before every SiLU of the blocks and of the head. Default "none", as in the paper.
    dropout : float
        In training, before the last layer of a block. Default 0.
    dtype : {"float32", "float64"}
        Default float32.
    seed : int
        Of the initial parameters: weights from truncated normals of variance 1 / inputs, the last
        layer of each block zero, embeddings standard normal. Default 0.

    Attributes
    ----------
    dim, hidden, embed, blocks : int
    attributes : dict of int
    size_range : tuple of pairs
    normalization : str
    dropout : float

    Raises
    ------
    TypeError, ValueError
        Arguments of the wrong type or range.

    Notes
    -----
    Parameters are named as in the authors' implementation (``time_embedder.0.weight``, ...,
    ``net_out.1.bias``), so a state dict of theirs can be loaded by name; the tables of the
    attributes are ``attributes.NAME.weight``. The bits of `integrate` don't depend on rows, tiles
    and threads with ``backend="cpp"`` (class A); ``"numba"`` uses BLAS and is close (class B).

    A. Palma et al., "Multi-Modal and Multi-Attribute Generation of Single Cells with CFGen", ICLR
    2025, arXiv:2407.11734.

    Examples
    --------
    >>> import numpy as np
    >>> from hotloops import flow
    >>> network = flow.VelocityNetwork(2, attributes={"kind": 3})
    >>> flow.integrate(network, np.zeros((5, 2), np.float32), labels={"kind": 1}).shape
    (5, 2)
    """

    def __init__(
        self,
        dim: int,
        hidden: int | None = None,
        embed: int | None = None,
        blocks: int | None = None,
        *,
        size: str | None = None,
        attributes: Mapping[str, int] | None = None,
        size_range: Any = None,
        normalization: str = "none",
        dropout: float = 0.0,
        dtype: Any = "float32",
        seed: int = 0,
    ) -> None:
        where = "VelocityNetwork"
        if size is not None and (hidden, embed, blocks) != (None, None, None):
            expectation = "be None where widths are given"
            validate.fail(ValueError, where, "size", expectation, validate.describe(size))
        named = SIZES[validate.choice(where, "size", size or "small", tuple(SIZES))]
        widths = [
            usual if given is None else given
            for given, usual in zip((hidden, embed, blocks), named, strict=True)
        ]
        self.dim = validate.integer(where, "dim", dim, low=1)
        self.hidden = validate.integer(where, "hidden", widths[0], low=1)
        self.embed = validate.integer(where, "embed", widths[1], low=2)
        if self.embed % 2:
            validate.fail(ValueError, where, "embed", "be even", str(self.embed))
        self.blocks = validate.integer(where, "blocks", widths[2], low=1)
        self.attributes = check_attributes(where, attributes)
        self.size_range = _check_range(where, size_range)
        self.normalization = validate.choice(where, "normalization", normalization, NORMALIZATIONS)
        self.dropout = validate.real(where, "dropout", dropout, low=0.0)
        if self.dropout >= 1.0:
            validate.fail(ValueError, where, "dropout", "be below 1", str(dropout))
        super().__init__(self._program(), dtype=dtype, seed=seed)

    def _program(self) -> Any:
        return velocity_program(
            self.dim,
            self.hidden,
            self.embed,
            self.blocks,
            self.attributes,
            len(self.size_range),
            self.normalization,
            self.dropout,
        )

    def velocity(
        self,
        z: Any,
        t: Any,
        labels: Any = None,
        *,
        weights: Any = None,
        log_size: Any = None,
        backend: str | None = None,
        num_threads: int | None = None,
    ) -> Any:
        """Evaluate the velocity once.

        Parameters
        ----------
        z : array_like, shape (n, dim)
            In host memory or on a GPU.
        t : float or array_like, shape (n,)
        labels, weights : optional
            As in `guided_velocity`. Without weights all labels are seen at once.
        log_size : array_like, shape (n,) or (n, modalities), optional
            Logarithms of the size factors.
        backend, num_threads : optional
            As in `integrate`.

        Returns
        -------
        array, shape (n, dim)
            In the library of `z`.
        """
        return evaluate_once(
            "VelocityNetwork.velocity",
            self,
            z,
            t,
            labels,
            weights,
            log_size=log_size,
            backend=backend,
            num_threads=num_threads,
        )

    def size_inputs(self, where: str, log_size: Any, n: int) -> list[npt.NDArray[Any]]:
        """Return the scaled size factors (n, 1) of each modality, for kernels."""
        modalities = len(self.size_range)
        if log_size is None or modalities == 0:
            if (log_size is None) != (modalities == 0):
                expectation = (
                    "be None, as the network embeds no size factors"
                    if modalities == 0
                    else "be given, as the network embeds size factors"
                )
                validate.fail(ValueError, where, "log_size", expectation, _came(log_size))
            return []
        host = on_host(where, "log_size", log_size)
        values = validate.array(
            where, "log_size", host, ndim=(0, 1, 2), dtype=np.float64, empty=True
        )
        if values.ndim < 2:
            values = np.broadcast_to(values, (n,) if values.ndim == 0 else values.shape)[:, None]
        if values.shape != (n, modalities):
            one = f"({n},) or " if modalities == 1 else ""
            expectation = f"have shape {one}({n}, {modalities})"
            validate.fail(ValueError, where, "log_size", expectation, str(np.shape(log_size)))
        return [
            ((values[:, i : i + 1] - low) / (high - low)).astype(self.dtype)
            for i, (low, high) in enumerate(self.size_range)
        ]

    def to_file(self) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        header, held = super().to_file()
        names = ("dim", "hidden", "embed", "blocks", "attributes", "normalization", "dropout")
        settings = {name: getattr(self, name) for name in names}
        settings["size_range"] = [list(pair) for pair in self.size_range]
        return {**header, "velocity": settings}, held

    @classmethod
    def from_file(
        cls, header: Mapping[str, Any], held: Mapping[str, npt.NDArray[Any]]
    ) -> VelocityNetwork:
        if "velocity" not in header:
            raise ValueError("VelocityNetwork.load: the file holds a network of another kind")
        network = super().from_file(header, held)
        for name, value in header["velocity"].items():
            setattr(network, name, value)
        network.size_range = tuple((low, high) for low, high in header["velocity"]["size_range"])
        return network

    def copy(self) -> VelocityNetwork:
        other = super().copy()
        for name, value in self.__dict__.items():
            if name not in other.__dict__:
                setattr(other, name, value)
        return other


def check_attributes(where: str, attributes: Any) -> dict[str, int]:
    """Return names of attributes and numbers of categories, checked."""
    if attributes is None:
        return {}
    if not isinstance(attributes, Mapping):
        expectation = "be a dict of numbers of categories"
        validate.fail(TypeError, where, "attributes", expectation, validate.describe(attributes))
    checked = {}
    for name, categories in attributes.items():
        if not isinstance(name, str) or not name:
            expectation = "be named by words"
            validate.fail(TypeError, where, "attributes", expectation, validate.describe(name))
        argument = f"attributes[{name!r}]"
        checked[name] = validate.integer(where, argument, categories, low=1, high=2**31 - 1)
    return checked


def _check_range(where: str, size_range: Any) -> tuple[tuple[float, float], ...]:
    if size_range is None:
        return ()
    host, _ = arrays.import_array(where, "size_range", size_range)
    pairs = validate.array(where, "size_range", host, ndim=(1, 2), dtype=np.float64)
    pairs = pairs.reshape(1, -1) if pairs.ndim == 1 else pairs
    if pairs.shape[1] != 2 or np.any(pairs[:, 0] >= pairs[:, 1]):
        expectation = "be pairs of a least and a largest logarithm"
        validate.fail(ValueError, where, "size_range", expectation, str(size_range))
    return tuple((float(low), float(high)) for low, high in pairs)


def _came(value: object) -> str:
    return validate.describe(value)
