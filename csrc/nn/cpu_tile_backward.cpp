// The tile executor: training passes.
#include "tile_operations.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace {

template <class T>
struct TileBackward {
    using V = typename PackOf<T>::Type;
    static constexpr int lanes = LaneTraits<V>::lanes;

    const NnTile<T>& tile;
    const NnTileDropout& dropout;
    T* const* gradients;
    T* parameter_gradient;

    HL_MEMBER T* gradient_of(const NnOperand& operand) const {
        if (operand.slot < 0 || gradients[operand.slot] == nullptr) return nullptr;
        return gradients[operand.slot] + operand.begin * tile.stride;
    }

    HL_MEMBER T* value_of(const NnOperand& operand) const { return columns_of(tile, operand).data; }

    HL_MEMBER T* parameter(std::int64_t offset) const {
        return offset < 0 ? nullptr : parameter_gradient + offset;
    }

    // to += from, where it is wanted.
    HL_MEMBER void give(const T* from, T* to, std::int64_t width) const {
        if (to != nullptr) add_columns(to, {const_cast<T*>(from), tile.stride}, width, tile.stride);
    }

    // The sums over the rows, lane by lane.
    HL_MEMBER V lane_sums(const T* x) const {
        V sum{};
        for (std::int64_t r = 0; r < tile.stride; r += lanes)
            sum += load<V>(x + r);
        return sum;
    }

    // to[j] += the sums of a pack of columns, over the lanes in their order.
    HL_MEMBER void give_pack_of_sums(const T* x, T* to) const {
        alignas(64) T sums[lanes * lanes];
        const T* rows[lanes];
        for (int k = 0; k < lanes; ++k) {
            rows[k] = sums + k * lanes;
            store(sums + k * lanes, lane_sums(x + k * tile.stride));
        }
        V total{};
        for (int lane = 0; lane < lanes; lane += 4) {
            V parts[4];
            transpose_columns(rows, lane, parts);
            for (int k = 0; k < 4; ++k)
                total += parts[k];
        }
        store(to, V(load<V>(to) + total));
    }

    HL_MEMBER void give_sums(const T* x, std::int64_t width, T* to) const {
        if (to == nullptr) return;
        std::int64_t j = 0;
        if constexpr (lanes >= 4) {
            for (; j + lanes <= width; j += lanes)
                give_pack_of_sums(x + j * tile.stride, to + j);
        }
        for (; j < width; ++j) {
            const V sums = lane_sums(x + j * tile.stride);
            T total = 0;
            for (int lane = 0; lane < lanes; ++lane)
                total += sums[lane];
            to[j] += total;
        }
    }

    // dy times the slope of f at argument x and value y, into `scratch` unless the slope is 1.
    HL_MEMBER const T* before_activation(const NnInstruction& i, const T* x, const T* y) const {
        const T* const dy = gradient_of(i.output);
        const NnActivation f = static_cast<NnActivation>(i.activation);
        if (f == NnActivation::identity) return dy;
        T* const dx = tile.scratch;
        if (x == nullptr) x = y;
        with_activation(f, [&](auto activation) {
            for (std::int64_t k = 0; k < i.output.width * tile.stride; k += lanes) {
                const V slope = activation.slope(load<V>(x + k), load<V>(y + k));
                store(dx + k, V(load<V>(dy + k) * slope));
            }
        });
        return dx;
    }

    // Scratch behind what before_activation uses.
    HL_MEMBER T* more_scratch(std::int64_t width) const {
        return tile.scratch + width * tile.stride;
    }

    // dW[o, k] += sum_r dy[o, r] x[k, r], from x with its rows side by side.
    HL_MEMBER void give_weights(const NnInstruction& i, const T* dy, T* to) const {
        const std::int64_t inputs = i.input.width, stride = tile.stride;
        const std::int64_t padded = (inputs + 15) / 16 * 16;
        T* const rows = more_scratch(i.output.width);
        T* const panel = rows + padded * stride;
        columns_to_rows(value_of(i.input), stride, stride, inputs,
                        [&](std::int64_t r) { return rows + r * padded; });
        TileProduct<T> p{};
        p.weight_stride = stride;
        p.inner_stride = 1;
        p.x = rows;
        p.x_stride = padded;
        p.inner = stride;
        p.out_stride = padded;
        if (padded == inputs) {
            p.weights = dy;
            p.addend = p.out = to;
            p.addend_stride = inputs;
            tile_product(p, i.output.width, padded, [](std::int64_t, std::int64_t) {});
            return;
        }
        for (std::int64_t r = 0; r < stride; ++r) {
            for (std::int64_t k = inputs; k < padded; ++k)
                rows[r * padded + k] = T(0);
        }
        constexpr std::int64_t at_once = 12;
        p.out = panel;
        for (std::int64_t o = 0; o < i.output.width; o += at_once) {
            const std::int64_t count = i.output.width - o < at_once ? i.output.width - o : at_once;
            p.weights = dy + o * stride;
            tile_product(p, count, padded, [](std::int64_t, std::int64_t) {});
            for (std::int64_t k = 0; k < count; ++k) {
                const T* HL_RESTRICT const from = panel + k * padded;
                T* HL_RESTRICT const row = to + (o + k) * inputs;
                for (std::int64_t j = 0; j < inputs; ++j)
                    row[j] += from[j];
            }
        }
    }

