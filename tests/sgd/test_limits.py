"""Limits of `sgd.run`: the counter, memory, stability, burn-in, and states that do not fit."""

from __future__ import annotations

import dataclasses
import re
import warnings
from typing import Any

import numpy as np
import pytest

from hotloops import sgd


def raises(kind: type[Exception], message: str) -> Any:
    return pytest.raises(kind, match="^" + re.escape(message) + "$")


CHAINS = "run: chain_offset + num_chains must be at most 2**32, got"
RANGE = "run: step_offset + burn_in + num_steps must be at most 2**48, got"
COUNTER: list[tuple[dict[str, int], str]] = [
    ({"num_chains": 2**32 + 1}, f"{CHAINS} {2**32 + 1}"),
    ({"num_chains": 4, "chain_offset": 2**32 - 3}, f"{CHAINS} {2**32 + 1}"),
    ({"chain_offset": 2**62}, f"{CHAINS} {2**62 + 1}"),
    ({"num_steps": 2**48 + 1, "burn_in": 0}, f"{RANGE} {2**48 + 1}"),
    ({"num_steps": 2**47 + 1}, f"{RANGE} {2**48 + 2}"),
    ({"num_steps": 1, "burn_in": 2**48}, f"{RANGE} {2**48 + 1}"),
    ({"num_steps": 1, "burn_in": 1, "step_offset": 2**48 - 1}, f"{RANGE} {2**48 + 1}"),
]


@pytest.mark.parametrize(("sizes", "text"), COUNTER)
def test_beyond_the_counter(sizes: dict[str, int], text: str) -> None:
    with raises(OverflowError, text):
        sgd.run(sgd.Cosine(), 0.1, **{"num_steps": 10, **sizes})


@pytest.mark.filterwarnings("ignore:run. burn_in:RuntimeWarning")
def test_the_last_step_and_chain_of_the_counter() -> None:
    last = {"chain_offset": 2**32 - 3, "step_offset": 2**48 - 5, "num_chains": 3}
    result = sgd.run(sgd.Cosine(), 0.1, 3, burn_in=2, **last)
    assert result.state.next_step == 2**48
    with raises(OverflowError, f"{RANGE} {2**48 + 1}"):
        sgd.run(sgd.Cosine(), 0.1, 1, state=result.state)


def test_samples_beyond_the_counter() -> None:
    """Steps times batch size is a position in the epochs, which must fit 64 bits."""
    problem = sgd.LeastSquares(np.ones((3, 1)), np.ones(3), batch_size=2**24, sampling="sequential")
    with pytest.raises(
        OverflowError, match=r"^run: the size \d+ x 16777216 must stay below 2\*\*63"
    ):
        sgd.run(problem, 0.1, 10, burn_in=0, step_offset=2**40)


def test_memory_that_no_machine_has() -> None:
    with pytest.raises(OverflowError, match=r"^run: the size .* must stay below 2\*\*63, got"):
        sgd.run(sgd.Cosine(dim=2**34), [0.1, 0.2], 10, num_chains=2**32)
    with pytest.raises(MemoryError):
        sgd.run(sgd.Cosine(dim=2**34), 0.1, 10, num_chains=2**20)


@pytest.mark.parametrize("curvature", [[1.0, 4.0], [[4.0, 0.0], [0.0, 1.0]]])
def test_step_sizes_beyond_stability_of_a_quadratic(curvature: Any) -> None:
    problem = sgd.Quadratic(curvature, 0.0)
    text = "run: `step_sizes` must stay below 2 / L = 0.5, where the chain diverges, got {}"
    with raises(ValueError, text.format("0.5")):
        sgd.run(problem, [0.1, 0.5], 100)
    with raises(ValueError, text.format("7")):
        sgd.run(problem, 7.0, 100)


WARNED: list[tuple[sgd.Problem, float, str]] = [
    (sgd.Quadratic([1.0, 4.0], 0.0), 0.25, "0.25 is not below 1 / L = 0.25"),
    (sgd.Cosine(), 0.5, "0.5 is not below 1 / L = 0.333333"),
    (sgd.LeastSquares([[2.0], [2.0]], [1.0, 2.0]), 0.3, "0.3 is not below 1 / L = 0.25"),
    (sgd.Logistic(np.eye(2) * 4, [0, 1], 1.0), 0.4, "0.4 is not below 1 / L = 0.333333"),
]


