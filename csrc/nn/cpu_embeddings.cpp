// Embeddings of categories and of times.
#include "fused.hpp"
#include "step_layers.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace {

namespace categories {

// A row of the table is added to each row of the batch, but not for -1.
template <class T>
Status forward(const NnPass<T>& pass, const NnInstruction& it, std::int64_t) {
    const Columns<T> y = values_of(pass, it.output), addend = values_of(pass, it.addend);
    const T* const table = parameters_at(pass, it.weight);
    const std::int32_t* const index = pass.tables.indices[it.input.slot];
    for (std::int64_t r = 0; r < pass.rows; ++r) {
        const std::int64_t k = index[table_row(pass.tables, r)];
        const T* const from = k < 0 ? nullptr : table + k * y.width;
        const T* const more = addend.exists() ? addend.row(r) : nullptr;
        for_columns<T>(0, y.width, [&](auto pack, std::int64_t j) {
            using V = decltype(pack);
            V x = from != nullptr ? load<V>(from + j) : V{};
            if (more != nullptr) x = x + load<V>(more + j);
            store(y.row(r) + j, x);
        });
    }
    return Status::success();
}

// Rows are added in their order, to some columns of the table by each task.
template <class T>
HL_INLINE void scatter(const NnPass<T>& pass, const NnInstruction& it, bool adds,
                       std::int64_t begin, std::int64_t end) {
    const Columns<T> dy = gradients_of(pass, it.output);
    T* const table = parameter_gradient_at(pass, it.weight);
    const std::int32_t* const index = pass.tables.indices[it.input.slot];
    if (!adds) {
        for (std::int64_t k = 0; k < it.input.width; ++k)
            __builtin_memset(table + k * dy.width + begin, 0,
                             sizeof(T) * static_cast<std::size_t>(end - begin));
    }
    for (std::int64_t r = 0; r < pass.rows; ++r) {
        const std::int64_t k = index[table_row(pass.tables, r)];
        if (k < 0) continue;
        T* const to = table + k * dy.width;
        for_columns<T>(begin, end, [&](auto pack, std::int64_t j) {
            using V = decltype(pack);
            store(to + j, V(load<V>(to + j) + load<V>(dy.row(r) + j)));
        });
    }
}

template <class T>
Status backward(const NnPass<T>& pass, const NnInstruction& it, std::int64_t n) {
    const NnDuty& duty = pass.plan.duties[n];
    const Columns<T> dy = gradients_of(pass, it.output);
    const Columns<T> addend = gradients_of(pass, it.addend);
    return over_tasks(parts(dy.width, columns_per_task),
                      4 * product_of(pass.rows + it.input.width, dy.width), pass.num_threads,
                      [&](std::int64_t task) {
                          const std::int64_t begin = task * columns_per_task;
                          const std::int64_t end = smaller(begin + columns_per_task, dy.width);
                          scatter(pass, it, duty.adds_weight, begin, end);
                          if (duty.needs_addend)
                              give_rows(dy, addend, duty.adds_addend, 0, pass.rows, begin, end);
                      });
}

}  // namespace categories

namespace times {

// The argument c t f_j goes up to a thousand, so it is reduced in double.
template <class T>
Status forward(const NnPass<T>& pass, const NnInstruction& it, std::int64_t n) {
    const Columns<T> x = values_of(pass, it.input), y = values_of(pass, it.output);
    const std::int64_t half = y.width / 2;
    double* const f = pass.arena.statistics[n];
    for (std::int64_t j = 0; j < half; ++j)
        f[j] = time_frequency(j, half);
    return over_tasks(parts(pass.rows, rows_per_task), 32 * product_of(pass.rows, y.width),
                      pass.num_threads, [&](std::int64_t task) {
                          const std::int64_t first = task * rows_per_task;
                          const std::int64_t last = smaller(first + rows_per_task, pass.rows);
                          for (std::int64_t r = first; r < last; ++r) {
                              const double tau = it.constants[0] * static_cast<double>(*x.row(r));
                              T* const to = y.row(r);
                              for_columns<double>(0, half, [&](auto pack, std::int64_t j) {
                                  using V = decltype(pack);
                                  V sine_value, cosine_value;
                                  sine_cosine(V(tau * load<V>(f + j)), sine_value, cosine_value);
                                  store_as(to + j, sine_value);
                                  store_as(to + half + j, cosine_value);
                              });
                          }
                      });
}

template <class T>
Status backward(const NnPass<T>& pass, const NnInstruction& it, std::int64_t n) {
    if (!pass.plan.duties[n].needs_input) return Status::success();
    const Columns<T> y = values_of(pass, it.output), dy = gradients_of(pass, it.output);
    const Columns<T> dx = gradients_of(pass, it.input);
    const std::int64_t half = y.width / 2;
    const double* const f = pass.arena.statistics[n];
    for (std::int64_t r = 0; r < pass.rows; ++r) {
        double sum = 0;
        for (std::int64_t j = 0; j < half; ++j) {
            const double turn = static_cast<double>(y.row(r)[half + j]) * dy.row(r)[j] -
                                static_cast<double>(y.row(r)[j]) * dy.row(r)[half + j];
            sum += f[j] * turn;
        }
        const T slope = static_cast<T>(it.constants[0] * sum);
        *dx.row(r) = pass.plan.duties[n].adds_input ? *dx.row(r) + slope : slope;
    }
    return Status::success();
}

}  // namespace times
}  // namespace

HL_NN_DEFINE_PASSES(embedding, categories)
HL_NN_DEFINE_PASSES(time_embedding, times)

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
