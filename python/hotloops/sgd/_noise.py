"""Laws of additive noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from hotloops._runtime import arrays, validate
from hotloops.sgd._problem import Float64, in_precision, to_host

__all__ = ["LAWS", "Noise", "StudentT", "noise_of"]

LAWS = ("gaussian", "uniform", "rademacher", "laplace", "student_t", "none", "table")

_WORDS = ("gaussian", "uniform", "rademacher", "laplace", "none")
_MAX_TABLE = 2**20  # entries that one word chooses from without a bias worth removing
_CENTRED = 1e-6  # of the root mean square
# The radius is sqrt(df (u^(-2/df) - 1)): its square is rounded to df times the precision.
_MAX_DF = 1000.0

Parameters: TypeAlias = "tuple[int, float, Any]"


@dataclass(frozen=True)
class StudentT:
    """Student's t distribution, scaled to variance 1, as a law of noise.

    Parameters
    ----------
    df : float
        Degrees of freedom, in (4, 1000]: above 4 the fourth moment exists, which the theory of
        averaging asks for. Beyond 1000 use "gaussian".

    Raises
    ------
    TypeError, ValueError
        `df` is not such a number.

    Notes
    -----
    Two words a number, by the polar method of R. W. Bailey, "Polar generation of random variates
    with the t-distribution", Mathematics of Computation 62 (1994). Class A. In float32 the radius
    is resolved to about ``df 1e-7``.

    Examples
    --------
    >>> from hotloops import sgd
    >>> problem = sgd.Quadratic([1.0, 2.0], 0.0, noise=sgd.StudentT(5))
    >>> problem.noise_covariance()
    array([[1., 0.],
           [0., 1.]])
    """

    df: float

    def __post_init__(self) -> None:
        df = validate.real("StudentT", "df", self.df, low=4.0, high=_MAX_DF, open_low=True)
        object.__setattr__(self, "df", df)


@dataclass(frozen=True, eq=False)
class Noise:
    """A law as the kernels know it: its number, degrees of freedom, and values to draw from."""

    law: str
    df: float
    table: Float64

    @property
    def variance(self) -> float:
        """Of one coordinate of ``xi``: 1 for every law but "none" and a table."""
        if self.law == "none":
            return 0.0
        return float((self.table**2).mean()) if self.law == "table" else 1.0

    def parameters(self, function: str, dtype: np.dtype[Any], xp: Any) -> Parameters:
        """Return (number of the law, degrees of freedom, table) for a kernel."""
        table = in_precision(function, "noise", self.table, dtype, xp)
        return LAWS.index(self.law), self.df, table

    def __str__(self) -> str:
        if self.law == "student_t":
            return f"StudentT({self.df:g})"
        return f"a table of {self.table.size}" if self.law == "table" else repr(self.law)


def noise_of(function: str, noise: Any) -> Noise:
    """Check the argument `noise` of a problem."""
    nothing = np.empty(0)
    if isinstance(noise, StudentT):
        return Noise("student_t", noise.df, nothing)
    if isinstance(noise, str):
        expectation = (
            "be one of " + ", ".join(map(repr, _WORDS)) + ", a StudentT or a table of values"
        )
        if noise not in _WORDS:
            validate.fail(ValueError, function, "noise", expectation, repr(noise))
        return Noise(noise, 0.0, nothing)
    return Noise("table", 0.0, _table(function, noise))


def _table(function: str, noise: Any) -> Float64:
    """Check values that one word chooses from; they are not rescaled."""
    imported, _ = arrays.import_array(function, "noise", noise)
    host = to_host(validate.as_array(function, "noise", imported))
    table: Float64 = validate.array(
        function, "noise", host, shape=("m",), dtype=np.float64, copy=True
    )
    if not 2 <= table.size <= _MAX_TABLE:
        expectation = f"have 2 to {_MAX_TABLE} values"
        validate.fail(ValueError, function, "noise", expectation, str(table.size))
    scale = float(np.abs(table).max())
    spread = scale * float(np.sqrt(((table / scale) ** 2).mean())) if scale > 0 else 0.0
    mean = float(table.mean())
    if abs(mean) > _CENTRED * spread:
        expectation = f"have mean zero to {_CENTRED:g} of its root mean square"
        got = f"a mean of {mean:g} where the root mean square is {spread:g}"
        validate.fail(ValueError, function, "noise", expectation, got)
    return table
