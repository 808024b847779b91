"""The two halves of a trained autoencoder, and what is computed with them chunk by chunk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops._runtime import arrays, validate
from hotloops._runtime.validate import describe, fail
from hotloops.flow._autoencoder_program import Modality, build
from hotloops.flow._decode import decode_counts
from hotloops.flow._labels import Codes, Labels
from hotloops.flow._likelihood import clip_log_theta, log_likelihood
from hotloops.flow._matrices import CountMatrix, row_chunks
from hotloops.nn import Network

__all__ = ["TrainedAutoencoder", "read_sizes"]

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]

_ELEMENTS = 1 << 21  # logits that are held at a time


class TrainedAutoencoder:
    """Encoder and decoder in evaluation mode, with the dispersions.

    Parameters
    ----------
    modalities : tuple of Modality
    widths : tuple of int
        Features of each.
    joint : int or None
    groups : Labels or None
        Categories with dispersions of their own.
    dropout : float
        Of the training.
    dtype : dtype
    backend : str or None
    num_threads : int or None
    """

    def __init__(
        self,
        modalities: Sequence[Modality],
        widths: Sequence[int],
        joint: int | None,
        groups: Labels | None,
        dropout: float,
        dtype: np.dtype[Any],
        backend: str | None,
        num_threads: int | None,
    ) -> None:
        self.modalities, self.widths = tuple(modalities), tuple(widths)
        self.joint, self.groups, self.dtype = joint, groups, dtype
        self.programs = build(
            modalities,
            widths,
            joint=joint,
            dropout=dropout,
            theta_groups=1 if groups is None else len(groups),
        )
        self._run: dict[str, Any] = {"backend": backend, "num_threads": num_threads}
        self.encoder = Network(self.programs.encoder, dtype=dtype)
        self.decoder = None
        if self.programs.decoder is not None:
            self.decoder = Network(self.programs.decoder, dtype=dtype)
        self.last: dict[str, tuple[Array, Array]] = {}
        self.log_theta: dict[str, Float64] = {}

    @property
    def width(self) -> int:
        """Columns of the latent."""
        return self.programs.width

    @property
    def counted(self) -> tuple[str, ...]:
        """Names of the modalities that have a size factor."""
        return tuple(item.name for item in self.modalities if item.counted)

    def load(self, function: str, state: Mapping[str, Any]) -> None:
        """Take the parameters from a state dict in torch's layout that holds no others."""
        for network in filter(None, (self.encoder, self.decoder)):
            names = {*network.program.parameters, *network.program.buffers}
            network.load_state_dict({k: v for k, v in state.items() if k in names})
        for number, (item, width) in enumerate(zip(self.modalities, self.widths, strict=True)):
            name = self.programs.last[number]
            inputs = self.programs.training.parameters[f"{name}.weight"].shape[1]
            self.last[item.name] = (
                self._array(function, state, f"{name}.weight", (width, inputs)),
                self._array(function, state, f"{name}.bias", (width,)),
            )
            if item.likelihood == "nb":
                name = self.programs.log_theta[item.name]
                rows = self.programs.training.parameters[name].shape[0]
                log_theta = self._array(function, state, name, (rows, width))
                self.log_theta[item.name] = log_theta.astype(np.float64)

    def _array(
        self, function: str, state: Mapping[str, Any], name: str, shape: tuple[int, ...]
    ) -> Array:
        if name not in state:
            fail(ValueError, function, "state", f"hold {name!r}", "nothing of that name")
        given = validate.array(function, name, _host(state[name]), dtype=self.dtype)
        if given.size != int(np.prod(shape)):
            fail(ValueError, function, name, f"have shape {shape}", f"shape {given.shape}")
        found: Array = given.reshape(shape)
        return found

    def state(self) -> dict[str, Array]:
        """Return all parameters in torch's layout."""
        state = self.encoder.state_dict()
        if self.decoder is not None:
            state |= self.decoder.state_dict()
        for name, (weight, bias) in zip(self.programs.last, self.last.values(), strict=True):
            state |= {f"{name}.weight": weight, f"{name}.bias": bias}
        for modality, value in self.log_theta.items():
            state[self.programs.log_theta[modality]] = value.astype(self.dtype)
        return state

    def encode(self, matrices: Sequence[CountMatrix]) -> Array:
        """Return latents, shape (rows, width)."""
        z = np.empty((matrices[0].rows, self.width), self.dtype)
        for rows in row_chunks(len(z)):
            parts = [matrix.take(rows).to_csr() for matrix in matrices]
            z[rows] = self.encoder.forward(*parts, **self._run)
        return z

    def tops(self, z: Array) -> list[Array]:
        """Return what the last layer of each modality reads."""
        if self.decoder is None:
            ends = np.cumsum([0, *(item.n_latent for item in self.modalities)]).tolist()
            xp = arrays.common_library("decode", {"z": z}).xp
            return [xp.ascontiguousarray(z[:, begin:end]) for begin, end in pairwise(ends)]
        found = self.decoder.forward(z, **self._how(z))
        return list(found) if len(self.modalities) > 1 else [found]

    def decode(
        self,
        z: Array,
        sizes: Mapping[str, Float64],
        codes: Codes | None,
        kind: str,
        seed: int,
        first: int,
    ) -> dict[str, Any]:
        """Return means, or counts as CSR or dense, of each modality."""
        found = {}
        for number, (item, top) in enumerate(zip(self.modalities, self.tops(z), strict=True)):
            theta = None
            if item.likelihood == "nb":
                theta = np.exp(clip_log_theta(self.log_theta[item.name]))
            found[item.name] = decode_counts(
                top,
                *self.last[item.name],
                sizes[item.name] if item.counted else None,
                theta,
                theta_index=codes if theta is not None and len(theta) > 1 else None,
                likelihood=item.likelihood,
                output=kind,
                seed=seed,
                step=number,
                first_row=first,
                **self._how(top),
            )
        return found

    def _how(self, array: Any) -> dict[str, Any]:
        """Return backend and threads; what lies on a GPU stays there."""
        device = arrays.common_library("decode", {"z": array}).device
        return self._run if device == "cpu" else {**self._run, "backend": "cuda"}

    def log_likelihood(
        self, matrices: Sequence[CountMatrix], z: Array | None, codes: Codes | None
    ) -> Float64:
        """Return log p of each cell at the totals of its own."""
        total = np.zeros(matrices[0].rows)
        for rows in self._chunks(len(total)):
            parts = [matrix.take(rows) for matrix in matrices]
            latents = self.encode(parts) if z is None else z[rows]
            for item, part, top in zip(self.modalities, parts, self.tops(latents), strict=True):
                weight, bias = self.last[item.name]
                theta = self._theta(item, codes, rows)
                h = top @ weight.T + bias
                total[rows] += log_likelihood(item.likelihood, part, h, part.totals, theta)
        return total

    def _chunks(self, rows: int) -> Any:
        return row_chunks(rows, max(1, _ELEMENTS // sum(self.widths)))

    def _theta(self, item: Modality, codes: Codes | None, rows: slice) -> Float64 | None:
        if item.likelihood != "nb":
            return None
        log_theta = clip_log_theta(self.log_theta[item.name])
        return log_theta if codes is None else log_theta[codes[rows]]


def read_sizes(function: str, counted: Sequence[str], value: Any, rows: int) -> dict[str, Float64]:
    """Return L of each counted modality, shape (rows,), from whatever gives it."""
    if not counted:
        return {}
    if value is None:
        fail(TypeError, function, "size_factor", "be given for counts", "None")
    if isinstance(value, Mapping):
        missing = [name for name in counted if name not in value]
        if missing:
            there = ", ".join(map(repr, value)) or "none"
            fail(ValueError, function, "size_factor", f"have a key {missing[0]!r}", there)
        columns = [value[name] for name in counted]
    else:
        columns = _columns(function, value, rows, len(counted))
    return {
        name: _one_size(function, column, rows)
        for name, column in zip(counted, columns, strict=True)
    }


def _columns(function: str, value: Any, rows: int, count: int) -> list[Any]:
    given = validate.as_array(function, "size_factor", value)
    if given.ndim < 2 and count == 1:
        return [given]
    if given.shape != (rows, count):
        shape = f"({rows},)" if count == 1 else f"({rows}, {count})"
        fail(ValueError, function, "size_factor", f"have shape {shape}", describe(value))
    return [given[:, k] for k in range(count)]


def _one_size(function: str, value: Any, rows: int) -> Float64:
    given = validate.as_array(function, "size_factor", value)
    if given.ndim == 0:
        return np.full(rows, validate.real(function, "size_factor", value, low=0.0, open_low=True))
    checked: Float64 = validate.array(
        function, "size_factor", given, shape=(rows,), dtype=np.float64, positive=True
    )
    return checked


def _host(value: Any) -> Any:
    return value.detach().cpu().numpy() if hasattr(value, "detach") else value
