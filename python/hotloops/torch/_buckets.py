"""Lists of tensors that one call of a step kernel can take, and that call."""

from __future__ import annotations

import importlib
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist

from hotloops._runtime import dispatch
from hotloops.admm._rounding import Rounding
from hotloops.admm._rule import Rule
from hotloops.admm._tensors import PRECISIONS

__all__ = ["Bucket", "Plan", "are_plain", "is_dense", "state_dtype"]

_LOW = (torch.float16, torch.bfloat16)
_NOTHING = np.empty(0, np.uint64)
# PyTorch's functions in C that tell what a tensor is; from 2.10 on.
_EXCHANGE = getattr(torch.Tensor, "__dlpack_c_exchange_api__", None)
# Called by `map`, so that no line of Python runs for each of many small tensors.
_CONTIGUOUS, _POINTER = torch.Tensor.is_contiguous, torch.Tensor.data_ptr

State = Mapping[torch.Tensor, dict[str, Any]]


class Bucket:
    """Parameters of one device and kind, which one call of a kernel takes.

    What is alike in all steps is made once. Memory is looked up in each, since gradients are new
    after every backward pass and callers may exchange the state; where several clients make a
    round, that of the state in each round.

    Attributes
    ----------
    device : torch.device
    dtype, gradient_dtype, parameter_dtype : torch.dtype
        Of the state, of the gradients, of the parameters.
    positions : list of int
        Of the parameters, in the group.
    parameters, gradients : list of torch.Tensor
    states : list of dict
        Of the parameters, in the optimizer.
    sizes : ndarray of int64
    size : int
        Their sum.
    in_rounds : bool
        Whether several clients come one after the other before the parameters move.
    sums : torch.Tensor or None
        The sums over clients, all parameters in one.
    rounding : Rounding or None
        Where duals and second moments are bfloat16.
    """

    def __init__(
        self, positions: list[int], parameters: Sequence[torch.Tensor], gradient_dtype: torch.dtype
    ) -> None:
        self.positions = positions
        self._gradient_dtype = gradient_dtype
        self.parameters = [parameters[i] for i in positions]
        first = self.parameters[0]
        self.device, self.parameter_dtype = first.device, first.dtype
        self.dtype = state_dtype(first)
        self.sizes = np.array([parameter.numel() for parameter in self.parameters], np.int64)
        ends = np.cumsum(self.sizes)
        self.size = int(ends[-1])
        self._offsets = (ends - self.sizes).view(np.uint64)  # in the sums
        self._strides = [parameter.stride() for parameter in self.parameters]
        self._all_plain = len(positions) == len(parameters) and are_plain(self.parameters)
        self._client = 0
        # Of this round: pointers to the state, and what keeps the memory from going away.
        self._found: dict[str, tuple[npt.NDArray[np.uint64], Any]] = {}
        self._read: tuple[list[Any], npt.NDArray[np.uint64]] | None = None
        self.states: list[dict[str, Any]] = []
        self.in_rounds = False
        self.sums: torch.Tensor | None = None
        self.rounding: Rounding | None = None

    def take(
        self, gradients: Sequence[torch.Tensor | None], plain: bool, client: int, starts: bool
    ) -> None:
        """Take the gradients of all parameters that are this client's, laid out as they are."""
        self._client = client
        self.gradient_dtype = self._gradient_dtype
        self._read = None
        if starts:
            self._found.clear()
        if plain and self._all_plain:
            self.gradients: list[Any] = list(gradients)
            return
        own: list[Any] = [gradients[i] for i in self.positions]
        if [gradient.stride() for gradient in own] != self._strides:
            own = [
                gradient
                if gradient.stride() == stride
                else torch.empty_like(parameter).copy_(gradient)
                for gradient, stride, parameter in zip(
                    own, self._strides, self.parameters, strict=True
                )
            ]
        self.gradients = own

    def take_at_once(self, gradients: list[Any], client: int, starts: bool) -> bool:
        """Take gradients that all have the kernels' own form; return whether they have."""
        pointers = self._addresses(gradients, self._gradient_dtype) if self._all_plain else None
        if pointers is None:
            return False
        self.take(gradients, True, client, starts)
        self._read = self.gradients, pointers
        return True

    def reduce(self, group: dist.ProcessGroup, dtype: torch.dtype | None) -> None:
        """Add up the sums of all ranks, sent in `dtype` or, by default, in their own type."""
        assert self.sums is not None
        if dtype in (None, self.sums.dtype):
            dist.all_reduce(self.sums, group=group)
            return
        sent = self.sums.to(dtype)
        dist.all_reduce(sent, group=group)
        self.sums.copy_(sent)

    def sit_out(self, client: int, alpha: float, starts: bool) -> None:
        """Let a client keep its dual: with w_i = w its share of the sum is alpha pi."""
        assert self.sums is not None
        if starts:
            self.sums.zero_()
        self.sums.add_(torch.cat([state["PI"][client] for state in self.states]), alpha=alpha)

    def sisa(
        self,
        rule: Rule,
        *,
        clients: bool,
        starts: bool,
        finishes: bool,
        num_threads: int,
        found_inf: torch.Tensor | None = None,
    ) -> None:
        """Run the kernel: the part of one client, the global part, or both."""
        number = 1 if clients else 0
        rounding = self.rounding if clients else None
        arguments = (
            self.sizes,
            self._weights(),
            self._gradient_pointers() if clients else _NOTHING,
            self.state_pointers("PI") if clients else _NOTHING,
            self.state_pointers("V") if clients and rule.needs_moments else None,
            None if self.sums is None else self._pointers_of_sums(self.sums),
            _pointers(self.parameters) if self.parameter_dtype in _LOW and finishes else None,
            rounding.rows if rounding is not None else None,
            PRECISIONS[_name(self.gradient_dtype)],
            PRECISIONS[_name(self.parameter_dtype)],
            rule.kind,
            rule.clients[:number].astype(_name(self.dtype)),
            rule.scale,
            rule.shrink,
            starts,
            finishes,
            rounding.seed if rounding is not None else 0,
            rounding.step if rounding is not None else 0,
        )
        self._run(f"admm_sisa_{_name(self.dtype)}", arguments, num_threads, found_inf)

    def momentum(
        self, out: list[torch.Tensor], beta: float, scale: float,
        num_threads: int, found_inf: torch.Tensor | None = None,
    ) -> None:  # fmt: skip
        """Update the momenta with the gradients, and write the look-ahead."""
        arguments = (
            self.sizes,
            self._gradient_pointers(),
            self.state_pointers("B"),
            _pointers(out),
            PRECISIONS[_name(self.gradient_dtype)],
            beta,
            scale,
        )
        self._run(f"admm_momentum_{_name(self.dtype)}", arguments, num_threads, found_inf)

    def state_pointers(self, key: str) -> npt.NDArray[np.uint64]:
        """Return where the state of the client begins, for every parameter."""
        begin = self._state_begins(key)
        if self._client > 0:
            itemsize = self.states[0][key].element_size()
            each = self.sizes.view(np.uint64) * np.uint64(itemsize)
            begin = begin + each * np.uint64(self._client)
        return begin

    def _state_begins(self, key: str) -> npt.NDArray[np.uint64]:
        found = self._found.get(key)
        if found is None:
            tensors = [state[key] for state in self.states]
            owners = [tensor.untyped_storage() for tensor in tensors] if self.in_rounds else None
            pointers = self._addresses(tensors, tensors[0].dtype)
            found = _pointers(tensors) if pointers is None else pointers, owners
            if self.in_rounds:
                self._found[key] = found
        return found[0]

    def _weights(self) -> npt.NDArray[np.uint64]:
        if self.parameter_dtype in _LOW:
            return self._state_begins("master")
        pointers = self._addresses(self.parameters, self.parameter_dtype)
        return _pointers(self.parameters) if pointers is None else pointers

    def _gradient_pointers(self) -> npt.NDArray[np.uint64]:
        if self._read is not None and self._read[0] is self.gradients:
            return self._read[1]
        return _pointers(self.gradients)

    def _addresses(self, tensors: list[Any], dtype: torch.dtype) -> Any:
        """Return where tensors begin; None if not all are of this type and C-contiguous."""
        if _EXCHANGE is None or self.device.type != "cpu":
            return None
        precision = PRECISIONS[_name(dtype)]
        return dispatch.core().admm_addresses(tensors, torch.Tensor, _EXCHANGE, precision)

    def _pointers_of_sums(self, sums: torch.Tensor) -> npt.NDArray[np.uint64]:
        begin, itemsize = np.uint64(sums.data_ptr()), np.uint64(sums.element_size())
        pointers: npt.NDArray[np.uint64] = begin + self._offsets * itemsize
        return pointers

    def _run(
        self,
        name: str,
        arguments: tuple[Any, ...],
        num_threads: int,
        found_inf: torch.Tensor | None,
    ) -> None:
        if self.device.type == "cpu":
            getattr(dispatch.core(), name)(*arguments, num_threads)
        else:
            self._cuda(name, arguments, found_inf)

    def _cuda(self, name: str, arguments: tuple[Any, ...], found_inf: torch.Tensor | None) -> None:
        launch = importlib.import_module("hotloops.admm._cuda_step").launch
        index = self.device.index or 0
        stream = torch.cuda.current_stream(self.device).cuda_stream

        def upload(table: npt.NDArray[np.uint64]) -> tuple[int, object]:
            there = torch.from_numpy(table.view(np.int64)).to(self.device)
            return there.data_ptr(), there

        flag = 0 if found_inf is None else found_inf.data_ptr()
        launch(dispatch.cuda(), name, arguments, upload, flag, index, stream)


