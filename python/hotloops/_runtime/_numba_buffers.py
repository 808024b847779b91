"""Memory for Numba's twins: buffers, and how packs are read from them and written to them.

As in `_numba_packs`, each function is written twice: its Python body works on NumPy arrays, and
what Numba emits for it works on `Buffer`. Nothing checks bounds.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any

import numpy as np

from hotloops._runtime._numba_api import (
    arrayobj,
    cgutils,
    give_type,
    ir,
    lower,
    numpy_support,
    primitive,
    types,
)
from hotloops._runtime._numba_packs import INT32, PACK_BYTES, Pack, llvm_type


class Buffer(types.Type):  # type: ignore[misc]
    """Numba's type of memory that has neither length nor owner: what helpers are handed instead of
    an array, whose seven fields and reference counts would cost compilation time."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = np.dtype(dtype)
        super().__init__(name=f"Buffer({self.dtype})")


primitive(Buffer, lambda kind: ir.PointerType(llvm_type(kind.dtype, 0)))


def small_code() -> None:
    """Ask for little code in the function that calls this: no inlining, vectorising or unrolling.

    It halves the compilation time of functions that run once for many steps.
    """


def buffers(arrays: Any) -> Any:
    """Return a named tuple with the memory of its one-dimensional arrays in their place; those of
    named tuples in it too."""
    return arrays


def view(memory: Any, first: Any, length: Any) -> Any:
    """Return a part of a buffer as an array, for functions of the user's."""
    return memory[first : first + length]


def lanes_of(memory: Any) -> int:
    """Return how many elements of a buffer make a pack."""
    return PACK_BYTES // int(memory.itemsize)


def zeros(like: Any) -> Any:
    """Return a pack of zeros of the element type of a buffer."""
    return np.zeros(lanes_of(like), like.dtype)


def load(memory: Any, index: Any) -> Any:
    """Return pack number `index` of a buffer."""
    lanes = lanes_of(memory)
    return memory[index * lanes : (index + 1) * lanes].copy()


def load_wide(memory: Any, index: Any, like: Any) -> Any:
    """Return pack number `index` of a buffer; it has as many lanes as a pack of buffer `like`."""
    lanes = lanes_of(like)
    return memory[index * lanes : (index + 1) * lanes].copy()


def store(memory: Any, index: Any, pack: Any) -> None:
    """Write pack number `index` of a buffer."""
    memory[index * pack.size : (index + 1) * pack.size] = pack


def accumulate(sums: Any, index: Any, pack: Any) -> None:
    """Add a pack to float64 sums, lane by lane; `index` counts packs of as many lanes."""
    sums[index * pack.size : (index + 1) * pack.size] += pack


def load_column(memory: Any, index: Any, first: Any, column: Any, stride: Any) -> Any:
    """Return element `column` of one row for each lane: of rows index[first], index[first + 1], ...
    of a matrix with rows of length `stride`."""
    rows = index[first : first + lanes_of(memory)]
    return memory[rows * stride + column]


def load_columns(memory: Any, index: Any, first: Any, column: Any, stride: Any) -> Any:
    """Return four packs like `load_column`, of columns side by side."""
    return tuple(load_column(memory, index, first, column + k, stride) for k in range(4))


def store_rows(memory: Any, first: Any, stride: Any, packs: Any) -> None:
    """Write the four values of each lane from element first + lane stride on, in order of lanes."""
    for lane, values in enumerate(np.stack(packs, axis=1)):
        memory[first + lane * stride : first + lane * stride + 4] = values


