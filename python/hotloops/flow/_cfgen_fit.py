"""Training of a generator: autoencoder, laws of the totals, flow."""

from __future__ import annotations

import inspect
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hotloops._runtime import validate
from hotloops._runtime.validate import describe, fail
from hotloops.flow._autoencoder import CountAutoencoder
from hotloops.flow._autoencoder_inputs import read_matrices
from hotloops.flow._cells import Cells, column, read_cells
from hotloops.flow._cfgen_request import Covariates
from hotloops.flow._generator import Generator
from hotloops.flow._labels import Codes, Labels, read_labels
from hotloops.flow._matching import ConditionalFlowMatching
from hotloops.flow._matrices import CountMatrix
from hotloops.flow._size_factors import SizeFactorModel

if TYPE_CHECKING:
    from hotloops.flow._cfgen import CFGen

__all__ = ["train"]

_OURS = ("dim", "attributes", "dtype", "seed")  # what the generator tells the flow
_FIT = (
    "num_epochs",
    "num_steps",
    "batch_size",
    "learning_rate",
    "weight_decay",
    "betas",
    "eps",
    "clip_norm",
    "no_decay",
)
_EPOCHS, _BATCH_SIZE = 1500, 256


def train(
    function: str,
    model: CFGen,
    data: Any,
    labels: Any,
    before: Generator | None,
    *,
    progress: bool,
    max_seconds: float | None,
) -> tuple[Generator, bool]:
    """Train the parts of a model, or go on with them; return them and whether all is done."""
    clock = _Clock(function, max_seconds)
    conditions = _condition_names(function, model.conditions)
    settings, options = _flow_options(function, model.flow)
    embeds = validate.boolean(function, "embed_size_factor", model.embed_size_factor)
    autoencoder = _make_autoencoder(function, model) if before is None else before.autoencoder
    given = before is None and autoencoder is model.autoencoder
    modalities = autoencoder._read_modalities(function)
    cells = read_cells(function, data, labels, model.layer, [item.name for item in modalities])
    known = hasattr(autoencoder, "_trained")
    matrices = read_matrices(
        function,
        cells.matrices,
        modalities,
        autoencoder.features_ if known else None,
        validate.float_dtype(function, "dtype", autoencoder.dtype),
        autoencoder.allow_noninteger,
        "data",
    )
    rows = matrices[0].rows
    covariates, codes, theta = _read_covariates(function, model, cells, conditions, rows, before)
    tables = {item.name: table for item, table in zip(modalities, matrices, strict=True)}
    done = autoencoder.epochs_
    if not given:
        autoencoder.fit(
            tables,
            theta,
            resume=before is not None,
            progress=progress,
            max_seconds=clock.left(),
        )
    sizes = _fit_sizes(cells, covariates, autoencoder, tables, function)
    same = before is not None and autoencoder.epochs_ == done
    flow = (
        before.flow
        if before is not None and same
        else _make_flow(model, autoencoder, covariates, settings)
    )
    log_size = _log_sizes(autoencoder, tables) if embeds else None
    z = autoencoder.encode(tables)
    _fit_flow(flow, z, codes, log_size, options, model, same, progress, clock)
    complete = getattr(autoencoder, "complete_", True) and flow.complete_
    return Generator(autoencoder, flow, sizes, covariates, cells.kind, cells.names), complete


class _Clock:
    """What is left of the time."""

    def __init__(self, function: str, max_seconds: float | None) -> None:
        self._end = None
        if max_seconds is not None:
            seconds = validate.real(function, "max_seconds", max_seconds, low=0.0)
            self._end = time.monotonic() + seconds

    def left(self) -> float | None:
        """Return seconds, or None for any."""
        return None if self._end is None else max(0.0, self._end - time.monotonic())


def _condition_names(function: str, conditions: Any) -> list[str]:
    names = [conditions] if isinstance(conditions, str) else list(conditions)
    for name in names:
        if not isinstance(name, str) or not name:
            fail(TypeError, function, "conditions", "be names of attributes", describe(name))
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        fail(ValueError, function, "conditions", "name each attribute once", repr(twice))
    return names


