// Programs, workspaces, forward and backward passes.
#include "bind.hpp"

namespace hl {
namespace {

std::shared_ptr<CheckedProgram> make_program(const Array<std::int64_t>& instructions,
                                             const Array<double>& constants,
                                             const Array<std::int64_t>& widths,
                                             std::int64_t num_inputs, std::int64_t num_parameters,
                                             std::int64_t num_buffers) {
    require(instructions.ndim() == 2 && instructions.shape(1) == nn_instruction_integers &&
                constants.ndim() == 2 && constants.shape(1) == nn_instruction_reals &&
                constants.shape(0) == instructions.shape(0) && widths.ndim() == 1,
            "NnProgram: instructions, constants and widths must have shapes (n, 17), (n, 2), "
            "(slots,)");
    return std::make_shared<CheckedProgram>(
        instructions.data(), constants.data(), instructions.shape(0),
        std::vector<std::int64_t>(widths.data(), widths.data() + widths.size()), num_inputs,
        num_parameters, num_buffers);
}

template <class T>
Array<T> view_of(const py::object& self, T* data, std::int64_t width, std::int64_t capacity) {
    if (data == nullptr) throw py::value_error("NnWorkspace: this slot has no gradient");
    return Array<T>({static_cast<py::ssize_t>(capacity), static_cast<py::ssize_t>(width)}, data,
                    self);
}

template <class T>
Array<T> slot_view(const py::object& self, std::int64_t slot, bool gradient) {
    const Workspace<T>& workspace = py::cast<const Workspace<T>&>(self);
    const CheckedProgram& program = workspace.program();
    require(slot >= 0 && slot < program.num_slots(), "NnWorkspace: there is no such slot");
    T* const data = gradient ? workspace.gradient(slot) : workspace.value(slot);
    return view_of<T>(self, data, program.widths()[static_cast<std::size_t>(slot)],
                      workspace.capacity());
}

template <class T>
void read_columns(const Workspace<T>& workspace, std::int64_t slot, std::int64_t begin,
                  Array<T>& out, int num_threads) {
    const CheckedProgram& program = workspace.program();
    require(out.ndim() == 2 && out.shape(0) <= workspace.capacity(),
            "NnWorkspace: out must have shape (rows, width)");
    const NnOperand columns{slot, begin, out.shape(1)};
    program.check_columns(columns, "NnWorkspace: columns are outside their slot");
    const std::int64_t stride = program.widths()[static_cast<std::size_t>(slot)];
    const NnRead<T> job{workspace.value(slot) + begin,
                        stride,
                        out.shape(0),
                        columns.width,
                        out.mutable_data(),
                        num_threads};
    run_driver(nn_drivers<T>().read, job);
}

void check_row_numbers(const OptionalArray<std::int64_t>& rows, std::int64_t table_rows) {
    if (!rows) return;
    require(rows->ndim() == 1, "nn: rows must have shape (batch,)");
    for (py::ssize_t i = 0; i < rows->size(); ++i)
        require(rows->data()[i] >= 0 && rows->data()[i] < table_rows,
                "nn: a number of a row is out of range");
}

template <class T>
void forward(Workspace<T>& workspace, const Array<T>& parameters, Array<T>& buffers,
             const py::list& dense, const py::list& sparse, const py::list& indices,
             const OptionalArray<std::int64_t>& rows, bool training, std::uint64_t seed,
             std::int64_t step, int num_threads) {
    const CheckedProgram& program = workspace.program();
    check_pass_arrays(program, parameters, buffers);
    const auto held = std::make_shared<const Tables<T>>(dense, sparse, indices);
    const Tables<T>& tables = *held;
    tables.check_program(program, true);
    check_row_numbers(rows, tables.rows());
    const std::int64_t count = rows ? rows->size() : tables.rows();
    require(count >= 1 && count <= workspace.capacity(), "nn: bad number of rows");
    const std::int64_t* const row_numbers = data_or_null(rows);
    for (std::int64_t t = 0; t < tables.num_sparse(); ++t) {
        const std::int64_t values =
            rows ? tables.values_in(t, row_numbers, count) : tables.sparse(t).indptr[tables.rows()];
        workspace.reserve_entries(t, values);
    }
    workspace.last.rows = 0;
    NnPass<T> pass = workspace.pass();
    pass.tables = tables.view(row_numbers);
    pass.parameters = parameters.data();
    pass.buffers = buffers.mutable_data();
    pass.rows = count;
    pass.training = training;
    pass.seed = seed;
    pass.step = step;
    pass.num_threads = num_threads;
    run_driver(nn_drivers<T>().forward, pass);
    workspace.last = pass;
    workspace.last_tables = held;
    workspace.last_arrays = {parameters, buffers};
    if (rows) workspace.last_arrays.push_back(*rows);
}

template <class T>
void put_seed(const NnPass<T>& pass, const NnOperand& seed, const Array<T>& gradient, bool adds) {
    require(
        gradient.ndim() == 2 && gradient.shape(0) == pass.rows && gradient.shape(1) == seed.width,
        "nn_backward: gradients must have shape (rows, width)");
    T* const target = pass.arena.gradients[seed.slot];
    if (target == nullptr) return;
    const std::int64_t stride = pass.plan.program.widths[seed.slot];
    for (std::int64_t r = 0; r < pass.rows; ++r) {
        for (std::int64_t j = 0; j < seed.width; ++j) {
            T& to = target[r * stride + seed.begin + j];
            to = (adds ? to : T(0)) + gradient.data()[r * seed.width + j];
        }
    }
}

template <class T>
void clear_gradients(const NnPass<T>& pass) {
    const NnPlan& plan = pass.plan;
    for (std::int64_t i = 0; i < plan.num_cleared_slots; ++i) {
        const std::int64_t slot = plan.cleared_slots[i];
        T* const data = pass.arena.gradients[slot];
        std::fill(data, data + pass.rows * plan.program.widths[slot], T(0));
    }
    for (std::int64_t i = 0; i < plan.num_cleared_parameters; ++i)
        std::fill(pass.parameter_gradient + plan.cleared_parameters[i].begin,
                  pass.parameter_gradient + plan.cleared_parameters[i].end, T(0));
}

template <class T>
void backward(Workspace<T>& workspace, const std::vector<Array<T>>& gradients,
              Array<T>& parameter_gradient, int num_threads) {
    const CheckedProgram& program = workspace.program();
    require(workspace.has_gradients(), "nn_backward: the workspace has no gradients");
    require(workspace.last.rows > 0, "nn_backward: there was no forward pass");
    require(parameter_gradient.size() == program.num_parameters(),
            "nn_backward: the gradient must have the program's length");
    require(gradients.size() == workspace.seeds().size(),
            "nn_backward: there must be a gradient for each of the workspace's seeds");
    require(keeps_arguments(program.instructions()),
            "nn_backward: the slope of silu and gelu needs `pre`");
    NnPass<T> pass = workspace.last;
    pass.num_threads = num_threads;
    pass.parameter_gradient = parameter_gradient.mutable_data();
    clear_gradients(pass);
    for (std::size_t i = 0; i < gradients.size(); ++i)
        put_seed(pass, workspace.seeds()[i], gradients[i], workspace.plan().seed_adds(i));
    run_driver(nn_drivers<T>().backward, pass);
}

template <class T>
Array<T> activate(int kind, const Array<T>& x, bool slope, int num_threads) {
    require(kind >= 0 && kind <= 7, "nn_activation: unknown activation");
    Array<T> out(std::vector<py::ssize_t>(x.shape(), x.shape() + x.ndim()));
    Status status = Status::success();
    {
        const T* const source = x.data();
        T* const target = out.mutable_data();
        const std::int64_t count = x.size();
        py::gil_scoped_release release;
        status = nn_drivers<T>().activation(static_cast<NnActivation>(kind), source, target, count,
                                            slope, num_threads);
    }
    throw_status(status);
    return out;
}

template <class T>
void define_passes(py::module_& module, const std::string& name) {
    const std::string type = "NnWorkspace" + std::string(sizeof(T) == 4 ? "Float32" : "Float64");
    py::class_<Workspace<T>>(module, type.c_str())
        .def(py::init([](std::shared_ptr<CheckedProgram> program, std::int64_t rows,
                         const OptionalArray<std::int64_t>& seeds, bool input_gradients) {
                 return std::make_unique<Workspace<T>>(std::move(program), rows, seeds,
                                                       input_gradients);
             }),
             py::arg("program"), py::arg("rows"), py::arg("seeds").noconvert() = py::none(),
             py::arg("input_gradients") = false)
        .def_property_readonly("rows", &Workspace<T>::capacity)
        .def(
            "value",
            [](const py::object& self, std::int64_t slot) {
                return slot_view<T>(self, slot, false);
            },
            py::arg("slot"))
        .def("read", &read_columns<T>, py::arg("slot"), py::arg("begin"),
             py::arg("out").noconvert(), py::arg("num_threads"))
        .def(
            "gradient",
            [](const py::object& self, std::int64_t slot) {
                return slot_view<T>(self, slot, true);
            },
            py::arg("slot"));
    module.def(("nn_forward_" + name).c_str(), &forward<T>, py::arg("workspace"),
               py::arg("parameters").noconvert(), py::arg("buffers").noconvert(), py::arg("dense"),
               py::arg("sparse"), py::arg("indices"), py::arg("rows").noconvert(),
               py::arg("training"), py::arg("seed"), py::arg("step"), py::arg("num_threads"));
    module.def(("nn_backward_" + name).c_str(), &backward<T>, py::arg("workspace"),
               py::arg("gradients"), py::arg("parameter_gradient").noconvert(),
               py::arg("num_threads"));
    module.def(("nn_activation_" + name).c_str(), &activate<T>, py::arg("kind"),
               py::arg("x").noconvert(), py::arg("slope"), py::arg("num_threads"));
}

}  // namespace

void register_nn_passes(py::module_& module) {
    py::class_<CheckedProgram, std::shared_ptr<CheckedProgram>>(module, "NnProgram")
        .def(py::init(&make_program), py::arg("instructions").noconvert(),
             py::arg("constants").noconvert(), py::arg("widths").noconvert(), py::arg("num_inputs"),
             py::arg("num_parameters"), py::arg("num_buffers"))
        .def_property_readonly("num_parameters", &CheckedProgram::num_parameters)
        .def_property_readonly("num_buffers", &CheckedProgram::num_buffers);
    define_passes<float>(module, "float32");
    define_passes<double>(module, "float64");
}

}  // namespace hl
