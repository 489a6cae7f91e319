// Small tensors in eager mode, where the compiled derivatives are missing: makes a stored mask and leaves the rest to two
// operators that PyTorch differentiates itself; up to a thousand elements that beats any derivative written in Python.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include "binding.h"

namespace dropkit {
namespace {

using torch::stable::detail::from;
using torch::stable::detail::to;

Tensor scalar_tensor(int32_t dtype) {
  AtenTensorHandle h;
  TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(0, nullptr, nullptr, dtype, aoti_torch_device_type_cpu(), 0, &h));
  return Tensor(h);
}

// A 0-dimensional float64 tensor takes part in arithmetic as a number does: it is rounded to the compute type, once.
Tensor number(double v) {
  Tensor t = scalar_tensor(aoti_torch_dtype_float64());
  *static_cast<double*>(t.mutable_data_ptr()) = v;
  return t;
}

Tensor binary(const char* name, const Tensor& a, const Tensor& b) {
  std::array<StableIValue, 2> stack{from(a), from(b)};
  TORCH_ERROR_CODE_CHECK(torch_call_dispatcher(name, "Tensor", stack.data(), TORCH_ABI_VERSION));
  return to<Tensor>(stack[0]);
}

Tensor where(const Tensor& keep, const Tensor& x, const Tensor& otherwise) {
  std::array<StableIValue, 3> stack{from(keep), from(x), from(otherwise)};
  TORCH_ERROR_CODE_CHECK(torch_call_dispatcher("aten::where", "self", stack.data(), TORCH_ABI_VERSION));
  return to<Tensor>(stack[0]);
}

Tensor with_stored_mask(const Tensor& x, double rate, const Tensor& seed) {
  const auto sizes = x.sizes();
  const Spec spec = make_spec(*static_cast<const uint64_t*>(seed.const_data_ptr()), 0, rate, kInverted);
  const Tensor keep = make_keep_mask(spec, Ints(sizes.begin(), sizes.end()), {}, {});
  int32_t dtype;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_dtype(x.get(), &dtype));
  Tensor zero = scalar_tensor(dtype);
  std::memset(zero.mutable_data_ptr(), 0, zero.element_size());
  return binary("aten::mul", where(keep, x, zero), number(spec.scale));
}

}  // namespace
}  // namespace dropkit

STABLE_TORCH_LIBRARY_FRAGMENT(dropkit, m) { m.def("with_stored_mask(Tensor x, float rate, Tensor seed) -> Tensor"); }

STABLE_TORCH_LIBRARY_IMPL(dropkit, CompositeImplicitAutograd, m) {
  m.impl("with_stored_mask", TORCH_BOX(&dropkit::with_stored_mask));
}
