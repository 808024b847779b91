"""The step kernels with every argument wrong in every way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hotloops import admm


def arguments(**changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "w": np.ones(4),
        "G": np.ones((2, 4)),
        "PI": np.zeros((2, 4)),
        "V": np.zeros((2, 4)),
        "sigma": 1.0,
        "rho": 1.0,
    }
    return {**base, **changes}


FROZEN = np.ones(4)
FROZEN.setflags(write=False)
SHARED = np.zeros((2, 4))

BAD: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "w list": ({"w": []}, ValueError, "`w` must hold at least one array, got none"),
    "w half": ({"w": np.ones(4, "f2")}, TypeError, "`w` must be float32 or float64, got float16"),
    "w integers": ({"w": np.ones(4, int)}, TypeError, "`w` must be float32 or float64"),
    "w frozen": ({"w": FROZEN}, ValueError, "`w` must be writable, got a read-only array"),
    "w strides": ({"w": np.ones(8)[::2]}, ValueError, "`w` must be C-contiguous"),
    "G shape": ({"G": np.ones((2, 3))}, ValueError, r"`G` must have shape \(4,\) or \(cl"),
    "G empty": ({"G": []}, ValueError, "`G` must hold an array for each client, got none"),
    "G clients": ({"G": np.ones((3, 4))}, ValueError, "`PI` must have 3 clients as `G`, got 2"),
    "G types": ({"G": [np.ones(4), np.ones(4, "f4")]}, TypeError, "`G` must have dtype float64 as"),
    "G complex": ({"G": np.ones((2, 4), complex)}, TypeError, "`G` must be an array of real"),
    "PI type": ({"PI": np.zeros((2, 4), "f4")}, TypeError, "`PI` must have dtype float64, got"),
    "PI shape": ({"PI": np.zeros((2, 5))}, ValueError, r"`PI` must have shape \(4,\) or"),
    "PI none": ({"PI": None}, TypeError, "`PI` must be an array or a list of arrays, got None"),
    "G none": ({"G": None}, TypeError, "`G` must be an array or a list of arrays, got None"),
    "V none": ({"V": None}, ValueError, "`V` must be given for the scheme 'adam', got None"),
    "overlap": ({"PI": SHARED, "V": SHARED}, ValueError, "must not overlap"),
    "overlap of G": ({"G": SHARED, "PI": SHARED}, ValueError, "must not overlap"),
    "sigma zero": ({"sigma": 0.0}, ValueError, "`sigma` must be a finite number > 0"),
    "sigma sign": ({"sigma": [1.0, -1.0]}, ValueError, "`sigma` must be positive, got -1.0 at"),
    "sigma shape": ({"sigma": [1.0] * 3}, ValueError, r"`sigma` must have shape \(2,\), got"),
    "rho sign": ({"rho": -1.0}, ValueError, "`rho` must be a finite number >= 0"),
    "rho signs": ({"rho": [1.0, -1.0]}, ValueError, "`rho` must not be negative, got -1.0 at"),
    "alpha": ({"alpha": [0.5, 0.0]}, ValueError, "`alpha` must be positive, got 0.0 at index"),
    "scheme": ({"scheme": "sgd"}, ValueError, "`scheme` must be one of 'identity', 'diag'"),
    "beta": ({"beta": 1.1}, ValueError, r"`beta` must be a finite number in \[0.0, 1.0\]"),
    "beta one": ({"beta": 1.0}, ValueError, "`beta` must be below 1 for the scheme 'adam'"),
    "t": ({"t": 0}, ValueError, "`t` must be an integer >= 1"),
    "eps": ({"eps": -1.0}, ValueError, "`eps` must be a finite number >= 0"),
    "lam": ({"lam": -1.0}, ValueError, "`lam` must be a finite number >= 0"),
    "eta": ({"eta": 0.0}, ValueError, "`eta` must be a finite number > 0"),
    "decay": ({"weight_decay": -1.0}, ValueError, "`weight_decay` must be a finite number >= 0"),
    "much decay": ({"weight_decay": 3.0}, ValueError, "`weight_decay` must not exceed the"),
    "decoupled": ({"decoupled": 1}, TypeError, "`decoupled` must be True or False"),
    "scale": ({"grad_scale": 0.0}, ValueError, "`grad_scale` must be a finite number > 0"),
    "check": ({"check_finite": 1}, TypeError, "`check_finite` must be True or False"),
    "copy type": ({"copy_to": np.ones(4, "f4")}, TypeError, "`copy_to` must have dtype float16 or"),
    "copy shape": ({"copy_to": np.ones(3, "f2")}, ValueError, "`copy_to` must be C-contiguous and"),
    "prox": ({"regularizer": 3}, TypeError, "`regularizer` must be a proximal operator"),
    "prox and copy": (
        {"regularizer": abs, "copy_to": np.ones(4, "f2")}, ValueError, "`copy_to` must be None"
    ),
    "backend": ({"backend": "cuda"}, TypeError, "`backend` must be 'cpp' or 'numba'"),
    "threads": ({"num_threads": 0}, ValueError, "`num_threads` must be an integer in"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_step(case: str) -> None:
    changes, kind, message = BAD[case]
    given = arguments(**changes)
    before = {name: np.array(value) for name, value in arguments().items()}
    with pytest.raises(kind, match=f"sisa_step: {message}" if "over" not in case else message):
        admm.sisa_step(**given)
    for name in ("w", "PI", "V"):
        if name not in changes:
            np.testing.assert_array_equal(given[name], before[name])


ARRAYS = ("w", "G", "PI", "V", "copy_to")


@pytest.mark.parametrize("case", [case for case in BAD if set(BAD[case][0]) <= set(ARRAYS)])
def test_bad_tensor_in_a_list(case: str) -> None:
    """Lists are read in one native call, which must notice what the checks one by one do."""
    changes, kind, _ = BAD[case]
    if any(value is None or isinstance(value, list) for value in changes.values()):
        pytest.skip("no tensor")
    fine, bad = arguments(), arguments(**changes)
    if "copy_to" in changes:
        fine["copy_to"] = np.zeros(4, "f2")
    before = {name: fine[name].copy() for name in ("w", "PI", "V")}
    given = {name: [fine[name], bad[name]] if name in ARRAYS else bad[name] for name in bad}
    with pytest.raises(kind, match=r"sisa_step: `\w+(\[1\])?` must"):
        admm.sisa_step(**given)
    for name, value in before.items():
        np.testing.assert_array_equal(fine[name], value)


def test_overlap_within_lists() -> None:
    memory = np.zeros(40)
    w = [memory[:4], memory[4:8]]
    G = [np.ones(4), np.ones(4)]
    PI, V = [memory[8:12], memory[12:16]], [memory[16:20], memory[20:24]]
    assert admm.sisa_step(w, G, PI, V, sigma=1.0, rho=1.0)  # side by side
    for name, wrong in {"w": memory[3:7], "PI": memory[:4], "V": memory[19:23]}.items():
        lists = {"w": list(w), "PI": list(PI), "V": list(V)}
        lists[name][1] = wrong
        with pytest.raises(ValueError, match="must not overlap `"):
            admm.sisa_step(G=G, sigma=1.0, rho=1.0, **lists)
    with pytest.raises(ValueError, match="must not overlap"):
        admm.sisa_step(w, [memory[2:6], G[1]], PI, V, sigma=1.0, rho=1.0)
    assert admm.sisa_step(w, [G[0], G[0]], PI, V, sigma=1.0, rho=1.0)  # only read


def test_bad_lists() -> None:
    two = {name: [value] * 2 for name, value in arguments().items() if name in ("G", "PI", "V")}
    with pytest.raises(ValueError, match="sisa_step: `G` must hold 3 arrays as `w`, got a list of"):
        admm.sisa_step(w=[np.ones(4)] * 3, sigma=1.0, rho=1.0, **two)
    two["G"] = [np.ones((2, 4)), np.ones((2, 5))]
    with pytest.raises(ValueError, match=r"`G\[1\]` must have shape \(4,\) or \(clients, 4\)"):
        admm.sisa_step(w=[np.ones(4), np.ones(4)], sigma=1.0, rho=1.0, **two)


def test_bad_client() -> None:
    def call(**changes: Any) -> None:
        base = arguments(g=np.ones(4), s=np.zeros(4), client=0)
        del base["G"]
        admm.sisa_step_client(**{**base, **changes})

    with pytest.raises(ValueError, match="sisa_step_client: `PI` must have a state for client 2"):
        call(client=2)
    with pytest.raises(ValueError, match="sisa_step_client: `client` must be an integer >= 0"):
        call(client=-1)
    with pytest.raises(ValueError, match="sisa_step_client: `PI` must have 2 clients as `g`"):
        call(g=np.ones((2, 4)))
    with pytest.raises(ValueError, match=r"sisa_step_client: `s` must have shape \(4,\)"):
        call(s=np.zeros(3))
    with pytest.raises(TypeError, match="sisa_step_client: `first` must be True or False"):
        call(first=1)


def test_bad_finish() -> None:
    with pytest.raises(ValueError, match="sisa_finish: `num_clients` must be given where sigma"):
        admm.sisa_finish(np.ones(3), np.ones(3), sigma=1.0)
    with pytest.raises(ValueError, match="sisa_finish: `num_clients` must be an integer >= 1"):
        admm.sisa_finish(np.ones(3), np.ones(3), sigma=1.0, num_clients=0)
    shared = np.ones(3)
    with pytest.raises(ValueError, match="sisa_finish: `w` must not overlap `s` in memory"):
        admm.sisa_finish(shared, shared, sigma=[1.0])


def test_bad_nsisa() -> None:
    matrix, gradient = np.eye(3), np.eye(3)
    state = np.zeros((2, 1, 3, 3))
    rule = {"sigma": 1.0, "rho": 1.0}
    with pytest.raises(ValueError, match="nsisa_step: `w` must have 2 dimensions, got"):
        admm.nsisa_step(np.ones(3), np.ones(3), np.zeros(3), np.zeros(3), **rule)
    with pytest.raises(ValueError, match="nsisa_step: `beta1` must be a finite number in"):
        admm.nsisa_step(matrix, gradient, *state, beta1=2.0, **rule)
    with pytest.raises(ValueError, match="nsisa_step: `mu` must be a finite number >= 0"):
        admm.nsisa_step(matrix, gradient, *state, mu=-1.0, **rule)
    with pytest.raises(ValueError, match="nsisa_step: `scheme` must be one of 'softsign', 'adam'"):
        admm.nsisa_step(matrix, gradient, *state, scheme="rmsprop", **rule)
    with pytest.raises(ValueError, match=r"nsisa_step: `B` must have shape \(3, 3\) or"):
        admm.nsisa_step(matrix, gradient, state[0], np.zeros((1, 2, 3)), **rule)


def test_jax_arrays_cannot_be_updated() -> None:
    jnp = pytest.importorskip("jax.numpy")
    with pytest.raises(ValueError, match="sisa_step: `w` must be writable"):
        admm.sisa_step(**arguments(w=jnp.ones(4, "float32"), PI=np.zeros((2, 4), "f4")))
    given = arguments()
    admm.sisa_step(
        **{**given, "G": jnp.ones((2, 4), "bfloat16")}
    )  # but their gradients can be read
    other = arguments()
    admm.sisa_step(**other)
    np.testing.assert_array_equal(given["w"], other["w"])
