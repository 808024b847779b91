// Driver of "keep the k largest magnitudes": bisection for a cut that as many magnitudes reach.
// Counting needs no memory and fills whole registers, and it mostly ends when the cut falls between
// two neighbours: about log2(n) + 5 passes over the row.
#include "cpu.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace {

// Bits of the magnitude: their order as integers is that of the magnitudes.
template <class T>
constexpr WordsOf<T> magnitude_bits = static_cast<WordsOf<T>>(~WordsOf<T>{0}) >> 1;

template <class T>
HL_INLINE WordsOf<T> bits_of_magnitude(T x) {
    return as_words(x) & magnitude_bits<T>;
}

// Magnitudes above `key` are kept, and the first `ties` of those that equal it.
template <class Key>
struct Cut {
    Key key;
    std::int64_t ties;
};

// The number of magnitudes that are at least `key`.
template <class T, class Key>
HL_INLINE std::int64_t count_from_key(const T* x, std::int64_t count, Key key) {
    using V = typename PackOf<T>::Type;
    constexpr int lanes = LaneTraits<V>::lanes;
    constexpr std::int64_t most = std::int64_t{1} << 30;  // 32-bit lanes must not overflow
    std::int64_t total = 0;
    std::int64_t j = 0;
    while (j + lanes <= count) {
        const std::int64_t end = smaller(count, j + most);
        WordsOf<V> found{};
        for (; j + lanes <= end; j += lanes) {
            const WordsOf<V> keys = as_words(load<V>(x + j)) & magnitude_bits<T>;
            found -= (WordsOf<V>)(keys >= key);
        }
        for (int lane = 0; lane < lanes; ++lane)
            total += static_cast<std::int64_t>(found[lane]);
    }
    for (; j < count; ++j)
        total += bits_of_magnitude(x[j]) >= key ? 1 : 0;
    return total;
}

template <class T>
HL_INLINE auto find_cut(const T* x, std::int64_t count, std::int64_t keep) {
    using Key = decltype(bits_of_magnitude(T{}));
    Key high = 0;
    for (std::int64_t j = 0; j < count; ++j) {
        const Key key = bits_of_magnitude(x[j]);
        high = key > high ? key : high;
    }
    Key low = 0;  // as many reach it as are wanted, or more; fewer reach `high`
    ++high;
    std::int64_t above = 0;
    while (high - low > 1) {
        const Key middle = low + (high - low) / 2;
        const std::int64_t found = count_from_key(x, count, middle);
        if (found == keep) return Cut<Key>{middle - 1, 0};
        if (found > keep) {
            low = middle;
        } else {
            high = middle;
            above = found;
        }
    }
    return Cut<Key>{low, keep - above};
}

template <class T>
Status top_task(void* context, std::int64_t task) {
    const TopJob<T>& job = *static_cast<const TopJob<T>*>(context);
    const Range rows = rows_of(job, task);
    for (std::int64_t row = rows.begin; row < rows.end; ++row) {
        const T* const v = job.v + row * job.columns;
        T* const out = job.out + row * job.columns;
        auto cut = find_cut(v, job.columns, job.keep);
        for (std::int64_t j = 0; j < job.columns; ++j) {
            const auto key = bits_of_magnitude(v[j]);
            const bool kept = key > cut.key || (key == cut.key && cut.ties-- > 0);
            out[j] = kept ? v[j] : T(0);
        }
    }
    return task_done("prox");
}

}  // namespace

Status prox_top(const TopJob<float>& job) {
    return over_rows(job, top_task<float>);
}
Status prox_top(const TopJob<double>& job) {
    return over_rows(job, top_task<double>);
}

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
