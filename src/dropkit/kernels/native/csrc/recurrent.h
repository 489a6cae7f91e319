// One step of a recurrent cell, forward and backward, for rows of sequences: what is done before and after the matrix
// products. The binding (recurrent_binding.cpp) calls through the table and knows no instruction set.
#pragma once
#include <cstdint>

namespace dropkit {

enum Cell : int { kLstm, kGru, kTanh, kRelu };
constexpr int kCells = 4;
inline int gates_of(int cell) {
  constexpr int gates[kCells] = {4, 3, 1, 1};
  return gates[cell];
}

// A multiplier's rows; step 0 where one row is for all.
struct Rows2d {
  const void* data;
  int64_t step;
};

// Tensors of one step; all rows have `units` elements a gate, and `gates` means as many as the cell has. Gates follow
// torch's order: i, f, g, o for the LSTM and r, z, n for the GRU.
struct ForwardStep {
  int64_t units;
  const void* product;           // the states' share of every gate
  int64_t product_row, product_gate;  // its steps from row to row and from gate to gate, in elements
  void* gates;                   // the input's share of every gate, rows of all gates; then the gates' values, and for plain
                                 // cells the proposed state
  void *h, *c;                   // states, in place; c of the LSTM
  void* out;                     // h again, where the output is collected
  void* previous;                // saved: c (LSTM) or h (GRU) before the step
  void* extra;                   // saved: tanh of the proposed c (LSTM), or the new gate's product with its bias (GRU)
  const void* bias;              // of the GRU's product in the new gate, one row
  Rows2d candidate, zone_c, zone_h;
};

struct BackwardStep {
  int64_t units;
  Rows2d grad_out;
  void *grad_h, *grad_c;  // in place: of the states after the step, then of those before it but for the products' share
  const void *acts, *previous, *extra;
  Rows2d candidate, zone_c, zone_h;
  void* grad_input;    // of the input's share of every gate
  void* grad_product;  // of the product, where it differs: of the GRU
};

// Where states enter the gates, each times a mask: one for all gates, or one a gate, `apart` by so many elements.
struct Entry {
  int64_t units, masks;
  void* h;        // states; backward, their gradients, to which is added what passed the masks
  Rows2d mask;    // rows of the first mask
  void* entered;  // states times masks; backward, the gradients of that
  int64_t mask_apart, entered_apart;
};

struct RecurrentKernels {
  void (*forward[kCells][2])(const ForwardStep&, int64_t begin, int64_t end);  // [cell][is double]
  void (*backward[kCells][2])(const BackwardStep&, int64_t begin, int64_t end);
  void (*enter[2])(const Entry&, int64_t begin, int64_t end);
  void (*leave[2])(const Entry&, int64_t begin, int64_t end);  // backward
};

// The table of the instruction set in use; see active_kernels() in kernels.h.
const RecurrentKernels& active_recurrent_kernels();

}  // namespace dropkit
