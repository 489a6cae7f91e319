// Walks a plan's pieces and hands runs to the instruction set's loops.
#include <algorithm>
#include <cstring>

#include "plan.h"
#include "runs_common.h"
#include "walk.h"

namespace dropkit {
namespace {

constexpr int64_t kBuffer = 16384;

// Runs, cut where the vector loops need them cut.
void fill_run(const Kernels& k, const Spec& s, uint64_t n, int64_t count, uint8_t* keep) {
  while (count > 0) {
    const auto m = static_cast<int64_t>(std::min<uint64_t>(kRunLimit - n % kRunLimit, static_cast<uint64_t>(count)));
    k.fill(s, n, m, keep);
    n += static_cast<uint64_t>(m);
    keep += m;
    count -= m;
  }
}

struct Runner {
  const Plan& p;
  const Kernels& k;
  int64_t width;
  bool add;

  explicit Runner(const Plan& plan)
      : p(plan), k(active_kernels()), width(dtype_size(plan.dtype)), add(plan.r != nullptr) {}

  const void* x(const Place& at) const { return static_cast<const char*>(p.x) + at.x * width; }
  const void* r(const Place& at) const { return add ? static_cast<const char*>(p.r) + at.r * width : nullptr; }
  void* y(const Place& at) const { return static_cast<char*>(p.y) + at.y * width; }
  const Dim& inner() const { return p.dim[p.dims - 1]; }
  bool unit() const { return inner().x == 1 && inner().y == 1 && (!add || inner().r == 1); }
  bool row() const { return unit() || (inner().x == 1 && inner().y == 1 && inner().r == 0); }  // as `rows` takes it

  void apply(Place at, int64_t count) const {
    while (count > 0) {
      const uint64_t n = p.first + static_cast<uint64_t>(at.mask);
      const auto m = static_cast<int64_t>(std::min<uint64_t>(kRunLimit - n % kRunLimit, static_cast<uint64_t>(count)));
      k.apply[p.dtype][add](p.spec, n, m, x(at), r(at), y(at));
      at.move(inner(), m);
      count -= m;
    }
  }

  template <class T>
  void strided(const Place& at, int64_t count, const uint8_t* keep) const {
    const auto s = static_cast<typename Element<T>::Compute>(p.spec.scale);
    const T* xs = static_cast<const T*>(x(at));
    const T* rs = static_cast<const T*>(r(at));
    T* ys = static_cast<T*>(y(at));
    const Dim d = inner();
    if (add) {
      for (int64_t i = 0; i < count; ++i) put<T, true>(keep[i] != 0, xs + i * d.x, rs + i * d.r, ys + i * d.y, s);
    } else {
      for (int64_t i = 0; i < count; ++i) put<T, false>(keep[i] != 0, xs + i * d.x, nullptr, ys + i * d.y, s);
    }
  }

  // A run along the last dimension with its keep bytes.
  void select(const Place& at, int64_t count, const uint8_t* keep) const {
    if (unit()) return k.select[p.dtype][add](keep, count, x(at), r(at), y(at), p.spec.scale);
    switch (p.dtype) {
      case kFloat32:
        return strided<float>(at, count, keep);
      case kFloat64:
        return strided<double>(at, count, keep);
      case kFloat16:
        return strided<Half>(at, count, keep);
      default:
        return strided<BFloat16>(at, count, keep);
    }
  }

  // `rows` rows along dimension `d`, with one flag each, where `row()` holds.
  void uniform_rows(const Place& at, const Dim& d, int64_t rows, int64_t count, const uint8_t* keep,
                    int64_t keep_step) const {
    k.rows[p.dtype][add]({keep, keep_step, rows, count, x(at), r(at), y(at), d.x, d.r, d.y, inner().r,
                          p.spec.scale});
  }

