// Philox4x32-10, four blocks to a vector: as avx512_philox.h, without the three-way xor.
#pragma once
#include <immintrin.h>

#include "kernels.h"
#include "setup.h"

namespace dropkit {
namespace avx2 {

DROPKIT_INLINE __m256i all(uint64_t v) { return _mm256_set1_epi64x(static_cast<long long>(v)); }
DROPKIT_INLINE __m256i high(__m256i p) { return _mm256_srli_epi64(p, 32); }
DROPKIT_INLINE __m256i swap_words(__m256i p) { return _mm256_shuffle_epi32(p, 0xB1); }
DROPKIT_INLINE __m256i times(__m256i x, uint32_t m) { return _mm256_mul_epu32(x, all(m)); }
DROPKIT_INLINE __m256i xor2(__m256i x, __m256i y) { return _mm256_xor_si256(x, y); }
DROPKIT_INLINE __m256i xor3(__m256i x, __m256i y, __m256i z) { return xor2(x, xor2(y, z)); }

constexpr int kChains = 4;

// Mask bytes of consecutive blocks, in order, two blocks to a vector; `work` is done between the rounds.
template <class Work>
DROPKIT_INLINE void philox_blocks(const Setup& s, uint32_t block, __m256i v[2 * kChains], const Work& work) {
  // This order of lanes makes the final unpack put the blocks in order.
  const __m256i lane = _mm256_set_epi64x(3ll * kM0, 1ll * kM0, 2ll * kM0, 0), low_words = all(0xFFFFFFFFu);
  __m256i a[kChains], b[kChains], c[kChains], d[kChains], p[kChains], q[kChains];
#pragma GCC unroll 8
  for (int j = 0; j < kChains; ++j) {
    p[j] = _mm256_add_epi64(all(uint64_t(kM0) * block + uint64_t(kM0) * 4 * j), lane);
    q[j] = times(xor2(high(p[j]), all(s.a)), kM1);
    a[j] = xor2(high(q[j]), all(s.b));
    b[j] = q[j];
    c[j] = xor2(p[j], all(s.c));
    d[j] = all(s.d ^ s.k1[2]);
  }
  Work::part(work, 0);
#pragma GCC unroll 7
  for (int r = 2; r < kRounds - 1; ++r) {
#pragma GCC unroll 8
    for (int j = 0; j < kChains; ++j) {
      p[j] = times(a[j], kM0);
      q[j] = times(c[j], kM1);
      a[j] = xor3(high(q[j]), b[j], all(s.k0[r]));
      c[j] = xor3(high(p[j]), d[j], all(s.k1[r]));
      b[j] = q[j];
      d[j] = p[j];
    }
    Work::part(work, r - 1);
  }
#pragma GCC unroll 8
  for (int j = 0; j < kChains; ++j) {  // the last round leaves word pairs side by side, ready to be interleaved
    p[j] = swap_words(times(a[j], kM0));
    q[j] = swap_words(times(c[j], kM1));
    const __m256i ab = xor2(q[j], _mm256_and_si256(xor2(b[j], all(s.k0[kRounds - 1])), low_words));
    const __m256i cd = xor2(p[j], _mm256_and_si256(xor2(d[j], all(s.k1[kRounds - 1])), low_words));
    v[2 * j] = _mm256_unpacklo_epi64(ab, cd);
    v[2 * j + 1] = _mm256_unpackhi_epi64(ab, cd);
  }
}

// Bit i is set if the tie at mask index n0 + at[i] is kept.
DROPKIT_INLINE uint32_t philox_ties(const Spec& s, uint64_t n0, const uint64_t at[8]) {
  uint32_t dropped = 0;
#pragma GCC unroll 2
  for (int j = 0; j < 2; ++j) {
    const __m256i n = _mm256_add_epi64(all(n0), _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at + 4 * j)));
    __m256i a = n, b = high(n), c = all(s.c2), d = all(s.c3 | kPurposeTie);
    uint32_t k0 = s.k0, k1 = s.k1;
#pragma GCC unroll 10
    for (int r = 0; r < kRounds; ++r, k0 += kW0, k1 += kW1) {
      const __m256i p = times(a, kM0), q = times(c, kM1);
      a = xor3(high(q), b, all(k0));
      c = xor3(high(p), d, all(k1));
      b = q;
      d = p;
    }
    const __m256i below = _mm256_cmpgt_epi64(all(s.t24), _mm256_and_si256(a, all(0xFFFFFFu)));
    dropped |= static_cast<uint32_t>(_mm256_movemask_pd(_mm256_castsi256_pd(below))) << 4 * j;
  }
  return ~dropped;
}

struct Isa {
  static constexpr const char* kName = "avx2";
  static constexpr int kGroup = 64 * kChains;  // elements per turn of the loop
  struct Bytes {
    __m256i half[2];
  };
  struct Keep {
    __m256i dropped[2];  // all bits set where an element is dropped
  };
  template <class Work>
  DROPKIT_INLINE void blocks(const Setup& s, uint32_t block, Bytes* v, const Work& work) {
    philox_blocks(s, block, v[0].half, work);
  }
  DROPKIT_INLINE uint32_t ties_kept(const Spec& s, uint64_t n0, const uint64_t* at) { return philox_ties(s, n0, at); }
  DROPKIT_INLINE __m256i spread(uint8_t b) { return _mm256_set1_epi8(static_cast<char>(b)); }
  DROPKIT_INLINE uint64_t equal(const Bytes& v, uint8_t limit) {
    const uint32_t lo = static_cast<uint32_t>(_mm256_movemask_epi8(_mm256_cmpeq_epi8(v.half[0], spread(limit))));
    const uint32_t hi = static_cast<uint32_t>(_mm256_movemask_epi8(_mm256_cmpeq_epi8(v.half[1], spread(limit))));
    return lo | uint64_t(hi) << 32;
  }
  template <bool OR_EQUAL>
  DROPKIT_INLINE Keep above(const Bytes& v, uint8_t limit) {
    Keep k;
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j) {  // unsigned comparisons by the larger of the two
      const __m256i b = v.half[j], t = spread(limit);
      const __m256i above_or_equal = _mm256_cmpeq_epi8(_mm256_max_epu8(b, t), b);
      k.dropped[j] = OR_EQUAL ? xor2(above_or_equal, spread(0xFF)) : _mm256_cmpeq_epi8(_mm256_max_epu8(b, t), t);
    }
    return k;
  }
  DROPKIT_INLINE void store_bytes(uint8_t* p, const Keep& k) {
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + 32 * j), _mm256_add_epi8(k.dropped[j], spread(1)));
    }
  }
  DROPKIT_INLINE Keep load_bytes(const uint8_t* p) {
    Keep k;
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j) {
      k.dropped[j] = _mm256_cmpeq_epi8(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 32 * j)), all(0));
    }
    return k;
  }
};

}  // namespace avx2
}  // namespace dropkit
