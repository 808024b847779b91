#include <pybind11/pybind11.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "../core/bind_arrays.hpp"
#include "../core/dispatch.hpp"
#include "bind.hpp"
#include "solve_kernels.hpp"

namespace py = pybind11;

HL_DECLARE_TABLES(AdmmSolveTable, admm_solve_table)

namespace hl {
namespace {

using Offsets = Array<std::int64_t>;
using Flags = OptionalArray<std::uint8_t>;

template <class T>
const AdmmSolveKernels<T>& kernels() {
    if constexpr (sizeof(T) == 4) {
        return HL_ACTIVE_TABLE(admm_solve_table).f32;
    } else {
        return HL_ACTIVE_TABLE(admm_solve_table).f64;
    }
}

template <class I>
bool inside(const Array<I>& numbers, py::ssize_t bound) {
    for (py::ssize_t k = 0; k < numbers.size(); ++k) {
        if (numbers.data()[k] < 0 || numbers.data()[k] >= bound) return false;
    }
    return true;
}

bool cuts(const Offsets& offsets, py::ssize_t last) {
    if (offsets.size() < 1 || offsets.data()[0] < 0) return false;
    for (py::ssize_t k = 1; k < offsets.size(); ++k) {
        if (offsets.data()[k] < offsets.data()[k - 1]) return false;
    }
    return offsets.data()[offsets.size() - 1] <= last;
}

// The arrays of an AdmmDualList.
template <class T>
struct DualArrays {
    Offsets parameters;
    Array<std::int32_t> clients;
    Array<T> values;

    std::int64_t room() const {
        return std::min({parameters.size(), clients.size(), values.size()});
    }
    AdmmDualList<T> list(std::int64_t count) {
        require(count >= 0 && count <= room(), "admm_optimistic_round: the duals are too few");
        return {parameters.mutable_data(), clients.mutable_data(), values.mutable_data(), count};
    }
};

// Matrices with their targets, and the rows of each client in them. The arrays are kept alive.
template <class T>
class Clients {
  public:
    Clients(Offsets layers, int loss, int activation, bool intercept, double first_shape,
            double second_shape)
        : layers_(layers) {
        require(layers.size() >= 2, "admm_gradient: layers must name two widths or more");
        require(loss >= 0 && loss <= 7, "admm_gradient: no such loss");
        require(activation >= 0 && activation <= 2, "admm_gradient: no such activation");
        model_ = {layers_.data(),
                  layers_.size() - 1,
                  0,
                  static_cast<AdmmLoss>(loss),
                  static_cast<AdmmActivation>(activation),
                  intercept,
                  {first_shape, second_shape}};
        for (py::ssize_t l = 0; l + 1 < layers_.size(); ++l) {
            require(width(l) > 0 && width(l + 1) > 0, "admm_gradient: widths must be positive");
            model_.dim += width(l) * width(l + 1) + (intercept ? width(l + 1) : 0);
        }
    }

    void add_dense(Array<T> matrix, OptionalArray<T> targets, OptionalArray<std::int32_t> labels,
                   OptionalArray<T> weights) {
        require(matrix.ndim() == 2 && matrix.shape(1) == width(0),
                "admm_gradient: a matrix must have shape (rows, columns)");
        AdmmRows<T> rows{};
        rows.dense = matrix.data();
        keep(matrix);
        add(rows, matrix.shape(0), targets, labels, weights);
    }

    void add_sparse(Offsets indptr, Array<std::int32_t> indices, OptionalArray<T> values,
                    OptionalArray<T> targets, OptionalArray<std::int32_t> labels,
                    OptionalArray<T> weights) {
        require(cuts(indptr, indices.size()), "admm_gradient: indptr must cut the indices");
        require(inside(indices, width(0)), "admm_gradient: indices must lie below columns");
        require(!values || values->size() == indices.size(),
                "admm_gradient: values must have the length of indices");
        for (py::ssize_t row = 0; row + 1 < indptr.size(); ++row)
            longest_row_ = std::max(longest_row_, indptr.data()[row + 1] - indptr.data()[row]);
        AdmmRows<T> rows{};
        rows.indptr = indptr.data();
        rows.indices = indices.data();
        rows.values = data_or_null(values);
        keep(indptr);
        keep(indices);
        if (values) keep(*values);
        add(rows, indptr.size() - 1, targets, labels, weights);
    }

