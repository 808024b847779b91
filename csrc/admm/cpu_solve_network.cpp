// Gradients of networks, and of linear models with several outputs: chunks of rows go forward and
// back through layers of W (inputs, outputs) and b (outputs). Every element of every product is a
// sum in the order of its inner index, so that the width of the vectors does not show.
#include <cstdlib>

#include "cpu_solve_rows.hpp"
#include "step_layers.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace admm {
namespace {

constexpr std::int64_t max_layers = 64;
constexpr std::int64_t network_rows = 32;

// c (rows, columns) += a b with a[r, i] = a[r row_step + i inner_step] and b (inner, columns); both
// b and c have `width` columns in memory, of which these are some.
template <int count, int packs, class T>
HL_INLINE void product_tile(std::int64_t inner, const T* a, std::int64_t row_step,
                            std::int64_t inner_step, const T* b, std::int64_t b_width, T* c,
                            std::int64_t c_width) {
    using V = typename PackOf<T>::Type;
    constexpr int lanes = LaneTraits<V>::lanes;
    V sums[count][packs];
    for (int r = 0; r < count; ++r) {
        for (int p = 0; p < packs; ++p)
            sums[r][p] = load<V>(c + r * c_width + p * lanes);
    }
    for (std::int64_t i = 0; i < inner; ++i) {
        V row[packs];
        for (int p = 0; p < packs; ++p)
            row[p] = load<V>(b + i * b_width + p * lanes);
        for (int r = 0; r < count; ++r) {
            const T x = a[r * row_step + i * inner_step];
            for (int p = 0; p < packs; ++p)
                sums[r][p] += x * row[p];
        }
    }
    for (int r = 0; r < count; ++r) {
        for (int p = 0; p < packs; ++p)
            __builtin_memcpy(c + r * c_width + p * lanes, &sums[r][p], sizeof(V));
    }
}

template <int packs, class T>
HL_INLINE void product_panel(std::int64_t rows, std::int64_t inner, const T* a,
                             std::int64_t row_step, std::int64_t inner_step, const T* b,
                             std::int64_t b_width, T* c, std::int64_t c_width) {
    std::int64_t r = 0;
    for (; r + 4 <= rows; r += 4) {
        product_tile<4, packs>(inner, a + r * row_step, row_step, inner_step, b, b_width,
                               c + r * c_width, c_width);
    }
    for (; r < rows; ++r) {
        product_tile<1, packs>(inner, a + r * row_step, row_step, inner_step, b, b_width,
                               c + r * c_width, c_width);
    }
}

// The last columns, fewer than a pack holds: through copies with zeros beside them.
template <class T>
HL_NOINLINE void product_edge(std::int64_t rows, std::int64_t inner, const T* a,
                              std::int64_t row_step, std::int64_t inner_step, const T* b,
                              std::int64_t columns, std::int64_t width, T* c, T* scratch) {
    constexpr int lanes = LaneTraits<typename PackOf<T>::Type>::lanes;
    T* const b_panel = scratch;
    T* const c_panel = scratch + inner * lanes;
    for (std::int64_t i = 0; i < inner; ++i) {
        for (std::int64_t j = 0; j < lanes; ++j)
            b_panel[i * lanes + j] = j < columns ? b[i * width + j] : T(0);
    }
    for (std::int64_t r = 0; r < rows; ++r) {
        for (std::int64_t j = 0; j < lanes; ++j)
            c_panel[r * lanes + j] = j < columns ? c[r * width + j] : T(0);
    }
    product_panel<1>(rows, inner, a, row_step, inner_step, b_panel, lanes, c_panel, lanes);
    for (std::int64_t r = 0; r < rows; ++r) {
        for (std::int64_t j = 0; j < columns; ++j)
            c[r * width + j] = c_panel[r * lanes + j];
    }
}

template <class T>
HL_NOINLINE void add_product(std::int64_t rows, std::int64_t inner, std::int64_t columns,
                             const T* a, std::int64_t row_step, std::int64_t inner_step, const T* b,
                             T* c, T* scratch) {
    constexpr int lanes = LaneTraits<typename PackOf<T>::Type>::lanes;
    std::int64_t j = 0;
    for (; j + 2 * lanes <= columns; j += 2 * lanes)
        product_panel<2>(rows, inner, a, row_step, inner_step, b + j, columns, c + j, columns);
    for (; j + lanes <= columns; j += lanes)
        product_panel<1>(rows, inner, a, row_step, inner_step, b + j, columns, c + j, columns);
    if (j < columns) {
        product_edge(rows, inner, a, row_step, inner_step, b + j, columns - j, columns, c + j,
                     scratch);
    }
}

// Where the parameters and the units of each layer begin, and memory for one chunk.
template <class T>
struct Network {
    const RowsTask<T>& task;
    std::int64_t layers;
    std::int64_t weights[max_layers];    // offsets into the parameters
    std::int64_t units[max_layers + 1];  // offsets into `active` and `slope`, for layers 1, 2, ...
    void* memory = nullptr;
    T *active, *slope, *delta, *input, *transposed, *scratch;
    std::int64_t ids[network_rows];

