// The arrays of a run, as Python hands them over.
#pragma once

#include <pybind11/pybind11.h>

#include <optional>

#include "../core/bind_arrays.hpp"
#include "kernels.hpp"

namespace py = pybind11;

namespace hl {
namespace {

// Offsets that begin at 0, never fall, and end at `last`.
bool cuts(const Array<std::int32_t>& offsets, py::ssize_t last) {
    if (offsets.size() < 1 || offsets.data()[0] != 0) return false;
    for (py::ssize_t i = 1; i < offsets.size(); ++i) {
        if (offsets.data()[i] < offsets.data()[i - 1]) return false;
    }
    return offsets.data()[offsets.size() - 1] == last;
}

bool below(const Array<std::int32_t>& indices, py::ssize_t bound) {
    for (py::ssize_t i = 0; i < indices.size(); ++i) {
        if (indices.data()[i] < 0 || indices.data()[i] >= bound) return false;
    }
    return true;
}

// The arrays of a run, bound once; each call advances them by some steps.
template <class T>
class Chains {
  public:
    Chains(Array<T> x, Array<T> value, Array<T> best_x, Array<T> best_value, Array<T> smallest,
           Array<double> sums, Array<double> squares, Array<std::int64_t> floored,
           Array<std::int64_t> clipped, Array<std::int64_t> accepted, Array<std::uint8_t> flags,
           Array<std::int64_t> failed_at, Array<T> step_sizes, Array<T> temperatures,
           Array<T> alpha, Array<std::int32_t> offsets)
        : x_(x),
          value_(value),
          best_x_(best_x),
          best_value_(best_value),
          smallest_(smallest),
          sums_(sums),
          squares_(squares),
          floored_(floored),
          clipped_(clipped),
          accepted_(accepted),
          flags_(flags),
          failed_at_(failed_at),
          step_sizes_(step_sizes),
          temperatures_(temperatures),
          alpha_(alpha),
          offsets_(offsets) {
        require(x.ndim() == 2, "simplex: x must have shape (chains, dim)");
        require(best_x.size() == x.size() && sums.size() == x.size() && squares.size() == x.size(),
                "simplex: best_x, sums and squares must have the shape of x");
        const py::ssize_t count = x.shape(0);
        require(value.size() == count && best_value.size() == count && smallest.size() == count &&
                    floored.size() == count && clipped.size() == count &&
                    accepted.size() == count && flags.size() == count &&
                    failed_at.size() == count && step_sizes.size() == count &&
                    temperatures.size() == count,
                "simplex: what is kept for each chain must have shape (chains,)");
        require(alpha.size() == x.shape(1) && cuts(offsets, x.shape(1)),
                "simplex: alpha must have shape (dim,) and offsets must end at dim");
    }

    void set_terms(T ridge, T entropy, T turnover, T smoothing, T penalty, OptionalArray<T> anchor,
                   OptionalArray<T> upper, Array<T> caps, Array<std::int32_t> group_offsets,
                   Array<std::int32_t> group_members) {
        require(!anchor || anchor->size() == dim(), "simplex: anchor must have shape (dim,)");
        require(!upper || upper->size() == dim(), "simplex: upper must have shape (dim,)");
        require(turnover == 0 || anchor, "simplex: turnover needs an anchor");
        require(group_offsets.size() == caps.size() + 1 &&
                    cuts(group_offsets, group_members.size()) && below(group_members, dim()),
                "simplex: groups must hold indices below dim");
        anchor_ = anchor;
        upper_ = upper;
        caps_ = caps;
        group_offsets_ = group_offsets;
        group_members_ = group_members;
        terms_ = {ridge,
                  entropy,
                  turnover,
                  smoothing,
                  penalty,
                  data_or_null(anchor_),
                  data_or_null(upper_),
                  caps_.data(),
                  group_offsets_.data(),
                  group_members_.data(),
                  caps_.size(),
                  true};
    }

    void set_schedule(OptionalArray<T> step_factors, OptionalArray<T> temperature_factors) {
        step_factors_ = step_factors;
        temperature_factors_ = temperature_factors;
    }

    void set_gradient(Array<T> gradient) {
        require(gradient.size() == x_.size(), "simplex: gradient must have the shape of x");
        gradient_ = gradient;
    }

