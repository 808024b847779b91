// Drivers that fill arrays with words, uniforms and normals.
//
// Lanes hold consecutive blocks of the grid in (step, chain, block) order, so that one chain with
// many coordinates and many chains with few fill a pack alike.
#include "kernels.hpp"

#include "../core/interrupt.hpp"
#include "../core/normal.hpp"
#include "../core/pack_memory.hpp"
#include "../core/pool.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace {

constexpr std::int64_t blocks_per_task = 1 << 13;

// Where a running number of blocks stands in the grid.
struct Cursor {
    const RandomGrid& grid;
    std::int64_t first_block, blocks;  // of each (step, chain)
    std::int64_t step, chain, block;   // indices into the grid

    HL_MEMBER Cursor(const RandomGrid& g, std::int64_t start)
        : grid(g),
          first_block(g.first_coordinate >> 2),
          blocks(((g.first_coordinate + g.num_coordinates + 3) >> 2) - first_block),
          step(start / (blocks * g.num_chains)),
          chain(start / blocks % g.num_chains),
          block(start % blocks) {}

    HL_MEMBER void advance(std::int64_t count) {
        block += count;
        while (block >= blocks) {
            block -= blocks;
            if (++chain == grid.num_chains) {
                chain = 0;
                ++step;
            }
        }
    }

    // The row of the output this block belongs to.
    HL_MEMBER std::int64_t row() const { return step * grid.num_chains + chain; }
};

struct Normals {
    template <class V>
    static HL_MEMBER void make(const PhiloxBlock<WordsOf<V>>& x, V* z) {
        box_muller(x.word[0], x.word[1], z[0], z[1]);
        box_muller(x.word[2], x.word[3], z[2], z[3]);
    }
};

struct Uniforms {
    template <class V>
    static HL_MEMBER void make(const PhiloxBlock<WordsOf<V>>& x, V* u) {
        for (int i = 0; i < 4; ++i)
            u[i] = uniform<V>(x.word[i]);
    }
};

// Counters of 64-bit lanes, each lane `stride` blocks after the one before.
HL_INLINE PhiloxBlock<u64v> counters(Cursor at, std::int64_t stride) {
    const RandomGrid& grid = at.grid;
    PhiloxBlock<u64v> c;
    for (int lane = 0; lane < LaneTraits<f64v>::lanes; ++lane) {
        const bool inside = at.step < grid.num_steps;
        const std::int64_t step = inside ? grid.steps[at.step] : 0;
        c.word[0][lane] = static_cast<std::uint64_t>(step);
        c.word[1][lane] = counter_word_1(step, grid.stream);
        c.word[2][lane] = static_cast<std::uint64_t>(inside ? grid.chains[at.chain] : 0);
        c.word[3][lane] = static_cast<std::uint64_t>(at.first_block + at.block);
        at.advance(stride);
    }
    return c;
}

// The words when all lanes are blocks of one (step, chain), from `block` on. What the first two
// rounds make of step and chain is the same in all lanes.
HL_INLINE PhiloxBlock<u64v> row_words(const Cursor& at, std::int64_t block, std::uint64_t stride,
                                      PhiloxKey key) {
    const std::int64_t step = at.grid.steps[at.step];
    const PhiloxKey key_2 = philox_round_key(key, 1);
    const std::uint64_t p0 = multiply_wide(static_cast<std::uint64_t>(step), philox_multiplier_0);
    const std::uint64_t p1 =
        multiply_wide(static_cast<std::uint64_t>(at.grid.chains[at.chain]), philox_multiplier_1);
    const std::uint64_t c0 = (p1 >> 32) ^ counter_word_1(step, at.grid.stream) ^ key.low;
    const std::uint64_t q0 = multiply_wide(c0, philox_multiplier_0);
    const u64v blocks = count_from(static_cast<std::uint64_t>(at.first_block + block), stride);
    const u64v q1 = multiply_wide(blocks ^ ((p0 >> 32) ^ key.high), philox_multiplier_1);
    PhiloxBlock<u64v> c;
    c.word[0] = (q1 >> 32) ^ ((p1 & 0xffffffffu) ^ key_2.low);
    c.word[1] = q1;
    c.word[2] = u64v{} + ((q0 >> 32) ^ (p0 & 0xffffffffu) ^ key_2.high);
    c.word[3] = u64v{} + q0;
    philox_rounds(c, key, 2);
    return c;
}

HL_INLINE PhiloxBlock<u32v> interleave(const PhiloxBlock<u64v>& even,
                                       const PhiloxBlock<u64v>& odd) {
    PhiloxBlock<u32v> out;
    for (int i = 0; i < 4; ++i)
        out.word[i] = interleave_words(even.word[i], odd.word[i]);
    return out;
}

HL_INLINE PhiloxBlock<u64v> row_words(const Cursor& at, std::int64_t block, PhiloxKey key, f64v) {
    return row_words(at, block, 1, key);
}

HL_INLINE PhiloxBlock<u32v> row_words(const Cursor& at, std::int64_t block, PhiloxKey key, f32v) {
    return interleave(row_words(at, block, 2, key), row_words(at, block + 1, 2, key));
}

HL_INLINE PhiloxBlock<u64v> grid_words(const Cursor& at, PhiloxKey key, f64v) {
    return philox4x32(counters(at, 1), key);
}

HL_INLINE PhiloxBlock<u32v> grid_words(const Cursor& at, PhiloxKey key, f32v) {
    Cursor next = at;
    next.advance(1);
    return interleave(philox4x32(counters(at, 2), key), philox4x32(counters(next, 2), key));
}

