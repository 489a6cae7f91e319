// One vector of each element type: scale the kept lanes, zero the others, add the residual, round once, store.
#pragma once
#include "avx512_philox.h"
#include "element.h"

namespace dropkit {
namespace avx512 {

// The processor's own prefetcher loses the thread in the generator's loop; a request with every vector keeps it going
// (2^22 floats, whose input and output fill the cache: 620 us against 1,300). The same requests in a burst before the
// generator do not (850 us). The result's lines are asked for as well, to be written: a store that misses has to fetch
// its line, and so to wait (rows of 1.6 million floats: 790 us against 910 without on an Intel Xeon of 48 MiB L3).
constexpr int kAhead = 4096;

DROPKIT_INLINE void fetch(const void* x, void* y) {
  _mm_prefetch(static_cast<const char*>(x) + kAhead, _MM_HINT_T0);
  __builtin_prefetch(static_cast<char*>(y) + kAhead, 1);
}

// What every element type has: 64 elements, or the first `count` of 64, as vectors of V::kLanes.
template <class V>
struct Words {
  template <bool ADD, bool FETCH, class T, class Scale>
  DROPKIT_INLINE void word(const T* x, const T* r, T* y, uint64_t keep, Scale s) {
#pragma GCC unroll 8
    for (int j = 0; j < 64; j += V::kLanes) {
      if (FETCH) fetch(x + j, y + j);
      V::template step<ADD, false>(x + j, ADD ? r + j : nullptr, y + j, keep >> j, ~uint64_t(0), s);
    }
  }
  // The same from 64 keep bytes in memory, which can be tested right there.
  template <bool ADD, class T, class Scale>
  DROPKIT_INLINE void from_bytes(const T* x, const T* r, T* y, const uint8_t* keep, Scale s) {
#pragma GCC unroll 8
    for (int j = 0; j < 64; j += V::kLanes) {
      fetch(x + j, y + j);
      uint64_t k;
      if (V::kLanes == 32) {
        const __m256i b = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(keep + j));
        k = _mm256_test_epi8_mask(b, b);
      } else {
        const __m128i* p = reinterpret_cast<const __m128i*>(keep + j);
        const __m128i b = V::kLanes == 16 ? _mm_loadu_si128(p) : _mm_loadl_epi64(p);
        k = _mm_test_epi8_mask(b, b);
      }
      V::template step<ADD, false>(x + j, ADD ? r + j : nullptr, y + j, k, ~uint64_t(0), s);
    }
  }
  template <bool ADD, class T, class Scale>
  DROPKIT_INLINE void part(const T* x, const T* r, T* y, uint64_t keep, const uint8_t*, int count, Scale s) {
    const uint64_t live = ~uint64_t(0) >> (64 - count);
    for (int j = 0; j < count; j += V::kLanes) {
      V::template step<ADD, true>(x + j, ADD ? r + j : nullptr, y + j, keep >> j, live >> j, s);
    }
  }
};

struct VFloat : Words<VFloat> {
  using T = float;
  using Scale = __m512;
  static constexpr int kLanes = 16;
  DROPKIT_INLINE Scale spread(double s) { return _mm512_set1_ps(static_cast<float>(s)); }
  template <bool ADD, bool PART>
  DROPKIT_INLINE void step(const T* x, const T* r, T* y, uint64_t kept, uint64_t live, Scale s) {
    const __mmask16 k = static_cast<__mmask16>(kept), m = static_cast<__mmask16>(live);
    __m512 v = _mm512_maskz_mul_ps(k, PART ? _mm512_maskz_loadu_ps(m, x) : _mm512_loadu_ps(x), s);
    if (ADD) v = _mm512_add_ps(PART ? _mm512_maskz_loadu_ps(m, r) : _mm512_loadu_ps(r), v);
    if (PART)
      _mm512_mask_storeu_ps(y, m, v);
    else
      _mm512_storeu_ps(y, v);
  }
};

struct VDouble : Words<VDouble> {
  using T = double;
  using Scale = __m512d;
  static constexpr int kLanes = 8;
  DROPKIT_INLINE Scale spread(double s) { return _mm512_set1_pd(s); }
  template <bool ADD, bool PART>
  DROPKIT_INLINE void step(const T* x, const T* r, T* y, uint64_t kept, uint64_t live, Scale s) {
    const __mmask8 k = static_cast<__mmask8>(kept), m = static_cast<__mmask8>(live);
    __m512d v = _mm512_maskz_mul_pd(k, PART ? _mm512_maskz_loadu_pd(m, x) : _mm512_loadu_pd(x), s);
    if (ADD) v = _mm512_add_pd(PART ? _mm512_maskz_loadu_pd(m, r) : _mm512_loadu_pd(r), v);
    if (PART)
      _mm512_mask_storeu_pd(y, m, v);
    else
      _mm512_storeu_pd(y, v);
  }
};

struct VHalf : Words<VHalf> {
  using T = Half;
  using Scale = __m512;
  static constexpr int kLanes = 16;
  DROPKIT_INLINE Scale spread(double s) { return _mm512_set1_ps(static_cast<float>(s)); }
  template <bool PART>
  DROPKIT_INLINE __m512 load(const T* p, __mmask16 m) {
    return _mm512_cvtph_ps(PART ? _mm256_maskz_loadu_epi16(m, p)
                                : _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  template <bool ADD, bool PART>
  DROPKIT_INLINE void step(const T* x, const T* r, T* y, uint64_t kept, uint64_t live, Scale s) {
    const __mmask16 k = static_cast<__mmask16>(kept), m = static_cast<__mmask16>(live);
    __m512 v = _mm512_maskz_mul_ps(k, load<PART>(x, m), s);
    if (ADD) v = _mm512_add_ps(load<PART>(r, m), v);
    const __m256i h = _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    if (PART)
      _mm256_mask_storeu_epi16(y, m, h);
    else
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(y), h);
  }
  DROPKIT_INLINE void widen(const T* x, float* to) { _mm512_storeu_ps(to, load<false>(x, 0)); }  // sixteen
  DROPKIT_INLINE void narrow(const float* v, T* y) {
    const __m256i h = _mm512_cvtps_ph(_mm512_loadu_ps(v), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(y), h);
  }
};

// bfloat16 works on the even and the odd lanes apart: each is then a shift away from float32, and no permutation is
// needed. Rounding is by integers because VCVTNEPS2BF16 flushes subnormals.
struct VBFloat16 : Words<VBFloat16> {
  using T = BFloat16;
  using Scale = __m512;
  static constexpr int kLanes = 32;
  DROPKIT_INLINE Scale spread(double s) { return _mm512_set1_ps(static_cast<float>(s)); }
  DROPKIT_INLINE __m512 even(__m512i v) { return _mm512_castsi512_ps(_mm512_slli_epi32(v, 16)); }
  DROPKIT_INLINE __m512 odd(__m512i v) {
    return _mm512_castsi512_ps(_mm512_and_si512(v, _mm512_set1_epi32(static_cast<int>(0xFFFF0000u))));
  }
  DROPKIT_INLINE __m512i
  rounded(__m512 f) {  // the result is in the upper halves; the lower halves are rubbish, and so are NaNs
    const __m512i u = _mm512_castps_si512(f);
    const __m512i up = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
    return _mm512_add_epi32(_mm512_add_epi32(u, _mm512_set1_epi32(0x7FFF)), up);
  }
  template <bool ADD, bool PART>
  DROPKIT_INLINE void step(const T* x, const T* r, T* y, uint64_t kept, uint64_t live, Scale s) {
    const __mmask32 k = static_cast<__mmask32>(kept & live), m = static_cast<__mmask32>(live);
    const __m512i v = _mm512_maskz_loadu_epi16(k, x);  // a dropped element is loaded as +0
    __m512 e = _mm512_mul_ps(even(v), s), o = _mm512_mul_ps(odd(v), s);
    if (ADD) {
      const __m512i w = PART ? _mm512_maskz_loadu_epi16(m, r) : _mm512_loadu_si512(r);
      e = _mm512_add_ps(even(w), e);
      o = _mm512_add_ps(odd(w), o);
    }
    __m512i both = _mm512_mask_mov_epi16(_mm512_srli_epi32(rounded(e), 16), 0xAAAAAAAAu, rounded(o));
    const __m512i magnitude = _mm512_and_si512(v, _mm512_set1_epi16(0x7FFF));
    __mmask32 nan =
        _mm512_cmpgt_epi16_mask(magnitude, _mm512_set1_epi16(0x7F80));  // without a sum only a NaN makes a NaN
    if (ADD)
      nan = _pdep_u32(_mm512_cmp_ps_mask(e, e, _CMP_UNORD_Q), 0x55555555u) |
            _pdep_u32(_mm512_cmp_ps_mask(o, o, _CMP_UNORD_Q), 0xAAAAAAAAu);
    both = _mm512_mask_mov_epi16(both, nan, _mm512_set1_epi16(0x7FC0));
    if (PART)
      _mm512_mask_storeu_epi16(y, m, both);
    else
      _mm512_storeu_si512(y, both);
  }
};

}  // namespace avx512
}  // namespace dropkit
