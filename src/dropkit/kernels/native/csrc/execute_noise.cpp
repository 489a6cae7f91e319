// Lays noise over strided tensors: the plan is a mask's, with four bytes an element in place of one, and what an element
// meets is a factor in place of a choice.
#include <algorithm>
#include <cstring>

#include "element.h"
#include "plan.h"
#include "walk.h"

namespace dropkit {
namespace {

constexpr int64_t kLine = 1024;     // noise values at a time: they stay in the nearest cache
constexpr int64_t kBuffer = 16384;  // elements of a tile, as in plan.cpp

struct Runner {
  const NoisePlan& noise;
  const Plan& p;
  const Kernels& k;
  const Dim& inner;
  bool unit;

  explicit Runner(const NoisePlan& n)
      : noise(n), p(n.plan), k(active_kernels()), inner(p.dim[p.dims - 1]), unit(inner.x == 1 && inner.y == 1) {}

  void make(uint64_t n, int64_t count, float* e) const { k.noise(p.spec, n, count, noise.law, e); }

  template <class T>
  void strided(const Place& at, int64_t count, const float* e) const {
    using C = typename Element<T>::Compute;
    const T* xs = static_cast<const T*>(p.x) + at.x;
    T* ys = static_cast<T*>(p.y) + at.y;
    const C s = static_cast<C>(noise.strength);
    for (int64_t i = 0; i < count; ++i)
      Element<T>::store(ys + i * inner.y, Element<T>::load(xs + i * inner.x) * (s * C(e[i]) + C(1)));
  }

  const void* x(const Place& at) const { return static_cast<const char*>(p.x) + at.x * dtype_size(p.dtype); }
  void* y(const Place& at) const { return static_cast<char*>(p.y) + at.y * dtype_size(p.dtype); }

  // A unit-stride run all of whose elements share one value: kept elements of a mask, with the factor as their scale.
  void shared(const Place& at, int64_t count, float e) const {
    static constexpr uint8_t kKept = 1;
    const double factor = p.dtype == kFloat64 ? noise.strength * e + 1 : float(noise.strength) * e + 1.0f;
    k.rows[p.dtype][0]({&kKept, 0, 1, count, x(at), nullptr, y(at), 0, 0, 0, 1, factor});
  }

