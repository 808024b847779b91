// Drivers that fill arrays with words, uniforms and normals.
//
// Lanes hold consecutive blocks of the grid in (step, chain, block) order, so that one chain with
// many coordinates and many chains with few fill a pack alike.
#include "kernels.hpp"

#include "../core/interrupt.hpp"
#include "../core/normal.hpp"
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

// The same when all lanes are blocks of one (step, chain).
HL_INLINE PhiloxBlock<u64v> row_counters(const Cursor& at, std::int64_t offset,
                                         std::uint64_t stride) {
    const std::int64_t step = at.grid.steps[at.step];
    PhiloxBlock<u64v> c;
    c.word[0] = u64v{} + static_cast<std::uint64_t>(step);
    c.word[1] = u64v{} + counter_word_1(step, at.grid.stream);
    c.word[2] = u64v{} + static_cast<std::uint64_t>(at.grid.chains[at.chain]);
    c.word[3] = count_from(static_cast<std::uint64_t>(at.first_block + at.block + offset), stride);
    return c;
}

HL_INLINE PhiloxBlock<u64v> pack_words(const Cursor& at, bool one_row, PhiloxKey key, f64v) {
    return philox4x32(one_row ? row_counters(at, 0, 1) : counters(at, 1), key);
}

HL_INLINE PhiloxBlock<u32v> pack_words(const Cursor& at, bool one_row, PhiloxKey key, f32v) {
    Cursor next = at;
    next.advance(1);
    const PhiloxBlock<u64v> even =
        philox4x32(one_row ? row_counters(at, 0, 2) : counters(at, 2), key);
    const PhiloxBlock<u64v> odd =
        philox4x32(one_row ? row_counters(at, 1, 2) : counters(next, 2), key);
    PhiloxBlock<u32v> out;
    for (int i = 0; i < 4; ++i)
        out.word[i] = interleave_words(even.word[i], odd.word[i]);
    return out;
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

template <class V, class Law>
static Status fill_task(void* context, std::int64_t task) {
    constexpr int lanes = LaneTraits<V>::lanes;
    const auto& fill = *static_cast<const Fill<RealOf<V>>*>(context);
    const RandomGrid& grid = fill.grid;
    const PhiloxKey key = philox_key(grid.seed);
    std::int64_t left = fill.num_blocks - task * blocks_per_task;
    left = left < blocks_per_task ? left : blocks_per_task;
    Cursor at(grid, task * blocks_per_task);
    for (; left > 0; left -= lanes, at.advance(lanes)) {
        const std::int64_t first = 4 * (at.first_block + at.block) - grid.first_coordinate;
        const bool one_row = at.block + lanes <= at.blocks;
        V values[4];
        Law::template make<V>(pack_words(at, one_row, key, V{}), values);
        if (left >= lanes && first >= 0 && first + 4 * lanes <= grid.num_coordinates) {
            store_interleaved(fill.out + at.row() * grid.num_coordinates + first, values);
        } else {
            scatter(at, values, left < lanes ? static_cast<int>(left) : lanes, fill.out);
        }
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