@dataclass
class Plan:
    """The buckets of a group, and what they were made from.

    Attributes
    ----------
    parameters : list of torch.Tensor
    dtypes : list of torch.dtype or None
        Of the gradients; None where there is none.
    buckets : list of Bucket
    states : list of dict
        All that the optimizer had.
    """

    parameters: list[torch.Tensor]
    dtypes: list[torch.dtype | None]
    buckets: list[Bucket]
    states: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def of(
        cls, parameters: Sequence[torch.Tensor], gradients: Sequence[torch.Tensor | None]
    ) -> Plan:
        """Sort parameters with a gradient by device and types."""
        found: dict[Any, list[int]] = {}
        dtypes = _dtypes(gradients)
        for i, (parameter, dtype) in enumerate(zip(parameters, dtypes, strict=True)):
            if dtype is not None:
                found.setdefault((parameter.device, parameter.dtype, dtype), []).append(i)
        buckets = [Bucket(positions, parameters, key[2]) for key, positions in found.items()]
        return cls(list(parameters), dtypes, buckets)

    def take_at_once(
        self,
        parameters: Sequence[torch.Tensor],
        gradients: list[Any],
        state: State,
        client: int,
        starts: bool,
    ) -> bool:
        """Take the gradients of a single bucket, if all is as it was and in the kernels' form."""
        return (
            len(self.buckets) == 1
            and self._is_of(parameters, state)
            and self.buckets[0].take_at_once(gradients, client, starts)
        )

    def fits(
        self,
        parameters: Sequence[torch.Tensor],
        gradients: Sequence[torch.Tensor | None],
        state: State,
    ) -> bool:
        """Whether nothing of it has changed, the dictionaries of the state included."""
        return self._is_of(parameters, state) and _dtypes(gradients) == self.dtypes

    def _is_of(self, parameters: Sequence[torch.Tensor], state: State) -> bool:
        return (
            len(parameters) == len(self.parameters)
            and all(map(operator.is_, parameters, self.parameters))
            # Their order stands for the parameters, whose hash is a function in Python.
            and len(state) == len(self.states)
            and all(map(operator.is_, state.values(), self.states))
            and all(
                bucket.parameters[0].dtype == bucket.parameter_dtype
                and bucket.parameters[0].device == bucket.device
                for bucket in self.buckets
            )
        )


