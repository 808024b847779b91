// Value and gradient of a polynomial of one row, in blocks of coefficients; see SimplexPolynomial.
//
// A block is a small dense matrix A between products p_r and p_q. Its part of the value is
// sum_r p_r y_r with y = A p, and in the same pass over A the chain rule backwards adds y_r and
// (A^T p)_q to what the value changes by with p_r and p_q. Each coefficient is loaded once and
// takes two products and two sums, and what a column needs is shared by the rows. Nothing is
// divided, so zeros are no case of their own.
#pragma once

#include "step.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {

// Products and what the value changes by with each of them, one after the other.
template <class T>
HL_INLINE std::int64_t polynomial_memory(const SimplexPolynomial<T>& f, std::int64_t dim) {
    return 2 * (1 + dim + f.num_products);
}

template <int height, class V, class Array>
HL_INLINE V add_block(const std::int32_t* rows, const std::int32_t* columns, std::int32_t width,
                      const RealOf<V>* coefficients, Array products, Array slopes, V value) {
    V row[height], y[height];
    for (int r = 0; r < height; ++r) {
        row[r] = products[rows[r]];
        y[r] = V{};
    }
    for (std::int32_t q = 0; q < width; ++q) {
        const V column = products[columns[q]];
        V slope = slopes[columns[q]];
        for (int r = 0; r < height; ++r) {
            y[r] += coefficients[r] * column;
            slope += coefficients[r] * row[r];
        }
        slopes[columns[q]] = slope;
        coefficients += height;
    }
    for (int r = 0; r < height; ++r) {
        value += row[r] * y[r];
        slopes[rows[r]] += y[r];
    }
    return value;
}

template <class V, class Array>
HL_INLINE V add_blocks(const SimplexPolynomial<RealOf<V>>& f, Array products, Array slopes) {
    const std::int32_t *rows = f.rows, *columns = f.columns;
    const RealOf<V>* coefficients = f.coefficients;
    V value{};
    for (std::int64_t block = 0; block < f.num_blocks; ++block) {
        const std::int32_t height = f.heights[block], width = f.widths[block];
        if (height == 4) {
            value = add_block<4>(rows, columns, width, coefficients, products, slopes, value);
        } else if (height == 2) {
            value = add_block<2>(rows, columns, width, coefficients, products, slopes, value);
        } else {
            value = add_block<1>(rows, columns, width, coefficients, products, slopes, value);
        }
        rows += height;
        columns += width;
        coefficients += static_cast<std::int64_t>(height) * width;
    }
    return value;
}

// Backwards through the products: from p = p_parent x_s to its two factors. The parent's part is
// added up over all of its products first.
template <class V, class Array>
HL_INLINE void unfold_products(const SimplexPolynomial<RealOf<V>>& f, std::int64_t first,
                               Array products, Array slopes) {
    for (std::int64_t k = f.num_products - 1; k >= 0;) {
        const std::int32_t parent = f.parents[k];
        const V own = products[parent];
        V total{};
        for (; k >= 0 && f.parents[k] == parent; --k) {
            const V slope = slopes[first + k];
            total += slope * products[f.factors[k]];
            slopes[f.factors[k]] += slope * own;
        }
        slopes[parent] += total;
    }
}

// Writes the gradient and returns the value; `memory` has room for polynomial_memory.
template <class V, class X, class Array>
HL_INLINE V polynomial(const SimplexPolynomial<RealOf<V>>& f, std::int64_t dim, X x, Array gradient,
                       Array memory) {
    const std::int64_t first = 1 + dim, count = first + f.num_products;
    const Array products = memory, slopes = memory + count;
    products[0] = broadcast<V>(RealOf<V>(1));
    for (std::int64_t s = 0; s < dim; ++s)
        products[1 + s] = x[s];
    for (std::int64_t k = 0; k < f.num_products; ++k)
        products[first + k] = products[f.parents[k]] * products[f.factors[k]];
    for (std::int64_t k = 0; k < count; ++k)
        slopes[k] = V{};
    const V value = add_blocks<V>(f, products, slopes);
    unfold_products<V>(f, first, products, slopes);
    for (std::int64_t s = 0; s < dim; ++s)
        gradient[s] = slopes[1 + s];
    return value;
}

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
