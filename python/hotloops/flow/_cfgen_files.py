"""A generator on disk, and generators made of state dicts of the original code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops._runtime.validate import describe, fail
from hotloops.flow._autoencoder import CountAutoencoder
from hotloops.flow._autoencoder_fit import below
from hotloops.flow._cfgen_request import Covariates
from hotloops.flow._generator import Generator
from hotloops.flow._labels import Labels
from hotloops.flow._matching import ConditionalFlowMatching
from hotloops.flow._network import VelocityNetwork
from hotloops.flow._size_factors import SizeFactorModel
from hotloops.flow._torch_names import read_state
from hotloops.nn._train import TrainState

__all__ = ["from_state", "pack", "unpack"]

Array = npt.NDArray[Any]


def pack(parts: Generator, training: bool) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return header and arrays of a file."""
    arrays: dict[str, Array] = {}
    header: dict[str, Any] = {"kind": parts.kind, "covariates": _pack_covariates(parts.covariates)}
    header["autoencoder"], held = parts.autoencoder._pack(training)
    arrays |= {f"autoencoder/{name}": value for name, value in held.items()}
    header["flow"], held = _pack_flow(parts.flow, training)
    arrays |= {f"flow/{name}": value for name, value in held.items()}
    header["sizes"] = None
    if parts.sizes is not None:
        header["sizes"], held = parts.sizes._pack()
        arrays |= {f"sizes/{name}": value for name, value in held.items()}
    if parts.covariates.theta_shares is not None:
        arrays["theta_shares"] = parts.covariates.theta_shares
    arrays |= {f"names/{name}": np.array(names) for name, names in parts.names.items()}
    return header, arrays


def unpack(header: Mapping[str, Any], arrays: Mapping[str, Array]) -> Generator:
    """Return the generator of a file."""
    sizes = None
    if header["sizes"] is not None:
        sizes = SizeFactorModel._unpack(header["sizes"], below(arrays, "sizes/"))
    known = header["covariates"]
    covariates = Covariates(
        {name: Labels(name, tuple(values)) for name, values in known["conditions"].items()},
        _labels(known["size"]),
        _labels(known["theta"]),
        arrays.get("theta_shares"),
    )
    names = below(arrays, "names/")
    return Generator(
        CountAutoencoder._unpack(header["autoencoder"], below(arrays, "autoencoder/")),
        _unpack_flow(header["flow"], below(arrays, "flow/")),
        sizes,
        covariates,
        header["kind"],
        {name: tuple(map(str, values.tolist())) for name, values in names.items()},
    )


def from_state(
    function: str,
    autoencoder: CountAutoencoder,
    flow: Any,
    categories: Mapping[str, Any],
    *,
    embeddings: Mapping[str, Any] | None,
    size_range: Any,
    sizes: SizeFactorModel | None,
    size_factor_covariate: str | None,
    theta_covariate: str | None,
    features: Any,
    prefix: str,
) -> Generator:
    """Return the generator of a state dict of the flow and an autoencoder that is there."""
    known = {name: _check_categories(function, name, given) for name, given in categories.items()}
    state = read_state(function, flow, prefix)
    network = _make_network(function, autoencoder, state, known, size_range)
    tables = _tables(function, state, known, embeddings)
    own = {name: value for name, value in state.items() if not name.startswith(_EMBEDDINGS)}
    network.load_state_dict({**own, **tables})
    counted = autoencoder._trained.counted
    if sizes is not None and not isinstance(sizes, SizeFactorModel):
        fail(TypeError, function, "size_factors", "be a SizeFactorModel", describe(sizes))
    if sizes is not None and sizes.mean_.shape[1] != len(counted):
        expectation = f"have {len(counted)} sizes"
        fail(ValueError, function, "size_factors", expectation, str(sizes.mean_.shape[1]))
    groups = autoencoder._trained.groups
    theta = None
    if groups is not None:
        theta = Labels(theta_covariate or next(iter(known), "theta"), groups.categories)
    size = None
    if sizes is not None and len(sizes.categories_) > 1:
        size = Labels(size_factor_covariate or next(iter(known), "size"), sizes.categories_)
    shares = None if theta is None else np.full(len(theta), 1.0 / len(theta))
    names = {} if features is None else _feature_names(function, autoencoder, features)
    covariates = Covariates(known, size, theta, shares)
    matching = _wrap(network)
    kind = "anndata" if names else "arrays"
    return Generator(autoencoder, matching, sizes, covariates, kind, names)


_EMBEDDINGS = "feature_embeddings."


