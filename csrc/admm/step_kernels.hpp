// The step kernels on foreign gradients: what the drivers take and which ones there are.
#pragma once

#include <cstdint>

#include "../core/half.hpp"
#include "../core/status.hpp"
#include "step.hpp"
#include "step_rounding.hpp"

namespace hl {

// Tensors are cut into tasks of this many elements.
constexpr std::int64_t elements_per_task = 1 << 15;

struct TensorList {
    std::int64_t num_tensors;
    const std::int64_t* sizes;       // (tensors,)
    const std::int64_t* first_task;  // (tensors + 1,) the last one: how many tasks there are
};

// Addresses are those of whole tensors, `clients` of them for each tensor side by side. A step over
// all clients starts from no sums and finishes; one that is done client by client starts with the
// first, keeps `sums` between, and finishes with a call that has no clients.
template <class T>
struct SisaJob {
    TensorList list;
    std::int64_t num_clients;
    const std::uint64_t* w;          // (tensors,)
    const std::uint64_t* gradients;  // (tensors, clients)
    const std::uint64_t* duals;      // (tensors, clients)
    const std::uint64_t* moments;    // (tensors, clients), of V or of the diagonal; or null
    const std::uint64_t* sums;       // (tensors,) or null
    const std::uint64_t* copies;     // (tensors,) of w in a smaller precision, or null
    Precision gradient_precision;
    Precision copy_precision;
    Preconditioner kind;
    const SisaScalars<T>* scalars;  // (clients,)
    SisaGlobal<T> global;
    bool starts, finishes;
    RoundedState rounded;
    int num_threads;
};

template <class T>
struct MomentumJob {
    TensorList list;
    const std::uint64_t* gradients;
    const std::uint64_t* momenta;
    const std::uint64_t* out;
    Precision gradient_precision;
    T beta, gradient_scale;
    int num_threads;
};

struct AdmmStepTable {
    Status (*sisa_f32)(const SisaJob<float>&);
    Status (*sisa_f64)(const SisaJob<double>&);
    Status (*momentum_f32)(const MomentumJob<float>&);
    Status (*momentum_f64)(const MomentumJob<double>&);
};

}  // namespace hl
