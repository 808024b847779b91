"""The step kernels: against the paper's form, their invariants, and where they are stable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from hotloops import admm, prox
from tests.admm.steps import SCHEMES, Naive

if TYPE_CHECKING:
    from conftest import Isa

ALPHA = np.array([0.2, 0.3, 0.5])
SIGMA = np.array([2.0, 1.0, 3.0])
RHO = np.array([0.5, 4.0, 1.0])


def quadratics(clients: int, dim: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Curvatures and minimisers of one quadratic for each client."""
    rng = np.random.default_rng(seed)
    return rng.uniform(0.1, 1.0, (clients, dim)), rng.normal(size=(clients, dim))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_against_the_stored_copies(scheme: str) -> None:
    curvature, target = quadratics(3, 50)
    diagonal = curvature.copy() if scheme == "diag" else None
    naive = Naive(np.ones(50), ALPHA, SIGMA, RHO, scheme, 0.9, 1e-8, 0.05, diagonal)
    states = {}
    for dtype in ("float32", "float64"):
        V = np.zeros((3, 50), dtype) if diagonal is None else diagonal.astype(dtype)
        states[dtype] = (np.ones(50, dtype), np.zeros((3, 50), dtype), V)
    for t in range(1, 31):
        for w, PI, V in states.values():
            G = (curvature * (w - target)).astype(w.dtype)
            admm.sisa_step(
                w, G, PI, V, alpha=ALPHA, sigma=SIGMA, rho=RHO, scheme=scheme, beta=0.9, t=t,
                lam=0.05,
            )  # fmt: skip
        naive.step(curvature * (naive.w - target))
    for (dtype, (w, PI, V)), tolerance in zip(states.items(), (2e-5, 1e-13), strict=True):
        np.testing.assert_allclose(w, naive.w, atol=tolerance, err_msg=dtype)
        np.testing.assert_allclose(PI, naive.PI, atol=tolerance, err_msg=dtype)
        np.testing.assert_allclose(V, naive.V, atol=tolerance, err_msg=dtype)


@pytest.mark.parametrize("backend", ["cpp", "numba"])
def test_hand_trace(backend: str) -> None:
    curvature, target = np.array([[2.0, 1], [1, 3]]), np.array([[1.0, -1], [3, 2]])
    w, PI, V = np.zeros(2), np.zeros((2, 2)), np.zeros((2, 2))
    expected = {
        1: ([0.92, 0.76666667], [[1, -0.6666667], [1.2, 1.5]]),
        2: ([1.3539204, 1.26333961], [[0.5207338, -1.38707701], [1.62295606, 2.18459169]]),
        3: ([1.48542948, 1.41571692], None),
    }
    for t, (global_w, duals) in expected.items():
        admm.sisa_step(
            w, curvature * (w - target), PI, V, alpha=[0.25, 0.75], sigma=2.0, rho=1.0, lam=0.5,
            beta=0.9, eps=0.0, t=t, backend=backend,
        )  # fmt: skip
        np.testing.assert_allclose(w, global_w, atol=1e-8)
        if duals is not None:
            np.testing.assert_allclose(PI, duals, atol=1e-7)


def test_converges_to_the_pooled_optimum_with_the_right_duals() -> None:
    curvature, target = quadratics(3, 20)
    lam = 0.1
    w, PI, V = np.zeros(20), np.zeros((3, 20)), np.zeros((3, 20))
    for t in range(1, 1500):
        G = curvature * (w - target)
        admm.sisa_step(w, G, PI, V, alpha=ALPHA, sigma=2.0, rho=1.0, lam=lam, t=t)
    optimum = (ALPHA @ (curvature * target)) / (ALPHA @ curvature + lam)
    np.testing.assert_allclose(w, optimum, atol=1e-9)
    np.testing.assert_allclose(PI, -curvature * (w - target), atol=1e-9)
    np.testing.assert_allclose(ALPHA @ PI, lam * w, atol=1e-9)


