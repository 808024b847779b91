// The tile executor: evaluation.
#include "tile.hpp"
#include "tile_operations.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace {

template <class T>
HL_NOINLINE void run_dense(const NnTile<T>& tile, const NnInstruction& i) {
    const TileColumns<T> x = columns_of(tile, i.input), addend = columns_of(tile, i.addend);
    const TileColumns<T> out = columns_of(tile, i.output);
    T* const before = i.pre.slot < 0 ? out.data : columns_of(tile, i.pre).data;
    TileProduct<T> p;
    p.weights = tile.parameters + i.weight;
    p.weight_stride = i.input.width;
    p.inner_stride = 1;
    p.x = x.data;
    p.x_stride = tile.stride;
    p.inner = i.input.width;
    p.bias = i.bias < 0 ? nullptr : tile.parameters + i.bias;
    p.addend = addend.data;
    p.addend_stride = addend.stride;
    p.out = before;
    p.out_stride = tile.stride;
    const NnActivation f = static_cast<NnActivation>(i.activation);
    tile_product(p, i.output.width, tile.stride, [&](std::int64_t o, std::int64_t count) {
        const std::int64_t begin = o * tile.stride, size = count * tile.stride;
        if (f != NnActivation::identity || before != out.data)
            activate_span(f, before + begin, out.data + begin, size);
    });
}

// y = f(x + addend).
template <class T>
HL_NOINLINE void run_activation(const NnTile<T>& tile, const NnInstruction& i) {
    using V = typename PackOf<T>::Type;
    constexpr int lanes = LaneTraits<V>::lanes;
    const TileColumns<T> x = columns_of(tile, i.input), addend = columns_of(tile, i.addend);
    T* const out = columns_of(tile, i.output).data;
    const NnActivation f = static_cast<NnActivation>(i.activation);
    const std::int64_t width = i.output.width, stride = tile.stride;
    if (addend.data == nullptr) {
        activate_span(f, x.data, out, width * stride);
        return;
    }
    for (std::int64_t j = 0; j < width; ++j) {
        const T* const more = addend.data + j * (addend.stride == 0 ? 1 : stride);
        for (std::int64_t r = 0; r < stride; r += lanes) {
            const V added = addend.stride == 0 ? broadcast<V>(more[0]) : load<V>(more + r);
            store(out + j * stride + r, V(load<V>(x.data + j * stride + r) + added));
        }
    }
    activate_span(f, out, out, width * stride);
}

template <class T>
HL_NOINLINE void run_batch_norm(const NnTile<T>& tile, const NnInstruction& i) {
    using V = typename PackOf<T>::Type;
    constexpr int lanes = LaneTraits<V>::lanes;
    const T* const x = columns_of(tile, i.input).data;
    T* const out = columns_of(tile, i.output).data;
    T* const before = i.pre.slot < 0 ? out : columns_of(tile, i.pre).data;
    const std::int64_t width = i.output.width, stride = tile.stride;
    const T* const mean = tile.buffers + i.buffer;
    const T* const variance = mean + width;
    for (std::int64_t j = 0; j < width; ++j) {
        const T gamma = i.weight < 0 ? T(1) : tile.parameters[i.weight + j];
        const T beta = i.bias < 0 ? T(0) : tile.parameters[i.bias + j];
        const T scale = gamma / square_root(variance[j] + static_cast<T>(i.constants[0]));
        const T shift = beta - mean[j] * scale;
        for (std::int64_t r = 0; r < stride; r += lanes)
            store(before + j * stride + r, V(load<V>(x + j * stride + r) * scale + shift));
    }
    activate_span(static_cast<NnActivation>(i.activation), before, out, width * stride);
}

