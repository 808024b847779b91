"""The network of the paper as a program: a residual MLP that sees time, size factors and labels."""

from __future__ import annotations

from collections.abc import Mapping

from hotloops.nn import Operand, Program, ProgramBuilder

__all__ = ["NORMALIZATIONS", "TIME_SCALE", "velocity_program"]

NORMALIZATIONS = ("none", "layer", "batch")
TIME_SCALE = 1000.0


def velocity_program(
    dim: int,
    hidden: int,
    embed: int,
    blocks: int,
    attributes: Mapping[str, int],
    num_sizes: int,
    normalization: str,
    dropout: float,
) -> Program:
    """Write the program; its inputs are z, t, one size factor in [0, 1] for each modality, and one
    table of indices for each attribute.

    The names of the parameters are those of the official implementation, in which a normalisation
    or a dropout moves the layers that follow in the same sequence by one.
    """
    b = ProgramBuilder()
    x, t = b.input(dim), b.input(1)
    sizes = [b.input(1) for _ in range(num_sizes)]
    e = _embed(b, t, embed, "time_embedder", None)
    for size in sizes:
        e = _embed(b, size, embed, "size_factor_embedder", e)
    for number, (name, categories) in enumerate(attributes.items()):
        label = f"attributes.{name}"
        e = b.embedding(number, num_rows=categories, width=embed, addend=e, name=label)
    condition = b.activation(e, "silu")
    shift = 0 if normalization == "none" else 1
    h = b.dense(x, hidden, init="truncated", name="net_in")
    for k in range(blocks):
        block = f"blocks.{k}"
        inner = _before(b, h, normalization, f"{block}.net1.0")
        projection = b.dense(condition, hidden, init="truncated", name=f"{block}.cond_proj.1")
        p = _hidden(b, inner, hidden, projection, normalization, block, shift)
        if dropout > 0.0:
            p = b.dropout(p, dropout)
        last = f"{block}.net2.{1 + shift + (dropout > 0.0)}"
        h = b.dense(p, hidden, addend=h, init="zeros", name=last)
    top = _before(b, h, normalization, "net_out.0")
    v = b.dense(top, dim, init="truncated", name=f"net_out.{1 + shift}")
    return b.finish(outputs=[v])


def _embed(b: ProgramBuilder, x: Operand, width: int, name: str, addend: Operand | None) -> Operand:
    """Embed a number, add what there is already."""
    phi = b.time_embedding(x, width, scale=TIME_SCALE)
    first, second = f"{name}.0", f"{name}.2"
    h = b.dense(phi, width, activation="silu", init="truncated", name=first, shared=True)
    return b.dense(h, width, addend=addend, init="truncated", name=second, shared=True)


def _before(b: ProgramBuilder, x: Operand, normalization: str, name: str) -> Operand:
    """Normalise where asked for, then SiLU."""
    if normalization == "layer":
        return b.layer_norm(x, activation="silu", name=name)
    if normalization == "batch":
        return b.batch_norm(x, activation="silu", name=name)
    return b.activation(x, "silu")


def _hidden(
    b: ProgramBuilder,
    x: Operand,
    width: int,
    projection: Operand,
    normalization: str,
    block: str,
    shift: int,
) -> Operand:
    """The inner layer of a block, with what follows it up to the dropout."""
    name = f"{block}.net1.{1 + shift}"
    if normalization == "none":
        return b.dense(x, width, addend=projection, activation="silu", init="truncated", name=name)
    p = b.dense(x, width, addend=projection, init="truncated", name=name)
    return _before(b, p, normalization, f"{block}.net2.0")
