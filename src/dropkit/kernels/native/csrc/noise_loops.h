// Noise by the noise map of the contract, and its product with data. Plain loops, which compilers vectorise for the
// instruction set of the file that includes them; only operations that round correctly, in a fixed order and never
// contracted, so that every path and the reference agree bit for bit. Included by runs_scalar.cpp and vector_runs.h.
#pragma once
#include <cmath>
#include <cstring>

#include "element.h"
#include "kernels.h"
#include "noise_map.h"
#include "setup.h"

#ifndef DROPKIT_FN
#define DROPKIT_FN
#endif

namespace dropkit {
namespace {

constexpr int kNoiseGroup = 64;                // values whose words a generator makes at a time
constexpr int kNoiseTile = 16 * kNoiseGroup;  // words and values of a tile stay in the nearest cache

DROPKIT_FN void uniform_group(const uint32_t* words, float* out) {
  for (int j = 0; j < kNoiseGroup; ++j) out[j] = (float(int32_t(words[j] >> 9)) + 0.5f) * kUniformStep;
}

DROPKIT_FN void signed_group(const uint32_t* words, float* out) {
  for (int j = 0; j < kNoiseGroup; ++j) {
    out[j] = (float(int32_t(words[j] >> 9)) + 0.5f) * (2 * kUniformStep) - 1.0f;  // exact, as 2 u - 1 is
  }
}

DROPKIT_FN void normal_group(const uint32_t* words, float* out) {
  for (int j = 0; j < kNoiseGroup / 2; ++j) {
    const float u = (float(int32_t(words[2 * j] >> 1)) + 0.5f) * kRadiusStep;
    int32_t bits;
    std::memcpy(&bits, &u, 4);
    const int32_t fraction = bits & 0x7FFFFF;
    const int32_t high = fraction > kRootTwo ? 1 : 0;  // mantissas above the root of 2 count from the next power
    const int32_t exponent = (bits >> 23) - 127 + high;
    const int32_t mantissa = fraction | (0x3F800000 - (high << 23));
    float m;
    std::memcpy(&m, &mantissa, 4);
    const float f = m - 1.0f;
    float log = kLog[9];
#pragma GCC unroll 16
    for (int i = 8; i >= 0; --i) log = log * f + kLog[i];
    const float radius = std::sqrt(-2.0f * (float(exponent) * kLogTwo + f * log));
    const uint32_t w = words[2 * j + 1];
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
    out[2 * j] = radius * along;
    out[2 * j + 1] = radius * across;
  }
}

// Values of whole groups. A block or two are not worth a group of the vector generator's.
template <class Source>
DROPKIT_FN void noise_groups(const Spec& s, const Setup& setup, uint64_t block, int64_t count, int law, float* out) {
  alignas(64) uint32_t words[kNoiseTile];
  if (count <= 2 * int64_t(kNoiseBlock)) {
    std::memset(words, 0, kNoiseGroup * sizeof(uint32_t));
    for (uint64_t j = 0; j < 2; ++j) {
      const Words w = mask_block(s, block + j);
      std::memcpy(words + kNoiseBlock * j, w.w, sizeof w.w);
    }
  } else {
    Source::words(s, setup, block, count, words);
  }
  for (int64_t i = 0; i < count; i += kNoiseGroup) {
    if (law == kNormal)
      normal_group(words + i, out + i);
    else if (law == kUniform)
      uniform_group(words + i, out + i);
    else
      signed_group(words + i, out + i);
  }
}

// Any start, any length: whole groups in place, the rest by way of a buffer. A tile never passes a multiple of 2^32
// blocks, along which the generators' setup is constant.
template <class Source>
DROPKIT_FN void noise_run(const Spec& s, uint64_t n, int64_t count, int law, float* out) {
  alignas(64) float tile[kNoiseTile];
  uint64_t high = n / kNoiseBlock >> 32;
  Setup setup = prepare(s, static_cast<uint32_t>(high));
  while (count > 0) {
    const uint64_t block = n / kNoiseBlock, stretch = ((uint64_t(1) << 32) - uint32_t(block)) * kNoiseBlock;
    if (block >> 32 != high) setup = prepare(s, static_cast<uint32_t>(high = block >> 32));
    const int64_t lead = static_cast<int64_t>(n % kNoiseBlock);
    int64_t made = stretch < uint64_t(kNoiseTile) ? static_cast<int64_t>(stretch) : int64_t(kNoiseTile);
    if (made > count + lead) made = count + lead;
    const bool whole = lead == 0 && made >= kNoiseGroup;
    if (whole) made -= made % kNoiseGroup;
    noise_groups<Source>(s, setup, block, made, law, whole ? out : tile);
    if (!whole) std::memcpy(out, tile + lead, static_cast<size_t>(made - lead) * sizeof(float));
    n += static_cast<uint64_t>(made - lead);
    out += made - lead;
    count -= made - lead;
  }
}

// y[i] = x[i] * (1 + strength * e[i]).
template <class T>
DROPKIT_FN void multiply(const float* e, int64_t count, const void* x, void* y, double strength) {
  using C = typename Element<T>::Compute;
  const T* xs = static_cast<const T*>(x);
  T* ys = static_cast<T*>(y);
  const C s = static_cast<C>(strength);
  for (int64_t i = 0; i < count; ++i) Element<T>::store(ys + i, Element<T>::load(xs + i) * (s * C(e[i]) + C(1)));
}

}  // namespace
}  // namespace dropkit
