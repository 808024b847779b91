#include <pybind11/pybind11.h>

#include <optional>
#include <vector>

#include "../core/bind_arrays.hpp"
#include "../core/dispatch.hpp"
#include "bind.hpp"
#include "step_kernels.hpp"

namespace py = pybind11;

HL_DECLARE_TABLES(AdmmStepTable, admm_step_table)

namespace hl {
namespace {

using Addresses = Array<std::uint64_t>;

constexpr py::ssize_t numbers_per_client = sizeof(SisaScalars<float>) / sizeof(float);

std::vector<std::int64_t> first_tasks(const Array<std::int64_t>& sizes) {
    std::vector<std::int64_t> first(static_cast<std::size_t>(sizes.size()) + 1, 0);
    for (py::ssize_t k = 0; k < sizes.size(); ++k) {
        const auto i = static_cast<std::size_t>(k);
        first[i + 1] = first[i] + (sizes.data()[k] + elements_per_task - 1) / elements_per_task;
    }
    return first;
}

const std::uint64_t* addresses(const std::optional<Addresses>& list, py::ssize_t count,
                               const char* name) {
    if (!list) return nullptr;
    if (list->size() != count)
        throw py::value_error(std::string("admm: ") + name + " has the wrong length");
    return list->data();
}

template <class T>
void sisa(Status (*kernel)(const SisaJob<T>&), const Array<std::int64_t>& sizes, const Addresses& w,
          const Addresses& gradients, const Addresses& duals,
          const std::optional<Addresses>& moments, const std::optional<Addresses>& sums,
          const std::optional<Addresses>& copies, const std::optional<Addresses>& rows,
          int gradient_precision, int copy_precision, int kind, const Array<T>& scalars, T scale,
          T shrink, bool starts, bool finishes, std::uint64_t seed, std::int64_t step,
          int num_threads) {
    const py::ssize_t tensors = sizes.size();
    const py::ssize_t clients = scalars.size() / numbers_per_client;
    if (scalars.size() != clients * numbers_per_client || w.size() != tensors ||
        gradients.size() != tensors * clients || duals.size() != tensors * clients)
        throw py::value_error("admm: the lists of addresses must agree in length");
    const std::vector<std::int64_t> first = first_tasks(sizes);
    const SisaJob<T> job{{tensors, sizes.data(), first.data()},
                         clients,
                         w.data(),
                         gradients.data(),
                         duals.data(),
                         addresses(moments, tensors * clients, "moments"),
                         addresses(sums, tensors, "sums"),
                         addresses(copies, tensors, "copies"),
                         static_cast<Precision>(gradient_precision),
                         static_cast<Precision>(copy_precision),
                         static_cast<Preconditioner>(kind),
                         reinterpret_cast<const SisaScalars<T>*>(scalars.data()),
                         {scale, shrink},
                         starts,
                         finishes,
                         {addresses(rows, tensors * clients, "rows"), seed, step},
                         num_threads};
    const bool needs_moments =
        job.kind == Preconditioner::diagonal || job.kind == Preconditioner::second_moment;
    if ((needs_moments && clients > 0 && job.moments == nullptr) ||
        (job.sums == nullptr && !(starts && finishes)))
        throw py::value_error("admm: moments or sums are missing");
    if (sizeof(T) != 4 && job.rounded.rows != nullptr)
        throw py::value_error("admm: only the state of float32 may be kept in bfloat16");
    Status status = Status::success();
    {
        py::gil_scoped_release release;
        status = kernel(job);
    }
    throw_status(status);
}

template <class T>
void momentum(Status (*kernel)(const MomentumJob<T>&), const Array<std::int64_t>& sizes,
              const Addresses& gradients, const Addresses& momenta, const Addresses& out,
              int gradient_precision, T beta, T gradient_scale, int num_threads) {
    const py::ssize_t tensors = sizes.size();
    if (gradients.size() != tensors || momenta.size() != tensors || out.size() != tensors)
        throw py::value_error("admm: the lists of addresses must agree in length");
    const std::vector<std::int64_t> first = first_tasks(sizes);
    const MomentumJob<T> job{{tensors, sizes.data(), first.data()},
                             gradients.data(),
                             momenta.data(),
                             out.data(),
                             static_cast<Precision>(gradient_precision),
                             beta,
                             gradient_scale,
                             num_threads};
    Status status = Status::success();
    {
        py::gil_scoped_release release;
        status = kernel(job);
    }
    throw_status(status);
}

template <class T, class Choose>
void define_sisa(py::module_& module, const char* name, Choose choose) {
    module.def(
        name,
        [choose](const Array<std::int64_t>& sizes, const Addresses& w, const Addresses& gradients,
                 const Addresses& duals, const std::optional<Addresses>& moments,
                 const std::optional<Addresses>& sums, const std::optional<Addresses>& copies,
                 const std::optional<Addresses>& rows, int gradient_precision, int copy_precision,
                 int kind, const Array<T>& scalars, T scale, T shrink, bool starts, bool finishes,
                 std::uint64_t seed, std::int64_t step, int num_threads) {
            sisa<T>(choose(HL_ACTIVE_TABLE(admm_step_table)), sizes, w, gradients, duals, moments,
                    sums, copies, rows, gradient_precision, copy_precision, kind, scalars, scale,
                    shrink, starts, finishes, seed, step, num_threads);
        },
        py::arg("sizes").noconvert(), py::arg("w").noconvert(), py::arg("gradients").noconvert(),
        py::arg("duals").noconvert(), py::arg("moments").noconvert(), py::arg("sums").noconvert(),
        py::arg("copies").noconvert(), py::arg("rows").noconvert(), py::arg("gradient_precision"),
        py::arg("copy_precision"), py::arg("kind"), py::arg("scalars").noconvert(),
        py::arg("scale"), py::arg("shrink"), py::arg("starts"), py::arg("finishes"),
        py::arg("seed"), py::arg("step"), py::arg("num_threads"));
}

template <class T, class Choose>
void define_momentum(py::module_& module, const char* name, Choose choose) {
    module.def(
        name,
        [choose](const Array<std::int64_t>& sizes, const Addresses& gradients,
                 const Addresses& momenta, const Addresses& out, int gradient_precision, T beta,
                 T gradient_scale, int num_threads) {
            momentum<T>(choose(HL_ACTIVE_TABLE(admm_step_table)), sizes, gradients, momenta, out,
                        gradient_precision, beta, gradient_scale, num_threads);
        },
        py::arg("sizes").noconvert(), py::arg("gradients").noconvert(),
        py::arg("momenta").noconvert(), py::arg("out").noconvert(), py::arg("gradient_precision"),
        py::arg("beta"), py::arg("gradient_scale"), py::arg("num_threads"));
}

}  // namespace

void register_admm_step(py::module_& module) {
    define_sisa<float>(module, "admm_sisa_float32",
                       [](const AdmmStepTable& t) { return t.sisa_f32; });
    define_sisa<double>(module, "admm_sisa_float64",
                        [](const AdmmStepTable& t) { return t.sisa_f64; });
    define_momentum<float>(module, "admm_momentum_float32",
                           [](const AdmmStepTable& t) { return t.momentum_f32; });
    define_momentum<double>(module, "admm_momentum_float64",
                            [](const AdmmStepTable& t) { return t.momentum_f64; });
}

}  // namespace hl
