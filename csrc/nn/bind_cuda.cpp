// Networks on the device. _cuda.py has checked the program (through the host's NnProgram) and what
// the addresses lead to; it allocates all memory.
#include <pybind11/pybind11.h>

#include <cstddef>
#include <cstring>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "../core/bind_arrays.hpp"
#include "../core/bind_cuda.hpp"
#include "cuda.hpp"

namespace py = pybind11;

namespace hl {
namespace {

using Addresses = std::vector<Address>;
// indptr, indices, values, columns, transform, totals
using Table = std::tuple<Address, Address, Address, std::int64_t, std::int64_t, Address>;

template <class T>
std::vector<T*> pointers(const Addresses& addresses) {
    std::vector<T*> list;
    for (const Address address : addresses)
        list.push_back(pointer<T>(address));
    return list;
}

template <class T>
NnSparse<T> sparse_of(const Table& table) {
    const auto& [indptr, indices, values, columns, transform, totals] = table;
    return {pointer<const std::int64_t>(indptr),
            pointer<const std::int32_t>(indices),
            pointer<const T>(values),
            columns,
            transform,
            pointer<const T>(totals)};
}

std::vector<NnInstruction> read_instructions(const Array<std::int64_t>& fields,
                                             const Array<double>& constants) {
    static_assert(offsetof(NnInstruction, constants) == 8 * nn_instruction_integers, "no gaps");
    if (fields.ndim() != 2 || fields.shape(1) != nn_instruction_integers ||
        constants.size() != fields.shape(0) * nn_instruction_reals)
        throw py::value_error("NnDevicePass: instructions must have shape (n, 17)");
    std::vector<NnInstruction> list(static_cast<std::size_t>(fields.shape(0)));
    for (std::size_t n = 0; n < list.size(); ++n) {
        std::memcpy(&list[n], fields.data() + n * nn_instruction_integers,
                    8 * nn_instruction_integers);
        std::memcpy(list[n].constants, constants.data() + n * nn_instruction_reals,
                    8 * nn_instruction_reals);
    }
    return list;
}

template <class T>
struct Kernels;
template <>
struct Kernels<float> {
    static constexpr auto forward = hl_cuda_nn_forward_f32, backward = hl_cuda_nn_backward_f32;
    static constexpr auto loss = hl_cuda_nn_loss_f32;
    static constexpr auto update = hl_cuda_nn_update_f32;
    static constexpr auto gather = hl_cuda_nn_gather_f32;
};
template <>
struct Kernels<double> {
    static constexpr auto forward = hl_cuda_nn_forward_f64, backward = hl_cuda_nn_backward_f64;
    static constexpr auto loss = hl_cuda_nn_loss_f64;
    static constexpr auto update = hl_cuda_nn_update_f64;
    static constexpr auto gather = hl_cuda_nn_gather_f64;
};

// A program with the device's memory for one batch of up to `capacity` rows. All gradients are
// cleared before a backward pass, so that whoever has a share just adds it.
template <class T>
class DevicePass {
  public:
    DevicePass(const Array<std::int64_t>& instructions, const Array<double>& constants,
               std::vector<std::int64_t> widths, std::int64_t num_inputs,
               std::int64_t num_parameters, std::int64_t capacity, const Addresses& values,
               const Addresses& statistics, const Addresses& matrices)
        : instructions_(read_instructions(instructions, constants)),
          widths_(std::move(widths)),
          values_(pointers<T>(values)),
          gradients_(widths_.size(), nullptr),
          statistics_(pointers<double>(statistics)) {
        if (values_.size() != widths_.size() || statistics_.size() != instructions_.size() ||
            matrices.size() != instructions_.size())
            throw py::value_error("NnDevicePass: lists must have one entry for each slot");
        for (const Address matrix : matrices)
            entries_.push_back({nullptr, pointer<T>(matrix), nullptr, nullptr, nullptr, 0});
        pass_.plan.program = {instructions_.data(),
                              static_cast<std::int64_t>(instructions_.size()),
                              widths_.data(),
                              static_cast<std::int64_t>(widths_.size()),
                              num_inputs,
                              num_parameters,
                              0};
        pass_.arena = {capacity, values_.data(), gradients_.data(), statistics_.data(),
                       entries_.data()};
    }

    void set_gradients(const Addresses& gradients) {
        if (gradients.size() != widths_.size())
            throw py::value_error("NnDevicePass: there must be a gradient for each slot");
        gradients_ = pointers<T>(gradients);
        duties_.clear();
        for (const NnInstruction& it : instructions_)
            duties_.push_back(duty_of(it));
        pass_.plan.duties = duties_.data();
        pass_.arena.gradients = gradients_.data();
    }

