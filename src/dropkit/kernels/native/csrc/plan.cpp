#include "plan.h"

#include <algorithm>

namespace dropkit {
namespace {

constexpr int64_t kTileBytes = 16384;

bool before(const Dim& a, const Dim& b) { return a.y != b.y ? a.y > b.y : a.x > b.x; }

bool continues(const Dim& outer, const Dim& inner, bool shared_fate) {
  const int64_t n = inner.size;
  if (outer.x != inner.x * n || outer.r != inner.r * n || outer.y != inner.y * n) return false;
  return shared_fate || (outer.mask == inner.mask * n && outer.table == inner.table * n);
}

// Sorts into the output's order in memory and merges neighbours that continue each other; leaves at least one
// dimension.
void simplify(Plan& p, bool shared_fate) {
  Dim* end = std::remove_if(p.dim, p.dim + p.dims, [](const Dim& d) { return d.size == 1; });
  std::stable_sort(p.dim, end, before);
  int kept = 0;
  for (Dim* d = p.dim; d != end; ++d) {
    if (kept && continues(p.dim[kept - 1], *d, shared_fate)) {
      const int64_t size = p.dim[kept - 1].size * d->size;
      p.dim[kept - 1] = *d;
      p.dim[kept - 1].size = size;
    } else {
      p.dim[kept++] = *d;
    }
  }
  if (kept == 0) p.dim[kept++] = Dim{1, 1, 1, 1, 1, 0};
  p.dims = kept;
}

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Cuts dimension `row` (-1: none) and the last one.
void cut(Plan& p, int row, int64_t rows, int64_t columns) {
  p.rows = rows;
  p.columns = columns;
  p.pieces = 1;
  for (int d = 0; d < p.dims; ++d) {
    const int64_t by = d == p.dims - 1 ? columns : d == row ? rows : 1;
    p.pieces *= ceil_div(p.dim[d].size, by);
  }
}

void choose_tiles(Plan& p) {
  p.way = Way::kTiles;
  const Dim& inner = p.dim[p.dims - 1];
  p.across = -1;
  for (int d = 0; d < p.dims - 1; ++d) {
    if (p.dim[d].mask == 1) p.across = d;
  }
  const int64_t rows = p.across < 0 ? 1 : std::min<int64_t>(256, p.dim[p.across].size);
  cut(p, p.across, rows, std::min(inner.size, kTileBytes / rows));
}

}  // namespace

void prepare_plan(Plan& p) {
  p.needs_table = false;
  p.table = nullptr;
  p.elements = 1;
  for (int d = 0; d < p.dims; ++d) p.elements *= p.dim[d].size;
  if (p.elements == 0) {
    p.way = Way::kNothing;
    p.pieces = 0;
    return;
  }
  const bool fixed = p.spec.mode != Mode::kRandom;
  simplify(p, fixed);
  const Dim& inner = p.dim[p.dims - 1];
  const bool shared = std::any_of(p.dim, p.dim + p.dims, [](const Dim& d) { return d.mask == 0; });
  const bool unit = inner.x == 1 && inner.y == 1 && (!p.r || inner.r == 1);
  if (fixed || shared) {
    p.way = Way::kTable;
    p.needs_table = !fixed;
    cut(p, p.dims - 2, std::max<int64_t>(1, kPiece / inner.size), std::min(inner.size, 2 * kPiece));
  } else if (unit && inner.mask == 1) {
    p.way = Way::kDirect;
    p.pieces = ceil_div(p.elements, kPiece);
  } else {
    choose_tiles(p);
  }
}

void prepare_box(Box& b) {
  int kept = 0;
  for (int d = 0; d < b.dims; ++d) {
    if (b.size[d] == 1) continue;
    if (kept && b.step[kept - 1] == b.step[d] * b.size[d]) {
      b.size[kept - 1] *= b.size[d];
      b.step[kept - 1] = b.step[d];
    } else {
      b.size[kept] = b.size[d];
      b.step[kept++] = b.step[d];
    }
  }
  b.dims = kept;
}

}  // namespace dropkit