def _flow_options(function: str, flow: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split the arguments of the flow into those of its constructor and of its fit."""
    given = {} if flow is None else flow
    if not isinstance(given, Mapping):
        fail(TypeError, function, "flow", "be a dictionary of arguments", describe(flow))
    known = list(inspect.signature(ConditionalFlowMatching).parameters)
    settings = [name for name in known if name not in _OURS]
    for name in given:
        if name not in settings and name not in _FIT:
            expectation = f"have no keys but {', '.join((*settings, *_FIT))}"
            fail(ValueError, function, "flow", expectation, describe(name))
    return (
        {name: given[name] for name in given if name in settings},
        {name: given[name] for name in given if name in _FIT},
    )


def _make_autoencoder(function: str, model: CFGen) -> CountAutoencoder:
    given = model.autoencoder
    if isinstance(given, CountAutoencoder):
        if hasattr(given, "_trained"):
            return given
        return CountAutoencoder(**given.get_params())
    if given is not None and not isinstance(given, Mapping):
        expectation = "be a dictionary of arguments or a CountAutoencoder"
        fail(TypeError, function, "autoencoder", expectation, describe(given))
    names = ("n_latent", "allow_noninteger", "seed", "dtype", "backend", "num_threads")
    shared = {name: getattr(model, name) for name in names}
    shared["theta_per_label"] = model.theta_covariate is not None
    return CountAutoencoder(**{**shared, **(given or {})})


def _read_covariates(
    function: str,
    model: CFGen,
    cells: Cells,
    conditions: Sequence[str],
    rows: int,
    before: Generator | None,
) -> tuple[Covariates, dict[str, Codes], Any]:
    """Return what is known of the attributes, the codes of the conditions, labels of theta."""
    size = model.size_factor_covariate
    if size is None and conditions:
        size = conditions[0]
    theta = model.theta_covariate
    found: dict[str, tuple[Labels, Codes]] = {}
    for name in dict.fromkeys([*conditions, *filter(None, (size, theta))]):
        values = column(function, cells, name)
        found[name] = read_labels(function, name, values, rows)
    known = Covariates(
        {name: found[name][0] for name in conditions},
        None if size is None else found[size][0],
        None if theta is None else found[theta][0],
        None if theta is None else np.bincount(found[theta][1]) / rows,
    )
    if before is not None and known.conditions != before.covariates.conditions:
        got = "others"
        fail(ValueError, function, "labels", "have the categories of the fit before", got)
    labels = None if theta is None else column(function, cells, theta)
    return known, {name: found[name][1] for name in conditions}, labels


def _fit_sizes(
    cells: Cells,
    covariates: Covariates,
    autoencoder: CountAutoencoder,
    tables: Mapping[str, CountMatrix],
    function: str,
) -> SizeFactorModel | None:
    counted = autoencoder._trained.counted
    if not counted:
        return None
    totals = np.column_stack([tables[name].totals.astype(np.float64) for name in counted])
    labels = None if covariates.size is None else column(function, cells, covariates.size.name)
    return SizeFactorModel().fit(totals[:, 0] if len(counted) == 1 else totals, labels)


def _log_sizes(
    autoencoder: CountAutoencoder, tables: Mapping[str, CountMatrix]
) -> npt.NDArray[np.float64] | None:
    counted = autoencoder._trained.counted
    if not counted:
        return None
    totals = [tables[name].totals.astype(np.float64) for name in counted]
    return np.log(np.column_stack(totals))


def _make_flow(
    model: CFGen,
    autoencoder: CountAutoencoder,
    covariates: Covariates,
    settings: Mapping[str, Any],
) -> ConditionalFlowMatching:
    return ConditionalFlowMatching(
        autoencoder.width_,
        attributes={name: len(labels) for name, labels in covariates.conditions.items()},
        dtype=autoencoder._trained.dtype.name,
        seed=model.seed,
        **settings,
    )


def _fit_flow(
    flow: ConditionalFlowMatching,
    z: npt.NDArray[Any],
    codes: Mapping[str, Codes],
    log_size: npt.NDArray[np.float64] | None,
    options: Mapping[str, Any],
    model: CFGen,
    goes_on: bool,
    progress: bool,
    clock: _Clock,
) -> None:
    """Make the steps that are left."""
    told = dict(options)
    size = told["batch_size"] = min(told.get("batch_size", _BATCH_SIZE), len(z))
    steps = told.pop("num_steps", None)
    epochs = told.pop("num_epochs", None)
    if steps is None:
        steps = (_EPOCHS if epochs is None else epochs) * (len(z) // size)
    done = flow.num_steps_ if goes_on else 0
    flow.fit(
        z,
        dict(codes) or None,
        log_size,
        num_steps=max(0, steps - done),
        state=flow.state_ if goes_on else None,
        progress=progress,
        max_seconds=clock.left(),
        backend=model.backend,
        num_threads=model.num_threads,
        **told,
    )
