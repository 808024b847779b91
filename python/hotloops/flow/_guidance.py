"""Guidance: velocities that lean towards labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hotloops._runtime import validate
from hotloops.flow._branches import check_labels, check_weights
from hotloops.flow._once import evaluate_once
from hotloops.flow._velocities import classify

__all__ = ["GuidedVelocity", "guided_velocity"]


@dataclass(frozen=True, eq=False)
class GuidedVelocity:
    """A velocity with labels and weights, for `integrate`.

    Attributes
    ----------
    velocity : object
        What it is made of.
    labels : dict or array
    weights : float, array or dict
    """

    velocity: Any
    labels: Any
    weights: Any

    @property
    def attributes(self) -> dict[str, int] | None:
        """Names and numbers of categories of the attributes, where the velocity tells them."""
        known = getattr(self.velocity, "attributes", None)
        return None if known is None else dict(known)

    def __call__(self, z: Any, t: Any, *, log_size: Any = None) -> Any:
        """Evaluate it once.

        Parameters
        ----------
        z : array_like, shape (n, d)
        t : float or array_like, shape (n,)
        log_size : array_like, optional
            As in `integrate`.

        Returns
        -------
        array, shape (n, d)
            In the library of `z`.
        """
        return evaluate_once(
            "GuidedVelocity", self.velocity, z, t, self.labels, self.weights, log_size=log_size
        )


def guided_velocity(velocity: Any, labels: Any, weights: Any = 1.0) -> GuidedVelocity:
    """Compose ``v(none) + sum_a w_a (v(y_a) - v(none))`` over the attributes a asked for.

    If the attributes are independent given the point, weights of 1 give the velocity that is
    conditioned on all of them; larger ones sharpen, 0 leaves an attribute out.

    Parameters
    ----------
    velocity : object
        A network with attributes, or a function that takes labels; see `integrate`.
    labels : dict or array_like
        By name a code, or codes (n,), of the category; -1 is none. An array (n,) or
        (n, attributes) holds the codes of all attributes in order. For functions, the order of the
        dict is that of the columns that they see.
    weights : float, array_like of shape (n,), or dict of those
        One for all attributes, or by name (1 for those left out). An array has one for each row.
        Default 1.

    Returns
    -------
    GuidedVelocity
        To be given to `integrate`.

    Raises
    ------
    TypeError
        A velocity that is none, weights or codes of the wrong type.
    ValueError
        A weight for an attribute that isn't conditioned on, codes out of range.

    Notes
    -----
    All branches are evaluated as one batch, so the cost is that of 1 + (attributes) evaluations.
    Two cases need fewer and give the bits of the plain velocity: one attribute with weight 1 is
    the conditional velocity, and without any weight but 0 it is the unconditional one.

    With weights other than 1 the flow doesn't end exactly in the tilted density
    ``p(z) prod_a (p(z | y_a) / p(z))^w_a``: the paths of a guided field are not those of a Gaussian
    path to it.

    A. Palma et al., "Multi-Modal and Multi-Attribute Generation of Single Cells with CFGen", ICLR
    2025, arXiv:2407.11734, equation (7).

    Examples
    --------
    >>> import numpy as np
    >>> from hotloops import flow
    >>> def towards(z, t, labels):  # label k draws to the point k, none draws to the origin
    ...     return np.maximum(labels, 0.0) - z
    >>> sharper = flow.guided_velocity(towards, {"k": 3}, 2.0)
    >>> flow.integrate(sharper, np.zeros((1, 1)), method="euler", steps=1)
    array([[6.]])
    """
    where = "guided_velocity"
    if isinstance(velocity, GuidedVelocity):
        expectation = "be a plain velocity"
        validate.fail(TypeError, where, "velocity", expectation, validate.describe(velocity))
    classify(where, velocity)
    if labels is None:
        expectation = "say what to condition on"
        validate.fail(TypeError, where, "labels", expectation, "None")
    guided = GuidedVelocity(velocity, labels, weights)
    rows = _rows_of(labels, weights)
    codes = check_labels(where, labels, guided.attributes, rows)
    check_weights(where, weights, list(codes), rows)
    return guided


def _rows_of(labels: Any, weights: Any) -> int:
    """Return the number of rows that the first array among labels and weights has, else 1."""
    for values in (labels, weights):
        for value in values.values() if isinstance(values, dict) else (values,):
            shape = np.shape(value)
            if shape:
                return int(shape[0])
    return 1
