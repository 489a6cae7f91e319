// Philox4x32-10, eight blocks to a vector: each 32-bit word sits in a 64-bit lane, whose upper half is ignored, so that
// a round is two multiplications, two shifts and two three-way xors with no blends.
#pragma once
#include <immintrin.h>

#include "kernels.h"
#include "setup.h"

#define DROPKIT_XOR3(x, y, z) _mm512_ternarylogic_epi64(x, y, z, 0x96)

namespace dropkit {
namespace avx512 {

DROPKIT_INLINE __m512i all(uint64_t v) { return _mm512_set1_epi64(static_cast<long long>(v)); }
DROPKIT_INLINE __m512i high(__m512i p) { return _mm512_srli_epi64(p, 32); }
DROPKIT_INLINE __m512i swap_words(__m512i p) { return _mm512_ror_epi64(p, 32); }
DROPKIT_INLINE __m512i times(__m512i x, uint32_t m) { return _mm512_mul_epu32(x, all(m)); }

// Two independent vectors of eight blocks are in flight, and `work` is done between their rounds. Four vectors make the
// generator alone a quarter faster, but then the copy, whose requests come in bursts, is twice as slow past the cache.
constexpr int kChains = 2;

// Mask bytes of consecutive blocks, in order, four blocks to a vector. The last block may not pass a multiple of 2^32
// except in bytes the caller throws away.
template <class Work>
DROPKIT_INLINE void philox_blocks(const Setup& s, uint32_t block, __m512i v[2 * kChains], const Work& work) {
  // This order of lanes makes the final unpack put the blocks in order.
  const __m512i lane = _mm512_set_epi64(7ll * kM0, 3ll * kM0, 6ll * kM0, 2ll * kM0, 5ll * kM0, 1ll * kM0, 4ll * kM0, 0);
  const __mmask16 low_words = 0x5555;
  __m512i a[kChains], b[kChains], c[kChains], d[kChains], p[kChains], q[kChains];
#pragma GCC unroll 8
  for (int j = 0; j < kChains; ++j) {
    p[j] = _mm512_add_epi64(all(uint64_t(kM0) * block + uint64_t(kM0) * 8 * j), lane);
    q[j] = times(_mm512_xor_si512(high(p[j]), all(s.a)), kM1);
    a[j] = _mm512_xor_si512(high(q[j]), all(s.b));
    b[j] = q[j];
    c[j] = _mm512_xor_si512(p[j], all(s.c));
    d[j] = all(s.d ^ s.k1[2]);
  }
  Work::part(work, 0);
#pragma GCC unroll 7
  for (int r = 2; r < kRounds - 1; ++r) {
#pragma GCC unroll 8
    for (int j = 0; j < kChains; ++j) {
      p[j] = times(a[j], kM0);
      q[j] = times(c[j], kM1);
      a[j] = DROPKIT_XOR3(high(q[j]), b[j], all(s.k0[r]));
      c[j] = DROPKIT_XOR3(high(p[j]), d[j], all(s.k1[r]));
      b[j] = q[j];
      d[j] = p[j];
    }
    Work::part(work, r - 1);
  }
#pragma GCC unroll 8
  for (int j = 0; j < kChains; ++j) {  // the last round leaves word pairs side by side, ready to be interleaved
    p[j] = swap_words(times(a[j], kM0));
    q[j] = swap_words(times(c[j], kM1));
    const __m512i ab = _mm512_mask_xor_epi32(q[j], low_words, q[j], _mm512_xor_si512(b[j], all(s.k0[kRounds - 1])));
    const __m512i cd = _mm512_mask_xor_epi32(p[j], low_words, p[j], _mm512_xor_si512(d[j], all(s.k1[kRounds - 1])));
    v[2 * j] = _mm512_unpacklo_epi64(ab, cd);
    v[2 * j + 1] = _mm512_unpackhi_epi64(ab, cd);
  }
}

// Bit i is set if the tie at mask index n0 + at[i] is kept.
DROPKIT_INLINE uint32_t philox_ties(const Spec& s, uint64_t n0, const uint64_t at[8]) {
  const __m512i n = _mm512_add_epi64(all(n0), _mm512_loadu_si512(at));
  __m512i a = n, b = high(n), c = all(s.c2), d = all(s.c3 | kPurposeTie);
  uint32_t k0 = s.k0, k1 = s.k1;
#pragma GCC unroll 10
  for (int r = 0; r < kRounds; ++r, k0 += kW0, k1 += kW1) {
    const __m512i p = times(a, kM0), q = times(c, kM1);
    a = DROPKIT_XOR3(high(q), b, all(k0));
    c = DROPKIT_XOR3(high(p), d, all(k1));
    b = q;
    d = p;
  }
  return _mm512_cmpge_epu64_mask(_mm512_and_si512(a, all(0xFFFFFFu)), all(s.t24));
}

struct Isa {
  static constexpr const char* kName = "avx512";
  static constexpr int kGroup = 128 * kChains;  // elements per turn of the loop
  using Bytes = __m512i;
  using Keep = uint64_t;
  template <class Work>
  DROPKIT_INLINE void blocks(const Setup& s, uint32_t block, Bytes* v, const Work& work) {
    philox_blocks(s, block, v, work);
  }
  DROPKIT_INLINE uint32_t ties_kept(const Spec& s, uint64_t n0, const uint64_t* at) { return philox_ties(s, n0, at); }
  DROPKIT_INLINE __m512i spread(uint8_t b) { return _mm512_set1_epi8(static_cast<char>(b)); }
  DROPKIT_INLINE uint64_t equal(Bytes v, uint8_t limit) { return _mm512_cmpeq_epu8_mask(v, spread(limit)); }
  template <bool OR_EQUAL>
  DROPKIT_INLINE Keep above(Bytes v, uint8_t limit) {
    return OR_EQUAL ? _mm512_cmpge_epu8_mask(v, spread(limit)) : _mm512_cmpgt_epu8_mask(v, spread(limit));
  }
  DROPKIT_INLINE void store_bytes(uint8_t* p, Keep k) { _mm512_storeu_si512(p, _mm512_maskz_set1_epi8(k, 1)); }
  DROPKIT_INLINE Keep load_bytes(const uint8_t* p) {
    const __m512i v = _mm512_loadu_si512(p);
    return _mm512_test_epi8_mask(v, v);
  }
};

}  // namespace avx512
}  // namespace dropkit
