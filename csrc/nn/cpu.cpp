// A pass runs the instructions in their order, or from the last to the first.
#include "cpu.hpp"

#include "tile.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace {

constexpr std::int64_t copied_rows = 64;  // of one task

// Dense inputs become the first slots.
template <class T>
HL_INLINE Status gather_input(const NnPass<T>& pass, std::int64_t slot) {
    const T* const from = pass.tables.dense[slot];
    T* const to = pass.arena.values[slot];
    if (from == nullptr || from == to) return Status::success();
    const std::int64_t width = pass.plan.program.widths[slot];
    const std::size_t bytes = sizeof(T) * static_cast<std::size_t>(width);
    return over_tasks(parts(pass.rows, copied_rows), product_of(pass.rows, width), pass.num_threads,
                      [&](std::int64_t task) {
                          const std::int64_t first = task * copied_rows;
                          const std::int64_t last = smaller(first + copied_rows, pass.rows);
                          for (std::int64_t r = first; r < last; ++r)
                              __builtin_memcpy(to + r * width,
                                               from + table_row(pass.tables, r) * width, bytes);
                      });
}

template <class T>
Status read_columns(const NnRead<T>& job) {
    const std::size_t bytes = sizeof(T) * static_cast<std::size_t>(job.width);
    return over_tasks(parts(job.rows, copied_rows), product_of(job.rows, job.width),
                      job.num_threads, [&](std::int64_t task) {
                          const std::int64_t first = task * copied_rows;
                          const std::int64_t last = smaller(first + copied_rows, job.rows);
                          for (std::int64_t r = first; r < last; ++r)
                              __builtin_memcpy(job.out + r * job.width, job.from + r * job.stride,
                                               bytes);
                      });
}

template <class T>
HL_INLINE Status forward_one(const NnPass<T>& pass, const NnInstruction& it, std::int64_t n) {
    switch (static_cast<NnOperation>(it.operation)) {
        case NnOperation::dense:
            return dense_forward(pass, it, n);
        case NnOperation::sparse_dense:
            return sparse_dense_forward(pass, it, n);
        case NnOperation::activation:
            return activation_forward(pass, it, n);
        case NnOperation::batch_norm:
            return batch_norm_forward(pass, it, n);
        case NnOperation::layer_norm:
            return layer_norm_forward(pass, it, n);
        case NnOperation::dropout:
            return dropout_forward(pass, it, n);
        case NnOperation::embedding:
            return embedding_forward(pass, it, n);
        case NnOperation::time_embedding:
            return time_embedding_forward(pass, it, n);
    }
    return Status::invalid_argument("nn: unknown operation", n);
}

template <class T>
HL_INLINE Status backward_one(const NnPass<T>& pass, const NnInstruction& it, std::int64_t n) {
    switch (static_cast<NnOperation>(it.operation)) {
        case NnOperation::dense:
            return dense_backward(pass, it, n);
        case NnOperation::sparse_dense:
            return sparse_dense_backward(pass, it, n);
        case NnOperation::activation:
            return activation_backward(pass, it, n);
        case NnOperation::batch_norm:
            return batch_norm_backward(pass, it, n);
        case NnOperation::layer_norm:
            return layer_norm_backward(pass, it, n);
        case NnOperation::dropout:
            return dropout_backward(pass, it, n);
        case NnOperation::embedding:
            return embedding_backward(pass, it, n);
        case NnOperation::time_embedding:
            return time_embedding_backward(pass, it, n);
    }
    return Status::invalid_argument("nn: unknown operation", n);
}

template <class T>
Status forward(const NnPass<T>& pass) {
    for (std::int64_t s = 0; s < pass.plan.program.num_inputs; ++s) {
        const Status status = gather_input(pass, s);
        if (!status.ok()) return status;
    }
    for (std::int64_t n = 0; n < pass.plan.program.num_instructions; ++n) {
        if (stop_requested()) return Status::interrupted("nn_forward");
        const Status status = forward_one(pass, pass.plan.program.instructions[n], n);
        if (!status.ok()) return status;
    }
    return Status::success();
}

// The gradients of what the losses read are there already.
template <class T>
Status backward(const NnPass<T>& pass) {
    for (std::int64_t n = pass.plan.program.num_instructions - 1; n >= 0; --n) {
        const NnInstruction& it = pass.plan.program.instructions[n];
        if (pass.arena.gradients[it.output.slot] == nullptr) continue;
        if (stop_requested()) return Status::interrupted("nn_backward");
        const Status status = backward_one(pass, it, n);
        if (!status.ok()) return status;
    }
    return Status::success();
}

template <class T>
Status activate(NnActivation kind, const T* x, T* out, std::int64_t count, int mode,
                int num_threads) {
    constexpr std::int64_t elements = 1 << 13;
    return over_tasks(parts(count, elements), 16 * static_cast<double>(count), num_threads,
                      [&](std::int64_t task) {
                          const std::int64_t begin = task * elements;
                          with_activation(kind, [&](auto activation) {
                              for_columns<T>(begin, smaller(begin + elements, count),
                                             [&](auto pack, std::int64_t j) {
                                                 using V = decltype(pack);
                                                 const V a = load<V>(x + j);
                                                 const V y = activation.value(a);
                                                 store(out + j,
                                                       mode == 0 ? y : activation.slope(a, y));
                                             });
                          });
                      });
}

}  // namespace

Status nn_forward(const NnPass<float>& pass) {
    return forward(pass);
}
Status nn_forward(const NnPass<double>& pass) {
    return forward(pass);
}
Status nn_backward(const NnPass<float>& pass) {
    return backward(pass);
}
Status nn_backward(const NnPass<double>& pass) {
    return backward(pass);
}

namespace {

bool tiles_supported(const NnProgram& program) {
    return tile_supports(program, true);
}

std::int64_t scratch_of_tile(std::int64_t widest) {
    return tile_scratch(widest);
}

}  // namespace

extern const NnTable nn_table;
const NnTable nn_table = {
    {nn_forward, nn_backward, nn_loss, nn_update, nn_train, nn_evaluate, activate<float>,
     read_columns<float>},
    {nn_forward, nn_backward, nn_loss, nn_update, nn_train, nn_evaluate, activate<double>,
     read_columns<double>},
    tiles_supported,
    scratch_of_tile,
};

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