def _make_network(
    function: str,
    autoencoder: CountAutoencoder,
    state: Mapping[str, Any],
    known: Mapping[str, Labels],
    size_range: Any,
) -> VelocityNetwork:
    """Return an untrained network of the widths that a state dict tells."""
    if "net_in.weight" not in state or "time_embedder.0.weight" not in state:
        expectation = "hold names such as 'net_in.weight' and 'time_embedder.0.weight'"
        fail(ValueError, function, "flow", expectation, "none of them")
    hidden, dim = (int(length) for length in state["net_in.weight"].shape)
    if dim != autoencoder.width_:
        expectation = f"read latents of {autoencoder.width_} columns"
        fail(ValueError, function, "flow", expectation, str(dim))
    blocks = {name.split(".")[1] for name in state if name.startswith("blocks.")}
    embeds = "size_factor_embedder.0.weight" in state
    if embeds and size_range is None:
        expectation = "be given, since the flow sees the size factors"
        fail(TypeError, function, "size_range", expectation, "None")
    normalization = "none"
    if "net_out.0.weight" in state:
        normalization = "batch" if "net_out.0.running_mean" in state else "layer"
    return VelocityNetwork(
        dim,
        hidden,
        int(state["time_embedder.0.weight"].shape[0]),
        len(blocks),
        attributes={name: len(labels) for name, labels in known.items()},
        size_range=size_range if embeds else None,
        normalization=normalization,
        dtype=autoencoder._trained.dtype.name,
    )


def _tables(
    function: str,
    state: Mapping[str, Any],
    known: Mapping[str, Labels],
    embeddings: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Return the embedding of each attribute, from the state dict or as given."""
    found = {}
    for name in known:
        inside = f"{_EMBEDDINGS}{name}.embeddings.weight"
        if embeddings is not None and name in embeddings:
            found[f"attributes.{name}.weight"] = embeddings[name]
        elif inside in state:
            found[f"attributes.{name}.weight"] = state[inside]
        else:
            expectation = f"hold the table of {name!r}, which `flow` doesn't"
            there = ", ".join(map(repr, embeddings or ())) or "none"
            fail(ValueError, function, "embeddings", expectation, there)
    return found


def _wrap(network: VelocityNetwork) -> ConditionalFlowMatching:
    """Return a flow around a trained network."""
    flow = ConditionalFlowMatching(
        network.dim,
        network.hidden,
        network.embed,
        network.blocks,
        dict(network.attributes),
        normalization=network.normalization,
        dtype=network.dtype.name,
    )
    flow.network_, flow.attributes_ = network, dict(network.attributes)
    flow.mean_, flow.scale_ = np.zeros(network.dim), np.ones(network.dim)
    flow.losses_, flow.num_steps_, flow.complete_ = np.zeros(0), 0, True
    return flow


def _check_categories(function: str, name: str, given: Any) -> Labels:
    if isinstance(given, str | bytes) or not hasattr(given, "__iter__"):
        fail(TypeError, function, f"categories[{name!r}]", "be a list of names", describe(given))
    names = tuple(str(item) for item in given)
    if not names or list(names) != sorted(set(names)):
        expectation = "hold sorted names, each once"
        fail(ValueError, function, f"categories[{name!r}]", expectation, f"{list(names)[:4]}")
    return Labels(name, names)


def _feature_names(
    function: str, autoencoder: CountAutoencoder, features: Any
) -> dict[str, tuple[str, ...]]:
    wanted = autoencoder.features_
    named = features if isinstance(features, Mapping) else {next(iter(wanted)): features}
    found = {}
    for name, width in wanted.items():
        names = tuple(map(str, named.get(name, ())))
        if len(names) != width:
            expectation = f"hold {width} names for {name!r}"
            fail(ValueError, function, "features", expectation, str(len(names)))
        found[name] = names
    return found


def _pack_covariates(covariates: Covariates) -> dict[str, Any]:
    extras = {"size": covariates.size, "theta": covariates.theta}
    return {
        "conditions": {
            name: list(labels.categories) for name, labels in covariates.conditions.items()
        },
        **{
            key: None if labels is None else [labels.name, list(labels.categories)]
            for key, labels in extras.items()
        },
    }


def _labels(entry: Any) -> Labels | None:
    return None if entry is None else Labels(entry[0], tuple(entry[1]))


def _pack_flow(
    flow: ConditionalFlowMatching, training: bool
) -> tuple[dict[str, Any], dict[str, Array]]:
    settings = {**flow.get_params(), "dtype": np.dtype(flow.dtype).name}
    network, held = flow.network_.to_file()
    arrays = {f"network/{name}": value for name, value in held.items()}
    arrays |= {"mean": flow.mean_, "scale": flow.scale_, "losses": flow.losses_}
    header = {"settings": settings, "network": network, "complete": flow.complete_}
    if training and hasattr(flow, "state_"):
        header["state"] = flow.state_.header()
        arrays |= {f"state/{name}": value for name, value in flow.state_.arrays().items()}
    return header, arrays


def _unpack_flow(header: Mapping[str, Any], arrays: Mapping[str, Array]) -> ConditionalFlowMatching:
    flow = ConditionalFlowMatching(**header["settings"])
    flow.network_ = VelocityNetwork.from_file(header["network"], below(arrays, "network/"))
    flow.attributes_ = dict(flow.network_.attributes)
    flow.mean_, flow.scale_, flow.losses_ = (arrays[k] for k in ("mean", "scale", "losses"))
    flow.num_steps_, flow.complete_ = len(flow.losses_), bool(header["complete"])
    if "state" in header:
        state: dict[str, Any] = {**below(arrays, "state/"), **header["state"]}
        flow.state_ = TrainState(**state)
    return flow
