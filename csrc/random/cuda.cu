// CUDA drivers that fill arrays with words, uniforms and normals: a thread makes one block of four.
#include "cuda.hpp"

#include "../core/cuda_device.cuh"
#include "../core/normal.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace {

constexpr int threads_per_block = 256;

struct Normals {
    template <class T>
    static HL_DEVICE_MEMBER void make(const PhiloxBlock<WordsOf<T>>& x, T* z) {
        box_muller(x.word[0], x.word[1], z[0], z[1]);
        box_muller(x.word[2], x.word[3], z[2], z[3]);
    }
};

struct Uniforms {
    template <class T>
    static HL_DEVICE_MEMBER void make(const PhiloxBlock<WordsOf<T>>& x, T* u) {
        for (int i = 0; i < 4; ++i)
            u[i] = uniform<T>(x.word[i]);
    }
};

// How the grid falls into blocks of four coordinates.
struct Blocks {
    std::int64_t first;    // block of the first coordinate
    std::int64_t per_row;  // of each (step, chain)
    std::int64_t total;
    bool aligned;  // every whole block lies on a multiple of 16 bytes
};

template <class T>
HL_DEVICE PhiloxBlock<WordsOf<T>> words_at(const RandomGrid& grid, std::int64_t step,
                                           std::int64_t chain, std::int64_t block, PhiloxKey key) {
    PhiloxBlock<std::uint64_t> counter;
    counter.word[0] = static_cast<std::uint64_t>(step);
    counter.word[1] = counter_word_1(step, grid.stream);
    counter.word[2] = static_cast<std::uint64_t>(chain);
    counter.word[3] = static_cast<std::uint64_t>(block);
    const PhiloxBlock<std::uint64_t> x = philox4x32(counter, key);
    PhiloxBlock<WordsOf<T>> words;
    for (int i = 0; i < 4; ++i)
        words.word[i] = static_cast<WordsOf<T>>(x.word[i]);
    return words;
}

// Index: unsigned 32 bits where they are enough, since 64-bit divisions cost as much as a block.
template <class T, class Law, class Index>
__global__ void __launch_bounds__(threads_per_block)
    fill_blocks(RandomGrid grid, Blocks blocks, T* out) {
    const PhiloxKey key = philox_key(grid.seed);
    const Index total = static_cast<Index>(blocks.total);
    const Index per_row = static_cast<Index>(blocks.per_row);
    const Index num_chains = static_cast<Index>(grid.num_chains);
    const Index stride = static_cast<Index>(grid_threads());
    for (Index t = static_cast<Index>(grid_thread()); t < total; t += stride) {
        const Index row = t / per_row;
        const Index step = row / num_chains;
        const std::int64_t block = blocks.first + static_cast<std::int64_t>(t - row * per_row);
        T values[4];
        Law::make(words_at<T>(grid, read_only(grid.steps + step),
                              read_only(grid.chains + (row - step * num_chains)), block, key),
                  values);
        const std::int64_t first = 4 * block - grid.first_coordinate;
        T* const target = out + static_cast<std::int64_t>(row) * grid.num_coordinates;
        if (blocks.aligned) {
            store_four(target + first, values);
            continue;
        }
        for (int c = 0; c < 4; ++c) {
            const std::int64_t k = first + c;
            if (k >= 0 && k < grid.num_coordinates) target[k] = values[c];
        }
    }
}

template <class T, class Law>
Status fill(const RandomGrid& grid, T* out, const CudaCall& call, const char* name) {
    Blocks blocks;
    blocks.first = grid.first_coordinate >> 2;
    blocks.per_row = ceil_div(grid.first_coordinate + grid.num_coordinates, 4) - blocks.first;
    blocks.total = blocks.per_row * grid.num_chains * grid.num_steps;
    blocks.aligned = (grid.first_coordinate | grid.num_coordinates) % 4 == 0 &&
                     reinterpret_cast<std::uintptr_t>(out) % 16 == 0;
    if (grid.num_coordinates == 0) return Status::success();
    const LaunchShape shape = shape_for(blocks.total, threads_per_block);
    // A thread's last index plus the stride of the grid must still fit.
    constexpr std::int64_t most_short = std::int64_t{1} << 31;
    return blocks.total <= most_short - threads_per_block
               ? launch(name, fill_blocks<T, Law, std::uint32_t>, shape, call, grid, blocks, out)
               : launch(name, fill_blocks<T, Law, std::uint64_t>, shape, call, grid, blocks, out);
}

__global__ void __launch_bounds__(threads_per_block)
    philox_blocks(const std::uint32_t* counters, const std::uint32_t* keys, std::int64_t count,
                  std::uint32_t* out) {
    for (std::int64_t i = grid_thread(); i < count; i += grid_threads()) {
        PhiloxBlock<std::uint64_t> c;
        for (int w = 0; w < 4; ++w)
            c.word[w] = counters[4 * i + w];
        c = philox4x32(c, {keys[2 * i], keys[2 * i + 1]});
        for (int w = 0; w < 4; ++w)
            out[4 * i + w] = static_cast<std::uint32_t>(c.word[w]);
    }
}

}  // namespace
}  // namespace HL_ISA_NAMESPACE
}  // namespace hl

hl::Status hl_cuda_random_normals_f32(const hl::RandomGrid* grid, float* out,
                                      const hl::CudaCall* call) {
    return hl::fill<float, hl::Normals>(*grid, out, *call, "random_normals");
}

hl::Status hl_cuda_random_normals_f64(const hl::RandomGrid* grid, double* out,
                                      const hl::CudaCall* call) {
    return hl::fill<double, hl::Normals>(*grid, out, *call, "random_normals");
}

hl::Status hl_cuda_random_uniforms_f32(const hl::RandomGrid* grid, float* out,
                                       const hl::CudaCall* call) {
    return hl::fill<float, hl::Uniforms>(*grid, out, *call, "random_uniforms");
}

hl::Status hl_cuda_random_uniforms_f64(const hl::RandomGrid* grid, double* out,
                                       const hl::CudaCall* call) {
    return hl::fill<double, hl::Uniforms>(*grid, out, *call, "random_uniforms");
}

hl::Status hl_cuda_random_philox(const std::uint32_t* counters, const std::uint32_t* keys,
                                 std::int64_t count, std::uint32_t* out, const hl::CudaCall* call) {
    return hl::launch("philox", hl::philox_blocks, hl::shape_for(count, hl::threads_per_block),
                      *call, counters, keys, count, out);
}
