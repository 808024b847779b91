"""What is asked of a generator: categories, weights of guidance, sizes, dispersions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops import random
from hotloops._runtime import validate
from hotloops._runtime.validate import describe, fail
from hotloops.flow._labels import Codes, Labels, find_codes
from hotloops.flow._size_factors import SizeFactorModel
from hotloops.flow._trained_autoencoder import read_sizes

__all__ = [
    "Covariates",
    "Request",
    "cells_to_add",
    "read_guidance",
    "read_labels_asked",
    "read_request",
]

_STREAM, _STEP = 9, 1
_THETA = 1  # coordinate of the category whose dispersions are taken; 0 is that of the sizes
_HOW = ("frequency", "uniform")


@dataclass(frozen=True)
class Covariates:
    """What is known of the cells' attributes.

    Attributes
    ----------
    conditions : dict of Labels
        In order.
    size, theta : Labels or None
        The attributes that sizes and dispersions go by.
    theta_shares : ndarray or None
        Share of each category of `theta` among the training cells.
    """

    conditions: dict[str, Labels]
    size: Labels | None
    theta: Labels | None
    theta_shares: npt.NDArray[np.float64] | None


@dataclass(frozen=True, eq=False)
class Request:
    """Cells to make.

    Attributes
    ----------
    first, rows : int
    codes : dict of ndarray of int32
        Of the attributes conditioned on.
    weights : dict of float
    sizes : dict of ndarray
        L of each counted modality.
    theta_codes : ndarray of int32 or None
    """

    first: int
    rows: int
    codes: dict[str, Codes]
    weights: dict[str, float]
    sizes: dict[str, npt.NDArray[np.float64]]
    theta_codes: Codes | None

    def take(self, rows: slice) -> Request:
        """Return some of the cells."""
        return Request(
            self.first + rows.start,
            rows.stop - rows.start,
            {name: codes[rows] for name, codes in self.codes.items()},
            self.weights,
            {name: sizes[rows] for name, sizes in self.sizes.items()},
            None if self.theta_codes is None else self.theta_codes[rows],
        )

    def log_sizes(self, counted: Sequence[str]) -> npt.NDArray[np.float64] | None:
        """Return ln L of the counted modalities side by side."""
        if not counted:
            return None
        return np.column_stack([np.log(self.sizes[name]) for name in counted])


def read_request(
    function: str,
    covariates: Covariates,
    model: SizeFactorModel | None,
    counted: Sequence[str],
    rows: int,
    attributes: Any,
    guidance: Any,
    size_factor: Any,
    *,
    seed: int,
    first: int,
    categories: str,
) -> Request:
    """Check what is asked and draw what is left open."""
    how = validate.choice(function, "categories", categories, _HOW)
    known = {**covariates.conditions}
    for extra in (covariates.size, covariates.theta):
        if extra is not None:
            known.setdefault(extra.name, extra)
    asked = read_labels_asked(function, "attributes", known, attributes, rows)
    conditioned = {name: asked[name] for name in covariates.conditions if name in asked}
    weights = read_guidance(function, list(conditioned), guidance)
    if size_factor is not None or model is None:
        sizes = read_sizes(function, counted, size_factor, rows)
        size_codes = None if covariates.size is None else asked.get(covariates.size.name)
    else:
        size_codes = _size_codes(covariates, model, asked, rows, seed, first, how)
        drawn = model.sample(rows, size_codes, seed=seed, first_row=first).reshape(rows, -1)
        sizes = {name: drawn[:, k] for k, name in enumerate(counted)}
    theta_codes = _theta_codes(covariates, asked, size_codes, rows, seed, first, how)
    return Request(first, rows, conditioned, weights, sizes, theta_codes)


def read_labels_asked(
    function: str, argument: str, known: Mapping[str, Labels], asked: Any, rows: int
) -> dict[str, Codes]:
    """Return codes by attribute from names or codes by attribute."""
    if asked is None:
        return {}
    if not isinstance(asked, Mapping):
        expectation = "be a dictionary of categories by attribute"
        fail(TypeError, function, argument, expectation, describe(asked))
    for name in asked:
        _check_known(function, argument, name, list(known))
    return {name: find_codes(function, known[name], value, rows) for name, value in asked.items()}


def read_guidance(function: str, conditioned: Sequence[str], guidance: Any) -> dict[str, float]:
    """Return a weight for each attribute conditioned on; 1 where none is given."""
    if guidance is None:
        return dict.fromkeys(conditioned, 1.0)
    if not isinstance(guidance, Mapping):
        weight = validate.real(function, "guidance", guidance)
        if not conditioned:
            expectation = "be given with attributes to condition on"
            fail(ValueError, function, "guidance", expectation, describe(guidance))
        return dict.fromkeys(conditioned, weight)
    for name in guidance:
        if name not in conditioned:
            shown = ", ".join(map(repr, conditioned)) or "none"
            expectation = f"name attributes that are conditioned on here ({shown})"
            fail(ValueError, function, "guidance", expectation, describe(name))
    return {
        name: validate.real(function, f"guidance[{name!r}]", guidance.get(name, 1.0))
        for name in conditioned
    }


def cells_to_add(
    function: str, labels: Labels, codes: Codes, rare: Any, n: int | None, target: int | None
) -> Codes:
    """Return the code of each cell that `augment` makes, category by category."""
    if (n is None) == (target is None):
        got = "both" if n is not None else "neither"
        raise TypeError(f"{function}: either `n` or `target` must be given, got {got}")
    there = np.bincount(codes, minlength=len(labels))
    if rare is not None:
        several = not isinstance(rare, str | bytes) and np.ndim(rare) == 1
        asked = list(rare) if several else [rare]
        which = [int(find_codes(function, labels, item, 1)[0]) for item in asked]
    else:
        which = list(range(len(labels)))
    if target is not None:
        goal = validate.integer(function, "target", target, low=1)
        added = [max(0, goal - int(there[code])) for code in which]
    elif rare is None:
        raise TypeError(f"{function}: `rare` must name categories with `n`, got None")
    else:
        added = [validate.integer(function, "n", n, low=1)] * len(which)
    if not sum(added):
        most = int(there[which].min()) if which else 0
        expectation = "leave something to add"
        fail(ValueError, function, "target", expectation, f"{goal} where all have {most} or more")
    return np.repeat(np.array(which, np.int32), added)


def _check_known(function: str, argument: str, name: Any, known: Sequence[str]) -> None:
    if name not in known:
        shown = ", ".join(map(repr, known)) or "none"
        expectation = f"have attributes of the model as keys ({shown})"
        fail(ValueError, function, argument, expectation, describe(name))


def _size_codes(
    covariates: Covariates,
    model: SizeFactorModel,
    asked: Mapping[str, Codes],
    rows: int,
    seed: int,
    first: int,
    how: str,
) -> Codes:
    if covariates.size is not None and covariates.size.name in asked:
        return asked[covariates.size.name]
    return model.draw_categories(rows, seed=seed, first_row=first, categories=how)


def _theta_codes(
    covariates: Covariates,
    asked: Mapping[str, Codes],
    size_codes: Codes | None,
    rows: int,
    seed: int,
    first: int,
    how: str,
) -> Codes | None:
    theta, shares = covariates.theta, covariates.theta_shares
    if theta is None or shares is None:
        return None
    if theta.name in asked:
        return asked[theta.name]
    if (
        size_codes is not None
        and covariates.size is not None
        and covariates.size.name == theta.name
    ):
        return size_codes
    if how == "uniform":
        shares = np.full(len(theta), 1.0 / len(theta))
    which = np.arange(first, first + rows)
    u = random.uniforms(seed, [_STEP], which, [_THETA], _STREAM)[0, :, 0]
    drawn = np.searchsorted(np.cumsum(shares), u, side="right")
    return np.asarray(np.minimum(drawn, len(theta) - 1), np.int32)
