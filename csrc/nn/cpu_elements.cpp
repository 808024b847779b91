// Activations of their own, and dropout.
#include "fused.hpp"
#include "step_layers.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace {

namespace activations {

template <class T>
Status forward(const NnPass<T>& pass, const NnInstruction& it, std::int64_t) {
    const Columns<T> x = values_of(pass, it.input), y = values_of(pass, it.output);
    return over_tasks(
        parts(pass.rows, rows_per_task), 8 * product_of(pass.rows, x.width), pass.num_threads,
        [&](std::int64_t task) {
            const std::int64_t first = task * rows_per_task;
            const std::int64_t last = smaller(first + rows_per_task, pass.rows);
            with_activation(static_cast<NnActivation>(it.activation), [&](auto activation) {
                for (std::int64_t r = first; r < last; ++r) {
                    const T* const from = x.row(r);
                    T* const to = y.row(r);
                    for_columns<T>(0, x.width, [&](auto pack, std::int64_t j) {
                        store(to + j, activation.value(load<decltype(pack)>(from + j)));
                    });
                }
            });
        });
}

template <class T>
Status backward(const NnPass<T>& pass, const NnInstruction& it, std::int64_t n) {
    const NnDuty& duty = pass.plan.duties[n];
    if (!duty.needs_input) return Status::success();
    const Columns<T> x = values_of(pass, it.input), y = values_of(pass, it.output);
    const Columns<T> dx = gradients_of(pass, it.input), dy = gradients_of(pass, it.output);
    return over_tasks(parts(pass.rows, rows_per_task), 8 * product_of(pass.rows, x.width),
                      pass.num_threads, [&](std::int64_t task) {
                          const std::int64_t first = task * rows_per_task;
                          const std::int64_t last = smaller(first + rows_per_task, pass.rows);
                          slope_rows(dy, x, y, static_cast<NnActivation>(it.activation), first,
                                     last, 0, x.width);
                          give_rows(dy, dx, duty.adds_input, first, last, 0, x.width);
                      });
}

}  // namespace activations

namespace masks {

using Blocks = PhiloxBlock<u64v>;
constexpr int lanes = LaneTraits<f64v>::lanes;
constexpr std::int64_t group = 4 * lanes;  // columns that one call of Philox serves

HL_INLINE void draw_group(const NnInstruction& it, std::int64_t row, std::int64_t step,
                          std::int64_t column, PhiloxKey key, std::uint64_t* words) {
    const u64v zero{};
    Blocks counter = {{zero + static_cast<std::uint32_t>(step),
                       zero + counter_word_1(step, static_cast<std::uint32_t>(Stream::dropout)),
                       zero + static_cast<std::uint32_t>(row),
                       count_from(dropout_block(it.buffer, column), 1)}};
    counter = philox4x32(counter, key);
    for (int lane = 0; lane < lanes; ++lane)
        for (int word = 0; word < 4; ++word)
            words[4 * lane + word] = counter.word[word][lane] & 0xffffffffu;
}

// to = from mask / (1 - p), or to += ... .
template <class T>
Status apply(const NnPass<T>& pass, const NnInstruction& it, Columns<T> from, Columns<T> to,
             bool adds) {
    const double p = pass.training ? it.constants[0] : 0.0;
    const T scale = static_cast<T>(1.0 / (1.0 - p));
    const std::uint64_t threshold = dropout_threshold(p);
    const PhiloxKey key = philox_key(pass.seed);
    return over_tasks(parts(pass.rows, rows_per_task), 16 * product_of(pass.rows, from.width),
                      pass.num_threads, [&](std::int64_t task) {
                          const std::int64_t first = task * rows_per_task;
                          const std::int64_t last = smaller(first + rows_per_task, pass.rows);
                          if (threshold == 0) {
                              give_rows(from, to, adds, first, last, 0, from.width);
                              return;
                          }
                          std::uint64_t words[group];
                          for (std::int64_t r = first; r < last; ++r) {
                              for (std::int64_t j = 0; j < from.width; ++j) {
                                  if (j % group == 0) draw_group(it, r, pass.step, j, key, words);
                                  const T x =
                                      words[j % group] >= threshold ? from.row(r)[j] * scale : T(0);
                                  to.row(r)[j] = adds ? to.row(r)[j] + x : x;
                              }
                          }
                      });
}

template <class T>
Status forward(const NnPass<T>& pass, const NnInstruction& it, std::int64_t) {
    return apply(pass, it, values_of(pass, it.input), values_of(pass, it.output), false);
}

template <class T>
Status backward(const NnPass<T>& pass, const NnInstruction& it, std::int64_t n) {
    if (!pass.plan.duties[n].needs_input) return Status::success();
    return apply(pass, it, gradients_of(pass, it.output), gradients_of(pass, it.input),
                 pass.plan.duties[n].adds_input);
}

}  // namespace masks
}  // namespace

HL_NN_DEFINE_PASSES(activation, activations)
HL_NN_DEFINE_PASSES(dropout, masks)

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
