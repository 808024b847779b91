// The chains, rules and statistics of a run on the device, by their addresses. _cuda_chains.py has
// checked what the addresses lead to. For binding files only.
#pragma once

#include <pybind11/pybind11.h>

#include <cmath>

#include "../core/bind_cuda.hpp"
#include "cuda.hpp"

namespace hl {

namespace py = pybind11;

// Bound once; each call advances them by as many steps as one launch takes.
template <class T>
class CudaChains {
  public:
    CudaChains(Address theta, Address sums, Address flags, Address diverged_at, Address step_sizes,
               Address auxiliary, std::int64_t num_chains, std::int64_t num_step_sizes,
               std::int64_t dim, bool own_step_sizes, std::int64_t num_auxiliary, int on_device,
               Address on_stream)
        : view_{}, device_(on_device), call_{pointer<void>(on_stream), nullptr, 0} {
        require(num_chains >= 0 && num_step_sizes >= 1 && dim >= 1 && num_auxiliary >= 0,
                "sgd: theta must have shape (chains, step sizes, dim)");
        view_.theta = pointer<T>(theta);
        view_.sums = pointer<double>(sums);
        view_.flags = pointer<std::uint8_t>(flags);
        view_.diverged_at = pointer<std::int64_t>(diverged_at);
        view_.step_sizes = pointer<const T>(step_sizes);
        view_.auxiliary = pointer<T>(auxiliary);
        view_.num_chains = num_chains;
        view_.num_step_sizes = num_step_sizes;
        view_.dim = dim;
        view_.step_size_stride = own_step_sizes ? num_step_sizes : 0;
        view_.num_auxiliary = num_auxiliary;
    }

    void set_workspace(Address address, std::int64_t bytes) {
        call_.workspace = pointer<void>(address);
        call_.workspace_bytes = bytes;
    }

    void set_rules(double clip_norm, double weight_decay, int projection, Address low, Address high,
                   Address center, double radius, int schedule, double exponent, double offset,
                   Address boundaries, Address factors, std::int64_t num_boundaries,
                   std::int64_t origin) {
        require(projection >= 0 && projection <= 2 && schedule >= 0 && schedule <= 2,
                "sgd: projection and schedule must be 0, 1 or 2");
        require(schedule != 1 || offset >= 0, "sgd: offset must not be negative");
        SgdRules<T>& rules = view_.rules;
        rules.clips = clip_norm < HUGE_VAL;
        rules.clip_norm = static_cast<T>(clip_norm);
        rules.decays = weight_decay != 0;
        rules.weight_decay = static_cast<T>(weight_decay);
        rules.projection = static_cast<Projection>(projection);
        rules.low = pointer<const T>(low);
        rules.high = pointer<const T>(high);
        rules.center = pointer<const T>(center);
        rules.radius = static_cast<T>(radius);
        rules.schedule = static_cast<Schedule>(schedule);
        rules.exponent = exponent;
        rules.schedule_offset = offset;
        rules.boundaries = pointer<const std::int64_t>(boundaries);
        rules.factors = pointer<const double>(factors);
        rules.num_boundaries = num_boundaries;
        rules.origin = origin;
    }

    // `count` steps were averaged before the global index `first_step`.
    void set_statistics(std::int64_t count, std::int64_t first_step, Address weights,
                        bool own_weights, Address shift, std::int64_t stride, Address path,
                        std::int64_t slots, Address squares, Address products, Address second,
                        bool full, Address plug_hessian, Address plug_outer) {
        require(count >= 0, "sgd: count must not be negative");
        require(path == 0 || (stride >= 1 && slots >= 1),
                "sgd: path must have shape (chains, slots, step sizes, dim), stride 1 or more");
        require((plug_hessian == 0) == (plug_outer == 0) && (squares == 0) == (products == 0),
                "sgd: squares and products, and plug_hessian and plug_outer, must come together");
        SgdStatistics& asked = view_.statistics;
        asked.count = count;
        asked.weights = pointer<const double>(weights);
        asked.weight_stride = own_weights ? view_.num_step_sizes : 0;
        asked.shift = pointer<const double>(shift);
        asked.path = pointer<double>(path);
        asked.slots = slots;
        asked.stride = path == 0 ? 1 : stride;
        asked.squares = pointer<double>(squares);
        asked.products = pointer<double>(products);
        asked.second = pointer<double>(second);
        asked.full = full;
        asked.plug_hessian = pointer<double>(plug_hessian);
        asked.plug_outer = pointer<double>(plug_outer);
        counted_from_ = first_step - count;
    }

