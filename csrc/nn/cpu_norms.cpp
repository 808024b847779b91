// Batch and layer normalisation; sums are in double. What is kept for the backward pass: the means,
// then the inverse deviations.
#include "fused.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace {

// Constants of some columns in the precision of the network.
template <class T>
struct Scales {
    T mean[columns_per_task], inverse[columns_per_task];

    HL_MEMBER void set(const double* means, const double* inverses, std::int64_t count) {
        for (std::int64_t j = 0; j < count; ++j) {
            mean[j] = static_cast<T>(means[j]);
            inverse[j] = static_cast<T>(inverses[j]);
        }
    }
};

// gamma and beta, which may be missing.
template <class V>
HL_INLINE V scaled(V normal, const RealOf<V>* gamma, const RealOf<V>* beta, std::int64_t j) {
    if (gamma != nullptr) normal = normal * load<V>(gamma + j);
    if (beta != nullptr) normal = normal + load<V>(beta + j);
    return normal;
}

namespace batches {

// The mean and the sum of squared deviations of columns [begin, end), in two passes.
template <class T>
HL_INLINE void moments(Columns<T> x, std::int64_t rows, std::int64_t begin, std::int64_t end,
                       double* mean, double* squares) {
    for_columns<double>(begin, end, [&](auto pack, std::int64_t j) {
        using V = decltype(pack);
        V sum{};
        for (std::int64_t r = 0; r < rows; ++r)
            sum = sum + load_as<V>(x.row(r) + j);
        const V m = sum / static_cast<double>(rows);
        V square{};
        for (std::int64_t r = 0; r < rows; ++r) {
            const V d = load_as<V>(x.row(r) + j) - m;
            square = square + d * d;
        }
        store(mean + j, m);
        store(squares + j, square);
    });
}

// The running variance is the unbiased one.
template <class T>
HL_INLINE void remember(T* mean, T* variance, double new_mean, double squares, std::int64_t rows,
                        double momentum) {
    const T keep = static_cast<T>(1.0 - momentum), take = static_cast<T>(momentum);
    *mean = keep * *mean + take * static_cast<T>(new_mean);
    *variance = keep * *variance + take * static_cast<T>(squares / static_cast<double>(rows - 1));
}

template <class T>
HL_INLINE void statistics(const NnPass<T>& pass, const NnInstruction& it, double* kept,
                          std::int64_t begin, std::int64_t end) {
    const std::int64_t width = it.output.width;
    double* const inverse = kept + width;
    T* const running = pass.buffers + it.buffer;
    if (pass.training) moments(values_of(pass, it.input), pass.rows, begin, end, kept, inverse);
    for (std::int64_t j = begin; j < end; ++j) {
        double variance;
        if (pass.training) {
            remember(running + j, running + width + j, kept[j], inverse[j], pass.rows,
                     it.constants[1]);
            variance = inverse[j] / static_cast<double>(pass.rows);
        } else {
            kept[j] = static_cast<double>(running[j]);
            variance = static_cast<double>(running[width + j]);
        }
        inverse[j] = 1.0 / square_root(variance + it.constants[0]);
    }
}

template <class T>
HL_INLINE void normalise(const NnPass<T>& pass, const NnInstruction& it, const double* kept,
                         std::int64_t begin, std::int64_t end) {
    const Columns<T> x = values_of(pass, it.input);
    const Finish<T> finish = finish_of(pass, it);
    const T* const gamma = parameters_at(pass, it.weight);
    Scales<T> scales;
    scales.set(kept + begin, kept + it.output.width + begin, end - begin);
    with_activation(finish.activation, [&](auto activation) {
        for (std::int64_t r = 0; r < pass.rows; ++r) {
            const T* const from = x.row(r);
            T* const to = finish.output.row(r);
            for_columns<T>(begin, end, [&](auto pack, std::int64_t j) {
                using V = decltype(pack);
                const V centred = load<V>(from + j) - load<V>(scales.mean + (j - begin));
                const V normal = centred * load<V>(scales.inverse + (j - begin));
                const V z = scaled(normal, gamma, finish.bias, j);
                if (finish.pre.exists()) store(finish.pre.row(r) + j, z);
                store(to + j, activation.value(z));
            });
        }
    });
}

template <class T>
Status forward(const NnPass<T>& pass, const NnInstruction& it, std::int64_t n) {
    if (pass.training && pass.rows < 2)
        return Status::invalid_argument("nn: batch_norm needs at least two rows in training");
    const std::int64_t width = it.output.width;
    return over_tasks(parts(width, columns_per_task), 24 * product_of(pass.rows, width),
                      pass.num_threads, [&](std::int64_t task) {
                          const std::int64_t begin = task * columns_per_task;
                          const std::int64_t end = smaller(begin + columns_per_task, width);
                          statistics(pass, it, pass.arena.statistics[n], begin, end);
                          normalise(pass, it, pass.arena.statistics[n], begin, end);
                      });
}

// sums of dy and of dy xh over the rows.
template <class T>
HL_INLINE void gradient_sums(Columns<T> dy, Columns<T> x, std::int64_t rows, const double* mean,
                             const double* inverse, std::int64_t begin, std::int64_t end,
                             double* sums, double* products) {
    for_columns<double>(begin, end, [&](auto pack, std::int64_t j) {
        using V = decltype(pack);
        const V m = load<V>(mean + j);
        V sum{}, product{};
        for (std::int64_t r = 0; r < rows; ++r) {
            const V g = load_as<V>(dy.row(r) + j);
            sum = sum + g;
            product = product + g * (load_as<V>(x.row(r) + j) - m);
        }
        store(sums + (j - begin), sum);
        store(products + (j - begin), V(product * load<V>(inverse + j)));
    });
}

template <class T>
HL_INLINE void give(T* gradient, bool adds, double value) {
    if (gradient == nullptr) return;
    *gradient = adds ? *gradient + static_cast<T>(value) : static_cast<T>(value);
}

// dx = gamma / (B s) (B dy - sum dy - xh sum dy xh); with running statistics only gamma / s dy.
template <class T>
HL_INLINE void inputs(const NnPass<T>& pass, const NnInstruction& it, const double* kept,
                      const double* sums, const double* products, bool adds, std::int64_t begin,
                      std::int64_t end) {
    const Columns<T> x = values_of(pass, it.input), dx = gradients_of(pass, it.input);
    const Columns<T> dy = gradients_of(pass, it.output);
    const T* const gamma = parameters_at(pass, it.weight);
    const double share = pass.training ? 1.0 / static_cast<double>(pass.rows) : 0.0;
    Scales<T> scales;
    scales.set(kept + begin, kept + it.output.width + begin, end - begin);
    T offset[columns_per_task], tilt[columns_per_task], factor[columns_per_task];
    for (std::int64_t j = begin; j < end; ++j) {
        const std::int64_t i = j - begin;
        offset[i] = static_cast<T>(sums[i] * share);
        tilt[i] = static_cast<T>(products[i] * share);
        factor[i] = gamma != nullptr ? gamma[j] * scales.inverse[i] : scales.inverse[i];
    }
    for (std::int64_t r = 0; r < pass.rows; ++r) {
        for_columns<T>(begin, end, [&](auto pack, std::int64_t j) {
            using V = decltype(pack);
            const std::int64_t i = j - begin;
            const V normal =
                (load<V>(x.row(r) + j) - load<V>(scales.mean + i)) * load<V>(scales.inverse + i);
            const V rest =
                load<V>(dy.row(r) + j) - load<V>(offset + i) - normal * load<V>(tilt + i);
            const V value = load<V>(factor + i) * rest;
            T* const to = dx.row(r) + j;
            store(to, V(adds ? load<V>(to) + value : value));
        });
    }
}

template <class T>
HL_INLINE void back_columns(const NnPass<T>& pass, const NnInstruction& it, const NnDuty& duty,
                            const double* kept, std::int64_t begin, std::int64_t end) {
    const Columns<T> dy = gradients_of(pass, it.output);
    T* const gamma = parameter_gradient_at(pass, it.weight);
    T* const beta = parameter_gradient_at(pass, it.bias);
    double sums[columns_per_task], products[columns_per_task];
    slope_rows(dy, values_of(pass, it.pre), values_of(pass, it.output),
               static_cast<NnActivation>(it.activation), 0, pass.rows, begin, end);
    gradient_sums(dy, values_of(pass, it.input), pass.rows, kept, kept + it.output.width, begin,
                  end, sums, products);
    for (std::int64_t j = begin; j < end; ++j) {
        if (gamma != nullptr) give(gamma + j, duty.adds_weight, products[j - begin]);
        if (beta != nullptr) give(beta + j, duty.adds_bias, sums[j - begin]);
    }
    if (duty.needs_input) inputs(pass, it, kept, sums, products, duty.adds_input, begin, end);
}

template <class T>
Status backward(const NnPass<T>& pass, const NnInstruction& it, std::int64_t n) {
    const std::int64_t width = it.output.width;
    return over_tasks(parts(width, columns_per_task), 24 * product_of(pass.rows, width),
                      pass.num_threads, [&](std::int64_t task) {
                          const std::int64_t begin = task * columns_per_task;
                          const std::int64_t end = smaller(begin + columns_per_task, width);
                          back_columns(pass, it, pass.plan.duties[n], pass.arena.statistics[n],
                                       begin, end);
                      });
}

}  // namespace batches

