// The loop over moments for each instruction set, and the choice among them.
#include "moments.h"

#include <cmath>
#include <cstring>

#include "kernels.h"

#define DROPKIT_NS scalar_moments
#define DROPKIT_FN
#include "moments_loops.h"
#undef DROPKIT_NS
#undef DROPKIT_FN

#if defined(__x86_64__) && defined(__GNUC__)
#define DROPKIT_NS avx2_moments
#define DROPKIT_FN __attribute__((target("avx2")))
#include "moments_loops.h"
#undef DROPKIT_NS
#undef DROPKIT_FN

#define DROPKIT_NS avx512_moments
#ifdef __clang__
#define DROPKIT_FN __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq")))
#else
#define DROPKIT_FN __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,prefer-vector-width=512")))
#endif
#include "moments_loops.h"
#undef DROPKIT_NS
#undef DROPKIT_FN
#endif

namespace dropkit {

const Rectifiers& active_rectifiers() {
#if defined(__x86_64__) && defined(__GNUC__)
  const char* name = active_kernels().name;
  if (std::strcmp(name, "avx512") == 0) return avx512_moments::kTable;
  if (std::strcmp(name, "avx2") == 0) return avx2_moments::kTable;
#endif
  return scalar_moments::kTable;  // on ARM the compiler's baseline is NEON
}

}  // namespace dropkit
