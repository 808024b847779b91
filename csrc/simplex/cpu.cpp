// The table of this instruction-set level.
#include "cpu.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {

extern const SimplexTable simplex_table;
const SimplexTable simplex_table = {
    {simplex_polynomial, simplex_quadratic, simplex_ridge_sum, simplex_given, simplex_custom,
     simplex_project},
    {simplex_polynomial, simplex_quadratic, simplex_ridge_sum, simplex_given, simplex_custom,
     simplex_project},
};

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
