// How a velocity network v(z, t, labels, inputs) is evaluated many times: what doesn't depend on z
// is tabulated over times and labels where all rows share the times, what depends neither on z nor
// on t is made once, what doesn't depend on the labels is shared by the branches of guidance.
//
// A product that is needed less often than what is added to it becomes an instruction of its own;
// the sums keep their order, so that the plan never changes a bit.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "integrate_kernels.hpp"

namespace hl {

class FlowPlanner {
  public:
    // `tabulate`: all rows share the times.
    FlowPlanner(const NnProgram& program, NnOperand output, bool tabulate, std::int64_t branches)
        : program_(program), output_(output), tabulate_(tabulate), branches_(branches) {
        for (std::int64_t s = 0; s < program.num_slots; ++s)
            slots_.push_back({program.widths[s], FlowHome::shared, -1, -1});
        keep_needed();
        spread_masks();
        split();
        order();
        place_table();
        place_lasting();
        place_passing(FlowPhase::shared, FlowHome::shared, shared_columns_);
        place_passing(FlowPhase::branch, FlowHome::branch, branch_columns_);
    }

    FlowPlan view() const {
        FlowPlan plan{};
        plan.instructions = instructions_.data();
        std::copy(phases_.begin(), phases_.end(), plan.phases);
        plan.slots = slots_.data();
        plan.num_slots = static_cast<std::int64_t>(slots_.size());
        plan.num_inputs = program_.num_inputs;
        for (const NnInstruction& i : instructions_) {
            if (is_embedding(i)) plan.num_indices = std::max(plan.num_indices, i.input.slot + 1);
        }
        plan.shared_columns = shared_columns_;
        plan.branch_columns = branch_columns_;
        plan.table_columns = table_columns_;
        plan.made_columns = made_columns_;
        for (const FlowSlot& slot : slots_)
            plan.widest = std::max(plan.widest, slot.width);
        plan.output = output_;
        return plan;
    }

  private:
    // What a slot depends on.
    static constexpr unsigned state = 1, time = 2, labels = 4, rows = 8;

    static bool is_embedding(const NnInstruction& i) {
        return static_cast<NnOperation>(i.operation) == NnOperation::embedding;
    }

    static bool has_product(const NnInstruction& i) {
        return static_cast<NnOperation>(i.operation) == NnOperation::dense || is_embedding(i);
    }

    static std::size_t at(std::int64_t slot) { return static_cast<std::size_t>(slot); }

    unsigned mask_of_input(const NnInstruction& i) const {
        return is_embedding(i) ? labels : masks_[at(i.input.slot)];
    }

    bool reads(const NnInstruction& i, std::int64_t slot) const {
        return (!is_embedding(i) && i.input.slot == slot) || i.addend.slot == slot;
    }

    // Instructions on which the output depends; evaluation keeps nothing for a way back.
    void keep_needed() {
        std::vector<bool> needed(slots_.size(), false);
        needed[at(output_.slot)] = true;
        for (std::int64_t k = program_.num_instructions - 1; k >= 0; --k) {
            NnInstruction i = program_.instructions[k];
            if (!needed[at(i.output.slot)]) continue;
            if (!is_embedding(i)) needed[at(i.input.slot)] = true;
            if (i.addend.slot >= 0) needed[at(i.addend.slot)] = true;
            i.pre = {-1, 0, 0};
            instructions_.push_back(i);
        }
        std::reverse(instructions_.begin(), instructions_.end());
    }

    void spread_masks() {
        masks_.assign(slots_.size(), 0);
        for (std::int64_t s = 0; s < program_.num_inputs; ++s)
            masks_[at(s)] = s == 0 ? state : s == 1 ? time : rows;
        // Again until nothing changes: a slot that several instructions fill is known at the last.
        for (bool changed = true; changed;) {
            changed = false;
            for (const NnInstruction& i : instructions_) {
                unsigned mask = masks_[at(i.output.slot)] | mask_of_input(i);
                if (i.addend.slot >= 0) mask |= masks_[at(i.addend.slot)];
                changed = changed || mask != masks_[at(i.output.slot)];
                masks_[at(i.output.slot)] = mask;
            }
        }
    }

    FlowPhase phase_of(unsigned mask) const {
        const bool by_branch = (mask & labels) != 0;
        if (tabulate_ && (mask & (state | rows)) == 0) return FlowPhase::table;
        if ((mask & (state | time)) == 0)
            return by_branch ? FlowPhase::once_branch : FlowPhase::once_shared;
        return by_branch ? FlowPhase::branch : FlowPhase::shared;
    }

    // How much an instruction of a phase costs, up to a factor.
    int cost_of(FlowPhase phase) const {
        switch (phase) {
            case FlowPhase::table:
                return 0;
            case FlowPhase::once_shared:
            case FlowPhase::once_branch:
                return 1;
            case FlowPhase::shared:
                return 2;
            default:
                return branches_ > 1 ? 3 : 2;
        }
    }

    void split() {
        std::vector<NnInstruction> all;
        for (NnInstruction i : instructions_) {
            const unsigned mask = has_product(i) ? mask_of_input(i) : 0;
            const bool worth =
                has_product(i) && i.addend.slot >= 0 &&
                cost_of(phase_of(mask)) < cost_of(phase_of(masks_[at(i.output.slot)]));
            if (worth) {
                const NnOperand product = {static_cast<std::int64_t>(slots_.size()), 0,
                                           i.output.width};
                slots_.push_back({i.output.width, FlowHome::shared, -1, -1});
                masks_.push_back(mask);
                NnInstruction first = i;
                first.output = product;
                first.addend = {-1, 0, 0};
                first.activation = static_cast<std::int64_t>(NnActivation::identity);
                all.push_back(first);
                i.operation = static_cast<std::int64_t>(NnOperation::activation);
                i.input = product;
                i.weight = i.bias = -1;
                // What is tabulated is added.
                if (phase_of(mask) == FlowPhase::table) std::swap(i.input, i.addend);
            }
            all.push_back(i);
        }
        instructions_ = all;
    }