    void forward(const Addresses& dense, const std::vector<Table>& sparse, const Addresses& indices,
                 Address rows, Address parameters, Address buffers, std::int64_t count,
                 bool training, std::uint64_t seed, std::int64_t step, int device, Address stream) {
        dense_ = pointers<const T>(dense);
        indices_ = pointers<const std::int32_t>(indices);
        sparse_.clear();
        for (const Table& table : sparse)
            sparse_.push_back(sparse_of<T>(table));
        if (dense_.size() < static_cast<std::size_t>(pass_.plan.program.num_inputs) || count < 0 ||
            count > pass_.arena.capacity)
            throw py::value_error("NnDevicePass: the tables do not fit the program");
        pass_.tables = {dense_.data(),
                        static_cast<std::int64_t>(dense_.size()),
                        sparse_.data(),
                        static_cast<std::int64_t>(sparse_.size()),
                        indices_.data(),
                        static_cast<std::int64_t>(indices_.size()),
                        pointer<const std::int64_t>(rows)};
        pass_.parameters = pointer<const T>(parameters);
        pass_.parameter_gradient = nullptr;
        pass_.buffers = pointer<T>(buffers);
        pass_.rows = count;
        pass_.training = training;
        pass_.seed = seed;
        pass_.step = step;
        call_on_stream(Kernels<T>::forward, pass_, device, stream);
    }

    void clear(Address parameter_gradient, int device, Address stream) const {
        make_current(device);
        const auto zero = [&](T* data, std::int64_t count) {
            if (data == nullptr) return;
            const std::size_t bytes = sizeof(T) * static_cast<std::size_t>(count);
            throw_status(cuda_status(
                "nn_backward",
                cudaMemsetAsync(data, 0, bytes, static_cast<cudaStream_t>(pointer<void>(stream)))));
        };
        for (std::size_t s = 0; s < widths_.size(); ++s)
            zero(gradients_[s], pass_.rows * widths_[s]);
        zero(pointer<T>(parameter_gradient), pass_.plan.program.num_parameters);
    }

    void backward(Address parameter_gradient, int device, Address stream) {
        if (duties_.empty()) throw py::value_error("NnDevicePass: there are no gradients");
        pass_.parameter_gradient = pointer<T>(parameter_gradient);
        call_on_stream(Kernels<T>::backward, pass_, device, stream);
    }

  private:
    NnDuty duty_of(const NnInstruction& it) const {
        const NnOperation operation = static_cast<NnOperation>(it.operation);
        const bool by_table =
            operation == NnOperation::sparse_dense || operation == NnOperation::embedding;
        const auto needs = [&](const NnOperand& operand) {
            return operand.slot >= 0 &&
                   gradients_[static_cast<std::size_t>(operand.slot)] != nullptr;
        };
        return {!by_table && needs(it.input), needs(it.addend), true, true, true, true};
    }

