"""Labels and guidance weights as the branches that a velocity is composed of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops._runtime import arrays, validate

__all__ = ["Branches", "check_labels", "check_weights", "make_branches", "need_host", "on_host"]

NONE = -1  # the label that conditions on nothing


def on_host(function: str, argument: str, value: Any) -> Any:
    """Return an array of any library in host memory, where the little ones are checked."""
    native, library = arrays.import_array(function, argument, value)
    return native if library.device == "cpu" else native.get()


def need_host(function: str, argument: str, value: Any, why: str = "") -> None:
    """Refuse what lies on a device where a function has no kernels for it."""
    library = arrays.library_of(value)
    sparse = type(value).__module__.partition(".")[0] == "cupyx"
    if sparse or (library is not None and library.device != "cpu"):
        place = "a GPU" if library is None else library.place
        expectation = f"live in host memory{why}"
        validate.fail(TypeError, function, argument, expectation, f"an array on {place}")


@dataclass(frozen=True)
class Branches:
    """``v = v_0 + sum_b weights[b - 1] (v_b - v_0)``, v_b the velocity with ``labels[b]``.

    Attributes
    ----------
    labels : ndarray of int32, shape (branches, attributes, n)
    weights : ndarray of float64, shape (branches - 1,) or (branches - 1, n)
    """

    labels: npt.NDArray[np.int32]
    weights: npt.NDArray[np.float64]

    @property
    def count(self) -> int:
        """How many times the velocity is evaluated."""
        return int(self.labels.shape[0])

    def rows(self, begin: int, end: int) -> Branches:
        """Return the branches of some of the rows."""
        weights = self.weights if self.weights.ndim == 1 else self.weights[:, begin:end]
        return Branches(
            np.ascontiguousarray(self.labels[:, :, begin:end]), np.ascontiguousarray(weights)
        )


def check_labels(
    function: str, labels: Any, attributes: Mapping[str, int] | None, n: int
) -> dict[str, npt.NDArray[np.int32]]:
    """Return the labels as codes (n,) by attribute.

    Parameters
    ----------
    function : str
        For messages.
    labels : None, dict or array_like
        By name: a code, or codes (n,); else codes (n,) or (n, attributes). -1 is none.
    attributes : dict of int, optional
        Names and numbers of categories; None takes any.
    n : int
        Rows.
    """
    if labels is None:
        return {}
    given = _by_name(function, labels, attributes, n)
    if attributes is not None:
        for name in given:
            if name not in attributes:
                known = ", ".join(repr(key) for key in attributes) or "none"
                expectation = f"name attributes of the velocity ({known})"
                validate.fail(ValueError, function, "labels", expectation, repr(name))
    return {
        name: _codes(function, f"labels[{name!r}]", value, n, (attributes or {}).get(name))
        for name, value in given.items()
    }


def _by_name(
    function: str, labels: Any, attributes: Mapping[str, int] | None, n: int
) -> dict[str, Any]:
    if isinstance(labels, Mapping):
        for name in labels:
            if not isinstance(name, str):
                expectation = "be named by strings"
                validate.fail(TypeError, function, "labels", expectation, validate.describe(name))
        return dict(labels)
    host = on_host(function, "labels", labels)
    codes = validate.array(function, "labels", host, ndim=(0, 1, 2), dtype=np.int64, empty=True)
    columns = codes.T if codes.ndim == 2 else codes[None]
    names = [str(i) for i in range(len(columns))] if attributes is None else list(attributes)
    if len(columns) != len(names):
        expectation = f"have one column for each attribute ({len(names)})"
        validate.fail(ValueError, function, "labels", expectation, str(len(columns)))
    return dict(zip(names, columns, strict=True))


def _codes(
    function: str, argument: str, value: Any, n: int, categories: int | None
) -> npt.NDArray[np.int32]:
    host = on_host(function, argument, value)
    codes = validate.array(function, argument, host, ndim=(0, 1), dtype=np.int64, empty=True)
    if codes.ndim == 1 and codes.shape != (n,):
        expectation = f"be one code or have shape ({n},)"
        validate.fail(ValueError, function, argument, expectation, str(codes.shape))
    high = (2**31 if categories is None else categories) - 1
    wrong = np.flatnonzero((codes < NONE) | (codes > high))
    if wrong.size:
        row = int(wrong[0])
        got = f"{int(codes.reshape(-1)[row])}" + (f" in row {row}" if codes.ndim else "")
        expectation = f"be codes from 0 to {high}, or -1 for none"
        validate.fail(ValueError, function, argument, expectation, got)
    return np.ascontiguousarray(np.broadcast_to(codes, (n,)).astype(np.int32))


def check_weights(
    function: str, weights: Any, labelled: Sequence[str], n: int
) -> dict[str, npt.NDArray[np.float64]]:
    """Return the guidance weight (1,) or (n,) of each attribute that is conditioned on."""
    if isinstance(weights, Mapping):
        for name in weights:
            if name not in labelled:
                known = ", ".join(repr(key) for key in labelled) or "none"
                expectation = f"name only attributes that are conditioned on ({known})"
                validate.fail(ValueError, function, "weights", expectation, repr(name))
        given = {name: weights.get(name, 1.0) for name in labelled}
        return {
            name: _weight(function, f"weights[{name!r}]", value, n) for name, value in given.items()
        }
    if not labelled:
        expectation = "be None where nothing is conditioned on"
        validate.fail(ValueError, function, "weights", expectation, validate.describe(weights))
    value = _weight(function, "weights", weights, n)
    return dict.fromkeys(labelled, value)


def _weight(function: str, argument: str, value: Any, n: int) -> npt.NDArray[np.float64]:
    host = on_host(function, argument, value)
    numbers: npt.NDArray[np.float64] = validate.array(
        function, argument, host, ndim=(0, 1), dtype=np.float64
    )
    if numbers.ndim == 1 and numbers.shape != (n,):
        expectation = f"be one number or have shape ({n},)"
        validate.fail(ValueError, function, argument, expectation, str(numbers.shape))
    return numbers.reshape(-1)


def make_branches(
    function: str, labels: Any, weights: Any, attributes: Mapping[str, int] | None, n: int
) -> Branches:
    """Return the branches for n rows.

    Without weights there is one, with all labels at once. With weights there is one for each
    attribute whose weight isn't zero and, unless one attribute with weight 1 is all there is, one
    without any label.
    """
    codes = check_labels(function, labels, attributes, n)
    names = list(codes if attributes is None else attributes)
    table = np.full((len(names), n), NONE, np.int32)
    for name, values in codes.items():
        table[names.index(name)] = values
    if weights is None:
        return Branches(table[None], np.zeros(0))
    given = check_weights(function, weights, list(codes), n)
    active = {name: value for name, value in given.items() if np.any(value != 0.0)}
    parts = []
    for name in active:
        alone = np.full_like(table, NONE)
        alone[names.index(name)] = codes[name]
        parts.append(alone)
    if len(parts) == 1 and all(np.all(value == 1.0) for value in active.values()):
        return Branches(parts[0][None], np.zeros(0))
    unconditional = np.full_like(table, NONE)
    size = max((value.size for value in active.values()), default=1)
    factors = np.array([np.broadcast_to(value, (size,)) for value in active.values()])
    factors = factors.reshape(len(parts), size)
    return Branches(np.stack([unconditional, *parts]), factors[:, 0] if size == 1 else factors)