    HL_MEMBER void dense(const NnInstruction& i) const {
        const T* const dy = before_activation(i, value_of(i.pre), value_of(i.output));
        give(dy, gradient_of(i.addend), i.output.width);
        give_sums(dy, i.output.width, parameter(i.bias));
        give_weights(i, dy, parameter(i.weight));
        T* const dx = gradient_of(i.input);
        if (dx == nullptr) return;
        TileProduct<T> p{};
        p.weights = tile.parameters + i.weight;
        p.weight_stride = 1;
        p.inner_stride = i.input.width;
        p.x = dy;
        p.x_stride = tile.stride;
        p.inner = i.output.width;
        p.addend = dx;
        p.addend_stride = tile.stride;
        p.out = dx;
        p.out_stride = tile.stride;
        tile_product(p, i.input.width, tile.stride, [](std::int64_t, std::int64_t) {});
    }

    HL_MEMBER void activation(const NnInstruction& i) const {
        if (gradient_of(i.input) == nullptr) return;
        give(before_activation(i, value_of(i.input), value_of(i.output)), gradient_of(i.input),
             i.output.width);
    }

    HL_MEMBER void layer_norm(const NnInstruction& i) const {
        const T* const dy = before_activation(i, value_of(i.pre), value_of(i.output));
        const std::int64_t width = i.output.width, stride = tile.stride;
        T* const centred = more_scratch(width);
        const T* const x = value_of(i.input);
        T* const dx = gradient_of(i.input);
        const T* const gamma = i.weight < 0 ? nullptr : tile.parameters + i.weight;
        const T count = static_cast<T>(width);
        for (std::int64_t r = 0; r < stride; r += lanes) {
            const TileMoments<V> m =
                layer_moments<V>(x + r, stride, width, static_cast<T>(i.constants[0]));
            V sum{}, product{};
            for (std::int64_t j = 0; j < width; ++j) {
                const V xh = (load<V>(x + j * stride + r) - m.mean) * m.inverse;
                store(centred + j * stride + r, xh);
                const V scaled =
                    load<V>(dy + j * stride + r) * (gamma == nullptr ? T(1) : gamma[j]);
                sum += scaled;
                product += scaled * xh;
            }
            if (dx == nullptr) continue;
            const V mean = sum / count, slope = product / count;
            for (std::int64_t j = 0; j < width; ++j) {
                const V scaled =
                    load<V>(dy + j * stride + r) * (gamma == nullptr ? T(1) : gamma[j]);
                const V xh = load<V>(centred + j * stride + r);
                const V change = m.inverse * ((scaled - mean) - xh * slope);
                store(dx + j * stride + r, V(load<V>(dx + j * stride + r) + change));
            }
        }
        give_sums(dy, width, parameter(i.bias));
        if (gamma == nullptr) return;
        for (std::int64_t k = 0; k < width * stride; k += lanes)
            store(centred + k, V(load<V>(centred + k) * load<V>(dy + k)));
        give_sums(centred, width, parameter(i.weight));
    }

    HL_MEMBER void embedding(const NnInstruction& i) const {
        const T* const dy = gradient_of(i.output);
        const std::int64_t width = i.output.width;
        give(dy, gradient_of(i.addend), width);
        const std::int32_t* const indices = tile.indices[i.input.slot];
        for (std::int64_t r = 0; r < tile.stride; ++r) {
            if (indices[r] < 0) continue;
            T* const row = parameter(i.weight) + indices[r] * width;
            for (std::int64_t j = 0; j < width; ++j)
                row[j] += dy[j * tile.stride + r];
        }
    }

