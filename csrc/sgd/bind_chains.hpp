// What the kernels of sgd share, as Python holds it: the arrays of a run, rules and statistics. All
// sizes are checked, so that no pointer can be read beyond its end. For binding files only.
#pragma once

#include <pybind11/pybind11.h>

#include <cmath>

#include "../core/bind_arrays.hpp"
#include "kernels.hpp"

namespace hl {

namespace py = pybind11;

// An array that may be missing: None gives one of size 0. It is never converted.
template <class T>
Array<T> optional_array(const py::object& value, const char* message) {
    if (value.is_none()) return Array<T>();
    require(py::isinstance<Array<T>>(value), message);
    return py::reinterpret_borrow<Array<T>>(value);
}

// The statistics of a run.
class Statistics {
  public:
    Statistics(std::int64_t count, const Array<double>& weights, const Array<double>& shift,
               std::int64_t stride, const py::object& path, const py::object& squares,
               const py::object& products, const py::object& second, const py::object& plug_hessian,
               const py::object& plug_outer)
        : count_(count),
          stride_(stride),
          weights_(weights),
          shift_(shift),
          path_(optional_array<double>(path, kind)),
          squares_(optional_array<double>(squares, kind)),
          products_(optional_array<double>(products, kind)),
          second_(optional_array<double>(second, kind)),
          plug_hessian_(optional_array<double>(plug_hessian, kind)),
          plug_outer_(optional_array<double>(plug_outer, kind)) {
        require(count >= 0, "sgd: count must not be negative");
    }

    // For chains of this shape that make `num_steps` averaged steps.
    SgdStatistics view(std::int64_t chains, std::int64_t copies, std::int64_t dim,
                       std::int64_t num_steps) {
        const std::int64_t size = chains * copies * dim, triangle = dim * (dim + 1) / 2;
        const std::int64_t paths = copies > 1 ? copies + 1 : 1;
        const std::int64_t triangles = chains * paths * triangle;
        SgdStatistics s;
        s.count = count_;
        require(shift_.size() == size, "sgd: shift must have the shape of theta");
        s.weights = weights_.data();
        s.weight_stride = weights_.ndim() == 2 ? copies : 0;
        require(weights_.size() == (weights_.ndim() == 2 ? chains * copies : copies),
                "sgd: weights must have shape (step sizes,) or (chains, step sizes)");
        s.shift = shift_.data();
        if (path_.size() > 0) {
            require(path_.ndim() == 4 && path_.size() == path_.shape(1) * size && stride_ >= 1,
                    "sgd: path must have shape (chains, slots, step sizes, dim), stride 1 or more");
            require((count_ + num_steps) / stride_ <= path_.shape(1),
                    "sgd: path must have a slot for every `stride` averaged steps");
            s.path = path_.mutable_data();
            s.slots = path_.shape(1);
            s.stride = stride_;
        }
        s.squares = checked(squares_, chains * paths * dim);
        s.products = checked(products_, size);
        s.full = second_.ndim() == 3 && second_.shape(2) != dim;
        s.second = checked(second_, s.full ? triangles : chains * paths * dim);
        s.plug_hessian = checked(plug_hessian_, chains * triangle);
        s.plug_outer = checked(plug_outer_, chains * triangle);
        return s;
    }

  private:
    static constexpr const char* kind =
        "sgd: statistics must be None or C-contiguous float64 arrays";

    static double* checked(Array<double>& array, std::int64_t size) {
        if (array.size() == 0) return nullptr;
        require(array.size() == size, "sgd: an array of the statistics has the wrong shape");
        return array.mutable_data();
    }

    std::int64_t count_, stride_;
    Array<double> weights_, shift_;
    Array<double> path_, squares_, products_, second_, plug_hessian_, plug_outer_;
};

// What is done to gradients and iterates.
template <class T>
class Rules {
  public:
    Rules(double clip_norm, double weight_decay, int projection, const py::object& low,
          const py::object& high, const py::object& center, double radius, int schedule,
          double exponent, double offset, const Array<std::int64_t>& boundaries,
          const Array<double>& factors, std::int64_t origin)
        : low_(optional_array<T>(low, kind)),
          high_(optional_array<T>(high, kind)),
          center_(optional_array<T>(center, kind)),
          boundaries_(boundaries),
          factors_(factors) {
        require(projection >= 0 && projection <= 2 && schedule >= 0 && schedule <= 2,
                "sgd: projection and schedule must be 0, 1 or 2");
        require(schedule != 1 || offset >= 0, "sgd: offset must not be negative");
        require(schedule != 2 || factors.size() == boundaries.size() + 1,
                "sgd: factors must be one more than boundaries");
        view_.clips = clip_norm < HUGE_VAL;
        view_.clip_norm = static_cast<T>(clip_norm);
        view_.decays = weight_decay != 0;
        view_.weight_decay = static_cast<T>(weight_decay);
        view_.projection = static_cast<Projection>(projection);
        view_.radius = static_cast<T>(radius);
        view_.schedule = static_cast<Schedule>(schedule);
        view_.exponent = exponent;
        view_.schedule_offset = offset;
        view_.num_boundaries = boundaries.size();
        view_.origin = origin;
    }

