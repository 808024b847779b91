// Drivers of further losses over the rows of a data matrix: hinges and counts.
#include "cpu.hpp"
#include "cpu_data.hpp"
#include "cpu_rows.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace {

template <class V, class Loss>
using DataRows = RowsProblem<V, Loss, DataSource<V>>;

}  // namespace

Status sgd_squared_hinge(const SgdChains<float>& chains, const SgdRows<float>& p) {
    return run_tiles<f32v, DataRows<f32v, SquaredHingeLoss>>(chains, p);
}
Status sgd_squared_hinge(const SgdChains<double>& chains, const SgdRows<double>& p) {
    return run_tiles<f64v, DataRows<f64v, SquaredHingeLoss>>(chains, p);
}
Status sgd_softplus_hinge(const SgdChains<float>& chains, const SgdRows<float>& p) {
    return run_tiles<f32v, DataRows<f32v, SoftplusHingeLoss>>(chains, p);
}
Status sgd_softplus_hinge(const SgdChains<double>& chains, const SgdRows<double>& p) {
    return run_tiles<f64v, DataRows<f64v, SoftplusHingeLoss>>(chains, p);
}
Status sgd_poisson(const SgdChains<float>& chains, const SgdRows<float>& p) {
    return run_tiles<f32v, DataRows<f32v, PoissonLoss>>(chains, p);
}
Status sgd_poisson(const SgdChains<double>& chains, const SgdRows<double>& p) {
    return run_tiles<f64v, DataRows<f64v, PoissonLoss>>(chains, p);
}

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
