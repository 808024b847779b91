// Passes of narrow networks in tiles of rows.
#include "bind.hpp"
#include "tile_kernels.hpp"

HL_DECLARE_TABLES(NnTileTable, nn_tile_table)

namespace hl {
namespace {

template <class T>
Status run_tiles(const NnTileJob<T>& job) {
    const NnTileTable& table = HL_ACTIVE_TABLE(nn_tile_table);
    if constexpr (sizeof(T) == sizeof(float)) {
        return table.f32(job);
    } else {
        return table.f64(job);
    }
}

bool in_tiles(const CheckedProgram& program, bool training) {
    for (const NnInstruction& it : program.instructions()) {
        const NnOperation operation = static_cast<NnOperation>(it.operation);
        if (operation == NnOperation::sparse_dense) return false;
        if (training && operation == NnOperation::batch_norm) return false;
    }
    return !training || keeps_arguments(program.instructions());
}

template <class T>
void tile_pass(const std::shared_ptr<CheckedProgram>& program, const Array<T>& parameters,
               const Array<T>& buffers, const py::list& dense, const py::list& indices,
               std::int64_t slot, std::int64_t begin, std::int64_t width, bool training,
               std::uint64_t seed, std::int64_t step, OptionalArray<T> out,
               const OptionalArray<T>& gradient, OptionalArray<T> parameter_gradient,
               std::optional<std::vector<Array<T>>> input_gradients, int num_threads) {
    check_pass_arrays(*program, parameters, buffers);
    require(in_tiles(*program, training), "nn_tile: the program does not run in tiles");
    const Tables<T> tables(dense, py::list(), indices);
    tables.check_program(*program, true);
    const std::int64_t rows = tables.rows();
    require(rows >= 1, "nn_tile: there must be a row");
    const NnTables<T> view = tables.view(nullptr);
    NnTileJob<T> job{};
    job.program = program->view();
    job.output = {slot, begin, width};
    program->check_columns(job.output, "nn_tile: the output is outside its slot");
    require(!out || out->size() == rows * width, "nn_tile: out must have shape (rows, width)");
    require(gradient.has_value() == parameter_gradient.has_value() &&
                (!gradient || (training && gradient->size() == rows * width &&
                               parameter_gradient->size() == program->num_parameters())),
            "nn_tile: gradients must have the shapes of what they belong to");
    job.parameters = parameters.data();
    job.buffers = buffers.data();
    job.inputs = view.dense;
    job.indices = view.indices;
    job.num_indices = view.num_indices;
    job.rows = rows;
    job.training = training;
    job.seed = seed;
    job.step = step;
    job.out = out ? out->mutable_data() : nullptr;
    job.num_threads = num_threads;
    std::vector<T*> given;
    Memory<T> partial;
    if (gradient) {
        partial = Memory<T>(nn_tiles(rows) * program->num_parameters());
        job.gradient = gradient->data();
        job.parameter_gradient = parameter_gradient->mutable_data();
        job.partial_gradients = partial.data();
    }
    if (input_gradients) {
        require(static_cast<std::int64_t>(input_gradients->size()) == program->num_inputs(),
                "nn_tile: one gradient for each input");
        for (std::size_t s = 0; s < input_gradients->size(); ++s) {
            require((*input_gradients)[s].size() == rows * program->widths()[s],
                    "nn_tile: gradients must have the shapes of what they belong to");
            given.push_back((*input_gradients)[s].mutable_data());
        }
        job.input_gradients = given.data();
    }
    run_driver<NnTileJob<T>>(&run_tiles<T>, job);
}

template <class T>
void define_tile(py::module_& module, const char* name) {
    module.def(name, &tile_pass<T>, py::arg("program"), py::arg("parameters").noconvert(),
               py::arg("buffers").noconvert(), py::arg("dense"), py::arg("indices"),
               py::arg("slot"), py::arg("begin"), py::arg("width"), py::arg("training"),
               py::arg("seed"), py::arg("step"), py::arg("out").noconvert(),
               py::arg("gradient").noconvert(), py::arg("parameter_gradient").noconvert(),
               py::arg("input_gradients").noconvert(), py::arg("num_threads"));
}

}  // namespace

// nn_tile_float32, nn_tile_float64: a forward pass of a program without sparse_dense, whose output
// is (rows, width) from column `begin` of `slot`; with `gradient`, that of the output, also the way
// back (training passes of programs without batch_norm only).
void register_nn_tile(py::module_& module) {
    define_tile<float>(module, "nn_tile_float32");
    define_tile<double>(module, "nn_tile_float64");
}

}  // namespace hl