  // A run along the last dimension all of whose elements share a fate.
  void uniform(Place at, int64_t count, bool keep) const {
    if (unit() && !add && p.spec.mode == Mode::kKeepAll) {  // exact, even a signalling NaN
      std::memmove(y(at), x(at), static_cast<size_t>(count * width));
    } else if (unit() && !add && !keep) {  // spares reading x
      std::memset(y(at), 0, static_cast<size_t>(count * width));
    } else {
      uint8_t bytes[1024];
      std::memset(bytes, keep, sizeof bytes);
      if (row()) return uniform_rows(at, inner(), 1, count, bytes, 0);
      for (int64_t i = 0, m; i < count; i += m) {
        m = std::min<int64_t>(count - i, sizeof bytes);
        select(at, m, bytes);
        at.move(inner(), m);
      }
    }
  }
};

// Whether the last dimension's runs follow each other in memory along dimension `d`, as one long run.
bool joined(const Runner& run, const Dim& d) {
  const Dim& i = run.inner();
  return run.unit() && d.x == i.size && d.y == i.size && (!run.add || d.r == i.size);
}

// to[0..count) = value, with up to 31 bytes written past the end: for short rows the library's memset takes longer than
// the data.
inline void spread(uint8_t* to, uint8_t value, int64_t count) {
  const uint64_t word = 0x0101010101010101ull * value, block[4] = {word, word, word, word};
  for (int64_t i = 0; i < count; i += 32) std::memcpy(to + i, block, 32);
}

// Short rows that follow each other in memory: their bytes are written out so that the loops see long runs (64 x 64 x
// 64 pixels of three channels: 105 us against 360).
void short_rows(const Runner& run, Place at, const Dim& outer, int64_t rows) {
  alignas(64) uint8_t keep[4096 + 32];
  const Dim& inner = run.inner();
  const int64_t at_once = std::max<int64_t>(1, (outer.table == 0 ? 512 : 4096) / inner.size);
  int64_t ready = 0;  // rows whose bytes stand in the buffer; a shared row repeats, so these serve again
  for (int64_t done = 0, m; done < rows; done += m) {
    m = std::min(at_once, rows - done);
    if (outer.table != 0) ready = 0;
    for (; ready < m; ++ready) {
      const uint8_t* from = run.p.table + at.table + (outer.table != 0 ? ready * outer.table : 0);
      uint8_t* to = keep + ready * inner.size;
      if (inner.table == 0)
        spread(to, *from, inner.size);
      else if (inner.table == 1)
        std::memcpy(to, from, static_cast<size_t>(inner.size));
      else
        for (int64_t i = 0; i < inner.size; ++i) to[i] = from[i * inner.table];
    }
    run.select(at, m * inner.size, keep);
    at.move(outer, m);
  }
}

void one_row(const Runner& run, Place at, int64_t columns) {
  const Dim& inner = run.inner();
  if (!run.p.table) return run.uniform(at, columns, run.p.spec.mode == Mode::kKeepAll);
  const uint8_t* from = run.p.table + at.table;
  if (inner.table == 0) return run.uniform(at, columns, *from != 0);
  if (inner.table == 1) return run.select(at, columns, from);
  uint8_t keep[1024];
  for (int64_t i = 0, m; i < columns; i += m) {
    m = std::min<int64_t>(columns - i, sizeof keep);
    for (int64_t j = 0; j < m; ++j) keep[j] = from[(i + j) * inner.table];
    run.select(at, m, keep);
    at.move(inner, m);
  }
}

void table_piece(const Runner& run, const Place& at, int64_t rows, int64_t columns) {
  const Dim& inner = run.inner();
  const Dim outer = run.p.dims > 1 ? run.p.dim[run.p.dims - 2] : Dim{1, 0, 0, 0, 0, 0};
  const bool flags = run.p.table && inner.table == 0 && run.row();  // one flag a row
  if (run.p.table && columns == inner.size && rows > 1 && inner.size <= (flags ? 63 : 256) && joined(run, outer)) {
    return short_rows(run, at, outer, rows);
  }
  if (flags && columns < 4096) return run.uniform_rows(at, outer, rows, columns, run.p.table + at.table, outer.table);
  Place row = at;
  for (int64_t j = 0; j < rows; ++j, row.move(outer, 1)) one_row(run, row, columns);
}

// to[j][i] = from[i][j], in blocks of eight by eight bytes held in eight words.
void transpose(const uint8_t* from, int64_t rows, int64_t columns, uint8_t* to) {
  constexpr uint64_t kMask[3] = {0x00FF00FF00FF00FFull, 0x0000FFFF0000FFFFull, 0x00000000FFFFFFFFull};
  const int64_t whole_rows = rows / 8 * 8, whole_columns = columns / 8 * 8;
  for (int64_t i = 0; i < whole_rows; i += 8) {
    for (int64_t j = 0; j < whole_columns; j += 8) {
      uint64_t w[8];
      for (int q = 0; q < 8; ++q) std::memcpy(&w[q], from + (i + q) * columns + j, 8);
      for (int level = 0; level < 3; ++level) {
        const int apart = 1 << level, shift = 8 << level;
        for (int q = 0; q < 8; ++q) {
          if (q & apart) continue;
          const uint64_t swap = ((w[q] >> shift) ^ w[q + apart]) & kMask[level];
          w[q] ^= swap << shift;
          w[q + apart] ^= swap;
        }
      }
      for (int q = 0; q < 8; ++q) std::memcpy(to + (j + q) * rows + i, &w[q], 8);
    }
  }
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = i < whole_rows ? whole_columns : 0; j < columns; ++j) to[j * rows + i] = from[i * columns + j];
  }
}

