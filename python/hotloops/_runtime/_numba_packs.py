"""Packs for Numba: rows side by side in vector registers, the twin of ``csrc/core/pack.hpp``.

Whether Numba vectorises a loop is a matter of luck; a pack is an LLVM vector from the start. Code
that Numba compiles only loads packs, hands them to *traced* functions and stores them. A traced
function is straight-line Python that runs once while Numba compiles, on `Value` objects whose
operators emit LLVM instructions; nothing of it is left to Numba's type inference, which keeps
compilation short. With NumPy arrays (one element a lane) the same function simply runs: that is the
reference which ``NUMBA_DISABLE_JIT=1`` shows.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numba.core import config

from hotloops._runtime._numba_api import (
    cgutils,
    give_type,
    ir,
    lower,
    numpy_support,
    primitive,
    types,
)

F = TypeVar("F", bound=Callable[..., Any])

PACK_BYTES = 64  # one AVX-512 register, or two of AVX2 whose instructions interleave

# Scalar words: in the reference Python's integers, which neither overflow nor turn into floats.
word: Any = int if getattr(config, "DISABLE_JIT", False) else np.uint64

INT32 = ir.IntType(32)
_BOOL = np.dtype(np.bool_)


class Pack(types.Type):  # type: ignore[misc]
    """Numba's type of a pack: lanes of float32, float64, uint32, uint64 or bool."""

    def __init__(self, dtype: Any, lanes: int) -> None:
        self.dtype = np.dtype(dtype)
        self.lanes = lanes
        super().__init__(name=f"Pack({self.dtype}, {lanes})")


def llvm_type(dtype: np.dtype[Any], lanes: int) -> Any:
    """Return what LLVM calls a scalar (`lanes` 0) or a pack."""
    if dtype.kind == "f":
        element: Any = ir.FloatType() if dtype.itemsize == 4 else ir.DoubleType()
    else:
        element = ir.IntType(1 if dtype == _BOOL else 8 * dtype.itemsize)
    return ir.VectorType(element, lanes) if lanes else element


primitive(Pack, lambda kind: llvm_type(kind.dtype, kind.lanes))


# --- values while a function is traced -----------------------------------------------------------


class Value:
    """A scalar (``lanes`` 0) or a pack. Operators take constants and values of the same type."""

    __array_ufunc__ = None  # np.uint64(1) + value comes to us

    def __init__(self, builder: Any, llvm: Any, dtype: Any, lanes: int) -> None:
        self.builder = builder
        self.llvm = llvm
        self.dtype = np.dtype(dtype)
        self.lanes = lanes

    @property
    def itemsize(self) -> int:
        return int(self.dtype.itemsize)

    def like(self, llvm: Any, dtype: Any = None) -> Value:
        """Return a value of as many lanes."""
        return Value(self.builder, llvm, self.dtype if dtype is None else dtype, self.lanes)

    def spread(self, lanes: int) -> Value:
        """Return a scalar in all lanes."""
        if self.lanes == lanes:
            return self
        kind = ir.VectorType(self.llvm.type, lanes)
        nothing = ir.Constant(kind, ir.Undefined)
        first = self.builder.insert_element(nothing, self.llvm, INT32(0))
        zeros = ir.Constant(ir.VectorType(INT32, lanes), [0] * lanes)
        return Value(
            self.builder, self.builder.shuffle_vector(first, nothing, zeros), self.dtype, lanes
        )

    def constant(self, number: Any) -> Value:
        """Return a number in the type of this value."""
        kind = self.llvm.type
        number = float(number) if self.dtype.kind == "f" else int(number)
        if self.lanes:
            return self.like(ir.Constant(kind, [kind.element(number)] * self.lanes))
        return self.like(kind(number))

    def _with(self, other: Any) -> tuple[Value, Value]:
        if not isinstance(other, Value):
            return self, self.constant(other)
        if other.dtype != self.dtype:
            raise TypeError(f"operands of types {self.dtype} and {other.dtype}")
        lanes = max(self.lanes, other.lanes)
        return self.spread(lanes), other.spread(lanes)

    def _emit(self, other: Any, integer: str, real: str, swap: bool = False) -> Value:
        a, b = self._with(other)
        if swap:
            a, b = b, a
        name = real if self.dtype.kind == "f" else integer
        return a.like(getattr(self.builder, name)(a.llvm, b.llvm))

    def _compare(self, other: Any, symbol: str) -> Value:
        a, b = self._with(other)
        if self.dtype.kind != "f":
            compare = self.builder.icmp_unsigned
        elif symbol == "!=":
            compare = self.builder.fcmp_unordered
        else:
            compare = self.builder.fcmp_ordered
        return a.like(compare(symbol, a.llvm, b.llvm), _BOOL)

    def __add__(self, other: Any) -> Value:
        return self._emit(other, "add", "fadd")

    def __radd__(self, other: Any) -> Value:
        return self._emit(other, "add", "fadd", swap=True)

    def __sub__(self, other: Any) -> Value:
        return self._emit(other, "sub", "fsub")

    def __rsub__(self, other: Any) -> Value:
        return self._emit(other, "sub", "fsub", swap=True)

    def __mul__(self, other: Any) -> Value:
        return self._emit(other, "mul", "fmul")

    def __rmul__(self, other: Any) -> Value:
        return self._emit(other, "mul", "fmul", swap=True)

    def __truediv__(self, other: Any) -> Value:
        return self._emit(other, "", "fdiv")

    def __rtruediv__(self, other: Any) -> Value:
        return self._emit(other, "", "fdiv", swap=True)

    def __and__(self, other: Any) -> Value:
        return self._emit(other, "and_", "")

    def __or__(self, other: Any) -> Value:
        return self._emit(other, "or_", "")

    def __xor__(self, other: Any) -> Value:
        return self._emit(other, "xor", "")

    def __lshift__(self, other: Any) -> Value:
        return self._emit(other, "shl", "")

    def __rshift__(self, other: Any) -> Value:
        return self._emit(other, "lshr", "")

    def __neg__(self) -> Value:
        return self.like(self.builder.fneg(self.llvm))

    def __invert__(self) -> Value:
        return self.like(self.builder.not_(self.llvm))

    def __lt__(self, other: Any) -> Value:
        return self._compare(other, "<")

    def __le__(self, other: Any) -> Value:
        return self._compare(other, "<=")

    def __gt__(self, other: Any) -> Value:
        return self._compare(other, ">")

    def __ge__(self, other: Any) -> Value:
        return self._compare(other, ">=")

    def __ne__(self, other: object) -> Value:  # type: ignore[override]
        return self._compare(other, "!=")


