"""Generation of cells: autoencoder, size factors and flow matching as one model."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hotloops._runtime import checkpoints, validate
from hotloops.flow._autoencoder import CountAutoencoder
from hotloops.flow._cfgen_cells import CellGenerator
from hotloops.flow._cfgen_files import from_state, pack, unpack
from hotloops.flow._cfgen_fit import train
from hotloops.flow._generator import plan_sampling
from hotloops.flow._matching import ConditionalFlowMatching
from hotloops.flow._size_factors import SizeFactorModel

__all__ = ["CFGen"]

StrPath: TypeAlias = "str | os.PathLike[str]"
Array = npt.NDArray[Any]

_KIND, _VERSION = "flow.cfgen", 1


class CFGen(CellGenerator):
    """Generator of cells: raw counts for any combination of attributes, from a trained flow.

    Three parts, trained one after the other: a `CountAutoencoder`; a `ConditionalFlowMatching`
    that carries normal noise to its latents; a `SizeFactorModel` of the cells' totals. A new cell
    starts as noise, follows the velocity

        v(z, t) = v(z, t | none) + sum_a w_a [v(z, t | y_a) - v(z, t | none)]

    from 0 to 1, with `guidance` w_a for each attribute a that is asked for, is decoded to the law
    of its counts at a drawn total, and the counts are drawn from it.

    Parameters
    ----------
    conditions : str or sequence of str
        Attributes that cells are generated for: columns of ``obs`` or of the labels. Default: none.
    n_latent : int
        Width of the latent of each modality. Default 50.
    autoencoder : dict or CountAutoencoder, optional
        Arguments of `CountAutoencoder`, or one; a fitted one is used as it is.
    flow : dict, optional
        Arguments of `ConditionalFlowMatching` and of its `fit`: widths, `sigma`, `coupling`, `ema`,
        `num_epochs`, `batch_size`, `learning_rate` and others.
    embed_size_factor : bool
        The flow sees the logarithm of the totals. Default True; off in the original code but for
        one experiment.
    size_factor_covariate : str, optional
        Attribute by which totals are drawn. Default: the first of `conditions`.
    theta_covariate : str, optional
        Attribute with dispersions for each of its categories. Default: none.
    layer : str, optional
        Layer of AnnData that holds the raw counts. Default: ``X``.
    allow_noninteger : bool
        Accept values that are no whole numbers. Default False.
    seed : int
        Of the training, 0 to 2**64 - 1. Default 0.
    dtype : {"float32", "float64"}
        Default "float32".
    backend : {"cpp", "numba"}, optional
        Default: as `hotloops.use_backend`.
    num_threads : int, optional
        Default `hotloops.get_num_threads`.

    Attributes
    ----------
    autoencoder_ : CountAutoencoder
    flow_ : ConditionalFlowMatching
    size_factors_ : SizeFactorModel or None
        None when no modality is counted.
    categories_ : dict of tuple of str
        Of each condition, sorted.
    complete_ : bool
        False when ``max_seconds`` stopped the training early.

    Notes
    -----
    Cell i of a sample depends on the seed and on i alone, not on how many are made at once
    (determinism class B). With the default sizes a cell costs about 0.1 Mflop for each evaluation
    of the velocity and ``2 * 512 * genes`` flops to decode.

    References
    ----------
    A. Palma, T. Richter, H. Zhang, M. Lubetzki, A. Tong, A. Dittadi, F. J. Theis, "Multi-Modal and
    Multi-Attribute Generation of Single Cells with CFGen", ICLR 2025, arXiv:2407.11734.

    Examples
    --------
    >>> from hotloops import datasets
    >>> from hotloops.flow import CFGen
    >>> cells = datasets.load_pbmc68k_reduced()
    >>> small = dict(hidden=(64,), theta_init="moments", epochs=5, batch_size=128)
    >>> model = CFGen("cell_type", 10, autoencoder=small, flow=dict(num_epochs=5))
    >>> model = model.fit(cells.counts, {"cell_type": cells.cell_types})
    >>> new = model.sample(4, {"cell_type": "Dendritic"}, guidance=1.5, seed=1)
    >>> new.shape, new.dtype
    ((4, 765), dtype('int32'))
    """

    complete_: bool

    def __init__(
        self,
        conditions: Any = (),
        n_latent: int = 50,
        *,
        autoencoder: Any = None,
        flow: Mapping[str, Any] | None = None,
        embed_size_factor: bool = True,
        size_factor_covariate: str | None = None,
        theta_covariate: str | None = None,
        layer: str | None = None,
        allow_noninteger: bool = False,
        seed: int = 0,
        dtype: Any = "float32",
        backend: str | None = None,
        num_threads: int | None = None,
    ) -> None:
        self.conditions = conditions
        self.n_latent = n_latent
        self.autoencoder = autoencoder
        self.flow = flow
        self.embed_size_factor = embed_size_factor
        self.size_factor_covariate = size_factor_covariate
        self.theta_covariate = theta_covariate
        self.layer = layer
        self.allow_noninteger = allow_noninteger
        self.seed = seed
        self.dtype = dtype
        self.backend = backend
        self.num_threads = num_threads

    # --- training --------------------------------------------------------------------------------

    def fit(
        self,
        data: Any,
        labels: Any = None,
        *,
        resume: bool = False,
        progress: bool = False,
        max_seconds: float | None = None,
    ) -> CFGen:
        """Train the three parts on cells.

        Parameters
        ----------
        data : AnnData, MuData, path, matrix or dict of matrices
            Raw counts: an AnnData (backed ones are read by chunks), a MuData or a dictionary for
            several modalities, the path of an ``.h5ad`` or ``.h5mu`` file, or a matrix.
        labels : dict or DataFrame, optional
            One label a cell for each attribute; they come before the columns of ``obs``.
        resume : bool
            Go on where `max_seconds` stopped the last fit; on the same cells. Default False.
        progress : bool
            Show bars. Default False.
        max_seconds : float, optional
            Stop after the epoch in which this time is over.

        Returns
        -------
        CFGen
            The model itself.

        Raises
        ------
        TypeError, ValueError, OverflowError
            Counts that are negative, not whole, missing or too large; cells without counts;
            missing columns; missing or ambiguous labels.
        hotloops.NumericalError
            A loss is no longer finite.
        """
        function = "CFGen.fit"
        goes_on = validate.boolean(function, "resume", resume)
        if goes_on:
            self._check_fitted(function)
        self._parts, self.complete_ = train(
            function,
            self,
            data,
            labels,
            self._parts if goes_on else None,
            progress=validate.boolean(function, "progress", progress),
            max_seconds=max_seconds,
        )
        return self

    @property
    def autoencoder_(self) -> CountAutoencoder:
        """The trained autoencoder."""
        return self._check_fitted("CFGen.autoencoder_").autoencoder

    @property
    def flow_(self) -> ConditionalFlowMatching:
        """The trained flow."""
        return self._check_fitted("CFGen.flow_").flow

    @property
    def size_factors_(self) -> SizeFactorModel | None:
        """The laws of the totals; None when no modality is counted."""
        return self._check_fitted("CFGen.size_factors_").sizes

    @property
    def categories_(self) -> dict[str, tuple[str, ...]]:
        """Categories of each condition, sorted."""
        known = self._check_fitted("CFGen.categories_").covariates.conditions
        return {name: labels.categories for name, labels in known.items()}

    # --- new cells -------------------------------------------------------------------------------

    def sample(
        self,
        n: int,
        attributes: Mapping[str, Any] | None = None,
        *,
        guidance: Any = None,
        size_factor: Any = None,
        seed: int = 0,
        first_row: int = 0,
        categories: str = "frequency",
        method: str = "midpoint",
        steps: int | None = None,
        rtol: float | None = None,
        atol: float | None = None,
        output: str | None = None,
        backend: str | None = None,
    ) -> Any:
        """Generate cells.

        Parameters
        ----------
        n : int
            How many.
        attributes : dict, optional
            By attribute the name or code of a category, for all cells or one for each. Attributes
            that are left out don't condition the flow.
        guidance : float or dict, optional
            Weight for all attributes asked for, or by attribute. Default 1: for independent
            attributes their joint conditional law. Larger ones sharpen, 0 leaves out.
        size_factor : float, array_like or dict, optional
            L, one for all cells or one for each; by modality where several are counted. Default:
            drawn from the category's law.
        seed : int
            0 to 2**64 - 1. Default 0.
        first_row : int
            Number of the first cell. Cells 100 to 199 of a seed are ``sample(100, first_row=100)``.
            Default 0.
        categories : {"frequency", "uniform"}
            How the category of sizes and dispersions is drawn when its attribute isn't asked for;
            "uniform" is that of the original code.
        method : {"midpoint", "euler", "heun", "rk4", "dopri5"}
            Default "midpoint", which gains nothing visible from more than 20 steps.
        steps : int, optional
            Equal steps. Default 20; for "dopri5" adaptive ones, as in the original code.
        rtol, atol : float, optional
            Of adaptive steps. Default 1e-5 each.
        output : {"anndata", "csr", "dense", "mean", "latent"}, optional
            AnnData (MuData) with integer counts, counts as CSR or dense, means, or latents.
            Default: "anndata" if that is what the model was trained on, else "csr".
        backend : {"cpp", "cuda", "numba"}, optional
            Default: the model's. With "cuda" the flow, the decoder and the counts are computed on
            the current GPU, from the same noise and at the same totals; labels and totals are drawn
            on the host.

        Returns
        -------
        AnnData, MuData, scipy.sparse.csr_array or numpy.ndarray
            Dictionaries of arrays when there are several modalities. ``obs`` holds the attributes
            asked for and ``size_factor``. With ``backend="cuda"`` arrays that are dense are CuPy's.

        Raises
        ------
        TypeError, ValueError
            Arguments of the wrong type or range, an unknown attribute or category, a weight for an
            attribute that isn't asked for.
        OverflowError
            A count of 2**31 or more.
        hotloops.NumericalError
            An integration diverged.
        """
        function = "CFGen.sample"
        parts = self._check_fitted(function)
        kind = self._output(function, parts, output)
        plan = plan_sampling(
            function,
            parts,
            n,
            attributes,
            seed=seed,
            guidance=guidance,
            size_factor=size_factor,
            first_row=first_row,
            categories=categories,
            method=method,
            steps=steps,
            rtol=rtol,
            atol=atol,
            backend=backend,
        )
        return parts.sample(plan, kind)

    def generate_to(
        self,
        path: StrPath,
        n: int,
        attributes: Mapping[str, Any] | None = None,
        *,
        chunk: int = 8192,
        progress: bool = False,
        **options: Any,
    ) -> None:
        """Generate cells into an ``.h5ad`` file, chunk by chunk, in constant memory.

        Parameters
        ----------
        path : str or path-like
            File to write; it must end in ``.h5ad``, and holds the cells of ``sample(n, ...)``
            whatever the chunk.
        n : int
            How many.
        attributes : dict, optional
            See `sample`; arrays hold one label for each of the n cells.
        chunk : int
            Cells that are held at a time. Default 8192.
        progress : bool
            Show a bar. Default False.
        **options : object
            Of `sample`, without `output`.

        Raises
        ------
        ImportError
            anndata is not installed.
        ValueError
            See `sample`; several modalities.
        """
        from hotloops.flow._generate import generate_to

        function = "CFGen.generate_to"
        parts = self._check_fitted(function)
        plan = plan_sampling(function, parts, n, attributes, **options)
        generate_to(function, parts, plan, path, chunk, progress)

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
        function = "CFGen.save"
        header, arrays = pack(self._check_fitted(function), training)
        params = {**self.get_params(), "dtype": np.dtype(self.dtype).name}
        if isinstance(self.autoencoder, CountAutoencoder):
            params["autoencoder"] = self.autoencoder.get_params()
        header |= {"params": params, "complete": self.complete_}
        checkpoints.save_npz(path, _KIND, _VERSION, header, arrays)

    @classmethod
    def load(cls, path: StrPath) -> CFGen:
        """Read a model that `save` wrote.

        Parameters
        ----------
        path : str or path-like
            The file.

        Returns
        -------
        CFGen

        Raises
        ------
        ValueError
            The file is cut, damaged or of another kind.
        """
        header, arrays = checkpoints.load_npz(path, _KIND, _VERSION)
        model = cls(**header["params"])
        model._parts, model.complete_ = unpack(header, arrays), header["complete"]
        return model

    @classmethod
    def from_torch(
        cls,
        autoencoder: Any,
        flow: Any,
        *,
        categories: Mapping[str, Any],
        embeddings: Mapping[str, Any] | None = None,
        size_factors: SizeFactorModel | None = None,
        size_range: Any = None,
        size_factor_covariate: str | None = None,
        theta_covariate: str | None = None,
        theta_categories: Any = None,
        binarized: bool = False,
        features: Any = None,
        autoencoder_prefix: str = "",
        flow_prefix: str = "denoising_model.",
        **params: Any,
    ) -> CFGen:
        """Take the parameters of a model of the original code.

        Parameters
        ----------
        autoencoder, flow : dict, module, or path of .safetensors or .npz
            State dicts, with names such as ``encoder.rna.net.0.0.weight`` and
            ``denoising_model.net_in.weight``.
        categories : dict of sequence of str
            Categories of each attribute, sorted, in the order of the code's list of covariates.
        embeddings : dict of array, shape (categories, embed), optional
            Table of each attribute, where the flow's state dict has no ``feature_embeddings``.
        size_factors : SizeFactorModel, optional
            Laws of the totals. Without it `sample` needs ``size_factor``.
        size_range : tuple of float, or list of them
            Least and largest ln L of the training cells, by counted modality; needed when the flow
            embeds size factors.
        size_factor_covariate, theta_covariate : str, optional
            Attributes that totals and dispersions go by. Default: the first of `categories`.
        theta_categories : sequence of str, optional
            Names of the rows of ``theta``, when it has several.
        binarized : bool
            Peaks (modality ``"atac"``) are Bernoulli. Default False.
        features : sequence of str or dict of them, optional
            Names of genes and peaks. With them `sample` returns AnnData.
        autoencoder_prefix, flow_prefix : str
            What the names begin with.
        **params : object
            Of the constructor: `layer`, `backend`, `num_threads`, `seed`, `dtype`.

        Returns
        -------
        CFGen

        Raises
        ------
        TypeError, ValueError
            Parameters are missing, too many, or of other shapes.
        """
        function = "CFGen.from_torch"
        shared = {k: params[k] for k in ("backend", "num_threads", "seed", "dtype") if k in params}
        network = CountAutoencoder.from_torch(
            autoencoder,
            binarized=binarized,
            labels=theta_categories,
            prefix=autoencoder_prefix,
            **shared,
        )
        model = cls(list(categories), autoencoder=network, **params)
        model._parts = from_state(
            function,
            network,
            flow,
            categories,
            embeddings=embeddings,
            size_range=size_range,
            sizes=size_factors,
            size_factor_covariate=size_factor_covariate,
            theta_covariate=theta_covariate,
            features=features,
            prefix=flow_prefix,
        )
        model.complete_ = True
        return model
