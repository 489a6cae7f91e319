// The operators of recurrent cells, through PyTorch's stable ABI: one step each, on rows [first, first + count) of tensors
// that hold all steps.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include "binding.h"
#include "recurrent.h"

namespace dropkit {
namespace {

constexpr int64_t kGrainUnits = 8192;  // units worth a thread

// The step's place among all rows.
struct Place {
  int64_t rows, first, count, units, element;
};

const void* at(const Tensor& x, int64_t rows, int64_t width, const Place& p) {
  return static_cast<const char*>(x.const_data_ptr()) + rows * width * p.element;
}

void* writable(const Tensor& x, int64_t rows, int64_t width, const Place& p) {
  return static_cast<char*>(x.mutable_data_ptr()) + rows * width * p.element;
}

void check(bool holds, const char* name) {
  STD_TORCH_CHECK(holds, "dropkit: ", name, " has not the shape, type or layout of a recurrent step's");
}

void check_matrix(const Tensor& x, const Place& p, int64_t rows, int64_t width, const Tensor& like, const char* name) {
  int32_t type, expected;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_dtype(x.get(), &type));
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_dtype(like.get(), &expected));
  check(x.is_cpu() && type == expected && x.is_contiguous() && x.dim() == 2 && x.size(0) >= rows && x.size(1) == width * p.units,
        name);
}

// A multiplier has one row for all, one for each sequence, or one for each row of all steps.
Rows2d multiplier(const Tensor& x, const Place& p, const Tensor& like, const char* name) {
  check_matrix(x, p, x.size(0) == 1 ? 1 : p.count, 1, like, name);
  if (x.size(0) == 1) return {x.const_data_ptr(), 0};
  return {at(x, x.size(0) == p.rows ? p.first : 0, p.units, p), p.units};
}

Place place_of(const Tensor& all, int64_t cell, const Tensor& h, int64_t first, int64_t count) {
  STD_TORCH_CHECK(cell >= 0 && cell < kCells, "dropkit: a cell is a number in [0, 4); got ", cell);
  check(h.dim() == 2 && all.dim() == 2, "h");
  int32_t type;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_dtype(h.get(), &type));
  STD_TORCH_CHECK(type == aoti_torch_dtype_float32() || type == aoti_torch_dtype_float64(),
                  "dropkit: recurrent steps are float32 or float64; convert the data");
  const Place p{all.size(0), first, count, h.size(1), static_cast<int64_t>(h.element_size())};
  STD_TORCH_CHECK(first >= 0 && count >= 0 && first + count <= p.rows && count <= h.size(0),
                  "dropkit: a step lies within the rows; got ", first, " + ", count, " of ", p.rows);
  return p;
}

template <class F>
void over_rows(const Place& p, const F& f) {
  const int64_t grain = kGrainUnits / (p.units + 1) + 1;
  if (p.count <= grain)
    f(int64_t(0), p.count);
  else
    torch::stable::parallel_for(0, p.count, grain, f);
}

void forward_step(const Tensor& product, Tensor gates, Tensor h, Tensor c, Tensor out, Tensor previous, Tensor extra,
                  const Tensor& bias, const Tensor& candidate, const Tensor& zone_c, const Tensor& zone_h,
                  int64_t cell, int64_t first, int64_t count) {
  const Place p = place_of(gates, cell, h, first, count);
  const int64_t width = gates_of(static_cast<int>(cell)), units = p.units;
  check_matrix(gates, p, p.rows, width, h, "gates");
  check_matrix(h, p, count, 1, h, "h");
  check_matrix(out, p, p.rows, 1, h, "out");
  ForwardStep s{};
  s.units = units;
  s.product = product.const_data_ptr();
  const bool apart = product.dim() == 3;  // a matrix a gate, not all gates in one row
  check(product.is_contiguous() && product.numel() >= count * width * units &&
            product.size(product.dim() - 1) == (apart ? units : width * units) && (!apart || product.size(0) == width),
        "product");
  s.product_row = apart ? units : width * units;
  s.product_gate = apart ? product.size(1) * units : units;
  s.gates = writable(gates, first, width * units, p);
  s.h = writable(h, 0, units, p);
  s.out = writable(out, first, units, p);
  s.zone_h = multiplier(zone_h, p, h, "zone_h");
  if (cell == kLstm || cell == kGru) {
    check_matrix(previous, p, p.rows, 1, h, "previous");
    check_matrix(extra, p, p.rows, 1, h, "extra");
    s.previous = writable(previous, first, units, p);
    s.extra = writable(extra, first, units, p);
    s.candidate = multiplier(candidate, p, h, "candidate");
  }
  if (cell == kLstm) {
    check_matrix(c, p, count, 1, h, "c");
    s.c = writable(c, 0, units, p);
    s.zone_c = multiplier(zone_c, p, h, "zone_c");
  }
  if (cell == kGru) {
    check_matrix(bias, p, 1, 1, h, "bias");
    s.bias = bias.const_data_ptr();
  }
  const auto run = active_recurrent_kernels().forward[cell][p.element == 8];
  over_rows(p, [&](int64_t begin, int64_t end) { run(s, begin, end); });
}

