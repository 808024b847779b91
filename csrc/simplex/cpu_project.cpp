// Rows of any matrix to their nearest points of the simplex.
#include "tile.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace {

template <class V>
struct Points {
    RealOf<V>* x;
    std::int64_t rows, dim;
};

// Rows are taken so many at a time that a task is worth handing out.
constexpr std::int64_t packs_per_task = 64;

template <class V>
Status project_task(void* context, std::int64_t index) {
    constexpr int lanes = LaneTraits<V>::lanes;
    using T = RealOf<V>;
    const auto& points = *static_cast<const Points<V>*>(context);
    const std::int64_t d = points.dim;
    const std::size_t bytes = static_cast<std::size_t>(d) * sizeof(V);
    V* const v = static_cast<V*>(std::aligned_alloc(64, (bytes + 63) / 64 * 64));
    if (v == nullptr) return Status::out_of_memory("simplex_project");
    const std::int64_t first = index * packs_per_task * lanes;
    std::int64_t last = first + packs_per_task * lanes;
    last = last < points.rows ? last : points.rows;
    for (std::int64_t row = first; row < last; row += lanes) {
        const int live = last - row < lanes ? static_cast<int>(last - row) : lanes;
        for (int lane = 0; lane < lanes; ++lane) {
            const T* const source = points.x + (row + (lane < live ? lane : 0)) * d;
            for (std::int64_t s = 0; s < d; ++s)
                v[s][lane] = source[s];
        }
        project_onto_simplex<V>(d, v);
        for (int lane = 0; lane < live; ++lane) {
            T* const target = points.x + (row + lane) * d;
            for (std::int64_t s = 0; s < d; ++s)
                target[s] = v[s][lane];
        }
        if (stop_requested()) {
            std::free(v);
            return Status::interrupted("simplex_project");
        }
    }
    std::free(v);
    return Status::success();
}

template <class V>
HL_INLINE Status project_rows(RealOf<V>* x, std::int64_t rows, std::int64_t dim, int num_threads) {
    Points<V> points{x, rows, dim};
    constexpr std::int64_t rows_per_task = packs_per_task * LaneTraits<V>::lanes;
    return parallel_for((rows + rows_per_task - 1) / rows_per_task, num_threads, project_task<V>,
                        &points);
}

}  // namespace

Status simplex_project(float* x, std::int64_t rows, std::int64_t dim, int num_threads) {
    return project_rows<f32v>(x, rows, dim, num_threads);
}
Status simplex_project(double* x, std::int64_t rows, std::int64_t dim, int num_threads) {
    return project_rows<f64v>(x, rows, dim, num_threads);
}

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
