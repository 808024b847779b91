"""Wrong arguments and wrong signatures for `sgd.Custom`."""

from __future__ import annotations

import ctypes
import re
from typing import Any

import numba
import numpy as np
import pytest
from numba import types
from scipy import LowLevelCallable

from hotloops import sgd
from tests.sgd.test_custom import compiled, jitted, parameters, writing


def raises(kind: type[Exception], message: str) -> Any:
    return pytest.raises(kind, match="^" + re.escape(message) + "$")


INT = "be an integer"
BAD_SIGNATURE = (
    "have the signature int32(T* theta, T* noise, int64 step, void* data, T* out) "
    "with T float or double, got"
)
GRADIENT = "be an address, a compiled function, CUDA source or a callable, got"
ARGUMENTS: list[tuple[str, Any, type[Exception], str]] = [
    ("grad", None, TypeError, f"{GRADIENT} None"),
    ("grad", True, TypeError, f"{GRADIENT} True"),
    ("grad", 1.5, TypeError, f"{GRADIENT} 1.5"),
    ("grad", "f", ValueError, "define a function `gradient` where it is CUDA source, got 'f'"),
    ("entry", "f", ValueError, "be None unless `grad` is CUDA source, got 'f'"),
    ("grad", 0, ValueError, f"{INT} in [1, 18446744073709551615], got 0"),
    ("grad", -5, ValueError, f"{INT} in [1, 18446744073709551615], got -5"),
    ("grad", 2**64, OverflowError, f"{INT} in [1, 18446744073709551615], got {2**64}"),
    ("dim", 0, ValueError, f"{INT} >= 1, got 0"),
    ("dim", -1, ValueError, f"{INT} >= 1, got -1"),
    ("dim", 2.0, TypeError, f"{INT} >= 1, got 2.0"),
    ("dim", None, TypeError, f"{INT} >= 1, got None"),
    ("num_normals", -1, ValueError, f"{INT} in [0, 2147483648], got -1"),
    ("num_normals", 1.5, TypeError, f"{INT} in [0, 2147483648], got 1.5"),
    ("num_uniforms", -1, ValueError, f"{INT} in [0, 2147483648], got -1"),
    ("num_uniforms", 2**40, ValueError, f"{INT} in [0, 2147483648], got {2**40}"),
    ("num_uniforms", None, TypeError, f"{INT} in [0, 2147483648], got None"),
    ("dtype", "int32", TypeError, "be float32 or float64, got int32"),
    ("dtype", np.float16, TypeError, "be float32 or float64, got float16"),
    ("data", "text", TypeError, "be an array of real numbers, got 'text'"),
    ("data", np.array([None]), TypeError, "hold numbers, got dtype object"),
    ("minimizer", [1.0], ValueError, "have shape (2,), got (1,)"),
    ("minimizer", [1.0, np.nan], ValueError, "be finite, got nan at index (1,)"),
    ("minimizer", "12", TypeError, "be an array of real numbers, got '12'"),
    ("hessian", [1.0, 2.0], ValueError, "have shape (2, 2), got (2,)"),
    ("hessian", np.eye(3), ValueError, "have shape (2, 2), got (3, 3)"),
    ("noise_covariance", np.eye(2) * 1j, TypeError, "be an array of real numbers, got dtype"),
    ("divergence_limit", 0.0, ValueError, "be a finite number in (0.0, 1e+30], got 0.0"),
    ("divergence_limit", -1.0, ValueError, "be a finite number in (0.0, 1e+30], got -1.0"),
    ("divergence_limit", np.inf, ValueError, "be a finite number in (0.0, 1e+30], got inf"),
    ("divergence_limit", np.nan, ValueError, "be a finite number in (0.0, 1e+30], got nan"),
    ("divergence_limit", "1", TypeError, "be a finite number in (0.0, 1e+30], got '1'"),
]


@pytest.mark.parametrize(("argument", "value", "kind", "text"), ARGUMENTS)
def test_wrong_arguments(argument: str, value: Any, kind: type[Exception], text: str) -> None:
    arguments = {"grad": writing, "dim": 2, argument: value}
    with pytest.raises(kind, match="^" + re.escape(f"Custom: `{argument}` must {text}")):
        sgd.Custom(**arguments)


