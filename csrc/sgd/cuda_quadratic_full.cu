// CUDA driver of the quadratic with a full matrix and correlated noise.
//
// A group of 4 to 32 lanes works on up to four copies of one chain. A lane owns whole rows of the
// matrix and adds its dot products alone, in the four strands of Dot; matrix and noise factor come
// transposed, so that neighbouring lanes read neighbouring numbers. What all lanes need, normals
// and t - t*, goes through an exchange area: shared memory up to dim 128, workspace beyond. Short
// chains have more lanes than Philox blocks and draw the normals of several steps at once.
#include "../core/cuda_device.cuh"
#include "cuda.hpp"
#include "cuda_share.cuh"
#include "step.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace {

constexpr int threads_per_block = 128;
constexpr int most_rows_per_lane = 4;  // in registers

// How a chain is laid over lanes, and where its group exchanges.
struct Layout {
    int lanes;           // a power of two
    int steps_ahead;     // steps whose normals are drawn together
    std::int64_t width;  // dim rounded up to whole blocks of four
    std::int64_t numbers_per_group;
};

// sum_k columns[k * stride] vectors[j][k] for each copy j, in the order of Dot.
template <int J, class T>
HL_DEVICE void dot_columns(std::int64_t n, const T* column, std::int64_t stride, const T* vectors,
                           std::int64_t width, T (&total)[J]) {
    Dot<T> sum[J];
    std::int64_t k = 0;
    for (; k + 4 <= n; k += 4) {
        T a[4];
        for (int s = 0; s < 4; ++s)
            a[s] = read_only(column + (k + s) * stride);
        for (int j = 0; j < J; ++j) {
            const Four<T> b = load_four(vectors + j * width + k);
            for (int s = 0; s < 4; ++s)
                sum[j].strand[s] += a[s] * b.value[s];
        }
    }
    for (int s = 0; s < 3; ++s) {
        if (k + s >= n) break;
        const T a = read_only(column + (k + s) * stride);
        for (int j = 0; j < J; ++j)
            sum[j].strand[s] += a * vectors[j * width + k + s];
    }
    for (int j = 0; j < J; ++j)
        total[j] = sum[j].total();
}

// The group of lanes that works on one chain.
template <class T, int R, int J>
struct Group {
    const SgdChains<T>& chains;
    const SgdQuadraticFull<T>& p;
    const Layout& layout;
    int lane;
    unsigned lanes;  // bits of the group within its warp
    std::int64_t cell;
    bool live;
    T* normals;     // (steps ahead, width)
    T* difference;  // (J, width)
    PhiloxKey key;
    PackRows<T> rows;
    Share<T, R> share[J];
    T step_size[J];
    unsigned frozen;

    HL_DEVICE_MEMBER Group(const SgdChains<T>& c, const SgdQuadraticFull<T>& parameters,
                           const Layout& l, T* exchange, std::int64_t chain,
                           std::int64_t first_copy, bool is_live)
        : chains(c),
          p(parameters),
          layout(l),
          lane(static_cast<int>(threadIdx.x) % l.lanes),
          cell(chain * c.num_step_sizes + first_copy),
          live(is_live),
          normals(exchange),
          difference(exchange + l.steps_ahead * l.width),
          key(philox_key(c.seed)),
          frozen(0) {
        const int first_lane = static_cast<int>(threadIdx.x) % warp_lanes / l.lanes * l.lanes;
        lanes = full_warp >> (warp_lanes - l.lanes) << first_lane;
        rows = PackRows<T>::prepare(static_cast<std::uint64_t>(c.chain_offset + chain),
                                    c.first_step, static_cast<std::uint32_t>(Stream::noise), key);
        T* const next = difference + J * l.width;
        for (int j = 0; j < J; ++j) {
            share[j] = Share<T, R>(c, cell + j, lane, l.lanes, live, next + j * l.width);
            step_size[j] = c.step_sizes[chain * c.step_size_stride + first_copy + j];
            frozen |= c.flags[cell + j] != 0 ? 1u << j : 0u;
        }
    }

