"""The autoencoder of counts: cells to latents, and latents to laws of counts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hotloops._runtime import arrays, validate
from hotloops._runtime.validate import fail
from hotloops.flow._autoencoder_base import AutoencoderBase
from hotloops.flow._autoencoder_inputs import read_matrices
from hotloops.flow._labels import read_labels
from hotloops.flow._likelihood import clip_log_theta
from hotloops.flow._torch_names import autoencoder_arguments, read_state
from hotloops.flow._trained_autoencoder import read_sizes

__all__ = ["CountAutoencoder"]

StrPath: TypeAlias = "str | os.PathLike[str]"
Array = npt.NDArray[Any]

_OUTPUTS = ("csr", "dense", "mean")
_PRESETS: dict[str, dict[str, Any]] = {
    "default": {"n_latent": 50, "hidden": (512, 256)},
    "large": {"n_latent": 100, "hidden": (512, 256)},
    "multimodal": {
        "modalities": {
            "rna": {"likelihood": "nb", "n_latent": 100, "hidden": (512, 300)},
            "atac": {"likelihood": "bernoulli", "n_latent": 100, "hidden": (1024, 512)},
        }
    },
}


class CountAutoencoder(AutoencoderBase):
    """Autoencoder whose decoder gives a law of counts: negative binomial, Poisson or Bernoulli.

    The encoder reads t(x), the decoder gives logits h. A counted modality has the mean ``mu = L
    softmax(h)`` with L the cell's total, and the law NB(mu, theta), of variance ``mu + mu^2 /
    theta``, or Poisson(mu); a Bernoulli modality has the probabilities ``sigmoid(h)``. Hidden
    layers are linear, batch norm, ELU. It is deterministic: nothing is drawn but the counts.

    Parameters
    ----------
    n_latent : int
        Width of the latent of each modality. Default 50.
    hidden : sequence of int
        Hidden widths of the encoder, mirrored by the decoder. Default (512, 256); below some
        thousand cells (64,) overfits less.
    likelihood : {"nb", "poisson", "bernoulli"}
        Default "nb". "bernoulli" takes every positive count as an open peak.
    transform : {"log1p", "proportions", "log1p_scaled", "none"}
        t: log(1 + x) (default), x / L, log(1 + x / L), or x. Bernoulli modalities enter as 0 and 1.
    modalities : dict, optional
        Several matrices of the same cells: name to a dictionary of `likelihood`, `n_latent`,
        `hidden`, `transform`, whose defaults are the arguments above. Default: one, ``"rna"``.
    joint : int, optional
        Width of one latent that a linear layer makes of those of all modalities. Default None:
        the latents side by side, each decoder reading its own.
    theta_per_label : bool
        A dispersion for each gene and each label given to `fit`. Default False: for each gene.
    theta_init : {"normal", "moments"}
        Start of ln theta: N(0, 1) as in the original code (default), or from mean and variance of
        the counts at equal totals. A step of the optimizer moves ln theta by about
        `learning_rate` at most, so below some 2,000 steps take "moments".
    dropout : float
        After each hidden layer. Default 0.
    epochs : int
        Default 300.
    batch_size : int
        Default 256; at most the number of training cells. The incomplete last batch is dropped.
    learning_rate, weight_decay, clip_norm : float
        Of AdamW, and the largest norm of all gradients together. Defaults 1e-3, 1e-5 and 1.
    no_decay : sequence of {"bias", "norm", "log_theta"}
        Parameters without weight decay. Default: none, as in the original code.
    validation_share : float
        Cells kept from training to watch the likelihood. Default 0.1.
    early_stopping : bool
        Keep the epoch of best validation likelihood, and stop after `patience` epochs without a
        better one. Default False: keep the last.
    patience : int
        Default 30.
    allow_noninteger : bool
        Accept values that are no whole numbers; the likelihood is then no more than a criterion.
        Default False.
    seed : int
        0 to 2**64 - 1. Default 0.
    dtype : {"float32", "float64"}
        Default "float32".
    backend : {"cpp", "numba"}, optional
        Default: as `hotloops.use_backend`.
    num_threads : int, optional
        Default `hotloops.get_num_threads`.

    Attributes
    ----------
    width_ : int
        Columns of the latent.
    features_ : dict of int
        Columns of each modality.
    history_ : dict of list of float
        Negative log-likelihood per cell, by epoch: "train" and "validation".
    epochs_ : int
        Epochs done.
    best_epoch_ : int
        The epoch that was kept, from 1 on.
    complete_ : bool
        False when ``max_seconds`` stopped the training early.

    Notes
    -----
    Determinism class B. A step costs about ``3 B (2 G H)`` flops for a batch of B cells, G genes
    and a last hidden width of H, and the first layer only its nonzeros. Matrices stay sparse.

    References
    ----------
    A. Palma et al., "Multi-Modal and Multi-Attribute Generation of Single Cells with CFGen", ICLR
    2025, arXiv:2407.11734, section 4.1.

    Examples
    --------
    >>> from hotloops import datasets, flow
    >>> cells = datasets.load_pbmc68k_reduced()
    >>> model = flow.CountAutoencoder(10, (64,), theta_init="moments", epochs=5, batch_size=128)
    >>> z = model.fit(cells.counts).encode(cells.counts)
    >>> z.shape, model.decode(z[:2], 700.0, seed=1).shape
    ((700, 10), (2, 765))
    """

    def __init__(
        self,
        n_latent: int = 50,
        hidden: Any = (512, 256),
        *,
        likelihood: str = "nb",
        transform: str = "log1p",
        modalities: Mapping[str, Any] | None = None,
        joint: int | None = None,
        theta_per_label: bool = False,
        theta_init: str = "normal",
        dropout: float = 0.0,
        epochs: int = 300,
        batch_size: int = 256,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-5,
        clip_norm: float = 1.0,
        no_decay: Any = (),
        validation_share: float = 0.1,
        early_stopping: bool = False,
        patience: int = 30,
        allow_noninteger: bool = False,
        seed: int = 0,
        dtype: Any = "float32",
        backend: str | None = None,
        num_threads: int | None = None,
    ) -> None:
        self.n_latent = n_latent
        self.hidden = hidden
        self.likelihood = likelihood
        self.transform = transform
        self.modalities = modalities
        self.joint = joint
        self.theta_per_label = theta_per_label
        self.theta_init = theta_init
        self.dropout = dropout
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.clip_norm = clip_norm
        self.no_decay = no_decay
        self.validation_share = validation_share
        self.early_stopping = early_stopping
        self.patience = patience
        self.allow_noninteger = allow_noninteger
        self.seed = seed
        self.dtype = dtype
        self.backend = backend
        self.num_threads = num_threads

    @classmethod
    def preset(cls, size: str = "default", **params: Any) -> CountAutoencoder:
        """Return an autoencoder of one of the published sizes.

        Parameters
        ----------
        size : {"default", "large", "multimodal"}
            Hidden widths (512, 256) and a latent of 50 or of 100; or RNA by (512, 300) and peaks,
            Bernoulli, by (1024, 512), with a latent of 100 each.
        **params : object
            Other arguments of the constructor.

        Returns
        -------
        CountAutoencoder
        """
        chosen = validate.choice("CountAutoencoder.preset", "size", size, tuple(_PRESETS))
        return cls(**{**_PRESETS[chosen], **params})

    # --- training --------------------------------------------------------------------------------

    def fit(
        self,
        X: Any,
        labels: Any = None,
        *,
        epochs: int | None = None,
        resume: bool = False,
        progress: bool = False,
        max_seconds: float | None = None,
    ) -> CountAutoencoder:
        """Train on counts.

        Parameters
        ----------
        X : array_like, sparse matrix or dict of them, shape (n, features)
            Raw counts, or one matrix for each modality. Matrices of open files (h5py, backed
            AnnData) are read by chunks.
        labels : array_like, shape (n,), optional
            Of the cells, when `theta_per_label`.
        epochs : int, optional
            Of all calls together. Default: the constructor's.
        resume : bool
            Go on from where the last fit, or the loaded model, stopped; on the same cells. The
            outcome is the same to the bit as without the stop. Default False.
        progress : bool
            Show a bar. Default False.
        max_seconds : float, optional
            Stop after the epoch in which this time is over.

        Returns
        -------
        CountAutoencoder
            The model itself.

        Raises
        ------
        TypeError, ValueError, OverflowError
            Counts that are negative, not whole, missing or too large; cells without counts;
            arguments of the wrong type or range.
        hotloops.NumericalError
            The loss is no longer finite.
        """
        function = "CountAutoencoder.fit"
        options = self._options(function, epochs)
        goes_on = validate.boolean(function, "resume", resume)
        if goes_on and self._fitting is None:
            fail(ValueError, function, "resume", "follow a fit", "a model without training state")
        modalities = self._trained.modalities if goes_on else self._read_modalities(function)
        dtype = validate.float_dtype(function, "dtype", self.dtype)
        features = self.features_ if goes_on else None
        matrices = read_matrices(function, X, modalities, features, dtype, self.allow_noninteger)
        groups, codes = self._read_groups(function, labels, matrices[0].rows, goes_on)
        fitting = self._fitting if goes_on else None
        if fitting is None:
            fitting = self._start(function, modalities, matrices, groups, codes, options)
        fitting.check_same(function, matrices)
        self.complete_ = fitting.run(
            options, matrices, codes, progress=progress, max_seconds=max_seconds
        )
        self._trained.load(function, fitting.parameters())
        return self

    # --- use -------------------------------------------------------------------------------------

    def encode(self, X: Any) -> Array:
        """Return the latents of cells.

        Parameters
        ----------
        X : as in `fit`
            Counts.

        Returns
        -------
        numpy.ndarray, shape (n, width)
        """
        function = "CountAutoencoder.encode"
        return self._check_fitted(function).encode(self._read_again(function, X))

    def decode(
        self,
        z: npt.ArrayLike,
        size_factor: Any = None,
        labels: Any = None,
        *,
        output: str = "csr",
        seed: int | None = None,
        first_row: int = 0,
    ) -> Any:
        """Return counts, or their means, for latents.

        Parameters
        ----------
        z : array_like, shape (n, width)
            Latents, in host memory or on a GPU, where they are decoded then.
        size_factor : float, array_like or dict of them
            L: one number, one for each cell, or shape (n, counted modalities) or a dictionary. Not
            needed when no modality is counted.
        labels : str, int or array_like, optional
            When `theta_per_label`: which dispersions.
        output : {"csr", "dense", "mean"}
            Counts drawn from the law, as CSR (default) or dense, both int32, or mu.
        seed : int
            Of the counts, 0 to 2**64 - 1; not needed for "mean".
        first_row : int
            Number of the first cell; cell i is the same in any batch. Default 0.

        Returns
        -------
        scipy.sparse.csr_array or array, shape (n, features)
            Or a dictionary of them, when there are several modalities. Arrays are of the library of
            `z`; a CSR matrix is in host memory.

        Raises
        ------
        TypeError, ValueError
            Arguments of the wrong type, shape or range; an unknown label.
        OverflowError
            A count of 2**31 or more.
        """
        function = "CountAutoencoder.decode"
        trained = self._check_fitted(function)
        kind = validate.choice(function, "output", output, _OUTPUTS)
        first = validate.integer(function, "first_row", first_row, low=0)
        key = 0
        if kind != "mean" or seed is not None:
            key = validate.integer(function, "seed", seed, low=0, high=2**64 - 1)
        native, library = arrays.import_array(function, "z", z)
        with arrays.stream_context(library):
            latents = validate.array(
                function, "z", native, shape=(None, trained.width), dtype=trained.dtype
            )
            sizes = read_sizes(function, trained.counted, size_factor, len(latents))
            codes = self._codes(function, labels, len(latents))
            found = trained.decode(latents, sizes, codes, kind, key, first)
        if kind != "csr":
            found = {name: arrays.export_array(value, library) for name, value in found.items()}
        return found if len(found) > 1 else next(iter(found.values()))

    def log_likelihood(
        self, X: Any, z: npt.ArrayLike | None = None, labels: Any = None
    ) -> npt.NDArray[np.float64]:
        """Return log p(x | z, L) of cells, summed over features and modalities.

        Parameters
        ----------
        X : as in `fit`
            Counts; L is the total of the cell.
        z : array_like, shape (n, width), optional
            Latents. Default: those of the cells.
        labels : array_like, shape (n,), optional
            When `theta_per_label`.

        Returns
        -------
        numpy.ndarray, shape (n,)
        """
        function = "CountAutoencoder.log_likelihood"
        trained = self._check_fitted(function)
        matrices = self._read_again(function, X)
        rows = matrices[0].rows
        codes = self._codes(function, labels, rows)
        latents = None
        if z is not None:
            shape = (rows, trained.width)
            latents = validate.array(function, "z", z, shape=shape, dtype=trained.dtype)
        return trained.log_likelihood(matrices, latents, codes)

    def nll(self, X: Any, z: npt.ArrayLike | None = None, labels: Any = None) -> float:
        """Return the mean over cells of minus `log_likelihood`.

        Parameters
        ----------
        X : as in `fit`
            Counts.
        z : array_like, shape (n, width), optional
            Latents. Default: those of the cells.
        labels : array_like, shape (n,), optional
            When `theta_per_label`.

        Returns
        -------
        float
        """
        return -float(self.log_likelihood(X, z, labels).mean())

    @property
    def width_(self) -> int:
        """Columns of the latent."""
        return self._check_fitted("CountAutoencoder.width_").width

    @property
    def features_(self) -> dict[str, int]:
        """Columns of each modality."""
        trained = self._check_fitted("CountAutoencoder.features_")
        names = (item.name for item in trained.modalities)
        return dict(zip(names, trained.widths, strict=True))

    @property
    def theta_(self) -> dict[str, npt.NDArray[np.float64]]:
        """Inverse dispersions by negative binomial modality, shape (labels or 1, features)."""
        log_theta = self._check_fitted("CountAutoencoder.theta_").log_theta
        return {name: np.exp(clip_log_theta(value)) for name, value in log_theta.items()}

    @property
    def history_(self) -> dict[str, list[float]]:
        """Negative log-likelihood per cell by epoch, "train" and "validation"."""
        return {} if self._fitting is None else self._fitting.history

    @property
    def epochs_(self) -> int:
        """Epochs done."""
        return 0 if self._fitting is None else self._fitting.epoch

    @property
    def best_epoch_(self) -> int:
        """The epoch that was kept, from 1 on."""
        return 0 if self._fitting is None else self._fitting.kept_epoch

    @classmethod
    def from_torch(
        cls,
        state: Any,
        *,
        binarized: bool = False,
        labels: Any = None,
        prefix: str = "",
        **params: Any,
    ) -> CountAutoencoder:
        """Take the parameters of an autoencoder of the original code.

        Parameters
        ----------
        state : dict, or path of .safetensors or .npz
            State dict with names such as ``encoder.rna.net.0.0.weight`` and ``theta``.
        binarized : bool
            Peaks (modality ``"atac"``) are Bernoulli, else Poisson. Default False.
        labels : sequence of str, optional
            Names of the rows of ``theta``, sorted, when it has one for each category.
        prefix : str
            What the names begin with. Default: nothing.
        **params : object
            Arguments of the constructor that the widths don't tell, such as `transform`.

        Returns
        -------
        CountAutoencoder

        Raises
        ------
        ValueError
            Parameters are missing, too many, or of other shapes.
        """
        function = "CountAutoencoder.from_torch"
        arrays = read_state(function, state, prefix)
        found, widths = autoencoder_arguments(function, arrays, binarized)
        theta = arrays.get("theta")
        groups = None
        if theta is not None and len(theta.shape) == 2 and theta.shape[0] > 1:
            groups, _ = read_labels(function, "labels", labels, int(theta.shape[0]))
        model = cls(**{**found, "theta_per_label": groups is not None, **params})
        model._trained = model._make(function, model._read_modalities(function), widths, groups)
        model._trained.load(function, arrays)
        return model
