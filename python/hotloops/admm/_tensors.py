"""Parameter tensors of any library as the flat buffers that the step kernels work on."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloops._runtime import arrays, dispatch, validate
from hotloops._runtime.arrays import Library
from hotloops._runtime.errors import BackendUnavailable
from hotloops._runtime.validate import fail

__all__ = [
    "HALVES",
    "PRECISIONS",
    "Table",
    "Tensors",
    "addresses",
    "client_addresses",
    "collect",
    "import_low",
    "sizes",
    "table_of",
]

# As in csrc/core/half.hpp.
PRECISIONS = {"float32": 0, "float64": 1, "float16": 2, "bfloat16": 3}
HALVES = ("float16", "bfloat16")


@dataclass(frozen=True)
class Table:
    """Sizes and addresses of all buffers, as the kernels on the host take them.

    Attributes
    ----------
    sizes : ndarray of int64, shape (tensors,)
    w : ndarray of uint64, shape (tensors,)
    gradients, duals : ndarray of uint64, shape (tensors * clients,)
    moments : ndarray of uint64, shape (tensors * clients,), or None
    sums, copies : ndarray of uint64, shape (tensors,), or None
    num_clients : int
    precision, gradient_precision, copy_precision, state_precision : int
        See `PRECISIONS`; the last one is that of duals and moments.
    """

    sizes: npt.NDArray[np.int64]
    w: npt.NDArray[np.uint64]
    gradients: npt.NDArray[np.uint64]
    duals: npt.NDArray[np.uint64]
    moments: npt.NDArray[np.uint64] | None
    sums: npt.NDArray[np.uint64] | None
    copies: npt.NDArray[np.uint64] | None
    num_clients: int
    precision: int
    gradient_precision: int
    copy_precision: int
    state_precision: int


@dataclass
class Tensors:
    """The checked buffers of one step, flat and C-contiguous, tensor after tensor.

    Attributes
    ----------
    w, sums, copies : list of array
        One for each tensor; the latter two may be empty.
    gradients, duals, moments : list of list of array, or list of array
        For each tensor one for each client, side by side in one array (clients, size) where they
        came so; those of 16-bit floats are arrays of uint16.
    gradient_precision, copy_precision : str
    low_state : bool
        Whether duals and moments are bfloat16.
    library : Library
        Where all of them live.
    table : Table or None
        In the place of all lists, where the host's kernels are wanted and one call could check all.
    """

    library: Library
    dtype: np.dtype[Any]
    w: list[Any] = field(default_factory=list)
    gradients: list[Any] = field(default_factory=list)
    duals: list[Any] = field(default_factory=list)
    moments: list[Any] = field(default_factory=list)
    sums: list[Any] = field(default_factory=list)
    copies: list[Any] = field(default_factory=list)
    gradient_precision: str = "float32"
    copy_precision: str = "bfloat16"
    low_state: bool = False
    table: Table | None = None

    @property
    def num_clients(self) -> int:
        """Number of clients of this step."""
        if self.table is not None:
            return self.table.num_clients
        return len(self.gradients[0]) if self.gradients else 0

    @property
    def num_tensors(self) -> int:
        """Number of arrays of parameters."""
        return len(self.w) if self.table is None else len(self.table.sizes)


def import_low(function: str, argument: str, value: Any) -> tuple[Any, str]:
    """Return an array and its precision; arrays of 16-bit floats come as uint16, uncopied."""
    name = _dtype_name(value)
    if name not in HALVES:
        native, _ = arrays.import_array(function, argument, value)
        checked = validate.array(function, argument, native, finite=False, empty=True)
        return checked, str(checked.dtype)
    library = arrays.library_of(value)
    if library is not None and library.name == "torch":
        import torch

        if value.requires_grad:
            expectation = "not require a gradient (pass `.detach()` of it)"
            fail(TypeError, function, argument, expectation, "a tensor with requires_grad=True")
        value = value.contiguous().view(torch.int16)
        native, _ = arrays.import_array(function, argument, value)
        return native.view(np.uint16), name
    xp = np if library is None else library.xp
    return xp.ascontiguousarray(xp.asarray(value)).view(np.uint16), name


def collect(
    function: str,
    w: Any,
    *,
    gradients: Any = None,
    duals: Any = None,
    moments: Any = None,
    sums: Any = None,
    copies: Any = None,
    names: dict[str, str],
    at_once: bool = False,
    may_be_low: bool = False,
) -> Tensors:
    """Check the arguments of a step and take them apart.

    `w` is an array or a sequence of arrays; the others are alike, with one array for each client or
    one array with the clients on its first axis in the place of each array of `w`. None leaves one
    out. `names` maps the arguments of this function to those that the user knows. `at_once` asks
    for a `Table` alone, where `w` is a list and all is as it should be. `may_be_low`: duals and
    moments may be bfloat16 where `w` is float32.
    """
    many = isinstance(w, list | tuple)
    table = _read_table(w, gradients, duals, moments, sums, copies) if at_once and many else None
    if table is not None:
        dtype = np.dtype(np.float32 if table.precision == 0 else np.float64)
        low = table.state_precision == PRECISIONS["bfloat16"]
        return Tensors(arrays.NUMPY, dtype, low_state=low, table=table)
    weights = list(w) if many else [w]
    if not weights:
        fail(ValueError, function, names["w"], "hold at least one array", "none")
    first, library = arrays.import_array(function, names["w"], weights[0])
    dtype = validate.float_dtype(function, names["w"], getattr(first, "dtype", None))
    tensors = Tensors(library, dtype)
    given = {"gradients": gradients, "duals": duals, "moments": moments}
    parts = {
        key: _parts(function, names[key], value, len(weights), many)
        for key, value in {**given, "sums": sums, "copies": copies}.items()
        if value is not None
    }
    if may_be_low and dtype == np.float32 and duals is not None:
        tensors.low_state = _is_low(parts["duals"][0])
    for k, weight in enumerate(weights):
        name = f"{names['w']}[{k}]" if many else names["w"]
        native = _state(function, name, weight, None, dtype, library)
        tensors.w.append(native.reshape(-1))
        shape = tuple(native.shape)
        for key, values in parts.items():
            name = f"{names[key]}[{k}]" if many else names[key]
            value = values[k]
            if key == "gradients":
                tensors.gradients.append(_gradients(function, name, value, shape, tensors))
            elif key in ("duals", "moments"):
                getattr(tensors, key).append(_client_states(function, name, value, shape, tensors))
            elif key == "sums":
                total = _state(function, name, value, shape, dtype, library)
                tensors.sums.append(total.reshape(-1))
            else:
                tensors.copies.append(_copy(function, name, value, shape, tensors))
    _check_clients(function, tensors, names)
    _check_overlap(function, tensors, names)
    return tensors


def table_of(tensors: Tensors) -> Table:
    """Return the addresses of tensors on the host."""
    if tensors.table is not None:
        return tensors.table
    return Table(
        sizes(tensors.w),
        addresses(tensors.w),
        client_addresses(tensors.gradients),
        client_addresses(tensors.duals),
        client_addresses(tensors.moments) if tensors.moments else None,
        addresses(tensors.sums) if tensors.sums else None,
        addresses(tensors.copies) if tensors.copies else None,
        tensors.num_clients,
        PRECISIONS[str(tensors.dtype)],
        PRECISIONS[tensors.gradient_precision],
        PRECISIONS[tensors.copy_precision],
        PRECISIONS["bfloat16" if tensors.low_state else str(tensors.dtype)],
    )


def _read_table(*lists: Any) -> Table | None:
    """Return what one native call makes of lists of plain arrays and tensors without any fault.

    It knows `numpy.ndarray` and `torch.Tensor`. For everything else, and to say what is wrong, the
    arguments are taken apart one by one.
    """
    try:
        core = dispatch.core()
    except BackendUnavailable:
        return None
    tensor = getattr(sys.modules.get("torch"), "Tensor", None)
    found = core.admm_tensors(*lists, np.ndarray, tensor)
    return None if found is None else Table(*found)


def _parts(function: str, name: str, value: Any, count: int, many: bool) -> list[Any]:
    if not many:
        return [value]
    if not isinstance(value, list | tuple) or len(value) != count:
        expectation = f"hold {count} arrays as `w`"
        fail(ValueError, function, name, expectation, validate.describe(value))
    return list(value)


def _split(function: str, name: str, value: Any, shape: tuple[int, ...]) -> tuple[list[Any], bool]:
    """Return one array for each client, or all in one whose first axis are the clients."""
    if isinstance(value, list | tuple):
        if not value:
            fail(ValueError, function, name, "hold an array for each client", "none")
        return list(value), False
    given = tuple(getattr(value, "shape", ()))
    if given == shape:
        return [value], False
    if given[1:] != shape or not given or given[0] == 0:
        wanted = f"have shape {shape} or (clients, {', '.join(map(str, shape))})"
        fail(ValueError, function, name, wanted, str(given))
    return [value], True


def _is_low(value: Any) -> bool:
    first = value[0] if isinstance(value, list | tuple) and value else value
    return _dtype_name(first) == "bfloat16"


def _dtype_name(value: Any) -> str:
    return str(getattr(value, "dtype", "")).rpartition(".")[2]


def _client_states(
    function: str, name: str, value: Any, shape: tuple[int, ...], tensors: Tensors
) -> Any:
    def take(part: Any, wanted: tuple[int, ...]) -> Any:
        if tensors.low_state:
            return _low_state(function, name, part, wanted, tensors.library)
        return _state(function, name, part, wanted, tensors.dtype, tensors.library)

    parts, stacked = _split(function, name, value, shape)
    if not stacked:
        return [take(part, shape).reshape(-1) for part in parts]
    whole = tuple(parts[0].shape)
    return take(parts[0], whole).reshape(whole[0], -1)


def _low_state(
    function: str, name: str, value: Any, shape: tuple[int, ...], library: Library
) -> Any:
    """Return the bits of an array of bfloat16, in its own memory."""
    if _dtype_name(value) != "bfloat16":
        expectation = "have dtype bfloat16 as the first dual"
        fail(TypeError, function, name, expectation, validate.describe(value))
    return _low_memory(function, name, value, shape, library)


def _low_memory(
    function: str, name: str, value: Any, shape: tuple[int, ...], library: Library
) -> Any:
    own = arrays.library_of(value)
    if own is not None and own.place != library.place:
        fail(TypeError, function, name, f"live on {library.place} as `w`", own.place)
    contiguous = getattr(value, "is_contiguous", None)
    ordered = contiguous() if contiguous is not None else value.flags.c_contiguous
    if not ordered or tuple(value.shape) != shape:
        expectation = f"be C-contiguous and have shape {shape} as `w`"
        fail(ValueError, function, name, expectation, validate.describe(value))
    native, _ = import_low(function, name, value)
    validate.writable(function, name, native)
    return native


def _gradients(
    function: str, name: str, value: Any, shape: tuple[int, ...], tensors: Tensors
) -> Any:
    parts, stacked = _split(function, name, value, shape)
    found: list[Any] = []
    for part in parts:
        own = arrays.library_of(part)
        if own is not None and own.place != tensors.library.place:
            fail(TypeError, function, name, f"live on {tensors.library.place} as `w`", own.place)
        native, precision = import_low(function, name, part)
        wanted = (native.shape[0], *shape) if stacked else shape
        if tuple(native.shape) != wanted:
            fail(ValueError, function, name, f"have shape {wanted}", str(tuple(native.shape)))
        if (tensors.gradients or found) and precision != tensors.gradient_precision:
            expectation = f"have dtype {tensors.gradient_precision} as the first gradient"
            fail(TypeError, function, name, expectation, precision)
        tensors.gradient_precision = precision
        if stacked:
            return native.reshape(native.shape[0], -1)
        found.append(native.reshape(-1))
    return found


def _state(
    function: str,
    name: str,
    value: Any,
    shape: tuple[int, ...] | None,
    dtype: np.dtype[Any],
    library: Library,
) -> Any:
    native = _same_place(function, name, value, library)
    wanted = tuple(native.shape) if shape is None else shape
    return validate.output(function, name, native, shape=wanted, dtype=dtype)


def _same_place(function: str, name: str, value: Any, library: Library) -> Any:
    if not hasattr(value, "dtype"):
        fail(TypeError, function, name, "be an array", validate.describe(value))
    native, own = arrays.import_array(function, name, value)
    if own.place != library.place:
        fail(TypeError, function, name, f"live on {library.place} as `w`", own.place)
    return native


def _copy(function: str, name: str, value: Any, shape: tuple[int, ...], tensors: Tensors) -> Any:
    precision = _dtype_name(value)
    if precision not in HALVES:
        got = validate.describe(value)
        fail(TypeError, function, name, "have dtype float16 or bfloat16", got)
    if tensors.copies and precision != tensors.copy_precision:
        fail(TypeError, function, name, f"have dtype {tensors.copy_precision}", precision)
    native = _low_memory(function, name, value, shape, tensors.library)
    tensors.copy_precision = precision
    return native.reshape(-1)


def _check_clients(function: str, tensors: Tensors, names: dict[str, str]) -> None:
    clients = tensors.num_clients
    for key in ("gradients", "duals", "moments"):
        found = {len(own) for own in getattr(tensors, key)}
        if found and found != {clients}:
            expectation = f"have {clients} clients as `{names['gradients']}`"
            fail(ValueError, function, names[key], expectation, str(max(found)))


def _check_overlap(function: str, tensors: Tensors, names: dict[str, str]) -> None:
    """Check that nothing that is written shares memory with anything else.

    All arrays are contiguous, so that neighbours in order of addresses tell.
    """
    lists = {
        "w": [tensors.w],
        "duals": tensors.duals,
        "moments": tensors.moments,
        "sums": [tensors.sums],
        "copies": [tensors.copies],
        "gradients": tensors.gradients,
    }
    of: list[tuple[str, Any]] = []
    for key, parts in lists.items():
        for part in parts:
            of += [(key, array) for array in part] if isinstance(part, list) else [(key, part)]
    begin = np.array([_address(array) for _, array in of], np.uint64)
    end = begin + np.array([array.nbytes for _, array in of], np.uint64)
    order = np.argsort(begin, kind="stable")
    reach = np.maximum.accumulate(end[order])[:-1]
    for place in np.flatnonzero(reach > begin[order][1:]):
        second = int(order[place + 1])
        first = int(order[: place + 1][end[order[: place + 1]] > begin[second]][0])
        pair = sorted((first, second))
        if {of[first][0], of[second][0]} != {"gradients"} and end[second] > begin[second]:
            name, other = (names[of[i][0]] for i in pair)
            expectation = f"not overlap `{other}` in memory"
            fail(ValueError, function, name, expectation, "arrays that share memory")


def addresses(list_: list[Any]) -> npt.NDArray[np.uint64]:
    """Return where arrays begin."""
    return np.array([_address(array) for array in list_], np.uint64)


def client_addresses(parts: list[Any]) -> npt.NDArray[np.uint64]:
    """Return where the arrays of all clients begin, tensor after tensor."""
    found = []
    for part in parts:
        if isinstance(part, list):
            found += [_address(array) for array in part]
        else:
            begin, stride = _address(part), int(part.strides[0])
            found += [begin + i * stride for i in range(len(part))]
    return np.array(found, np.uint64)


def sizes(list_: list[Any]) -> npt.NDArray[np.int64]:
    """Return the numbers of elements of arrays."""
    return np.array([array.size for array in list_], np.int64)


def _address(array: Any) -> int:
    if isinstance(array, np.ndarray):
        return int(array.__array_interface__["data"][0])
    return int(array.data.ptr)
