// NEON, part of every 64-bit Arm processor: 64 keep flags are four registers of bytes.
#include "kernels.h"

#if defined(__aarch64__) && defined(__GNUC__) && !defined(__AARCH64EB__)
#define DROPKIT_NS neon
#define DROPKIT_FN
#define DROPKIT_INLINE static inline __attribute__((always_inline))
#include "neon_philox.h"
#include "neon_elements.h"
#include "vector_runs.h"
#endif

namespace dropkit {

const Kernels* neon_kernels() {
#ifdef DROPKIT_NS
  return &neon::kTable;
#else
  return nullptr;
#endif
}

}  // namespace dropkit
