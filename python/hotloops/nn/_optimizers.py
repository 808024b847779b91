"""Adam, AdamW and moving averages over flat arrays of parameters."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt

from hotloops._runtime import arrays, dispatch, threads, validate
from hotloops._runtime import checkpoints as files
from hotloops._runtime.validate import describe, fail
from hotloops.nn._layout import Program
from hotloops.nn._rule import Rule, State, ema_decay, power

if TYPE_CHECKING:
    from hotloops.nn._network import Network

__all__ = ["EMA", "Adam", "AdamW", "ema_decay"]

Schedule: TypeAlias = "float | Callable[[int], float]"

_KIND, _VERSION = "nn.optimizer", 1


class Adam:
    """Adam, with decay added to the gradient.

    ``g <- g min(1, clip_norm / (|g| + 1e-6)) + weight_decay p``,
    ``m <- beta1 m + (1 - beta1) g``, ``v <- beta2 v + (1 - beta2) g^2``,
    ``p <- p - learning_rate (m / (1 - beta1^k)) / (sqrt(v / (1 - beta2^k)) + eps)``.

    Parameters
    ----------
    learning_rate : float or callable
        Default 1e-3. A callable gets the number of the step, from 0 on.
    betas : (float, float)
        In [0, 1); defaults of the paper.
    eps : float
        Above zero.
    weight_decay : float
        Default 0.
    clip_norm : float, optional
        Longest gradient over all parameters together; None does not clip.
    no_decay : sequence of str
        Parameters that don't decay: a word that their name contains, or one of ``"weight"``,
        ``"bias"``, ``"norm"``, ``"embedding"``, ``"free"`` for all of a kind. Needs a network.

    Attributes
    ----------
    num_steps : int
        Steps made so far.
    first_moment, second_moment : ndarray or None
        m and v; None before the first step.

    Raises
    ------
    TypeError, ValueError
        Arguments of the wrong type or range.

    Notes
    -----
    Class A. After the norm, a step is one pass over the parameters, the gradient and both moments.

    References
    ----------
    D. P. Kingma and J. Ba, "Adam: a method for stochastic optimization", ICLR 2015, algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> from hotloops import nn
    >>> parameters, optimizer = np.ones(3), nn.Adam(0.1)
    >>> norm = optimizer.step(parameters, np.array([2.0, -1.0, 0.0]))
    >>> parameters.round(6)
    array([0.9, 1.1, 1. ])
    """

    _decoupled: ClassVar[bool] = False

    def __init__(
        self,
        learning_rate: Schedule = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        clip_norm: float | None = None,
        no_decay: Sequence[str] = (),
    ) -> None:
        name = type(self).__name__
        self.learning_rate = _learning_rate(name, learning_rate)
        self.betas = _betas(name, betas)
        self.eps = validate.real(name, "eps", eps, low=0.0, open_low=True)
        self.weight_decay = validate.real(name, "weight_decay", weight_decay, low=0.0)
        self.clip_norm = clip_norm
        if clip_norm is not None:
            self.clip_norm = validate.real(name, "clip_norm", clip_norm, low=0.0, open_low=True)
        self.no_decay = _words(name, no_decay)
        self.num_steps = 0
        self.first_moment: npt.NDArray[Any] | None = None
        self.second_moment: npt.NDArray[Any] | None = None

    def __repr__(self) -> str:
        names = ("learning_rate", "betas", "eps", "weight_decay", "clip_norm", "no_decay")
        numbers = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
        return f"{type(self).__name__}({numbers})"

    def rate(self, step: int) -> float:
        """Return the learning rate of a step.

        Parameters
        ----------
        step : int
            From 0 on.

        Returns
        -------
        float
        """
        if not callable(self.learning_rate):
            return float(self.learning_rate)
        name, value = type(self).__name__, self.learning_rate(step)
        return validate.real(name, f"learning_rate({step})", value, low=0.0)

    def rule(self, program: Program | None = None, ema: float = 0.0) -> Rule:
        """Return the numbers as kernels take them.

        Parameters
        ----------
        program : Program, optional
            Whose names `no_decay` is looked up in.
        ema : float
            Decay of the moving average, 0 for none.

        Returns
        -------
        Rule
        """
        numbers = (*self.betas, self.eps, self.weight_decay, self.clip_norm or 0.0, ema)
        rule = Rule(self._decoupled, *numbers)
        if not self.no_decay:
            return rule
        name = type(self).__name__
        if program is None:
            expectation = "be empty where parameters have no names"
            fail(ValueError, name, "no_decay", expectation, repr(self.no_decay))
        return replace(rule, no_decay=_ranges(name, self.no_decay, program))

    def step(
        self,
        parameters: Any,
        gradients: Any = None,
        *,
        backend: str | None = None,
        num_threads: int | None = None,
    ) -> float:
        """Move the parameters by one step, in place.

        Parameters
        ----------
        parameters : Network or array of float32 or float64, shape (n,)
            A network brings its gradients along.
        gradients : array, shape (n,)
            Of the same type.
        backend : {"cpp", "numba"}, optional
            Default "cpp".
        num_threads : int, optional
            Default `hotloops.get_num_threads`; never changes the result.

        Returns
        -------
        float
            Norm of the gradient before it was clipped.

        Raises
        ------
        TypeError, ValueError
            Arrays that don't fit each other or the steps made before.
        hotloops.NumericalError
            The gradient isn't finite; nothing has changed then.
        """
        where = f"{type(self).__name__}.step"
        values, gradient, program = _flat(where, parameters, gradients)
        rule = self.rule(program)
        count = threads.resolve_num_threads(where, num_threads)
        kernels = _kernels(dispatch.resolve_backend(where, backend, "cpu"))
        first, second = self._moments(where, values)
        state = State(values, first, second, values[:0])
        rate = self.rate(self.num_steps)
        norm = kernels.update(rule, state, gradient, rate, self.num_steps + 1, count)
        self.first_moment, self.second_moment = first, second
        self.num_steps += 1
        return float(norm)

    def save(self, path: files.StrPath) -> None:
        """Write moments and numbers to an ``.npz`` file.

        Parameters
        ----------
        path : str or path-like
        """
        if callable(self.learning_rate):
            where = f"{type(self).__name__}.save"
            fail(TypeError, where, "learning_rate", "be a number", "a function")
        names = ("learning_rate", "betas", "eps", "weight_decay", "clip_norm", "no_decay")
        header = {name: getattr(self, name) for name in (*names, "num_steps")}
        moments = {"first_moment": self.first_moment, "second_moment": self.second_moment}
        held = {name: value for name, value in moments.items() if value is not None}
        files.save_npz(path, _KIND, _VERSION, {"class": type(self).__name__, **header}, held)

    @classmethod
    def load(cls, path: files.StrPath) -> Adam:
        """Read what `save` wrote.

        Parameters
        ----------
        path : str or path-like

        Returns
        -------
        Adam or AdamW
            As it was saved.

        Raises
        ------
        ValueError
            The file is cut, damaged or of another origin, or holds the other class.
        """
        header, held = files.load_npz(path, _KIND, _VERSION)
        if header["class"] != cls.__name__:
            raise ValueError(f"{path}: the checkpoint holds {header['class']}, not {cls.__name__}")
        names = ("eps", "weight_decay", "clip_norm", "no_decay")
        numbers = {name: header[name] for name in names}
        optimizer = cls(header["learning_rate"], betas=tuple(header["betas"]), **numbers)
        optimizer.num_steps = header["num_steps"]
        optimizer.first_moment = held.get("first_moment")
        optimizer.second_moment = held.get("second_moment")
        return optimizer

    def _moments(self, where: str, values: npt.NDArray[Any]) -> tuple[Any, Any]:
        if self.first_moment is None or self.second_moment is None:
            return np.zeros_like(values), np.zeros_like(values)
        expected = self.first_moment
        if (expected.shape, expected.dtype) != (values.shape, values.dtype):
            expectation = f"be like those of the steps before, {describe(expected)}"
            fail(ValueError, where, "parameters", expectation, describe(values))
        return self.first_moment, self.second_moment


class AdamW(Adam):
    """Adam with decoupled weight decay.

    As `Adam`, but the decay is ``p <- p (1 - learning_rate weight_decay)`` before the step and
    never enters the moments.

    Parameters
    ----------
    learning_rate : float or callable
        Default 1e-3. A callable gets the number of the step, from 0 on.
    betas : (float, float)
        In [0, 1); defaults of the paper.
    eps : float
        Above zero.
    weight_decay : float
        Default 0.01, as in torch.
    clip_norm : float, optional
        Longest gradient over all parameters together; None does not clip.
    no_decay : sequence of str
        As in `Adam`.

    Raises
    ------
    TypeError, ValueError
        Arguments of the wrong type or range.

    Notes
    -----
    Class A.

    References
    ----------
    I. Loshchilov and F. Hutter, "Decoupled weight decay regularization", ICLR 2019, algorithm 2.

    Examples
    --------
    >>> import numpy as np
    >>> from hotloops import nn
    >>> parameters, optimizer = np.ones(2), nn.AdamW(0.1, weight_decay=0.5)
    >>> norm = optimizer.step(parameters, np.array([0.0, 1.0]))
    >>> parameters.round(6)
    array([0.95, 0.85])
    """

    _decoupled: ClassVar[bool] = True

    def __init__(
        self,
        learning_rate: Schedule = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        clip_norm: float | None = None,
        no_decay: Sequence[str] = (),
    ) -> None:
        super().__init__(
            learning_rate,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            clip_norm=clip_norm,
            no_decay=no_decay,
        )


class EMA:
    """Exponential moving average of parameters, without the bias of its start.

    After k steps it is ``sum_i d^(k - i) p_i / sum_i d^(k - i)``: the first step sets it to the
    parameters themselves.

    Parameters
    ----------
    decay : float
        Weight d of what was there, in (0, 1); default 0.999.

    Attributes
    ----------
    num_steps : int
    average : ndarray or None
        None before the first step.

    Notes
    -----
    Class A.

    Examples
    --------
    >>> import numpy as np
    >>> from hotloops import nn
    >>> ema = nn.EMA(0.5)
    >>> for value in (0.0, 3.0):
    ...     average = ema.step(np.array([value]))
    >>> average
    array([2.])
    """

    def __init__(self, decay: float = 0.999) -> None:
        self.decay = ema_decay("EMA", "decay", decay)
        self.num_steps = 0
        self.average: npt.NDArray[Any] | None = None

    def __repr__(self) -> str:
        return f"EMA(decay={self.decay!r})"

    def step(self, parameters: Any) -> npt.NDArray[Any]:
        """Take new parameters into the average.

        Parameters
        ----------
        parameters : Network or array of float32 or float64, shape (n,)

        Returns
        -------
        ndarray, shape (n,)
            `average`, which the next step changes in place.
        """
        values = _parameters("EMA.step", parameters)[0]
        if self.average is None:
            self.average = np.zeros_like(values)
        elif (self.average.shape, self.average.dtype) != (values.shape, values.dtype):
            expectation = f"be like those of the steps before, {describe(self.average)}"
            fail(ValueError, "EMA.step", "parameters", expectation, describe(values))
        self.num_steps += 1
        take = (1.0 - self.decay) / (1.0 - power(self.decay, self.num_steps))
        kind = values.dtype.type
        self.average *= kind(1.0 - take)
        self.average += kind(take) * values
        return self.average


def _learning_rate(name: str, value: Any) -> Any:
    if callable(value):
        return value
    return validate.real(name, "learning_rate", value, low=0.0)


def _betas(name: str, value: Any) -> tuple[float, float]:
    if not isinstance(value, tuple | list) or len(value) != 2:
        fail(TypeError, name, "betas", "be two numbers", describe(value))
    first, second = (validate.real(name, "betas", beta, low=0.0) for beta in value)
    if first >= 1.0 or second >= 1.0:
        fail(ValueError, name, "betas", "be below 1", repr(tuple(value)))
    return first, second


def _words(name: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, str) or not all(isinstance(word, str) and word for word in value):
        fail(TypeError, name, "no_decay", "be a sequence of words", describe(value))
    return tuple(value)


def _ranges(name: str, words: Sequence[str], program: Program) -> tuple[tuple[int, int], ...]:
    ranges: list[tuple[int, int]] = []
    for word in words:
        if not any(word == e.role or word in e.name for e in program.parameters.values()):
            fail(ValueError, name, "no_decay", "name parameters of the network", repr(word))
    for entry in program.parameters.values():
        if any(word == entry.role or word in entry.name for word in words):
            begin, end = entry.offset, entry.offset + entry.size
            if ranges and ranges[-1][1] == begin:
                begin = ranges.pop()[0]
            ranges.append((begin, end))
    return tuple(ranges)


def _kernels(backend: str) -> Any:
    return importlib.import_module(f"hotloops.nn._{backend}")


def _parameters(where: str, parameters: Any) -> tuple[npt.NDArray[Any], Network | None]:
    from hotloops.nn._network import Network

    if isinstance(parameters, Network):
        return parameters.flat_parameters, parameters
    if not hasattr(parameters, "dtype"):  # a list would be copied and never changed
        fail(TypeError, where, "parameters", "be an array", describe(parameters))
    native, library = arrays.import_array(where, "parameters", parameters)
    if library.device != "cpu":
        fail(TypeError, where, "parameters", "live in host memory", f"an array on {library.place}")
    validate.array(where, "parameters", native, ndim=1)
    kind = validate.float_dtype(where, "parameters", native.dtype)
    return validate.output(where, "parameters", native, shape=native.shape, dtype=kind), None


def _flat(
    where: str, parameters: Any, gradients: Any
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], Program | None]:
    values, network = _parameters(where, parameters)
    if network is not None and gradients is None:
        gradients = network.flat_gradients
    native, _ = arrays.import_array(where, "gradients", gradients)
    gradient = validate.array(
        where,
        "gradients",
        native,
        shape=values.shape,
        dtype=values.dtype,
        exact_dtype=True,
        finite=False,
    )
    if not np.isfinite(gradient).all():
        from hotloops._runtime.errors import NumericalError

        at = int((~np.isfinite(gradient)).argmax())
        raise NumericalError(f"{where}: the gradient of parameter {at} is not finite")
    return values, gradient, None if network is None else network.program