    HL_MEMBER explicit Network(const RowsTask<T>& of) : task(of) {
        const std::int64_t* width = task.call.model.layers;
        layers = task.call.model.num_layers;
        std::int64_t at = 0, unit = 0, widest = 0, turned = 0;
        for (std::int64_t l = 0; l < layers; ++l) {
            weights[l] = at;
            at += width[l] * width[l + 1] + bias_width(l);
            units[l + 1] = unit;
            unit += padded(network_rows * width[l + 1]);
            widest = width[l + 1] > widest ? width[l + 1] : widest;
            if (l > 0) turned += width[l] * width[l + 1];
        }
        const std::int64_t inner = width[0] > widest ? width[0] : widest;
        const std::int64_t own_input = task.client.dense == nullptr ? 0 : network_rows * width[0];
        constexpr std::int64_t lanes = 64 / static_cast<std::int64_t>(sizeof(T));
        const std::int64_t edge = ((inner > network_rows ? inner : network_rows) + inner) * lanes;
        const std::int64_t sizes[] = {
            unit,           unit,        padded(2 * network_rows * widest), padded(own_input),
            padded(turned), padded(edge)};
        std::int64_t total = 0;
        for (const std::int64_t size : sizes)
            total += size;
        memory = std::aligned_alloc(64, static_cast<std::size_t>(total) * sizeof(T));
        T* const parts = static_cast<T*>(memory);
        active = parts;
        slope = active + sizes[0];
        delta = slope + sizes[1];
        input = delta + sizes[2];
        transposed = input + sizes[3];
        scratch = transposed + sizes[4];
    }
    Network(const Network&) = delete;
    Network& operator=(const Network&) = delete;
    HL_MEMBER ~Network() { std::free(memory); }

    static HL_MEMBER std::int64_t padded(std::int64_t size) { return (size + 15) / 16 * 16; }

    HL_MEMBER std::int64_t width(std::int64_t l) const { return task.call.model.layers[l]; }
    HL_MEMBER std::int64_t bias_width(std::int64_t l) const {
        return task.call.model.intercept ? task.call.model.layers[l + 1] : 0;
    }
    HL_MEMBER const T* weights_of(std::int64_t l) const { return task.w + weights[l]; }

    // W^T of the layers above the first, for the way back.
    HL_MEMBER void transpose() {
        T* to = transposed;
        for (std::int64_t l = 1; l < layers; ++l) {
            const T* from = weights_of(l);
            for (std::int64_t i = 0; i < width(l); ++i) {
                for (std::int64_t j = 0; j < width(l + 1); ++j)
                    to[j * width(l) + i] = from[i * width(l + 1) + j];
            }
            to += width(l) * width(l + 1);
        }
    }

    HL_MEMBER void gather_input(std::int64_t count) {
        for (std::int64_t r = 0; r < count; ++r) {
            const T* row = task.client.dense + ids[r] * width(0);
            for (std::int64_t k = 0; k < width(0); ++k)
                input[r * width(0) + k] = row[k];
        }
    }

