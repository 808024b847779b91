"""NSISA as a PyTorch optimizer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.distributed as dist

from hotloops._runtime import validate
from hotloops._runtime.validate import fail
from hotloops.admm._orthogonalize import COEFFICIENTS, orthogonalize
from hotloops.admm._rule import Rule
from hotloops.torch._buckets import Bucket, state_dtype
from hotloops.torch._sisa import SISA, Schedule

__all__ = ["NSISA"]

_DENOMINATORS = {"softsign": "softsign", "adam": "adam", "sigma_rho": "sigma_rho"}


class NSISA(SISA):
    """SISA whose gradients of matrices are replaced by orthogonalised momentum.

    Parameters
    ----------
    params : iterable of torch.Tensor or dict
        As in `SISA`. Tensors of two or more dimensions are matrices of shape ``(shape[0], -1)``;
        groups with ``"orthogonalize": False`` (embeddings, the head) and tensors of fewer
        dimensions take SISA's step with the scheme "adam". Matrices must be C-contiguous.
    sigma, rho : float
        Default 80 and 100, as in the authors' language-model scripts.
    beta2, eps, lam, eta : float
        As in `SISA`.
    n_clients : int
        As in `SISA`.
    weight_decay : float
        As in `SISA`.
    decoupled : bool
        As in `SISA`.
    schedule : callable, optional
        As in `SISA`.
    beta1 : float
        Decay of the momentum; default 0.95.
    ns_steps : int
        Newton-Schulz steps; default 5.
    coefficients : {"muon", "polar"}
        See `hotloops.admm.orthogonalize`.
    ns_denominator : {"softsign", "adam", "sigma_rho"}
        What divides the update of a matrix: sigma + rho \\|u\\| (the default, as in the authors'
        code), sigma + rho (root of the second moment of u), or sigma + rho.
    mu : float
        The update of a matrix also has mu times the matrix; default 0.
    sigma_other, rho_other : float, optional
        For what is not orthogonalised; default `sigma` and `rho`. Groups may have their own.
    alpha : sequence of float, optional
        As in `SISA`.
    process_group : torch.distributed.ProcessGroup, optional
        As in `SISA`.
    reduce_dtype : torch.dtype, optional
        As in `SISA`.
    state_dtype : torch.dtype, optional
        As in `SISA`; the momentum stays float32.
    seed : int
        As in `SISA`.
    num_threads : int, optional
        As in `SISA`.

    Raises
    ------
    TypeError, ValueError
        As in `SISA`.

    See Also
    --------
    hotloops.admm.nsisa_step : The same step on arrays.

    Notes
    -----
    Matrices of the same shape are orthogonalised in one batch. The update has unit spectral norm
    whatever the size of the gradient, so that ``1 / (sigma + rho)`` is a step length. Class B.

    Examples
    --------
    >>> import torch
    >>> from hotloops.torch import NSISA
    >>> model = torch.nn.Linear(3, 2)
    >>> optimizer = NSISA(model.parameters(), sigma=80.0, rho=100.0)
    >>> model(torch.ones(1, 3)).sum().backward()
    >>> optimizer.step()
    >>> sorted(optimizer.state[model.weight])
    ['B', 'PI']
    """

    _copied = (*SISA._copied, "_other")

    def __init__(
        self,
        params: Iterable[Any],
        sigma: float = 80.0,
        rho: float = 100.0,
        beta2: float = 0.999,
        eps: float = 1e-8,
        lam: float = 0.0,
        eta: float = math.inf,
        n_clients: int = 1,
        weight_decay: float = 0.0,
        decoupled: bool = True,
        schedule: Schedule | None = None,
        *,
        beta1: float = 0.95,
        ns_steps: int = 5,
        coefficients: str = "muon",
        ns_denominator: str = "softsign",
        mu: float = 0.0,
        sigma_other: float | None = None,
        rho_other: float | None = None,
        alpha: Sequence[float] | None = None,
        process_group: dist.ProcessGroup | None = None,
        reduce_dtype: torch.dtype | None = None,
        state_dtype: torch.dtype | None = None,
        seed: int = 0,
        num_threads: int | None = None,
    ) -> None:
        self._other = (
            sigma if sigma_other is None else sigma_other,
            rho if rho_other is None else rho_other,
        )
        self._more_defaults = {
            "beta1": beta1,
            "ns_steps": ns_steps,
            "coefficients": coefficients,
            "ns_denominator": ns_denominator,
            "mu": mu,
            "orthogonalize": True,
        }
        super().__init__(
            params, sigma, rho, beta2, eps, lam, eta, n_clients, "adam", weight_decay, decoupled,
            schedule, alpha=alpha, process_group=process_group, reduce_dtype=reduce_dtype,
            state_dtype=state_dtype, seed=seed, num_threads=num_threads,
        )  # fmt: skip

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; one that has matrices and other tensors becomes two.

        Parameters
        ----------
        param_group : dict
            As in `SISA`, and ``"orthogonalize"``.
        """
        given = param_group["params"]
        parameters = [given] if torch.is_tensor(given) else list(given)
        named = bool(parameters) and isinstance(parameters[0], tuple)
        plain = [item[1] for item in parameters] if named else parameters
        wanted = param_group.get("orthogonalize", True)
        validate.boolean(self._function, "orthogonalize", wanted)
        matrix = [wanted and p.ndim >= 2 for p in plain]
        for orthogonal in (True, False):
            chosen = [p for p, m in zip(parameters, matrix, strict=True) if m == orthogonal]
            if not chosen:
                continue
            group = {**param_group, "params": chosen, "orthogonalize": orthogonal}
            if orthogonal:
                denominator = group.get("ns_denominator", self.defaults["ns_denominator"])
                group["scheme"] = validate.choice(
                    self._function, "ns_denominator", denominator, tuple(_DENOMINATORS)
                )
            else:
                group.setdefault("sigma", self._other[0])
                group.setdefault("rho", self._other[1])
            super().add_param_group(group)

    def _check_group(self, group: dict[str, Any]) -> None:
        super()._check_group(group)
        validate.real(self._function, "beta1", group["beta1"], low=0.0, high=1.0)
        validate.real(self._function, "mu", group["mu"], low=0.0)
        validate.integer(self._function, "ns_steps", group["ns_steps"], low=0)
        name = group["coefficients"]
        validate.choice(self._function, "coefficients", name, tuple(COEFFICIENTS))
        for parameter in group["params"] if group["orthogonalize"] else ():
            if not parameter.is_contiguous():
                got = f"strides {parameter.stride()}"
                fail(ValueError, self._function, "params", "hold C-contiguous matrices", got)

    def _client(
        self, bucket: Bucket, group: dict[str, Any], rule: Rule, index: int, starts: bool,
        finishes: bool, found: torch.Tensor | None,
    ) -> None:  # fmt: skip
        if group["orthogonalize"]:
            scale = float(rule.clients[0, 3])
            bucket.gradients = self._orthogonal(bucket, group, scale, found)
            bucket.gradient_dtype = bucket.dtype
            rule.clients[:, 3] = 1.0
            rule.clients[:, 4] += group["mu"]
        super()._client(bucket, group, rule, index, starts, finishes, found)

    def _orthogonal(
        self, bucket: Bucket, group: dict[str, Any], scale: float, found: torch.Tensor | None
    ) -> list[torch.Tensor]:
        """Update the momenta; return the orthogonalised look-ahead of each matrix."""
        shapes = [(p.shape[0], p.numel() // p.shape[0]) for p in bucket.parameters]
        batches = {
            shape: torch.empty(
                (shapes.count(shape), *shape), dtype=bucket.dtype, device=bucket.device
            )
            for shape in dict.fromkeys(shapes)
        }
        free = {shape: iter(batch.unbind()) for shape, batch in batches.items()}
        out = [next(free[shape]) for shape in shapes]
        for parameter in bucket.parameters:
            self._make_momentum(parameter)
        threads = self._num_threads()
        bucket.momentum(out, group["beta1"], scale, threads, found)
        for (rows, columns), batch in batches.items():
            orthogonalize(
                batch, group["ns_steps"], group["coefficients"], out=batch, num_threads=threads
            )
            if rows > columns:
                batch.mul_(math.sqrt(rows / columns))
        return out

    def _make_momentum(self, parameter: torch.Tensor) -> None:
        state = self.state[parameter]
        if "B" not in state:
            shape = (self._local_clients, parameter.numel())
            state["B"] = torch.zeros(shape, dtype=state_dtype(parameter), device=parameter.device)
