// Batches of flow matching, made row by row: everything drawn is a function of the seed, the step
// and the position in the batch.
#include "../core/normal.hpp"
#include "../core/pack_memory.hpp"
#include "matching_kernels.hpp"
#include "step_matching.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace flow {
namespace {

constexpr std::int32_t no_rows = 1;  // what NnPrepare returns for a step that isn't there

struct Choices {
    double time, condition, attribute;
};

// Block 0 of a position is its own; block 1 of position 0 belongs to the whole batch.
HL_INLINE Choices draw_choices(std::int64_t position, std::int64_t step, std::uint32_t block,
                               PhiloxKey key) {
    const std::uint32_t stream = static_cast<std::uint32_t>(Stream::matching_choices);
    const PackRows<double> row =
        PackRows<double>::prepare(static_cast<std::uint64_t>(position), step, stream, key);
    double u[4];
    draw_uniforms(row, step, block, key, u);
    return {u[0], u[1], u[2]};
}

// Rows [begin, end) of the batch of a step.
template <class T>
struct Batch {
    using V = typename PackOf<T>::Type;

    const FlowMatching<T>& call;
    std::int64_t step, begin, end;
    T* const* dense;
    std::int32_t* const* indices;
    PhiloxKey key;
    const std::int64_t* rows;  // of the training set
    T* target;

    HL_MEMBER Batch(const FlowMatching<T>& of, std::int64_t at, std::int64_t first,
                    std::int64_t last, T* const* tables, std::int32_t* const* labels)
        : call(of),
          step(at),
          begin(first),
          end(last),
          dense(tables),
          indices(labels),
          key(philox_key(of.seed)),
          rows(of.rows + (at - of.first_step) * of.size),
          target(tables[2 + of.num_sizes]) {}

    HL_MEMBER void choose() const {
        const Choices common = draw_choices(0, step, 1, key);
        for (std::int64_t i = begin; i < end; ++i) {
            const Choices own = draw_choices(i, step, 0, key);
            dense[1][i] = static_cast<T>(
                call.antithetic ? antithetic_time(i, common.time, call.size) : own.time);
            for (std::int64_t k = 0; k < call.num_sizes; ++k)
                dense[2 + k][i] = call.sizes[k * call.n + rows[i]];
            show_labels(i, call.per_batch ? common : own);
        }
    }

    HL_MEMBER void show_labels(std::int64_t i, const Choices& drawn) const {
        if (call.num_labels == 0) return;
        const bool seen = drawn.condition < call.p_cond;
        const std::int64_t chosen = chosen_attribute(drawn.attribute, call.num_labels);
        for (std::int64_t a = 0; a < call.num_labels; ++a) {
            const bool shown = seen && (call.together || a == chosen);
            indices[a][i] = shown ? call.labels[a * call.n + rows[i]] : -1;
        }
    }

    // Calls use(row of the batch, column, normal) for the normals of a stream.
    template <class Use>
    HL_MEMBER void draw(Stream stream, Use use) const {
        constexpr int lanes = LaneTraits<V>::lanes;
        for (std::int64_t first = begin; first < end; first += lanes) {
            const PackRows<V> prepared = PackRows<V>::prepare(
                static_cast<std::uint64_t>(first), step, static_cast<std::uint32_t>(stream), key);
            const std::int64_t live = end - first < lanes ? end - first : lanes;
            for (std::int64_t column = 0; column < call.d; column += 4) {
                V packs[4];
                draw_normals(prepared, step, static_cast<std::uint32_t>(column / 4), key, packs);
                T values[4 * lanes];
                store_interleaved(values, packs);
                const std::int64_t width = call.d - column < 4 ? call.d - column : 4;
                for (std::int64_t lane = 0; lane < live; ++lane) {
                    for (std::int64_t c = 0; c < width; ++c)
                        use(first + lane, column + c, values[4 * lane + c]);
                }
            }
        }
    }

    HL_MEMBER T end_of(std::int64_t i, std::int64_t column) const {
        return call.z[rows[i] * call.d + column];
    }

    HL_MEMBER void walk_independent() const {
        const T rest = static_cast<T>(1.0 - call.sigma);
        draw(Stream::matching_noise, [&](std::int64_t i, std::int64_t column, T noise) {
            const std::int64_t k = i * call.d + column;
            const T data = end_of(i, column);
            dense[0][k] = independent_point(dense[1][i], data, noise, rest);
            target[k] = independent_slope(data, noise, rest);
        });
    }

    HL_MEMBER void walk_optimal() const {
        draw(Stream::matching_noise, [&](std::int64_t i, std::int64_t column, T noise) {
            const std::int64_t k = i * call.d + column;
            const T data = end_of(i, column);
            dense[0][k] = optimal_point(dense[1][i], data, noise);
            target[k] = data - noise;
        });
        if (!(call.sigma > 0)) return;
        const T sigma = static_cast<T>(call.sigma);
        draw(Stream::path_noise, [&](std::int64_t i, std::int64_t column, T noise) {
            dense[0][i * call.d + column] += sigma * noise;
        });
    }
};

template <class T>
std::int32_t prepare(void* context, std::int64_t step, std::int64_t begin, std::int64_t end,
                     T* const* dense, std::int32_t* const* indices) {
    const FlowMatching<T>& call = *static_cast<const FlowMatching<T>*>(context);
    if (step < call.first_step || step - call.first_step >= call.num_steps || end > call.size)
        return no_rows;
    const Batch<T> batch(call, step, begin, end, dense, indices);
    batch.choose();
    if (call.optimal) {
        batch.walk_optimal();
    } else {
        batch.walk_independent();
    }
    return 0;
}

}  // namespace
}  // namespace flow

extern const FlowMatchingTable flow_matching_table;
const FlowMatchingTable flow_matching_table = {flow::prepare<float>, flow::prepare<double>};

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
