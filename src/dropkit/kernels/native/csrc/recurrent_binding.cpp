// The operators of recurrent layers, through PyTorch's stable ABI: all steps of a layer, forward or backward, with one
// matrix product a step by PyTorch.
#include <torch/csrc/inductor/aoti_torch/generated/c_shim_cpu.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <initializer_list>

#include "binding.h"
#include "recurrent.h"

namespace dropkit {
namespace {

using Optional = std::optional<Tensor>;

constexpr int64_t kGrainUnits = 8192;  // units worth a thread

// Rows of all steps, sequences, units of a gate, gates, bytes of an element, and the number of masks where states enter.
struct Extent {
  int64_t rows, sequences, units, gates, element, masks;
  bool apart() const { return masks > 1; }
};

// A step's rows are [first, first + count) of those of all steps.
struct Step {
  int64_t first, count;
};

void check(bool holds, const char* name) {
  STD_TORCH_CHECK(holds, "dropkit: ", name, " has not the shape, type or layout of a recurrent layer's");
}

int32_t dtype_of(const Tensor& x) {
  int32_t type;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_dtype(x.get(), &type));
  return type;
}

bool is_like(const Tensor& x, const Tensor& like, std::initializer_list<int64_t> sizes) {
  if (!x.is_cpu() || dtype_of(x) != dtype_of(like) || x.dim() != static_cast<int64_t>(sizes.size())) return false;
  int64_t dim = 0;
  for (int64_t size : sizes)
    if (x.size(dim++) != size) return false;
  return true;
}

// A matrix that steps read or write row by row.
template <class Pointer>
struct Rows {
  Pointer data;
  int64_t step;  // bytes
  Pointer at(int64_t row) const { return data + row * step; }
};

void check_rows(const Tensor& x, const Tensor& like, int64_t rows, int64_t width, const char* name) {
  check(is_like(x, like, {rows, width}) && x.is_contiguous(), name);
}

Rows<const char*> readable(const Tensor& x, const Tensor& like, int64_t rows, int64_t width, const char* name) {
  check_rows(x, like, rows, width, name);
  return {static_cast<const char*>(x.const_data_ptr()), width * static_cast<int64_t>(x.element_size())};
}

Rows<char*> writable(const Tensor& x, const Tensor& like, int64_t rows, int64_t width, const char* name) {
  check_rows(x, like, rows, width, name);
  return {static_cast<char*>(x.mutable_data_ptr()), width * static_cast<int64_t>(x.element_size())};
}

// A multiplier has one row for all, one for each sequence, or one for each row of all steps.
struct Multiplier {
  const char* data;
  int64_t step;  // elements
  int64_t bytes;
  bool each_row;
  Rows2d at(int64_t first) const { return {each_row ? data + first * bytes : data, step}; }
};

Multiplier multiplier(const Tensor& x, const Tensor& like, const Extent& e, const char* name) {
  check(x.dim() == 2, name);
  const int64_t rows = x.size(0), step = rows == 1 ? 0 : e.units;
  check(rows == 1 || rows == e.rows || rows == e.sequences, name);
  return {readable(x, like, rows, e.units, name).data, step, step * e.element, rows == e.rows};
}

Extent extent_of(const Tensor& gates, int64_t cell, const Tensor& h, const Optional& recurrent) {
  STD_TORCH_CHECK(cell >= 0 && cell < kCells, "dropkit: a cell is a number in [0, 4); got ", cell);
  check(h.is_cpu() && h.dim() == 2, "h");
  check(gates.dim() == 2, "gates");
  const int32_t type = dtype_of(h);
  STD_TORCH_CHECK(type == aoti_torch_dtype_float32() || type == aoti_torch_dtype_float64(),
                  "dropkit: recurrent layers are float32 or float64; convert the data");
  const int64_t number = gates_of(static_cast<int>(cell));
  const Extent e{gates.size(0), h.size(0), h.size(1), number, static_cast<int64_t>(h.element_size()),
                 recurrent ? recurrent->size(0) : 1};
  check(e.masks == 1 || e.masks == number, "recurrent");
  return e;
}

// The steps in the order of time, or the other way round; none without rows.
std::vector<Step> steps_of(const Extent& e, const Ints& sizes, bool reverse) {
  const Ints counts = sizes.empty() ? Ints(static_cast<size_t>(e.sequences ? e.rows / e.sequences : 0), e.sequences) : sizes;
  std::vector<Step> found;
  int64_t first = 0;
  for (int64_t count : counts) {
    STD_TORCH_CHECK(count >= 0 && count <= e.sequences, "dropkit: a step has at most a row a sequence; got ", count, " of ",
                    e.sequences);
    found.push_back({first, count});
    first += count;
  }
  STD_TORCH_CHECK(first == e.rows, "dropkit: the steps together have all rows; got ", first, " of ", e.rows);
  if (reverse) std::reverse(found.begin(), found.end());
  return found;
}

// Where states enter the gates at each step; without masks there is nothing to multiply by.
class Entrance {
 public:
  Entrance(const Optional& recurrent, const Tensor& h, const Extent& e) : masked_(recurrent.has_value()), entry_{} {
    entry_.units = e.units;
    entry_.masks = e.masks;
    if (!masked_) return;
    const int64_t rows = recurrent->dim() == 3 ? recurrent->size(1) : 0;
    check(is_like(*recurrent, h, {e.masks, rows, e.units}) && recurrent->is_contiguous(), "recurrent");
    check(rows == e.rows || rows == e.sequences, "recurrent");
    mask_ = {static_cast<const char*>(recurrent->const_data_ptr()), e.units, e.units * e.element, rows == e.rows};
    entry_.mask_apart = rows * e.units;
  }

