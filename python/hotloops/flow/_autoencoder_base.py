"""What the autoencoder does inside: its arguments checked, its training begun, its files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy.typing as npt

from hotloops._runtime import checkpoints, validate
from hotloops._runtime.validate import fail
from hotloops.flow._autoencoder_fit import NO_DECAY, FitOptions, Fitting, below
from hotloops.flow._autoencoder_inputs import read_matrices
from hotloops.flow._autoencoder_program import Modality, read_modalities
from hotloops.flow._labels import Codes, Labels, code_labels, find_codes, read_labels
from hotloops.flow._matrices import CountMatrix
from hotloops.flow._params import Parameters
from hotloops.flow._trained_autoencoder import TrainedAutoencoder

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["AutoencoderBase"]

StrPath: TypeAlias = "str | os.PathLike[str]"
Array = npt.NDArray[Any]

_KIND, _VERSION = "flow.autoencoder", 1
_THETA_INITS = ("normal", "moments")


class AutoencoderBase(Parameters):
    """Arguments in attributes, the trained halves, and the training that they come from."""

    modalities: Any
    joint: int | None
    theta_per_label: bool
    theta_init: str
    dropout: float
    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    clip_norm: float
    no_decay: Any
    validation_share: float
    early_stopping: bool
    patience: int
    allow_noninteger: bool
    seed: int
    dtype: Any
    backend: str | None
    num_threads: int | None
    complete_: bool
    _trained: TrainedAutoencoder
    _fitting: Fitting | None = None

    def _read_modalities(self, function: str) -> tuple[Modality, ...]:
        defaults = {
            name: getattr(self, name) for name in ("likelihood", "n_latent", "hidden", "transform")
        }
        return read_modalities(function, self.modalities, defaults)

    def _read_again(self, function: str, X: Any, argument: str = "X") -> list[CountMatrix]:
        trained = self._check_fitted(function)
        names = (item.name for item in trained.modalities)
        features = dict(zip(names, trained.widths, strict=True))
        return read_matrices(
            function,
            X,
            trained.modalities,
            features,
            trained.dtype,
            self.allow_noninteger,
            argument,
        )

    def _read_groups(
        self, function: str, labels: Any, rows: int, goes_on: bool
    ) -> tuple[Labels | None, Codes | None]:
        if not validate.boolean(function, "theta_per_label", self.theta_per_label):
            return None, None
        if labels is None:
            fail(TypeError, function, "labels", "be given with theta_per_label=True", "None")
        if goes_on and self._trained.groups is not None:
            return self._trained.groups, code_labels(function, self._trained.groups, labels, rows)
        return read_labels(function, "labels", labels, rows)

    def _codes(self, function: str, labels: Any, rows: int) -> Codes | None:
        groups = self._trained.groups
        if groups is None:
            return None
        if labels is None:
            fail(TypeError, function, "labels", "be given with theta_per_label=True", "None")
        return find_codes(function, groups, labels, rows)

    def _options(self, function: str, epochs: int | None) -> FitOptions:
        real, whole = validate.real, validate.integer
        count = self.epochs if epochs is None else epochs
        no_decay = tuple(self.no_decay)
        for word in no_decay:
            validate.choice(function, "no_decay", word, tuple(NO_DECAY))
        share = real(function, "validation_share", self.validation_share, low=0.0, high=0.9)
        early = validate.boolean(function, "early_stopping", self.early_stopping)
        if early and share == 0.0:
            expectation = "be above 0 with early_stopping=True"
            fail(ValueError, function, "validation_share", expectation, "0.0")
        return FitOptions(
            epochs=whole(function, "epochs", count, low=0),
            batch_size=whole(function, "batch_size", self.batch_size, low=2),
            learning_rate=real(function, "learning_rate", self.learning_rate, low=0.0),
            weight_decay=real(function, "weight_decay", self.weight_decay, low=0.0),
            clip_norm=real(function, "clip_norm", self.clip_norm, low=0.0, open_low=True),
            no_decay=no_decay,
            validation_share=share,
            early_stopping=early,
            patience=whole(function, "patience", self.patience, low=1),
            theta_init=validate.choice(function, "theta_init", self.theta_init, _THETA_INITS),
            seed=whole(function, "seed", self.seed, low=0, high=2**64 - 1),
            backend=self.backend,
            num_threads=self.num_threads,
        )

    def _make(
        self,
        function: str,
        modalities: Sequence[Modality],
        widths: Sequence[int],
        groups: Labels | None,
    ) -> TrainedAutoencoder:
        joint = self.joint
        if joint is not None:
            joint = validate.integer(function, "joint", joint, low=1)
        dtype = validate.float_dtype(function, "dtype", self.dtype)
        dropout = validate.real(function, "dropout", self.dropout, low=0.0, high=0.99)
        return TrainedAutoencoder(
            modalities, widths, joint, groups, dropout, dtype, self.backend, self.num_threads
        )

    def _start(
        self,
        function: str,
        modalities: Sequence[Modality],
        matrices: Sequence[CountMatrix],
        groups: Labels | None,
        codes: Codes | None,
        options: FitOptions,
    ) -> Fitting:
        """Begin a training from the seed."""
        widths = [matrix.columns for matrix in matrices]
        trained = self._make(function, modalities, widths, groups)
        fitting = Fitting(trained, options, matrices[0].rows)
        if options.theta_init == "moments":
            fitting.set_log_theta(matrices, codes)
        self._trained, self._fitting = trained, fitting
        return fitting

    def _check_fitted(self, function: str) -> TrainedAutoencoder:
        if not hasattr(self, "_trained"):
            raise ValueError(f"{function}: the model must be fitted first, got one without fit")
        return self._trained

    # --- files -----------------------------------------------------------------------------------

    def save(self, path: StrPath, *, training: bool = True) -> None:
        """Write the model to an ``.npz`` file, without pickle.

        Parameters
        ----------
        path : str or path-like
            File to write, exactly as named.
        training : bool
            Keep what ``fit(resume=True)`` needs, which triples the size. Default True.
        """
        checkpoints.save_npz(path, _KIND, _VERSION, *self._pack(training))

    @classmethod
    def load(cls, path: StrPath) -> Self:
        """Read a model that `save` wrote.

        Parameters
        ----------
        path : str or path-like
            The file.

        Returns
        -------
        CountAutoencoder

        Raises
        ------
        ValueError
            The file is cut, damaged or of another kind.
        """
        return cls._unpack(*checkpoints.load_npz(path, _KIND, _VERSION))

    def _pack(self, training: bool) -> tuple[dict[str, Any], dict[str, Array]]:
        """Return header and arrays of a file."""
        trained = self._check_fitted("CountAutoencoder.save")
        params = {**self.get_params(), "dtype": trained.dtype.name}
        header: dict[str, Any] = {
            "params": params,
            "widths": list(trained.widths),
            "groups": None if trained.groups is None else list(trained.groups.categories),
            "complete": getattr(self, "complete_", True),
        }
        arrays = {f"state/{name}": value for name, value in trained.state().items()}
        if training and self._fitting is not None:
            header["fitting"], more = self._fitting.pack()
            arrays |= {f"fitting/{name}": value for name, value in more.items()}
        return header, arrays

    @classmethod
    def _unpack(cls, header: dict[str, Any], arrays: dict[str, Array]) -> Self:
        """Return the model of a file."""
        function = "CountAutoencoder.load"
        model = cls(**header["params"])
        groups = header["groups"]
        labels = None if groups is None else Labels("labels", tuple(groups))
        modalities = model._read_modalities(function)
        model._trained = model._make(function, modalities, header["widths"], labels)
        model._trained.load(function, below(arrays, "state/"))
        model.complete_ = header["complete"]
        if "fitting" in header:
            options = model._options(function, None)
            model._fitting = Fitting.unpack(
                model._trained, options, header["fitting"], below(arrays, "fitting/")
            )
        return model
