"""Known answers of the solvers and of guidance."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hotloops import flow
from tests.flow.fields import gaussian, gaussian_end, mixture, mixture_parts, product

COUNTS = (10, 20, 40, 80, 160)

# z_N(1) - z(1) of the path to N(-1, 2^2) from 0.7.
GAUSSIAN_ERRORS = {
    "euler": (-1.937963e-1, -1.001004e-1, -5.092624e-2, -2.569238e-2, -1.290484e-2),
    "midpoint": (-3.226791e-4, -4.071382e-5, -5.101128e-6, -6.380127e-7, -7.976320e-8),
    "heun": (-8.203310e-3, -1.851621e-3, -4.368333e-4, -1.058905e-4, -2.605468e-5),
    "rk4": (-6.498502e-6, -3.082085e-7, -1.627367e-8, -9.250628e-10, -5.496531e-11),
    "dopri5": (9.929e-10, -4.3678e-10, -2.0073e-11, -7.2226e-13),
}
# The same of the mixture field from -0.4.
MIXTURE_END = 1.2377151204557113
MIXTURE_ERRORS = {
    "euler": (-5.066799e-3, -3.478376e-3, -1.986292e-3, -1.056197e-3, -5.440495e-4),
    "midpoint": (-8.360458e-3, -2.735248e-3, -7.521817e-4, -1.971133e-4, -5.045035e-5),
    "heun": (-6.156771e-3, -2.362642e-3, -7.090025e-4, -1.920640e-4, -4.985420e-5),
    "rk4": (-2.511546e-4, -2.499057e-5, -1.671251e-6, -1.070976e-7, -6.763150e-9),
    "dopri5": (1.223096e-5, 4.148947e-7, 6.070551e-9, 9.936940e-11, 1.952660e-12),
}
ORDERS = {"euler": 1, "midpoint": 2, "heun": 2, "rk4": 4, "dopri5": 5}

MIXTURE = mixture((-2.0, 2.0), (0.3, 0.7), 0.5)


def end(velocity: Any, z: float, **options: Any) -> float:
    return float(flow.integrate(velocity, [[z]], **options)[0, 0])


def test_the_field_itself() -> None:
    velocity = gaussian(2.0, 0.5)
    for x, t, u in (
        (0.0, 0.0, 2.0),
        (1.0, 0.5, 2.0),
        (-0.7, 0.25, 3.4268306853319452),
        (2.3, 1.0, 2.2998800000047996),
    ):
        assert velocity(np.array([[x]]), np.array([t]))[0, 0] == pytest.approx(u, abs=1e-14)
    share, fields = mixture_parts([0.3], [0.6], (-2.0, 2.0), (0.3, 0.7), 0.5)
    assert share[0] == pytest.approx([0.023505263965, 0.976494736035], abs=1e-12)
    assert fields[0] == pytest.approx([-3.4998319746632838, 2.8998991847979703], abs=1e-13)


@pytest.mark.parametrize("method", sorted(GAUSSIAN_ERRORS))
def test_errors_of_fixed_steps_on_a_gaussian_path(method: str) -> None:
    exact = gaussian_end(0.7, -1.0, 2.0)
    for count, error in zip(COUNTS, GAUSSIAN_ERRORS[method], strict=False):
        got = end(gaussian(-1.0, 2.0), 0.7, method=method, steps=count) - exact
        # Six digits are given, and the sums round.
        assert got == pytest.approx(error, rel=1e-4 if method == "dopri5" else 1e-6, abs=2e-15)


@pytest.mark.parametrize(
    ("method", "count", "error"),
    [
        ("euler", 10, -6.919967e-2),
        ("euler", 160, -4.607925e-3),
        ("heun", 10, 1.720248e-3),
        ("rk4", 10, 2.388324e-7),
        ("dopri5", 10, -1.717204e-8),
    ],
)
def test_errors_on_another_gaussian_path(method: str, count: int, error: float) -> None:
    got = end(gaussian(2.0, 0.5), 1.0, method=method, steps=count) - 2.50000001
    assert got == pytest.approx(error, rel=1e-6, abs=1e-15)


@pytest.mark.parametrize("method", sorted(MIXTURE_ERRORS))
def test_errors_and_orders_on_a_mixture(method: str) -> None:
    errors = []
    for count, error in zip(COUNTS, MIXTURE_ERRORS[method], strict=True):
        errors.append(end(MIXTURE, -0.4, method=method, steps=count) - MIXTURE_END)
        assert errors[-1] == pytest.approx(error, rel=1e-6, abs=1e-14)
    order = np.log2(abs(errors[-2] / errors[-1]))
    assert order == pytest.approx(ORDERS[method], abs=0.75)


def test_the_middle_of_a_path() -> None:
    path = flow.integrate(gaussian(2.0, 0.5), [[1.0]], rtol=1e-12, atol=1e-12, t_eval=[0.5, 1.0])
    assert path[:, 0, 0] == pytest.approx([1.559061716181675, 2.50000001], abs=1e-10)


def test_adaptive_steps() -> None:
    velocity = gaussian(2.0, 0.5)
    forward = flow.integrate(velocity, [[1.0]], full_output=True)
    assert forward.x[0, 0] == pytest.approx(2.4999800414, abs=1e-9)
    costs = forward.evaluations[0], forward.accepted[0], forward.rejected[0]
    assert costs == (44, 5, 2)
    back = flow.integrate(velocity, [[2.50000001]], t0=1.0, t1=0.0, full_output=True)
    assert back.x[0, 0] == pytest.approx(0.9999841379, abs=1e-9)
    assert (back.evaluations[0], back.accepted[0], back.rejected[0]) == (26, 4, 0)


def test_adaptive_steps_of_the_mixture() -> None:
    got = end(MIXTURE, -0.4, rtol=1e-11, atol=1e-11)
    assert got == pytest.approx(MIXTURE_END, abs=1e-9)


@pytest.mark.parametrize(
    ("weight", "slope", "final"),
    [
        (0.0, 2.7494718145896293, 1.7973264476364925),
        (1.0, -3.4998319746632838, -1.9499999990000254),
        (2.0, -9.749135763916197, -2.3871522625317887),
        (3.0, -15.99843955316911, -2.6601054889022575),
    ],
)
def test_guidance_towards_a_component(weight: float, slope: float, final: float) -> None:
    guided = flow.guided_velocity(MIXTURE, {"component": 0}, weight)
    assert guided(np.array([[0.3]]), 0.6)[0, 0] == pytest.approx(slope, abs=1e-12)
    assert end(guided, 0.1, rtol=1e-12, atol=1e-12) == pytest.approx(final, abs=1e-9)


def test_two_attributes_compose_to_the_joint_conditional() -> None:
    x, t = np.array([[0.4, -0.3]]), 0.5
    labels = {"first": 0, "second": 1}

    def at(weights: Any) -> Any:
        return flow.guided_velocity(product, labels, weights)(x, t)[0]

    assert at(0.0) == pytest.approx([0.982660270922735, 0.451455248829627], abs=1e-14)
    only_first = at({"first": 1.0, "second": 0.0})
    assert only_first == pytest.approx([-3.679731207169003, 0.451455248829627], abs=1e-14)
    only_second = at({"first": 0.0, "second": 1.0})
    assert only_second == pytest.approx([0.982660270922735, 5.15965440921729], abs=1e-13)
    joint = product(x, [t], np.array([[0, 1]]))[0]
    assert at(1.0) == pytest.approx(joint, abs=1e-14)
    assert at(1.0) == pytest.approx([-3.679731207169003, 5.15965440921729], abs=1e-13)
    mixed = at({"first": 2.0, "second": 0.5})
    assert mixed == pytest.approx([-8.342122685260742, 2.805554829023458], abs=1e-13)
