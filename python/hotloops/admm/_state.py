"""Where a run stands, and what a later run goes on from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops._runtime import validate

__all__ = ["AdmmState", "check_state"]


@dataclass(frozen=True, eq=False)
class AdmmState:
    """What ``state=`` goes on from, bit for bit, as if the run had never stopped.

    m is the number of clients, d that of parameters.

    Attributes
    ----------
    w : ndarray, shape (d,)
        The global point.
    dual : ndarray, shape (m, d)
        The multipliers pi_i.
    second : ndarray, shape (m, d), optional
        Second moments of adagrad, rmsprop and adam, or the diagonal of "diag".
    local : ndarray, shape (m, d), optional
        The clients' points w_i, where a client may have to remember them.
    sigma, rho : ndarray, shape (m,), float64
        Penalties of round 0.
    balance : float
        What residual balancing has made of sigma.
    lipschitz : ndarray, shape (m,), float64
        The clients' Lipschitz constants where they were needed, else NaN.
    round : int
        Rounds made so far.
    seed : int
    loss, scheme : str
    """

    w: npt.NDArray[Any]
    dual: npt.NDArray[Any]
    second: npt.NDArray[Any] | None
    local: npt.NDArray[Any] | None
    sigma: npt.NDArray[np.float64]
    rho: npt.NDArray[np.float64]
    balance: float
    lipschitz: npt.NDArray[np.float64]
    round: int
    seed: int
    loss: str
    scheme: str

    def copy(self) -> AdmmState:
        """Return a state of the same values in memory of its own."""
        copies = {name: value.copy() for name, value in self.arrays().items()}
        return replace(self, **copies)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays that are there, by name."""
        names = ("w", "dual", "second", "local", "sigma", "rho", "lipschitz")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def header(self) -> dict[str, Any]:
        """Return what is no array."""
        names = ("balance", "round", "seed", "loss", "scheme")
        return {name: getattr(self, name) for name in names}


def check_state(function: str, state: AdmmState) -> None:
    """Check what may have come from a file or gone through the user's hands."""
    validate.integer(function, "state.round", state.round, low=0)
    validate.integer(function, "state.seed", state.seed, low=0, high=2**64 - 1)
    validate.real(function, "state.balance", state.balance, low=0.0, open_low=True)
    w = validate.array(function, "state.w", state.w, ndim=1)
    symbols = {"d": w.size}
    for name, value in state.arrays().items():
        if name == "w":
            continue
        per_client = name in ("sigma", "rho", "lipschitz")
        validate.array(
            function,
            f"state.{name}",
            value,
            shape=("m",) if per_client else ("m", "d"),
            symbols=symbols,
            dtype=np.float64 if per_client else w.dtype,
            exact_dtype=True,
            finite=name != "lipschitz",
        )