    HL_DEVICE_MEMBER void draw(std::int64_t step) {
        const std::int64_t blocks = layout.width / 4;
        for (std::int64_t u = lane; u < blocks * layout.steps_ahead; u += layout.lanes) {
            const std::int64_t later = u / blocks;
            const std::uint32_t block = static_cast<std::uint32_t>(u - later * blocks);
            T z[4];
            draw_normals(rows, step + later, block, key, z);
            store_four(normals + 4 * u, z);
        }
    }

    // Between two calls every lane of the warp must have passed __syncwarp.
    HL_DEVICE_MEMBER void publish_differences() {
        for (int j = 0; j < J; ++j) {
            share[j].each([&](auto r) {
                const std::int64_t k = lane + static_cast<std::int64_t>(layout.lanes) * r;
                difference[j * layout.width + k] = share[j].theta(r) - p.minimizer[k];
            });
        }
    }

    // Returns the copies of which a coordinate of this lane left the range.
    HL_DEVICE_MEMBER unsigned propose(int turn) {
        unsigned left = 0;
        share[0].each([&](auto r) {
            const std::int64_t k = lane + static_cast<std::int64_t>(layout.lanes) * r;
            T noise[1], pull[J];
            dot_columns<1>(k + 1, p.noise_factor + k, chains.dim, normals + turn * layout.width,
                           layout.width, noise);
            dot_columns<J>(chains.dim, p.matrix + k, chains.dim, difference, layout.width, pull);
            for (int j = 0; j < J; ++j) {
                const T g = pull[j] + noise[0];
                share[j].next(r) = sgd_update(share[j].theta(r), step_size[j], g);
                left |= within(share[j].next(r), chains.divergence_limit) ? 0u : 1u << j;
            }
        });
        return left & ~frozen;
    }

    HL_DEVICE_MEMBER void commit(unsigned left, std::int64_t step) {
        if (__any_sync(full_warp, left != 0)) {
            for (int j = 0; j < J; ++j) {
                if (!any_in_group((left >> j & 1u) != 0, lanes)) continue;
                frozen |= 1u << j;
                if (!live || lane != 0) continue;
                chains.flags[cell + j] = 1;
                chains.diverged_at[cell + j] = step;
            }
        }
        for (int j = 0; j < J; ++j)
            commit_share(share[j], (frozen >> j & 1u) != 0, chains.accumulate);
    }

    HL_DEVICE_MEMBER void run() {
        int turn = 0;
        const std::int64_t end = chains.first_step + chains.num_steps;
        for (std::int64_t step = chains.first_step; step < end; ++step) {
            if (turn == 0) draw(step);
            publish_differences();
            __syncwarp();
            const unsigned left = propose(turn);
            __syncwarp();
            commit(left, step);
            turn = turn + 1 == layout.steps_ahead ? 0 : turn + 1;
        }
        for (int j = 0; j < J; ++j)
            share[j].store(chains, cell + j, lane, layout.lanes);
    }
};

template <class T, int R, int J>
__global__ void __launch_bounds__(threads_per_block)
    advance_quadratic_full(SgdChains<T> chains, SgdQuadraticFull<T> p, std::int64_t first_copy,
                           Layout layout, T* workspace) {
    HL_DYNAMIC_SHARED(shared);
    const std::int64_t group_in_grid = grid_thread() / layout.lanes;
    T* const exchange =
        R > 0 ? reinterpret_cast<T*>(shared) + threadIdx.x / layout.lanes * layout.numbers_per_group
              : workspace + group_in_grid * layout.numbers_per_group;
    const int groups_per_warp = warp_lanes / layout.lanes;
    const int slot = static_cast<int>(threadIdx.x) % warp_lanes / layout.lanes;
    const std::int64_t stride = grid_threads() / layout.lanes;
    std::int64_t first = grid_thread() / warp_lanes * groups_per_warp;
    for (; first < chains.num_chains; first += stride) {
        const bool live = first + slot < chains.num_chains;
        Group<T, R, J> group(chains, p, layout, exchange, live ? first + slot : first, first_copy,
                             live);
        group.run();
        __syncwarp();
    }
}

constexpr std::int64_t most_in_registers = std::int64_t{warp_lanes} * most_rows_per_lane;

