"""hotloops: the hot loops of iterative methods, over many rows at once, on every core.

Families are modules that load when they are first used: ``hotloops.sgd``,
``hotloops.simplex``, ``hotloops.random``.
"""

from __future__ import annotations

import importlib
import os
from types import ModuleType
from typing import TYPE_CHECKING

from hotloops._runtime import threadpools
from hotloops._runtime.dispatch import use_backend
from hotloops._runtime.errors import BackendUnavailable, DivergenceWarning, NumericalError
from hotloops._runtime.info import show_runtime
from hotloops._runtime.threads import get_num_threads, set_num_threads

if TYPE_CHECKING:
    from hotloops import admm as admm
    from hotloops import datasets as datasets
    from hotloops import flow as flow
    from hotloops import nn as nn
    from hotloops import prox as prox
    from hotloops import random as random
    from hotloops import sgd as sgd
    from hotloops import simplex as simplex

__version__ = "0.1.0"

_MODULES = ("admm", "datasets", "flow", "nn", "prox", "random", "sgd", "simplex", "torch")

__all__ = [
    "BackendUnavailable",
    "DivergenceWarning",
    "NumericalError",
    "__version__",
    "get_include",
    "get_num_threads",
    "set_num_threads",
    "show_runtime",
    "use_backend",
]

threadpools.install()


def get_include() -> str:
    """Return the folder to put on a compiler's include path for the C++ headers.

    Examples
    --------
    >>> import hotloops, os
    >>> os.path.basename(hotloops.get_include())
    'include'
    """
    folders = [os.path.join(folder, "include") for folder in __path__]
    for folder in folders:
        if os.path.isdir(os.path.join(folder, "hotloops")):
            return folder
    raise FileNotFoundError(f"get_include: no headers are installed in {' or '.join(folders)}")


if not TYPE_CHECKING:  # or type checkers would take any name for a module

    def __getattr__(name: str) -> ModuleType:
        if name in _MODULES:
            return importlib.import_module(f"{__name__}.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
