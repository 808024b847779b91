"""What a client measures: losses of linear models and small networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hotloops._runtime import validate

__all__ = ["MLP", "Huber", "HuberHinge", "Loss", "Quantile", "as_loss"]

_ACTIVATIONS = ("relu", "tanh", "gelu")  # by number, as in solve_kernels.hpp
_KERNELS = (
    "squares",
    "logistic",
    "squared_hinge",
    "huber_hinge",
    "huber",
    "poisson",
    "quantile",
    "softmax",
)
_LARGEST_WIDTH = 2**20


@dataclass(frozen=True)
class Loss:
    """A loss by the name of its kernel; `solve` takes the name alone just as well."""

    @property
    def kernel(self) -> str:
        """The kernel's name."""
        return "squares"

    @property
    def hidden(self) -> tuple[int, ...]:
        """Units of the hidden layers; none for a linear model."""
        return ()

    @property
    def activation(self) -> str:
        """What hidden units compute."""
        return "relu"

    @property
    def number(self) -> int:
        """The kernel's number."""
        return _KERNELS.index(self.kernel)

    @property
    def activation_number(self) -> int:
        """The number of the activation of hidden units."""
        return _ACTIVATIONS.index(self.activation)

    @property
    def shape(self) -> tuple[float, float]:
        """The parameters of the loss."""
        return 0.0, 0.0

    @property
    def targets(self) -> str:
        """What `y` holds: "signs", "labels", "counts" or "reals"."""
        if self.kernel in ("logistic", "squared_hinge", "huber_hinge"):
            return "signs"
        if self.kernel == "softmax":
            return "labels"
        return "counts" if self.kernel == "poisson" else "reals"

    @property
    def curvature(self) -> float | None:
        """The largest second derivative in the prediction; None when there is no bound."""
        if self.hidden or self.kernel == "poisson":
            return None
        known = {"logistic": 0.25, "softmax": 0.5}
        return known.get(self.kernel, 1.0)


@dataclass(frozen=True)
class _Named(Loss):
    kernel: str = "squares"


@dataclass(frozen=True)
class HuberHinge(Loss):
    """The hinge ``max(0, 1 - y z)``, quadratic over the last `delta` before its corner.

    Parameters
    ----------
    delta : float
        Width of the quadratic part, positive. Default 0.5. The gradient's Lipschitz constant is
        ``lambda_max / (delta n)``.

    Examples
    --------
    >>> from hotloops import admm
    >>> admm.HuberHinge(0.1).curvature
    10.0
    """

    delta: float = 0.5

    @property
    def kernel(self) -> str:
        return "huber_hinge"

    def __post_init__(self) -> None:
        validate.real("HuberHinge", "delta", self.delta, low=0.0, open_low=True)

    @property
    def shape(self) -> tuple[float, float]:
        return float(self.delta), 0.0

    @property
    def curvature(self) -> float | None:
        return 1.0 / self.delta


@dataclass(frozen=True)
class Huber(Loss):
    """Huber's loss: ``r^2 / 2`` up to ``|r| = delta`` and linear beyond.

    Parameters
    ----------
    delta : float
        Where the loss turns linear, positive. Default 1.35, which for Gaussian errors of variance
        1 costs five per cent of the efficiency of least squares.

    Examples
    --------
    >>> from hotloops import admm
    >>> admm.Huber(2.0).delta
    2.0
    """

    delta: float = 1.35

    @property
    def kernel(self) -> str:
        return "huber"

    def __post_init__(self) -> None:
        validate.real("Huber", "delta", self.delta, low=0.0, open_low=True)

    @property
    def shape(self) -> tuple[float, float]:
        return float(self.delta), 0.0


@dataclass(frozen=True)
class Quantile(Loss):
    """The pinball loss of a quantile, smoothed (its Moreau envelope).

    With ``r = y - z`` the loss is ``max(q r, (q - 1) r)`` up to a constant, and quadratic for
    ``(q - 1) width <= r <= q width``.

    Parameters
    ----------
    q : float
        The quantile, in (0, 1). Default 0.5, the median.
    width : float
        Width of the smoothing, positive. Default 0.1.

    Examples
    --------
    >>> from hotloops import admm
    >>> admm.Quantile(0.9, width=0.05).curvature
    20.0
    """

    q: float = 0.5
    width: float = 0.1

    @property
    def kernel(self) -> str:
        return "quantile"

    def __post_init__(self) -> None:
        q = validate.real("Quantile", "q", self.q, low=0.0, high=1.0, open_low=True)
        if q == 1.0:
            validate.fail(ValueError, "Quantile", "q", "lie between 0 and 1", "1.0")
        validate.real("Quantile", "width", self.width, low=0.0, open_low=True)

    @property
    def shape(self) -> tuple[float, float]:
        return float(self.q), float(self.width)

    @property
    def curvature(self) -> float | None:
        return 1.0 / self.width


@dataclass(frozen=True)
class MLP(Loss):
    """A network of dense layers.

    Its parameters are one flat vector: for each layer W (inputs, outputs) row by row, then b.

    Parameters
    ----------
    hidden : tuple of int
        Units of the hidden layers, such as ``(32, 16)``.
    activation : {"relu", "tanh", "gelu"}
        Of the hidden units. Default "relu". "gelu" is the form with tanh.
    head : {"softmax", "squares"}
        Default "softmax": cross-entropy over the classes in `y`. "squares": half the squared
        distance to `y`, which may have several columns.

    Examples
    --------
    >>> from hotloops import admm
    >>> admm.MLP((16,), activation="tanh").hidden
    (16,)
    """

    hidden: tuple[int, ...] = (32,)
    activation: str = "relu"
    head: str = "softmax"

    def __post_init__(self) -> None:
        widths: Any = self.hidden
        if not isinstance(widths, tuple | list) or not 1 <= len(widths) <= 60:
            expectation = "be a tuple of 1 to 60 widths"
            validate.fail(ValueError, "MLP", "hidden", expectation, validate.describe(widths))
        checked = [
            validate.integer("MLP", "hidden", width, low=1, high=_LARGEST_WIDTH) for width in widths
        ]
        object.__setattr__(self, "hidden", tuple(checked))
        validate.choice("MLP", "activation", self.activation, _ACTIVATIONS)
        validate.choice("MLP", "head", self.head, ("softmax", "squares"))

    @property
    def kernel(self) -> str:
        return self.head


def as_loss(function: str, loss: Any) -> Loss:
    """Return the loss that a name or an object means."""
    if isinstance(loss, Loss):
        return loss
    name = validate.choice(function, "loss", loss, _KERNELS)
    special: dict[str, Loss] = {
        "huber_hinge": HuberHinge(),
        "huber": Huber(),
        "quantile": Quantile(),
    }
    return special.get(name, _Named(name))