def test_strided_data() -> None:
    with pytest.raises(ValueError, match=r"^Custom: `data` must be C-contiguous, got"):
        sgd.Custom(writing, 2, np.arange(10.0)[::2])


def test_beyond_the_counter() -> None:
    with raises(OverflowError, f"Custom: `dim` must be at most 2**34, got {2**34 + 1}"):
        sgd.Custom(writing, 2**34 + 1)


def wrong_functions() -> list[Any]:
    real, pointer = types.float64, types.CPointer(types.float64)
    integer = types.CPointer(types.int64)
    good = [pointer, pointer, types.int64, types.voidptr, pointer]
    bodies = {
        4: lambda a, b, c, d: 0,
        5: lambda a, b, c, d, e: 0,
    }
    signatures = {
        "four": (types.int32, good[:4]),
        "integers": (types.int32, [integer, integer, types.int64, types.voidptr, integer]),
        "mixed": (types.int32, [*good[:4], types.CPointer(types.float32)]),
        "step": (types.int32, [pointer, pointer, types.int32, types.voidptr, pointer]),
        "returns": (types.int64, good),
        "value": (types.int32, [real, pointer, types.int64, types.voidptr, pointer]),
        "data": (types.int32, [pointer, pointer, types.int64, types.int64, pointer]),
    }
    found = []
    for name, (returned, arguments) in signatures.items():
        function = numba.cfunc(returned(*arguments))(bodies[len(arguments)])
        found += [
            pytest.param(function, id=name),
            pytest.param(function.ctypes, id=f"{name} ctypes"),
            pytest.param(LowLevelCallable(function.ctypes), id=f"{name} lowlevel"),
        ]
    return found


@pytest.mark.parametrize("grad", wrong_functions())
def test_wrong_signatures(grad: Any) -> None:
    with pytest.raises(TypeError, match="^" + re.escape(f"Custom: `grad` must {BAD_SIGNATURE}")):
        sgd.Custom(grad, 2)


def test_precision_that_does_not_fit() -> None:
    with raises(
        TypeError, "Custom: `dtype` must be float64 as in the signature of `grad`, got float32"
    ):
        sgd.Custom(compiled("float64"), 3, dtype="float32")
    problem = sgd.Custom(compiled("float32"), 3, parameters("float32"))
    text = "run: `dtype` must be float32 as in the signature of the compiled gradient, got float64"
    with raises(TypeError, text):
        sgd.run(problem, 0.1, 5, dtype="float64")
    with raises(TypeError, text):
        sgd.run(problem, 0.1, 5, theta0=np.zeros(3))


def test_user_data_of_a_low_level_callable() -> None:
    grad = LowLevelCallable(compiled("float64").ctypes, ctypes.c_void_p(8))
    with pytest.raises(ValueError, match=r"^Custom: `grad` must have no user_data \(pass `data`"):
        sgd.Custom(grad, 3)


BACKENDS = [
    ("cfunc", "numba", "run: `backend` must be 'cpp' for a compiled gradient, got 'numba'"),
    (
        "njit",
        "cpp",
        "run: `backend` must be 'numba' or None for an @njit gradient (use @cfunc for 'cpp'), "
        "got 'cpp'",
    ),
    ("callable", "cpp", "run: `backend` must be None for a Python callable, got 'cpp'"),
    ("callable", "numba", "run: `backend` must be None for a Python callable, got 'numba'"),
]


@pytest.mark.parametrize(("form", "backend", "text"), BACKENDS)
def test_backend_that_cannot_call_it(form: str, backend: str, text: str) -> None:
    grad = {"cfunc": lambda: compiled("float64"), "njit": lambda: jitted}.get(
        form, lambda: writing
    )()
    problem = sgd.Custom(grad, 3, parameters("float64"))
    with raises(TypeError, text):
        sgd.run(problem, 0.1, 5, backend=backend)
