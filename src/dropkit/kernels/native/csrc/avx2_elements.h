// One vector of each element type: scale the kept lanes, zero the others, add the residual, round once, store.
#pragma once
#include "avx2_philox.h"
#include "element.h"
#include "runs_common.h"

namespace dropkit {
namespace avx2 {

constexpr int kAhead = 4096;  // as in avx512_elements.h

DROPKIT_INLINE void fetch(const void* x, void* y) {
  _mm_prefetch(static_cast<const char*>(x) + kAhead, _MM_HINT_T0);
  __builtin_prefetch(static_cast<char*>(y) + kAhead, 1);
}

DROPKIT_INLINE __m128i load64(const uint8_t* p) { return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)); }

// What every element type has: 64 elements, or the first `count` of 64, as vectors of V::kLanes and single elements.
template <class V>
struct Words {
  template <bool ADD, bool FETCH, class T, class Scale>
  DROPKIT_INLINE void word(const T* x, const T* r, T* y, const Isa::Keep& keep, Scale s) {
    alignas(32) uint8_t dropped[64];  // by way of memory: widening from there takes no shuffle
    _mm256_store_si256(reinterpret_cast<__m256i*>(dropped), keep.dropped[0]);
    _mm256_store_si256(reinterpret_cast<__m256i*>(dropped + 32), keep.dropped[1]);
#pragma GCC unroll 16
    for (int j = 0; j < 64; j += V::kLanes) {
      if (FETCH && j * sizeof(T) % 64 == 0) fetch(x + j, y + j);
      V::template step<ADD>(x + j, ADD ? r + j : nullptr, y + j, dropped + j, s);
    }
  }
  template <bool ADD, class T, class Scale>
  DROPKIT_INLINE void from_bytes(const T* x, const T* r, T* y, const uint8_t* keep, Scale s) {
    word<ADD, true>(x, r, y, Isa::load_bytes(keep), s);
  }
  template <bool ADD, class T, class Scale>
  DROPKIT_INLINE void part(const T* x, const T* r, T* y, const Isa::Keep& keep, const uint8_t* kept, int count,
                           Scale s) {
    alignas(32) uint8_t dropped[64];
    _mm256_store_si256(reinterpret_cast<__m256i*>(dropped), keep.dropped[0]);
    _mm256_store_si256(reinterpret_cast<__m256i*>(dropped + 32), keep.dropped[1]);
    int j = 0;
    for (; j + V::kLanes <= count; j += V::kLanes)
      V::template step<ADD>(x + j, ADD ? r + j : nullptr, y + j, dropped + j, s);
    for (; j < count; ++j) put<T, ADD>(kept[j] != 0, x + j, ADD ? r + j : nullptr, y + j, V::lane(s));
  }
};

struct VFloat : Words<VFloat> {
  using T = float;
  using Scale = __m256;
  static constexpr int kLanes = 8;
  DROPKIT_INLINE Scale spread(double s) { return _mm256_set1_ps(static_cast<float>(s)); }
  DROPKIT_INLINE float lane(Scale s) { return _mm256_cvtss_f32(s); }
  template <bool ADD>
  DROPKIT_INLINE void step(const T* x, const T* r, T* y, const uint8_t* dropped, Scale s) {
    const __m256 m = _mm256_castsi256_ps(_mm256_cvtepi8_epi32(load64(dropped)));
    __m256 v = _mm256_andnot_ps(m, _mm256_mul_ps(_mm256_loadu_ps(x), s));
    if (ADD) v = _mm256_add_ps(_mm256_loadu_ps(r), v);
    _mm256_storeu_ps(y, v);
  }
};