    void add_client(std::size_t matrix, OptionalArray<std::int64_t> rows) {
        require(matrix < matrices_.size(), "admm_gradient: no such matrix");
        AdmmRows<T> client = matrices_[matrix];
        if (rows) {
            require(inside(*rows, client.count), "admm_gradient: rows must lie in the matrix");
            client.rows = rows->data();
            client.count = rows->size();
            keep(*rows);
        }
        clients_.push_back(client);
    }

    void set_tiles(std::size_t client, Offsets offsets, Array<std::int32_t> columns,
                   Array<std::uint16_t> masks) {
        require(client < clients_.size() && layers_.size() == 2 && width(1) == 1,
                "admm_gradient: tiles are for clients of a model with one output");
        AdmmRows<T>& rows = clients_[client];
        const std::int64_t tiles = (rows.count + admm_tile_rows - 1) / admm_tile_rows;
        require(offsets.size() == tiles + 1 && cuts(offsets, columns.size()) &&
                    masks.size() == columns.size() && inside(columns, width(0)),
                "admm_gradient: tiles must cut their columns, one mask each");
        rows.tile_offsets = offsets.data();
        rows.tile_columns = columns.data();
        rows.tile_masks = masks.data();
        keep(offsets);
        keep(columns);
        keep(masks);
    }

    void gradient(int sampling, std::int64_t size, std::uint64_t seed, std::int64_t round,
                  Offsets tasks, Flags active, Array<T> w, bool own, OptionalArray<T> partials,
                  OptionalArray<double> values, std::int64_t slope_stride, int num_threads) {
        require(sampling >= 0 && sampling <= 2, "admm_gradient: no such sampling");
        const py::ssize_t count = check_tasks(tasks, sampling, size);
        const py::ssize_t dim = model_.dim;
        const py::ssize_t num_clients = static_cast<py::ssize_t>(clients_.size());
        require(!active || active->size() == num_clients, "admm_gradient: active, one per client");
        require(w.size() == (own ? num_clients * dim : dim), "admm_gradient: w has a wrong size");
        check_slopes(tasks, slope_stride);
        require(!partials || partials->size() == count * (slope_stride > 0 ? slope_stride : dim),
                "admm_gradient: partials must have shape (tasks, dim) or (tasks, slopes)");
        require(!values || values->size() == count, "admm_gradient: values must have one per task");
        const AdmmGradient<T> call = {clients_.data(),
                                      model_,
                                      {static_cast<AdmmSampling>(sampling), size, seed, round},
                                      tasks.data(),
                                      data_or_null(active),
                                      count,
                                      w.data(),
                                      own ? dim : 0,
                                      mutable_or_null(partials),
                                      mutable_or_null(values),
                                      slope_stride,
                                      num_threads};
        Status status = Status::success();
        {
            py::gil_scoped_release release;
            status = kernels<T>().gradient(call);
        }
        throw_status(status);
    }

    // From the slopes of a batch to the next point and duals; returns how many those are.
    std::int64_t optimistic_round(int sampling, std::int64_t size, std::uint64_t seed,
                                  std::int64_t round, Offsets tasks, Array<T> slopes,
                                  std::int64_t slope_stride, Array<double> scale,
                                  Array<double> alpha, Array<double> sigma, Array<T> w,
                                  DualArrays<T> before, std::int64_t num_before, DualArrays<T> now,
                                  Array<double> sums) {
        require(sampling == 1 || sampling == 2, "admm_optimistic_round: no such sampling");
        require(layers_.size() == 2 && width(1) == 1, "admm_optimistic_round: one output only");
        const py::ssize_t count = check_tasks(tasks, sampling, size);
        const py::ssize_t clients = static_cast<py::ssize_t>(clients_.size());
        check_slopes(tasks, slope_stride);
        require(slope_stride > 0 && slopes.size() == count * slope_stride,
                "admm_optimistic_round: slopes must have shape (tasks, stride)");
        require(scale.size() == clients && alpha.size() == clients && sigma.size() == clients,
                "admm_optimistic_round: numbers of clients must have shape (clients,)");
        require(w.size() == model_.dim && sums.size() == slices() * admm_num_sums,
                "admm_optimistic_round: w must have shape (dim,) and sums (slices, 6)");
        require(now.room() >= most_duals(tasks), "admm_optimistic_round: no room for the duals");
        const AdmmDualList<T> old = before.list(num_before);
        AdmmDualList<T> found = now.list(0);
        require(rises(old, clients), "admm_optimistic_round: duals must be in order");
        const AdmmGradient<T> call = {clients_.data(),
                                      model_,
                                      {static_cast<AdmmSampling>(sampling), size, seed, round},
                                      tasks.data(),
                                      nullptr,
                                      count,
                                      nullptr,
                                      0,
                                      slopes.mutable_data(),
                                      nullptr,
                                      slope_stride,
                                      1};
        AdmmRound<T> step{};
        step.num_clients = clients;
        step.dim = model_.dim;
        step.scale = scale.data();
        step.alpha = alpha.data();
        step.sigma = sigma.data();
        step.w = w.mutable_data();
        step.sums = sums.mutable_data();
        Status status = Status::success();
        {
            py::gil_scoped_release release;
            status = kernels<T>().optimistic_round(call, step, {old, found});
        }
        throw_status(status);
        return found.count;
    }

