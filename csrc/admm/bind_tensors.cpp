// Reads lists of tensors in one call. Only lists without any fault are taken; for all others the
// answer is None, and _tensors.py, which takes everything apart in Python, says what is wrong.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "../core/half.hpp"
#include "bind.hpp"

namespace py = pybind11;

namespace hl {
namespace {

using Shape = std::vector<std::int64_t>;

// Memory of one tensor that is C-contiguous and aligned.
struct Buffer {
    std::uint64_t address;
    std::uint64_t bytes;
    Shape shape;
    Precision precision;
    bool writable;
};

std::uint64_t size_of(Precision precision) {
    switch (precision) {
        case Precision::f32:
            return 4;
        case Precision::f64:
            return 8;
        default:
            return 2;
    }
}

std::uint64_t count(const Shape& shape) {
    std::uint64_t product = 1;
    for (const std::int64_t length : shape)
        product *= static_cast<std::uint64_t>(length);
    return product;
}

// What the header of DLPack (version 0, which every later version still answers with) defines.
struct DLTensor {
    void* data;
    std::int32_t device_type, device_id;
    std::int32_t ndim;
    std::uint8_t code, bits;
    std::uint16_t lanes;
    std::int64_t* shape;
    std::int64_t* strides;
    std::uint64_t byte_offset;
};

constexpr std::int32_t on_host = 1;
constexpr std::uint8_t ieee_float = 2, brain_float = 4;

std::optional<Precision> precision_of(const DLTensor& tensor) {
    if (tensor.lanes != 1) return std::nullopt;
    if (tensor.code == brain_float && tensor.bits == 16) return Precision::bf16;
    if (tensor.code != ieee_float) return std::nullopt;
    if (tensor.bits == 16) return Precision::f16;
    if (tensor.bits == 32) return Precision::f32;
    if (tensor.bits == 64) return Precision::f64;
    return std::nullopt;
}

// What the header of DLPack 1 defines for reading many tensors quickly. Only the last but one of
// the functions is called, which fills a DLTensor without owning it.
struct DLPackExchangeAPI {
    std::uint32_t major, minor;
    void* older;
    void (*allocate)();
    void (*managed_from_object)();
    void (*object_from_managed)();
    int (*tensor_from_object)(void* object, DLTensor* out);
    void (*current_stream)();
};

bool is_contiguous(const DLTensor& tensor) {
    std::int64_t expected = 1;
    bool ordered = true;
    for (std::int32_t k = tensor.ndim - 1; k >= 0; --k) {
        if (tensor.shape[k] == 0) return true;
        if (tensor.strides == nullptr) continue;
        ordered = ordered && (tensor.shape[k] == 1 || tensor.strides[k] == expected);
        expected *= tensor.shape[k];
    }
    return ordered;
}

std::optional<Buffer> read_dlpack(py::handle tensor) {
    PyObject* const capsule = PyObject_CallMethod(tensor.ptr(), "__dlpack__", nullptr);
    if (capsule == nullptr) {  // it wants a gradient, or is of a kind that cannot be passed on
        PyErr_Clear();
        return std::nullopt;
    }
    const py::object owner = py::reinterpret_steal<py::object>(capsule);  // frees what it made
    if (PyCapsule_IsValid(capsule, "dltensor") == 0) return std::nullopt;
    const DLTensor& found =
        *static_cast<const DLTensor*>(PyCapsule_GetPointer(capsule, "dltensor"));
    const std::optional<Precision> precision = precision_of(found);
    if (found.device_type != on_host || !precision || !is_contiguous(found)) return std::nullopt;
    Buffer buffer{reinterpret_cast<std::uint64_t>(found.data) + found.byte_offset, 0,
                  Shape(found.shape, found.shape + found.ndim), *precision, true};
    buffer.bytes = count(buffer.shape) * size_of(*precision);
    if (buffer.address % size_of(*precision) != 0) return std::nullopt;
    return buffer;
}

std::optional<Buffer> read_numpy(const py::array& array) {
    using constants = py::detail::npy_api::constants;
    constexpr int half = 23;  // NPY_HALF
    constexpr int wanted = constants::NPY_ARRAY_C_CONTIGUOUS_ | constants::NPY_ARRAY_ALIGNED_;
    const py::dtype dtype = array.dtype();
    if ((array.flags() & wanted) != wanted || dtype.byteorder() != '=') return std::nullopt;
    Buffer buffer{reinterpret_cast<std::uint64_t>(array.data()), 0,
                  Shape(array.shape(), array.shape() + array.ndim()), Precision::f32,
                  array.writeable()};
    if (dtype.num() == constants::NPY_DOUBLE_)
        buffer.precision = Precision::f64;
    else if (dtype.num() == half)
        buffer.precision = Precision::f16;
    else if (dtype.num() != constants::NPY_FLOAT_)
        return std::nullopt;
    buffer.bytes = count(buffer.shape) * size_of(buffer.precision);
    return buffer;
}

// The memory of all tensors of a step, and whether it may be used so.
class Collector {
  public:
    Collector(py::handle array_type, py::handle tensor_type)
        : array_type_(array_type), tensor_type_(tensor_type) {}