    HL_MEMBER void begin_layer(std::int64_t l, std::int64_t count) {
        T* HL_RESTRICT out = active + units[l + 1];
        const std::int64_t columns = width(l + 1);
        const T* HL_RESTRICT b = weights_of(l) + width(l) * columns;
        const bool has_bias = task.call.model.intercept;
        for (std::int64_t r = 0; r < count; ++r) {
            for (std::int64_t j = 0; j < columns; ++j)
                out[r * columns + j] = has_bias ? b[j] : T(0);
        }
    }

    HL_MEMBER void enter(std::int64_t count) {
        T* const out = active + units[1];
        const std::int64_t columns = width(1);
        if (task.client.dense != nullptr) {
            gather_input(count);
            add_product(count, width(0), columns, input, width(0), std::int64_t(1), weights_of(0),
                        out, scratch);
            return;
        }
        const AdmmRows<T>& rows = task.client;
        for (std::int64_t r = 0; r < count; ++r) {
            T* HL_RESTRICT target = out + r * columns;
            for (std::int64_t k = rows.indptr[ids[r]]; k < rows.indptr[ids[r] + 1]; ++k) {
                const T x = rows.values == nullptr ? T(1) : rows.values[k];
                const T* HL_RESTRICT w = weights_of(0) + rows.indices[k] * columns;
                for (std::int64_t j = 0; j < columns; ++j)
                    target[j] += x * w[j];
            }
        }
    }

    HL_MEMBER void activate_layer(std::int64_t l, std::int64_t count) {
        using V = typename PackOf<T>::Type;
        T *h = active + units[l + 1], *s = slope + units[l + 1];
        for (std::int64_t k = 0; k < count * width(l + 1); k += LaneTraits<V>::lanes) {
            V derivative;
            const V value = activate(load<V>(h + k), task.call.model.activation, derivative);
            __builtin_memcpy(h + k, &value, sizeof value);
            __builtin_memcpy(s + k, &derivative, sizeof derivative);
        }
    }

    HL_MEMBER void forward(std::int64_t count) {
        for (std::int64_t l = 0; l < layers; ++l) {
            begin_layer(l, count);
            if (l == 0) {
                enter(count);
            } else {
                add_product(count, width(l), width(l + 1), active + units[l], width(l),
                            std::int64_t(1), weights_of(l), active + units[l + 1], scratch);
            }
            if (l + 1 < layers) activate_layer(l, count);
        }
    }

    HL_MEMBER T weight_of(std::int64_t r) const {
        return task.client.weights == nullptr ? T(1) : task.client.weights[ids[r]];
    }

    // log sum exp(z) - z_y, from z less its largest entry.
    HL_MEMBER double softmax_head(std::int64_t count) {
        using V = typename PackOf<T>::Type;
        const std::int64_t outputs = width(layers);
        T* const z = active + units[layers];
        T own[network_rows];
        for (std::int64_t r = 0; r < count; ++r) {
            T* row = z + r * outputs;
            T largest = row[0];
            for (std::int64_t j = 1; j < outputs; ++j)
                largest = row[j] < largest ? largest : row[j];
            for (std::int64_t j = 0; j < outputs; ++j)
                row[j] -= largest;
            own[r] = row[task.client.labels[ids[r]]];
        }
        for (std::int64_t k = 0; k < count * outputs; k += LaneTraits<V>::lanes) {
            const V e = exp_clamped(load<V>(z + k));
            __builtin_memcpy(z + k, &e, sizeof e);
        }
        double total = 0;
        for (std::int64_t r = 0; r < count; ++r) {
            T* row = z + r * outputs;
            T sum = 0;
            for (std::int64_t j = 0; j < outputs; ++j)
                sum += row[j];
            const T weight = weight_of(r);
            if (task.value != nullptr)
                total += static_cast<double>(T(weight * (log_positive(sum) - own[r])));
            for (std::int64_t j = 0; j < outputs; ++j)
                delta[r * outputs + j] = weight * (row[j] / sum);
            delta[r * outputs + task.client.labels[ids[r]]] -= weight;
        }
        return total;
    }