def _pack_of(memory: Buffer) -> Pack:
    return Pack(memory.dtype, PACK_BYTES // memory.dtype.itemsize)


def _scalar_of(memory: Buffer) -> Any:
    return numpy_support.from_dtype(memory.dtype)


def _element_of(memory: Any, index: Any) -> Any:
    return _scalar_of(memory) if isinstance(memory, Buffer) else None


def _column_of(memory: Any, index: Any, first: Any, column: Any, stride: Any) -> Pack:
    return _pack_of(memory)


def _columns_of(memory: Any, index: Any, first: Any, column: Any, stride: Any) -> Any:
    return types.UniTuple(_pack_of(memory), 4)


def _no_value(memory: Any, index: Any, value: Any) -> Any:
    return types.none if isinstance(memory, Buffer) else None


def _buffers_of(arrays: Any) -> Any:
    items = [_buffer_of(item) for item in arrays]
    if len(set(items)) == 1:
        return types.NamedUniTuple(items[0], len(items), arrays.instance_class)
    return types.NamedTuple(items, arrays.instance_class)


def _buffer_of(item: Any) -> Any:
    if isinstance(item, types.Array):
        return Buffer(numpy_support.as_dtype(item.dtype))
    return _buffers_of(item) if isinstance(item, types.BaseNamedTuple) else item


give_type(small_code, lambda: types.none)
give_type(buffers, _buffers_of)
give_type(view, lambda memory, first, length: types.Array(_scalar_of(memory), 1, "C"))
give_type(lanes_of, lambda memory: types.intp)
give_type(zeros, lambda like: _pack_of(like))
give_type(load, lambda memory, index: _pack_of(memory))
give_type(load_wide, lambda memory, index, like: Pack(memory.dtype, _pack_of(like).lanes))
give_type(store, lambda memory, index, pack: types.none)
give_type(accumulate, lambda sums, index, pack: types.none)
give_type(load_column, _column_of)
give_type(load_columns, _columns_of)
give_type(store_rows, lambda memory, first, stride, packs: types.none)
give_type(operator.getitem, _element_of)
give_type(operator.setitem, _no_value)


@lower(small_code)
def _lower_small_code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    for attribute in ("minsize", "noinline"):
        builder.function.attributes.add(attribute)
    return context.get_dummy_value()


@lower(buffers, types.BaseNamedTuple)
def _lower_buffers(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    return _memory_of(context, builder, signature.args[0], signature.return_type, args[0])


def _memory_of(context: Any, builder: Any, kind: Any, target: Any, value: Any) -> Any:
    """Return what stands for a field of type `kind` among buffers, where its type is `target`."""
    if isinstance(kind, types.Array):
        return context.make_array(kind)(context, builder, value).data
    if not isinstance(kind, types.BaseNamedTuple):
        return value
    fields = zip(kind, target, cgutils.unpack_tuple(builder, value), strict=True)
    items = [_memory_of(context, builder, *field) for field in fields]
    return context.make_tuple(builder, target, items)


@lower(view, Buffer, types.intp, types.intp)
def _lower_view(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    array = context.make_array(signature.return_type)(context, builder)
    itemsize = context.get_constant(types.intp, signature.args[0].dtype.itemsize)
    arrayobj.populate_array(
        array,
        data=builder.gep(args[0], [args[1]]),
        shape=[args[2]],
        strides=[itemsize],
        itemsize=itemsize,
        meminfo=None,
        parent=None,
    )
    return array._getvalue()


@lower(lanes_of, Buffer)
def _lower_lanes_of(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    return context.get_constant(types.intp, _pack_of(signature.args[0]).lanes)


@lower(zeros, Buffer)
def _lower_zeros(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    return ir.Constant(context.get_value_type(signature.return_type), None)


@lower(operator.getitem, Buffer, types.Integer)
def _lower_getitem(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    return builder.load(_address(context, builder, signature.args, args))


@lower(operator.setitem, Buffer, types.Integer, types.Number)
def _lower_setitem(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    memory, _, number = signature.args
    value = context.cast(builder, args[2], number, _scalar_of(memory))
    builder.store(value, _address(context, builder, signature.args, args))
    return context.get_dummy_value()


@lower(load, Buffer, types.Integer)
def _lower_load(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    kind = context.get_value_type(signature.return_type)
    pointer = _address(context, builder, signature.args, args, kind)
    return builder.load(pointer, align=signature.args[0].dtype.itemsize)


@lower(load_wide, Buffer, types.Integer, Buffer)
def _lower_load_wide(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    kind = context.get_value_type(signature.return_type)
    pointer = _address(context, builder, signature.args, args, kind)
    return builder.load(pointer, align=signature.args[0].dtype.itemsize)


@lower(store, Buffer, types.Integer, Pack)
def _lower_store(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    pointer = _address(context, builder, signature.args, args, args[2].type)
    builder.store(args[2], pointer, align=signature.args[0].dtype.itemsize)
    return context.get_dummy_value()


@lower(accumulate, Buffer, types.Integer, Pack)
def _lower_accumulate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    kind = ir.VectorType(ir.DoubleType(), args[2].type.count)
    pointer = _address(context, builder, signature.args, args, kind)
    wide = args[2] if args[2].type == kind else builder.fpext(args[2], kind)
    builder.store(builder.fadd(builder.load(pointer, align=8), wide), pointer, align=8)
    return context.get_dummy_value()


def _address(context: Any, builder: Any, kinds: Any, args: Any, pack: Any = None) -> Any:
    """Return the address of an element, or of a pack."""
    index = context.cast(builder, args[1], kinds[1], types.intp)
    if pack is None:
        return builder.gep(args[0], [index])
    element = builder.gep(args[0], [builder.mul(index, index.type(pack.count))])
    return builder.bitcast(element, ir.PointerType(pack))


def _row_pointers(context: Any, builder: Any, signature: Any, args: Any) -> list[Any]:
    """Return where each lane's part of `load_column` and `load_columns` begins."""
    memory, index, first, column, stride = args
    pointers = []
    for lane in range(_pack_of(signature.args[0]).lanes):
        place = builder.add(first, first.type(lane))
        row = builder.load(builder.gep(index, [place]))
        offset = builder.add(builder.mul(row, stride), column)
        pointers.append(builder.gep(memory, [offset]))
    return pointers


@lower(load_column, Buffer, Buffer, types.intp, types.intp, types.intp)
def _lower_load_column(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    pack = ir.Constant(context.get_value_type(signature.return_type), ir.Undefined)
    for lane, pointer in enumerate(_row_pointers(context, builder, signature, args)):
        pack = builder.insert_element(pack, builder.load(pointer), INT32(lane))
    return pack


@lower(load_columns, Buffer, Buffer, types.intp, types.intp, types.intp)
def _lower_load_columns(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    dtype = signature.args[0].dtype
    four = ir.PointerType(llvm_type(dtype, 4))
    parts = [
        builder.load(builder.bitcast(pointer, four), align=dtype.itemsize)
        for pointer in _row_pointers(context, builder, signature, args)
    ]
    rows = [_concatenate(builder, parts[k::4]) for k in range(4)]
    return context.make_tuple(builder, signature.return_type, _transpose(builder, rows))


@lower(store_rows, Buffer, types.intp, types.intp, types.UniTuple)
def _lower_store_rows(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    dtype = signature.args[0].dtype
    four = ir.PointerType(llvm_type(dtype, 4))
    memory, place, stride, packs = args
    rows = _transpose(builder, cgutils.unpack_tuple(builder, packs, 4))
    for lane in range(rows[0].type.count):
        part = lane // 4 * 4
        values = _shuffle(builder, rows[lane % 4], rows[lane % 4], range(part, part + 4))
        pointer = builder.bitcast(builder.gep(memory, [place]), four)
        builder.store(values, pointer, align=dtype.itemsize)
        place = builder.add(place, stride)
    return context.get_dummy_value()


def _shuffle(builder: Any, a: Any, b: Any, lanes: Iterable[int]) -> Any:
    mask = list(lanes)
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(INT32, len(mask)), mask))


def _concatenate(builder: Any, parts: list[Any]) -> Any:
    while len(parts) > 1:
        both = range(2 * parts[0].type.count)
        parts = [
            _shuffle(builder, a, b, both) for a, b in zip(parts[::2], parts[1::2], strict=True)
        ]
    return parts[0]


def _transpose(builder: Any, rows: list[Any]) -> list[Any]:
    """Transpose the 4 x 4 matrices that lanes 4 g to 4 g + 3 of four packs make."""
    lanes = rows[0].type.count

    def merge(a: Any, b: Any, pattern: tuple[int, int, int, int]) -> Any:
        """Take lanes of each group of four; the numbers from 4 on are those of `b`."""
        lanes_of_group = [k if k < 4 else lanes + k - 4 for k in pattern]
        return _shuffle(builder, a, b, [g + k for g in range(0, lanes, 4) for k in lanes_of_group])

    a, b, c, d = rows
    low_ab, high_ab = merge(a, b, (0, 4, 1, 5)), merge(a, b, (2, 6, 3, 7))
    low_cd, high_cd = merge(c, d, (0, 4, 1, 5)), merge(c, d, (2, 6, 3, 7))
    first, second = (0, 1, 4, 5), (2, 3, 6, 7)
    return [
        merge(low_ab, low_cd, first),
        merge(low_ab, low_cd, second),
        merge(high_ab, high_cd, first),
        merge(high_ab, high_cd, second),
    ]
