"""Games whose equilibria are the stationary points of one potential."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hotloops._runtime import validate
from hotloops.simplex._functions import kkt_residual
from hotloops.simplex._objective import Float64, Objective, host_array
from hotloops.simplex._polynomial import Polynomial, QuadraticProgram
from hotloops.simplex._polytope import cuts_of

__all__ = ["Congestion", "Polymatrix", "PotentialGame", "nash_gap"]

_MAX_PLAYERS = 16  # the degree that the kernel can take
_MAX_MONOMIALS = 2_000_000


class PotentialGame(Polynomial):
    """Mixed strategies of players that share one payoff, or a potential.

    ``f = -sum P[a_1, ..., a_N] x_1[a_1] ... x_N[a_N]``: minima are equilibria, the global one is
    the best.

    Parameters
    ----------
    potential : array_like, shape (d_1, ..., d_N)
        The common payoff, or the potential, of every combination of actions; 2 to 16 players.
    entropy : float
        Adds ``entropy sum x log x``: minima are then logit equilibria. Default 0.

    Attributes
    ----------
    sizes : tuple of int
        Numbers of actions.

    Raises
    ------
    TypeError, ValueError
        A potential of the wrong kind.

    Notes
    -----
    Class A. An evaluation costs a few operations for each entry of the tensor that is not zero. See
    `Polymatrix` and `Congestion` for many players.

    Examples
    --------
    >>> from hotloops import simplex
    >>> game = simplex.PotentialGame([[2.0, 0.0, 0.5], [0.0, 1.0, 0.2]])
    >>> result = simplex.lmwu(
    ...     game, step_size=0.1, inverse_temperature=50.0, num_steps=500, num_chains=16
    ... )
    >>> round(result.value, 9), simplex.nash_gap(game, result.x) < 1e-9
    (-2.0, True)
    """

    def __init__(self, potential: Any, *, entropy: float = 0.0) -> None:
        name = type(self).__name__
        players = tuple(range(2, _MAX_PLAYERS + 1))
        tensor, _ = host_array(name, "potential", potential, ndim=players, dtype=np.float64)
        offsets = np.cumsum([0, *tensor.shape])[:-1]
        places = np.argwhere(tensor)
        table = {
            tuple(key): -value
            for key, value in zip(
                (places + offsets).tolist(), tensor[tensor != 0.0].tolist(), strict=True
            )
        }
        self._set_table(table, sum(tensor.shape))
        self._set_size(name, tensor.shape)
        self.terms = self.with_terms(entropy=entropy).terms

    def __repr__(self) -> str:
        return f"PotentialGame(sizes={self.sizes})"

    @classmethod
    def from_payoffs(cls, payoffs: Any, *, entropy: float = 0.0) -> PotentialGame:
        """Return the game of an exact potential, from the payoffs of every player.

        Parameters
        ----------
        payoffs : array_like, shape (N, d_1, ..., d_N)
            ``payoffs[i]`` is what player i gets.
        entropy : float
            As above.

        Returns
        -------
        PotentialGame

        Raises
        ------
        ValueError
            There is no exact potential: what one player gains by changing the action is not the
            change of any common function.
        """
        function = "PotentialGame.from_payoffs"
        players = tuple(range(3, _MAX_PLAYERS + 2))
        given, _ = host_array(function, "payoffs", payoffs, ndim=players, dtype=np.float64)
        if given.shape[0] != given.ndim - 1:
            expectation = "have shape (N, d_1, ..., d_N)"
            validate.fail(ValueError, function, "payoffs", expectation, str(given.shape))
        # Along a path that changes one action after the other, from the first of each.
        potential = np.zeros(given.shape[1:])
        for i, payoff in enumerate(given):
            later = tuple(slice(0, 1) if j > i else slice(None) for j in range(given.ndim - 1))
            own = payoff[later]
            potential = potential + own - own.take([0], axis=i)
        for i, payoff in enumerate(given):
            rest = payoff - potential
            error = float(np.ptp(rest, axis=i).max())
            if error > 1e-9 * (1.0 + float(np.abs(given).max())):
                expectation = "be those of an exact potential game"
                got = f"gains of player {i} that differ by {error:g} from those of a potential"
                validate.fail(ValueError, function, "payoffs", expectation, got)
        return cls(potential, entropy=entropy)


class Polymatrix(QuadraticProgram):
    """Any number of players whose common payoff is a sum over pairs.

    ``f = -sum_(i, j) x_i^T A_ij x_j`` over the pairs that are given.

    Parameters
    ----------
    payoffs : mapping from (i, j) to array_like, shape (d_i, d_j)
        The payoff of each pair of players, i not equal to j.
    sizes : sequence of int
        Number of actions of each player.
    entropy : float
        As of `PotentialGame`. Default 0.

    Raises
    ------
    TypeError, ValueError
        Pairs or matrices that do not fit the sizes.

    Examples
    --------
    >>> from hotloops import simplex
    >>> same = [[1.0, 0.0], [0.0, 2.0]]
    >>> game = simplex.Polymatrix({(0, 1): same, (1, 2): same}, sizes=(2, 2, 2))
    >>> result = simplex.lmwu(
    ...     game, step_size=0.1, inverse_temperature=20.0, num_steps=500, num_chains=8
    ... )
    >>> result.value, result.x.tolist()
    (-4.0, [0.0, 1.0, 0.0, 1.0, 0.0, 1.0])
    """

    def __init__(
        self, payoffs: Mapping[tuple[int, int], Any], sizes: Sequence[int], *, entropy: float = 0.0
    ) -> None:
        name = "Polymatrix"
        if not isinstance(payoffs, Mapping):
            expectation = "be a mapping from pairs (i, j) to matrices"
            validate.fail(TypeError, name, "payoffs", expectation, validate.describe(payoffs))
        parts = _check_counts(name, sizes)
        cuts = cuts_of(parts)
        matrix = np.zeros((sum(parts), sum(parts)))
        for pair, item in payoffs.items():
            label = f"payoffs[{pair!r}]"
            if not _is_pair(pair, len(parts)):
                expectation = f"belong to two different players below {len(parts)}"
                validate.fail(ValueError, name, label, expectation, repr(pair))
            i, j = pair
            block, _ = host_array(name, label, item, shape=(parts[i], parts[j]), dtype=np.float64)
            matrix[cuts[i], cuts[j]] -= block
        super().__init__(matrix)
        self.dtype = None
        self._set_size(name, parts)
        self.terms = self.with_terms(entropy=entropy).terms

    def __repr__(self) -> str:
        return f"Polymatrix(sizes={self.sizes})"


def _check_counts(function: str, sizes: Any) -> tuple[int, ...]:
    if isinstance(sizes, str) or not isinstance(sizes, Sequence | np.ndarray):
        expectation = "be a sequence of integers"
        validate.fail(TypeError, function, "sizes", expectation, validate.describe(sizes))
    return tuple(validate.integer(function, "sizes", size, low=1) for size in sizes)


def _is_pair(pair: Any, players: int) -> bool:
    """Whether these are the numbers of two different players."""
    if not isinstance(pair, tuple) or len(pair) != 2 or pair[0] == pair[1]:
        return False
    return all(isinstance(p, int | np.integer) and 0 <= p < players for p in pair)


class Congestion(Polynomial):
    """A congestion game: every action uses some resources, whose costs grow with their users.

    f is the expectation of Rosenthal's potential ``sum_r sum_(k <= n_r) c_r(k)`` over mixed
    strategies. It is exact: with the forward differences of c_r it is a sum of elementary symmetric
    polynomials of the players' probabilities to use r.

    Parameters
    ----------
    actions : sequence of sequences
        ``actions[i][a]`` is the collection of resources, numbers from 0, that action a of player i
        uses; 2 to 16 players, or more if the costs are polynomials of low degree.
    costs : array_like, shape (resources, N)
        ``costs[r, k - 1]`` is what each of k users of resource r pays.
    entropy : float
        As of `PotentialGame`. Default 0.

    Raises
    ------
    TypeError, ValueError
        Resources out of range, costs of the wrong shape.
    OverflowError
        More than two million monomials.

    Notes
    -----
    Class A. Costs that are polynomials of degree q of the load give a potential of degree q + 1;
    straight lines give a quadratic one.

    R. W. Rosenthal, "A class of games possessing pure-strategy Nash equilibria", International
    Journal of Game Theory 2 (1973).

    Examples
    --------
    >>> from hotloops import simplex
    >>> roads = [[(0,), (1,)]] * 3  # three drivers, two roads
    >>> game = simplex.Congestion(roads, [[1.0, 2.0, 3.0], [2.0, 2.0, 2.0]])
    >>> result = simplex.lmwu(
    ...     game, step_size=0.1, inverse_temperature=20.0, num_steps=500, num_chains=8, seed=2
    ... )
    >>> result.value
    5.0
    """

    def __init__(self, actions: Sequence[Any], costs: Any, *, entropy: float = 0.0) -> None:
        name = "Congestion"
        used = _check_actions(name, actions)
        table_of_costs, _ = host_array(
            name, "costs", costs, shape=("resources", len(used)), dtype=np.float64
        )
        sizes = tuple(len(player) for player in used)
        most = max(max(action, default=-1) for player in used for action in player)
        if most >= table_of_costs.shape[0]:
            expectation = f"name resources below {table_of_costs.shape[0]}, the rows of `costs`"
            validate.fail(ValueError, name, "actions", expectation, str(most))
        self._set_table(_potential(name, used, table_of_costs), sum(sizes))
        self._set_size(name, sizes)
        self.terms = self.with_terms(entropy=entropy).terms

    def __repr__(self) -> str:
        return f"Congestion(sizes={self.sizes}, degree={self.degree})"


def _check_actions(function: str, actions: Any) -> list[list[tuple[int, ...]]]:
    expectation = "hold for each player a sequence of collections of resources"
    if isinstance(actions, str) or not isinstance(actions, Sequence):
        validate.fail(TypeError, function, "actions", expectation, validate.describe(actions))
    used = []
    for i, player in enumerate(actions):
        if isinstance(player, str) or not isinstance(player, Sequence) or not player:
            got = validate.describe(player)
            validate.fail(TypeError, function, f"actions[{i}]", expectation, got)
        rows = []
        for a, action in enumerate(player):
            if isinstance(action, str) or not hasattr(action, "__iter__"):
                got = validate.describe(action)
                validate.fail(TypeError, function, f"actions[{i}][{a}]", expectation, got)
            label = f"actions[{i}][{a}]"
            rows.append(
                tuple(sorted({validate.integer(function, label, r, low=0) for r in action}))
            )
        used.append(rows)
    if not used:
        validate.fail(ValueError, function, "actions", "hold at least one player", "none")
    return used


def _potential(
    function: str, used: list[list[tuple[int, ...]]], costs: Float64
) -> dict[tuple[int, ...], float]:
    """Return ``sum_r sum_j D^(j-1) c_r(1) e_j(p_1r, ..., p_Nr)`` as monomials.

    ``sum_(k <= n) c(k) = sum_j D^(j-1) c(1) binomial(n, j)`` by Newton's series, and the
    expectation of ``binomial(n, j)`` over independent players is e_j.
    """
    cuts = cuts_of(tuple(len(player) for player in used))
    table: dict[tuple[int, ...], float] = {}
    for r, row in enumerate(costs):
        users = []
        for cut, player in zip(cuts, used, strict=True):
            mine = [cut.start + a for a, action in enumerate(player) if r in action]
            if mine:
                users.append(mine)
        differences = row.copy()
        for j in range(1, len(users) + 1):
            if abs(differences[0]) > 1e-12 * float(np.abs(row).max(initial=1e-300)):
                if j > _MAX_PLAYERS:
                    expectation = f"be polynomials of a degree below {_MAX_PLAYERS}"
                    validate.fail(ValueError, function, "costs", expectation, f"row {r}")
                for chosen in itertools.combinations(users, j):
                    for key in itertools.product(*chosen):
                        table[key] = table.get(key, 0.0) + float(differences[0])
                    if len(table) > _MAX_MONOMIALS:
                        raise OverflowError(
                            f"{function}: the potential must have at most {_MAX_MONOMIALS:,} "
                            "monomials; use fewer actions, or costs of a lower degree"
                        )
            differences = np.diff(differences)
    return table


def nash_gap(game: Objective, x: Any) -> Any:
    """Return the most that one player could gain by another strategy.

    It is ``max_i (x_i . g_i - min_s g_is)`` with the gradient g of the potential alone, without
    entropy and other terms; zero at an equilibrium.

    Parameters
    ----------
    game : Objective
        `PotentialGame`, `Polymatrix`, `Congestion`, or any objective on a product of simplices.
    x : array_like, shape (d,) or (C, d)
        Mixed strategies, laid end to end.

    Returns
    -------
    float or ndarray, shape (C,), float64

    Raises
    ------
    TypeError, ValueError
        Arguments of the wrong kind.

    Examples
    --------
    >>> from hotloops import simplex
    >>> game = simplex.PotentialGame([[2.0, 0.0], [0.0, 1.0]])
    >>> simplex.nash_gap(game, [0.0, 1.0, 0.0, 1.0]), simplex.nash_gap(game, [0.5, 0.5, 1.0, 0.0])
    (0.0, 1.0)
    """
    if not isinstance(game, Objective):
        expectation = "be an objective such as simplex.PotentialGame(payoff)"
        validate.fail(TypeError, "nash_gap", "game", expectation, validate.describe(game))
    points, _ = host_array("nash_gap", "x", x, ndim=(1, 2), dtype=np.float64)
    if points.shape[-1] != game.dim:
        expectation = f"have {game.dim} weights in each row"
        validate.fail(ValueError, "nash_gap", "x", expectation, str(points.shape))
    rows = points.reshape(-1, game.dim)
    slopes = np.stack([game._own_value_and_grad(row)[1] for row in rows])
    return kkt_residual(points, slopes.reshape(points.shape), sizes=game.sizes)
