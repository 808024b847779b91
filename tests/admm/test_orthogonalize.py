"""Newton-Schulz: known answers, limits, every size and memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hotloops import admm

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
KNOWN = [[-0.4675185765, 0.5734733125], [0.0724322812, 0.4094526197], [0.6123831390, 0.2454319268]]


def reference(matrix: np.ndarray, steps: int = 5) -> np.ndarray:
    x = matrix.astype(float) / (np.linalg.norm(matrix.astype(float)) + 1e-7)
    a, b, c = COEFFICIENTS
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


@pytest.mark.parametrize("backend", ["cpp", "numba"])
def test_known_answer(backend: str) -> None:
    matrix = np.array([[1.0, 2], [3, 4], [5, 6]])
    result = admm.orthogonalize(matrix, backend=backend)
    np.testing.assert_allclose(result, KNOWN, atol=1e-10)
    np.testing.assert_allclose(
        admm.orthogonalize(matrix.T, backend=backend), np.transpose(KNOWN), atol=1e-10
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1, 0.6964364095),
        (0.5, 0.7654385305),
        (0.1, 0.7121200817),
        (0.01, 0.6989170633),
        (0.001, 0.4705439512),
    ],
)
def test_singular_values_go_through_the_polynomial(value: float, expected: float) -> None:
    matrix = np.diag([value, np.sqrt(1 - value**2)])
    result = admm.orthogonalize(matrix)
    np.testing.assert_allclose(result[0, 0], expected, atol=2e-7)  # 1e-7 is added to the norm
    np.testing.assert_allclose(result[0, 1], 0, atol=1e-15)


def test_all_singular_values_land_near_one() -> None:
    values = np.geomspace(0.002, 1, 2000)
    matrices = np.zeros((2000, 2, 2))
    matrices[:, 0, 0], matrices[:, 1, 1] = values, np.sqrt(1 - values**2)
    result = admm.orthogonalize(matrices)[:, 0, 0]
    assert result.min() > 0.6818
    assert result.max() < 1.2024


@pytest.mark.parametrize("shape", [(5, 5), (7, 4), (3, 20), (40, 33)])
def test_polar_factor(shape: tuple[int, int]) -> None:
    matrix = np.random.default_rng(1).normal(size=shape)
    left, _, right = np.linalg.svd(matrix, full_matrices=False)
    result = admm.orthogonalize(matrix, steps=40, coefficients="polar")
    np.testing.assert_allclose(result, left @ right, atol=1e-12)


@pytest.mark.parametrize(
    "shape",
    [(1, 1), (1, 9), (9, 1), (5, 3), (4, 16), (15, 17), (33, 65), (64, 64), (70, 20), (257, 300)],
)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-12)])
def test_every_size(shape: tuple[int, int], dtype: str, tolerance: float) -> None:
    matrices = np.random.default_rng(2).normal(size=(2, *shape)).astype(dtype)
    result = admm.orthogonalize(matrices)
    for given, got in zip(matrices, result, strict=True):
        expected = reference(given) if shape[0] <= shape[1] else reference(given.T).T
        np.testing.assert_allclose(got, expected, atol=tolerance)
        np.testing.assert_array_equal(admm.orthogonalize(given), got)


def test_threads_do_not_matter() -> None:
    large = np.random.default_rng(6).normal(size=(130, 300)).astype(np.float32)
    one = admm.orthogonalize(large, num_threads=1)
    np.testing.assert_array_equal(admm.orthogonalize(large, num_threads=3), one)


def test_batches_may_be_nested() -> None:
    matrices = np.random.default_rng(3).normal(size=(3, 5, 20, 30)).astype(np.float32)
    one = admm.orthogonalize(matrices, num_threads=1)
    np.testing.assert_array_equal(admm.orthogonalize(matrices, num_threads=5), one)
    assert admm.orthogonalize(matrices, out=matrices) is matrices
    np.testing.assert_array_equal(matrices, one)


@pytest.mark.parametrize("scale", [1e-37, 1e-20, 1e20, 3e37])
def test_no_square_leaves_the_range(scale: float) -> None:
    matrix = np.random.default_rng(4).normal(size=(6, 8)).astype(np.float32)
    result = admm.orthogonalize(matrix * np.float32(scale))
    assert np.isfinite(result).all()
    if scale > 1:
        np.testing.assert_allclose(result, admm.orthogonalize(matrix), atol=1e-5)


@pytest.mark.parametrize("size", [3, 300])
def test_zero_stays_zero_and_no_steps_only_scale(size: int) -> None:
    np.testing.assert_array_equal(admm.orthogonalize(np.zeros((2, size, size))), 0)
    matrix = np.random.default_rng(5).normal(size=(size, size))
    scaled = matrix / (np.linalg.norm(matrix) + 1e-7)
    np.testing.assert_allclose(admm.orthogonalize(matrix, steps=0), scaled, rtol=1e-14)


BAD: dict[str, tuple[Any, dict[str, Any], type[Exception], str]] = {
    "vector": (np.ones(3), {}, ValueError, "orthogonalize: `matrices` must have at least 2"),
    "nan": (np.full((2, 2), np.nan), {}, ValueError, "orthogonalize: `matrices` must be finite"),
    "half": (np.ones((2, 2), "f2"), {}, TypeError, "`matrices` must have dtype float32 or float64"),
    "steps": (np.eye(2), {"steps": -1}, ValueError, "orthogonalize: `steps` must be an integer"),
    "name": (np.eye(2), {"coefficients": "x"}, ValueError, "`coefficients` must be one of 'muon'"),
    "out": (np.eye(2), {"out": np.eye(3)}, ValueError, r"`out` must have shape \(2, 2\)"),
    "list": (np.eye(2), {"out": [1]}, TypeError, "orthogonalize: `out` must be an array"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments(case: str) -> None:
    matrices, keywords, kind, message = BAD[case]
    with pytest.raises(kind, match=message):
        admm.orthogonalize(matrices, **keywords)
