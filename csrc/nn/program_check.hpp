// Programs as the bindings hold them: checked once, so that no array of the right size can be left.
// Only for files that are compiled once.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels.hpp"

namespace hl {

// Throws std::invalid_argument on anything that a driver relies on and that does not hold.
class CheckedProgram {
  public:
    CheckedProgram(const std::int64_t* instructions, const double* constants,
                   std::int64_t num_instructions, std::vector<std::int64_t> widths,
                   std::int64_t num_inputs, std::int64_t num_parameters, std::int64_t num_buffers);

    NnProgram view() const;
    const std::vector<NnInstruction>& instructions() const { return instructions_; }
    const std::vector<std::int64_t>& widths() const { return widths_; }
    std::int64_t num_inputs() const { return num_inputs_; }
    std::int64_t num_parameters() const { return num_parameters_; }
    std::int64_t num_buffers() const { return num_buffers_; }
    std::int64_t num_slots() const { return static_cast<std::int64_t>(widths_.size()); }

    // Columns of each CSR table; indices of each index table must be below the number given here.
    // 0: the program does not read that table.
    const std::vector<std::int64_t>& sparse_columns() const { return sparse_columns_; }
    const std::vector<std::int64_t>& index_bounds() const { return index_bounds_; }

    bool needs_two_rows() const { return has_batch_norm_; }
    void check_columns(const NnOperand& operand, const char* what) const;

  private:
    void check_operation(const NnInstruction& it);
    void check_activation(const NnInstruction& it);
    void check_table(const NnInstruction& it);
    void check_norm(const NnInstruction& it);
    void check_reads(const NnOperand& operand) const;
    void check_parameters(std::int64_t offset, std::int64_t size, bool required) const;
    void mark_written(const NnOperand& operand, unsigned char how);

    std::vector<NnInstruction> instructions_;
    std::vector<std::int64_t> widths_;
    std::int64_t num_inputs_, num_parameters_, num_buffers_;
    std::vector<std::int64_t> sparse_columns_, index_bounds_;
    std::vector<std::vector<unsigned char>> written_;  // of each column: 0, or how it was written
    bool has_batch_norm_ = false;
};

// How many parameters stand at an instruction's weight.
std::int64_t weight_size(const NnInstruction& it);
std::int64_t bias_size(const NnInstruction& it);

// Whether the slope of the activation is a function of its argument only.
inline bool needs_argument(const NnInstruction& it) {
    const NnActivation kind = static_cast<NnActivation>(it.activation);
    return kind == NnActivation::silu || kind == NnActivation::gelu;
}

// Whether a backward pass finds every argument that it needs.
bool keeps_arguments(const std::vector<NnInstruction>& instructions);

// Who writes which gradient, for given columns that losses read.
class CheckedPlan {
  public:
    CheckedPlan(const CheckedProgram& program, const std::vector<NnOperand>& seeds,
                bool input_gradients);

    NnPlan view(const CheckedProgram& program) const;
    bool needs(std::int64_t slot) const { return needs_[static_cast<std::size_t>(slot)] != 0; }
    bool seed_adds(std::size_t seed) const { return seed_adds_[seed] != 0; }

  private:
    void find_needs(const CheckedProgram& program, bool input_gradients);
    void find_readers(const CheckedProgram& program, const std::vector<NnOperand>& seeds);
    void find_parameters(const CheckedProgram& program);

    std::vector<NnDuty> duties_;
    std::vector<char> needs_, seed_adds_;
    std::vector<std::int64_t> cleared_slots_;
    std::vector<NnRange> cleared_parameters_;
};

}  // namespace hl