    std::vector<std::int64_t> sizes;
    std::vector<std::uint64_t> w, gradients, duals, moments, sums, copies;
    std::int64_t clients = 0;
    Precision precision = Precision::f32, gradient_precision = Precision::f32,
              copy_precision = Precision::f16, state_precision = Precision::f32;

    bool add_weight(py::handle item) {
        const std::optional<Buffer> buffer = read(item);
        if (!buffer || !buffer->writable || size_of(buffer->precision) == 2) return false;
        if (w.empty()) precision = state_precision = buffer->precision;
        if (buffer->precision != precision) return false;
        shape_ = buffer->shape;
        sizes.push_back(static_cast<std::int64_t>(count(shape_)));
        take(*buffer, true, w);
        return true;
    }

    // One tensor of the shape of the weights.
    bool add_alike(py::handle item, std::vector<std::uint64_t>& list, bool is_copy) {
        const std::optional<Buffer> buffer = read(item);
        if (!buffer || !buffer->writable || buffer->shape != shape_) return false;
        if (is_copy) {
            if (size_of(buffer->precision) != 2) return false;
            if (list.empty()) copy_precision = buffer->precision;
        }
        if (buffer->precision != (is_copy ? copy_precision : precision)) return false;
        take(*buffer, true, list);
        return true;
    }

    // One tensor for each client, or one whose first axis are the clients.
    bool add_clients(py::handle item, std::vector<std::uint64_t>& list, bool is_state) {
        const std::size_t before = list.size();
        if (PyList_Check(item.ptr()) || PyTuple_Check(item.ptr())) {
            for (const py::handle part : py::reinterpret_borrow<py::sequence>(item))
                if (!add_part(part, list, is_state, false)) return false;
        } else if (!add_part(item, list, is_state, true)) {
            return false;
        }
        const auto found = static_cast<std::int64_t>(list.size() - before);
        if (clients == 0) clients = found;
        return found == clients && found > 0;
    }

    // Whether nothing that is written shares memory with anything else.
    bool is_disjoint() {
        std::sort(spans_.begin(), spans_.end(),
                  [](const Span& a, const Span& b) { return a.begin < b.begin; });
        std::uint64_t reach = 0, written_reach = 0;
        for (const Span& span : spans_) {
            if (span.begin < (span.written ? reach : written_reach)) return false;
            reach = std::max(reach, span.end);
            if (span.written) written_reach = std::max(written_reach, span.end);
        }
        return true;
    }

  private:
    struct Span {
        std::uint64_t begin, end;
        bool written;
    };

    std::optional<Buffer> read(py::handle item) const {
        const py::handle type = py::type::handle_of(item);
        if (type.is(array_type_)) return read_numpy(py::reinterpret_borrow<py::array>(item));
        if (type.is(tensor_type_)) return read_dlpack(item);
        return std::nullopt;
    }

    void take(const Buffer& buffer, bool written, std::vector<std::uint64_t>& list) {
        list.push_back(buffer.address);
        if (buffer.bytes > 0)
            spans_.push_back({buffer.address, buffer.address + buffer.bytes, written});
    }

    bool add_part(py::handle item, std::vector<std::uint64_t>& list, bool is_state,
                  bool may_be_stacked) {
        std::optional<Buffer> buffer = read(item);
        if (!buffer || (is_state && !buffer->writable)) return false;
        if (!is_state && gradients.empty()) gradient_precision = buffer->precision;
        if (is_state && duals.empty() && buffer->precision == Precision::bf16 &&
            precision == Precision::f32)
            state_precision = Precision::bf16;
        if (buffer->precision != (is_state ? state_precision : gradient_precision)) return false;
        if (buffer->shape == shape_) {
            take(*buffer, is_state, list);
            return true;
        }
        if (!may_be_stacked || buffer->shape.size() != shape_.size() + 1 ||
            !std::equal(shape_.begin(), shape_.end(), buffer->shape.begin() + 1))
            return false;
        const std::int64_t stacked = buffer->shape[0];
        const std::uint64_t stride = count(shape_) * size_of(buffer->precision);
        std::vector<std::uint64_t> first;
        take(*buffer, is_state, first);
        for (std::int64_t i = 0; i < stacked; ++i)
            list.push_back(first[0] + static_cast<std::uint64_t>(i) * stride);
        return true;
    }

