// A loop over elements, for the compiler to vectorise. Included by moments_kernels.cpp once an instruction set, with DROPKIT_NS
// naming it and DROPKIT_FN switching it on. Sums and products are rounded one by one, so that every instruction set gives the
// same floats. The reference with the formulas is `dropkit.kernels.moments`.

namespace dropkit {
namespace DROPKIT_NS {
namespace {

#define DROPKIT_UNIT DROPKIT_FN static inline __attribute__((always_inline))
#include "exponential.h"

// Mills' ratio Phi(-b) / phi(b) to 2e-7 relatively, for b in [0, 9.2]: times b + 3 it is nearly constant, a Chebyshev
// interpolant in (b - 3) / (b + 3), rounded.
DROPKIT_UNIT float mills(float b) {
  constexpr float c[9] = {0x1.d3d9c8p+0f, -0x1.46d634p+0f, 0x1.27343cp-1f, -0x1.e54092p-4f, -0x1.ae1312p-6f,
                          0x1.1df2b4p-6f, 0x1.608fa4p-9f, -0x1.4025e4p-9f, -0x1.967f78p-11f};
  const float inverse = 1.0f / (b + 3.0f), u = (b - 3.0f) * inverse;
  float sum = c[8];
#pragma GCC unroll 16
  for (int i = 7; i >= 0; --i) sum = sum * u + c[i];
  return sum * inverse;
}

// The bound of b keeps the density's square above the subnormal numbers; comparisons are such that NaN passes.
template <bool LEAKY>
DROPKIT_FN void rectify(int64_t count, const float* __restrict mean, const float* __restrict variance,
                        float* __restrict mean_out, float* __restrict variance_out, float slope) {
  constexpr float tiny = 0x1p-126f, bound = 0x1.241fd4p+3f;
  const float gap = 1.0f - slope, square = gap * gap, twice = 2.0f * slope * gap;
  for (int64_t i = 0; i < count; ++i) {
    const float mu = mean[i], v = variance[i], s = std::sqrt(v), size = mu < 0.0f ? -mu : mu;
    const float ratio = size / (s < tiny ? tiny : s), b = bound < ratio ? bound : ratio;
    const float density = 0x1.988454p-2f * exponential(-0.5f * (b * b)), tail = density * mills(b);
    const float rest = 1.0f - 2.0f * tail, above = mu > 0.0f ? 1.0f - tail : tail;
    const float rectified = (mu > 0.0f ? mu : 0.0f) + s * (density - b * tail);
    const float inner = (1.0f - tail) * tail * b - density * rest;
    const float raw = above + b * inner - density * density, spread = raw < 0.0f ? 0.0f : raw;
    mean_out[i] = LEAKY ? slope * mu + gap * rectified : rectified;
    variance_out[i] = (LEAKY ? slope * slope + square * spread + twice * above : spread) * v;
  }
}

const Rectifiers kTable = {rectify<false>, rectify<true>};

#undef DROPKIT_UNIT

}  // namespace
}  // namespace DROPKIT_NS
}  // namespace dropkit
