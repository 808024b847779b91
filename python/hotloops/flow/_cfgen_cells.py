"""What a generator does with cells that are there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops._runtime import validate
from hotloops._runtime.validate import describe, fail
from hotloops.flow._cells import join_cells, with_columns_of
from hotloops.flow._cfgen_request import (
    Request,
    cells_to_add,
    read_guidance,
    read_labels_asked,
)
from hotloops.flow._generator import Generator, Solver, plan_sampling
from hotloops.flow._params import Parameters

__all__ = ["CellGenerator"]

Array = npt.NDArray[Any]

_OUTPUTS = ("anndata", "csr", "dense", "mean", "latent")


class CellGenerator(Parameters):
    """Base of `CFGen`: latents, likelihoods, translations and augmentations of given cells."""

    layer: str | None
    _parts: Generator | None = None

    def encode(self, data: Any) -> Array:
        """Return the latents of cells.

        Parameters
        ----------
        data : as in `fit`
            Cells.

        Returns
        -------
        numpy.ndarray, shape (n, latent)
        """
        function = "CFGen.encode"
        parts = self._check_fitted(function)
        cells = parts.read(function, data, None, self.layer)
        return parts.autoencoder.encode(parts.tables(function, cells))

    def decode(
        self,
        z: npt.ArrayLike,
        size_factor: Any = None,
        *,
        theta: Any = None,
        output: str = "csr",
        seed: int = 0,
        first_row: int = 0,
    ) -> Any:
        """Return counts, or their means, for latents.

        Parameters
        ----------
        z : array_like, shape (n, latent)
            Latents.
        size_factor : float, array_like or dict
            See `CountAutoencoder.decode`.
        theta : str, int or array_like, optional
            Categories of `theta_covariate`, when there is one.
        output : {"csr", "dense", "mean"}
            See `CountAutoencoder.decode`.
        seed : int
            Of the counts; not needed for "mean".
        first_row : int
            Number of the first cell. Default 0.

        Returns
        -------
        scipy.sparse.csr_array or numpy.ndarray, shape (n, features)
            Or a dictionary of them.
        """
        parts = self._check_fitted("CFGen.decode")
        return parts.autoencoder.decode(
            z, size_factor, theta, output=output, seed=seed, first_row=first_row
        )

    def translate(
        self,
        data: Any,
        to: Mapping[str, Any],
        labels: Any = None,
        *,
        guidance: Any = None,
        seed: int = 0,
        method: str = "dopri5",
        steps: int | None = None,
        rtol: float | None = None,
        atol: float | None = None,
        output: str | None = None,
    ) -> Any:
        """Carry cells to other categories: to the noise with their labels, back with new ones.

        Parameters
        ----------
        data : as in `fit`
            Cells with all attributes of `conditions`.
        to : dict
            By attribute the category to carry them to, for all cells or one for each. With their
            own labels the latents come back, up to the error of the solver.
        labels : dict or DataFrame, optional
            As in `fit`.
        guidance : float or dict, optional
            Weights of all attributes of `conditions`, both ways. Default 1; far from 1 the way back
            and forth loses digits.
        seed : int
            Of the counts, 0 to 2**64 - 1. Default 0.
        method, steps, rtol, atol
            See `sample`. Default adaptive "dopri5", as in the original code, with which a latent
            comes back to some hundredths of a standard deviation. ``method="rk4", steps=100`` meets
            the same times on both ways, and comes back to 1e-5 of it for about the same cost.
        output : {"anndata", "csr", "dense", "mean", "latent"}, optional
            See `sample`.

        Returns
        -------
        AnnData, MuData, scipy.sparse.csr_array or numpy.ndarray
            The cells in their order, with their own totals; ``obs`` has the new labels.

        Raises
        ------
        TypeError, ValueError
            See `sample`.
        """
        function = "CFGen.translate"
        parts = self._check_fitted(function)
        kind = self._output(function, parts, output)
        key = validate.integer(function, "seed", seed, low=0, high=2**64 - 1)
        cells = parts.read(function, data, labels, self.layer)
        tables = parts.tables(function, cells)
        rows = next(iter(tables.values())).rows
        known = parts.covariates.conditions
        own = {name: parts.codes(function, cells, known[name], rows) for name in known}
        new = {**own, **read_labels_asked(function, "to", known, to, rows)}
        weights = read_guidance(function, list(known), guidance)
        sizes = {name: tables[name].totals.astype(np.float64) for name in parts.counted}
        theta, theta_codes = parts.covariates.theta, None
        if theta is not None:
            theta_codes = new.get(theta.name)
            if theta_codes is None:
                theta_codes = parts.codes(function, cells, theta, rows)
        source = Request(0, rows, own, weights, sizes, theta_codes)
        target = Request(0, rows, new, weights, sizes, theta_codes)
        solver = Solver(method, steps, rtol, atol)
        z = parts.transfer(parts.autoencoder.encode(tables), source, target, solver)
        made = parts.finish(target, z, kind, key, {"seed": str(key), "guidance": weights})
        return with_columns_of(cells.container, made) if kind == "anndata" else made

    def log_likelihood(
        self, data: Any, z: npt.ArrayLike | None = None, labels: Any = None
    ) -> npt.NDArray[np.float64]:
        """Return the log-likelihood of cells given their latents.

        Parameters
        ----------
        data : as in `fit`
            Cells.
        z : array_like, shape (n, latent), optional
            Latents. Default: those of the cells.
        labels : dict or DataFrame, optional
            As in `fit`; needed where dispersions go by a covariate.

        Returns
        -------
        numpy.ndarray, shape (n,)
        """
        function = "CFGen.log_likelihood"
        parts = self._check_fitted(function)
        cells = parts.read(function, data, labels, self.layer)
        tables = parts.tables(function, cells)
        theta = parts.covariates.theta
        codes = None
        if theta is not None:
            codes = parts.codes(function, cells, theta, next(iter(tables.values())).rows)
        return parts.autoencoder.log_likelihood(tables, z, codes)

    def augment(
        self,
        data: Any,
        attribute: str,
        *,
        rare: Any = None,
        n: int | None = None,
        target: int | None = None,
        labels: Any = None,
        seed: int = 0,
        **options: Any,
    ) -> Any:
        """Add generated cells of rare categories to real ones.

        Parameters
        ----------
        data : AnnData, MuData or path
            Cells, with `attribute` among their labels.
        attribute : str
            One of `conditions`.
        rare : str, int or sequence of them, optional
            Categories to add cells of. Default: all with fewer than `target` cells.
        n : int, optional
            Cells to add to each of them.
        target : int, optional
            Add what is missing to this number; instead of `n`.
        labels : dict or DataFrame, optional
            As in `fit`.
        seed : int
            0 to 2**64 - 1. Default 0.
        **options : object
            Of `sample`.

        Returns
        -------
        AnnData or MuData
            Real cells and generated ones below them, with a column ``generated`` in ``obs``.

        Raises
        ------
        TypeError, ValueError
            See `sample`; neither or both of `n` and `target`; nothing to add.
        """
        function = "CFGen.augment"
        parts = self._check_fitted(function)
        cells = parts.read(function, data, labels, self.layer)
        if cells.container is None:
            fail(TypeError, function, "data", "be an AnnData or a MuData", describe(data))
        known = parts.covariates.conditions
        if attribute not in known:
            shown = ", ".join(map(repr, known)) or "none"
            expectation = f"be a condition of the model ({shown})"
            fail(ValueError, function, "attribute", expectation, describe(attribute))
        codes = parts.codes(function, cells, known[attribute], cells.container.n_obs)
        asked = cells_to_add(function, known[attribute], codes, rare, n, target)
        plan = plan_sampling(function, parts, len(asked), {attribute: asked}, seed=seed, **options)
        return join_cells(cells.container, parts.sample(plan, "anndata"))

    def _check_fitted(self, function: str) -> Generator:
        if self._parts is None:
            raise ValueError(f"{function}: the model must be fitted first, got one without fit")
        return self._parts

    def _output(self, function: str, parts: Generator, output: str | None) -> str:
        if output is None:
            return "csr" if parts.kind == "arrays" else "anndata"
        return validate.choice(function, "output", output, _OUTPUTS)
