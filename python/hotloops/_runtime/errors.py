"""Exceptions and warnings that hotloops adds to Python's own."""

from __future__ import annotations

__all__ = ["BackendUnavailable", "DivergenceWarning", "NumericalError"]


class NumericalError(ArithmeticError):
    """An iteration left the finite numbers.

    Parameters
    ----------
    message : str
        What happened, in the form ``function: text``.
    step : int, optional
        Step at which it was found, counted as in the call that failed.
    row : int, optional
        Row (chain, point, trajectory) in which it was found.

    Attributes
    ----------
    step, row : int or None
        As given.
    """

    def __init__(self, message: str, *, step: int | None = None, row: int | None = None) -> None:
        super().__init__(message)
        self.step = step
        self.row = row


class BackendUnavailable(RuntimeError):
    """The backend asked for cannot run here; the message says why."""


class DivergenceWarning(RuntimeWarning):
    """Some rows diverged; they are flagged and frozen in the result."""


# Users meet these as `hotloops.<name>`; tracebacks and pickles should say the same.
for _public in (NumericalError, BackendUnavailable, DivergenceWarning):
    _public.__module__ = "hotloops"
del _public