  private:
    std::int64_t width(py::ssize_t layer) const { return layers_.data()[layer]; }

    std::int64_t slices() const { return (model_.dim + admm_slice - 1) / admm_slice; }

    void keep(py::object array) { kept_.push_back(array); }

    static void check_slopes(const Offsets& tasks, std::int64_t stride) {
        require(stride >= 0, "admm_gradient: slopes must not be negative in number");
        for (py::ssize_t k = 0; stride > 0 && k < tasks.size(); k += 3)
            require(tasks.data()[k + 2] - tasks.data()[k + 1] <= stride,
                    "admm_gradient: a task has more rows than slopes");
    }

    // A batch gives no more duals than its rows have entries, and no more than there are.
    std::int64_t most_duals(const Offsets& tasks) const {
        std::int64_t rows = 0;
        for (py::ssize_t k = 0; k < tasks.size(); k += 3)
            rows += tasks.data()[k + 2] - tasks.data()[k + 1];
        for (const AdmmRows<T>& matrix : matrices_)
            require(matrix.indptr != nullptr, "admm_optimistic_round: rows must be in CSR");
        return std::min(rows * (longest_row_ + (model_.intercept ? 1 : 0)),
                        static_cast<std::int64_t>(clients_.size()) * model_.dim);
    }

    bool rises(const AdmmDualList<T>& list, std::int64_t clients) const {
        for (std::int64_t k = 0; k < list.count; ++k) {
            if (list.parameters[k] < 0 || list.parameters[k] >= model_.dim || list.clients[k] < 0 ||
                list.clients[k] >= clients)
                return false;
            if (k == 0 || list.parameters[k - 1] < list.parameters[k]) continue;
            if (list.parameters[k - 1] > list.parameters[k] ||
                list.clients[k - 1] >= list.clients[k])
                return false;
        }
        return true;
    }

    void add(AdmmRows<T> rows, py::ssize_t count, OptionalArray<T>& targets,
             OptionalArray<std::int32_t>& labels, OptionalArray<T>& weights) {
        const std::int64_t outputs = width(layers_.size() - 1);
        if (model_.loss == AdmmLoss::softmax) {
            require(labels && labels->size() == count && inside(*labels, outputs),
                    "admm_gradient: labels must name an output for each row");
            rows.labels = labels->data();
            keep(*labels);
        } else {
            require(targets && targets->size() == count * outputs,
                    "admm_gradient: targets must have shape (rows, outputs)");
            rows.targets = targets->data();
            keep(*targets);
        }
        require(!weights || weights->size() == count, "admm_gradient: weights, one per row");
        rows.weights = data_or_null(weights);
        if (weights) keep(*weights);
        rows.count = count;
        matrices_.push_back(rows);
    }

    py::ssize_t check_tasks(const Offsets& tasks, int sampling, std::int64_t size) const {
        require(tasks.size() % 3 == 0, "admm_gradient: tasks must have shape (tasks, 3)");
        for (py::ssize_t k = 0; k < tasks.size(); k += 3) {
            const std::int64_t* task = tasks.data() + k;
            const bool known = task[0] >= 0 && task[0] < static_cast<std::int64_t>(clients_.size());
            require(known, "admm_gradient: no such client");
            const std::int64_t count = clients_[static_cast<std::size_t>(task[0])].count;
            require(count > 0 && task[1] >= 0 && task[2] <= (sampling == 0 ? count : size),
                    "admm_gradient: a task reaches beyond its client");
            const bool tiled = clients_[static_cast<std::size_t>(task[0])].tile_offsets != nullptr;
            require(sampling != 0 || !tiled || task[1] % admm_tile_rows == 0,
                    "admm_gradient: a task begins within a tile");
        }
        return tasks.size() / 3;
    }

