// A dense layer whose input is a sparse table. W has a row for each column of the table, so that a
// value touches one contiguous row, forward and back.
#include "fused.hpp"
#include "step_layers.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace {

constexpr int packs_at_once = 8;

// target[begin, end) = the sum over the entries i of value[i] source(i)[begin, end), in their
// order, or += that.
template <class T, class Source>
HL_INLINE void combine(std::int64_t count, const T* value, const Source& source, std::int64_t begin,
                       std::int64_t end, bool adds, T* target) {
    using V = typename PackOf<T>::Type;
    constexpr int lanes = LaneTraits<V>::lanes;
    std::int64_t j = begin;
    for (; j + packs_at_once * lanes <= end; j += packs_at_once * lanes) {
        V sums[packs_at_once];
        for (int q = 0; q < packs_at_once; ++q)
            sums[q] = adds ? load<V>(target + j + q * lanes) : V{};
        for (std::int64_t i = 0; i < count; ++i) {
            const V x = broadcast<V>(value[i]);
            const T* const row = source(i) + j;
            for (int q = 0; q < packs_at_once; ++q)
                sums[q] = multiply_add(x, load<V>(row + q * lanes), sums[q]);
        }
        for (int q = 0; q < packs_at_once; ++q)
            store(target + j + q * lanes, sums[q]);
    }
    for_columns<T>(j, end, [&](auto pack, std::int64_t column) {
        using W = decltype(pack);
        W sum = adds ? load<W>(target + column) : W{};
        for (std::int64_t i = 0; i < count; ++i)
            sum = multiply_add(broadcast<W>(value[i]), load<W>(source(i) + column), sum);
        store(target + column, sum);
    });
}

template <class T>
HL_INLINE void transform_row(const NnSparse<T>& table, std::int64_t row, T* out) {
    const std::int64_t begin = table.indptr[row], count = table.indptr[row + 1] - begin;
    const T* const x = table.values + begin;
    const T total = table.totals != nullptr ? table.totals[row] : T(1);
    for_columns<T>(0, count, [&](auto pack, std::int64_t j) {
        using V = decltype(pack);
        store(out + j, transformed(load<V>(x + j), total, table.transform));
    });
}

template <class T>
HL_INLINE Status gather(const NnPass<T>& pass, const NnSparse<T>& table,
                        const NnEntries<T>& entries) {
    entries.row_begin[0] = 0;
    for (std::int64_t r = 0; r < pass.rows; ++r) {
        const std::int64_t row = table_row(pass.tables, r);
        entries.row_begin[r + 1] = entries.row_begin[r] + table.indptr[row + 1] - table.indptr[row];
    }
    if (entries.row_begin[pass.rows] > entries.capacity)
        return Status::internal("nn: more values than there is room for");
    for (std::int64_t r = 0; r < pass.rows; ++r)
        transform_row(table, table_row(pass.tables, r), entries.values + entries.row_begin[r]);
    return Status::success();
}

// Rows and values column by column, rows ascending: counting sort.
template <class T>
HL_INLINE void sort_by_column(const NnPass<T>& pass, const NnSparse<T>& table,
                              const NnEntries<T>& entries) {
    std::int64_t* const begin = entries.column_begin;
    for (std::int64_t g = 0; g <= table.columns; ++g)
        begin[g] = 0;
    for (std::int64_t r = 0; r < pass.rows; ++r) {
        const std::int64_t row = table_row(pass.tables, r);
        for (std::int64_t i = table.indptr[row]; i < table.indptr[row + 1]; ++i)
            ++begin[table.indices[i]];
    }
    std::int64_t total = 0;
    for (std::int64_t g = 0; g <= table.columns; ++g) {
        total += begin[g];
        begin[g] = total;
    }
    // From the back, so that the ends become the beginnings.
    for (std::int64_t r = pass.rows - 1; r >= 0; --r) {
        const std::int64_t row = table_row(pass.tables, r);
        const T* const values = entries.values + entries.row_begin[r] - table.indptr[row];
        for (std::int64_t i = table.indptr[row + 1] - 1; i >= table.indptr[row]; --i) {
            const std::int64_t place = --begin[table.indices[i]];
            entries.rows[place] = static_cast<std::int32_t>(r);
            entries.column_values[place] = values[i];
        }
    }
}

