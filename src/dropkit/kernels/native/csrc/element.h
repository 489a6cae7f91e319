// Element types of the data, their compute types, and conversions that round once, to nearest even, on every machine
// alike.
#pragma once
#include <cstdint>
#include <cstring>

namespace dropkit {

struct Half {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};

inline float as_float(uint32_t u) {
  float f;
  std::memcpy(&f, &u, 4);
  return f;
}
inline uint32_t as_bits(float f) {
  uint32_t u;
  std::memcpy(&u, &f, 4);
  return u;
}

inline float half_to_float(uint16_t h) {
  const uint32_t sign = uint32_t(h & 0x8000u) << 16, mag = h & 0x7FFFu;
  if (mag >= 0x7C00u) {  // infinity or NaN; a NaN comes out quiet, as from hardware
    return as_float(sign | 0x7F800000u | (mag & 0x3FFu) << 13 | (mag > 0x7C00u ? 0x400000u : 0u));
  }
  if (mag >= 0x400u) return as_float(sign | ((mag << 13) + 0x38000000u));
  const float magnitude = float(mag) * as_float(0x33800000u);  // a subnormal is mag * 2^-24, exactly
  return as_float(sign | as_bits(magnitude));
}

inline uint16_t float_to_half(float f) {
  const uint32_t u = as_bits(f), sign = u >> 16 & 0x8000u, mag = u & 0x7FFFFFFFu;
  if (mag > 0x7F800000u) return uint16_t(sign | 0x7E00u | (mag >> 13 & 0x1FFu));
  if (mag >= 0x477FF000u) return uint16_t(sign | 0x7C00u);  // rounds past 65504
  if (mag >= 0x38800000u) {
    const uint32_t rebased = mag - 0x38000000u;
    return uint16_t(sign | (rebased + 0xFFFu + (rebased >> 13 & 1u)) >> 13);
  }
  const float aligned =
      as_float(mag) + 0.5f;  // 0.5 has the half's subnormal step as its last place: the sum rounds for us
  return uint16_t(sign | (as_bits(aligned) - 0x3F000000u));
}

inline uint16_t float_to_bfloat16(float f) {
  const uint32_t u = as_bits(f);
  if ((u & 0x7FFFFFFFu) > 0x7F800000u) return 0x7FC0u;
  return uint16_t((u + 0x7FFFu + (u >> 16 & 1u)) >> 16);
}

template <class T>
struct Element;
template <>
struct Element<float> {
  using Compute = float;
  static float load(const float* p) { return *p; }
  static void store(float* p, float v) { *p = v; }
};
template <>
struct Element<double> {
  using Compute = double;
  static double load(const double* p) { return *p; }
  static void store(double* p, double v) { *p = v; }
};
template <>
struct Element<Half> {
  using Compute = float;
  static float load(const Half* p) { return half_to_float(p->bits); }
  static void store(Half* p, float v) { p->bits = float_to_half(v); }
};
template <>
struct Element<BFloat16> {
  using Compute = float;
  static float load(const BFloat16* p) { return as_float(uint32_t(p->bits) << 16); }
  static void store(BFloat16* p, float v) { p->bits = float_to_bfloat16(v); }
};

}  // namespace dropkit
