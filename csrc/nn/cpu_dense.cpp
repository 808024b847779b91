// Dense layers: one product forward, two back.
#include "fused.hpp"
#include "product.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace {
namespace products {

template <class T>
Status forward(const NnPass<T>& pass, const NnInstruction& it, std::int64_t) {
    const Columns<T> x = values_of(pass, it.input), y = values_of(pass, it.output);
    const Product<T> product{
        pass.rows, y.width, x.width, x.data,   x.stride, 1, parameters_at(pass, it.weight),
        1,         x.width, y.data,  y.stride, false};
    const Finish<T> finish = finish_of(pass, it);
    return over_tasks(product_tiles(product), product_of(pass.rows, y.width, x.width),
                      pass.num_threads, [&](std::int64_t number) {
                          const Product<T> tile = product_tile(product, number);
                          run_product(tile);
                          const std::int64_t place = tile.c - product.c;
                          const std::int64_t r = place / y.stride, j = place % y.stride;
                          finish_rows(finish, r, r + tile.rows, j, j + tile.columns);
                      });
}

template <class T>
Status backward(const NnPass<T>& pass, const NnInstruction& it, std::int64_t n) {
    const NnDuty& duty = pass.plan.duties[n];
    const Status status = unfinish(pass, it, duty);
    if (!status.ok()) return status;
    const Columns<T> x = values_of(pass, it.input), dx = gradients_of(pass, it.input);
    const Columns<T> dy = gradients_of(pass, it.output);
    const Product<T> weights{
        dy.width,  x.width,         pass.rows, dy.data, 1,
        dy.stride, x.data,          x.stride,  1,       parameter_gradient_at(pass, it.weight),
        x.width,   duty.adds_weight};
    const Product<T> inputs{
        pass.rows, x.width, dy.width, dy.data,   dy.stride,      1, parameters_at(pass, it.weight),
        x.width,   1,       dx.data,  dx.stride, duty.adds_input};
    // The deeper product comes first: its tiles take longer.
    const std::int64_t first = duty.needs_input ? product_tiles(inputs) : 0;
    const std::int64_t second = product_tiles(weights);
    return over_tasks(first + second, 2 * product_of(pass.rows, dy.width, x.width),
                      pass.num_threads, [&](std::int64_t number) {
                          run_product(number < first ? product_tile(inputs, number)
                                                     : product_tile(weights, number - first));
                      });
}

}  // namespace products
}  // namespace

HL_NN_DEFINE_PASSES(dense, products)

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
