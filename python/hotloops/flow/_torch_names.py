"""What the state dicts of the original code tell: modalities, widths, categories."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from hotloops._runtime.validate import fail
from hotloops.nn._weights import open_state

__all__ = ["autoencoder_arguments", "read_state"]

_LAYER = re.compile(r"encoder\.([^.]+)\.net\.(\d+)\.(?:0\.)?weight")


def read_state(function: str, state: Any, prefix: str) -> dict[str, Any]:
    """Return the arrays under a prefix by name, from a dictionary, a module or a file."""
    found = {
        name.removeprefix(prefix): value
        for name, value in open_state(function, state).items()
        if name.startswith(prefix) and not name.endswith("num_batches_tracked")
    }
    if not found:
        fail(ValueError, function, "state", f"hold names that begin with {prefix!r}", "none")
    return found


def autoencoder_arguments(
    function: str, state: Mapping[str, Any], binarized: bool
) -> tuple[dict[str, Any], list[int]]:
    """Return modalities and joint width for the constructor, and the features of each."""
    layers: dict[str, dict[int, tuple[int, int]]] = {}
    for name, value in state.items():
        match = _LAYER.fullmatch(name)
        if match and len(value.shape) == 2:
            layers.setdefault(match[1], {})[int(match[2])] = tuple(value.shape)
    if not layers:
        fail(
            ValueError, function, "state", "hold names such as 'encoder.rna.net.0.0.weight'", "none"
        )
    modalities, features = {}, []
    for name, shapes in layers.items():
        order = [shapes[number] for number in sorted(shapes)]
        *hidden, latent = (outputs for outputs, _ in order)
        peaks = "bernoulli" if binarized else "poisson"
        likelihood = peaks if name == "atac" else "nb"
        modalities[name] = {"likelihood": likelihood, "n_latent": latent, "hidden": tuple(hidden)}
        features.append(order[0][1])
    joint = state.get("encoder_joint.net.0.weight")
    return {
        "modalities": modalities,
        "joint": None if joint is None else int(joint.shape[0]),
    }, features