template <class T>
Layout make_layout(const SgdChains<T>& chains, int copies) {
    Layout layout{4, 1, 4 * ceil_div(chains.dim, 4), 0};
    while (layout.lanes < chains.dim && layout.lanes < warp_lanes)
        layout.lanes *= 2;
    const std::int64_t blocks = layout.width / 4;
    if (layout.lanes > blocks) layout.steps_ahead = static_cast<int>(layout.lanes / blocks);
    // The differences of a copy, and its next iterate when the state stays in memory.
    const int areas = chains.dim <= most_in_registers ? 1 : 2;
    layout.numbers_per_group = (layout.steps_ahead + areas * copies) * layout.width;
    return layout;
}

template <class T>
std::int64_t block_bytes(const Layout& layout) {
    return threads_per_block / layout.lanes * layout.numbers_per_group *
           static_cast<std::int64_t>(sizeof(T));
}

template <class T>
LaunchShape grid_shape(const SgdChains<T>& chains, const Layout& layout) {
    return shape_for(chains.num_chains * layout.lanes, threads_per_block);
}

constexpr const char* name = "sgd_quadratic_full";

template <class T, int R, int J>
Status run_copies(const SgdChains<T>& chains, const SgdQuadraticFull<T>& p, const CudaCall& call,
                  std::int64_t first_copy) {
    const Layout layout = make_layout(chains, J);
    LaunchShape shape = grid_shape(chains, layout);
    if constexpr (R > 0) {
        shape.shared_bytes = block_bytes<T>(layout);
    } else {
        const std::int64_t room = call.workspace_bytes / block_bytes<T>(layout);
        if (room == 0) return Status::internal(name);
        shape.blocks = shape.blocks < room ? shape.blocks : room;
    }
    return launch(name, advance_quadratic_full<T, R, J>, shape, call, chains, p, first_copy, layout,
                  static_cast<T*>(call.workspace));
}

// Copies that a group holds: up to dim 32, and beyond.
constexpr int most_copies_short = 4;
constexpr int most_copies_long = 2;

template <class T>
int copies_of_group(const SgdChains<T>& chains) {
    return sgd_next_group(chains.num_step_sizes,
                          chains.dim <= warp_lanes ? most_copies_short : most_copies_long);
}

template <class T>
std::int64_t steps_of_launch(const SgdChains<T>& chains) {
    const int copies = copies_of_group(chains);
    const Layout layout = make_layout(chains, copies);
    const double rows = static_cast<double>(ceil_div(chains.dim, layout.lanes));
    const double row_cost = 3 * static_cast<double>(chains.dim) * (copies + 1);
    const double cost = sgd_operation_cost<T> * (60 + rows * (70 + row_cost)) +
                        rows * copies * (8 * sgd_operation_cost<T> + sgd_sum_cost);
    return sgd_launch_steps(chains.first_step, chains.num_steps, chains.num_chains * layout.lanes,
                            cost);
}

template <class T>
Status run_quadratic_full(const SgdChains<T>& chains, const SgdQuadraticFull<T>& p,
                          const CudaCall& call, std::int64_t* steps_done) {
    SgdChains<T> part = chains;
    part.num_steps = steps_of_launch(chains);
    *steps_done = part.num_steps;
    if (chains.dim <= warp_lanes) {
        return sgd_run_groups<most_copies_short>(
            chains.num_step_sizes, [&](auto group, std::int64_t first) {
                return run_copies<T, 1, decltype(group)::size>(part, p, call, first);
            });
    }
    return sgd_run_groups<most_copies_long>(
        chains.num_step_sizes, [&](auto group, std::int64_t first) {
            constexpr int J = decltype(group)::size;
            return chains.dim <= most_in_registers
                       ? run_copies<T, most_rows_per_lane, J>(part, p, call, first)
                       : run_copies<T, 0, J>(part, p, call, first);
        });
}

template <class T>
std::int64_t full_workspace(const SgdChains<T>& chains) {
    if (chains.dim <= most_in_registers) return 0;
    const Layout layout = make_layout(chains, copies_of_group(chains));
    return sgd_workspace(grid_shape(chains, layout).blocks, block_bytes<T>(layout));
}

}  // namespace
}  // namespace HL_ISA_NAMESPACE
}  // namespace hl

HL_SGD_CUDA_DEFINE(quadratic_full, SgdQuadraticFull, hl::run_quadratic_full, hl::full_workspace)
