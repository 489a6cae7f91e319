// Runs common to the vector instruction sets. Included once by each runs_<isa>.cpp, after it has defined
//   DROPKIT_FN, DROPKIT_INLINE   function attributes that switch the instruction set on,
//   and, in the namespace DROPKIT_NS, a struct Isa and the element types VFloat, VDouble, VHalf and VBFloat16.
//
// One loop body generates the mask of a group and copies the group before it between the generator's rounds: the
// processor fills the generator's latency with the copy and the copy's misses with the generator (one thread, EPYC
// 9005, L2: 43 cycles for 256 floats against 54 where the two only follow each other and 39 + 29 where they are apart).
// Ties are guessed kept and settled together at the end of a tile, without a branch that depends on a random bit: a
// mispredicted one would throw away all the work in flight. A tie that turns out dropped is overwritten while its line
// is still in the nearest cache.
#pragma once
#include <algorithm>

#include "noise_loops.h"
#include "runs_common.h"

namespace dropkit {
namespace DROPKIT_NS {
namespace {

constexpr int kTile = 4096 / Isa::kGroup * Isa::kGroup;  // elements whose ties are settled together

struct Ties {
  uint64_t word[kTile + 1], at[kTile + 8];  // every element can be a tie; places are read by whole eights
};

// Lists in t.at the places of the bits set in `words` words, the first of which stands for element `first`; returns how
// many. No branch depends on a random bit.
DROPKIT_INLINE int list_ties(const uint64_t* equal, int words, uint64_t first, Ties& t) {
  int count = 0;
  for (int w = 0; w < words; ++w) {
    t.word[count] = equal[w];
    t.at[count] = first + 64 * static_cast<uint64_t>(w);
    count += equal[w] != 0;
  }
  for (int i = 0; i < count; ++i) {  // takes the lowest bit of each word; a word with more goes to the list's end
    const uint64_t word = t.word[i], rest = word & (word - 1), from = t.at[i];
    t.word[count] = rest;
    t.at[count] = from;
    t.at[i] = from + static_cast<uint64_t>(__builtin_ctzll(word));
    count += rest != 0;
  }
  return count;
}

// Where masked data goes. Sinks hand over 64 elements at a time, as the instruction set's own form of 64 keep flags.
template <class V, bool ADD, bool FETCH>
struct DataSink {
  using T = typename V::T;
  const T *x, *r;
  T* y;
  typename V::Scale scale;
  DROPKIT_INLINE void word(const DataSink& d, int64_t i, const Isa::Keep& keep) {
    V::template word<ADD, FETCH>(d.x + i, ADD ? d.r + i : nullptr, d.y + i, keep, d.scale);
  }
  // Stores a dropped element's value at the places whose bit is set; for the others it is stored where nobody looks.
  DROPKIT_INLINE void drop(const DataSink& d, const uint64_t* at, uint32_t dropped) {
    T nowhere;
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) {
      put<T, ADD>(false, nullptr, ADD ? d.r + at[j] : nullptr, dropped >> j & 1 ? d.y + at[j] : &nowhere, 0);
    }
  }
};

struct MaskSink {
  uint8_t* keep;
  DROPKIT_INLINE void word(const MaskSink& m, int64_t i, const Isa::Keep& keep) { Isa::store_bytes(m.keep + i, keep); }
  DROPKIT_INLINE void drop(const MaskSink& m, const uint64_t* at, uint32_t dropped) {
    uint8_t nowhere;
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) *(dropped >> j & 1 ? m.keep + at[j] : &nowhere) = 0;
  }
};

template <class Sink>
DROPKIT_INLINE void settle(const Spec& s, uint64_t n0, const uint64_t* equal, int words, uint64_t first, Ties& t,
                           const Sink& sink) {
  const int count = list_ties(equal, words, first, t);
  for (int j = count; j < count + 8; ++j) t.at[j] = first;  // fills up the last eight; never dropped, see below
  for (int i = 0; i < count; i += 8) {
    const uint32_t live = count - i < 8 ? (1u << (count - i)) - 1u : 0xFFu;
    Sink::drop(sink, t.at + i, ~Isa::ties_kept(s, n0, t.at + i) & live);
  }
}

// The copying of one group, in eight parts, for the generator to do between its rounds.
template <class Sink>
struct Copy {
  const Sink& sink;
  int64_t i;
  const Isa::Keep* keep;
  DROPKIT_INLINE void part(const Copy& c, int j) {
    constexpr int kWords = Isa::kGroup / 64;
#pragma GCC unroll 8
    for (int q = 0; q < kWords;
         ++q) {  // all of them, so that the loop is unrolled whatever j is: it would not be otherwise
      if (q >= j * kWords / 8 && q < (j + 1) * kWords / 8) Sink::word(c.sink, c.i + 64 * q, c.keep[q]);
    }
  }
};
struct NoCopy {
  DROPKIT_INLINE void part(const NoCopy&, int) {}
};

template <bool REFINE>
DROPKIT_INLINE void flags(const Isa::Bytes* v, uint8_t limit, Isa::Keep* keep, uint64_t* equal) {
#pragma GCC unroll 8
  for (int q = 0; q < Isa::kGroup / 64; ++q) {
    if (REFINE) equal[q] = Isa::equal(v[q], limit);
    keep[q] = Isa::template above<REFINE>(v[q], limit);
  }
}

// `count` is a positive multiple of Isa::kGroup and n0 of kBlock.
template <class Sink, bool REFINE>
DROPKIT_INLINE void groups(const Spec& s, uint64_t n0, int64_t count, const Sink& sink) {
  const uint64_t block = n0 / kBlock;
  const Setup setup = prepare(s, static_cast<uint32_t>(block >> 32));
  Ties ties;
  uint64_t equal[kTile / 64];
  Isa::Bytes v[Isa::kGroup / 64];
  Isa::Keep keep[Isa::kGroup / 64];
  Isa::blocks(setup, static_cast<uint32_t>(block), v, NoCopy{});
  flags<REFINE>(v, s.limit, keep, equal);
  for (int64_t i = Isa::kGroup; i < count; i += Isa::kGroup) {
    Isa::blocks(setup, static_cast<uint32_t>(block + static_cast<uint64_t>(i) / kBlock), v,
                Copy<Sink>{sink, i - Isa::kGroup, keep});
    if (REFINE && i % kTile == 0) settle(s, n0, equal, kTile / 64, static_cast<uint64_t>(i - kTile), ties, sink);
    flags<REFINE>(v, s.limit, keep, equal + i % kTile / 64);
  }
#pragma GCC unroll 8
  for (int j = 0; j < 8; ++j) Copy<Sink>::part({sink, count - Isa::kGroup, keep}, j);
  const int64_t settled = (count - 1) / kTile * kTile;
  if (REFINE)
    settle(s, n0, equal, static_cast<int>((count - settled) / 64), static_cast<uint64_t>(settled), ties, sink);
}

DROPKIT_FN void fill_groups(const Spec& s, uint64_t n0, int64_t count, uint8_t* keep) {
  const MaskSink sink{keep};
  s.refine ? groups<MaskSink, true>(s, n0, count, sink) : groups<MaskSink, false>(s, n0, count, sink);
}

// Any start, any length: whole groups in place, the rest by way of a buffer that starts on a block.
DROPKIT_FN void fill(const Spec& s, uint64_t n0, int64_t count, uint8_t* keep) {
  alignas(64) uint8_t buffer[Isa::kGroup];
  while (count > 0) {
    const int64_t lead = static_cast<int64_t>(n0 % kBlock);
    int64_t done = lead ? 0 : count / Isa::kGroup * Isa::kGroup;
    if (done) {
      fill_groups(s, n0, done, keep);
    } else {
      done = count < Isa::kGroup - lead ? count : Isa::kGroup - lead;
      fill_groups(s, n0 - static_cast<uint64_t>(lead), Isa::kGroup, buffer);
      std::memcpy(keep, buffer + lead, static_cast<size_t>(done));
    }
    n0 += static_cast<uint64_t>(done);
    keep += done;
    count -= done;
  }
}

template <class V, bool ADD, bool FETCH>
DROPKIT_INLINE DataSink<V, ADD, FETCH> sink_of(const void* x, const void* r, void* y, double scale) {
  using T = typename V::T;
  return {static_cast<const T*>(x), static_cast<const T*>(r), static_cast<T*>(y), V::spread(scale)};
}

template <class V, bool ADD>
DROPKIT_FN void select(const uint8_t* keep, int64_t count, const void* x, const void* r, void* y, double scale) {
  const auto d = sink_of<V, ADD, true>(x, r, y, scale);
  int64_t i = 0;
  for (; i + 64 <= count; i += 64)
    V::template from_bytes<ADD>(d.x + i, ADD ? d.r + i : nullptr, d.y + i, keep + i, d.scale);
  if (i == count) return;
  alignas(64) uint8_t rest[64] = {};
  std::memcpy(rest, keep + i, static_cast<size_t>(count - i));
  V::template part<ADD>(d.x + i, ADD ? d.r + i : nullptr, d.y + i, Isa::load_bytes(rest), rest,
                        static_cast<int>(count - i), d.scale);
}

template <class V, bool ADD>
DROPKIT_FN void rows(const Rows& a) {
  static constexpr uint8_t kBytes[2][64] = {
      {0}, {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
            1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}};
  using T = typename V::T;
  auto d = sink_of<V, ADD, true>(a.x, a.r, a.y, a.scale);
  alignas(64) T same[64];
  for (int64_t j = 0; j < a.rows; ++j) {
    const uint8_t* bytes = kBytes[a.keep[j * a.keep_step] != 0];
    const Isa::Keep keep = Isa::load_bytes(bytes);
    if (ADD && a.r_inner == 0) std::fill_n(same, 64, *d.r);
    const T* r = ADD && a.r_inner == 0 ? same : d.r;
    int64_t i = 0;
    for (; i + 64 <= a.count; i += 64)
      V::template word<ADD, true>(d.x + i, ADD ? r + i * a.r_inner : nullptr, d.y + i, keep, d.scale);
    if (i < a.count)
      V::template part<ADD>(d.x + i, ADD ? r + i * a.r_inner : nullptr, d.y + i, keep, bytes,
                            static_cast<int>(a.count - i), d.scale);
    d.x += a.x_step;
    if (ADD) d.r += a.r_step;
    d.y += a.y_step;
  }
}

template <class V, bool ADD>
DROPKIT_FN void apply(const Spec& s, uint64_t n0, int64_t count, const void* x, const void* r, void* y) {
  using T = typename V::T;
  alignas(64) uint8_t keep[Isa::kGroup];
  while (count > 0) {
    const int64_t lead = static_cast<int64_t>(n0 % kBlock);
    int64_t done = lead ? 0 : count / Isa::kGroup * Isa::kGroup;
    if (done) {
      using Sink = DataSink<V, ADD, true>;
      const Sink d = sink_of<V, ADD, true>(x, r, y, s.scale);
      s.refine ? groups<Sink, true>(s, n0, done, d) : groups<Sink, false>(s, n0, done, d);
    } else {
      const int64_t whole =
          Isa::kGroup - lead;  // what one buffer holds; if that is not the end, stop at the next block's start
      done = count <= whole ? count : kBlock - lead;
      fill_groups(s, n0 - static_cast<uint64_t>(lead), Isa::kGroup, keep);
      select<V, ADD>(keep + lead, done, x, r, y, s.scale);
    }
    n0 += static_cast<uint64_t>(done);
    count -= done;
    x = ahead<T>(x, done);
    r = ahead<T>(r, done);
    y = ahead<T>(y, done);
  }
}

// Words of noise: the generator's, in order. A group more than needed may be written.
struct Source {
  DROPKIT_INLINE void words(const Spec&, const Setup& setup, uint64_t block, int64_t count, uint32_t* words) {
    Isa::Bytes v[Isa::kGroup / 64];
    for (int64_t i = 0; i < count; i += Isa::kGroup / 4) {
      Isa::blocks(setup, static_cast<uint32_t>(block + static_cast<uint64_t>(i) / kNoiseBlock), v, NoCopy{});
      std::memcpy(words + i, v, sizeof v);
    }
  }
};

// Compilers do not vectorise the conversions of this type.
DROPKIT_FN void multiply_halves(const float* e, int64_t count, const void* x, void* y, double strength) {
  const Half* xs = static_cast<const Half*>(x);
  Half* ys = static_cast<Half*>(y);
  const float s = static_cast<float>(strength);
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) {
    alignas(64) float v[16];
    VHalf::widen(xs + i, v);
    for (int j = 0; j < 16; ++j) v[j] *= s * e[i + j] + 1.0f;
    VHalf::narrow(v, ys + i);
  }
  multiply<Half>(e + i, count - i, xs + i, ys + i, strength);
}

#define DROPKIT_ROW(F)                                                                                             \
  {                                                                                                                \
    {F<VFloat, false>, F<VFloat, true>}, {F<VDouble, false>, F<VDouble, true>}, {F<VHalf, false>, F<VHalf, true>}, \
        {F<VBFloat16, false>, F<VBFloat16, true>},                                                                 \
  }
const Kernels kTable = {Isa::kName, fill, DROPKIT_ROW(apply), DROPKIT_ROW(select), DROPKIT_ROW(rows), noise_run<Source>,
                        {multiply<float>, multiply<double>, multiply_halves, multiply<BFloat16>}};
#undef DROPKIT_ROW

}  // namespace
}  // namespace DROPKIT_NS
}  // namespace dropkit
