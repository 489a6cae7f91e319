// Sixteen elements of each type: scale the kept ones, zero the others, add the residual, round once, store.
#pragma once
#include "element.h"
#include "neon_philox.h"
#include "runs_common.h"

namespace dropkit {
namespace neon {

// The flags of four elements, widened from bytes.
DROPKIT_INLINE uint32x4_t widened(uint8x16_t dropped, int quarter) {
  const int8x16_t d = vreinterpretq_s8_u8(dropped);
  const int16x8_t half = quarter < 2 ? vmovl_s8(vget_low_s8(d)) : vmovl_s8(vget_high_s8(d));
  return vreinterpretq_u32_s32(quarter % 2 == 0 ? vmovl_s16(vget_low_s16(half)) : vmovl_s16(vget_high_s16(half)));
}

// What every element type has: 64 elements, or the first `count` of 64, in sixteens and single elements.
template <class V>
struct Words {
  template <bool ADD, bool FETCH, class T, class Scale>
  DROPKIT_INLINE void word(const T* x, const T* r, T* y, const Isa::Keep& keep, Scale s) {
    for (int j = 0; j < 4; ++j) {
      if (FETCH) __builtin_prefetch(reinterpret_cast<const char*>(x + 16 * j) + 4096);
      V::template step<ADD>(x + 16 * j, ADD ? r + 16 * j : nullptr, y + 16 * j, keep.dropped[j], s);
    }
  }
  template <bool ADD, class T, class Scale>
  DROPKIT_INLINE void from_bytes(const T* x, const T* r, T* y, const uint8_t* keep, Scale s) {
    word<ADD, true>(x, r, y, Isa::load_bytes(keep), s);
  }
  template <bool ADD, class T, class Scale>
  DROPKIT_INLINE void part(const T* x, const T* r, T* y, const Isa::Keep& keep, const uint8_t* kept, int count,
                           Scale s) {
    int j = 0;
    for (; j + 16 <= count; j += 16)
      V::template step<ADD>(x + j, ADD ? r + j : nullptr, y + j, keep.dropped[j / 16], s);
    for (; j < count; ++j) put<T, ADD>(kept[j] != 0, x + j, ADD ? r + j : nullptr, y + j, V::lane(s));
  }
};

// The three types computed in float32 differ in how four elements are loaded and stored.
template <class V, class T_>
struct FourByFour : Words<V> {
  using T = T_;
  using Scale = float32x4_t;
  DROPKIT_INLINE Scale spread(double s) { return vdupq_n_f32(static_cast<float>(s)); }
  DROPKIT_INLINE float lane(Scale s) { return vgetq_lane_f32(s, 0); }
  template <bool ADD>
  DROPKIT_INLINE void step(const T* x, const T* r, T* y, uint8x16_t dropped, Scale s) {
    for (int j = 0; j < 4; ++j) {
      const uint32x4_t product = vreinterpretq_u32_f32(vmulq_f32(V::load(x + 4 * j), s));
      float32x4_t v = vreinterpretq_f32_u32(vbicq_u32(product, widened(dropped, j)));
      if (ADD) v = vaddq_f32(V::load(r + 4 * j), v);
      V::store(y + 4 * j, v);
    }
  }
};

struct VFloat : FourByFour<VFloat, float> {
  DROPKIT_INLINE float32x4_t load(const T* p) { return vld1q_f32(p); }
  DROPKIT_INLINE void store(T* p, float32x4_t v) { vst1q_f32(p, v); }
};

struct VHalf : FourByFour<VHalf, Half> {
  DROPKIT_INLINE float32x4_t load(const T* p) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(&p->bits))); }
  DROPKIT_INLINE void store(T* p, float32x4_t v) { vst1_u16(&p->bits, vreinterpret_u16_f16(vcvt_f16_f32(v))); }
  DROPKIT_INLINE void widen(const T* x, float* to) {  // sixteen
    for (int j = 0; j < 16; j += 4) vst1q_f32(to + j, load(x + j));
  }
  DROPKIT_INLINE void narrow(const float* v, T* y) {
    for (int j = 0; j < 16; j += 4) store(y + j, vld1q_f32(v + j));
  }
};

struct VBFloat16 : FourByFour<VBFloat16, BFloat16> {
  DROPKIT_INLINE float32x4_t load(const T* p) { return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(&p->bits), 16)); }
  DROPKIT_INLINE void store(T* p, float32x4_t v) {
    const uint32x4_t u = vreinterpretq_u32_f32(v), up = vandq_u32(vshrq_n_u32(u, 16), vdupq_n_u32(1));
    const uint32x4_t sum = vaddq_u32(vaddq_u32(u, vdupq_n_u32(0x7FFF)), up);
    const uint32x4_t safe = vbslq_u32(vceqq_f32(v, v), sum, vdupq_n_u32(0x7FC00000));
    vst1_u16(&p->bits, vshrn_n_u32(safe, 16));
  }
};

struct VDouble : Words<VDouble> {
  using T = double;
  using Scale = float64x2_t;
  DROPKIT_INLINE Scale spread(double s) { return vdupq_n_f64(s); }
  DROPKIT_INLINE double lane(Scale s) { return vgetq_lane_f64(s, 0); }
  template <bool ADD>
  DROPKIT_INLINE void step(const T* x, const T* r, T* y, uint8x16_t dropped, Scale s) {
    for (int j = 0; j < 8; ++j) {
      const int32x4_t four = vreinterpretq_s32_u32(widened(dropped, j / 2));
      const int64x2_t two = j % 2 == 0 ? vmovl_s32(vget_low_s32(four)) : vmovl_s32(vget_high_s32(four));
      const uint64x2_t product = vreinterpretq_u64_f64(vmulq_f64(vld1q_f64(x + 2 * j), s));
      float64x2_t v = vreinterpretq_f64_u64(vbicq_u64(product, vreinterpretq_u64_s64(two)));
      if (ADD) v = vaddq_f64(vld1q_f64(r + 2 * j), v);
      vst1q_f64(y + 2 * j, v);
    }
  }
};

}  // namespace neon
}  // namespace dropkit
