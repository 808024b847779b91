// The table of this instruction-set level.
#include "cpu.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {

extern const SgdTable sgd_table;
const SgdTable sgd_table = {
    {sgd_quadratic, sgd_quadratic_full, sgd_cosine, sgd_least_squares, sgd_logistic, sgd_huber,
     sgd_squared_hinge, sgd_softplus_hinge, sgd_poisson, sgd_streaming_least_squares,
     sgd_streaming_logistic, sgd_markov_lsa, sgd_custom},
    {sgd_quadratic, sgd_quadratic_full, sgd_cosine, sgd_least_squares, sgd_logistic, sgd_huber,
     sgd_squared_hinge, sgd_softplus_hinge, sgd_poisson, sgd_streaming_least_squares,
     sgd_streaming_logistic, sgd_markov_lsa, sgd_custom},
};

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
