"""What the twins use of Numba and llvmlite to extend the language that Numba compiles.

Both are untyped or differently typed from version to version, so they are taken as `Any` here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import llvmlite.ir
import numba.core.cgutils
import numba.core.types
import numba.extending
import numba.np.arrayobj
import numba.np.numpy_support

__all__ = [
    "arrayobj",
    "cgutils",
    "give_type",
    "ir",
    "lower",
    "models",
    "numpy_support",
    "primitive",
    "types",
]

F = TypeVar("F", bound=Callable[..., Any])

ir: Any = llvmlite.ir
cgutils: Any = numba.core.cgutils
types: Any = numba.core.types
arrayobj: Any = numba.np.arrayobj
models: Any = numba.extending.models
numpy_support: Any = numba.np.numpy_support

_extending: Any = numba.extending


def give_type(function: Callable[..., Any], typer: Callable[..., Any]) -> None:
    """Let compiled code call `function`; `typer` maps the types of the arguments to the result's,
    or to None when the call is not meant for it."""
    _extending.type_callable(function)(lambda context: typer)


def lower(function: Callable[..., Any], *kinds: Any) -> Callable[[F], F]:
    """Say what LLVM code a call with arguments of these types is."""
    return cast(Callable[[F], F], _extending.lower_builtin(function, *kinds))


def primitive(kind: type, llvm: Callable[[Any], Any]) -> None:
    """Represent values of a Numba type by the LLVM type that `llvm` returns for it."""

    def __init__(self: Any, manager: Any, instance: Any) -> None:
        models.PrimitiveModel.__init__(self, manager, instance, llvm(instance))

    model = type(f"{kind.__name__}Model", (models.PrimitiveModel,), {"__init__": __init__})
    _extending.register_model(kind)(model)