@pytest.mark.parametrize(("problem", "step_size", "text"), WARNED)
def test_step_sizes_near_stability(problem: sgd.Problem, step_size: float, text: str) -> None:
    message = (
        f"run: the step size {text}; the theory of averaging and extrapolation needs gamma L < 1"
    )
    with pytest.warns(RuntimeWarning, match="^" + re.escape(message) + "$") as caught:
        sgd.run(problem, [step_size / 2, step_size], 200)
    assert [item.filename for item in caught] == [__file__]


def test_short_burn_in() -> None:
    problem = sgd.Quadratic([0.5, 2.0], 0.0)
    text = (
        "run: burn_in = 60 is short for gamma mu = 0.05: what is left of the start is of order "
        "exp(-3); 100 steps would be enough"
    )
    with pytest.warns(RuntimeWarning, match="^" + re.escape(text) + "$") as caught:
        first = sgd.run(problem, [0.1, 0.2], 60)
    assert [item.filename for item in caught] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sgd.run(problem, [0.1, 0.2], 60, burn_in=100)
        sgd.run(problem, [0.1, 0.2], 5, state=first.state)  # it has been said already
        sgd.run(sgd.Custom(lambda t, n, s, d, o: t + n, 2), 0.1, 5)  # nothing is known
        sgd.run(sgd.Logistic(np.eye(2), [0, 1]), 0.1, 5)  # no lower bound is known


def test_short_burn_in_with_a_rate_that_rounds_to_zero() -> None:
    text = "exp(-0); inf steps would be enough"
    with pytest.warns(RuntimeWarning, match=re.escape(text) + "$"):
        sgd.run(sgd.Quadratic([0.5], 0.0), 5e-324, 1)


def test_step_sizes_that_float32_cannot_tell_apart() -> None:
    problem, text = sgd.Cosine(), "run: `step_sizes` must stay finite, positive and distinct in "
    message = "^" + re.escape(text + "float32, got [")
    with pytest.warns(RuntimeWarning, match="amplify"), pytest.raises(ValueError, match=message):
        sgd.run(problem, [0.1, 0.1 + 1e-12], 100, dtype="float32")
    for step in (1e-60, 1e60):
        with pytest.raises(ValueError, match=message):
            sgd.run(problem, step, 100, dtype="float32")


@pytest.fixture(scope="module")
def first() -> sgd.SGDResult:
    return sgd.run(
        sgd.Quadratic([1.0, 2.0], 0.0),
        [0.1, 0.2],
        100,
        num_chains=3,
        seed=5,
        chain_offset=7,
        step_offset=11,
    )


OTHER: list[tuple[dict[str, Any], type[Exception], str]] = [
    (
        {"step_sizes": [0.1, 0.3]},
        ValueError,
        "`step_sizes` must be [0.1, 0.2] as in `state`, got [0.1, 0.3]",
    ),
    (
        {"step_sizes": [0.2, 0.1]},
        ValueError,
        "`step_sizes` must be [0.1, 0.2] as in `state`, got [0.2, 0.1]",
    ),
    (
        {"burn_in": 0},
        ValueError,
        "`burn_in` must be None when `state` is given (the first run chose it), got 0",
    ),
    ({"num_chains": 4}, ValueError, "`num_chains` must be 3 as in `state`, got 4"),
    ({"seed": 6}, ValueError, "`seed` must be 5 as in `state`, got 6"),
    ({"chain_offset": 8}, ValueError, "`chain_offset` must be 7 as in `state`, got 8"),
    ({"step_offset": 11}, ValueError, "`step_offset` must be 211 as in `state`, got 11"),
    ({"dtype": "float32"}, TypeError, "`dtype` must be float64 as in `state`, got float32"),
    (
        {"theta0": [0.0, 0.0]},
        ValueError,
        "`theta0` must be None when `state` is given, got a list of length 2",
    ),
    (
        {"checkpoints": [100, 101]},
        ValueError,
        "`checkpoints` must lie in [101, 110], got [100, 101]",
    ),
    ({"checkpoints": [111]}, ValueError, "`checkpoints` must lie in [101, 110], got [111]"),
    (
        {"problem": sgd.Cosine(dim=2)},
        ValueError,
        "`state` must belong to a cosine problem with dim = 2, "
        "got one of a quadratic problem with dim = 2",
    ),
    (
        {"problem": sgd.Quadratic([1.0], 0.0)},
        ValueError,
        "`state` must belong to a quadratic problem with dim = 1, "
        "got one of a quadratic problem with dim = 2",
    ),
    ({"out": np.zeros((3, 2, 1))}, ValueError, "`out` must have shape (3, 2, 2), got (3, 2, 1)"),
]


