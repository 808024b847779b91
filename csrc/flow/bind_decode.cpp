#include <pybind11/pybind11.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "../core/bind_arrays.hpp"
#include "../core/dispatch.hpp"
#include "../core/pool.hpp"
#include "bind.hpp"
#include "counts_kernels.hpp"

namespace py = pybind11;

HL_DECLARE_TABLES(CountTable, count_table)

namespace hl {
namespace {

// The nonzeros of all blocks, freed whatever happens.
struct Blocks {
    std::vector<CountBlock> blocks;

    explicit Blocks(std::int64_t count)
        : blocks(static_cast<std::size_t>(count), CountBlock{nullptr, nullptr, 0, 0}) {}
    Blocks(const Blocks&) = delete;
    Blocks& operator=(const Blocks&) = delete;
    ~Blocks() {
        for (const CountBlock& block : blocks) {
            std::free(block.columns);
            std::free(block.values);
        }
    }
};

struct Gathering {
    const CountBlock* blocks;
    std::vector<std::int64_t> begins;
    std::int32_t* columns;
    std::int32_t* values;
};

Status gather_block(void* context, std::int64_t number) {
    const Gathering& to = *static_cast<const Gathering*>(context);
    const CountBlock& block = to.blocks[number];
    const std::int64_t begin = to.begins[static_cast<std::size_t>(number)];
    const auto bytes = static_cast<std::size_t>(block.size) * sizeof(std::int32_t);
    if (bytes == 0) return Status::success();
    __builtin_memcpy(to.columns + begin, block.columns, bytes);
    __builtin_memcpy(to.values + begin, block.values, bytes);
    return Status::success();
}

template <class T>
Status run(const DecodeJob<T>& job) {
    const CountTable& table = HL_ACTIVE_TABLE(count_table);
    const py::gil_scoped_release release;
    if constexpr (sizeof(T) == 4)
        return table.f32.decode(job);
    else
        return table.f64.decode(job);
}

// Values, columns and row pointers.
template <class T>
py::tuple as_csr(DecodeJob<T>& job) {
    const std::int64_t count = decode_blocks(job.first_row, job.rows);
    Blocks found(count);
    Array<std::int64_t> pointers(job.rows + 1);
    std::int64_t* const begin = pointers.mutable_data();
    begin[0] = 0;
    job.blocks = found.blocks.data();
    job.row_counts = begin + 1;
    throw_status(run(job));
    for (std::int64_t i = 0; i < job.rows; ++i)
        begin[i + 1] += begin[i];
    Array<std::int32_t> values(begin[job.rows]), columns(begin[job.rows]);
    Gathering to{found.blocks.data(), {}, columns.mutable_data(), values.mutable_data()};
    std::int64_t total = 0;
    for (const CountBlock& block : found.blocks) {
        to.begins.push_back(total);
        total += block.size;
    }
    Status status = Status::success();
    {
        const py::gil_scoped_release release;
        status = parallel_for(count, job.num_threads, gather_block, &to);
    }
    throw_status(status);
    return py::make_tuple(values, columns, pointers);
}

template <class T>
bool has_shape(const Array<T>& array, std::int64_t rows, std::int64_t columns) {
    return array.ndim() == 2 && array.shape(0) == rows && array.shape(1) == columns;
}

template <class T>
DecodeJob<T> checked_job(int head, const Array<T>& hidden, const OptionalArray<T>& weight,
                         const OptionalArray<T>& bias, const OptionalArray<double>& sizes,
                         const OptionalArray<double>& theta,
                         const OptionalArray<std::int64_t>& theta_of, std::uint64_t seed,
                         std::int64_t step, std::int64_t first_row, int num_threads) {
    DecodeJob<T> job{};
    bool fits = hidden.ndim() == 2 && head >= 0 && head <= 2 && first_row >= 0 &&
                (!weight || (weight->ndim() == 2 && weight->shape(1) == hidden.shape(1)));
    if (fits) {
        const std::int64_t rows = hidden.shape(0),
                           columns = weight ? weight->shape(0) : hidden.shape(1);
        job = {static_cast<CountHead>(head),
               rows,
               hidden.shape(1),
               columns,
               hidden.data(),
               data_or_null(weight),
               data_or_null(bias),
               data_or_null(sizes),
               data_or_null(theta),
               data_or_null(theta_of),
               seed,
               step,
               first_row,
               nullptr,
               nullptr,
               nullptr,
               nullptr,
               num_threads};
        fits = (!bias || bias->size() == columns) && (!sizes || sizes->size() == rows) &&
               (!theta || (theta->ndim() == 2 && theta->shape(1) == columns)) &&
               (!theta_of || (theta_of->size() == rows && theta)) && columns < 0x7fffffff &&
               (sizes || job.head == CountHead::bernoulli) &&
               (theta || job.head != CountHead::negative_binomial);
        for (std::int64_t i = 0; fits && theta_of && i < rows; ++i)
            fits = job.theta_of[i] >= 0 && job.theta_of[i] < theta->shape(0);
    }
    if (!fits) throw py::value_error("flow decode: the arrays do not fit each other");
    return job;
}

// Counts into `counts`, means into `means`, or, without either, a tuple that makes a CSR matrix.
template <class T>
py::object decode(int head, const Array<T>& hidden, const OptionalArray<T>& weight,
                  const OptionalArray<T>& bias, const OptionalArray<double>& sizes,
                  const OptionalArray<double>& theta, const OptionalArray<std::int64_t>& theta_of,
                  std::uint64_t seed, std::int64_t step, std::int64_t first_row,
                  OptionalArray<std::int32_t> counts, OptionalArray<T> means, int num_threads) {
    DecodeJob<T> job = checked_job(head, hidden, weight, bias, sizes, theta, theta_of, seed, step,
                                   first_row, num_threads);
    if ((counts && !has_shape(*counts, job.rows, job.columns)) ||
        (means && !has_shape(*means, job.rows, job.columns)))
        throw py::value_error("flow decode: the answer must have shape (rows, columns)");
    if (!counts && !means) return as_csr(job);
    if (counts) job.counts = counts->mutable_data();
    if (means) job.means = means->mutable_data();
    if (job.rows > 0 && job.columns > 0) throw_status(run(job));
    return py::none();
}

template <class T>
void define_decode(py::module_& module, const char* name) {
    module.def(name, &decode<T>, py::arg("head"), py::arg("hidden").noconvert(),
               py::arg("weight").noconvert(), py::arg("bias").noconvert(),
               py::arg("sizes").noconvert(), py::arg("theta").noconvert(),
               py::arg("theta_of").noconvert(), py::arg("seed"), py::arg("step"),
               py::arg("first_row"), py::arg("counts").noconvert(), py::arg("means").noconvert(),
               py::arg("num_threads"));
}

}  // namespace

void register_flow_decode(py::module_& module) {
    define_decode<float>(module, "flow_decode_float32");
    define_decode<double>(module, "flow_decode_float64");
}

}  // namespace hl
