"""SISA as a PyTorch optimizer."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from hotloops._runtime import threads, validate
from hotloops._runtime.validate import fail
from hotloops.admm._rounding import Rounding
from hotloops.admm._rule import Rule, make_rule, per_client
from hotloops.torch._buckets import Bucket, Plan, are_plain, state_dtype
from hotloops.torch._checks import (
    check_float,
    check_parameter,
    check_state,
    check_state_dtype,
    gradient_of,
)

__all__ = ["SISA"]

_SCHEMES = ("adam", "rmsprop", "adagrad", "identity", "softsign", "sigma_rho")
_MOMENTS = ("adam", "rmsprop", "adagrad")
# What a rule is made from, beside the schedule, the learning rate and the loss scale.
_NUMBERS = (
    *("t", "sigma", "rho", "scheme", "beta2", "eps", "lam", "eta"),
    *("weight_decay", "decoupled"),
)

_GRADIENT = operator.attrgetter("grad")

Schedule = Callable[[int, float, float], tuple[float, float]]


class SISA(torch.optim.Optimizer):
    """Preconditioned inexact stochastic ADMM with a second-moment preconditioner.

    Parameters
    ----------
    params : iterable of torch.Tensor or dict
        Parameters or groups, of float16, bfloat16, float32 or float64, dense. A group may have its
        own `sigma`, `rho`, `beta2`, `eps`, `lam`, `eta`, `scheme`, `weight_decay`, `decoupled`.
        For 16-bit parameters all state, and a master copy of the parameters, is float32.
    sigma, rho : float
        The inverse of a step length, above zero; the weight of the preconditioner, not negative.
        Slow directions move with 1 / sigma, the first steps with 1 / (sigma + rho).
    beta2 : float
        Decay of the second moment; default 0.999.
    eps : float
        Default 1e-8.
    lam : float
        Weight of the squared norm of all parameters in the objective; default 0.
    eta : float
        Upper limit of the preconditioner; default none.
    n_clients : int
        Parts of the training data, or of a batch, with a dual of their own; default 1. With more
        than one call ``step(client=i)`` after the backward pass of each part.
    scheme : {"adam", "rmsprop", "adagrad", "identity", "softsign", "sigma_rho"}
        See `hotloops.admm.sisa_step`.
    weight_decay : float
        Default 0.
    decoupled : bool
        Decay parameters by ``weight_decay / (sigma + rho)``, else add to the gradients.
    schedule : callable, optional
        Called as ``schedule(t, sigma, rho) -> (sigma, rho)`` for step t = 1, 2, ..., before the
        mapping of ``group["lr"]``. It is not part of the state.
    alpha : sequence of float, optional
        Weights of the clients; default equal ones.
    process_group : torch.distributed.ProcessGroup, optional
        Every rank is one client: one all-reduce of the size of the parameters a step. `n_clients`
        is then the number of ranks.
    reduce_dtype : torch.dtype, optional
        Type of what is reduced; default that of the state. The reduced sum holds changes only, not
        the parameters, so that bfloat16 loses no more than in gradients.
    state_dtype : torch.dtype, optional
        ``torch.bfloat16`` stores duals and second moments in 16 bits, rounded up or down at random
        so that they are right in the mean; computed is in float32, which the parameters, or their
        master copies, keep. Default: as the parameters, float32 for 16-bit ones.
    seed : int
        Of the random bits of `state_dtype`, 0 (the default) to 2**64 - 1; part of the saved state.
    num_threads : int, optional
        Default `hotloops.get_num_threads`; never changes the result.

    Raises
    ------
    TypeError, ValueError
        Arguments of the wrong type or range; parameters that are sparse or overlap in memory.

    See Also
    --------
    hotloops.admm.sisa_step : The same step on arrays.
    NSISA : With orthogonalised momentum for matrices.

    Notes
    -----
    The step is that of `hotloops.admm.sisa_step`, to the last bit. Even with one client there is a
    dual: the step is not Adam's.

    Learning-rate schedulers work through ``group["lr"]``, which begins as 1 / (sigma + rho): sigma
    and rho are multiplied by ``lr_0 / lr``, and at lr = 0 nothing moves.

    `torch.amp.GradScaler` is understood without ``unscale_``: gradients are scaled as they are
    read, and a step with infinities leaves all state untouched. With several clients, a client with
    infinities sits the round out and keeps its dual.

    With one client, parameters without a gradient are skipped; with several, a missing gradient
    counts as zero. Class A on one device. Memory: two numbers of float32, or of `state_dtype`, for
    each parameter and client. The random bits are addressed by the seed, the step, the number of
    the parameter, the client and the element.

    Examples
    --------
    >>> import torch
    >>> from hotloops.torch import SISA
    >>> w = torch.nn.Parameter(torch.zeros(3))
    >>> optimizer = SISA([w], sigma=2.0, rho=1.0)
    >>> for _ in range(400):
    ...     optimizer.zero_grad()
    ...     (0.5 * (w - torch.tensor([1.0, -2.0, 3.0])) ** 2).sum().backward()
    ...     optimizer.step()
    >>> w.detach()
    tensor([ 1., -2.,  3.])
    """

    # Read by torch.amp.GradScaler, which then sets grad_scale and found_inf before a step.
    _step_supports_amp_scaling = True
    _moment_schemes = _MOMENTS
    _more_defaults: dict[str, Any] = {}  # noqa: RUF012
    # What a copy or a pickle keeps beside PyTorch's own.
    _copied: tuple[str, ...] = (
        *("_function", "_seen", "_threads", "alpha", "n_clients", "process_group"),
        *("reduce_dtype", "schedule", "state_dtype"),
    )

    def __init__(
        self,
        params: Iterable[Any],
        sigma: float,
        rho: float,
        beta2: float = 0.999,
        eps: float = 1e-8,
        lam: float = 0.0,
        eta: float = math.inf,
        n_clients: int = 1,
        scheme: str = "adam",
        weight_decay: float = 0.0,
        decoupled: bool = True,
        schedule: Schedule | None = None,
        *,
        alpha: Sequence[float] | None = None,
        process_group: dist.ProcessGroup | None = None,
        reduce_dtype: torch.dtype | None = None,
        state_dtype: torch.dtype | None = None,
        seed: int = 0,
        num_threads: int | None = None,
    ) -> None:
        self._function = type(self).__name__
        self.process_group = process_group
        self.n_clients = self._count_clients(n_clients)
        self.alpha = self._weights(alpha)
        self.schedule = schedule
        if schedule is not None and not callable(schedule):
            got = validate.describe(schedule)
            fail(TypeError, self._function, "schedule", "be a function or None", got)
        self.reduce_dtype = reduce_dtype
        check_float(self._function, "reduce_dtype", reduce_dtype)
        self.state_dtype = state_dtype
        check_state_dtype(self._function, state_dtype)
        self._threads = num_threads
        threads.resolve_num_threads(self._function, num_threads)
        self._seen: list[int] = []  # the clients of this round so far
        self._buffers: dict[Any, torch.Tensor] = {}
        self._plans: dict[int, Plan] = {}
        self._rules: dict[int, tuple[Any, Rule]] = {}
        own = {
            "sigma": sigma,
            "rho": rho,
            "beta2": beta2,
            "eps": eps,
            "lam": lam,
            "eta": eta,
            "scheme": scheme,
            "weight_decay": weight_decay,
            "decoupled": decoupled,
            "t": 0,
        }
        if state_dtype is not None:
            own["seed"] = seed
        super().__init__(params, {**own, **self._more_defaults, "lr": None, "lr_0": None})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters, with the defaults for what it does not say.

        Parameters
        ----------
        param_group : dict
            ``"params"`` and, where they differ from the defaults, the group's own numbers.
        """
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        try:
            self._check_group(group)
        except Exception:
            self.param_groups.pop()
            raise
        if group["lr_0"] is None:
            group["lr_0"] = 1.0 / (group["sigma"] + group["rho"])
        if group["lr"] is None:
            group["lr"] = group["lr_0"]

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None, client: int | None = None) -> Any:
        """Do one step, or the part of one client.

        Parameters
        ----------
        closure : callable, optional
            Computes the loss and the gradients again.
        client : int, optional
            Whose gradients these are; needed, once for each client in any order, where there are
            several and no process group. The parameters move with the last one.

        Returns
        -------
        The value of `closure`, or None.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        index = self._check_client(client)
        starts, finishes = not self._seen, len(self._seen) + 1 == self._local_clients
        found = getattr(self, "found_inf", None)
        skipped = self._infinite(found)
        if skipped and self._local_clients == 1:
            return loss
        number = 0
        for group in self.param_groups:
            self._step_group(group, number, index, starts, finishes, skipped, found)
            number += len(group["params"])
        self._seen = [] if finishes else [*self._seen, index]
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Return the state; only between rounds, when no client is half way.

        Returns
        -------
        dict
            As of every PyTorch optimizer. Tensors are not copied.
        """
        if self._seen:
            expectation = "be called between rounds"
            got = f"clients {self._seen} of {self.n_clients} done"
            fail(ValueError, self._function, "state_dict", expectation, got)
        return super().state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved state.

        Parameters
        ----------
        state_dict : dict
            From `state_dict` of an optimizer with the same parameters, clients and schemes.

        Raises
        ------
        ValueError
            The state does not fit; nothing has changed then.
        """
        low = self.state_dtype is not None
        check_state(self._function, state_dict, self.param_groups, self._local_clients, low)
        super().load_state_dict(state_dict)
        # PyTorch casts the state to the type of the parameters; that of 16-bit ones is float32.
        saved = (i for group in state_dict["param_groups"] for i in group["params"])
        own = (p for group in self.param_groups for p in group["params"])
        for index, parameter in zip(saved, own, strict=True):
            for key, value in state_dict["state"].get(index, {}).items():
                if torch.is_tensor(value):
                    self.state[parameter][key] = value.detach().to(
                        device=parameter.device, dtype=self._type_of(key, parameter), copy=True
                    )
        self._seen = []

    def __getstate__(self) -> dict[str, Any]:
        own = {key: value for key, value in vars(self).items() if key in self._copied}
        return {**super().__getstate__(), **own, "_buffers": {}, "_plans": {}, "_rules": {}}

    # --- checks ----------------------------------------------------------------------------------

    @property
    def _local_clients(self) -> int:
        return 1 if self.process_group is not None else self.n_clients

    def _count_clients(self, n_clients: int) -> int:
        count = validate.integer(self._function, "n_clients", n_clients, low=1)
        if self.process_group is None:
            return count
        ranks = dist.get_world_size(self.process_group)
        if count not in (1, ranks):
            expectation = f"be 1 or the number of ranks, {ranks}, with a process group"
            fail(ValueError, self._function, "n_clients", expectation, str(count))
        return ranks

    def _weights(self, alpha: Sequence[float] | None) -> Any:
        given = 1.0 / self.n_clients if alpha is None else np.asarray(alpha)
        return per_client(self._function, "alpha", given, self.n_clients, positive=True)

    def _check_group(self, group: dict[str, Any]) -> None:
        validate.choice(self._function, "scheme", group["scheme"], _SCHEMES)
        self._rule(group, 1, 1.0)
        if "seed" in group:
            validate.integer(self._function, "seed", group["seed"], low=0, high=2**64 - 1)
        for parameter in group["params"]:
            check_parameter(self._function, parameter, self.state_dtype is not None)

    def _check_client(self, client: int | None) -> int:
        if self._local_clients == 1:
            if client is not None:
                validate.integer(self._function, "client", client, low=0, high=self.n_clients - 1)
            return 0
        if client is None:
            got = f"None with {self.n_clients} clients"
            fail(ValueError, self._function, "client", "be given where there are several", got)
        index = validate.integer(self._function, "client", client, low=0, high=self.n_clients - 1)
        if index in self._seen:
            expectation = f"not come twice in a round (clients {self._seen} are done)"
            fail(ValueError, self._function, "client", expectation, str(index))
        return index

    def _infinite(self, found: torch.Tensor | None) -> bool:
        """Whether a gradient scaler found infinities, on any rank; on a GPU one client's kernel
        looks by itself."""
        if found is None:
            return False
        if self.process_group is not None:
            dist.all_reduce(found, dist.ReduceOp.MAX, group=self.process_group)
        if found.is_cuda and self._local_clients == 1:
            return False
        return bool(found.item())

    # --- the step --------------------------------------------------------------------------------

    def _rule(self, group: dict[str, Any], t: int, factor: float, scale: float = 1.0) -> Rule:
        """Return the numbers of all clients for step t."""
        sigma, rho = group["sigma"], group["rho"]
        if self.schedule is not None:
            sigma, rho = self.schedule(t, sigma, rho)
        return make_rule(
            self._function,
            self.n_clients,
            alpha=self.alpha,
            sigma=validate.real(self._function, "sigma", sigma, low=0.0, open_low=True) * factor,
            rho=validate.real(self._function, "rho", rho, low=0.0) * factor,
            scheme=group["scheme"],
            beta=group["beta2"],
            t=t,
            eps=group["eps"],
            lam=group["lam"],
            eta=group["eta"],
            weight_decay=group["weight_decay"],
            decoupled=group["decoupled"],
            grad_scale=scale,
            check_beta="beta2",
        )

    def _client_here(self, index: int) -> int:
        return index if self.process_group is None else dist.get_rank(self.process_group)

    def _own_rule(self, rule: Rule, index: int) -> Rule:
        """Return the numbers of the client whose gradients there are."""
        at = self._client_here(index)
        return Rule(rule.kind, rule.clients[at : at + 1].copy(), rule.scale, rule.shrink)

    def _rule_now(self, group: dict[str, Any], factor: float) -> Rule:
        """Return the rule of this step, made by its first client."""
        scale = self._inverse_scale()
        key = (factor, scale, *(group[name] for name in _NUMBERS))
        known = self._rules.get(id(group))
        if known is None or known[0] != key:
            known = self._rules[id(group)] = key, self._rule(group, group["t"], factor, scale)
        return known[1]

    def _step_group(
        self, group: dict[str, Any], number: int, index: int, starts: bool, finishes: bool,
        skipped: bool, found: torch.Tensor | None,
    ) -> None:  # fmt: skip
        if starts:
            group["t"] += 1
        rate = float(group["lr"])
        if rate == 0.0:
            return
        if not rate > 0.0 or not math.isfinite(rate):
            fail(ValueError, self._function, "lr", "be finite and not negative", str(group["lr"]))
        rule = self._rule_now(group, group["lr_0"] / rate)
        own = self._own_rule(rule, index)
        at_once = self._local_clients == 1 and self.process_group is None
        ends = finishes and self.process_group is None and not skipped  # with this client's part
        buckets = self._buckets(group, index, starts)
        for bucket in buckets:
            bucket.sums = None if at_once else self._sums_of(bucket)
            if self.state_dtype is not None:
                bucket.rounding = self._rounding(bucket, group, number, index)
            if skipped:
                bucket.sit_out(index, float(own.clients[0, 0]), starts)
            else:
                self._client(bucket, group, own, index, starts, ends, found)
        if finishes and not ends:
            for bucket in buckets:
                if self.process_group is not None:
                    bucket.reduce(self.process_group, self.reduce_dtype)
                bucket.sisa(
                    rule, clients=False, starts=False, finishes=True,
                    num_threads=self._num_threads(), found_inf=found,
                )  # fmt: skip

    def _client(
        self, bucket: Bucket, group: dict[str, Any], rule: Rule, index: int, starts: bool,
        finishes: bool, found: torch.Tensor | None,
    ) -> None:  # fmt: skip
        bucket.sisa(
            rule, clients=True, starts=starts, finishes=finishes,
            num_threads=self._num_threads(), found_inf=found,
        )  # fmt: skip

    def _rounding(self, bucket: Bucket, group: dict[str, Any], number: int, index: int) -> Rounding:
        """Return the random bits of a client; `number` is that of the group's first parameter."""
        first = (np.array(bucket.positions, np.uint64) + np.uint64(number)) * self.n_clients
        return Rounding(first + np.uint64(self._client_here(index)), group["seed"], group["t"])

    def _num_threads(self) -> int:
        return threads.resolve_num_threads(self._function, self._threads)

    def _inverse_scale(self) -> float:
        scale = getattr(self, "grad_scale", None)
        return 1.0 if scale is None else 1.0 / float(scale)

    def _buckets(self, group: dict[str, Any], client: int, starts: bool) -> list[Bucket]:
        """Return the group's parameters with the gradients and the state of this client."""
        parameters = group["params"]
        gradients = list(map(_GRADIENT, parameters))
        plan = self._plans.get(id(group))
        if plan and plan.take_at_once(parameters, gradients, self.state, client, starts):
            return plan.buckets
        plain = are_plain(gradients)
        if not plain:
            fill = self.n_clients > 1
            gradients = [gradient_of(self._function, p, fill) for p in parameters]
        if plan is None or not plan.fits(parameters, gradients, self.state):
            plan = self._plans[id(group)] = Plan.of(parameters, gradients)
            moments = group["scheme"] in self._moment_schemes
            for bucket in plan.buckets:
                for parameter in bucket.parameters:
                    self._make_state(self.state[parameter], parameter, moments)
                bucket.states = [self.state[parameter] for parameter in bucket.parameters]
                bucket.in_rounds = self._local_clients > 1
            plan.states = list(self.state.values())
        for bucket in plan.buckets:
            bucket.take(gradients, plain, client, starts)
        return plan.buckets

    def _make_state(self, state: dict[str, Any], parameter: torch.Tensor, moments: bool) -> None:
        shape = (self._local_clients, parameter.numel())
        for key in ("PI", "V") if moments else ("PI",):
            if key not in state:
                own = self._type_of(key, parameter)
                state[key] = torch.zeros(shape, dtype=own, device=parameter.device)
        dtype = state_dtype(parameter)
        if dtype != parameter.dtype and "master" not in state:
            state["master"] = parameter.detach().to(dtype)

    def _type_of(self, key: str, parameter: torch.Tensor) -> torch.dtype:
        low = self.state_dtype if key in ("PI", "V") else None
        return low or state_dtype(parameter)

    def _sums_of(self, bucket: Bucket) -> torch.Tensor:
        """Return the sums over clients: one buffer, so that it is reduced in one call."""
        key = (bucket.device, bucket.parameter_dtype, id(bucket.parameters[0]))
        found = self._buffers.get(key)
        if found is None or found.numel() != bucket.size:
            found = torch.empty(bucket.size, dtype=bucket.dtype, device=bucket.device)
            self._buffers[key] = found
        return found
