// Mean and variance through a rectifier, element by element. The binding (moments_binding.cpp) calls it and knows no
// instruction set.
#pragma once
#include <cstdint>

namespace dropkit {

// Of normal values with moments `mean` and `variance`, those of max(x, 0) + slope min(x, 0), for `count` elements.
using RectifyFn = void (*)(int64_t count, const float* mean, const float* variance, float* mean_out, float* variance_out,
                           float slope);

struct Rectifiers {
  RectifyFn plain, leaky;  // plain takes slope for 0
};

// Those of the instruction set in use; see active_kernels() in kernels.h.
const Rectifiers& active_rectifiers();

}  // namespace dropkit
