// Checks of programs, and the order in which gradients meet.
#include <algorithm>
#include <cmath>
#include <string>

#include "../core/bind_status.hpp"
#include "program_check.hpp"

namespace hl {
namespace {

constexpr std::int64_t most_columns = 0x7fffffff;
constexpr std::int64_t most_tables = 1 << 10;
constexpr std::int64_t most_parameters = std::int64_t(1) << 40;
constexpr std::int64_t most_dropouts = 1 << 12, widest_dropout = 1 << 22;
constexpr unsigned char written_value = 1, written_argument = 2;

NnInstruction decode(const std::int64_t* f, const double* constants) {
    return {f[0],
            {f[1], f[2], f[3]},
            {f[4], f[5], f[6]},
            {f[7], f[8], f[9]},
            {f[10], f[11], f[12]},
            f[13],
            f[14],
            f[15],
            f[16],
            {constants[0], constants[1]}};
}

bool has_table(NnOperation operation) {
    return operation == NnOperation::sparse_dense || operation == NnOperation::embedding;
}

bool may_have_addend(NnOperation operation) {
    return operation == NnOperation::dense || has_table(operation);
}

bool is_norm(NnOperation operation) {
    return operation == NnOperation::batch_norm || operation == NnOperation::layer_norm;
}

NnOperation operation_of(const NnInstruction& it) {
    return static_cast<NnOperation>(it.operation);
}

// Whether the instruction reads a slot, and not a table.
bool reads_slot(const NnInstruction& it) {
    return !has_table(operation_of(it));
}

void note(std::vector<std::int64_t>& tables, const NnOperand& input, bool take_smaller) {
    const std::size_t number = static_cast<std::size_t>(input.slot);
    if (tables.size() <= number) tables.resize(number + 1, 0);
    if (tables[number] != 0 && tables[number] != input.width)
        require(take_smaller, "NnProgram: two widths for one CSR table");
    const bool is_first = tables[number] == 0;
    tables[number] = is_first ? input.width : std::min(tables[number], input.width);
}

}  // namespace

std::int64_t weight_size(const NnInstruction& it) {
    if (it.weight < 0) return 0;
    return is_norm(operation_of(it)) ? it.output.width : it.output.width * it.input.width;
}

std::int64_t bias_size(const NnInstruction& it) {
    return it.bias < 0 ? 0 : it.output.width;
}

bool keeps_arguments(const std::vector<NnInstruction>& instructions) {
    return std::all_of(instructions.begin(), instructions.end(), [](const NnInstruction& it) {
        return !needs_argument(it) || it.pre.slot >= 0 ||
               operation_of(it) == NnOperation::activation;
    });
}

CheckedProgram::CheckedProgram(const std::int64_t* instructions, const double* constants,
                               std::int64_t num_instructions, std::vector<std::int64_t> widths,
                               std::int64_t num_inputs, std::int64_t num_parameters,
                               std::int64_t num_buffers)
    : widths_(std::move(widths)),
      num_inputs_(num_inputs),
      num_parameters_(num_parameters),
      num_buffers_(num_buffers) {
    require(num_inputs >= 0 && num_inputs <= num_slots(), "NnProgram: too many inputs");
    require(num_parameters >= 0 && num_parameters <= most_parameters && num_buffers >= 0 &&
                num_buffers <= most_parameters,
            "NnProgram: bad number of parameters or buffers");
    for (const std::int64_t width : widths_)
        require(width >= 1 && width <= most_columns, "NnProgram: bad width of a slot");
    for (std::size_t s = 0; s < widths_.size(); ++s) {
        const bool is_input = static_cast<std::int64_t>(s) < num_inputs;
        written_.emplace_back(static_cast<std::size_t>(widths_[s]),
                              is_input ? written_value : static_cast<unsigned char>(0));
    }
    for (std::int64_t n = 0; n < num_instructions; ++n) {
        const NnInstruction it = decode(instructions + n * nn_instruction_integers,
                                        constants + n * nn_instruction_reals);
        check_operation(it);
        instructions_.push_back(it);
    }
}

NnProgram CheckedProgram::view() const {
    return {instructions_.data(), static_cast<std::int64_t>(instructions_.size()),
            widths_.data(),       num_slots(),
            num_inputs_,          num_parameters_,
            num_buffers_};
}

void CheckedProgram::check_columns(const NnOperand& operand, const char* what) const {
    require(operand.slot >= 0 && operand.slot < num_slots() && operand.begin >= 0 &&
                operand.width >= 1 &&
                operand.begin <= widths_[static_cast<std::size_t>(operand.slot)] - operand.width,
            what);
}

void CheckedProgram::check_reads(const NnOperand& operand) const {
    check_columns(operand, "NnProgram: an operand is outside its slot");
    const std::vector<unsigned char>& columns = written_[static_cast<std::size_t>(operand.slot)];
    for (std::int64_t j = operand.begin; j < operand.begin + operand.width; ++j)
        require(columns[static_cast<std::size_t>(j)] == written_value,
                "NnProgram: an operand is read before it is written");
}

void CheckedProgram::mark_written(const NnOperand& operand, unsigned char how) {
    check_columns(operand, "NnProgram: an output is outside its slot");
    std::vector<unsigned char>& columns = written_[static_cast<std::size_t>(operand.slot)];
    for (std::int64_t j = operand.begin; j < operand.begin + operand.width; ++j) {
        require(columns[static_cast<std::size_t>(j)] == 0,
                "NnProgram: columns are written twice, or belong to an input");
        columns[static_cast<std::size_t>(j)] = how;
    }
}

void CheckedProgram::check_parameters(std::int64_t offset, std::int64_t size, bool required) const {
    if (offset == -1 && !required) return;
    require(offset >= 0 && size <= num_parameters_ && offset <= num_parameters_ - size,
            "NnProgram: parameters are outside the buffer of parameters");
}

void CheckedProgram::check_activation(const NnInstruction& it) {
    const NnOperation operation = operation_of(it);
    const bool plain = operation == NnOperation::dropout || operation == NnOperation::embedding ||
                       operation == NnOperation::time_embedding;
    require(it.activation >= 0 && it.activation <= 7, "NnProgram: unknown activation");
    require(!plain || it.activation == 0, "NnProgram: this operation has no activation");
    if (it.pre.slot == -1) return;
    require(!plain && operation != NnOperation::activation,
            "NnProgram: this operation keeps no argument");
    require(it.pre.width == it.output.width, "NnProgram: `pre` must have the output's width");
    mark_written(it.pre, written_argument);
}

void CheckedProgram::check_table(const NnInstruction& it) {
    require(it.input.slot >= 0 && it.input.slot < most_tables && it.input.begin == 0 &&
                it.input.width >= 1 && it.input.width <= most_columns,
            "NnProgram: bad number or width of a table");
    const bool sparse = operation_of(it) == NnOperation::sparse_dense;
    note(sparse ? sparse_columns_ : index_bounds_, it.input, !sparse);
}

void CheckedProgram::check_norm(const NnInstruction& it) {
    require(
        std::isfinite(it.constants[0]) && it.constants[0] >= 0 && std::isfinite(it.constants[1]),
        "NnProgram: bad constants of a norm");
    if (operation_of(it) != NnOperation::batch_norm) return;
    has_batch_norm_ = true;
    require(it.buffer >= 0 && 2 * it.output.width <= num_buffers_ &&
                it.buffer <= num_buffers_ - 2 * it.output.width,
            "NnProgram: running statistics are outside the buffers");
}

void CheckedProgram::check_operation(const NnInstruction& it) {
    require(it.operation >= 0 && it.operation <= 7, "NnProgram: unknown operation");
    const NnOperation operation = operation_of(it);
    if (has_table(operation)) {
        check_table(it);
    } else {
        check_reads(it.input);
    }
    if (it.addend.slot != -1) {
        require(may_have_addend(operation), "NnProgram: this operation has no addend");
        check_reads(it.addend);
        require(it.addend.width == it.output.width,
                "NnProgram: an addend must have the output's width");
    }
    mark_written(it.output, written_value);
    check_activation(it);
    const bool same_width = is_norm(operation) || operation == NnOperation::activation ||
                            operation == NnOperation::dropout;
    require(!same_width || it.input.width == it.output.width,
            "NnProgram: input and output must have one width");
    const bool has_weight = may_have_addend(operation);
    require(has_weight || is_norm(operation) || (it.weight == -1 && it.bias == -1),
            "NnProgram: this operation has no parameters");
    require(operation != NnOperation::embedding || it.bias == -1,
            "NnProgram: an embedding has no bias");
    check_parameters(it.weight,
                     is_norm(operation) ? it.output.width : it.output.width * it.input.width,
                     has_weight);
    check_parameters(it.bias, it.output.width, false);
    if (is_norm(operation)) check_norm(it);
    if (operation == NnOperation::dropout)
        require(it.constants[0] >= 0 && it.constants[0] < 1 && it.buffer >= 0 &&
                    it.buffer < most_dropouts && it.output.width <= widest_dropout,
                "NnProgram: bad dropout");
    if (operation == NnOperation::time_embedding)
        require(it.input.width == 1 && it.output.width % 2 == 0 && std::isfinite(it.constants[0]),
                "NnProgram: bad time embedding");
}

CheckedPlan::CheckedPlan(const CheckedProgram& program, const std::vector<NnOperand>& seeds,
                         bool input_gradients)
    : duties_(program.instructions().size(), NnDuty{}),
      needs_(program.widths().size(), 0),
      seed_adds_(seeds.size(), 0) {
    for (const NnOperand& seed : seeds)
        program.check_columns(seed, "NnWorkspace: columns are outside their slot");
    find_needs(program, input_gradients);
    find_readers(program, seeds);
    find_parameters(program);
}

NnPlan CheckedPlan::view(const CheckedProgram& program) const {
    return {program.view(),
            duties_.data(),
            cleared_slots_.data(),
            static_cast<std::int64_t>(cleared_slots_.size()),
            cleared_parameters_.data(),
            static_cast<std::int64_t>(cleared_parameters_.size())};
}

// A gradient is needed where parameters lie behind it.
void CheckedPlan::find_needs(const CheckedProgram& program, bool input_gradients) {
    for (std::int64_t s = 0; s < program.num_inputs(); ++s)
        needs_[static_cast<std::size_t>(s)] = input_gradients;
    // Again until nothing changes, since several instructions may fill one slot.
    for (bool changed = true; changed;) {
        changed = false;
        for (std::size_t n = 0; n < duties_.size(); ++n) {
            const NnInstruction& it = program.instructions()[n];
            NnDuty& duty = duties_[n];
            duty.needs_input = reads_slot(it) && needs(it.input.slot);
            duty.needs_addend = it.addend.slot >= 0 && needs(it.addend.slot);
            char& needed = needs_[static_cast<std::size_t>(it.output.slot)];
            if (needed ||
                !(duty.needs_input || duty.needs_addend || it.weight >= 0 || it.bias >= 0))
                continue;
            needed = 1;
            changed = true;
        }
    }
}

// A gradient that one reader gives whole is written; others start from 0 and are added to.
void CheckedPlan::find_readers(const CheckedProgram& program, const std::vector<NnOperand>& seeds) {
    std::vector<int> readers(needs_.size(), 0);
    std::vector<char> partly(needs_.size(), 0);
    const auto count = [&](const NnOperand& operand) {
        const std::size_t slot = static_cast<std::size_t>(operand.slot);
        ++readers[slot];
        if (operand.width != program.widths()[slot]) partly[slot] = 1;
    };
    for (std::size_t n = 0; n < duties_.size(); ++n) {
        const NnInstruction& it = program.instructions()[n];
        if (duties_[n].needs_input) count(it.input);
        if (duties_[n].needs_addend) count(it.addend);
    }
    for (const NnOperand& seed : seeds)
        count(seed);
    const auto adds = [&](const NnOperand& operand) {
        const std::size_t slot = static_cast<std::size_t>(operand.slot);
        return readers[slot] != 1 || partly[slot] != 0;
    };
    for (std::size_t n = 0; n < duties_.size(); ++n) {
        const NnInstruction& it = program.instructions()[n];
        if (duties_[n].needs_input) duties_[n].adds_input = adds(it.input);
        if (duties_[n].needs_addend) duties_[n].adds_addend = adds(it.addend);
    }
    for (std::size_t i = 0; i < seeds.size(); ++i)
        seed_adds_[i] = adds(seeds[i]);
    for (std::size_t s = 0; s < needs_.size(); ++s) {
        if (needs_[s] && (readers[s] != 1 || partly[s]))
            cleared_slots_.push_back(static_cast<std::int64_t>(s));
    }
}

// Parameters that several instructions share get the gradient of the last of them first.
void CheckedPlan::find_parameters(const CheckedProgram& program) {
    std::vector<NnRange> ranges;
    const auto visit = [&](std::int64_t offset, std::int64_t size) {
        if (size == 0) return false;
        for (const NnRange& range : ranges) {
            if (range.begin == offset && range.end == offset + size) return true;
            require(range.end <= offset || offset + size <= range.begin,
                    "NnProgram: parameters overlap in part");
        }
        ranges.push_back({offset, offset + size});
        return false;
    };
    for (std::size_t n = duties_.size(); n-- > 0;) {
        const NnInstruction& it = program.instructions()[n];
        duties_[n].adds_weight = visit(it.weight, weight_size(it));
        duties_[n].adds_bias = visit(it.bias, bias_size(it));
    }
    std::sort(ranges.begin(), ranges.end(),
              [](const NnRange& a, const NnRange& b) { return a.begin < b.begin; });
    std::int64_t end = 0;
    for (const NnRange& range : ranges) {
        if (range.begin > end) cleared_parameters_.push_back({end, range.begin});
        end = range.end;
    }
    if (end < program.num_parameters())
        cleared_parameters_.push_back({end, program.num_parameters()});
}

}  // namespace hl
