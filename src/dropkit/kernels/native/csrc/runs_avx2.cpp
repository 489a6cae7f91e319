// AVX2: 64 keep flags are 64 bytes, widened to the element's size to clear the dropped lanes.
#include "kernels.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <cpuid.h>

#define DROPKIT_NS avx2
#define DROPKIT_FN __attribute__((target("avx2,f16c,prfchw")))
#define DROPKIT_INLINE DROPKIT_FN static inline __attribute__((always_inline))
#include "avx2_philox.h"
#include "avx2_elements.h"
#include "vector_runs.h"
#endif

namespace dropkit {

const Kernels* avx2_kernels() {
#ifdef DROPKIT_NS
  unsigned a, b, c = 0, d;
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C)) return &avx2::kTable;
#endif
  return nullptr;
}

}  // namespace dropkit