    py::handle array_type_, tensor_type_;
    Shape shape_;  // of the weights that the next tensors belong to
    std::vector<Span> spans_;
};

template <class T>
py::array_t<T> as_array(const std::vector<T>& list) {
    return py::array_t<T>(static_cast<py::ssize_t>(list.size()), list.data());
}

py::object as_optional(const std::vector<std::uint64_t>& list) {
    return list.empty() ? py::object(py::none()) : py::object(as_array(list));
}

bool fits(py::handle list, std::size_t length) {
    if (list.is_none()) return true;
    if (!PyList_Check(list.ptr()) && !PyTuple_Check(list.ptr())) return false;
    return static_cast<std::size_t>(PySequence_Size(list.ptr())) == length;
}

py::handle item_of(py::handle list, std::size_t k) {  // borrowed
    const auto at = static_cast<py::ssize_t>(k);
    return PyList_Check(list.ptr()) ? PyList_GET_ITEM(list.ptr(), at)
                                    : PyTuple_GET_ITEM(list.ptr(), at);
}

py::object tensors(py::handle w, py::handle gradients, py::handle duals, py::handle moments,
                   py::handle sums, py::handle copies, py::handle array_type,
                   py::handle tensor_type) {
    const py::none nothing;
    if (!PyList_Check(w.ptr()) && !PyTuple_Check(w.ptr())) return nothing;
    const auto length = static_cast<std::size_t>(PySequence_Size(w.ptr()));
    for (const py::handle list : {gradients, duals, moments, sums, copies})
        if (!fits(list, length)) return nothing;
    Collector found(array_type, tensor_type);
    for (std::size_t k = 0; k < length; ++k) {
        bool fine = found.add_weight(item_of(w, k));
        if (fine && !gradients.is_none())
            fine = found.add_clients(item_of(gradients, k), found.gradients, false);
        if (fine && !duals.is_none())
            fine = found.add_clients(item_of(duals, k), found.duals, true);
        if (fine && !moments.is_none())
            fine = found.add_clients(item_of(moments, k), found.moments, true);
        if (fine && !sums.is_none()) fine = found.add_alike(item_of(sums, k), found.sums, false);
        if (fine && !copies.is_none())
            fine = found.add_alike(item_of(copies, k), found.copies, true);
        if (!fine) return nothing;
    }
    if (length == 0 || !found.is_disjoint()) return nothing;
    return py::make_tuple(
        as_array(found.sizes), as_array(found.w), as_array(found.gradients), as_array(found.duals),
        as_optional(found.moments), as_optional(found.sums), as_optional(found.copies),
        found.clients, static_cast<int>(found.precision),
        static_cast<int>(found.gradient_precision), static_cast<int>(found.copy_precision),
        static_cast<int>(found.state_precision));
}

// Where tensors of one precision begin that are C-contiguous in host memory; None where one of them
// is anything else.
py::object tensor_addresses(const py::list& tensors, py::handle tensor_type, py::handle exchange,
                            int precision) {
    const auto* const api = static_cast<const DLPackExchangeAPI*>(
        PyCapsule_GetPointer(exchange.ptr(), "dlpack_exchange_api"));
    if (api == nullptr) throw py::error_already_set();
    const py::none nothing;
    if (api->major != 1 || api->tensor_from_object == nullptr) return nothing;
    py::array_t<std::uint64_t> found(static_cast<py::ssize_t>(tensors.size()));
    std::uint64_t* next = found.mutable_data();
    for (const py::handle item : tensors) {
        if (!py::isinstance(item, tensor_type)) return nothing;
        DLTensor tensor;
        if (api->tensor_from_object(item.ptr(), &tensor) != 0) {
            PyErr_Clear();
            return nothing;
        }
        const std::optional<Precision> own = precision_of(tensor);
        if (!own || static_cast<int>(*own) != precision || tensor.device_type != on_host ||
            !is_contiguous(tensor))
            return nothing;
        *next++ = reinterpret_cast<std::uint64_t>(tensor.data) + tensor.byte_offset;
    }
    return found;
}

}  // namespace

void register_admm_tensors(py::module_& module) {
    module.def("admm_tensors", &tensors, py::arg("w"), py::arg("gradients"), py::arg("duals"),
               py::arg("moments"), py::arg("sums"), py::arg("copies"), py::arg("array_type"),
               py::arg("tensor_type"));
    module.def("admm_addresses", &tensor_addresses, py::arg("tensors"), py::arg("tensor_type"),
               py::arg("exchange"), py::arg("precision"));
}

}  // namespace hl
