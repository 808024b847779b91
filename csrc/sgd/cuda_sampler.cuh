// Which rows of the data the samples of a chain are.
#pragma once

#include "../core/cuda_device.cuh"
#include "step.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {

// The samples of a chain that one of `lanes` lanes draws: every so many.
template <class T, int lanes>
struct LaneSampler {
    const SgdRows<T>& p;
    PhiloxKey key;
    std::uint64_t chain;
    PackRows<T> rows;
    std::int64_t step, sample;     // with replacement: sample `sample` of the batch of `step`
    std::int64_t epoch, position;  // else: row `position` of the order of `epoch`
    std::int64_t permuted_epoch;
    Permutation permutation;

    HL_DEVICE_MEMBER LaneSampler(const SgdRows<T>& parameters, std::uint64_t seed,
                                 std::uint64_t chain_index, std::int64_t first_step, int lane)
        : p(parameters),
          key(philox_key(seed)),
          chain(chain_index),
          step(first_step),
          sample(lane),
          epoch(0),
          position(0),
          permuted_epoch(-1) {
        if (p.sampling == Sampling::iid) {
            rows = PackRows<T>::prepare(chain, first_step,
                                        static_cast<std::uint32_t>(Stream::row_sampling), key);
            carry(sample, p.batch_size, step);
        } else {
            epoch = first_step * p.batch_size / p.num_rows;
            position = first_step * p.batch_size - epoch * p.num_rows + lane;
            carry(position, p.num_rows, epoch);
        }
    }

    HL_DEVICE_MEMBER std::uint32_t next() {
        std::int64_t row;
        if (p.sampling == Sampling::iid) {
            const std::uint32_t block = static_cast<std::uint32_t>(sample >> 2);
            const PhiloxBlock<WordsOf<T>> words = draw_words(rows, step, block, key);
            const int word = static_cast<int>(sample & 3);
            const WordsOf<T> low = word & 1 ? words.word[1] : words.word[0];
            const WordsOf<T> high = word & 1 ? words.word[3] : words.word[2];
            row = iid_row(static_cast<std::uint32_t>(word & 2 ? high : low), p.num_rows, chain,
                          step, sample, key);
            sample += lanes;
            carry(sample, p.batch_size, step);
        } else {
            row = position;
            if (p.sampling == Sampling::reshuffle) {
                if (permuted_epoch != epoch) {
                    permutation = epoch_permutation(chain, epoch, p.num_rows, key);
                    permuted_epoch = epoch;
                }
                row = permute(permutation, position, p.num_rows);
            }
            position += lanes;
            carry(position, p.num_rows, epoch);
        }
        return static_cast<std::uint32_t>(row);
    }

  private:
    // At most `lanes` turns: cheaper than a division of 64-bit integers.
    static HL_DEVICE_MEMBER void carry(std::int64_t& digit, std::int64_t base, std::int64_t& next) {
        while (digit >= base) {
            digit -= base;
            ++next;
        }
    }
};

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