    void set_noise(Array<T> noise) {
        require(noise.size() == x_.size(), "simplex: noise must have the shape of x");
        noise_ = noise;
    }

    // What the accelerated form keeps besides x: v and gamma of each chain.
    void set_acceleration(Array<T> auxiliary, Array<T> accelerations, T convexity) {
        require(
            auxiliary.size() == x_.shape(0) * (dim() + 1) && accelerations.size() == x_.shape(0),
            "simplex: auxiliary must have shape (chains, dim + 1)");
        auxiliary_ = auxiliary;
        accelerations_ = accelerations;
        convexity_ = convexity;
    }

    void set_products(Array<double> products) {
        require(products.size() == x_.size() * dim(),
                "simplex: products must have shape (chains, dim, dim)");
        products_ = products;
    }

    void set_histogram(Array<std::int64_t> histogram) {
        require(histogram.ndim() == 3 && histogram.shape(0) == x_.shape(0) &&
                    histogram.shape(1) == dim() && histogram.shape(2) > 0,
                "simplex: histogram must have shape (chains, dim, bins)");
        histogram_ = histogram;
    }

    SimplexChains<T> view(std::uint64_t seed, std::int64_t chain_offset, std::int64_t first_step,
                          std::int64_t num_steps, int form, bool noisy, bool corrected,
                          bool accumulate, T floor_scale, T floor_least, T clip, int num_threads) {
        require(form >= 0 && form <= 5 && num_steps >= 0, "simplex: no such form");
        require(form != static_cast<int>(SimplexForm::accelerated) || auxiliary_,
                "simplex: the accelerated form needs set_acceleration");
        require((!step_factors_ || step_factors_->size() >= num_steps) &&
                    (!temperature_factors_ || temperature_factors_->size() >= num_steps),
                "simplex: a schedule must have a factor for each step");
        return {x_.mutable_data(),
                value_.mutable_data(),
                gradient_ ? gradient_->mutable_data() : nullptr,
                best_x_.mutable_data(),
                best_value_.mutable_data(),
                smallest_.mutable_data(),
                sums_.mutable_data(),
                squares_.mutable_data(),
                products_ ? products_->mutable_data() : nullptr,
                histogram_ ? histogram_->mutable_data() : nullptr,
                histogram_ ? histogram_->shape(2) : 0,
                floored_.mutable_data(),
                clipped_.mutable_data(),
                accepted_.mutable_data(),
                flags_.mutable_data(),
                failed_at_.mutable_data(),
                auxiliary_ ? auxiliary_->mutable_data() : nullptr,
                step_sizes_.data(),
                temperatures_.data(),
                data_or_null(accelerations_),
                data_or_null(step_factors_),
                data_or_null(temperature_factors_),
                data_or_null(noise_),
                alpha_.data(),
                offsets_.data(),
                x_.shape(0),
                x_.shape(1),
                offsets_.size() - 1,
                seed,
                chain_offset,
                first_step,
                num_steps,
                static_cast<SimplexForm>(form),
                noisy,
                corrected,
                accumulate,
                floor_scale,
                floor_least,
                clip,
                convexity_,
                terms_,
                num_threads};
    }

    py::ssize_t dim() const { return x_.shape(1); }
    py::ssize_t size() const { return x_.size(); }

  private:
    Array<T> x_, value_, best_x_, best_value_, smallest_;
    Array<double> sums_, squares_;
    Array<std::int64_t> floored_, clipped_, accepted_;
    Array<std::uint8_t> flags_;
    Array<std::int64_t> failed_at_;
    Array<T> step_sizes_, temperatures_, alpha_;
    Array<std::int32_t> offsets_;
    OptionalArray<T> gradient_, noise_, step_factors_, temperature_factors_, anchor_, upper_;
    OptionalArray<T> auxiliary_, accelerations_;
    OptionalArray<double> products_;
    OptionalArray<std::int64_t> histogram_;
    T convexity_{};
    Array<T> caps_;
    Array<std::int32_t> group_offsets_, group_members_;
    SimplexTerms<T> terms_{};
};

}  // namespace
}  // namespace hl
