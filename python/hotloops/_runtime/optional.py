"""Optional libraries: imported when they are asked for, with one message where one is missing."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["estimator", "figure_class"]


def estimator(family: str, names: tuple[str, ...], room: str, name: str) -> Any:
    """Return the estimator `name` of `family` from the module `room`, which needs scikit-learn.

    It is the body of the family's ``__getattr__``.

    Raises
    ------
    AttributeError
        `name` is not in `names`.
    ImportError
        scikit-learn is missing or older than 1.6.
    """
    if name not in names:
        raise AttributeError(f"module {family!r} has no attribute {name!r}")
    try:
        module = importlib.import_module(f"{family}.{room}")
    except ImportError as missing:
        if (missing.name or "").partition(".")[0] != "sklearn":
            raise
        raise ImportError(
            f"{family}.{name} needs scikit-learn >= 1.6: pip install 'hotloops[sklearn]'"
        ) from missing
    return getattr(module, name)


def figure_class() -> type[Figure]:
    """Return matplotlib's Figure, which draws without a window.

    Raises
    ------
    ImportError
        matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            f"plot: pictures need matplotlib: pip install 'hotloops[plot]' ({error})"
        ) from error
    return Figure