void tile_piece(const Runner& run, Place at, int64_t rows, int64_t columns) {
  alignas(64) uint8_t lines[kBuffer], keep[kBuffer];
  const Plan& p = run.p;
  const Dim& inner = run.inner();
  const uint64_t n = p.first + static_cast<uint64_t>(at.mask);
  if (p.across < 0 && inner.mask == 1) {
    fill_run(run.k, p.spec, n, columns, keep);
    return run.select(at, columns, keep);
  }
  if (inner.mask == rows) {  // the lines of the tile follow each other in the mask
    fill_run(run.k, p.spec, n, rows * columns, lines);
  } else {
    for (int64_t i = 0; i < columns; ++i) {
      fill_run(run.k, p.spec, n + static_cast<uint64_t>(i * inner.mask), rows, lines + i * rows);
    }
  }
  if (rows > 1) transpose(lines, columns, rows, keep);
  for (int64_t j = 0; j < rows; ++j) {
    run.select(at, columns, rows > 1 ? keep + j * columns : lines);
    if (p.across >= 0) at.move(p.dim[p.across], 1);
  }
}

}  // namespace

void execute(const Plan& p, int64_t begin, int64_t end) {
  const Runner run(p);
  if (p.way == Way::kDirect) {
    return walk_runs(p, begin, end, [&](const Place& at, int64_t count) { run.apply(at, count); });
  }
  for (int64_t piece = begin; piece < end; ++piece) {
    if (p.way == Way::kTable)
      walk_piece(p, piece, p.dims - 2, [&](const Place& at, int64_t m, int64_t n) { table_piece(run, at, m, n); });
    if (p.way == Way::kTiles)
      walk_piece(p, piece, p.across, [&](const Place& at, int64_t m, int64_t n) { tile_piece(run, at, m, n); });
  }
}

void fill_box(const Spec& s, const Box& b, int64_t begin, int64_t end, uint8_t* keep) {
  const Kernels& k = active_kernels();
  walk_box(b, begin, end, [&](uint64_t n, int64_t i, int64_t count) {
    if (s.mode != Mode::kRandom)
      std::memset(keep + i - begin, s.mode == Mode::kKeepAll, static_cast<size_t>(count));
    else
      fill_run(k, s, n, count, keep + i - begin);
  });
}

}  // namespace dropkit
