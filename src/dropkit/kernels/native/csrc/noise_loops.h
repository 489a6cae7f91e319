// Noise by the noise map of the contract: four values to a block. Plain loops over a tile of blocks, which compilers
// vectorise for the instruction set of the file that includes them; only operations that round correctly, in a fixed
// order and never contracted, so that every path and the reference agree bit for bit.
#pragma once
#include <cmath>

#include "kernels.h"
#include "noise_map.h"

#ifndef DROPKIT_FN
#define DROPKIT_FN
#endif

namespace dropkit {
namespace {

struct NoiseWords {
  uint32_t w[4][kNoiseTile];
};

DROPKIT_FN void noise_words(const Spec& s, uint64_t block, NoiseWords& t) {
  uint32_t *a = t.w[0], *b = t.w[1], *c = t.w[2], *d = t.w[3];
  for (int j = 0; j < kNoiseTile; ++j) {
    const uint64_t n = block + static_cast<uint64_t>(j);
    a[j] = static_cast<uint32_t>(n);
    b[j] = static_cast<uint32_t>(n >> 32);
    c[j] = s.c2;
    d[j] = s.c3 | kPurposeNoise;
  }
  uint32_t k0 = s.k0, k1 = s.k1;
  for (int r = 0; r < kRounds; ++r, k0 += kW0, k1 += kW1) {
    for (int j = 0; j < kNoiseTile; ++j) {
      const uint64_t p0 = uint64_t(kM0) * a[j], p1 = uint64_t(kM1) * c[j];
      a[j] = uint32_t(p1 >> 32) ^ b[j] ^ k0;
      b[j] = uint32_t(p1);
      c[j] = uint32_t(p0 >> 32) ^ d[j] ^ k1;
      d[j] = uint32_t(p0);
    }
  }
}

DROPKIT_FN void uniform_tile(const NoiseWords& t, float* out) {
  for (int j = 0; j < kNoiseTile; ++j) {
    for (int k = 0; k < 4; ++k) out[4 * j + k] = (float(int32_t(t.w[k][j] >> 9)) + 0.5f) * kUniformStep;
  }
}

DROPKIT_FN void normal_tile(const NoiseWords& t, float* out) {
  float even[kNoiseTile], odd[kNoiseTile];
  for (int pair = 0; pair < 2; ++pair) {
    const uint32_t *first = t.w[2 * pair], *second = t.w[2 * pair + 1];
    for (int j = 0; j < kNoiseTile; ++j) {
      const float u = (float(int32_t(first[j] >> 1)) + 0.5f) * kRadiusStep;
      int32_t bits;
      std::memcpy(&bits, &u, 4);
      int32_t exponent = (bits >> 23) - 127;
      const int32_t fraction = bits & 0x7FFFFF;
      const int32_t high = fraction > kRootTwo ? 1 : 0;  // mantissas above the root of 2 count from the next power
      exponent += high;
      const int32_t mantissa = fraction | (0x3F800000 - (high << 23));
      float m;
      std::memcpy(&m, &mantissa, 4);
      const float f = m - 1.0f;
      float log = kLog[9];
#pragma GCC unroll 16
      for (int i = 8; i >= 0; --i) log = log * f + kLog[i];
      const float radius = std::sqrt(-2.0f * (float(exponent) * kLogTwo + f * log));
      const uint32_t w = second[j];
      const float x = (float(int32_t(w << 2 >> 9)) + 0.5f) * kUniformStep - 0.5f, y = x * x;
      float sine = kSine[4], cosine = kCosine[4];
#pragma GCC unroll 16
      for (int i = 3; i >= 0; --i) {
        sine = sine * y + kSine[i];
        cosine = cosine * y + kCosine[i];
      }
      sine = sine * x;
      // Swapped in quadrants 1 and 3; the signs are those of the quadrant. Bits instead of branches, for the vectoriser.
      uint32_t sine_bits, cosine_bits;
      std::memcpy(&sine_bits, &sine, 4);
      std::memcpy(&cosine_bits, &cosine, 4);
      const uint32_t swap = (sine_bits ^ cosine_bits) & (0u - (w >> 30 & 1u));
      const uint32_t along_bits = (cosine_bits ^ swap) ^ ((w + 0x40000000u) & 0x80000000u);  // negative in 1 and 2
      const uint32_t across_bits = (sine_bits ^ swap) ^ (w & 0x80000000u);                   // negative in 2 and 3
      float along, across;
      std::memcpy(&along, &along_bits, 4);
      std::memcpy(&across, &across_bits, 4);
      even[j] = radius * along;
      odd[j] = radius * across;
    }
    for (int j = 0; j < kNoiseTile; ++j) {
      out[4 * j + 2 * pair] = even[j];
      out[4 * j + 2 * pair + 1] = odd[j];
    }
  }
}

DROPKIT_FN void noise_run(const Spec& s, uint64_t block, int64_t count, int law, float* out) {
  NoiseWords words;
  float tile[4 * kNoiseTile];
  for (int64_t i = 0; i < count; i += 4 * kNoiseTile, block += kNoiseTile) {
    const int64_t left = count - i;
    const bool whole = left >= 4 * kNoiseTile;
    float* to = whole ? out + i : tile;
    noise_words(s, block, words);
    if (law == kUniform)
      uniform_tile(words, to);
    else
      normal_tile(words, to);
    if (!whole) std::memcpy(out + i, tile, static_cast<size_t>(left) * sizeof(float));
  }
}

}  // namespace
}  // namespace dropkit
