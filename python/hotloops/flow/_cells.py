"""Cells as users have them: AnnData, MuData, files of either, matrices with labels."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops._runtime.validate import describe, fail
from hotloops.flow._labels import Codes, Labels

__all__ = [
    "Cells",
    "build_cells",
    "column",
    "import_extra",
    "join_cells",
    "read_cells",
    "with_columns_of",
]

_READERS = {".h5ad": ("anndata", "read_h5ad"), ".h5mu": ("mudata", "read_h5mu")}
_RECORD = "hotloops"


@dataclass(frozen=True, eq=False)
class Cells:
    """What came in.

    Attributes
    ----------
    matrices : dict
        By modality, as they were found.
    labels : mapping or DataFrame
        Columns of labels.
    names : dict of tuple of str
        Names of the features of each modality; empty for plain matrices.
    container : AnnData, MuData or None
        The object itself.
    """

    matrices: dict[str, Any]
    labels: Any
    names: dict[str, tuple[str, ...]]
    container: Any

    @property
    def kind(self) -> str:
        """Return "anndata", "mudata" or "arrays"."""
        if self.container is None:
            return "arrays"
        return "mudata" if _is_mudata(self.container) else "anndata"


def read_cells(
    function: str,
    data: Any,
    labels: Any,
    layer: str | None,
    modalities: Sequence[str],
) -> Cells:
    """Take cells apart; `labels` come before the columns of ``obs``."""
    if isinstance(data, str | os.PathLike):
        data = _open(function, data)
    if _is_mudata(data):
        parts = {name: data.mod[name] for name in modalities if name in data.mod}
        missing = [name for name in modalities if name not in parts]
        if missing:
            there = ", ".join(map(repr, data.mod))
            fail(ValueError, function, "data", f"have the modality {missing[0]!r}", there)
        columns = _Columns(labels, data.obs, *(part.obs for part in parts.values()))
        matrices = {name: _matrix(function, part, layer) for name, part in parts.items()}
        names = {name: tuple(map(str, part.var_names)) for name, part in parts.items()}
        return Cells(matrices, columns, names, data)
    if _is_anndata(data):
        if len(modalities) > 1:
            expectation = f"be a MuData or a dictionary with {', '.join(map(repr, modalities))}"
            fail(TypeError, function, "data", expectation, "an AnnData")
        names = {modalities[0]: tuple(map(str, data.var_names))}
        matrix = _matrix(function, data, layer)
        return Cells({modalities[0]: matrix}, _Columns(labels, data.obs), names, data)
    matrices = dict(data) if isinstance(data, Mapping) else {modalities[0]: data}
    return Cells(matrices, _Columns(labels), {}, None)


def column(function: str, cells: Cells, name: str) -> Any:
    """Return the labels of one attribute."""
    found = cells.labels.find(name)
    if found is None:
        where = "labels" if cells.container is None else "obs"
        there = ", ".join(map(repr, cells.labels.names())) or "none"
        fail(ValueError, function, where, f"have a column {name!r}", f"the columns {there}")
    return found


def build_cells(
    counts: Mapping[str, Any],
    labels: Mapping[str, tuple[Labels, Codes]],
    sizes: Mapping[str, npt.NDArray[np.float64]],
    names: Mapping[str, Sequence[str]],
    cells: Sequence[str],
    record: Mapping[str, Any],
) -> Any:
    """Return generated cells as AnnData, or MuData when there are several modalities.

    `counts` hold a matrix, or None, for each modality, and `names` the names of its features.
    """
    anndata, pandas = import_extra("anndata"), import_extra("pandas")
    obs = pandas.DataFrame(index=pandas.Index(list(cells), dtype=object))
    for name, (known, codes) in labels.items():
        obs[name] = pandas.Categorical.from_codes(codes, categories=list(known.categories))
    parts = {}
    for name, matrix in counts.items():
        own = obs.copy()
        if name in sizes:
            own["size_factor"] = sizes[name]
        var = pandas.DataFrame(index=pandas.Index(list(names[name]), dtype=object))
        parts[name] = anndata.AnnData(matrix, obs=own, var=var, uns={_RECORD: dict(record)})
    if len(parts) == 1:
        return next(iter(parts.values()))
    together = import_extra("mudata").MuData(parts)
    for name in obs:
        together.obs[name] = obs[name]
    return together


def join_cells(first: Any, second: Any) -> Any:
    """Return the cells of both, one below the other, with a column ``generated``."""
    anndata = import_extra("anndata")
    if _is_mudata(first):
        parts = {name: join_cells(first.mod[name], second.mod[name]) for name in second.mod}
        together = import_extra("mudata").MuData(parts)
        for name in next(iter(parts.values())).obs:
            together.obs[name] = next(iter(parts.values())).obs[name]
        return together
    both = anndata.concat([first, second], join="outer", merge="first", uns_merge="first")
    both.obs["generated"] = np.repeat([False, True], [first.n_obs, second.n_obs])
    both.obs_names_make_unique()
    return both


def with_columns_of(real: Any, made: Any) -> Any:
    """Give made cells the names of the real ones, and the columns that they lack."""
    if real is None:
        return made
    parts = [(real, made)]
    if _is_mudata(made):
        parts += [(real.mod[name], made.mod[name]) for name in made.mod]
    for source, target in reversed(parts):
        target.obs_names = source.obs_names
        for name in source.obs:
            if name not in target.obs:
                target.obs[name] = source.obs[name]
    return made


class _Columns:
    """Columns by name from several tables, the first that has one."""

    def __init__(self, *tables: Any) -> None:
        self._tables = [table for table in tables if table is not None]

    def find(self, name: str) -> Any:
        for table in self._tables:
            if name in table:
                return table[name]
        return None

    def names(self) -> list[str]:
        return list(dict.fromkeys(str(name) for table in self._tables for name in table))


def _matrix(function: str, part: Any, layer: str | None) -> Any:
    if layer is None:
        if part.X is None:
            layers = ", ".join(map(repr, part.layers)) or "none"
            fail(ValueError, function, "data", "have counts in X (or name a `layer`)", layers)
        return part.X
    if layer not in part.layers:
        layers = ", ".join(map(repr, part.layers)) or "none"
        fail(ValueError, function, "layer", "be a layer of the data", f"the layers {layers}")
    return part.layers[layer]


def _is_anndata(data: Any) -> bool:
    return any(base.__module__.startswith("anndata") for base in type(data).__mro__) and hasattr(
        data, "obs"
    )


def _is_mudata(data: Any) -> bool:
    return any(base.__module__.startswith("mudata") for base in type(data).__mro__) and hasattr(
        data, "mod"
    )


def _open(function: str, path: Any) -> Any:
    suffix = os.path.splitext(os.fspath(path))[1]
    if suffix not in _READERS:
        expectation = "be a file that ends in .h5ad or .h5mu, or data"
        fail(ValueError, function, "data", expectation, describe(os.fspath(path)))
    module, reader = _READERS[suffix]
    return getattr(import_extra(module), reader)(path, backed="r")


def import_extra(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f'{module} must be installed to read or return it (pip install "hotloops[cells]"): '
            f"{error}"
        ) from error
