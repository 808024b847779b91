// One tile of an adaptive integration: Dormand and Prince's stages, the measure of the error, and
// the continuous extension.
#pragma once

#include "../core/pack_memory.hpp"
#include "integrate.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace flow {

constexpr int last_stage = 6;

// The adaptive integration of one tile: what each row of it needs beside the velocity.
template <class T>
struct AdaptiveTile {
    using V = typename PackOf<T>::Type;

    const FlowIntegrate<T>& call;
    const Coefficients<T>& method;
    TileVelocity<T> velocity;
    double start, end, sign;
    T *z, *slopes, *step, *ratios, *accepted;
    double *t, *h, *norms, *d1;
    std::int64_t* next_kept;
    bool* done;
    void* memory;

    HL_MEMBER AdaptiveTile(const FlowIntegrate<T>& of, const Coefficients<T>& tableau,
                           std::int64_t index)
        : call(of),
          method(tableau),
          velocity(of, index),
          start(of.grid[0]),
          end(of.grid[1]),
          sign(of.grid[1] > of.grid[0] ? 1.0 : -1.0) {
        const std::int64_t rows = velocity.stride;
        memory = allocate_parts([&](Parts& parts) {
            z = parts.take<T>(velocity.size);
            slopes = parts.take<T>(max_stages * velocity.size);
            step = parts.take<T>(rows);
            ratios = parts.take<T>(rows);
            accepted = parts.take<T>(rows);
            t = parts.take<double>(rows);
            h = parts.take<double>(rows);
            norms = parts.take<double>(rows);
            d1 = parts.take<double>(rows);
            next_kept = parts.take<std::int64_t>(rows);
            done = parts.take<bool>(rows);
        });
    }
    HL_MEMBER ~AdaptiveTile() { std::free(memory); }
    AdaptiveTile(const AdaptiveTile&) = delete;
    AdaptiveTile& operator=(const AdaptiveTile&) = delete;

    HL_MEMBER bool allocated() const { return memory != nullptr && velocity.memory != nullptr; }

    HL_MEMBER T* slope(int stage) const { return slopes + stage * velocity.size; }

    HL_MEMBER void load_state() {
        tile_load(call.z, call.d, call.order + velocity.first, std::int64_t(0), velocity.count,
                  call.d, z, velocity.stride);
        for (std::int64_t r = 0; r < velocity.stride; ++r) {
            t[r] = start;
            h[r] = 0;
            next_kept[r] = 0;
            done[r] = r >= velocity.count;
            step[r] = T(0);
        }
    }

    HL_MEMBER void store_state() {
        tile_store(z, velocity.stride, call.order + velocity.first, std::int64_t(0), velocity.count,
                   call.d, call.z, call.d);
    }

    // norms[r] = sum over the columns of (values / (atol + rtol max(|z|, |other|)))^2.
    HL_MEMBER void measure(const T* values, const T* other) {
        const std::int64_t stride = velocity.stride;
        fill(norms, stride, 0.0);
        for (std::int64_t k = 0; k < velocity.size; k += stride) {
            for (std::int64_t r = 0; r < stride; r += LaneTraits<V>::lanes) {
                const V ratio = scaled_by_tolerance(load<V>(values + k + r), load<V>(z + k + r),
                                                    load<V>(other + k + r), call.atol, call.rtol);
                store(ratios + r, ratio);
            }
            for (std::int64_t r = 0; r < stride; r += LaneTraits<f64v>::lanes) {
                const f64v ratio = load_widened(ratios + r);
                store(norms + r, f64v(load<f64v>(norms + r) + ratio * ratio));
            }
        }
    }

    HL_MEMBER void begin() {
        copy(z, velocity.size, velocity.argument);
        fill(velocity.times, velocity.stride, static_cast<T>(start));
        velocity.evaluate(0, slope(0));
    }

    // Asks for the slope after the trial step h, into slope 1.
    HL_MEMBER void try_step(std::int64_t time) {
        for (std::int64_t r = 0; r < velocity.stride; ++r) {
            step[r] = static_cast<T>(sign * h[r]);
            velocity.times[r] = static_cast<T>(t[r] + sign * h[r]);
        }
        const T one = 1;
        advance(velocity, z, step, &one, 1, slope(0), velocity.argument);
        velocity.evaluate(time, slope(1));
    }