    SgdChains<T> at(std::uint64_t seed, std::int64_t chain_offset, std::int64_t first_step,
                    std::int64_t num_steps, bool accumulate, T divergence_limit) const {
        SgdChains<T> chains = view_;
        chains.seed = seed;
        chains.chain_offset = chain_offset;
        chains.first_step = first_step;
        chains.num_steps = num_steps;
        chains.accumulate = accumulate;
        chains.divergence_limit = divergence_limit;
        require(chains.rules.trivial() || chains.rules.origin <= first_step,
                "sgd: origin must not lie after the first step");
        SgdStatistics& asked = chains.statistics;
        if (asked.any()) {
            require(accumulate, "sgd: statistics are of averaged steps");
            asked.count = first_step - counted_from_;
            require(
                asked.path == nullptr || (asked.count + num_steps) / asked.stride <= asked.slots,
                "sgd: path must have a slot for every `stride` averaged steps");
        }
        return chains;
    }

    // What a kernel that is compiled at run time takes: the bytes of the structure.
    py::bytes descriptor(std::uint64_t seed, std::int64_t chain_offset, std::int64_t first_step,
                         std::int64_t num_steps, bool accumulate, T divergence_limit) const {
        const SgdChains<T> chains =
            at(seed, chain_offset, first_step, num_steps, accumulate, divergence_limit);
        return py::bytes(reinterpret_cast<const char*>(&chains), sizeof chains);
    }

    const SgdChains<T>& view() const { return view_; }
    const CudaCall& call() const { return call_; }
    int device() const { return device_; }

    // Local to its module: tests load a second one, over the shim, into the same process.
    static void register_class(py::module_& module, const char* name) {
        using py::arg;
        using Size = std::int64_t;
        py::class_<CudaChains>(module, name, py::module_local())
            .def(py::init<Address, Address, Address, Address, Address, Address, Size, Size, Size,
                          bool, Size, int, Address>(),
                 arg("theta"), arg("sums"), arg("flags"), arg("diverged_at"), arg("step_sizes"),
                 arg("auxiliary"), arg("num_chains"), arg("num_step_sizes"), arg("dim"),
                 arg("own_step_sizes"), arg("num_auxiliary"), arg("device"), arg("stream"))
            .def("set_workspace", &CudaChains::set_workspace, arg("address"), arg("bytes"))
            .def("set_rules", &CudaChains::set_rules, py::kw_only(), arg("clip_norm"),
                 arg("weight_decay"), arg("projection"), arg("low"), arg("high"), arg("center"),
                 arg("radius"), arg("schedule"), arg("exponent"), arg("offset"), arg("boundaries"),
                 arg("factors"), arg("num_boundaries"), arg("origin"))
            .def("set_statistics", &CudaChains::set_statistics, py::kw_only(), arg("count"),
                 arg("first_step"), arg("weights"), arg("own_weights"), arg("shift"), arg("stride"),
                 arg("path"), arg("slots"), arg("squares"), arg("products"), arg("second"),
                 arg("full"), arg("plug_hessian"), arg("plug_outer"))
            .def("descriptor", &CudaChains::descriptor, arg("seed"), arg("chain_offset"),
                 arg("first_step"), arg("num_steps"), arg("accumulate"), arg("divergence_limit"));
    }

  private:
    SgdChains<T> view_;
    int device_;
    CudaCall call_;
    std::int64_t counted_from_ = 0;
};

}  // namespace hl
