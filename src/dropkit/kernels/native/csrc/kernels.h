// The table of inner loops. One instruction set fills one table; the plan (plan.h) calls through it and knows no
// intrinsics.
#pragma once
#include <cstddef>
#include <cstdint>

#include "philox.h"

namespace dropkit {

enum DType : int { kFloat32, kFloat64, kFloat16, kBFloat16, kDTypes };
inline int64_t dtype_size(DType t) {
  constexpr int64_t sizes[kDTypes] = {4, 8, 2, 2};
  return sizes[t];
}

// In every loop `x`, `r` and `y` are unit-stride runs of one element type; y may be x. With `r` the value stored is
// r + dropped(x), rounded to the data type once; `r` may be null only in the table's [0] entries.

// keep[i] = 1 if mask index n0 + i is kept, else 0. A run may not cross a multiple of kRunLimit.
using FillFn = void (*)(const Spec&, uint64_t n0, int64_t count, uint8_t* keep);
// y[i] = mask(n0 + i) applied to x[i]. A run may not cross a multiple of kRunLimit.
using ApplyFn = void (*)(const Spec&, uint64_t n0, int64_t count, const void* x, const void* r, void* y);
// y[i] = keep[i] ? x[i] * scale : 0.
using SelectFn = void (*)(const uint8_t* keep, int64_t count, const void* x, const void* r, void* y, double scale);
// Rows whose elements share a fate: y[i] = keep[row * keep_step] ? x[i] * scale : 0. Steps count elements. No branch
// depends on a flag. With `r_inner` 0 a row's residual is one number, which stands at its start.
struct Rows {
  const uint8_t* keep;
  int64_t keep_step, rows, count;
  const void *x, *r;
  void* y;
  int64_t x_step, r_step, y_step, r_inner;
  double scale;
};
using RowsFn = void (*)(const Rows&);

// out[i] = value n0 + i of a law of noise (noise_map.h); the spec is that of noise.
using NoiseFn = void (*)(const Spec&, uint64_t n0, int64_t count, int law, float* out);
// y[i] = x[i] * (1 + strength * e[i]).
using MultiplyFn = void (*)(const float* e, int64_t count, const void* x, void* y, double strength);

struct Kernels {
  const char* name;
  FillFn fill;
  ApplyFn apply[kDTypes][2];  // [type][1] adds the residual
  SelectFn select[kDTypes][2];
  RowsFn rows[kDTypes][2];
  NoiseFn noise;
  MultiplyFn multiply[kDTypes];
};

// 2^32 blocks: inside one such stretch the counter's second word is constant, which the vector loops rely on.
constexpr uint64_t kRunLimit = uint64_t(kBlock) << 32;

const Kernels* scalar_kernels();  // never null
const Kernels* avx2_kernels();    // null where not compiled for this architecture or not supported by this processor
const Kernels* avx512_kernels();
const Kernels* neon_kernels();

// The table in use: the widest supported, or what the environment variable DROPKIT_KERNEL names. Throws std::runtime_error
// where that name is unknown or the processor cannot run it.
const Kernels& active_kernels();

}  // namespace dropkit