    // The change of the slope over the trial step, measured.
    HL_MEMBER void measure_change() {
        for (std::int64_t k = 0; k < velocity.size; k += LaneTraits<V>::lanes) {
            const V change = load<V>(slope(1) + k) - load<V>(slope(0) + k);
            store(velocity.argument + k, change);
        }
        measure(velocity.argument, z);
    }

    // Stages 1 to 6 of a step of length h; `time` is the row of the table of stage 1. The new state
    // is then the argument, and the error is measured.
    HL_MEMBER void attempt(std::int64_t time) {
        for (std::int64_t r = 0; r < velocity.stride; ++r) {
            if (done[r]) {
                step[r] = T(0);
                continue;
            }
            const double left = end - t[r] < 0 ? t[r] - end : end - t[r];
            h[r] = left < h[r] ? left : h[r];
            step[r] = static_cast<T>(sign * h[r]);
        }
        for (int i = 1; i <= last_stage; ++i) {
            for (std::int64_t r = 0; r < velocity.stride; ++r)
                velocity.times[r] = static_cast<T>(t[r] + method.nodes[i] * (sign * h[r]));
            advance(velocity, z, step, method.matrix[i], i, slopes, velocity.argument);
            velocity.evaluate(time + i - 1, slope(i));
        }
        // The second slope has no weight in the error.
        T* const error = slope(1);
        for (std::int64_t k = 0; k < velocity.size; k += velocity.stride) {
            for (std::int64_t r = 0; r < velocity.stride; r += LaneTraits<V>::lanes) {
                const V sum =
                    combine_slopes<V>(method.error, max_stages, slopes + k + r, velocity.size);
                store(error + k + r, V(load<V>(step + r) * sum));
            }
        }
        measure(error, velocity.argument);
    }

    // Takes the new state over in the rows where `accepted` is positive.
    HL_MEMBER void take_over() {
        for (std::int64_t k = 0; k < velocity.size; k += velocity.stride) {
            for (std::int64_t r = 0; r < velocity.stride; r += LaneTraits<V>::lanes) {
                const auto yes = load<V>(accepted + r) > V{};
                const V state = load<V>(velocity.argument + k + r);
                const V last = load<V>(slope(last_stage) + k + r);
                store(z + k + r, V(yes ? state : load<V>(z + k + r)));
                store(slope(0) + k + r, V(yes ? last : load<V>(slope(0) + k + r)));
            }
        }
    }

    // Writes the states of a row at the times that its step from t to `until` passes.
    HL_MEMBER void keep(std::int64_t r, double until, const T* state) {
        for (; next_kept[r] < call.num_kept; ++next_kept[r]) {
            const double time = call.kept_times[next_kept[r]];
            if (sign * (time - until) > 0) return;
            T* const out = call.kept + (next_kept[r] * call.n + velocity.row(r)) * call.d;
            if (time == until) {
                for (std::int64_t i = 0; i < call.d; ++i)
                    out[i] = state[i * velocity.stride + r];
            } else {
                interpolate(r, static_cast<T>((time - t[r]) / (until - t[r])), out);
            }
        }
    }

    HL_MEMBER void interpolate(std::int64_t r, T theta, T* out) {
        for (std::int64_t i = 0; i < call.d; ++i) {
            const std::int64_t k = i * velocity.stride + r;
            const T change = velocity.argument[k] - z[k];
            // Slope 1 holds the error by now; it has no weight here either.
            const T sum = combine_slopes<T>(method.dense, max_stages, slopes + k, velocity.size);
            out[i] = continuous_extension(z[k], change, slope(0)[k], slope(last_stage)[k], sum,
                                          step[r], theta);
        }
    }

    // A row's step was accepted: it stands at the end of it.
    HL_MEMBER void accept(std::int64_t r) {
        const double left = end - t[r] < 0 ? t[r] - end : end - t[r];
        const bool at_end = h[r] >= left;
        const double until = at_end ? end : t[r] + sign * h[r];
        keep(r, until, velocity.argument);
        t[r] = until;
        done[r] = at_end;
        accepted[r] = T(1);
    }
};

}  // namespace flow
}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
