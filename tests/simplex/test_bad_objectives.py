"""Objectives from bad data: each message names the argument and what came."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hotloops import simplex

R = np.random.default_rng(0).normal(size=(30, 3)) / 100
CONSTANT = np.column_stack([R[:, :2], np.full(30, 0.001)])
NAN = np.where(np.arange(90).reshape(30, 3) == 40, np.nan, R)
LOST = np.where(np.arange(90).reshape(30, 3) == 40, -1.0, R)
moments, utility = simplex.PortfolioMoments, simplex.ExpectedUtility

BAD: list[tuple[Any, type[Exception], str]] = [
    (lambda: moments(NAN), ValueError, "PortfolioMoments: `returns` must be finite, got nan at"),
    (lambda: moments(R[:1]), ValueError, "`returns` must have at least two rows"),
    (lambda: moments(R[0]), ValueError, "`returns` must have 2 dimension"),
    (lambda: moments("prices"), TypeError, "`returns` must be an array of real numbers"),
    (
        lambda: moments(CONSTANT, standardised=True),
        ValueError,
        "`returns` must have no constant column with standardised=True, got column 2",
    ),
    (lambda: moments(R, [1, 2, 3, 4, 5], standardised=True), ValueError, "at most 4 numbers"),
    (lambda: moments(R, np.ones(9)), ValueError, "`preferences` must hold at most 8 numbers"),
    (lambda: moments(R, [1.0, np.nan]), ValueError, "`preferences` must be finite"),
    (lambda: moments(R, []), ValueError, "`preferences` must not be empty"),
    (lambda: moments(R, raw=True, standardised=True), ValueError, "`raw` must be False with"),
    (lambda: moments(R, raw=1), TypeError, "`raw` must be True or False"),
    (lambda: moments(R, time_weights=np.ones(3)), ValueError, "must have shape \\(30,\\)"),
    (lambda: moments(R, time_weights=-np.ones(30)), ValueError, "must not be negative"),
    (
        lambda: moments(R, time_weights=np.eye(30)[0]),
        ValueError,
        "`time_weights` must have at least two entries that are not zero, got 1",
    ),
    (lambda: moments(R, batch_size=0), ValueError, "`batch_size` must be an integer in"),
    (lambda: moments(R, batch_size=31), ValueError, "`batch_size` must be an integer in"),
    (
        lambda: moments(R, batch_size=5, standardised=True),
        ValueError,
        "`batch_size` must be None with standardised=True",
    ),
    (lambda: moments(R, names=["a", "b"]), ValueError, "`names` must hold 3 different names"),
    (lambda: moments(R, names=["a", "a", "b"]), ValueError, "`names` must hold 3 different"),
    (lambda: moments(R, names="abc"), TypeError, "`names` must be a sequence of strings"),
    (lambda: moments(R, upper=0.2), ValueError, "`upper` must leave room for weights that sum"),
    (lambda: moments(R, upper=0.0), ValueError, "`upper` must be positive"),
    (lambda: moments(R, lower=0.5), ValueError, "`lower` must leave room for weights that sum"),
    (lambda: moments(R, lower=-0.1), ValueError, "`lower` must not be negative"),
    (
        lambda: moments(R, lower=[0.5, 0, 0], upper=[0.4, 1, 1]),
        ValueError,
        "`lower` must not be above `upper`, got 0.5 and 0.4 at index 0",
    ),
    (
        lambda: moments(R, groups=[([0, 1], 0.3), ([2], 0.3)]),
        ValueError,
        "`groups` must leave room for weights that sum to 1",
    ),
    (lambda: moments(R, groups=[([0, 3], 0.3)]), ValueError, "must hold different indices in"),
    (lambda: moments(R, groups=[([0, 0], 0.3)]), ValueError, "must hold different indices in"),
    (lambda: moments(R, groups=[([0], -0.3)]), ValueError, "cap` must be a finite number >= 0"),
    (lambda: moments(R, groups=[0.3]), TypeError, "must hold groups such as"),
    (lambda: moments(R, groups={"g": ("a", 0.3)}), TypeError, "must hold groups such as"),
    (lambda: moments(R, groups=[(["a"], 0.3)]), ValueError, "since the assets have no names"),
    (
        lambda: moments(R, names=["a", "b", "c"], groups=[(["d"], 0.3)]),
        ValueError,
        "must hold names of assets, got 'd'",
    ),
    (lambda: moments(R, turnover=0.1), ValueError, "`anchor` must be given when `turnover`"),
    (lambda: moments(R, turnover=-0.1, anchor=0.1), ValueError, "`turnover` must be a finite"),
    (lambda: moments(R, anchor=[1.0]), ValueError, "`anchor` must have shape \\(3,\\)"),
    (lambda: moments(R, smoothing=0.0), ValueError, "`smoothing` must be a finite number > 0"),
    (lambda: moments(R, upper=0.5, penalty=0.0), ValueError, "`penalty` must be a finite number"),
    (lambda: moments(R, ridge=np.inf), ValueError, "`ridge` must be a finite number"),
    (lambda: moments(R, colour=1), TypeError, "unexpected keyword argument 'colour'"),
    (lambda: utility(LOST), ValueError, "ExpectedUtility: `returns` must be above -1, which ends"),
    (lambda: utility(R, "sqrt"), ValueError, "`utility` must be one of 'crra', 'cara', 'log'"),
    (lambda: utility(R, risk_aversion=0.0), ValueError, "`risk_aversion` must be a finite"),
    (lambda: utility(R, percent="yes"), TypeError, "`percent` must be True or False"),
    (lambda: simplex.crra_preferences(-1.0), ValueError, "crra_preferences: `xi` must be a finite"),
    (lambda: simplex.crra_preferences(1.0, order=9), ValueError, "`order` must be an integer in"),
    (lambda: simplex.QuadraticProgram([[1.0, 2.0]]), ValueError, "`Q` must be square"),
    (lambda: simplex.QuadraticProgram(np.eye(2), [1.0]), ValueError, "`c` must have shape"),
    (lambda: simplex.QuadraticProgram([[np.nan]]), ValueError, "`Q` must be finite"),
    (lambda: simplex.Polynomial(), ValueError, "`monomials` must be given, or else `tensors`"),
    (lambda: simplex.Polynomial([(1.0, [(3, 1)])], 3), ValueError, "index` must be an integer in"),
    (lambda: simplex.Polynomial([(1.0, [(0, 17)])], 3), ValueError, "power` must be an integer in"),
    (
        lambda: simplex.Polynomial([(1.0, [(0, 9), (1, 8)])], 3),
        ValueError,
        "must have a degree of at most 16, got 17",
    ),
    (lambda: simplex.Polynomial([3.0], 3), TypeError, "must be a pair \\(coefficient, factors\\)"),
    (lambda: simplex.Polynomial([(1.0, [3])], 3), TypeError, "must have factors \\(index, power"),
    (
        lambda: simplex.Polynomial([(1.0, 3)], 3),
        TypeError,
        "must have factors such as \\{index: pow",
    ),
    (lambda: simplex.Polynomial(3.0, 3), TypeError, "`monomials` must hold pairs"),
    (
        lambda: simplex.Polynomial(tensors=3),
        TypeError,
        "`tensors` must be a sequence, or a mapping",
    ),
    (lambda: simplex.Polynomial(tensors=np.eye(3)), TypeError, "`tensors` must be a sequence, or"),
    (lambda: simplex.Polynomial(tensors={0: 1.0}), ValueError, "`tensors key` must be an integer"),
    (
        lambda: simplex.Polynomial(tensors={2: np.ones(3)}),
        ValueError,
        "`tensors\\[2\\]` must have 2",
    ),
    (lambda: simplex.Polynomial(tensors=[]), ValueError, "`tensors` must hold at least one"),
    (
        lambda: simplex.Polynomial(tensors=[np.ones(3), np.ones((3, 2))]),
        ValueError,
        "must have shape \\(3, 3\\)",
    ),
    (lambda: simplex.Custom(3.5, 2), TypeError, "must be an address, a compiled function"),
    (lambda: simplex.Custom(len, 0), ValueError, "Custom: `dim` must be an integer >= 1"),
]


@pytest.mark.parametrize(("call", "error", "words"), BAD)
def test_bad_data(call: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call()


def test_cash_is_an_asset() -> None:
    """A constant column is no mistake while no moment is divided by a variance."""
    point = simplex.polish(moments(CONSTANT, [0.0, 1.0, 0.0, 1.0]))
    np.testing.assert_allclose(point.x, [0.0, 0.0, 1.0], atol=1e-9)


@pytest.mark.parametrize("shape", ["values", "gradients", "pair"])
def test_what_a_callable_returns_is_checked(shape: str) -> None:
    answers = {
        "values": lambda x: (x, x),
        "gradients": lambda x: (x[:, 0], x[:, 0]),
        "pair": lambda x: x,
    }
    words = {"values": "return values of shape", "gradients": "return gradients of shape"}
    with pytest.raises((TypeError, ValueError), match=words.get(shape, "return a pair")):
        simplex.mwu(simplex.Custom(answers[shape], 2), step_size=0.1, num_steps=2)


def test_bounds_belong_to_the_sizes_of_the_objective() -> None:
    program = simplex.QuadraticProgram(np.eye(4)).with_terms(lower=0.1)
    with pytest.raises(ValueError, match="`sizes` must be \\[4\\] as of the objective, which has"):
        simplex.mwu(program, sizes=(2, 2), step_size=0.1, num_steps=2)


def test_points_of_evaluations() -> None:
    objective = moments(R)
    with pytest.raises(ValueError, match="value_and_grad: `x` must have 3 weights"):
        objective.value_and_grad([0.5, 0.5])
    with pytest.raises(ValueError, match="hessian: `x` must have shape"):
        objective.hessian([0.5, 0.5])
    with pytest.raises(ValueError, match="moments: `x` must have shape"):
        objective.moments([0.5, 0.5])