void backward_step(const Tensor& grad_out, Tensor grad_h, Tensor grad_c, const Tensor& acts, const Tensor& previous,
                   const Tensor& extra, const Tensor& candidate, const Tensor& zone_c, const Tensor& zone_h,
                   Tensor grad_input, Tensor grad_product, int64_t cell, int64_t first, int64_t count) {
  const Place p = place_of(acts, cell, grad_h, first, count);
  const int64_t gates = gates_of(static_cast<int>(cell)), units = p.units;
  check_matrix(acts, p, p.rows, gates, grad_h, "acts");
  check_matrix(grad_h, p, count, 1, grad_h, "grad_h");
  check_matrix(grad_input, p, p.rows, gates, grad_h, "grad_input");
  BackwardStep s{};
  s.units = units;
  s.grad_out = multiplier(grad_out, p, grad_h, "grad_out");
  s.grad_h = writable(grad_h, 0, units, p);
  s.acts = at(acts, first, gates * units, p);
  s.zone_h = multiplier(zone_h, p, grad_h, "zone_h");
  s.grad_input = writable(grad_input, first, gates * units, p);
  if (cell == kLstm || cell == kGru) {
    check_matrix(previous, p, p.rows, 1, grad_h, "previous");
    check_matrix(extra, p, p.rows, 1, grad_h, "extra");
    s.previous = at(previous, first, units, p);
    s.extra = at(extra, first, units, p);
    s.candidate = multiplier(candidate, p, grad_h, "candidate");
  }
  if (cell == kLstm) {
    check_matrix(grad_c, p, count, 1, grad_h, "grad_c");
    s.grad_c = writable(grad_c, 0, units, p);
    s.zone_c = multiplier(zone_c, p, grad_h, "zone_c");
  }
  if (cell == kGru) {
    check_matrix(grad_product, p, p.rows, gates, grad_h, "grad_product");
    s.grad_product = writable(grad_product, first, gates * units, p);
  }
  const auto run = active_recurrent_kernels().backward[cell][p.element == 8];
  over_rows(p, [&](int64_t begin, int64_t end) { run(s, begin, end); });
}

}  // namespace
}  // namespace dropkit

STABLE_TORCH_LIBRARY_FRAGMENT(dropkit, m) {
  m.def(
      "recurrent_forward_step_(Tensor product, Tensor(a!) gates, Tensor(b!) h, Tensor(c!) c, Tensor(d!) out, "
      "Tensor(e!) previous, Tensor(f!) extra, Tensor bias, Tensor candidate, Tensor zone_c, Tensor zone_h, int cell, "
      "int first, int count) -> ()");
  m.def(
      "recurrent_backward_step_(Tensor grad_out, Tensor(a!) grad_h, Tensor(b!) grad_c, Tensor acts, Tensor previous, "
      "Tensor extra, Tensor candidate, Tensor zone_c, Tensor zone_h, Tensor(c!) grad_input, Tensor(d!) grad_product, "
      "int cell, int first, int count) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(dropkit, CPU, m) {
  m.impl("recurrent_forward_step_", TORCH_BOX(&dropkit::forward_step));
  m.impl("recurrent_backward_step_", TORCH_BOX(&dropkit::backward_step));
}