def test_rests_exactly_where_nothing_pulls() -> None:
    """With the sum zero w must not move by a rounding error, step after step."""
    w = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    before = w.copy()
    PI = np.zeros((3, 1000), np.float32)
    for _ in range(100):
        admm.sisa_step(w, PI * 0, PI, alpha=ALPHA, sigma=SIGMA, rho=RHO, scheme="identity")
    np.testing.assert_array_equal(w, before)


@pytest.mark.parametrize("scheme", ["identity", "adam"])
def test_splitting_a_client_changes_nothing(scheme: str) -> None:
    curvature, target = quadratics(2, 10)
    runs = []
    for copies in ([0, 1], [0, 1, 1]):
        alpha = np.array([0.4, 0.6] if len(copies) == 2 else [0.4, 0.3, 0.3])
        w, PI, V = np.zeros(10), np.zeros((len(copies), 10)), np.zeros((len(copies), 10))
        for t in range(1, 20):
            G = (curvature * (w - target))[copies]
            rho = 0.0 if scheme == "identity" else 3.0
            admm.sisa_step(w, G, PI, V, alpha=alpha, sigma=1.5, rho=rho, scheme=scheme, t=t)
        runs.append(w)
    np.testing.assert_allclose(*runs, rtol=1e-12)


def test_permuting_clients_changes_rounding_only() -> None:
    curvature, target = quadratics(3, 10)
    runs = []
    for order in ([0, 1, 2], [2, 0, 1]):
        w, PI, V = np.zeros(10), np.zeros((3, 10)), np.zeros((3, 10))
        for t in range(1, 20):
            G = (curvature * (w - target))[order]
            admm.sisa_step(w, G, PI, V, alpha=ALPHA[order], sigma=SIGMA[order], rho=RHO[order], t=t)
        runs.append(w)
    np.testing.assert_allclose(*runs, rtol=1e-12)


def test_without_preconditioner_it_is_optimistic_gradient_descent() -> None:
    curvature, target = quadratics(3, 10)
    sigma = 2.0
    w, PI = np.ones(10), np.zeros((3, 10))
    other, previous = np.ones(10), np.zeros(10)
    for _ in range(30):
        G = curvature * (w - target)
        mean = ALPHA @ (curvature * (other - target))
        other = other - (2 * mean - previous) / sigma
        previous = mean
        admm.sisa_step(w, G, PI, alpha=ALPHA, sigma=sigma, rho=0.0, scheme="identity")
        np.testing.assert_allclose(w, other, atol=1e-13)


@pytest.mark.parametrize(("sigma", "rho"), [(1.0, 0.0), (2.0, 3.0), (0.5, 10.0)])
def test_threshold_of_stability(sigma: float, rho: float) -> None:
    """Stable exactly for curvatures below (2/3) (sigma + 2 rho)."""
    limit = 2 / 3 * (sigma + 2 * rho)
    curvature = limit * np.array([0.5, 0.99, 1.01])
    w, PI = np.ones(3), np.zeros((1, 3))
    for _ in range(4000):
        admm.sisa_step(w, curvature * w, PI, sigma=sigma, rho=rho, scheme="sigma_rho")
    assert abs(w[0]) < 1e-3
    assert abs(w[1]) < 1e-3
    assert abs(w[2]) > 1e3


def test_proximal_step() -> None:
    """The global step with a regulariser: the lasso by consensus."""
    curvature, target = quadratics(2, 30)
    w, PI = np.zeros(30), np.zeros((2, 30))
    for _ in range(2000):
        G = curvature * (w - target)
        admm.sisa_step(w, G, PI, sigma=2.0, rho=0.0, scheme="identity", regularizer=prox.L1(0.2))
    gradient = (curvature * (w - target)).mean(axis=0)
    assert (w == 0).any()
    np.testing.assert_allclose(gradient[w != 0], -0.2 * np.sign(w[w != 0]), atol=1e-9)
    assert (np.abs(gradient[w == 0]) <= 0.2 + 1e-9).all()


