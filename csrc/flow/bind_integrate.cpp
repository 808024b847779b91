#include <pybind11/pybind11.h>

#include <algorithm>
#include <memory>
#include <numeric>
#include <vector>

#include "../core/bind_arrays.hpp"
#include "../core/dispatch.hpp"
#include "../nn/program_check.hpp"
#include "bind.hpp"
#include "plan.hpp"

namespace py = pybind11;

HL_DECLARE_TABLES(FlowIntegrateTable, flow_integrate_table)

namespace hl {
namespace {

using Counts = Array<std::int64_t>;

template <class T>
FlowIntegrateKernel<T> kernel() {
    const FlowIntegrateTable& table = HL_ACTIVE_TABLE(flow_integrate_table);
    if constexpr (sizeof(T) == sizeof(float)) {
        return table.f32;
    } else {
        return table.f64;
    }
}

// The labels that occur, each combination once, and the rows in the order of theirs.
class Combinations {
  public:
    Combinations(const Array<std::int32_t>& labels, std::int64_t n) : n_(n) {
        require(labels.ndim() == 3 && labels.shape(0) >= 1 && labels.shape(2) == n,
                "flow_integrate: labels must have shape (branches, attributes, n)");
        branches_ = labels.shape(0);
        attributes_ = labels.shape(1);
        number(labels.data());
        sort_rows();
    }

    std::int64_t branches() const { return branches_; }
    std::int64_t attributes() const { return attributes_; }
    std::int64_t count() const { return count_; }
    const std::int32_t* values() const { return values_.data(); }
    const std::int32_t* of_rows() const { return of_rows_.data(); }
    const std::int64_t* order() const { return order_.data(); }

    std::int32_t largest(std::int64_t attribute) const {
        std::int32_t largest = -1;
        for (std::int64_t c = 0; c < count_; ++c)
            largest = std::max(largest, values_[at(c * attributes_ + attribute)]);
        return largest;
    }

  private:
    static std::size_t at(std::int64_t index) { return static_cast<std::size_t>(index); }

    void number(const std::int32_t* labels) {
        const auto label = [&](std::int64_t place, std::int64_t a) {
            return labels[(place / n_ * attributes_ + a) * n_ + place % n_];
        };
        const auto compare = [&](std::int64_t x, std::int64_t y) {
            for (std::int64_t a = 0; a < attributes_; ++a) {
                if (label(x, a) != label(y, a)) return label(x, a) < label(y, a) ? -1 : 1;
            }
            return 0;
        };
        std::vector<std::int64_t> places(at(branches_ * n_));
        std::iota(places.begin(), places.end(), std::int64_t(0));
        if (attributes_ > 0)
            std::stable_sort(places.begin(), places.end(),
                             [&](std::int64_t x, std::int64_t y) { return compare(x, y) < 0; });
        of_rows_.resize(places.size());
        for (std::size_t k = 0; k < places.size(); ++k) {
            if (k == 0 || compare(places[k - 1], places[k]) != 0) {
                for (std::int64_t a = 0; a < attributes_; ++a)
                    values_.push_back(label(places[k], a));
                ++count_;
            }
            of_rows_[at(places[k])] = static_cast<std::int32_t>(count_ - 1);
        }
    }

    void sort_rows() {
        order_.resize(at(n_));
        std::iota(order_.begin(), order_.end(), std::int64_t(0));
        if (count_ == 1) return;
        std::stable_sort(order_.begin(), order_.end(), [this](std::int64_t x, std::int64_t y) {
            for (std::int64_t b = 0; b < branches_; ++b) {
                const std::int32_t of_x = of_rows_[at(b * n_ + x)], of_y = of_rows_[at(b * n_ + y)];
                if (of_x != of_y) return of_x < of_y;
            }
            return false;
        });
    }

