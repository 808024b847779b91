"""Conditional flow matching in a latent space."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops import random
from hotloops._runtime import arrays, dispatch, validate
from hotloops._runtime.arrays import NUMPY, Library
from hotloops.flow._branches import need_host
from hotloops.flow._density import log_density
from hotloops.flow._integrate import integrate
from hotloops.flow._matching_base import TrainableFlow

__all__ = ["ConditionalFlowMatching"]

_STREAM_LATENTS = 4
_MAX_ROW = 2**32
_STEPS = 20  # of the fixed methods


class ConditionalFlowMatching(TrainableFlow):
    """Learn to carry noise to data along straight paths, given labels.

    A network v(z, t, y) is fitted to the velocities of paths from standard normal noise at t = 0 to
    the data at t = 1. Its flow then carries fresh noise to fresh data, data back to noise, and data
    of one label to data of another.

    Parameters
    ----------
    dim : int
        Width of the data.
    hidden, embed, blocks : int
        Of the `VelocityNetwork`. Default 32, 20 and 3, the paper's small network (big: 64, 100, 3).
    attributes : dict of int, optional
        Names of attributes and their numbers of categories. Default: from the labels of `fit`.
    sigma : float
        Width of the paths. Default 1e-4, as in the paper. With "independent" it is what is left of
        the noise at t = 1, so data come out with sigma^2 more variance.
    coupling : {"independent", "ot"}
        "independent" (default): ``x_t = t x_1 + (1 - (1 - sigma) t) x_0`` of Lipman et al. "ot":
        noise and data of a batch are paired by optimal transport, ``x_t = (1 - t) x_0 + t x_1 +
        sigma e`` of Tong et al.; straighter paths, for assignment problems in each step. Rows are
        paired with noise among those that see the same labels, since pairs over the whole batch
        would make the noise of a label depend on it.
    p_cond : float
        Probability that a row sees a label in training. Default 0.8; the rest learns the
        unconditional velocity, which guidance needs.
    drop : {"row", "batch"}
        Whether rows (default) or whole batches draw if and which label they see. In expectation
        the same; rows make gradients less noisy, batches are what the authors do.
    conditioning : {"one", "all"}
        "one" (default): a row sees one of its labels, and labels are combined by guidance. "all":
        it sees all of them at once.
    times : {"antithetic", "uniform"}
        The times of a batch are evenly spread from a random start (default), or independent.
    ema : float, optional
        Decay of an average of the parameters, which is then what samples are drawn with. 0.999 is
        a good choice. Default None, as in the paper.
    standardize : bool
        Learn on data of mean 0 and standard deviation 1 in each column. Default False.
    normalization, dropout : optional
        Of the `VelocityNetwork`.
    dtype : {"float32", "float64"}
        Default float32.
    seed : int
        Of the initial parameters and of all draws in training. Default 0.

    Attributes
    ----------
    network_ : VelocityNetwork
        With the average of the parameters where there is one.
    attributes_ : dict of int
    losses_ : ndarray of float64, shape (steps,)
        Mean squared error of each step.
    num_steps_ : int
    state_ : TrainState
        For ``fit(state=...)``.
    complete_ : bool
        Whether the last `fit` made all its steps.
    mean_, scale_ : ndarray, shape (dim,)

    Notes
    -----
    All draws are functions of (seed, step, position in the batch): class A. Training calls BLAS:
    class B. Sampling is that of `integrate`.

    A. Palma et al., "Multi-Modal and Multi-Attribute Generation of Single Cells with CFGen", ICLR
    2025, arXiv:2407.11734. Y. Lipman et al., "Flow Matching for Generative Modeling", ICLR 2023,
    arXiv:2210.02747, equations (20) to (23). A. Tong et al., "Improving and generalizing flow-based
    generative models with minibatch optimal transport", TMLR 2024, arXiv:2302.00482.

    Examples
    --------
    >>> import numpy as np
    >>> from hotloops import flow
    >>> rng = np.random.default_rng(0)
    >>> side = rng.integers(0, 2, 2000)
    >>> z = rng.normal(size=(2000, 2)) * 0.5 + np.where(side, 2.0, -2.0)[:, None]
    >>> model = flow.ConditionalFlowMatching(2, attributes={"side": 2}, ema=0.99)
    >>> model = model.fit(z, {"side": side}, num_steps=300, learning_rate=2e-3)
    >>> right = model.sample(500, {"side": 1}, seed=1)
    >>> bool(right.mean() > 1.0)
    True
    """

    def __init__(
        self,
        dim: int,
        hidden: int = 32,
        embed: int = 20,
        blocks: int = 3,
        attributes: Mapping[str, int] | None = None,
        *,
        sigma: float = 1e-4,
        coupling: str = "independent",
        p_cond: float = 0.8,
        drop: str = "row",
        conditioning: str = "one",
        times: str = "antithetic",
        ema: float | None = None,
        standardize: bool = False,
        normalization: str = "none",
        dropout: float = 0.0,
        dtype: Any = "float32",
        seed: int = 0,
    ) -> None:
        self.dim = dim
        self.hidden = hidden
        self.embed = embed
        self.blocks = blocks
        self.attributes = attributes
        self.sigma = sigma
        self.coupling = coupling
        self.p_cond = p_cond
        self.drop = drop
        self.conditioning = conditioning
        self.times = times
        self.ema = ema
        self.standardize = standardize
        self.normalization = normalization
        self.dropout = dropout
        self.dtype = dtype
        self.seed = seed

    # --- what it is for --------------------------------------------------------------------------

    def velocity(
        self,
        z: Any,
        t: Any,
        labels: Any = None,
        *,
        weights: Any = None,
        log_size: Any = None,
        backend: str | None = None,
        num_threads: int | None = None,
    ) -> Any:
        """Evaluate the velocity, in the units of the data.

        Parameters
        ----------
        z : array_like, shape (n, dim)
            In host memory or on a GPU.
        t : float or array_like, shape (n,)
        labels, weights, log_size, backend, num_threads : optional
            As in `sample`.

        Returns
        -------
        array, shape (n, dim)
            In the library of `z`.
        """
        where = "ConditionalFlowMatching.velocity"
        self._check_fitted(where)
        points, library = self._points(where, z)
        slopes = self.network_.velocity(
            self._inside(points, library),
            t,
            labels,
            weights=self._weights(where, labels, weights),
            log_size=log_size,
            backend=backend,
            num_threads=num_threads,
        )
        with arrays.stream_context(library):
            scaled = slopes * library.xp.asarray(self.scale_.astype(slopes.dtype))
        return arrays.export_array(scaled, library)

    def sample(
        self,
        n: int | None = None,
        labels: Any = None,
        *,
        weights: Any = None,
        log_size: Any = None,
        method: str = "midpoint",
        steps: int | None = None,
        seed: int = 0,
        first: int = 0,
        **options: Any,
    ) -> Any:
        """Draw new data.

        Parameters
        ----------
        n : int, optional
            How many. Default: as many as there are labels or size factors.
        labels : dict or array_like, optional
            By name a code, or codes (n,); -1, or a name left out, is not conditioned on.
        weights : float, array_like (n,) or dict of those, optional
            Of guidance, see `guided_velocity`. Default 1 for each attribute asked for.
        log_size : array_like, shape (n,) or (n, modalities), optional
            Needed where `fit` had them.
        method : str
            As in `integrate`. Default "midpoint".
        steps : int, optional
            Default 20, and None (adaptive) for "dopri5".
        seed : int
            Of the noise. Default 0.
        first : int
            Number of the first row in the stream of noise: rows 0 to 9 are the same, whether they
            are drawn at once or in parts. Default 0.
        **options
            Further arguments of `integrate`: `rtol`, `atol`, `step_control`, `backend`,
            `num_threads`, `progress`, ... With ``backend="cuda"`` the sample is made on the current
            GPU, from the same noise.

        Returns
        -------
        ndarray, shape (n, dim)
            A CuPy array with ``backend="cuda"``.
        """
        where = "ConditionalFlowMatching.sample"
        self._check_fitted(where)
        count = _rows(where, n, labels, log_size)
        begin = validate.integer(where, "first", first, low=0, high=_MAX_ROW - count)
        key = validate.integer(where, "seed", seed, low=0, high=2**64 - 1)
        chosen = {"backend": options.get("backend"), "num_threads": options.get("num_threads")}
        on_device = dispatch.asked_backend(where, chosen["backend"]) == "cuda"
        if on_device:
            dispatch.cuda()
        library = Library("cupy", "cuda") if on_device else NUMPY
        if count == 0:
            return arrays.empty((0, self.dim), self.network_.dtype, library)
        noise = random.normals(
            key,
            [0],
            range(begin, begin + count),
            self.dim,
            _STREAM_LATENTS,
            dtype=self.network_.dtype,
            **chosen,
        )[0]
        common = labels, weights, log_size, method, steps, options
        return self._outside(self._flow(where, noise, library, *common, False), library)

    def invert(
        self,
        z: Any,
        labels: Any = None,
        *,
        weights: Any = None,
        log_size: Any = None,
        method: str = "dopri5",
        steps: int | None = None,
        **options: Any,
    ) -> Any:
        """Carry data back to the noise that `sample` would have made them from.

        Parameters
        ----------
        z : array_like, shape (n, dim)
        labels, weights, log_size, steps, **options : optional
            As in `sample`.
        method : str
            Default "dopri5", adaptive: the way back should fit the way there.

        Returns
        -------
        array, shape (n, dim)
            In the library of `z`.
        """
        where = "ConditionalFlowMatching.invert"
        self._check_fitted(where)
        points, library = self._points(where, z)
        start = self._inside(points, library)
        common = labels, weights, log_size, method, steps, options
        noise = self._flow(where, start, library, *common, True)
        return arrays.export_array(noise, library)

    def transfer(
        self,
        z: Any,
        source: Any,
        target: Any,
        *,
        weights: Any = None,
        log_size: Any = None,
        method: str = "dopri5",
        steps: int | None = None,
        **options: Any,
    ) -> Any:
        """Carry data to noise under their own labels, and back under others.

        With the batches of an experiment as labels this removes their effects; with
        ``target=source`` it is the identity up to the error of the solver.

        Parameters
        ----------
        z : array_like, shape (n, dim)
        source : dict
            Labels of the data.
        target : dict
            What changes; all else stays as in `source`.
        weights, log_size, method, steps, **options : optional
            As in `invert`. Large weights make the way back and forth stiff; and the time enters
            the network by waves of up to 1000 radians, of which the estimate of the error sees only
            a part. Fixed steps meet the same times on both ways: 100 of "rk4" come back to about
            1e-5 where adaptive ones with tolerances of 1e-5 come back to 1e-2.

        Returns
        -------
        array, shape (n, dim)
            In the library of `z`.
        """
        where = "ConditionalFlowMatching.transfer"
        self._check_fitted(where)
        for name, value in (("source", source), ("target", target)):
            if not isinstance(value, Mapping):
                expectation = "be a dict of labels"
                validate.fail(TypeError, where, name, expectation, validate.describe(value))
        points, library = self._points(where, z)
        common = weights, log_size, method, steps, options
        start = self._inside(points, library)
        noise = self._flow(where, start, library, dict(source), *common, True)
        ends = self._flow(where, noise, library, {**source, **target}, *common, False)
        return arrays.export_array(self._outside(ends, library), library)

    def log_density(
        self,
        z: Any,
        labels: Any = None,
        *,
        weights: Any = None,
        log_size: Any = None,
        divergence: str | None = None,
        num_probes: int = 1,
        seed: int = 0,
        **options: Any,
    ) -> npt.NDArray[Any]:
        """Return the logarithm of the density that the flow carries the noise to.

        Parameters
        ----------
        z : array_like, shape (n, dim)
        labels, weights, log_size : optional
            As in `sample`.
        divergence : {"exact", "hutchinson"}, optional
            "exact" takes `dim` backward passes for each evaluation, "hutchinson" one for each of
            `num_probes` random signs, and is an unbiased estimate. Default "exact" up to 64
            columns.
        num_probes : int
            Default 1.
        seed : int
            Of the probes. Default 0.
        **options
            Further arguments of `integrate`; by default adaptive steps with tolerances of 1e-5.

        Returns
        -------
        ndarray of float64, shape (n,)

        Notes
        -----
        ``log p(z_1) = log N(z_0; 0, I) - int_0^1 div v(z_t, t) dt`` along the flow back from z.
        R. T. Q. Chen et al., "Neural ordinary differential equations", NeurIPS 2018, equation (8);
        W. Grathwohl et al., "FFJORD", ICLR 2019, equation (8).
        """
        where = "ConditionalFlowMatching.log_density"
        self._check_fitted(where)
        need_host(where, "z", z, ", as densities have no CUDA backend")
        points, library = self._points(where, z)
        return log_density(
            where,
            self.network_,
            self._inside(points, library),
            labels,
            self._weights(where, labels, weights),
            log_size,
            divergence,
            num_probes,
            seed,
            options,
        ) - float(np.log(self.scale_).sum())

    def _weights(self, where: str, labels: Any, weights: Any) -> Any:
        if self.conditioning == "all":
            if weights is not None:
                expectation = "be None for a model of conditioning='all'"
                validate.fail(ValueError, where, "weights", expectation, validate.describe(weights))
            return None
        asked = labels is not None and not (isinstance(labels, Mapping) and not labels)
        return 1.0 if weights is None and asked else weights

    def _inside(self, points: Any, library: Library) -> Any:
        """Return data in the units of the network."""
        with arrays.stream_context(library):
            mean, scale = (library.xp.asarray(value) for value in (self.mean_, self.scale_))
            return ((points - mean) / scale).astype(self.network_.dtype)

    def _outside(self, points: Any, library: Library) -> Any:
        """Return points of the network in the units of the data."""
        with arrays.stream_context(library):
            mean, scale = (
                library.xp.asarray(value.astype(points.dtype))
                for value in (self.mean_, self.scale_)
            )
            return points * scale + mean

    def _flow(
        self,
        where: str,
        start: Any,
        library: Library,
        labels: Any,
        weights: Any,
        log_size: Any,
        method: str,
        steps: int | None,
        options: dict[str, Any],
        back: bool,
    ) -> Any:
        begin, end = (1.0, 0.0) if back else (0.0, 1.0)
        with arrays.stream_context(library):
            return integrate(
                self.network_,
                start,
                method=method,
                steps=_STEPS if steps is None and method != "dopri5" else steps,
                t0=begin,
                t1=end,
                labels=labels,
                weights=self._weights(where, labels, weights),
                log_size=log_size,
                **options,
            )


def _rows(where: str, n: Any, labels: Any, log_size: Any) -> int:
    """Return how many rows are asked for."""
    if n is not None:
        return validate.integer(where, "n", n, low=0, high=_MAX_ROW)
    given = list(labels.values()) if isinstance(labels, Mapping) else [labels]
    shapes = [np.shape(value) for value in (*given, log_size) if value is not None]
    lengths = [shape[0] for shape in shapes if shape]
    if not lengths:
        validate.fail(TypeError, where, "n", "be given where no labels tell it", "None")
    return int(lengths[0])
