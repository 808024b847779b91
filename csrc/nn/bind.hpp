// What the binding files of networks share: the memory of a batch, and tables as they come from
// Python.
#pragma once

#include <pybind11/pybind11.h>

#include <algorithm>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "../core/bind_arrays.hpp"
#include "../core/dispatch.hpp"
#include "program_check.hpp"

HL_DECLARE_TABLES(NnTable, nn_table)

namespace hl {

namespace py = pybind11;

template <class T>
const NnDrivers<T>& nn_drivers() {
    const NnTable& table = HL_ACTIVE_TABLE(nn_table);
    if constexpr (sizeof(T) == sizeof(float)) {
        return table.f32;
    } else {
        return table.f64;
    }
}

// Aligned memory that isn't set to anything.
template <class T>
class Memory {
  public:
    Memory() = default;
    explicit Memory(std::int64_t count)
        : data_(static_cast<T*>(::operator new[](sizeof(T) * static_cast<std::size_t>(count),
                                                 std::align_val_t(64)))) {}

    T* data() const { return data_.get(); }

  private:
    struct Free {
        void operator()(T* data) const { ::operator delete[](data, std::align_val_t(64)); }
    };
    std::unique_ptr<T[], Free> data_;
};

// Tables as Python hands them over, checked against each other and against a program.
template <class T>
class Tables {
  public:
    // `dense` holds arrays or None; `sparse` tuples (indptr, indices, values, columns, transform,
    // totals or None).
    Tables(const py::list& dense, const py::list& sparse, const py::list& indices);

    void check_program(const CheckedProgram& program, bool needs_inputs) const;
    void check_index(std::int64_t table, std::int64_t low, std::int64_t high) const;
    void check_rows(std::int64_t rows) const;
    NnTables<T> view(const std::int64_t* rows) const;

    std::int64_t rows() const { return rows_; }  // -1: there is no table
    std::int64_t num_dense() const { return static_cast<std::int64_t>(dense_.size()); }
    std::int64_t num_sparse() const { return static_cast<std::int64_t>(sparse_.size()); }
    std::int64_t num_indices() const { return static_cast<std::int64_t>(indices_.size()); }
    std::int64_t dense_width(std::int64_t table) const {
        return dense_widths_[static_cast<std::size_t>(table)];
    }
    const NnSparse<T>& sparse(std::int64_t table) const {
        return sparse_[static_cast<std::size_t>(table)];
    }
    // Values in the given rows, or in the fullest `count` rows where rows is null.
    std::int64_t values_in(std::int64_t table, const std::int64_t* rows, std::int64_t count) const;

  private:
    void add_dense(py::handle item);
    void add_sparse(py::handle item);
    void add_index(py::handle item);
    void agree(std::int64_t rows);

    std::int64_t rows_ = -1;
    std::vector<py::object> kept_;
    std::vector<const T*> dense_;
    std::vector<std::int64_t> dense_widths_;
    std::vector<NnSparse<T>> sparse_;
    std::vector<const std::int32_t*> indices_;
};

// What a batch of up to so many rows needs.
template <class T>
class Workspace {
  public:
    Workspace(std::shared_ptr<const CheckedProgram> program, std::int64_t capacity,
              const OptionalArray<std::int64_t>& seeds, bool input_gradients);

    const CheckedProgram& program() const { return *program_; }
    std::int64_t capacity() const { return capacity_; }
    bool has_gradients() const { return has_gradients_; }
    const std::vector<NnOperand>& seeds() const { return seeds_; }
    const CheckedPlan& plan() const { return plan_; }
    T* value(std::int64_t slot) const { return values_[static_cast<std::size_t>(slot)]; }
    T* gradient(std::int64_t slot) const { return gradients_[static_cast<std::size_t>(slot)]; }
    T* parameter_gradient();

    // Room for so many values of the batch in the sparse_dense layers of one table.
    void reserve_entries(std::int64_t table, std::int64_t count);

    // A pass with nothing but the program and the memory.
    NnPass<T> pass() const;

    // The last forward pass and the arrays it read, for the backward pass.
    NnPass<T> last{};
    std::shared_ptr<const Tables<T>> last_tables;
    std::vector<py::object> last_arrays;

  private:
    void allocate_slots();
    void allocate_statistics();
    void allocate_entries();

    std::shared_ptr<const CheckedProgram> program_;
    std::int64_t capacity_;
    std::vector<NnOperand> seeds_;
    bool has_gradients_;
    CheckedPlan plan_;
    std::vector<Memory<T>> matrices_;
    std::vector<T*> values_, gradients_;
    std::vector<Memory<double>> statistics_memory_;
    std::vector<double*> statistics_;
    Memory<T> parameter_gradient_;

    struct EntryMemory {
        Memory<std::int64_t> row_begin, column_begin;
        Memory<T> values, column_values;
        Memory<std::int32_t> rows;
    };
    std::vector<EntryMemory> entry_memory_;
    std::vector<NnEntries<T>> entries_;
};

// The losses of a training run, checked against the program and the tables.
class Losses {
  public:
    Losses(const Array<std::int64_t>& fields, const Array<double>& constants);

    template <class T>
    void check(const Workspace<T>& workspace, const Tables<T>& tables, bool prepared);

    const std::vector<NnLoss>& list() const { return list_; }
    const std::vector<std::int64_t>& groups() const { return groups_; }
    std::vector<NnOperand> logits() const;
    std::int64_t scratch(std::int64_t rows) const;

  private:
    std::vector<NnLoss> list_;
    std::vector<std::int64_t> groups_;
};

template <class T>
void check_pass_arrays(const CheckedProgram& program, const Array<T>& parameters,
                       const Array<T>& buffers) {
    require(parameters.size() == program.num_parameters(),
            "nn: parameters must have the program's length");
    require(buffers.size() == program.num_buffers(), "nn: buffers must have the program's length");
}

NnOptimizer read_optimizer(int kind, const Array<double>& numbers,
                           const Array<std::int64_t>& no_decay);

// Runs a driver without the GIL and throws what it says.
template <class Job>
void run_driver(Status (*driver)(const Job&), const Job& job) {
    Status status = Status::success();
    {
        py::gil_scoped_release release;
        status = driver(job);
    }
    throw_status(status);
}

void register_nn_passes(py::module_& module);
void register_nn_losses(py::module_& module);
void register_nn_training(py::module_& module);
void register_nn_tile(py::module_& module);

}  // namespace hl