    SgdRules<T> view(std::int64_t dim, std::int64_t first_step) const {
        SgdRules<T> rules = view_;
        const bool box = rules.projection == Projection::box;
        const bool ball = rules.projection == Projection::ball;
        require(!box || (low_.size() == dim && high_.size() == dim),
                "sgd: low and high must have shape (dim,)");
        require(!ball || center_.size() == dim, "sgd: center must have shape (dim,)");
        require(rules.trivial() || rules.origin <= first_step,
                "sgd: origin must not lie after the first step");
        rules.low = low_.data();
        rules.high = high_.data();
        rules.center = center_.data();
        rules.boundaries = boundaries_.data();
        rules.factors = factors_.data();
        return rules;
    }

  private:
    static constexpr const char* kind =
        "sgd: bounds must be None or C-contiguous arrays in the precision of theta";

    SgdRules<T> view_;
    Array<T> low_, high_, center_;
    Array<std::int64_t> boundaries_;
    Array<double> factors_;
};

// The arrays of a run, bound once; each call advances them by some steps.
template <class T>
class Chains {
  public:
    Chains(Array<T> theta, Array<double> sums, Array<std::uint8_t> flags,
           Array<std::int64_t> diverged_at, Array<T> step_sizes, Array<T> auxiliary)
        : theta_(theta),
          sums_(sums),
          flags_(flags),
          diverged_at_(diverged_at),
          step_sizes_(step_sizes),
          auxiliary_(auxiliary) {
        require(theta.ndim() == 3, "sgd: theta must have shape (chains, step sizes, dim)");
        const py::ssize_t cells = theta.shape(0) * theta.shape(1);
        const bool shared = step_sizes.ndim() == 1;
        require(step_sizes.size() == (shared ? theta.shape(1) : cells),
                "sgd: step_sizes must have shape (step sizes,) or (chains, step sizes)");
        require(sums.size() == theta.size(), "sgd: sums must have the shape of theta");
        require(flags.size() == cells && diverged_at.size() == cells,
                "sgd: flags and diverged_at must have shape (chains, step sizes)");
        require(auxiliary.ndim() == 2 && auxiliary.shape(0) == theta.shape(0),
                "sgd: auxiliary must have shape (chains, numbers)");
    }

    SgdChains<T> view(std::uint64_t seed, std::int64_t chain_offset, std::int64_t first_step,
                      std::int64_t num_steps, bool accumulate, T divergence_limit, int num_threads,
                      const Rules<T>* rules, Statistics* statistics) {
        SgdChains<T> chains = {theta_.mutable_data(),
                               sums_.mutable_data(),
                               flags_.mutable_data(),
                               diverged_at_.mutable_data(),
                               step_sizes_.data(),
                               theta_.shape(0),
                               theta_.shape(1),
                               theta_.shape(2),
                               seed,
                               chain_offset,
                               first_step,
                               num_steps,
                               accumulate,
                               divergence_limit,
                               num_threads};
        chains.step_size_stride = step_sizes_.ndim() == 1 ? 0 : theta_.shape(1);
        chains.num_auxiliary = auxiliary_.shape(1);
        chains.auxiliary = auxiliary_.mutable_data();
        if (rules != nullptr) chains.rules = rules->view(dim(), first_step);
        if (statistics != nullptr && accumulate) {
            chains.statistics =
                statistics->view(theta_.shape(0), theta_.shape(1), dim(), num_steps);
        }
        return chains;
    }

    std::int64_t dim() const { return theta_.shape(2); }
    std::int64_t num_auxiliary() const { return auxiliary_.shape(1); }

    // Whether the auxiliary numbers are integers below `count`.
    bool holds_states(std::int64_t count) const {
        const T* const values = auxiliary_.data();
        for (py::ssize_t k = 0; k < auxiliary_.size(); ++k) {
            const double value = static_cast<double>(values[k]);
            if (!(value >= 0 && value < static_cast<double>(count))) return false;
        }
        return true;
    }

  private:
    Array<T> theta_;
    Array<double> sums_;
    Array<std::uint8_t> flags_;
    Array<std::int64_t> diverged_at_;
    Array<T> step_sizes_;
    Array<T> auxiliary_;
};

}  // namespace hl