# --- what traced functions may call, on values or NumPy arrays -----------------------------------


def is_single(x: Any) -> bool:
    """Return whether a pack or an array belongs to float32."""
    return bool(x.itemsize == 4)


def uint64(x: Any) -> Any:
    """Return an integer scalar as uint64, which is a Python integer in the reference."""
    if isinstance(x, Value):
        return Value(x.builder, x.llvm, np.uint64, 0)
    return int(x)


def count_from(first: Any, stride: int) -> Any:
    """Return the uint64 pack first, first + stride, ..."""
    steps = range(0, stride * PACK_BYTES // 8, stride)
    if isinstance(first, Value):
        pack = first.spread(PACK_BYTES // 8)
        return pack + pack.like(ir.Constant(pack.llvm.type, list(steps)))
    return first + np.array(steps, np.uint64)


def where(mask: Any, a: Any, b: Any) -> Any:
    """Return `a` in the lanes that the mask names, else `b`; `a` may be a number."""
    if isinstance(mask, Value):
        chosen = a.spread(b.lanes) if isinstance(a, Value) else b.constant(a)
        return b.like(b.builder.select(mask.llvm, chosen.llvm, b.llvm))
    return np.where(mask, a, b).astype(b.dtype, copy=False)


def constant(number: Any, like: Any) -> Any:
    """Return a number in all lanes of a pack like `like`."""
    if isinstance(like, Value):
        return like.constant(number)
    return np.full_like(like, number)


def widen(x: Any) -> Any:
    """Return a pack in 64-bit lanes: reals exactly, words with zeros on top."""
    if x.itemsize == 8:
        return x
    if not isinstance(x, Value):
        return x.astype(f"{x.dtype.kind}8")
    wide = np.dtype(f"{x.dtype.kind}8")
    extend = x.builder.fpext if x.dtype.kind == "f" else x.builder.zext
    return x.like(extend(x.llvm, llvm_type(wide, x.lanes)), wide)


def narrow(x: Any, like: Any) -> Any:
    """Return float64 reals rounded to the precision of `like`."""
    if like.itemsize == 8:
        return x
    if not isinstance(x, Value):
        return x.astype(np.float32)
    single = np.dtype(np.float32)
    return x.like(x.builder.fptrunc(x.llvm, llvm_type(single, x.lanes)), single)


def any_lane(mask: Any) -> Any:
    """Return whether the mask names a lane."""
    if isinstance(mask, Value):
        bits = ir.IntType(mask.lanes)
        word = mask.builder.bitcast(mask.llvm, bits)
        return Value(mask.builder, mask.builder.icmp_unsigned("!=", word, bits(0)), _BOOL, 0)
    return bool(mask.any())


def as_real(words: Any) -> Any:
    """Return the reals of the same bits."""
    return _reinterpret(words, "f")


def as_words(reals: Any) -> Any:
    """Return the bits of reals."""
    return _reinterpret(reals, "u")


def _reinterpret(x: Any, kind: str) -> Any:
    dtype = np.dtype(f"{kind}{x.itemsize}")
    if isinstance(x, Value):
        return x.like(x.builder.bitcast(x.llvm, llvm_type(dtype, x.lanes)), dtype)
    return x.view(dtype)


def signed_to_real(words: Any) -> Any:
    """Return the values of signed 32-bit integers, rounded to nearest."""
    if isinstance(words, Value):
        real = llvm_type(np.dtype(np.float32), words.lanes)
        return words.like(words.builder.sitofp(words.llvm, real), np.float32)
    return words.view(np.int32).astype(np.float32)


def square_root(x: Any) -> Any:
    """Return the correctly rounded square root."""
    if isinstance(x, Value):
        kind = x.llvm.type
        lanes = f"v{x.lanes}{kind.element.intrinsic_name}" if x.lanes else kind.intrinsic_name
        name = f"llvm.sqrt.{lanes}"
        root = cgutils.get_or_insert_function(x.builder.module, ir.FunctionType(kind, [kind]), name)
        return x.like(x.builder.call(root, [x.llvm]))
    return np.sqrt(x)


def multiply_add(a: Any, b: Any, c: Any) -> Any:
    """Return ``a b + c`` with one rounding (two in the reference); `a` may be a scalar."""
    if isinstance(c, Value):
        kind = c.llvm.type
        name = f"llvm.fma.v{c.lanes}{kind.element.intrinsic_name}"
        signature = ir.FunctionType(kind, [kind] * 3)
        fused = cgutils.get_or_insert_function(c.builder.module, signature, name)
        return c.like(c.builder.call(fused, [a.spread(c.lanes).llvm, b.llvm, c.llvm]))
    return a * b + c


def interleave_words(even: Any, odd: Any) -> Any:
    """Return the low halves of two uint64 packs as the even and odd lanes of one uint32 pack."""
    if isinstance(even, Value):
        words = (even & 0xFFFFFFFF) | (odd << 32)
        lanes = 2 * words.lanes
        llvm = words.builder.bitcast(words.llvm, ir.VectorType(INT32, lanes))
        return Value(words.builder, llvm, np.uint32, lanes)
    return np.stack([even, odd], axis=1).astype(np.uint32).ravel()


# --- traced functions in Numba -------------------------------------------------------------------


def traced(function: F) -> F:
    """Let Numba's code call a straight-line function of packs, numbers and tuples of them."""

    @functools.lru_cache(None)
    @functools.wraps(function)
    def type_of(*kinds: Any) -> Any:
        return _return_type(function, kinds)

    give_type(function, type_of)

    @lower(function, types.VarArg(types.Any))
    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        operands = [_wrap(builder, *pair) for pair in zip(signature.args, args, strict=True)]
        return _unwrap(context, builder, signature.return_type, function(*operands))

    return function


def _return_type(function: Callable[..., Any], kinds: tuple[Any, ...]) -> Any:
    """Trace a function into a module that is thrown away, to see what it returns."""
    llvm = [_argument_type(kind) for kind in kinds]
    scratch = ir.Function(ir.Module(), ir.FunctionType(ir.VoidType(), llvm), "scratch")
    builder = ir.IRBuilder(scratch.append_basic_block())
    return _numba_type(
        function(*(_wrap(builder, *pair) for pair in zip(kinds, scratch.args, strict=True)))
    )


def _argument_type(kind: Any) -> Any:
    if isinstance(kind, types.BaseTuple):
        return ir.LiteralStructType([_argument_type(item) for item in kind])
    return llvm_type(*_dtype_and_lanes(kind))


def _dtype_and_lanes(kind: Any) -> tuple[np.dtype[Any], int]:
    if isinstance(kind, Pack):
        return kind.dtype, kind.lanes
    return numpy_support.as_dtype(kind), 0


def _wrap(builder: Any, kind: Any, llvm: Any) -> Any:
    if isinstance(kind, types.BaseTuple):
        items = cgutils.unpack_tuple(builder, llvm, len(kind))
        return tuple(_wrap(builder, *pair) for pair in zip(kind, items, strict=True))
    return Value(builder, llvm, *_dtype_and_lanes(kind))


def _unwrap(context: Any, builder: Any, kind: Any, returned: Any) -> Any:
    if isinstance(returned, tuple):
        items = [_unwrap(context, builder, *pair) for pair in zip(kind, returned, strict=True)]
        return context.make_tuple(builder, kind, items)
    return returned.llvm


def _numba_type(returned: Any) -> Any:
    if isinstance(returned, tuple):
        return types.Tuple(tuple(_numba_type(item) for item in returned))
    if returned.lanes:
        return Pack(returned.dtype, returned.lanes)
    return numpy_support.from_dtype(returned.dtype)