template <class T>
HL_NOINLINE void run_layer_norm(const NnTile<T>& tile, const NnInstruction& i) {
    using V = typename PackOf<T>::Type;
    const T* const x = columns_of(tile, i.input).data;
    T* const out = columns_of(tile, i.output).data;
    T* const before = i.pre.slot < 0 ? out : columns_of(tile, i.pre).data;
    const std::int64_t width = i.output.width, stride = tile.stride;
    for (std::int64_t r = 0; r < stride; r += LaneTraits<V>::lanes) {
        const TileMoments<V> m =
            layer_moments<V>(x + r, stride, width, static_cast<T>(i.constants[0]));
        for (std::int64_t j = 0; j < width; ++j) {
            const T gamma = i.weight < 0 ? T(1) : tile.parameters[i.weight + j];
            const T beta = i.bias < 0 ? T(0) : tile.parameters[i.bias + j];
            const V centred = (load<V>(x + j * stride + r) - m.mean) * m.inverse;
            store(before + j * stride + r, V(centred * gamma + beta));
        }
    }
    activate_span(static_cast<NnActivation>(i.activation), before, out, width * stride);
}

template <class T>
HL_NOINLINE void run_embedding(const NnTile<T>& tile, const NnInstruction& i) {
    const TileColumns<T> addend = columns_of(tile, i.addend);
    T* const out = columns_of(tile, i.output).data;
    const std::int64_t width = i.output.width, stride = tile.stride;
    const std::int32_t* const indices = tile.indices[i.input.slot];
    for (std::int64_t r = 0; r < stride; ++r) {
        const std::int32_t index = indices[r];
        const T* const row = index < 0 ? nullptr : tile.parameters + i.weight + index * width;
        for (std::int64_t j = 0; j < width; ++j)
            out[j * stride + r] = row == nullptr ? T(0) : row[j];
    }
    if (addend.data != nullptr) add_columns(out, addend, width, stride);
}

template <class T>
HL_NOINLINE void run_time_embedding(const NnTile<T>& tile, const NnInstruction& i) {
    const T* const x = columns_of(tile, i.input).data;
    T* const out = columns_of(tile, i.output).data;
    const std::int64_t half = i.output.width / 2, stride = tile.stride;
    for (std::int64_t j = 0; j < half; ++j) {
        const double frequency = i.constants[0] * time_frequency(j, half);
        T* const sines = out + j * stride;
        T* const cosines = out + (half + j) * stride;
        for (std::int64_t r = 0; r < stride; r += LaneTraits<f64v>::lanes) {
            f64v sine_value, cosine_value;
            sine_cosine(f64v(load_widened(x + r) * frequency), sine_value, cosine_value);
            store_narrowed(sines + r, sine_value);
            store_narrowed(cosines + r, cosine_value);
        }
    }
}

template <class T>
HL_INLINE void run(const NnTile<T>& tile, const NnInstruction& i) {
    switch (static_cast<NnOperation>(i.operation)) {
        case NnOperation::dense:
            return run_dense(tile, i);
        case NnOperation::activation:
        case NnOperation::dropout:
            return run_activation(tile, i);
        case NnOperation::batch_norm:
            return run_batch_norm(tile, i);
        case NnOperation::layer_norm:
            return run_layer_norm(tile, i);
        case NnOperation::embedding:
            return run_embedding(tile, i);
        case NnOperation::time_embedding:
            return run_time_embedding(tile, i);
        case NnOperation::sparse_dense:
            return;  // tile_supports says so
    }
}

}  // namespace

bool tile_supports(const NnProgram& program, bool training) {
    for (std::int64_t k = 0; k < program.num_instructions; ++k) {
        const auto operation = static_cast<NnOperation>(program.instructions[k].operation);
        if (operation == NnOperation::sparse_dense) return false;
        if (training && operation == NnOperation::batch_norm) return false;
    }
    return true;
}

void tile_forward(const NnTile<float>& tile, const NnInstruction& instruction) {
    run(tile, instruction);
}
void tile_forward(const NnTile<double>& tile, const NnInstruction& instruction) {
    run(tile, instruction);
}

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
