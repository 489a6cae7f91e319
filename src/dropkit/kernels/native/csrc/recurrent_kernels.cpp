// The loops of recurrent cells for each instruction set, and the choice among them.
#include "recurrent.h"

#include <cmath>
#include <cstring>

#include "kernels.h"

#define DROPKIT_NS scalar_cells
#define DROPKIT_FN
#include "recurrent_loops.h"
#undef DROPKIT_NS
#undef DROPKIT_FN

#if defined(__x86_64__) && defined(__GNUC__)
#define DROPKIT_NS avx2_cells
#define DROPKIT_FN __attribute__((target("avx2")))
#include "recurrent_loops.h"
#undef DROPKIT_NS
#undef DROPKIT_FN

#define DROPKIT_NS avx512_cells
#ifdef __clang__
#define DROPKIT_FN __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq")))
#else
#define DROPKIT_FN __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,prefer-vector-width=512")))
#endif
#include "recurrent_loops.h"
#undef DROPKIT_NS
#undef DROPKIT_FN
#endif

namespace dropkit {

const RecurrentKernels& active_recurrent_kernels() {
#if defined(__x86_64__) && defined(__GNUC__)
  const char* name = active_kernels().name;
  if (std::strcmp(name, "avx512") == 0) return avx512_cells::kTable;
  if (std::strcmp(name, "avx2") == 0) return avx2_cells::kTable;
#endif
  return scalar_cells::kTable;  // on ARM the compiler's baseline is NEON
}

}  // namespace dropkit