    // d/dx sin(c x f) = c f cos(c x f), and the like.
    HL_MEMBER void time_embedding(const NnInstruction& i) const {
        T* const dx = gradient_of(i.input);
        if (dx == nullptr) return;
        const T *const y = value_of(i.output), *const dy = gradient_of(i.output);
        const std::int64_t half = i.output.width / 2, stride = tile.stride;
        for (std::int64_t r = 0; r < stride; ++r) {
            double sum = 0;
            for (std::int64_t j = 0; j < half; ++j) {
                const std::int64_t s = j * stride + r, c = (half + j) * stride + r;
                const double turn = static_cast<double>(y[c]) * static_cast<double>(dy[s]) -
                                    static_cast<double>(y[s]) * static_cast<double>(dy[c]);
                sum += time_frequency(j, half) * turn;
            }
            dx[r] += static_cast<T>(i.constants[0] * sum);
        }
    }
};

// to = from mask / (1 - p), or to += ... .
template <class T>
HL_NOINLINE void run_dropout(const NnTile<T>& tile, const NnInstruction& i,
                             const NnTileDropout& dropout, const T* from, T* to, bool adds) {
    const double p = i.constants[0];
    const T scale = static_cast<T>(1.0 / (1.0 - p));
    const std::uint64_t threshold = dropout_threshold(p);
    const PhiloxKey key = philox_key(dropout.seed);
    for (std::int64_t r = 0; r < tile.stride; ++r) {
        PhiloxBlock<std::uint64_t> words{};
        for (std::int64_t j = 0; j < i.output.width; ++j) {
            if (j % 4 == 0)
                words = dropout_words(i.buffer, dropout.first_row + r, dropout.step, j, key);
            const std::int64_t k = j * tile.stride + r;
            const bool kept = (words.word[j % 4] & 0xffffffffu) >= threshold;
            const T value = kept ? from[k] * scale : T(0);
            to[k] = adds ? to[k] + value : value;
        }
    }
}

template <class T>
HL_INLINE void forward(const NnTile<T>& tile, const NnProgram& program,
                       const NnTileDropout& dropout) {
    for (std::int64_t k = 0; k < program.num_instructions; ++k) {
        const NnInstruction& i = program.instructions[k];
        if (static_cast<NnOperation>(i.operation) == NnOperation::dropout) {
            run_dropout(tile, i, dropout, columns_of(tile, i.input).data,
                        columns_of(tile, i.output).data, false);
        } else {
            tile_forward(tile, i);
        }
    }
}

template <class T>
HL_INLINE void backward(const TileBackward<T>& pass, const NnProgram& program) {
    for (std::int64_t k = program.num_instructions - 1; k >= 0; --k) {
        const NnInstruction& i = program.instructions[k];
        const T* const dy = pass.gradient_of(i.output);
        if (dy == nullptr) continue;
        switch (static_cast<NnOperation>(i.operation)) {
            case NnOperation::dense:
                pass.dense(i);
                break;
            case NnOperation::activation:
                pass.activation(i);
                break;
            case NnOperation::layer_norm:
                pass.layer_norm(i);
                break;
            case NnOperation::dropout:
                if (pass.gradient_of(i.input) != nullptr)
                    run_dropout(pass.tile, i, pass.dropout, dy, pass.gradient_of(i.input), true);
                break;
            case NnOperation::embedding:
                pass.embedding(i);
                break;
            case NnOperation::time_embedding:
                pass.time_embedding(i);
                break;
            default:
                break;  // tile_supports says so
        }
    }
}

}  // namespace

void tile_forward(const NnTile<float>& tile, const NnProgram& program,
                  const NnTileDropout& dropout) {
    forward(tile, program, dropout);
}
void tile_forward(const NnTile<double>& tile, const NnProgram& program,
                  const NnTileDropout& dropout) {
    forward(tile, program, dropout);
}

void tile_backward(const NnTile<float>& tile, const NnProgram& program,
                   const NnTileDropout& dropout, float* const* gradients,
                   float* parameter_gradient) {
    backward(TileBackward<float>{tile, dropout, gradients, parameter_gradient}, program);
}
void tile_backward(const NnTile<double>& tile, const NnProgram& program,
                   const NnTileDropout& dropout, double* const* gradients,
                   double* parameter_gradient) {
    backward(TileBackward<double>{tile, dropout, gradients, parameter_gradient}, program);
}

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
