// Training over tables, and losses over whole tables.
#include "bind.hpp"
#include "tile_kernels.hpp"

namespace hl {
namespace {

// What a NnTrainJob points to besides the caller's arrays.
template <class T>
struct Room {
    std::vector<int> loss_adds;
    Memory<std::int64_t> batch_rows;
    Memory<double> row_losses, partial_sums;
    Memory<T> loss_scratch;
    std::vector<T*> prepared;
    std::vector<const T*> prepared_views;
    std::vector<std::int32_t*> prepared_indices;
    std::vector<Memory<T>> targets;
    std::vector<Memory<std::int32_t>> indices;
    Memory<T> tile_memory, partial_gradients;
    std::vector<T*> tile_pointers;
    std::vector<std::int32_t> labels;
    std::vector<const std::int32_t*> label_pointers;
};

// A tile's share of the gradient must stay in the second-level cache beside its slots. Of a batch
// of 256, tiles took 0.72 of the time of layers at 15,000 parameters in float, 0.78 at 72,000 and
// 0.89 at 157,000.
constexpr std::int64_t most_tile_bytes = 1 << 20;

// Narrow networks go tile by tile, unless a loss adds to parameters of its own. By size alone.
template <class T>
bool goes_by_tiles(const Workspace<T>& workspace, const Losses& losses) {
    const CheckedProgram& program = workspace.program();
    for (const NnLoss& loss : losses.list()) {
        if (loss.sparse || loss.log_theta >= 0) return false;
    }
    return workspace.capacity() >= nn_tile_rows &&
           program.num_parameters() <= most_tile_bytes / static_cast<std::int64_t>(sizeof(T)) &&
           HL_ACTIVE_TABLE(nn_table).tiles_supported(program.view());
}

template <class T>
NnTileRoom<T> make_tiles(const Workspace<T>& workspace, const Losses& losses,
                         std::int64_t num_indices, Room<T>& room) {
    const CheckedProgram& program = workspace.program();
    const std::int64_t tiles = nn_tiles(workspace.capacity());
    std::int64_t columns = 0, widest = 0;
    for (const std::int64_t width : program.widths()) {
        columns += width;
        widest = std::max(widest, width);
    }
    NnTileRoom<T> tile{};
    const auto aligned = [](std::int64_t count) { return (count + 15) / 16 * 16; };
    tile.loss_scratch = aligned(losses.scratch(nn_tile_rows));
    tile.elements = 2 * columns * nn_tile_rows + tile.loss_scratch +
                    aligned(HL_ACTIVE_TABLE(nn_table).tile_scratch(widest));
    room.tile_memory = Memory<T>(tiles * tile.elements);
    room.partial_gradients = Memory<T>(tiles * program.num_parameters() + 1);
    room.tile_pointers.resize(static_cast<std::size_t>(tiles * 2 * program.num_slots()));
    room.labels.resize(static_cast<std::size_t>(tiles * num_indices * nn_tile_rows));
    room.label_pointers.resize(static_cast<std::size_t>(tiles * num_indices));
    tile.memory = room.tile_memory.data();
    tile.partial_gradients = room.partial_gradients.data();
    tile.pointers = room.tile_pointers.data();
    tile.labels = room.labels.data();
    tile.label_pointers = room.label_pointers.data();
    return tile;
}

template <class T>
void check_losses_fit(const Workspace<T>& workspace, const Losses& losses) {
    const std::vector<NnOperand> logits = losses.logits();
    require(workspace.has_gradients() && workspace.seeds().size() == logits.size(),
            "nn_train: the workspace must be made with the losses' logits as seeds");
    for (std::size_t k = 0; k < logits.size(); ++k) {
        const NnOperand& seed = workspace.seeds()[k];
        require(seed.slot == logits[k].slot && seed.begin == logits[k].begin &&
                    seed.width == logits[k].width,
                "nn_train: the workspace must be made with the losses' logits as seeds");
    }
}

// Inputs are prepared in their slots; targets and indices in memory of their own.
template <class T>
void make_prepared(const Workspace<T>& workspace, const Losses& losses, Room<T>& room) {
    const CheckedProgram& program = workspace.program();
    std::int64_t num_dense = program.num_inputs();
    std::size_t num_indices = program.index_bounds().size();
    for (const NnLoss& loss : losses.list()) {
        if (static_cast<NnLossKind>(loss.kind) == NnLossKind::cross_entropy) {
            num_indices = std::max(num_indices, static_cast<std::size_t>(loss.target) + 1);
        } else if (!loss.sparse) {
            num_dense = std::max(num_dense, loss.target + 1);
        }
    }
    std::vector<std::int64_t> widths(static_cast<std::size_t>(num_dense), 1);
    for (const NnLoss& loss : losses.list()) {
        if (loss.sparse || static_cast<NnLossKind>(loss.kind) == NnLossKind::cross_entropy)
            continue;
        std::int64_t& width = widths[static_cast<std::size_t>(loss.target)];
        require(width == 1 || width == loss.logits.width,
                "nn_train: losses with one target must have one width");
        width = loss.logits.width;
    }
    for (std::int64_t d = 0; d < num_dense; ++d) {
        T* data = nullptr;
        if (d < program.num_inputs()) {
            data = workspace.value(d);
        } else {
            room.targets.emplace_back(workspace.capacity() * widths[static_cast<std::size_t>(d)]);
            data = room.targets.back().data();
        }
        room.prepared.push_back(data);
        room.prepared_views.push_back(data);
    }
    for (std::size_t i = 0; i < num_indices; ++i) {
        room.indices.emplace_back(workspace.capacity());
        room.prepared_indices.push_back(room.indices.back().data());
        std::fill(room.prepared_indices.back(), room.prepared_indices.back() + workspace.capacity(),
                  -1);
    }
}

template <class T>
std::int64_t train(Workspace<T>& workspace, const Array<std::int64_t>& loss_fields,
                   const Array<double>& loss_constants, const py::list& dense,
                   const py::list& sparse, const py::list& indices, int kind,
                   const Array<double>& numbers, const Array<std::int64_t>& no_decay,
                   Array<T> parameters, Array<T> first_moment, Array<T> second_moment,
                   OptionalArray<T> average, Array<T> buffers, const Array<double>& learning_rates,
                   std::int64_t step, std::uint64_t seed, Array<double> losses_out,
                   Array<double> norms, std::uintptr_t prepare, std::uintptr_t context,
                   int num_threads) {
    const CheckedProgram& program = workspace.program();
    check_pass_arrays(program, parameters, buffers);
    const std::int64_t count = program.num_parameters(), batch = workspace.capacity();
    const std::int64_t steps = learning_rates.size();
    require(first_moment.size() == count && second_moment.size() == count &&
                (!average || average->size() == count),
            "nn_train: all buffers must have the length of the parameters");
    require(step >= 0, "nn_train: step must not be negative");
    require(batch >= 2 || !program.needs_two_rows(),
            "nn_train: batch_norm needs at least two rows");
    require(keeps_arguments(program.instructions()),
            "nn_train: the slope of silu and gelu needs `pre`");
    const bool prepared = prepare != 0;
    const Tables<T> tables(dense, sparse, indices);
    Losses losses(loss_fields, loss_constants);
    check_losses_fit(workspace, losses);
    require(losses_out.size() == steps * loss_fields.shape(0) && norms.size() == steps,
            "nn_train: losses and norms must have shapes (steps, losses) and (steps,)");
    if (prepared) {
        require(
            dense.empty() && sparse.empty() && indices.empty() && program.sparse_columns().empty(),
            "nn_train: prepared batches have no tables");
    } else {
        tables.check_program(program, true);
        require(tables.rows() >= batch, "nn_train: fewer rows than a batch has");
        require(tables.rows() < (std::int64_t(1) << 32), "nn_train: too many rows");
    }
    losses.check(workspace, tables, prepared);
    Room<T> room;
    for (std::size_t k = 0; k < losses.list().size(); ++k)
        room.loss_adds.push_back(workspace.plan().seed_adds(k));
    room.row_losses = Memory<double>(batch * static_cast<std::int64_t>(losses.list().size()));
    room.partial_sums = Memory<double>(nn_update_tasks(count) + 1);
    room.loss_scratch = Memory<T>(losses.scratch(batch) + 1);
    if (prepared) {
        make_prepared(workspace, losses, room);
    } else {
        room.batch_rows = Memory<std::int64_t>(tables.rows());
        for (std::int64_t t = 0; t < tables.num_sparse(); ++t)
            workspace.reserve_entries(t, tables.values_in(t, nullptr, batch));
    }
    workspace.last.rows = 0;
    std::int64_t done = 0;
    NnTrainJob<T> job{};
    job.pass = workspace.pass();
    job.pass.tables = tables.view(nullptr);
    if (prepared)
        job.pass.tables = {room.prepared_views.data(),
                           static_cast<std::int64_t>(room.prepared.size()),
                           nullptr,
                           0,
                           room.prepared_indices.data(),
                           static_cast<std::int64_t>(room.prepared_indices.size()),
                           nullptr};
    job.pass.parameters = parameters.mutable_data();
    job.pass.parameter_gradient = workspace.parameter_gradient();
    job.pass.buffers = buffers.mutable_data();
    job.pass.rows = batch;
    job.pass.seed = seed;
    job.pass.step = step;
    job.pass.training = 1;
    job.pass.num_threads = num_threads;
    job.losses = losses.list().data();
    job.num_losses = static_cast<std::int64_t>(losses.list().size());
    job.num_groups = losses.groups().data();
    job.loss_adds = room.loss_adds.data();
    job.optimizer = read_optimizer(kind, numbers, no_decay);
    job.state = {parameters.mutable_data(), first_moment.mutable_data(),
                 second_moment.mutable_data(), average ? average->mutable_data() : nullptr};
    job.num_table_rows = tables.rows();
    job.num_steps = steps;
    job.learning_rates = learning_rates.data();
    job.batch_rows = room.batch_rows.data();
    job.prepare = reinterpret_cast<NnPrepare<T>>(prepare);
    job.context = reinterpret_cast<void*>(context);
    job.prepared = room.prepared.data();
    job.prepared_indices = room.prepared_indices.data();
    job.row_losses = room.row_losses.data();
    job.loss_stride = batch;
    if (goes_by_tiles(workspace, losses))
        job.tiles = make_tiles(workspace, losses, job.pass.tables.num_indices, room);
    job.loss_scratch = room.loss_scratch.data();
    job.partial_sums = room.partial_sums.data();
    job.step_losses = losses_out.mutable_data();
    job.norms = norms.mutable_data();
    job.steps_done = &done;
    run_driver(nn_drivers<T>().train, job);
    return done;
}

// Row losses (losses, rows) of a whole table in evaluation mode, batch by batch.
template <class T>
void evaluate(Workspace<T>& workspace, const Array<std::int64_t>& loss_fields,
              const Array<double>& loss_constants, const py::list& dense, const py::list& sparse,
              const py::list& indices, const Array<T>& parameters, Array<T> buffers,
              Array<double> row_losses, int num_threads) {
    const CheckedProgram& program = workspace.program();
    check_pass_arrays(program, parameters, buffers);
    const Tables<T> tables(dense, sparse, indices);
    tables.check_program(program, true);
    Losses losses(loss_fields, loss_constants);
    losses.check(workspace, tables, false);
    const std::int64_t total = tables.rows();
    require(row_losses.size() == total * loss_fields.shape(0),
            "nn_evaluate: row_losses must have shape (losses, rows)");
    std::vector<std::int64_t> rows(static_cast<std::size_t>(total));
    for (std::int64_t r = 0; r < total; ++r)
        rows[static_cast<std::size_t>(r)] = r;
    const Memory<T> scratch(losses.scratch(workspace.capacity()) + 1);
    for (std::int64_t t = 0; t < tables.num_sparse(); ++t)
        workspace.reserve_entries(t, tables.values_in(t, nullptr, workspace.capacity()));
    workspace.last.rows = 0;
    for (std::int64_t first = 0; first < total; first += workspace.capacity()) {
        NnTrainJob<T> job{};
        job.pass = workspace.pass();
        job.pass.tables = tables.view(rows.data() + first);
        job.pass.parameters = parameters.data();
        job.pass.buffers = buffers.mutable_data();
        job.pass.rows = std::min(workspace.capacity(), total - first);
        job.pass.num_threads = num_threads;
        job.losses = losses.list().data();
        job.num_losses = static_cast<std::int64_t>(losses.list().size());
        job.num_groups = losses.groups().data();
        job.loss_scratch = scratch.data();
        job.row_losses = row_losses.mutable_data() + first;
        job.loss_stride = total;
        run_driver(nn_drivers<T>().evaluate, job);
    }
}

template <class T>
void define_training(py::module_& module, const std::string& name) {
    module.def(("nn_train_" + name).c_str(), &train<T>, py::arg("workspace"),
               py::arg("losses").noconvert(), py::arg("loss_constants").noconvert(),
               py::arg("dense"), py::arg("sparse"), py::arg("indices"), py::arg("kind"),
               py::arg("numbers").noconvert(), py::arg("no_decay").noconvert(),
               py::arg("parameters").noconvert(), py::arg("first_moment").noconvert(),
               py::arg("second_moment").noconvert(), py::arg("average").noconvert(),
               py::arg("buffers").noconvert(), py::arg("learning_rates").noconvert(),
               py::arg("step"), py::arg("seed"), py::arg("losses_out").noconvert(),
               py::arg("norms").noconvert(), py::arg("prepare"), py::arg("context"),
               py::arg("num_threads"));
    module.def(("nn_evaluate_" + name).c_str(), &evaluate<T>, py::arg("workspace"),
               py::arg("losses").noconvert(), py::arg("loss_constants").noconvert(),
               py::arg("dense"), py::arg("sparse"), py::arg("indices"),
               py::arg("parameters").noconvert(), py::arg("buffers").noconvert(),
               py::arg("row_losses").noconvert(), py::arg("num_threads"));
}

}  // namespace

void register_nn_training(py::module_& module) {
    define_training<float>(module, "float32");
    define_training<double>(module, "float64");
}

}  // namespace hl