    HL_MEMBER double squares_head(std::int64_t count) {
        const std::int64_t outputs = width(layers);
        const T* const z = active + units[layers];
        double total = 0;
        for (std::int64_t r = 0; r < count; ++r) {
            const T weight = weight_of(r);
            T sum = 0;
            for (std::int64_t j = 0; j < outputs; ++j) {
                const T gap = z[r * outputs + j] - task.client.targets[ids[r] * outputs + j];
                sum += gap * gap;
                delta[r * outputs + j] = weight * gap;
            }
            total += static_cast<double>(T(weight * (T(0.5) * sum)));
        }
        return total;
    }

    HL_MEMBER void add_bias_gradient(std::int64_t l, std::int64_t count, const T* d) {
        if (!task.call.model.intercept) return;
        const std::int64_t columns = width(l + 1);
        T* HL_RESTRICT g = task.gradient + weights[l] + width(l) * columns;
        for (std::int64_t r = 0; r < count; ++r) {
            for (std::int64_t j = 0; j < columns; ++j)
                g[j] += d[r * columns + j];
        }
    }

    HL_MEMBER void leave(std::int64_t count, const T* d) {
        T* const g = task.gradient;
        const std::int64_t columns = width(1);
        if (task.client.dense != nullptr) {
            add_product(width(0), count, columns, input, std::int64_t(1), width(0), d, g, scratch);
            return;
        }
        const AdmmRows<T>& rows = task.client;
        for (std::int64_t r = 0; r < count; ++r) {
            const T* HL_RESTRICT own = d + r * columns;
            for (std::int64_t k = rows.indptr[ids[r]]; k < rows.indptr[ids[r] + 1]; ++k) {
                const T x = rows.values == nullptr ? T(1) : rows.values[k];
                T* HL_RESTRICT target = g + rows.indices[k] * columns;
                for (std::int64_t j = 0; j < columns; ++j)
                    target[j] += x * own[j];
            }
        }
    }

    HL_MEMBER void backward(std::int64_t count) {
        std::int64_t widest = 0;
        for (std::int64_t l = 1; l <= layers; ++l)
            widest = width(l) > widest ? width(l) : widest;
        T *d = delta, *below = delta + network_rows * widest;
        const T* turned = transposed;
        for (std::int64_t l = 1; l < layers; ++l)
            turned += width(l) * width(l + 1);
        for (std::int64_t l = layers - 1; l >= 0; --l) {
            add_bias_gradient(l, count, d);
            if (l == 0) return leave(count, d);
            turned -= width(l) * width(l + 1);
            add_product(width(l), count, width(l + 1), active + units[l], std::int64_t(1), width(l),
                        d, task.gradient + weights[l], scratch);
            for (std::int64_t k = 0; k < count * width(l); ++k)
                below[k] = 0;
            add_product(count, width(l + 1), width(l), d, width(l + 1), std::int64_t(1), turned,
                        below, scratch);
            const T* HL_RESTRICT s = slope + units[l];
            for (std::int64_t k = 0; k < count * width(l); ++k)
                below[k] *= s[k];
            T* const swapped = d;
            d = below;
            below = swapped;
        }
    }
};

template <class T>
HL_INLINE Status run(const RowsTask<T>& task) {
    if (task.call.model.num_layers > max_layers)
        return Status::invalid_argument("admm_gradient: more than 64 layers");
    Network<T> network(task);
    if (network.memory == nullptr) return Status::out_of_memory("admm_gradient");
    if (task.gradient != nullptr) network.transpose();
    double total = 0;
    for (std::int64_t first = task.first; first < task.last; first += network_rows) {
        const std::int64_t left = task.last - first;
        const std::int64_t count = left < network_rows ? left : network_rows;
        find_rows(task, first, count, network.ids);
        network.forward(count);
        total += task.call.model.loss == AdmmLoss::softmax ? network.softmax_head(count)
                                                           : network.squares_head(count);
        if (task.gradient != nullptr) network.backward(count);
        if (stop_requested()) return Status::interrupted("admm_gradient");
    }
    if (task.value != nullptr) *task.value = total;
    return Status::success();
}

}  // namespace

Status network_task(const RowsTask<float>& task) {
    return run(task);
}
Status network_task(const RowsTask<double>& task) {
    return run(task);
}

}  // namespace admm
}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