    std::int64_t n_, branches_, attributes_, count_ = 0;
    std::vector<std::int32_t> values_, of_rows_;
    std::vector<std::int64_t> order_;
};

// A velocity as it comes from Python; keeps alive what it points to.
template <class T>
class Velocity {
  public:
    Velocity(const py::tuple& velocity, const py::list& inputs, const Combinations& labels,
             std::int64_t n, std::int64_t d, FlowControl control) {
        if (velocity.size() == 2) {
            const auto function = velocity[0].cast<std::uintptr_t>();
            require(function != 0 && inputs.empty(), "flow_integrate: bad function or inputs");
            view_.function = reinterpret_cast<FlowFunction<T>>(function);
            view_.user = reinterpret_cast<void*>(velocity[1].cast<std::uintptr_t>());
            return;
        }
        require(velocity.size() == 5, "flow_integrate: velocity must have two or five members");
        program_ = velocity[0].cast<std::shared_ptr<CheckedProgram>>();
        parameters_ = velocity[1].cast<Array<T>>();
        buffers_ = velocity[2].cast<Array<T>>();
        const NnOperand output = {velocity[3].cast<std::int64_t>(),
                                  velocity[4].cast<std::int64_t>(), d};
        program_->check_columns(output, "flow_integrate: the output is outside its slot");
        check(labels, n, d);
        add_inputs(inputs, n);
        planner_ = std::make_unique<FlowPlanner>(program_->view(), output,
                                                 control != FlowControl::row, labels.branches());
        view_.plan = planner_->view();
        view_.parameters = parameters_.data();
        view_.buffers = buffers_.data();
        view_.inputs = inputs_.data();
    }

    const FlowVelocity<T>& view() const { return view_; }

  private:
    void check(const Combinations& labels, std::int64_t n, std::int64_t d) const {
        static_cast<void>(n);
        const CheckedProgram& program = *program_;
        require(parameters_.size() == program.num_parameters() &&
                    buffers_.size() == program.num_buffers(),
                "flow_integrate: parameters and buffers must have the program's length");
        require(program.num_inputs() >= 2 && program.widths()[0] == d && program.widths()[1] == 1,
                "flow_integrate: the program's first inputs must be z and t");
        require(program.sparse_columns().empty(), "flow_integrate: the program reads sparse rows");
        const auto& bounds = program.index_bounds();
        require(static_cast<std::int64_t>(bounds.size()) <= labels.attributes(),
                "flow_integrate: the program reads more labels");
        for (std::size_t a = 0; a < bounds.size(); ++a)
            require(bounds[a] == 0 || labels.largest(static_cast<std::int64_t>(a)) < bounds[a],
                    "flow_integrate: a label is outside its table");
    }

    void add_inputs(const py::list& inputs, std::int64_t n) {
        require(static_cast<std::int64_t>(inputs.size()) + 2 == program_->num_inputs(),
                "flow_integrate: there must be one array for each input behind z and t");
        for (const py::handle item : inputs) {
            const auto array = py::cast<Array<T>>(item);
            require(array.size() == n * program_->widths()[inputs_.size() + 2],
                    "flow_integrate: an input must have shape (n, width)");
            inputs_.push_back(array.data());
            kept_.push_back(array);
        }
    }

