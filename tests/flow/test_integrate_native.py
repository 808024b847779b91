"""Native integration: known answers through compiled fields, and networks by their plans."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hotloops import flow
from hotloops._runtime import dispatch
from tests.flow.native import (
    BATCH,
    DOPRI5,
    EULER,
    FIXED,
    HEUN,
    MIDPOINT,
    RK4,
    ROW,
    gaussian_field,
    integrate,
    mixture_field,
)

WIDE, NARROW = np.array([-1.0, 2.0]), np.array([2.0, 0.5])  # mean and deviation


@pytest.mark.parametrize(
    ("method", "errors"),
    [
        (EULER, (-1.937963e-1, -1.001004e-1, -5.092624e-2, -2.569238e-2, -1.290484e-2)),
        (MIDPOINT, (-3.226791e-4, -4.071382e-5, -5.101128e-6, -6.380127e-7, -7.976320e-8)),
        (HEUN, (-8.203310e-3, -1.851621e-3, -4.368333e-4, -1.058905e-4, -2.605468e-5)),
        (RK4, (-6.498502e-6, -3.082085e-7, -1.627367e-8, -9.250628e-10, -5.496531e-11)),
        (DOPRI5, (9.929e-10, -4.3678e-10, -2.0073e-11)),
    ],
)
def test_errors_of_fixed_steps_on_a_gaussian_path(method: int, errors: Any) -> None:
    for steps, error in zip((10, 20, 40, 80, 160), errors, strict=False):
        got = integrate(gaussian_field, [[0.7]], method, steps=steps, user=WIDE).z[0, 0]
        exact = -1.0 + np.sqrt(4.0 + 1e-8) * 0.7
        assert got - exact == pytest.approx(
            error, rel=1e-4 if method == DOPRI5 else 1e-6, abs=3e-15
        )


@pytest.mark.parametrize(
    ("method", "order", "errors"),
    [
        (EULER, 1, (-5.066799e-3, -3.478376e-3, -1.986292e-3, -1.056197e-3, -5.440495e-4)),
        (MIDPOINT, 2, (-8.360458e-3, -2.735248e-3, -7.521817e-4, -1.971133e-4, -5.045035e-5)),
        (HEUN, 2, (-6.156771e-3, -2.362642e-3, -7.090025e-4, -1.920640e-4, -4.985420e-5)),
        (RK4, 4, (-2.511546e-4, -2.499057e-5, -1.671251e-6, -1.070976e-7, -6.763150e-9)),
        (DOPRI5, 5, (1.223096e-5, 4.148947e-7, 6.070551e-9, 9.936940e-11, 1.952660e-12)),
    ],
)
def test_errors_and_orders_on_a_mixture(method: int, order: int, errors: Any) -> None:
    got = []
    for steps, error in zip((10, 20, 40, 80, 160), errors, strict=True):
        labels = np.full((1, 1, 1), -1)
        end = integrate(mixture_field, [[-0.4]], method, steps=steps, labels=labels).z[0, 0]
        got.append(end - 1.2377151204557113)
        assert got[-1] == pytest.approx(error, rel=1e-6, abs=1e-14)
    assert np.log2(abs(got[-2] / got[-1])) == pytest.approx(order, abs=0.75)


@pytest.mark.parametrize("control", [ROW, BATCH])
def test_adaptive_steps_of_one_row(control: int) -> None:
    run = integrate(gaussian_field, [[1.0]], control=control, user=NARROW)
    assert run.z[0, 0] == pytest.approx(2.4999800414, abs=1e-9)
    assert (run.evaluations[0], run.accepted[0], run.rejected[0]) == (44, 5, 2)
    back = integrate(gaussian_field, [[2.50000001]], control=control, times=(1.0, 0.0), user=NARROW)
    assert back.z[0, 0] == pytest.approx(0.9999841379, abs=1e-9)
    assert (back.evaluations[0], back.accepted[0], back.rejected[0]) == (26, 4, 0)


@pytest.mark.parametrize(
    ("weight", "end"),
    [
        (0.0, 1.7973264476364925),
        (1.0, -1.9499999990000254),
        (2.0, -2.3871522625317887),
        (3.0, -2.6601054889022575),
    ],
)
@pytest.mark.parametrize("by_row", [False, True])
def test_guidance(weight: float, end: float, by_row: bool) -> None:
    labels = np.array([[[-1]], [[0]]])
    weights = np.full((1, 1) if by_row else 1, weight)
    run = integrate(mixture_field, [[0.1]], labels=labels, weights=weights, tolerance=1e-12)
    assert run.z[0, 0] == pytest.approx(end, abs=1e-9)


@pytest.mark.parametrize("control", [ROW, BATCH])
def test_there_and_back(control: int) -> None:
    z = np.random.default_rng(0).normal(size=(70, 3))
    there = integrate(gaussian_field, z, control=control, tolerance=1e-10, user=NARROW).z
    back = integrate(
        gaussian_field, there, control=control, times=(1.0, 0.0), tolerance=1e-10, user=NARROW
    ).z
    assert np.abs(back - z).max() < 1e-7


@pytest.mark.parametrize("control", [ROW, BATCH])
@pytest.mark.parametrize("times", [(0.0, 1.0), (1.0, 0.0)])
def test_states_between_steps(control: int, times: tuple[float, float]) -> None:
    z = np.random.default_rng(1).normal(size=(5, 2))
    kept_times = np.linspace(*times, 7)
    run = integrate(
        gaussian_field, z, control=control, times=times, kept_times=kept_times, user=WIDE
    )
    plain = integrate(gaussian_field, z, control=control, times=times, user=WIDE)
    assert np.array_equal(run.z, plain.z)
    assert np.array_equal(run.kept[0], z)
    assert np.array_equal(run.kept[-1], run.z)
    for time, state in zip(kept_times, run.kept, strict=True):
        left, first = 1.0 - (1.0 - 1e-4) * time, 1.0 - (1.0 - 1e-4) * times[0]
        spread = np.sqrt(time**2 * 4.0 + left**2)
        origin = (z + times[0]) / np.sqrt(times[0] ** 2 * 4.0 + first**2)
        assert state == pytest.approx(-time + spread * origin, abs=3e-4)


def test_kept_points_of_the_grid() -> None:
    z = np.random.default_rng(2).normal(size=(3, 2))
    grid = np.linspace(0.0, 1.0, 9)
    run = integrate(gaussian_field, z, RK4, grid=grid, kept_times=grid[[0, 4, 8]], user=WIDE)
    half = integrate(gaussian_field, z, RK4, grid=grid[:5], user=WIDE).z
    assert np.array_equal(run.kept, [z, half, run.z])


def test_failures_name_the_row() -> None:
    z = np.zeros((70, 2))
    z[66, 1] = np.inf
    for options in ({"steps": 3, "method": MIDPOINT}, {}, {"control": BATCH}):
        assert integrate(gaussian_field, z, user=WIDE, **options).failed == (1, 66)  # type: ignore[arg-type]
    for control in (ROW, BATCH):
        run = integrate(gaussian_field, np.zeros((3, 1)), control=control, max_steps=2, user=WIDE)
        assert run.failed == (2, 0)


# --- networks ------------------------------------------------------------------------------------


def handle(network: Any) -> tuple[Any, ...]:
    """The network as the kernel takes it."""
    program = network.program
    native = dispatch.core().NnProgram(
        program.instructions,
        program.constants,
        program.widths,
        program.num_inputs,
        program.num_parameters,
        program.num_buffers,
    )
    output = program.outputs[0]
    return native, network.flat_parameters, network.flat_buffers, output.slot, output.begin


def paper_network() -> Any:
    """The small network of the known answer: parameter i is sin(1 + i) / 2."""
    network = flow.VelocityNetwork(2, 3, 4, 1, attributes={"kind": 2}, dtype="float64")
    shapes = {
        "time_embedder.0.weight": (4, 4),
        "time_embedder.0.bias": (4,),
        "time_embedder.2.weight": (4, 4),
        "time_embedder.2.bias": (4,),
        "net_in.weight": (3, 2),
        "net_in.bias": (3,),
        "blocks.0.net1.1.weight": (3, 3),
        "blocks.0.net1.1.bias": (3,),
        "blocks.0.cond_proj.1.weight": (3, 4),
        "blocks.0.cond_proj.1.bias": (3,),
        "blocks.0.net2.1.weight": (3, 3),
        "blocks.0.net2.1.bias": (3,),
        "net_out.1.weight": (2, 3),
        "net_out.1.bias": (2,),
        "attributes.kind.weight": (2, 4),
    }
    count = sum(int(np.prod(shape)) for shape in shapes.values())
    values, state = np.sin(1.0 + np.arange(count)) / 2.0, {}
    for name, shape in shapes.items():
        size = int(np.prod(shape))
        state[name], values = values[:size].reshape(shape), values[size:]
    network.load_state_dict(state)
    return network


@pytest.mark.parametrize(
    ("label", "velocity"),
    [
        (1, (0.230837835708937, 0.629693664099128)),
        (-1, (0.235438853996359, 0.62555639514475)),
    ],
)
@pytest.mark.parametrize("control", [FIXED, ROW, BATCH])
def test_velocity_of_the_paper(label: int, velocity: Any, control: int) -> None:
    # One tiny step from t = 0.25 shows the velocity there.
    z, step = np.array([[0.3, -1.2]]), 2.0**-20
    options: dict[str, Any] = {"labels": np.full((1, 1, 1), label), "control": control}
    if control == FIXED:
        options |= {"method": EULER, "grid": np.array([0.25, 0.25 + step])}
    else:
        options |= {"times": (0.25, 0.25 + step)}
    run = integrate(handle(paper_network()), z, **options)
    assert (run.z - z)[0] / step == pytest.approx(velocity, abs=2e-4)


def test_velocity_of_the_paper_exactly() -> None:
    z = np.array([[0.3, -1.2]])
    for label, velocity in (
        (1, (0.230837835708937, 0.629693664099128)),
        (-1, (0.235438853996359, 0.62555639514475)),
    ):
        grid = np.array([0.25, 1.25])
        labels = np.full((1, 1, 1), label)
        run = integrate(handle(paper_network()), z, EULER, grid=grid, labels=labels)
        assert (run.z - z)[0] == pytest.approx(velocity, abs=1e-14)


def random_network(dtype: str, sizes: bool, **options: Any) -> Any:
    """A network all of whose parameters are random."""
    settings = {"attributes": {"kind": 4, "batch": 3}, "dtype": dtype, **options}
    if sizes:
        settings["size_range"] = [(0.0, 1.0)]
    network = flow.VelocityNetwork(7, 19, 10, 2, **settings)
    generator = np.random.default_rng(5)
    network.flat_parameters[...] = generator.normal(0.0, 0.3, network.flat_parameters.shape)
    return network


def conditions(n: int, dtype: str, sizes: bool) -> dict[str, Any]:
    """Three branches with random labels, weights by row, size factors."""
    generator = np.random.default_rng(6)
    labels = np.full((3, 2, n), -1)
    labels[1, 0] = generator.integers(0, 4, n)
    labels[2, 1] = generator.integers(0, 3, n)
    size = generator.uniform(size=(n, 1)).astype(dtype)
    weights = generator.uniform(0.5, 2.0, (2, n))
    return {"labels": labels, "weights": weights, "inputs": [size] if sizes else []}


CONTROLS: list[dict[str, Any]] = [
    {"method": MIDPOINT, "steps": 4},
    {"method": DOPRI5, "steps": 2},
    {"control": ROW, "tolerance": 1e-3},
    {"control": BATCH, "tolerance": 1e-3},
]


def reference(network: Any, z: Any, t: float, given: dict[str, Any]) -> Any:
    """The guided velocity from whole-batch passes in NumPy."""
    total: Any = None
    first: Any = None
    n = z.shape[0]
    for b, labels in enumerate(given["labels"]):
        inputs = [z, np.full((n, 1), t, z.dtype), *given["inputs"]]
        v = network.forward(*inputs, *labels.astype(np.int32), backend="numba")
        if b == 0:
            total, first = v.copy(), v
        else:
            total = total + given["weights"][b - 1][:, None] * (v - first)
    return total


@pytest.mark.parametrize("sizes", [False, True])
@pytest.mark.parametrize("normalization", ["none", "layer", "batch"])
def test_plans_of_networks(sizes: bool, normalization: str) -> None:
    network = random_network("float64", sizes, normalization=normalization)
    n = 150
    z = np.random.default_rng(7).normal(size=(n, 7))
    given = conditions(n, "float64", sizes)
    grid = np.linspace(0.0, 1.0, 5)
    got = integrate(handle(network), z, EULER, grid=grid, **given).z
    for t in grid[:-1]:
        z = z + 0.25 * reference(network, z, float(t), given)
    assert got == pytest.approx(z, rel=1e-10, abs=1e-10)


@pytest.mark.parametrize("control", [ROW, BATCH])
@pytest.mark.parametrize("sizes", [False, True])
def test_adaptive_plans_agree_with_fixed_steps(control: int, sizes: bool) -> None:
    network, n = random_network("float64", sizes), 70
    z = np.random.default_rng(8).normal(size=(n, 7))
    given = conditions(n, "float64", sizes)
    fine = integrate(handle(network), z, RK4, steps=4000, **given).z
    got = integrate(handle(network), z, control=control, tolerance=1e-9, **given).z
    assert got == pytest.approx(fine, abs=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sizes", [False, True])
@pytest.mark.parametrize("options", CONTROLS[:3])
def test_a_row_alone_is_that_row_of_the_batch(
    dtype: str, sizes: bool, options: dict[str, Any]
) -> None:
    network, n = random_network(dtype, sizes), 150
    z = np.random.default_rng(9).normal(size=(n, 7)).astype(dtype)
    given = conditions(n, dtype, sizes)
    whole = integrate(handle(network), z, **options, **given).z
    for r in (0, 31, 64, 149):
        part = {
            "labels": given["labels"][:, :, r : r + 1],
            "weights": given["weights"][:, r : r + 1],
            "inputs": [value[r : r + 1] for value in given["inputs"]],
        }
        alone = integrate(handle(network), z[r : r + 1], **options, **part).z
        assert np.array_equal(alone[0], whole[r])


@pytest.mark.parametrize("options", CONTROLS)
def test_threads_change_nothing(options: dict[str, Any], threads: int) -> None:
    network, n = random_network("float32", True), 300
    z = np.random.default_rng(10).normal(size=(n, 7)).astype("float32")
    given = conditions(n, "float32", True)
    one = integrate(handle(network), z, **options, **given).z
    more = integrate(handle(network), z, num_threads=threads, **options, **given).z
    assert np.array_equal(one, more)


def test_weights_of_zero_are_unconditional() -> None:
    network, n = random_network("float32", False), 40
    z = np.random.default_rng(11).normal(size=(n, 7)).astype("float32")
    given = conditions(n, "float32", False)
    given["weights"] = np.zeros(2)
    none = np.full((1, 2, n), -1)
    guided = integrate(handle(network), z, MIDPOINT, steps=5, **given).z
    plain = integrate(handle(network), z, MIDPOINT, steps=5, labels=none).z
    assert np.array_equal(guided, plain)


LEVELS = """
import hashlib
import numpy as np
from tests.flow.test_integrate_native import CONTROLS, conditions, handle, random_network
from tests.flow.native import integrate

digest = hashlib.sha256()
for dtype in ("float32", "float64"):
    network, n = random_network(dtype, True), 100
    z = np.random.default_rng(9).normal(size=(n, 7)).astype(dtype)
    given = conditions(n, dtype, True)
    for options in CONTROLS[:3]:
        whole = integrate(handle(network), z, **options, **given).z
        part = dict(labels=given["labels"][:, :, 50:], weights=given["weights"][:, 50:],
                    inputs=[value[50:] for value in given["inputs"]])
        assert np.array_equal(integrate(handle(network), z[50:], **options, **part).z, whole[50:])
        digest.update(whole.tobytes())
print(digest.hexdigest())
"""


def test_every_level_has_the_bits_of_a_row_alone(isa: Any) -> None:
    hashes = isa.run_all(LEVELS)
    if "v4" in hashes:  # the base level has no fused multiply-add
        assert hashes["v3"] == hashes["v4"]