namespace layers {

template <class T>
HL_INLINE void row_moments(const T* x, std::int64_t width, double eps, double& mean,
                           double& inverse) {
    const double count = static_cast<double>(width);
    mean = strand_sum(width,
                      [&](auto pack, std::int64_t j) { return load_as<decltype(pack)>(x + j); }) /
           count;
    const double m = mean;
    const double squares = strand_sum(width, [&](auto pack, std::int64_t j) {
        using V = decltype(pack);
        const V d = load_as<V>(x + j) - m;
        return V(d * d);
    });
    inverse = 1.0 / square_root(squares / count + eps);
}

template <class T>
HL_INLINE void forward_row(const NnPass<T>& pass, const NnInstruction& it, double* kept,
                           std::int64_t r) {
    const Finish<T> finish = finish_of(pass, it);
    const T* const x = values_of(pass, it.input).row(r);
    const T* const gamma = parameters_at(pass, it.weight);
    row_moments(x, it.output.width, it.constants[0], kept[r], kept[pass.arena.capacity + r]);
    const T mean = static_cast<T>(kept[r]), inverse = static_cast<T>(kept[pass.arena.capacity + r]);
    with_activation(finish.activation, [&](auto activation) {
        for_columns<T>(0, it.output.width, [&](auto pack, std::int64_t j) {
            using V = decltype(pack);
            const V normal = (load<V>(x + j) - mean) * inverse;
            const V z = scaled(normal, gamma, finish.bias, j);
            if (finish.pre.exists()) store(finish.pre.row(r) + j, z);
            store(finish.output.row(r) + j, activation.value(z));
        });
    });
}

template <class T>
Status forward(const NnPass<T>& pass, const NnInstruction& it, std::int64_t n) {
    return over_tasks(parts(pass.rows, rows_per_task), 24 * product_of(pass.rows, it.output.width),
                      pass.num_threads, [&](std::int64_t task) {
                          const std::int64_t first = task * rows_per_task;
                          const std::int64_t last = smaller(first + rows_per_task, pass.rows);
                          for (std::int64_t r = first; r < last; ++r)
                              forward_row(pass, it, pass.arena.statistics[n], r);
                      });
}

// The gradient becomes that of f's argument; sums over rows, in their order, for gamma and beta.
template <class T>
HL_INLINE void back_columns(const NnPass<T>& pass, const NnInstruction& it, const NnDuty& duty,
                            const double* kept, std::int64_t begin, std::int64_t end) {
    const Columns<T> dy = gradients_of(pass, it.output), x = values_of(pass, it.input);
    slope_rows(dy, values_of(pass, it.pre), values_of(pass, it.output),
               static_cast<NnActivation>(it.activation), 0, pass.rows, begin, end);
    if (it.bias >= 0)
        sum_rows(dy, pass.rows, begin, end, duty.adds_bias, parameter_gradient_at(pass, it.bias));
    if (it.weight < 0) return;
    T* const gamma = parameter_gradient_at(pass, it.weight);
    for_columns<double>(begin, end, [&](auto pack, std::int64_t j) {
        using V = decltype(pack);
        V sum = duty.adds_weight ? load_as<V>(gamma + j) : V{};
        for (std::int64_t r = 0; r < pass.rows; ++r) {
            const V normal = (load_as<V>(x.row(r) + j) - kept[r]) * kept[pass.arena.capacity + r];
            sum = sum + load_as<V>(dy.row(r) + j) * normal;
        }
        store_as(gamma + j, sum);
    });
}

// dx = (1 / s) (g - mean(g) - xh mean(g xh)) with g = gamma dy.
template <class T>
HL_INLINE void back_row(const NnPass<T>& pass, const NnInstruction& it, bool adds, double mean,
                        double inverse, std::int64_t r) {
    const T* const x = values_of(pass, it.input).row(r);
    const T* const dy = gradients_of(pass, it.output).row(r);
    T* const dx = gradients_of(pass, it.input).row(r);
    const T* const gamma = parameters_at(pass, it.weight);
    const double count = static_cast<double>(it.output.width);
    const auto term = [&](auto pack, std::int64_t j) {
        using V = decltype(pack);
        const V g = load_as<V>(dy + j);
        return gamma != nullptr ? V(g * load_as<V>(gamma + j)) : g;
    };
    const double sum = strand_sum(it.output.width, term) / count;
    const double product = strand_sum(it.output.width,
                                      [&](auto pack, std::int64_t j) {
                                          using V = decltype(pack);
                                          const V normal = (load_as<V>(x + j) - mean) * inverse;
                                          return V(term(pack, j) * normal);
                                      }) /
                           count;
    for_columns<double>(0, it.output.width, [&](auto pack, std::int64_t j) {
        using V = decltype(pack);
        const V normal = (load_as<V>(x + j) - mean) * inverse;
        const V value = inverse * (term(pack, j) - sum - normal * product);
        store_as(dx + j, V(adds ? load_as<V>(dx + j) + value : value));
    });
}

template <class T>
Status backward(const NnPass<T>& pass, const NnInstruction& it, std::int64_t n) {
    const NnDuty& duty = pass.plan.duties[n];
    const std::int64_t width = it.output.width;
    const double* const kept = pass.arena.statistics[n];
    const double operations = 24 * product_of(pass.rows, width);
    const Status status = over_tasks(
        parts(width, columns_per_task), operations, pass.num_threads, [&](std::int64_t task) {
            const std::int64_t begin = task * columns_per_task;
            back_columns(pass, it, duty, kept, begin, smaller(begin + columns_per_task, width));
        });
    if (!status.ok() || !duty.needs_input) return status;
    return over_tasks(
        parts(pass.rows, rows_per_task), operations, pass.num_threads, [&](std::int64_t task) {
            const std::int64_t first = task * rows_per_task;
            const std::int64_t last = smaller(first + rows_per_task, pass.rows);
            for (std::int64_t r = first; r < last; ++r)
                back_row(pass, it, duty.adds_input, kept[r], kept[pass.arena.capacity + r], r);
        });
}

}  // namespace layers
}  // namespace

HL_NN_DEFINE_PASSES(batch_norm, batches)
HL_NN_DEFINE_PASSES(layer_norm, layers)

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
