// Which elements a piece of a plan or a stretch of a box holds: shared by what lays masks and what lays noise.
#pragma once
#include <algorithm>

#include "plan.h"

namespace dropkit {

struct Place {  // one element: its offsets in the three tensors, in elements, and its places in the mask
  int64_t x = 0, r = 0, y = 0, mask = 0, table = 0;
  void move(const Dim& d, int64_t by) {
    x += d.x * by;
    r += d.r * by;
    y += d.y * by;
    mask += d.mask * by;
    table += d.table * by;
  }
};

// Way::kDirect: f(place, count) for the runs along the last dimension that pieces [begin, end) are made of.
template <class F>
void walk_runs(const Plan& p, int64_t begin, int64_t end, const F& f) {
  const Dim& inner = p.dim[p.dims - 1];
  begin *= kPiece;
  end = std::min(end * kPiece, p.elements);
  while (begin < end) {
    Place at;
    int64_t rest = begin / inner.size;
    const int64_t column = begin % inner.size, count = std::min(inner.size - column, end - begin);
    at.move(inner, column);
    for (int d = p.dims - 2; d >= 0; --d) {
      at.move(p.dim[d], rest % p.dim[d].size);
      rest /= p.dim[d].size;
    }
    f(at, count);
    begin += count;
  }
}

// The other ways: f(place, rows, columns) for the first element and the extent of a piece that plan.cpp's `cut` made.
template <class F>
void walk_piece(const Plan& p, int64_t piece, int row, const F& f) {
  Place at;
  int64_t rows = 1, columns = 1;
  for (int d = p.dims - 1; d >= 0; --d) {
    const int64_t by = d == p.dims - 1 ? p.columns : d == row ? p.rows : 1;
    const int64_t count = (p.dim[d].size + by - 1) / by, start = piece % count * by;
    const int64_t extent = std::min(by, p.dim[d].size - start);
    piece /= count;
    at.move(p.dim[d], start);
    if (d == p.dims - 1)
      columns = extent;
    else if (d == row)
      rows = extent;
  }
  f(at, rows, columns);
}

// f(n, i, count) for stretches of consecutive global indices n, n + 1 .. that elements i, i + 1 .. of [begin, end) of a
// prepared box have.
template <class F>
void walk_box(const Box& b, int64_t begin, int64_t end, const F& f) {
  const bool runs = b.dims > 0 && b.step[b.dims - 1] == 1;
  const int64_t length = runs ? b.size[b.dims - 1] : 1;
  for (int64_t i = begin, count; i < end; i += count) {
    int64_t rest = i / length;
    const int64_t column = i % length;
    count = std::min(length - column, end - i);
    uint64_t n = b.first + static_cast<uint64_t>(column);
    for (int d = b.dims - (runs ? 2 : 1); d >= 0; --d) {
      n += static_cast<uint64_t>(rest % b.size[d] * b.step[d]);
      rest /= b.size[d];
    }
    f(n, i, count);
  }
}

}  // namespace dropkit