struct VDouble : Words<VDouble> {
  using T = double;
  using Scale = __m256d;
  static constexpr int kLanes = 4;
  DROPKIT_INLINE Scale spread(double s) { return _mm256_set1_pd(s); }
  DROPKIT_INLINE double lane(Scale s) { return _mm256_cvtsd_f64(s); }
  template <bool ADD>
  DROPKIT_INLINE void step(const T* x, const T* r, T* y, const uint8_t* dropped, Scale s) {
    int32_t four;
    std::memcpy(&four, dropped, 4);
    const __m256d m = _mm256_castsi256_pd(_mm256_cvtepi8_epi64(_mm_cvtsi32_si128(four)));
    __m256d v = _mm256_andnot_pd(m, _mm256_mul_pd(_mm256_loadu_pd(x), s));
    if (ADD) v = _mm256_add_pd(_mm256_loadu_pd(r), v);
    _mm256_storeu_pd(y, v);
  }
};

struct VHalf : Words<VHalf> {
  using T = Half;
  using Scale = __m256;
  static constexpr int kLanes = 8;
  DROPKIT_INLINE Scale spread(double s) { return _mm256_set1_ps(static_cast<float>(s)); }
  DROPKIT_INLINE float lane(Scale s) { return _mm256_cvtss_f32(s); }
  DROPKIT_INLINE __m256 load(const T* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  template <bool ADD>
  DROPKIT_INLINE void step(const T* x, const T* r, T* y, const uint8_t* dropped, Scale s) {
    const __m256 m = _mm256_castsi256_ps(_mm256_cvtepi8_epi32(load64(dropped)));
    __m256 v = _mm256_andnot_ps(m, _mm256_mul_ps(load(x), s));
    if (ADD) v = _mm256_add_ps(load(r), v);
    store(y, v);
  }
  DROPKIT_INLINE void store(T* p, __m256 v) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
  }
  DROPKIT_INLINE void widen(const T* x, float* to) {  // sixteen
    _mm256_storeu_ps(to, load(x));
    _mm256_storeu_ps(to + 8, load(x + 8));
  }
  DROPKIT_INLINE void narrow(const float* v, T* y) {
    store(y, _mm256_loadu_ps(v));
    store(y + 8, _mm256_loadu_ps(v + 8));
  }
};

struct VBFloat16 : Words<VBFloat16> {  // even and odd lanes apart, as in avx512_elements.h
  using T = BFloat16;
  using Scale = __m256;
  static constexpr int kLanes = 16;
  DROPKIT_INLINE Scale spread(double s) { return _mm256_set1_ps(static_cast<float>(s)); }
  DROPKIT_INLINE float lane(Scale s) { return _mm256_cvtss_f32(s); }
  DROPKIT_INLINE __m256i load(const T* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
  DROPKIT_INLINE __m256 even(__m256i v) { return _mm256_castsi256_ps(_mm256_slli_epi32(v, 16)); }
  DROPKIT_INLINE __m256 odd(__m256i v) {
    return _mm256_castsi256_ps(_mm256_and_si256(v, _mm256_set1_epi32(static_cast<int>(0xFFFF0000u))));
  }
  DROPKIT_INLINE __m256i rounded(__m256 f) {  // the result is in the upper halves; the lower halves are rubbish
    const __m256i u = _mm256_castps_si256(f);
    const __m256i up = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
    const __m256i sum = _mm256_add_epi32(_mm256_add_epi32(u, _mm256_set1_epi32(0x7FFF)), up);
    const __m256 nan = _mm256_castsi256_ps(_mm256_set1_epi32(0x7FC00000));
    return _mm256_castps_si256(_mm256_blendv_ps(_mm256_castsi256_ps(sum), nan, _mm256_cmp_ps(f, f, _CMP_UNORD_Q)));
  }
  template <bool ADD>
  DROPKIT_INLINE void step(const T* x, const T* r, T* y, const uint8_t* dropped, Scale s) {
    const __m256i m = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(dropped)));
    const __m256i v = _mm256_andnot_si256(m, load(x));
    __m256 e = _mm256_mul_ps(even(v), s), o = _mm256_mul_ps(odd(v), s);
    if (ADD) {
      const __m256i w = load(r);
      e = _mm256_add_ps(even(w), e);
      o = _mm256_add_ps(odd(w), o);
    }
    const __m256i both = _mm256_blend_epi16(_mm256_srli_epi32(rounded(e), 16), rounded(o), 0xAA);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(y), both);
  }
};

}  // namespace avx2
}  // namespace dropkit