// A task does some columns of some rows of the output. It takes the rows of W in blocks that stay
// in the second-level cache, all rows of the output block by block; the order of a sum is that of
// the table's columns.
constexpr std::int64_t forward_columns = 256, forward_rows = 128, weight_rows = 256;

namespace tables {

template <class T>
HL_INLINE void forward_task(const NnPass<T>& pass, const NnSparse<T>& table,
                            const NnEntries<T>& entries, const T* weight, const Finish<T>& finish,
                            std::int64_t first, std::int64_t begin) {
    const std::int64_t last = smaller(first + forward_rows, pass.rows);
    const std::int64_t width = finish.output.width;
    const std::int64_t end = smaller(begin + forward_columns, width);
    std::int64_t done[forward_rows] = {};
    for (std::int64_t block = 0; block < table.columns; block += weight_rows) {
        for (std::int64_t r = first; r < last; ++r) {
            std::int64_t& cursor = done[r - first];
            const std::int64_t from = entries.row_begin[r] + cursor;
            const std::int32_t* const index =
                table.indices + table.indptr[table_row(pass.tables, r)] + cursor;
            const std::int64_t left = entries.row_begin[r + 1] - from;
            std::int64_t count = 0;
            while (count < left && index[count] < block + weight_rows)
                ++count;
            combine(
                count, entries.values + from,
                [&](std::int64_t i) { return weight + index[i] * width; }, begin, end, block > 0,
                finish.output.row(r));
            cursor += count;
        }
    }
    finish_rows(finish, first, last, begin, end);
}

template <class T>
Status forward(const NnPass<T>& pass, const NnInstruction& it, std::int64_t n) {
    const NnSparse<T>& table = pass.tables.sparse[it.input.slot];
    const NnEntries<T>& entries = pass.arena.entries[n];
    const Status status = gather(pass, table, entries);
    if (!status.ok()) return status;
    const T* const weight = parameters_at(pass, it.weight);
    const Finish<T> finish = finish_of(pass, it);
    const std::int64_t width = it.output.width, row_tasks = parts(pass.rows, forward_rows);
    return over_tasks(
        parts(width, forward_columns) * row_tasks, product_of(entries.row_begin[pass.rows], width),
        pass.num_threads, [&](std::int64_t task) {
            forward_task(pass, table, entries, weight, finish, task % row_tasks * forward_rows,
                         task / row_tasks * forward_columns);
        });
}

constexpr std::int64_t backward_columns = 32;  // of the table

template <class T>
Status backward(const NnPass<T>& pass, const NnInstruction& it, std::int64_t n) {
    const NnDuty& duty = pass.plan.duties[n];
    const Status status = unfinish(pass, it, duty);
    if (!status.ok()) return status;
    const NnSparse<T>& table = pass.tables.sparse[it.input.slot];
    const NnEntries<T>& entries = pass.arena.entries[n];
    sort_by_column(pass, table, entries);
    const Columns<T> dy = gradients_of(pass, it.output);
    T* const gradient = parameter_gradient_at(pass, it.weight);
    const double operations = product_of(entries.row_begin[pass.rows] + table.columns, dy.width);
    return over_tasks(
        parts(table.columns, backward_columns), operations, pass.num_threads,
        [&](std::int64_t task) {
            const std::int64_t first = task * backward_columns;
            const std::int64_t last = smaller(first + backward_columns, table.columns);
            for (std::int64_t g = first; g < last; ++g) {
                const std::int64_t begin = entries.column_begin[g];
                combine(
                    entries.column_begin[g + 1] - begin, entries.column_values + begin,
                    [&](std::int64_t i) { return dy.row(entries.rows[begin + i]); }, 0, dy.width,
                    duty.adds_weight, gradient + g * dy.width);
            }
        });
}

}  // namespace tables
}  // namespace

HL_NN_DEFINE_PASSES(sparse_dense, tables)

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
