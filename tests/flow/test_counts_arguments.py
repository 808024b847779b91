"""Everything a user can get wrong, with the message that comes back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hotloops import flow

GOOD = {
    "negative_binomial": {"mu": np.ones((2, 3)), "theta": np.ones(3)},
    "poisson": {"rate": np.ones((2, 3))},
    "bernoulli": {"probability": np.full((2, 3), 0.5)},
    "gamma": {"alpha": np.ones((2, 3)), "scale": 2.0},
}
MEANS = [("negative_binomial", "mu"), ("poisson", "rate")]
POSITIVES = [("negative_binomial", "theta"), ("gamma", "alpha"), ("gamma", "scale")]
EVERY = [(law, name) for law, names in GOOD.items() for name in names]


def call(law: str, **changed: Any) -> Any:
    return getattr(flow, law)(**{**GOOD[law], **changed})


def refuses(error: type[Exception], message: str, law: str, **changed: Any) -> None:
    with pytest.raises(error, match=message):
        call(law, **changed)


@pytest.mark.parametrize(("law", "name"), EVERY)
def test_parameters_are_finite_numbers(law: str, name: str) -> None:
    for bad in (np.nan, np.inf, -np.inf, -1.0):
        value = np.ones((2, 3)) * 0.5
        value[1, 2] = bad
        refuses(
            ValueError, rf"{law}: `{name}` must .*got {bad} at index \(1, 2\)", law, **{name: value}
        )
        refuses(ValueError, rf"{law}: `{name}` must .*got {bad}$", law, **{name: bad})
    refuses(TypeError, rf"{law}: `{name}` must be an array of real numbers", law, **{name: None})
    refuses(TypeError, rf"{law}: `{name}` must", law, **{name: np.ones((2, 3), complex)})
    refuses(TypeError, rf"{law}: `{name}` must", law, **{name: "three"})


@pytest.mark.parametrize(("law", "name"), MEANS)
def test_means(law: str, name: str) -> None:
    refuses(
        ValueError,
        rf"{law}: `{name}` must be finite and not negative, got -1.0",
        law,
        **{name: -1.0},
    )
    for large in (1.0001e8, 2.0**31):
        refuses(
            OverflowError, rf"{law}: `{name}` must be at most 1e\+08, got", law, **{name: large}
        )
    call(law, **{name: 1e8})


@pytest.mark.parametrize(("law", "name"), POSITIVES)
def test_positive_parameters(law: str, name: str) -> None:
    refuses(
        ValueError, rf"{law}: `{name}` must be finite and positive, got 0.0", law, **{name: 0.0}
    )


def test_probabilities() -> None:
    message = r"bernoulli: `probability` must lie in \[0, 1\], got 1.5"
    refuses(ValueError, message, "bernoulli", probability=1.5)


@pytest.mark.parametrize("law", GOOD)
def test_addresses(law: str) -> None:
    refuses(ValueError, rf"{law}: `seed` must be an integer in", law, seed=-1)
    refuses(OverflowError, rf"{law}: `seed` must be an integer in", law, seed=2**64)
    refuses(TypeError, rf"{law}: `seed` must be an integer", law, seed=1.5)
    refuses(ValueError, rf"{law}: `step` must be an integer in", law, step=-1)
    refuses(ValueError, rf"{law}: `step` must be an integer in", law, step=2**26)
    refuses(ValueError, rf"{law}: `rows` must be an integer in", law, rows=-1)
    refuses(OverflowError, rf"{law}: `rows` must leave 2 numbers", law, rows=2**32 - 1)
    refuses(TypeError, rf"{law}: `rows` must be an integer", law, rows=0.5)
    refuses(TypeError, rf"{law}: `rows` must be an array of integers", law, rows=[0.5, 1.0])
    refuses(ValueError, rf"{law}: `rows` must be an integer or have shape \(2,\)", law, rows=[1])
    refuses(ValueError, rf"{law}: `rows` must not be negative", law, rows=[-1, 0])
    refuses(OverflowError, rf"{law}: `rows` must be at most", law, rows=[0, 2**32])
    call(law, step=2**26 - 1, rows=2**32 - 2, seed=2**64 - 1)


@pytest.mark.parametrize("law", GOOD)
def test_sizes(law: str) -> None:
    message = rf"{law}: `size` must be a shape that parameters of shape \(2, 3\) broadcast to"
    refuses(ValueError, message, law, size=(2, 4))
    refuses(ValueError, message, law, size=3)
    refuses(ValueError, rf"{law}: `size` must be an integer >= 0", law, size=(-1, 3))
    refuses(TypeError, rf"{law}: `size` must be an integer", law, size=(2.0, 3))
    assert np.shape(call(law, size=(5, 2, 3))) == (5, 2, 3)


@pytest.mark.parametrize(("law", "name"), [pair for pair in EVERY if pair[1] in ("theta", "scale")])
def test_parameters_fit_each_other(law: str, name: str) -> None:
    message = rf"{law}: `{name}` must have a shape that fits that of `\w+`, \(2, 3\), got \(4,\)"
    refuses(ValueError, message, law, **{name: np.ones(4)})


@pytest.mark.parametrize("law", GOOD)
def test_out(law: str) -> None:
    kind = np.float64 if law == "gamma" else np.int32
    refuses(TypeError, rf"{law}: `out` must have dtype", law, out=np.empty((2, 3), np.int64))
    refuses(ValueError, rf"{law}: `out` must have shape", law, out=np.empty((3, 2), kind))
    refuses(TypeError, rf"{law}: `out` must be an array", law, out=[[0] * 3] * 2)
    refuses(ValueError, rf"{law}: `out` must be C-contiguous", law, out=np.empty((3, 2), kind).T)
    frozen = np.empty((2, 3), kind)
    frozen.flags.writeable = False
    refuses(ValueError, rf"{law}: `out` must be writable", law, out=frozen)


def test_out_is_no_parameter() -> None:
    alpha = np.ones((2, 3))
    refuses(ValueError, "gamma: `out` must not overlap `alpha`", "gamma", alpha=alpha, out=alpha)


@pytest.mark.parametrize("law", GOOD)
def test_backends(law: str) -> None:
    refuses(ValueError, rf"{law}: `backend` must be one of", law, backend="opencl")
    refuses(TypeError, rf"{law}: `backend` must be 'cpp' or 'numba'", law, backend="cuda")
    refuses(ValueError, rf"{law}: `num_threads` must be", law, num_threads=0)


def test_dtype_of_gamma() -> None:
    refuses(TypeError, "gamma: `dtype` must be float32 or float64", "gamma", dtype="int32")
    assert call("gamma", dtype="float32").dtype == np.float32
