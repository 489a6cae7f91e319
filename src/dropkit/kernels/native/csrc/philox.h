// The mask contract, version 1, in portable C++: Philox4x32-10 with the published constants, and what one element's
// fate is. Everything else in this folder is this file made fast.
#pragma once
#include <cmath>
#include <cstdint>

namespace dropkit {

constexpr uint32_t kM0 = 0xD2511F53u, kM1 = 0xCD9E8D57u;  // round multipliers
constexpr uint32_t kW0 = 0x9E3779B9u, kW1 = 0xBB67AE85u;  // key increments
constexpr int kRounds = 10;
constexpr int kBlock = 16;  // mask bytes in one generator block
constexpr uint32_t kPurposeTie = 1u << 28;

struct Words {
  uint32_t w[4];
};

inline Words philox(Words c, uint32_t k0, uint32_t k1) {
  for (int r = 0; r < kRounds; ++r) {
    const uint64_t p0 = uint64_t(kM0) * c.w[0], p1 = uint64_t(kM1) * c.w[2];
    c = {{uint32_t(p1 >> 32) ^ c.w[1] ^ k0, uint32_t(p1), uint32_t(p0 >> 32) ^ c.w[3] ^ k1, uint32_t(p0)}};
    k0 += kW0;
    k1 += kW1;
  }
  return c;
}

enum class Mode { kKeepAll, kDropAll, kRandom };

// One call's mask law. An element is a tie when its byte equals `limit` and `refine` is set; a byte above `limit`
// keeps, every other byte drops.
struct Spec {
  uint32_t k0, k1;  // key: the seed's halves
  uint32_t c2, c3;  // stream: low word, high word (purpose bits clear)
  uint32_t t24;     // a tie is kept iff its 24 refinement bits are at least this
  uint8_t limit;
  bool refine;
  Mode mode;
  double scale;  // multiplier of kept elements, before rounding to the compute type
};

// What kept elements are multiplied by: nothing, what keeps the mean, or what keeps variance 1 after SELU, whose lowest
// value dropped elements take (dropkit/variants/alpha.py).
enum Scaling : int64_t { kUnscaled, kInverted, kAlpha };

// t32: the rate out of 2^32, as the mask realises it.
inline double scale_of(int64_t scaling, uint64_t t32) {
  constexpr double kWhole = 4294967296.0, kLowest = -1.0507009873554805 * 1.6732632423543772;
  if (scaling == kUnscaled) return 1.0;
  if (t32 >> 32) return 0.0;
  const double rate = double(t32) / kWhole;
  if (scaling == kAlpha) return 1.0 / std::sqrt((1.0 - rate) * (1.0 + rate * (kLowest * kLowest)));
  return kWhole / double((uint64_t(1) << 32) - t32);
}

// `rate` must lie in [0, 1].
inline Spec make_spec(uint64_t seed, uint64_t stream, double rate, int64_t scaling) {
  const uint64_t t32 = static_cast<uint64_t>(rate * 4294967296.0 + 0.5);
  const uint32_t t8 = static_cast<uint32_t>(t32 >> 24), t24 = static_cast<uint32_t>(t32 & 0xFFFFFFu);
  Spec s{};
  s.k0 = static_cast<uint32_t>(seed);
  s.k1 = static_cast<uint32_t>(seed >> 32);
  s.c2 = static_cast<uint32_t>(stream);
  s.c3 = static_cast<uint32_t>(stream >> 32) & 0x0FFFFFFFu;
  s.t24 = t24;
  s.refine = t24 != 0;
  s.limit = static_cast<uint8_t>(
      s.refine ? t8 : t8 - 1);  // t8 is 0 or 256 without refinement only where mode says all or none
  s.mode = t32 == 0 ? Mode::kKeepAll : t32 >> 32 ? Mode::kDropAll : Mode::kRandom;
  s.scale = scale_of(scaling, t32);
  return s;
}

inline Words mask_block(const Spec& s, uint64_t block) {
  return philox({{uint32_t(block), uint32_t(block >> 32), s.c2, s.c3}}, s.k0, s.k1);
}

inline bool tie_kept(const Spec& s, uint64_t n) {
  const Words w = philox({{uint32_t(n), uint32_t(n >> 32), s.c2, s.c3 | kPurposeTie}}, s.k0, s.k1);
  return (w.w[0] & 0xFFFFFFu) >= s.t24;
}

inline bool byte_kept(const Spec& s, uint8_t byte, uint64_t n) {
  if (s.refine && byte == s.limit) return tie_kept(s, n);
  return byte > s.limit;
}

}  // namespace dropkit
