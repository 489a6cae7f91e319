// AVX-512: 64 keep flags are a 64-bit mask, and the vectors are masked with pieces of it.
#include "kernels.h"

#if defined(__x86_64__) && defined(__GNUC__)
#ifndef __clang__  // GCC 12 takes the "undefined" operands of its own intrinsics for uninitialised variables
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#define DROPKIT_NS avx512
#define DROPKIT_FN __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,bmi2,prfchw")))
#define DROPKIT_INLINE DROPKIT_FN static inline __attribute__((always_inline))
#include "avx512_philox.h"
#include "avx512_elements.h"
#include "vector_runs.h"
#endif

namespace dropkit {

const Kernels* avx512_kernels() {
#ifdef DROPKIT_NS
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("bmi2")) {
    return &avx512::kTable;
  }
#endif
  return nullptr;
}

}  // namespace dropkit
