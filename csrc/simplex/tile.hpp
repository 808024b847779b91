// A tile: one pack of chains in structure-of-arrays order, advanced many steps between one load and
// one store of the user's arrays. The objective is called through a pointer, so that the loop is
// compiled once for all of them.
#pragma once

#include <cstdlib>

#include "../core/blocks.hpp"
#include "../core/interrupt.hpp"
#include "../core/pack_memory.hpp"
#include "../core/pool.hpp"
#include "cpu.hpp"
#include "step_chain.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {

// Which chains are asked for, and where an objective may keep what it needs meanwhile.
template <class V>
struct Place {
    const SimplexChains<RealOf<V>>& chains;
    std::int64_t first_chain;
    int live;  // lanes that hold a chain; the others repeat the first
    V* scratch;
    std::int64_t step;  // whose minibatch is asked for, or all_rows
};

template <class V>
struct Objective {
    // Writes the value and the gradient at x.
    void (*evaluate)(const void* parameters, const Place<V>& place, const V* x, V* gradient,
                     V* value);
    const void* parameters;
    std::int64_t scratch_packs;
    std::int64_t cost;  // operations of one evaluation, roughly
    const char* name;
    // Above 0: steps see minibatches, and the objective itself is looked at each time that the
    // number of the step is a multiple of this.
    std::int64_t epoch;
};

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
