// Drivers of the losses over the rows of a data matrix.
#include "cpu_rows.hpp"
#include "cpu.hpp"
#include "cpu_data.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace {

template <class V, class Loss>
using DataRows = RowsProblem<V, Loss, DataSource<V>>;

}  // namespace

Status sgd_least_squares(const SgdChains<float>& chains, const SgdRows<float>& p) {
    return run_tiles<f32v, DataRows<f32v, LeastSquaresLoss>>(chains, p);
}
Status sgd_least_squares(const SgdChains<double>& chains, const SgdRows<double>& p) {
    return run_tiles<f64v, DataRows<f64v, LeastSquaresLoss>>(chains, p);
}
Status sgd_logistic(const SgdChains<float>& chains, const SgdRows<float>& p) {
    return run_tiles<f32v, DataRows<f32v, LogisticLoss>>(chains, p);
}
Status sgd_logistic(const SgdChains<double>& chains, const SgdRows<double>& p) {
    return run_tiles<f64v, DataRows<f64v, LogisticLoss>>(chains, p);
}
Status sgd_huber(const SgdChains<float>& chains, const SgdRows<float>& p) {
    return run_tiles<f32v, DataRows<f32v, HuberLoss>>(chains, p);
}
Status sgd_huber(const SgdChains<double>& chains, const SgdRows<double>& p) {
    return run_tiles<f64v, DataRows<f64v, HuberLoss>>(chains, p);
}

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
