// Philox4x32-10, four blocks to a register of 32-bit words: NEON has the high halves of products by unzipping.
#pragma once
#include <arm_neon.h>

#include "kernels.h"
#include "setup.h"

namespace dropkit {
namespace neon {

struct Four {
  uint32x4_t a, b, c, d;
};

DROPKIT_INLINE uint32x4_t xor3(uint32x4_t x, uint32x4_t y, uint32x4_t z) { return veorq_u32(x, veorq_u32(y, z)); }

DROPKIT_INLINE void multiply(uint32x4_t x, uint32_t m, uint32x4_t& hi, uint32x4_t& lo) {
  const uint32x4_t lower = vreinterpretq_u32_u64(vmull_u32(vget_low_u32(x), vdup_n_u32(m)));
  const uint32x4_t upper = vreinterpretq_u32_u64(vmull_high_u32(x, vdupq_n_u32(m)));
  hi = vuzp2q_u32(lower, upper);
  lo = vuzp1q_u32(lower, upper);
}

DROPKIT_INLINE void one_round(Four& s, uint32_t k0, uint32_t k1) {
  uint32x4_t h0, l0, h1, l1;
  multiply(s.a, kM0, h0, l0);
  multiply(s.c, kM1, h1, l1);
  s.a = xor3(h1, s.b, vdupq_n_u32(k0));
  s.c = xor3(h0, s.d, vdupq_n_u32(k1));
  s.b = l1;
  s.d = l0;
}

constexpr int kChains = 2;  // independent registers of four blocks in flight

// Mask bytes of consecutive blocks, in order, one block to a register; `work` is done between the rounds.
template <class Work>
DROPKIT_INLINE void philox_blocks(const Setup& s, uint32_t block, uint8x16_t v[4 * kChains], const Work& work) {
  const uint32x4_t step = {0, 1, 2, 3};
  Four f[kChains];
  for (int j = 0; j < kChains; ++j) {  // rounds 1 and 2 in their folded form, see setup.h
    uint32x4_t h0, l0, h1, l1;
    multiply(vaddq_u32(vdupq_n_u32(block + 4u * static_cast<uint32_t>(j)), step), kM0, h0, l0);
    multiply(veorq_u32(h0, vdupq_n_u32(static_cast<uint32_t>(s.a))), kM1, h1, l1);
    f[j].a = veorq_u32(h1, vdupq_n_u32(static_cast<uint32_t>(s.b)));
    f[j].b = l1;
    f[j].c = veorq_u32(l0, vdupq_n_u32(static_cast<uint32_t>(s.c)));
    f[j].d = vdupq_n_u32(static_cast<uint32_t>(s.d ^ s.k1[2]));
  }
  for (int r = 2; r < kRounds; ++r) {
    for (int j = 0; j < kChains; ++j) one_round(f[j], static_cast<uint32_t>(s.k0[r]), static_cast<uint32_t>(s.k1[r]));
    Work::part(work, r - 2);
  }
  for (int j = 0; j < kChains; ++j) {  // from words across blocks to blocks
    const uint64x2_t ab0 = vreinterpretq_u64_u32(vtrn1q_u32(f[j].a, f[j].b)),
                     cd0 = vreinterpretq_u64_u32(vtrn1q_u32(f[j].c, f[j].d));
    const uint64x2_t ab1 = vreinterpretq_u64_u32(vtrn2q_u32(f[j].a, f[j].b)),
                     cd1 = vreinterpretq_u64_u32(vtrn2q_u32(f[j].c, f[j].d));
    v[4 * j] = vreinterpretq_u8_u64(vzip1q_u64(ab0, cd0));
    v[4 * j + 1] = vreinterpretq_u8_u64(vzip1q_u64(ab1, cd1));
    v[4 * j + 2] = vreinterpretq_u8_u64(vzip2q_u64(ab0, cd0));
    v[4 * j + 3] = vreinterpretq_u8_u64(vzip2q_u64(ab1, cd1));
  }
}

// Bit i is set if the tie at mask index n0 + at[i] is kept.
DROPKIT_INLINE uint32_t philox_ties(const Spec& s, uint64_t n0, const uint64_t at[8]) {
  uint32_t kept = 0;
  for (int j = 0; j < 2; ++j) {
    const uint64x2_t base = vdupq_n_u64(n0);
    const uint32x4_t lower = vreinterpretq_u32_u64(vaddq_u64(base, vld1q_u64(at + 4 * j)));
    const uint32x4_t upper = vreinterpretq_u32_u64(vaddq_u64(base, vld1q_u64(at + 4 * j + 2)));
    Four f = {vuzp1q_u32(lower, upper), vuzp2q_u32(lower, upper), vdupq_n_u32(s.c2), vdupq_n_u32(s.c3 | kPurposeTie)};
    uint32_t k0 = s.k0, k1 = s.k1;
    for (int r = 0; r < kRounds; ++r, k0 += kW0, k1 += kW1) one_round(f, k0, k1);
    const uint32x4_t yes = vcgeq_u32(vandq_u32(f.a, vdupq_n_u32(0xFFFFFFu)), vdupq_n_u32(s.t24));
    const uint32x4_t bits = {1, 2, 4, 8};
    kept |= vaddvq_u32(vandq_u32(yes, bits)) << 4 * j;
  }
  return kept;
}

struct Isa {
  static constexpr const char* kName = "neon";
  static constexpr int kGroup = 64 * kChains;  // elements per turn of the loop
  struct Bytes {
    uint8x16_t quarter[4];
  };
  struct Keep {
    uint8x16_t dropped[4];  // all bits set where an element is dropped
  };
  template <class Work>
  DROPKIT_INLINE void blocks(const Setup& s, uint32_t block, Bytes* v, const Work& work) {
    philox_blocks(s, block, v[0].quarter, work);
  }
  DROPKIT_INLINE uint32_t ties_kept(const Spec& s, uint64_t n0, const uint64_t* at) { return philox_ties(s, n0, at); }
  DROPKIT_INLINE uint64_t equal(const Bytes& v, uint8_t limit) {  // one bit a byte, by adding neighbours three times
    const uint8x16_t bits = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    uint8x16_t e[4];
    for (int j = 0; j < 4; ++j) e[j] = vandq_u8(vceqq_u8(v.quarter[j], vdupq_n_u8(limit)), bits);
    const uint8x16_t fours = vpaddq_u8(vpaddq_u8(e[0], e[1]), vpaddq_u8(e[2], e[3]));
    return vgetq_lane_u64(vreinterpretq_u64_u8(vpaddq_u8(fours, fours)), 0);
  }
  template <bool OR_EQUAL>
  DROPKIT_INLINE Keep above(const Bytes& v, uint8_t limit) {
    Keep k;
    const uint8x16_t t = vdupq_n_u8(limit);
    for (int j = 0; j < 4; ++j) k.dropped[j] = OR_EQUAL ? vcltq_u8(v.quarter[j], t) : vcleq_u8(v.quarter[j], t);
    return k;
  }
  DROPKIT_INLINE void store_bytes(uint8_t* p, const Keep& k) {
    for (int j = 0; j < 4; ++j) vst1q_u8(p + 16 * j, vaddq_u8(k.dropped[j], vdupq_n_u8(1)));
  }
  DROPKIT_INLINE Keep load_bytes(const uint8_t* p) {
    Keep k;
    for (int j = 0; j < 4; ++j) k.dropped[j] = vceqzq_u8(vld1q_u8(p + 16 * j));
    return k;
  }
};

}  // namespace neon
}  // namespace dropkit