def _dtypes(gradients: Iterable[torch.Tensor | None]) -> list[torch.dtype | None]:
    return [None if gradient is None else gradient.dtype for gradient in gradients]


def are_plain(tensors: Sequence[torch.Tensor | None]) -> bool:
    """Whether all tensors are there, dense and in C order."""
    try:
        return all(map(_CONTIGUOUS, tensors))  # type: ignore[arg-type]
    except TypeError:  # a None
        return False


def state_dtype(parameter: torch.Tensor) -> torch.dtype:
    """Return the type of a parameter's state: float32 for 16-bit parameters, else its own."""
    return torch.float32 if parameter.dtype in _LOW else parameter.dtype


def is_dense(tensor: torch.Tensor) -> bool:
    """Whether a tensor fills its memory without gaps or overlap, in any order of its dimensions."""
    expected = 1
    pairs = zip(tensor.stride(), tensor.shape, strict=True)
    for stride, size in sorted((stride, size) for stride, size in pairs if size > 1):
        if stride != expected:
            return False
        expected *= size
    return True


@cache
def _name(dtype: torch.dtype) -> str:
    return str(dtype).rpartition(".")[2]


def _pointers(tensors: Sequence[torch.Tensor]) -> npt.NDArray[np.uint64]:
    return np.fromiter(map(_POINTER, tensors), np.uint64, len(tensors))
