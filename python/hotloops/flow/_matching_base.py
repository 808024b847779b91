"""What a flow-matching model is made of: settings, training, files."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hotloops._runtime import arrays, checkpoints, dispatch, threads, validate
from hotloops._runtime.arrays import Library
from hotloops._runtime.errors import NumericalError
from hotloops._runtime.progress import Progress
from hotloops.flow._branches import check_labels, on_host
from hotloops.flow._matching_batch import MatchingData, MatchingRule
from hotloops.flow._matching_fit import MatchingJob, run_steps
from hotloops.flow._network import VelocityNetwork, check_attributes
from hotloops.nn import AdamW
from hotloops.nn._optimizers import ema_decay
from hotloops.nn._train import TrainState

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["TrainableFlow"]

_KIND, _VERSION = "flow.matching", 1


class TrainableFlow:
    """A model of flow matching that can be trained and stored; see `ConditionalFlowMatching`."""

    dim: int
    hidden: int
    embed: int
    blocks: int
    attributes: Mapping[str, int] | None
    sigma: float
    coupling: str
    p_cond: float
    drop: str
    conditioning: str
    times: str
    ema: float | None
    standardize: bool
    normalization: str
    dropout: float
    dtype: Any
    seed: int

    network_: VelocityNetwork
    attributes_: dict[str, int]
    mean_: npt.NDArray[np.float64]
    scale_: npt.NDArray[np.float64]
    state_: TrainState
    losses_: npt.NDArray[np.float64]
    num_steps_: int
    complete_: bool

    # --- parameters ------------------------------------------------------------------------------

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the arguments of the constructor by name."""
        return {name: getattr(self, name) for name in self._names()}

    @classmethod
    def _names(cls) -> list[str]:
        return list(inspect.signature(cls).parameters)

    def set_params(self, **params: Any) -> Self:
        """Set arguments of the constructor; a fitted network stays as it is."""
        for name in params:
            if name not in self._names():
                raise ValueError(f"ConditionalFlowMatching: there is no parameter `{name}`")
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        defaults = inspect.signature(type(self)).parameters
        changed = [
            f"{name}={value!r}"
            for name, value in self.get_params().items()
            if defaults[name].default is inspect.Parameter.empty or value != defaults[name].default
        ]
        return f"ConditionalFlowMatching({', '.join(changed)})"

    # --- training --------------------------------------------------------------------------------

    def fit(
        self,
        z: Any,
        labels: Any = None,
        log_size: Any = None,
        *,
        num_epochs: int | None = None,
        num_steps: int | None = None,
        batch_size: int = 256,
        learning_rate: Any = 1e-4,
        weight_decay: float = 1e-6,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        clip_norm: float | None = 1.0,
        no_decay: Any = (),
        state: TrainState | None = None,
        progress: bool = False,
        max_seconds: float | None = None,
        backend: str | None = None,
        num_threads: int | None = None,
    ) -> Self:
        """Fit the velocity to data.

        Parameters
        ----------
        z : array_like, shape (n, dim)
            The data, in host memory or on a GPU, where it is trained then; what is found is in host
            memory.
        labels : dict of array_like (n,), or array_like (n,) or (n, attributes), optional
            Codes of the categories; -1 is unknown.
        log_size : array_like, shape (n,) or (n, modalities), optional
            Logarithms of the size factors, to be embedded; `sample` then needs them too.
        num_epochs, num_steps : int, optional
            One of them: passes over the data, each in an order of its own whose incomplete last
            batch is left out, or steps. Default 1500 epochs.
        batch_size : int
            Rows of a step. Default 256.
        learning_rate, weight_decay, betas, eps, clip_norm, no_decay : optional
            Of `hotloops.nn.AdamW`. Defaults 1e-4, 1e-6, (0.9, 0.999), 1e-8, 1.0 and none, those of
            the paper.
        state : TrainState, optional
            ``state_``, to go on from: with the same arguments, k steps, then n - k, give the bits
            of n steps.
        progress : bool
        max_seconds : float, optional
            Stop after about this time; ``complete_`` is then False.
        backend : {"cpp", "cuda", "numba"}, optional
            Default: "cuda" for data on a GPU, else "cpp".
        num_threads : int, optional
            Default `hotloops.get_num_threads`; never changes the result.

        Returns
        -------
        ConditionalFlowMatching
            This object.

        Raises
        ------
        TypeError, ValueError
            Settings or data of the wrong type, shape or range.
        hotloops.NumericalError
            Data, or a loss, that isn't finite; the network is then as it was before.
        """
        where = "ConditionalFlowMatching.fit"
        rule = self._rule(where)
        ends, library = self._points(where, z)
        n = ends.shape[0]
        size = validate.integer(where, "batch_size", batch_size, low=1)
        if size > n:
            validate.fail(ValueError, where, "batch_size", f"be at most the {n} rows", str(size))
        optimizer = AdamW(
            learning_rate,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            clip_norm=clip_norm,
            no_decay=no_decay,
        )
        steps = _count(where, num_epochs, num_steps, n // size)
        ema = None if self.ema is None else ema_decay(where, "ema", self.ema)
        shown = validate.boolean(where, "progress", progress)
        if max_seconds is not None:
            validate.real(where, "max_seconds", max_seconds, low=0.0)
        resolved = dispatch.resolve_backend(where, backend, library.device)
        count = threads.resolve_num_threads(where, num_threads)
        fresh = state is None
        with arrays.stream_context(library):
            network, mean, scale = self._start(where, ends, labels, log_size, fresh)
            data = _training_data(where, network, ends, mean, scale, labels, log_size)
            job = MatchingJob(where, network, rule, data, size, optimizer, ema, resolved, count)
            with Progress(steps, enabled=shown, description="fit", max_seconds=max_seconds) as bar:
                trained = run_steps(job, steps, state, bar)
        past = np.zeros(0) if fresh else self.losses_
        self.network_ = network
        self.attributes_ = dict(network.attributes)
        self.mean_, self.scale_ = mean, scale
        self.state_ = trained.state
        self.losses_ = np.concatenate([past, trained.losses])
        self.num_steps_ = trained.state.num_steps
        self.complete_ = trained.complete
        return self

    def _rule(self, where: str) -> MatchingRule:
        validate.integer(where, "dim", self.dim, low=1)
        return MatchingRule(
            sigma=_below_one(where, "sigma", self.sigma),
            optimal=_choice(where, "coupling", self.coupling, ("independent", "ot")) == "ot",
            p_cond=validate.real(where, "p_cond", self.p_cond, low=0.0, high=1.0),
            per_batch=_choice(where, "drop", self.drop, ("row", "batch")) == "batch",
            together=_choice(where, "conditioning", self.conditioning, ("one", "all")) == "all",
            antithetic=_choice(where, "times", self.times, ("antithetic", "uniform"))
            == "antithetic",
            seed=validate.integer(where, "seed", self.seed, low=0, high=2**64 - 1),
        )

    def _start(
        self, where: str, ends: npt.NDArray[Any], labels: Any, log_size: Any, fresh: bool
    ) -> tuple[VelocityNetwork, npt.NDArray[Any], npt.NDArray[Any]]:
        """Return the network to train, and by what the data are shifted and scaled."""
        if not fresh:
            self._check_fitted(where)
            return self.network_.copy(), self.mean_, self.scale_
        dtype = validate.float_dtype(where, "dtype", self.dtype)
        mean, scale = np.zeros(self.dim), np.ones(self.dim)
        if validate.boolean(where, "standardize", self.standardize):
            mean, deviation = (
                on_host(where, "z", value) for value in (ends.mean(axis=0), ends.std(axis=0))
            )
            scale = np.where(deviation > 0.0, deviation, 1.0)
        attributes = check_attributes(where, self.attributes)
        if self.attributes is None and labels is not None:
            found = check_labels(where, labels, None, ends.shape[0])
            attributes = {name: max(1, int(codes.max()) + 1) for name, codes in found.items()}
        network = VelocityNetwork(
            self.dim,
            self.hidden,
            self.embed,
            self.blocks,
            attributes=attributes,
            size_range=None if log_size is None else _range(where, log_size, ends.shape[0]),
            normalization=self.normalization,
            dropout=self.dropout,
            dtype=dtype,
            seed=self.seed,
        )
        return network, mean, scale

    def _points(self, where: str, z: Any) -> tuple[npt.NDArray[np.float64], Library]:
        """Return points (n, dim) as float64, and the library that they came in."""
        native, library = arrays.import_array(where, "z", z)
        with arrays.stream_context(library):
            points = validate.array(
                where, "z", native, shape=(None, self.dim), dtype=np.float64, finite=False
            )
            wrong = library.xp.flatnonzero(~library.xp.isfinite(points).all(axis=1))
            if wrong.size:
                row = int(wrong[0])
                raise NumericalError(
                    f"{where}: `z` must be finite, got {points[row]} in row {row}", row=row
                )
        return points, library

    def _check_fitted(self, where: str) -> None:
        if not hasattr(self, "network_"):
            raise ValueError(f"{where}: the model must be fitted (or loaded) first")

    # --- files -----------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write settings, network and the state of training to an ``.npz`` file.

        Parameters
        ----------
        path : str or path-like
            Replaced by atomic rename.
        """
        self._check_fitted("ConditionalFlowMatching.save")
        settings = self.get_params()
        settings["dtype"] = np.dtype(self.dtype).name
        settings["attributes"] = None if self.attributes is None else dict(self.attributes)
        network, held = self.network_.to_file()
        stored = {f"network.{name}": value for name, value in held.items()}
        stored |= {f"state.{name}": value for name, value in self.state_.arrays().items()}
        stored |= {"losses": self.losses_, "mean": self.mean_, "scale": self.scale_}
        header = {
            "settings": settings,
            "network": network,
            "state": self.state_.header(),
            "complete": self.complete_,
        }
        checkpoints.save_npz(path, _KIND, _VERSION, header, stored)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what `save` wrote; training can go on from it.

        Raises
        ------
        ValueError
            The file is cut, damaged or of another origin.
        """
        header, stored = checkpoints.load_npz(path, _KIND, _VERSION)
        try:
            model = cls(**header["settings"])
            model.network_ = VelocityNetwork.from_file(
                header["network"], _inner(stored, "network.")
            )
            state: dict[str, Any] = {**_inner(stored, "state."), **header["state"]}
            model.state_ = TrainState(**state)
            model.losses_, model.mean_, model.scale_ = (
                stored[name] for name in ("losses", "mean", "scale")
            )
            model.complete_ = bool(header["complete"])
        except (KeyError, TypeError) as error:
            name = os.fspath(path)
            raise ValueError(f"{name}: the file lacks parts of a model ({error!r})") from error
        model.attributes_ = dict(model.network_.attributes)
        model.num_steps_ = model.state_.num_steps
        return model


def _training_data(
    where: str,
    network: VelocityNetwork,
    ends: Any,
    mean: npt.NDArray[np.float64],
    scale: npt.NDArray[np.float64],
    labels: Any,
    log_size: Any,
) -> MatchingData:
    """Return what batches are made of, where the ends of the paths are."""
    n = ends.shape[0]
    codes = check_labels(where, labels, network.attributes, n)
    table = np.full((len(network.attributes), n), -1, np.int32)
    for i, name in enumerate(network.attributes):
        table[i] = codes.get(name, -1)
    inputs = network.size_inputs(where, log_size, n)
    sizes = np.array([value[:, 0] for value in inputs], network.dtype).reshape(len(inputs), n)
    xp = arrays.common_library(where, {"z": ends}).xp
    inside = ((ends - xp.asarray(mean)) / xp.asarray(scale)).astype(network.dtype)
    return MatchingData(inside, xp.asarray(sizes), xp.asarray(table))


def _inner(stored: Mapping[str, npt.NDArray[Any]], prefix: str) -> dict[str, npt.NDArray[Any]]:
    return {
        name.removeprefix(prefix): value
        for name, value in stored.items()
        if name.startswith(prefix)
    }


def _choice(where: str, name: str, value: Any, options: tuple[str, ...]) -> str:
    return validate.choice(where, name, value, options)


def _below_one(where: str, name: str, value: Any) -> float:
    number = validate.real(where, name, value, low=0.0)
    if number >= 1.0:
        validate.fail(ValueError, where, name, "be below 1", repr(number))
    return number


def _count(where: str, num_epochs: Any, num_steps: Any, per_epoch: int) -> int:
    if num_epochs is not None and num_steps is not None:
        expectation = "be None where `num_epochs` is given"
        validate.fail(ValueError, where, "num_steps", expectation, validate.describe(num_steps))
    if num_steps is not None:
        return validate.integer(where, "num_steps", num_steps, low=0)
    epochs = 1500 if num_epochs is None else num_epochs
    return validate.integer(where, "num_epochs", epochs, low=0) * per_epoch


def _range(where: str, log_size: Any, n: int) -> npt.NDArray[np.float64]:
    """Return least and largest logarithms of the size factors of each modality."""
    host = on_host(where, "log_size", log_size)
    values = validate.array(where, "log_size", host, ndim=(1, 2), dtype=np.float64)
    if values.shape[0] != n:
        expectation = f"have {n} rows like `z`"
        validate.fail(ValueError, where, "log_size", expectation, str(values.shape))
    values = values.reshape(n, -1)
    low, high = values.min(axis=0), values.max(axis=0)
    return np.stack([low, np.where(high > low, high, low + 1.0)], axis=1)