def test_weight_decay() -> None:
    w = np.ones(4)
    zero = np.zeros((1, 4))
    admm.sisa_step(w, zero, zero.copy(), sigma=1.0, rho=3.0, scheme="identity", weight_decay=0.4)
    np.testing.assert_allclose(w, 0.9)
    w = np.ones(4)
    PI = np.zeros((1, 4))
    options: dict[str, Any] = {"sigma": 1.0, "rho": 3.0, "scheme": "sigma_rho"}
    admm.sisa_step(w, zero, PI, weight_decay=0.4, decoupled=False, **options)
    other, PI2 = np.ones(4), np.zeros((1, 4))
    admm.sisa_step(other, zero + 0.4, PI2, **options)
    np.testing.assert_array_equal(w, other)
    np.testing.assert_array_equal(PI, PI2)


def test_cap_of_the_preconditioner() -> None:
    def run(**options: Any) -> np.ndarray:
        w = np.zeros(3)
        state = np.zeros((2, 1, 3))
        admm.sisa_step(w, np.array([1.0, 2, 8]), *state, sigma=1.0, rho=1.0, eps=0.0, **options)
        return w

    np.testing.assert_allclose(run(), -2 * np.array([1 / 2, 2 / 3, 8 / 9]), rtol=1e-12)
    np.testing.assert_allclose(run(eta=2.0), -2 * np.array([1 / 2, 2 / 3, 8 / 3]), rtol=1e-12)


def random_state(clients: int, shape: tuple[int, ...], dtype: str, seed: int = 3) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        "w": rng.normal(size=shape).astype(dtype),
        "G": rng.normal(size=(clients, *shape)).astype(dtype),
        "PI": rng.normal(size=(clients, *shape)).astype(dtype),
        "V": rng.random((clients, *shape)).astype(dtype),
    }


def digest(*arrays: Any) -> bytes:
    return b"".join(np.asarray(array).tobytes() for array in arrays)


def test_client_by_client_gives_the_same_bits() -> None:
    together, apart = (random_state(3, (7, 11), "float32") for _ in range(2))
    admm.sisa_step(**together, alpha=ALPHA, sigma=SIGMA, rho=RHO, t=3, lam=0.1, weight_decay=0.2)
    s = np.full((7, 11), np.nan, np.float32)  # what it held does not matter
    for i, g in enumerate(apart["G"]):
        admm.sisa_step_client(
            i, apart["w"], g, apart["PI"], apart["V"], s=s, alpha=ALPHA, sigma=SIGMA, rho=RHO, t=3
        )
    admm.sisa_finish(apart["w"], s, alpha=ALPHA, sigma=SIGMA, rho=RHO, lam=0.1, weight_decay=0.2)
    assert digest(*together.values()) == digest(*apart.values())


def test_lists_of_tensors_give_the_same_bits() -> None:
    shapes = [(3, 4), (1,), (40_000,), (5, 2, 2)]
    single = [random_state(2, shape, "float32", seed) for seed, shape in enumerate(shapes)]
    many = [random_state(2, shape, "float32", seed) for seed, shape in enumerate(shapes)]
    for state in single:
        admm.sisa_step(**state, sigma=1.0, rho=2.0)
    lists = {name: [state[name] for state in many] for name in many[0]}
    admm.sisa_step(**lists, sigma=1.0, rho=2.0, num_threads=2)
    assert [digest(*s.values()) for s in single] == [digest(*s.values()) for s in many]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_threads_and_twin(dtype: str) -> None:
    for scheme in ("identity", "diag", "adam", "softsign"):
        results = []
        for backend, num_threads in (("cpp", 1), ("cpp", 5), ("numba", 2)):
            state = random_state(3, (70_003,), dtype)
            admm.sisa_step(
                **state, sigma=1.0, rho=2.0, lam=0.1, scheme=scheme, backend=backend,
                weight_decay=0.3, decoupled=scheme != "adam", num_threads=num_threads,
            )  # fmt: skip
            results.append(digest(*state.values()))
        assert len(set(results)) == 1, scheme


def test_many_clients_are_summed_in_parts() -> None:
    clients = 300
    exact, single = (random_state(clients, (20,), dtype) for dtype in ("float64", "float32"))
    for state in (exact, single):
        admm.sisa_step(**state, sigma=1.0, rho=1.0)
    np.testing.assert_allclose(single["w"], exact["w"], atol=1e-6)
    twin = random_state(clients, (20,), "float32")
    admm.sisa_step(**twin, sigma=1.0, rho=1.0, backend="numba")
    assert digest(*twin.values()) == digest(*single.values())


