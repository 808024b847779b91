"""Arrays of other libraries, memory for the answer, and every argument wrong in every way."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

from hotloops import prox

V = np.array([[3.0, -1.0, 0.5], [0.2, 4.0, -2.0]])


def test_torch() -> None:
    torch = pytest.importorskip("torch")
    v = torch.tensor(V, dtype=torch.float32)
    result = prox.L1()(v, 0.5)
    assert isinstance(result, torch.Tensor)
    np.testing.assert_array_equal(result.numpy(), prox.L1()(V.astype("f4"), 0.5))
    assert prox.Simplex()(v, out=v) is v
    np.testing.assert_array_equal(v.numpy(), prox.Simplex()(V.astype("f4")))
    assert isinstance(prox.L1().value(v), torch.Tensor)
    with pytest.raises(TypeError, match="L1: `v` must not require a gradient"):
        prox.L1()(torch.ones(3, requires_grad=True))


def test_jax() -> None:
    jnp = pytest.importorskip("jax.numpy")
    result = prox.GroupLasso([0, 0, 1])(jnp.asarray(V, "float32"), 0.5)
    assert type(result).__module__.startswith("jax")
    expected = prox.GroupLasso([0, 0, 1])(V.astype("f4"), 0.5)
    np.testing.assert_array_equal(np.asarray(result), expected)


def test_lists_integers_and_strides() -> None:
    np.testing.assert_array_equal(prox.L1()([3, -2]), [2.0, -1.0])
    np.testing.assert_array_equal(prox.L1()(V[:, ::2]), prox.L1()(V[:, ::2].copy()))
    np.testing.assert_array_equal(prox.L1()(V.T), prox.L1()(V).T)
    assert prox.L1()(np.empty((0, 3))).shape == (0, 3)
    assert prox.L1()(np.empty((2, 0))).shape == (2, 0)


def test_the_base_class_is_abstract() -> None:
    with pytest.raises(TypeError, match="abstract class Prox"):
        prox.Prox()  # type: ignore[abstract]


def test_repr() -> None:
    assert repr(prox.ElasticNet(0.5, 1)) == "ElasticNet(l1=0.5, l2=1.0)"
    assert repr(prox.Masked(prox.L1(), [0])) == "Masked(L1(strength=1.0))"


BAD_CALLS: dict[str, tuple[Any, dict[str, Any], type[Exception], str]] = {
    "no array": (None, {}, TypeError, "L1: `v` must be an array of real numbers, got None"),
    "complex": (np.ones(3, complex), {}, TypeError, "L1: `v` must be an array of real numbers"),
    "half": (np.ones(3, "f2"), {}, TypeError, "L1: `v` must have dtype float32 or float64"),
    "number": (np.float64(3), {}, ValueError, "L1: `v` must have at least 1 dimension, got"),
    "nan": (np.array([1, np.nan]), {}, ValueError, "L1: `v` must be finite, got nan at index"),
    "inf": (
        np.array([[1, np.inf]]),
        {},
        ValueError,
        r"`v` must be finite, got inf at index \(0",
    ),
    "step zero": (V, {"step": 0.0}, ValueError, "L1: `step` must be a finite number > 0"),
    "step nan": (V, {"step": np.nan}, ValueError, "L1: `step` must be a finite number > 0"),
    "step shape": (V, {"step": [1.0, 2, 3]}, ValueError, r"L1: `step` must have shape \(2,\)"),
    "step sign": (V, {"step": [1.0, -2]}, ValueError, "L1: `step` must be positive, got -2.0"),
    "step type": (V, {"step": "1"}, TypeError, "L1: `step` must be an array of real numbers"),
    "out list": (V, {"out": [1.0]}, TypeError, "L1: `out` must be an array, got a list"),
    "out dtype": (V, {"out": V.astype("f4")}, TypeError, "L1: `out` must have dtype float64"),
    "out shape": (V, {"out": np.empty(3)}, ValueError, r"L1: `out` must have shape \(2, 3\)"),
    "out order": (V, {"out": np.empty((3, 2)).T}, ValueError, "L1: `out` must be C-contiguous"),
    "backend": (V, {"backend": "gpu"}, ValueError, "L1: `backend` must be one of"),
    "cuda": (V, {"backend": "cuda"}, TypeError, "L1: `backend` must be 'cpp' or 'numba' for"),
    "check": (V, {"check_finite": 1}, TypeError, "L1: `check_finite` must be True or False, got 1"),
    "threads": (V, {"num_threads": 0}, ValueError, "L1: `num_threads` must be an integer in"),
}


@pytest.mark.parametrize("case", BAD_CALLS)
def test_bad_call(case: str) -> None:
    v, keywords, kind, message = BAD_CALLS[case]
    with pytest.raises(kind, match=message):
        prox.L1()(v, **keywords)


CHECKED = {
    "elements": prox.ElasticNet(0.3, 0.1),
    "weights": prox.L1(np.linspace(0.1, 1.0, 60)),
    "groups in order": prox.GroupLasso(np.arange(60) // 6),
    "groups apart": prox.GroupLasso(np.arange(60) % 6),
    "large groups": prox.SparseGroupLasso(np.zeros(60, int), 0.1, 0.2),
    "rows": prox.Simplex(),
    "masked": prox.Masked(prox.L1(), np.arange(60) < 59),
}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [(0, 0), (700, 31), (1999, 58)])
@pytest.mark.parametrize("case", CHECKED)
def test_what_is_not_finite_is_found_and_nothing_changes(
    case: str, place: tuple[int, int], value: float, threads: int
) -> None:
    v = np.random.default_rng(0).normal(size=(2000, 60))  # several tasks
    v[place] = value
    before, out = v.copy(), np.zeros_like(v)
    message = rf"`v` must be finite, got {value} at index \({place[0]}, {place[1]}\)"
    for target in (None, out, v):
        with pytest.raises(ValueError, match=message):
            CHECKED[case](v, 0.3, target, num_threads=threads)
    np.testing.assert_array_equal(v, before)
    assert not out.any()


@pytest.mark.parametrize("case", ["elements", "weights", "groups in order", "groups apart"])
def test_unchecked_nan_stay_in_their_rows(case: str) -> None:
    v = np.random.default_rng(0).normal(size=(50, 60))
    expected = CHECKED[case](v, 0.3)
    v[7, 13] = np.nan
    got = CHECKED[case](v, 0.3, check_finite=False)
    assert np.isnan(got[7, 13])
    others = np.arange(50) != 7
    np.testing.assert_array_equal(got[others], expected[others])


def test_overlap_is_refused_and_nothing_changes() -> None:
    memory = np.arange(6.0)
    with pytest.raises(ValueError, match="L1: `out` must not overlap `v` in memory"):
        prox.L1()(memory[:5], out=memory[1:])
    frozen = np.ones(3)
    frozen.setflags(write=False)
    with pytest.raises(ValueError, match="L1: `out` must be writable"):
        prox.L1()(np.ones(3), out=frozen)
    bad = np.array([1.0, np.nan])
    with pytest.raises(ValueError, match="finite"):
        prox.L1()(bad, out=bad)
    np.testing.assert_array_equal(memory, np.arange(6.0))
    assert bad[0] == 1.0


BAD_PARAMETERS: list[tuple[Any, type[Exception], str]] = [
    (lambda: prox.L1(-1), ValueError, "L1: `strength` must be a finite number >= 0"),
    (lambda: prox.L1([1, -1]), ValueError, "L1: `strength` must hold no negative numbers, got -1"),
    (lambda: prox.L1("a"), TypeError, "L1: `strength` must be a finite number"),
    (lambda: prox.L1([[1.0]]), ValueError, "L1: `strength` must have 1 dimension"),
    (lambda: prox.ElasticNet([1, 2], [1]), ValueError, r"ElasticNet: `l2` must have shape \(2,\)"),
    (lambda: prox.ElasticNet(1, -1), ValueError, "ElasticNet: `l2` must be a finite number >= 0"),
    (lambda: prox.SquaredL2(np.nan), ValueError, "SquaredL2: `strength` must be a finite"),
    (lambda: prox.Box(1, 0), ValueError, "Box: `high` must not be below `low`"),
    (lambda: prox.Box([0, 0], [1]), ValueError, r"Box: `high` must have shape \(2,\)"),
    (lambda: prox.Box([np.nan], 1), ValueError, "Box: `low` must hold no NaN, got nan at index 0"),
    (lambda: prox.Huber(0), ValueError, "Huber: `delta` must be a finite number > 0"),
    (lambda: prox.Hinge(-1), ValueError, "Hinge: `strength`"),
    (lambda: prox.Logistic(-1), ValueError, "Logistic: `strength`"),
    (lambda: prox.L0(-1), ValueError, "L0: `strength`"),
    (lambda: prox.MCP(1, 0), ValueError, "MCP: `gamma` must be a finite number > 0"),
    (lambda: prox.SCAD(1, 2), ValueError, "SCAD: `a` must be a finite number > 2"),
    (lambda: prox.CappedL1(1, 0), ValueError, "CappedL1: `theta`"),
    (lambda: prox.LogSum(1, 0), ValueError, "LogSum: `epsilon`"),
    (lambda: prox.LInf(-1), ValueError, "LInf: `strength`"),
    (lambda: prox.Simplex(0), ValueError, "Simplex: `total` must be a finite number > 0"),
    (lambda: prox.L1Ball(-1), ValueError, "L1Ball: `radius`"),
    (lambda: prox.L2Ball(-1), ValueError, "L2Ball: `radius`"),
    (lambda: prox.L2(-1), ValueError, "L2: `strength`"),
    (lambda: prox.GroupLasso([0.5, 1]), TypeError, "GroupLasso: `groups` must be an array of int"),
    (lambda: prox.GroupLasso([[0, 1], [1, 2]]), ValueError, "GroupLasso: `groups` must name each"),
    (lambda: prox.GroupLasso([[0, 1], [3]]), ValueError, "GroupLasso: `groups` must name each"),
    (lambda: prox.GroupLasso([0, 1], weights=[1]), ValueError, "GroupLasso: `weights` must have"),
    (lambda: prox.GroupLasso([0], weights=[-1]), ValueError, "GroupLasso: `weights` must hold no"),
    (lambda: prox.GroupLasso([0], weights="size"), ValueError, "GroupLasso: `weights` must be one"),
    (lambda: prox.GroupLasso([0], -1), ValueError, "GroupLasso: `strength`"),
    (lambda: prox.SparseGroupLasso([0], -1, 1), ValueError, "SparseGroupLasso: `l1`"),
    (lambda: prox.SparseGroupLasso([0], 1, -1), ValueError, "SparseGroupLasso: `group`"),
    (lambda: prox.TopK(0), ValueError, "TopK: `k` must be an integer >= 1"),
    (lambda: prox.TopK(1.5), TypeError, "TopK: `k` must be an integer"),
    (lambda: prox.TotalVariation(-1), ValueError, "TotalVariation: `strength`"),
    (lambda: prox.FusedLasso(-1, 1), ValueError, "FusedLasso: `strength`"),
    (lambda: prox.FusedLasso(1, -1), ValueError, "FusedLasso: `l1`"),
    (lambda: prox.Affine([[1.0, 0], [1, 0]], [1, 2]), ValueError, "Affine: `b` must be in the ra"),
    (lambda: prox.Affine([[1.0]], [1, 2]), ValueError, r"Affine: `b` must have shape \(m,\)"),
    (lambda: prox.HalfSpace([0.0, 0], 1), ValueError, "HalfSpace: `a` must have an element that"),
    (lambda: prox.HalfSpace([1.0], np.inf), ValueError, "HalfSpace: `b` must be a finite"),
    (lambda: prox.Nuclear(-1), ValueError, "Nuclear: `strength`"),
    (lambda: prox.Nuclear(svd=3), TypeError, "Nuclear: `svd` must be a function or None"),
    (lambda: prox.SpectralBall(-1), ValueError, "SpectralBall: `radius`"),
    (lambda: prox.Masked(3, [0]), TypeError, "Masked: `function` must be a Prox"),
    (lambda: prox.Masked(prox.L1(), "a"), TypeError, "Masked: `parts.0.` must have a slice"),
    (lambda: prox.Blocks([]), ValueError, "Blocks: `parts` must not be empty"),
    (lambda: prox.Blocks([3]), TypeError, "Blocks: `parts.0.` must be a pair"),
    (lambda: prox.Blocks([([0], prox.Nuclear())]), TypeError, "must hold a function of rows"),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(BAD_PARAMETERS)))
def test_bad_parameters(number: int) -> None:
    make, kind, message = BAD_PARAMETERS[number]
    with pytest.raises(kind, match=message):
        make()


MISFITS: list[tuple[prox.Prox, str]] = [
    (prox.L1([1, 2]), "L1: `v` must have 2 elements in a row as `strength`, got"),
    (prox.ElasticNet(1, [1, 2]), "ElasticNet: `v` must have 2 elements in a row as `l2`"),
    (prox.SquaredL2([1, 2]), "SquaredL2: `v` must have 2 elements in a row as `strength`"),
    (prox.Box([0, 0], 1), "Box: `v` must have 2 elements in a row as `low`"),
    (prox.GroupLasso([0, 0]), "GroupLasso: `v` must have 2 elements in a row as `groups`"),
    (prox.Affine([[1.0, 1]], [1]), "Affine: `v` must have 2 elements in a row as `A`"),
    (prox.HalfSpace([1, 2], 1), "HalfSpace: `v` must have 2 elements in a row as `a`"),
    (prox.PSDCone(), r"PSDCone: `v` must have shape \(..., n, n\)"),
    (prox.Masked(prox.L1(), [True, False]), "Masked: `v` must have a row that `parts.0.` fits"),
    (prox.Masked(prox.L1(), [5]), "Masked: `v` must have a row that `parts.0.` fits"),
    (prox.Blocks([([0, 1], prox.L1()), ([1], prox.L0())]), "`parts` must name each element at mo"),
]


@pytest.mark.parametrize("number", range(len(MISFITS)))
def test_rows_that_do_not_fit(number: int) -> None:
    function, message = MISFITS[number]
    with pytest.raises(ValueError, match=message):
        function(V)
    with pytest.raises(ValueError, match="must"):
        function.value(V)


def test_empty_rows_and_flat_matrices() -> None:
    with pytest.raises(ValueError, match="Simplex: `v` must have elements in its rows"):
        prox.Simplex()(np.empty((2, 0)))
    with pytest.raises(ValueError, match="Nuclear: `v` must have at least 2 dimensions"):
        prox.Nuclear()(np.ones(3))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_parameters_and_steps_may_change_between_calls(dtype: str) -> None:
    """Nothing that was made of other parameters, another step or another type is used again."""
    v = np.random.default_rng(3).normal(size=(2, 12))
    r, groups, rows = prox.L1(0.5), prox.GroupLasso(np.arange(12) // 4), prox.L1Ball(1.0)
    for number in (0.5, 0.25, 0.5, 2.0):
        r.strength = groups.strength = rows.radius = number
        fresh = (prox.L1(number), prox.GroupLasso(np.arange(12) // 4, number), prox.L1Ball(number))
        for step in (0.3, 0.7, 0.3, 1, np.float64(0.3), np.array([0.3, 0.7])):
            for x in (v, v.astype(dtype), v[0] if np.ndim(step) == 0 else v):
                for own, other in zip((r, groups, rows), fresh, strict=True):
                    np.testing.assert_array_equal(own(x, step), other(x, step))


def test_what_calls_keep_is_bounded_and_not_saved() -> None:
    r = prox.L1(0.5)
    r(V, 0.3)
    assert pickle.dumps(r) == pickle.dumps(prox.L1(0.5))
    assert repr(copy.deepcopy(r)) == repr(r)
    for step in np.linspace(0.1, 1.0, 100):
        r(V, float(step))
    assert len(vars(r)["_made"]) <= 8


def test_a_step_that_is_no_number_is_refused_after_the_number_one() -> None:
    r = prox.L1()
    r(V, 1.0)
    with pytest.raises(TypeError, match=r"L1: `step` must be a finite number > 0\.0, got True"):
        r(V, True)


@pytest.mark.parametrize(
    "function", [prox.Zero(), prox.TopK(3), prox.TopK(9), prox.FusedLasso(1, 1)]
)
def test_operators_that_look_before(function: prox.Prox) -> None:
    v = np.array([[3.0, -1.0, 0.5, -0.0], [0.2, np.nan, -2.0, 1.0]])
    out = np.zeros_like(v)
    for target in (None, out):
        with pytest.raises(ValueError, match=r"`v` must be finite, got nan at index \(1, 1\)"):
            function(v, 0.5, target)
    assert not out.any()
    np.testing.assert_array_equal(function(v[:1], 0.5, out[:1]), function(v[:1], 0.5))


@pytest.mark.parametrize("function", [prox.Zero(), prox.TopK(4)])
def test_what_is_let_be_keeps_its_bits(function: prox.Prox) -> None:
    v = np.array([3.0, -0.0, np.nan, -np.inf])
    for backend in ("cpp", "numba"):
        got = function(v, check_finite=False, backend=backend)
        assert got.tobytes() == v.tobytes()
        assert got is not v
