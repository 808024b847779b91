// Bulk random numbers: what the drivers take and which ones there are.
#pragma once

#include <cstdint>

#include "../core/status.hpp"

namespace hl {

// Coordinates [first_coordinate, first_coordinate + num_coordinates) at every (step, chain).
struct RandomGrid {
    std::uint64_t seed;
    std::uint32_t stream;
    const std::int64_t* steps;
    std::int64_t num_steps;
    const std::int64_t* chains;
    std::int64_t num_chains;
    std::int64_t first_coordinate, num_coordinates;
    int num_threads;
};

// out (num_steps, num_chains, num_coordinates)
template <class T>
using RandomKernel = Status (*)(const RandomGrid& grid, T* out);

struct RandomTable {
    RandomKernel<float> normals_f32, uniforms_f32;
    RandomKernel<double> normals_f64, uniforms_f64;
    Status (*philox)(const std::uint32_t* counters, const std::uint32_t* keys, std::int64_t count,
                     int num_threads, std::uint32_t* out);
};

}  // namespace hl
