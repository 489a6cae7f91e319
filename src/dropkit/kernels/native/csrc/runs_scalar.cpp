#include "noise_loops.h"
#include "runs_common.h"

namespace dropkit {
namespace {

template <class T, bool ADD>
void apply(const Spec& s, uint64_t n0, int64_t count, const void* x, const void* r, void* y) {
  constexpr int64_t kTile = 1024;
  uint8_t keep[kTile];
  for (int64_t i = 0; i < count; i += kTile) {
    const int64_t m = count - i < kTile ? count - i : kTile;
    fill_scalar(s, n0 + static_cast<uint64_t>(i), m, keep);
    select_scalar<T, ADD>(keep, m, ahead<T>(x, i), ahead<T>(r, i), ahead<T>(y, i), s.scale);
  }
}

struct Source {
  static void words(const Spec& s, const Setup&, uint64_t block, int64_t count, uint32_t* words) {
    for (int64_t i = 0; i < count; i += kNoiseBlock, ++block) {
      const Words w = mask_block(s, block);
      std::memcpy(words + i, w.w, sizeof w.w);
    }
  }
};

#define DROPKIT_ROW(F)                                                                                       \
  {                                                                                                          \
    {F<float, false>, F<float, true>}, {F<double, false>, F<double, true>}, {F<Half, false>, F<Half, true>}, \
        {F<BFloat16, false>, F<BFloat16, true>},                                                             \
  }
const Kernels kTable = {"scalar", fill_scalar, DROPKIT_ROW(apply), DROPKIT_ROW(select_scalar),
                        DROPKIT_ROW(rows_scalar), noise_run<Source>,
                        {multiply<float>, multiply<double>, multiply<Half>, multiply<BFloat16>}};

}  // namespace

const Kernels* scalar_kernels() { return &kTable; }

}  // namespace dropkit
