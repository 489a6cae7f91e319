// The numbers of the noise map; docs/mask-contract.md, "Noise".
#pragma once
#include <cstdint>

#include "philox.h"

namespace dropkit {

constexpr uint32_t kPurposeNoise = 2u << 28;
constexpr uint64_t kNoiseBlock = 4;  // values in one generator block

// Uniform on (0, 1), standard normal, and uniform on (-1, 1), which is twice the first less one, exactly.
enum Law : int { kUniform, kNormal, kSigned };

constexpr float kUniformStep = 0x1p-23f, kRadiusStep = 0x1p-31f;
constexpr int32_t kRootTwo = 0x3504F3;  // mantissa bits of the root of 2
constexpr float kLogTwo = 0x1.62e43p-1f;

// ln(1 + f) / f for f in [2^-1/2 - 1, 2^1/2 - 1]; sin(x pi / 2) / x and cos(x pi / 2) in x^2 for x in [-1/2, 1/2]:
// Chebyshev interpolants, rounded; the errors stay below 1e-7.
constexpr float kLog[10] = {0x1p+0f,           -0x1.fffff8p-2f, 0x1.555550p-2f,  -0x1.000428p-2f, 0x1.99a476p-3f,
                            -0x1.5427a8p-3f,   0x1.226874p-3f,  -0x1.0f2c26p-3f, 0x1.087b72p-3f,  -0x1.38e072p-4f};
constexpr float kSine[5] = {0x1.921fb6p+0f, -0x1.4abbcep-1f, 0x1.466bbap-4f, -0x1.32ca9ep-8f, 0x1.4bc87cp-13f};
constexpr float kCosine[5] = {0x1p+0f, -0x1.3bd3ccp+0f, 0x1.03c1dcp-2f, -0x1.55c57ap-6f, 0x1.d9c326p-11f};

// A random spec whose blocks are those of noise.
inline Spec make_noise_spec(uint64_t seed, uint64_t stream) {
  Spec s = make_spec(seed, stream, 0.5, false);
  s.c3 |= kPurposeNoise;
  return s;
}

}  // namespace dropkit
