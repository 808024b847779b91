"""Parameters of an estimator, read and set in the manner of scikit-learn."""

from __future__ import annotations

import inspect
from typing import Any

__all__ = ["Parameters"]


class Parameters:
    """Base of classes whose arguments lie in attributes of the same names."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the arguments of the constructor.

        Parameters
        ----------
        deep : bool
            Not used; there for scikit-learn.

        Returns
        -------
        dict
        """
        return {name: getattr(self, name) for name in _names(type(self))}

    def set_params(self, **params: Any) -> Any:
        """Change arguments of the constructor; they count from the next fit on.

        Parameters
        ----------
        **params : object
            Names and values.

        Returns
        -------
        object
            The estimator itself.

        Raises
        ------
        ValueError
            There is no such argument.
        """
        known = _names(type(self))
        for name in params:
            if name not in known:
                function = f"{type(self).__name__}.set_params"
                raise ValueError(f"{function}: `{name}` must be one of {known}, got another name")
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        changed = []
        for name, parameter in inspect.signature(type(self)).parameters.items():
            value = getattr(self, name)
            if value is not parameter.default and value != parameter.default:
                changed.append(f"{name}={value!r}")
        return f"{type(self).__name__}({', '.join(changed)})"


def _names(kind: type) -> list[str]:
    return list(inspect.signature(kind).parameters)