  // A run along the last dimension with its noise.
  void multiply(const Place& at, int64_t count, const float* e) const {
    if (unit) return k.multiply[p.dtype](e, count, x(at), y(at), noise.strength);
    switch (p.dtype) {
      case kFloat32:
        return strided<float>(at, count, e);
      case kFloat64:
        return strided<double>(at, count, e);
      case kFloat16:
        return strided<Half>(at, count, e);
      default:
        return strided<BFloat16>(at, count, e);
    }
  }
};

void direct(const Runner& run, Place at, int64_t count) {
  alignas(64) float e[kLine];
  for (int64_t m; count > 0; count -= m) {
    m = std::min(count, kLine);
    run.make(run.p.first + static_cast<uint64_t>(at.mask), m, e);
    run.multiply(at, m, e);
    at.move(run.inner, m);
  }
}

// The noise of `count` elements along the last dimension, from the table.
void look_up(const Runner& run, const Place& at, int64_t count, float* e) {
  const float* from = run.noise.table + at.table;
  const int64_t step = run.inner.table;
  if (step == 0) return std::fill(e, e + count, *from);
  for (int64_t i = 0; i < count; ++i) e[i] = from[i * step];
}

// Short rows that follow each other in memory: their noise is written out so that the loops see long runs.
void short_rows(const Runner& run, Place at, const Dim& outer, int64_t rows) {
  alignas(64) float e[kLine];
  const int64_t size = run.inner.size, at_once = kLine / size;
  for (int64_t m; rows > 0; rows -= m) {
    m = std::min(rows, at_once);
    Place row = at;
    for (int64_t j = 0; j < m; ++j, row.move(outer, 1)) look_up(run, row, size, e + j * size);
    run.multiply(at, m * size, e);
    at = row;
  }
}

void one_row(const Runner& run, Place at, int64_t columns) {
  const float* from = run.noise.table + at.table;
  if (run.inner.table == 1) return run.multiply(at, columns, from);
  if (run.inner.table == 0 && run.unit) return run.shared(at, columns, *from);
  alignas(64) float e[kLine];
  for (int64_t i = 0, m; i < columns; i += m) {
    m = std::min(columns - i, kLine);
    if (i == 0 || run.inner.table != 0) look_up(run, at, m, e);  // one value for all serves again
    run.multiply(at, m, e);
    at.move(run.inner, m);
  }
}

void table_piece(const Runner& run, Place at, int64_t rows, int64_t columns) {
  const Dim outer = run.p.dims > 1 ? run.p.dim[run.p.dims - 2] : Dim{1, 0, 0, 0, 0, 0};
  const bool joined = run.unit && columns == run.inner.size && outer.x == columns && outer.y == columns;
  if (joined && rows > 1 && columns <= 64) return short_rows(run, at, outer, rows);
  for (int64_t j = 0; j < rows; ++j, at.move(outer, 1)) one_row(run, at, columns);
}

// to[j][i] = from[i][j], in blocks that the nearest cache holds.
void transpose(const float* from, int64_t rows, int64_t columns, float* to) {
  constexpr int64_t kSide = 16;
  for (int64_t i = 0; i < rows; i += kSide) {
    for (int64_t j = 0; j < columns; j += kSide) {
      const int64_t last_row = std::min(rows, i + kSide), last_column = std::min(columns, j + kSide);
      for (int64_t b = j; b < last_column; ++b) {
        for (int64_t a = i; a < last_row; ++a) to[b * rows + a] = from[a * columns + b];
      }
    }
  }
}

void tile_piece(const Runner& run, Place at, int64_t rows, int64_t columns) {
  alignas(64) float lines[kBuffer], turned[kBuffer];
  const Plan& p = run.p;
  const uint64_t n = p.first + static_cast<uint64_t>(at.mask);
  const bool along = p.across < 0 && run.inner.mask == 1;
  if (along || run.inner.mask == rows) {  // the values of the tile follow each other in the noise
    run.make(n, rows * columns, lines);
  } else {
    for (int64_t i = 0; i < columns; ++i) run.make(n + static_cast<uint64_t>(i * run.inner.mask), rows, lines + i * rows);
  }
  if (rows > 1) transpose(lines, columns, rows, turned);
  for (int64_t j = 0; j < rows; ++j) {
    run.multiply(at, columns, rows > 1 ? turned + j * columns : lines);
    if (p.across >= 0) at.move(p.dim[p.across], 1);
  }
}

}  // namespace

void execute_noise(const NoisePlan& noise, int64_t begin, int64_t end) {
  const Runner run(noise);
  const Plan& p = run.p;
  if (p.way == Way::kDirect) {
    return walk_runs(p, begin, end, [&](const Place& at, int64_t count) { direct(run, at, count); });
  }
  for (int64_t piece = begin; piece < end; ++piece) {
    if (p.way == Way::kTable)
      walk_piece(p, piece, p.dims - 2, [&](const Place& at, int64_t m, int64_t n) { table_piece(run, at, m, n); });
    if (p.way == Way::kTiles)
      walk_piece(p, piece, p.across, [&](const Place& at, int64_t m, int64_t n) { tile_piece(run, at, m, n); });
  }
}

void fill_noise_box(const Spec& spec, const Box& box, Law law, int64_t begin, int64_t end, float* out) {
  const Kernels& k = active_kernels();
  walk_box(box, begin, end,
           [&](uint64_t n, int64_t i, int64_t count) { k.noise(spec, n, count, law, out + i - begin); });
}

}  // namespace dropkit
