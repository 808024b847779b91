"""The count autoencoder as programs: one for training, and its two halves for use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hotloops._runtime import validate
from hotloops._runtime.validate import describe, fail
from hotloops.nn import ProgramBuilder
from hotloops.nn._layout import Operand, Program

__all__ = ["LIKELIHOODS", "TRANSFORMS", "Modality", "Programs", "build", "read_modalities"]

LIKELIHOODS = ("nb", "poisson", "bernoulli")
TRANSFORMS = ("log1p", "proportions", "log1p_scaled", "none")
_FIELDS = ("likelihood", "n_latent", "hidden", "transform")
_EPS, _MOMENTUM = 1e-5, 0.1


@dataclass(frozen=True)
class Modality:
    """One matrix of counts.

    Attributes
    ----------
    name : str
    likelihood : str
        Of `LIKELIHOODS`.
    n_latent : int
        Width of its own latent.
    hidden : tuple of int
        Hidden widths of the encoder; the decoder mirrors them.
    transform : str
        What the encoder reads; ``"binary"`` where the likelihood is Bernoulli.
    """

    name: str
    likelihood: str
    n_latent: int
    hidden: tuple[int, ...]
    transform: str

    @property
    def counted(self) -> bool:
        """Whether it has a size factor."""
        return self.likelihood != "bernoulli"


@dataclass(frozen=True)
class Programs:
    """What `build` returns.

    Attributes
    ----------
    training, encoder : Program
        The whole; latents from CSR tables. Parameters have the same names.
    decoder : Program or None
        What the last layers of the modalities read, from latents; None where that is the latents.
    logits : tuple of Operand
        Of each modality, in the whole.
    last : tuple of str
        Name of the last layer of each modality.
    width : int
        Columns of the latent.
    log_theta : dict of str
        Name of the parameter ln theta of each negative binomial modality.
    """

    training: Program
    encoder: Program
    decoder: Program | None
    logits: tuple[Operand, ...]
    last: tuple[str, ...]
    width: int
    log_theta: dict[str, str]


def read_modalities(
    function: str,
    modalities: Any,
    defaults: Mapping[str, Any],
) -> tuple[Modality, ...]:
    """Check the modalities; None is one, of RNA, with the defaults."""
    given = {"rna": {}} if modalities is None else modalities
    if not isinstance(given, Mapping) or not given:
        expectation = "be a dictionary of modalities"
        fail(TypeError, function, "modalities", expectation, describe(modalities))
    return tuple(_read_one(function, name, options, defaults) for name, options in given.items())


def build(
    modalities: Sequence[Modality],
    widths: Sequence[int],
    *,
    joint: int | None,
    dropout: float,
    theta_groups: int,
) -> Programs:
    """Write the three programs for matrices of these widths."""
    training = ProgramBuilder()
    z = _encode(training, modalities, widths, joint, dropout)
    logits, last, log_theta = [], [], {}
    counted = [item.name for item in modalities if item.likelihood == "nb"]
    tops = _decode(training, modalities, z, joint, dropout)
    for width, (top, name) in zip(widths, tops, strict=True):
        logits.append(training.dense(top, width, name=name))
        last.append(name)
    for item, width in zip(modalities, widths, strict=True):
        if item.likelihood == "nb":
            log_theta[item.name] = "theta" if len(counted) == 1 else f"theta.{item.name}"
            shape = (theta_groups, width)
            training.parameter(log_theta[item.name], shape, init="normal")
    encoder = ProgramBuilder()
    found = _encode(encoder, modalities, widths, joint, dropout)
    return Programs(
        training.finish(outputs=[z, *logits]),
        encoder.finish(outputs=[found]),
        _decoder(modalities, z.width, joint, dropout),
        tuple(logits),
        tuple(last),
        z.width,
        log_theta,
    )


def _decoder(
    modalities: Sequence[Modality], width: int, joint: int | None, dropout: float
) -> Program | None:
    if joint is None and not all(item.hidden for item in modalities):
        if any(item.hidden for item in modalities):
            raise ValueError(
                "CountAutoencoder: `hidden` must be empty for all modalities or for none"
            )
        return None
    decoder = ProgramBuilder()
    tops = _decode(decoder, modalities, decoder.input(width), joint, dropout)
    return decoder.finish(outputs=[top for top, _ in tops])


def _read_one(function: str, name: Any, options: Any, defaults: Mapping[str, Any]) -> Modality:
    if not isinstance(name, str) or not name or "." in name:
        fail(TypeError, function, "modalities", "have names without a dot", describe(name))
    argument = f"modalities[{name!r}]"
    if not isinstance(options, Mapping):
        fail(TypeError, function, argument, "be a dictionary of options", describe(options))
    unknown = [key for key in options if key not in _FIELDS]
    if unknown:
        expectation = f"have no keys but {', '.join(map(repr, _FIELDS))}"
        fail(ValueError, function, argument, expectation, repr(unknown[0]))
    chosen = {**defaults, **options}
    where = f"{argument}: " if options else ""
    likelihood = validate.choice(function, f"{where}likelihood", chosen["likelihood"], LIKELIHOODS)
    transform = validate.choice(function, f"{where}transform", chosen["transform"], TRANSFORMS)
    return Modality(
        name,
        likelihood,
        validate.integer(function, f"{where}n_latent", chosen["n_latent"], low=1),
        _read_widths(function, f"{where}hidden", chosen["hidden"]),
        "binary" if likelihood == "bernoulli" else transform,
    )


def _read_widths(function: str, argument: str, hidden: Any) -> tuple[int, ...]:
    if isinstance(hidden, str | bytes) or not isinstance(hidden, Sequence):
        fail(TypeError, function, argument, "be a list of widths", describe(hidden))
    return tuple(validate.integer(function, argument, width, low=1) for width in hidden)


def _encode(
    b: ProgramBuilder,
    modalities: Sequence[Modality],
    widths: Sequence[int],
    joint: int | None,
    dropout: float,
) -> Operand:
    side_by_side = b.slot(sum(item.n_latent for item in modalities))
    begin = 0
    for number, (item, width) in enumerate(zip(modalities, widths, strict=True)):
        part = side_by_side[begin : begin + item.n_latent]
        begin += item.n_latent
        name = f"encoder.{item.name}.net"
        first: dict[str, Any] = {"columns": width, "transform": item.transform}
        if not item.hidden:
            b.sparse_dense(number, output=part, name=f"{name}.0", **first)
            continue
        h = b.sparse_dense(number, width=item.hidden[0], name=f"{name}.0.0", **first)
        h = _finish_layer(b, h, f"{name}.0", dropout)
        h = _hidden_layers(b, h, item.hidden[1:], name, dropout, first=1)
        b.dense(h, output=part, name=f"{name}.{len(item.hidden)}")
    if joint is None:
        return side_by_side
    return b.dense(side_by_side, joint, name="encoder_joint.net.0")


def _decode(
    b: ProgramBuilder,
    modalities: Sequence[Modality],
    z: Operand,
    joint: int | None,
    dropout: float,
) -> list[tuple[Operand, str]]:
    """Return what the last layer of each modality reads, and its name."""
    tops, begin = [], 0
    for item in modalities:
        hidden = tuple(reversed(item.hidden))
        if joint is None:
            source = z[begin : begin + item.n_latent]
            begin += item.n_latent
        else:  # the shared latent comes back to the modality's own width first
            source, hidden = z, (item.n_latent, *hidden)
        name = f"decoder.{item.name}.net"
        tops.append((_hidden_layers(b, source, hidden, name, dropout), f"{name}.{len(hidden)}"))
    return tops


def _hidden_layers(
    b: ProgramBuilder,
    h: Operand,
    widths: Sequence[int],
    name: str,
    dropout: float,
    first: int = 0,
) -> Operand:
    for number, width in enumerate(widths, start=first):
        h = _finish_layer(
            b, b.dense(h, width, name=f"{name}.{number}.0"), f"{name}.{number}", dropout
        )
    return h


def _finish_layer(b: ProgramBuilder, h: Operand, name: str, dropout: float) -> Operand:
    h = b.batch_norm(h, activation="elu", eps=_EPS, momentum=_MOMENTUM, name=f"{name}.1")
    return b.dropout(h, dropout) if dropout > 0.0 else h