    FlowPhase phase_of(const NnInstruction& i) const { return phase_of(masks_[at(i.output.slot)]); }

    // Phase by phase, in each as the network has them.
    void order() {
        const auto earlier = [this](const NnInstruction& a, const NnInstruction& b) {
            return phase_of(a) < phase_of(b);
        };
        std::stable_sort(instructions_.begin(), instructions_.end(), earlier);
        phases_.assign(static_cast<std::size_t>(FlowPhase::count) + 1, 0);
        for (const NnInstruction& i : instructions_) {
            for (std::size_t p = static_cast<std::size_t>(phase_of(i)) + 1; p < phases_.size(); ++p)
                ++phases_[p];
        }
    }

    void place_table() {
        for (std::size_t s = 0; s < slots_.size(); ++s) {
            if (s < at(program_.num_inputs) || phase_of(masks_[s]) != FlowPhase::table) continue;
            FlowSlot& slot = slots_[s];
            slot.made = made_columns_;
            made_columns_ += slot.width;
            slot.home = FlowHome::table;
            bool is_read = false, in_rows = false;
            for (const NnInstruction& i : instructions_) {
                const std::int64_t number = static_cast<std::int64_t>(s);
                if (phase_of(i) == FlowPhase::table || !reads(i, number)) continue;
                is_read = true;
                in_rows = in_rows || (!is_embedding(i) && i.input.slot == number);
            }
            if (at(output_.slot) == s) is_read = in_rows = true;
            if (in_rows) slot.home = FlowHome::spread;
            if (!is_read) continue;
            slot.column = table_columns_;
            table_columns_ += slot.width;
        }
    }

    // Inputs, what is made once, and what is shared but read by the branches.
    void place_lasting() {
        for (std::size_t s = 0; s < slots_.size(); ++s) {
            const std::int64_t number = static_cast<std::int64_t>(s);
            FlowSlot& slot = slots_[s];
            if (slot.home != FlowHome::shared) continue;
            if (number < program_.num_inputs) {
                if (number < 2) {
                    slot.home = FlowHome::given;
                } else {
                    slot.column = shared_columns_;
                    shared_columns_ += slot.width;
                }
                continue;
            }
            const FlowPhase phase = phase_of(masks_[s]);
            if (phase == FlowPhase::once_branch) {
                slot.home = FlowHome::branch;
                slot.column = branch_columns_;
                branch_columns_ += slot.width;
            } else if (phase == FlowPhase::once_shared ||
                       (phase == FlowPhase::shared && last_reader(number) == lasts)) {
                slot.column = shared_columns_;
                shared_columns_ += slot.width;
            } else if (phase == FlowPhase::branch) {
                slot.home = FlowHome::branch;
            }
        }
    }

    static constexpr std::int64_t lasts = INT64_MAX;

    // The last instruction that touches the slot, or `lasts` where a later phase reads it.
    std::int64_t last_reader(std::int64_t slot) const {
        if (slot == output_.slot) return lasts;
        const FlowPhase phase = phase_of(masks_[at(slot)]);
        std::int64_t last = -1;
        for (std::size_t k = 0; k < instructions_.size(); ++k) {
            const NnInstruction& i = instructions_[k];
            if (!reads(i, slot) && i.output.slot != slot) continue;
            if (phase_of(i) != phase) return lasts;
            last = static_cast<std::int64_t>(k);
        }
        return last;
    }

    // Slots of one phase take the place of those that nobody reads any more, lowest first.
    void place_passing(FlowPhase phase, FlowHome home, std::int64_t& columns) {
        struct Place {
            std::int64_t begin, end, last;
        };
        std::vector<Place> taken;
        const std::int64_t base = columns;
        const std::size_t p = static_cast<std::size_t>(phase);
        for (std::int64_t k = phases_[p]; k < phases_[p + 1]; ++k) {
            const std::int64_t number = instructions_[static_cast<std::size_t>(k)].output.slot;
            FlowSlot& slot = slots_[at(number)];
            if (slot.column >= 0) continue;
            const auto free = [k](const Place& place) { return place.last < k; };
            taken.erase(std::remove_if(taken.begin(), taken.end(), free), taken.end());
            std::int64_t begin = base;
            for (const Place& place : taken) {
                if (begin + slot.width <= place.begin) break;
                begin = std::max(begin, place.end);
            }
            slot.home = home;
            slot.column = begin;
            columns = std::max(columns, begin + slot.width);
            taken.push_back({begin, begin + slot.width, last_reader(number)});
            std::sort(taken.begin(), taken.end(),
                      [](const Place& a, const Place& b) { return a.begin < b.begin; });
        }
    }

    NnProgram program_;
    NnOperand output_;
    bool tabulate_;
    std::int64_t branches_;
    std::vector<FlowSlot> slots_;
    std::vector<unsigned> masks_;
    std::vector<NnInstruction> instructions_;
    std::vector<std::int64_t> phases_;
    std::int64_t shared_columns_ = 0, branch_columns_ = 0, table_columns_ = 0, made_columns_ = 0;
};

}  // namespace hl
