#include "cpu.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {

extern const ProxTable prox_table;
const ProxTable prox_table = {
    {prox_elements, prox_rows, prox_groups, prox_top, prox_variation},
    {prox_elements, prox_rows, prox_groups, prox_top, prox_variation},
};

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
