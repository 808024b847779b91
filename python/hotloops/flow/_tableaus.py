"""Runge-Kutta methods as tables of numbers, for every solver of this family.

A method with stages ``k_i = v(t + c_i h, z + h sum_j a_ij k_j)`` ends in ``z + h sum_i b_i k_i``.
Dormand and Prince's pair has a seventh stage at the end of the step: its row of ``a`` is ``b``, so
that it is the first stage of the next step, and with it come an error estimate and a continuous
extension (Hairer, Norsett, Wanner, "Solving ordinary differential equations I", II.5 and II.6).
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["DENSE", "ERROR", "METHODS", "TABLEAUS", "Tableau"]


class Tableau(NamedTuple):
    """One explicit method."""

    nodes: tuple[float, ...]  # c
    matrix: tuple[tuple[float, ...], ...]  # a, row i has i entries
    weights: tuple[float, ...]  # b


METHODS = ("euler", "midpoint", "heun", "rk4", "dopri5")

TABLEAUS = {
    "euler": Tableau((0.0,), ((),), (1.0,)),
    "midpoint": Tableau((0.0, 0.5), ((), (0.5,)), (0.0, 1.0)),
    "heun": Tableau((0.0, 1.0), ((), (1.0,)), (0.5, 0.5)),
    "rk4": Tableau(
        (0.0, 0.5, 0.5, 1.0),
        ((), (0.5,), (0.0, 0.5), (0.0, 0.0, 1.0)),
        (1 / 6, 1 / 3, 1 / 3, 1 / 6),
    ),
    "dopri5": Tableau(
        (0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0),
        (
            (),
            (1 / 5,),
            (3 / 40, 9 / 40),
            (44 / 45, -56 / 15, 32 / 9),
            (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
            (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
        ),
        (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
    ),
}

# Of dopri5's seven stages: fifth order minus fourth, and the last polynomial of the extension.
ERROR = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)
DENSE = (
    -12715105075 / 11282082432,
    0.0,
    87487479700 / 32700410799,
    -10690763975 / 1880347072,
    701980252875 / 199316789632,
    -1453857185 / 822651844,
    69997945 / 29380423,
)