    Offsets layers_;
    AdmmModel model_;
    std::vector<AdmmRows<T>> matrices_, clients_;
    std::vector<py::object> kept_;
    std::int64_t longest_row_ = 0;
};

template <class T>
void round(Array<T> partials, Offsets tasks, Flags active, Array<double> scale, Array<double> alpha,
           Array<double> sigma, Array<double> rho, int scheme, double beta, double correction,
           double eps, double cap, double relaxation, double l2, std::int64_t penalised, Array<T> w,
           Array<T> dual, OptionalArray<T> second, OptionalArray<T> local,
           OptionalArray<T> gradient, Array<double> sums, int num_threads) {
    const py::ssize_t dim = w.size(), count = tasks.size() / 3, clients = alpha.size();
    const std::int64_t slices = (dim + admm_slice - 1) / admm_slice;
    require(partials.size() == count * dim && tasks.size() == 3 * count,
            "admm_round: partials must have shape (tasks, dim)");
    require(scale.size() == clients && sigma.size() == clients && rho.size() == clients &&
                (!active || active->size() == clients),
            "admm_round: what is kept for each client must have shape (clients,)");
    require(dual.size() == clients * dim && (!second || second->size() == clients * dim) &&
                (!local || local->size() == clients * dim) &&
                (!gradient || gradient->size() == clients * dim),
            "admm_round: the state must have shape (clients, dim)");
    require(scheme >= 0 && scheme <= 4 && (scheme == 0 || second),
            "admm_round: the scheme needs second moments");
    require(local || (!active && relaxation == 1.0), "admm_round: local points are needed");
    require(sums.size() == slices * admm_num_sums, "admm_round: sums must have shape (slices, 6)");
    const AdmmRound<T> call = {partials.data(),
                               tasks.data(),
                               data_or_null(active),
                               count,
                               clients,
                               dim,
                               scale.data(),
                               alpha.data(),
                               sigma.data(),
                               rho.data(),
                               static_cast<AdmmScheme>(scheme),
                               beta,
                               correction,
                               eps,
                               cap,
                               relaxation,
                               l2,
                               penalised,
                               w.mutable_data(),
                               dual.mutable_data(),
                               mutable_or_null(second),
                               mutable_or_null(local),
                               mutable_or_null(gradient),
                               sums.mutable_data(),
                               false,
                               num_threads};
    Status status = Status::success();
    {
        py::gil_scoped_release release;
        status = kernels<T>().round(call);
    }
    throw_status(status);
}

// The tiles of a client, or None where a row names a column twice or the tiles are not denser than
// the rows by a factor of two.
py::object tiles_of(Offsets indptr, Array<std::int32_t> indices, Offsets rows,
                    std::int64_t columns) {
    require(
        cuts(indptr, indices.size()) && inside(indices, columns) && inside(rows, indptr.size() - 1),
        "admm_tiles: rows and indices must lie in the matrix");
    std::vector<std::uint16_t> mask(static_cast<std::size_t>(columns), 0), masks;
    std::vector<std::uint64_t> seen(static_cast<std::size_t>((columns + 63) / 64), 0);
    std::vector<std::int32_t> all;
    std::vector<std::int64_t> offsets{0};
    std::int64_t entries = 0;
    for (py::ssize_t first = 0; first < rows.size(); first += admm_tile_rows) {
        for (py::ssize_t j = first; j < first + admm_tile_rows && j < rows.size(); ++j) {
            const std::int64_t row = rows.data()[j];
            const auto bit = static_cast<std::uint16_t>(1u << (j - first));
            for (std::int64_t k = indptr.data()[row]; k < indptr.data()[row + 1]; ++k) {
                const auto column = static_cast<std::size_t>(indices.data()[k]);
                if ((mask[column] & bit) != 0) return py::none();
                mask[column] = static_cast<std::uint16_t>(mask[column] | bit);
                seen[column / 64] |= std::uint64_t(1) << column % 64;
                ++entries;
            }
        }
        for (std::size_t word = 0; word < seen.size(); ++word) {
            for (; seen[word] != 0; seen[word] &= seen[word] - 1) {
                const auto lowest = static_cast<std::size_t>(__builtin_ctzll(seen[word]));
                const std::size_t column = 64 * word + lowest;
                all.push_back(static_cast<std::int32_t>(column));
                masks.push_back(mask[column]);
                mask[column] = 0;
            }
        }
        offsets.push_back(static_cast<std::int64_t>(all.size()));
    }
    if (entries < 2 * static_cast<std::int64_t>(all.size())) return py::none();
    const auto size = static_cast<py::ssize_t>(all.size());
    return py::make_tuple(Offsets(static_cast<py::ssize_t>(offsets.size()), offsets.data()),
                          Array<std::int32_t>(size, all.data()),
                          Array<std::uint16_t>(size, masks.data()));
}

template <class T>
void register_kernels(py::module_& module, const char* name, const char* duals) {
    py::class_<DualArrays<T>>(module, duals)
        .def(py::init<Offsets, Array<std::int32_t>, Array<T>>(), py::arg("parameters").noconvert(),
             py::arg("clients").noconvert(), py::arg("values").noconvert());
    py::class_<Clients<T>>(module, name)
        .def(py::init<Offsets, int, int, bool, double, double>())
        .def("add_dense", &Clients<T>::add_dense, py::arg("matrix").noconvert(),
             py::arg("targets").noconvert(), py::arg("labels").noconvert(),
             py::arg("weights").noconvert())
        .def("add_sparse", &Clients<T>::add_sparse, py::arg("indptr").noconvert(),
             py::arg("indices").noconvert(), py::arg("values").noconvert(),
             py::arg("targets").noconvert(), py::arg("labels").noconvert(),
             py::arg("weights").noconvert())
        .def("add_client", &Clients<T>::add_client, py::arg("matrix"), py::arg("rows").noconvert())
        .def("set_tiles", &Clients<T>::set_tiles, py::arg("client"), py::arg("offsets").noconvert(),
             py::arg("columns").noconvert(), py::arg("masks").noconvert())
        .def("optimistic_round", &Clients<T>::optimistic_round, py::arg("sampling"),
             py::arg("size"), py::arg("seed"), py::arg("round"), py::arg("tasks").noconvert(),
             py::arg("slopes").noconvert(), py::arg("slope_stride"), py::arg("scale").noconvert(),
             py::arg("alpha").noconvert(), py::arg("sigma").noconvert(), py::arg("w").noconvert(),
             py::arg("before"), py::arg("num_before"), py::arg("now"), py::arg("sums").noconvert())
        .def("gradient", &Clients<T>::gradient, py::arg("sampling"), py::arg("size"),
             py::arg("seed"), py::arg("round"), py::arg("tasks").noconvert(),
             py::arg("active").noconvert(), py::arg("w").noconvert(), py::arg("own"),
             py::arg("partials").noconvert(), py::arg("values").noconvert(),
             py::arg("slope_stride"), py::arg("num_threads"));
    module.def(
        "admm_round", round<T>, py::arg("partials").noconvert(), py::arg("tasks").noconvert(),
        py::arg("active").noconvert(), py::arg("scale").noconvert(), py::arg("alpha").noconvert(),
        py::arg("sigma").noconvert(), py::arg("rho").noconvert(), py::arg("scheme"),
        py::arg("beta"), py::arg("correction"), py::arg("eps"), py::arg("cap"),
        py::arg("relaxation"), py::arg("l2"), py::arg("penalised"), py::arg("w").noconvert(),
        py::arg("dual").noconvert(), py::arg("second").noconvert(), py::arg("local").noconvert(),
        py::arg("gradient").noconvert(), py::arg("sums").noconvert(), py::arg("num_threads"));
}

}  // namespace

void register_admm_solve(py::module_& module) {
    module.def("admm_tiles", tiles_of, py::arg("indptr").noconvert(),
               py::arg("indices").noconvert(), py::arg("rows").noconvert(), py::arg("columns"));
    register_kernels<float>(module, "AdmmClientsFloat32", "AdmmDualsFloat32");
    register_kernels<double>(module, "AdmmClientsFloat64", "AdmmDualsFloat64");
}

}  // namespace hl
