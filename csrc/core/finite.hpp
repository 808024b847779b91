// Whether a buffer holds only finite numbers, at the speed of the memory.
#pragma once

#include <cstdint>

#include "half.hpp"
#include "status.hpp"

namespace hl {

// The buffers at `addresses` with `sizes` elements each; `finite` says what was found.
Status all_finite(const std::uint64_t* addresses, const std::int64_t* sizes, std::int64_t count,
                  Precision precision, int num_threads, bool& finite);

}  // namespace hl
