// How a mask is laid over strided tensors: which runs there are, and in which pieces threads may take them. No torch
// here.
#pragma once
#include <cstdint>

#include "kernels.h"
#include "noise_map.h"

namespace dropkit {

constexpr int kMaxDims = 64;       // as many as a tensor can have
constexpr int64_t kPiece = 16384;  // elements in a piece of work: half of what PyTorch deems worth a thread

struct Dim {
  int64_t size;
  int64_t x, r, y;  // strides of input, residual and output, in elements; r is 0 without a residual
  int64_t mask;     // step of the global mask index; 0 where the mask is shared
  int64_t table;    // step in the local mask laid out in row-major order; 0 where the mask is shared
};

enum class Way {
  kNothing,  // no elements
  kDirect,   // mask indices run along memory: generate and apply in one go
  kTable,    // the mask is shared, so smaller than the data: its bytes are made first, once, and applied row by row
  kTiles,    // mask indices run across memory (channels last, transposed, strided): bytes are made a tile at a time
};

struct Plan {
  Spec spec;
  DType dtype;
  const void *x, *r;
  void* y;
  uint64_t first;  // global mask index of the element at coordinates zero
  int dims;
  Dim dim[kMaxDims];

  // The rest is decided by `prepare_plan`.
  Way way;
  int64_t pieces;         // of about equal work
  int64_t elements;       // in the whole tensor
  int across;             // kTiles: the dimension along which mask indices are consecutive
  int64_t rows, columns;  // of a piece; kTable cuts the last two dimensions, kTiles `across` and the last
  bool needs_table;       // whether `table` must be filled before the plan is executed
  const uint8_t* table;   // kTable: one byte an element of the local mask; null where all elements share one fate
};

// Orders and merges the dimensions and chooses a way.
void prepare_plan(Plan& plan);

// Does pieces [begin, end) of a plan. Pieces are independent of each other.
void execute(const Plan& plan, int64_t begin, int64_t end);

// A box of the global mask in row-major order.
struct Box {
  uint64_t first;  // global index of its first element
  int dims;
  int64_t size[kMaxDims], step[kMaxDims];  // of each dimension: how many, and how far apart in the global index
};

// Merges dimensions that continue each other.
void prepare_box(Box& box);

// Keep bytes of elements [begin, end) of a prepared box, `keep` being the byte of element `begin`.
void fill_box(const Spec& spec, const Box& box, int64_t begin, int64_t end, uint8_t* keep);

// The same for noise: y = x * (1 + strength * e).
struct NoisePlan {
  Plan plan;  // its spec is that of noise, and its table is not used
  Law law;
  double strength;
  const float* table;  // kTable: one value an element of the local mask
};

void execute_noise(const NoisePlan& plan, int64_t begin, int64_t end);
void fill_noise_box(const Spec& spec, const Box& box, Law law, int64_t begin, int64_t end, float* out);

}  // namespace dropkit
