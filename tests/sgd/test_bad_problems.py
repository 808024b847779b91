"""Every argument of the built-in problems wrong in every way."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from hotloops import sgd

Bad = tuple[str, Any, type[Exception], str]


def raises(kind: type[Exception], message: str) -> Any:
    return pytest.raises(kind, match="^" + re.escape(message) + "$")


class Metal:
    """An array on a kind of device that nothing here works on."""

    dtype, shape = np.dtype(np.float64), (3,)

    def __dlpack_device__(self) -> tuple[int, int]:
        return 8, 0

    def __dlpack__(self, **kwargs: Any) -> Any:
        raise AssertionError("nothing may be imported from it")


class Sparse:
    shape = (3, 2)

    def tocsr(self) -> Sparse:
        raise AssertionError("nothing may be converted")


REAL = "be an array of real numbers, got"
RAGGED = "be a rectangular array of real numbers, got a list of length 2 with ragged rows"
METAL = "live in host memory or on a CUDA device, got an array on metal:0"
LIMIT = "be a finite number in (0.0, 1e+30], got"


def not_an_array(argument: str) -> list[Bad]:
    return [
        (argument, None, TypeError, f"{REAL} None"),
        (argument, "1", TypeError, f"{REAL} '1'"),
        (argument, ["1", "2", "3"], TypeError, f"{REAL} dtype <U1"),
        (argument, True, TypeError, f"{REAL} dtype bool"),
        (argument, 1j, TypeError, f"{REAL} dtype complex128"),
        (argument, {}, TypeError, f"{REAL} a dict of length 0"),
        (argument, {1.0}, TypeError, f"{REAL} a set of length 1"),
        (
            argument,
            [None, 1.0],
            TypeError,
            f"{REAL} a numpy.ndarray of shape (2,) and dtype object",
        ),
        (argument, [[1.0], [1.0, 2.0]], ValueError, RAGGED),
        (
            argument,
            np.ones(3, np.float16),
            TypeError,
            "have dtype float32 or float64, got dtype float16",
        ),
        (
            argument,
            np.ma.masked_array([1.0, 2.0, 3.0], [0, 1, 0]),
            TypeError,
            f"{REAL} a numpy.MaskedArray of shape (3,) and dtype float64",
        ),
        (argument, [2**70], TypeError, f"{REAL} a numpy.ndarray of shape (1,) and dtype object"),
    ]


def limits(good: Any) -> list[Bad]:
    return [
        ("divergence_limit", 0, ValueError, f"{LIMIT} 0"),
        ("divergence_limit", -1.0, ValueError, f"{LIMIT} -1.0"),
        ("divergence_limit", np.nan, ValueError, f"{LIMIT} nan"),
        ("divergence_limit", np.inf, ValueError, f"{LIMIT} inf"),
        ("divergence_limit", 1e31, ValueError, f"{LIMIT} 1e+31"),
        ("divergence_limit", None, TypeError, f"{LIMIT} None"),
        ("divergence_limit", True, TypeError, f"{LIMIT} True"),
        ("divergence_limit", [1.0], TypeError, f"{LIMIT} a list of length 1"),
    ]


INDEFINITE = np.array([[1.0, 2.0, 0.0], [2.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
QUADRATIC: list[Bad] = [
    *not_an_array("a_or_A"),
    *not_an_array("minimizer"),
    *limits(None),
    ("a_or_A", [], ValueError, "not be empty, got shape (0,)"),
    ("a_or_A", np.zeros((0, 0)), ValueError, "not be empty, got shape (0, 0)"),
    ("a_or_A", np.ones((1, 1, 1)), ValueError, "have shape (d,) or (d, d), got (1, 1, 1)"),
    ("a_or_A", np.ones((2, 3)), ValueError, "have shape (d, d), got (2, 3)"),
    ("a_or_A", [1.0, 0.0, 1.0], ValueError, "be positive, got 0.0 at index (1,)"),
    ("a_or_A", [1.0, -2.0, 1.0], ValueError, "be positive, got -2.0 at index (1,)"),
    ("a_or_A", [1.0, 1.0, np.nan], ValueError, "be finite, got nan at index (2,)"),
    ("a_or_A", [np.inf, 1.0, 1.0], ValueError, "be finite, got inf at index (0,)"),
    (
        "a_or_A",
        np.array([[1.0, 0.5, 0], [0.25, 1.0, 0], [0, 0, 1]]),
        ValueError,
        "be symmetric, got 0.5 at (0, 1) and 0.25 at (1, 0)",
    ),
    ("a_or_A", INDEFINITE, ValueError, "be positive definite, got a smallest eigenvalue of -1"),
    (
        "a_or_A",
        np.zeros((3, 3)),
        ValueError,
        "be positive definite, got a smallest eigenvalue of 0",
    ),
    ("minimizer", [1.0], ValueError, "have shape (d,) with d = 3 as in `a_or_A`, got (1,)"),
    (
        "minimizer",
        np.ones((3, 1)),
        ValueError,
        "have shape (d,), got (3, 1)",
    ),
    ("minimizer", np.nan, ValueError, "be finite, got nan at index (0,)"),
    ("minimizer", [0.0, 1.0, np.inf], ValueError, "be finite, got inf at index (2,)"),
    (
        "noise_scale",
        [1.0, 2.0],
        ValueError,
        "have shape (d,) with d = 3 as in `a_or_A`, got (2,)",
    ),
    ("noise_scale", -1.0, ValueError, "not be negative, got -1.0"),
    ("noise_scale", [1.0, -0.5, 0.0], ValueError, "not be negative, got -0.5"),
    ("noise_scale", np.nan, ValueError, "be finite, got nan at index (0,)"),
    ("noise_scale", "1", TypeError, f"{REAL} '1'"),
    ("cholesky", np.eye(2), ValueError, "have shape (d, d) with d = 3 as in `a_or_A`, got (2, 2)"),
    ("cholesky", 1.0, ValueError, "have shape (d, d), got (1,)"),
    ("cholesky", np.eye(3) * np.nan, ValueError, "be finite, got nan at index (0, 0)"),
    ("cholesky", "L", TypeError, f"{REAL} 'L'"),
    (
        "cholesky",
        np.triu(np.ones((3, 3))),
        ValueError,
        "be lower triangular, got 1.0 at (0, 1)",
    ),
]


def check(build: Callable[..., Any], good: dict[str, Any], bad: Bad) -> None:
    """The message names the class; what was given has not changed."""
    argument, value, kind, text = bad
    given = {**good, argument: value}
    arrays = [array for array in given.values() if type(array) is np.ndarray]
    before = [array.tobytes() for array in arrays]
    with raises(kind, f"{build.__name__}: `{argument}` must {text}"):
        build(**given)
    assert [array.tobytes() for array in arrays] == before


@pytest.mark.parametrize("bad", QUADRATIC, ids=lambda bad: bad[0])
def test_quadratic(bad: Bad) -> None:
    good: dict[str, Any] = {"a_or_A": np.array([1.0, 2.0, 3.0]), "minimizer": np.zeros(3)}
    check(sgd.Quadratic, good, bad)


@pytest.mark.parametrize("argument", ["a_or_A", "minimizer", "noise_scale", "cholesky"])
def test_quadratic_elsewhere(argument: str) -> None:
    good = {"a_or_A": [1.0, 2.0, 3.0], "minimizer": 0.0}
    with raises(TypeError, f"Quadratic: `{argument}` must {METAL}"):
        sgd.Quadratic(**{**good, argument: Metal()})
    first, second = ("a_or_A", "minimizer") if argument == "a_or_A" else ("a_or_A", argument)
    places = "metal:0 and cpu" if argument == "a_or_A" else "cpu and metal:0"
    arrays = {"a_or_A": np.ones(3), "minimizer": np.zeros(3), argument: Metal()}
    text = f"Quadratic: `{first}` and `{second}` must live on the same device, got {places}"
    with raises(TypeError, text):
        sgd.Quadratic(**arrays)


def test_two_kinds_of_noise() -> None:
    text = "Quadratic: `noise_scale` must be None when `cholesky` is given, got 1.0"
    with raises(ValueError, text):
        sgd.Quadratic([1.0, 2.0], 0.0, 1.0, cholesky=np.eye(2))


PHI = "be a finite number in [-1000.0, 1000.0], got"
COSINE: list[Bad] = [
    ("phi", np.nan, ValueError, f"{PHI} nan"),
    ("phi", np.inf, ValueError, f"{PHI} inf"),
    ("phi", 1e4, ValueError, f"{PHI} 10000.0"),
    ("phi", None, TypeError, f"{PHI} None"),
    ("phi", "0", TypeError, f"{PHI} '0'"),
    ("phi", [0.0], TypeError, f"{PHI} a list of length 1"),
    ("phi", 1j, TypeError, f"{PHI} 1j"),
    ("phi", False, TypeError, f"{PHI} False"),
    ("sigma", -1.0, ValueError, "be a finite number >= 0.0, got -1.0"),
    ("sigma", np.nan, ValueError, "be a finite number >= 0.0, got nan"),
    ("sigma", np.zeros(1), TypeError, "be a finite number >= 0.0, got"),
    ("sigma", 10**400, OverflowError, "be a finite number >= 0.0, got an integer of 1329 bits"),
    ("dim", 0, ValueError, "be an integer >= 1, got 0"),
    ("dim", -4, ValueError, "be an integer >= 1, got -4"),
    ("dim", 1.0, TypeError, "be an integer >= 1, got 1.0"),
    ("dim", True, TypeError, "be an integer >= 1, got True"),
    ("dim", None, TypeError, "be an integer >= 1, got None"),
    ("dim", 2**70, OverflowError, f"be an integer >= 1 of at most 64 bits, got {2**70}"),
    *limits(None),
]


@pytest.mark.parametrize("bad", COSINE, ids=lambda bad: bad[0])
def test_cosine(bad: Bad) -> None:
    argument, value, kind, text = bad
    with pytest.raises(kind, match="^" + re.escape(f"Cosine: `{argument}` must {text}")):
        sgd.Cosine(**{argument: value})


def test_more_coordinates_than_the_counter_has() -> None:
    with raises(OverflowError, f"Cosine: `dim` must be at most 2**34, got {2**34 + 1}"):
        sgd.Cosine(dim=2**34 + 1)


BATCH = f"be an integer in [1, {2**24}], got"
SAMPLING = "be one of 'iid', 'reshuffle', 'sequential', got"
ROWS: list[Bad] = [
    *[
        bad
        for bad in not_an_array("X")
        if bad[1] is not None and not isinstance(bad[1], set | dict)
    ],
    *[
        bad
        for bad in not_an_array("y")
        if bad[1] is not None and not isinstance(bad[1], set | dict)
    ],
    *limits(None),
    ("X", None, TypeError, f"{REAL} None"),
    ("y", None, TypeError, f"{REAL} None"),
    ("X", np.zeros((0, 2)), ValueError, "not be empty, got shape (0, 2)"),
    ("X", np.zeros((3, 0)), ValueError, "not be empty, got shape (3, 0)"),
    ("X", np.ones(3), ValueError, "have shape (n, d), got (3,)"),
    ("X", np.ones((3, 2, 1)), ValueError, "have shape (n, d), got (3, 2, 1)"),
    ("X", 1.0, ValueError, "have shape (n, d), got ()"),
    ("X", [[0, 1], [np.nan, 0], [0, 0]], ValueError, "be finite, got nan at index (1, 0)"),
    ("X", [[0, 1], [1, 0], [0, -np.inf]], ValueError, "be finite, got -inf at index (2, 1)"),
    ("y", np.ones(4), ValueError, "have shape (n,) with n = 3 as in `X`, got (4,)"),
    ("y", np.ones((3, 1)), ValueError, "have shape (n,), got (3, 1)"),
    ("y", [], ValueError, "have shape (n,) with n = 3 as in `X`, got (0,)"),
    ("y", [0.0, 1.0, np.nan], ValueError, "be finite, got nan at index (2,)"),
    ("l2", -1e-9, ValueError, "be a finite number >= 0.0, got -1e-09"),
    ("l2", np.nan, ValueError, "be a finite number >= 0.0, got nan"),
    ("l2", None, TypeError, "be a finite number >= 0.0, got None"),
    ("l2", "0.1", TypeError, "be a finite number >= 0.0, got '0.1'"),
    ("batch_size", 0, ValueError, f"{BATCH} 0"),
    ("batch_size", -1, ValueError, f"{BATCH} -1"),
    ("batch_size", 2**24 + 1, ValueError, f"{BATCH} {2**24 + 1}"),
    ("batch_size", 1.0, TypeError, f"{BATCH} 1.0"),
    ("batch_size", None, TypeError, f"{BATCH} None"),
    ("sampling", "random", ValueError, f"{SAMPLING} 'random'"),
    ("sampling", None, TypeError, f"{SAMPLING} None"),
    ("sampling", 0, TypeError, f"{SAMPLING} 0"),
]


@pytest.mark.parametrize("loss", [sgd.LeastSquares, sgd.Logistic])
@pytest.mark.parametrize("bad", ROWS, ids=lambda bad: bad[0])
def test_rows(loss: Any, bad: Bad) -> None:
    features = np.array([[1.0, 2.0], [0.5, 1.0], [-1.0, 0.0]])
    check(loss, {"X": features, "y": np.array([0.0, 1.0, 1.0])}, bad)


@pytest.mark.parametrize("loss", [sgd.LeastSquares, sgd.Logistic])
def test_rows_elsewhere(loss: Any) -> None:
    name = loss.__name__
    with raises(TypeError, f"{name}: `X` must be a dense array, got a tests.Sparse"):
        loss(Sparse(), np.ones(3))
    text = f"{name}: `X` and `y` must live on the same device, got metal:0 and cpu"
    with raises(TypeError, text):
        loss(Metal(), np.ones(3))
    with raises(TypeError, f"{name}: `X` must {METAL}"):
        loss(Metal(), Metal())


LABELS: list[tuple[Any, str]] = [
    ([0, 1, 2], "2"),
    ([0.0, 0.5, 1.0], "0.5"),
    ([-1, 0, 1], "labels -1 and 0 together"),
    ([-1, -1, 0], "labels -1 and 0 together"),
    ([1, 2, 1], "2"),
    ([1e-300, 1, 0], "1e-300"),
    ([7, 7, 7], "7"),
]


@pytest.mark.parametrize(("labels", "got"), LABELS)
def test_labels_outside_the_two_classes(labels: list[float], got: str) -> None:
    with raises(
        ValueError, f"Logistic: `y` must hold labels in {{0, 1}} or in {{-1, 1}}, got {got}"
    ):
        sgd.Logistic(np.ones((3, 1)), labels)


OVERFLOWING: list[tuple[Callable[[], sgd.Problem], str]] = [
    (lambda: sgd.Quadratic([1.0], 1e300, divergence_limit=1.0), "Quadratic: `minimizer`"),
    (lambda: sgd.Quadratic([1.0], 0.0, 1e300), "Quadratic: `noise_scale`"),
    (lambda: sgd.Quadratic([[1.0]], 0.0, cholesky=[[1e300]]), "Quadratic: `cholesky`"),
    (lambda: sgd.Cosine(0.0, 1e300), "Cosine: `sigma`"),
    (lambda: sgd.LeastSquares([[1.0]], [1e300]), "LeastSquares: `y`"),
    (lambda: sgd.LeastSquares([[1e300]], [1.0]), "LeastSquares: `X`"),
    (lambda: sgd.LeastSquares([[1.0]], [1.0], 1e300), "LeastSquares: `l2`"),
]


@pytest.mark.filterwarnings("ignore:run. the step size:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:run. burn_in:RuntimeWarning")
@pytest.mark.parametrize(("build", "subject"), OVERFLOWING)
def test_values_beyond_the_precision_of_the_run(
    build: Callable[[], sgd.Problem], subject: str
) -> None:
    """1e300 is a float64; a float32 run says so instead of diverging."""
    with pytest.raises(ValueError, match=f"^{subject} must be finite in float32, got 1e\\+300"):
        sgd.run(build(), 0.1, 10, dtype="float32")


def test_good_layouts() -> None:
    """Read-only, strided, Fortran-ordered, integer and byte-swapped data are fine."""
    generator = np.random.default_rng(0)
    features, targets = generator.integers(-9, 9, (20, 3)), generator.integers(-9, 9, 20)

    def last(x: Any, y: Any) -> Any:
        problem = sgd.LeastSquares(x, y, 0.1)
        with pytest.warns(RuntimeWarning, match="burn_in"):
            return sgd.run(problem, 1e-3, 30, num_chains=4).last

    expected = last(features.astype(float), targets.astype(float))
    frozen = features.astype(float)
    frozen.flags.writeable = False
    wide = np.zeros((40, 6))
    wide[::2, ::2] = features
    for x in (
        features,
        features.tolist(),
        frozen,
        wide[::2, ::2],
        np.asfortranarray(features.astype(float)),
        features.astype(">f8"),
        features[::-1].astype(float)[::-1],
    ):
        np.testing.assert_array_equal(last(x, targets), expected)