CODE = """
import hashlib
import numpy as np
from hotloops import admm
digest = hashlib.sha256()
for dtype in ("float32", "float64"):
    for scheme in ("identity", "diag", "adam", "softsign"):
        for gradients in ("float16", "float32", "float64"):
            rng = np.random.default_rng(1)
            w, copy = rng.normal(size=1037).astype(dtype), np.empty(1037, np.float16)
            G = (100 * rng.normal(size=(3, 1037))).astype(gradients)
            G[0, :9] = [0, -0.0, 6e-8, 6e-5, 65504, -65504, 1e-7, 3e-5, 0.1]
            PI = rng.normal(size=(3, 1037)).astype(dtype)
            V = rng.random((3, 1037)).astype(dtype)
            for t in (1, 2):
                admm.sisa_step(w, G, PI, V, sigma=1.0, rho=2.0, scheme=scheme, t=t, copy_to=copy)
            for array in (w, PI, V, copy):
                digest.update(array.tobytes())
print(digest.hexdigest())
"""


def test_every_instruction_set(isa: Isa) -> None:
    assert len(set(isa.run_all(CODE).values())) == 1


ALL_HALVES = np.arange(2**16, dtype=np.uint16)


def test_every_float16_is_read_and_written_exactly() -> None:
    """All 65,536 gradients; then the float16 nearest to many float32."""
    halves = ALL_HALVES.view(np.float16)
    finite = np.isfinite(halves)
    w, PI = np.zeros(2**16, np.float32), np.zeros((1, 2**16), np.float32)
    admm.sisa_step(w, halves, PI, sigma=1.0, rho=0.0, scheme="identity")
    np.testing.assert_array_equal(PI[0, finite], -halves[finite].astype(np.float32))
    assert (np.isfinite(PI[0]) == finite).all()
    rng = np.random.default_rng(0)
    values = [
        halves[finite].astype(np.float32),
        rng.normal(size=10_000) * 2.0 ** -rng.integers(0, 30, 10_000),
    ]
    values += [np.array([65519.99, 65520.0, 1e9, np.inf, -np.inf, 2.0**-25, 2.0**-24 * 1.5, 1e-30])]
    w = np.concatenate(values).astype(np.float32)
    copy = np.empty(w.size, np.float16)
    admm.sisa_finish(w, np.zeros_like(w), sigma=1.0, num_clients=1, copy_to=copy)
    with np.errstate(over="ignore"):
        expected = w.astype(np.float16)
    finite = np.isfinite(w)  # inf - 0 inf is NaN
    np.testing.assert_array_equal(copy[finite].view(np.uint16), expected[finite].view(np.uint16))


def test_bfloat16() -> None:
    torch = pytest.importorskip("torch")
    bits = torch.arange(2**16, dtype=torch.int32).to(torch.int16)
    gradients = bits.view(torch.bfloat16)
    gradients = gradients[gradients.isfinite()]
    w, PI = torch.zeros(len(gradients)), torch.zeros(1, len(gradients))
    admm.sisa_step(w, gradients, PI, sigma=1.0, rho=0.0, scheme="identity")
    assert torch.equal(PI[0], -gradients.float())
    w = torch.randn(10_000) * torch.logspace(-30, 30, 10_000)
    copy = torch.empty(10_000, dtype=torch.bfloat16)
    admm.sisa_finish(w, torch.zeros_like(w), sigma=1.0, num_clients=1, copy_to=copy)
    assert torch.equal(copy, w.bfloat16())