    std::shared_ptr<CheckedProgram> program_;
    Array<T> parameters_, buffers_;
    std::vector<Array<T>> kept_;
    std::vector<const T*> inputs_;
    std::unique_ptr<FlowPlanner> planner_;
    FlowVelocity<T> view_{};
};

// The place in `kept` of each point of the grid, or -1.
std::vector<std::int64_t> places_of(const Array<double>& grid, const Array<double>& kept_times) {
    std::vector<std::int64_t> places(static_cast<std::size_t>(grid.size()), -1);
    py::ssize_t next = 0;
    for (py::ssize_t k = 0; k < grid.size() && next < kept_times.size(); ++k) {
        if (grid.data()[k] == kept_times.data()[next]) places[static_cast<std::size_t>(k)] = next++;
    }
    require(next == kept_times.size(), "flow_integrate: kept times must be points of the grid");
    return places;
}

bool steps_one_way(const Array<double>& grid) {
    const double* const t = grid.data();
    for (py::ssize_t k = 1; k < grid.size(); ++k) {
        if (!(t[1] > t[0] ? t[k] > t[k - 1] : t[k] < t[k - 1])) return false;
    }
    return true;
}

template <class T>
py::tuple integrate(const py::tuple& velocity, Array<T> z, const Array<double>& grid,
                    const Array<double>& kept_times, Array<T> kept, int method, int control,
                    double rtol, double atol, std::int64_t max_steps,
                    const Array<std::int32_t>& labels, const Array<T>& weights,
                    const py::list& inputs, Counts evaluations, Counts accepted, Counts rejected,
                    int num_threads) {
    require(z.ndim() == 2 && z.shape(0) >= 1 && z.shape(1) >= 1,
            "flow_integrate: z must have shape (n, d)");
    const std::int64_t n = z.shape(0), d = z.shape(1), branches = labels.shape(0);
    require(method >= 0 && method <= 4, "flow_integrate: no such method");
    require(control >= 0 && control <= 2, "flow_integrate: no such control");
    const bool fixed = control == 0;
    require(grid.size() >= 2 && (fixed || (grid.size() == 2 && method == 4)) && steps_one_way(grid),
            "flow_integrate: the grid must go one way, from start to end where steps are adaptive");
    require(kept.size() == kept_times.size() * n * d,
            "flow_integrate: kept must have shape (m, n, d)");
    const bool row_weights = weights.ndim() == 2;
    require(weights.size() == (branches - 1) * (row_weights ? n : 1),
            "flow_integrate: weights must have shape (branches - 1,) or (branches - 1, n)");
    require(evaluations.size() == n && accepted.size() == n && rejected.size() == n,
            "flow_integrate: counts must have shape (n,)");
    const Combinations combinations(labels, n);
    const auto places = fixed ? places_of(grid, kept_times) : std::vector<std::int64_t>();
    const FlowControl mode = static_cast<FlowControl>(control);
    const Velocity<T> field(velocity, inputs, combinations, n, d, mode);
    FlowIntegrate<T> call{};
    call.velocity = field.view();
    call.z = z.mutable_data();
    call.n = n;
    call.d = d;
    call.grid = grid.data();
    call.grid_size = grid.size();
    call.keep = places.data();
    call.kept_times = kept_times.data();
    call.num_kept = kept_times.size();
    call.kept = kept.mutable_data();
    call.method = method;
    call.control = mode;
    call.rtol = static_cast<T>(rtol);
    call.atol = static_cast<T>(atol);
    call.max_steps = max_steps;
    call.branches = branches;
    call.attributes = combinations.attributes();
    call.weights = weights.data();
    call.weight_stride = row_weights ? n : 1;
    call.row_weights = row_weights;
    call.combinations = combinations.values();
    call.num_combinations = combinations.count();
    call.combination_of = combinations.of_rows();
    call.order = combinations.order();
    call.evaluations = evaluations.mutable_data();
    call.accepted = accepted.mutable_data();
    call.rejected = rejected.mutable_data();
    call.num_threads = num_threads;
    Status status = Status::success();
    {
        py::gil_scoped_release release;
        status = kernel<T>()(call);
    }
    if (status.code == Code::numerical) return py::make_tuple(status.detail, status.index);
    throw_status(status);
    return py::make_tuple(0, -1);
}

template <class T>
void define_integrate(py::module_& module, const char* name) {
    module.def(name, &integrate<T>, py::arg("velocity"), py::arg("z").noconvert(), py::arg("grid"),
               py::arg("kept_times"), py::arg("kept").noconvert(), py::arg("method"),
               py::arg("control"), py::arg("rtol"), py::arg("atol"), py::arg("max_steps"),
               py::arg("labels").noconvert(), py::arg("weights").noconvert(), py::arg("inputs"),
               py::arg("evaluations").noconvert(), py::arg("accepted").noconvert(),
               py::arg("rejected").noconvert(), py::arg("num_threads"));
}

}  // namespace

// flow_integrate_float32, flow_integrate_float64(
//     velocity,      (function, user): the addresses of
//                        void(int64 n, int64 d, const T* z, const T* t, const int64* labels, T*
//                        out,
//                             void* user)
//                    with z, out (n, d), t (n,), labels (n, attributes), and of what it is given;
//                    or (program, parameters, buffers, slot, begin): a network whose dense inputs
//                    are z, t and `inputs`, with one index table for each attribute, and whose
//                    output is the d columns from `begin` of `slot`
//     z,             (n, d): the start, and in the end the state at grid[-1]
//     grid,          (steps + 1,) float64: the times of fixed steps; (2,) start and end when steps
//                    are adaptive
//     kept_times,    (m,) float64: in the order of the integration; points of `grid` when steps are
//                    fixed
//     kept,          (m, n, d): receives the states at those times
//     method,        int: 0 euler, 1 midpoint, 2 heun, 3 rk4, 4 dopri5
//     control,       int: 0 fixed steps, 1 each row has its own (dopri5), 2 the batch shares them
//     rtol, atol, max_steps,
//     labels,        (branches, attributes, n) int32, -1 for none
//     weights,       (branches - 1,) or (branches - 1, n): the velocity is
//                    v_0 + sum_b weights[b - 1] (v_b - v_0), v_b the one with labels[b]
//     inputs,        list of (n, width): further dense inputs of a network
//     evaluations, accepted, rejected,   (n,) int64: receive the counts of each row
//     num_threads)
// returns (reason, row): (0, -1), or why the integration failed: 1 a value that isn't finite,
// 2 more than max_steps steps, and the lowest row of its tile in which that was seen.
void register_flow_integrate(py::module_& module) {
    define_integrate<float>(module, "flow_integrate_float32");
    define_integrate<double>(module, "flow_integrate_float64");
}

}  // namespace hl
