// Workspaces, tables and losses as the bindings hold them.
#include "bind.hpp"

namespace hl {
namespace {

std::vector<NnOperand> read_seeds(const OptionalArray<std::int64_t>& seeds) {
    std::vector<NnOperand> list;
    if (!seeds) return list;
    require(seeds->ndim() == 2 && seeds->shape(1) == 3,
            "NnWorkspace: seeds must have shape (number, 3)");
    for (py::ssize_t i = 0; i < seeds->shape(0); ++i)
        list.push_back({seeds->at(i, 0), seeds->at(i, 1), seeds->at(i, 2)});
    return list;
}

template <class T>
Array<T> cast_array(py::handle item, const char* what) {
    if (!Array<T>::check_(item)) throw py::type_error(what);
    return py::reinterpret_borrow<Array<T>>(item);
}

}  // namespace

// --- Workspace -----------------------------------------------------------------------------------

template <class T>
Workspace<T>::Workspace(std::shared_ptr<const CheckedProgram> program, std::int64_t capacity,
                        const OptionalArray<std::int64_t>& seeds, bool input_gradients)
    : program_(std::move(program)),
      capacity_(capacity),
      seeds_(read_seeds(seeds)),
      has_gradients_(seeds.has_value()),
      plan_(*program_, seeds_, input_gradients) {
    require(capacity >= 1 && capacity < (std::int64_t(1) << 31),
            "NnWorkspace: rows must be in [1, 2^31)");
    allocate_slots();
    allocate_statistics();
    allocate_entries();
}

template <class T>
void Workspace<T>::allocate_slots() {
    for (std::int64_t s = 0; s < program_->num_slots(); ++s) {
        const std::int64_t size = capacity_ * program_->widths()[static_cast<std::size_t>(s)];
        matrices_.emplace_back(size);
        values_.push_back(matrices_.back().data());
        gradients_.push_back(nullptr);
        if (!has_gradients_ || !plan_.needs(s)) continue;
        matrices_.emplace_back(size);
        gradients_.back() = matrices_.back().data();
    }
}

template <class T>
void Workspace<T>::allocate_statistics() {
    for (const NnInstruction& it : program_->instructions()) {
        statistics_memory_.emplace_back(nn_statistics(it, capacity_) + 1);
        statistics_.push_back(statistics_memory_.back().data());
    }
}

template <class T>
void Workspace<T>::allocate_entries() {
    for (const NnInstruction& it : program_->instructions()) {
        entry_memory_.emplace_back();
        NnEntries<T> entries{};
        if (static_cast<NnOperation>(it.operation) == NnOperation::sparse_dense) {
            EntryMemory& memory = entry_memory_.back();
            memory.row_begin = Memory<std::int64_t>(capacity_ + 1);
            memory.column_begin = Memory<std::int64_t>(it.input.width + 1);
            entries.row_begin = memory.row_begin.data();
            entries.column_begin = memory.column_begin.data();
        }
        entries_.push_back(entries);
    }
}

template <class T>
void Workspace<T>::reserve_entries(std::int64_t table, std::int64_t count) {
    for (std::size_t n = 0; n < entries_.size(); ++n) {
        const NnInstruction& it = program_->instructions()[n];
        if (static_cast<NnOperation>(it.operation) != NnOperation::sparse_dense ||
            it.input.slot != table || (entries_[n].capacity >= count && entries_[n].values))
            continue;
        EntryMemory& memory = entry_memory_[n];
        memory.values = Memory<T>(count + 1);
        memory.column_values = Memory<T>(count + 1);
        memory.rows = Memory<std::int32_t>(count + 1);
        entries_[n].values = memory.values.data();
        entries_[n].column_values = memory.column_values.data();
        entries_[n].rows = memory.rows.data();
        entries_[n].capacity = count;
    }
}

template <class T>
T* Workspace<T>::parameter_gradient() {
    if (parameter_gradient_.data() == nullptr)
        parameter_gradient_ = Memory<T>(program_->num_parameters() + 1);
    return parameter_gradient_.data();
}

template <class T>
NnPass<T> Workspace<T>::pass() const {
    NnPass<T> pass{};
    pass.plan = plan_.view(*program_);
    pass.arena = {capacity_, values_.data(), gradients_.data(), statistics_.data(),
                  entries_.data()};
    return pass;
}

template class Workspace<float>;
template class Workspace<double>;

// --- Tables --------------------------------------------------------------------------------------

template <class T>
Tables<T>::Tables(const py::list& dense, const py::list& sparse, const py::list& indices) {
    for (const py::handle item : dense)
        add_dense(item);
    for (const py::handle item : sparse)
        add_sparse(item);
    for (const py::handle item : indices)
        add_index(item);
}

template <class T>
void Tables<T>::agree(std::int64_t rows) {
    require(rows_ < 0 || rows_ == rows, "nn: tables must have the same number of rows");
    rows_ = rows;
}

template <class T>
void Tables<T>::add_dense(py::handle item) {
    if (item.is_none()) {
        dense_.push_back(nullptr);
        dense_widths_.push_back(0);
        return;
    }
    const Array<T> array = cast_array<T>(item, "nn: dense tables must be C-contiguous arrays");
    require(array.ndim() == 2, "nn: dense tables must have shape (rows, width)");
    agree(array.shape(0));
    dense_.push_back(array.data());
    dense_widths_.push_back(array.shape(1));
    kept_.push_back(array);
}

template <class T>
void Tables<T>::add_index(py::handle item) {
    const Array<std::int32_t> array =
        cast_array<std::int32_t>(item, "nn: index tables must be arrays of int32");
    require(array.ndim() == 1, "nn: index tables must have shape (rows,)");
    agree(array.shape(0));
    indices_.push_back(array.data());
    kept_.push_back(array);
}

template <class T>
void Tables<T>::add_sparse(py::handle item) {
    const py::tuple fields = py::cast<py::tuple>(item);
    require(fields.size() == 6, "nn: a CSR table is a tuple of six");
    const auto indptr = cast_array<std::int64_t>(fields[0], "nn: indptr must be int64");
    const auto indices = cast_array<std::int32_t>(fields[1], "nn: indices must be int32");
    const auto values = cast_array<T>(fields[2], "nn: values must be of the network's precision");
    const std::int64_t columns = py::cast<std::int64_t>(fields[3]);
    const std::int64_t transform = py::cast<std::int64_t>(fields[4]);
    require(indptr.ndim() == 1 && indptr.size() >= 1 && indices.size() == values.size(),
            "nn: bad shapes of a CSR table");
    const std::int64_t rows = indptr.size() - 1;
    agree(rows);
    const std::int64_t* const begin = indptr.data();
    require(begin[0] == 0 && begin[rows] == values.size(), "nn: bad ends of indptr");
    for (std::int64_t r = 0; r < rows; ++r)
        require(begin[r] <= begin[r + 1], "nn: indptr must not fall");
    const std::int32_t* const column = indices.data();
    for (std::int64_t r = 0; r < rows; ++r) {
        std::int64_t previous = -1;
        for (std::int64_t i = begin[r]; i < begin[r + 1]; ++i) {
            require(column[i] > previous && column[i] < columns,
                    "nn: the columns of a row of a CSR table must ascend below its width");
            previous = column[i];
        }
    }
    const T* totals = nullptr;
    if (!fields[5].is_none()) {
        const auto array =
            cast_array<T>(fields[5], "nn: totals must be of the network's precision");
        require(array.size() == rows, "nn: totals must have one number for each row");
        totals = array.data();
        kept_.push_back(array);
    }
    require(transform >= 0 && transform <= 4, "nn: unknown transform");
    require(totals != nullptr || (transform != 2 && transform != 3),
            "nn: this transform needs totals");
    sparse_.push_back({begin, column, values.data(), columns, transform, totals});
    kept_.push_back(indptr);
    kept_.push_back(indices);
    kept_.push_back(values);
}

template <class T>
void Tables<T>::check_program(const CheckedProgram& program, bool needs_inputs) const {
    if (needs_inputs) {
        require(num_dense() >= program.num_inputs(), "nn: too few dense tables");
        for (std::int64_t s = 0; s < program.num_inputs(); ++s)
            require(dense_[static_cast<std::size_t>(s)] != nullptr &&
                        dense_width(s) == program.widths()[static_cast<std::size_t>(s)],
                    "nn: a dense input has another width than its slot");
    }
    const std::vector<std::int64_t>& columns = program.sparse_columns();
    require(columns.size() <= sparse_.size(), "nn: too few CSR tables");
    for (std::size_t t = 0; t < columns.size(); ++t)
        require(columns[t] == 0 || columns[t] == sparse_[t].columns,
                "nn: a CSR table has another number of columns than its layer");
    if (!needs_inputs) return;
    const std::vector<std::int64_t>& bounds = program.index_bounds();
    require(bounds.size() <= indices_.size(), "nn: too few index tables");
    for (std::size_t t = 0; t < bounds.size(); ++t) {
        if (bounds[t] != 0) check_index(static_cast<std::int64_t>(t), -1, bounds[t]);
    }
}

template <class T>
void Tables<T>::check_index(std::int64_t table, std::int64_t low, std::int64_t high) const {
    require(table >= 0 && table < num_indices(), "nn: there is no such index table");
    const std::int32_t* const index = indices_[static_cast<std::size_t>(table)];
    for (std::int64_t r = 0; r < rows_; ++r)
        require(index[r] >= low && index[r] < high, "nn: an index is out of range");
}

template <class T>
void Tables<T>::check_rows(std::int64_t rows) const {
    require(rows_ < 0 || rows_ == rows, "nn: tables have another number of rows");
}

template <class T>
NnTables<T> Tables<T>::view(const std::int64_t* rows) const {
    return {dense_.data(), num_dense(), sparse_.data(), num_sparse(), indices_.data(),
            num_indices(), rows};
}

template <class T>
std::int64_t Tables<T>::values_in(std::int64_t table, const std::int64_t* rows,
                                  std::int64_t count) const {
    const std::int64_t* const begin = sparse(table).indptr;
    std::int64_t total = 0, fullest = 0;
    if (rows != nullptr) {
        for (std::int64_t r = 0; r < count; ++r)
            total += begin[rows[r] + 1] - begin[rows[r]];
        return total;
    }
    for (std::int64_t r = 0; r < rows_; ++r)
        fullest = std::max(fullest, begin[r + 1] - begin[r]);
    return std::min(fullest * count, begin[rows_]);
}

template class Tables<float>;
template class Tables<double>;

// --- Losses --------------------------------------------------------------------------------------

Losses::Losses(const Array<std::int64_t>& fields, const Array<double>& constants) {
    require(fields.ndim() == 2 && fields.shape(1) == nn_loss_integers && constants.ndim() == 2 &&
                constants.shape(1) == nn_loss_reals && constants.shape(0) == fields.shape(0),
            "nn: losses must have shapes (number, 8) and (number, 2)");
    for (py::ssize_t i = 0; i < fields.shape(0); ++i) {
        const std::int64_t* const f = fields.data(i, 0);
        list_.push_back({f[0],
                         {f[1], f[2], f[3]},
                         f[4],
                         f[5],
                         f[6],
                         f[7],
                         constants.at(i, 0),
                         constants.at(i, 1)});
    }
}

std::vector<NnOperand> Losses::logits() const {
    std::vector<NnOperand> operands;
    for (const NnLoss& loss : list_)
        operands.push_back(loss.logits);
    return operands;
}

std::int64_t Losses::scratch(std::int64_t rows) const {
    std::int64_t most = 0;
    for (std::size_t k = 0; k < list_.size(); ++k)
        most = std::max(most, nn_loss_scratch(static_cast<NnLossKind>(list_[k].kind), rows,
                                              list_[k].logits.width, groups_[k]));
    return most;
}

namespace {

bool counts_needed(NnLossKind kind) {
    return kind == NnLossKind::negative_binomial || kind == NnLossKind::poisson;
}

template <class T>
void check_target(const NnLoss& loss, const CheckedProgram& program, const Tables<T>& tables,
                  bool prepared) {
    const NnLossKind kind = static_cast<NnLossKind>(loss.kind);
    require(loss.sparse == 0 || loss.sparse == 1, "nn: bad loss");
    require(!counts_needed(kind) || loss.sparse, "nn: this loss needs a CSR target");
    require(!loss.sparse || counts_needed(kind) || kind == NnLossKind::binary_cross_entropy,
            "nn: this loss has no CSR target");
    if (loss.sparse) {
        require(loss.target >= 0 && loss.target < tables.num_sparse() &&
                    tables.sparse(loss.target).columns == loss.logits.width,
                "nn: a CSR target must have the width of the logits");
        require(!counts_needed(kind) || tables.sparse(loss.target).totals != nullptr,
                "nn: this loss needs totals");
    } else if (kind == NnLossKind::cross_entropy) {
        require(loss.target >= 0 && loss.target < (1 << 10), "nn: bad number of an index table");
        if (!prepared) tables.check_index(loss.target, 0, loss.logits.width);
    } else {
        require(loss.target >= program.num_inputs() && loss.target < (1 << 10),
                "nn: dense targets follow the inputs");
        require(prepared || (loss.target < tables.num_dense() &&
                             tables.dense_width(loss.target) == loss.logits.width),
                "nn: a dense target must have the width of the logits");
    }
}

}  // namespace

template <class T>
void Losses::check(const Workspace<T>& workspace, const Tables<T>& tables, bool prepared) {
    const CheckedProgram& program = workspace.program();
    groups_.clear();
    require(!list_.empty(), "nn: there is no loss");
    for (const NnLoss& loss : list_) {
        require(loss.kind >= 0 && loss.kind <= 5, "nn: unknown loss");
        program.check_columns(loss.logits, "nn: the logits of a loss are outside their slot");
        check_target(loss, program, tables, prepared);
        std::int64_t groups = 1;
        if (static_cast<NnLossKind>(loss.kind) == NnLossKind::negative_binomial) {
            const std::int64_t left = program.num_parameters() - loss.log_theta;
            require(loss.log_theta >= 0 && left >= loss.logits.width,
                    "nn: log theta is outside the parameters");
            if (loss.group >= 0) {
                require(!prepared, "nn: prepared batches have no groups of log theta");
                groups = left / loss.logits.width;
                std::int64_t used = 0;
                tables.check_index(loss.group, 0, groups);
                for (std::int64_t r = 0; r < tables.rows(); ++r)
                    used = std::max<std::int64_t>(used,
                                                  tables.view(nullptr).indices[loss.group][r] + 1);
                groups = used;
            }
        } else {
            require(loss.log_theta == -1, "nn: this loss has no theta");
        }
        groups_.push_back(groups);
    }
}

template void Losses::check(const Workspace<float>&, const Tables<float>&, bool);
template void Losses::check(const Workspace<double>&, const Tables<double>&, bool);

}  // namespace hl
