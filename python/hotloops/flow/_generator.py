"""A trained generator: its parts, and what is computed with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from hotloops._runtime import validate
from hotloops._runtime.validate import fail
from hotloops.flow._autoencoder import CountAutoencoder
from hotloops.flow._cells import Cells, build_cells, column, read_cells
from hotloops.flow._cfgen_request import Covariates, Request, read_request
from hotloops.flow._labels import Codes, Labels, code_labels
from hotloops.flow._matching import ConditionalFlowMatching
from hotloops.flow._matrices import CountMatrix
from hotloops.flow._size_factors import SizeFactorModel

__all__ = ["Generator", "Sampling", "Solver", "plan_sampling"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Solver:
    """How the flow is integrated; see `integrate`."""

    method: str
    steps: int | None
    rtol: float | None
    atol: float | None
    backend: str | None = None

    def options(self) -> dict[str, Any]:
        """Return the arguments that were given."""
        given = {"rtol": self.rtol, "atol": self.atol, "backend": self.backend}
        told = {name: value for name, value in given.items() if value is not None}
        return {"method": self.method, "steps": self.steps, **told}


@dataclass(frozen=True, eq=False)
class Sampling:
    """A sample that is asked for, checked.

    Attributes
    ----------
    request : Request
    seed : int
    solver : Solver
    record : dict
        What the cells' ``uns`` says of it.
    """

    request: Request
    seed: int
    solver: Solver
    record: dict[str, Any]


@dataclass(eq=False)
class Generator:
    """The parts of a model.

    Attributes
    ----------
    autoencoder : CountAutoencoder
    flow : ConditionalFlowMatching
    sizes : SizeFactorModel or None
        None when no modality is counted.
    covariates : Covariates
    kind : str
        What it was trained on: "anndata", "mudata" or "arrays".
    names : dict of tuple of str
        Names of the features of each modality, where there were some.
    """

    autoencoder: CountAutoencoder
    flow: ConditionalFlowMatching
    sizes: SizeFactorModel | None
    covariates: Covariates
    kind: str
    names: dict[str, tuple[str, ...]]

    @property
    def modalities(self) -> list[str]:
        """Their names."""
        return list(self.autoencoder.features_)

    @property
    def counted(self) -> tuple[str, ...]:
        """Names of the modalities that have size factors."""
        return self.autoencoder._trained.counted

    def read(self, function: str, data: Any, labels: Any, layer: str | None) -> Cells:
        """Take cells apart and compare their features with those of the training."""
        cells = read_cells(function, data, labels, layer, self.modalities)
        for name, given in cells.names.items():
            wanted = self.names.get(name, given)
            if given == wanted:
                continue
            if sorted(given) == sorted(wanted):
                got = "the same features in another order"
            else:
                strange = next((item for item in given if item not in wanted), given[0])
                got = f"{len(given)} features, among them {strange!r}"
            expectation = f"have the {len(wanted)} features of the training cells in their order"
            fail(ValueError, function, "data", expectation, got)
        return cells

    def tables(self, function: str, cells: Cells) -> dict[str, CountMatrix]:
        """Return the checked matrices."""
        found = self.autoencoder._read_again(function, cells.matrices, "data")
        return dict(zip(self.modalities, found, strict=True))

    def codes(self, function: str, cells: Cells, labels: Labels, rows: int) -> Codes:
        """Return the codes of one attribute of given cells."""
        return code_labels(function, labels, column(function, cells, labels.name), rows)

    def guide(self, request: Request) -> dict[str, Any]:
        """Return what the flow is told of the cells."""
        one_by_one = self.flow.conditioning == "one"
        sizes = request.log_sizes(self.counted) if self.flow.network_.size_range else None
        return {
            "weights": request.weights if one_by_one and request.weights else None,
            "log_size": sizes,
            "backend": self.autoencoder.backend,
            "num_threads": self.autoencoder.num_threads,
        }

    def latents(self, request: Request, seed: int, solver: Solver) -> Array:
        """Carry noise to latents."""
        z: Array = self.flow.sample(
            request.rows,
            request.codes or None,
            seed=seed,
            first=request.first,
            **{**self.guide(request), **solver.options()},
        )
        return z

    def transfer(self, z: Array, source: Request, target: Request, solver: Solver) -> Array:
        """Carry latents to the noise under their own labels, and back under others."""
        moved: Array = self.flow.transfer(
            z, source.codes, target.codes, **{**self.guide(target), **solver.options()}
        )
        return moved

    def finish(
        self, request: Request, z: Array, output: str, seed: int, record: Mapping[str, Any]
    ) -> Any:
        """Return latents, means, counts or cells."""
        if output == "latent":
            return z
        trained = self.autoencoder._trained
        drawn = "csr" if output == "anndata" else output
        counts = trained.decode(z, request.sizes, request.theta_codes, drawn, seed, request.first)
        if output != "anndata":
            return counts if len(counts) > 1 else next(iter(counts.values()))
        return self.describe(request, counts, record)

    def describe(
        self, request: Request, counts: Mapping[str, Any], record: Mapping[str, Any]
    ) -> Any:
        """Return AnnData or MuData of these counts, which may be None."""
        known = self.covariates.conditions
        labels = {name: (known[name], codes) for name, codes in request.codes.items()}
        names = {
            name: self.names.get(name) or [f"{name} {k}" for k in range(width)]
            for name, width in self.autoencoder.features_.items()
        }
        cells = [f"generated {request.first + row}" for row in range(request.rows)]
        return build_cells(counts, labels, request.sizes, names, cells, record)

    def sample(self, plan: Sampling, output: str, rows: slice | None = None) -> Any:
        """Make cells, or some of them."""
        request = plan.request if rows is None else plan.request.take(rows)
        z = self.latents(request, plan.seed, plan.solver)
        return self.finish(request, z, output, plan.seed, plan.record)


def plan_sampling(
    function: str,
    parts: Generator,
    n: int,
    attributes: Any,
    *,
    seed: int = 0,
    guidance: Any = None,
    size_factor: Any = None,
    first_row: int = 0,
    categories: str = "frequency",
    method: str = "midpoint",
    steps: int | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    backend: str | None = None,
) -> Sampling:
    """Check the arguments of `CFGen.sample`, and draw what they leave open."""
    rows = validate.integer(function, "n", n, low=1)
    key = validate.integer(function, "seed", seed, low=0, high=2**64 - 1)
    first = validate.integer(function, "first_row", first_row, low=0)
    request = read_request(
        function,
        parts.covariates,
        parts.sizes,
        parts.counted,
        rows,
        attributes,
        guidance,
        size_factor,
        seed=key,
        first=first,
        categories=categories,
    )
    record = {"seed": str(key), "guidance": request.weights}
    return Sampling(request, key, Solver(method, steps, rtol, atol, backend), record)