// The coordinates of a pack of blocks that lie anywhere in the grid.
template <class V>
HL_INLINE void scatter(Cursor at, const V* values, int live, RealOf<V>* out) {
    const std::int64_t count = at.grid.num_coordinates;
    for (int lane = 0; lane < live; ++lane) {
        const std::int64_t first = 4 * (at.first_block + at.block) - at.grid.first_coordinate;
        for (int c = 0; c < 4; ++c) {
            const std::int64_t k = first + c;
            if (k >= 0 && k < count) out[at.row() * count + k] = values[c][lane];
        }
        at.advance(1);
    }
}

template <class T>
struct Fill {
    const RandomGrid& grid;
    T* out;
    std::int64_t num_blocks;
};

// Fills with whole packs of one (step, chain), two at a time so that their chains of dependent
// instructions overlap; returns the number of blocks.
template <class V, class Law>
HL_INLINE std::int64_t fill_row(const Cursor& at, std::int64_t left, PhiloxKey key,
                                RealOf<V>* out) {
    constexpr int lanes = LaneTraits<V>::lanes;
    const RandomGrid& grid = at.grid;
    const std::int64_t first = 4 * (at.first_block + at.block) - grid.first_coordinate;
    if (first < 0) return 0;
    const std::int64_t whole = (grid.num_coordinates - first) >> 2;
    const std::int64_t count = left < whole ? left : whole;
    RealOf<V>* const target = out + at.row() * grid.num_coordinates + first;
    std::int64_t done = 0;
    for (; done + 2 * lanes <= count; done += 2 * lanes) {
        const auto x = row_words(at, at.block + done, key, V{});
        const auto y = row_words(at, at.block + done + lanes, key, V{});
        V values[8];
        Law::template make<V>(x, values);
        Law::template make<V>(y, values + 4);
        store_interleaved(target + 4 * done, values);
        store_interleaved(target + 4 * (done + lanes), values + 4);
    }
    for (; done + lanes <= count; done += lanes) {
        V values[4];
        Law::template make<V>(row_words(at, at.block + done, key, V{}), values);
        store_interleaved(target + 4 * done, values);
    }
    return done;
}

template <class V, class Law>
static Status fill_task(void* context, std::int64_t task) {
    constexpr int lanes = LaneTraits<V>::lanes;
    const auto& fill = *static_cast<const Fill<RealOf<V>>*>(context);
    const RandomGrid& grid = fill.grid;
    const PhiloxKey key = philox_key(grid.seed);
    std::int64_t left = fill.num_blocks - task * blocks_per_task;
    left = left < blocks_per_task ? left : blocks_per_task;
    Cursor at(grid, task * blocks_per_task);
    while (left > 0) {
        const bool one_row = at.block + lanes <= at.blocks;
        if (one_row) {
            const std::int64_t done = fill_row<V, Law>(at, left, key, fill.out);
            at.advance(done);
            left -= done;
            if (done > 0) continue;
        }
        const int live = left < lanes ? static_cast<int>(left) : lanes;
        V values[4];
        Law::template make<V>(
            one_row ? row_words(at, at.block, key, V{}) : grid_words(at, key, V{}), values);
        scatter(at, values, live, fill.out);
        at.advance(live);
        left -= live;
    }
    return stop_requested() ? Status::interrupted("random") : Status::success();
}

template <class V, class Law>
Status fill(const RandomGrid& grid, RealOf<V>* out) {
    const Cursor start(grid, 0);
    const Fill<RealOf<V>> job{grid, out, start.blocks * grid.num_chains * grid.num_steps};
    const std::int64_t tasks = (job.num_blocks + blocks_per_task - 1) / blocks_per_task;
    return parallel_for(tasks, grid.num_threads, fill_task<V, Law>,
                        const_cast<Fill<RealOf<V>>*>(&job));
}

struct PhiloxJob {
    const std::uint32_t* counters;
    const std::uint32_t* keys;
    std::int64_t count;
    std::uint32_t* out;
};

Status philox_task(void* context, std::int64_t task) {
    const auto& job = *static_cast<const PhiloxJob*>(context);
    const std::int64_t begin = task * blocks_per_task;
    const std::int64_t end =
        begin + blocks_per_task < job.count ? begin + blocks_per_task : job.count;
    for (std::int64_t i = begin; i < end; ++i) {
        PhiloxBlock<std::uint64_t> c;
        for (int w = 0; w < 4; ++w)
            c.word[w] = job.counters[4 * i + w];
        c = philox4x32(c, {job.keys[2 * i], job.keys[2 * i + 1]});
        for (int w = 0; w < 4; ++w)
            job.out[4 * i + w] = static_cast<std::uint32_t>(c.word[w]);
    }
    return stop_requested() ? Status::interrupted("philox") : Status::success();
}

Status philox(const std::uint32_t* counters, const std::uint32_t* keys, std::int64_t count,
              int num_threads, std::uint32_t* out) {
    PhiloxJob job{counters, keys, count, out};
    const std::int64_t tasks = (count + blocks_per_task - 1) / blocks_per_task;
    return parallel_for(tasks, num_threads, philox_task, &job);
}

}  // namespace

extern const RandomTable random_table;
const RandomTable random_table = {fill<f32v, Normals>, fill<f32v, Uniforms>, fill<f64v, Normals>,
                                  fill<f64v, Uniforms>, philox};

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