  bool masked() const { return masked_; }

  Entry at(int64_t first, void* h, void* entered, int64_t apart) const {
    Entry made = entry_;
    made.h = h;
    made.mask = mask_.at(first);
    made.entered = entered;
    made.entered_apart = apart;
    return made;
  }

 private:
  bool masked_;
  Entry entry_;
  Multiplier mask_{};
};

template <class Arguments>
void over_rows(const Step& step, const Extent& e, void (*run)(const Arguments&, int64_t, int64_t), const Arguments& arguments) {
  const int64_t grain = kGrainUnits / (e.units + 1) + 1;
  if (step.count <= grain)
    run(arguments, 0, step.count);
  else
    torch::stable::parallel_for(0, step.count, grain, [&](int64_t begin, int64_t end) { run(arguments, begin, end); });
}

Tensor view(const Tensor& x, int64_t offset, const Ints& sizes, const Ints& strides) {
  AtenTensorHandle made;
  TORCH_ERROR_CODE_CHECK(aoti_torch__reinterpret_tensor(x.get(), static_cast<int64_t>(sizes.size()), sizes.data(),
                                                        strides.data(), offset, &made));
  return Tensor(made);
}

// `count` rows of a matrix from `first`, or of each of several below one another.
Tensor rows_of(const Tensor& x, const Step& step, bool apart) {
  const int64_t width = x.size(x.dim() - 1);
  if (!apart) return view(x, step.first * width, {step.count, width}, {width, 1});
  return view(x, step.first * width, {x.size(0), step.count, width}, {x.size(1) * width, width, 1});
}

// Past the dispatcher, which has nothing left to decide.
void multiply(const Tensor& a, const Tensor& b, const Tensor& into, bool apart) {
  const auto product = apart ? aoti_torch_cpu_bmm_out : aoti_torch_cpu_mm_out;
  TORCH_ERROR_CODE_CHECK(product(into.get(), a.get(), b.get()));
}

// What a cell multiplies by, and what it saves: two values a unit, of cells that have gates.
struct Common {
  Multiplier candidate, zone_c, zone_h;
  int64_t saved;  // rows
  template <class S>
  void place(S& s, int64_t first) const {
    s.candidate = candidate.at(first);
    s.zone_c = zone_c.at(first);
    s.zone_h = zone_h.at(first);
  }
};

Common common(const Tensor& candidate, const Tensor& zone_c, const Tensor& zone_h, const Tensor& like, const Extent& e,
              int64_t cell) {
  return {multiplier(candidate, like, e, "candidate"), multiplier(zone_c, like, e, "zone_c"),
          multiplier(zone_h, like, e, "zone_h"), cell == kLstm || cell == kGru ? e.rows : 0};
}

// Room for a product of one step.
Tensor room_for(const Tensor& like, const Extent& e, int64_t width) {
  if (e.apart()) return torch::stable::new_empty(like, {e.gates, e.sequences, e.units});
  return torch::stable::new_empty(like, {e.sequences, width});
}

void forward(const Tensor& weights, Tensor gates, Tensor h, Tensor c, Tensor out, Tensor previous, Tensor extra, Tensor entered,
             const Tensor& bias, Optional recurrent, const Tensor& candidate, const Tensor& zone_c, const Tensor& zone_h,
             Ints sizes, bool reverse, int64_t cell) {
  const Extent e = extent_of(gates, cell, h, recurrent);
  const int64_t units = e.units, wide = e.gates * units;
  const bool apart = e.apart();
  check(apart ? is_like(weights, h, {e.gates, units, units}) : is_like(weights, h, {units, wide}), "weights");
  check(is_like(entered, h, {e.masks, e.rows, units}) && entered.is_contiguous(), "entered");
  const Common shared = common(candidate, zone_c, zone_h, h, e, cell);
  const auto values = writable(gates, h, e.rows, wide, "gates"), states = writable(out, h, e.rows, units, "out");
  const auto before = writable(previous, h, shared.saved, units, "previous");
  const auto more = writable(extra, h, shared.saved, units, "extra");
  const Entrance entrance(recurrent, h, e);
  const Tensor room = room_for(h, e, wide);
  ForwardStep s{};
  s.units = units;
  s.product = room.const_data_ptr();
  s.product_row = apart ? units : wide;
  s.product_gate = apart ? e.sequences * units : units;
  s.h = writable(h, h, e.sequences, units, "h").data;
  s.c = writable(c, h, cell == kLstm ? e.sequences : 0, units, "c").data;
  s.bias = readable(bias, h, 1, units, "bias").data;
  const Rows<char*> into{static_cast<char*>(entered.mutable_data_ptr()), units * e.element};
  const auto run = active_recurrent_kernels().forward[cell][e.element == 8];
  const auto enter = active_recurrent_kernels().enter[e.element == 8];
  for (const Step& step : steps_of(e, sizes, reverse)) {
    const int64_t first = step.first;
    if (entrance.masked())
      over_rows(step, e, enter, entrance.at(first, s.h, into.at(first), e.rows * units));
    else
      std::memcpy(into.at(first), s.h, static_cast<size_t>(step.count * into.step));
    multiply(rows_of(entered, step, apart), weights, rows_of(room, {0, step.count}, apart), apart);
    shared.place(s, first);
    s.gates = values.at(first);
    s.out = states.at(first);
    s.previous = before.at(first);
    s.extra = more.at(first);
    over_rows(step, e, run, s);
  }
}

void backward(const Tensor& weights, const Tensor& grad_out, Tensor grad_h, Tensor grad_c, const Tensor& acts,
              const Tensor& previous, const Tensor& extra, Optional recurrent, const Tensor& candidate, const Tensor& zone_c,
              const Tensor& zone_h, Tensor grad_input, Tensor grad_product, Ints sizes, bool reverse, int64_t cell) {
  const Extent e = extent_of(acts, cell, grad_h, recurrent);
  const int64_t units = e.units, wide = e.gates * units;
  const bool apart = e.apart();
  check(apart ? is_like(weights, grad_h, {e.gates, units, units}) : is_like(weights, grad_h, {wide, units}), "weights");
  const Common shared = common(candidate, zone_c, zone_h, grad_h, e, cell);
  const Multiplier incoming = multiplier(grad_out, grad_h, e, "grad_out");
  const auto values = readable(acts, grad_h, e.rows, wide, "acts");
  const auto before = readable(previous, grad_h, shared.saved, units, "previous");
  const auto more = readable(extra, grad_h, shared.saved, units, "extra");
  const auto to_input = writable(grad_input, grad_h, e.rows, wide, "grad_input");
  const auto to_product = writable(grad_product, grad_h, e.rows, wide, "grad_product");
  const Entrance entrance(recurrent, grad_h, e);
  const Tensor room = room_for(grad_h, e, units);
  BackwardStep s{};
  s.units = units;
  s.grad_h = writable(grad_h, grad_h, e.sequences, units, "grad_h").data;
  s.grad_c = writable(grad_c, grad_h, cell == kLstm ? e.sequences : 0, units, "grad_c").data;
  const auto run = active_recurrent_kernels().backward[cell][e.element == 8];
  const auto leave = active_recurrent_kernels().leave[e.element == 8];
  for (const Step& step : steps_of(e, sizes, !reverse)) {
    const int64_t first = step.first;
    shared.place(s, first);
    s.grad_out = incoming.at(first);
    s.acts = values.at(first);
    s.previous = before.at(first);
    s.extra = more.at(first);
    s.grad_input = to_input.at(first);
    s.grad_product = to_product.at(first);
    over_rows(step, e, run, s);
    const Tensor grad = apart ? view(grad_product, first * wide, {e.gates, step.count, units}, {units, wide, 1})
                              : rows_of(grad_product, step, false);
    if (entrance.masked()) {
      multiply(grad, weights, rows_of(room, {0, step.count}, apart), apart);
      over_rows(step, e, leave, entrance.at(first, s.grad_h, room.mutable_data_ptr(), e.sequences * units));
    } else {
      const Tensor now = rows_of(grad_h, {0, step.count}, false);
      TORCH_ERROR_CODE_CHECK(aoti_torch_cpu_addmm_out(now.get(), now.get(), grad.get(), weights.get(), 1, 1));
    }
  }
}

}  // namespace
}  // namespace dropkit

STABLE_TORCH_LIBRARY_FRAGMENT(dropkit, m) {
  m.def(
      "recurrent_forward_(Tensor weights, Tensor(a!) gates, Tensor(b!) h, Tensor(c!) c, Tensor(d!) out, "
      "Tensor(e!) previous, Tensor(f!) extra, Tensor(g!) entered, Tensor bias, Tensor? recurrent, Tensor candidate, "
      "Tensor zone_c, Tensor zone_h, int[] sizes, bool reverse, int cell) -> ()");
  m.def(
      "recurrent_backward_(Tensor weights, Tensor grad_out, Tensor(a!) grad_h, Tensor(b!) grad_c, Tensor acts, "
      "Tensor previous, Tensor extra, Tensor? recurrent, Tensor candidate, Tensor zone_c, Tensor zone_h, "
      "Tensor(c!) grad_input, Tensor(d!) grad_product, int[] sizes, bool reverse, int cell) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(dropkit, CPU, m) {
  m.impl("recurrent_forward_", TORCH_BOX(&dropkit::forward));
  m.impl("recurrent_backward_", TORCH_BOX(&dropkit::backward));
}
