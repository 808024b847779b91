"""What the steps on foreign gradients share: checks of their arguments, and where they run."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from hotloops._runtime import arrays, dispatch, threads, validate
from hotloops._runtime.validate import fail
from hotloops.admm._rounding import Rounding, make_rounding
from hotloops.admm._rule import Rule
from hotloops.admm._tensors import Tensors, collect

__all__ = ["NAMES", "Run", "check_regularizer", "collect_step", "one_client", "regularize"]

NAMES = {
    "w": "w",
    "gradients": "G",
    "duals": "PI",
    "moments": "V",
    "sums": "s",
    "copies": "copy_to",
}


class Run:
    """Where a checked step runs."""

    def __init__(
        self, function: str, tensors: Tensors, backend: str | None, num_threads: int | None
    ) -> None:
        self.function, self.tensors = function, tensors
        self.num_threads = threads.resolve_num_threads(function, num_threads)
        resolved = dispatch.resolve_backend(function, backend, tensors.library.device)
        self.kernels: Any = importlib.import_module(f"hotloops.admm._{resolved}_step")
        self._flag: Any = None

    def skips(self, found_inf: Any, check_finite: bool) -> bool:
        """Whether the step is known not to be wanted."""
        wanted = validate.boolean(self.function, "check_finite", check_finite)
        if found_inf is not None:
            on_device = self.tensors.library.device == "cuda" and hasattr(found_inf, "__dlpack__")
            if on_device:
                self._flag, _ = arrays.import_array(self.function, "found_inf", found_inf)
            elif bool(np.asarray(found_inf).any()):
                return True
        return wanted and not self.kernels.all_finite(self.tensors, self.num_threads)

    def rounding(
        self, seed: int, t: int, client: int | None = None, num_clients: int = 0
    ) -> Rounding | None:
        """Return how bfloat16 state is rounded, of all clients or of one; None for other state."""
        count = self.tensors.num_clients if client is None else num_clients
        own = range(count) if client is None else range(client, client + 1)
        made = make_rounding(self.function, seed, t, self.tensors.num_tensors, own, count)
        return made if self.tensors.low_state else None

    def sisa(
        self, rule: Rule, *, starts: bool, finishes: bool, rounding: Rounding | None = None
    ) -> None:
        with arrays.stream_context(self.tensors.library):
            keywords = {} if self._flag is None else {"found_inf": self._flag}
            self.kernels.sisa(
                self.tensors,
                rule,
                starts=starts,
                finishes=finishes,
                rounding=rounding,
                num_threads=self.num_threads,
                **keywords,
            )

    def momentum(
        self, momenta: Tensors, shape: tuple[int, ...], beta: float, grad_scale: float
    ) -> Any:
        """Update the momenta; return the look-ahead of every client, (clients, rows, columns)."""
        library = self.tensors.library
        count = self.tensors.num_clients
        ahead = arrays.empty((count, *shape), self.tensors.dtype, library)
        with arrays.stream_context(library):
            for i in range(count):
                one = Tensors(library, momenta.dtype, w=momenta.w)
                one.gradients = [[momenta.gradients[0][i]]]
                one.gradient_precision = momenta.gradient_precision
                memory, target = [momenta.duals[0][i]], [ahead[i].reshape(-1)]
                self.kernels.momentum(one, memory, target, beta, grad_scale, self.num_threads)
        return ahead


def collect_step(
    name: str, w: Any, G: Any, PI: Any, V: Any, scheme: str, backend: str | None, **more: Any
) -> Tensors:
    """Take the arguments apart; V is left out where the scheme does not use it."""
    names = {**NAMES, "gradients": "g"} if "sums" in more else NAMES
    for argument, value in ((names["gradients"], G), ("PI", PI)):
        if value is None:
            fail(TypeError, name, argument, "be an array or a list of arrays", "None")
    needed = scheme in ("adagrad", "rmsprop", "adam", "diag")
    if needed and V is None:
        fail(ValueError, name, "V", f"be given for the scheme {scheme!r}", "None")
    moments = V if needed else None
    native = dispatch.asked_backend(name, backend) in (None, "cpp")
    return collect(
        name, w, gradients=G, duals=PI, moments=moments, names=names, at_once=native,
        may_be_low=True, **more,
    )  # fmt: skip


def one_client(name: str, client: int, w: Any, PI: Any, V: Any) -> tuple[dict[str, Any], int]:
    """Return this client's part of PI and V, and the number of clients."""
    index = validate.integer(name, "client", client, low=0)
    states: dict[str, Any] = {"V": None}
    counts = set()
    for key, value in (("PI", PI), ("V", V)):
        if value is None:
            continue
        many = isinstance(w, list | tuple)
        arrays_ = value if many and isinstance(value, list | tuple) else [value]
        for array in arrays_:
            counts.add(len(array) if np.ndim(array) or isinstance(array, list | tuple) else 0)
        if min(counts) <= index:
            expectation = f"have a state for client {index}"
            fail(ValueError, name, key, expectation, f"{min(counts)} clients")
        parts = [[array[index]] for array in arrays_]
        states[key] = parts if many else parts[0]
    return states, min(counts)


def check_regularizer(name: str, regularizer: Any, copy_to: Any) -> None:
    if regularizer is None:
        return
    if not callable(regularizer):
        got = validate.describe(regularizer)
        fail(TypeError, name, "regularizer", "be a proximal operator of hotloops.prox", got)
    if copy_to is not None:
        expectation = "be None where a regularizer changes w after the copy"
        fail(ValueError, name, "copy_to", expectation, validate.describe(copy_to))


def regularize(regularizer: Any, w: Any, rule: Rule) -> None:
    if regularizer is not None:
        for array in w if isinstance(w, list | tuple) else [w]:
            regularizer(array, rule.scale, out=array)