    std::vector<NnInstruction> instructions_;
    std::vector<std::int64_t> widths_;
    std::vector<T*> values_, gradients_;
    std::vector<double*> statistics_;
    std::vector<NnEntries<T>> entries_;
    std::vector<NnDuty> duties_;
    std::vector<const T*> dense_;
    std::vector<NnSparse<T>> sparse_;
    std::vector<const std::int32_t*> indices_;
    NnPass<T> pass_{};
};

template <class T>
void loss(int kind, Address logits, std::int64_t stride, std::int64_t rows, std::int64_t width,
          Address dense_target, const std::optional<Table>& counts, Address labels,
          Address table_rows, Address log_theta, std::int64_t num_groups, Address groups,
          double constant, double weight, Address gradient, std::int64_t gradient_stride,
          Address log_theta_gradient, Address row_losses, Address scratch, int device,
          Address stream) {
    const NnSparse<T> table = counts ? sparse_of<T>(*counts) : NnSparse<T>{};
    const NnLossJob<T> job{static_cast<NnLossKind>(kind),
                           pointer<const T>(logits),
                           stride,
                           rows,
                           width,
                           pointer<const T>(dense_target),
                           counts ? &table : nullptr,
                           pointer<const std::int32_t>(labels),
                           pointer<const std::int64_t>(table_rows),
                           pointer<const T>(log_theta),
                           num_groups,
                           pointer<const std::int32_t>(groups),
                           constant,
                           weight,
                           pointer<T>(gradient),
                           gradient_stride,
                           1,
                           pointer<T>(log_theta_gradient),
                           pointer<double>(row_losses),
                           pointer<T>(scratch),
                           1,
                           rows};
    call_on_stream(Kernels<T>::loss, job, device, stream);
}

template <class T>
void update(bool decoupled, const std::vector<double>& numbers, Address no_decay,
            std::int64_t num_no_decay, Address parameters, Address first_moment,
            Address second_moment, Address average, Address gradient, std::int64_t count,
            double learning_rate, std::int64_t step, Address partial_sums, Address norm, int device,
            Address stream) {
    if (numbers.size() != 6) throw py::value_error("nn_update: there must be six numbers");
    const NnUpdateJob<T> job{{decoupled ? NnOptimizerKind::adamw : NnOptimizerKind::adam,
                              numbers[0], numbers[1], numbers[2], numbers[3], numbers[4],
                              numbers[5], pointer<const NnRange>(no_decay), num_no_decay},
                             {pointer<T>(parameters), pointer<T>(first_moment),
                              pointer<T>(second_moment), pointer<T>(average)},
                             pointer<const T>(gradient),
                             count,
                             learning_rate,
                             step,
                             pointer<double>(partial_sums),
                             pointer<double>(norm),
                             1};
    call_on_stream(Kernels<T>::update, job, device, stream);
}

template <class T>
void gather(Address source, Address rows, std::int64_t count, std::int64_t width, Address target,
            int device, Address stream) {
    call_on_stream(Kernels<T>::gather,
                   NnGather<T>{pointer<const T>(source), pointer<const std::int64_t>(rows), count,
                               width, pointer<T>(target)},
                   device, stream);
}

template <class T>
void define_network(py::module_& module, const std::string& name, const char* type) {
    py::class_<DevicePass<T>>(module, type)
        .def(py::init<const Array<std::int64_t>&, const Array<double>&, std::vector<std::int64_t>,
                      std::int64_t, std::int64_t, std::int64_t, const Addresses&, const Addresses&,
                      const Addresses&>(),
             py::arg("instructions").noconvert(), py::arg("constants").noconvert(),
             py::arg("widths"), py::arg("num_inputs"), py::arg("num_parameters"),
             py::arg("capacity"), py::arg("values"), py::arg("statistics"), py::arg("matrices"))
        .def("set_gradients", &DevicePass<T>::set_gradients, py::arg("gradients"))
        .def("forward", &DevicePass<T>::forward, py::arg("dense"), py::arg("sparse"),
             py::arg("indices"), py::arg("rows"), py::arg("parameters"), py::arg("buffers"),
             py::arg("count"), py::arg("training"), py::arg("seed"), py::arg("step"),
             py::arg("device"), py::arg("stream"))
        .def("clear", &DevicePass<T>::clear, py::arg("parameter_gradient"), py::arg("device"),
             py::arg("stream"))
        .def("backward", &DevicePass<T>::backward, py::arg("parameter_gradient"), py::arg("device"),
             py::arg("stream"));
    module.def(("nn_loss_" + name).c_str(), &loss<T>, py::arg("kind"), py::arg("logits"),
               py::arg("stride"), py::arg("rows"), py::arg("width"), py::arg("dense_target"),
               py::arg("counts"), py::arg("labels"), py::arg("table_rows"), py::arg("log_theta"),
               py::arg("num_groups"), py::arg("groups"), py::arg("constant"), py::arg("weight"),
               py::arg("gradient"), py::arg("gradient_stride"), py::arg("log_theta_gradient"),
               py::arg("row_losses"), py::arg("scratch"), py::arg("device"), py::arg("stream"));
    module.def(("nn_update_" + name).c_str(), &update<T>, py::arg("decoupled"), py::arg("numbers"),
               py::arg("no_decay"), py::arg("num_no_decay"), py::arg("parameters"),
               py::arg("first_moment"), py::arg("second_moment"), py::arg("average"),
               py::arg("gradient"), py::arg("count"), py::arg("learning_rate"), py::arg("step"),
               py::arg("partial_sums"), py::arg("norm"), py::arg("device"), py::arg("stream"));
    module.def(("nn_gather_" + name).c_str(), &gather<T>, py::arg("source"), py::arg("rows"),
               py::arg("count"), py::arg("width"), py::arg("target"), py::arg("device"),
               py::arg("stream"));
    module.def(("nn_loss_scratch_" + name).c_str(),
               [](int kind, std::int64_t rows, std::int64_t width, std::int64_t groups) {
                   return nn_cuda_loss_scratch(static_cast<NnLossKind>(kind), rows, width, groups);
               });
}

}  // namespace

void register_nn_cuda(py::module_& module) {
    define_network<float>(module, "float32", "NnDevicePassFloat32");
    define_network<double>(module, "float64", "NnDevicePassFloat64");
}

}  // namespace hl