@pytest.mark.parametrize("backend", ["cpp", "numba"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("gradients", ["float16", "float32", "float64"])
def test_bad_gradients_leave_the_state(backend: str, bad: float, gradients: str) -> None:
    state = random_state(2, (50,), "float32")
    state["G"] = state["G"].astype(gradients)
    state["G"][1, 37] = bad
    before = digest(*state.values())
    options: dict[str, Any] = {"sigma": 1.0, "rho": 1.0, "backend": backend}
    assert not admm.sisa_step(**state, **options, check_finite=True)
    assert not admm.sisa_step(**state, **options, found_inf=True)
    assert not admm.sisa_step(**state, **options, found_inf=np.ones(1, np.float32))
    assert digest(*state.values()) == before
    state["G"][1, 37] = 0.0
    assert admm.sisa_step(**state, **options, check_finite=True, found_inf=np.zeros(1))
    assert digest(*state.values()) != before


def test_gradients_are_scaled_as_they_are_read() -> None:
    one, other = (random_state(2, (30,), "float32") for _ in range(2))
    other["G"] = other["G"] * 1024
    admm.sisa_step(**one, sigma=1.0, rho=1.0)
    admm.sisa_step(**other, sigma=1.0, rho=1.0, grad_scale=1 / 1024)
    assert digest(one["w"], one["PI"], one["V"]) == digest(other["w"], other["PI"], other["V"])


def test_nsisa_is_sisa_on_orthogonalised_momentum() -> None:
    rng = np.random.default_rng(0)
    w, G = rng.normal(size=(6, 4)), rng.normal(size=(2, 6, 4))
    PI, B = np.zeros((2, 6, 4)), np.zeros((2, 6, 4))
    other, duals, momentum = w.copy(), np.zeros((2, 6, 4)), np.zeros((2, 6, 4))
    for _ in range(3):
        admm.nsisa_step(w, G, PI, B, sigma=8.0, rho=10.0, mu=0.1)
        momentum = 0.95 * momentum + G
        O = admm.orthogonalize(G + 0.95 * momentum) * np.sqrt(6 / 4)  # noqa: E741
        admm.sisa_step(other, O + 0.1 * other, duals, sigma=8.0, rho=10.0, scheme="softsign")
    np.testing.assert_allclose(B, momentum, rtol=1e-14)
    np.testing.assert_allclose(w, other, atol=1e-13)
    np.testing.assert_allclose(PI, duals, atol=1e-13)


@pytest.mark.parametrize("gradient", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("stacked", [True, False])
def test_lists_read_at_once_are_those_read_one_by_one(
    dtype: str, gradient: str, stacked: bool
) -> None:
    """torch tensors, arrays, 0-d and empty tensors, and clients in every layout."""
    torch = pytest.importorskip("torch")
    from hotloops.admm._tensors import collect, table_of

    shapes = [(3, 4), (), (0, 5), (1, 7, 1), (100,)]
    kind = getattr(torch, gradient)
    rng = np.random.default_rng(0)
    w: list[Any] = [np.array(rng.normal(size=shape), dtype) for shape in shapes]
    w[3] = torch.from_numpy(w[3])
    G: list[Any] = [torch.from_numpy(rng.normal(size=(2, *shape))).to(kind) for shape in shapes]
    if gradient != "bfloat16":
        G[4] = G[4].numpy()
    PI: list[Any] = [np.zeros((2, *shape), dtype) for shape in shapes]
    PI[0] = torch.from_numpy(PI[0])
    if not stacked:
        G, PI = ([[*part] for part in lists] for lists in (G, PI))
        for lists in (G, PI):  # iterating over 1-d arrays of NumPy would give numbers
            lists[1] = [torch.zeros((), dtype=kind if lists is G else getattr(torch, dtype))] * 2
        PI[1] = [np.zeros((), dtype), np.zeros((), dtype)]
    copies = [np.zeros(shape, "f2") for shape in shapes]
    names = {key: key for key in ("w", "gradients", "duals", "moments", "sums", "copies")}
    given = {"gradients": G, "duals": PI, "copies": copies, "names": names}
    fast = collect("step", w, at_once=True, **given)
    slow = collect("step", w, **given)
    assert fast.table is not None
    assert slow.table is None
    for key, value in vars(fast.table).items():
        got, wanted = np.asarray(value), np.asarray(getattr(table_of(slow), key))
        if got.dtype == np.uint64:  # where nothing lies does not matter
            got, wanted = (np.delete(x.reshape(len(shapes), -1), 2, axis=0) for x in (got, wanted))
        np.testing.assert_array_equal(got, wanted, err_msg=key)
    assert (fast.dtype, fast.num_clients) == (slow.dtype, slow.num_clients)