@pytest.mark.parametrize(("change", "kind", "text"), OTHER)
def test_state_of_another_run(
    first: sgd.SGDResult, change: dict[str, Any], kind: type[Exception], text: str
) -> None:
    given = {"problem": sgd.Quadratic([1.0, 2.0], 0.0), "step_sizes": [0.1, 0.2], "num_steps": 10}
    before = first.last.tobytes(), first.state.arrays.sums.tobytes()
    with raises(kind, f"run: {text}"):
        sgd.run(**{**given, **change}, state=first.state)  # type: ignore[arg-type]
    assert (first.last.tobytes(), first.state.arrays.sums.tobytes()) == before
    known = {"num_chains": 3, "seed": 5, "chain_offset": 7, "step_offset": 211, "dtype": "float64"}
    assert sgd.run(**given, **known, state=first.state).num_steps == 110  # type: ignore[arg-type]


FORGED: list[tuple[str, Any, type[Exception], str]] = [
    ("next_step", -1, ValueError, "must be an integer >= 0, got -1"),
    ("next_step", 1.0, TypeError, "must be an integer >= 0, got 1.0"),
    ("burn_in_left", -1, ValueError, "must be an integer >= 0, got -1"),
    ("num_averaged", None, TypeError, "must be an integer >= 0, got None"),
    ("chain_offset", -1, ValueError, "must be an integer >= 0, got -1"),
    ("seed", 2**64, OverflowError, f"must be an integer in [0, {2**64 - 1}], got {2**64}"),
    ("arrays.theta", None, ValueError, "must have shape (C, J, d), got None"),
    (
        "arrays.theta",
        np.zeros((3, 2)),
        ValueError,
        "must have shape (C, J, d), got a numpy.ndarray of shape (3, 2) and dtype float64",
    ),
    (
        "arrays.theta",
        np.full((3, 2, 2), np.nan),
        ValueError,
        "must be finite, got nan at index (0, 0, 0)",
    ),
    ("arrays.sums", np.zeros((3, 2, 1)), ValueError, "must have shape (3, 2, 2), got (3, 2, 1)"),
    (
        "arrays.sums",
        np.zeros((3, 2, 2), np.float32),
        TypeError,
        "must have dtype float64, got float32",
    ),
    (
        "arrays.sums",
        np.full((3, 2, 2), np.inf),
        ValueError,
        "must be finite, got inf at index (0, 0, 0)",
    ),
    (
        "arrays.flags",
        np.zeros((3, 2)),
        TypeError,
        "must be an array of integers, got dtype float64",
    ),
    ("arrays.flags", np.zeros((2, 3), np.uint8), ValueError, "must have shape (3, 2), got (2, 3)"),
    ("arrays.diverged_at", [[-1, -1]] * 3, TypeError, "must be an array, got a list of length 3"),
    (
        "arrays.step_sizes",
        np.array([0.1, 0.0]),
        ValueError,
        "must be positive, got 0.0 at index (1,)",
    ),
]


@pytest.mark.parametrize(("name", "value", "kind", "text"), FORGED)
def test_forged_state(
    first: sgd.SGDResult, name: str, value: Any, kind: type[Exception], text: str
) -> None:
    if name.startswith("arrays."):
        value = dataclasses.replace(first.state.arrays, **{name.removeprefix("arrays."): value})
    forged = dataclasses.replace(first.state, **{name.partition(".")[0]: value})
    with raises(kind, f"run: `state.{name}` {text}"):
        sgd.run(sgd.Quadratic([1.0, 2.0], 0.0), [0.1, 0.2], 10, state=forged)
